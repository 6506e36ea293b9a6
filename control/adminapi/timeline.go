package adminapi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"fieldgate/api"
	"fieldgate/control/audit"
	"fieldgate/control/filter"
	"fieldgate/control/insight"
)

const (
	// foldWithin is how far apart decisions of one kind by one operator may be to be told as one.
	foldWithin = 10 * time.Minute
	// timelineDecisions and timelineFirsts are how many are read for one page.
	timelineDecisions = 2000
	timelineFirsts    = 1000
)

// event is an entry of the timeline and where it stands.
type event struct {
	entry api.TimelineEntry
	place string // of the oldest decision in it, in the audit; empty for what was first seen
}

func (o *operations) GetTimeline(ctx context.Context, request GetTimelineRequestObject) (GetTimelineResponseObject, error) {
	p := request.Params
	page, err := newPage(p.Cursor, p.Limit, "timeline", p.Since)
	if err != nil {
		return nil, err
	}
	since, err := sinceOf(p.Since, "24h")
	if err != nil {
		return nil, err
	}
	// Where the last page ended: in the audit, and in what was first seen.
	parts, err := page.parts(3)
	if err != nil {
		return nil, err
	}
	if parts == nil {
		parts = []string{"", "", ""}
	}
	events, err := o.decisions(ctx, since, parts[0])
	if err != nil {
		return nil, err
	}
	firsts, err := o.firsts(ctx, since, parts[1], parts[2])
	if err != nil {
		return nil, err
	}
	events = append(events, firsts...)
	slices.SortStableFunc(events, func(a, b event) int { return b.entry.Time.Compare(a.entry.Time) })
	events, more := cut(events, page)
	answer := GetTimeline200JSONResponse{Items: []api.TimelineEntry{}}
	for _, e := range events {
		if e.place != "" {
			parts[0] = e.place
		} else {
			parts[1], parts[2] = timePart(e.entry.Time), e.entry.Text
		}
		answer.Items = append(answer.Items, e.entry)
	}
	if more {
		answer.Next = page.nextAt(parts...)
	}
	return answer, nil
}

// decisions are what operators decided, newest first; the like of one operator within minutes are one.
func (o *operations) decisions(ctx context.Context, since time.Time, after string) (events []event, err error) {
	// That somebody signed in is no decision.
	terms := filter.Filter{{Key: "since", Values: []filter.Value{{Time: since}}}, {Key: "action", Not: true, Values: []filter.Value{{Text: "session.", Prefix: true}}}}
	entries, err := audit.List(ctx, o.config.Store, audit.Filter{Terms: terms, After: after, Limit: timelineDecisions})
	if err != nil {
		return nil, err
	}
	newest := 0 // of the run
	for i := range entries {
		e := &entries[i]
		if n := len(events); n > 0 {
			run, last := &entries[newest], &entries[i-1]
			if run.Actor.Name == e.Actor.Name && run.Action == e.Action && last.Time.Sub(e.Time) <= foldWithin {
				events[n-1].entry.Count++
				events[n-1].place = e.Key()
				if e.Target != events[n-1].entry.Target {
					events[n-1].entry.Target = ""
				}
				continue
			}
		}
		newest = i
		events = append(events, event{place: e.Key(), entry: api.TimelineEntry{Time: e.Time, Kind: api.TimelineDecision, Actor: e.Actor.Name,
			Action: e.Action, Target: e.Target, Count: 1}})
	}
	for i := range events {
		d := &events[i].entry
		d.Text = decisionText(d.Actor, d.Action, d.Target, d.Count)
		if strings.HasPrefix(d.Action, "api.") {
			d.Api, d.Version, _ = strings.Cut(d.Target, " ")
		}
	}
	return events, nil
}

// deeds say what was done, by the action of the audit: with one target, and with several.
var deeds = map[string][2]string{
	"api.publish":       {"published %s", "published %d versions of APIs"},
	"api.deprecate":     {"deprecated %s", "deprecated %d versions of APIs"},
	"api.retire":        {"retired %s", "retired %d versions of APIs"},
	"api.restore":       {"restored %s", "restored %d versions of APIs"},
	"api.recompile":     {"compiled %s anew", "compiled %d contracts anew"},
	"device.add":        {"registered the device %s", "registered %d devices"},
	"device.import":     {"imported devices from %s on", "imported devices in %d parts"},
	"device.update":     {"changed the device %s", "made %d changes of devices"},
	"device.token":      {"issued a token for the device %s", "issued %d tokens for devices"},
	"device.quarantine": {"quarantined the device %s", "quarantined %d devices"},
	"device.release":    {"released the device %s", "released %d devices"},
	"device.revoke":     {"revoked the device %s", "revoked %d devices"},
	"app.add":           {"registered the app %s", "registered %d apps"},
	"app.update":        {"changed the app %s", "made %d changes of apps"},
	"app.key":           {"issued a key for the app %s", "issued %d keys for apps"},
	"app.revoke":        {"revoked the app %s", "revoked %d apps"},
	"operator.add":      {"added the operator %s", "added %d operators"},
	"operator.claim":    {"claimed the installation as %s", "claimed the installation %d times"},
	"operator.invite":   {"invited %s", "made %d invitations"},
	"operator.password": {"set the password of %s", "set %d passwords"},
	"operator.remove":   {"removed the operator %s", "removed %d operators"},
	"operator.update":   {"changed the operator %s", "made %d changes of operators"},
	"token.add":         {"made the API token %s", "made %d API tokens"},
	"token.revoke":      {"revoked the API token %s", "revoked %d API tokens"},
	"target.register":   {"registered an address of the upstream %s", "registered %d addresses of upstreams"},
	"target.update":     {"changed an address of the upstream %s", "made %d changes of addresses of upstreams"},
	"target.remove":     {"removed an address of the upstream %s", "removed %d addresses of upstreams"},
	"target.expire":     {"gave up an address of the upstream %s, whose registration was not renewed", "gave up %d addresses of upstreams, whose registrations were not renewed"},
}

func decisionText(actor, action, target string, count int64) string {
	deed, known := deeds[action]
	switch {
	case known && target != "" && count == 1:
		return actor + " " + fmt.Sprintf(deed[0], target)
	case known && target != "":
		return fmt.Sprintf("%s %s, %d times", actor, fmt.Sprintf(deed[0], target), count)
	case known:
		return actor + " " + fmt.Sprintf(deed[1], count)
	}
	text := actor + ": " + strings.ReplaceAll(action, ".", " ")
	if target != "" {
		text += " " + target
	}
	if count > 1 {
		text += fmt.Sprintf(", %d times", count)
	}
	return text
}

// firsts are what traffic showed for the first time, newest first, after the time and text of the last that was told.
func (o *operations) firsts(ctx context.Context, since time.Time, afterTime, afterText string) (events []event, err error) {
	list, err := o.config.Insight.FirstSeen(ctx, since, timelineFirsts)
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		events = append(events, event{entry: firstEntry(f)})
	}
	slices.SortFunc(events, func(a, b event) int {
		return cmp.Or(b.entry.Time.Compare(a.entry.Time), strings.Compare(a.entry.Text, b.entry.Text))
	})
	if afterTime == "" {
		return events, nil
	}
	after, err := parseTimePart(afterTime)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(events, func(e event) bool {
		return e.entry.Time.After(after) || e.entry.Time.Equal(after) && e.entry.Text <= afterText
	}), nil
}

func firstEntry(f insight.First) api.TimelineEntry {
	entry := api.TimelineEntry{Time: f.Time}
	switch f.Subject {
	case "model":
		entry.Kind, entry.Text = api.TimelineModel, fmt.Sprintf("First traffic of the device model %s", f.Model)
		entry.Filter = "model:" + filter.Quote(f.Model)
	case "firmware":
		entry.Kind, entry.Text = api.TimelineFirmware, fmt.Sprintf("First traffic of firmware %s on the device model %s", f.Firmware, f.Model)
		entry.Filter = "model:" + filter.Quote(f.Model) + " firmware:" + filter.Quote(f.Firmware)
	default:
		entry.Kind, entry.Text = api.TimelineFinding, "New finding: "+describeFinding(f.Finding, operationName(f.API, f.Version, f.Operation)).message
		entry.Api, entry.Version = f.API, f.Version
		entry.Filter = "finding:" + f.Finding
		if f.Operation != "" {
			entry.Filter += " api:" + filter.Quote(f.API) + " operation:" + filter.Quote(f.Operation)
		}
	}
	return entry
}
