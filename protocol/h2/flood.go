package h2

import "time"

// budget is what a client may still do of something that costs us and brings nothing. The clock fills it up again.
type budget struct {
	left, most float64
	perSecond  float64
	filled     time.Time
}

func newBudget(most, perSecond float64) budget {
	return budget{left: most, most: most, perSecond: perSecond}
}

// draw takes one and reports whether there was one.
func (b *budget) draw(now time.Time) bool {
	if !b.filled.IsZero() {
		b.refund(now.Sub(b.filled).Seconds() * b.perSecond)
	}
	b.filled = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

func (b *budget) refund(n float64) { b.left = min(b.left+n, b.most) }

var (
	errIdleFlood  = connError(EnhanceYourCalm, "too many frames that carry nothing")
	errResetFlood = connError(EnhanceYourCalm, "too many streams reset or refused")
)

// drawIdle accounts for a frame that carries nothing. c.mu is held.
func (c *Conn) drawIdle() error {
	if !c.idle.draw(c.now) {
		return errIdleFlood
	}
	return nil
}

// drawReset accounts for a stream that came to nothing. c.mu is held.
func (c *Conn) drawReset() error {
	if !c.resets.draw(c.now) {
		return errResetFlood
	}
	return nil
}
