package capture

import (
	"log/slog"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
)

// An exchange while nothing is captured, while something else is, and while it is captured itself.
func BenchmarkExchange(b *testing.B) {
	d, err := directory.Open(b.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	upstreams, err := upstream.NewSet(nil)
	if err != nil {
		b.Fatal(err)
	}
	p := pipeline.New(pipeline.Config{Node: "n1", Directory: d, Upstreams: upstreams, Broker: broker.New(), Recorder: nobody{}})
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{{API: "home", Version: "1", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "look", Access: fieldgate.Access{Anonymous: true}, MaxBody: 1024, HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodPost, Path: "/look"}}}}}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	p.Install(program)
	for _, c := range []struct{ name, api string }{{"off", "-"}, {"another API", "another"}, {"captured", "home"}} {
		b.Run(c.name, func(b *testing.B) {
			captures := New("n1", p, nil, slog.New(slog.DiscardHandler))
			if c.api != "-" {
				captures.orders = []*order{{fieldgate.CaptureOrder{ID: "c1", Filter: fieldgate.CaptureFilter{API: c.api}}, time.Now().Add(time.Hour), 1 << 30}}
				p.SetTap(captures)
				b.Cleanup(func() { p.SetTap(nil) })
			}
			x, path := new(pipeline.Exchange), []byte("/look")
			b.ReportAllocs()
			for b.Loop() {
				x.Reset()
				x.Protocol, x.Method, x.Path = fieldgate.ProtocolHTTP, fieldgate.MethodPost, path
				if problem := p.Begin(x); problem != nil {
					b.Fatal(problem)
				}
				if problem := p.Check(x); problem != nil {
					b.Fatal(problem)
				}
				x.Answer.Status = 204
				p.Finish(x)
			}
		})
	}
}
