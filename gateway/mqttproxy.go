package gateway

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"sync"

	"fieldgate"
	"fieldgate/gateway/mqttfront"
	"fieldgate/gateway/mqttproxy"
	"fieldgate/gateway/pipeline"
)

// MQTTProxy is where clients come in that get to another broker.
type MQTTProxy struct {
	MQTT, MQTTS string // host:port; empty: not at all
	WebSocket   string // path at HTTP and HTTPS; empty: none
	Terms       mqttfront.Terms
}

// proxying is the proxy before another broker.
type proxying struct {
	each *mqttproxy.Proxy // each client has a connection of its own to the broker; nil: not so
	pool *mqttproxy.Pool  // a few connections carry all clients, whose sessions front keeps; nil: not so

	front *mqttfront.Front
}

// listenMQTTProxy makes the proxy, if there is to be one.
func (g *Gateway) listenMQTTProxy() error {
	config := g.config.MQTTProxy
	if config == nil {
		return nil
	}
	listen := func(name, setting, address string) (net.Listener, error) {
		if address == "" {
			return nil, nil
		}
		return g.bindAs(name, setting, address)
	}
	plain, err := listen("mqtt-proxy", "mqtt.proxy.listen.mqtt", config.MQTT)
	if err != nil {
		return err
	}
	secure, err := listen("mqtt-proxy-tls", "mqtt.proxy.listen.mqtts", config.MQTTS)
	if err != nil {
		return err
	}
	if g.config.Settings.MQTT.Proxy.Uplinks > 0 {
		return g.listenPooled(plain, secure)
	}
	proxy := mqttproxy.Config{Pipeline: g.pipeline, Settings: g.config.Settings.MQTT.Proxy, Logger: g.config.Logger, Changed: g.reportUpstreams, Limits: config.Terms.Limits,
		MaxConnections: config.Terms.MaxConnections, DisconnectDenied: config.Terms.DisconnectDenied, ConnectTimeout: g.config.MQTTBounds.ConnectTimeout, WriteTimeout: g.config.MQTTBounds.WriteTimeout}
	if plain != nil {
		proxy.Listeners = append(proxy.Listeners, mqttproxy.Listener{Listener: plain, Proxies: g.mqtt.peers(plainProxyPeers)})
	}
	if secure != nil {
		proxy.Listeners = append(proxy.Listeners, mqttproxy.Listener{Listener: secure, TLS: g.certificates.Config("mqtt"), Proxies: g.mqtt.peers(secureProxyPeers)})
	}
	p, err := mqttproxy.New(proxy)
	if err != nil {
		return err
	}
	g.proxy.each = p
	g.fronts = append(g.fronts, p.Run)
	g.counts = append(g.counts, func(state *fieldgate.GatewayState) {
		c := &p.Counters
		state.Connections["mqtt-proxy"] = int(c.Connections.Load())
		state.MessagesDropped += c.Withheld.Load()
		state.Malformed += c.Malformed.Load()
		for code, n := range c.Denied.ByReason() {
			state.Denied[code] += n
		}
		state.PropertiesDropped = c.PropertiesDropped.Load()
	})
	return nil
}

// listenPooled makes a proxy whose clients share a few connections to the broker.
func (g *Gateway) listenPooled(plain, secure net.Listener) error {
	config, bounds := g.config.MQTTProxy, g.config.MQTTBounds
	bounds.Terms = config.Terms
	pool, err := mqttproxy.NewPool(mqttproxy.PoolConfig{Settings: g.config.Settings.MQTT.Proxy, Logger: g.config.Logger, Changed: g.reportUpstreams,
		PacketSize: config.Terms.Limits.PacketSize, ConnectTimeout: bounds.ConnectTimeout, WriteTimeout: bounds.WriteTimeout})
	if err != nil {
		return err
	}
	front := mqttfront.Config{Pipeline: g.pipeline, Folder: filepath.Join(g.config.Folder, "mqtt-proxy"), Backbone: pool, Logger: g.config.Logger, Bounds: bounds}
	if plain != nil {
		front.Listeners = append(front.Listeners, &mqttfront.Listener{Listener: plain, Proxies: g.mqtt.peers(plainProxyPeers)})
	}
	if secure != nil {
		front.Listeners = append(front.Listeners, &mqttfront.Listener{Listener: secure, TLS: g.certificates.Config("mqtt"), Proxies: g.mqtt.peers(secureProxyPeers)})
	}
	f, err := mqttfront.New(front)
	if err != nil {
		return err
	}
	g.proxy.pool, g.proxy.front = pool, f
	g.fronts = append(g.fronts, g.proxy.run)
	g.counts = append(g.counts, func(state *fieldgate.GatewayState) {
		c := &f.Counters
		state.Connections["mqtt-proxy"] = int(c.Connections.Load())
		state.MessagesDropped += c.DroppedQoS0.Load() + c.DroppedOverflow.Load() + c.DroppedExpired.Load() + c.DroppedTooLarge.Load() + pool.Counters.Dropped.Load()
		state.Malformed += c.Malformed.Load()
		for code, n := range c.Denied.ByReason() {
			state.Denied[code] += n
		}
		state.PropertiesDropped = pool.Counters.PropertiesDropped.Load()
	})
	return nil
}

// run serves pooled clients. The uplinks outlive them: what a client leaves behind is still to be sent.
func (p *proxying) run(ctx context.Context) error {
	uplinks, stop := context.WithCancel(context.WithoutCancel(ctx))
	var carrying sync.WaitGroup
	carrying.Go(func() { p.pool.Run(uplinks, p.front.Receive) })
	err := p.front.Run(ctx)
	stop()
	carrying.Wait()
	return err
}

// openWebSocket serves a WebSocket at the proxy's path, where certificates of devices are not asked about.
func (p *proxying) openWebSocket(conn net.Conn, early []byte, source netip.AddrPort, _ *pipeline.Caller) {
	if p.front != nil {
		p.front.OpenWebSocket(conn, early, source, nil)
	} else {
		p.each.OpenWebSocket(conn, early, source)
	}
}

// prepare reads what the settings name, and gives the function that puts them into force.
func (p *proxying) prepare(settings mqttproxy.Settings) (apply func(), err error) {
	switch {
	case p.each != nil:
		return p.each.Prepare(settings)
	case p.pool != nil:
		return p.pool.Prepare(settings)
	}
	return func() {}, nil
}

func plainProxyPeers(s *MQTT) []netip.Prefix  { return s.ProxyPeers }
func secureProxyPeers(s *MQTT) []netip.Prefix { return s.ProxyPeersTLS }

// peers is a listener's part of the settings, as they are when it is asked.
func (m *messaging) peers(of func(*MQTT) []netip.Prefix) func() []netip.Prefix {
	return func() []netip.Prefix { return of(m.settings.Load()) }
}

// upstreamStates are those of upstreams, and of the brokers behind the proxy.
func (g *Gateway) upstreamStates() []fieldgate.UpstreamState {
	states := g.pipeline.Upstreams.States()
	switch p := &g.proxy; {
	case p.each != nil:
		return append(states, p.each.State())
	case p.pool != nil:
		return append(states, p.pool.State())
	}
	return states
}
