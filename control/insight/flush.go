package insight

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/axiomhq/hyperloglog"

	"fieldgate"
	"fieldgate/engine/store"
)

const (
	rowsPerStatement = 100 // each statement is a round trip to PostgreSQL
	keysPerStatement = 200
	callersPerStep   = 250 // sketches of callers stored in one transaction
)

// spans are those of the rollups, and how long each is kept.
var spans = [...]struct {
	seconds   int
	retention time.Duration
}{{minute, 3 * time.Hour}, {hour, 30*24*time.Hour + 25*time.Hour}, {day, 400 * 24 * time.Hour}}

// write stores what one flush counts. Only the node whose turn it is changes these rows, so that it reads and merges them before
// the transaction that may write, which is short; the comparison in that one makes sure of the turn.
func (c *counting) write(ctx context.Context, f *flushing) error {
	now := time.Now()
	// Sketches of callers come first, in small steps: what is merged twice changes nothing.
	if err := c.writeCallers(ctx, f.pending, now); err != nil {
		return fmt.Errorf("callers: %w", err)
	}
	var traffic, uses [][]any
	err := c.store.View(ctx, func(tx *store.Tx) (err error) {
		if traffic, err = trafficRows(ctx, tx, f.pending, now); err != nil {
			return err
		}
		uses, err = useRows(ctx, tx, f.pending)
		return err
	})
	if err != nil {
		return fmt.Errorf("rollups: %w", err)
	}
	began := time.Now()
	mark := now.Unix() - now.Unix()%minute
	err = c.update(ctx, func(tx *store.Tx) error {
		err := compareAndSwap(ctx, tx, `renewal = renewal + 1, created = ?, sequence = ?,
			newest = CASE WHEN newest < CAST(? AS BIGINT) THEN CAST(? AS BIGINT) ELSE newest END`,
			[]any{f.progress.created, int64(f.progress.sequence), millis(f.pending.newest), millis(f.pending.newest)}, c.turn)
		if err != nil {
			return err
		}
		if f.progress.created != c.stored.created {
			if _, err := tx.ExecContext(ctx, "DELETE FROM ingest_mark"); err != nil {
				return err
			}
		}
		if mark != c.marked {
			_, err := tx.ExecContext(ctx, `INSERT INTO ingest_mark (minute, sequence) VALUES (?, ?)
				ON CONFLICT (minute) DO UPDATE SET sequence = ingest_mark.sequence`, mark, int64(f.progress.sequence))
			if err != nil {
				return err
			}
		}
		for _, table := range []struct {
			insert, conflict string
			rows             [][]any
		}{
			{"INSERT INTO traffic (span, start, api, version, protocol, exchanges, refused, failed, bytes_in, bytes_out, operations, latencies)",
				"ON CONFLICT (span, start, api, version, protocol) DO UPDATE SET " + addedCounts("traffic") + ", operations = excluded.operations, latencies = excluded.latencies", traffic},
			{"INSERT INTO traffic_total (span, start, protocol, exchanges, refused, failed, bytes_in, bytes_out)",
				"ON CONFLICT (span, start, protocol) DO UPDATE SET " + addedCounts("traffic_total"), totalRows(f.pending, now)},
			{"INSERT INTO firmware_use (start, api, version, uses)",
				"ON CONFLICT (start, api, version) DO UPDATE SET uses = excluded.uses", uses},
			// Seen again after a day a finding is open anew.
			{"INSERT INTO finding (api, version, operation, finding, severity, first_seen, last_seen, protocol, route, detail, kind, principal, instance)",
				`ON CONFLICT (api, version, operation, finding) DO UPDATE SET severity = excluded.severity,
					first_seen = CASE WHEN finding.last_seen < excluded.first_seen - ` + strconv.FormatInt(findingOpen.Milliseconds(), 10) + ` THEN excluded.first_seen ELSE finding.first_seen END,
					last_seen = CASE WHEN finding.last_seen > excluded.last_seen THEN finding.last_seen ELSE excluded.last_seen END,
					protocol = excluded.protocol, route = excluded.route, detail = excluded.detail, kind = excluded.kind,
					principal = excluded.principal, instance = excluded.instance`, findingRows(f.pending)},
			{"INSERT INTO route (protocol, method, route, api, exchanges, principal, first_seen, last_seen)",
				`ON CONFLICT (protocol, method, route, api) DO UPDATE SET exchanges = route.exchanges + excluded.exchanges, last_seen = excluded.last_seen,
					principal = CASE WHEN excluded.principal = '' THEN route.principal ELSE excluded.principal END`, routeRows(f.pending)},
			{"INSERT INTO first_seen (subject, model, name, time)", "ON CONFLICT (subject, model, name) DO NOTHING", firstRows(f.pending)},
			{"INSERT INTO ingest_node (node, epoch, next, lost, gaps, seen)",
				`ON CONFLICT (node, epoch) DO UPDATE SET next = excluded.next, lost = excluded.lost, gaps = excluded.gaps, seen = excluded.seen`,
				nodeRows(f.nodes, tx.Now)},
		} {
			if err := insertRows(ctx, tx, table.insert, table.conflict, table.rows); err != nil {
				return fmt.Errorf("%s: %w", strings.Fields(table.insert)[2], err)
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE counter SET value = value + CASE name WHEN 'exchanges' THEN CAST(? AS BIGINT) ELSE CAST(? AS BIGINT) END
			WHERE name IN ('exchanges', 'routes_overflow')`, int64(f.pending.exchanges), int64(f.pending.routesOverflow))
		return err
	})
	if err != nil {
		return err
	}
	c.turn.renewal, c.turn.renewed = c.turn.renewal+1, began
	c.marked = mark
	return nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// addedCounts is the part of an upsert that adds what is new to the counts of a table.
func addedCounts(table string) string {
	columns := []string{"exchanges", "refused", "failed", "bytes_in", "bytes_out"}
	for i, column := range columns {
		columns[i] = column + " = " + table + "." + column + " + excluded." + column
	}
	return strings.Join(columns, ", ")
}

// insertRows inserts many rows with few statements.
func insertRows(ctx context.Context, tx *store.Tx, insert, conflict string, rows [][]any) error {
	for part := range slices.Chunk(rows, rowsPerStatement) {
		row := "(" + placeholders(len(part[0])) + ")"
		statement := insert + " VALUES " + strings.Repeat(row+", ", len(part)-1) + row + " " + conflict
		if _, err := tx.ExecContext(ctx, statement, slices.Concat(part...)...); err != nil {
			return err
		}
	}
	return nil
}

func placeholders(n int) string { return strings.Repeat("?, ", n-1) + "?" }

// in lists texts as values of a statement and the placeholders for them.
func in(texts []string) (list string, values []any) {
	for _, text := range texts {
		values = append(values, text)
	}
	return "(" + placeholders(len(texts)) + ")", values
}

// slot is one span of time.
type slot struct {
	span  int
	start int64
}

// trafficOf sums pending traffic up to one span, leaving out what is older than that is kept.
func (p *pending) trafficOf(span int, retention time.Duration, now time.Time) map[trafficKey]*trafficSum {
	oldest := now.Add(-retention).Unix()
	sums := make(map[trafficKey]*trafficSum)
	for key, part := range p.traffic {
		key.span, key.start = span, key.start-key.start%int64(span)
		if key.start < oldest {
			continue
		}
		if before := sums[key]; before != nil {
			part = before.plus(part)
		}
		sums[key] = part
	}
	return sums
}

// plus is a new sum of both.
func (s *trafficSum) plus(more *trafficSum) *trafficSum {
	sum := &trafficSum{counts: s.counts, operations: maps.Clone(s.operations)}
	sum.counts.add(more.counts)
	for name, operation := range more.operations {
		if before := sum.operations[name]; before != nil {
			operation = before.plus(operation)
		}
		sum.operations[name] = operation
	}
	return sum
}

// plus is a new sum of both.
func (o *operationSum) plus(more *operationSum) *operationSum {
	sum := &operationSum{packedOperation: o.packedOperation}
	sum.packedOperation.add(&more.packedOperation)
	sum.latency.merge(&o.latency)
	sum.latency.merge(&more.latency)
	return sum
}

// trafficRows merges pending traffic with what is stored.
func trafficRows(ctx context.Context, tx *store.Tx, p *pending, now time.Time) (rows [][]any, err error) {
	for _, span := range spans {
		bySlot := make(map[int64]map[trafficKey]*trafficSum)
		for key, sum := range p.trafficOf(span.seconds, span.retention, now) {
			if bySlot[key.start] == nil {
				bySlot[key.start] = make(map[trafficKey]*trafficSum)
			}
			bySlot[key.start][key] = sum
		}
		for start, sums := range bySlot {
			apis := make(map[string]bool)
			for key := range sums {
				apis[key.api] = true
			}
			stored := make(map[trafficKey]packedTraffic)
			for part := range slices.Chunk(slices.Sorted(maps.Keys(apis)), keysPerStatement) {
				list, values := in(part)
				key := trafficKey{span: span.seconds, start: start}
				err := each(ctx, tx, "SELECT api, version, protocol, operations, latencies FROM traffic WHERE span = ? AND start = ? AND api IN "+list,
					append([]any{span.seconds, start}, values...), func(rows *sql.Rows) error {
						var packed packedTraffic
						err := rows.Scan(&key.api, &key.version, &key.protocol, &packed.operations, &packed.latencies)
						if _, wanted := sums[key]; wanted {
							stored[key] = packed
						}
						return err
					})
				if err != nil {
					return nil, err
				}
			}
			for key, sum := range sums {
				packed, err := sum.pack(stored[key])
				if err != nil {
					return nil, err
				}
				rows = append(rows, append([]any{key.span, key.start, key.api, key.version, int(key.protocol)}, append(sum.counts.values(), packed.operations, packed.latencies)...))
			}
		}
	}
	return rows, nil
}

func (c *counts) values() []any {
	return []any{int64(c.exchanges), int64(c.refused), int64(c.failed), int64(c.bytesIn), int64(c.bytesOut)}
}

func totalRows(p *pending, now time.Time) (rows [][]any) {
	for _, span := range spans {
		sums := make(map[totalKey]*counts)
		oldest := now.Add(-span.retention).Unix()
		for key, part := range p.traffic {
			key := totalKey{span.seconds, key.start - key.start%int64(span.seconds), key.protocol}
			if key.start < oldest {
				continue
			}
			if sums[key] == nil {
				sums[key] = &counts{}
			}
			sums[key].add(part.counts)
		}
		for key, sum := range sums {
			rows = append(rows, append([]any{key.span, key.start, int(key.protocol)}, sum.values()...))
		}
	}
	return rows
}

// useRows merges the uses of versions with what is stored.
func useRows(ctx context.Context, tx *store.Tx, p *pending) (rows [][]any, err error) {
	for key, uses := range p.uses {
		var packed []byte
		err := each(ctx, tx, "SELECT uses FROM firmware_use WHERE start = ? AND api = ? AND version = ?", []any{key.start, key.api, key.version},
			func(rows *sql.Rows) error { return rows.Scan(&packed) })
		if err != nil {
			return nil, err
		}
		merged := make(map[use]*useCount, len(uses))
		if packed != nil {
			if err := unpackUses(packed, func(u use, n useCount) { merged[u] = &n }); err != nil {
				return nil, err
			}
		}
		for u, n := range uses {
			countOf(merged, u).add(*n)
		}
		rows = append(rows, []any{key.start, key.api, key.version, packUses(merged)})
	}
	return rows, nil
}

func findingRows(p *pending) (rows [][]any) {
	for key, f := range p.findings {
		rows = append(rows, []any{key.api, key.version, key.operation, key.finding, int(severityOf(key.finding)), f.first.UnixMilli(), f.last.UnixMilli(),
			int(f.example.Protocol), f.example.Route, f.example.Detail, string(f.example.Kind), f.example.Principal, f.instance})
	}
	return rows
}

func routeRows(p *pending) (rows [][]any) {
	for key, r := range p.routes {
		rows = append(rows, []any{int(key.protocol), int(key.method), key.route, key.api, int64(r.exchanges), r.principal, r.first.UnixMilli(), r.last.UnixMilli()})
	}
	return rows
}

func firstRows(p *pending) (rows [][]any) {
	for key, at := range p.firsts {
		rows = append(rows, []any{key.subject, key.model, key.name, at.UnixMilli()})
	}
	return rows
}

func nodeRows(nodes numbering, now time.Time) (rows [][]any) {
	for key, p := range nodes {
		rows = append(rows, []any{key.node, strconv.FormatUint(key.epoch, 10), int64(p.next), int64(p.absent()), p.gapsText(), now.UnixMilli()})
	}
	return rows
}

// callersOf makes the rows of days and of whole APIs out of those of hours and operations.
func (p *pending) callersOf(now time.Time) map[slot]map[operationKey]*hyperloglog.Sketch {
	sums := make(map[slot]map[operationKey]*hyperloglog.Sketch)
	for key, callers := range p.callers {
		for _, s := range [...]slot{{hour, key.start}, {day, key.start - key.start%day}} {
			if s.start < now.Add(-callersRetention[s.span]).Unix() {
				continue
			}
			if sums[s] == nil {
				sums[s] = make(map[operationKey]*hyperloglog.Sketch)
			}
			for _, operation := range [...]operationKey{key.operationKey, {api: key.api}} {
				sum := sums[s][operation]
				if sum == nil {
					sum = newCallers()
					sums[s][operation] = sum
				}
				if err := sum.Merge(callers); err != nil {
					panic(err) // all have one precision
				}
			}
		}
	}
	return sums
}

func (c *counting) writeCallers(ctx context.Context, p *pending, now time.Time) error {
	for at, sums := range p.callersOf(now) {
		for keys := range slices.Chunk(slices.SortedFunc(maps.Keys(sums), compareOperations), callersPerStep) {
			var rows [][]any
			err := c.store.View(ctx, func(tx *store.Tx) (err error) {
				rows, err = callersRows(ctx, tx, at, keys, sums)
				return err
			})
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				continue
			}
			began := time.Now()
			err = c.update(ctx, func(tx *store.Tx) error {
				if err := compareAndSwap(ctx, tx, "renewal = renewal + 1", nil, c.turn); err != nil {
					return err
				}
				return insertRows(ctx, tx, "INSERT INTO callers (span, start, api, version, operation, sketch)",
					"ON CONFLICT (span, start, api, version, operation) DO UPDATE SET sketch = excluded.sketch", rows)
			})
			if err != nil {
				return err
			}
			c.turn.renewal, c.turn.renewed = c.turn.renewal+1, began
		}
	}
	return nil
}

func compareOperations(a, b operationKey) int {
	if n := strings.Compare(a.api, b.api); n != 0 {
		return n
	}
	if n := strings.Compare(a.version, b.version); n != 0 {
		return n
	}
	return strings.Compare(a.operation, b.operation)
}

// callersRows merges sketches with what is stored and leaves out those that brought nothing new, as most do.
func callersRows(ctx context.Context, tx *store.Tx, at slot, keys []operationKey, sums map[operationKey]*hyperloglog.Sketch) (rows [][]any, err error) {
	var apis []string
	for _, key := range keys {
		if len(apis) == 0 || apis[len(apis)-1] != key.api { // keys are in order
			apis = append(apis, key.api)
		}
	}
	stored := make(map[operationKey][]byte)
	list, values := in(apis)
	var key operationKey
	err = each(ctx, tx, "SELECT api, version, operation, sketch FROM callers WHERE span = ? AND start = ? AND api IN "+list,
		append([]any{at.span, at.start}, values...), func(rows *sql.Rows) error {
			var sketch []byte
			err := rows.Scan(&key.api, &key.version, &key.operation, &sketch)
			if sums[key] != nil {
				stored[key] = sketch
			}
			return err
		})
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		merged := newCallers()
		if before := stored[key]; before != nil {
			if err := merged.UnmarshalBinary(before); err != nil {
				return nil, err
			}
		}
		if err := merged.Merge(sums[key]); err != nil {
			return nil, err
		}
		merged.Estimate() // makes the sketch's form canonical
		encoded, err := merged.MarshalBinary()
		if err != nil {
			return nil, err
		}
		if string(encoded) != string(stored[key]) {
			rows = append(rows, []any{at.span, at.start, key.api, key.version, key.operation, encoded})
		}
	}
	return rows, nil
}

// replayFrom is the message of the stream to begin with so that what came in the last while is read again, and the one up to
// which all has been counted.
func (i *Insight) replayFrom(ctx context.Context, while time.Duration) (from, counted uint64, err error) {
	err = i.store.View(ctx, func(tx *store.Tx) error {
		var first, last int64
		err := tx.QueryRowContext(ctx, `SELECT sequence, COALESCE((SELECT MIN(sequence) FROM ingest_mark WHERE minute >= ?), sequence)
			FROM ingest_stream WHERE name = ?`, time.Now().Add(-while).Unix(), fieldgate.StreamRecords).Scan(&last, &first)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		from, counted = uint64(min(first, last)), uint64(last)
		return err
	})
	return from + 1 - min(from, replayed), counted, err
}
