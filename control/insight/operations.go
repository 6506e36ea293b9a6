package insight

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/axiomhq/hyperloglog"

	"fieldgate"
	"fieldgate/engine/store"
)

// MaxOperations is how many operations one answer holds at the most.
const MaxOperations = 1_000

// OperationsQuery says of what Operations sums up. Empty texts select all.
type OperationsQuery struct {
	API, Version string
	Minutes      int  // how far it looks back: up to 60 by whole minutes, above by whole hours; at most 30 days
	Limit        int  // the busiest operations; 0: MaxOperations
	CountsOnly   bool // without quantiles and callers, which cost most where many operations are asked for
}

// OperationTraffic is what happened on one operation; its names are empty where no contract explains the exchanges.
type OperationTraffic struct {
	API, Version, Operation            string
	Exchanges, Passed, Refused, Failed uint64
	BytesIn, BytesOut                  uint64
	Callers                            uint64              // distinct ones in the hours that the window touches, above two days in its days; an estimate
	P50, P90, P99                      time.Duration       // above two days, of the days that the window touches
	Findings                           []NamedCount        // most frequent first
	Protocols                          []OperationProtocol // those that were used, in the order of their numbers
}

// OperationProtocol is what happened on an operation over one protocol.
type OperationProtocol struct {
	Protocol                           fieldgate.Protocol
	Exchanges, Passed, Refused, Failed uint64
	P50, P90, P99                      time.Duration
}

// Operations sums up each operation over the last minutes and the current one, busiest first; above an hour, over the
// whole hours that the window touches. api selects one API, unless it is empty.
func (i *Insight) Operations(ctx context.Context, api string, minutes int) ([]*OperationTraffic, error) {
	return i.OperationsOf(ctx, OperationsQuery{API: api, Minutes: minutes})
}

// OperationsOf sums up operations over a window, busiest first.
func (i *Insight) OperationsOf(ctx context.Context, query OperationsQuery) ([]*OperationTraffic, error) {
	if query.Limit <= 0 || query.Limit > MaxOperations {
		query.Limit = MaxOperations
	}
	var list []*operationTotal
	err := i.store.View(ctx, func(tx *store.Tx) error {
		sums := make(map[versionKey]map[string]*operationTotal)
		now := time.Now().Unix()
		for _, p := range window(now, query.Minutes) {
			if err := i.readOperations(ctx, tx, query, p, sums); err != nil {
				return err
			}
		}
		list = busiest(sums, query.Limit)
		if !query.CountsOnly {
			if err := i.readLatencies(ctx, tx, now, query, list); err != nil {
				return err
			}
			if err := readCallers(ctx, tx, now, query, list); err != nil {
				return err
			}
		}
		return readExamples(ctx, tx, list)
	})
	if err != nil {
		return nil, fmt.Errorf("traffic of operations: %w", err)
	}
	answer := make([]*OperationTraffic, len(list))
	for n, total := range list {
		answer[n] = total.finish()
	}
	return answer, nil
}

// period is a part of a window that is read from the rows of one span.
type period struct {
	span     int
	from, to int64 // seconds since 1970; without to
}

const forever = 1 << 62

// window cuts the last minutes into periods of as few rows as possible.
func window(now int64, minutes int) []period {
	from := now - int64(minutes)*minute
	if minutes <= 60 {
		return []period{{minute, from - from%minute, forever}}
	}
	from -= from % hour
	midnight := from + (day-from%day)%day
	if midnight > now {
		return []period{{hour, from, forever}}
	}
	if midnight == from {
		return []period{{day, from, forever}}
	}
	return []period{{hour, from, midnight}, {day, midnight, forever}}
}

type versionKey struct{ api, version string }

// operationTotal is an operation while it is summed up.
type operationTotal struct {
	operationKey
	counts
	protocols [fieldgate.Protocols]*protocolTotal
	findings  [findingKinds]uint64
	examples  map[string]string
	callers   *hyperloglog.Sketch
}

type protocolTotal struct {
	counts
	latency latency
}

// rows hands the rows of traffic of a period to do. Those of one API are few and are read from the database.
func (i *Insight) rows(ctx context.Context, tx *store.Tx, query OperationsQuery, column packedColumn, p period, do func(*trafficRow) error) error {
	if query.API != "" {
		where, values := "span = ? AND start >= ? AND start < ? AND api = ?", []any{p.span, p.from, p.to, query.API}
		if query.Version != "" {
			where, values = where+" AND version = ?", append(values, query.Version)
		}
		return readRows(ctx, tx, column, where, values, do)
	}
	return i.eachRow(ctx, tx, column, p, func(row *trafficRow) error {
		if query.Version != "" && row.version != query.Version {
			return nil
		}
		return do(row)
	})
}

func (i *Insight) readOperations(ctx context.Context, tx *store.Tx, query OperationsQuery, p period, sums map[versionKey]map[string]*operationTotal) error {
	return i.rows(ctx, tx, query, operationsColumn, p, func(row *trafficRow) error {
		key := versionKey{row.api, row.version}
		operations := sums[key]
		if operations == nil {
			operations = make(map[string]*operationTotal)
			sums[key] = operations
		}
		protocol := min(row.protocol, fieldgate.Protocols-1)
		return unpackOperations(row.packed, func(name []byte, o *packedOperation) error {
			total := operations[string(name)]
			if total == nil {
				total = &operationTotal{operationKey: operationKey{row.api, row.version, string(name)}}
				operations[string(name)] = total
			}
			total.counts.add(o.counts)
			for f, n := range o.findings {
				total.findings[f] += n
			}
			if total.protocols[protocol] == nil {
				total.protocols[protocol] = &protocolTotal{}
			}
			total.protocols[protocol].counts.add(o.counts)
			return nil
		})
	})
}

// busiest are the operations with the most exchanges. Only theirs is what costs most to sum up.
func busiest(sums map[versionKey]map[string]*operationTotal, limit int) (list []*operationTotal) {
	for _, operations := range sums {
		for _, total := range operations {
			list = append(list, total)
		}
	}
	slices.SortFunc(list, func(a, b *operationTotal) int {
		return cmp.Or(cmp.Compare(b.exchanges, a.exchanges), compareOperations(a.operationKey, b.operationKey))
	})
	return list[:min(limit, len(list))]
}

// apisOf are the APIs of operations, each once, in order.
func apisOf(list []*operationTotal) (apis []string) {
	for _, total := range list {
		apis = append(apis, total.api)
	}
	slices.Sort(apis)
	return slices.Compact(apis)
}

// sketchWindow cuts the last minutes into periods of sketches, fewer and coarser than those of counts: a sketch costs a
// thousand times what a count does.
func sketchWindow(now int64, minutes int) []period {
	from := now - int64(minutes)*minute
	if minutes > 48*60 {
		return []period{{day, from - from%day, forever}}
	}
	return window(now, minutes)
}

func (i *Insight) readLatencies(ctx context.Context, tx *store.Tx, now int64, query OperationsQuery, list []*operationTotal) error {
	totals := byName(list)
	for _, p := range sketchWindow(now, query.Minutes) {
		err := i.rows(ctx, tx, query, latenciesColumn, p, func(row *trafficRow) error {
			operations := totals[versionKey{row.api, row.version}]
			if operations == nil {
				return nil
			}
			return unpackLatencies(row.packed, func(name, encoded []byte) error {
				total := operations[string(name)]
				if total == nil {
					return nil
				}
				part := total.protocols[min(row.protocol, fieldgate.Protocols-1)]
				if part == nil {
					return nil // outside the window, on a day that it touches
				}
				return part.latency.mergeEncoded(encoded)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// byName finds operations by their names.
func byName(list []*operationTotal) map[versionKey]map[string]*operationTotal {
	totals := make(map[versionKey]map[string]*operationTotal)
	for _, total := range list {
		key := versionKey{total.api, total.version}
		if totals[key] == nil {
			totals[key] = make(map[string]*operationTotal)
		}
		totals[key][total.operation] = total
	}
	return totals
}

// callersWindow is the period of sketches of callers, of which hours are kept for two days.
func callersWindow(now int64, minutes int) period {
	from := now - int64(minutes)*minute
	if minutes > 48*60 {
		return period{day, from - from%day, forever}
	}
	return period{hour, from - from%hour, forever}
}

func readCallers(ctx context.Context, tx *store.Tx, now int64, query OperationsQuery, list []*operationTotal) error {
	totals := byName(list)
	p := callersWindow(now, query.Minutes)
	return eachIn(list, func(names string, values []any) error {
		var key versionKey
		var operation string
		var encoded sql.RawBytes
		return each(ctx, tx, "SELECT api, version, operation, sketch FROM callers WHERE span = ? AND start >= ? AND "+names, append([]any{p.span, p.from}, values...),
			func(rows *sql.Rows) error {
				if err := rows.Scan(&key.api, &key.version, &operation, &encoded); err != nil {
					return err
				}
				if total := totals[key][operation]; total != nil {
					return mergeCallers(&total.callers, encoded)
				}
				return nil
			})
	})
}

// mergeCallers adds an encoded sketch to one that may not be there yet.
func mergeCallers(sum **hyperloglog.Sketch, encoded []byte) error {
	var callers hyperloglog.Sketch
	if err := callers.UnmarshalBinary(encoded); err != nil {
		return err
	}
	if *sum == nil {
		*sum = newCallers()
	}
	return (*sum).Merge(&callers)
}

// readExamples finds an example of each finding.
func readExamples(ctx context.Context, tx *store.Tx, list []*operationTotal) error {
	totals := make(map[operationKey]*operationTotal)
	var some []*operationTotal
	for _, total := range list {
		if total.findings != [findingKinds]uint64{} {
			totals[total.operationKey] = total
			some = append(some, total)
		}
	}
	return eachIn(some, func(names string, values []any) error {
		return each(ctx, tx, "SELECT api, version, operation, finding, detail, route FROM finding WHERE "+names, values, func(rows *sql.Rows) error {
			var key operationKey
			var name, detail, route string
			if err := rows.Scan(&key.api, &key.version, &key.operation, &name, &detail, &route); err != nil {
				return err
			}
			if total := totals[key]; total != nil {
				if total.examples == nil {
					total.examples = make(map[string]string)
				}
				total.examples[name] = cmp.Or(detail, route)
			}
			return nil
		})
	})
}

// eachIn hands conditions to do that together select the APIs and operations of a list, and few others.
func eachIn(list []*operationTotal, do func(names string, values []any) error) error {
	var names []string
	for _, total := range list {
		names = append(names, total.operation)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for apis := range slices.Chunk(apisOf(list), keysPerStatement) {
		for operations := range slices.Chunk(names, keysPerStatement) {
			inAPIs, values := in(apis)
			inOperations, more := in(operations)
			if err := do("api IN "+inAPIs+" AND operation IN "+inOperations, append(values, more...)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *operationTotal) finish() *OperationTraffic {
	o := &OperationTraffic{API: t.api, Version: t.version, Operation: t.operation, Exchanges: t.exchanges, Passed: t.passed(), Refused: t.refused,
		Failed: t.failed, BytesIn: t.bytesIn, BytesOut: t.bytesOut, Findings: []NamedCount{}}
	var all latency
	for p, part := range t.protocols {
		if part == nil {
			continue
		}
		protocol := OperationProtocol{Protocol: fieldgate.Protocol(p), Exchanges: part.exchanges, Passed: part.passed(), Refused: part.refused, Failed: part.failed}
		part.latency.quantiles(&protocol.P50, &protocol.P90, &protocol.P99)
		all.merge(&part.latency)
		o.Protocols = append(o.Protocols, protocol)
	}
	all.quantiles(&o.P50, &o.P90, &o.P99)
	if t.callers != nil {
		o.Callers = t.callers.Estimate()
	}
	findings := make(map[string]namedCount)
	for i, n := range t.findings {
		for _, name := range fieldgate.Findings(1 << i).Names() {
			if n > 0 {
				findings[name] = namedCount{n, t.examples[name]}
			}
		}
	}
	o.Findings = mostFrequent(findings)
	return o
}

func (c *counts) passed() uint64 { return c.exchanges - c.refused - c.failed }
