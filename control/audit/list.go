package audit

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// Filter selects decisions; empty members select all.
type Filter struct {
	Actor  string
	Action string // one action, or all of a noun when it ends with a dot, such as "device."
	Target string
	Since  time.Time // inclusive
	Until  time.Time // exclusive
	After  string    // Entry.Key of the entry that the page follows
	Limit  int
}

// Key orders entries, and stands for the place of one in a list.
func (e *Entry) Key() string {
	return strconv.FormatInt(e.Time.UnixMilli(), 10) + "." + strconv.FormatUint(e.ID, 10)
}

func parseKey(key string) (milliseconds, id int64, err error) {
	first, second, _ := strings.Cut(key, ".")
	if milliseconds, err = strconv.ParseInt(first, 10, 64); err == nil {
		id, err = strconv.ParseInt(second, 10, 64)
	}
	if err != nil {
		return 0, 0, refusal.Invalid("The cursor is none that a page gave: leave it out to begin with the first page.")
	}
	return milliseconds, id, nil
}

// List is one page of decisions, the newest first. Every filter has an index in that order.
func List(ctx context.Context, db *store.Store, filter Filter) (entries []Entry, err error) {
	var conditions []string
	var values []any
	where := func(condition string, v ...any) {
		conditions, values = append(conditions, condition), append(values, v...)
	}
	if filter.Actor != "" {
		where("actor = ?", filter.Actor)
	}
	if noun, isNoun := strings.CutSuffix(filter.Action, "."); isNoun {
		where("noun = ?", noun)
	} else if filter.Action != "" {
		where("action = ?", filter.Action)
	}
	if filter.Target != "" {
		where("target = ?", filter.Target)
	}
	if !filter.Since.IsZero() {
		where("time >= ?", filter.Since.UnixMilli())
	}
	if !filter.Until.IsZero() {
		where("time < ?", filter.Until.UnixMilli())
	}
	if filter.After != "" {
		milliseconds, id, err := parseKey(filter.After)
		if err != nil {
			return nil, err
		}
		where("(time, id) < (?, ?)", milliseconds, id)
	}
	query := "SELECT " + columns + " FROM audit"
	if conditions != nil {
		query += " WHERE " + strings.Join(conditions, " AND ")
	}
	return read(ctx, db, query+" ORDER BY time DESC, id DESC LIMIT ?", append(values, filter.Limit)...)
}

func read(ctx context.Context, db *store.Store, query string, values ...any) (entries []Entry, err error) {
	err = db.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.QueryContext(ctx, query, values...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e Entry
			var at int64
			var was, became string
			err := rows.Scan(&e.ID, &at, &e.Actor.Name, &e.Actor.Via, &e.Actor.Source, &e.Actor.Request, &e.Action, &e.Target, &e.Detail, &was, &became)
			if err != nil {
				return err
			}
			e.Time, e.Before, e.After = time.UnixMilli(at).UTC(), object(was), object(became)
			entries = append(entries, e)
		}
		return rows.Err()
	})
	return entries, err
}

func object(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}
