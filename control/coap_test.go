package control

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/audit"
	"fieldgate/engine/bus"
)

// coapGateway plays the part of a gateway that speaks CoAP, as gateway/inspect_coap.go does; its pages hold two entries.
type coapGateway struct {
	mu    sync.Mutex
	peers []fieldgate.CoAPPeer
	asked []fieldgate.CoAPQuestion
}

func (g *coapGateway) answer(question []byte) (bus.Answer, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var q fieldgate.CoAPQuestion
	if err := json.Unmarshal(question, &q); err != nil {
		return bus.Answer{}, err
	}
	g.asked = append(g.asked, q)
	var a fieldgate.CoAPAnswer
	switch {
	case q.Peers != nil:
		a.Peers, a.More = first(g.peers, func(p *fieldgate.CoAPPeer) bool { return p.Order() > q.Peers.After })
	case q.Peer != nil:
		a.Peers, _ = first(g.peers, func(p *fieldgate.CoAPPeer) bool { return p.CoAPPeerKey == *q.Peer })
	case q.EndSession != nil:
		before := len(g.peers)
		g.peers = slices.DeleteFunc(g.peers, func(p fieldgate.CoAPPeer) bool { return p.CoAPPeerKey == *q.EndSession })
		a.Done = len(g.peers) < before
	case q.EndObservation != nil:
		a.Done = q.EndObservation.Token == "aa"
	}
	data, err := json.Marshal(a)
	return bus.Answer{Data: data}, err
}

func (g *coapGateway) last() fieldgate.CoAPQuestion {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[len(g.asked)-1]
}

func (n *node) playsCoAP(t *testing.T, name string, g *coapGateway, state fieldgate.GatewayState) {
	t.Helper()
	stop, err := n.bus.Serve(fieldgate.SubjectCoAP+name, g.answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	state.Node, state.Epoch = name, 1
	n.say(t, state)
}

func coapPeer(node, listener, source, device string) fieldgate.CoAPPeer {
	p := fieldgate.CoAPPeer{CoAPOwner: fieldgate.CoAPOwner{CoAPPeerKey: fieldgate.CoAPPeerKey{Node: node, Listener: listener, Peer: source}, Source: source,
		Kind: fieldgate.PrincipalDevice, Principal: device}}
	if listener != "coap" {
		p.Opened, p.Credential, p.Cipher, p.ConnectionID = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), fieldgate.CoAPPSK, "TLS_PSK_WITH_AES_128_CCM_8", true
	}
	return p
}

func TestCoAPOverHTTP(t *testing.T) {
	n := start(t, t.TempDir())
	ctx := t.Context()
	g1 := &coapGateway{peers: []fieldgate.CoAPPeer{coapPeer("g1", "coap", "10.0.0.1:1", "d1"), coapPeer("g1", "coaps", "10.0.0.3:1", "d3"), coapPeer("g1", "coap", "10.0.0.5:1", "d5")}}
	g2 := &coapGateway{peers: []fieldgate.CoAPPeer{coapPeer("g2", "coap", "10.0.0.2:1", "d2"), coapPeer("g2", "coap-tcp", "10.0.0.3:1", "d4")}}
	n.playsCoAP(t, "g1", g1, fieldgate.GatewayState{CoAP: map[string]fieldgate.CoAPListenerState{"coaps": {Address: "0.0.0.0:5684", Peers: 1}, "coap": {Peers: 2, Limited: 3}, "invented": {}},
		DTLS: &fieldgate.DTLSState{Sessions: 1, Handshakes: 4, Refused: map[string]uint64{"key": 2, "unknown": 1, "invented": 7}}})
	n.playsCoAP(t, "g2", g2, fieldgate.GatewayState{})
	n.say(t, fieldgate.GatewayState{Node: "g3", Epoch: 1}) // it does not answer

	// All pages together are all peers, each once, however the gateways share them out.
	var peers []string
	ids := make(map[string]string)
	for cursor, pages := "", 0; ; pages++ {
		page, err := n.ListCoapPeersWithResponse(ctx, &api.ListCoapPeersParams{Cursor: cursor, Limit: 2})
		if err != nil || pages > 9 || !slices.Equal(page.JSON200.Missing, []string{"g3"}) || len(page.JSON200.Items) > 2 {
			t.Fatalf("%+v, %v", page, err)
		}
		for _, p := range page.JSON200.Items {
			peers = append(peers, p.Principal+" "+p.Node)
			ids[p.Principal] = p.Id
		}
		if cursor = page.JSON200.Next; cursor == "" {
			break
		}
	}
	if got := strings.Join(peers, ","); got != "d1 g1,d2 g2,d4 g2,d3 g1,d5 g1" {
		t.Error(got)
	}
	list, err := n.ListCoapPeersWithResponse(ctx, &api.ListCoapPeersParams{Filter: "-node:g2,g3 session:yes credential:psk device:d3"})
	if terms := g1.last().Peers.Terms; err != nil || len(list.JSON200.Missing) != 0 || len(terms) != 4 || terms[0].Key != "session" || terms[1].Key != "credential" || terms[3].Key != "principal" ||
		g2.last().Peers.Terms != nil {
		t.Errorf("%+v, %+v, %v", list, terms, err)
	}
	for _, wrong := range []string{"color:red", "credential:password", "session:maybe", "-device:d1"} {
		if _, err := n.ListCoapPeersWithResponse(ctx, &api.ListCoapPeersParams{Filter: wrong}); status(err) != 400 {
			t.Errorf("%s: %v", wrong, err)
		}
	}

	one, err := n.GetCoapPeerWithResponse(ctx, ids["d3"])
	if err != nil {
		t.Fatal(err)
	}
	if p := one.JSON200.Peer; p.Credential != "psk" || p.Cipher != "TLS_PSK_WITH_AES_128_CCM_8" || !p.ConnectionId || p.OpenedAt.Hour() != 8 {
		t.Errorf("%+v", p)
	}
	if _, err := n.EndCoapSessionWithResponse(ctx, ids["d1"], &api.EndCoapSessionParams{}); status(err) != 409 || !strings.Contains(err.Error(), "UDP") {
		t.Errorf("of UDP: %v", err)
	}
	ended, err := n.EndCoapSessionWithResponse(ctx, ids["d3"], &api.EndCoapSessionParams{Reason: "an old key"})
	if q := g1.last(); err != nil || !slices.Equal(ended.JSON200.Nodes, []string{"g1"}) || q.EndSession == nil || q.EndSession.Peer != "10.0.0.3:1" {
		t.Errorf("%+v, %v", ended, err)
	}
	for what, id := range map[string]string{"ended": ids["d3"], "malformed": "!", "of another number of parts": "ZzEA"} {
		if _, err := n.EndCoapSessionWithResponse(ctx, id, &api.EndCoapSessionParams{}); status(err) != 404 {
			t.Errorf("%s: %v", what, err)
		}
	}
	silent := coapPeer("g3", "coaps", "10.0.0.9:1", "d9") // nobody can say whether there is one
	if _, err := n.GetCoapPeerWithResponse(ctx, "ZzMAY29hcHMA"+"MTAuMC4wLjk6MQ"); status(err) != 404 || !strings.Contains(err.Error(), silent.Node) {
		t.Errorf("at a gateway that does not answer: %v", err)
	}
	entries, err := audit.List(ctx, n.control.config.Store, audit.Filter{Limit: 1})
	if err != nil || entries[0].Action != "coap-session.end" || entries[0].Target != "d3" || entries[0].Detail != "an old key" {
		t.Errorf("%+v, %v", entries, err)
	}

	s, err := n.GetStatusWithResponse(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range s.JSON200.Gateways {
		switch g.Node {
		case "g1":
			if l := g.Coap; len(l) != 2 || l[0].Name != "coap" || l[0].Limited != 3 || l[1].Address != "0.0.0.0:5684" {
				t.Errorf("%+v", l)
			}
			if d := g.Dtls; d == nil || d.Handshakes != 4 || len(d.Refused) != 2 || d.Refused[0].Reason != "unknown" || d.Refused[1].Count != 2 {
				t.Errorf("%+v", d)
			}
		default:
			if g.Coap != nil || g.Dtls != nil {
				t.Errorf("%+v", g)
			}
		}
	}
}
