//go:build linux && (amd64 || arm64)

package tunnel

import (
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"fieldgate/gateway/socket"
	"fieldgate/protocol/h1"
)

// loop serves tunnels in one goroutine.
type loop struct {
	logger *slog.Logger
	poll   *socket.Poll

	tunnels  []*Tunnel // by slot
	free     []int32
	count    int
	timed    map[*Tunnel]struct{} // that have a time to end by
	ticking  bool                 // a deadline of the loop is set for them
	draining bool

	buf  []byte
	work work

	checks  sync.WaitGroup
	permits chan struct{} // to check a long message

	mu    sync.Mutex
	queue []command
	ended bool
}

// command is what others want done, about a tunnel or all (nil).
type command struct {
	tunnel *Tunnel
	do     func()
}

// tick is how often times are looked at while there are any.
const tick = time.Second

func newLoop(logger *slog.Logger) (*loop, error) {
	poll, err := socket.OpenPoll()
	if err != nil {
		return nil, err
	}
	return &loop{logger: logger, poll: poll, timed: make(map[*Tunnel]struct{}), buf: make([]byte, readSize), permits: make(chan struct{}, 2)}, nil
}

// do has the loop call f.
func (l *loop) do(t *Tunnel, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended { // all tunnels are over
		return
	}
	l.queue = append(l.queue, command{t, f})
	l.poll.Wake()
}

func (l *loop) run() error {
	for !l.draining || l.count > 0 {
		events, err := l.poll.Wait()
		if err != nil {
			return err
		}
		if len(events) == 0 {
			l.expire()
			l.attend()
		}
		for i := range events {
			event := &events[i]
			if t := l.tunnels[event.Fd>>1]; t != nil {
				l.serve(t, int(event.Fd&1), event.Events)
			}
		}
		l.work.shrink()
		if l.ticking != (len(l.timed) > 0) {
			l.attend()
		}
	}
	return nil
}

// attend sets the loop's deadline and does what others want done. The deadline comes first: it must not overwrite one that
// announces more of that.
func (l *loop) attend() {
	for {
		next := time.Time{}
		if l.ticking = len(l.timed) > 0; l.ticking {
			next = time.Now().Add(tick)
		}
		l.poll.SetDeadline(next)
		l.mu.Lock()
		queue := l.queue
		l.queue = nil
		l.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for i := range queue {
			l.obey(&queue[i])
		}
	}
}

func (l *loop) obey(c *command) {
	defer l.survive(c.tunnel)
	c.do()
}

// survive confines a fault of ours to the tunnel that met it.
func (l *loop) survive(t *Tunnel) {
	if fault := recover(); fault != nil {
		l.logger.Error("fault while serving a tunnel", "fault", fault, "stack", string(debug.Stack()))
		if t != nil && !t.over {
			l.end(t)
		}
	}
}

// expire ends tunnels in which nothing moves that should.
func (l *loop) expire() {
	if !l.ticking {
		return
	}
	now := time.Now()
	for t := range l.timed {
		switch {
		case now.Before(t.by):
			l.knock(t, now)
		case t.idling:
			l.close(t, h1.CloseGoingAway, silent)
			l.settle(t)
		default:
			l.end(t)
		}
	}
}

// drain closes all tunnels.
func (l *loop) drain() {
	l.draining = true
	for _, t := range l.tunnels {
		if t != nil {
			l.close(t, h1.CloseGoingAway, "")
			l.settle(t)
		}
	}
}

// finish ends what is left, after a failure, and releases the loop's own descriptor.
func (l *loop) finish() {
	l.mu.Lock()
	l.ended = true
	queue := l.queue
	l.queue = nil
	l.mu.Unlock()
	for i := range queue { // tunnels that were taken at the last moment
		l.obey(&queue[i])
	}
	for _, t := range l.tunnels {
		if t != nil {
			l.end(t)
		}
	}
	l.checks.Wait()
	l.poll.Close()
}
