package mqttfront

import (
	"context"
	"strconv"
	"time"

	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttexchange"
)

// systemInterval is the time between two publications of all statistics; 0 in a Config: this one.
const systemInterval = 10 * time.Second

// statistics are what docs/protocols.md names, by topic below "$SYS/broker/": numbers in decimal digits.
func (f *Front) statistics(started time.Time) map[string]uint64 {
	f.mu.Lock()
	sessions := f.sessions.count
	f.mu.Unlock()
	c := &f.Counters
	connected := uint64(c.Connections.Load())
	return map[string]uint64{
		"uptime":                uint64(time.Since(started) / time.Second),
		"clients/connected":     connected,
		"clients/total":         uint64(sessions),
		"subscriptions/count":   uint64(f.tree.Len()),
		"messages/received":     c.Published.Load(),
		"messages/refused":      c.Denied.Total(),
		"messages/sent":         c.Delivered.Load(),
		"messages/dropped":      c.DroppedQoS0.Load() + c.DroppedOverflow.Load() + c.DroppedTooLarge.Load(),
		"messages/expired":      c.DroppedExpired.Load(),
		"connections/refused":   c.Refused.Load(),
		"connections/malformed": c.Malformed.Load(),
	}
}

// publishStatistics publishes them again and again until ctx ends, at QoS 0 and not retained: they are true for a moment, and of this node.
func (f *Front) publishStatistics(ctx context.Context, started time.Time) {
	ticker := time.NewTicker(f.config.SystemInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		for topic, value := range f.statistics(started) {
			f.pipeline.Broker.PublishHere(f, &broker.Message{Topic: mqttexchange.SystemPrefix + "broker/" + topic, Payload: strconv.AppendUint(nil, value, 10),
				ContentType: "text/plain", Time: now}, nil)
		}
	}
}
