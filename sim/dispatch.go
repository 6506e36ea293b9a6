package sim

import (
	"context"
	"sync"
	"time"

	"fieldgate/protocol/coap"
)

const (
	dispatchInterval = time.Second
	askEach          = 5 // turns of dispatch between two questions to the lamp
	followed         = 3 // trackers that are observed
)

// idsOf are those of the first devices of a kind, at most so many.
func (f *Fleet) idsOf(limit int, kind func(*Device) bool) (ids []string) {
	for i := range f.config.Devices {
		if d := &f.config.Devices[i]; kind(d) && len(ids) < limit {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// dispatch is an app at work: now and then it tells a tracker that listens to say where it is, and asks a lamp for the time.
func (f *Fleet) dispatch(ctx context.Context) {
	trackers := f.idsOf(len(f.config.Devices), func(d *Device) bool { return d.Product == Tracker && d.Protocol == MQTT })
	lamps := f.idsOf(1, func(d *Device) bool { return d.Product == Lamp && d.Behaviour == Regular })
	if len(trackers)+len(lamps) == 0 {
		return
	}
	app := &httpLink{fleet: f, token: f.config.App}
	for next := 0; sleep(ctx, dispatchInterval, nil); next++ {
		r := request{method: "GET", path: "/lamps/"}
		if len(lamps) > 0 && (next%askEach == askEach-1 || len(trackers) == 0) {
			r.path += lamps[0] + "/time"
		} else {
			r = request{method: "POST", path: "/trackers/" + trackers[next%len(trackers)] + "/commands", payload: payload{{"command", "locate"}}}
		}
		answer := f.ask(ctx, app, &r)
		if answer.outcome != Passed && ctx.Err() == nil {
			f.config.Log.Warn("the app was not answered as it should be", "path", r.path, "answer", answer.text)
		}
	}
}

// follow is the app as a CoAP client that observes where some trackers are (RFC 7641).
func (f *Fleet) follow(ctx context.Context) {
	trackers := f.idsOf(followed, func(d *Device) bool { return d.Product == Tracker && d.Behaviour == Regular })
	for len(trackers) > 0 {
		conn, err := f.dialCoAP(ctx, UDP, "", nil)
		if err != nil {
			f.config.Log.Warn("the app has no socket", "error", err)
			return
		}
		var all sync.WaitGroup
		for _, tracker := range trackers {
			all.Go(func() { f.observe(ctx, conn, "/trackers/"+tracker+"/position") })
		}
		all.Wait()
		conn.Close()
		if !sleep(ctx, reconnectWait, nil) {
			return
		}
	}
}

// observe counts what it hears, until the gateway ends it or ctx does.
func (f *Fleet) observe(ctx context.Context, conn coapConn, path string) {
	err := conn.Observe(ctx, newCall(coap.GET, path, f.config.App), func(reply *coap.Reply) bool {
		if !reply.Code.IsSuccess() {
			f.config.Log.Warn("the app does not hear any more", "path", path, "answer", reply.Code.String())
			return false
		}
		if len(reply.Body) > 0 { // else there is no position yet
			f.heard.Add(1)
		}
		return true
	})
	if err != nil && ctx.Err() == nil {
		f.config.Log.Warn("the app does not hear any more", "path", path, "error", err)
	}
}
