package dtls

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"

	"github.com/pion/dtls/v3"
)

// link is the net.PacketConn between pion's handshake and its client. Besides carrying datagrams it makes pion begin with the
// second ClientHello, and keeps what is for the session to come.
type link struct {
	pipe
	handshake *handshake

	mu     sync.Mutex // the following
	stage  stage
	muted  bool // nothing that pion writes leaves any more
	conn   *dtls.Conn
	bytes  int      // given to pion
	parked [][]byte // for the session
	final  []byte   // our last flight
}

type stage int

const (
	verifying   stage = iota // pion is to write its HelloVerifyRequest
	negotiating              // datagrams go both ways
	finishing                // our last flight is out, nothing more is for pion
	handedOver               // the session is there
)

func (l *link) init(h *handshake) {
	l.handshake, l.pipe = h, newPipe(h.from)
}

// begin gives pion the ClientHello as the client sent it first, without a cookie.
func (l *link) begin(conn *dtls.Conn) {
	h := l.handshake
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	parsed, _ := parseHello(h.hello)
	begin, end := withoutCookie(h.hello, &parsed)
	l.in <- appendMessage(nil, version12, l.firstSequence()-1, messageClientHello, 0, begin, end)
}

// deliver takes a datagram of the client, which is copied; false: it is for the session, which is there by now.
func (l *link) deliver(datagram []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.stage {
	case verifying: // nothing but what the client sends again can come before our ServerHello
	case handedOver:
		return false
	case finishing:
		if len(l.parked) < maxParked {
			l.parked = append(l.parked, bytes.Clone(datagram))
		}
	default:
		if l.bytes += len(datagram); l.bytes > maxHandshakeBytes {
			return true
		}
		select {
		case l.in <- bytes.Clone(datagram):
		default: // the client sends it again
		}
	}
	return true
}

// mute ends what pion may say.
func (l *link) mute() {
	l.mu.Lock()
	l.muted = true
	l.mu.Unlock()
}

func (l *link) lastFlight() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.final
}

// handOver gives out what came for the session before it was there.
func (l *link) handOver() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stage = handedOver
	return l.parked
}

// WriteTo takes a datagram of pion's.
func (l *link) WriteTo(datagram []byte, _ net.Addr) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.handshake
	switch {
	case l.muted:
		return len(datagram), nil
	case l.stage == verifying:
		if cookie, ok := cookieIn(datagram); ok {
			parsed, _ := parseHello(h.hello)
			if err := setCookie(l.conn, cookie, parsed.cookie); err != nil {
				return 0, err
			}
			l.stage = negotiating
			l.in <- appendMessage(nil, version12, l.firstSequence(), messageClientHello, h.messageSequence, h.hello, nil)
			return len(datagram), nil
		} // else an alert: the ClientHello is no good
	}
	datagram = bytes.Clone(datagram)
	if l.renumber(datagram) && l.stage == negotiating {
		l.stage, l.final = finishing, datagram
	}
	h.server.config.Send(h.from, datagram)
	return len(datagram), nil
}

// renumber moves the numbers of records of epoch 0: the ServerHello has that of the ClientHello (RFC 6347 §4.2.1) where pion has 1.
// Otherwise a client that got several HelloVerifyRequests would take what follows for a repetition. It says whether there is a
// ChangeCipherSpec among the records, which begins our last flight.
func (l *link) renumber(datagram []byte) (last bool) {
	for len(datagram) >= recordHeader && datagram[0] != typeCID {
		if binary.BigEndian.Uint16(datagram[3:]) == 0 {
			putUint48(datagram[5:], uint48(datagram[5:])+l.firstSequence()-1)
			last = last || datagram[0] == typeChangeCipherSpec
		}
		length := recordHeader + int(binary.BigEndian.Uint16(datagram[11:]))
		datagram = datagram[min(length, len(datagram)):]
	}
	return last
}

// firstSequence is the record number of the second ClientHello.
func (l *link) firstSequence() uint64 { return max(l.handshake.recordSequence, 1) }

// cookieIn is what a HelloVerifyRequest carries.
func cookieIn(datagram []byte) (cookie []byte, ok bool) {
	r, _, ok := nextRecord(datagram)
	if !ok || r.contentType != typeHandshake || len(r.body) < handshakeHeader+3 || r.body[0] != messageHelloVerifyRequest {
		return nil, false
	}
	return r.body[handshakeHeader+3:], true
}
