package insight

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// The columns traffic.operations, traffic.latencies and firmware_use.uses hold many small things in one value: a version byte, a count, then the
// things in the order of their names, each a text by its length and variable-length integers.

const (
	packForm      = 1
	findingKinds  = 32    // bits of fieldgate.Findings
	maxPacked     = 4_096 // things in one value
	maxPackedText = 4_096

	maxPackedLatency = 1 << 16
)

var errPacked = errors.New("a packed column is damaged")

// counts is what is counted of exchanges everywhere.
type counts struct {
	exchanges, refused, failed, bytesIn, bytesOut uint64
}

func (c *counts) add(more counts) {
	c.exchanges += more.exchanges
	c.refused += more.refused
	c.failed += more.failed
	c.bytesIn += more.bytesIn
	c.bytesOut += more.bytesOut
}

func (c *counts) fields() [5]*uint64 {
	return [5]*uint64{&c.exchanges, &c.refused, &c.failed, &c.bytesIn, &c.bytesOut}
}

// packedOperation is one operation in a row of traffic.
type packedOperation struct {
	counts
	findings [findingKinds]uint64
}

func (o *packedOperation) add(more *packedOperation) {
	o.counts.add(more.counts)
	for i, n := range more.findings {
		o.findings[i] += n
	}
}

func (o *packedOperation) appendTo(dst []byte) []byte {
	for _, n := range o.fields() {
		dst = binary.AppendUvarint(dst, *n)
	}
	var mask uint32
	for i, n := range o.findings {
		if n > 0 {
			mask |= 1 << i
		}
	}
	dst = binary.AppendUvarint(dst, uint64(mask))
	for ; mask != 0; mask &= mask - 1 {
		dst = binary.AppendUvarint(dst, o.findings[bits.TrailingZeros32(mask)])
	}
	return dst
}

// read takes what appendTo wrote.
func (o *packedOperation) read(d *unpacker) {
	o.findings = [findingKinds]uint64{}
	for _, field := range o.fields() {
		*field = d.uint()
	}
	for mask := uint32(d.uint()); mask != 0; mask &= mask - 1 {
		o.findings[bits.TrailingZeros32(mask)] = d.uint()
	}
}

// unpackOperations hands each operation to do. What it gets is valid until it returns.
func unpackOperations(packed []byte, do func(name []byte, o *packedOperation) error) error {
	if len(packed) == 0 {
		return nil // from before operations were packed
	}
	d := unpacker{rest: packed}
	n := d.header()
	var o packedOperation
	for range n {
		name := d.bytes(maxPackedText)
		o.read(&d)
		if d.bad {
			return errPacked
		}
		if err := do(name, &o); err != nil {
			return err
		}
	}
	return d.end()
}

// unpackLatencies hands each encoded sketch to do. What it gets is a part of packed.
func unpackLatencies(packed []byte, do func(name, latency []byte) error) error {
	if len(packed) == 0 {
		return nil
	}
	d := unpacker{rest: packed}
	n := d.header()
	for range n {
		name, latency := d.bytes(maxPackedText), d.bytes(maxPackedLatency)
		if d.bad {
			return errPacked
		}
		if err := do(name, latency); err != nil {
			return err
		}
	}
	return d.end()
}

// use is who calls an operation.
type use struct{ operation, model, firmware string }

type useCount struct {
	exchanges uint64
	last      uint64 // seconds since 1970
}

func packUses(uses map[use]*useCount) []byte {
	packed := []byte{packForm}
	packed = binary.AppendUvarint(packed, uint64(len(uses)))
	for u, n := range uses {
		packed = appendText(appendText(appendText(packed, u.operation), u.model), u.firmware)
		packed = binary.AppendUvarint(binary.AppendUvarint(packed, n.exchanges), n.last)
	}
	return packed
}

func unpackUses(packed []byte, do func(use, useCount)) error {
	d := unpacker{rest: packed}
	n := d.header()
	for range n {
		u := use{string(d.bytes(maxPackedText)), string(d.bytes(maxPackedText)), string(d.bytes(maxPackedText))}
		count := useCount{d.uint(), d.uint()}
		if d.bad {
			return errPacked
		}
		do(u, count)
	}
	return d.end()
}

func appendText(dst []byte, text string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

type unpacker struct {
	rest []byte
	bad  bool
}

// header is the number of things that follow.
func (d *unpacker) header() uint64 {
	if len(d.rest) == 0 || d.rest[0] != packForm {
		d.bad = true
		return 0
	}
	d.rest = d.rest[1:]
	n := d.uint()
	if n > uint64(len(d.rest)) {
		d.bad = true
		return 0
	}
	return n
}

func (d *unpacker) uint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *unpacker) bytes(most uint64) []byte {
	n := d.uint()
	if n > most || n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	part := d.rest[:n:n]
	d.rest = d.rest[n:]
	return part
}

func (d *unpacker) end() error {
	if d.bad || len(d.rest) > 0 {
		return errPacked
	}
	return nil
}
