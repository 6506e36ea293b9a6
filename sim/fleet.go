package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
)

// Config says where a fleet lives and what it does.
type Config struct {
	HTTP, MQTT, CoAP string            // the gateway's addresses, host:port; those that no device needs may be empty
	CoAPS, CoAPTCP   string            // the same for CoAP over DTLS and TCP
	Devices          []Device          // as Plan makes them
	Tokens           map[string]string // by device id
	Keys             map[string][]byte // by device id, for DTLS; the id is the identity, too
	App              string            // key of an app that sends commands to trackers, asks a lamp, and observes; empty: nobody does
	Interval         time.Duration     // between two beats of a device, on average
	Seed             uint64
	Log              *slog.Logger
}

// Fleet is devices at work.
type Fleet struct {
	config  Config
	client  *http.Client // shared: what a device would keep for itself is its connection, which costs a file here
	tallies []tally
	heard   atomic.Uint64 // by the app, of what it observes
}

// NewFleet makes a fleet; nothing is sent before Run.
func NewFleet(config Config) (*Fleet, error) {
	f := &Fleet{config: config, tallies: make([]tally, len(config.Devices))}
	f.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: len(config.Devices), DialContext: (&net.Dialer{Timeout: requestLimit}).DialContext}}
	for i, d := range config.Devices {
		f.tallies[i].verdicts = make(map[string]uint64)
		if d.Registered() && d.Behaviour != WrongKey && config.Tokens[d.ID] == "" {
			return nil, fmt.Errorf("device %s has no token", d.ID)
		}
		if d.Transport == DTLS && len(config.Keys[d.ID]) == 0 {
			return nil, fmt.Errorf("device %s has no key", d.ID)
		}
	}
	if config.Interval <= 0 {
		return nil, errors.New("the interval must be positive")
	}
	return f, nil
}

// Run lets the devices work until the context ends, and returns when all have stopped.
func (f *Fleet) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for i, device := range f.config.Devices {
		all.Go(func() { f.live(ctx, i, device) })
	}
	if f.config.App != "" {
		all.Go(func() { f.dispatch(ctx) })
		all.Go(func() { f.follow(ctx) })
	}
	all.Wait()
	f.client.CloseIdleConnections()
	return nil
}

// Totals are the counts of all devices of a protocol.
func (f *Fleet) Totals(protocol Protocol) Counts {
	var total Counts
	for i, device := range f.config.Devices {
		if device.Protocol == protocol {
			report := f.tallies[i].report(device)
			total.add(&report.Counts)
		}
	}
	return total
}

// Heard is how many states the app was told of what it observes over CoAP.
func (f *Fleet) Heard() uint64 { return f.heard.Load() }

// Reports tell for each device what it sent and what it was told.
func (f *Fleet) Reports() []Report {
	reports := make([]Report, len(f.config.Devices))
	for i, device := range f.config.Devices {
		reports[i] = f.tallies[i].report(device)
	}
	return reports
}

// link is a device's connection to the gateway.
type link interface {
	send(ctx context.Context, r *request) verdict
	// broken is closed when the link has to be made anew.
	broken() <-chan struct{}
	close()
}

// live is the life of one device: connect, send at each beat, connect again when the connection is lost.
func (f *Fleet) live(ctx context.Context, number int, device Device) {
	source := newSource(device, f.otherOf(number), f.config.Seed, uint64(number))
	t := &f.tallies[number]
	// The first beats are spread over an interval; a fleet does not wake up at once.
	if !sleep(ctx, time.Duration(source.random.Int64N(int64(f.config.Interval))), nil) {
		return
	}
	for ctx.Err() == nil {
		l, refused := f.connect(ctx, device, t)
		if l == nil {
			if refused.text != "" && ctx.Err() == nil {
				t.verdict(refused)
			}
			sleep(ctx, max(reconnectWait, source.pause(2*f.config.Interval)), nil)
			continue
		}
		f.work(ctx, l, source, t)
		l.close()
		if device.Behaviour == Unsteady {
			sleep(ctx, reconnectWait, nil)
		}
	}
}

func (f *Fleet) work(ctx context.Context, l link, source *source, t *tally) {
	requests := source.first()
	for {
		for i := range requests {
			answer := f.ask(ctx, l, &requests[i])
			if ctx.Err() != nil {
				return // cut off by the end of the simulation: no verdict
			}
			t.verdict(answer)
		}
		if !sleep(ctx, source.pause(f.config.Interval), l.broken()) {
			return
		}
		requests = source.next()
		if source.loses() {
			return
		}
	}
}

func (f *Fleet) ask(ctx context.Context, l link, r *request) verdict {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	return l.send(ctx, r)
}

// connect gives no link but a verdict where the device is refused.
func (f *Fleet) connect(ctx context.Context, device Device, t *tally) (link, verdict) {
	token := f.tokenOf(device)
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	switch device.Protocol {
	case MQTT:
		return f.connectMQTT(ctx, device, token, t)
	case CoAP:
		return f.connectCoAP(ctx, device, token, t)
	}
	return &httpLink{fleet: f, token: token}, verdict{}
}

// tokenOf is the credential that the device presents, rightly or not.
func (f *Fleet) tokenOf(device Device) string {
	switch {
	case device.Product == Legacy:
		return "legacy-password"
	case device.Behaviour == WrongKey:
		token, err := fieldgate.NewToken(fieldgate.PrefixDevice)
		if err != nil {
			f.config.Log.Error("no random numbers", "error", err)
		}
		return token
	}
	return f.config.Tokens[device.ID]
}

// otherOf is the id of the next device that does the same over the same protocol.
func (f *Fleet) otherOf(number int) string {
	self := f.config.Devices[number]
	for step := 1; step < len(f.config.Devices); step++ {
		other := f.config.Devices[(number+step)%len(f.config.Devices)]
		if other.Protocol == self.Protocol && other.Product == self.Product {
			return other.ID
		}
	}
	return ""
}

// sleep waits; false says that the context ended or that wake was closed.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-wake:
		return false
	}
}
