package rollout

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fieldgate"
)

// Bounds of a scrape. Names of upstreams and certificates are in environment files, and a gateway may be anybody's who has its
// credential: what is beyond these bounds has no series. Each gateway has its share of them, and leaves to others what it does not need.
const (
	maxMetricUpstreams    = 2_000 // of all gateways: some 50,000 series
	maxMetricCertificates = 2_000 // of all gateways
	maxCertificateName    = 253   // bytes of a host name (RFC 1035 §2.3.4)
)

// metric is one figure of a gateway or of an upstream.
type metric[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*T) float64
}

func gauge[T any](name, help string, labels []string, value func(*T) float64) metric[T] {
	return metric[T]{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue, value}
}

func counter[T any](name, help string, labels []string, value func(*T) uint64) metric[T] {
	return metric[T]{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue, func(of *T) float64 { return float64(value(of)) }}
}

func (m *metric[T]) tell(metrics chan<- prometheus.Metric, of *T, labels ...string) {
	metrics <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(of), labels...)
}

// One series of each gateway that is known.
var (
	ofGateway  = []string{"node"}
	ofListener = []string{"node", "listener"}

	upMetric       = prometheus.NewDesc("fieldgate_gateway_up", "1 while the gateway is heard.", ofGateway, nil)
	gatewayMetrics = []metric[fieldgate.GatewayState]{
		gauge("fieldgate_gateway_snapshot_version", "Version of the snapshot in force.", ofGateway, func(g *fieldgate.GatewayState) float64 { return float64(g.Snapshot) }),
		gauge("fieldgate_gateway_directory_sequence", "Sequence of the directory in force.", ofGateway, func(g *fieldgate.GatewayState) float64 { return float64(g.Directory) }),
		counter("fieldgate_gateway_records_dropped_total", "Records that the bus did not take for too long.", ofGateway, func(g *fieldgate.GatewayState) uint64 { return g.RecordsDropped }),
		counter("fieldgate_gateway_messages_dropped_total", "Messages that some subscriber did not get.", ofGateway, func(g *fieldgate.GatewayState) uint64 { return g.MessagesDropped }),
		counter("fieldgate_gateway_mqtt_properties_dropped_total", "MQTT packets that lost properties on their way to a 3.1.1 broker.", ofGateway, func(g *fieldgate.GatewayState) uint64 { return g.PropertiesDropped }),
		counter("fieldgate_gateway_unprojected_total", "Messages and answers that were no JSON, and not shown to those who may not see all of them.", ofGateway, func(g *fieldgate.GatewayState) uint64 { return g.Unprojected }),
		counter("fieldgate_gateway_malformed_total", "Connections and datagrams that broke their protocol.", ofGateway, func(g *fieldgate.GatewayState) uint64 { return g.Malformed }),
		gauge("fieldgate_gateway_mqtt_throttled_connections", "MQTT connections that are not read now, as they have sent more than they may.", ofGateway, func(g *fieldgate.GatewayState) float64 { return float64(g.MQTT.Throttled) }),
		gauge("fieldgate_gateway_mqtt_store_refuses", "1 while the store of the MQTT broker takes no messages.", ofGateway, func(g *fieldgate.GatewayState) float64 { return one(g.MQTT.StoreProblem != "") }),
		gauge("fieldgate_gateway_outbox_bytes", "Records that wait on the gateway's disk for the bus.", ofGateway, func(g *fieldgate.GatewayState) float64 { return float64(g.OutboxBytes) }),
		counter("fieldgate_gateway_cache_hits_total", "Requests that the cache answered.", ofGateway, func(g *fieldgate.GatewayState) uint64 { return g.Cache.Hits }),
		counter("fieldgate_gateway_cache_stale_hits_total", "Of the hits, those with an answer that was being revalidated.", ofGateway, func(g *fieldgate.GatewayState) uint64 { return g.Cache.Stale }),
		counter("fieldgate_gateway_cache_misses_total", "Requests that the cache might have answered and that went to a service.", ofGateway, func(g *fieldgate.GatewayState) uint64 { return g.Cache.Misses }),
		counter("fieldgate_gateway_cache_revalidations_total", "Stored answers that a service found to hold still.", ofGateway, func(g *fieldgate.GatewayState) uint64 { return g.Cache.Revalidated }),
		counter("fieldgate_gateway_cache_evictions_total", "Stored answers that had to make room.", ofGateway, func(g *fieldgate.GatewayState) uint64 { return g.Cache.Evicted }),
		gauge("fieldgate_gateway_cache_answers", "Answers stored now.", ofGateway, func(g *fieldgate.GatewayState) float64 { return float64(g.Cache.Entries) }),
		gauge("fieldgate_gateway_cache_bytes", "What the stored answers take.", ofGateway, func(g *fieldgate.GatewayState) float64 { return float64(g.Cache.Bytes) }),
	}

	connectionsMetric = prometheus.NewDesc("fieldgate_gateway_connections", "Connections open; of CoAP peers known.", []string{"node", "protocol"}, nil)
	dtlsMetrics       = []metric[fieldgate.DTLSState]{
		gauge("fieldgate_gateway_dtls_handshakes_unfinished", "DTLS handshakes under way.", ofGateway, func(d *fieldgate.DTLSState) float64 { return float64(d.Unfinished) }),
		counter("fieldgate_gateway_dtls_handshakes_total", "DTLS handshakes that were finished.", ofGateway, func(d *fieldgate.DTLSState) uint64 { return d.Handshakes }),
		counter("fieldgate_gateway_dtls_resumed_total", "DTLS handshakes that were finished by resuming an earlier session.", ofGateway, func(d *fieldgate.DTLSState) uint64 { return d.Resumed }),
		counter("fieldgate_gateway_dtls_discarded_total", "DTLS datagrams of nobody who is known, and records that were forged or repeated.", ofGateway, func(d *fieldgate.DTLSState) uint64 { return d.Discarded }),
		counter("fieldgate_gateway_dtls_moved_total", "DTLS sessions that went on from another address.", ofGateway, func(d *fieldgate.DTLSState) uint64 { return d.Moved }),
		counter("fieldgate_gateway_dtls_expired_total", "DTLS sessions that ended because they were silent for too long.", ofGateway, func(d *fieldgate.DTLSState) uint64 { return d.Expired }),
		counter("fieldgate_gateway_dtls_evicted_total", "DTLS sessions that ended because there was no room.", ofGateway, func(d *fieldgate.DTLSState) uint64 { return d.Evicted }),
	}
	coapMetrics = []metric[fieldgate.CoAPListenerState]{
		gauge("fieldgate_gateway_coap_peers", "CoAP peers known; of connections open.", ofListener, func(l *fieldgate.CoAPListenerState) float64 { return float64(l.Peers) }),
		gauge("fieldgate_gateway_coap_observations", "CoAP observations.", ofListener, func(l *fieldgate.CoAPListenerState) float64 { return float64(l.Observations) }),
		gauge("fieldgate_gateway_coap_transfer_bytes", "What bodies take that go in blocks over CoAP.", ofListener, func(l *fieldgate.CoAPListenerState) float64 { return float64(l.TransferBytes) }),
		counter("fieldgate_gateway_coap_uploads_total", "Bodies that peers have begun to send in blocks over CoAP.", ofListener, func(l *fieldgate.CoAPListenerState) uint64 { return l.Uploads }),
		counter("fieldgate_gateway_coap_downloads_total", "Bodies that were kept for peers to fetch in blocks over CoAP.", ofListener, func(l *fieldgate.CoAPListenerState) uint64 { return l.Downloads }),
		counter("fieldgate_gateway_coap_received_total", "CoAP messages received.", ofListener, func(l *fieldgate.CoAPListenerState) uint64 { return l.Received }),
		counter("fieldgate_gateway_coap_sent_total", "CoAP messages sent.", ofListener, func(l *fieldgate.CoAPListenerState) uint64 { return l.Sent }),
		counter("fieldgate_gateway_coap_malformed_total", "Of the CoAP messages received, those that are none, or have a reserved code.", ofListener, func(l *fieldgate.CoAPListenerState) uint64 { return l.Malformed }),
		counter("fieldgate_gateway_coap_duplicates_total", "Of the CoAP messages received, those that had come before.", ofListener, func(l *fieldgate.CoAPListenerState) uint64 { return l.Duplicates }),
		counter("fieldgate_gateway_coap_retransmitted_total", "CoAP messages that were sent again, because no acknowledgement came.", ofListener, func(l *fieldgate.CoAPListenerState) uint64 { return l.Retransmitted }),
		counter("fieldgate_gateway_coap_refused_total", "CoAP requests answered 5.03, and connections closed, because a limit was reached.", ofListener, func(l *fieldgate.CoAPListenerState) uint64 { return l.Refused }),
		counter("fieldgate_gateway_coap_limited_total", "CoAP answers that were cut down, or challenged, for peers whose address is not verified.", ofListener, func(l *fieldgate.CoAPListenerState) uint64 { return l.Limited }),
	}
	directoryMetrics = []metric[fieldgate.ResourceDirectoryState]{
		gauge("fieldgate_gateway_rd_registrations", "Devices registered with the resource directory, which all gateways of a bus share.", ofGateway, func(d *fieldgate.ResourceDirectoryState) float64 { return float64(d.Registered) }),
		gauge("fieldgate_gateway_rd_commands_waiting", "Commands that wait for devices, at all gateways of the bus.", ofGateway, func(d *fieldgate.ResourceDirectoryState) float64 { return float64(d.Waiting) }),
	}
	deviceCommandsMetric = prometheus.NewDesc("fieldgate_gateway_rd_commands_total", "Commands that came to a state: at this gateway; expired ones at all of the bus.", []string{"node", "state"}, nil)
	dtlsRefusedMetric    = prometheus.NewDesc("fieldgate_gateway_dtls_refused_total", "DTLS handshakes that were refused, by reason.", []string{"node", "reason"}, nil)
	oscoreMetric         = prometheus.NewDesc("fieldgate_gateway_oscore_requests_total", "Requests protected by OSCORE, by what came of them.", []string{"node", "result"}, nil)
	deniedMetric         = prometheus.NewDesc("fieldgate_gateway_mqtt_denied_total", "MQTT messages, wills and topic filters that were refused, by problem.", []string{"node", "problem"}, nil)
	refusedMetric        = prometheus.NewDesc("fieldgate_gateway_mqtt_refused_connections_total", "MQTT connections that were closed at once, by the limit: of their source, or of new ones a second.", []string{"node", "limit"}, nil)
	throttledMetric      = prometheus.NewDesc("fieldgate_gateway_mqtt_throttled_total", "Times that an MQTT client was not read for a while, by what it sent too much of.", []string{"node", "of"}, nil)
	accessLogMetrics     = []metric[fieldgate.AccessLogState]{
		counter("fieldgate_gateway_access_log_lines_total", "Lines of the access log that were written.", ofGateway, func(a *fieldgate.AccessLogState) uint64 { return a.Written }),
		counter("fieldgate_gateway_access_log_dropped_lines_total", "Lines of the access log that the disk did not take.", ofGateway, func(a *fieldgate.AccessLogState) uint64 { return a.Dropped }),
	}
	clusterMetrics = []metric[fieldgate.MQTTClusterState]{
		gauge("fieldgate_gateway_mqtt_nodes", "Gateways that it is one MQTT broker with, itself included.", ofGateway, func(c *fieldgate.MQTTClusterState) float64 { return float64(c.Nodes) }),
		gauge("fieldgate_gateway_mqtt_nodes_filters", "Topic filters that other gateways want to hear.", ofGateway, func(c *fieldgate.MQTTClusterState) float64 { return float64(c.Filters) }),
		counter("fieldgate_gateway_mqtt_nodes_sent_total", "Messages sent to other gateways, once for each.", ofGateway, func(c *fieldgate.MQTTClusterState) uint64 { return c.Sent }),
		counter("fieldgate_gateway_mqtt_nodes_received_total", "Messages that other gateways sent.", ofGateway, func(c *fieldgate.MQTTClusterState) uint64 { return c.Received }),
		counter("fieldgate_gateway_mqtt_nodes_lost_total", "Messages that another gateway did not get.", ofGateway, func(c *fieldgate.MQTTClusterState) uint64 { return c.Lost }),
		counter("fieldgate_gateway_mqtt_nodes_repeated_total", "Times that packets were sent again to another gateway.", ofGateway, func(c *fieldgate.MQTTClusterState) uint64 { return c.Repeated }),
		counter("fieldgate_gateway_mqtt_nodes_malformed_total", "Packets of other gateways that could not be read.", ofGateway, func(c *fieldgate.MQTTClusterState) uint64 { return c.Malformed }),
	}
	mqttLogMetrics = []metric[fieldgate.MQTTLogState]{
		gauge("fieldgate_gateway_mqtt_log_behind", "Entries of the log of MQTT sessions that the gateway had still to apply.", ofGateway, func(l *fieldgate.MQTTLogState) float64 { return float64(l.Behind) }),
		gauge("fieldgate_gateway_mqtt_log_joined", "1 while the gateway has caught up and serves persistent MQTT sessions.", ofGateway, func(l *fieldgate.MQTTLogState) float64 {
			if l.Joined {
				return 1
			}
			return 0
		}),
	}
	certificateMetric = prometheus.NewDesc("fieldgate_gateway_certificate_expiry_seconds",
		"Time until the TLS certificate expires, by the first name that it is for; negative afterwards.", []string{"node", "name"}, nil)
)

// commandStates are those that are counted; a node names its own.
var commandStates = []fieldgate.DeviceCommandState{fieldgate.CommandQueued, fieldgate.CommandSent, fieldgate.CommandAnswered, fieldgate.CommandRejected,
	fieldgate.CommandUnanswered, fieldgate.CommandExpired}

// One series of each upstream of a gateway that is heard.
var (
	ofUpstream = []string{"node", "upstream"}

	upstreamMetrics = []metric[fieldgate.UpstreamState]{
		counter("fieldgate_upstream_calls_total", "Calls of addresses that ended; retries and hedges count.", ofUpstream, func(u *fieldgate.UpstreamState) uint64 { return u.Calls }),
		counter("fieldgate_upstream_failures_total", "Of the calls, those without a clean answer, or with a status of 500 or more.", ofUpstream, func(u *fieldgate.UpstreamState) uint64 { return u.Failures }),
		gauge("fieldgate_upstream_calls_in_flight", "Calls under way.", ofUpstream, func(u *fieldgate.UpstreamState) float64 { return float64(u.InFlight) }),
		gauge("fieldgate_upstream_latency_seconds", "Time to the head of an answer, a mean of about the last 10 s; 0 after a minute without one.", ofUpstream, func(u *fieldgate.UpstreamState) float64 { return u.Latency / 1000 }),
		gauge("fieldgate_upstream_panic", "1 while so few addresses are healthy that all are used.", ofUpstream, func(u *fieldgate.UpstreamState) float64 { return one(u.Panic) }),
		counter("fieldgate_upstream_retries_total", "Retries that were made.", ofUpstream, func(u *fieldgate.UpstreamState) uint64 { return u.Retries }),
		counter("fieldgate_upstream_retries_refused_total", "Retries and hedges beyond the budget.", ofUpstream, func(u *fieldgate.UpstreamState) uint64 { return u.RetriesRefused }),
		counter("fieldgate_upstream_hedges_total", "Second calls beside a slow one.", ofUpstream, func(u *fieldgate.UpstreamState) uint64 { return u.Hedges }),
		counter("fieldgate_upstream_hedges_won_total", "Of the hedges, those whose answer came first.", ofUpstream, func(u *fieldgate.UpstreamState) uint64 { return u.HedgesWon }),
		gauge("fieldgate_upstream_mirrors_in_flight", "Copies of requests under way.", ofUpstream, func(u *fieldgate.UpstreamState) float64 { return float64(u.Mirroring) }),
		counter("fieldgate_upstream_mirrors_dropped_total", "Copies of requests that were not sent, because too many were under way.", ofUpstream, func(u *fieldgate.UpstreamState) uint64 { return u.MirrorsDropped }),
	}
	limitMetric = gauge("fieldgate_upstream_limit", "Calls that may be under way: the adaptive limit, where there is one.", ofUpstream,
		func(u *fieldgate.UpstreamState) float64 { return float64(u.Limit) })

	addressesMetric = prometheus.NewDesc("fieldgate_upstream_addresses", "Addresses by state: healthy or unhealthy.", []string{"node", "upstream", "state"}, nil)
	circuitMetric   = prometheus.NewDesc("fieldgate_upstream_circuit", "1 for the state that the circuit is in, where there is one.", []string{"node", "upstream", "state"}, nil)
	shedMetric      = prometheus.NewDesc("fieldgate_upstream_shed_total", "Calls that were refused beyond a limit, by the priority of the operation.",
		[]string{"node", "upstream", "priority"}, nil)
)

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Describe and Collect make the gateways' states metrics.
func (r *Rollout) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upMetric, connectionsMetric, deviceCommandsMetric, dtlsRefusedMetric, oscoreMetric, deniedMetric, refusedMetric, throttledMetric, certificateMetric, limitMetric.desc, addressesMetric, circuitMetric, shedMetric} {
		descriptions <- d
	}
	for i := range gatewayMetrics {
		descriptions <- gatewayMetrics[i].desc
	}
	for i := range mqttLogMetrics {
		descriptions <- mqttLogMetrics[i].desc
	}
	for i := range accessLogMetrics {
		descriptions <- accessLogMetrics[i].desc
	}
	for i := range directoryMetrics {
		descriptions <- directoryMetrics[i].desc
	}
	for i := range coapMetrics {
		descriptions <- coapMetrics[i].desc
	}
	for i := range dtlsMetrics {
		descriptions <- dtlsMetrics[i].desc
	}
	for i := range clusterMetrics {
		descriptions <- clusterMetrics[i].desc
	}
	for i := range upstreamMetrics {
		descriptions <- upstreamMetrics[i].desc
	}
}

// Collect is called at each scrape.
func (r *Rollout) Collect(metrics chan<- prometheus.Metric) {
	now, gateways := time.Now(), r.List()
	upstreams, certificates := make([][]*fieldgate.UpstreamState, len(gateways)), make([]map[string]time.Time, len(gateways))
	for i := range gateways {
		g := &gateways[i]
		up := !g.Silent(now)
		metrics <- prometheus.MustNewConstMetric(upMetric, prometheus.GaugeValue, one(up), g.Node)
		for j := range gatewayMetrics {
			gatewayMetrics[j].tell(metrics, &g.GatewayState, g.Node)
		}
		for _, protocol := range []string{"http", "mqtt", "mqtt-proxy", "coap", "coaps"} { // a node names its own; a label takes none but these
			if n, known := g.Connections[protocol]; known {
				metrics <- prometheus.MustNewConstMetric(connectionsMetric, prometheus.GaugeValue, float64(n), g.Node, protocol)
			}
		}
		for code, n := range g.Denied {
			if code.Status() != 0 { // a node names its own
				metrics <- prometheus.MustNewConstMetric(deniedMetric, prometheus.CounterValue, float64(n), g.Node, string(code))
			}
		}
		count := func(desc *prometheus.Desc, n uint64, label string) {
			metrics <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), g.Node, label)
		}
		count(refusedMetric, g.MQTT.RefusedSource, "source")
		count(refusedMetric, g.MQTT.RefusedRate, "rate")
		count(throttledMetric, g.MQTT.ThrottledMessages, "messages")
		count(throttledMetric, g.MQTT.ThrottledBytes, "bytes")
		if g.MQTTLog != nil {
			for j := range mqttLogMetrics {
				mqttLogMetrics[j].tell(metrics, g.MQTTLog, g.Node)
			}
		}
		if g.AccessLog != nil {
			for j := range accessLogMetrics {
				accessLogMetrics[j].tell(metrics, g.AccessLog, g.Node)
			}
		}
		for _, name := range fieldgate.CoAPListeners { // a node names its own
			if l, has := g.CoAP[name]; has {
				for j := range coapMetrics {
					coapMetrics[j].tell(metrics, &l, g.Node, name)
				}
			}
		}
		if d := g.ResourceDirectory; d != nil {
			for j := range directoryMetrics {
				directoryMetrics[j].tell(metrics, d, g.Node)
			}
			for _, state := range commandStates {
				metrics <- prometheus.MustNewConstMetric(deviceCommandsMetric, prometheus.CounterValue, float64(d.Commands[state]), g.Node, string(state))
			}
		}
		if g.DTLS != nil {
			for j := range dtlsMetrics {
				dtlsMetrics[j].tell(metrics, g.DTLS, g.Node)
			}
			for _, reason := range fieldgate.DTLSRefusals {
				metrics <- prometheus.MustNewConstMetric(dtlsRefusedMetric, prometheus.CounterValue, float64(g.DTLS.Refused[reason]), g.Node, reason)
			}
		}
		if g.OSCORE != nil {
			for _, result := range fieldgate.OSCOREResults {
				metrics <- prometheus.MustNewConstMetric(oscoreMetric, prometheus.CounterValue, float64(g.OSCORE[result]), g.Node, result)
			}
		}
		if g.MQTTCluster != nil {
			for j := range clusterMetrics {
				clusterMetrics[j].tell(metrics, g.MQTTCluster, g.Node)
			}
		}
		if up {
			upstreams[i], certificates[i] = namedUpstreams(g.Upstreams), expiries(g.Certificates)
		}
	}
	collectUpstreams(metrics, gateways, upstreams)
	collectCertificates(metrics, gateways, certificates, now)
}

// namedUpstreams are those with a name that an environment file accepts, each name once, in their order.
func namedUpstreams(states []fieldgate.UpstreamState) (named []*fieldgate.UpstreamState) {
	seen := make(map[string]bool, len(states))
	for i := range states {
		if name := states[i].Name; fieldgate.ValidIdentifier(name) && !seen[name] {
			seen[name] = true
			named = append(named, &states[i])
		}
	}
	slices.SortFunc(named, func(a, b *fieldgate.UpstreamState) int { return cmp.Compare(a.Name, b.Name) })
	return named
}

func collectUpstreams(metrics chan<- prometheus.Metric, gateways []Gateway, upstreams [][]*fieldgate.UpstreamState) {
	counts := make([]int, len(upstreams))
	for i := range upstreams {
		counts[i] = len(upstreams[i])
	}
	fieldgate.ShareOut(counts, maxMetricUpstreams)
	for i := range upstreams {
		for _, u := range upstreams[i][:counts[i]] {
			collectUpstream(metrics, gateways[i].Node, u)
		}
	}
}

func collectUpstream(metrics chan<- prometheus.Metric, node string, u *fieldgate.UpstreamState) {
	for j := range upstreamMetrics {
		upstreamMetrics[j].tell(metrics, u, node, u.Name)
	}
	if u.Limit > 0 {
		limitMetric.tell(metrics, u, node, u.Name)
	}
	labelled := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, label string) {
		metrics <- prometheus.MustNewConstMetric(d, kind, value, node, u.Name, label)
	}
	labelled(addressesMetric, prometheus.GaugeValue, float64(u.Healthy), "healthy")
	labelled(addressesMetric, prometheus.GaugeValue, float64(u.Unhealthy), "unhealthy")
	if u.Circuit != "" {
		for _, state := range []fieldgate.CircuitState{fieldgate.CircuitClosed, fieldgate.CircuitHalfOpen, fieldgate.CircuitOpen} {
			labelled(circuitMetric, prometheus.GaugeValue, one(u.Circuit == state), string(state))
		}
	}
	for priority, count := range u.Shed {
		labelled(shedMetric, prometheus.CounterValue, float64(count), fieldgate.Priority(priority).String())
	}
}

// expiries are by the first name of a certificate; of several with the same one the first that expires counts.
func expiries(states []fieldgate.CertificateState) map[string]time.Time {
	first := make(map[string]time.Time, len(states))
	for i := range states {
		c := &states[i]
		if c.NotAfter.IsZero() || len(c.Names) == 0 || len(c.Names[0]) > maxCertificateName {
			continue
		}
		if known, is := first[c.Names[0]]; !is || c.NotAfter.Before(known) {
			first[c.Names[0]] = c.NotAfter
		}
	}
	return first
}

func collectCertificates(metrics chan<- prometheus.Metric, gateways []Gateway, certificates []map[string]time.Time, now time.Time) {
	counts := make([]int, len(certificates))
	for i := range certificates {
		counts[i] = len(certificates[i])
	}
	fieldgate.ShareOut(counts, maxMetricCertificates)
	for i := range certificates {
		names := make([]string, 0, len(certificates[i]))
		for name := range certificates[i] {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names[:counts[i]] {
			metrics <- prometheus.MustNewConstMetric(certificateMetric, prometheus.GaugeValue, certificates[i][name].Sub(now).Seconds(), gateways[i].Node, name)
		}
	}
}
