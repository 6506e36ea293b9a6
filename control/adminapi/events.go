package adminapi

import (
	"context"
	"time"

	"fieldgate"
	"fieldgate/api"
)

const (
	liveInterval = time.Second
	liveSeconds  = 10 // that the figures look back
)

// StreamEvents needs no database once it has begun: figures come from memory, and what is away is told.
func (o *operations) StreamEvents(ctx context.Context, _ StreamEventsRequestObject) (StreamEventsResponseObject, error) {
	reader, err := o.config.Decisions.Subscribe()
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(liveInterval)
	stream := newEventStream(ctx, o.stopping, func() {
		ticker.Stop()
		reader.Close()
	})
	health, changed := o.monitor.health()
	turned := o.config.Rollout.Turned()
	stream.event("health", api.HealthReport{At: time.Now().UTC(), Items: health})
	stream.event("live", o.liveFigures())
	stream.wait = func(timeout <-chan time.Time) {
		select {
		case entry, going := <-reader.Entries:
			if going {
				stream.event("changed", api.Change{Id: int64(entry.ID), Time: entry.Time, Actor: entry.Actor.Name, Action: entry.Action, Target: entry.Target})
				return
			}
			// It was too slow.
			stream.event("missed", struct{}{})
			if reader, err = o.config.Decisions.Subscribe(); err != nil {
				stream.over = true
			}
		case <-ticker.C:
			stream.event("live", o.liveFigures())
		case <-changed:
			health, changed = o.monitor.health()
			stream.event("health", api.HealthReport{At: time.Now().UTC(), Items: health})
		case <-turned:
			turned = o.config.Rollout.Turned()
			stream.event("turned", struct{}{})
		case <-timeout:
		case <-ctx.Done():
		case <-o.stopping:
		}
	}
	return StreamEvents200TexteventStreamResponse{Body: stream}, nil
}

func (o *operations) liveFigures() api.LiveFigures {
	rates, online := o.config.Insight.Rates(liveSeconds), o.config.Insight.Online()
	figures := api.LiveFigures{At: time.Now().UTC(), DevicesOnline: int64(online.Devices), Protocols: []api.LiveProtocol{}}
	for p := range fieldgate.Protocols {
		live := api.LiveProtocol{Protocol: api.Protocol(p.String()), DevicesOnline: int64(online.Protocols[p])}
		for _, rate := range rates.Protocols {
			if rate.Protocol == p {
				live.PerSecond = float64(rate.Exchanges) / liveSeconds
				live.RefusedPerSecond = float64(rate.Refused) / liveSeconds
				live.FailedPerSecond = float64(rate.Failed) / liveSeconds
			}
		}
		figures.PerSecond += live.PerSecond
		figures.RefusedPerSecond += live.RefusedPerSecond
		figures.FailedPerSecond += live.FailedPerSecond
		figures.Protocols = append(figures.Protocols, live)
	}
	return figures
}
