package dtls

import "encoding/binary"

// Content types (RFC 5246 §6.2.1, RFC 9146 §4).
const (
	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeApplicationData  = 23
	typeCID              = 25 // tls12_cid
)

const (
	recordHeader    = 13 // without Connection ID
	handshakeHeader = 12
	cidLength       = 8 // of the Connection IDs that we give out
	nonceExplicit   = 8

	maxSequence = 1<<48 - 1
)

// record is one record of a datagram (RFC 6347 §4.1), in place.
type record struct {
	contentType byte
	epoch       uint16
	sequence    uint64
	number      uint64 // Connection ID, if the type is tls12_cid
	header      []byte
	body        []byte
}

// nextRecord splits the first record off a datagram; ok is false if there is no whole one of a version that we know.
func nextRecord(datagram []byte) (r record, rest []byte, ok bool) {
	if len(datagram) < recordHeader || datagram[1] != 0xfe || datagram[2] != 0xfd && datagram[2] != 0xff {
		return r, nil, false
	}
	length := recordHeader
	r.contentType = datagram[0]
	if r.contentType == typeCID {
		length += cidLength
		if len(datagram) < length {
			return r, nil, false
		}
		r.number = binary.BigEndian.Uint64(datagram[11:])
	}
	end := length + int(binary.BigEndian.Uint16(datagram[length-2:]))
	if len(datagram) < end {
		return r, nil, false
	}
	r.epoch = binary.BigEndian.Uint16(datagram[3:])
	r.sequence = uint48(datagram[5:])
	r.header, r.body = datagram[:length], datagram[length:end]
	return r, datagram[end:], true
}

func uint48(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}

func putUint48(b []byte, v uint64) {
	binary.BigEndian.PutUint16(b, uint16(v>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(v))
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

func putUint24(b []byte, v int) { b[0], b[1], b[2] = byte(v>>16), byte(v>>8), byte(v) }
