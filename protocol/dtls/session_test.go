package dtls

import (
	"bytes"
	"crypto/rand"
	"net/netip"
	"slices"
	"testing"
)

// pair are the two ends of a session, without a handshake.
func pair(suite uint16, id bool) (client, server *session) {
	client, server = &session{suite: suite}, &session{suite: suite}
	rand.Read(client.write.key[:])
	rand.Read(client.write.salt[:])
	rand.Read(client.read.key[:])
	rand.Read(client.read.salt[:])
	server.read, server.write = client.write, client.read
	if id {
		client.remoteID, server.hasCID = []byte("12345678"), true
	}
	return client, server
}

func seal(t testing.TB, s *session, message string) []byte {
	t.Helper()
	datagram, ok := s.seal(nil, typeApplicationData, []byte(message))
	if !ok {
		t.Fatal("the session has ended")
	}
	return datagram
}

// open opens a copy of a datagram with one record.
func open(s *session, datagram []byte) (string, bool) {
	r, rest, ok := nextRecord(slices.Clone(datagram))
	if !ok || len(rest) > 0 {
		return "", false
	}
	contentType, message, _, ok := s.open(&r)
	return string(message), ok && contentType == typeApplicationData
}

var suites = map[string]uint16{"CCM-8": pskCCM8, "CCM": pskCCM, "GCM": pskGCM}

// RFC 6347 §4.1.2.6: what was received once is not received again, in whatever order, and what is too old to tell neither.
func TestReplay(t *testing.T) {
	for name, suite := range suites {
		t.Run(name, func(t *testing.T) {
			client, server := pair(suite, false)
			var sent [][]byte
			for range 100 {
				sent = append(sent, seal(t, client, "message"))
			}
			for _, test := range []struct {
				number int
				want   bool
			}{
				{5, true}, {5, false}, {3, true}, {3, false}, {4, true}, {70, true}, {7, true}, {6, false}, {69, true}, {69, false}, {99, true},
				{36, true}, {35, false}, {99, false},
			} {
				if _, ok := open(server, sent[test.number]); ok != test.want {
					t.Errorf("record %d after those before: %v, want %v", test.number, ok, test.want)
				}
			}
		})
	}
}

// No bit of a record can be changed, and a record that was changed does not keep out the genuine one.
func TestForgery(t *testing.T) {
	for name, suite := range suites {
		for _, id := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				client, server := pair(suite, id)
				datagram := seal(t, client, "message")
				for bit := range len(datagram) * 8 {
					forged := slices.Clone(datagram)
					forged[bit/8] ^= 1 << (bit % 8)
					if _, ok := open(server, forged); ok {
						t.Errorf("the record may have another bit %d", bit)
					}
				}
				for n := range datagram {
					if _, ok := open(server, datagram[:n]); ok {
						t.Errorf("the record may end after %d bytes", n)
					}
				}
				if message, ok := open(server, datagram); !ok || message != "message" {
					t.Errorf("%q %v", message, ok)
				}
			})
		}
	}
}

// RFC 9146 §4: once a Connection ID is agreed on, a record without it is none, and the other way round.
func TestConnectionIDIsNotOptional(t *testing.T) {
	client, server := pair(pskCCM8, true)
	client.remoteID = nil
	if _, ok := open(server, seal(t, client, "message")); ok {
		t.Error("a record without Connection ID was taken")
	}
	client, server = pair(pskCCM8, true)
	server.hasCID = false
	if _, ok := open(server, seal(t, client, "message")); ok {
		t.Error("a record with Connection ID was taken")
	}
}

// RFC 9146 §4: what is wrapped may be padded with zeros, and has a type.
func TestPadding(t *testing.T) {
	for _, test := range []struct {
		inner, want string
		ok          bool
	}{
		{"message\x17", "message", true}, {"message\x17\x00\x00\x00", "message", true}, {"\x17", "", true}, {"\x00\x17", "\x00", true}, {"\x00\x00", "", false}, {"", "", false},
	} {
		client, server := pair(pskCCM8, true)
		c := client.aeads()
		datagram := []byte{typeCID, 0xfe, version12, 0, 1, 0, 0, 0, 0, 0, 9}
		datagram = append(append(datagram, client.remoteID...), 0, 0)
		nonce := []byte{0, 1, 0, 0, 0, 0, 0, 9}
		sealed := c.write.Seal(nil, c.nonceOf(&client.write.salt, nonce), []byte(test.inner), c.additionalDataCID(datagram, client.remoteID, len(test.inner)))
		datagram[len(datagram)-1] = byte(len(nonce) + len(sealed))
		message, ok := open(server, slices.Concat(datagram, nonce, sealed))
		if message != test.want || ok != test.ok {
			t.Errorf("%q: %q %v, want %q %v", test.inner, message, ok, test.want, test.ok)
		}
	}
}

// RFC 6347 §4.1: a session whose numbers are used up sends nothing more.
func TestNumbersUsedUp(t *testing.T) {
	client, server := pair(pskGCM, false)
	client.sent = maxSequence
	if message, ok := open(server, seal(t, client, "last")); !ok || message != "last" {
		t.Errorf("%q %v", message, ok)
	}
	if _, ok := client.seal(nil, typeApplicationData, []byte("more")); ok {
		t.Error("a number was used twice")
	}
}

// RFC 9146 §6: only the newest record moves a peer, and what goes to the new place is bounded until it has proved to be the peer's.
func TestMoving(t *testing.T) {
	home, elsewhere := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	s := &session{address: home}
	if s.heard(elsewhere, false) || s.address != home {
		t.Fatal("moved by a record that was not the newest")
	}
	allowed := func() (n int) {
		for n < 100 && s.maySend() {
			n++
		}
		return n
	}
	if allowed() != 100 {
		t.Error("there is a bound at home")
	}
	if !s.heard(elsewhere, true) || s.address != elsewhere {
		t.Fatal("did not move")
	}
	for record := 1; record < recordsToProve; record++ {
		if n := allowed(); n != creditOfRecord {
			t.Errorf("after %d records %d datagrams may be sent", record, n)
		}
		s.heard(elsewhere, true)
	}
	if allowed() != 100 {
		t.Error("there still is a bound")
	}
}

// Nothing that is done for each message allocates.
func TestAllocations(t *testing.T) {
	for name, suite := range suites {
		for _, id := range []bool{false, true} {
			client, server := pair(suite, id)
			message, buffer := bytes.Repeat([]byte("m"), 100), make([]byte, 0, 300)
			allocations := testing.AllocsPerRun(100, func() {
				datagram, _ := client.seal(buffer, typeApplicationData, message)
				r, _, _ := nextRecord(datagram)
				if _, _, _, ok := server.open(&r); !ok {
					t.Fatal("not opened")
				}
			})
			if allocations != 0 {
				t.Errorf("%s: %v allocations", name, allocations)
			}
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	for name, suite := range suites {
		b.Run(name, func(b *testing.B) {
			client, server := pair(suite, true)
			message, buffer := bytes.Repeat([]byte("m"), 64), make([]byte, 0, 300)
			b.ReportAllocs()
			for b.Loop() { // one record sealed and opened
				datagram, _ := client.seal(buffer, typeApplicationData, message)
				r, _, _ := nextRecord(datagram)
				if _, _, _, ok := server.open(&r); !ok {
					b.Fatal("not opened")
				}
			}
		})
	}
}
