package directory

import (
	"context"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/control/filter"
	"fieldgate/engine/store"
)

var states = filter.Key{Name: "state", Values: []string{fieldgate.StateActive.String(), fieldgate.StateQuarantined.String(), fieldgate.StateRevoked.String()}}

// What lists of devices and of apps are filtered by. protocol and since ask for the presence: how and when they were last seen.
var (
	DeviceKeys = []filter.Key{states, {Name: "model"}, {Name: "firmware"}, {Name: "protocol", Values: protocols()}, {Name: "since", Since: true}, {Name: "id"}}
	AppKeys    = []filter.Key{states, {Name: "scope"}, {Name: "id"}}
)

func protocols() (names []string) {
	for p := range fieldgate.Protocols {
		names = append(names, p.String())
	}
	return names
}

var keyColumns = map[string]filter.Column{
	"state": {Name: "principal.state", Value: func(text string) any {
		state, _ := fieldgate.ParsePrincipalState(text)
		return int(state)
	}},
	"model":    {Name: "principal.model"},
	"firmware": {Name: "principal.firmware"},
	"id":       {Name: "principal.id"},
	"scope":    {Name: "principal.scopes", List: true},
	"protocol": {Name: "COALESCE(seen.protocol, -1)", Value: func(text string) any {
		protocol, _ := fieldgate.ParseProtocol(text)
		return int(protocol)
	}},
	"since": {Name: "COALESCE(seen.last_seen, 0)"},
}

// Filter selects principals of one kind; empty members select all.
type Filter struct {
	Kind     fieldgate.PrincipalKind
	Terms    filter.Filter // with DeviceKeys or AppKeys; a word is the beginning of an id
	LastSeen bool          // the most recently seen first, and only those that were seen; else in the order of ids
	After    Place         // where the page before ended
	Limit    int
}

// Place is the place of a principal in a list. The zero Place is the beginning.
type Place struct {
	ID   string
	Seen time.Time // in a list by LastSeen
}

// Listed is a principal in a list, and when it was last seen, if the order is by that.
type Listed struct {
	*Principal
	Seen time.Time
}

// List is one page of principals.
func List(ctx context.Context, db *store.Store, wanted Filter) (page []Listed, err error) {
	query, values := wanted.sql()
	err = db.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.QueryContext(ctx, query, values...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var seen int64
			p, err := scan(scanner(func(columns ...any) error { return rows.Scan(append(columns, &seen)...) }))
			if err != nil {
				return err
			}
			page = append(page, Listed{p, time.UnixMilli(seen).UTC()})
		}
		return rows.Err()
	})
	return page, err
}

type scanner func(...any) error

func (s scanner) Scan(columns ...any) error { return s(columns...) }

const listed = "principal.kind, principal.id, principal.sequence, principal.state, principal.name, principal.model, principal.firmware, principal.scopes, " +
	"principal.credentials, principal.verifiers, principal.psk_identity, principal.psk, principal.certificates, principal.oscore, principal.created, principal.updated"

func (f *Filter) sql() (query string, values []any) {
	terms, from, to := f.idRange()
	conditions, more := terms.Where(keyColumns)
	if conditions != "" {
		conditions = " AND " + conditions
	}
	if f.LastSeen {
		return f.byLastSeen(conditions, more, from, to)
	}
	join := ""
	if f.Terms.Has("protocol") || f.Terms.Has("since") {
		join = " LEFT JOIN presence AS seen ON seen.kind = principal.kind AND seen.id = principal.id"
	}
	// One lower bound only: of two the database may search by the one that excludes little.
	if f.After.ID != "" {
		from = max(from, f.After.ID+"!") // precedes every character that an id can have
	}
	where, bounds := idBounds("principal.id", from, to)
	values = append(append([]any{f.Kind}, bounds...), more...)
	return "SELECT " + listed + ", 0 FROM principal" + join + " WHERE principal.kind = ?" + where + conditions + " ORDER BY principal.id LIMIT ?", append(values, f.Limit)
}

// idBounds says nothing of a bound that there is not, which would make the database prefer the index of ids to a better one.
func idBounds(column, from, to string) (where string, values []any) {
	if from != "" {
		where, values = " AND "+column+" >= ?", append(values, from)
	}
	if to != "" {
		where, values = where+" AND "+column+" < ?", append(values, to)
	}
	return where, values
}

// idRange takes the beginning of ids out of the terms.
func (f *Filter) idRange() (rest filter.Filter, from, to string) {
	for i, t := range f.Terms {
		if (t.Key == "id" || t.Key == "") && !t.Not && len(t.Values) == 1 && (t.Values[0].Prefix || t.Key == "") && fieldgate.ValidIdentifier(t.Values[0].Text) {
			from, to = t.Values[0].Text, t.Values[0].Text+"\x7f" // follows every character that an id can have
			rest = append(rest, f.Terms[i+1:]...)
			break
		}
		rest = append(rest, t)
	}
	return rest.WordsBegin("id"), from, to
}

// byLastSeen merges the newest of each protocol, which one index holds in order.
func (f *Filter) byLastSeen(conditions string, more []any, from, to string) (query string, values []any) {
	at, id := f.After.Seen.UnixMilli(), f.After.ID
	if id == "" {
		at = 1 << 62
	}
	where, bounds := idBounds("seen.id", from, to) // of the principal it would keep SQLite from finding it by its whole key
	var branches []string
	for p := range fieldgate.Protocols {
		// CROSS JOIN keeps SQLite from beginning with the principals.
		branches = append(branches, "SELECT * FROM (SELECT "+listed+`, seen.last_seen FROM presence AS seen CROSS JOIN principal
			WHERE seen.kind = ? AND seen.protocol = ? AND (seen.last_seen, seen.id) < (?, ?) AND principal.kind = seen.kind AND principal.id = seen.id`+where+conditions+` ORDER BY seen.last_seen DESC, seen.id DESC LIMIT ?) AS newest_`+p.String())
		values = append(append(values, f.Kind, int(p), at, id), bounds...)
		values = append(append(values, more...), f.Limit)
	}
	return strings.Join(branches, " UNION ALL ") + " ORDER BY last_seen DESC, id DESC LIMIT ?", append(values, f.Limit)
}
