// Package rollout knows what the gateways have in force, from what they say of themselves on the bus, so that a decision is
// answered when it counts everywhere, and an operator sees which gateway is behind.
package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
)

const (
	// awaitTimeout is how long a decision waits at the most: a gateway that takes longer is behind, and said to be.
	awaitTimeout = time.Second
	// gone is how long a gateway may be silent until nobody waits for it.
	gone = 3 * fieldgate.GatewayStateInterval
	// forgotten is how long a silent gateway is listed.
	forgotten = 24 * time.Hour
	// late is how long Records may wait in a gateway until it is told: usually they do for a moment.
	late = time.Minute
	// maxGateways bounds the list.
	maxGateways = 1000
)

// Gateway is one gateway as it was last heard.
type Gateway struct {
	fieldgate.GatewayState
	Seen time.Time

	refusing map[string]overload // by upstream
}

// Silent says whether it has not been heard for so long that it must be taken for gone.
func (g *Gateway) Silent(now time.Time) bool { return now.Sub(g.Seen) > gone }

// Rollout is safe for concurrent use.
type Rollout struct {
	bus *bus.Bus
	log *slog.Logger

	mu      sync.Mutex
	known   map[string]Gateway
	own     string        // name of the gateway in this process; empty where there is none
	changed chan struct{} // closed and replaced when a state comes in
	turned  chan struct{} // closed and replaced when upstreams, certificates or access log of a gateway turn well or ill
}

// New knows no gateway until Serve.
func New(b *bus.Bus, log *slog.Logger) *Rollout {
	return &Rollout{bus: b, log: log, known: make(map[string]Gateway), changed: make(chan struct{}), turned: make(chan struct{})}
}

// Expect names the gateway that starts in the same process: decisions wait for it before it has said anything.
func (r *Rollout) Expect(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own = node
}

// Serve listens to the gateways until stop is called.
func (r *Rollout) Serve() (stop func(), err error) {
	return r.bus.Subscribe(fieldgate.SubjectGatewayState, func(_ string, data []byte) {
		var state fieldgate.GatewayState
		if err := json.Unmarshal(data, &state); err != nil || state.Node == "" || len(state.Node) > fieldgate.MaxIdentifierBytes {
			r.log.Warn("a gateway's state is malformed", "bytes", len(data))
			return
		}
		r.heard(state, time.Now())
	})
}

func (r *Rollout) heard(state fieldgate.GatewayState, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for node, gateway := range r.known {
		if now.Sub(gateway.Seen) > forgotten {
			delete(r.known, node)
		}
	}
	if _, known := r.known[state.Node]; !known && len(r.known) >= maxGateways {
		return
	}
	before := r.known[state.Node]
	if state.Upstreams == nil && state.Epoch == before.Epoch {
		state.Upstreams = before.Upstreams
	}
	current := Gateway{GatewayState: state, Seen: now}
	current.refusing = current.overloads(&before)
	r.known[state.Node] = current
	close(r.changed)
	r.changed = make(chan struct{})
	if !slices.Equal(before.conditions(), current.conditions()) {
		close(r.turned)
		r.turned = make(chan struct{})
	}
}

// Wanted is what a gateway should have in force.
type Wanted struct {
	Snapshot  uint64 // version
	Directory uint64 // sequence
	Targets   uint64 // version of what services have registered, for gateways that take it
}

func (g *Gateway) has(w Wanted) bool {
	return g.Snapshot >= w.Snapshot && g.Directory >= w.Directory && (g.Targets >= w.Targets || !g.takesTargets())
}

func (g *Gateway) takesTargets() bool {
	return slices.ContainsFunc(g.Upstreams, func(u fieldgate.UpstreamState) bool { return u.Registered })
}

// Await returns when every gateway that is there has in force what is wanted, or something newer, or has said why not, and after a
// second at the latest.
func (r *Rollout) Await(ctx context.Context, wanted Wanted) {
	ctx, cancel := context.WithTimeout(ctx, awaitTimeout)
	defer cancel()
	for {
		r.mu.Lock()
		_, heard := r.known[r.own]
		changed, behind := r.changed, r.own != "" && !heard
		for _, gateway := range r.known {
			behind = behind || !gateway.Silent(time.Now()) && gateway.Problem == "" && !gateway.has(wanted)
		}
		r.mu.Unlock()
		if !behind {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Turned is closed when something of a gateway's HTTP side has turned well or ill: an address, a circuit, a certificate, the access log.
func (r *Rollout) Turned() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.turned
}

// List is every gateway heard within a day, by name.
func (r *Rollout) List() []Gateway {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Gateway, 0, len(r.known))
	for _, gateway := range r.known {
		list = append(list, gateway)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Node < list[j].Node })
	return list
}

// muchBehind is how many entries of the log of MQTT sessions a gateway may be behind, of which there are hundreds a second under load.
const muchBehind = 1000

// Behind says in a sentence what is wrong with a gateway; empty when nothing is.
func (g *Gateway) Behind(newest Wanted, now time.Time) string {
	switch {
	case g.Silent(now):
		return fmt.Sprintf("gateway %s was last heard at %s", g.Node, g.Seen.UTC().Format(time.DateTime))
	case g.NameTaken:
		return fmt.Sprintf("two gateways call themselves %s: give each a name of its own (setting node); until then each one's state hides the other's", g.Node)
	case g.Problem != "":
		return fmt.Sprintf("gateway %s goes on with snapshot %d: %s", g.Node, g.Snapshot, g.Problem)
	case g.Snapshot < newest.Snapshot || g.Directory < newest.Directory:
		return fmt.Sprintf("gateway %s has snapshot %d of %d and change %d of %d of the directory in force", g.Node, g.Snapshot, newest.Snapshot, g.Directory, newest.Directory)
	case g.MQTTLog != nil && g.MQTTLog.Problem != "":
		return fmt.Sprintf("gateway %s serves no persistent MQTT sessions: %s", g.Node, g.MQTTLog.Problem)
	case g.MQTTLog != nil && g.MQTTLog.Behind > muchBehind:
		return fmt.Sprintf("gateway %s has %d entries of the log of MQTT sessions still to apply", g.Node, g.MQTTLog.Behind)
	}
	return ""
}

// Late says in a sentence that Records wait in a gateway for long; empty when none do. Their time is by the gateway's clock, so that one
// that is slow by more than that is told, too.
func (g *Gateway) Late(now time.Time) string {
	if g.OutboxOldest.IsZero() || now.Sub(g.OutboxOldest) < late {
		return ""
	}
	return fmt.Sprintf("gateway %s keeps %d bytes of records, the oldest of %s, because the bus has not taken them", g.Node, g.OutboxBytes, g.OutboxOldest.UTC().Format(time.DateTime))
}
