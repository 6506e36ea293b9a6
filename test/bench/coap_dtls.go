//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"

	"fieldgate/protocol/ccm"
)

const (
	dtlsSessions     = 64
	dtlsKey          = "a key for all of" // 16 bytes
	dtlsHandshakes   = 16                 // at a time
	dtlsPatience     = 30 * time.Second   // for a handshake
	dtlsWarm         = 2_000              // sessions before those that are measured
	dtlsMany         = 100_000            // sessions, if that takes no longer than dtlsLimit
	dtlsFewer        = 20_000
	dtlsLimit        = 60 * time.Second
	dtlsTag          = 8
	dtlsHeader       = 13 // of a record, RFC 6347 section 4.1
	dtlsExplicit     = 8  // of a nonce, RFC 6655 section 3
	dtlsSalt         = 4
	dtlsUnsealed     = 8 // sequence numbers after the handshake that pion may have used
	applicationData  = 23
	dtlsCipherSuites = dtls.TLS_PSK_WITH_AES_128_CCM_8
)

// coapDTLS measures what a GET costs over DTLS, in Fieldgate and in a server made of go-coap and pion.
func (b *bench) coapDTLS() error {
	gateway, err := b.coapGateway()
	if err != nil {
		return err
	}
	pion, err := b.goCoap(goCoapSecure)
	if err != nil {
		return err
	}
	servers := []*coapServer{{server: server{gateway.name, gateway.secure, gateway.pid}}, {server: server{"go-coap and pion", pion.address, pion.pid}}}
	results := make([][]coapResult, len(servers))
	for round := range b.rounds {
		for i, s := range servers {
			r, err := b.coapSecureLoad(s)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			r.ratio = 1
			if i > 0 {
				r.ratio = r.micros / results[0][round].micros
			}
			results[i] = append(results[i], r)
		}
	}
	fmt.Println("| CoAP over DTLS 1.2, PSK, AES-128-CCM-8 | server | CPU µs per request | × Fieldgate in the same round | requests/s | p50, p99 in ms | sent again |\n|---|---|---|---|---|---|---|")
	for i, list := range results {
		resent := 0
		for _, r := range list {
			resent += r.resent
		}
		fmt.Printf("| CON GET, %d sessions | %s | **%.1f** | %.2f (%.2f … %.2f) | %.0f | %s, %s | %d |\n", dtlsSessions, servers[i].name,
			median(list, func(r coapResult) float64 { return r.micros }), median(list, func(r coapResult) float64 { return r.ratio }),
			slices.MinFunc(list, func(a, b coapResult) int { return cmp.Compare(a.ratio, b.ratio) }).ratio,
			slices.MaxFunc(list, func(a, b coapResult) int { return cmp.Compare(a.ratio, b.ratio) }).ratio,
			median(list, func(r coapResult) float64 { return r.rate }),
			milliseconds(median(list, func(r coapResult) time.Duration { return r.p50 })), milliseconds(median(list, func(r coapResult) time.Duration { return r.p99 })), resent)
	}
	return nil
}

func (b *bench) coapSecureLoad(s *coapServer) (r coapResult, err error) {
	load, err := s.load(coapCases[0], dtlsSessions)
	if err != nil {
		return r, err
	}
	defer load.close()
	if _, err := load.secure(s.address, 0, dtlsSessions, nil); err != nil {
		return r, err
	}
	return b.coapMeasure(load, dtlsSessions, "dtls", s)
}

// coapIdleSessions measures what a DTLS session takes that says nothing.
func (b *bench) coapIdleSessions() error {
	s, err := b.coapGateway()
	if err != nil {
		return err
	}
	load, err := s.load(coapCases[0], dtlsMany)
	if err != nil {
		return err
	}
	defer load.close()
	// The first make what serving takes memory for.
	took, err := load.secure(s.secure, 0, dtlsWarm, nil)
	if err != nil {
		return err
	}
	count := dtlsMany
	if took*(dtlsMany/dtlsWarm) > dtlsLimit {
		count = dtlsFewer
	}
	before := s.settled()
	usedBefore, err := cpu(s.pid)
	if err != nil {
		return err
	}
	if took, err = load.secure(s.secure, dtlsWarm, count, nil); err != nil {
		return err
	}
	used, err := cpu(s.pid)
	if err != nil {
		return err
	}
	after, more := s.settled(), count-dtlsWarm
	resumed, err := s.resumed(load)
	if err != nil {
		return err
	}
	fmt.Println("| idle DTLS sessions | server | sessions | RSS each, bytes | RSS of all, MB | CPU µs per handshake | handshakes/s | CPU µs to resume |\n|---|---|---|---|---|---|---|---|")
	fmt.Printf("| PSK, after the handshake | %s | %d | **%.0f** | %.0f | %.0f | %.0f | %.0f |\n", s.name, count, float64(after-before)/float64(more), float64(after)/1e6,
		float64((used-usedBefore).Microseconds())/float64(more), float64(more)/took.Seconds(), resumed)
	return nil
}

// resumed is the processor time in microseconds of a handshake by which a client resumes a session.
func (s *coapServer) resumed(load *coapLoad) (each float64, err error) {
	kept := make([]keptSession, dtlsWarm)
	if _, err := load.secure(s.secure, 0, dtlsWarm, kept); err != nil {
		return 0, err
	}
	before, err := cpu(s.pid)
	if err != nil {
		return 0, err
	}
	if _, err := load.secure(s.secure, 0, dtlsWarm, kept); err != nil {
		return 0, err
	}
	used, err := cpu(s.pid)
	return float64((used - before).Microseconds()) / dtlsWarm, err
}

// keptSession is where a pion client keeps its session to resume it.
type keptSession struct{ session dtls.Session }

func (k *keptSession) Get([]byte) (dtls.Session, error) { return k.session, nil }

func (k *keptSession) Set(_ []byte, session dtls.Session) error {
	k.session = session
	return nil
}

// Del is called when the server has not resumed the session.
func (k *keptSession) Del([]byte) error { return errors.New("a session was not resumed") }

// settled is the memory of a server once it gives none back any more.
func (s *coapServer) settled() int {
	least := residentBytes(s.pid)
	for {
		time.Sleep(settleIdle)
		now := residentBytes(s.pid)
		if now > least-1<<20 {
			return min(now, least)
		}
		least = now
	}
}

// secure makes DTLS sessions for the peers from one number to another: pion does the handshakes, from the address and port that the load
// comes from; then the records are the generator's own. Sessions are resumed from those that are kept, and kept there, unless kept is nil.
func (l *coapLoad) secure(server string, from, to int, kept []keptSession) (took time.Duration, err error) {
	address, err := net.ResolveUDPAddr("udp4", server)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	errs := make([]error, dtlsHandshakes)
	var all sync.WaitGroup
	for worker := range dtlsHandshakes {
		all.Go(func() {
			for number := from + worker; number < to && errs[worker] == nil; number += dtlsHandshakes {
				p := &l.peers[number]
				var options []dtls.ClientOption
				if kept != nil {
					options = append(options, dtls.WithSessionStore(&kept[number]))
				}
				p.records, errs[worker] = shakeHands(net.UDPAddr{IP: p.address[:], Port: l.port}, address, mqttDevice(number%coapFleet), options...)
			}
		})
	}
	all.Wait()
	return time.Since(began), errors.Join(errs...)
}

// mutable is a socket that can be told to send nothing any more, so that pion does not end the session that is taken from it.
type mutable struct {
	net.PacketConn
	muted atomic.Bool
}

func (m *mutable) WriteTo(p []byte, to net.Addr) (int, error) {
	if m.muted.Load() {
		return len(p), nil
	}
	return m.PacketConn.WriteTo(p, to)
}

func shakeHands(local net.UDPAddr, server *net.UDPAddr, identity string, more ...dtls.ClientOption) (*coapRecords, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dtlsPatience)
	defer cancel()
	shared := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) }), err)
	}}
	socket, err := shared.ListenPacket(ctx, "udp4", local.String())
	if err != nil {
		return nil, err
	}
	conn := &mutable{PacketConn: socket}
	defer conn.Close()
	session, err := dtls.ClientWithOptions(conn, server, append(more, dtls.WithPSKIdentityHint([]byte(identity)),
		dtls.WithPSK(func([]byte) ([]byte, error) { return []byte(dtlsKey), nil }), dtls.WithCipherSuites(dtlsCipherSuites))...)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	defer conn.muted.Store(true)
	if err := session.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state, ok := session.ConnectionState()
	if !ok {
		return nil, errors.New("pion has no state of the session")
	}
	return newCoAPRecords(&state)
}

// coapRecords protects the records of a client's session, with AES-128-CCM-8.
type coapRecords struct {
	read, write         cipher.AEAD
	readSalt, writeSalt [dtlsSalt]byte
	sequence            uint64
	nonce               [dtlsSalt + dtlsExplicit]byte
	data                [dtlsHeader]byte
	out                 []byte
}

// newCoAPRecords takes the keys from what pion makes of a session for those who keep it; gob goes by the names.
func newCoAPRecords(state *dtls.State) (*coapRecords, error) {
	raw, err := state.MarshalBinary()
	if err != nil {
		return nil, err
	}
	var e struct {
		LocalRandom, RemoteRandom [32]byte
		MasterSecret              []byte
		SequenceNumber            uint64
	}
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&e); err != nil {
		return nil, err
	}
	keys, err := prf.GenerateEncryptionKeys(e.MasterSecret, e.LocalRandom[:], e.RemoteRandom[:], 0, aes.BlockSize, dtlsSalt, sha256.New)
	if err != nil {
		return nil, err
	}
	r := &coapRecords{sequence: e.SequenceNumber + dtlsUnsealed}
	copy(r.writeSalt[:], keys.ClientWriteIV)
	copy(r.readSalt[:], keys.ServerWriteIV)
	r.write, err = newCCM8(keys.ClientWriteKey)
	if err != nil {
		return nil, err
	}
	r.read, err = newCCM8(keys.ServerWriteKey)
	return r, err
}

func newCCM8(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return ccm.New(block, dtlsSalt+dtlsExplicit, dtlsTag)
}

// seal makes the record for a message; it is there until the next.
func (r *coapRecords) seal(message []byte) []byte {
	r.out = append(r.out[:0], applicationData, 0xfe, 0xfd)
	r.out = binary.BigEndian.AppendUint64(r.out, 1<<48|r.sequence) // epoch 1
	r.out = binary.BigEndian.AppendUint16(r.out, uint16(dtlsExplicit+len(message)+dtlsTag))
	r.out = append(r.out, r.out[3:11]...) // the nonce's explicit part
	r.sequence++
	r.prepare(r.writeSalt, r.out, len(message))
	r.out = r.write.Seal(r.out, r.nonce[:], message, r.data[:])
	return r.out
}

// open decrypts a record in place.
func (r *coapRecords) open(record []byte) ([]byte, error) {
	const before = dtlsHeader + dtlsExplicit
	if len(record) < before+dtlsTag || record[0] != applicationData {
		return nil, fmt.Errorf("no application data, but %x", record)
	}
	r.prepare(r.readSalt, record, len(record)-before-dtlsTag)
	return r.read.Open(record[before:before], r.nonce[:], record[before:], r.data[:])
}

// prepare fills nonce and additional data (RFC 6347 section 4.1.2.1).
func (r *coapRecords) prepare(salt [dtlsSalt]byte, record []byte, length int) {
	copy(r.nonce[copy(r.nonce[:], salt[:]):], record[dtlsHeader:dtlsHeader+dtlsExplicit])
	copy(r.data[:8], record[3:11])
	copy(r.data[8:11], record[:3])
	binary.BigEndian.PutUint16(r.data[11:], uint16(length))
}

// dtlsDevice is a line for the import of a device that has a key.
func dtlsDevice(number int) string {
	return fmt.Sprintf("{\"id\":%q,\"psk\":{\"key\":%q}}\n", mqttDevice(number), hex.EncodeToString([]byte(dtlsKey)))
}
