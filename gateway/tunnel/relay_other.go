//go:build !(linux && (amd64 || arm64))

package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"fieldgate/gateway/pipeline"
)

// Relay takes no tunnels on this system: use Copy.
type Relay struct{}

// New makes a relay.
func New(*slog.Logger) *Relay { return &Relay{} }

// Run returns when ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Tunnel is a WebSocket passed through by a Relay.
type Tunnel struct{}

// Take always fails.
func (r *Relay) Take(toClient, toService Link, readFromClient, readFromService []byte, messages *pipeline.Messages, idle time.Duration, owner Owner) (*Tunnel, error) {
	return nil, errors.ErrUnsupported
}

// TakeFeed always fails.
func (r *Relay) TakeFeed(toClient Link, readFromClient []byte, feed Feed) (*Tunnel, error) {
	return nil, errors.ErrUnsupported
}

// Wake does nothing.
func (t *Tunnel) Wake() {}

// End does nothing.
func (t *Tunnel) End(code int, reason string) {}
