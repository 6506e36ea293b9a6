package insight

import (
	"strconv"
	"strings"

	"fieldgate"
	"fieldgate/control/filter"
)

// TrafficKeys are the keys by which live exchanges are filtered; a word searches in principal, operation, route and detail.
var TrafficKeys = []filter.Key{{Name: "protocol", Values: protocolValues()}, {Name: "api"}, {Name: "version"}, {Name: "operation"}, {Name: "principal"},
	{Name: "device"}, {Name: "app"}, {Name: "kind"}, {Name: "model"}, {Name: "firmware"},
	{Name: "status", Values: []string{"2xx", "3xx", "4xx", "5xx", "ok", "denied", "failed"}, Numbers: true}, {Name: "problem"},
	{Name: "finding", Values: fieldgate.Findings(^uint32(0)).Names()}, {Name: "node"}, {Name: "since", Since: true}}

func protocolValues() (names []string) {
	for p := range fieldgate.Protocols {
		names = append(names, p.String())
	}
	return names
}

// Filter selects exchanges by TrafficKeys: those that all terms select.
type Filter struct{ Terms filter.Filter }

func (f *Filter) matches(e *Exchange) bool {
	for i := range f.Terms {
		if !matches(&f.Terms[i], e) {
			return false
		}
	}
	return true
}

// matches compares with what an exchange has for the term's key.
func matches(t *filter.Term, e *Exchange) bool {
	switch t.Key {
	case "":
		return t.Finds(e.Principal, e.Operation, e.Route, e.Detail)
	case "protocol":
		return t.Matches(e.Protocol.String())
	case "api":
		return t.Matches(e.API)
	case "version":
		return t.Matches(e.Version)
	case "operation":
		return t.Matches(e.Operation)
	case "principal":
		return t.Matches(e.Principal)
	case "device":
		return e.Kind == fieldgate.PrincipalDevice && t.Matches(e.Principal) || e.Kind != fieldgate.PrincipalDevice && t.Not
	case "app":
		return e.Kind == fieldgate.PrincipalApp && t.Matches(e.Principal) || e.Kind != fieldgate.PrincipalApp && t.Not
	case "kind":
		return t.Matches(string(e.Kind))
	case "model":
		return t.Matches(e.Model)
	case "firmware":
		return t.Matches(e.Firmware)
	case "problem":
		return t.Matches(string(e.Problem))
	case "node":
		return t.Matches(e.Node)
	case "finding":
		return matchesFinding(t, e.Findings)
	case "status":
		return matchesStatus(t, e.Status)
	case "since":
		for _, v := range t.Values {
			if !e.Time.Before(v.Time) {
				return !t.Not
			}
		}
		return t.Not
	}
	return false // no such key: nothing is selected, rather than all
}

func matchesFinding(t *filter.Term, findings fieldgate.Findings) bool {
	for _, v := range t.Values {
		if v.Prefix {
			return t.Matches(findings.Names()...) // rare: it makes a list
		}
		if fieldgate.ParseFinding(v.Text)&findings != 0 {
			return !t.Not
		}
	}
	return t.Not
}

func matchesStatus(t *filter.Term, status int) bool {
	for _, v := range t.Values {
		if statusIs(v, status) {
			return !t.Not
		}
	}
	return t.Not
}

func statusIs(v filter.Value, status int) bool {
	switch v.Text {
	case "ok":
		return status < 400
	case "denied":
		return status/100 == 4
	case "failed":
		return status >= 500
	}
	if len(v.Text) == 3 && v.Text[1:] == "xx" {
		return status/100 == int(v.Text[0]-'0')
	}
	if v.Prefix {
		return strings.HasPrefix(strconv.Itoa(status), v.Text)
	}
	number, err := strconv.Atoi(v.Text)
	return err == nil && number == status
}
