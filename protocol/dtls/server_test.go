package dtls

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"fieldgate/test/port"
)

// A peer with a Connection ID goes on from other addresses, under the same name.
func TestPeerMoves(t *testing.T) {
	for name, id := range map[string]func() []byte{"client has one, too": dtls.RandomCIDGenerator(4), "client has none": dtls.OnlySendCIDGenerator()} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", last flight lost: ", lost), func(t *testing.T) {
				s := startSite(t, "udp4", nil)
				gone := !lost
				s.lose(func(_ int, datagram []byte) bool {
					drop := !gone && datagram[0] == typeChangeCipherSpec
					gone = gone || drop
					return drop
				})
				c := s.connect(append(psk("d1", rightKey, pskCCM8), dtls.WithConnectionIDGenerator(id))...)
				c.echo("at home")
				for i := range 3 {
					c.socket.move()
					c.echo(fmt.Sprint("moved ", i))
				}
				if n := s.Stats(); n.Moved != 3 || n.Sessions != 1 || n.Resent == 0 == lost {
					t.Errorf("%+v", n)
				}
				s.mu.Lock()
				if peers := slices.Compact(slices.Clone(s.peers)); len(peers) != 1 {
					t.Errorf("the peer had the names %v", peers)
				}
				s.mu.Unlock()
				if _, address := s.Owner(s.lastPeer()); address.String() != c.LocalAddr().String() {
					t.Errorf("is at %v, not %v", address, c.LocalAddr())
				}
			})
		}
	}
}

// Without a Connection ID a session ends where its address does.
func TestPeerWithoutIDDoesNotMove(t *testing.T) {
	s := startSite(t, "udp4", nil)
	c := s.connect(psk("d1", rightKey, pskCCM8)...)
	c.echo("at home")
	c.socket.move()
	if _, err := c.Write([]byte("moved")); err != nil {
		t.Fatal(err)
	}
	s.eventually("a datagram of nobody", func() bool { return s.counts.discarded.Load() == 1 })
}

// A record that somebody has taken off the wire and sends again, from elsewhere, moves nobody, and neither does one that he has made up.
func TestNobodyElseMovesAPeer(t *testing.T) {
	s := startSite(t, "udp4", nil)
	c := s.connect(append(psk("d1", rightKey, pskCCM8), dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))...)
	c.echo("at home")
	elsewhere := netip.MustParseAddrPort("127.0.0.9:9")
	c.socket.mu.Lock()
	taken := c.socket.last
	c.socket.mu.Unlock()
	before := s.Stats().Discarded
	s.Open(elsewhere, slices.Clone(taken), s.receive)
	newer := slices.Clone(taken)
	putUint48(newer[5:], uint48(newer[5:])+1)
	s.Open(elsewhere, newer, s.receive)
	if n := s.Stats(); n.Discarded != before+2 || n.Moved != 0 {
		t.Errorf("%+v", n)
	}
	c.echo("still at home")
}

// What people see of sessions is what was agreed on.
func TestSessions(t *testing.T) {
	s := startSite(t, "udp4", nil)
	s.connect(psk("d1", rightKey, pskCCM8)...).echo("hello")
	without := s.lastPeer()
	s.connect(append(psk("d2", rightKey, pskGCM), dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))...).echo("hello")
	with := s.lastPeer()
	began := s.began
	s.Tick(began.Add(90 * time.Second))
	s.connect(s.certified(ecdsaCCM, "d3")...).echo("hello")
	third := s.lastPeer()
	for peer, want := range map[netip.AddrPort]SessionState{
		without: {Peer: without, Cipher: "TLS_PSK_WITH_AES_128_CCM_8", PSK: true, Opened: began, Heard: began},
		with:    {Peer: with, Cipher: "TLS_PSK_WITH_AES_128_GCM_SHA256", PSK: true, ConnectionID: true, Opened: began, Heard: began},
		third:   {Peer: third, Cipher: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM", Opened: began.Add(90 * time.Second), Heard: began.Add(90 * time.Second)},
	} {
		if got, ok := s.Session(peer); !ok || got != want || !slices.Contains(s.Sessions(), want) {
			t.Errorf("%v %+v, want %+v", ok, got, want)
		}
	}
	if !s.End(without) || s.End(without) {
		t.Error("there was no session, or it goes on")
	}
	if _, ok := s.Session(without); ok || len(s.Sessions()) != 2 {
		t.Errorf("%+v", s.Sessions())
	}
}

// close_notify ends a session on either side (RFC 5246 §7.2.1), and a new handshake from the same address the old session.
func TestEndings(t *testing.T) {
	s := startSite(t, "udp4", nil)
	c := s.connect(psk("d1", rightKey, pskCCM8)...)
	c.echo("hello")
	c.Close()
	s.eventually("the end of d1", func() bool { return slices.Equal(s.ended, []any{"d1"}) })

	c = s.connect(psk("d2", rightKey, pskCCM8)...)
	c.echo("hello")
	peer := s.lastPeer()
	s.End(peer)
	if _, err := c.Read(make([]byte, 100)); err == nil {
		t.Error("the client knows of nothing")
	}
	s.eventually("the end of d2", func() bool { return slices.Equal(s.ended, []any{"d1", "d2"}) })
	if owner, _ := s.Owner(peer); owner != nil {
		t.Errorf("%v is still there", owner)
	}
	if _, _, ok := s.Seal(nil, peer, []byte("hello")); ok {
		t.Error("something may be sent to who is gone")
	}

	// A device starts anew without saying so, at the same address.
	address, err := net.ResolveUDPAddr("udp", port.Free(t)) // which nobody else takes in between
	if err != nil {
		t.Fatal(err)
	}
	first := s.dialFrom(address, psk("d3", rightKey, pskCCM8)...)
	if err := first.handshake(); err != nil {
		t.Fatal(err)
	}
	first.echo("hello")
	first.socket.vanish()
	first.Close()
	second := s.dialFrom(address, psk("d4", rightKey, pskCCM8)...)
	if err := second.handshake(); err != nil {
		t.Fatal(err)
	}
	second.echo("hello again")
	s.eventually("the end of d3", func() bool { return slices.Equal(s.ended, []any{"d1", "d2", "d3"}) })
	if n := s.Stats(); n.Sessions != 1 {
		t.Errorf("%d sessions", n.Sessions)
	}
}

// A ClientHello with a false sender does nothing to the session of that address (RFC 6347 §4.2.8).
func TestHelloOfSomebodyElse(t *testing.T) {
	s := startSite(t, "udp4", nil)
	c := s.connect(psk("d1", rightKey, pskCCM8)...)
	c.echo("hello")
	for _, cookie := range []string{"", "01234567890123456789"} {
		s.Open(netip.MustParseAddrPort(c.LocalAddr().String()), helloRecord(0, 0, []byte(cookie), 300, 300), s.receive)
	}
	c.echo("still there")
	if n := s.Stats(); n.Sessions != 1 || n.Handshakes != 0 {
		t.Errorf("%+v", n)
	}
}

// helloRecord is a record with the first bytes of a ClientHello of some length.
func helloRecord(recordSequence uint64, messageSequence uint16, cookie []byte, length, first int) []byte {
	body := []byte{0xfe, version12, 34: 0}
	body = append(append(body, byte(len(cookie))), cookie...)
	body = append(body, make([]byte, max(0, length-len(body)))...)
	datagram := appendMessage(nil, version12, recordSequence, messageClientHello, messageSequence, body[:first], nil)
	putUint24(datagram[14:], length)
	return datagram
}

// still is a Server without a socket, that remembers what it sent last.
type still struct {
	*Server
	last []byte
	sent int // bytes
}

func newStill(change func(*Config)) *still {
	s := &still{}
	config := Config{
		Send: func(_ netip.AddrPort, datagram []byte) {
			s.last = slices.Clone(datagram)
			s.sent += len(datagram)
		},
		Receive: func(netip.AddrPort, []byte) {},
		PSK:     func([]byte) ([]byte, bool) { return []byte(rightKey), true },
		Admit:   func(Identity) (any, error) { return nil, nil },
	}
	if change != nil {
		change(&config)
	}
	s.Server = newServer(config, time.Unix(0, 0))
	return s
}

func (s *still) open(from netip.AddrPort, datagram []byte) {
	s.Open(from, datagram, s.config.Receive)
}

// cookie is the one for an address.
func (s *still) cookie(from netip.AddrPort) []byte {
	s.open(from, helloRecord(0, 0, nil, 300, 300))
	cookie, _ := cookieIn(s.last)
	return cookie
}

// sourceNumber is one of very many senders.
func sourceNumber(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), uint16(1024+i%50_000))
}

// However many there are, senders that have not returned a cookie cost no memory, and get fewer bytes than they send.
func TestFloodLeavesNothing(t *testing.T) {
	const senders = 50_000
	s := newStill(nil)
	defer s.Close()
	id := make([]byte, 30)
	id[0], id[1], id[2], id[4], id[20] = typeCID, 0xfe, version12, 1, 9
	for name, datagram := range map[string][]byte{
		"no cookie":      helloRecord(0, 0, nil, 120, 120),
		"wrong cookie":   helloRecord(1, 1, make([]byte, cookieLength), 120, 120),
		"first fragment": helloRecord(0, 0, nil, 1000, 60),
		"later fragment": func() []byte {
			d := helloRecord(0, 0, nil, 1000, 60)
			putUint24(d[19:], 100)
			return d
		}(),
		"too long":         helloRecord(0, 0, nil, maxHello+1, 60),
		"nothing in it":    helloRecord(0, 0, nil, 120, 0),
		"application data": append([]byte{typeApplicationData, 0xfe, version12, 0, 1, 0, 0, 0, 0, 0, 1, 0, 30}, make([]byte, 30)...),
		"Connection ID":    id,
		"alert":            {typeAlert, 0xfe, version12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 0},
		"no record":        []byte("GET / HTTP/1.1"),
		"CoAP":             {0x40, 1, 0, 1},
		"empty":            {},
	} {
		s.open(sourceNumber(senders+1), slices.Clone(datagram)) // what comes once, such as buffers, does not count
		var before, after runtime.MemStats
		goroutines := runtime.NumGoroutine()
		sent := s.sent
		runtime.ReadMemStats(&before)
		for i := range senders {
			s.Open(sourceNumber(i), datagram, s.config.Receive)
		}
		runtime.ReadMemStats(&after)
		if n := s.Stats(); n.Sessions != 0 || n.Handshakes != 0 || len(s.sources) != 0 || runtime.NumGoroutine() > goroutines { // those of other tests may end meanwhile
			t.Errorf("%s: %+v, %d sources", name, n, len(s.sources))
		}
		if s.sent-sent > senders*len(datagram) {
			t.Errorf("%s: %d bytes for %d", name, s.sent-sent, senders*len(datagram))
		}
		if each := float64(after.Mallocs-before.Mallocs) / senders; each > 1.5 { // the test itself keeps a copy of what is sent
			t.Errorf("%s: %.1f allocations for a datagram", name, each)
		}
	}
}

// A cookie is good for its sender's address and hello only, and not for long.
func TestCookies(t *testing.T) {
	home, elsewhere := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.1:1001")
	begun := func(s *still, from netip.AddrPort, cookie []byte) bool {
		s.open(from, helloRecord(1, 1, cookie, 300, 299)) // not whole, so that the handshake waits
		return s.Stats().Handshakes == 1
	}
	for _, test := range []struct {
		name  string
		from  netip.AddrPort
		after time.Duration
		other bool // changes the cookie
		want  bool
	}{
		{"returned at once", home, 0, false, true}, {"after a minute", home, cookieLifetime, false, true}, {"after two", home, 2 * cookieLifetime, false, false},
		{"from another port", elsewhere, 0, false, false}, {"another one", home, 0, true, false},
	} {
		s := newStill(nil)
		cookie := s.cookie(home)
		if test.other {
			cookie[3]++
		}
		for at := cookieLifetime; at <= test.after; at += cookieLifetime {
			s.Tick(time.Unix(0, 0).Add(at))
		}
		if got := begun(s, test.from, cookie); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
		s.Close()
	}
}

// Unfinished handshakes are bounded, for each source and in total, and end.
func TestHandshakesAreBounded(t *testing.T) {
	s := newStill(func(c *Config) { c.MaxHandshakes, c.MaxHandshakesOfSource = 10, 4 })
	defer s.Close()
	begin := func(from string) {
		address := netip.MustParseAddrPort(from)
		s.open(address, helloRecord(1, 1, s.cookie(address), 300, 299))
	}
	for i := range 6 {
		begin(fmt.Sprintf("192.0.2.1:%d", 1000+i))
		begin(fmt.Sprintf("[2001:db8::%d]:1000", i)) // all of one /64
	}
	if n := s.Stats(); n.Handshakes != 8 || n.Refused[RefusedSource] != 4 {
		t.Errorf("of two sources: %+v", n)
	}
	for i := range 4 {
		begin(fmt.Sprintf("192.0.2.%d:1000", 10+i))
	}
	if n := s.Stats(); n.Handshakes != 10 || n.Refused[RefusedFull] != 2 {
		t.Errorf("in all: %+v", n)
	}
	s.Tick(time.Unix(7, 0))
	if n := s.Stats(); n.Handshakes != 10 {
		t.Errorf("after 7 seconds: %+v", n)
	}
	s.Tick(time.Unix(8, 0))
	if n := s.Stats(); n.Handshakes != 0 || n.Refused[RefusedTimeout] != 10 || len(s.sources) != 0 {
		t.Errorf("after 8 seconds: %+v", n)
	}
}

// Fragments of one hello that do not fit each other begin no handshake.
func TestFragmentsThatDoNotFit(t *testing.T) {
	s := newStill(nil)
	defer s.Close()
	from := netip.MustParseAddrPort("192.0.2.1:1000")
	s.open(from, helloRecord(1, 1, s.cookie(from), 300, 200))
	for _, change := range []func(d []byte){
		func(d []byte) { putUint24(d[14:], 400) },                    // another length
		func(d []byte) { d[18] = 9 },                                 // another message
		func(d []byte) { putUint24(d[19:], 299) },                    // beyond the end
		func(d []byte) { binary.BigEndian.PutUint16(d[11:], 65000) }, // beyond the datagram
	} {
		d := helloRecord(2, 1, nil, 300, 100)
		putUint24(d[19:], 200)
		change(d)
		s.open(from, d)
	}
	if n := s.Stats(); n.Handshakes != 1 || s.handshakes[from].missing != 100 {
		t.Errorf("%+v", n)
	}
	// The same hello, begun again, is no second handshake.
	s.open(from, helloRecord(3, 1, s.cookie(from), 300, 250))
	if n := s.Stats(); n.Handshakes != 1 || s.handshakes[from].missing != 50 {
		t.Errorf("%+v", n)
	}
}

// add puts sessions into a Server as handshakes would.
func (s *still) add(n int) {
	for range n {
		client, established := pair(pskCCM8, true)
		established.ciphers, client.ciphers = nil, nil
		established.owner = client // something that is the session's own
		h := &handshake{server: s.Server, from: sourceNumber(len(s.all)), number: s.newNumber()}
		established.number, established.address = h.number, h.from
		s.mu.Lock()
		s.handshakes[h.from] = h
		s.sources[sourceOf(h.from)]++
		s.mu.Unlock()
		s.finish(h, established, nil)
	}
}

// Silent sessions end, the longest silent ones first where there is no room.
func TestSilentSessionsEnd(t *testing.T) {
	s := newStill(func(c *Config) { c.MaxSessions, c.IdleTimeout = 1000, time.Hour })
	defer s.Close()
	s.add(1000)
	for i, session := range s.all {
		session.lastUsed.Store(uint32(i))
	}
	first := s.all[0].number
	s.Tick(time.Unix(2000, 0))
	s.add(500)
	n := s.Stats()
	if n.Sessions != 1000 || n.Evicted != 500 {
		t.Fatalf("%+v", n)
	}
	if s.byNumber[first] != nil {
		t.Error("the first is still there")
	}
	old := 0
	for _, session := range s.all {
		if used := session.lastUsed.Load(); used < 250 {
			old++
		}
	}
	if old > 12 { // of 250; the least recently used are found by samples
		t.Errorf("%d of the oldest 250 are still there", old)
	}
	now := time.Unix(2000+3600, 0)
	for range 10 * sweepTicks {
		s.Tick(now)
	}
	if n := s.Stats(); n.Sessions != 0 || n.Expired != 1000 {
		t.Errorf("after an hour of silence: %+v", n)
	}
	if len(s.byNumber)+len(s.byAddress) != 0 {
		t.Errorf("%d and %d entries are left", len(s.byNumber), len(s.byAddress))
	}
}

// An idle session keeps its raw keys only, and goes on when a record comes.
func TestIdleSessionsAreSmall(t *testing.T) {
	s := newStill(nil)
	defer s.Close()
	s.add(1)
	established := s.all[0]
	client := established.owner.(*session)
	say := func() {
		client.remoteID = binary.BigEndian.AppendUint64(nil, established.number)
		before := s.Stats().Discarded
		s.open(established.address, seal(t, client, "hello"))
		if s.Stats().Discarded != before {
			t.Error("the message was discarded")
		}
	}
	say()
	if established.ciphers == nil {
		t.Fatal("the keys are not kept expanded")
	}
	for range sweepTicks {
		s.Tick(time.Unix(coolAfter, 0))
	}
	if established.ciphers != nil {
		t.Error("the keys are still expanded")
	}
	say()
}

// The memory of idle sessions. FIELDGATE_DTLS_SESSIONS sets how many.
func TestMemory(t *testing.T) {
	sessions := 10_000
	if set := os.Getenv("FIELDGATE_DTLS_SESSIONS"); set != "" {
		sessions, _ = strconv.Atoi(set)
	}
	s := newStill(func(c *Config) { c.MaxSessions = sessions })
	defer s.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s.add(sessions)
	for _, session := range s.all {
		session.owner = nil
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / uint64(sessions)
	t.Logf("%d sessions: %d bytes each", s.Stats().Sessions, each)
	if each > 600 {
		t.Errorf("an idle session takes %d bytes", each)
	}
}

// BenchmarkEcho is what a message and its answer cost besides the network, both sealed and opened once on either side.
func BenchmarkEcho(b *testing.B) {
	s := newStill(nil)
	defer s.Close()
	s.add(1)
	established := s.all[0]
	client := established.owner.(*session)
	client.remoteID = binary.BigEndian.AppendUint64(nil, established.number)
	answer := make([]byte, 0, 300)
	echo := func(peer netip.AddrPort, message []byte) { _, answer, _ = s.Seal(answer[:0], peer, message) }
	message, buffer := make([]byte, 64), make([]byte, 0, 300)
	b.ReportAllocs()
	for b.Loop() {
		datagram, _ := client.seal(buffer, typeApplicationData, message)
		s.Open(established.address, datagram, echo)
		r, _, _ := nextRecord(answer)
		if _, _, _, ok := client.open(&r); !ok {
			b.Fatal("the answer is not opened")
		}
	}
}
