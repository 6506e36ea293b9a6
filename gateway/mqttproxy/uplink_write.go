package mqttproxy

import "time"

// flush sends what was published.
func (u *uplink) flush() {
	if !u.dirty.Load() {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.flushLocked()
}

// flushLocked sends what there is to send: what the socket takes at once, and the rest by a goroutine that waits for it. u is locked.
func (u *uplink) flushLocked() {
	l := u.link
	u.dirty.Store(false)
	if l == nil || l.reading || l.writing || len(l.out) == 0 {
		return // whoever reads or writes goes on with it
	}
	if l.direct != nil {
		n, err := l.direct.TryWrite(l.out)
		if l.out = l.out[:copy(l.out, l.out[n:])]; err != nil {
			l.conn.Close() // which is read
			return
		}
	}
	if len(l.out) > 0 {
		l.writing = true
		u.running.Go(func() { u.write(l) })
		return
	}
	if cap(l.out) > keepBuffer {
		l.out = nil
	}
}

// write sends until nothing is left.
func (u *uplink) write(l *link) {
	var spare []byte
	defer u.callBack()
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(l.out) > 0 {
		out := l.out
		l.out = spare[:0]
		u.mu.Unlock()
		l.conn.SetWriteDeadline(time.Now().Add(u.pool.config.WriteTimeout))
		_, err := l.conn.Write(out)
		u.mu.Lock()
		if err != nil {
			l.conn.Close()
			break
		}
		spare = out
		if u.link == l {
			u.sendWaiting(l) // what waited for room
		}
	}
	l.writing = false
}
