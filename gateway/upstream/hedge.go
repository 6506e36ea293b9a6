package upstream

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"
)

// hedgedHead waits for the head of the answer; when it is late, a second try on another address begins beside the first, and the
// one whose answer comes first is kept.
func (c *Call) hedgedHead() error {
	late := c.sentAt.Add(c.Hedge)
	if !late.Before(c.tryBy) {
		return c.readHead()
	}
	err := c.readHeadUntil(late)
	if !errors.Is(err, os.ErrDeadlineExceeded) || c.Handle.isCut() {
		return err
	}
	now := time.Now()
	other := c.upstream.choose(now, &c.Choice, &c.tried)
	if other == nil || !c.upstream.budget.take(now) {
		return c.readHead()
	}
	c.upstream.budget.hedges.Add(1)
	return c.race(other, now)
}

// readHeadUntil is readHead with an earlier end, after which readHead may go on.
func (c *Call) readHeadUntil(late time.Time) error {
	if c.other != nil {
		if !c.other.endsBy(late) {
			return os.ErrDeadlineExceeded
		}
		return c.readHead()
	}
	if err := c.conn.SetReadDeadline(late); err != nil {
		return err
	}
	err := c.readHead()
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		if failure := c.conn.SetReadDeadline(c.conn.deadline); failure != nil {
			return failure
		}
	}
	return err
}

// race sends the request to the other address too, and waits for both. The try that loses is cut, and its connection closed.
func (c *Call) race(other *address, now time.Time) error {
	ctx, stop := context.WithCancel(c.context())
	defer stop()
	second := *c
	second.Handle, second.Context = new(Handle), ctx
	c.Handle.beside(second.Handle)
	defer c.Handle.beside(nil)
	first := c.try // for the other goroutine; the call's own is not changed before it has ended

	const nobody, firstWon, secondWon = 0, 1, 2
	var winner atomic.Int32
	ended := make(chan error, 1)
	go func() {
		err := second.sendTo(other, now)
		if err == nil {
			err = second.readHead()
		}
		if err == nil && winner.CompareAndSwap(nobody, secondWon) {
			first.cutTry()
		}
		ended <- err
	}()
	err := c.readHead()
	if err == nil && winner.CompareAndSwap(nobody, firstWon) || c.Handle.isCut() {
		stop()
		second.Handle.Cut()
	}
	secondErr := <-ended
	if winner.Load() != secondWon {
		if secondErr != nil && winner.Load() != firstWon {
			second.note(secondErr)
		}
		second.abandon()
		return err
	}
	c.upstream.budget.hedgesWon.Add(1)
	c.outcome = cancelled // the first was only slow
	c.overtaken(err)
	c.abandon()
	c.try, c.Response = second.try, second.Response
	c.Handle.hold(c.conn, c.other)
	return nil
}

// overtaken notes what is known of the first try: that it failed, or takes that long at the least.
func (c *Call) overtaken(err error) {
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.note(err)
		return
	}
	now := time.Now()
	c.address.latency.observe(sinceStart(now), now.Sub(c.sentAt), true)
}
