package coapfront

import (
	"bytes"
	"context"
	"crypto/sha256"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/coap"
)

// onRamp is a front with nothing but an on-ramp to a service that speaks CoAP.
type onRamp struct {
	*gateway
	service *coap.UDP
}

func newOnRamp(t *testing.T, handler coap.Handler) *onRamp {
	t.Helper()
	r := &onRamp{gateway: &gateway{TB: t, records: &records{}}}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if r.service, err = coap.NewUDP(conn, coap.Config{MaxBody: 2 << 20}, 8, handler, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	d, err := directory.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	set, err := upstream.NewSet([]fieldgate.Upstream{{Name: "old", Addresses: []string{"coap://" + conn.LocalAddr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	r.pipeline = pipeline.New(pipeline.Config{Node: "n1", Directory: d, Upstreams: set, Broker: broker.New(), Recorder: r.records})
	rules, err := pipeline.NewCoAPOnRamp("old", []string{"/admin"})
	if err != nil {
		t.Fatal(err)
	}
	if r.front, err = Listen(Config{OnRamp: OnRamp{Address: "127.0.0.1:0", Rules: rules}, Pipeline: r.pipeline, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	r.address = r.front.Addresses()["coap-on-ramp"]
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 4)
	for _, run := range []func(){func() { r.service.Run(ctx) }, func() { set.Run(ctx) }, func() { r.pipeline.Observe(ctx) }, func() { r.front.Run(ctx) }} {
		go func() {
			run()
			ended <- struct{}{}
		}()
	}
	t.Cleanup(func() {
		cancel()
		for range 4 {
			<-ended
		}
	})
	r.client = newClient(t)
	return r
}

func TestOnRampPassesAnything(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 4<<10) // 64 KiB
	stored := make(chan [32]byte, 1)
	r := newOnRamp(t, func(request *coap.Request, response *coap.Response) func(context.Context) {
		accept, asked := request.Uint(coap.Accept)
		switch {
		case request.Path() == "/big" && request.Code == coap.PUT:
			stored <- sha256.Sum256(request.Body)
			response.Code = coap.Created
			response.Options.AddString(coap.LocationPath, "big")
			response.Options.AddString(coap.LocationPath, "a b")
		case request.Path() == "/big":
			response.Code, response.Body = coap.Content, big
			response.Options.AddUint(coap.ContentFormat, 11542)
			response.Options.Add(coap.ETag, []byte{1, 2})
			response.Options.AddUint(coap.MaxAge, 7)
		case request.Path() == "/echo":
			response.Code, response.Body = coap.Content, append([]byte(request.Query()+" "), request.Body...)
			if asked {
				response.Options.AddUint(coap.ContentFormat, accept)
			}
		case request.Path() == "/busy":
			response.Code = coap.ServiceUnavailable
			response.Options.AddUint(coap.MaxAge, 9)
			response.Body = []byte("come back")
		default:
			response.Code = coap.NotFound
		}
		return nil
	})
	reply := r.do(call(coap.PUT, "/big", big, number(coap.ContentFormat, coap.OctetStream)))
	if reply.Code != coap.Created || <-stored != sha256.Sum256(big) || reply.Location() != "/big/a%20b" {
		t.Errorf("PUT: %v, Location %q", reply.Code, reply.Location())
	}
	reply = r.do(call(coap.GET, "/big", nil))
	format, _ := reply.Uint(coap.ContentFormat)
	age, _ := reply.Uint(coap.MaxAge)
	tag, _ := reply.Option(coap.ETag)
	if reply.Code != coap.Content || !bytes.Equal(reply.Body, big) || format != 11542 || age != 7 || !bytes.Equal(tag, []byte{1, 2}) {
		t.Errorf("GET: %v, %d bytes, format %d, Max-Age %d, ETag %x", reply.Code, len(reply.Body), format, age, tag)
	}
	reply = r.do(call(coap.FETCH, "/echo", []byte("q"), text(coap.URIQuery, "a=1"), text(coap.URIQuery, "b"), number(coap.Accept, 65001)))
	format, _ = reply.Uint(coap.ContentFormat)
	if reply.Code != coap.Content || string(reply.Body) != "a=1&b q" || format != 65001 {
		t.Errorf("FETCH: %v %q, format %d", reply.Code, reply.Body, format)
	}
	reply = r.do(call(coap.GET, "/busy", nil))
	if age, _ = reply.Uint(coap.MaxAge); reply.Code != coap.ServiceUnavailable || age != 9 || string(reply.Body) != "come back" {
		t.Errorf("an error: %v, Max-Age %d, %q", reply.Code, age, reply.Body)
	}
	if reply = r.do(call(coap.GET, "/no/such", nil)); reply.Code != coap.NotFound {
		t.Errorf("an error without content: %v", reply.Code)
	}
	if reply = r.do(call(coap.GET, "/admin/keys", nil)); reply.Code != coap.Forbidden {
		t.Errorf("a path that is denied: %v", reply.Code)
	}
	if reply = r.do(call(coap.GET, "/administration", nil)); reply.Code != coap.NotFound {
		t.Errorf("a path that only begins like one that is denied: %v", reply.Code)
	}
	records := r.records.take(t, 7)
	if record := records[1]; record.API != pipeline.CoAPOnRampName || record.Findings&fieldgate.FindingUndocumented == 0 || record.Route != "/big" {
		t.Errorf("record %+v", record)
	}
}

func TestOnRampObserves(t *testing.T) {
	watched := make(chan *coap.Observation, 10)
	r := newOnRamp(t, func(request *coap.Request, response *coap.Response) func(context.Context) {
		response.Code, response.Body = coap.Content, []byte("1")
		if request.Registers() {
			response.Observation = new(coap.Observation)
			watched <- response.Observation
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	heard := []chan string{make(chan string, 100), make(chan string, 100)}
	for _, heard := range heard {
		client := newClient(t)
		go client.Observe(ctx, r.address, call(coap.GET, "/state", nil), func(reply *coap.Reply) bool {
			heard <- string(reply.Body)
			return true
		})
	}
	await := func(want string) {
		t.Helper()
		for i, heard := range heard {
			for got := ""; got != want; {
				select {
				case got = <-heard:
				case <-ctx.Done():
					t.Fatalf("client %d did not hear %q", i, want)
				}
			}
		}
	}
	await("1") // by each, which may hear it twice: only then the service says that it has changed
	observation := <-watched
	r.service.Notify(observation, &coap.Response{Body: []byte("2")})
	await("2")
	if len(watched) != 0 {
		t.Error("the service is observed more than once")
	}
}

// Who observes by FETCH (RFC 8132 section 2) hears what answers its own question.
func TestOnRampObservesFetch(t *testing.T) {
	type watching struct {
		*coap.Observation
		question string
	}
	watched := make(chan watching, 10)
	r := newOnRamp(t, func(request *coap.Request, response *coap.Response) func(context.Context) {
		response.Code, response.Body = coap.Content, append([]byte("now "), request.Body...)
		if request.Registers() {
			response.Observation = new(coap.Observation)
			watched <- watching{response.Observation, request.Code.String() + " " + string(request.Body)}
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	heard := make(chan string, 100)
	observe := func(who, question string) {
		client := newClient(t)
		go client.Observe(ctx, r.address, call(coap.FETCH, "/state", []byte(question)), func(reply *coap.Reply) bool {
			heard <- who + " " + string(reply.Body)
			return true
		})
	}
	await := func(want ...string) {
		t.Helper()
		for len(want) > 0 {
			select {
			case got := <-heard:
				want = slices.DeleteFunc(want, func(one string) bool { return one == got })
			case <-ctx.Done():
				t.Fatalf("%q was not heard", want)
			}
		}
	}
	observe("alice", "a")
	observe("bob", "b")
	observe("carol", "b")
	await("alice now a", "bob now b", "carol now b")
	for range 2 {
		w := <-watched
		if w.question != "FETCH a" && w.question != "FETCH b" {
			t.Fatalf("the service is asked %q", w.question)
		}
		r.service.Notify(w.Observation, &coap.Response{Body: []byte("then " + w.question)})
	}
	await("alice then FETCH a", "bob then FETCH b", "carol then FETCH b")
	if len(watched) != 0 {
		t.Error("a question is observed more than once")
	}
	plain := call(coap.FETCH, "/state", bytes.Repeat([]byte("q"), 1025))
	plain.ObserveResource = true
	answered := make(chan *coap.Reply, 1)
	go newClient(t).Observe(ctx, r.address, plain, func(reply *coap.Reply) bool { answered <- reply; return false })
	if reply := <-answered; len(reply.Body) != 4+1025 {
		t.Errorf("a question that is too long to be kept: %v, %d bytes", reply.Code, len(reply.Body))
	} else if _, ok := reply.Uint(coap.Observe); ok {
		t.Error("it is observed")
	}
}
