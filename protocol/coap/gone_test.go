package coap

import (
	"testing"
	"time"
)

// A peer whose session has ended leaves nothing behind, and what it was to answer fails at once.
func TestGone(t *testing.T) {
	b := newBench(t, nil)
	o := b.observe(1)
	b.pass(61 * time.Second)
	b.notify(o, "Confirmable by now")
	b.want("a notification that waits for its acknowledgement", "CON 2.05")
	var first, second *Reply
	b.endpoint.Do(alice, &Call{Code: GET, Deliver: func(r *Reply) { first = r }}, b.now)
	b.want("a call", "CON GET")
	b.endpoint.Do(alice, &Call{Code: GET, Deliver: func(r *Reply) { second = r }}, b.now)
	b.want("another one waits (RFC 7252 §4.7)")
	b.endpoint.Gone(alice, b.now)
	if !b.ended(o) {
		t.Error("the observation goes on")
	}
	if first == nil || first.Err != ErrClosed || second == nil || second.Err != ErrClosed {
		t.Errorf("calls: %v, %v", first, second)
	}
	b.pass(5 * time.Minute)
	b.want("nothing is sent any more")
	if n := b.endpoint.Stats(); n.Peers != 0 || n.Observations != 0 || n.ReceptionBytes != 0 {
		t.Errorf("%+v", n)
	}
}

// A request that is being answered when its peer goes is answered, which nobody hears.
func TestGoneWhileAnswering(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxPeers = 1 })
	b.feed(alice, request(Confirmable, GET, 1, "/t"))
	r := b.next("request")
	b.endpoint.Gone(alice, b.now)
	b.endpoint.Respond(r, &Response{Body: []byte("late")}, b.now)
	b.want("the answer", "ACK 2.05")
	b.feed(bob, request(Confirmable, GET, 2, "/t"))
	b.next("request of another peer, for whom there is room")
}
