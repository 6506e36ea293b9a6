//go:build linux && (amd64 || arm64)

package tunnel

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/h1"
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
	closing bool      // what comes is dropped, and both sides are to end
	over    bool      // the sockets are closed
	by      time.Time // when it ends if nothing moves; zero: never
	ping    time.Time // when the client of a feed is asked for
	end     End
}

// side is one socket.
type side struct {
	fd       int32
	interest uint32 // that epoll knows
	eof      bool   // it has said all
	shut     bool   // it was told that nothing follows
	checking bool   // a long message of it is being checked: nothing is read
	pending  []byte // it has not taken yet
	rest     []byte // of what was read from it: to be looked at when checking is over
	says     speech
}

// Take duplicates the sockets of both connections and passes bytes between them, beginning with those read already. The connections
// themselves stay the caller's, to be closed. It fails without a trace if the process has no descriptors left or no Run is under way.
func (r *Relay) Take(toClient, toService *net.TCPConn, readFromClient, readFromService []byte, messages *pipeline.Messages, owner Owner) (*Tunnel, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.loops) == 0 {
		return nil, net.ErrClosed
	}
	t := &Tunnel{owner: owner}
	for i, tcp := range []*net.TCPConn{toClient, toService} {
		fd, err := duplicate(tcp)
		if err != nil {
			if i == service {
				syscall.Close(int(t.sides[client].fd))
			}
			return nil, err
		}
		t.sides[i] = side{fd: int32(fd), says: newSpeech(i, messages)}
	}
	t.sides[client].rest, t.sides[service].rest = bytes.Clone(readFromClient), bytes.Clone(readFromService)
	t.loop = r.loops[int(t.sides[client].fd/2)%len(r.loops)]
	t.loop.do(t, func() { t.loop.open(t) })
	return t, nil
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

// loop serves tunnels in one goroutine.
type loop struct {
	logger *slog.Logger
	poll   *os.File // of epoll(7), which the Go scheduler watches like any socket
	raw    syscall.RawConn
	fd     int

	tunnels  []*Tunnel // by slot
	free     []int32
	count    int
	timed    map[*Tunnel]struct{} // that have a time to end by
	ticking  bool                 // a deadline of the loop is set for them
	draining bool

	events [128]syscall.EpollEvent
	ready  int
	buf    []byte
	work   work

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
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that os.NewFile hands it to the scheduler
		syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &loop{logger: logger, fd: fd, poll: os.NewFile(uintptr(fd), "epoll"), timed: make(map[*Tunnel]struct{}),
		buf: make([]byte, readSize), permits: make(chan struct{}, 2)}
	if l.raw, err = l.poll.SyscallConn(); err == nil {
		err = l.poll.SetReadDeadline(time.Time{})
	}
	if err != nil {
		l.poll.Close()
		return nil, err
	}
	return l, nil
}

// do has the loop call f. It wakes it by a deadline that has passed.
func (l *loop) do(t *Tunnel, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended { // all tunnels are over
		return
	}
	l.queue = append(l.queue, command{t, f})
	l.poll.SetReadDeadline(longAgo)
}

// longAgo is a deadline that ends a wait at once.
var longAgo = time.Unix(1, 0)

func (l *loop) run() error {
	wait := func(fd uintptr) bool {
		l.ready = poll(fd, l.events[:])
		return l.ready > 0
	}
	for !l.draining || l.count > 0 {
		if err := l.raw.Read(wait); os.IsTimeout(err) {
			l.ready = 0
			l.expire()
			l.attend()
		} else if err != nil {
			return err
		}
		for i := range l.ready {
			event := &l.events[i]
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

// attend sets the loop's deadline and does what others want done. The deadline comes first: it must not overwrite one that
// announces more of that.
func (l *loop) attend() {
	for {
		next := time.Time{}
		if l.ticking = len(l.timed) > 0; l.ticking {
			next = time.Now().Add(tick)
		}
		l.poll.SetReadDeadline(next)
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
		if now.After(t.by) {
			l.end(t)
		} else {
			l.knock(t, now)
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

// open begins to serve a tunnel.
func (l *loop) open(t *Tunnel) {
	if n := len(l.free); n > 0 {
		t.slot = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		t.slot = int32(len(l.tunnels))
		l.tunnels = append(l.tunnels, nil)
	}
	l.tunnels[t.slot] = t
	l.count++
	for i := range t.sides {
		rest := t.sides[i].rest
		t.sides[i].rest = nil
		l.move(t, i, rest)
	}
	if l.draining {
		l.close(t, h1.CloseGoingAway, "")
	}
	if t.feed != nil {
		l.feed(t)
	}
	l.settle(t)
}

// serve does what a socket is ready for.
func (l *loop) serve(t *Tunnel, i int, events uint32) {
	defer l.survive(t)
	s := &t.sides[i]
	if s.interest&syscall.EPOLLOUT != 0 {
		l.flush(t, i)
	}
	if s.interest&syscall.EPOLLIN != 0 && events&^syscall.EPOLLOUT != 0 {
		l.read(t, i)
	}
	l.settle(t)
}

func (l *loop) read(t *Tunnel, i int) {
	s := &t.sides[i]
	n, errno := receive(s.fd, l.buf)
	switch {
	case errno == syscall.EAGAIN:
	case errno != 0:
		l.lost(t, i)
	case n == 0:
		s.eof = true
		if t.feed != nil { // RFC 6455 §7.1.5: it has gone without a close frame
			t.finish()
		}
	default:
		t.moved()
		l.move(t, i, l.buf[:n])
	}
}

// move passes on what a side said.
func (l *loop) move(t *Tunnel, from int, data []byte) {
	if t.closing {
		return
	}
	s := &t.sides[from]
	out, rest, due, broken := s.says.pass(&l.work, data)
	if t.feed != nil {
		l.hear(t, out)
	} else {
		l.write(t, 1-from, out)
	}
	switch {
	case broken != nil:
		l.refuse(t, from, broken)
	case due:
		s.rest = bytes.Clone(rest)
		l.check(t, from)
	}
}

func (l *loop) refuse(t *Tunnel, from int, broken *breach) {
	t.end.refuse(from, broken)
	l.close(t, broken.code, broken.reason)
}

// check has a long message checked beside the loop: others must not wait for it.
func (l *loop) check(t *Tunnel, from int) {
	s := &t.sides[from]
	s.checking = true
	l.checks.Go(func() {
		l.permits <- struct{}{}
		broken := l.judge(s.says.inspector)
		<-l.permits
		l.do(t, func() {
			s.checking = false
			switch {
			case t.over || t.closing:
			case broken != nil:
				l.refuse(t, from, broken)
			default:
				l.work.out = l.work.out[:0]
				s.says.inspector.release(&l.work)
				l.write(t, 1-from, l.work.out)
				rest := s.rest
				s.rest = nil
				l.move(t, from, rest)
			}
			l.settle(t)
		})
	})
}

// judge takes a fault of ours for a message that must not pass.
func (l *loop) judge(i *inspector) (broken *breach) {
	defer func() {
		if fault := recover(); fault != nil {
			l.logger.Error("fault while checking a message", "fault", fault, "stack", string(debug.Stack()))
			broken = &breach{code: h1.CloseInternal}
		}
	}()
	return i.judge(new(work))
}

// write sends p, and keeps what the socket does not take now.
func (l *loop) write(t *Tunnel, to int, p []byte) {
	s := &t.sides[to]
	if len(p) == 0 || s.shut {
		return
	}
	if len(s.pending) == 0 {
		n, errno := send(s.fd, p)
		if errno != 0 && errno != syscall.EAGAIN {
			l.lost(t, to)
			return
		}
		p = p[n:]
	}
	if len(p) > 0 {
		s.pending = append(s.pending, p...)
	}
}

// flush sends what is pending.
func (l *loop) flush(t *Tunnel, i int) {
	s := &t.sides[i]
	n, errno := send(s.fd, s.pending)
	if errno != 0 && errno != syscall.EAGAIN {
		l.lost(t, i)
		return
	}
	if n > 0 {
		t.moved()
	}
	if s.pending = s.pending[n:]; len(s.pending) == 0 {
		s.pending = nil
		if t.feed != nil {
			l.feed(t)
		}
	}
}

// lost is a socket that failed. The other one gets what it is owed, and ends.
func (l *loop) lost(t *Tunnel, i int) {
	s := &t.sides[i]
	s.eof, s.shut, s.pending = true, true, nil
	t.finish()
}

// finish has both sides end once they have taken what is pending. What they say is dropped.
func (t *Tunnel) finish() {
	t.closing, t.by = true, time.Now().Add(closeTime)
}

// close ends a tunnel in good order: a close frame to each side that is between two frames, then the end of what is sent to it, and
// what still comes is dropped until it ends, too.
func (l *loop) close(t *Tunnel, code int, reason string) {
	if t.closing {
		return
	}
	for i := range t.sides {
		if t.sides[i].fd == none {
			continue
		}
		if t.sides[1-i].says.interrupts() {
			var frame [h1.MaxFrameHead + 125]byte
			l.write(t, i, appendClose(frame[:0], i, code, reason))
		}
	}
	t.end.Code = code
	t.finish()
}

// moved gives the tunnel its time again.
func (t *Tunnel) moved() {
	if !t.closing && !t.by.IsZero() {
		t.by = time.Now().Add(t.patience())
	}
}

// patience is how long nothing may move where something should.
func (t *Tunnel) patience() time.Duration {
	if t.feed != nil {
		return 3 * pingEvery
	}
	return stalled
}

// settle tells the kernel what the tunnel waits for, after anything has happened to it.
func (l *loop) settle(t *Tunnel) {
	if t.over {
		return
	}
	done, waits, due := true, t.closing || t.feed != nil, time.Time{}
	for i := range t.sides {
		s, other := &t.sides[i], &t.sides[1-i]
		if s.fd == none {
			continue
		}
		if len(s.pending) == 0 && !s.shut && (other.eof || t.closing) {
			syscall.Shutdown(int(s.fd), syscall.SHUT_WR) // a failure shows when it is read
			s.shut = true
		}
		done = done && s.eof && s.shut
		waits = waits || s.eof || len(s.pending) > 0
		if whole := s.says.due(); !whole.IsZero() && !s.checking && (due.IsZero() || whole.Before(due)) {
			waits, due = true, whole
		}

		var interest uint32
		if !s.eof && !s.checking && (t.closing || len(other.pending) == 0) {
			interest |= syscall.EPOLLIN
		}
		if len(s.pending) > 0 {
			interest |= syscall.EPOLLOUT
		}
		if err := l.watch(t, i, interest); err != nil {
			l.logger.Error("watch a tunnel", "error", err)
			l.end(t)
			return
		}
	}
	switch {
	case done:
		l.end(t)
	case waits:
		if t.by.IsZero() {
			t.by = time.Now().Add(t.patience())
		}
		if !due.IsZero() && due.Before(t.by) {
			t.by = due
		}
		l.timed[t] = struct{}{}
	case !t.by.IsZero():
		t.by = time.Time{}
		delete(l.timed, t)
	}
}

// watch changes what epoll reports of a socket. One of which nothing is wanted is taken out: epoll reports errors in any case.
func (l *loop) watch(t *Tunnel, i int, interest uint32) error {
	s := &t.sides[i]
	if interest == s.interest {
		return nil
	}
	operation := syscall.EPOLL_CTL_MOD
	switch {
	case s.interest == 0:
		operation = syscall.EPOLL_CTL_ADD
	case interest == 0:
		operation = syscall.EPOLL_CTL_DEL
	}
	event := syscall.EpollEvent{Events: interest, Fd: t.slot<<1 | int32(i)}
	if err := syscall.EpollCtl(l.fd, operation, int(s.fd), &event); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	s.interest = interest
	return nil
}

// end closes the sockets.
func (l *loop) end(t *Tunnel) {
	t.over = true
	for i := range t.sides {
		s := &t.sides[i]
		if s.fd == none {
			continue
		}
		l.watch(t, i, 0) // the connection that was duplicated may still be open and would keep the socket watched
		syscall.Close(int(s.fd))
	}
	l.tunnels[t.slot] = nil
	l.free = append(l.free, t.slot)
	l.count--
	delete(l.timed, t)
	from, to := &t.sides[client], &t.sides[service]
	t.end.FromClient, t.end.FromService = from.says.bytes, to.says.bytes
	if t.end.InvalidClient == "" && !from.checking {
		t.end.InvalidClient = from.says.invalid()
	}
	if t.end.InvalidService == "" && !to.checking {
		t.end.InvalidService = to.says.invalid()
	}
	t.owner.Ended(t.end)
}
