// Package audit keeps who decided what: one row in the same transaction as each decision, so that neither is there without
// the other.
package audit

import (
	"context"
	"time"

	"fieldgate/engine/store"
)

// Entry is one decision.
type Entry struct {
	ID     uint64
	Time   time.Time
	Actor  string
	Action string // such as device.revoke
	Target string
	Detail string
}

// Write adds a decision to the transaction that carries it out.
func Write(ctx context.Context, tx *store.Tx, actor, action, target, detail string) error {
	id, err := tx.Next(ctx, "audit")
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO audit (id, time, actor, action, target, detail) VALUES (?, ?, ?, ?, ?, ?)",
		int64(id), tx.Now.UnixMilli(), actor, action, target, detail)
	return err
}

// List is the newest decisions first, older than before unless that is 0, at the most limit.
func List(ctx context.Context, db *store.Store, before uint64, limit int) (entries []Entry, err error) {
	err = db.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.QueryContext(ctx, `
			SELECT id, time, actor, action, target, detail FROM audit
			WHERE id < ? OR ? = 0 ORDER BY id DESC LIMIT ?`, int64(before), int64(before), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var entry Entry
			var at int64
			if err := rows.Scan(&entry.ID, &at, &entry.Actor, &entry.Action, &entry.Target, &entry.Detail); err != nil {
				return err
			}
			entry.Time = time.UnixMilli(at).UTC()
			entries = append(entries, entry)
		}
		return rows.Err()
	})
	return entries, err
}
