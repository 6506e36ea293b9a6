package insight

// Routes that are listed. Those that were refused have a share of their own, because anybody can ask for what is not there: a
// scanner must not displace what a pass-through API lets pass.
const (
	maxPassedRoutes  = 1_000
	maxRefusedRoutes = 1_000
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
	if l.routes[key] {
		return
	}
	l.routes[key] = true
	if key.refused() {
		l.refused++
	}
}

func (l *listing) remove(keys []routeKey) {
	for _, key := range keys {
		if !l.routes[key] {
			continue
		}
		delete(l.routes, key)
		if key.refused() {
			l.refused--
		}
	}
}

// refused says that no API let the route pass.
func (k routeKey) refused() bool { return k.api == "" }
