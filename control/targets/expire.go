package targets

import (
	"context"
	"time"

	"fieldgate/control/audit"
	"fieldgate/engine/store"
)

const (
	expireInterval = time.Second
	expireAtOnce   = 100 // in one transaction
)

// Run takes out what is not renewed, until the context ends.
//
// While the control plane or its database is away nobody can renew anything. So an address goes only when this node could be asked for
// as long as the address lives.
func (t *Targets) Run(ctx context.Context) error {
	ticker := time.NewTicker(expireInterval)
	defer ticker.Stop()
	since, away := time.Now(), false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := t.expire(ctx, time.Since(since))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			since = time.Now()
			if !away {
				t.log.Warn("registered addresses do not expire while the database does not answer", "error", err)
			}
		}
		away = err != nil
	}
}

// expire takes out what should have been renewed and lives no longer than this node was there.
func (t *Targets) expire(ctx context.Context, there time.Duration) error {
	ctx = audit.As(ctx, audit.Actor{Name: audit.Self})
	for {
		var due []Registration
		if err := t.store.View(ctx, func(tx *store.Tx) (err error) {
			due, err = overdue(ctx, tx, time.Now(), there)
			return err
		}); err != nil || len(due) == 0 {
			return err
		}
		if err := t.store.Update(ctx, func(tx *store.Tx) (err error) {
			if due, err = overdue(ctx, tx, tx.Now, there); err != nil { // again: somebody may have renewed it
				return err
			}
			for i := range due {
				if err := remove(ctx, tx, "target.expire", &due[i]); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		for i := range due {
			t.log.Warn("a registered address was not renewed, and is taken out", "upstream", due[i].Upstream, "address", due[i].Address)
		}
		t.nudge()
	}
}

func overdue(ctx context.Context, tx *store.Tx, now time.Time, there time.Duration) ([]Registration, error) {
	return read(ctx, tx, "SELECT "+columns+" FROM upstream_target WHERE renewed + ttl <= ? AND ttl <= ? ORDER BY renewed LIMIT ?",
		now.UnixMilli(), there.Milliseconds(), expireAtOnce)
}
