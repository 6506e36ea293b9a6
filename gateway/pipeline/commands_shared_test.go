package pipeline

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/upstream"
	"fieldgate/test/nats"
)

var commandsStream = bus.Stream{Name: fieldgate.StreamCommands, Subjects: []string{fieldgate.SubjectCommands + "*"}, MaxBytes: 64 << 20, Latest: true}

// openBus is a bus in this process, with the stream of commands.
func openBus(t testing.TB, folder string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(bus.Config{Directory: folder, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if _, err := b.Keep(t.Context(), commandsStream); err != nil {
		t.Fatal(err)
	}
	return b
}

// pumps are gateways in front of one service, which share a bus.
type pumps struct {
	gateways []*Pipeline
	calls    atomic.Int32
	close    func() // ends the service
}

// newPumps has an operation /required whose commands need a key, and /optional.
func newPumps(t testing.TB, b *bus.Bus, gateways int, service http.HandlerFunc) *pumps {
	t.Helper()
	p := new(pumps)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := p.calls.Add(1)
		if service != nil {
			service(w, r)
			return
		}
		w.Header().Set("X-Pump", "7")
		w.WriteHeader(201)
		fmt.Fprint(w, "dose ", n)
	}))
	t.Cleanup(server.Close)
	p.close = server.Close
	operation := func(path string, required bool) fieldgate.Operation {
		return fieldgate.Operation{ID: path, Access: fieldgate.Access{Anonymous: true}, Upstream: "pump", MaxBody: 1024, Timeout: 20 * time.Second,
			Request:  &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "text/plain"}}},
			HTTP:     &fieldgate.HTTPBinding{Method: fieldgate.MethodPost, Path: path},
			Policies: &fieldgate.Policies{Idempotency: &fieldgate.Idempotency{Field: "idempotency-key", TTL: time.Hour, Required: required}}}
	}
	contract := &fieldgate.Contract{API: "pump", Version: "1.0.0", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{operation("/required", true), operation("/optional", false)}}
	for i := range gateways {
		d, err := directory.Open(t.TempDir(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		upstreams, err := upstream.NewSet([]fieldgate.Upstream{{Name: "pump", Addresses: []string{server.URL}}})
		if err != nil {
			t.Fatal(err)
		}
		gateway := New(Config{Node: fmt.Sprint("g", i), Directory: d, Upstreams: upstreams, Broker: broker.New(), Recorder: new(records), Bus: b})
		program, err := Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{contract}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		gateway.Install(program)
		p.gateways = append(p.gateways, gateway)
	}
	return p
}

// give sends a command to a gateway, and says what was answered.
func (p *pumps) give(gateway int, path, key, body string) *Exchange {
	x := &Exchange{Protocol: fieldgate.ProtocolHTTP, Method: fieldgate.MethodPost, Path: []byte(path), Body: []byte(body), ContentType: []byte("text/plain"),
		Source: netip.MustParseAddrPort("127.0.0.1:9"), Fields: fields{"idempotency-key": key}}
	g := p.gateways[gateway]
	defer g.Finish(x)
	if g.Begin(x) == nil && g.Check(x) == nil {
		g.Forward(context.Background(), x)
	}
	return x
}

func said(x *Exchange) string {
	if x.Problem != nil {
		return fmt.Sprint(x.Status(), " ", x.Problem.Code)
	}
	text := fmt.Sprintf("%d %s", x.Answer.Status, x.Answer.Body)
	if x.Answer.fieldNamed("idempotent-replayed") == "true" {
		text += " again"
	}
	return text
}

// draft-ietf-httpapi-idempotency-key-header-07 section 2.6, for gateways that share a bus: whichever of them is asked, one carries the
// command out; the others answer that it is under way, and what it came to as soon as it has.
func TestSharedCommands(t *testing.T) {
	p := newPumps(t, openBus(t, t.TempDir()), 3, nil)
	for key := range 20 {
		before := p.calls.Load()
		var all sync.WaitGroup
		for i := range 30 {
			all.Go(func() {
				if got := said(p.give(i%3, "/required", fmt.Sprint(key), "1 ml")); !strings.HasPrefix(got, "201 dose") && got != "409 command-running" {
					t.Error(got)
				}
			})
		}
		all.Wait()
		if p.calls.Load() != before+1 {
			t.Fatalf("the service was called %d times", p.calls.Load()-before)
		}
		for i := range 3 {
			x := p.give(i, "/required", fmt.Sprint(key), "1 ml")
			if got, want := said(x), fmt.Sprintf("201 dose %d again", before+1); got != want || x.Answer.fieldNamed("x-pump") != "7" {
				t.Errorf("gateway %d: %s, want %s %v", i, got, want, x.Answer.Fields)
			}
			if got := said(p.give(i, "/required", fmt.Sprint(key), "2 ml")); got != "422 key-reused" {
				t.Errorf("gateway %d, another command: %s", i, got)
			}
		}
	}
}

// What was answered is answered again after a restart of gateway and bus. The bus holds hashes of keys only.
func TestSharedCommandsSurviveRestart(t *testing.T) {
	folder := t.TempDir()
	b, err := bus.Open(bus.Config{Directory: folder, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Keep(t.Context(), commandsStream); err != nil {
		t.Fatal(err)
	}
	first := said(newPumps(t, b, 1, nil).give(0, "/required", "my-own-key", "1 ml"))
	err = b.Read(t.Context(), fieldgate.StreamCommands, 1, 10, func(entries []bus.Entry) error {
		for _, entry := range entries {
			if text := entry.Subject + string(entry.Data); strings.Contains(text, "my-own-key") || strings.Contains(text, "1 ml") {
				t.Errorf("it holds %q", text)
			}
		}
		return errors.New("enough")
	})
	if err == nil || err.Error() != "enough" {
		t.Fatal(err)
	}
	b.Close()
	p := newPumps(t, openBus(t, folder), 1, nil)
	if again := said(p.give(0, "/required", "my-own-key", "1 ml")); again != first+" again" || p.calls.Load() != 0 {
		t.Errorf("%q, then %q", first, again)
	}
}

// A gateway that ends midway leaves the command under way until it cannot be any more; then nobody knows what came of it, and the key is
// not used again.
func TestCommandOfGatewayThatEnded(t *testing.T) {
	b := openBus(t, t.TempDir())
	called, release := make(chan struct{}), make(chan struct{})
	p := newPumps(t, b, 2, func(w http.ResponseWriter, r *http.Request) {
		close(called)
		<-release
	})
	var first sync.WaitGroup
	first.Go(func() { p.give(0, "/required", "k", "1 ml") })
	<-called
	if got := said(p.give(1, "/required", "k", "1 ml")); got != "409 command-running" {
		t.Error(got)
	}
	// As the gateway began it, but that its time is over.
	c := commandOf(t, b)
	held, err := b.Latest(t.Context(), fieldgate.StreamCommands, c)
	if err != nil {
		t.Fatal(err)
	}
	state, err := decodeCommand(held.Data)
	if err != nil || state.Lasts != 20*time.Second+commandMargin {
		t.Fatal(state, err)
	}
	state.Lasts = 1
	if _, err := b.Put(t.Context(), c, state.encode(), held.Sequence, time.Hour); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := said(p.give(1, "/required", "k", "1 ml")); got != "409 command-unknown" {
			t.Error(got)
		}
	}
	close(release)
	first.Wait()
	if p.calls.Load() != 1 {
		t.Errorf("%d calls", p.calls.Load())
	}
}

// commandOf is the subject of the only command there is.
func commandOf(t *testing.T, b *bus.Bus) (subject string) {
	t.Helper()
	b.Read(t.Context(), fieldgate.StreamCommands, 1, 1, func(entries []bus.Entry) error {
		subject = entries[0].Subject
		return errors.New("enough")
	})
	return subject
}

// What failed may be tried again, at any gateway; an answer that is too large to share is told by the gateway that has it.
func TestSharedCommandsThatFailOrAreLarge(t *testing.T) {
	var status atomic.Int32
	status.Store(503)
	p := newPumps(t, openBus(t, t.TempDir()), 2, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(int(status.Load()))
		if status.Load() == 200 {
			w.Write(make([]byte, maxSharedBytes+1))
		}
	})
	for _, c := range []struct {
		gateway int
		status  int32
		want    string
		calls   int32
	}{
		{0, 503, "503 ", 1},
		{1, 503, "503 ", 2},
		{0, 200, "200 ", 3},
		{0, 200, "200 ", 3},
		{1, 200, "409 command-unknown", 3},
	} {
		status.Store(c.status)
		if got := said(p.give(c.gateway, "/required", "k", "1 ml")); !strings.HasPrefix(got, c.want) || p.calls.Load() != c.calls {
			t.Errorf("gateway %d: %.40s after %d calls, want %s after %d", c.gateway, got, p.calls.Load(), c.want, c.calls)
		}
	}
}

// Without the bus a command that must have a key is not carried out; one that may is, and this gateway remembers it.
func TestCommandsWithoutBus(t *testing.T) {
	away, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)}) // it has no stream of commands
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(away.Close)
	full, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(full.Close)
	small := commandsStream
	small.MaxBytes = 100
	if _, err := full.Keep(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		bus  *bus.Bus
		want string
	}{"away": {away, "503 not-durable"}, "full": {full, "503 overloaded"}} {
		p := newPumps(t, c.bus, 1, nil)
		x := p.give(0, "/required", "k", "1 ml")
		if got := said(x); got != c.want || x.Problem.RetryAfter == 0 || p.calls.Load() != 0 {
			t.Errorf("%s: %s, %d calls", name, got, p.calls.Load())
		}
		if got := said(p.give(0, "/optional", "k", "1 ml")) + ", " + said(p.give(0, "/optional", "k", "1 ml")); got != "201 dose 1, 201 dose 1 again" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A bus that hangs holds a command up for a moment only. Its key is free when the bus goes on, since nothing was carried out.
func TestCommandsWhileBusHangs(t *testing.T) {
	cluster := nats.New(t, 1, "")
	b, err := bus.Connect(bus.Cluster{URLs: cluster.URLs(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if _, err := b.Keep(t.Context(), commandsStream); err != nil {
		t.Fatal(err)
	}
	p := newPumps(t, b, 2, nil)
	cluster.Pause(0)
	for err := error(nil); err == nil; { // until the signal has come through
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err = b.State(ctx, fieldgate.StreamCommands)
		cancel()
	}
	if got := said(p.give(0, "/required", "k", "1 ml")); got != "503 not-durable" || p.calls.Load() != 0 {
		t.Errorf("%s, %d calls", got, p.calls.Load())
	}
	cluster.Continue(0) // it takes the key now
	deadline := time.Now().Add(time.Minute)
	for got := ""; got != "201 dose 1"; time.Sleep(10 * time.Millisecond) {
		if got = said(p.give(1, "/required", "k", "1 ml")); got != "201 dose 1" && got != "409 command-running" && got != "503 not-durable" || time.Now().After(deadline) {
			t.Fatal(got)
		}
	}
}

// The share of a caller holds in the stream, too.
func TestShareOfSharedCommands(t *testing.T) {
	b := openBus(t, t.TempDir())
	p := newPumps(t, b, 1, nil)
	operation := p.gateways[0].Program().Operations[0]
	const more = 500
	for n := range maxCommands/callerShare + more {
		key := sha256.Sum256(fmt.Append(nil, n))
		begun, _, problem := p.gateways[0].commands.begin(key, key, 1, time.Now())
		if problem != nil {
			t.Fatal(problem)
		}
		x := &Exchange{Operation: operation, command: begun}
		if problem := p.gateways[0].claim(t.Context(), x); problem != nil {
			t.Fatal(problem)
		}
		x.Answer.Status = 204
		p.gateways[0].finishCommand(x)
	}
	deadline := time.Now().Add(time.Minute)
	for state := (bus.StreamState{}); state.Messages != maxCommands/callerShare; time.Sleep(10 * time.Millisecond) {
		var err error
		if state, err = b.State(t.Context(), fieldgate.StreamCommands); err != nil || time.Now().After(deadline) {
			t.Fatal(state, err)
		}
	}
}

// What a command costs whose key the gateways share, and what one costs whose key is this gateway's alone.
func BenchmarkCommand(b *testing.B) {
	for name, shared := range map[string]*bus.Bus{"alone": nil, "shared": openBus(b, b.TempDir())} {
		b.Run(name, func(b *testing.B) {
			p := newPumps(b, shared, 1, nil).gateways[0]
			operation := p.Program().Operations[0]
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				key := sha256.Sum256(fmt.Append(nil, b.Name(), b.N, n, time.Now()))
				begun, _, problem := p.commands.begin(key, key, directory.Ref(n%20), time.Now())
				if problem != nil {
					b.Fatal(problem)
				}
				x := &Exchange{Operation: operation, command: begun}
				if shared != nil {
					if problem := p.claim(b.Context(), x); problem != nil {
						b.Fatal(problem)
					}
				}
				x.Answer = Answer{Status: 201, Body: []byte("done")}
				p.finishCommand(x)
			}
		})
	}
}

// A service that got a command and fell silent may have carried it out: where keys are demanded it does not get it again.
func TestCommandsWithoutAnswer(t *testing.T) {
	p := newPumps(t, openBus(t, t.TempDir()), 2, func(w http.ResponseWriter, r *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		connection.Close()
	})
	for _, c := range []struct {
		gateway int
		path    string
		want    string
		calls   int32
	}{
		{0, "/required", "502 upstream-unreachable", 1},
		{0, "/required", "409 command-unknown", 1},
		{1, "/required", "409 command-unknown", 1},
		{0, "/optional", "502 upstream-unreachable", 2},
		{1, "/optional", "502 upstream-unreachable", 3},
	} {
		if got := said(p.give(c.gateway, c.path, "k", "1 ml")); got != c.want || p.calls.Load() != c.calls {
			t.Errorf("%s at gateway %d: %s after %d calls, want %s after %d", c.path, c.gateway, got, p.calls.Load(), c.want, c.calls)
		}
	}
	p.close()
	for range 2 { // nothing was sent
		if got := said(p.give(0, "/required", "other", "1 ml")); got != "502 upstream-unreachable" {
			t.Error(got)
		}
	}
}
