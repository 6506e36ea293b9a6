package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Errors of a cluster.
var (
	// ErrUnavailable says that the bus is away at present. It comes back by itself.
	ErrUnavailable = errors.New("the bus does not answer")
	// ErrUnsuitable says that the cluster cannot carry Fieldgate, and what to do about it.
	ErrUnsuitable = errors.New("the NATS cluster is unsuitable")
)

// The oldest server whose streams do what is asked of them here: messages with a time of their own.
const oldestMajor, oldestMinor = 2, 11

const (
	examineInterval = 5 * time.Second
	examineTimeout  = 3 * time.Second
)

// health is what is wrong with the bus, and since when it is as it is.
type health struct {
	mu      sync.Mutex
	problem error // nil: nothing
	since   time.Time
}

// set says whether the bus went away or came back by it.
func (h *health) set(problem error) (turned bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	turned = (problem == nil) != (h.problem == nil)
	if turned {
		h.since = time.Now()
	}
	h.problem = problem
	return turned
}

// Health is nil when the bus does its work. Otherwise it says what is wrong and since when; it is ErrUnavailable.
func (b *Bus) Health() error {
	b.health.mu.Lock()
	defer b.health.mu.Unlock()
	if b.health.problem == nil {
		return nil
	}
	return fmt.Errorf("%w since %s: %w", ErrUnavailable, b.health.since.UTC().Format(time.DateTime), b.health.problem)
}

// Since is when the bus began to be as Health says: to work, or to be away.
func (b *Bus) Since() time.Time {
	b.health.mu.Lock()
	defer b.health.mu.Unlock()
	return b.health.since
}

// usable is nil when an operation is worth trying.
func (b *Bus) usable() error {
	err := b.Health()
	if errors.Is(err, ErrUnsuitable) {
		return err
	}
	if b.connection.IsConnected() {
		return nil // what is wrong may concern another operation
	}
	if err == nil {
		err = ErrUnavailable
	}
	return err
}

// turn notes what is wrong with the bus, and logs it when it went away or came back.
func (b *Bus) turn(problem error) {
	since := b.Since()
	if !b.health.set(problem) {
		return
	}
	if problem != nil {
		b.log.Error("the bus is away; it is tried again until it answers", "error", problem)
	} else {
		b.log.Info("the bus answers", "server", b.connection.ConnectedServerName(), "away", time.Since(since).Round(time.Millisecond))
	}
}

// watch examines the cluster now and then, and whenever the connection changed, until the context ends.
func (b *Bus) watch(ctx context.Context) {
	ticker := time.NewTicker(examineInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.look:
		case <-ticker.C:
		}
		if !b.connection.IsConnected() {
			continue // the connection's handlers said why
		}
		problem := b.examine(ctx)
		if ctx.Err() != nil {
			return
		}
		b.turn(problem)
		if problem == nil {
			b.grow(ctx)
		}
	}
}

// examine asks whether the cluster is one that can carry Fieldgate, and whether its streams answer.
func (b *Bus) examine(ctx context.Context) error {
	version := b.connection.ConnectedServerVersion()
	if version == "" {
		return errors.New("the connection was lost")
	}
	if tooOld(version) {
		return fmt.Errorf("%w: server %s has version %s; upgrade it to NATS %d.%d or newer", ErrUnsuitable,
			b.connection.ConnectedServerName(), version, oldestMajor, oldestMinor)
	}
	if most := b.connection.MaxPayload(); most < maxPayload {
		return fmt.Errorf("%w: it takes messages of %d bytes only; set max_payload of each server to %d or more", ErrUnsuitable, most, maxPayload)
	}
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	_, err := b.streams.AccountInfo(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, jetstream.ErrJetStreamNotEnabled) && !b.offersStreams():
		return fmt.Errorf("%w: JetStream is off; switch it on in each server's configuration (jetstream {…}) and for Fieldgate's account (jetstream: enabled)", ErrUnsuitable)
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("JetStream does not answer: too few servers of the cluster are up, or the account must not use $JS.API.INFO")
	}
	return fmt.Errorf("JetStream: %w", err)
}

// offersStreams says whether the server that we are connected to has JetStream. Another one of its cluster may have it instead.
func (b *Bus) offersStreams() bool {
	has, _ := b.connection.ConnectedServerJetStream()
	return has
}

func tooOld(version string) bool {
	majorText, rest, _ := strings.Cut(version, ".")
	minorText, _, _ := strings.Cut(rest, ".")
	major, err := strconv.Atoi(majorText)
	minor, err2 := strconv.Atoi(minorText)
	if err != nil || err2 != nil {
		return false // a build of somebody's own
	}
	return major < oldestMajor || major == oldestMajor && minor < oldestMinor
}
