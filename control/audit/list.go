package audit

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldgate/control/filter"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// Keys is what the list is filtered by; words are searched in actor and target.
var Keys = []filter.Key{{Name: "actor"}, {Name: "action"}, {Name: "target"}, {Name: "since", Since: true}}

var keyColumns = map[string]filter.Column{"actor": {Name: "actor"}, "action": {Name: "action"}, "target": {Name: "target"}, "since": {Name: "time"}, "noun": {Name: "noun"}}

// Filter selects decisions; empty members select all.
type Filter struct {
	Terms filter.Filter // with Keys
	After string        // Entry.Key of the entry that the page follows
	Limit int
}

// byNoun selects all actions of a noun, such as device.*, by a column that has an index in the order of the list.
func byNoun(terms filter.Filter) filter.Filter {
	rendered := make(filter.Filter, len(terms))
	for i, t := range terms {
		rendered[i] = t
		if t.Key != "action" || slices.ContainsFunc(t.Values, func(v filter.Value) bool { return !v.Prefix || strings.Index(v.Text, ".") != len(v.Text)-1 }) {
			continue
		}
		nouns := make([]filter.Value, len(t.Values))
		for j, v := range t.Values {
			nouns[j].Text = strings.TrimSuffix(v.Text, ".")
		}
		rendered[i].Key, rendered[i].Values = "noun", nouns
	}
	return rendered
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

// List is one page of decisions, the newest first. Every key has an index in that order.
func List(ctx context.Context, db *store.Store, wanted Filter) (entries []Entry, err error) {
	milliseconds, id := int64(math.MaxInt64), int64(0) // before everything that there is
	if wanted.After != "" {
		if milliseconds, id, err = parseKey(wanted.After); err != nil {
			return nil, err
		}
	}
	query, values := "SELECT "+columns+" FROM audit WHERE (time, id) < (?, ?)", []any{milliseconds, id}
	if conditions, filtered := byNoun(wanted.Terms).Where(keyColumns, "actor", "target"); conditions != "" {
		query, values = query+" AND "+conditions, append(values, filtered...)
	}
	return read(ctx, db, query+" ORDER BY time DESC, id DESC LIMIT ?", append(values, wanted.Limit)...)
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
