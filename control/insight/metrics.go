package insight

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"fieldgate"
)

// maxMetricOperations bounds the operations that have series of their own; further ones share the name "(other)", so that
// sums stay right. No label ever names a device.
const maxMetricOperations = 2_000

// counters are the metrics of exchanges. Names of labels follow the contract: api and operation, not paths.
type counters struct {
	exchanges  *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	findings   *prometheus.CounterVec
	lost       prometheus.Gauge
	malformed  prometheus.Counter
	operations map[operationKey]*operationCounters
	last       *operationCounters // of the operation that was asked for last
	other      *operationCounters // of all operations beyond maxMetricOperations
}

// operationCounters are one operation's series, found once: looking a series up by its labels costs more than all else that is
// done with a Record.
type operationCounters struct {
	operationKey

	exchanges [fieldgate.Protocols][classes]prometheus.Counter // nil until the first one
	findings  [findingKinds]prometheus.Counter                 // likewise
	duration  prometheus.Observer
}

const classes = 6 // of status: 1xx to 5xx, and 0 for none

func (c *counters) newOperation(key operationKey) *operationCounters {
	return &operationCounters{operationKey: key,
		duration: c.duration.WithLabelValues(key.api, key.version, key.operation)}
}

func newCounters(metrics prometheus.Registerer) *counters {
	c := &counters{
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fieldgate_exchanges_total",
			Help: "Exchanges by operation, protocol and class of status."}, []string{"api", "version", "operation", "protocol", "class"}),
		// The bounds are those of OpenTelemetry's http.server.request.duration.
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "fieldgate_exchange_duration_seconds",
			Help:    "Time until the answer was handed to the network.",
			Buckets: []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}}, []string{"api", "version", "operation"}),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fieldgate_findings_total",
			Help: "Exchanges with a finding."}, []string{"api", "finding"}),
		lost: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fieldgate_records_lost",
			Help: "Records of nodes that have not arrived, on the control node that counts."}),
		malformed: prometheus.NewCounter(prometheus.CounterOpts{Name: "fieldgate_record_batches_malformed_total",
			Help: "Batches of records that could not be read."}),
		operations: make(map[operationKey]*operationCounters),
	}
	metrics.MustRegister(c.exchanges, c.duration, c.findings, c.lost, c.malformed)
	return c
}

func (c *counters) setLost(lost uint64) { c.lost.Set(float64(lost)) }

func (c *counters) add(r *fieldgate.Record) {
	operation := c.operationOf(operationKey{r.API, r.Version, r.Operation})
	protocol, class := min(r.Protocol, fieldgate.Protocols-1), min(max(r.Status/100, 0), classes-1)
	series := &operation.exchanges[protocol][class]
	if *series == nil {
		*series = c.exchanges.WithLabelValues(operation.api, operation.version, operation.operation, protocol.String(), strconv.Itoa(class)+"xx")
	}
	(*series).Add(float64(r.Exchanges()))
	operation.duration.Observe(r.Duration.Seconds())
	for _, micros := range r.Others {
		operation.duration.Observe(float64(micros) / 1e6)
	}
	for kind, name := range findingsOf(r) {
		series := &operation.findings[kind]
		if *series == nil {
			*series = c.findings.WithLabelValues(operation.api, name)
		}
		(*series).Add(float64(r.Exchanges()))
	}
}

func (c *counters) operationOf(key operationKey) *operationCounters {
	if last := c.last; last != nil && last.operationKey == key {
		return last
	}
	operation := c.operations[key]
	switch {
	case operation != nil:
		c.last = operation
		return operation
	case len(c.operations) < maxMetricOperations:
		operation = c.newOperation(key)
		c.operations[key] = operation
		return operation
	case c.other == nil:
		c.other = c.newOperation(operationKey{"(other)", "", "(other)"})
	}
	return c.other
}
