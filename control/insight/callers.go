package insight

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"fieldgate/engine/store"
)

// Caller is a firmware version of a model that calls a version of an API. Both are empty where they are not known, and
// "(other)" stands for those beyond the bound that are told apart in a day.
type Caller struct {
	Model, Firmware string
	Exchanges       uint64
	LastSeen        time.Time
	Operations      []OperationCaller // in the order of their names
}

// OperationCaller is how a firmware version calls one operation.
type OperationCaller struct {
	Operation string
	Exchanges uint64
	LastSeen  time.Time
}

// Callers lists which firmware of devices called a version in the days since a moment (UTC, at most 30), busiest first.
func (i *Insight) Callers(ctx context.Context, api, version string, since time.Time) ([]Caller, error) {
	uses := make(map[use]useCount)
	err := i.store.View(ctx, func(tx *store.Tx) error {
		clear(uses)
		from := since.Unix()
		var packed []byte
		return each(ctx, tx, "SELECT uses FROM firmware_use WHERE start >= ? AND api = ? AND version = ?", []any{from - from%day, api, version},
			func(rows *sql.Rows) error {
				if err := rows.Scan(&packed); err != nil {
					return err
				}
				return unpackUses(packed, func(u use, n useCount) {
					before := uses[u]
					uses[u] = useCount{before.exchanges + n.exchanges, max(before.last, n.last)}
				})
			})
	})
	if err != nil {
		return nil, fmt.Errorf("callers of %s %s: %w", api, version, err)
	}
	callers := make(map[[2]string]*Caller)
	for _, u := range slices.SortedFunc(maps.Keys(uses), func(a, b use) int { return cmp.Compare(a.operation, b.operation) }) {
		n := uses[u]
		last := time.Unix(int64(n.last), 0).UTC()
		if last.Before(since.Truncate(time.Second)) {
			continue // that day, but before
		}
		key := [2]string{u.model, u.firmware}
		if callers[key] == nil {
			callers[key] = &Caller{Model: u.model, Firmware: u.firmware}
		}
		c := callers[key]
		c.Exchanges += n.exchanges
		if last.After(c.LastSeen) {
			c.LastSeen = last
		}
		c.Operations = append(c.Operations, OperationCaller{u.operation, n.exchanges, last})
	}
	list := make([]Caller, 0, len(callers))
	for _, c := range callers {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Caller) int {
		return cmp.Or(cmp.Compare(b.Exchanges, a.Exchanges), cmp.Compare(a.Firmware, b.Firmware), cmp.Compare(a.Model, b.Model))
	})
	return list, nil
}
