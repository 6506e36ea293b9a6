package insight

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/axiomhq/hyperloglog"

	"fieldgate"
	"fieldgate/engine/store"
)

// Span is the length of the points of a series.
type Span int

const (
	Minute Span = minute // kept for three hours
	Hour   Span = hour   // kept for 30 days
	Day    Span = day    // kept for 400 days
)

// MaxPoints is how many points a series has at the most.
const MaxPoints = 1_000

// SeriesFilter selects of what a series is; zero values select all.
type SeriesFilter struct {
	API      string
	Protocol *fieldgate.Protocol
}

// Series is exchanges over time. Every protocol's lists have the same length; the last point is not over.
type Series struct {
	From      time.Time // beginning of the first point
	Span      Span
	Protocols []ProtocolSeries // those that were used, in the order of their numbers
}

// ProtocolSeries is exchanges over one protocol, oldest first.
type ProtocolSeries struct {
	Protocol                fieldgate.Protocol
	Passed, Refused, Failed []uint64
}

// Series is exchanges in the newest points spans, the current one included. Days begin at midnight UTC.
func (i *Insight) Series(ctx context.Context, filter SeriesFilter, span Span, points int) (Series, error) {
	points = min(max(points, 1), MaxPoints)
	now := time.Now().Unix()
	from := now - now%int64(span) - int64(points-1)*int64(span)
	series := Series{From: time.Unix(from, 0).UTC(), Span: span}
	table, where, values := "traffic_total", "", []any{int(span), from}
	if filter.API != "" {
		table, where, values = "traffic", " AND api = ?", append(values, filter.API)
	}
	if filter.Protocol != nil {
		where, values = where+" AND protocol = ?", append(values, int(*filter.Protocol))
	}
	var protocols [fieldgate.Protocols]*ProtocolSeries
	err := i.store.View(ctx, func(tx *store.Tx) error {
		protocols = [fieldgate.Protocols]*ProtocolSeries{}
		return each(ctx, tx, "SELECT start, protocol, exchanges, refused, failed FROM "+table+" WHERE span = ? AND start >= ?"+where, values, func(rows *sql.Rows) error {
			var start int64
			var protocol fieldgate.Protocol
			var c counts
			if err := rows.Scan(&start, &protocol, &c.exchanges, &c.refused, &c.failed); err != nil {
				return err
			}
			point := int((start - from) / int64(span))
			if point >= points || protocol >= fieldgate.Protocols {
				return nil
			}
			p := protocols[protocol]
			if p == nil {
				p = &ProtocolSeries{protocol, make([]uint64, points), make([]uint64, points), make([]uint64, points)}
				protocols[protocol] = p
			}
			p.Passed[point] += c.passed()
			p.Refused[point] += c.refused
			p.Failed[point] += c.failed
			return nil
		})
	})
	if err != nil {
		return Series{}, fmt.Errorf("series: %w", err)
	}
	for _, p := range protocols {
		if p != nil {
			series.Protocols = append(series.Protocols, *p)
		}
	}
	return series, nil
}

// APIHours is how many points APITraffic has.
const APIHours = 24

// APITraffic is what happened on all versions of an API in the last 24 hours, the current one included.
type APITraffic struct {
	Exchanges, Refused, Failed uint64
	Callers                    uint64           // distinct ones, an estimate within about 2 %
	Hours                      [APIHours]uint64 // exchanges, oldest first; the last one is not over
}

// APIs sums up the last 24 hours of APIs. Those without traffic have a zero value.
func (i *Insight) APIs(ctx context.Context, names []string) (map[string]*APITraffic, error) {
	answer := make(map[string]*APITraffic, len(names))
	callers := make(map[string]*hyperloglog.Sketch, len(names))
	now := time.Now().Unix()
	from := now - now%hour - (APIHours-1)*hour
	err := i.store.View(ctx, func(tx *store.Tx) error {
		clear(callers)
		for _, name := range names {
			answer[name] = &APITraffic{}
		}
		err := i.eachRow(ctx, tx, operationsColumn, period{hour, from, forever}, func(row *trafficRow) error {
			t := answer[row.api]
			if t == nil {
				return nil
			}
			t.Exchanges += row.exchanges
			t.Refused += row.refused
			t.Failed += row.failed
			if point := (row.start - from) / hour; point < APIHours {
				t.Hours[point] += row.exchanges
			}
			return nil
		})
		if err != nil {
			return err
		}
		for part := range slices.Chunk(names, keysPerStatement) {
			list, values := in(part)
			values = append([]any{from}, values...)
			var encoded sql.RawBytes
			err := each(ctx, tx, "SELECT api, sketch FROM callers WHERE span = 3600 AND start >= ? AND version = '' AND operation = '' AND api IN "+list, values,
				func(rows *sql.Rows) error {
					var name string
					if err := rows.Scan(&name, &encoded); err != nil {
						return err
					}
					sum := callers[name]
					err := mergeCallers(&sum, encoded)
					callers[name] = sum
					return err
				})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("traffic of APIs: %w", err)
	}
	for name, sum := range callers {
		answer[name].Callers = sum.Estimate()
	}
	return answer, nil
}
