package coap

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestUnverifiedPeerIsSentLittle lets senders with false addresses do what makes an endpoint talk. Nobody there answers, except where
// the case says so.
func TestUnverifiedPeerIsSentLittle(t *testing.T) {
	small := request(Confirmable, GET, 1, "/a")
	register := request(Confirmable, GET, 1, "/a", withUint(Observe, 0))
	long := request(Confirmable, GET, 1, "/a/path/that/is/as/long/as/those/of/interfaces/that/people/write")
	for name, attack := range map[string]func(b *bench, feed func([]byte)){
		"a separate response, which nobody acknowledges": func(b *bench, feed func([]byte)) {
			feed(small)
			r := b.next("request")
			b.pass(time.Second)
			b.respond(r, Content, "0123456789")
			b.pass(5 * time.Minute)
		},
		"a short repetition of a long request": func(b *bench, feed func([]byte)) {
			feed(long)
			b.respond(b.next("request"), Content, string(pattern(100)))
			for range 100 {
				feed(small)
			}
		},
		"an observation": func(b *bench, feed func([]byte)) {
			feed(register)
			o := &Observation{}
			b.endpoint.Respond(b.next("registration"), &Response{Body: pattern(5), Observation: o}, b.now)
			for i := range 100 {
				b.notify(o, fmt.Sprintf("%0200d", i))
				b.pass(time.Second)
			}
			if !b.ended(o) {
				b.Error("the observation of somebody who is not there goes on")
			}
		},
		"an observation of something large": func(b *bench, feed func([]byte)) {
			feed(register)
			o := &Observation{}
			b.endpoint.Respond(b.next("registration"), &Response{Body: pattern(5000), Observation: o}, b.now)
			if !b.ended(o) {
				b.Error("a registration that was answered 4.01 stands")
			}
		},
		"guesses at acknowledgements": func(b *bench, feed func([]byte)) {
			var all []*Observation
			for id := range uint16(200) {
				if id < 64 {
					feed(request(Confirmable, GET, id, "/hot", withUint(Observe, 0)))
					o := &Observation{}
					b.endpoint.Respond(b.next("registration"), &Response{Body: pattern(1), Observation: o}, b.now)
					all = append(all, o)
					continue
				}
				feed(request(Confirmable, GET, id, "/slow"))
				r := b.next("slow")
				b.pass(300 * time.Millisecond)
				b.respond(r, Content, "x")
			}
			for id := range 3 << 16 { // within what can be sent before all is given up
				feed(appendEmpty(nil, Acknowledgement, uint16(id)))
				if id%16 == 0 {
					for _, o := range all {
						b.endpoint.Notify(o, &Response{Body: pattern(1000)}, b.now)
					}
				}
			}
			b.pass(5 * time.Minute)
		},
		"many kinds of requests": func(b *bench, feed func([]byte)) {
			for id := range uint16(500) {
				code := Code(id%7 + 1)
				feed(request(Type(id/7%2), code, id+1, "/a", withUint(Block2, Block{Num: uint32(id % 3), SZX: uint8(id % 7)}.Uint())))
				if r := b.endpoint.Next(); r != nil {
					b.pass(time.Duration(id%2) * 300 * time.Millisecond)
					b.endpoint.Respond(r, &Response{Body: pattern(int(id) * 7)}, b.now)
				}
			}
			b.pass(5 * time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			heard := 0
			attack(b, func(datagram []byte) {
				heard += len(datagram)
				b.feed(alice, datagram)
			})
			sent := 0
			for _, s := range b.take() {
				sent += len(s.raw)
			}
			if sent > 3*heard {
				t.Errorf("%d bytes were sent for %d", sent, heard)
			}
			if n := len(b.endpoint.outstanding); n > 0 {
				t.Errorf("%d transmissions go on", n)
			}
		})
	}
}

// TestObserverIsProven loses what it takes to prove an observer that knows no Echo and has no credential.
func TestObserverIsProven(t *testing.T) {
	register := request(Confirmable, GET, 1, "/t", withUint(Observe, 0)) // 9 bytes, so that one response may go and two pings
	for _, test := range []struct {
		lost string
		run  func(b *bench, response sent)
	}{
		{"nothing", func(b *bench, response sent) {
			b.feed(alice, appendEmpty(nil, Acknowledgement, response.MessageID))
			b.want("what has waited", "NON 2.05")
		}},
		{"the acknowledgement", func(b *bench, response sent) {
			b.pass(3 * time.Second)
			ping := b.want("a response that may not go again is followed by a ping", "CON 0.00")[0]
			b.feed(alice, appendEmpty(nil, Reset, ping.MessageID))
			b.feed(alice, appendEmpty(nil, Acknowledgement, b.want("then the newest goes", "CON 2.05")[0].MessageID))
		}},
		{"the response and a ping", func(b *bench, response sent) {
			b.pass(3 * time.Second)
			b.want("RFC 7252 §4.2: after two to three seconds", "CON 0.00")
			b.pass(6 * time.Second)
			b.feed(alice, appendEmpty(nil, Acknowledgement, b.want("after as many again, twice", "CON 0.00")[0].MessageID)) // not the Reset that it should be
			b.feed(alice, appendEmpty(nil, Acknowledgement, b.want("then the newest", "CON 2.05")[0].MessageID))
		}},
		{"the response, while the client repeats its request", func(b *bench, response sent) {
			b.feed(alice, register)
			b.want("RFC 7252 §4.5: it is acknowledged again", "ACK 0.00")
			b.pass(3 * time.Second)
			again := b.want("and its bytes pay for the response", "CON 2.05")[0]
			if again.MessageID != response.MessageID {
				b.Error("which is another message")
			}
			b.feed(alice, appendEmpty(nil, Acknowledgement, again.MessageID))
			b.want("what has waited", "NON 2.05")
		}},
	} {
		t.Run(test.lost, func(t *testing.T) {
			b := newBench(t, nil)
			b.feed(alice, register)
			o := &Observation{}
			b.endpoint.Respond(b.next("registration"), &Response{Body: []byte("first"), Observation: o}, b.now)
			response := b.want("RFC 7641 §7, RFC 7252 §5.2.2", "ACK 0.00", "CON 2.05")[1]
			b.notify(o, string(pattern(1000)))
			test.run(b, response)
			b.notify(o, string(pattern(1000)))
			b.want("RFC 7252 §4.3: proven, it hears all", "NON 2.05")
			b.pass(2 * time.Minute)
			if b.ended(o) || len(b.take()) > 0 {
				b.Error("and nothing is repeated")
			}
		})
	}
	for _, kind := range []Type{Confirmable, NonConfirmable} {
		b := newBench(t, nil)
		b.feed(alice, request(kind, GET, 1, "/t", withUint(Observe, 0), withUint(NoResponse, 2)))
		o := &Observation{}
		b.endpoint.Respond(b.next("registration"), &Response{Observation: o}, b.now)
		if !b.ended(o) {
			t.Error("who wants no response cannot be proven, and observes")
		}
	}
	b := newBench(t, nil)
	b.feed(alice, request(NonConfirmable, GET, 1, "/t", withUint(Observe, 0)))
	b.endpoint.Respond(b.next("registration"), &Response{Observation: &Observation{}}, b.now)
	b.want("RFC 7641 §7: also when the registration is not", "CON 2.05")
}

// TestMessageIDs holds that no ID comes again before all others, and that they are in no order.
func TestMessageIDs(t *testing.T) {
	b := newBench(t, nil)
	b.feed(alice, request(NonConfirmable, GET, 1, "/a"))
	p := b.endpoint.known(alice)
	seen, next := make(map[uint16]bool), 0
	previous := p.messageID()
	for range 65_535 {
		id := p.messageID()
		seen[id] = true
		if id-previous < 16 {
			next++
		}
		previous = id
	}
	if len(seen) != 65_535 || next > 65_536*16/65_536*2 {
		t.Errorf("%d different ones; %d come shortly after the one before", len(seen), next)
	}
}

// TestObserverWithoutEcho is one that acknowledges, as RFC 7252 §4.2 wants of all: it hears everything, however much that is.
func TestObserverWithoutEcho(t *testing.T) {
	b := newBench(t, nil)
	o := b.observe(1)
	heard, confirmable := 0, 0
	for i := range 200 {
		b.notify(o, string(bytes.Repeat([]byte{byte(i)}, 1000)))
		for _, s := range b.take() {
			if len(s.Payload) == 1000 && s.Payload[0] == byte(i) {
				heard++
			}
			if s.Type == Confirmable {
				confirmable++
				b.feed(alice, appendEmpty(nil, Acknowledgement, s.MessageID))
			}
		}
	}
	if heard != 200 || confirmable < 200/20 {
		t.Errorf("%d notifications of 200 were heard, %d of them Confirmable", heard, confirmable)
	}
	b.pass(61 * time.Second)
	b.notify(o, "x")
	b.take()
	b.pass(5 * time.Minute)
	if !b.ended(o) {
		t.Error("an observer that has gone is notified on")
	}
}

// TestKnownAreNoStrangers has strangers fill what they may. Somebody whose credential the application knows, but not the endpoint yet, goes on.
func TestKnownAreNoStrangers(t *testing.T) {
	credential := withUint(65002, 1)
	b := newBench(t, func(c *Config) {
		c.TransferBytes, c.MaxRequests = 64<<10, 100
		c.Known = func(peer netip.AddrPort, request Message) bool {
			_, ok := request.Option(65002)
			return ok && peer == bob
		}
	})
	put := func(from netip.AddrPort, id uint16, number uint32, with ...func(*Options)) Code {
		with = append(with, withUint(Block1, Block{Num: number, More: true, SZX: 6}.Uint()))
		b.feed(from, withPayload(request(Confirmable, PUT, id, "/up", with...), pattern(1024)))
		return b.take()[0].Code
	}
	if code := put(bob, 1, 0, credential); code != Continue {
		t.Fatalf("while there is room: %v", code)
	}
	for i := range uint16(100) {
		put(netipPort(alice, i), 1, 0)
	}
	if code := put(netipPort(alice, 200), 1, 0, credential); code != ServiceUnavailable {
		t.Errorf("a stranger when there is none: %v", code)
	}
	for number := range uint32(5) { // what was begun by a stranger goes on as a known one's
		if code := put(bob, uint16(2+number), 1+number, credential); code != Continue {
			t.Errorf("block %d of somebody known: %v", 1+number, code)
		}
	}
	strangers := 0
	for i := range uint16(100) {
		b.feed(netipPort(alice, i), request(Confirmable, GET, 2, "/slow"))
		if len(b.take()) == 0 {
			strangers++
		}
	}
	carol := netip.AddrPortFrom(bob.Addr(), 7)
	b.feed(carol, request(Confirmable, GET, 1, "/slow", credential))
	b.want("for a stranger with a wrong credential there is none", "ACK 5.03")
	b.feed(bob, request(Confirmable, GET, 20, "/slow", credential))
	if len(b.take()) > 0 || strangers != 75 {
		t.Errorf("%d requests of strangers were taken, and then one of somebody known refused", strangers)
	}
}

// TestStrangersShareAPart has senders with false addresses begin bodies and observations until no more is kept for them; a peer that the
// application knows goes on.
func TestStrangersShareAPart(t *testing.T) {
	b := newBench(t, func(c *Config) { c.TransferBytes = 64 << 10 })
	block := func(from netip.AddrPort, id uint16, number uint32, more bool) Code {
		b.feed(from, withPayload(request(Confirmable, PUT, id, "/up", withUint(Block1, Block{Num: number, More: more, SZX: 6}.Uint())), pattern(1024)))
		if r := b.endpoint.Next(); r != nil {
			b.respond(r, Changed, "")
		}
		out := b.take()
		return out[len(out)-1].Code
	}
	b.feed(bob, request(Confirmable, GET, 1, "/known"))
	b.endpoint.Respond(b.next("known"), &Response{Trusted: true}, b.now)
	refused := 0
	for i := range uint16(100) {
		if block(netipPort(alice, i), 1, 0, true) == ServiceUnavailable {
			refused++
		}
	}
	if kept := b.endpoint.strangerBytes; kept > 16<<10 || refused < 80 {
		t.Errorf("%d bytes of strangers are kept, %d were refused", kept, refused)
	}
	b.take()
	for number := range uint32(10) {
		if code := block(bob, uint16(2+number), number, number < 9); code != Continue && number < 9 || code != Changed && number == 9 {
			t.Fatalf("block %d of a known peer: %v", number, code)
		}
	}
	b.pass(11 * time.Second)
	if code := block(alice, 900, 0, true); code != Continue {
		t.Errorf("when others have given up: %v", code)
	}
	for i := range uint16(maxUnproven + 100) {
		b.feed(netipPort(alice, 1000+i), request(Confirmable, GET, 2, "/t", withUint(Observe, 0)))
		b.endpoint.Respond(b.next("observe"), &Response{Observation: &Observation{}}, b.now)
	}
	if n := b.endpoint.Stats().Observations; n != maxUnproven {
		t.Errorf("%d strangers observe", n)
	}
	b.pass(30 * time.Minute)
	if s := b.endpoint.Stats(); s.Observations != 0 || b.endpoint.unproven != 0 || b.endpoint.strangerBytes != 0 || s.TransferBytes != 0 {
		t.Errorf("there is left: %+v, %d unproven, %d bytes", s, b.endpoint.unproven, b.endpoint.strangerBytes)
	}
}
