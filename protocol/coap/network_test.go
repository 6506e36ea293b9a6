package coap

import (
	"bytes"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// network carries datagrams between Endpoints on a clock of its own, and loses, repeats, delays and spoils them.
type network struct {
	t         *testing.T
	random    *rand.Rand
	now       time.Time
	endpoints map[netip.AddrPort]node
	order     []node // so that a seed repeats a run
	flying    flights
	lose      float64
	dropNext  func() bool // nil: nothing but what is lost by chance
	repeat    float64
	delay     time.Duration
	number    int
	afterFeed func(netip.AddrPort)
}

// node is an Endpoint, or what plays one.
type node interface {
	Feed(from netip.AddrPort, datagram []byte, now time.Time)
	Tick(now time.Time)
	Deadline() (at time.Time, ok bool)
}

type flight struct {
	at       time.Time
	number   int
	from, to netip.AddrPort
	datagram []byte
}

type flights []flight

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	return f[i].at.Before(f[j].at) || f[i].at.Equal(f[j].at) && f[i].number < f[j].number
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(v any)   { *f = append(*f, v.(flight)) }
func (f *flights) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}

func newNetwork(t *testing.T, seed uint64) *network {
	return &network{t: t, random: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_800_000_000, 0), endpoints: map[netip.AddrPort]node{}}
}

func (n *network) add(addr netip.AddrPort, config Config) *Endpoint {
	config.Send = n.sender(addr)
	for i := range config.Seed {
		config.Seed[i] = byte(n.random.Uint32())
	}
	e := NewEndpoint(config, n.now)
	n.join(addr, e)
	return e
}

func (n *network) join(addr netip.AddrPort, node node) {
	n.endpoints[addr] = node
	n.order = append(n.order, node)
}

// sender is what sends datagrams from an address.
func (n *network) sender(addr netip.AddrPort) func(to netip.AddrPort, datagram []byte) {
	return func(to netip.AddrPort, datagram []byte) {
		copies := 1
		if n.dropNext != nil && n.dropNext() {
			copies = 0
		} else if n.random.Float64() < n.lose {
			copies = 0
		} else if n.random.Float64() < n.repeat {
			copies = 2 + n.random.IntN(2)
		}
		for range copies {
			n.number++
			delay := time.Millisecond
			if n.delay > 0 {
				delay += time.Duration(n.random.Int64N(int64(n.delay)))
			}
			heap.Push(&n.flying, flight{n.now.Add(delay), n.number, addr, to, bytes.Clone(datagram)})
		}
	}
}

// run lets the network work until done says so or the time is up.
func (n *network) run(limit time.Duration, done func() bool) bool {
	end := n.now.Add(limit)
	for !done() {
		next := end
		if len(n.flying) > 0 {
			next = n.flying[0].at
		}
		for _, e := range n.order {
			if due, ok := e.Deadline(); ok && due.Before(next) {
				next = due
			}
		}
		if !next.Before(end) {
			return false
		}
		if next.After(n.now) {
			n.now = next
		}
		for _, e := range n.order {
			e.Tick(n.now)
		}
		for len(n.flying) > 0 && !n.flying[0].at.After(n.now) {
			f := heap.Pop(&n.flying).(flight)
			if e := n.endpoints[f.to]; e != nil {
				e.Feed(f.from, f.datagram, n.now)
				n.afterFeed(f.to)
			}
		}
	}
	return true
}

// TestLossyNetwork holds that bodies arrive whole and unmixed in both directions, and that each request is
// executed at most once, exactly once if its client got a response, whatever the network does. A failure names the
// seed that repeats it.
func TestLossyNetwork(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	var answered, failed int
	for seed := range uint64(rounds) {
		n := newNetwork(t, seed)
		n.lose = []float64{0, 0.05, 0.1, 0.2}[seed%4]
		n.repeat = []float64{0, 0.1, 0.3}[seed%3]
		n.delay = []time.Duration{0, 50 * time.Millisecond, 3 * time.Second}[seed%3]
		serverAddr := netip.MustParseAddrPort("198.51.100.1:5683")
		server := n.add(serverAddr, Config{BlockSize: 16 << n.random.IntN(7)})
		executed := map[string]int{}
		var held []*Request
		respond := func(r *Request) {
			executed[r.Query()]++
			// The answer is a function of the question, so that a mixed body shows.
			server.Respond(r, &Response{Code: Changed, Body: bytes.Repeat(append(r.Body[:min(len(r.Body), 10):min(len(r.Body), 10)], '|'), len(r.Body)/7+1)}, n.now)
		}
		n.afterFeed = func(to netip.AddrPort) {
			for r := server.Next(); r != nil; r = server.Next() {
				if n.random.IntN(4) == 0 {
					held = append(held, r)
					continue
				}
				respond(r)
			}
			if len(held) > 0 && n.random.IntN(3) == 0 {
				respond(held[0])
				held = held[1:]
			}
		}
		type outcome struct {
			id    string
			body  []byte
			reply *Reply
		}
		var outcomes []*outcome
		open := 0
		for c := range 4 {
			client := n.add(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.9"), uint16(1000+c)), Config{NStart: 3})
			for i := range 4 {
				o := &outcome{id: fmt.Sprintf("c%d-%d", c, i), body: make([]byte, n.random.IntN(5000))}
				for j := range o.body {
					o.body[j] = byte(n.random.Uint32())
				}
				outcomes = append(outcomes, o)
				open++
				call := &Call{Code: POST, Body: o.body, BlockSize: 16 << n.random.IntN(7), Deliver: func(r *Reply) { o.reply = r; open-- }}
				call.Options.AddString(URIPath, "x")
				call.Options.AddString(URIQuery, o.id)
				client.Do(serverAddr, call, n.now)
			}
		}
		n.run(2*time.Hour, func() bool {
			for len(held) > 0 && len(n.flying) == 0 {
				respond(held[0])
				held = held[1:]
			}
			return open == 0
		})
		for _, o := range outcomes {
			switch times := executed[o.id]; {
			case o.reply == nil:
				t.Fatalf("seed %d: call %s never ended", seed, o.id)
			case times > 1:
				t.Fatalf("seed %d: call %s was executed %d times", seed, o.id, times)
			case o.reply.Err != nil || o.reply.Code != Changed:
				failed++
				if n.lose == 0 {
					t.Fatalf("seed %d: call %s failed without loss: %v %v", seed, o.id, o.reply.Err, o.reply.Code)
				}
			case times != 1:
				t.Fatalf("seed %d: call %s was answered and not executed", seed, o.id)
			default:
				answered++
				head := o.body[:min(len(o.body), 10)]
				want := bytes.Repeat(append(bytes.Clone(head), '|'), len(o.body)/7+1)
				if !bytes.Equal(o.reply.Body, want) {
					t.Fatalf("seed %d: call %s of %d bytes got %d bytes, want %d, or they differ", seed, o.id, len(o.body), len(o.reply.Body), len(want))
				}
			}
		}
	}
	t.Logf("%d calls were answered, %d failed for lack of an answer", answered, failed)
	if answered < failed*4 {
		t.Errorf("only %d calls were answered, %d failed", answered, failed)
	}
}

// TestLossyObservation holds that after all loss the client shows the newest content, once it is confirmed.
func TestLossyObservation(t *testing.T) {
	for seed := range uint64(30) {
		n := newNetwork(t, seed)
		n.lose, n.repeat, n.delay = 0.15, 0.2, 500*time.Millisecond
		serverAddr := netip.MustParseAddrPort("198.51.100.1:5683")
		server := n.add(serverAddr, Config{MaxRetransmit: 12})
		client := n.add(alice, Config{MaxRetransmit: 12})
		var observation *Observation
		content := "0"
		pad := func() []byte { return append(bytes.Repeat([]byte("."), int(seed)*100), content...) }
		n.afterFeed = func(netip.AddrPort) {
			for r := server.Next(); r != nil; r = server.Next() {
				response := &Response{Body: pad()}
				if r.Registers() {
					observation = &Observation{}
					response.Observation = observation
				}
				server.Respond(r, response, n.now)
			}
		}
		heard := ""
		call := &Call{Code: GET, ObserveResource: true, Deliver: func(r *Reply) {
			if r.Err != nil {
				t.Fatalf("seed %d: %v", seed, r.Err)
			}
			heard = string(r.Body[len(r.Body)-1:])
			if len(r.Body) != int(seed)*100+1 {
				t.Fatalf("seed %d: a notification of %d bytes", seed, len(r.Body))
			}
		}}
		client.Do(serverAddr, call, n.now)
		if !n.run(time.Hour, func() bool { return heard != "" }) {
			t.Fatalf("seed %d: never registered", seed)
		}
		for i := range 9 {
			content = string(rune('1' + i))
			server.Notify(observation, &Response{Body: pad()}, n.now)
			n.run(200*time.Millisecond, func() bool { return false })
		}
		// A last one that is Confirmable, since a minute has passed.
		n.run(61*time.Second, func() bool { return false })
		content = "X"
		server.Notify(observation, &Response{Body: pad()}, n.now)
		if !n.run(time.Hour, func() bool { return heard == "X" }) {
			t.Fatalf("seed %d: the client shows %q", seed, heard)
		}
		client.Cancel(call, n.now)
		if !n.run(time.Hour, func() bool { return server.Stats().Observations == 0 }) {
			t.Fatalf("seed %d: the observation was not deregistered", seed)
		}
	}
}

func TestCallFailures(t *testing.T) {
	for _, test := range []struct {
		clause string
		answer func(Message) []byte
		want   error
	}{
		{"RFC 7252 §4.2: no answer at all", func(Message) []byte { return nil }, ErrTimeout},
		{"RFC 7252 §4.2: Reset", func(m Message) []byte { return appendEmpty(nil, Reset, m.MessageID) }, ErrReset},
		{"RFC 7252 §5.2.2: acknowledged and never answered", func(m Message) []byte { return appendEmpty(nil, Acknowledgement, m.MessageID) }, ErrTimeout},
		{"RFC 7252 §5.4.1: an unknown critical option in a response", func(m Message) []byte {
			var o Options
			o.AddUint(65001, 1)
			return AppendMessage(nil, Acknowledgement, Content, m.MessageID, m.Token, &o, nil)
		}, ErrBadResponse},
		{"RFC 7252 §5.3.2: a wrong token is no answer", func(m Message) []byte {
			return AppendMessage(nil, Acknowledgement, Content, m.MessageID, []byte("12345678"), nil, nil)
		}, ErrTimeout},
		{"RFC 7252 §5.3.2: a wrong message ID in an acknowledgement is no answer", func(m Message) []byte {
			return AppendMessage(nil, Acknowledgement, Content, m.MessageID+1, m.Token, nil, nil)
		}, ErrTimeout},
		{"RFC 7959 §2.4: it begins with a later block", func(m Message) []byte {
			var o Options
			o.AddUint(Block2, Block{Num: 1, SZX: 0}.Uint())
			return AppendMessage(nil, Acknowledgement, Content, m.MessageID, m.Token, &o, []byte("x"))
		}, ErrBlocks},
	} {
		t.Run(test.clause, func(t *testing.T) {
			b := newBench(t, nil)
			var reply *Reply
			b.endpoint.Do(bob, &Call{Code: GET, Deliver: func(r *Reply) { reply = r }}, b.now)
			out := b.take()
			if answer := test.answer(out[0].Message); answer != nil {
				b.feed(alice, answer)
				if reply != nil {
					t.Fatal("RFC 7252 §5.3.2: an answer from another address counted")
				}
				b.feed(bob, answer)
			}
			b.pass(400 * time.Second)
			if reply == nil || reply.Err != test.want {
				t.Fatalf("ended with %+v, want %v", reply, test.want)
			}
			if len(b.endpoint.calls) != 0 || len(b.endpoint.outstanding) != 0 {
				t.Error("it left state behind")
			}
		})
	}
}

func TestRegistersAgainWhenStale(t *testing.T) {
	b := newBench(t, nil)
	var replies int
	b.endpoint.Do(bob, &Call{Code: GET, ObserveResource: true, Deliver: func(*Reply) { replies++ }}, b.now)
	first := b.take()[0]
	var o Options
	o.AddUint(Observe, 5)
	o.AddUint(MaxAge, 30)
	b.feed(bob, AppendMessage(nil, Acknowledgement, Content, first.MessageID, first.Token, &o, []byte("x")))
	b.pass(34 * time.Second)
	b.want("RFC 7641 §3.3.1: not before Max-Age and some seconds")
	b.pass(12 * time.Second)
	again := b.take()
	if len(again) == 0 || !bytes.Equal(again[0].Token, first.Token) || replies != 1 {
		t.Errorf("RFC 7641 §3.3.1: %d messages, %d replies", len(again), replies)
	}
	if value, ok := again[0].Uint(Observe); !ok || value != 0 {
		t.Error("RFC 7641 §3.3.1: it does not register")
	}
}

// FuzzFeed throws two datagrams of different senders at an Endpoint in the middle of its work.
func FuzzFeed(f *testing.F) {
	for i, seed := range fuzzSeeds(f) {
		f.Add(seed, fuzzSeeds(f)[(i+7)%len(fuzzSeeds(f))], byte(i))
	}
	f.Add(qblock1(NonConfirmable, 1, 1, 0, 200, pattern(200)), qblock1(NonConfirmable, 2, 1, 3, 200, pattern(200)), byte(1))
	f.Add(qget(Confirmable, 1, Block{0, true, 2}), qget(NonConfirmable, 2, Block{10, true, 2}), byte(200))
	f.Add(qget(NonConfirmable, 1, Block{1, true, 2}, Block{7, false, 2}), request(NonConfirmable, GET, 3, "/o", withUint(Observe, 0), withUint(QBlock2, 8)), byte(150))
	f.Fuzz(func(t *testing.T, one, two []byte, how byte) {
		b := newBench(t, func(c *Config) { c.MaxPeers, c.MaxReceptionsOfPeer, c.MaxBody = 2, 2, 4096; c.Challenge = how&1 == 1 })
		var reply *Reply
		b.endpoint.Do(bob, &Call{Code: GET, ObserveResource: how&2 == 2, Deliver: func(r *Reply) { reply = r }}, b.now)
		asked := b.take()[0]
		b.feed(alice, request(Confirmable, GET, 1, "/o", withUint(Observe, 0)))
		o := &Observation{}
		b.endpoint.Respond(b.next("registration"), &Response{Observation: o, Body: pattern(2000)}, b.now)
		for _, datagram := range [][]byte{one, two, one} {
			b.feed(alice, datagram)
			b.feed(bob, datagram)
			if r := b.endpoint.Next(); r != nil {
				b.pass(time.Duration(how) * 3 * time.Millisecond)
				b.endpoint.Respond(r, &Response{Body: pattern(int(how) * 9)}, b.now)
			}
			b.endpoint.Notify(o, &Response{Body: []byte("n")}, b.now)
			b.pass(time.Second)
		}
		if reply == nil {
			b.feed(bob, AppendMessage(nil, Acknowledgement, Content, asked.MessageID, asked.Token, nil, []byte("ok")))
		}
		for r := b.endpoint.Next(); r != nil; r = b.endpoint.Next() {
			b.endpoint.Respond(r, &Response{}, b.now)
		}
		b.endpoint.Notify(o, &Response{Code: NotFound}, b.now)
		b.pass(30 * time.Minute)
		stats := b.endpoint.Stats()
		if stats.ReceptionBytes != 0 || stats.TransferBytes != 0 || stats.Observations != 0 || b.endpoint.requests != 0 || stats.Peers > 2 {
			t.Fatalf("after everything ended there is left: %+v", stats)
		}
		if how&2 == 0 && reply == nil {
			t.Fatal("the call never ended")
		}
	})
}

// TestBodyThatChanges holds that blocks of two states of a resource are never mixed, and that the reply shows the
// options of the state whose body it has.
func TestBodyThatChanges(t *testing.T) {
	n := newNetwork(t, 1)
	serverAddr := netip.MustParseAddrPort("198.51.100.1:5683")
	server := n.add(serverAddr, Config{BlockSize: 64, TransfersOfPeer: 1})
	client := n.add(alice, Config{})
	asked := 0
	n.afterFeed = func(netip.AddrPort) {
		for r := server.Next(); r != nil; r = server.Next() {
			asked++
			response := &Response{Body: bytes.Repeat([]byte{byte('0' + asked)}, 300), Trusted: true}
			response.Options.Add(ETag, []byte{byte(asked)})
			server.Respond(r, response, n.now)
			if asked < 3 {
				for _, s := range slices.Clone(server.known(alice).more.downloads) {
					server.drop(s) // as under pressure: the next block comes from a new state
				}
			}
		}
	}
	var reply *Reply
	client.Do(serverAddr, &Call{Code: GET, Deliver: func(r *Reply) { reply = r }}, n.now)
	n.run(time.Minute, func() bool { return reply != nil })
	tag, _ := reply.Option(ETag)
	if reply.Err != nil || !bytes.Equal(reply.Body, bytes.Repeat([]byte{byte('0' + asked)}, 300)) || !bytes.Equal(tag, []byte{byte(asked)}) {
		t.Errorf("RFC 7959 §2.4: %v, ETag %x, body %q after %d states", reply.Err, tag, reply.Body, asked)
	}
}
