package dtls

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/pion/dtls/v3/pkg/crypto/prf"
)

// session is what is kept of a peer after its handshake.
type session struct {
	number   uint64 // Connection ID that the peer sends, if it does, and name of the peer
	owner    any
	place    int32         // in Server.all; negative when it has ended. Guarded by Server.mu
	lastUsed atomic.Uint32 // seconds on the Server's clock

	// These do not change.
	opened uint32 // as lastUsed
	suite  uint16
	hasCID bool       // the peer sends a Connection ID
	origin *resumable // what it can be resumed from; nil: it cannot

	mu       sync.Mutex // the following
	address  netip.AddrPort
	remoteID []byte // the Connection ID that the peer wants to see; empty: none
	read     secret
	write    secret
	received window
	sent     uint64   // number of the next record
	ciphers  *ciphers // nil when idle
	final    []byte   // our last flight, until the peer has shown that it has it
	resends  int
	fresh    uint8 // records to come before a new address counts as proven; 0: it is
	credit   uint8 // datagrams that may be sent there until then
}

// masterLength is that of a master secret (RFC 5246 §8.1).
const masterLength = 48

// newSession derives the keys of a session (RFC 5246 §6.3).
func newSession(suite uint16, master, clientRandom, serverRandom []byte) (*session, error) {
	keys, err := prf.GenerateEncryptionKeys(master, clientRandom, serverRandom, 0, keyLength, saltSize, sha256.New)
	if err != nil {
		return nil, fmt.Errorf("dtls: %w", err)
	}
	s := &session{suite: suite}
	copy(s.read.key[:], keys.ClientWriteKey)
	copy(s.read.salt[:], keys.ClientWriteIV)
	copy(s.write.key[:], keys.ServerWriteKey)
	copy(s.write.salt[:], keys.ServerWriteIV)
	return s, nil
}

// maxResends is how often a client may have our last flight again.
const maxResends = 8

// A peer's new address may be one that somebody else has made up for a record that he took off the wire (RFC 9146 §6). Until some
// more records have come from there, each allows for no more than two datagrams.
const (
	recordsToProve  = 4
	creditOfRecord  = 2
	maxFreshCredits = 2 * creditOfRecord
)

func (s *session) aeads() *ciphers {
	if s.ciphers == nil {
		s.ciphers = newCiphers(s.suite, &s.read, &s.write)
	}
	return s.ciphers
}

// open authenticates and decrypts a record in place. When it fails, the record's body is destroyed.
func (s *session) open(r *record) (contentType byte, plaintext []byte, newest, ok bool) {
	// RFC 9146 §4: once negotiated, the Connection ID is in each record.
	if r.epoch != 1 || (r.contentType == typeCID) != s.hasCID || s.received.has(r.sequence) {
		return 0, nil, false, false
	}
	c := s.aeads()
	length := len(r.body) - nonceExplicit - c.read.Overhead()
	if length < 0 {
		return 0, nil, false, false
	}
	var data []byte
	if s.hasCID {
		data = c.additionalDataCID(r.header, r.header[11:11+cidLength], length)
	} else {
		data = c.additionalData(r.header, length)
	}
	sealed := r.body[nonceExplicit:]
	plaintext, err := c.read.Open(sealed[:0], c.nonceOf(&s.read.salt, r.body[:nonceExplicit]), sealed, data)
	if err != nil {
		return 0, nil, false, false
	}
	contentType = r.contentType
	if s.hasCID {
		// RFC 9146 §4: content, type, zeros.
		at := len(plaintext) - 1
		for at >= 0 && plaintext[at] == 0 {
			at--
		}
		if at < 0 {
			return 0, nil, false, false
		}
		contentType, plaintext = plaintext[at], plaintext[:at]
	}
	return contentType, plaintext, s.received.add(r.sequence), true
}

// seal appends a record to dst; ok is false when the session has no numbers left (RFC 6347 §4.1).
func (s *session) seal(dst []byte, contentType byte, plaintext []byte) (_ []byte, ok bool) {
	if s.sent > maxSequence {
		return dst, false
	}
	start := len(dst)
	outer := contentType
	if len(s.remoteID) > 0 {
		outer = typeCID
	}
	dst = append(dst, outer, 0xfe, version12, 0, 1, 0, 0, 0, 0, 0, 0)
	putUint48(dst[start+5:], s.sent)
	s.sent++
	dst = append(dst, s.remoteID...)
	dst = append(dst, 0, 0)
	header := len(dst)
	dst = append(dst, dst[start+3:start+11]...) // explicit nonce: epoch and number
	body := len(dst)
	dst = append(dst, plaintext...)
	if len(s.remoteID) > 0 {
		dst = append(dst, contentType)
	}
	c := s.aeads()
	var data []byte
	if len(s.remoteID) > 0 {
		data = c.additionalDataCID(dst[start:], s.remoteID, len(dst)-body)
	} else {
		data = c.additionalData(dst[start:], len(dst)-body)
	}
	nonce := c.nonceOf(&s.write.salt, dst[header:body])
	dst = c.write.Seal(dst[:body], nonce, dst[body:], data)
	binary.BigEndian.PutUint16(dst[header-2:], uint16(len(dst)-header))
	return dst, true
}

// heard notes where a genuine record came from (RFC 9146 §6: only the newest one counts), and what it allows to be sent there.
// It says whether the peer has moved.
func (s *session) heard(from netip.AddrPort, newest bool) (moved bool) {
	if !newest {
		return false
	}
	if from != s.address {
		s.address, s.fresh, s.credit, moved = from, recordsToProve, 0, true
	}
	if s.fresh > 0 {
		s.fresh--
		s.credit = min(s.credit+creditOfRecord, maxFreshCredits)
	}
	return moved
}

// maySend takes a datagram off what a new address allows.
func (s *session) maySend() bool {
	if s.fresh == 0 {
		return true
	}
	if s.credit == 0 {
		return false
	}
	s.credit--
	return true
}
