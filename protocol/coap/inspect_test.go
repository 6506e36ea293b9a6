package coap

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestInspect(t *testing.T) {
	b := newBench(t, nil)
	b.feed(alice, request(Confirmable, PUT, 1, "/up/a b", withUint(Block1, Block{More: true}.Uint()), withUint(Size1, 100)))
	block := withPayload(request(Confirmable, PUT, 2, "/up", withUint(Block1, Block{More: true}.Uint()), withUint(Size1, 100)), make([]byte, 16))
	b.feed(alice, block)
	b.feed(alice, request(Confirmable, GET, 3, "/down?x=1", withBytes(URIQuery, []byte("x=1")), withUint(Block2, Block{SZX: 1}.Uint())))
	b.endpoint.Respond(b.next("GET"), &Response{Body: pattern(100), Trusted: true, Owner: 7}, b.now)
	b.feed(alice, request(Confirmable, GET, 4, "/o", withUint(Observe, 0)))
	o := &Observation{}
	b.endpoint.Respond(b.next("observe"), &Response{Body: pattern(10), Trusted: true, Observation: o}, b.now)
	b.pass(10 * time.Second)
	b.endpoint.Notify(o, &Response{Body: []byte("x")}, b.now)
	b.feed(bob, request(Confirmable, GET, 5, "/wait"))

	peers := b.endpoint.AppendPeers(nil)
	slices.SortFunc(peers, func(x, y PeerState) int { return y.Transfers - x.Transfers })
	if len(peers) != 2 || peers[0].Addr != alice || peers[0].Owner != 7 || peers[0].Observations != 1 || peers[0].Transfers != 2 || peers[1].Requests != 1 {
		t.Errorf("peers %+v", peers)
	}
	if heard := peers[1].Heard; heard.After(b.now) || b.now.Sub(heard) > 2*time.Second {
		t.Errorf("heard %v, it is %v", heard, b.now)
	}
	observations := b.endpoint.AppendObservations(nil, netip.AddrPort{})
	if len(observations) != 1 || observations[0].Path != "/o" || observations[0].Sent != 1 || !observations[0].Waiting || b.now.Sub(observations[0].Since) != 10*time.Second {
		t.Errorf("observations %+v", observations)
	}
	transfers := b.endpoint.AppendTransfers(nil, alice)
	if len(transfers) != 2 || !transfers[0].Upload || transfers[0].Path != "/up" || transfers[0].Code != PUT || transfers[0].Bytes != 16 || transfers[0].Size != 100 ||
		transfers[1].Upload || transfers[1].Path != "/down%3Fx=1?x=1" || transfers[1].Bytes != 32 || transfers[1].Size != 100 {
		t.Errorf("transfers %+v", transfers)
	}
	if got := b.endpoint.AppendTransfers(nil, bob); got != nil {
		t.Errorf("bob's transfers %+v", got)
	}
	if s := b.endpoint.Stats(); s.Uploads != 1 || s.Downloads != 1 {
		t.Errorf("%d uploads and %d downloads are counted", s.Uploads, s.Downloads)
	}
	b.take()
	if b.endpoint.EndObservation(bob, "\x00\x04", ServiceUnavailable, b.now) || !b.endpoint.EndObservation(alice, "\x00\x04", ServiceUnavailable, b.now) {
		t.Error("what was ended is not what was asked for")
	}
	b.want("RFC 7641 §4.2: the client is told", "CON 5.03")
	if !b.ended(o) || b.endpoint.EndObservation(alice, "\x00\x04", ServiceUnavailable, b.now) {
		t.Error("the observation goes on")
	}
}
