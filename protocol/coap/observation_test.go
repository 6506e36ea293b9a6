package coap

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func netipPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port+1)
}

// observe registers alice under the message ID's token and returns the observation. Alice acknowledges the response.
func (b *bench) observe(id uint16) *Observation {
	b.Helper()
	b.feed(alice, request(Confirmable, GET, id, "/t", withUint(Observe, 0)))
	r := b.next("registration")
	if !r.Registers() {
		b.Fatal("RFC 7641 §2: the request does not register")
	}
	o := &Observation{}
	b.endpoint.Respond(r, &Response{Body: []byte("first"), Observation: o}, b.now)
	out := b.want("RFC 7641 §3.1, §7", "ACK 0.00", "CON 2.05")
	b.feed(alice, appendEmpty(nil, Acknowledgement, out[1].MessageID))
	if _, ok := out[1].Uint(Observe); !ok {
		b.Fatal("RFC 7641 §4.1: the response has no Observe option")
	}
	return o
}

func (b *bench) notify(o *Observation, body string) {
	b.endpoint.Notify(o, &Response{Body: []byte(body)}, b.now)
}

func (b *bench) ended(o *Observation) bool {
	for _, e := range b.endpoint.TakeEnded() {
		if e == o {
			return true
		}
	}
	return false
}

func TestObserve(t *testing.T) {
	b := newBench(t, nil)
	o := b.observe(1)
	b.notify(o, "first")
	b.want("an observer that has shown that it is there is sent", "NON 2.05")
	b.pass(61 * time.Second)
	b.notify(o, "a")
	first := b.want("after a minute one is Confirmable", "CON 2.05")[0]
	if string(first.Token) != "\x00\x01" {
		t.Errorf("RFC 7641 §4.2: token %x", first.Token)
	}
	b.notify(o, "b")
	b.notify(o, "c")
	b.want("RFC 7641 §4.5.2: while it is not acknowledged nothing else goes")
	b.feed(alice, appendEmpty(nil, Acknowledgement, first.MessageID))
	newest := b.want("RFC 7641 §4.5.2: then the newest, and only that", "NON 2.05")[0]
	if string(newest.Payload) != "c" {
		t.Errorf("payload %q", newest.Payload)
	}
	previous, _ := newest.Uint(Observe)
	for i := range 60 {
		b.notify(o, fmt.Sprint(i))
		out := b.take()
		sequence, ok := out[0].Uint(Observe)
		if !ok || !fresher(sequence, previous) {
			t.Fatalf("RFC 7641 §4.4: sequence %d after %d", sequence, previous)
		}
		previous = sequence
		if want := []Type{NonConfirmable, Confirmable}[boolIndex((i+2)%20 == 0)]; out[0].Type != want {
			t.Fatalf("RFC 7641 §4.5: notification %d is %v, want %v", i, out[0].Type, want)
		}
		if out[0].Type == Confirmable {
			b.feed(alice, appendEmpty(nil, Acknowledgement, out[0].MessageID))
		}
	}
	b.pass(61 * time.Second)
	b.notify(o, "later")
	b.want("after a minute one is Confirmable", "CON 2.05")
	if b.ended(o) {
		t.Error("the observation ended")
	}
}

func boolIndex(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestObservationEnds(t *testing.T) {
	for _, test := range []struct {
		clause string
		end    func(b *bench, o *Observation)
	}{
		{"RFC 7641 §3.6: GET with Observe 1", func(b *bench, o *Observation) {
			var options Options
			options.AddUint(Observe, 1)
			b.feed(alice, AppendMessage(nil, Confirmable, GET, 50, []byte{0, 1}, &options, nil))
			b.respond(b.next("it is answered as a plain GET"), Content, "x")
		}},
		{"RFC 7641 §3.6: Reset of a Confirmable notification", func(b *bench, o *Observation) {
			b.pass(61 * time.Second)
			b.notify(o, "a")
			b.feed(alice, appendEmpty(nil, Reset, b.want("after a minute", "CON 2.05")[0].MessageID))
		}},
		{"RFC 7641 §3.6: Reset of a Non-confirmable notification", func(b *bench, o *Observation) {
			b.notify(o, "a")
			b.feed(alice, appendEmpty(nil, Reset, b.want("the first", "NON 2.05")[0].MessageID))
		}},
		{"RFC 7641 §4.5: a notification is not acknowledged", func(b *bench, o *Observation) {
			b.pass(61 * time.Second)
			b.notify(o, "a")
			b.pass(94 * time.Second)
		}},
		{"RFC 7641 §4.2: a notification of an error", func(b *bench, o *Observation) {
			b.endpoint.Notify(o, &Response{Code: NotFound}, b.now)
			out := b.want("it is Confirmable", "CON 4.04")
			if _, ok := out[0].Option(Observe); ok {
				b.Error("and has no Observe option")
			}
		}},
		{"RFC 7641 §4.1: registered anew with the same token", func(b *bench, o *Observation) {
			var options Options
			options.AddUint(Observe, 0)
			b.feed(alice, AppendMessage(nil, Confirmable, GET, 50, []byte{0, 1}, &options, nil))
			b.endpoint.Respond(b.next("again"), &Response{Observation: &Observation{}}, b.now)
		}},
	} {
		t.Run(test.clause, func(t *testing.T) {
			b := newBench(t, nil)
			o := b.observe(1)
			test.end(b, o)
			if !b.ended(o) {
				t.Error("the observation goes on")
			}
			b.take()
			b.notify(o, "never")
			b.want("nothing follows")
		})
	}
}

func TestObservationRefused(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxObservationsOfPeer = 1 })
	b.observe(1)
	b.feed(alice, request(Confirmable, GET, 2, "/t", withUint(Observe, 0)))
	o := &Observation{}
	b.endpoint.Respond(b.next("second"), &Response{Observation: o}, b.now)
	out := b.want("RFC 7641 §4.1: a server that cannot add it answers plainly", "ACK 2.05")
	if _, ok := out[0].Option(Observe); ok || !b.ended(o) {
		t.Error("it was registered")
	}
	b.feed(bob, request(Confirmable, GET, 3, "/t", withUint(Observe, 0)))
	o = &Observation{}
	b.endpoint.Respond(b.next("error"), &Response{Code: NotFound, Observation: o}, b.now)
	b.want("RFC 7641 §4.1: an error registers nothing", "ACK 4.04")
	if !b.ended(o) {
		t.Error("it was registered")
	}
}

func TestNotifyBeforeRegistered(t *testing.T) {
	b := newBench(t, nil)
	b.feed(alice, request(Confirmable, GET, 1, "/t", withUint(Observe, 0)))
	r := b.next("registration")
	o := &Observation{}
	b.notify(o, "early")
	b.want("not before the response")
	b.endpoint.Respond(r, &Response{Observation: o}, b.now)
	out := b.want("RFC 7641 §7: nor before it is known that somebody is there", "ACK 0.00", "CON 2.05")
	b.feed(alice, appendEmpty(nil, Acknowledgement, out[1].MessageID))
	if out := b.want("then at once", "NON 2.05"); string(out[0].Payload) != "early" {
		t.Errorf("payload %q", out[0].Payload)
	}
}

func TestNewerContentReplacesARetransmission(t *testing.T) {
	b := newBench(t, nil)
	o := b.observe(1)
	b.pass(61 * time.Second)
	b.notify(o, "old")
	old := b.want("after a minute", "CON 2.05")[0]
	b.notify(o, "new")
	b.pass(3 * time.Second)
	out := b.want("RFC 7641 §4.5.2", "CON 2.05")
	if string(out[0].Payload) != "new" || out[0].MessageID == old.MessageID {
		t.Errorf("payload %q, message ID %d again", out[0].Payload, out[0].MessageID)
	}
	b.feed(alice, appendEmpty(nil, Acknowledgement, out[0].MessageID))
	b.pass(100 * time.Second)
	b.want("acknowledged: nothing is repeated")
}

func TestSequenceNumbers(t *testing.T) {
	for _, test := range []struct {
		v2, v1 uint32
		want   bool
	}{ // RFC 7641 §3.4
		{2, 1, true}, {1, 2, false}, {1, 1, false}, {0, 0xffffff, true}, {0xffffff, 0, false}, {1 << 23, 0, false}, {1<<23 - 1, 0, true},
	} {
		if fresher(test.v2, test.v1) != test.want {
			t.Errorf("%d after %d: %v", test.v2, test.v1, !test.want)
		}
	}
}
