package mqttproxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	messages "fieldgate/gateway/broker"
	"fieldgate/protocol/mqtt"
)

// PoolConfig is all that a Pool works with.
type PoolConfig struct {
	Settings Settings // Uplinks is at least 1
	Logger   *slog.Logger
	Changed  func() // told when a broker becomes healthy, or is no longer; nil: nobody

	PacketSize     int           // of the brokers' packets, in bytes; 0: that of mqtt.DefaultLimits
	ConnectTimeout time.Duration // for each try to reach a broker; 0: 5 s
	WriteTimeout   time.Duration // for a broker that takes no bytes, and for messages and subscriptions that wait for one; 0: 30 s
	ProbeInterval  time.Duration // between two looks at a broker; 0: 5 s
}

// Pool carries the messages of many sessions over a few connections to the brokers, the uplinks. It is the sessions' other side: what they
// publish goes to the brokers, and is acknowledged when a broker has acknowledged it; a broker has one subscription for each filter that
// any session has, and what comes by it goes to those sessions.
//
// A publisher's messages take one uplink, so that they keep their order, and a filter has one, so that brokers send a message once for each
// filter. It is safe for concurrent use.
type Pool struct {
	Counters PoolCounters

	config  PoolConfig
	logger  *slog.Logger
	brokers atomic.Pointer[brokers]
	watched watched
	uplinks []*uplink
	deliver func([]messages.Inbound)
}

// PoolCounters are what a Pool counts.
type PoolCounters struct {
	Dropped           atomic.Uint64 // messages: of QoS 0 without an uplink or room, or that nobody here may hear
	PropertiesDropped atomic.Uint64 // messages that lost properties, as the broker does not speak version 5
}

// NewPool makes a pool. No broker is called before Run. An error says which setting is wrong.
func NewPool(config PoolConfig) (*Pool, error) {
	config.PacketSize = cmp.Or(config.PacketSize, mqtt.DefaultLimits().PacketSize)
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, 5*time.Second)
	config.WriteTimeout = cmp.Or(config.WriteTimeout, 30*time.Second)
	config.ProbeInterval = cmp.Or(config.ProbeInterval, 5*time.Second)
	if config.Changed == nil {
		config.Changed = func() {}
	}
	p := &Pool{config: config, logger: config.Logger}
	found, err := p.open(config.Settings)
	if err != nil {
		return nil, err
	}
	p.brokers.Store(found)
	name := rand.Text()[:8]
	for i := range config.Settings.Uplinks {
		p.uplinks = append(p.uplinks, newUplink(p, name+"-"+strconv.Itoa(i+1)))
	}
	return p, nil
}

func (p *Pool) open(settings Settings) (*brokers, error) {
	c := &p.config
	return newBrokers(&Config{Settings: settings, ConnectTimeout: c.ConnectTimeout, ProbeInterval: c.ProbeInterval, Limits: mqtt.Limits{PacketSize: c.PacketSize}, Logger: c.Logger, Changed: c.Changed}, p.brokers.Load())
}

// Prepare reads what other settings name, and gives the function that puts them into force: the uplinks connect again, one after the other,
// and no session ends. The number of uplinks stays as it is.
func (p *Pool) Prepare(settings Settings) (apply func(), err error) {
	settings.Uplinks = len(p.uplinks)
	found, err := p.open(settings)
	if err != nil {
		return nil, err
	}
	return func() {
		old := p.brokers.Load()
		p.brokers.Store(found)
		p.watched.replace(found)
		if !reflect.DeepEqual(old.settings, found.settings) || !bytes.Equal(old.password, found.password) {
			for _, u := range p.uplinks {
				u.renew()
			}
		}
	}, nil
}

// Run keeps the uplinks connected until the context ends, then lets what was taken go out, and returns when all goroutines have ended. deliver
// is given what comes from brokers; it must not block.
func (p *Pool) Run(ctx context.Context, deliver func([]messages.Inbound)) {
	p.deliver = deliver
	p.watched.run(ctx, p.brokers.Load())
	var running sync.WaitGroup
	for _, u := range p.uplinks {
		running.Go(func() { u.run(ctx) })
	}
	running.Wait()
	p.watched.wait()
}

// Ready says whether there is an uplink that is connected.
func (p *Pool) Ready() bool {
	for _, u := range p.uplinks {
		if u.connected.Load() {
			return true
		}
	}
	return false
}

// Publish sends a message to a broker with the next Flush. acknowledged, unless nil, is called once with nil when a broker has acknowledged it,
// or with what keeps it from that, a *fieldgate.Problem. A message above QoS 0 must not change any more.
func (p *Pool) Publish(m *messages.Message, acknowledged func(error)) {
	problem := p.of(m.Client, string(m.Publisher.Kind), m.Publisher.ID).publish(m, acknowledged)
	if acknowledged != nil && (problem != nil || m.QoS == 0) {
		if problem != nil {
			acknowledged(problem)
		} else {
			acknowledged(nil)
		}
	}
}

// Flush sends what was published. It does not wait.
func (p *Pool) Flush() {
	for _, u := range p.uplinks {
		u.flush()
	}
}

// Subscribe has a subscriber hear what a filter matches, from answered on at the latest, which gets what the broker granted, or why it did not.
// retained: the subscriber wants the retained messages. A second call for the same filter and subscriber counts in the place of the first.
func (p *Pool) Subscribe(filter string, subscriber any, qos byte, retained bool, answered func(mqtt.Reason)) {
	p.of(filter).subscribe(filter, subscription{subscriber, qos, retained, answered})
}

// Unsubscribe ends a subscription. It may be called with locks held that Inbound messages need: it calls nobody.
func (p *Pool) Unsubscribe(filter string, subscriber any) {
	p.of(filter).unsubscribe(filter, subscriber)
}

// of is the uplink for something with that name.
func (p *Pool) of(name ...string) *uplink {
	h := uint64(14695981039346656037) // FNV-1a
	for _, part := range name {
		for i := range len(part) {
			h = (h ^ uint64(part[i])) * 1099511628211
		}
		h *= 1099511628211 // "ab" and "c" are not "a" and "bc"
	}
	return p.uplinks[mix(h)%uint64(len(p.uplinks))]
}

// State is what the pool knows about its brokers, in the order of the settings.
func (p *Pool) State() fieldgate.UpstreamState { return p.brokers.Load().state() }

func (p *Pool) prefix() string { return p.brokers.Load().settings.Prefix }

// outwardFilter is a filter as brokers know it: of "$share/group/filter" the group stays as it is.
func (p *Pool) outwardFilter(filter string) []byte {
	_, levels := mqtt.SplitShare([]byte(filter))
	share := filter[:len(filter)-len(levels)]
	return append(append([]byte(share), p.prefix()...), levels...)
}

// inward is a broker's topic as sessions know it; no: it lies outside of what they may see.
func (p *Pool) inward(topic []byte) (string, bool) {
	inner, ok := strings.CutPrefix(string(topic), p.prefix())
	return inner, ok && inner != ""
}
