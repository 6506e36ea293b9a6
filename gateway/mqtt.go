package gateway

import (
	"context"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/capture"
	"fieldgate/gateway/mqttcluster"
	"fieldgate/gateway/mqttfront"
	"fieldgate/gateway/mqttproxy"
	"fieldgate/gateway/mqttstore"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/users"
)

// OnRampListeners are where clients come in that find a plain broker.
type OnRampListeners struct {
	MQTT, MQTTS string // host:port; empty: not at all
	Terms       mqttfront.Terms
}

// MQTT are the settings of MQTT listeners that Reload can replace.
type MQTT struct {
	Proxies, ProxiesTLS             []netip.Prefix // that begin connections to listen.mqtt and listen.mqtts with a PROXY header
	OnRampProxies, OnRampProxiesTLS []netip.Prefix
	OnRamp                          OnRamp
	ProxyPeers, ProxyPeersTLS       []netip.Prefix // as Proxies, before the listeners of MQTTProxy
	Proxy                           mqttproxy.Settings
}

// OnRamp says whom the on-ramp lets in, and what to.
type OnRamp struct {
	Anonymous    bool
	PasswordFile string // of mosquitto_passwd; empty: none
	Deny         []pipeline.Denial
}

// lookAtUsers is how often the password file is looked at.
const lookAtUsers = time.Second

// messaging is the MQTT front with what it goes by.
type messaging struct {
	front    *mqttfront.Front
	settings atomic.Pointer[MQTT]
	ramp     *pipeline.OnRamp // nil: there is none
	path     string           // of its password file
}

// listenMQTT makes the front, which keeps the journal of sessions and retained messages: it is there with or without a listener.
func (g *Gateway) listenMQTT() error {
	config := g.config
	m := &g.mqtt
	m.settings.Store(&config.Settings.MQTT)
	front := mqttfront.Config{Pipeline: g.pipeline, Folder: filepath.Join(config.Folder, "mqtt"), Cluster: g.cluster, Logger: config.Logger, Bounds: config.MQTTBounds}
	listen := func(name, setting, address string, secure bool, terms *mqttfront.Terms, proxies func(*MQTT) []netip.Prefix) error {
		if address == "" {
			return nil
		}
		listener, err := g.bindAs(name, setting, address)
		if err != nil {
			return err
		}
		l := &mqttfront.Listener{Listener: listener, Terms: terms, Proxies: m.peers(proxies)}
		if secure {
			l.TLS = g.certificates.DeviceConfig("mqtt")
			if terms != nil { // the on-ramp, whose users are no devices
				l.TLS = g.certificates.Config("mqtt")
			}
		}
		front.Listeners = append(front.Listeners, l)
		return nil
	}
	if err := listen("mqtt", "listen.mqtt", config.MQTT, false, nil, func(s *MQTT) []netip.Prefix { return s.Proxies }); err != nil {
		return err
	}
	if err := listen("mqtts", "listen.mqtts", config.MQTTS, true, nil, func(s *MQTT) []netip.Prefix { return s.ProxiesTLS }); err != nil {
		return err
	}
	if ramp := config.OnRamp; ramp != nil {
		var err error
		if m.ramp, err = pipeline.NewOnRamp(); err != nil {
			return err
		}
		apply, err := m.prepare(config.Settings.MQTT)
		if err != nil {
			return err
		}
		terms := ramp.Terms
		terms.OnRamp = m.ramp
		if err := listen("on-ramp", "mqtt.on-ramp.listen.mqtt", ramp.MQTT, false, &terms, func(s *MQTT) []netip.Prefix { return s.OnRampProxies }); err != nil {
			return err
		}
		if err := listen("on-ramp-tls", "mqtt.on-ramp.listen.mqtts", ramp.MQTTS, true, &terms, func(s *MQTT) []netip.Prefix { return s.OnRampProxiesTLS }); err != nil {
			return err
		}
		apply()
	}
	if g.cluster != nil {
		front.Log = &mqttstore.Log{Bus: config.Bus, Node: config.Node, Epoch: g.recorder.Epoch(), Peers: g.peers}
		g.cluster.Watch(func([]mqttcluster.Member) { m.front.MembersChanged() })
	}
	var err error
	if m.front, err = mqttfront.New(front); err != nil {
		return err
	}
	g.fronts = append(g.fronts, m.front.Run)
	g.inspected = newInspection(config.Node, config.Bus, g.pipeline.Broker, m.front, capture.NewMessages(g.pipeline), config.Logger)
	g.counts = append(g.counts, func(state *fieldgate.GatewayState) {
		c := &m.front.Counters
		state.Connections["mqtt"] = int(c.Connections.Load())
		state.MessagesDropped += c.DroppedQoS0.Load() + c.DroppedOverflow.Load() + c.DroppedExpired.Load() + c.DroppedTooLarge.Load()
		state.Malformed += c.Malformed.Load()
		state.Denied = c.Denied.ByReason()
		if g.cluster != nil {
			cluster := g.cluster.State()
			state.MQTTCluster = &cluster
		}
		state.MQTT = fieldgate.MQTTState{RefusedSource: c.RefusedSource.Load(), RefusedRate: c.RefusedRate.Load(), Throttled: c.Throttled.Load(),
			ThrottledMessages: c.ThrottledMessages.Load(), ThrottledBytes: c.ThrottledBytes.Load()}
		if problem := m.front.StoreProblem(); problem != nil {
			state.MQTT.StoreProblem = problem.Error()
		}
		state.Unprojected = g.pipeline.Unprojected.Load()
		state.MQTTLog = m.front.LogState()
	})
	return nil
}

// peers are the names of the other gateways that live.
func (g *Gateway) peers() (names []string) {
	for _, member := range g.cluster.Members() {
		if member.Node != g.config.Node {
			names = append(names, member.Node)
		}
	}
	return names
}

// prepare reads what the settings name, and gives the function that puts them into force.
func (m *messaging) prepare(settings MQTT) (apply func(), err error) {
	if m.ramp == nil {
		return func() { m.settings.Store(&settings) }, nil
	}
	rules := pipeline.OnRampRules{Anonymous: settings.OnRamp.Anonymous, Deny: settings.OnRamp.Deny}
	switch path := settings.OnRamp.PasswordFile; path {
	case "":
	case m.path:
		rules.Users = m.ramp.Rules().Users
		if _, err := rules.Users.Look(true); err != nil {
			return nil, err
		}
	default:
		if rules.Users, err = users.Open(path); err != nil {
			return nil, err
		}
	}
	return func() {
		m.path = settings.OnRamp.PasswordFile
		m.settings.Store(&settings)
		m.ramp.Replace(rules)
		if m.front != nil {
			m.front.OnRampChanged()
		}
	}, nil
}

// watchUsers reads the password file again when it changes. One that is broken leaves everything as it is.
func (g *Gateway) watchUsers(ctx context.Context) error {
	ticker := time.NewTicker(lookAtUsers)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if g.mqtt.ramp == nil || g.mqtt.ramp.Rules().Users == nil {
			continue
		}
		changed, err := g.mqtt.ramp.Rules().Users.Look(false)
		if err != nil {
			g.config.Logger.Error("the password file of mqtt.on-ramp cannot be used: its users stay as they are", "error", err)
		}
		if changed {
			g.config.Logger.Info("the users of mqtt.on-ramp have changed")
			g.mqtt.front.OnRampChanged()
		}
	}
}
