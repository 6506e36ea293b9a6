package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/directory"
)

// directoryInterval is how often the directory asks for changes in case that a nudge was lost: a revocation has to arrive
// within a second.
const directoryInterval = 500 * time.Millisecond

// follow calls pull at once, at each nudge and at each interval, until the context ends. A pull that fails is tried again; a
// control plane that is away is said once, not at each try.
func follow(ctx context.Context, nudge <-chan struct{}, interval time.Duration, logger *slog.Logger, what string, pull func(context.Context) error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	away := false
	for {
		err := pull(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && away:
			logger.Info("the control plane is back", "following", what)
		case err != nil && !away:
			logger.Warn("the control plane cannot be followed; what is in force stays in force", "following", what, "error", err)
		}
		away = err != nil
		select {
		case <-ctx.Done():
			return
		case <-nudge:
		case <-ticker.C:
		}
	}
}

// followDirectory applies the control plane's changes of the directory until the context ends.
func (g *Gateway) followDirectory(ctx context.Context) error {
	nudge := make(chan struct{}, 1)
	stop, err := g.config.Bus.Subscribe(fieldgate.SubjectDirectoryChanged, func(string, []byte) { wake(nudge) })
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	defer stop()
	follow(ctx, nudge, directoryInterval, g.config.Logger, "directory", func(ctx context.Context) error {
		before := g.directory.Sequence()
		err := pullDirectory(ctx, g.config.Bus, g.directory)
		if g.directory.Sequence() != before {
			g.report()
		}
		return err
	})
	return nil
}

func pullDirectory(ctx context.Context, b *bus.Bus, d *directory.Directory) error {
	for {
		question, err := json.Marshal(fieldgate.DirectoryRequest{After: d.Sequence()})
		if err != nil {
			return err
		}
		var page fieldgate.DirectoryPage
		if err := request(ctx, b, fieldgate.SubjectDirectoryChanges, question, &page); err != nil {
			return err
		}
		if began, err := d.Follow(page.Installation, page.Newest); err != nil {
			return err
		} else if began {
			continue // this page is of changes after those that no longer count
		}
		if err := d.Apply(page.Changes); err != nil {
			return err
		}
		if !page.More {
			return nil
		}
		if len(page.Changes) == 0 {
			return errors.New("the control plane promises more changes, but sends none")
		}
	}
}

func request(ctx context.Context, b *bus.Bus, subject string, question []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	got, err := b.Request(ctx, subject, question)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(got.Data, answer); err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	return nil
}

// wake leaves a token in a channel of one place.
func wake(nudge chan<- struct{}) {
	select {
	case nudge <- struct{}{}:
	default:
	}
}
