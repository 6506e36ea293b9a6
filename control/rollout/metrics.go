package rollout

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Descriptions of the gateways' metrics; the only labels are the node and, where it applies, the protocol.
var (
	upMetric          = prometheus.NewDesc("fieldgate_gateway_up", "1 while the gateway is heard.", []string{"node"}, nil)
	snapshotMetric    = prometheus.NewDesc("fieldgate_gateway_snapshot_version", "Version of the snapshot in force.", []string{"node"}, nil)
	directoryMetric   = prometheus.NewDesc("fieldgate_gateway_directory_sequence", "Sequence of the directory in force.", []string{"node"}, nil)
	connectionsMetric = prometheus.NewDesc("fieldgate_gateway_connections", "Connections open; of CoAP peers known.", []string{"node", "protocol"}, nil)
	recordsMetric     = prometheus.NewDesc("fieldgate_gateway_records_dropped_total", "Records that the bus did not take for too long.", []string{"node"}, nil)
	messagesMetric    = prometheus.NewDesc("fieldgate_gateway_messages_dropped_total", "Messages that some subscriber did not get.", []string{"node"}, nil)
	malformedMetric   = prometheus.NewDesc("fieldgate_gateway_malformed_total", "Connections and datagrams that broke their protocol.", []string{"node"}, nil)
)

// Describe and Collect make the gateways' states metrics.
func (r *Rollout) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upMetric, snapshotMetric, directoryMetric, connectionsMetric, recordsMetric, messagesMetric, malformedMetric} {
		descriptions <- d
	}
}

// Collect is called at each scrape.
func (r *Rollout) Collect(metrics chan<- prometheus.Metric) {
	now := time.Now()
	for _, gateway := range r.List() {
		up := 1.0
		if gateway.Silent(now) {
			up = 0
		}
		gauge := func(d *prometheus.Desc, value float64, labels ...string) {
			metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{gateway.Node}, labels...)...)
		}
		counter := func(d *prometheus.Desc, value uint64) {
			metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), gateway.Node)
		}
		gauge(upMetric, up)
		gauge(snapshotMetric, float64(gateway.Snapshot))
		gauge(directoryMetric, float64(gateway.Directory))
		for _, protocol := range []string{"http", "mqtt", "coap"} { // a node names its own; a label takes none but these
			if n, known := gateway.Connections[protocol]; known {
				gauge(connectionsMetric, float64(n), protocol)
			}
		}
		counter(recordsMetric, gateway.RecordsDropped)
		counter(messagesMetric, gateway.MessagesDropped)
		counter(malformedMetric, gateway.Malformed)
	}
}
