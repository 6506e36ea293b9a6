package contract

import (
	"fmt"
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

// Conflicts lists the routes that candidate shares with live contracts. Retired and superseded ones serve nothing. A
// pass-through route gives way to a contract's; two equal pass-through routes conflict.
func Conflicts(candidate *fieldgate.Contract, live []*fieldgate.Contract) []Conflict {
	claimed := make(map[string][]claim)
	for _, k := range live {
		if k.State == fieldgate.LifecycleRetired || k.State == fieldgate.LifecycleSuperseded {
			continue
		}
		if k.API == candidate.API && k.Version == candidate.Version {
			continue // the same version published again
		}
		for i := range k.Operations {
			for _, r := range routesOf(&k.Operations[i]) {
				claimed[r.key] = append(claimed[r.key], claim{r.host, k, &k.Operations[i]})
			}
		}
	}
	var conflicts []Conflict
	for i := range candidate.Operations {
		op := &candidate.Operations[i]
		for _, r := range routesOf(op) {
			for _, other := range claimed[r.key] {
				if r.host != "" && other.host != "" && r.host != other.host {
					continue
				}
				conflicts = append(conflicts, Conflict{
					Route: r.text, API: candidate.API, Version: candidate.Version, Operation: op.ID,
					LiveAPI: other.contract.API, LiveVersion: other.contract.Version, LiveOperation: other.operation.ID,
					Superseding: other.contract.API == candidate.API,
				})
			}
		}
	}
	return conflicts
}

type claim struct {
	host      string
	contract  *fieldgate.Contract
	operation *fieldgate.Operation
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
