package insight

import (
	"context"
	"database/sql"
	"time"

	"fieldgate/engine/store"
)

// Routes that are listed. Those that were refused have a share of their own, because anybody can ask for what is not there: a
// scanner must not displace what a pass-through API lets pass.
const (
	maxPassedRoutes  = 1_000
	maxRefusedRoutes = 1_000

	routeRetention   = hourRetention
	refusedRetention = time.Hour // once the share is full, so that there is place for what is asked for now
)

// listing is the routes that have a row, stored or pending.
type listing struct {
	routes  map[routeKey]bool
	refused int
}

func newListing() *listing { return &listing{routes: make(map[routeKey]bool)} }

// admit says whether a route is listed, and lists it if there is place.
func (l *listing) admit(key routeKey) bool {
	if l.routes[key] {
		return true
	}
	if key.refused() && l.full() || !key.refused() && len(l.routes)-l.refused >= maxPassedRoutes {
		return false
	}
	l.add(key)
	return true
}

func (l *listing) full() bool { return l.refused >= maxRefusedRoutes }

func (l *listing) add(key routeKey) {
	l.routes[key] = true
	if key.refused() {
		l.refused++
	}
}

func (l *listing) remove(keys []routeKey) {
	for _, key := range keys {
		delete(l.routes, key)
		if key.refused() {
			l.refused--
		}
	}
}

// refused says that no API let the route pass.
func (k routeKey) refused() bool { return k.api == "" }

// prune deletes the rows of routes that have not been seen for long, and names them.
func (l *listing) prune(ctx context.Context, tx *store.Tx) (gone []routeKey, err error) {
	refusedBefore := tx.Now.Add(-routeRetention)
	if l.full() {
		refusedBefore = tx.Now.Add(-refusedRetention)
	}
	err = each(ctx, tx, `DELETE FROM route WHERE last_seen < ? OR api = '' AND last_seen < ? RETURNING protocol, method, route, api`,
		[]any{tx.Now.Add(-routeRetention).UnixMilli(), refusedBefore.UnixMilli()}, func(rows *sql.Rows) error {
			var key routeKey
			err := rows.Scan(&key.protocol, &key.method, &key.route, &key.api)
			gone = append(gone, key)
			return err
		})
	return gone, err
}
