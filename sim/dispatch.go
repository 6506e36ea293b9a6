package sim

import (
	"context"
	"time"
)

const dispatchInterval = time.Second

// dispatch is an app at work: now and then it tells a tracker that listens to say where it is.
func (f *Fleet) dispatch(ctx context.Context) {
	var trackers []Device
	for _, d := range f.config.Devices {
		if d.Product == Tracker && d.Protocol == MQTT {
			trackers = append(trackers, d)
		}
	}
	if len(trackers) == 0 {
		return
	}
	app := &httpLink{fleet: f, token: f.config.App}
	for next := 0; sleep(ctx, dispatchInterval, nil); next++ {
		tracker := trackers[next%len(trackers)]
		answer := f.ask(ctx, app, &request{method: "POST", path: "/trackers/" + tracker.ID + "/commands", payload: payload{{"command", "locate"}}})
		if answer.outcome != Passed && ctx.Err() == nil {
			f.config.Log.Warn("a command was not sent", "tracker", tracker.ID, "answer", answer.text)
		}
	}
}
