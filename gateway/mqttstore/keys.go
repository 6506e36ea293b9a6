package mqttstore

import (
	"bytes"
	"encoding/binary"
	"time"
)

// The keys. Numbers are eight bytes, most significant first, so that they sort.
//
//	n                              the newest number given
//	s <session>                    a session
//	f <session> <filter>           a subscription: its options
//	i <session> <packet id>        a QoS 2 message that came from the client and was not released
//	q <session> <number>           a queued message: how it is sent, and the message, unless it is one of several sessions
//	m <number>                     that one
//	c <number>                     for how many sessions it waits
//	o <session> <number>           a QoS 2 message that was delivered, and is not complete
//	r <topic>                      a retained message
//	x <second> <key q… or r…>      what that key holds expires then
//	d <session>                    a session that ended, whose queue has still to be deleted
//
// And where nodes share a log:
//
//	l                              how far the log has been applied
//	w <node>                       the newest group that a node wrote
//	h <session>                    which node has the session, by which claim
const (
	prefixNewest    = 'n'
	prefixSession   = 's'
	prefixFilter    = 'f'
	prefixID        = 'i'
	prefixQueue     = 'q'
	prefixDelivered = 'o'
	prefixMessage   = 'm'
	prefixCount     = 'c'
	prefixRetain    = 'r'
	prefixExpiry    = 'x'
	prefixDeleted   = 'd'
	prefixLog       = 'l'
	prefixWriter    = 'w'
	prefixOwner     = 'h'
)

func appendKey(b []byte, prefix byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, prefix), number)
}

func queueKey(b []byte, session, number uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(b, prefixQueue, session), number)
}

func deliveredKey(b []byte, session, number uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(b, prefixDelivered, session), number)
}

func idKey(b []byte, session uint64, id uint16) []byte {
	return binary.BigEndian.AppendUint16(appendKey(b, prefixID, session), id)
}

// expiryKey sorts by the whole second behind the expiry.
func expiryKey(b []byte, expires time.Time, key []byte) []byte {
	return append(appendKey(b, prefixExpiry, uint64(max(expires.Unix()+1, 0))), key...)
}

// retainKey sorts topics level by level: the level separator becomes the byte 0, which no topic holds [MQTT-4.7.3-2].
func retainKey(b []byte, topic string) []byte {
	start := len(b) + 1
	b = append(append(b, prefixRetain), topic...)
	for rest := b[start:]; ; {
		i := bytes.IndexByte(rest, '/')
		if i < 0 {
			return b
		}
		rest[i] = 0
		rest = rest[i+1:]
	}
}

// successor is the first key behind all those that begin with b, whose last byte it changes.
func successor(b []byte) []byte {
	b[len(b)-1]++ // no prefix ends with 0xFF
	return b
}
