package upstream

import (
	"sync/atomic"
	"time"
)

// Handle reaches a Call under way from another goroutine. The zero value is ready.
type Handle struct {
	conn  atomic.Pointer[conn]
	other atomic.Pointer[protocolExchange]
	hedge atomic.Pointer[Handle] // of a try beside it
	cut   atomic.Bool
}

// Cut ends the call that goes on at present, and those that follow: they fail with upstream-timeout. The
// connection is not used again.
func (h *Handle) Cut() {
	h.cut.Store(true)
	if link := h.conn.Load(); link != nil {
		link.SetDeadline(pastDeadline)
	}
	if other := h.other.Load(); other != nil {
		(*other).cut()
	}
	if hedge := h.hedge.Load(); hedge != nil {
		hedge.Cut()
	}
}

// beside makes Cut end another try too, or no more (nil).
func (h *Handle) beside(hedge *Handle) {
	if h == nil {
		return
	}
	h.hedge.Store(hedge)
	if hedge != nil && h.cut.Load() {
		hedge.Cut()
	}
}

func (h *Handle) isCut() bool { return h != nil && h.cut.Load() }

// hold makes the handle reach that try, or none.
func (h *Handle) hold(link *conn, other protocolExchange) {
	if h == nil {
		return
	}
	h.conn.Store(link)
	if other == nil {
		h.other.Store(nil)
	} else {
		held := other // only this takes memory
		h.other.Store(&held)
	}
	if h.cut.Load() {
		h.Cut()
	}
}

// pastDeadline is a deadline that ends reading and writing at once.
var pastDeadline = time.Unix(1, 0)
