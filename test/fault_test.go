package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fieldgate/test/halt"
)

// pause stops the node as a machine that hangs does: its connections stay open. resume undoes it.
func (n *node) pause() { halt.Stop(n.t, n.process.Process.Pid) }

func (n *node) resume() { n.process.Process.Signal(syscall.SIGCONT) }

// socket is a client of the node's admin API at its socket file, which a cut network does not touch.
func (n *node) socket() *http.Client {
	path := filepath.Join(n.folder, "data", "admin.sock")
	return &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}}
}

// ask sends a request to the admin API and gives the answer's status and body.
func (n *node) ask(method, path string, body []byte) (status int, answer []byte, err error) {
	token, err := os.ReadFile(filepath.Join(n.folder, "data", "operator.token"))
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequest(method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	response, err := n.socket().Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// healthItem is what a control node says of a part that is stale or away.
type healthItem struct {
	Part, Node, Message string
	Since               time.Time
}

// watcher follows a control node's stream of events, as the console does.
type watcher struct {
	mu    sync.Mutex
	items []healthItem
	end   func()
}

// watch listens until the test ends.
func (n *node) watch() *watcher {
	n.t.Helper()
	token, err := os.ReadFile(filepath.Join(n.folder, "data", "operator.token"))
	if err != nil {
		n.t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodGet, "http://localhost/api/v1/events", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	client := n.socket()
	client.Timeout = 0
	response, err := client.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		n.t.Fatal(response.Status)
	}
	w := &watcher{end: func() { response.Body.Close() }}
	n.t.Cleanup(w.end)
	go func() {
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		event := ""
		for lines.Scan() {
			if name, is := strings.CutPrefix(lines.Text(), "event: "); is {
				event = name
			} else if data, is := strings.CutPrefix(lines.Text(), "data: "); is && event == "health" {
				var report struct{ Items []healthItem }
				if json.Unmarshal([]byte(data), &report) == nil {
					w.mu.Lock()
					w.items = report.Items
					w.mu.Unlock()
				}
			}
		}
	}()
	return w
}

func (w *watcher) health() []healthItem {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.items
}

// find is the item about a part of a node, as told last.
func (w *watcher) find(part, node string) (healthItem, bool) {
	for _, item := range w.health() {
		if item.Part == part && item.Node == node {
			return item, true
		}
	}
	return healthItem{}, false
}

// caller is a device that calls a gateway without a pause, until it is told to stop. Each call that was sent leaves one Record, be it
// answered in time or not.
type caller struct {
	gateway        *node
	token          string
	sent, answered atomic.Int64
	excused        atomic.Bool // the gateway is stopped: it need not answer
	wrong          atomic.Pointer[string]
	stopping       chan struct{}
	ended          chan struct{}
}

func (n *node) caller(token string) *caller {
	c := &caller{gateway: n, token: token, stopping: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		for !stopped(c.stopping) {
			c.sent.Add(1)
			status, _, err := n.greet(token)
			if err == nil && status == http.StatusOK {
				c.answered.Add(1)
			} else if !c.excused.Load() {
				text := fmt.Sprintf("%d %v", status, err)
				c.wrong.CompareAndSwap(nil, &text)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return c
}

func (c *caller) stop() {
	close(c.stopping)
	<-c.ended
}

// decision is what became of a decision that was asked for during a fault.
type decision struct {
	status int
	took   time.Duration
	body   string
}

// decide asks for a device to be added.
func (n *node) decide(id string) decision {
	began := time.Now()
	status, body, err := n.ask(http.MethodPost, "/api/v1/devices", fmt.Appendf(nil, `{"id":%q}`, id))
	if err != nil {
		body = []byte(err.Error())
	}
	return decision{status, time.Since(began), string(body)}
}

// fault is one part of a cluster that is away for a while.
type fault struct {
	name       string
	cut, mend  func()
	gone       *node  // the node that is stopped, if it is one: it answers nobody
	part, node string // what the health of a control node names; empty: nothing is stale, because another server takes over
	by         *node  // the control node that tells it; nil: each that is not stopped
	refused    bool   // decisions cannot be taken: the database is away
	full       bool   // its disk is full, which decisions may be told
	traffic    int64  // calls that each gateway answers meanwhile, at the least
}

// cluster is a Fieldgate with some traffic.
type cluster struct {
	*engines
	t        *testing.T
	controls []*node
	gateways []*node
	callers  []*caller
	watchers map[*node]*watcher
	token    string
	devices  int
	total    int // exchanges so far, apart from those of callers: each leaves a Record
}

// greet is one exchange.
func (c *cluster) greet(gateway *node, token string) (status int, err error) {
	c.total++
	status, _, err = gateway.greet(token)
	return status, err
}

func newCluster(t *testing.T, e *engines, controls, gateways []*node) *cluster {
	c := &cluster{engines: e, t: t, controls: controls, gateways: gateways, watchers: make(map[*node]*watcher)}
	for _, n := range append(append([]*node{}, controls...), gateways...) {
		n.start()
	}
	for _, control := range controls {
		waitForGateways(t, control, len(gateways))
		c.watchers[control] = control.watch()
	}
	controls[0].publishGreeting(1)
	c.token = controls[0].run("device", "add", "caller", "--quiet")
	for _, g := range gateways {
		wait(t, "the contract on "+g.name, func() bool { status, err := c.greet(g, c.token); return err == nil && status == http.StatusOK })
	}
	return c
}

// endure lets a fault happen, and checks what Fieldgate promises during and after it.
func (c *cluster) endure(f fault) {
	t := c.t
	t.Helper()
	c.devices++
	gone := fmt.Sprintf("gone%d", c.devices)
	revoked := c.controls[0].run("device", "add", gone, "--quiet")
	c.callers = nil
	for _, g := range c.gateways {
		if status, err := c.greet(g, revoked); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %v", g.name, status, err)
		}
		c.callers = append(c.callers, g.caller(c.token))
	}
	var live []*node
	for _, control := range c.controls {
		if control != f.gone {
			live = append(live, control)
		}
	}

	for _, caller := range c.callers {
		caller.excused.Store(caller.gateway == f.gone)
	}
	cutAt := time.Now()
	f.cut()
	var slowest decision
	taken := make([]decision, len(live))
	var deciding sync.WaitGroup
	for i, control := range live {
		deciding.Go(func() { taken[i] = control.decide(fmt.Sprintf("during%d-%d", c.devices, i)) })
	}
	deciding.Wait()
	for i, control := range live {
		d := taken[i]
		if d.took > slowest.took {
			slowest = d
		}
		switch {
		case d.status == http.StatusCreated && !f.refused:
		case d.status == http.StatusServiceUnavailable && strings.Contains(d.body, "urn:fieldgate:problem:unavailable"):
		case f.full && d.status == http.StatusInsufficientStorage && strings.Contains(d.body, "urn:fieldgate:problem:disk-full"):
		default:
			t.Errorf("%s: a decision at %s is answered with %d %s", f.name, control.name, d.status, d.body)
		}
	}
	told := time.Duration(0)
	if f.part != "" {
		for _, control := range live {
			if f.by != nil && f.by != control {
				continue
			}
			var item healthItem
			wait(t, fmt.Sprintf("%s: %s to say that %s %s is away", f.name, control.name, f.part, f.node), func() (is bool) {
				item, is = c.watchers[control].find(f.part, f.node)
				return is
			})
			told = max(told, time.Since(cutAt))
			// Silence begins with the last word before the cut, which on a slow machine may have been more than the usual seconds before it.
			if early, late := cutAt.Add(-time.Minute), time.Now(); item.Since.Before(early) || item.Since.After(late) || item.Message == "" {
				t.Errorf("%s: %s tells %+v; the cut was at %v", f.name, control.name, item, cutAt)
			}
			c.statusTells(control, f, item)
		}
	}
	// A revocation that is decided meanwhile.
	isRevoked := false
	if !f.refused {
		for _, control := range live {
			if status, _, err := control.ask(http.MethodPost, "/api/v1/devices/"+gone+"/revoke", nil); err == nil && status < 300 {
				isRevoked = true
				break
			}
		}
		if !isRevoked {
			t.Errorf("%s: no control node revokes a device", f.name)
		}
	}
	before := make([]int64, len(c.callers))
	for i, caller := range c.callers {
		before[i] = caller.answered.Load()
	}
	wait(t, f.name+": traffic during the fault", func() bool {
		for i, caller := range c.callers {
			if caller.gateway != f.gone && caller.answered.Load() < before[i]+max(f.traffic, 20) {
				return false
			}
		}
		return true
	})

	mendedAt := time.Now()
	f.mend()
	inForce, decides, healthy := time.Duration(0), time.Duration(0), time.Duration(0)
	if isRevoked {
		for _, g := range c.gateways {
			wait(t, f.name+": the revocation in force on "+g.name, func() bool {
				status, err := c.greet(g, revoked)
				return err == nil && status == http.StatusUnauthorized
			})
		}
		inForce = time.Since(mendedAt)
	}
	for _, control := range c.controls {
		wait(t, f.name+": decisions at "+control.name+" afterwards", func() bool {
			return control.decide(fmt.Sprintf("after%d-%s-%d", c.devices, control.name, time.Now().UnixNano())).status == http.StatusCreated
		})
		decides = time.Since(mendedAt)
	}
	for _, caller := range c.callers {
		caller.excused.Store(false)
	}
	for _, control := range c.controls {
		wait(t, f.name+": nothing to be stale at "+control.name, func() bool { return len(c.watchers[control].health()) == 0 })
	}
	healthy = time.Since(mendedAt)
	sent := 0
	for _, caller := range c.callers {
		caller.stop()
		sent += int(caller.sent.Load())
		if wrong := caller.wrong.Load(); wrong != nil {
			t.Errorf("%s: a call of %s that nothing should touch: %s", f.name, caller.gateway.name, *wrong)
		}
	}
	c.total += sent
	stoppedAt := time.Now()
	for _, control := range c.controls {
		control.waitForExchanges(c.total)
	}
	t.Logf("%-32s refused or taken in %v (%d), told in %v; after: revocation everywhere %v, decisions %v, all healthy %v, all counted %v after the last call (%d exchanges)",
		f.name, slowest.took.Round(time.Millisecond), slowest.status, told.Round(time.Millisecond), inForce.Round(time.Millisecond), decides.Round(time.Millisecond),
		healthy.Round(time.Millisecond), time.Since(stoppedAt).Round(time.Millisecond), sent)
}

// statusTells compares what the API, readiness and metrics say with what the events told.
func (c *cluster) statusTells(control *node, f fault, item healthItem) {
	c.t.Helper()
	switch f.part {
	case "store", "bus":
		status, body, err := control.ask(http.MethodGet, "/readyz", nil)
		var readiness struct {
			Checks []struct {
				Name  string
				Ok    bool
				Since time.Time
			}
		}
		if err != nil || status != http.StatusServiceUnavailable || json.Unmarshal(body, &readiness) != nil {
			c.t.Errorf("%s: readiness of %s: %d %s %v", f.name, control.name, status, body, err)
		}
		for _, check := range readiness.Checks {
			if check.Ok == (check.Name == f.part) {
				c.t.Errorf("%s: readiness of %s: %s", f.name, control.name, body)
			}
		}
	case "gateway":
		var status struct{ Health []healthItem }
		code, body, err := control.ask(http.MethodGet, "/api/v1/status", nil)
		if err == nil {
			err = json.Unmarshal(body, &status)
		}
		found := false
		for _, told := range status.Health {
			found = found || told.Part == f.part && told.Node == f.node && told.Since.Equal(item.Since)
		}
		if err != nil || code != http.StatusOK || !found {
			c.t.Errorf("%s: the status of %s: %d %s %v, the event was %+v", f.name, control.name, code, body, err, item)
		}
		// It is told as behind before it is taken for gone.
		wait(c.t, f.name+": the metrics of "+control.name+" to say that it is not heard", func() bool {
			_, body, err := control.ask(http.MethodGet, "/metrics", nil)
			return err == nil && strings.Contains(string(body), fmt.Sprintf("fieldgate_gateway_up{node=%q} 0", f.node))
		})
	}
}

// counts says which of two control nodes counts: the one that logged last that it does. While they hand over, both or none may say so.
func (c *cluster) counts() (counting, other *node) {
	wait(c.t, "one control node to count", func() bool {
		counting, other = nil, nil
		for _, control := range c.controls {
			log := control.log.String()
			if strings.LastIndex(log, "this control node counts records") > strings.LastIndex(log, "another control node counts records now") {
				counting = control
			} else {
				other = control
			}
		}
		return counting != nil && other != nil
	})
	return counting, other
}

// Machines that hang: each part of a cluster stands still for a while, with its connections open. Traffic goes on, decisions are taken
// or refused with words, operators are told what is stale and since when; when it goes on again, everything else does, every exchange
// is counted once, and what was decided meanwhile is in force.
func TestFaultStopped(t *testing.T) {
	t.Parallel() // it mostly waits
	e := newEngines(t)
	c := newCluster(t, e, []*node{e.member(t, "control", "c1"), e.member(t, "control", "c2")}, []*node{e.member(t, "gateway", "g1"), e.member(t, "gateway", "g2")})
	gateway := c.gateways[0]
	faults := []func() fault{
		func() fault {
			return fault{name: "PostgreSQL", cut: e.postgres.Pause, mend: e.postgres.Continue, part: "store", refused: true}
		},
		func() fault {
			return fault{name: "a gateway", cut: gateway.pause, mend: gateway.resume, gone: gateway, part: "gateway", node: gateway.name}
		},
		func() fault {
			counting, _ := c.counts()
			return fault{name: "the control node that counts", cut: func() {
				counting.pause()
				_, other := c.counts()
				wait(t, other.name+" to take over", func() bool { return strings.Contains(other.log.String(), "this control node counts records") })
			}, mend: counting.resume, gone: counting}
		},
		func() fault {
			return fault{name: "two NATS servers of three", cut: func() { e.nats.Pause(0); e.nats.Pause(1) }, mend: func() { e.nats.Continue(0); e.nats.Continue(1) }, part: "bus"}
		},
		func() fault {
			_, other := c.counts()
			return fault{name: "the other control node", cut: other.pause, mend: other.resume, gone: other}
		},
		func() fault {
			return fault{name: "NATS server 0", cut: func() { e.nats.Pause(0) }, mend: func() { e.nats.Continue(0) }}
		},
		func() fault {
			return fault{name: "NATS server 1", cut: func() { e.nats.Pause(1) }, mend: func() { e.nats.Continue(1) }}
		},
		func() fault {
			return fault{name: "NATS server 2", cut: func() { e.nats.Pause(2) }, mend: func() { e.nats.Continue(2) }}
		},
	}
	rounds := soakRounds(t, 3, 1)
	for i := range rounds {
		c.endure(faults[i%len(faults)]())
	}
}
