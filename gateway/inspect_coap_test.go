package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/coapfront"
	"fieldgate/protocol/coap"
)

// askCoAP asks over the bus, as the control plane does.
func (r *running) askCoAP(question fieldgate.CoAPQuestion) (answer fieldgate.CoAPAnswer) {
	r.t.Helper()
	encoded, err := json.Marshal(question)
	if err != nil {
		r.t.Fatal(err)
	}
	got, err := r.config.Bus.Request(r.t.Context(), fieldgate.SubjectCoAP+"n1", encoded)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := json.Unmarshal(got.Data, &answer); err != nil {
		r.t.Fatal(err)
	}
	return answer
}

// term is one of a filter; with "!" before the key it excludes, and "*" at the end of a value stands for anything.
func term(key string, values ...string) fieldgate.FilterTerm {
	t := fieldgate.FilterTerm{Key: strings.TrimPrefix(key, "!"), Not: strings.HasPrefix(key, "!")}
	for _, v := range values {
		text, prefix := strings.CutSuffix(v, "*")
		t.Values = append(t.Values, fieldgate.FilterValue{Text: text, Prefix: prefix})
	}
	return t
}

// Peers, observations and transfers of a gateway that real clients talk to: by UDP with and without a token, and by TCP.
func TestCoAPQuestions(t *testing.T) {
	b := openBus(t)
	p := &plane{}
	p.publish(t, carsContract(t, "1.0.0", carsPrivacy))
	token, hashes := newToken(t)
	p.change(t, fieldgate.DirectoryChange{Kind: fieldgate.PrincipalApp, ID: "map", Credentials: hashes})
	p.open(t, b)
	t.Cleanup(p.close)
	g := runAs(t, "n1", t.TempDir(), b, func(c *Config) { c.CoAPTCP = "127.0.0.1:0" })
	g.get("/cars/c1/position", token, 204, "")

	get := func(path, token string) *coap.Call {
		call := &coap.Call{Code: coap.GET}
		for segment := range strings.SplitSeq(path, "/") {
			call.Options.AddString(coap.URIPath, segment)
		}
		if token != "" {
			call.Options.AddString(coapfront.OptionCredential, token)
		}
		return call
	}
	var udp [3]*coap.UDP
	address := netip.MustParseAddrPort(g.Addresses()["coap"])
	for i := range udp {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if udp[i], err = coap.NewUDP(conn.(*net.UDPConn), coap.Config{}, 0, nil, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- udp[i].Run(ctx) }()
		t.Cleanup(func() { cancel(); <-ended })
	}
	for _, client := range udp[:2] {
		if _, err := client.Do(t.Context(), address, get(".well-known/core", "")); err != nil {
			t.Fatal(err)
		}
	}
	observed := make(chan *coap.Reply, 10)
	go udp[2].Observe(t.Context(), address, get("cars/c1/position", token), func(r *coap.Reply) bool { observed <- r; return true })
	<-observed
	conn, err := net.Dial("tcp", g.Addresses()["coap-tcp"])
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := coap.NewClient(t.Context(), conn, coap.StreamConfig{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tcp.Close)
	if _, err := tcp.Do(t.Context(), get("cars/c1/position", token)); err != nil {
		t.Fatal(err)
	}

	peers := func(after string, limit int, terms ...fieldgate.FilterTerm) fieldgate.CoAPAnswer {
		return g.askCoAP(fieldgate.CoAPQuestion{Peers: &fieldgate.CoAPListQuestion{After: after, Limit: limit, Terms: terms}})
	}
	// Pages of two hold each peer once, in the order of sources.
	var all []fieldgate.CoAPPeer
	for after, more := "", true; more; {
		page := peers(after, 2)
		if len(page.Peers) == 0 || len(page.Peers) > 2 {
			t.Fatalf("%+v", page)
		}
		all, more = append(all, page.Peers...), page.More
		after = page.Peers[len(page.Peers)-1].Order()
	}
	if len(all) != 4 || !slices.IsSortedFunc(all, func(a, b fieldgate.CoAPPeer) int { return strings.Compare(a.Order(), b.Order()) }) {
		t.Fatalf("%+v", all)
	}
	for _, c := range []struct {
		terms []fieldgate.FilterTerm
		want  int
	}{
		{[]fieldgate.FilterTerm{term("source", udp[0].LocalAddr().String())}, 1},
		{[]fieldgate.FilterTerm{term("", strings.TrimPrefix(udp[0].LocalAddr().String(), "127."))}, 1},
		{[]fieldgate.FilterTerm{term("", "ma")}, 2},
		{[]fieldgate.FilterTerm{term("principal", "map")}, 2},
		{[]fieldgate.FilterTerm{term("!principal", "map")}, 2},
		{[]fieldgate.FilterTerm{term("kind", "app")}, 2},
		{[]fieldgate.FilterTerm{term("kind", "device")}, 0},
		{[]fieldgate.FilterTerm{term("listener", "coap")}, 3},
		{[]fieldgate.FilterTerm{term("listener", "coap", "coap-tcp")}, 4},
		{[]fieldgate.FilterTerm{term("session", "yes")}, 1},
		{[]fieldgate.FilterTerm{term("session", "no"), term("credential", "token")}, 1},
		{[]fieldgate.FilterTerm{term("credential", "none")}, 2},
		{[]fieldgate.FilterTerm{term("credential", "psk")}, 0},
		{[]fieldgate.FilterTerm{term("observes", "yes")}, 1},
		{[]fieldgate.FilterTerm{term("transfers", "no")}, 4},
		{[]fieldgate.FilterTerm{term("verified", "yes"), term("listener", "coap-tcp")}, 1},
		{[]fieldgate.FilterTerm{{Key: "since", Values: []fieldgate.FilterValue{{Time: time.Now().Add(time.Hour)}}}}, 0},
		{[]fieldgate.FilterTerm{{Key: "since", Values: []fieldgate.FilterValue{{Time: time.Now().Add(-time.Hour)}}}}, 4},
	} {
		if got := peers("", 100, c.terms...); len(got.Peers) != c.want || got.More {
			t.Errorf("%+v: %d peers, want %d", c.terms, len(got.Peers), c.want)
		}
	}

	// One peer, its observation, and the end of that: the path is the contract's where a part of it is secret, and without query.
	observations := g.askCoAP(fieldgate.CoAPQuestion{Observations: &fieldgate.CoAPListQuestion{Limit: 10, Terms: []fieldgate.FilterTerm{term("path", "/cars/*")}}}).Observations
	if len(observations) != 1 || observations[0].Node != "n1" || observations[0].Principal != "map" || observations[0].Source != udp[2].LocalAddr().String() {
		t.Fatalf("%+v", observations)
	}
	if none := g.askCoAP(fieldgate.CoAPQuestion{Observations: &fieldgate.CoAPListQuestion{Limit: 10, Terms: []fieldgate.FilterTerm{term("path", "/trucks/*")}}}); none.Observations != nil {
		t.Errorf("%+v", none)
	}
	one := g.askCoAP(fieldgate.CoAPQuestion{Peer: &observations[0].CoAPPeerKey})
	if len(one.Peers) != 1 || one.Peers[0].Node != "n1" || one.Peers[0].Observations != 1 || len(one.Observations) != 1 || !one.Peers[0].Opened.IsZero() {
		t.Errorf("%+v", one)
	}
	end := fieldgate.CoAPObservationKey{CoAPPeerKey: observations[0].CoAPPeerKey, Token: observations[0].Token}
	for _, wrong := range []fieldgate.CoAPObservationKey{{CoAPPeerKey: end.CoAPPeerKey, Token: "xx"}, {CoAPPeerKey: end.CoAPPeerKey, Token: "00"}, {CoAPPeerKey: fieldgate.CoAPPeerKey{Listener: "coap", Peer: "x"}, Token: end.Token}} {
		if g.askCoAP(fieldgate.CoAPQuestion{EndObservation: &wrong}).Done {
			t.Errorf("%+v was there", wrong)
		}
	}
	if !g.askCoAP(fieldgate.CoAPQuestion{EndObservation: &end}).Done {
		t.Error("there was no observation")
	}
	if last := <-observed; last.Code != coap.ServiceUnavailable {
		t.Errorf("the observer is told %v", last.Code)
	}

	// The connection ends; what UDP has is no session.
	session := peers("", 10, term("session", "yes")).Peers[0]
	if session.Listener != "coap-tcp" || session.Principal != "map" || time.Since(session.Opened) > time.Hour || session.Heard.IsZero() {
		t.Errorf("%+v", session)
	}
	for what, key := range map[string]fieldgate.CoAPPeerKey{"UDP": one.Peers[0].CoAPPeerKey, "no address": {Listener: "coap-tcp", Peer: "x"}, "nobody": {Listener: "coap-tcp", Peer: "[100::ffff]:1"},
		"of another listener": {Listener: "coap", Peer: session.Peer}} {
		if g.askCoAP(fieldgate.CoAPQuestion{EndSession: &key}).Done {
			t.Errorf("%s had a session", what)
		}
	}
	if !g.askCoAP(fieldgate.CoAPQuestion{EndSession: &session.CoAPPeerKey}).Done {
		t.Error("there was no connection")
	}
	until(t, "the connection goes on", func() bool { return len(peers("", 10, term("session", "yes")).Peers) == 0 })
	if _, err := tcp.Do(t.Context(), get("cars/c1/position", token)); err == nil {
		t.Error("the client knows of nothing")
	}

	for _, malformed := range []string{"", "{", "{}"} {
		if _, err := b.Request(t.Context(), fieldgate.SubjectCoAP+"n1", []byte(malformed)); err == nil {
			t.Errorf("%q is answered", malformed)
		}
	}
}

// A gateway that speaks no CoAP says so to every question.
func TestCoAPQuestionsWithoutListener(t *testing.T) {
	answer, err := (&coapInspection{node: "n1"}).answer(&fieldgate.CoAPQuestion{Peers: &fieldgate.CoAPListQuestion{Limit: 10}})
	if err != nil || answer.Peers != nil || answer.More {
		t.Errorf("%+v, %v", answer, err)
	}
}
