// Package capture copies exchanges for an operator who wants to see what they carried, for a few minutes and a few exchanges at a
// time, and sends the copies to the control plane.
//
// It owns the pipeline's tap, which is there only while something is captured. It promises that no credential and no value that the
// contract calls secret leaves the gateway, that exchanges do not wait for it, and that all that it keeps is bounded: what does not
// fit is left out, and said to be. Exchanges of pass-through APIs and of callers with foreign credentials are never copied, since
// nobody has said what is secret in them, nor are those of contracts that forbid it.
package capture

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/pipeline"
)

// maxWaiting is how many copies wait to be sent at the most; further ones are dropped and counted.
const maxWaiting = 64

// Captures follows the orders to capture. It is safe for concurrent use.
type Captures struct {
	node     string
	pipeline *pipeline.Pipeline
	bus      *bus.Bus
	logger   *slog.Logger

	waiting chan *exchange
	dropped atomic.Uint64

	mu     sync.Mutex
	orders []*order
}

// order is one capture that is followed. It stays until its time is over, so that a message about it that is late does not begin it
// anew.
type order struct {
	fieldgate.CaptureOrder
	until time.Time
	left  int // exchanges still to be taken
}

// New makes what follows no order before Run.
func New(node string, p *pipeline.Pipeline, b *bus.Bus, logger *slog.Logger) *Captures {
	return &Captures{node: node, pipeline: p, bus: b, logger: logger, waiting: make(chan *exchange, maxWaiting)}
}

// Dropped is how many copies were lost because too many waited to be sent.
func (c *Captures) Dropped() uint64 { return c.dropped.Load() }

// Run follows orders and sends what was captured until the context ends.
func (c *Captures) Run(ctx context.Context) error {
	stop, err := c.bus.Subscribe(fieldgate.SubjectCaptureOrder, func(_ string, data []byte) { c.receive(data) })
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	defer c.pipeline.SetTap(nil)
	defer stop()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	redactors := make(map[*fieldgate.Contract]*redactor) // of the contracts that are being captured
	for {
		select {
		case <-ctx.Done():
			return nil
		case x := <-c.waiting:
			r := redactors[x.contract]
			if r == nil {
				r = newRedactor(x.contract)
				redactors[x.contract] = r
			}
			c.send(r.captured(x), x.captures)
		case now := <-ticker.C:
			if c.expire(now) {
				clear(redactors)
			}
		}
	}
}

// send tells the control plane of one exchange, once for each capture that it belongs to.
func (c *Captures) send(captured *fieldgate.Captured, captures []string) {
	captured.Node = c.node
	for _, id := range captures {
		captured.Capture = id
		encoded, err := json.Marshal(captured)
		if err == nil && len(encoded) > fieldgate.MaxCaptured {
			captured.Request = fieldgate.CapturedContent{Note: noteTooLarge}
			captured.Response = fieldgate.CapturedContent{Note: noteTooLarge}
			encoded, err = json.Marshal(captured)
		}
		if err == nil {
			err = c.bus.Publish(fieldgate.SubjectCaptured, encoded)
		}
		if err != nil {
			c.logger.Warn("a captured exchange was not sent", "capture", id, "error", err)
		}
	}
}

// receive follows one order.
func (c *Captures) receive(data []byte) {
	var o fieldgate.CaptureOrder
	if err := json.Unmarshal(data, &o); err != nil || !o.Valid() {
		c.logger.Warn("an order to capture is malformed", "bytes", len(data))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := slices.IndexFunc(c.orders, func(other *order) bool { return other.ID == o.ID })
	switch {
	case known >= 0:
		if o.Remaining == 0 {
			c.orders[known].left = 0
		}
	case o.Remaining == 0:
	case len(c.orders) >= fieldgate.MaxCaptures:
		c.logger.Warn("too many captures at once: one is not followed", "capture", o.ID)
	default:
		c.orders = append(c.orders, &order{o, time.Now().Add(o.Remaining), o.Count})
	}
	c.settle()
}

// expire forgets orders whose time is over, and says whether none is left.
func (c *Captures) expire(now time.Time) (none bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.orders = slices.DeleteFunc(c.orders, func(o *order) bool { return !now.Before(o.until) })
	c.settle()
	return len(c.orders) == 0
}

// settle sets the tap if there is something to take, and takes it away if not. c is locked.
func (c *Captures) settle() {
	if slices.ContainsFunc(c.orders, func(o *order) bool { return o.left > 0 }) {
		c.pipeline.SetTap(c)
	} else {
		c.pipeline.SetTap(nil)
	}
}

// Copy implements pipeline.Tap.
func (c *Captures) Copy(x *pipeline.Exchange) pipeline.Copy {
	if o := x.Operation; o != nil && (o.PassThrough || o.Contract.NoCapture) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.orders {
		if o.left > 0 && o.mayFit(x) {
			return &exchange{to: c}
		}
	}
	return nil
}

// mayFit says whether an exchange fits as far as it is known once it has been matched. A WebSocket or event stream begins as HTTP.
func (o *order) mayFit(x *pipeline.Exchange) bool {
	f := &o.Filter
	protocol := x.Protocol.String()
	return (f.API == "" || x.Operation != nil && x.Operation.Contract.API == f.API) &&
		(f.Operation == "" || x.Operation != nil && x.Operation.ID == f.Operation) &&
		(f.Protocol == "" || f.Protocol == protocol || x.Protocol == fieldgate.ProtocolHTTP && f.Protocol != "mqtt" && f.Protocol != "coap")
}

// fits says whether an exchange that has ended fits.
func (o *order) fits(r *fieldgate.Record) bool {
	f := &o.Filter
	return (f.API == "" || r.API == f.API) && (f.Operation == "" || r.Operation == f.Operation) &&
		(f.Principal == "" || r.Principal == f.Principal) && (f.Protocol == "" || r.Protocol.String() == f.Protocol) &&
		(!f.Refused || r.Problem != "")
}

// take counts an exchange against the captures that it fits, and says which these are.
func (c *Captures) take(r *fieldgate.Record) (captures []string) {
	if r.Kind == fieldgate.PrincipalForeign {
		return nil
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.orders {
		if o.left > 0 && now.Before(o.until) && o.fits(r) {
			o.left--
			captures = append(captures, o.ID)
		}
	}
	if captures != nil {
		c.settle()
	}
	return captures
}
