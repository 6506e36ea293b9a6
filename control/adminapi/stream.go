package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

const keepAlive = 15 * time.Second

// eventStream renders server-sent events; reading it waits for them. It ends with its context, which ends with the session or token of
// who reads, and when the server stops.
type eventStream struct {
	ctx      context.Context
	stopping <-chan struct{}
	wait     func(timeout <-chan time.Time) // renders the next events, or returns when the timeout, ctx or stopping says so
	close    func()
	over     bool // it ends after what is rendered
	pending  bytes.Buffer
}

// newEventStream lets the client learn at once that it listens.
func newEventStream(ctx context.Context, stopping <-chan struct{}, close func()) *eventStream {
	s := &eventStream{ctx: ctx, stopping: stopping, close: close}
	s.pending.WriteString(": listening\n\n")
	return s
}

func (s *eventStream) Read(p []byte) (int, error) {
	for s.pending.Len() == 0 {
		s.pending.Reset()
		if s.over {
			return 0, io.EOF
		}
		s.wait(time.After(keepAlive))
		select {
		case <-s.ctx.Done():
			return 0, io.EOF
		case <-s.stopping:
			return 0, io.EOF
		default:
		}
		if s.pending.Len() == 0 {
			s.pending.WriteString(": still here\n\n")
		}
	}
	return s.pending.Read(p)
}

func (s *eventStream) event(name string, data any) {
	encoded, err := json.Marshal(data)
	if err != nil {
		panic(err) // plain strings and numbers
	}
	fmt.Fprintf(&s.pending, "event: %s\ndata: %s\n\n", name, encoded)
}

func (s *eventStream) Close() error {
	s.close()
	return nil
}
