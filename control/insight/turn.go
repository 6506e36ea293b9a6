package insight

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"fieldgate"
	"fieldgate/engine/store"
)

// Of all control nodes one at a time counts. Whose turn it is stands in the row of the stream in ingest_stream, with a number
// that goes up with every flush. Who flushes compares both in the same transaction as what it counts: a node that wrongly
// believes that it is its turn changes nothing. The others look at the row; when its number stays for pace.takeover, by their
// own monotonic clock, one of them takes over. Clocks of machines are never compared.

// errTurnOver says that another node counts now.
var errTurnOver = errors.New("another control node counts now")

// turn is what this node believes to stand in the row.
type turn struct {
	holder  string
	renewal int64
	renewed time.Time // when this node last saw it change
}

func (t *turn) age() time.Duration { return time.Since(t.renewed) }

// await returns when it is this node's turn, with all that it needs to count.
func (i *Insight) await(ctx context.Context) (*counting, error) {
	var seen turn
	for {
		began := time.Now()
		row, newest, err := i.look(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			i.log.Error("it is unknown which control node counts", "error", err)
			i.lag.storeFails(began)
		case err == nil:
			i.lag.waits(newest)
			if row.holder != seen.holder || row.renewal != seen.renewal {
				seen = turn{row.holder, row.renewal, began}
			}
			if i.alone || row.holder == "" || row.holder == i.holder || seen.age() >= i.pace.takeover {
				c, err := i.take(ctx, row)
				if err == nil {
					i.log.Info("this control node counts records", "renewal", c.turn.renewal)
					return c, nil
				}
				if !errors.Is(err, errTurnOver) && ctx.Err() == nil {
					i.log.Error("counting records cannot begin", "error", err)
					i.lag.storeFails(began)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(i.pace.look):
		}
	}
}

// look reads whose turn it is and makes sure that there is a row.
func (i *Insight) look(ctx context.Context) (row turn, newest time.Time, err error) {
	read := func(tx *store.Tx) error {
		var at int64
		err := tx.QueryRowContext(ctx, "SELECT holder, renewal, newest FROM ingest_stream WHERE name = ?", fieldgate.StreamRecords).
			Scan(&row.holder, &row.renewal, &at)
		if at > 0 {
			newest = time.UnixMilli(at).UTC()
		}
		return err
	}
	if err = i.store.View(ctx, read); !errors.Is(err, sql.ErrNoRows) {
		return row, newest, err
	}
	err = i.update(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO ingest_stream (name, created, sequence) VALUES (?, 0, 0) ON CONFLICT (name) DO NOTHING", fieldgate.StreamRecords)
		if err != nil {
			return err
		}
		return read(tx)
	})
	return row, newest, err
}

// take makes it this node's turn, if the row is still as it was seen, and loads how far was counted.
func (i *Insight) take(ctx context.Context, row turn) (*counting, error) {
	var c *counting
	err := i.update(ctx, func(tx *store.Tx) error {
		c = &counting{Insight: i, turn: turn{i.holder, row.renewal + 1, time.Now()}, nodes: make(numbering), pending: newPending(),
			routes: newListing(), firsts: &firsts{}, presence: newPresences(), taken: make(chan struct{}, 1)}
		if err := compareAndSwap(ctx, tx, "holder = ?, renewal = renewal + 1", []any{i.holder}, row); err != nil {
			return err
		}
		return c.load(ctx, tx)
	})
	if err != nil {
		return nil, err
	}
	c.stored = c.progress
	i.lag.counts(c.progress.sequence)
	return c, nil
}

// renew says that this node still counts.
func (i *Insight) renew(ctx context.Context, t *turn) error {
	began := time.Now()
	err := i.update(ctx, func(tx *store.Tx) error {
		return compareAndSwap(ctx, tx, "renewal = renewal + 1", nil, *t)
	})
	if err == nil {
		t.renewal, t.renewed = t.renewal+1, began
	}
	return err
}

// release hands the turn over to whoever looks first.
func (i *Insight) release(ctx context.Context, t turn) error {
	return i.update(ctx, func(tx *store.Tx) error {
		return compareAndSwap(ctx, tx, "holder = '', renewal = renewal + 1", nil, t)
	})
}

// compareAndSwap changes the stream's row if it is as expected. It comes first in a transaction: a competitor waits for the row.
func compareAndSwap(ctx context.Context, tx *store.Tx, set string, values []any, expected turn) error {
	result, err := tx.ExecContext(ctx, "UPDATE ingest_stream SET "+set+" WHERE name = ? AND holder = ? AND renewal = ?",
		append(values, fieldgate.StreamRecords, expected.holder, expected.renewal)...)
	if err != nil {
		return err
	}
	changed, err := result.RowsAffected()
	if err == nil && changed != 1 {
		err = errTurnOver
	}
	return err
}

// load reads how far was counted.
func (c *counting) load(ctx context.Context, tx *store.Tx) error {
	var sequence int64
	err := tx.QueryRowContext(ctx, "SELECT created, sequence FROM ingest_stream WHERE name = ?", fieldgate.StreamRecords).
		Scan(&c.progress.created, &sequence)
	if err != nil {
		return err
	}
	c.progress.sequence = uint64(sequence)
	err = each(ctx, tx, "SELECT node, epoch, next, lost, gaps FROM ingest_node", nil, func(rows *sql.Rows) error {
		var key nodeKey
		var p progress
		var epoch, gaps string
		var next, lost int64
		err := rows.Scan(&key.node, &epoch, &next, &lost, &gaps)
		if err != nil {
			return err
		}
		p.next, p.lost = uint64(next), uint64(lost)
		if key.epoch, err = strconv.ParseUint(epoch, 10, 64); err != nil {
			return err
		}
		if p.gaps, err = parseGaps(gaps); err != nil {
			return err
		}
		for _, g := range p.gaps { // lost includes them, for whoever reads the table
			p.lost -= g.end - g.first
		}
		c.nodes[key] = &p
		return nil
	})
	if err != nil {
		return err
	}
	err = each(ctx, tx, "SELECT protocol, method, route, api FROM route", nil, func(rows *sql.Rows) error {
		var key routeKey
		err := rows.Scan(&key.protocol, &key.method, &key.route, &key.api)
		c.routes.add(key)
		return err
	})
	if err != nil {
		return err
	}
	return each(ctx, tx, "SELECT subject, model, name FROM first_seen", nil, func(rows *sql.Rows) error {
		var key firstKey
		err := rows.Scan(&key.subject, &key.model, &key.name)
		(*c.firsts)[key] = true
		return err
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
