//go:build linux && (amd64 || arm64)

package tunnel

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/socket"
)

// Relay moves the bytes of many tunnels.
type Relay struct {
	logger *slog.Logger

	mu    sync.RWMutex
	loops []*loop // that run and take tunnels
}

// New makes a relay that takes no tunnels until Run.
func New(logger *slog.Logger) *Relay { return &Relay{logger: logger} }

// Run serves tunnels until ctx ends, then closes them as going away (RFC 6455 §7.4.1) and returns when all have ended. A second
// Run beside the first shares the work.
func (r *Relay) Run(ctx context.Context) error {
	l, err := newLoop(r.logger)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.loops = append(r.loops, l)
	r.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		r.remove(l)
		l.do(nil, l.drain)
	})
	defer stop()
	err = l.run()
	r.remove(l)
	l.finish()
	return err
}

func (r *Relay) remove(l *loop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.loops {
		if r.loops[i] == l {
			r.loops = append(r.loops[:i:i], r.loops[i+1:]...)
			return
		}
	}
}

// Tunnel is a WebSocket passed through by a Relay. Its loop owns it.
type Tunnel struct {
	loop    *loop
	owner   Owner
	feed    Feed // nil: the other side is a service
	sides   [2]side
	slot    int32
	idle    time.Duration // how long nobody may say anything; 0: for ever
	idling  bool          // by is when it has idled for too long
	closing bool          // what comes is dropped, and both sides are to end
	over    bool          // the sockets are closed
	by      time.Time     // when it ends if nothing moves; zero: never
	ping    time.Time     // when the client of a feed is asked for
	end     End
}

// side is one socket.
type side struct {
	fd       int32
	secured  *secured // TLS above it; nil: there is none
	interest uint32   // that epoll knows
	eof      bool     // it has said all
	shut     bool     // it was told that nothing follows
	ending   bool     // TLS has said so, which it may not have taken yet
	checking bool     // a long message of it is being checked: nothing is read
	pending  []byte   // it has not taken yet
	rest     []byte   // of what was read from it: to be looked at when checking is over
	says     speech
}

// Take duplicates the sockets of both connections and passes bytes between them, beginning with those read already. The TCP connections
// themselves stay the caller's, to be closed; their TLS does not, and is not to be used or closed any more. A tunnel in which nobody
// says anything for that long is closed (0: never). Take fails without a trace if the process has no descriptors left or no Run is under way.
func (r *Relay) Take(toClient, toService Link, readFromClient, readFromService []byte, messages *pipeline.Messages, idle time.Duration, owner Owner) (*Tunnel, error) {
	t := &Tunnel{owner: owner, idle: idle}
	for i, link := range []Link{toClient, toService} {
		if err := t.join(i, link, newSpeech(i, messages)); err != nil {
			if i == service {
				syscall.Close(int(t.sides[client].fd))
			}
			return nil, err
		}
	}
	t.sides[client].rest, t.sides[service].rest = bytes.Clone(readFromClient), bytes.Clone(readFromService)
	if err := r.enter(t); err != nil {
		return nil, err
	}
	return t, nil
}

// join makes a link the side of a tunnel.
func (t *Tunnel) join(i int, link Link, says speech) error {
	if link.TLS != nil && !divertible(link.TLS) {
		return errors.ErrUnsupported
	}
	fd, err := socket.Duplicate(link.TCP)
	if err != nil {
		return err
	}
	t.sides[i] = side{fd: int32(fd), says: says}
	if link.TLS != nil {
		t.sides[i].secured = &secured{link: link.TLS, side: &t.sides[i]}
	}
	return nil
}

// enter gives the tunnel to a loop, or closes its sockets.
func (r *Relay) enter(t *Tunnel) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.loops) == 0 {
		for i := range t.sides {
			if t.sides[i].fd != none {
				syscall.Close(int(t.sides[i].fd))
			}
		}
		return net.ErrClosed
	}
	for i := range t.sides {
		if s := t.sides[i].secured; s != nil {
			s.divert()
		}
	}
	t.loop = r.loops[int(t.sides[client].fd/2)%len(r.loops)]
	t.loop.do(t, func() { t.loop.open(t) })
	return nil
}

// End closes the tunnel with that code and reason (RFC 6455 §7.4.1). It does not wait. It may be called at any time, also when the
// tunnel has ended.
func (t *Tunnel) End(code int, reason string) {
	t.loop.do(t, func() {
		if !t.over {
			t.loop.close(t, code, reason)
			t.loop.settle(t)
		}
	})
}
