//go:build linux && (amd64 || arm64)

package mqttfront

import (
	"time"

	"fieldgate/gateway/clock"
)

// wheel holds connections by the time at which they have to be looked at. To add or remove one costs the same however many there
// are, and nothing is done for those whose time has not come: a connection that only gets more time stays where it is, and is
// put further on when it is met.
type wheel struct {
	slots [600]*connection // a minute; who has more time is met on the way
	tick  int64            // that was met last
	next  int64            // the earliest with a connection; 0: there is none
	moved bool             // next is another one
	count int
}

// timer is a connection's place in the wheel.
type timer struct {
	at       int64 // tick; 0: it is in none
	next     *connection
	previous *connection
}

// tickLength is how exactly a connection's time is kept.
const tickLength = 100 * time.Millisecond

// ticks is the first tick at or after a time.
func ticks(t time.Duration) int64 { return int64((t + tickLength - 1) / tickLength) }

func (w *wheel) slot(tick int64) **connection { return &w.slots[tick%int64(len(w.slots))] }

// add has a connection be met at that time, unless it is met before.
func (w *wheel) add(c *connection, at time.Duration) {
	tick := min(max(ticks(at), w.tick+1), w.tick+int64(len(w.slots))-1)
	t := &c.polled.timer
	if t.at != 0 {
		if t.at <= tick {
			return
		}
		w.remove(c)
	}
	head := w.slot(tick)
	*t = timer{at: tick, next: *head}
	if t.next != nil {
		t.next.polled.timer.previous = c
	}
	*head = c
	w.count++
	if w.next == 0 || tick < w.next {
		w.next, w.moved = tick, true
	}
}

func (w *wheel) remove(c *connection) {
	t := &c.polled.timer
	if t.at == 0 {
		return
	}
	if t.previous != nil {
		t.previous.polled.timer.next = t.next
	} else {
		*w.slot(t.at) = t.next
	}
	if t.next != nil {
		t.next.polled.timer.previous = t.previous
	}
	*t = timer{}
	w.count--
}

// alarm is when somebody has to be met; zero: never.
func (w *wheel) alarm() time.Time {
	if w.next == 0 {
		return time.Time{}
	}
	return clock.Time(time.Duration(w.next) * tickLength)
}

// expire meets those whose time has come.
func (w *wheel) expire(now time.Duration, meet func(*connection)) {
	current := int64(now / tickLength)
	if w.next == 0 || current < w.next {
		if w.count == 0 {
			w.tick = max(w.tick, current)
		}
		return
	}
	for w.tick = w.next - 1; w.tick < current; {
		w.tick++
		for head := w.slot(w.tick); *head != nil && (*head).polled.timer.at <= w.tick; {
			c := *head
			w.remove(c)
			meet(c)
		}
		if w.count == 0 {
			w.tick = current
		}
	}
	w.next, w.moved = 0, true
	for tick := w.tick + 1; w.count > 0 && w.next == 0; tick++ {
		if *w.slot(tick) != nil {
			w.next = tick
		}
	}
}
