package insight

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/axiomhq/hyperloglog"

	"fieldgate"
	"fieldgate/engine/store"
)

// load reads how far was counted.
func (i *Insight) load(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.store.View(ctx, func(tx *store.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT created, sequence FROM ingest_stream WHERE name = ?", fieldgate.StreamRecords).
			Scan(&i.stream.created, &i.stream.sequence)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		err = each(ctx, tx, "SELECT node, epoch, next, lost FROM ingest_node", nil, func(rows *sql.Rows) error {
			var key nodeKey
			var node progress
			var epoch string
			if err := rows.Scan(&key.node, &epoch, &node.next, &node.lost); err != nil {
				return err
			}
			if key.epoch, err = strconv.ParseUint(epoch, 10, 64); err != nil {
				return err
			}
			i.nodes[key] = &node
			return nil
		})
		if err != nil {
			return err
		}
		return each(ctx, tx, "SELECT protocol, method, route, api FROM route", nil, func(rows *sql.Rows) error {
			var key routeKey
			err := rows.Scan(&key.protocol, &key.method, &key.route, &key.api)
			i.routes.add(key)
			return err
		})
	})
}

func each(ctx context.Context, tx *store.Tx, query string, values []any, do func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query, values...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := do(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (i *Insight) storeProgress(ctx context.Context, tx *store.Tx) error {
	for key, node := range i.nodes {
		if !node.dirty {
			continue
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO ingest_node (node, epoch, next, lost, seen) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (node, epoch) DO UPDATE SET next = excluded.next, lost = excluded.lost, seen = excluded.seen`,
			key.node, strconv.FormatUint(key.epoch, 10), int64(node.next), int64(node.lost), tx.Now.UnixMilli())
		if err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO ingest_stream (name, created, sequence) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET created = excluded.created, sequence = excluded.sequence`,
		fieldgate.StreamRecords, i.stream.created, int64(i.stream.sequence))
	return err
}

// store adds what is pending to what is stored.
func (p *pending) store(ctx context.Context, tx *store.Tx) error {
	for key, sum := range p.rollups {
		if err := storeRollup(ctx, tx, key, sum); err != nil {
			return fmt.Errorf("rollup: %w", err)
		}
	}
	for key, callers := range p.callers {
		if err := storeCallers(ctx, tx, key, callers); err != nil {
			return fmt.Errorf("callers: %w", err)
		}
	}
	for key, f := range p.findings {
		_, err := tx.ExecContext(ctx, `INSERT INTO rollup_finding (start, api, version, operation, finding, exchanges, example) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (start, api, version, operation, finding) DO UPDATE SET exchanges = rollup_finding.exchanges + excluded.exchanges,
				example = CASE WHEN excluded.example = '' THEN rollup_finding.example ELSE excluded.example END`,
			key.start, key.api, key.version, key.operation, key.finding, int64(f.exchanges), f.example)
		if err != nil {
			return fmt.Errorf("findings: %w", err)
		}
	}
	for key, r := range p.routes {
		_, err := tx.ExecContext(ctx, `INSERT INTO route (protocol, method, route, api, exchanges, principal, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (protocol, method, route, api) DO UPDATE SET exchanges = route.exchanges + excluded.exchanges, last_seen = excluded.last_seen,
				principal = CASE WHEN excluded.principal = '' THEN route.principal ELSE excluded.principal END`,
			key.protocol, key.method, key.route, key.api, int64(r.exchanges), r.principal, r.first.UnixMilli(), r.last.UnixMilli())
		if err != nil {
			return fmt.Errorf("routes: %w", err)
		}
	}
	_, err := tx.ExecContext(ctx, `UPDATE counter SET value = value + CASE name WHEN 'exchanges' THEN CAST(? AS BIGINT) ELSE CAST(? AS BIGINT) END
		WHERE name IN ('exchanges', 'routes_overflow')`, p.records, int64(p.routesOverflow))
	return err
}

func storeRollup(ctx context.Context, tx *store.Tx, key rollupKey, sum *rollup) error {
	where := []any{key.span, key.start, key.api, key.version, key.operation, key.class, key.protocol, key.firmware}
	var stored []byte
	err := tx.QueryRowContext(ctx, `SELECT latency FROM rollup WHERE span = ? AND start = ? AND api = ? AND version = ? AND operation = ?
		AND class = ? AND protocol = ? AND firmware = ?`, where...).Scan(&stored)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	merged := newLatency()
	if stored != nil {
		if err := merged.DecodeAndMergeWith(stored); err != nil {
			return err
		}
	}
	if err := merged.MergeWith(sum.latency); err != nil {
		return err
	}
	var encoded []byte
	merged.Encode(&encoded, false)
	_, err = tx.ExecContext(ctx, `INSERT INTO rollup (span, start, api, version, operation, class, protocol, firmware, exchanges, bytes_in, bytes_out, latency)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (span, start, api, version, operation, class, protocol, firmware) DO UPDATE SET exchanges = rollup.exchanges + excluded.exchanges,
			bytes_in = rollup.bytes_in + excluded.bytes_in, bytes_out = rollup.bytes_out + excluded.bytes_out, latency = excluded.latency`,
		append(where, int64(sum.exchanges), int64(sum.bytesIn), int64(sum.bytesOut), encoded)...)
	return err
}

func storeCallers(ctx context.Context, tx *store.Tx, key callersKey, callers *hyperloglog.Sketch) error {
	var stored []byte
	err := tx.QueryRowContext(ctx, "SELECT callers FROM rollup_callers WHERE start = ? AND api = ? AND version = ? AND operation = ?",
		key.start, key.api, key.version, key.operation).Scan(&stored)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	merged := callers.Clone() // the transaction may yet fail
	if stored != nil {
		var before hyperloglog.Sketch
		if err := before.UnmarshalBinary(stored); err != nil {
			return err
		}
		if err := merged.Merge(&before); err != nil {
			return err
		}
	}
	encoded, err := merged.MarshalBinary()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO rollup_callers (start, api, version, operation, callers) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (start, api, version, operation) DO UPDATE SET callers = excluded.callers`,
		key.start, key.api, key.version, key.operation, encoded)
	return err
}

// pruneRollups deletes what is older than its retention.
func pruneRollups(ctx context.Context, tx *store.Tx) error {
	minutes, hours := tx.Now.Add(-minuteRetention).Unix(), tx.Now.Add(-hourRetention).Unix()
	for _, statement := range []string{
		fmt.Sprintf("DELETE FROM rollup WHERE span = %d AND start < %d", minute, minutes),
		fmt.Sprintf("DELETE FROM rollup WHERE span = %d AND start < %d", hour, hours),
		fmt.Sprintf("DELETE FROM rollup_callers WHERE start < %d", hours),
		fmt.Sprintf("DELETE FROM rollup_finding WHERE start < %d", hours),
		fmt.Sprintf("DELETE FROM ingest_node WHERE seen < %d", tx.Now.Add(-hourRetention).UnixMilli()),
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", strings.SplitN(statement, " WHERE", 2)[0], err)
		}
	}
	return nil
}
