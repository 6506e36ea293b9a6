package insight

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
)

// packedTraffic is the columns of a row of traffic that are packed.
type packedTraffic struct{ operations, latencies []byte }

// pack adds the operations of a sum to those that are stored. Both are in the order of their names, so that what did not change is
// copied as it is, without being decoded.
func (s *trafficSum) pack(stored packedTraffic) (packed packedTraffic, err error) {
	operations, err := splitOperations(stored.operations)
	if err != nil {
		return packed, err
	}
	latencies, err := splitLatencies(stored.latencies)
	if err != nil {
		return packed, err
	}
	sums := s.within(operations)
	packed.operations, err = merge(operations, sums, func(dst, stored []byte, sum *operationSum) ([]byte, error) {
		both := sum.packedOperation
		if stored != nil {
			var before packedOperation
			before.read(&unpacker{rest: stored})
			both.add(&before)
		}
		return both.appendTo(dst), nil
	})
	if err != nil {
		return packed, err
	}
	var latency []byte
	packed.latencies, err = merge(latencies, sums, func(dst, stored []byte, sum *operationSum) (_ []byte, err error) {
		d := unpacker{rest: stored}
		latency, err = sum.latency.appendMerged(latency[:0], d.bytes(maxPackedLatency))
		return append(binary.AppendUvarint(dst, uint64(len(latency))), latency...), err
	})
	return packed, err
}

// packedThing is a part of a packed column: its name, and what follows that.
type packedThing struct {
	name  string
	value []byte
}

func splitOperations(packed []byte) ([]packedThing, error) {
	var o packedOperation
	return split(packed, func(d *unpacker) { o.read(d) })
}

func splitLatencies(packed []byte) ([]packedThing, error) {
	return split(packed, func(d *unpacker) { d.bytes(maxPackedLatency) })
}

// split takes a packed column apart; skip reads the value of a thing.
func split(packed []byte, skip func(*unpacker)) ([]packedThing, error) {
	if len(packed) == 0 {
		return nil, nil // from before they were packed
	}
	d := unpacker{rest: packed}
	things := make([]packedThing, 0, d.header())
	for range cap(things) {
		name, value := d.bytes(maxPackedText), d.rest
		skip(&d)
		things = append(things, packedThing{string(name), value[:len(value)-len(d.rest)]})
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	if !slices.IsSortedFunc(things, compareThings) {
		return nil, errPacked
	}
	return things, nil
}

func compareThings(a, b packedThing) int { return strings.Compare(a.name, b.name) }

// namedSum is an operation of a sum.
type namedSum struct {
	name string
	*operationSum
}

// sorted is the operations in the order of their names.
func (s *trafficSum) sorted() []namedSum {
	if len(s.byName) != len(s.operations) {
		s.byName = s.byName[:0]
		for _, name := range slices.Sorted(maps.Keys(s.operations)) {
			s.byName = append(s.byName, namedSum{name, s.operations[name]})
		}
	}
	return s.byName
}

// within is the operations in the order of their names; of those that are not stored, what exceeds maxPacked is one.
func (s *trafficSum) within(stored []packedThing) []namedSum {
	all := s.sorted()
	if len(stored)+len(all) <= maxPacked {
		return all
	}
	room := maxPacked - len(stored)
	sums := make([]namedSum, 0, len(all)+1)
	var rest *operationSum
	for _, sum := range all {
		_, known := slices.BinarySearchFunc(stored, sum.name, func(t packedThing, name string) int { return strings.Compare(t.name, name) })
		switch {
		case known:
		case room > 0:
			room--
		case rest == nil:
			rest = sum.operationSum
			continue
		default:
			rest = rest.plus(sum.operationSum)
			continue
		}
		sums = append(sums, sum)
	}
	if rest == nil {
		return sums
	}
	at, there := slices.BinarySearchFunc(sums, other, func(s namedSum, name string) int { return strings.Compare(s.name, name) })
	if there {
		sums[at].operationSum = sums[at].plus(rest)
		return sums
	}
	return slices.Insert(sums, at, namedSum{other, rest})
}

// merge packs what is stored together with sums, both in the order of their names; add appends the value of a sum and of what is
// stored of it, if anything is.
func merge(stored []packedThing, sums []namedSum, add func(dst, stored []byte, sum *operationSum) ([]byte, error)) (packed []byte, err error) {
	size, count := 16, len(stored)
	for i := range stored {
		size += len(stored[i].name) + len(stored[i].value) + 8
	}
	body := make([]byte, 0, size+64*len(sums))
	for len(stored) > 0 || len(sums) > 0 {
		order := 0
		switch {
		case len(sums) == 0:
			order = -1
		case len(stored) == 0:
			order = 1
		default:
			order = strings.Compare(stored[0].name, sums[0].name)
		}
		if order < 0 {
			body = append(appendText(body, stored[0].name), stored[0].value...)
			stored = stored[1:]
			continue
		}
		body = appendText(body, sums[0].name)
		var before []byte
		if order == 0 {
			before, stored = stored[0].value, stored[1:]
		} else {
			count++
		}
		if body, err = add(body, before, sums[0].operationSum); err != nil {
			return nil, err
		}
		sums = sums[1:]
	}
	return append(binary.AppendUvarint([]byte{packForm}, uint64(count)), body...), nil
}
