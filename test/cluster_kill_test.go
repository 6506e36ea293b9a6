package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Each part of a cluster is killed, again and again, while contracts are published, devices imported and exchanges counted. What was
// acknowledged is there afterwards, nothing is there by half, and each Record counts once.
func TestClusterKill(t *testing.T) {
	t.Parallel() // it mostly waits
	rounds := soakRounds(t, 8, 4)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	e := newEngines(t)
	controls := []*node{e.member(t, "control", "c1"), e.member(t, "control", "c2")}
	gateways := []*node{e.member(t, "gateway", "g1"), e.member(t, "gateway", "g2")}
	for _, n := range append(controls, gateways...) {
		n.start()
	}
	waitForGateways(t, controls[0], 2)
	controls[0].publishGreeting(1)
	l := &clusterLoad{controls: controls, gateways: gateways, token: controls[0].run("device", "add", "caller", "--quiet"), version: 1, tried: 1, imported: map[int]bool{}}

	victims := []struct {
		name          string
		kill, restart func()
	}{
		{"control node c1", controls[0].kill, controls[0].start},
		{"gateway g1", gateways[0].kill, gateways[0].start},
		{"PostgreSQL", e.postgres.Kill, func() { e.postgres.Start(t) }},
		{"a NATS server", func() { e.nats.Kill(0) }, func() { e.nats.Start(0) }},
		{"control node c2", controls[1].kill, controls[1].start},
		{"gateway g2", gateways[1].kill, gateways[1].start},
		{"another NATS server", func() { e.nats.Kill(1) }, func() { e.nats.Start(1) }},
		{"all at once", func() {
			e.postgres.Kill()
			e.nats.Stop()
			controls[0].kill()
			gateways[0].kill()
		}, func() {
			e.postgres.Start(t)
			for i := range e.nats.Size() {
				e.nats.Start(i)
			}
			e.nats.Ready()
			controls[0].start()
			gateways[0].start()
		}},
	}
	for round := range rounds {
		victim := victims[round%len(victims)]
		stop := make(chan struct{})
		var working sync.WaitGroup
		for _, work := range []func(stop <-chan struct{}){l.publish, l.importDevices, func(stop <-chan struct{}) { l.call(stop, 0) }, func(stop <-chan struct{}) { l.call(stop, 1) }} {
			working.Go(func() { work(stop) })
		}
		time.Sleep(time.Duration(300+random.IntN(900)) * time.Millisecond)
		victim.kill()
		time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
		victim.restart()
		time.Sleep(200 * time.Millisecond)
		close(stop)
		working.Wait()
		if strings.Contains(victim.name, "gateway") || victim.name == "all at once" {
			l.overtaken++
		}
		l.verify(t, victim.name)
		if t.Failed() {
			t.Fatalf("after kill %d (%s)", round+1, victim.name)
		}
	}
	t.Logf("%d kills: %d contracts, %d imports of %d devices, %d exchanges acknowledged, none lost or counted twice",
		rounds, l.version, len(l.imported), importSize, l.answered.Load())
	if l.version < 2 || len(l.imported) == 0 || l.answered.Load() < 100 {
		t.Error("there was hardly any load")
	}
}

const importSize = 50

// clusterLoad is what operators and devices do meanwhile.
type clusterLoad struct {
	controls, gateways []*node
	token              string

	tried, version int          // of the contract: sent, acknowledged
	imports        int          // number of the newest import that was sent
	imported       map[int]bool // those that were acknowledged

	sent, answered atomic.Int64 // exchanges
	overtaken      int64        // answers whose Record a kill of their gateway may have overtaken: one for each kill
}

// decide sends a decision to a control node, or to the other one when it does not answer.
func (l *clusterLoad) decide(path, mediaType string, body []byte) (status int, answer []byte) {
	for _, control := range l.controls {
		token, err := os.ReadFile(filepath.Join(control.folder, "data", "operator.token"))
		if err != nil {
			continue
		}
		request, err := http.NewRequest(http.MethodPost, "http://"+control.admin+path, bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		request.Header.Set("Content-Type", mediaType)
		client := http.Client{Timeout: 10 * time.Second}
		response, err := client.Do(request)
		if err != nil {
			continue
		}
		answer, err = io.ReadAll(response.Body)
		response.Body.Close()
		if err == nil && response.StatusCode < 300 {
			return response.StatusCode, answer
		}
	}
	return 0, nil
}

func stopped(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

func (l *clusterLoad) publish(stop <-chan struct{}) {
	for !stopped(stop) {
		l.tried++
		if status, _ := l.decide("/api/v1/apis?name=greeting.yaml", "application/yaml", fmt.Appendf(nil, greeting, l.tried)); status == http.StatusCreated {
			l.version = l.tried
		}
	}
}

// importDevices sends imports that are to be done wholly or not at all.
func (l *clusterLoad) importDevices(stop <-chan struct{}) {
	for !stopped(stop) {
		l.imports++
		var lines bytes.Buffer
		for i := range importSize {
			fmt.Fprintf(&lines, "{\"id\":\"i%d-%d\"}\n", l.imports, i)
		}
		_, answer := l.decide("/api/v1/imports/devices?mode=all", "application/x-ndjson", lines.Bytes())
		for line := range bytes.Lines(answer) {
			var summary struct{ Done, Applied bool }
			if json.Unmarshal(line, &summary) == nil && summary.Done && summary.Applied {
				l.imported[l.imports] = true
			}
		}
	}
}

// call sends exchanges to one gateway, one after the other.
func (l *clusterLoad) call(stop <-chan struct{}, gateway int) {
	for !stopped(stop) {
		l.sent.Add(1)
		if status, _, err := l.gateways[gateway].greet(l.token); err == nil && status == http.StatusOK {
			l.answered.Add(1)
		} else {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func (l *clusterLoad) verify(t *testing.T, victim string) {
	for _, g := range l.gateways {
		wait(t, fmt.Sprintf("contract 1.0.%d on %s after %s was killed", l.version, g.name, victim), func() bool {
			l.sent.Add(1)
			status, version, err := g.greet(l.token) // one that was under way may have come through
			if err == nil && status == http.StatusOK {
				l.answered.Add(1)
			}
			return version >= l.version && version <= l.tried
		})
	}
	control := l.controls[1]
	wait(t, control.name+" to answer", control.answers)
	// An import that was decided when its node was killed is finished by another node.
	wait(t, "each import to be there wholly or not at all", func() bool {
		text, err := control.try("device", "list", "--filter", "i", "--output", "json")
		if err != nil { // the database may only just be back
			return false
		}
		var devices []struct{ ID string }
		if err := json.Unmarshal([]byte(text), &devices); err != nil {
			t.Fatal(err)
		}
		there := make(map[int]int) // devices by import
		for _, device := range devices {
			var number, index int
			if _, err := fmt.Sscanf(device.ID, "i%d-%d", &number, &index); err != nil {
				t.Fatal(err, device.ID)
			}
			there[number]++
		}
		for number := 1; number <= l.imports; number++ {
			if there[number] != importSize && (there[number] != 0 || l.imported[number]) {
				return false
			}
		}
		return true
	})
	// An answer that its caller did not get left a Record, too; the Record of an answer that a kill overtook did not.
	wait(t, "the Records after "+victim+" was killed", func() bool { return int64(control.exchanges()) >= l.answered.Load()-l.overtaken })
	counted := control.exchanges()
	time.Sleep(500 * time.Millisecond)
	if later := control.exchanges(); int64(later) > l.sent.Load() {
		t.Errorf("%d exchanges were counted, then %d; %d were sent", counted, later, l.sent.Load())
	}
}
