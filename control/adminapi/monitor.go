package adminapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"fieldgate/api"
	"fieldgate/control/rollout"
	"fieldgate/engine/store"
)

const (
	examineInterval = time.Second
	examineTimeout  = 2 * time.Second
	watchInterval   = 100 * time.Millisecond // what waits for the database looks so often whether it is away
	// behindFor is how long something must be behind until it is told: for a moment everything is.
	behindFor = 5 * time.Second
)

// monitor knows what is stale or out of reach, and since when. It looks by itself, so that telling it never waits.
type monitor struct {
	server *Server

	mu      sync.Mutex
	store   time.Time            // since when the database does not answer; zero while it does
	missed  int                  // examinations in turn that it has not answered
	behind  map[string]time.Time // gateways, since when
	newest  rollout.Wanted       // as last read
	items   []api.HealthItem
	changed chan struct{} // closed and replaced when items change
}

func newMonitor(s *Server) *monitor {
	return &monitor{server: s, behind: make(map[string]time.Time), changed: make(chan struct{}), items: []api.HealthItem{}}
}

// run examines until the context ends.
func (m *monitor) run(ctx context.Context) {
	ticker := time.NewTicker(examineInterval)
	defer ticker.Stop()
	for {
		m.examine(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (m *monitor) examine(ctx context.Context) {
	asked := time.Now()
	asking, cancel := context.WithTimeout(ctx, examineTimeout)
	newest, err := m.server.newest(asking)
	cancel()
	if ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil:
		m.store, m.missed, m.newest = time.Time{}, 0, newest
	case m.server.config.Store.Answered().After(asked): // to somebody else: it is busy, not away
		m.store, m.missed = time.Time{}, 0
	default:
		if m.missed++; m.missed == 1 {
			m.store = asked
		}
	}
	items := m.describe(time.Now())
	if !slices.Equal(items, m.items) {
		m.items = items
		close(m.changed)
		m.changed = make(chan struct{})
	}
}

// describe needs the lock.
func (m *monitor) describe(now time.Time) []api.HealthItem {
	items := []api.HealthItem{}
	add := func(part api.HealthItemPart, node string, since time.Time, message string) {
		items = append(items, api.HealthItem{Part: part, Node: node, Since: since.UTC().Truncate(time.Millisecond), Message: message})
	}
	if !m.store.IsZero() {
		add(api.PartStore, "", m.store, "The database does not answer: nothing can be decided or looked up. Gateways go on with what they have; live figures are from memory.")
	}
	bus := m.server.config.Bus
	if bus != nil && bus.Health() != nil {
		add(api.PartBus, "", bus.Since(), "The bus does not answer: decisions do not reach the gateways and live figures stand still. Gateways go on with what they have and keep their records.")
	}
	lag := m.server.config.Insight.Lag()
	if !lag.StoreFailing.IsZero() && now.Sub(lag.StoreFailing) > behindFor {
		add(api.PartIngestion, "", lag.StoreFailing, "Traffic is not counted into the history: charts and findings end here. Records wait in their stream, nothing is lost.")
	}
	if lag.StoreFailing.IsZero() && !lag.NotesFailing.IsZero() && now.Sub(lag.NotesFailing) > behindFor {
		add(api.PartIngestion, "", lag.NotesFailing, "Who was there cannot be stored: when devices and apps were last seen stands still. It is tried again; look at the database's disk.")
	}
	if !lag.StreamFailing.IsZero() && now.Sub(lag.StreamFailing) > behindFor {
		add(api.PartIngestion, "", lag.StreamFailing, "The stream of records does not answer: traffic is neither shown nor counted. Gateways keep their records.")
	}
	listed := m.server.config.Rollout.List()
	known := make(map[string]bool, len(listed))
	for _, g := range listed {
		message := g.Behind(m.newest, now)
		if message == "" {
			continue
		}
		known[g.Node] = true
		since := m.behindSince(&g, now)
		if now.Sub(since) >= behindFor {
			add(api.PartGateway, g.Node, since, message+"; it serves by the rules that it has")
		}
	}
	for node := range m.behind {
		if !known[node] {
			delete(m.behind, node)
		}
	}
	return items
}

func (m *monitor) behindSince(g *rollout.Gateway, now time.Time) time.Time {
	if since, known := m.behind[g.Node]; known {
		return since
	}
	since := now
	if g.Silent(now) {
		since = g.Seen
	}
	m.behind[g.Node] = since
	return since
}

// health is what is wrong, and a channel that is closed when that changes.
func (m *monitor) health() ([]api.HealthItem, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.items, m.changed
}

// storeSince is since when the database does not answer; now where that was not known before.
func (m *monitor) storeSince() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.store.IsZero() {
		return time.Now().UTC()
	}
	return m.store.UTC()
}

// storeAway is an error while the database is known not to answer, so that nobody waits to learn it. One examination that was not answered
// tells nothing: this machine may have stood still.
func (m *monitor) storeAway() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.missed < 2 || time.Since(m.store) < examineTimeout {
		return nil
	}
	return fmt.Errorf("%w since %s", store.ErrUnavailable, m.store.UTC().Format(time.DateTime))
}

// withoutStore are operations that do not need the database, and those that go on while they are answered.
var withoutStore = []string{"GetHealth", "GetReadiness", "GetContract", "StreamEvents", "StreamTraffic", "StreamMessages", "ListTraffic", "ImportDevices"}

// refuseWithoutStore answers at once while the database is known to be away, and within a few seconds when it has just gone.
func (s *Server) refuseWithoutStore(next StrictHandlerFunc, operation string) StrictHandlerFunc {
	if slices.Contains(withoutStore, operation) {
		return next
	}
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, request any) (any, error) {
		if err := s.monitor.storeAway(); err != nil {
			return nil, err
		}
		watched, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go s.monitor.watch(watched, cancel)
		answer, err := next(watched, w, r, request)
		if cause := context.Cause(watched); err != nil && errors.Is(cause, store.ErrUnavailable) {
			return nil, fmt.Errorf("%w (%w)", cause, err)
		}
		return answer, err
	}
}

// watch cancels what waits for a database that is known to be away.
func (m *monitor) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := m.storeAway(); err != nil {
			cancel(err)
			return
		}
	}
}
