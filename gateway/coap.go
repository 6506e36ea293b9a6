package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"

	"fieldgate"
	"fieldgate/gateway/capture"
	"fieldgate/gateway/coapfront"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/dtls"
)

// CoAP are the settings of CoAP listeners that Reload can replace.
type CoAP struct {
	Proxies, ProxiesTLS []netip.Prefix // that begin connections to listen.coap-tcp and listen.coaps-tcp with a PROXY header
	OnRamp              CoAPOnRamp
}

// CoAPOnRamp says where the clients of the CoAP on-ramp go.
type CoAPOnRamp struct {
	Upstream string   // name
	Deny     []string // paths, with all below them
}

// constrained is the CoAP front with what it goes by.
type constrained struct {
	front    *coapfront.Front // nil: nobody speaks CoAP
	settings atomic.Pointer[CoAP]
	onRamp   *pipeline.CoAPOnRamp // nil: there is none
}

// replace puts other settings into force.
func (c *constrained) replace(settings *CoAP) error {
	if c.onRamp != nil {
		if err := c.onRamp.Replace(settings.OnRamp.Upstream, settings.OnRamp.Deny); err != nil {
			return err
		}
	}
	c.settings.Store(settings)
	return nil
}

// listenCoAP makes one front for all that speaks CoAP.
func (g *Gateway) listenCoAP() error {
	config := g.config
	g.coap.settings.Store(&config.Settings.CoAP)
	var devices *coapfront.Devices
	if config.ResourceDirectory {
		devices = coapfront.NewDevices(coapfront.DevicesConfig{Node: config.Node, Epoch: g.recorder.Epoch(), Bus: config.Bus, Directory: g.directory, Logger: config.Logger})
		g.pipeline.Devices = devices.Ask
		g.fronts = append(g.fronts, devices.Run)
		g.counts = append(g.counts, func(state *fieldgate.GatewayState) {
			stats := devices.Stats()
			state.ResourceDirectory = &stats
		})
	}
	g.coapSeen = coapInspection{node: config.Node, bus: config.Bus, pipeline: g.pipeline, shown: capture.NewMessages(g.pipeline)}
	secure := coapfront.DTLS{Certificate: g.certificates.For, SessionBounds: config.CoAPSessions}
	if config.CoAPS != "" {
		conn, err := net.ListenPacket("udp", config.CoAPS)
		if err != nil {
			return listenError("listen.coaps", config.CoAPS, err)
		}
		g.listeners = append(g.listeners, conn)
		secure.Conn = conn.(*net.UDPConn)
	}
	front := coapfront.Config{UDP: config.CoAP, DTLS: secure, WebSocket: config.CoAPPath != "" && g.web != nil, Bounds: config.CoAPBounds, Peers: config.CoAPPeers, Pipeline: g.pipeline, Devices: devices, Logger: config.Logger,
		ReserveNumbers: g.reserveNumbers}
	listen := func(name, address string, secure bool, proxies func(*CoAP) []netip.Prefix) error {
		if address == "" {
			return nil
		}
		listener, err := g.bind(name, address)
		if err != nil {
			return err
		}
		l := &coapfront.StreamListener{Listener: listener, Name: name, Proxies: func() []netip.Prefix { return proxies(g.coap.settings.Load()) }}
		if secure {
			l.TLS = g.certificates.DeviceConfig("coap")
		}
		front.Streams = append(front.Streams, l)
		return nil
	}
	if err := listen("coap-tcp", config.CoAPTCP, false, func(s *CoAP) []netip.Prefix { return s.Proxies }); err != nil {
		return err
	}
	if err := listen("coaps-tcp", config.CoAPSTCP, true, func(s *CoAP) []netip.Prefix { return s.ProxiesTLS }); err != nil {
		return err
	}
	if config.CoAPOnRamp != "" {
		var err error
		if g.coap.onRamp, err = pipeline.NewCoAPOnRamp(config.Settings.CoAP.OnRamp.Upstream, config.Settings.CoAP.OnRamp.Deny); err != nil {
			return err
		}
		front.OnRamp = coapfront.OnRamp{Address: config.CoAPOnRamp, Rules: g.coap.onRamp}
	}
	if front.UDP == "" && front.OnRamp.Address == "" && secure.Conn == nil && len(front.Streams) == 0 && !front.WebSocket {
		return nil
	}
	var err error
	if g.coap.front, err = coapfront.Listen(front); errors.Is(err, coapfront.ErrOnRamp) {
		return listenError("coap.on-ramp.listen", config.CoAPOnRamp, err)
	} else if err != nil {
		return listenError("listen.coap", config.CoAP, err)
	}
	g.coapSeen.front = g.coap.front
	for name, address := range g.coap.front.Addresses() {
		g.addresses[name] = address.String()
	}
	g.fronts = append(g.fronts, g.coap.front.Run)
	g.counts = append(g.counts, func(state *fieldgate.GatewayState) {
		state.CoAP = make(map[string]fieldgate.CoAPListenerState)
		peers := 0
		for name, stats := range g.coap.front.Stats() {
			if name != "coaps" {
				peers += stats.Peers
			}
			state.Malformed += stats.Malformed
			state.CoAP[name] = coapState(g.addresses[name], &stats)
		}
		state.Connections["coap"] = peers
		if stats, ok := g.coap.front.DTLSStats(); ok {
			state.Connections["coaps"] = stats.Sessions
			state.DTLS = dtlsState(&stats)
		}
		if stats, ok := g.coap.front.OSCOREStats(); ok {
			state.OSCORE = oscoreState(&stats)
		}
	})
	return nil
}

// reserveNumbers takes a block of sender sequence numbers for OSCORE.
func (g *Gateway) reserveNumbers(ctx context.Context, after uint64) (uint64, error) {
	question, err := json.Marshal(fieldgate.OSCOREBlockRequest{After: after})
	if err != nil {
		return 0, err
	}
	var answer fieldgate.OSCOREBlock
	err = request(ctx, g.config.Bus, fieldgate.SubjectOSCOREBlock, question, &answer)
	return answer.Block, err
}

func coapState(address string, s *coap.Stats) fieldgate.CoAPListenerState {
	return fieldgate.CoAPListenerState{Address: address, Peers: s.Peers, Observations: s.Observations, TransferBytes: s.TransferBytes, Received: s.Received, Sent: s.Sent,
		Malformed: s.Malformed, Duplicates: s.Duplicates, Retransmitted: s.Retransmitted, Refused: s.Refused, Limited: s.Shrunk, Uploads: s.Uploads, Downloads: s.Downloads}
}

func oscoreState(stats *coapfront.OSCOREStats) map[string]uint64 {
	results := map[string]uint64{"opened": stats.Opened}
	for reason, n := range stats.Refused {
		results[coapfront.OSCORERefusal(reason).String()] = n
	}
	return results
}

func dtlsState(stats *dtls.Stats) *fieldgate.DTLSState {
	refused := make(map[string]uint64, len(stats.Refused))
	for reason, n := range stats.Refused {
		if n > 0 {
			refused[dtls.Refusal(reason).String()] = n
		}
	}
	return &fieldgate.DTLSState{Sessions: stats.Sessions, Unfinished: stats.Handshakes, Handshakes: stats.Completed, Resumed: stats.Resumed, Refused: refused,
		Discarded: stats.Discarded, Moved: stats.Moved, Expired: stats.Expired, Evicted: stats.Evicted}
}
