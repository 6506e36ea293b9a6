//go:build linux && (amd64 || arm64)

package mqttfront

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"fieldgate/gateway/clock"
	"fieldgate/gateway/socket"
)

// loop serves TCP connections, plain and with TLS after its handshake, in one goroutine: those that idle have no goroutine, buffer or timer. It never waits: what
// may take long is done by a goroutine, and the connection is not read meanwhile.
//
// Sockets are watched edge-triggered (epoll(7)), so that no system call is needed to stop or resume the reading of one.
type loop struct {
	front *Front
	poll  *socket.Poll
	buf   []byte
	batch batch
	wheel wheel

	connections []*connection // by slot
	free        []int32
	count       int
	drained     bool

	mu       sync.Mutex
	queue    []*connection // to be looked after
	awake    bool          // it looks into the queue before it waits
	woken    bool          // poll has to be told when to wait until
	draining bool
	ended    bool
}

// polled is what a loop knows of a connection.
type polled struct {
	fd       int32 // -1: closed. Others than the loop use it with the connection locked
	slot     int32
	entered  bool
	unarmed  bool        // its deadline may have come nearer
	readable bool        // there may be something to read
	hungUp   bool        // nothing will follow what can be read
	heardAll bool        // nothing follows what was read
	shut     bool        // the client was told that nothing follows
	queued   bool        // guarded by loop.mu
	working  atomic.Bool // a goroutine that may wait handles its packets; failed is the outcome
	excess   int32       // bytes that came after the end
	timer
}

func newLoop(f *Front) (*loop, error) {
	poll, err := socket.OpenPoll()
	if err != nil {
		return nil, err
	}
	l := &loop{front: f, poll: poll, buf: make([]byte, readSize), awake: true}
	l.batch.front = f
	l.wheel.tick = ticks(clock.Now())
	return l, nil
}

// take has the loop serve a connection, whose socket it duplicates; tcp is closed. s is TLS above it; nil: it is plain.
func (l *loop) take(c *connection, tcp *net.TCPConn, s *secured) error {
	fd, err := socket.Duplicate(tcp)
	if err != nil {
		return err
	}
	tcp.Close()
	c.loop, c.polled.fd = l, int32(fd)
	if s != nil {
		s.Conn, s.owner = gone, c
		c.secured, c.polled.readable = s, true // TLS may have read more than the handshake
	}
	l.attend(c)
	return nil
}

// attend has the loop look after a connection, soon. It may be called by anybody, and does not wait.
func (l *loop) attend(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.polled.queued || l.ended {
		return
	}
	c.polled.queued = true
	l.queue = append(l.queue, c)
	l.wake()
}

// wake interrupts the waiting. l is locked.
func (l *loop) wake() {
	if !l.awake {
		l.awake, l.woken = true, true
		l.poll.Wake()
	}
}

// drain has the loop end all connections, and itself with the last of them.
func (l *loop) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	l.wake()
}

func (l *loop) run() error {
	defer l.poll.Close()
	var queue []*connection
	for {
		l.mu.Lock()
		queue, l.queue = l.queue, queue[:0]
		for _, c := range queue {
			c.polled.queued = false
		}
		if l.draining && l.count == 0 && len(queue) == 0 {
			l.ended = true
			l.mu.Unlock()
			return nil
		}
		drain := l.draining && !l.drained
		busy := drain || len(queue) > 0
		if l.awake = busy; !busy && (l.woken || l.wheel.moved) {
			l.woken, l.wheel.moved = false, false
			l.poll.SetDeadline(l.wheel.alarm())
		}
		l.mu.Unlock()

		var events []syscall.EpollEvent
		if busy {
			events = l.poll.Look()
		} else {
			var err error
			if events, err = l.poll.Wait(); err != nil {
				return err
			}
			l.mu.Lock()
			l.awake = true // it need not be woken for what comes in this turn
			l.mu.Unlock()
		}
		l.batch.now = time.Now()
		for i := range events {
			if c := l.connections[events[i].Fd]; c != nil {
				l.serve(c, events[i].Events)
			}
		}
		for i, c := range queue {
			l.advance(c)
			queue[i] = nil
		}
		if drain {
			l.drained = true
			l.dismiss()
		}
		l.wheel.expire(clock.Of(l.batch.now), l.expire)
		l.batch.flush()
	}
}

// enter has the kernel watch the connection.
func (l *loop) enter(c *connection) {
	p := &c.polled
	p.entered, p.unarmed = true, true
	if n := len(l.free); n > 0 {
		p.slot = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		p.slot = int32(len(l.connections))
		l.connections = append(l.connections, nil)
	}
	l.connections[p.slot] = c
	l.count++
	const edgeTriggered = 1 << 31 // EPOLLET, which package syscall gives a negative number
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edgeTriggered, Fd: p.slot}
	if err := l.poll.Control(syscall.EPOLL_CTL_ADD, p.fd, &event); err != nil {
		l.front.logger.Error("watch an MQTT connection", "error", err)
		l.leave(c, nil)
		l.end(c)
	}
}

// serve notes what the kernel reports.
func (l *loop) serve(c *connection, events uint32) {
	p := &c.polled
	if events&^syscall.EPOLLOUT != 0 {
		p.readable = true
		if c.secured != nil {
			c.secured.ready = true
		}
	}
	if events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		p.hungUp = true
	}
	l.advance(c)
}

// advance does for a connection what can be done now.
func (l *loop) advance(c *connection) {
	p := &c.polled
	if !p.entered {
		if l.enter(c); l.drained {
			l.leave(c, nil)
		}
	}
	if p.fd < 0 || p.working.Load() {
		return
	}
	c.mu.Lock()
	if len(c.pending) > 0 || c.mqtt.HasOut() && !c.dirty {
		l.send(c, &l.batch)
	}
	if c.session != nil && len(c.session.had().retained) > 0 && len(c.pending) == 0 {
		if c.deliverRetained(l.batch.now) {
			l.attend(c)
		}
		l.send(c, &l.batch)
	}
	left, over := c.left, c.lost || c.had().failed != nil || c.mqtt.Closed()
	paused := c.paused()
	resumed := c.stalled && !paused
	c.stalled = c.stalled || paused
	c.mu.Unlock()
	switch {
	case left:
		l.linger(c)
	case over:
		l.leave(c, c.had().failed)
	case paused:
	case resumed:
		l.process(c, nil)
		if p.readable {
			l.attend(c)
		}
	case p.readable:
		if l.read(c); !p.unarmed {
			return // its deadline has not come nearer
		}
	}
	l.arm(c)
}

func (l *loop) read(c *connection) {
	if c.secured != nil {
		l.readSecured(c)
		return
	}
	p := &c.polled
	n, errno := socket.Receive(p.fd, l.buf)
	switch {
	case errno == syscall.EAGAIN:
		p.readable = false
	case errno != 0:
		c.mu.Lock()
		c.lost = true
		c.mu.Unlock()
		l.leave(c, nil)
	case n == 0:
		p.heardAll = true
		l.leave(c, nil)
	default:
		// Less than asked for is all there is (epoll(7)).
		if p.readable = n == len(l.buf) || p.hungUp; p.readable {
			l.attend(c)
		}
		l.process(c, l.buf[:n])
	}
}

func (l *loop) process(c *connection, received []byte) {
	wait, err := c.process(received, &l.batch, true)
	switch {
	case err != nil:
		l.leave(c, err)
	case wait:
		p := &c.polled
		p.unarmed = true
		p.working.Store(true)
		l.front.running.Go(func() {
			b := l.front.newBatch()
			if _, err := c.process(nil, b, false); err != nil {
				c.need().failed = err
			}
			b.end()
			p.working.Store(false)
			l.attend(c)
		})
	}
}

// send sends what there is to send as far as the socket takes it. Anybody may call it; c is locked.
func (l *loop) send(c *connection, b *batch) {
	p := &c.polled
	waited := len(c.pending) > 0
	for p.fd >= 0 && !c.lost {
		if len(c.pending) == 0 {
			if !c.mqtt.HasOut() {
				break
			}
			if out := c.mqtt.Out(b.buffer(), b.now); c.secured != nil {
				c.secured.seal(out, b)
			} else {
				c.pending = out
			}
		}
		n, errno := socket.Send(p.fd, c.pending)
		if n == len(c.pending) {
			b.release(c.pending)
			c.pending = nil
			continue
		}
		c.pending = c.pending[n:]
		if n > 0 || !waited {
			c.since = clock.Now()
		}
		if errno == syscall.EAGAIN { // the kernel reports when there is room again
			break
		}
		c.lost = true
	}
	switch {
	case c.lost || p.fd < 0:
		c.pending = nil
		c.mqtt.Close(0)
		c.mqtt.TakeBuffer()
		l.attend(c)
	case len(c.pending) == 0:
		b.takeBack(c)
		if waited {
			c.resume()
		}
	case !waited:
		l.attend(c) // which sees to its deadline
	}
}

// leave ends a connection but for its last words.
func (l *loop) leave(c *connection, reason error) {
	if c.polled.fd < 0 {
		return
	}
	c.leave(reason)
	c.mu.Lock()
	l.send(c, &l.batch)
	c.mu.Unlock()
	l.linger(c)
	l.arm(c)
}

// linger closes a connection that has left once it has taken its last words. What still arrives is dropped: with bytes unread
// the kernel would reset the connection before the client has read them.
func (l *loop) linger(c *connection) {
	p := &c.polled
	c.mu.Lock()
	if c.secured != nil && len(c.pending) == 0 && !p.shut && !c.lost {
		c.secured.finish()
		l.send(c, &l.batch)
	}
	lost, told := c.lost, len(c.pending) == 0
	c.mu.Unlock()
	if told && !p.shut && !lost {
		syscall.Shutdown(int(p.fd), syscall.SHUT_WR) // a failure shows when it is read
		p.shut = true
	}
	for p.readable && !p.heardAll && !lost {
		n, errno := socket.Receive(p.fd, l.buf)
		p.readable = errno == 0
		p.heardAll = errno == 0 && n == 0 || errno != 0 && errno != syscall.EAGAIN
		if p.excess += int32(n); p.excess > readSize {
			lost = true
		}
	}
	if lost || told && p.heardAll {
		l.end(c)
	}
}

// end closes the socket.
func (l *loop) end(c *connection) {
	p := &c.polled
	if p.fd < 0 {
		return
	}
	c.mu.Lock()
	fd := p.fd
	p.fd, c.pending, c.secured, c.lost = -1, nil, nil, true
	c.mqtt.TakeBuffer()
	c.mu.Unlock()
	syscall.Close(int(fd))
	l.connections[p.slot] = nil
	l.free = append(l.free, p.slot)
	l.count--
	l.wheel.remove(c)
	l.front.closed(c)
}

// arm sees to it that the connection is looked at when its time is over.
func (l *loop) arm(c *connection) {
	if c.polled.fd < 0 || c.polled.working.Load() {
		return
	}
	c.polled.unarmed = false
	c.mu.Lock()
	deadline := c.deadline()
	c.mu.Unlock()
	if deadline != 0 {
		l.wheel.add(c, deadline)
	}
}

// expire ends a connection whose time is over, if it is: it may have got more since it was armed.
func (l *loop) expire(c *connection) {
	if c.polled.working.Load() {
		return // it is armed when that is done
	}
	now := l.batch.now
	c.mu.Lock()
	deadline, left, opening, stuck := c.deadline(), c.left, c.session == nil, len(c.pending) > 0
	again := deadline > clock.Of(now)
	var silent error
	switch {
	case again || deadline == 0 || left || opening:
	case stuck:
		c.lost = true
	default:
		silent = c.mqtt.Tick(now)
	}
	c.mu.Unlock()
	switch {
	case again:
		l.wheel.add(c, deadline)
	case deadline == 0: // it is armed when it resumes, or never has to end
	case left:
		l.end(c)
	default:
		l.leave(c, silent)
	}
}

// dismiss ends the connections that have not identified themselves: they are told nothing.
func (l *loop) dismiss() {
	for _, c := range l.connections {
		if c == nil || c.polled.working.Load() {
			continue
		}
		c.mu.Lock()
		opening := c.session == nil && !c.left
		c.mu.Unlock()
		if opening {
			l.leave(c, nil)
		}
	}
}
