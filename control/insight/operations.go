package insight

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/axiomhq/hyperloglog"

	"fieldgate"
	"fieldgate/engine/store"
)

// OperationTraffic is what happened on one operation; its names are empty where no contract explains the exchanges.
type OperationTraffic struct {
	API, Version, Operation            string
	Exchanges, Passed, Refused, Failed uint64
	BytesIn, BytesOut                  uint64
	Callers                            uint64 // distinct ones in the hours that the window touches, an estimate
	P50, P90, P99                      time.Duration
	Findings                           []NamedCount // in the hours that the window touches
	latency                            *ddsketch.DDSketch
	callers                            *hyperloglog.Sketch
	findings                           map[string]namedCount
}

// Operations sums up each operation over the last minutes and the current one, busiest first; above an hour, over the
// whole hours that the window touches. api selects one API, unless it is empty.
func (i *Insight) Operations(ctx context.Context, api string, minutes int) ([]*OperationTraffic, error) {
	now := time.Now().Unix()
	span, from := minute, now-int64(minutes)*minute
	if minutes > 60 {
		span = hour
	}
	from -= from % int64(span)
	fromHour := from - from%hour

	// What is pending must not be stored between the two halves of the sum.
	i.mu.Lock()
	defer i.mu.Unlock()
	sums := make(map[operationKey]*OperationTraffic)
	of := func(key operationKey) *OperationTraffic {
		if sums[key] == nil {
			sums[key] = &OperationTraffic{API: key.api, Version: key.version, Operation: key.operation,
				latency: newLatency(), callers: hyperloglog.New14(), findings: make(map[string]namedCount)}
		}
		return sums[key]
	}
	wanted := func(key operationKey) bool { return api == "" || key.api == api }

	err := i.store.View(ctx, func(tx *store.Tx) error {
		return readOperations(ctx, tx, api, span, from, fromHour, of)
	})
	if err != nil {
		return nil, fmt.Errorf("traffic of operations: %w", err)
	}
	for key, sum := range i.pending.rollups {
		if key.span == span && key.start >= from && wanted(key.operationKey) {
			t := of(key.operationKey)
			t.add(key.class, sum.exchanges, sum.bytesIn, sum.bytesOut)
			if err := t.latency.MergeWith(sum.latency); err != nil {
				return nil, err
			}
		}
	}
	for key, callers := range i.pending.callers {
		if key.start >= fromHour && wanted(key.operationKey) {
			if err := of(key.operationKey).callers.Merge(callers); err != nil {
				return nil, err
			}
		}
	}
	for key, f := range i.pending.findings {
		if key.start >= fromHour && wanted(key.operationKey) {
			addCounts(of(key.operationKey).findings, map[string]namedCount{key.finding: {f.exchanges, f.example}})
		}
	}
	return finish(sums)
}

func readOperations(ctx context.Context, tx *store.Tx, api string, span int, from, fromHour int64, of func(operationKey) *OperationTraffic) error {
	var key operationKey
	err := each(ctx, tx, `SELECT api, version, operation, class, exchanges, bytes_in, bytes_out, latency FROM rollup
		WHERE span = ? AND start >= ? AND (? = '' OR api = ?)`, []any{span, from, api, api}, func(rows *sql.Rows) error {
		var class int
		var exchanges, bytesIn, bytesOut uint64
		var latency []byte
		if err := rows.Scan(&key.api, &key.version, &key.operation, &class, &exchanges, &bytesIn, &bytesOut, &latency); err != nil {
			return err
		}
		of(key).add(class, exchanges, bytesIn, bytesOut)
		return of(key).latency.DecodeAndMergeWith(latency)
	})
	if err != nil {
		return err
	}
	err = each(ctx, tx, `SELECT api, version, operation, callers FROM rollup_callers WHERE start >= ? AND (? = '' OR api = ?)`,
		[]any{fromHour, api, api}, func(rows *sql.Rows) error {
			var encoded []byte
			if err := rows.Scan(&key.api, &key.version, &key.operation, &encoded); err != nil {
				return err
			}
			var callers hyperloglog.Sketch
			if err := callers.UnmarshalBinary(encoded); err != nil {
				return err
			}
			return of(key).callers.Merge(&callers)
		})
	if err != nil {
		return err
	}
	return each(ctx, tx, `SELECT api, version, operation, finding, exchanges, example FROM rollup_finding
		WHERE start >= ? AND (? = '' OR api = ?) ORDER BY start`, []any{fromHour, api, api}, func(rows *sql.Rows) error {
		var name string
		var n namedCount
		if err := rows.Scan(&key.api, &key.version, &key.operation, &name, &n.count, &n.example); err != nil {
			return err
		}
		addCounts(of(key).findings, map[string]namedCount{name: n})
		return nil
	})
}

func (t *OperationTraffic) add(class int, exchanges, bytesIn, bytesOut uint64) {
	t.Exchanges += exchanges
	t.BytesIn += bytesIn
	t.BytesOut += bytesOut
	switch {
	case class < 4:
		t.Passed += exchanges
	case class == 4:
		t.Refused += exchanges
	default:
		t.Failed += exchanges
	}
}

func finish(sums map[operationKey]*OperationTraffic) ([]*OperationTraffic, error) {
	list := make([]*OperationTraffic, 0, len(sums))
	for _, t := range sums {
		if t.Exchanges == 0 {
			continue // only the hour's findings and callers lie in the window
		}
		quantiles, err := t.latency.GetValuesAtQuantiles([]float64{0.5, 0.9, 0.99})
		if err != nil {
			return nil, err
		}
		for q, value := range []*time.Duration{&t.P50, &t.P90, &t.P99} {
			*value = time.Duration(quantiles[q] * float64(time.Microsecond))
		}
		t.Callers = t.callers.Estimate()
		t.Findings = mostFrequent(t.findings)
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *OperationTraffic) int {
		return cmp.Or(cmp.Compare(b.Exchanges, a.Exchanges), cmp.Compare(a.API, b.API), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Operation, b.Operation))
	})
	return list, nil
}

// Route is a route or topic that no contract explains.
type Route struct {
	Protocol  fieldgate.Protocol
	Method    fieldgate.Method
	Route     string
	API       string // the pass-through API that let it pass; empty when it was refused
	Exchanges uint64
	Principal string // the newest one
	First     time.Time
	Last      time.Time
}

// Undocumented lists routes that no contract explains, most seen first, and how many exchanges came on routes that are not
// listed because there were too many.
func (i *Insight) Undocumented(ctx context.Context, limit int) (routes []Route, overflow uint64, err error) {
	if err := i.flush(ctx); err != nil {
		return nil, 0, err
	}
	err = i.store.View(ctx, func(tx *store.Tx) error {
		if overflow, err = tx.Counter(ctx, "routes_overflow"); err != nil {
			return err
		}
		return each(ctx, tx, `SELECT protocol, method, route, api, exchanges, principal, first_seen, last_seen FROM route
			ORDER BY exchanges DESC, route LIMIT ?`, []any{limit}, func(rows *sql.Rows) error {
			var r Route
			var first, last int64
			err := rows.Scan(&r.Protocol, &r.Method, &r.Route, &r.API, &r.Exchanges, &r.Principal, &first, &last)
			r.First, r.Last = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
			routes = append(routes, r)
			return err
		})
	})
	return routes, overflow, err
}

// Totals is what was counted since the installation was set up.
type Totals struct {
	Exchanges          uint64
	Lost               uint64    // records that never arrived
	NewestUndocumented time.Time // when a route that no contract explains was last used; zero when none was
}

// Totals counts what is stored and what is pending.
func (i *Insight) Totals(ctx context.Context) (totals Totals, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	err = i.store.View(ctx, func(tx *store.Tx) error {
		if totals.Exchanges, err = tx.Counter(ctx, "exchanges"); err != nil {
			return err
		}
		var newest int64
		err := tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(last_seen), 0) FROM route").Scan(&newest)
		if newest > 0 {
			totals.NewestUndocumented = time.UnixMilli(newest).UTC()
		}
		return err
	})
	totals.Exchanges += uint64(i.pending.records)
	for _, r := range i.pending.routes {
		if r.last.After(totals.NewestUndocumented) {
			totals.NewestUndocumented = r.last
		}
	}
	for _, node := range i.nodes {
		totals.Lost += node.lost
	}
	return totals, err
}
