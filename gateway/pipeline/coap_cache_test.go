package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/coap"
)

// Answers of a service that speaks CoAP are kept for callers of HTTP while they are fresh (RFC 7252 §5.6.1), and asked about by their tag from then
// on (RFC 7252 §5.6.2).
func TestAnswersOfCoAPServicesAreKept(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	var version byte
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	server, err := coap.NewUDP(conn, coap.Config{}, 1, func(request *coap.Request, response *coap.Response) func(context.Context) {
		mu.Lock()
		defer mu.Unlock()
		tag, tagged := request.Option(coap.ETag)
		asked = append(asked, fmt.Sprintf("%s %x", request.Path(), tag))
		response.Trusted = true
		response.Options.Add(coap.ETag, []byte{version})
		if request.Path() == "/stale" {
			response.Options.AddUint(coap.MaxAge, 0)
		}
		if response.Code = coap.Content; tagged && tag[0] == version {
			response.Code = coap.Valid
			return nil
		}
		response.Body = fmt.Appendf(nil, "version %d", version)
		return nil
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d, err := directory.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	set, err := upstream.NewSet([]fieldgate.Upstream{{Name: "thing", Addresses: []string{"coap://" + conn.LocalAddr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []func(context.Context){func(ctx context.Context) { server.Run(ctx) }, func(ctx context.Context) { set.Run(ctx) }} {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			part(ctx)
			close(ended)
		}()
		t.Cleanup(func() {
			cancel()
			<-ended
		})
	}
	p := New(Config{Node: "n1", Directory: d, Upstreams: set, Broker: broker.New(), Recorder: new(records)})
	program, err := Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{{API: "things", Version: "1.0.0", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "read", Access: fieldgate.Access{Anonymous: true}, Upstream: "thing", Idempotent: true, MaxBody: 1024,
			Policies:   &fieldgate.Policies{Cache: &fieldgate.Cache{Shared: true}},
			Parameters: []fieldgate.Parameter{{Name: "id", In: fieldgate.InPath, Required: true}},
			HTTP:       &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/{id}"}}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Install(program)
	for _, step := range []struct {
		path    string
		version byte
		want    string // of the answer
		asks    string // of the service; empty: it is not asked
	}{
		{"/fresh", 1, "version 1, tag 01", "/fresh "},
		{"/fresh", 2, "version 1, tag 01", ""},
		{"/stale", 1, "version 1, tag 01", "/stale "},
		{"/stale", 1, "version 1, tag 01", "/stale 01"},
		{"/stale", 2, "version 2, tag 02", "/stale 01"},
		{"/stale", 2, "version 2, tag 02", "/stale 02"},
	} {
		mu.Lock()
		asked, version = nil, step.version
		mu.Unlock()
		x := &Exchange{Protocol: fieldgate.ProtocolHTTP, Method: fieldgate.MethodGet, Path: []byte(step.path)}
		problem := p.Begin(x)
		if problem == nil && !x.Answered() {
			problem = p.Forward(t.Context(), x)
		}
		if problem != nil {
			t.Fatal(problem)
		}
		got := fmt.Sprintf("%s, tag %s", x.Answer.Body, x.Answer.ETag)
		if x.Answer.Status != 200 || got != step.want {
			t.Errorf("%s: %d %s, want %s", step.path, x.Answer.Status, got, step.want)
		}
		mu.Lock()
		if want := "[" + step.asks + "]"; fmt.Sprint(asked) != want {
			t.Errorf("%s: the service was asked %q, want %s", step.path, asked, want)
		}
		mu.Unlock()
		p.Finish(x)
	}
}
