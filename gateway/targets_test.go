package gateway

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/upstream"
	"fieldgate/test/output"
)

// registry plays the control plane's part that knows registered addresses; a page holds one upstream.
type registry struct {
	mu    sync.Mutex
	pages map[string][]fieldgate.Target
	order []string
	at    uint64
}

func (r *registry) answer(question []byte) (bus.Answer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var asked fieldgate.TargetsRequest
	if err := json.Unmarshal(question, &asked); err != nil {
		return bus.Answer{}, err
	}
	page := fieldgate.TargetsPage{Installation: 7, Version: r.at, Upstreams: map[string][]fieldgate.Target{}}
	if asked.Installation != 7 || asked.Version != r.at {
		for i, name := range r.order {
			if name > asked.After {
				page.Upstreams[name], page.More = r.pages[name], i < len(r.order)-1
				break
			}
		}
	}
	data, err := json.Marshal(page)
	return bus.Answer{Data: data}, err
}

func (r *registry) set(pages map[string][]fieldgate.Target, order ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pages, r.order = pages, order
	r.at++
}

func addressesOf(s *upstream.Set) string {
	var all []string
	for _, state := range s.States() {
		for _, a := range state.Addresses {
			all = append(all, state.Name+" "+a.Address)
		}
	}
	return strings.Join(all, ", ")
}

// The gateway uses what is registered with the control plane, for upstreams that take it, and goes on with its copy without it.
func TestRegisteredTargets(t *testing.T) {
	b := openBus(t)
	r := &registry{}
	r.set(map[string][]fieldgate.Target{"a": {{Address: "http://10.0.0.1:1", Weight: 1}}, "b": {{Address: "http://10.0.0.2:1"}}, "c": {{Address: "http://10.0.0.3:1"}}}, "a", "b", "c")
	stop, err := b.Serve(fieldgate.SubjectTargets, r.answer)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	config := Config{Node: "n1", Folder: folder, HTTP: "127.0.0.1:0", Bus: b, Logger: slog.New(slog.DiscardHandler), Settings: Settings{Upstreams: []fieldgate.Upstream{
		{Name: "a", Discovery: fieldgate.Discovery{Registered: true}},
		{Name: "b", Addresses: []string{"http://10.9.0.1:1"}},
		{Name: "c", Addresses: []string{"http://10.9.0.2:1"}, Discovery: fieldgate.Discovery{Registered: true}}}}}
	start := func() (g *Gateway, stop func()) {
		t.Helper()
		g, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		return g, serving(t, g)
	}
	wait := func(g *Gateway, want string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			if got := addressesOf(g.pipeline.Upstreams); got == want {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("the addresses are %s", got)
			}
		}
	}
	g, end := start()
	wait(g, "a http://10.0.0.1:1, b http://10.9.0.1:1, c http://10.9.0.2:1, c http://10.0.0.3:1")
	r.set(map[string][]fieldgate.Target{"a": {{Address: "http://10.0.0.4:1"}}}, "a")
	if err := b.Publish(fieldgate.SubjectTargetsChanged, nil); err != nil {
		t.Fatal(err)
	}
	wait(g, "a http://10.0.0.4:1, b http://10.9.0.1:1, c http://10.9.0.2:1")
	for deadline := time.Now().Add(patience); g.state().Targets != 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("version %d is said to be in force", g.state().Targets)
		}
	}

	// An upstream that takes registered addresses from now on has them at once.
	r.set(map[string][]fieldgate.Target{"a": {{Address: "http://10.0.0.4:1"}}, "b": {{Address: "http://10.0.0.5:1"}}}, "a", "b")
	for deadline := time.Now().Add(patience); g.targets.version.Load() != 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a lost nudge is not made good")
		}
	}
	stop()
	config.Settings.Upstreams[1].Discovery.Registered = true
	if err := g.Reload(config.Settings); err != nil {
		t.Fatal(err)
	}
	with := "a http://10.0.0.4:1, b http://10.9.0.1:1, b http://10.0.0.5:1, c http://10.9.0.2:1"
	wait(g, with)
	end()
	g, end = start() // without a control plane
	wait(g, with)
	end()

	if err := os.WriteFile(filepath.Join(folder, "targets"), []byte(`{"installation":7,`), 0o600); err != nil {
		t.Fatal(err)
	}
	g, end = start()
	wait(g, "b http://10.9.0.1:1, c http://10.9.0.2:1")
	end()
	if aside, _ := filepath.Glob(filepath.Join(folder, "targets.corrupt-*")); len(aside) != 1 {
		t.Error("the damaged file is not kept")
	}
}

// An address that dies is told at once, in the log and to the control plane.
func TestUpstreamsAreTold(t *testing.T) {
	b := openBus(t)
	states := make(chan fieldgate.GatewayState, 100)
	stop, err := b.Subscribe(fieldgate.SubjectGatewayState, func(_ string, data []byte) {
		var state fieldgate.GatewayState
		if err := json.Unmarshal(data, &state); err == nil && state.Upstreams != nil {
			states <- state
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	var log output.Buffer
	g, err := New(Config{Node: "n1", Folder: t.TempDir(), HTTP: "127.0.0.1:0", Bus: b, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Settings: Settings{Upstreams: []fieldgate.Upstream{{Name: "therapy", Addresses: []string{"http://127.0.0.1:1"},
			Health: fieldgate.HealthCheck{Kind: fieldgate.HealthTCP, Interval: 20 * time.Millisecond, Unhealthy: 2}}}}})
	if err != nil {
		t.Fatal(err)
	}
	end := serving(t, g)
	for deadline := time.After(patience); ; {
		select {
		case state := <-states:
			if u := state.Upstreams[0]; u.Unhealthy == 1 && strings.Contains(u.Addresses[0].Why, "connection refused") {
				end()
				if text := log.String(); strings.Count(text, `level=WARN msg="an address is left out" upstream=therapy address=http://127.0.0.1:1 why="check: `) != 1 {
					t.Error(text)
				}
				return
			}
		case <-deadline:
			t.Fatal("it is not told")
		}
	}
}
