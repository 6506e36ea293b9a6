//go:build linux && (amd64 || arm64)

package tunnel

import (
	"bytes"
	"runtime/debug"
	"syscall"

	"fieldgate/gateway/socket"
	"fieldgate/protocol/h1"
)

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
		if s := t.sides[i].secured; s != nil { // it may have read more than it gave
			l.readSecured(t, i)
		}
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
		if s.secured != nil {
			l.readSecured(t, i)
		} else {
			l.read(t, i)
		}
	}
	l.settle(t)
}

func (l *loop) read(t *Tunnel, i int) {
	s := &t.sides[i]
	n, errno := socket.Receive(s.fd, l.buf)
	switch {
	case errno == syscall.EAGAIN:
	case errno != 0:
		l.lost(t, i)
	case n == 0:
		l.heardAll(t, i)
	default:
		t.moved()
		l.move(t, i, l.buf[:n])
	}
}

// heardAll notes that a side says no more.
func (l *loop) heardAll(t *Tunnel, i int) {
	t.sides[i].eof = true
	if t.feed != nil { // RFC 6455 §7.1.5: it has gone without a close frame
		t.finish()
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
				if s.secured != nil { // what it has read already nobody announces
					l.readSecured(t, from)
				}
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
	if len(p) == 0 || s.shut || s.ending {
		return
	}
	var err error
	if s.secured != nil {
		_, err = s.secured.link.Write(p)
	} else {
		err = s.send(p)
	}
	if err != nil {
		l.lost(t, to)
	}
}

// send sends p behind what is pending.
func (s *side) send(p []byte) error {
	if len(s.pending) == 0 {
		n, errno := socket.Send(s.fd, p)
		if errno != 0 && errno != syscall.EAGAIN {
			return errno
		}
		p = p[n:]
	}
	if len(p) > 0 {
		s.pending = append(s.pending, p...)
	}
	return nil
}

// flush sends what is pending.
func (l *loop) flush(t *Tunnel, i int) {
	s := &t.sides[i]
	n, errno := socket.Send(s.fd, s.pending)
	if errno != 0 && errno != syscall.EAGAIN {
		l.lost(t, i)
		return
	}
	if n > 0 {
		t.moved()
	}
	if s.pending = s.pending[n:]; len(s.pending) == 0 {
		s.pending = nil
		if s.secured != nil {
			s.secured.owed = 0
		}
		if t.feed != nil {
			l.feed(t)
		}
	}
}
