package coapfront

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/protocol/coap"
	"fieldgate/test/output"
)

func TestCreate(t *testing.T) {
	g := newGateway(t)
	for _, test := range []struct {
		name   string
		format uint32
		body   []byte
	}{
		{"CBOR", coap.CBOR, cbor(t, `{"t":21.5,"u":"C"}`)},
		{"JSON", coap.JSON, []byte(`{"t":21.5,"u":"C"}`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := g.do(call(coap.POST, "/readings", test.body, token(g.token), number(coap.ContentFormat, test.format)))
			tag, _ := r.Option(coap.ETag)
			if r.Code != coap.Created || r.Location() != "/v1/devices/d7/readings/918" || !bytes.Equal(tag, []byte{0x5f, 0x1c}) {
				t.Errorf("got %v, Location %q, ETag %x", r.Code, r.Location(), tag)
			}
			if query, _ := r.Option(coap.LocationQuery); string(query) != "x=1" {
				t.Errorf("Location-Query %q", query)
			}
			want := seen{"POST", "/v1/devices/d7/readings", "application/json", `{"t":21.5,"u":"C"}`, "d7"}
			if got := <-g.asked; got != want {
				t.Errorf("the upstream was asked %+v, want %+v", got, want)
			}
			record := g.records.take(t, 1)[0]
			if record.Protocol != fieldgate.ProtocolCoAP || record.Status != 201 || record.Principal != "d7" || record.Operation != "addReading" ||
				record.BytesIn != uint64(len(test.body)) || record.Problem != "" {
				t.Errorf("record %+v", record)
			}
		})
	}
}

func TestRead(t *testing.T) {
	g := newGateway(t)
	r := g.do(call(coap.GET, "/readings", nil, token(g.token)))
	format, _ := r.Uint(coap.ContentFormat)
	age, _ := r.Uint(coap.MaxAge)
	if r.Code != coap.Content || format != coap.JSON || age != 30 || string(r.Body) != `{"t":21.5,"u":"C"}` {
		t.Errorf("got %v, format %d, Max-Age %d, %s", r.Code, format, age, r.Body)
	}
	r = g.do(call(coap.GET, "/readings", nil, token(g.token), number(coap.Accept, coap.CBOR)))
	format, _ = r.Uint(coap.ContentFormat)
	if r.Code != coap.Content || format != coap.CBOR || !bytes.Equal(r.Body, cbor(t, `{"t":21.5,"u":"C"}`)) {
		t.Errorf("Accept 60: got %v, format %d, %x", r.Code, format, r.Body)
	}
	r = g.do(call(coap.GET, "/readings", nil, token(g.token), text(coap.ETag, "\x5f\x1c")))
	if r.Code != coap.Valid || len(r.Body) != 0 {
		t.Errorf("RFC 7252 section 5.10.6.2: got %v with %d bytes", r.Code, len(r.Body))
	}
	r = g.do(call(coap.DELETE, "/readings", nil, token(g.token)))
	if r.Code != coap.Deleted {
		t.Errorf("DELETE: got %v", r.Code)
	}
	for range 4 {
		<-g.asked
	}
	g.records.take(t, 4)
}

func TestRefusals(t *testing.T) {
	g := newGateway(t)
	g.do(call(coap.GET, "/readings", nil, token(g.token))) // the service that is to hang is to be reached in time
	g.records.take(t, 1)
	reading := cbor(t, `{"t":21.5}`)
	for _, test := range []struct {
		name    string
		call    *coap.Call
		want    coap.Code
		problem fieldgate.ProblemCode
	}{
		{"no credential", call(coap.POST, "/readings", reading, number(coap.ContentFormat, coap.CBOR)), coap.Unauthorized, fieldgate.ProblemUnauthenticated},
		{"a wrong credential", call(coap.GET, "/readings", nil, token(newToken(t, fieldgate.PrefixDevice))), coap.Unauthorized, fieldgate.ProblemUnauthenticated},
		{"two credentials", call(coap.GET, "/readings", nil, token(g.token), token(g.token)), coap.BadRequest, fieldgate.ProblemBadRequest},
		{"payload breaks the schema", call(coap.POST, "/readings", cbor(t, `{"t":99}`), token(g.token), number(coap.ContentFormat, coap.CBOR)), coap.UnprocessableEntity, fieldgate.ProblemInvalidPayload},
		{"payload is no CBOR", call(coap.POST, "/readings", []byte{0xff}, token(g.token), number(coap.ContentFormat, coap.CBOR)), coap.UnprocessableEntity, fieldgate.ProblemInvalidPayload},
		{"payload is no JSON", call(coap.POST, "/readings", []byte("{"), token(g.token), number(coap.ContentFormat, coap.JSON)), coap.UnprocessableEntity, fieldgate.ProblemInvalidPayload},
		{"another content format", call(coap.POST, "/readings", reading, token(g.token), number(coap.ContentFormat, coap.XML)), coap.UnsupportedContentFormat, fieldgate.ProblemUnsupportedMedia},
		{"an unknown content format", call(coap.POST, "/readings", reading, token(g.token), number(coap.ContentFormat, 30000)), coap.UnsupportedContentFormat, fieldgate.ProblemUnsupportedMedia},
		{"a body too large", call(coap.POST, "/readings", bytes.Repeat([]byte{1}, 5000), token(g.token)), coap.RequestEntityTooLarge, fieldgate.ProblemTooLarge},
		{"no such path", call(coap.GET, "/nowhere", nil, token(g.token)), coap.NotFound, fieldgate.ProblemNotFound},
		{"another method", call(coap.PUT, "/readings", reading, token(g.token)), coap.MethodNotAllowed, fieldgate.ProblemMethodNotAllowed},
		{"Accept that cannot be had", call(coap.GET, "/readings", nil, token(g.token), number(coap.Accept, coap.XML)), coap.NotAcceptable, fieldgate.ProblemNotAcceptable},
		{"observing with Accept that cannot be had", call(coap.GET, "/temperature", nil, token(g.token), number(coap.Accept, coap.XML), number(coap.Observe, 0)), coap.NotAcceptable, fieldgate.ProblemNotAcceptable},
		{"another device's path", call(coap.GET, "/devices/d8/other", nil, token(g.token)), coap.Forbidden, fieldgate.ProblemNotOwner},
		{"a retired version", call(coap.GET, "/old", nil, token(g.token)), coap.NotFound, fieldgate.ProblemGone},
		{"the upstream hangs", call(coap.GET, "/hang", nil, token(g.token)), coap.GatewayTimeout, fieldgate.ProblemUpstreamTimeout},
		{"the upstream is not there", call(coap.GET, "/dead", nil, token(g.token)), coap.BadGateway, fieldgate.ProblemUpstreamUnreachable},
		{"dot segment", call(coap.GET, "/a/../readings", nil, token(g.token)), coap.BadRequest, fieldgate.ProblemBadRequest},
		{"a condition of what no service decides about", call(coap.POST, "/temperature", []byte(`{"t":1}`), token(g.token), text(coap.IfMatch, "x"), number(coap.ContentFormat, coap.JSON)), coap.BadOption, fieldgate.ProblemBadRequest},
		{"no hop is left", call(coap.GET, "/readings", nil, token(g.token), number(coap.HopLimit, 1)), coap.HopLimitReached, fieldgate.ProblemUpstreamUnreachable},
		{"a Hop-Limit that is none", call(coap.GET, "/readings", nil, token(g.token), text(coap.HopLimit, "\x00")), coap.BadRequest, fieldgate.ProblemBadRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := g.do(test.call)
			record := g.records.take(t, 1)[0]
			if r.Code != test.want || record.Problem != test.problem {
				t.Fatalf("got %v and the record of %q, want %v and %q", r.Code, record.Problem, test.want, test.problem)
			}
			if len(r.Body) == 0 {
				// RFC 9175 section 2.4: whoever is unknown and unverified gets the code alone when details do not fit.
				if record.Principal != "" {
					t.Error("a known caller got no details")
				}
				return
			}
			problem := problemOf(t, r)
			if problem["-1"] != (&fieldgate.Problem{Code: test.problem}).Title() || problem["urn:fieldgate:problem:"+string(test.problem)] == nil {
				t.Errorf("problem %v", problem)
			}
		})
	}
}

func TestProblemDetails(t *testing.T) {
	g := newGateway(t)
	r := g.do(call(coap.POST, "/readings", cbor(t, `{"t":99}`), token(g.token), number(coap.ContentFormat, coap.CBOR)))
	problem := problemOf(t, r)
	entry, _ := problem["urn:fieldgate:problem:invalid-payload"].(map[string]any)
	if problem["-1"] != "The payload breaks the contract" || problem["-2"] == nil || entry["0"] != "/t" || entry["1"] == nil {
		t.Errorf("RFC 9290 section 2.1 and 3.1: problem %v", problem)
	}
	instance, _ := problem["-3"].(string)
	if !strings.HasPrefix(instance, "n1-") {
		t.Errorf("instance %q", instance)
	}
	record := g.records.take(t, 1)[0]
	if !strings.HasPrefix(record.Detail, "/t ") || record.Findings&fieldgate.FindingInvalidRequest == 0 {
		t.Errorf("record %+v", record)
	}
}

func TestLimit(t *testing.T) {
	g := newGateway(t)
	if r := g.do(call(coap.GET, "/limited", nil, token(g.token))); r.Code != coap.Content {
		t.Fatalf("got %v", r.Code)
	}
	r := g.do(call(coap.GET, "/limited", nil, token(g.token)))
	age, ok := r.Uint(coap.MaxAge)
	if r.Code != coap.TooManyRequests || !ok || age == 0 || age > 30 {
		t.Errorf("RFC 8516 section 4: got %v, Max-Age %d", r.Code, age)
	}
	problemOf(t, r)
}

func TestLargeBodies(t *testing.T) {
	g := newGateway(t)
	blob := fmt.Sprintf(`{"blob":%q}`, strings.Repeat("y", 70_000))
	r := g.do(call(coap.PUT, "/blob", []byte(blob), token(g.token), number(coap.ContentFormat, coap.JSON)))
	if got := <-g.asked; r.Code != coap.Changed || got.body != blob {
		t.Errorf("PUT in blocks: %v, the upstream got %d bytes", r.Code, len(got.body))
	}
	r = g.do(call(coap.GET, "/blob", nil, token(g.token)))
	if r.Code != coap.Content || len(r.Body) != 50_011 {
		t.Errorf("GET in blocks: %v, %d bytes", r.Code, len(r.Body))
	}
	g.records.take(t, 2) // one for each body, however many blocks
}

func TestPassThrough(t *testing.T) {
	g := newGateway(t)
	r := g.do(call(coap.PUT, "/legacy/any/thing", []byte{0, 1, 2}, number(coap.ContentFormat, 30000), text(coap.URIQuery, "a=1"), text(coap.URIQuery, "b")))
	want := seen{"PUT", "/legacy/any/thing?a=1&b", "application/coap-payload;cf=30000", "\x00\x01\x02", ""}
	if got := <-g.asked; r.Code != coap.Changed || got != want {
		t.Errorf("%v; the upstream was asked %+v, want %+v", r.Code, got, want)
	}
	record := g.records.take(t, 1)[0]
	if record.Findings&fieldgate.FindingUndocumented == 0 || record.Route != "/legacy/any/thing" {
		t.Errorf("record %+v", record)
	}
}

// observation is one client's view of /temperature.
func (g *gateway) observeTemperature(credential string, add ...func(*coap.Options)) (replies chan *coap.Reply) {
	replies = make(chan *coap.Reply, 100)
	ctx := g.Context()
	client := newClient(g.TB)
	go func() {
		client.Observe(ctx, g.address, call(coap.GET, "/temperature", nil, append(add, token(credential))...), func(r *coap.Reply) bool {
			replies <- r
			return true
		})
		close(replies)
	}()
	return replies
}

func TestObserve(t *testing.T) {
	g := newGateway(t)
	say := func(t float64) {
		g.Helper()
		body := fmt.Appendf(nil, `{"t":%g}`, t)
		if r := g.do(call(coap.POST, "/temperature", body, token(g.token), number(coap.ContentFormat, coap.JSON))); r.Code != coap.Changed {
			g.Fatalf("publish: %v %s", r.Code, r.Body)
		}
	}
	say(20) // retained
	asJSON := g.observeTemperature(g.token)
	asCBOR := g.observeTemperature(g.token, number(coap.Accept, coap.CBOR))
	if r := <-asJSON; string(r.Body) != `{"t":20}` {
		t.Errorf("the first response is %s", r.Body)
	}
	if r := <-asCBOR; !bytes.Equal(r.Body, cbor(t, `{"t":20}`)) {
		t.Errorf("the first response is %x", r.Body)
	}
	say(21)
	if r := <-asJSON; string(r.Body) != `{"t":21}` {
		t.Errorf("the notification is %s", r.Body)
	}
	if r := <-asCBOR; !bytes.Equal(r.Body, cbor(t, `{"t":21}`)) {
		t.Errorf("the notification is %x", r.Body)
	}
	g.records.take(t, 4) // two publishes, two registrations
}

func TestObserversOfRevokedAreClosed(t *testing.T) {
	for _, test := range []struct {
		name  string
		state fieldgate.PrincipalState
		keep  bool
		want  coap.Code
	}{
		{"quarantined", fieldgate.StateQuarantined, true, coap.Forbidden},
		{"revoked", fieldgate.StateRevoked, false, coap.Unauthorized},
		{"credential replaced", fieldgate.StateActive, false, coap.Unauthorized},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGateway(t)
			device := g.observeTemperature(g.token)
			<-device
			app := g.observeTemperature(g.appKey)
			<-app
			tokens := []string{newToken(t, fieldgate.PrefixDevice)}
			if test.keep {
				tokens = []string{g.token}
			}
			g.change(fieldgate.PrincipalDevice, "d7", test.state, tokens...)
			last := <-device
			if last.Code != test.want || !last.Last {
				t.Errorf("got %v, last %v", last.Code, last.Last)
			}
			problemOf(t, last)
			if _, more := <-device; more {
				t.Error("the observation goes on")
			}
			for g.front.Stats()["coap"].Observations != 1 {
				time.Sleep(time.Millisecond)
			}
			g.pipeline.Broker.Publish(&broker.Message{Topic: "t/d7", Payload: []byte(`{"t":1}`), ContentType: "application/json"}, nil)
			if r := <-app; string(r.Body) != `{"t":1}` {
				t.Errorf("another observer got %s", r.Body)
			}
		})
	}
}

// TestFlood holds that garbage and a peer that takes all it may get cost nobody else an answer.
func TestFlood(t *testing.T) {
	g := newGateway(t)
	attacker, err := net.Dial("udp", g.address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer attacker.Close()
	for i := range 5000 {
		garbage := [][]byte{{0x40}, {}, {0xff, 0xff, 0xff, 0xff}, {0x40, 1, byte(i >> 8), byte(i), 0xff}, bytes.Repeat([]byte{0x40}, 1400)}[i%5]
		attacker.Write(garbage)
	}
	greedy := newClient(t)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() { greedy.Do(ctx, g.address, call(coap.GET, "/hang", nil, token(g.token))) })
	}
	<-g.asked // at least one hangs
	for range 20 {
		if r := g.do(call(coap.GET, "/mock", nil)); r.Code != coap.Content {
			t.Fatalf("got %v", r.Code)
		}
	}
	cancel()
	all.Wait()
	if stats := g.front.Stats()["coap"]; stats.Malformed == 0 || stats.Peers > 3 {
		t.Errorf("stats %+v", stats)
	}
}

// TestLibcoap calls the front with a client that is not ours.
func TestLibcoap(t *testing.T) {
	if _, err := exec.LookPath("coap-client-notls"); err != nil {
		t.Fatal("this test needs coap-client-notls from the Debian package libcoap3-bin")
	}
	g := newGateway(t)
	for _, test := range []struct {
		name      string
		arguments []string
		path      string
		want      string
	}{
		{"POST CBOR", []string{"-m", "post", "-t", "60", "-e", "%A2%61%74%F9%4D%60%61%75%63%43%65%6C"}, "/readings", "c:2.01"},
		{"POST that breaks the schema", []string{"-m", "post", "-t", "50", "-e", `{"t":99}`}, "/readings", "c:4.22"},
		{"GET", []string{"-m", "get"}, "/readings", `{"t":21.5,"u":"C"}`},
		{"NON GET", []string{"-N", "-m", "get"}, "/readings", "t:NON c:2.05"},
		{"GET as CBOR", []string{"-m", "get", "-A", "60"}, "/readings", "c:2.05"},
		{"discovery", []string{"-m", "get", "-b", "64"}, "/.well-known/core", "addReading"},
	} {
		t.Run(test.name, func(t *testing.T) {
			arguments := append([]string{"-v", "7", "-B", "60", "-O", fmt.Sprintf("%d,%s", OptionCredential, g.token)}, test.arguments...)
			out, err := exec.CommandContext(t.Context(), "coap-client-notls", append(arguments, "coap://"+g.address.String()+test.path)...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), test.want) {
				t.Errorf("%v; no %q in\n%s", err, test.want, out)
			}
		})
	}
}

func TestLibcoapObserves(t *testing.T) {
	g := newGateway(t)
	var out output.Buffer
	client := exec.CommandContext(t.Context(), "coap-client-notls", "-v", "7", "-s", "600", "-B", "600", "-w",
		"-O", fmt.Sprintf("%d,%s", OptionCredential, g.token), "coap://"+g.address.String()+"/temperature")
	client.Stdout, client.Stderr = &out, &out
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		client.Process.Kill()
		client.Wait()
	}()
	for g.front.Stats()["coap"].Observations == 0 {
		time.Sleep(time.Millisecond)
	}
	g.pipeline.Broker.Publish(&broker.Message{Topic: "t/d7", Payload: []byte(`{"t":33}`), ContentType: "application/json"}, nil)
	for g.front.Stats()["coap"].Sent < 2 {
		time.Sleep(time.Millisecond)
	}
	g.change(fieldgate.PrincipalDevice, "d7", fieldgate.StateQuarantined, g.token)
	for g.front.Stats()["coap"].Observations != 0 {
		time.Sleep(time.Millisecond)
	}
	for _, want := range []string{`{"t":33}`, "t:CON c:4.03"} {
		eventually(t, "the client says "+want, func() bool { return strings.Contains(out.String(), want) })
	}
}
