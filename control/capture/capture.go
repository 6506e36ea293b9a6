// Package capture asks the gateways to copy a few exchanges with what they carried, for an operator who looks for a fault, and holds
// what they send.
//
// It holds it in memory only, within bounds, and forgets it a quarter of an hour after the capture has ended: nothing that a payload
// holds reaches a disk. Gateways send to every node of the control plane, so that any of them can be asked about a capture that
// another began; one that was started since knows what has come after. Who may ask, and that somebody did, is for the caller to check
// and to audit.
package capture

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
)

const (
	maxBytes = 32 << 20         // of all captured exchanges together, as they came
	kept     = 15 * time.Minute // after a capture's end
	repeat   = time.Second      // between two sendings of an order, which a gateway may have missed
	late     = 2 * time.Second  // after a capture's end, exchanges of before it may still come: the news of the end can overtake them
)

// Capture is one capture as it stands.
type Capture struct {
	ID        string
	Filter    fieldgate.CaptureFilter
	Count     int       // exchanges that were asked for
	Begun     time.Time // on this node's clock
	Ends      time.Time // at the latest; when it ended, once it has
	Ended     bool
	Exchanges int // that have come so far
	LeftOut   int // that came when there was no memory left for them
}

// capture is a Capture with what it has captured.
type capture struct {
	Capture
	ours      bool     // this node began it, and says so until it ends
	exchanges [][]byte // as they came
	bytes     int
}

// Captures is safe for concurrent use.
type Captures struct {
	bus *bus.Bus
	log *slog.Logger

	mu       sync.Mutex
	captures map[string]*capture
	bytes    int
}

// New knows no capture. Nothing is heard before Run.
func New(b *bus.Bus, log *slog.Logger) *Captures {
	return &Captures{bus: b, log: log, captures: make(map[string]*capture)}
}

// Run listens to gateways and to the control plane's other nodes until the context ends.
func (c *Captures) Run(ctx context.Context) error {
	for subject, receive := range map[string]func([]byte, time.Time){fieldgate.SubjectCaptureOrder: c.heard, fieldgate.SubjectCaptured: c.received} {
		stop, err := c.bus.Subscribe(subject, func(_ string, data []byte) { receive(data, time.Now()) })
		if err != nil {
			return fmt.Errorf("capture: %w", err)
		}
		defer stop()
	}
	ticker := time.NewTicker(repeat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			c.turn(now)
		}
	}
}

// Start begins a capture of the next count exchanges that fit the filter, for a duration at the most, and gives its id.
func (c *Captures) Start(filter fieldgate.CaptureFilter, count int, duration time.Duration) (id string, err error) {
	if count < 1 || count > fieldgate.MaxCaptureExchanges {
		return "", refusal.Invalid("a capture is of 1 to %d exchanges", fieldgate.MaxCaptureExchanges)
	}
	if duration <= 0 || duration > fieldgate.MaxCaptureDuration {
		return "", refusal.Invalid("a capture lasts up to %v", fieldgate.MaxCaptureDuration)
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	order := fieldgate.CaptureOrder{ID: hex.EncodeToString(random[:]), Filter: filter, Count: count, Remaining: duration}
	if !order.Valid() {
		return "", refusal.Invalid("the filter names no protocol of ours, or something longer than names are")
	}
	if !c.follow(&order, true, time.Now()) {
		return "", refusal.Conflict("%d captures are running: stop one, or wait for its end", fieldgate.MaxCaptures)
	}
	if err := c.send(&order); err != nil {
		c.mu.Lock()
		c.forget(c.captures[order.ID])
		c.mu.Unlock()
		return "", err
	}
	return order.ID, nil
}

// Stop ends a capture. What it has captured stays for a while.
func (c *Captures) Stop(id string) error {
	now := time.Now()
	c.mu.Lock()
	known, err := c.find(id, now)
	if err != nil {
		c.mu.Unlock()
		return err
	}
	order := known.order(now)
	known.end(now)
	c.mu.Unlock()
	order.Remaining = 0
	return c.send(&order)
}

// List is every capture that is held, the newest first.
func (c *Captures) List() []Capture {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tidy(now)
	list := make([]Capture, 0, len(c.captures))
	for _, known := range c.captures {
		list = append(list, known.Capture)
	}
	slices.SortFunc(list, func(a, b Capture) int { return cmp.Or(b.Begun.Compare(a.Begun), cmp.Compare(a.ID, b.ID)) })
	return list
}

// Get is a capture with its exchanges so far, in the order in which they began.
func (c *Captures) Get(id string) (Capture, []fieldgate.Captured, error) {
	c.mu.Lock()
	known, err := c.find(id, time.Now())
	if err != nil {
		c.mu.Unlock()
		return Capture{}, nil, err
	}
	capture, encoded := known.Capture, slices.Clone(known.exchanges)
	c.mu.Unlock()
	exchanges := make([]fieldgate.Captured, len(encoded))
	for i := range encoded {
		if err := json.Unmarshal(encoded[i], &exchanges[i]); err != nil {
			return Capture{}, nil, err
		}
	}
	slices.SortStableFunc(exchanges, func(a, b fieldgate.Captured) int { return a.Record.Time.Compare(b.Record.Time) })
	return capture, exchanges, nil
}

func (c *Captures) find(id string, now time.Time) (*capture, error) {
	c.tidy(now)
	known := c.captures[id]
	if known == nil {
		return nil, refusal.NotFound("there is no such capture; one is held for %d minutes after its end", int(kept.Minutes()))
	}
	return known, nil
}

// follow takes in a capture that this node or another began, and says whether there is room for it.
func (c *Captures) follow(order *fieldgate.CaptureOrder, ours bool, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tidy(now)
	if known := c.captures[order.ID]; known != nil {
		if order.Remaining == 0 {
			known.end(now)
		}
		return true
	}
	if order.Remaining == 0 {
		return true
	}
	if len(c.captures) >= fieldgate.MaxCaptures {
		oldest := c.oldestEnded()
		if oldest == nil {
			return false
		}
		c.forget(oldest)
	}
	c.captures[order.ID] = &capture{ours: ours, Capture: Capture{ID: order.ID, Filter: order.Filter, Count: order.Count, Begun: now, Ends: now.Add(order.Remaining)}}
	return true
}

// heard takes in an order of another node, or of this one.
func (c *Captures) heard(data []byte, now time.Time) {
	var order fieldgate.CaptureOrder
	if err := json.Unmarshal(data, &order); err != nil || !order.Valid() {
		c.log.Warn("an order to capture is malformed", "bytes", len(data))
		return
	}
	if !c.follow(&order, false, now) {
		c.log.Warn("too many captures at once: one that another node began is not held here", "capture", order.ID)
	}
}

// received takes in an exchange. A gateway that goes on when there is nothing left to take has missed that the capture has ended.
func (c *Captures) received(data []byte, now time.Time) {
	var exchange fieldgate.Captured
	if len(data) > fieldgate.MaxCaptured || json.Unmarshal(data, &exchange) != nil {
		c.log.Warn("a captured exchange is malformed", "bytes", len(data))
		return
	}
	c.mu.Lock()
	c.tidy(now)
	known := c.captures[exchange.Capture]
	if known == nil {
		c.mu.Unlock()
		return
	}
	if !known.full() && (!known.Ended || now.Sub(known.Ends) < late) {
		c.add(known, data)
	}
	if known.full() {
		known.end(now)
	}
	over, order := known.Ended, known.order(now)
	c.mu.Unlock()
	if over {
		order.Remaining = 0
		if err := c.send(&order); err != nil {
			c.log.Warn("the gateways were not told that a capture has ended", "capture", order.ID, "error", err)
		}
	}
}

// add keeps an exchange. The oldest captures that have ended give way to it. c is locked.
func (c *Captures) add(to *capture, data []byte) {
	for c.bytes+len(data) > maxBytes {
		oldest := c.oldestEnded()
		if oldest == nil {
			to.LeftOut++
			return
		}
		c.forget(oldest)
	}
	to.exchanges = append(to.exchanges, slices.Clone(data))
	to.Exchanges = len(to.exchanges)
	to.bytes += len(data)
	c.bytes += len(data)
}

// turn says again what this node has begun, and forgets what is over.
func (c *Captures) turn(now time.Time) {
	var orders []fieldgate.CaptureOrder
	c.mu.Lock()
	c.tidy(now)
	for _, known := range c.captures {
		if known.ours && !known.Ended {
			orders = append(orders, known.order(now))
		}
	}
	c.mu.Unlock()
	for i := range orders {
		if err := c.send(&orders[i]); err != nil {
			c.log.Warn("an order to capture was not repeated", "capture", orders[i].ID, "error", err)
		}
	}
}

func (c *Captures) send(order *fieldgate.CaptureOrder) error {
	encoded, err := json.Marshal(order)
	if err != nil {
		return err
	}
	return c.bus.Publish(fieldgate.SubjectCaptureOrder, encoded)
}

// tidy ends captures whose time is over, and forgets those that ended long ago. c is locked.
func (c *Captures) tidy(now time.Time) {
	for _, known := range c.captures {
		if !now.Before(known.Ends) {
			known.Ended = true
		}
		if known.Ended && now.Sub(known.Ends) >= kept {
			c.forget(known)
		}
	}
}

func (c *Captures) oldestEnded() (oldest *capture) {
	for _, known := range c.captures {
		if known.Ended && (oldest == nil || known.Ends.Before(oldest.Ends)) {
			oldest = known
		}
	}
	return oldest
}

func (c *Captures) forget(known *capture) {
	if known != nil {
		c.bytes -= known.bytes
		delete(c.captures, known.ID)
	}
}

// full says whether all that was asked for has come.
func (known *capture) full() bool { return known.Exchanges+known.LeftOut >= known.Count }

// end ends a capture, if it has not ended already.
func (known *capture) end(now time.Time) {
	if !known.Ended {
		known.Ended, known.Ends = true, now
	}
}

// order is what is to be said of a capture now.
func (known *capture) order(now time.Time) fieldgate.CaptureOrder {
	return fieldgate.CaptureOrder{ID: known.ID, Filter: known.Filter, Count: known.Count, Remaining: max(known.Ends.Sub(now), 0)}
}
