package insight

import (
	"context"
	"database/sql"
	"time"

	"fieldgate/engine/store"
)

// Subjects of first_seen.
const (
	firstModel    = "model"
	firstFirmware = "firmware"
	firstFinding  = "finding"
)

// maxFirsts bounds the models and firmware versions that are remembered.
const maxFirsts = 10_000

type firstKey struct{ subject, model, name string }

// firsts is the models and firmware versions that have a row, stored or pending.
type firsts map[firstKey]bool

// isNew lists what was never seen before, if there is place.
func (f *firsts) isNew(key firstKey) bool {
	if key.model == "" || key.subject == firstFirmware && key.name == "" || (*f)[key] || len(*f) >= maxFirsts {
		return false
	}
	(*f)[key] = true
	return true
}

// First is something that was seen in traffic for the first time: a device model, a firmware version of a model, or a finding.
type First struct {
	Subject                 string // model, firmware or finding
	Time                    time.Time
	Model, Firmware         string // of a model and a firmware version
	API, Version, Operation string // of a finding
	Finding                 string
	Severity                Severity
}

// FirstSeen lists what was first seen since a moment, newest first.
func (i *Insight) FirstSeen(ctx context.Context, since time.Time, limit int) (list []First, err error) {
	err = i.store.View(ctx, func(tx *store.Tx) error {
		list = nil
		return each(ctx, tx, `SELECT subject, time, model, name, '' AS api, '' AS version, '' AS operation, '' AS finding, 0 AS severity
			FROM first_seen WHERE time >= ?
			UNION ALL SELECT 'finding', first_seen, '', '', api, version, operation, finding, severity FROM finding WHERE first_seen >= ?
			ORDER BY 2 DESC, 1, 3, 4, 5, 6, 7, 8 LIMIT ?`, []any{since.UnixMilli(), since.UnixMilli(), limit}, func(rows *sql.Rows) error {
			var f First
			var at int64
			err := rows.Scan(&f.Subject, &at, &f.Model, &f.Firmware, &f.API, &f.Version, &f.Operation, &f.Finding, &f.Severity)
			f.Time = time.UnixMilli(at).UTC()
			list = append(list, f)
			return err
		})
	})
	return list, err
}
