//go:build linux && (amd64 || arm64)

package tunnel

import (
	"syscall"
	"time"

	"fieldgate/protocol/h1"
)

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
		over := !s.shut && (other.eof || t.closing)
		if over && s.secured != nil && !s.ending {
			s.ending = true
			s.secured.link.CloseWrite() // RFC 8446 §6.1; a failure shows when it is read
		}
		if over && len(s.pending) == 0 {
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
		if t.by.IsZero() || t.idling {
			t.idling = false
			t.by = time.Now().Add(t.patience())
		}
		if !due.IsZero() && due.Before(t.by) {
			t.by = due
		}
		l.timed[t] = struct{}{}
	case t.idle > 0:
		if !t.idling {
			t.idling = true
			t.by = time.Now().Add(t.patience())
			l.timed[t] = struct{}{}
		}
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
	if err := l.poll.Control(operation, s.fd, &event); err != nil {
		return err
	}
	s.interest = interest
	return nil
}

// moved gives the tunnel its time again. Whatever either side says counts, pings too.
func (t *Tunnel) moved() {
	if !t.closing && !t.by.IsZero() {
		t.by = time.Now().Add(t.patience())
	}
}

// patience is how long nothing may move where something should.
func (t *Tunnel) patience() time.Duration {
	switch {
	case t.idling:
		return t.idle
	case t.feed != nil:
		return 3 * pingEvery
	}
	return stalled
}

// lost is a socket that failed. The other one gets what it is owed, and ends.
func (l *loop) lost(t *Tunnel, i int) {
	s := &t.sides[i]
	s.eof, s.shut, s.pending = true, true, nil
	t.finish()
}

// finish has both sides end once they have taken what is pending. What they say is dropped.
func (t *Tunnel) finish() {
	t.closing, t.idling, t.by = true, false, time.Now().Add(closeTime)
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
