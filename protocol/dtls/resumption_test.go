package dtls

import (
	"bytes"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
)

// memory is where a pion client keeps what it can resume.
type memory struct {
	mu   sync.Mutex
	kept map[string]dtls.Session
}

func newMemory() *memory { return &memory{kept: make(map[string]dtls.Session)} }

func (m *memory) Set(key []byte, session dtls.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[string(key)] = session
	return nil
}

func (m *memory) Get(key []byte) (dtls.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept[string(key)], nil
}

func (m *memory) Del(key []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, string(key))
	return nil
}

// change alters what is kept.
func (m *memory) change(f func(*dtls.Session)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, session := range m.kept {
		f(&session)
		m.kept[key] = session
	}
}

// known are options of a client that has had a session at the site, and has lost it.
func (s *site) known(options ...dtls.ClientOption) (_ []dtls.ClientOption, kept *memory) {
	s.Helper()
	kept = newMemory()
	options = append(options, dtls.WithSessionStore(kept))
	c := s.connect(options...)
	c.echo("the first session")
	c.socket.vanish()
	if n := s.Stats(); n.Resumed != 0 || len(kept.kept) != 1 {
		s.Fatalf("%d sessions were resumed, %d can be", n.Resumed, len(kept.kept))
	}
	return options, kept
}

// RFC 5246 §7.3: a client that names its earlier session has the same owner in the new one, without key exchange and certificates; RFC 9146 §3: Connection
// IDs are negotiated anew.
func TestResumption(t *testing.T) {
	for suite, name := range map[dtls.CipherSuiteID]string{pskCCM8: "PSK CCM-8", pskGCM: "PSK GCM", ecdsaCCM8: "ECDSA CCM-8", ecdsaCCM: "ECDSA CCM", ecdsaGCM: "ECDSA GCM"} {
		for _, id := range []string{"", "Connection ID", "empty Connection ID"} {
			t.Run(strings.TrimSpace(name+" "+id), func(t *testing.T) {
				s := startSite(t, "udp6", nil)
				options := psk("d1", rightKey, suite)
				if strings.HasPrefix(name, "ECDSA") {
					options = s.certified(suite, "d1")
				}
				switch id {
				case "Connection ID":
					options = append(options, dtls.WithConnectionIDGenerator(dtls.RandomCIDGenerator(5)))
				case "empty Connection ID":
					options = append(options, dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
				}
				options, _ = s.known(options...)
				for n := range 3 {
					c := s.connect(options...)
					for i := range 3 {
						c.echo(fmt.Sprintf("message %d of d1", i))
					}
					owner, address := s.Owner(s.lastPeer())
					if want := c.LocalAddr().String(); owner != "d1" || address.String() != want {
						t.Errorf("%v at %v, want d1 at %v", owner, address, want)
					}
					if stats := s.Stats(); int(stats.Resumed) != n+1 || int(stats.Completed) != n+2 || stats.Handshakes != 0 {
						t.Errorf("%d resumed of %d", stats.Resumed, stats.Completed)
					}
					state, _ := s.Session(s.lastPeer())
					if state.ConnectionID != (id != "") || state.PSK == strings.HasPrefix(name, "ECDSA") {
						t.Errorf("%+v", state)
					}
					if id != "" {
						c.socket.move()
						c.echo("from elsewhere")
					}
				}
			})
		}
	}
}

// openssl resumes with an ID and without a ticket (RFC 5077), which we do not give out.
func TestOpenSSLResumes(t *testing.T) {
	s := startSite(t, "udp4", nil)
	psk, x509 := s.opensslIdentities(t)
	for i, identity := range [][]string{psk, append(psk, "-cipher", "PSK-AES128-CCM8"), x509, append(x509, "-servername", "localhost")} {
		file := filepath.Join(t.TempDir(), "session")
		s.openssl(t, append(identity, "-sess_out", file)...)
		before := s.Stats().Resumed
		for range 2 {
			s.openssl(t, append(identity, "-sess_in", file)...)
		}
		if n := s.Stats().Resumed - before; n != 2 {
			t.Errorf("identity %d: %d of 2 sessions were resumed", i, n)
		}
	}
}

// Each datagram of the shorter handshake can be lost, in both directions (RFC 6347 §4.2.4), but for the client's last, which pion does not send again.
func TestLostFlightsOfResumption(t *testing.T) {
	for _, side := range []string{"server", "client"} {
		for n := 1; n <= 2; n++ {
			t.Run(fmt.Sprintf("datagram %d of the %s", n, side), func(t *testing.T) {
				t.Parallel()
				s := startSite(t, "udp4", nil)
				options, _ := s.known(psk("d1", rightKey, pskCCM8)...)
				s.mu.Lock()
				before := len(s.sent)
				s.mu.Unlock()
				c := s.dial(options...)
				if side == "server" {
					s.lose(func(i int, _ []byte) bool { return i == before+n })
				} else {
					c.socket.drop = func(i int) bool { return i == n }
				}
				if err := c.handshake(); err != nil {
					t.Fatal(err)
				}
				c.echo("hello")
				if stats := s.Stats(); stats.Resumed != 1 || stats.Handshakes != 0 {
					t.Errorf("%d resumed, %d unfinished", stats.Resumed, stats.Handshakes)
				}
			})
		}
	}
}

// The client's Finished is late: what comes before it shows that it was sent, so that our flight goes again for it, and waits until it is there.
func TestLateFinished(t *testing.T) {
	s := startSite(t, "udp4", nil)
	options, _ := s.known(psk("d1", rightKey, pskCCM8)...)
	c := s.dial(options...)
	c.socket.drop = func(i int) bool { return i == 3 }
	if err := c.handshake(); err != nil {
		t.Fatal(err)
	}
	c.socket.mu.Lock()
	finished := c.socket.last
	c.socket.mu.Unlock()
	s.mu.Lock()
	sent := len(s.sent)
	s.mu.Unlock()
	for n := range maxParked + 1 {
		fmt.Fprintf(c, "message %d", n)
	}
	s.eventually("our flight again", func() bool { return len(s.sent) == sent+maxParked+1 })
	if n := s.Stats(); n.Resumed != 0 || n.Sessions != 1 {
		t.Errorf("%d resumed, %d sessions", n.Resumed, n.Sessions)
	}
	c.socket.conn.WriteToUDP(finished, c.socket.server)
	buffer := make([]byte, 100)
	for n := range maxParked {
		c.SetReadDeadline(time.Now().Add(time.Minute))
		length, err := c.Read(buffer)
		if want := fmt.Sprintf("MESSAGE %d", n); err != nil || string(buffer[:length]) != want {
			t.Fatalf("%q, %v; want %q", buffer[:length], err, want)
		}
	}
	c.echo("hello")
	for range 2 * maxResends { // repetitions bring nothing
		c.socket.conn.WriteToUDP(finished, c.socket.server)
	}
	c.echo("hello again")
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.sent) - sent; n != maxParked+1 {
		t.Errorf("our flight went %d times more", n)
	}
}

// What cannot be resumed is begun anew; what must not be is refused as ever.
func TestNoResumption(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(s *site, kept *memory) // after the first session
		more   []dtls.ClientOption
	}{
		{"unknown ID", func(_ *site, kept *memory) {
			kept.change(func(session *dtls.Session) { session.ID = bytes.Repeat([]byte{1}, 16) })
		}, nil},
		{"ID of another length", func(_ *site, kept *memory) {
			kept.change(func(session *dtls.Session) { session.ID = bytes.Repeat([]byte{1}, 32) })
		}, nil},
		{"owner that may not come back so", func(s *site, _ *memory) { s.quarantined.Store(true) }, nil},
		{"session that ended by a fatal alert", func(s *site, _ *memory) {
			s.resumables.mu.Lock()
			defer s.resumables.mu.Unlock()
			for _, origin := range s.resumables.newer {
				origin.spent.Store(true)
			}
		}, nil},
		{"after a day", func(s *site, _ *memory) {
			for h := range 3 {
				s.Tick(time.Now().Add(time.Duration(12*h) * time.Hour))
			}
		}, nil},
		{"another server name", func(*site, *memory) {}, []dtls.ClientOption{dtls.WithServerName("elsewhere")}}, // RFC 6066 §3
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startSite(t, "udp4", nil)
			options, kept := s.known(psk("d1", rightKey, pskCCM8)...)
			if len(test.more) > 0 { // pion keeps sessions by server name
				renamed := newMemory()
				for _, session := range kept.kept {
					renamed.kept["elsewhere"], renamed.kept[s.address.String()+"_elsewhere"] = session, session
				}
				options = append(options, dtls.WithSessionStore(everywhere{renamed}))
			}
			test.change(s, kept)
			c := s.connect(append(options, test.more...)...)
			c.echo("hello")
			if stats := s.Stats(); stats.Resumed != 0 || stats.Completed != 2 {
				t.Errorf("%d resumed of %d", stats.Resumed, stats.Completed)
			}
		})
	}
}

// everywhere gives out any session for every name.
type everywhere struct{ *memory }

func (e everywhere) Get([]byte) (session dtls.Session, err error) {
	for _, session = range e.kept {
		break
	}
	return session, nil
}

// Who has read an ID off the wire gets nothing by it, and harms nobody: the session with that ID goes on, and can be resumed.
func TestStolenSessionID(t *testing.T) {
	s := startSite(t, "udp4", func(c *Config) { c.HandshakeTimeout = time.Second })
	kept := newMemory()
	options := append(psk("d1", rightKey, pskCCM8), dtls.WithSessionStore(kept))
	rightful := s.connect(options...)
	rightful.echo("hello")
	stolen := newMemory()
	for key, session := range kept.kept {
		session.Secret = bytes.Repeat([]byte{9}, masterLength)
		stolen.kept[key] = session
	}
	thief := s.dial(append(psk("d1", rightKey, pskCCM8), dtls.WithSessionStore(stolen))...)
	done := make(chan error, 1)
	go func() { done <- thief.handshake() }()
	s.eventually("the thief's handshake", func() bool { return s.Stats().Handshakes == 1 })
	s.eventually("its end", func() bool {
		s.Tick(time.Now())
		return s.Stats().Handshakes == 0
	})
	thief.Close()
	if err := <-done; err == nil {
		t.Error("the thief has a session")
	}
	rightful.echo("hello again")
	if n := s.Stats(); n.Completed != 1 || n.Resumed != 0 || n.Sessions != 1 {
		t.Errorf("%+v", n)
	}
	s.connect(options...).echo("resumed")
	if n := s.Stats(); n.Resumed != 1 {
		t.Errorf("%d resumed", n.Resumed)
	}
}

// A fatal alert makes its session impossible to resume (RFC 5246 §7.2.2); close_notify does not (§7.2.1).
func TestFatalAlertEndsResumption(t *testing.T) {
	s := startSite(t, "udp4", nil)
	origin := &resumable{}
	for _, test := range []struct {
		alert []byte
		spent bool
	}{{closeNotify[:], false}, {[]byte{alertFatal, 20}, true}} {
		client, server := pair(pskCCM8, false)
		server.origin, server.number, server.address = origin, s.newNumber(), netip.MustParseAddrPort("127.0.0.1:9")
		s.mu.Lock()
		s.byAddress[server.address], s.byNumber[server.number] = server, server
		server.place, s.all = int32(len(s.all)), append(s.all, server)
		s.mu.Unlock()
		datagram, _ := client.seal(nil, typeAlert, test.alert)
		s.Open(server.address, datagram, s.receive)
		if origin.spent.Load() != test.spent || s.Stats().Sessions != 0 {
			t.Errorf("alert %v: %v, %d sessions", test.alert, origin.spent.Load(), s.Stats().Sessions)
		}
	}
}

// What can be resumed is bounded, and the newest stays.
func TestResumablesAreBounded(t *testing.T) {
	r := resumables{most: 100}
	var newest sessionID
	for i := range 10_000 {
		newest = newSessionID()
		r.add(newest, &resumable{}, uint32(i))
		if n := len(r.newer) + len(r.older); n > 200 {
			t.Fatalf("%d", n)
		}
		if r.find(newest[:]) == nil {
			t.Fatal("the newest is not there")
		}
	}
	r.tick(10_000 + generationSeconds)
	if r.find(newest[:]) == nil {
		t.Error("it is gone after half a day")
	}
	r.tick(10_000 + 2*generationSeconds)
	if r.find(newest[:]) != nil {
		t.Error("it is there after a day")
	}
}

// A ClientHello says what its bytes say, and none makes the reader go wrong.
func FuzzOffer(f *testing.F) {
	begin := append([]byte{0xfe, version12}, make([]byte, 32)...)
	f.Add(slices.Concat(begin, []byte{4, 1, 2, 3, 4, 2, 8, 9, 0, 4, 0xc0, 0xa8, 0, 0xff, 1, 0, 0, 14, 0, 23, 0, 0, 0, 54, 0, 3, 2, 7, 7, 0, 0, 0, 0, 9}))
	f.Add(slices.Concat(begin, []byte{0, 0, 0, 2, 0xc0, 0xa8, 1, 0}))
	f.Add(slices.Concat(begin, []byte{0, 0, 0, 2, 0xc0, 0xa8, 1, 0, 0, 5, 0, 54, 0, 3, 9}))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, ok := parseOffer(body)
		if !ok {
			return
		}
		if len(o.random) != 32 || len(o.sessionID) > maxSessionID || len(o.connectionID) > 255 {
			t.Fatalf("%+v", o)
		}
		answer := o.appendServerHello(nil, o.random, pskCCM8, 1)
		if len(answer) > 2+32+1+maxSessionID+3+2+5+4+13 {
			t.Fatalf("%d bytes", len(answer))
		}
	})
}

// Whatever comes in the place of the client's Finished makes no session, and costs no more than a few datagrams in either direction.
func FuzzResuming(f *testing.F) {
	f.Add([]byte{typeHandshake, 0xfe, version12, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9})
	f.Add(append([]byte{typeChangeCipherSpec, 0xfe, version12, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 1}, append([]byte{typeHandshake, 0xfe, version12, 0, 1, 0, 0, 0, 0, 0, 0, 0, 40}, make([]byte, 40)...)...))
	f.Add(append([]byte{typeCID, 0xfe, version12, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 30}, make([]byte, 30)...))
	from := netip.MustParseAddrPort("192.0.2.1:1000")
	f.Fuzz(func(t *testing.T, datagram []byte) {
		for _, id := range []bool{false, true} {
			s := newStill(nil)
			_, server := pair(pskCCM8, id)
			server.number = 1
			h := &handshake{server: s.Server, from: from, number: 1}
			r := &resuming{session: server, flight: []byte("our flight"), expected: bytes.Repeat([]byte{7}, handshakeHeader+12)}
			h.resuming.Store(r)
			s.handshakes[from], s.sources[sourceOf(from)] = h, 1
			for range 2 * maxResends {
				s.Open(from, slices.Clone(datagram), func(netip.AddrPort, []byte) { t.Error("a message came of it") })
			}
			if n := s.Stats(); n.Sessions != 0 || n.Completed != 0 || len(r.parked) > maxParked || s.sent > 2*maxResends*max(len(r.flight), len(datagram)) {
				t.Errorf("%+v, %d parked, %d bytes sent", n, len(r.parked), s.sent)
			}
		}
	})
}

func TestOffer(t *testing.T) {
	begin := append([]byte{0xfe, version12}, make([]byte, 32)...)
	full := slices.Concat(begin, []byte{4, 1, 2, 3, 4, 2, 8, 9, 0, 4, 0xc0, 0xa8, 0, 0xff, 1, 0, 0, 20, 0, 23, 0, 0, 0, 54, 0, 3, 2, 7, 7, 0, 0, 0, 1, 9, 0, 35, 0, 0})
	o, ok := parseOffer(full)
	if !ok || string(o.sessionID) != "\x01\x02\x03\x04" || !o.extendedMaster || !o.renegotiation || !o.hasCID || string(o.connectionID) != "\x07\x07" || !o.uncompressed ||
		!o.offers(pskCCM8) || o.offers(pskGCM) || o.serverName == [8]byte{} {
		t.Errorf("%v %+v", ok, o)
	}
	for n := len(begin) + 1; n < len(full); n++ {
		if _, ok := parseOffer(full[:n]); ok && n != len(begin)+16 { // where it may end, without extensions
			t.Errorf("%d bytes of %d are taken for a ClientHello", n, len(full))
		}
	}
}

// BenchmarkHandshake is what a handshake costs the server and the client together, in one process.
func BenchmarkHandshake(b *testing.B) {
	for _, kind := range []string{"PSK", "certificate", "PSK resumed", "certificate resumed"} {
		b.Run(kind, func(b *testing.B) {
			var began atomic.Int64
			s := startSite(b, "udp4", func(c *Config) { c.Opened = func(netip.AddrPort, any) { began.Add(1) } })
			options := psk("d1", rightKey, pskCCM8)
			if strings.HasPrefix(kind, "certificate") {
				options = s.certified(ecdsaCCM8, "d1")
			}
			if strings.HasSuffix(kind, "resumed") {
				options, _ = s.known(options...)
			}
			b.ReportAllocs()
			sent := int64(0)
			for b.Loop() {
				c := s.connect(options...)
				c.socket.vanish()
				sent += c.socket.bytes.Load()
			}
			b.ReportMetric(float64(sent)/float64(b.N), "bytes/op") // of datagrams, both ways
		})
	}
}
