package contract

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"fieldgate"
)

// Conflict says that an operation of a candidate claims a route that a live operation already serves.
type Conflict struct {
	Route string `json:"route"` // such as "HTTP POST /devices/{deviceId}/telemetry"

	API       string `json:"api"` // the candidate's
	Version   string `json:"version"`
	Operation string `json:"operation"`

	LiveAPI       string `json:"liveApi"`
	LiveVersion   string `json:"liveVersion"`
	LiveOperation string `json:"liveOperation"`

	// Superseding: both are versions of one API, so that the candidate takes the route over.
	Superseding bool `json:"superseding"`
}

// String is a sentence for the operator who publishes.
func (c Conflict) String() string {
	verb := "is already served by"
	if c.Superseding {
		verb = "will be taken over from"
	}
	return fmt.Sprintf("%s of %s %s (operation %s) %s %s %s (operation %s)", c.Route, c.API, c.Version, c.Operation, verb, c.LiveAPI, c.LiveVersion, c.LiveOperation)
}

// Routes is which live contract serves which route, for those who ask more than once: a question costs what the candidate has of
// routes, however many contracts are live. It is not safe for concurrent use.
type Routes struct {
	claimed   map[string][]claim  // by route.key
	contracts map[served][]string // keys of each contract
}

type served struct{ api, version string }

// claim is a route of a live operation.
type claim struct {
	served
	host, operation string
}

// Add enters the routes of a contract in place of those that this version of the API had before.
func (r *Routes) Add(k *fieldgate.Contract) {
	if r.claimed == nil {
		r.claimed, r.contracts = make(map[string][]claim), make(map[served][]string)
	}
	r.Remove(k.API, k.Version)
	by := served{k.API, k.Version}
	keys := []string{}
	for i := range k.Operations {
		for _, route := range routesOf(&k.Operations[i]) {
			// Routes with other hosts may have the same key: in one order, whenever they were published.
			claims := append(r.claimed[route.key], claim{by, route.host, k.Operations[i].ID})
			slices.SortStableFunc(claims, func(a, b claim) int {
				return cmp.Or(strings.Compare(a.api, b.api), strings.Compare(a.version, b.version))
			})
			r.claimed[route.key] = claims
			keys = append(keys, route.key)
		}
	}
	r.contracts[by] = keys
}

// Remove takes out the routes of a version of an API.
func (r *Routes) Remove(api, version string) {
	by := served{api, version}
	for _, key := range r.contracts[by] {
		left := slices.DeleteFunc(r.claimed[key], func(c claim) bool { return c.served == by })
		if r.claimed[key] = left; len(left) == 0 {
			delete(r.claimed, key)
		}
	}
	delete(r.contracts, by)
}

// Conflicts lists the routes that candidate shares with others, or with other versions of its API.
func (r *Routes) Conflicts(candidate *fieldgate.Contract) (conflicts []Conflict) {
	for i := range candidate.Operations {
		op := &candidate.Operations[i]
		for _, route := range routesOf(op) {
			for _, other := range r.claimed[route.key] {
				if other.served == (served{candidate.API, candidate.Version}) {
					continue // the same version published again
				}
				if route.host != "" && other.host != "" && route.host != other.host {
					continue
				}
				conflicts = append(conflicts, Conflict{
					Route: route.text, API: candidate.API, Version: candidate.Version, Operation: op.ID,
					LiveAPI: other.api, LiveVersion: other.version, LiveOperation: other.operation,
					Superseding: other.api == candidate.API,
				})
			}
		}
	}
	return conflicts
}

// route is one way to reach an operation. Routes with one key collide, unless both have a host and the hosts differ.
type route struct {
	key, host, text string
}

func routesOf(op *fieldgate.Operation) []route {
	var routes []route
	if op.PassThrough {
		if h := op.HTTP; h != nil {
			routes = append(routes, route{"prefix http " + h.Path, h.Host, "HTTP " + h.Host + h.Path + "*"})
		}
		if m := op.MQTT; m != nil {
			routes = append(routes, route{"filter mqtt " + m.Topic, "", "MQTT " + m.Topic})
		}
		if b := op.CoAP; b != nil {
			routes = append(routes, route{"prefix coap " + b.Path, "", "CoAP " + b.Path + "*"})
		}
		return routes
	}
	if h := op.HTTP; h != nil {
		routes = append(routes, route{"http " + h.Method.String() + " " + templateShape(h.Path) + conditionText(h.Conditions), h.Host, "HTTP " + h.Method.String() + " " + h.Host + h.Path + conditionText(h.Conditions)})
	}
	if b := op.CoAP; b != nil {
		routes = append(routes, route{"coap " + b.Method.String() + " " + templateShape(b.Path), "", "CoAP " + b.Method.String() + " " + b.Path})
	}
	if m := op.MQTT; m != nil && m.Action == fieldgate.ActionPublish {
		routes = append(routes, route{"mqtt publish " + templateShape(m.Topic), "", "MQTT publish " + m.Topic})
	}
	return routes
}

// conditionText tells apart routes that differ by what a request must say.
func conditionText(conditions []fieldgate.Condition) string {
	var text strings.Builder
	for _, c := range conditions {
		if c.MediaType != "" {
			fmt.Fprintf(&text, " (media type %s)", c.MediaType)
		} else {
			fmt.Fprintf(&text, " (%s: %s)", c.Field, c.Value)
		}
	}
	return text.String()
}
