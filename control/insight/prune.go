package insight

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"fieldgate/engine/store"
)

const (
	pruneInterval = time.Minute
	maxPruneSteps = 100 // in one interval
	prunedRows    = 500 // in one step, where rows are small

	nodeRetention     = 30 * 24 * time.Hour
	useRetention      = 31 * 24 * time.Hour
	findingRetention  = 30 * 24 * time.Hour
	routeRetention    = 30 * 24 * time.Hour
	refusedRetention  = time.Hour // once the share is full, so that there is place for what is asked for now
	presenceRetention = 400 * 24 * time.Hour
	firstRetention    = 400 * 24 * time.Hour
	markRetention     = time.Hour
)

// callersRetention is how long sketches of callers are kept, by span.
var callersRetention = map[int]time.Duration{hour: 49 * time.Hour, day: 31 * 24 * time.Hour}

// pruning is one statement that deletes a little of what is too old, until there is nothing.
type pruning struct {
	statement string
	before    func(now time.Time) int64
}

func secondsBefore(retention time.Duration) func(time.Time) int64 {
	return func(now time.Time) int64 { return now.Add(-retention).Unix() }
}

func millisBefore(retention time.Duration) func(time.Time) int64 {
	return func(now time.Time) int64 { return now.Add(-retention).UnixMilli() }
}

// prunings delete no more at once than one span's rows, or prunedRows.
var prunings = func() (list []pruning) {
	for _, span := range spans {
		for _, table := range []string{"traffic", "traffic_total"} {
			list = append(list, pruning{fmt.Sprintf("DELETE FROM %s WHERE span = %d AND start = (SELECT MIN(start) FROM %s WHERE span = %d AND start < ?)",
				table, span.seconds, table, span.seconds), secondsBefore(span.retention)})
		}
	}
	for span, retention := range callersRetention {
		list = append(list, pruning{fmt.Sprintf(`DELETE FROM callers WHERE span = %d AND (span, start, api, version, operation) IN
			(SELECT span, start, api, version, operation FROM callers WHERE span = %d AND start < ? LIMIT %d)`, span, span, prunedRows), secondsBefore(retention)})
	}
	limit := strconv.Itoa(prunedRows)
	return append(list,
		pruning{"DELETE FROM firmware_use WHERE start = (SELECT MIN(start) FROM firmware_use WHERE start < ?)", secondsBefore(useRetention)},
		pruning{`DELETE FROM finding WHERE (api, version, operation, finding) IN (SELECT api, version, operation, finding FROM finding
			WHERE last_seen < ? LIMIT ` + limit + `)`, millisBefore(findingRetention)},
		pruning{`DELETE FROM presence WHERE (kind, id) IN (SELECT kind, id FROM presence WHERE last_seen < ? LIMIT ` + limit + `)`,
			millisBefore(presenceRetention)},
		pruning{"DELETE FROM ingest_mark WHERE minute < ?", secondsBefore(markRetention)})
}()

// prune deletes what is older than it is kept, once in an interval and in small steps, so that nobody waits long for the store.
func (c *counting) prune(ctx context.Context) error {
	if time.Since(c.pruned) < pruneInterval && !c.pruned.IsZero() {
		return nil
	}
	c.pruned = time.Now()
	steps := 0
	for _, p := range prunings {
		for deleted := int64(1); deleted > 0 && steps < maxPruneSteps; steps++ {
			began := time.Now()
			err := c.update(ctx, func(tx *store.Tx) error {
				if err := compareAndSwap(ctx, tx, "renewal = renewal + 1", nil, c.turn); err != nil {
					return err
				}
				result, err := tx.ExecContext(ctx, p.statement, p.before(tx.Now))
				if err != nil {
					return err
				}
				deleted, err = result.RowsAffected()
				return err
			})
			if err != nil {
				return fmt.Errorf("%.40s: %w", p.statement, err)
			}
			c.turn.renewal, c.turn.renewed = c.turn.renewal+1, began
		}
	}
	return c.pruneKnown(ctx)
}

// pruneKnown deletes rows of which this node keeps a list, and takes them off the list.
func (c *counting) pruneKnown(ctx context.Context) error {
	c.mu.Lock()
	full := c.routes.full()
	c.mu.Unlock()
	var routes []routeKey
	var nodes []nodeKey
	var known []firstKey
	began := time.Now()
	err := c.update(ctx, func(tx *store.Tx) error {
		routes, nodes, known = nil, nil, nil
		if err := compareAndSwap(ctx, tx, "renewal = renewal + 1", nil, c.turn); err != nil {
			return err
		}
		oldest := tx.Now.Add(-routeRetention).UnixMilli()
		refused := oldest
		if full {
			refused = tx.Now.Add(-refusedRetention).UnixMilli()
		}
		err := each(ctx, tx, "DELETE FROM route WHERE last_seen < ? OR api = '' AND last_seen < ? RETURNING protocol, method, route, api",
			[]any{oldest, refused}, func(rows *sql.Rows) error {
				var key routeKey
				err := rows.Scan(&key.protocol, &key.method, &key.route, &key.api)
				routes = append(routes, key)
				return err
			})
		if err != nil {
			return err
		}
		err = each(ctx, tx, "DELETE FROM ingest_node WHERE seen < ? RETURNING node, epoch", []any{tx.Now.Add(-nodeRetention).UnixMilli()},
			func(rows *sql.Rows) error {
				var key nodeKey
				var epoch string
				if err := rows.Scan(&key.node, &epoch); err != nil {
					return err
				}
				var err error
				key.epoch, err = strconv.ParseUint(epoch, 10, 64)
				nodes = append(nodes, key)
				return err
			})
		if err != nil {
			return err
		}
		return each(ctx, tx, "DELETE FROM first_seen WHERE time < ? RETURNING subject, model, name", []any{tx.Now.Add(-firstRetention).UnixMilli()},
			func(rows *sql.Rows) error {
				var key firstKey
				err := rows.Scan(&key.subject, &key.model, &key.name)
				known = append(known, key)
				return err
			})
	})
	if err != nil {
		return err
	}
	c.turn.renewal, c.turn.renewed = c.turn.renewal+1, began

	c.mu.Lock()
	defer c.mu.Unlock()
	c.routes.remove(routes)
	for key := range c.pending.routes { // seen again meanwhile: its row comes back with the next flush
		c.routes.add(key)
	}
	for _, key := range nodes {
		if p := c.nodes[key]; p != nil && !p.dirty {
			delete(c.nodes, key)
		}
	}
	for _, key := range known {
		delete(*c.firsts, key)
	}
	return nil
}
