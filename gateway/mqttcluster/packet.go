package mqttcluster

import (
	"encoding/binary"
	"errors"
	"math"
)

// A packet is what one node says to another, or to all, in one message on the bus: its version, its kind, the incarnation of the node
// that says it and of the one that it is for (0: all), and a body. Numbers in bodies are unsigned varints, texts begin with their length.
type head struct {
	kind     kind
	from, to uint64
}

type kind byte

const (
	// To all.
	alive   kind = iota + 1 // the newest time of a take-over
	leaving                 // no body

	// To one node.
	interestChanged // sequence, and as often as there are: a filter with its Interest
	interestIs      // the sequence of the last interestChanged
	askInterest     // the part of the interest that is wanted, from 0 on
	interestPart    // sequence, part, 1 if it is the last one or else 0, and as often as there are: a filter with its Interest
	takeOvers       // as often as there are: a take-over
	messages        // as often as there are: a message with its length
	numbered        // number, number of the oldest that is not given up, 1 if a message goes on in the next one or else 0, and bytes of messages
	acknowledgement // the number up to which all numbered were delivered
)

const (
	packetVersion = 1
	headSize      = 2 + 8 + 8
	bodySize      = 256 << 10 // of a body that is cut into several, about
)

var errPacket = errors.New("malformed packet")

func appendHead(dst []byte, k kind, from, to uint64) []byte {
	dst = append(dst, packetVersion, byte(k))
	dst = binary.BigEndian.AppendUint64(dst, from)
	return binary.BigEndian.AppendUint64(dst, to)
}

func readHead(packet []byte) (h head, body []byte, err error) {
	if len(packet) < headSize || packet[0] != packetVersion {
		return head{}, nil, errPacket
	}
	return head{kind(packet[1]), binary.BigEndian.Uint64(packet[2:]), binary.BigEndian.Uint64(packet[10:])}, packet[headSize:], nil
}

func appendText[T string | []byte](dst []byte, text T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

// reader takes a body apart. What it gives after the end, or where something else stands than is asked for, is zero, and makes it broken.
type reader struct {
	rest   []byte
	broken bool
}

func (r *reader) more() bool { return len(r.rest) > 0 && !r.broken }

func (r *reader) fail() {
	r.rest, r.broken = nil, true
}

func (r *reader) number() uint64 {
	value, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[size:]
	return value
}

// below is a number that is less than a bound.
func (r *reader) below(bound uint64) uint64 {
	value := r.number()
	if value >= bound {
		r.fail()
		return 0
	}
	return value
}

// text is a view of the body.
func (r *reader) text() []byte {
	size := r.below(math.MaxInt32)
	if size > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	text := r.rest[:size:size]
	r.rest = r.rest[size:]
	return text
}

func (r *reader) err() error {
	if r.broken {
		return errPacket
	}
	return nil
}
