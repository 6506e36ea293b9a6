package mqttproxy

import (
	"net"

	"fieldgate/protocol/mqtt"
)

const (
	leastBuffer = 4 << 10
	mostBuffer  = 64 << 10 // unless one packet is larger
	flushSize   = 64 << 10 // of what is to be sent: then it is, however much has still to be read
)

// packets cuts what a connection receives into packets. They are views of its buffer and die with the next call of receive.
type packets struct {
	conn       net.Conn
	buffer     []byte
	start, end int
	last       int // bytes of the last read
	limit      int // bytes of a packet
}

// receive reads once.
func (r *packets) receive() error {
	switch {
	case r.start == r.end:
		r.start, r.end = 0, 0
		if len(r.buffer) > leastBuffer && r.last < leastBuffer || r.buffer == nil { // who idles holds little
			r.buffer = make([]byte, leastBuffer)
		}
	case r.end < len(r.buffer):
	case r.start > 0:
		r.end = copy(r.buffer, r.buffer[r.start:r.end])
		r.start = 0
	default: // a packet that is larger than the buffer; memory follows what was sent, not what was announced
		larger := make([]byte, 2*len(r.buffer))
		r.end = copy(larger, r.buffer)
		r.buffer = larger
	}
	n, err := r.conn.Read(r.buffer[r.end:])
	r.end += n
	r.last = n
	if n > 0 {
		err = nil // what came with it is seen by the next read
	}
	if r.end == len(r.buffer) && len(r.buffer) < mostBuffer && r.start == 0 { // there is more: fewer and larger reads from now on
		larger := make([]byte, 4*len(r.buffer))
		copy(larger, r.buffer)
		r.buffer = larger
	}
	return err
}

// next gives a packet's header, its body, and the whole of it; nil: more has to be received.
func (r *packets) next() (h mqtt.Header, body, whole []byte, err error) {
	received := r.buffer[r.start:r.end]
	h, size, err := mqtt.ReadHeader(received)
	switch {
	case err != nil:
		return h, nil, nil, err
	case size == 0:
		return h, nil, nil, nil
	case size+h.Length > r.limit:
		return h, nil, nil, mqtt.ErrTooLarge
	case len(received) < size+h.Length:
		return h, nil, nil, nil
	}
	whole = received[: size+h.Length : size+h.Length]
	r.start += len(whole)
	return h, whole[size:], whole, nil
}

// batch is what the packets of one read bring about, and memory to decode them into. Connections share batches.
type batch struct {
	toDevice, toBroker []byte

	publish     mqtt.Publish
	ack         mqtt.Ack
	subscribe   mqtt.Subscribe
	unsubscribe mqtt.Unsubscribe
	subAck      mqtt.SubAck
	disconnect  mqtt.Disconnect
}

// keepBuffer is how much memory a batch keeps for the next connection.
const keepBuffer = 2 * flushSize

// reset forgets what is to be sent; whoever took it before may still send it.
func (b *batch) reset() {
	b.toDevice, b.toBroker = emptied(b.toDevice), emptied(b.toBroker)
}

func emptied(buffer []byte) []byte {
	if cap(buffer) > keepBuffer {
		return nil
	}
	return buffer[:0]
}
