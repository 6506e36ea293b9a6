package test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"fieldgate/protocol/coap"
)

// coapClient is a peer of the node with a socket of its own.
func coapClient(t testing.TB) *coap.UDP {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	client, err := coap.NewUDP(conn, coap.Config{}, 1, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		client.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return client
}

func coapCall(code coap.Code, path string, body []byte) *coap.Call {
	call := &coap.Call{Code: code, Body: body}
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		call.Options.AddString(coap.URIPath, segment)
	}
	if body != nil {
		call.Options.AddUint(coap.ContentFormat, coap.OctetStream)
	}
	return call
}

// overCoAP does a neighbour's work until stop: an upload in blocks, and reading it back. None of it may fail.
func (c *coapRig) overCoAP(t *testing.T, token string) (stop func()) {
	client, server := coapClient(t), netip.MustParseAddrPort(c.n.coap)
	stopping, ended := make(chan struct{}), make(chan struct{})
	calls, failed := 0, ""
	go func() {
		defer close(ended)
		for ; failed == ""; calls++ {
			select {
			case <-stopping:
				return
			case <-time.After(10 * time.Millisecond):
			}
			body := fmt.Appendf(bytesOf(3000), "%d", calls)
			for _, code := range []coap.Code{coap.PUT, coap.GET} {
				call := coapCall(code, "/known/neighbour", map[coap.Code][]byte{coap.PUT: body}[code])
				call.Options.AddString(65002, token)
				reply, err := client.Do(t.Context(), server, call)
				switch {
				case failed != "": // before
				case err != nil:
					failed = code.String() + " " + err.Error()
				case !reply.Code.IsSuccess() || code == coap.GET && !bytes.Equal(reply.Body, body):
					failed = fmt.Sprintf("%s %s, %d bytes that end with %q", code, reply.Code, len(reply.Body), reply.Body[max(0, len(reply.Body)-5):])
				}
			}
		}
	}()
	return func() {
		t.Helper()
		close(stopping)
		<-ended
		if failed != "" || calls == 0 {
			t.Errorf("after %d rounds a well-behaved device failed: %s", calls, failed)
		}
	}
}

// rss is the memory of the node's process in bytes.
func (n *node) rss() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		n.t.Fatal(err)
	}
	return kilobytes << 10
}

// hostileRig is a node with the contracts of storeContract and any.openapi.yaml.
func hostileRig(t *testing.T) *coapRig {
	c := &coapRig{store: &store{bodies: map[string][]byte{"big8": bytesOf(8 << 10), "small": []byte("hello"), "slow-a": []byte("late")}}}
	service := httptest.NewServer(c.store)
	t.Cleanup(service.Close)
	c.n = newNode(t, map[string]string{"store": service.URL})
	c.n.start()
	c.n.run("api", "publish", "testdata/any.openapi.yaml", writeDocument(t, "store.yaml", storeContract))
	c.token = c.n.run("device", "add", "d1", "--quiet")
	client := coapClient(t)
	wait(t, "the contract to be served", func() bool {
		call := coapCall(coap.GET, "/known/small", nil)
		call.Options.AddString(65002, c.token)
		reply, err := client.Do(t.Context(), netip.MustParseAddrPort(c.n.coap), call)
		return err == nil && reply.Code == coap.Content
	})
	return c
}

// datagram is a message as bytes.
func datagram(kind coap.Type, code coap.Code, id uint16, path string, add ...func(*coap.Options)) []byte {
	call := coapCall(code, path, nil)
	for _, f := range add {
		f(&call.Options)
	}
	return coap.AppendMessage(nil, kind, code, id, []byte{byte(id >> 8), byte(id), 7}, &call.Options, nil)
}

// A flood from 50,000 addresses costs the node a bounded amount of memory, and costs none of the addresses more than three times the
// bytes that it seems to have sent; a device among them works on.
func TestCoAPFlood(t *testing.T) {
	t.Parallel()
	c := hostileRig(t)
	good := c.n.neighbour()
	stop := c.overCoAP(t, c.token)
	const sources, rounds = 50_000, 4
	conn, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.(*net.UDPConn).SetReadBuffer(8 << 20)
	link := ipv4.NewPacketConn(conn)
	if err := link.SetControlMessage(ipv4.FlagDst, true); err != nil {
		t.Fatal(err)
	}
	// Sources are addresses of one socket: the control message says from which a datagram goes, and to which one has come.
	number := func(ip net.IP) int { ip = ip.To4(); return int(ip[1])<<16 | int(ip[2])<<8 | int(ip[3]) }
	address := func(i int) net.IP { i += 1 << 16; return net.IPv4(127, byte(i>>16), byte(i>>8), byte(i)) }
	var mu sync.Mutex
	sent, got := make(map[int]int), make(map[int]int)
	received := make(chan struct{})
	go func() {
		defer close(received)
		buffer := make([]byte, 4096)
		for {
			n, control, _, err := link.ReadFrom(buffer)
			if err != nil {
				return
			}
			if control != nil {
				mu.Lock()
				got[number(control.Dst)] += n
				mu.Unlock()
			}
		}
	}()
	observe := func(o *coap.Options) { o.AddUint(coap.Observe, 0) }
	kinds := [][]byte{
		datagram(coap.Confirmable, coap.GET, 1, "/open/big8"),
		datagram(coap.NonConfirmable, coap.GET, 2, "/open/big8"),
		datagram(coap.Confirmable, coap.GET, 3, "/.well-known/core"),
		datagram(coap.Confirmable, coap.GET, 4, "/news/flood", observe),
		datagram(coap.Confirmable, coap.GET, 5, "/x"),
		datagram(coap.Confirmable, coap.POST, 6, "/any"),
		{0x40, 0, 0, 1},             // a ping
		{0x40, 1, 0, 2},             // GET / without anything
		{0x40, 0xff, 0, 3, 1, 2, 3}, // no CoAP
	}
	before := c.n.rss()
	server := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(c.n.coap))
	for round := range rounds {
		for i := range sources {
			message := kinds[(i+round)%len(kinds)]
			if round == rounds-1 {
				message = kinds[i%len(kinds)] // the first one again, as far as it is remembered
			}
			ip := address(i)
			mu.Lock()
			sent[number(ip)] += len(message)
			mu.Unlock()
			if _, err := link.WriteTo(message, &ipv4.ControlMessage{Src: ip}, server); err != nil {
				t.Fatal(err)
			}
		}
		if round == 0 {
			for i := range 5 { // observers are notified
				c.tell(t, "flood", fmt.Sprintf(`{"text":"%0200d"}`, i))
			}
		}
	}
	wait(t, "the flood to be over", func() bool {
		mu.Lock()
		n := len(got)
		mu.Unlock()
		time.Sleep(500 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		return len(got) == n
	})
	grown := c.n.rss() - before
	conn.Close()
	<-received
	bytesSent, bytesGot := 0, 0
	for i, n := range got {
		bytesGot += n
		if n > 3*sent[i] {
			t.Errorf("127.%d.%d.%d was sent %d bytes for %d", i>>16, i>>8&255, i&255, n, sent[i])
		}
	}
	for _, n := range sent {
		bytesSent += n
	}
	t.Logf("%d bytes came from %d addresses, %d went to %d of them; the process has grown by %d KiB", bytesSent, len(sent), bytesGot, len(got), grown>>10)
	if len(got) < sources/10 {
		t.Errorf("only %d addresses were answered at all", len(got))
	}
	stop()
	good.stop()
	// docs/coap.md: of strangers 16 MiB of bodies, 16 MiB of remembered replies and 50,000 addresses are kept. What else it took the node gives
	// back when it rests.
	if grown > 256<<20 {
		t.Errorf("the process has grown by %d bytes", grown)
	}
	for end := time.Now().Add(time.Minute); c.n.rss()-before > 96<<20; time.Sleep(time.Second) {
		if time.Now().After(end) {
			t.Fatalf("the process has grown by %d bytes, and keeps them", c.n.rss()-before)
		}
	}
}

// Bytes that break CoAP, or that somebody else has sent in another's name, change no exchange but the sender's own.
func TestBadCoAP(t *testing.T) {
	t.Parallel()
	c := hostileRig(t)
	good := c.n.neighbour()
	stop := c.overCoAP(t, c.token)
	server := netip.MustParseAddrPort(c.n.coap)

	// A victim observes, and has half a body sent.
	victim, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	token := []byte("8 secret")
	exchange := func(message []byte) (answer coap.Message) {
		t.Helper()
		buffer := make([]byte, 2048)
		for range 5 { // what is bad may have filled the socket
			if _, err := victim.Write(message); err != nil {
				t.Fatal(err)
			}
			victim.SetReadDeadline(time.Now().Add(5 * time.Second))
			for {
				n, err := victim.Read(buffer)
				if err != nil {
					break
				}
				answer, err = coap.Decode(bytes.Clone(buffer[:n]))
				if err == nil && answer.Code != coap.Empty && bytes.Equal(answer.Token, token) { // others are answers to what was sent in its name
					return answer
				}
			}
		}
		t.Fatal("the victim is not answered")
		return answer
	}
	signed := func(o *coap.Options) { o.AddString(65002, c.token) }
	register := coapCall(coap.GET, "/news/victim", nil)
	register.Options.AddUint(coap.Observe, 0)
	signed(&register.Options)
	if answer := exchange(coap.AppendMessage(nil, coap.Confirmable, coap.GET, 100, token, &register.Options, nil)); answer.Code != coap.Content {
		t.Fatalf("register: %v", answer.Code)
	}
	body := bytesOf(1000)
	upload := func(number int) coap.Message {
		t.Helper()
		put := coapCall(coap.PUT, "/known/victim", nil)
		put.Options.AddUint(coap.ContentFormat, coap.OctetStream)
		end := min(number*512+512, len(body))
		put.Options.AddUint(coap.Block1, coap.Block{Num: uint32(number), More: end < len(body), SZX: 5}.Uint())
		signed(&put.Options)
		return exchange(coap.AppendMessage(nil, coap.Confirmable, coap.PUT, uint16(101+number), token, &put.Options, body[number*512:end]))
	}
	if answer := upload(0); answer.Code != coap.Continue {
		t.Fatalf("the first block: %v", answer.Code)
	}

	// Others, and somebody in the victim's name, send what they can think of.
	block1 := func(b coap.Block, size uint32) func(*coap.Options) {
		return func(o *coap.Options) {
			o.AddUint(coap.Block1, b.Uint())
			if size > 0 {
				o.AddUint(coap.Size1, size)
			}
		}
	}
	many := func(number coap.OptionNumber, count, length int) func(*coap.Options) {
		return func(o *coap.Options) {
			for range count {
				o.Add(number, make([]byte, length))
			}
		}
	}
	bad := map[string][]byte{
		"nothing":                          {},
		"one byte":                         {0x40},
		"another version":                  {0x80, 1, 0, 1, 0xff},
		"a token of 15 bytes":              {0x4f, 1, 0, 1},
		"a token that is cut":              {0x48, 1, 0, 1, 1},
		"an option that is cut":            {0x40, 1, 0, 1, 0xbd},
		"a reserved nibble":                {0x40, 1, 0, 1, 0xf0},
		"a length of 65,804":               {0x40, 1, 0, 1, 0xbe, 0xff, 0xff},
		"an option number beyond 65,535":   {0x40, 1, 0, 1, 0xe0, 0xff, 0xff, 0xe0, 0xff, 0xff},
		"a marker without a payload":       {0x40, 1, 0, 1, 0xff},
		"a reserved class":                 {0x40, 0x21, 0, 1},
		"an empty message with a token":    {0x41, 0, 0, 1, 9},
		"a request in an acknowledgement":  {0x60, 1, 0, 1},
		"a response that nobody waits for": {0x48, 0x45, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8},
		"a Reset of another message":       {0x70, 0, 0xab, 0xcd},
		"a thousand empty options":         datagram(coap.Confirmable, coap.GET, 200, "/a", many(coap.URIQuery, 1000, 0)),
		"8 KiB of options":                 datagram(coap.Confirmable, coap.GET, 201, "/a", many(65000, 31, 255)),
		"32 paths too many":                datagram(coap.Confirmable, coap.GET, 202, "/a", many(coap.URIPath, 64, 1)),
		"a path of dots":                   datagram(coap.Confirmable, coap.GET, 203, "/open/../known"),
		"a body of 4 GiB":                  datagram(coap.Confirmable, coap.PUT, 204, "/open/huge", block1(coap.Block{More: true, SZX: 6}, 1<<32-1)),
		"block 1,048,575":                  datagram(coap.Confirmable, coap.PUT, 205, "/open/huge", block1(coap.Block{Num: 1<<20 - 1, More: true, SZX: 6}, 0)),
		"the reserved block size":          datagram(coap.Confirmable, coap.PUT, 206, "/open/huge", block1(coap.Block{SZX: 7}, 0)),
		"a block that is too short":        datagram(coap.Confirmable, coap.PUT, 207, "/open/huge", block1(coap.Block{More: true, SZX: 6}, 0)),
		"block 7 of a body of others":      datagram(coap.Confirmable, coap.PUT, 208, "/known/victim", block1(coap.Block{Num: 1, SZX: 5}, 0)),
		"deregistration with a wrong token": datagram(coap.Confirmable, coap.GET, 209, "/news/victim", func(o *coap.Options) {
			o.AddUint(coap.Observe, 1)
		}),
	}
	attacker, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		t.Fatal(err)
	}
	defer attacker.Close()
	spoof := newSpoofer(t, victim.LocalAddr().(*net.UDPAddr).AddrPort(), server)
	for range 20 {
		for _, message := range bad {
			attacker.Write(message)
			spoof(message)
		}
	}
	for id := range 3000 { // guesses of what the victim may have to acknowledge
		spoof([]byte{0x60, 0, byte(id >> 8), byte(id)})
	}

	if answer := upload(1); answer.Code != coap.Changed || !bytes.Equal(c.store.get("victim"), body) {
		t.Errorf("the victim's upload: %v, %d bytes", answer.Code, len(c.store.get("victim")))
	}
	heard := make(chan string, 1000)
	go func() {
		buffer := make([]byte, 2048)
		victim.SetReadDeadline(time.Now().Add(patience))
		for {
			n, err := victim.Read(buffer)
			if err != nil {
				close(heard)
				return
			}
			m, err := coap.Decode(bytes.Clone(buffer[:n]))
			if err != nil {
				continue
			}
			if m.Type == coap.Confirmable {
				victim.Write([]byte{0x60, 0, byte(m.MessageID >> 8), byte(m.MessageID)})
			}
			if bytes.Equal(m.Token, token) {
				heard <- string(m.Payload)
			}
		}
	}()
	c.tell(t, "victim", `{"still":"there"}`)
	for text := range heard {
		if text == `{"still":"there"}` {
			break
		}
	}

	// Bodies that never end are bounded: each peer has four, and all together take no more than their budget.
	before := c.n.rss()
	flood := coapBlocks(t, server, 150, 1023)
	t.Logf("150 uploads of almost 1 MiB: %v; the process has grown by %d KiB", flood, (c.n.rss()-before)>>10)
	if grown := c.n.rss() - before; grown > 160<<20 { // a budget of 64 MiB, and what the collector leaves
		t.Errorf("the process has grown by %d bytes", grown)
	}
	stop()
	good.stop()
}

// newSpoofer sends datagrams in the name of an address that another socket has.
func newSpoofer(t *testing.T, from, to netip.AddrPort) func(payload []byte) {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW)
	if err != nil {
		t.Fatalf("this test sends raw datagrams, for which it needs root: %v", err)
	}
	t.Cleanup(func() { syscall.Close(socket) })
	return func(payload []byte) {
		packet := make([]byte, 28, 28+len(payload))
		packet[0], packet[8], packet[9] = 0x45, 64, syscall.IPPROTO_UDP
		source, destination := from.Addr().As4(), to.Addr().As4()
		copy(packet[12:], source[:])
		copy(packet[16:], destination[:])
		for i, field := range []int{int(from.Port()), int(to.Port()), 8 + len(payload)} { // of UDP, whose checksum is left out
			packet[20+2*i], packet[21+2*i] = byte(field>>8), byte(field)
		}
		if err := syscall.Sendto(socket, append(packet, payload...), 0, &syscall.SockaddrInet4{Addr: destination}); err != nil {
			t.Fatal(err)
		}
	}
}

// coapBlocks begins uploads from peers of their own, and ends none of them; it says how often each code came.
func coapBlocks(t *testing.T, server netip.AddrPort, peers, blocks int) map[string]int {
	var mu sync.Mutex
	codes := make(map[string]int)
	var group sync.WaitGroup
	turn := make(chan struct{}, 8)
	payload := bytesOf(1024)
	for range peers {
		turn <- struct{}{}
		group.Go(func() {
			defer func() { <-turn }()
			conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
			if err != nil {
				return
			}
			defer conn.Close()
			buffer := make([]byte, 2048)
			for number := range blocks {
				put := coapCall(coap.PUT, "/open/endless", nil)
				put.Options.AddUint(coap.ContentFormat, coap.OctetStream)
				put.Options.AddUint(coap.Block1, coap.Block{Num: uint32(number), More: true, SZX: 6}.Uint())
				conn.Write(coap.AppendMessage(nil, coap.Confirmable, coap.PUT, uint16(number), []byte{1}, &put.Options, payload))
				conn.SetReadDeadline(time.Now().Add(2 * time.Second))
				n, err := conn.Read(buffer)
				if err != nil {
					return // an attacker does not mind
				}
				m, err := coap.Decode(buffer[:n])
				if err != nil {
					continue
				}
				mu.Lock()
				codes[m.Code.String()]++
				mu.Unlock()
				if m.Code != coap.Continue {
					return
				}
			}
		})
	}
	group.Wait()
	return codes
}
