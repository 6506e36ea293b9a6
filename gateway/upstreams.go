package gateway

import (
	"context"
	"time"

	"fieldgate"
	"fieldgate/gateway/upstream"
)

const (
	settleInterval = time.Second
	// tellPause lies between two states that upstreams cause: when many addresses fail at once, one message tells of all.
	tellPause = 200 * time.Millisecond
)

// watchUpstreams says at once, to the log and the control plane, when an address becomes healthy or is no longer, and when a circuit
// opens or closes.
func (g *Gateway) watchUpstreams(ctx context.Context) error {
	ticker := time.NewTicker(settleInterval)
	defer ticker.Stop()
	news, pause := false, (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			g.pipeline.Upstreams.Settle(now)
		case t := <-g.pipeline.Upstreams.Transitions():
			g.logTransition(&t)
			news = true
		case <-pause:
			pause = nil
		}
		if news && pause == nil {
			g.reportUpstreams()
			news, pause = false, time.After(tellPause)
		}
	}
}

// reportUpstreams makes tell speak at once, of the upstreams too.
func (g *Gateway) reportUpstreams() {
	g.upstreams.Store(true)
	g.report()
}

func (g *Gateway) logTransition(t *upstream.Transition) {
	log := g.config.Logger.With("upstream", t.Upstream)
	switch {
	case t.Circuit == fieldgate.CircuitOpen:
		log.Warn("the circuit has opened: calls are refused, because most of them failed")
	case t.Circuit == fieldgate.CircuitClosed:
		log.Info("the circuit has closed: calls pass again")
	case t.Healthy:
		log.Info("an address is used again", "address", t.Address)
	default:
		log.Warn("an address is left out", "address", t.Address, "why", t.Why)
	}
}
