package test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate/api"
	"fieldgate/api/client"
	"fieldgate/protocol/mqtt"
)

// Fieldgate is killed under load, again and again: contracts are being published, devices added, revoked and given tokens, messages published at QoS 1
// for an absent subscriber and as retained messages. What was acknowledged is there after each restart.
func TestKill(t *testing.T) {
	t.Parallel() // it mostly waits
	rounds := soakRounds(t, 10, 3)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	n := newNode(t, nil)
	n.start()
	n.run("api", "publish", "testdata/open.pass-through.yaml")
	l := &load{n: n, device: n.run("device", "add", "v1", "--quiet"), app: n.run("app", "add", "map", "--quiet"),
		devices: map[string]string{}, revoked: map[string]bool{}, heard: map[string]bool{}}
	l.receive(0) // opens the persistent session
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		var working sync.WaitGroup
		for _, work := range []func(context.Context){l.publishContracts, l.changeDevices, l.publishMessages} {
			working.Go(func() { work(ctx) })
		}
		time.Sleep(time.Duration(300+random.IntN(900)) * time.Millisecond)
		n.kill()
		cancel()
		working.Wait()
		n.start()
		l.verify(round)
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
	}
	t.Logf("%d kills: %d contracts, %d devices, %d messages acknowledged, none lost", rounds, l.version, len(l.devices), l.acknowledged)
	if l.version < rounds || len(l.devices) < rounds || l.acknowledged < rounds {
		t.Error("there was hardly any load")
	}
}

// soakRounds is how often to kill: as FIELDGATE_SOAK_ROUNDS says, or else usual, or with -short few.
func soakRounds(t *testing.T, usual, few int) int {
	if testing.Short() {
		return few
	}
	set := os.Getenv("FIELDGATE_SOAK_ROUNDS")
	if set == "" {
		return usual
	}
	rounds, err := strconv.Atoi(set)
	if err != nil {
		t.Fatal(err)
	}
	return rounds
}

// queueLimit keeps the absent subscriber's queue below its bound of 1,000 messages, beyond which messages are dropped and counted.
const queueLimit = 900

type load struct {
	n           *node
	device, app string            // tokens
	tried       int               // newest version of the contract that was sent
	version     int               // newest one that was acknowledged
	number      int               // of devices tried
	devices     map[string]string // acknowledged: id and token
	revoked     map[string]bool   // tried; true: acknowledged

	mu           sync.Mutex
	sent         int // messages tried
	acknowledged int
	unheard      []string // acknowledged, not yet received by the persistent session
	heard        map[string]bool
	retained     int // newest retained value that was acknowledged
	retainedSent int
}

func (l *load) admin() *client.ClientWithResponses {
	token, err := os.ReadFile(filepath.Join(l.n.folder, "data", "operator.token"))
	if err != nil {
		l.n.t.Fatal(err)
	}
	admin, err := client.NewClientWithResponses("http://"+l.n.admin, client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		return nil
	}))
	if err != nil {
		l.n.t.Fatal(err)
	}
	return admin
}

const growing = `openapi: 3.1.0
info: {title: Growing, version: 1.0.%d}
paths:
  /growing:
    get:
      operationId: get
      security: []
      responses: {'200': {description: ok, content: {application/json: {example: {version: %[1]d}}}}}
`

func (l *load) publishContracts(ctx context.Context) {
	admin := l.admin()
	for ctx.Err() == nil {
		l.tried++
		answer, err := admin.PublishApiWithBodyWithResponse(ctx, &api.PublishApiParams{Name: "growing.yaml"}, "application/yaml", strings.NewReader(fmt.Sprintf(growing, l.tried)))
		if err == nil && answer.StatusCode() == 201 {
			l.version = l.tried
		}
	}
}

func (l *load) changeDevices(ctx context.Context) {
	admin := l.admin()
	for ctx.Err() == nil {
		l.number++
		id := fmt.Sprint("x", l.number)
		answer, err := admin.AddDeviceWithResponse(ctx, nil, api.NewDevice{Id: id})
		if err != nil || answer.JSON201 == nil {
			continue
		}
		l.devices[id] = answer.JSON201.Token
		if l.number%3 == 0 {
			answer, err := admin.RevokeDeviceWithResponse(ctx, id, nil, api.Reason{})
			l.revoked[id] = err == nil && answer.StatusCode() == 200
		}
	}
}

func (l *load) connect(options mqtt.ClientOptions) (*mqtt.Client, error) {
	ctx, cancel := context.WithTimeout(l.n.t.Context(), patience)
	defer cancel()
	connection, err := net.Dial("tcp", l.n.mqtt)
	if err != nil {
		return nil, err
	}
	return mqtt.Dial(ctx, connection, options)
}

// publishMessages sends QoS 1 messages to the absent subscriber, many at once, and retained ones.
func (l *load) publishMessages(ctx context.Context) {
	var publishing sync.WaitGroup
	defer publishing.Wait()
	publisher, err := l.connect(mqtt.ClientOptions{ClientID: "pub", Username: "v1", Password: l.device})
	if err != nil {
		return
	}
	defer publisher.Close()
	for range 4 {
		publishing.Go(func() {
			for ctx.Err() == nil {
				l.mu.Lock()
				if len(l.unheard) >= queueLimit {
					l.mu.Unlock()
					return
				}
				l.sent++
				name := fmt.Sprint("m", l.sent)
				l.mu.Unlock()
				err := publisher.Publish(ctx, &mqtt.Publish{Topic: []byte("legacy/queue/" + name), QoS: 1, Payload: []byte(name)})
				if err != nil {
					return
				}
				l.mu.Lock()
				l.acknowledged++
				l.unheard = append(l.unheard, name)
				l.mu.Unlock()
			}
		})
	}
	for ctx.Err() == nil {
		l.retainedSent++
		if publisher.Publish(ctx, &mqtt.Publish{Topic: []byte("legacy/retained"), QoS: 1, Retain: true, Payload: fmt.Append(nil, l.retainedSent)}) != nil {
			return
		}
		l.retained = l.retainedSent
	}
}

// receive opens the persistent session, waits until it has heard so many messages more, and leaves it again.
func (l *load) receive(expected int) {
	t := l.n.t
	t.Helper()
	arrived := make(chan string, 1<<16)
	subscriber, err := l.connect(mqtt.ClientOptions{ClientID: "sub", Username: "map", Password: l.app, Version: mqtt.V311, Resume: true,
		Receive: func(p *mqtt.Publish) { arrived <- string(p.Payload) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := subscriber.Subscribe(t.Context(), mqtt.Filter{Filter: []byte("legacy/queue/+"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for _, name := range l.unheard {
		if !l.heard[name] {
			missing[name] = true
		}
	}
	deadline := time.After(patience)
	for len(missing) > 0 {
		select {
		case name := <-arrived:
			l.heard[name] = true
			delete(missing, name)
		case <-deadline:
			t.Errorf("%d of %d acknowledged messages (%s to %s) are lost: %v", len(missing), expected, l.unheard[0], l.unheard[len(l.unheard)-1], slices.Sorted(maps.Keys(missing)))
			missing = nil
		}
	}
	l.unheard = nil
	// The session stays; the acknowledgements of what arrived are under way when the connection ends.
	subscriber.Disconnect(mqtt.Success)
}

func (l *load) verify(round int) {
	t := l.n.t
	t.Helper()
	served := func() (version int) {
		response, err := http.Get("http://" + l.n.http + "/growing")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var body struct{ Version int }
		if response.StatusCode == 200 {
			if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
				t.Fatal(err)
			}
		}
		return body.Version
	}
	if l.version > 0 {
		wait(t, fmt.Sprintf("contract 1.0.%d after kill %d", l.version, round+1), func() bool {
			version := served() // a publish that was under way may have come through
			return version >= l.version && version <= l.tried
		})
	}
	for id, token := range l.devices {
		caller, err := l.connect(mqtt.ClientOptions{ClientID: id, Username: id, Password: token})
		if err == nil {
			caller.Disconnect(mqtt.Success)
		}
		acknowledged, tried := l.revoked[id]
		switch {
		case acknowledged && err == nil:
			t.Errorf("device %s was revoked and may connect", id)
		case !tried && err != nil:
			t.Errorf("device %s was added and may not connect: %v", id, err)
		}
	}
	l.receive(len(l.unheard))
	l.verifyRetained()
}

func (l *load) verifyRetained() {
	t := l.n.t
	t.Helper()
	got := make(chan string, 16)
	reader, err := l.connect(mqtt.ClientOptions{ClientID: "reader", Username: "map", Password: l.app, Receive: func(p *mqtt.Publish) { got <- string(p.Payload) }})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := reader.Subscribe(t.Context(), mqtt.Filter{Filter: []byte("legacy/retained"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if l.retained == 0 {
		return
	}
	select {
	case payload := <-got:
		if value, err := strconv.Atoi(payload); err != nil || value < l.retained || value > l.retainedSent {
			t.Errorf("the retained message is %q; %d was acknowledged", payload, l.retained)
		}
	case <-time.After(patience):
		t.Errorf("retained message %d is lost", l.retained)
	}
}
