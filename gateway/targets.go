package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/upstream"
)

// maxTargetPages bounds the pages of one answer: each has at least one upstream.
const maxTargetPages = 10_000

// targets keeps the upstreams at the addresses that services have registered with the control plane, and the disk copy that a restart
// begins with. What is in force stays in force while the control plane is away: which addresses are given up is its decision.
type targets struct {
	file      string
	bus       *bus.Bus
	upstreams *upstream.Set
	logger    *slog.Logger
	report    func() // after something changed

	version atomic.Uint64 // of page

	mu   sync.Mutex
	page fieldgate.TargetsPage
}

// load takes over the disk copy. A damaged one is set aside: the control plane has them anyway.
func (t *targets) load() error {
	encoded, err := os.ReadFile(t.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	var page fieldgate.TargetsPage
	if err := json.Unmarshal(encoded, &page); err != nil {
		aside := t.file + time.Now().UTC().Format(".corrupt-20060102T150405.000000000")
		t.logger.Error("the registered addresses on disk are of no use; they are set aside, and none is used until the control plane sends them", "file", t.file, "aside", aside, "error", err)
		return os.Rename(t.file, aside)
	}
	t.install(page)
	return nil
}

// run pulls whenever the control plane nudges, until the context ends.
func (t *targets) run(ctx context.Context) error {
	nudge := make(chan struct{}, 1)
	stop, err := t.bus.Subscribe(fieldgate.SubjectTargetsChanged, func(string, []byte) { wake(nudge) })
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	defer stop()
	follow(ctx, nudge, pollInterval, t.logger, "registered addresses", t.pull)
	return nil
}

// pull fetches what is registered if it is not what is in force. Where no upstream takes registered addresses it asks nobody.
func (t *targets) pull(ctx context.Context) error {
	if len(t.upstreams.Registered()) == 0 {
		return nil
	}
	t.mu.Lock()
	have := t.page
	t.mu.Unlock()
	next, err := t.fetch(ctx, have.Installation, have.Version)
	if err != nil || next == nil {
		return err
	}
	t.install(*next)
	t.report()
	encoded, err := json.Marshal(next)
	if err == nil {
		err = replaceFile(t.file, encoded)
	}
	if err != nil {
		return fmt.Errorf("the registered addresses are in force, but not on disk for a restart: %w", err)
	}
	return nil
}

// fetch gets all pages; nil when installation and version are the newest.
func (t *targets) fetch(ctx context.Context, installation, version uint64) (*fieldgate.TargetsPage, error) {
	question := fieldgate.TargetsRequest{Installation: installation, Version: version}
	var whole fieldgate.TargetsPage
	for range maxTargetPages {
		encoded, err := json.Marshal(question)
		if err != nil {
			return nil, err
		}
		var page fieldgate.TargetsPage
		if err := request(ctx, t.bus, fieldgate.SubjectTargets, encoded, &page); err != nil {
			return nil, err
		}
		switch {
		case page.Installation == installation && page.Version == version:
			return nil, nil
		case question.After == "":
			whole = fieldgate.TargetsPage{Installation: page.Installation, Version: page.Version, Upstreams: page.Upstreams}
		case page.Installation != whole.Installation || page.Version != whole.Version: // changed meanwhile
			question.After = ""
			continue
		default:
			for name, registered := range page.Upstreams {
				whole.Upstreams[name] = registered
			}
		}
		if !page.More {
			return &whole, nil
		}
		last := question.After
		for name := range page.Upstreams {
			last = max(last, name)
		}
		if last == question.After {
			break
		}
		question.After = last
	}
	return nil, errors.New("the control plane promises more registered addresses, but sends none")
}

func (t *targets) install(page fieldgate.TargetsPage) {
	t.mu.Lock()
	t.page = page
	t.mu.Unlock()
	t.apply()
	t.version.Store(page.Version)
}

// apply gives each upstream that takes them the addresses that are registered for it.
func (t *targets) apply() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range t.upstreams.Registered() {
		if err := t.upstreams.SetTargets(name, t.page.Upstreams[name]); err != nil {
			t.logger.Warn("a registered address cannot be used", "upstream", name, "error", err)
		}
	}
}
