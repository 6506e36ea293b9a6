package coap

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// wire is an Endpoint on connections, whose other ends the test plays by hand.
type wire struct {
	*bench
	hung      []netip.AddrPort
	congested bool
	full      map[netip.AddrPort]bool
}

func (w *wire) Hangup(peer netip.AddrPort)          { w.hung = append(w.hung, peer) }
func (w *wire) Congested(netip.AddrPort) bool       { return w.congested }
func (w *wire) Full(peer netip.AddrPort, full bool) { w.full[peer] = full }

// newWire has a connection to alice, who has greeted unless csm is nil.
func newWire(t *testing.T, csm func(*Options), change func(*Config)) *wire {
	w := &wire{full: make(map[netip.AddrPort]bool)}
	w.bench = newBench(t, func(c *Config) {
		c.Connections = w
		if change != nil {
			change(c)
		}
	})
	w.endpoint.Open(alice)
	w.want("RFC 8323 §5.3: a CSM comes first", "NON 7.01")
	if csm != nil {
		w.feed(alice, signalOf(CSM, "", csm))
	}
	return w
}

func noOptions(*Options) {}

// takes is the CSM of a peer that takes messages of so many bytes, and blocks.
func takes(bytes uint32) func(*Options) {
	return func(o *Options) {
		o.AddUint(maxMessageSize, bytes)
		o.Add(blockwise, nil)
	}
}

func signalOf(code Code, token string, add ...func(*Options)) []byte {
	var options Options
	for _, f := range add {
		f(&options)
	}
	return AppendMessage(nil, NonConfirmable, code, 0, []byte(token), &options, nil)
}

// over checks that the connection was ended, once.
func (w *wire) over(why string) {
	w.Helper()
	if len(w.hung) != 1 || w.hung[0] != alice {
		w.Fatalf("%s: connections to end are %v", why, w.hung)
	}
}

func TestGreeting(t *testing.T) {
	w := newWire(t, nil, nil)
	if w.endpoint.Greeted(alice) {
		t.Error("greeted before anything came")
	}
	w.feed(alice, []byte{0x50, 0, 0, 0})
	w.want("RFC 8323 §3.4: an Empty message is ignored")
	w.feed(alice, signalOf(CSM, "", takes(2000), func(o *Options) { o.AddUint(1000, 7) }))
	w.want("RFC 8323 §5.2: an unknown elective option is ignored")
	if !w.endpoint.Greeted(alice) || len(w.hung) > 0 {
		t.Error("RFC 8323 §5.3: the CSM was not accepted")
	}
}

func TestSignalsThatEndTheConnection(t *testing.T) {
	for _, test := range []struct {
		clause  string
		greeted bool
		message []byte
		bad     uint32 // Bad-CSM-Option
	}{
		{"RFC 8323 §3.3: a request before the CSM", false, request(NonConfirmable, GET, 0, "/a"), 0},
		{"RFC 8323 §3.3: a Ping before the CSM", false, signalOf(Ping, ""), 0},
		{"RFC 8323 §3.3: a response before the CSM", false, signalOf(Content, "x"), 0},
		{"RFC 8323 §5.2, §5.6: a critical option of a CSM that is not known", false, signalOf(CSM, "", withUint(1001, 1)), 1001},
		{"RFC 8323 §5.6: a later CSM whose value cannot be kept to", true, signalOf(CSM, "", withUint(maxMessageSize, 10)), 2},
		{"RFC 8323 §5.6: a value that is no number", true, signalOf(CSM, "", withBytes(maxMessageSize, make([]byte, 5))), 2},
		{"RFC 8323 §5.2: a critical option of a Ping", true, signalOf(Ping, "", withUint(3, 1)), 0},
		{"RFC 8323 §5.2: of a Release", true, signalOf(Release, "", withUint(5, 1)), 0},
		{"RFC 8323 §5.2: of a signal to come", true, signalOf(7<<5|30, "", withUint(5, 1)), 0},
		{"RFC 8323 §5.6: a message with a format error", true, []byte{0x50, 1, 0, 0, 0xff}, 0},
		{"RFC 8323 §5.6: an option that runs past the end", true, []byte{0x50, 1, 0, 0, 0xb9, 'a'}, 0},
		{"RFC 7252 §3: a code of a reserved class", true, signalOf(6<<5, ""), 0},
	} {
		t.Run(test.clause, func(t *testing.T) {
			csm := noOptions
			if !test.greeted {
				csm = nil
			}
			w := newWire(t, csm, nil)
			w.feed(alice, test.message)
			out := w.want("an Abort is sent", "NON 7.05")
			bad, _ := out[0].Uint(badCSMOption)
			if bad != test.bad || len(out[0].Payload) == 0 {
				t.Errorf("Bad-CSM-Option %d and %q, want %d and a sentence", bad, out[0].Payload, test.bad)
			}
			w.over(test.clause)
			w.feed(alice, request(NonConfirmable, GET, 0, "/a"))
			w.want("RFC 8323 §5.6: what comes afterwards does not count")
			if w.endpoint.Next() != nil {
				t.Error("a request reached the application")
			}
			if w.endpoint.Stats().Malformed != 1 {
				t.Errorf("%+v", w.endpoint.Stats())
			}
		})
	}
}

func TestSignalsThatDoNot(t *testing.T) {
	for _, test := range []struct {
		clause  string
		message []byte
		want    []string
	}{
		{"RFC 8323 §5.4: a Ping", signalOf(Ping, "x"), []string{"NON 7.03"}},
		{"RFC 8323 §5.4: with an elective option that is not known", signalOf(Ping, "x", withUint(4, 1)), []string{"NON 7.03"}},
		{"RFC 8323 §5.4: a Pong", signalOf(Pong, "x"), nil},
		{"RFC 8323 §3.4: an Empty message", []byte{0x50, 0, 0, 0}, nil},
		{"RFC 8323 §5.1: a signal to come", signalOf(7<<5|30, "x"), nil},
		{"RFC 8323 §5.3: another CSM", signalOf(CSM, ""), nil},
		{"RFC 8323 §7.2: a notification to nobody", signalOf(Content, "x", withUint(Observe, 1)), nil},
	} {
		w := newWire(t, noOptions, nil)
		w.feed(alice, test.message)
		out := w.want(test.clause, test.want...)
		if len(out) > 0 && string(out[0].Token) != "x" || len(w.hung) > 0 {
			t.Errorf("%s: token %q, %d connections to end", test.clause, out[0].Token, len(w.hung))
		}
	}
}

func TestRequestsOverAConnection(t *testing.T) {
	w := newWire(t, noOptions, nil)
	ask := request(NonConfirmable, GET, 0, "/a")
	w.feed(alice, ask)
	w.feed(alice, ask)
	first, second := w.next("a request"), w.next("RFC 8323 §2: nothing is a repetition")
	w.pass(time.Second)
	w.want("RFC 8323 §2: nothing is acknowledged")
	w.respond(second, Content, "2")
	w.respond(first, Content, "1")
	out := w.want("RFC 8323 §3.3: answers come in any order", "NON 2.05", "NON 2.05")
	if string(out[0].Payload) != "2" || string(out[1].Payload) != "1" {
		t.Errorf("%q, %q", out[0].Payload, out[1].Payload)
	}
	w.pass(300 * time.Second)
	w.want("RFC 8323 §2: nothing is sent again")
	w.feed(alice, request(NonConfirmable, GET, 0, "/a", withUint(65001, 1)))
	w.want("RFC 7252 §5.4.1: an unknown critical option has its answer", "NON 4.02")
	w.feed(bob, ask)
	w.want("a peer that is not connected")
	if w.endpoint.Next() != nil || w.endpoint.Stats().Peers != 1 {
		t.Error("it was let in")
	}
}

func TestCustody(t *testing.T) {
	withCustody := func(o *Options) { o.Add(custody, nil) }
	w := newWire(t, noOptions, nil)
	w.feed(alice, signalOf(Ping, "1", withCustody))
	out := w.want("RFC 8323 §5.4.1: with nothing in hand", "NON 7.03")
	if _, ok := out[0].Option(custody); !ok {
		t.Error("RFC 8323 §5.4.1: the Pong has no Custody option")
	}
	w.feed(alice, request(NonConfirmable, GET, 0, "/a"))
	w.feed(alice, request(NonConfirmable, GET, 0, "/b"))
	w.feed(alice, signalOf(Ping, "2", withCustody))
	w.feed(alice, request(NonConfirmable, GET, 0, "/c"))
	a, b, c := w.next("a"), w.next("b"), w.next("c")
	w.want("RFC 8323 §5.4.1: the Pong waits")
	w.respond(c, Content, "")
	w.respond(b, Content, "")
	w.want("RFC 8323 §5.4.1: for what came before the Ping", "NON 2.05", "NON 2.05")
	w.respond(a, Content, "")
	out = w.want("RFC 8323 §5.4.1: and then comes", "NON 2.05", "NON 7.03")
	if string(out[1].Token) != "2" {
		t.Errorf("token %q", out[1].Token)
	}
	w.feed(alice, request(NonConfirmable, GET, 0, "/d"))
	d := w.next("d")
	for range maxCustody {
		w.feed(alice, signalOf(Ping, "3", withCustody))
	}
	w.want("they wait")
	w.feed(alice, signalOf(Ping, "4", withCustody))
	out = w.want("one more does not", "NON 7.03")
	if _, ok := out[0].Option(custody); ok {
		t.Error("RFC 8323 §5.4.1: it says what is not so")
	}
	w.respond(d, Content, "")
	w.want("all the others", append([]string{"NON 2.05"}, slicesOf("NON 7.03", maxCustody)...)...)
}

func slicesOf(text string, n int) []string {
	return strings.Split(strings.TrimSuffix(strings.Repeat(text+",", n), ","), ",")
}

func TestRelease(t *testing.T) {
	w := newWire(t, noOptions, nil)
	w.feed(alice, request(NonConfirmable, GET, 0, "/a"))
	r := w.next("a request")
	w.feed(alice, signalOf(Release, "", withBytes(2, []byte("other.example")), withUint(4, 60)))
	if len(w.hung) > 0 {
		t.Fatal("RFC 8323 §5.5: a request has not been answered")
	}
	w.respond(r, Content, "")
	w.want("RFC 8323 §5.5: it is answered", "NON 2.05")
	w.over("RFC 8323 §5.5: then the connection ends")

	w = newWire(t, noOptions, nil)
	w.feed(alice, signalOf(Release, ""))
	w.over("RFC 8323 §5.5: with nothing in hand it ends at once")
	var failed error
	w.endpoint.Do(alice, &Call{Code: GET, Deliver: func(r *Reply) { failed = r.Err }}, w.now)
	if failed != ErrClosed {
		t.Errorf("RFC 8323 §5.5: a call to a peer that is leaving: %v", failed)
	}

	w = newWire(t, noOptions, nil)
	var reply *Reply
	w.endpoint.Do(alice, &Call{Code: GET, Deliver: func(r *Reply) { reply = r }}, w.now)
	asked := w.want("a call of ours", "NON GET")[0]
	w.feed(alice, signalOf(Release, ""))
	if len(w.hung) > 0 {
		t.Fatal("RFC 8323 §5.5: a call of ours waits for its response")
	}
	w.feed(alice, signalOf(Content, string(asked.Token)))
	if reply == nil || reply.Err != nil {
		t.Fatalf("%+v", reply)
	}
	w.over("RFC 8323 §5.5: then it ends")
}

func TestAbort(t *testing.T) {
	w := newWire(t, noOptions, nil)
	w.feed(alice, request(NonConfirmable, GET, 0, "/a"))
	r := w.next("a request")
	w.feed(alice, signalOf(Abort, "", withUint(badCSMOption, 2)))
	w.over("RFC 8323 §5.6")
	ended := false
	w.endpoint.Respond(r, &Response{Observation: &Observation{Ended: func() { ended = true }}}, w.now)
	w.want("RFC 8323 §5.6: nobody waits for the answer")
	for _, o := range w.endpoint.TakeEnded() {
		o.Ended()
	}
	if !ended || w.endpoint.Stats().Observations != 0 {
		t.Error("an observation began that nobody hears")
	}
}

func TestConnectionEnds(t *testing.T) {
	w := newWire(t, takes(65000), nil)
	ended := 0
	var notified *Observation
	w.feed(alice, request(NonConfirmable, GET, 0, "/o", withUint(Observe, 0)))
	notified = &Observation{Ended: func() { ended++ }}
	w.endpoint.Respond(w.next("registers"), &Response{Observation: notified}, w.now)
	w.feed(alice, withPayload(request(NonConfirmable, PUT, 0, "/body", withUint(Block1, Block{More: true, SZX: 6}.Uint())), pattern(1024)))
	w.feed(alice, request(NonConfirmable, GET, 0, "/running"))
	running := w.next("runs")
	w.feed(alice, request(NonConfirmable, GET, 0, "/queued"))
	var failed []error
	for range 2 {
		w.endpoint.Do(alice, &Call{Code: GET, ObserveResource: true, Deliver: func(r *Reply) { failed = append(failed, r.Err) }}, w.now)
	}
	w.take()
	if s := w.endpoint.Stats(); s.Observations != 1 || s.TransferBytes == 0 {
		t.Fatalf("%+v", s)
	}
	w.endpoint.Close(alice, w.now)
	for _, o := range w.endpoint.TakeEnded() {
		o.Ended()
	}
	if ended != 1 || len(failed) != 2 || failed[0] != ErrClosed {
		t.Errorf("RFC 8323 §7.4: %d observations ended; calls failed with %v", ended, failed)
	}
	w.respond(running, Content, "")
	w.endpoint.Notify(notified, &Response{}, w.now)
	w.want("nothing goes to a connection that has ended")
	if w.endpoint.Next() != nil {
		t.Error("a request came of a connection that has ended")
	}
	if s := w.endpoint.Stats(); s.Peers != 0 || s.Observations != 0 || s.TransferBytes != 0 || w.endpoint.requests != 0 {
		t.Errorf("left behind: %+v, %d requests", s, w.endpoint.requests)
	}
	if at, ok := w.endpoint.Deadline(); ok {
		t.Errorf("something is due at %v", at)
	}
}

func TestObserveOverAConnection(t *testing.T) {
	w := newWire(t, noOptions, nil)
	w.feed(alice, request(NonConfirmable, GET, 5, "/o", withUint(Observe, 0)))
	o := &Observation{}
	w.endpoint.Respond(w.next("registers"), &Response{Observation: o}, w.now)
	w.want("registered", "NON 2.05")
	for range 50 {
		w.endpoint.Notify(o, &Response{Body: []byte("x")}, w.now)
	}
	w.want("RFC 8323 §7.2: no notification is confirmed", slicesOf("NON 2.05", 50)...)

	w.congested = true
	for _, news := range []string{"old", "older", "newest"} {
		w.endpoint.Notify(o, &Response{Body: []byte(news)}, w.now)
	}
	w.want("RFC 7641 §4.5.2: while the peer takes nothing, they wait")
	w.endpoint.Relieved(alice, w.now)
	w.want("as long as that is so")
	w.congested = false
	w.endpoint.Relieved(alice, w.now)
	if out := w.want("RFC 7641 §4.5.2: then the newest goes", "NON 2.05"); string(out[0].Payload) != "newest" {
		t.Errorf("%q", out[0].Payload)
	}
	w.endpoint.Relieved(alice, w.now)
	w.want("once")

	w.feed(alice, request(NonConfirmable, GET, 5, "/o", withUint(Observe, 1)))
	w.respond(w.next("RFC 8323 §7.4: deregisters"), Content, "")
	w.take()
	w.endpoint.Notify(o, &Response{}, w.now)
	w.want("RFC 8323 §7.4: nothing more comes")

	w.feed(alice, request(NonConfirmable, GET, 6, "/o", withUint(Observe, 0)))
	o = &Observation{}
	w.endpoint.Respond(w.next("registers"), &Response{Observation: o}, w.now)
	w.endpoint.Notify(o, &Response{Code: NotFound}, w.now)
	w.want("RFC 7641 §4.2: an error is the last", "NON 2.05", "NON 4.04")
	if w.endpoint.Stats().Observations != 0 {
		t.Error("RFC 7641 §4.2: it goes on")
	}
}

// A client takes notifications in the order in which they come, and does not register again (RFC 8323 §7.1, §7.3).
func TestObserverOverAConnection(t *testing.T) {
	w := newWire(t, noOptions, nil)
	var heard []string
	call := &Call{Code: GET, ObserveResource: true, Deliver: func(r *Reply) { heard = append(heard, string(r.Body)) }}
	w.endpoint.Do(alice, call, w.now)
	asked := w.want("registers", "NON GET")[0]
	for _, news := range []string{"a", "b", "c"} {
		w.feed(alice, withPayload(signalOf(Content, string(asked.Token), func(o *Options) { o.Add(Observe, nil) }), []byte(news)))
	}
	if strings.Join(heard, "") != "abc" {
		t.Errorf("RFC 8323 §7.1: heard %q, though an empty Observe says nothing about order", heard)
	}
	w.pass(time.Hour)
	w.want("RFC 8323 §7.3: the connection says whether the peer is there")
	w.endpoint.Cancel(call, w.now)
	out := w.want("RFC 8323 §7.4: it deregisters", "NON GET")
	if value, ok := out[0].Uint(Observe); !ok || value != 1 || !bytes.Equal(out[0].Token, asked.Token) {
		t.Error("RFC 8323 §7.4: not with Observe 1 and the same token")
	}
}

func TestMaxMessageSize(t *testing.T) {
	body := pattern(5000)
	for _, test := range []struct {
		clause string
		csm    func(*Options)
		ask    func(*Options)
		block  Block
		has    bool
		length int
	}{
		{"RFC 8323 §5.3.1: 1,152 bytes where nothing is said, so blocks", noOptions, noOptions, Block{More: true, SZX: 6}, true, 1024},
		{"RFC 8323 §5.3.1: whole, where it fits", takes(8000), noOptions, Block{}, false, 5000},
		{"RFC 8323 §5.3.1: also without block-wise transfer", withUint(maxMessageSize, 8000), noOptions, Block{}, false, 5000},
		{"RFC 8323 §6: several blocks at once", takes(4000), noOptions, Block{More: true, SZX: 7}, true, 3072},
		{"RFC 8323 §5.3.2: 1,152 bytes with block-wise transfer are no BERT", takes(1152), noOptions, Block{More: true, SZX: 6}, true, 1024},
		{"RFC 8323 §5.3.2: nor is a long message without it", withUint(maxMessageSize, 4000), noOptions, Block{More: true, SZX: 6}, true, 1024},
		{"RFC 8323 §5.3.1: shorter than a block", takes(300), noOptions, Block{More: true, SZX: 4}, true, 256},
		{"RFC 7959 §2.4: blocks that were asked for", takes(8000), withUint(Block2, Block{Num: 3, SZX: 2}.Uint()), Block{Num: 3, More: true, SZX: 2}, true, 64},
		{"RFC 8323 §6: several from the second on", takes(4000), withUint(Block2, Block{Num: 1, SZX: 7}.Uint()), Block{Num: 1, More: true, SZX: 7}, true, 3072},
		{"RFC 8323 §6: the last ones", takes(4000), withUint(Block2, Block{Num: 3, SZX: 7}.Uint()), Block{Num: 3, SZX: 7}, true, 5000 - 3072},
	} {
		t.Run(test.clause, func(t *testing.T) {
			w := newWire(t, test.csm, nil)
			w.feed(alice, request(NonConfirmable, GET, 0, "/a", test.ask))
			w.endpoint.Respond(w.next("a request"), &Response{Body: body}, w.now)
			out := w.want("the answer", "NON 2.05")[0]
			out.reliable = true
			block, has, valid := out.Block(Block2)
			if block != test.block || has != test.has || !valid || len(out.Payload) != test.length {
				t.Errorf("%+v with %d bytes, want %+v with %d", block, len(out.Payload), test.block, test.length)
			}
			if !bytes.Equal(out.Payload, body[block.Offset():][:len(out.Payload)]) {
				t.Error("RFC 8323 §6: the bytes are of another place")
			}
		})
	}
}

func TestUploadOverAConnection(t *testing.T) {
	w := newWire(t, takes(65000), nil)
	body := pattern(5500)
	block := func(num uint32, more bool, szx uint8, payload []byte) []byte {
		return withPayload(request(NonConfirmable, PUT, 0, "/a", withUint(Block1, Block{Num: num, More: more, SZX: szx}.Uint())), payload)
	}
	w.feed(alice, block(0, true, 7, body[:3072]))
	out := w.want("RFC 8323 §6: three blocks at once", "NON 2.31")[0]
	out.reliable = true
	if b, _, valid := out.Block(Block1); !valid || b.SZX != 7 {
		t.Errorf("RFC 8323 §6: answered with %+v", b)
	}
	w.feed(alice, block(3, true, 6, body[3072:4096]))
	w.want("RFC 7959 §2.5: one block of the same size", "NON 2.31")
	w.feed(alice, block(4, false, 7, body[4096:]))
	r := w.next("RFC 8323 §6: the last has more than 1,024 bytes")
	if !bytes.Equal(r.Body, body) {
		t.Errorf("%d bytes, or they differ", len(r.Body))
	}
	w.respond(r, Changed, "")
	w.take()
	w.feed(alice, block(0, true, 7, body[:1500]))
	w.want("RFC 8323 §6: what others follow is a multiple of 1,024", "NON 4.00")
	w.feed(alice, withPayload(request(NonConfirmable, PUT, 0, "/b"), pattern(40_000)))
	if r := w.next("RFC 8323 §5.3.1: a body in one message"); len(r.Body) != 40_000 {
		t.Errorf("%d bytes", len(r.Body))
	}
}

// Two Endpoints exchange long bodies, whatever each takes.
func TestBlocksBetweenEndpoints(t *testing.T) {
	for _, sizes := range [][2]int{{0, 0}, {1152, 0}, {4096, 70_000}, {200, 200}, {64, 3000}} {
		for _, blockSize := range []int{0, 1024, 64} {
			client, server := newWire(t, nil, func(c *Config) { c.MaxMessage = sizes[0] }), newWire(t, nil, func(c *Config) { c.MaxMessage = sizes[1] })
			client.feed(alice, signalOf(CSM, "", takes(uint32(server.endpoint.config.MaxMessage))))
			server.feed(alice, signalOf(CSM, "", takes(uint32(client.endpoint.config.MaxMessage))))
			body := pattern(150_001)
			var reply *Reply
			call := &Call{Code: POST, Body: body, BlockSize: blockSize, Deliver: func(r *Reply) { reply = r }}
			client.endpoint.Do(alice, call, client.now)
			for reply == nil {
				sent := client.take()
				for _, m := range sent {
					if n := len(appendFrame(nil, m.raw)); n > server.endpoint.config.MaxMessage && server.endpoint.config.MaxMessage > 64 {
						t.Fatalf("a message of %d bytes to one who takes %d", n, server.endpoint.config.MaxMessage)
					}
					server.feed(alice, m.raw)
				}
				for r := server.endpoint.Next(); r != nil; r = server.endpoint.Next() {
					if !bytes.Equal(r.Body, body) {
						t.Fatalf("%v, blocks of %d: %d bytes arrived, or they differ", sizes, blockSize, len(r.Body))
					}
					server.endpoint.Respond(r, &Response{Code: Changed, Body: body}, server.now)
				}
				answers := server.take()
				for _, m := range answers {
					if n := len(appendFrame(nil, m.raw)); n > client.endpoint.config.MaxMessage && client.endpoint.config.MaxMessage > 64 {
						t.Fatalf("a message of %d bytes to one who takes %d", n, client.endpoint.config.MaxMessage)
					}
					client.feed(alice, m.raw)
				}
				if len(sent)+len(answers) == 0 {
					t.Fatalf("%v, blocks of %d: nothing goes on", sizes, blockSize)
				}
			}
			if reply.Err != nil || !bytes.Equal(reply.Body, body) {
				t.Errorf("%v, blocks of %d: %v, %d bytes came back", sizes, blockSize, reply.Err, len(reply.Body))
			}
		}
	}
}

func TestFullConnection(t *testing.T) {
	w := newWire(t, noOptions, func(c *Config) { c.MaxRequestsOfPeer = 2; c.MaxRunningOfPeer = 2 })
	w.feed(alice, request(NonConfirmable, GET, 0, "/a"))
	if w.full[alice] {
		t.Error("full with one request")
	}
	w.feed(alice, request(NonConfirmable, GET, 0, "/b"))
	if !w.full[alice] {
		t.Error("not full with two")
	}
	w.respond(w.next("a"), Content, "")
	if w.full[alice] {
		t.Error("full after an answer")
	}
}

func TestExtendedTokensOverConnections(t *testing.T) {
	w := &wire{full: make(map[netip.AddrPort]bool)}
	w.bench = newBench(t, func(c *Config) { c.Connections = w })
	w.endpoint.Open(alice)
	if most, ok := w.want("our CSM", "NON 7.01")[0].Uint(6); !ok || most != 64 {
		t.Errorf("RFC 8974 §2.2.1: Extended-Token-Length %d, %v", most, ok)
	}
	for _, theirs := range []uint32{0, 7, 64, 1 << 20} {
		w.feed(alice, signalOf(CSM, "", withUint(6, theirs)))
	}
	w.want("RFC 8974 §2.2.1: any value passes, also one that has to be ignored")
	for _, length := range []int{9, 12, 13, 64} {
		token := pattern(length)
		w.feed(alice, withToken(NonConfirmable, 0, token, withUint(Observe, 0)))
		o := &Observation{}
		w.endpoint.Respond(w.next("a request"), &Response{Observation: o}, w.now)
		w.endpoint.Notify(o, &Response{Body: []byte("n")}, w.now)
		for _, m := range w.want("answered, and notified", "NON 2.05", "NON 2.05") {
			if !bytes.Equal(m.Token, token) {
				t.Errorf("RFC 8974 §2.1: a token of %d bytes came back as %x", length, m.Token)
			}
		}
		w.feed(alice, signalOf(Ping, string(token)))
		if m := w.want("a Ping", "NON 7.03")[0]; !bytes.Equal(m.Token, token) {
			t.Errorf("RFC 8323 §5.4: a Pong with token %x", m.Token)
		}
	}
}
