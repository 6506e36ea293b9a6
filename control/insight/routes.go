package insight

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"fieldgate"
	"fieldgate/control/filter"
	"fieldgate/engine/store"
)

// Route is a route or topic that no contract explains.
type Route struct {
	Protocol  fieldgate.Protocol
	Method    fieldgate.Method
	Route     string
	API       string // the pass-through API that let it pass; empty when it was refused
	Exchanges uint64
	Principal string // the newest one
	First     time.Time
	Last      time.Time
}

// RouteKeys are the keys by which undocumented routes are filtered; a word searches in the route.
var RouteKeys = []filter.Key{{Name: "protocol", Values: protocolValues()}, {Name: "api"}, {Name: "method", Values: methodValues()}, {Name: "since", Since: true}}

func methodValues() (names []string) {
	for m := range fieldgate.Methods {
		names = append(names, m.String())
	}
	return names
}

var routeColumns = map[string]filter.Column{"api": {Name: "api"}, "since": {Name: "last_seen"},
	"protocol": {Name: "protocol", Value: func(text string) any {
		p, known := fieldgate.ParseProtocol(text)
		if !known {
			return -1
		}
		return int(p)
	}},
	"method": {Name: "method", Value: func(text string) any {
		for m := range fieldgate.Methods {
			if m.String() == text {
				return int(m)
			}
		}
		return -1
	}}}

// UndocumentedPage lists routes that no contract explains, most seen first, after the one where the last page ended, as it was
// then; nil begins. overflow is how many exchanges came on routes that are not listed because there were too many.
func (i *Insight) UndocumentedPage(ctx context.Context, f filter.Filter, after *Route, limit int) (routes []Route, overflow uint64, err error) {
	err = i.store.View(ctx, func(tx *store.Tx) error {
		routes = nil
		if overflow, err = tx.Counter(ctx, "routes_overflow"); err != nil {
			return err
		}
		where, values := "1 = 1", []any(nil)
		if conditions, more := f.Where(routeColumns, "route"); conditions != "" {
			where, values = conditions, more
		}
		if after != nil {
			where += " AND (exchanges, route, api, protocol, method) < (?, ?, ?, ?, ?)"
			values = append(values, int64(after.Exchanges), after.Route, after.API, int(after.Protocol), int(after.Method))
		}
		return each(ctx, tx, `SELECT protocol, method, route, api, exchanges, principal, first_seen, last_seen FROM route WHERE `+where+`
			ORDER BY exchanges DESC, route DESC, api DESC, protocol DESC, method DESC LIMIT ?`, append(values, limit), func(rows *sql.Rows) error {
			var r Route
			var first, last int64
			err := rows.Scan(&r.Protocol, &r.Method, &r.Route, &r.API, &r.Exchanges, &r.Principal, &first, &last)
			r.First, r.Last = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
			routes = append(routes, r)
			return err
		})
	})
	if err != nil {
		return nil, 0, fmt.Errorf("undocumented routes: %w", err)
	}
	return routes, overflow, nil
}
