package adminapi

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldgate/api"
	"fieldgate/control/catalog"
	"fieldgate/control/filter"
	"fieldgate/control/insight"
)

// words says what a finding means and what to do about it. In message, %s is the operation.
type words struct{ message, remedy string }

var findingWords = map[string]words{
	"undocumented": {"Traffic passes that no contract explains.",
		"Draft a contract for it from the undocumented routes, publish it, and retire the pass-through API in the end."},
	"unmatched": {"Callers ask for routes or topics that no API has; they are refused.",
		"If devices need them, draft a contract from the undocumented routes; if not, look who asks."},
	"invalid-request": {"%s is called with payloads or parameters that its contract forbids.",
		"Look at an exchange for the place that is wrong; then correct the firmware, or publish a contract that allows it."},
	"invalid-response": {"The service behind %s answers what its contract forbids.",
		"Correct the service, or publish a contract that describes its answers; until then callers get them as they are with check-answers: report, or 502 with enforce."},
	"shadowed": {"Invalid payloads of %s are let through, because its contract says on-invalid: shadow.",
		"When no firmware sends them any more, take on-invalid: shadow out of the contract."},
	"unauthenticated": {"%s is called without a valid credential.",
		"Issue the device or app a new token; where nobody knows the caller, look at its source."},
	"forbidden": {"Callers of %s lack a scope, or are of a kind that may not call it.",
		"Give the app the scope that the contract demands, if it should have it."},
	"not-owner": {"Devices call %s with the id of another device.",
		"Look which device it is: a wrong configuration is corrected there; otherwise quarantine it."},
	"quarantined": {"A quarantined device goes on calling %s; it is refused.",
		"Release it when it is well again, or revoke it."},
	"revoked": {"Somebody calls %s with what was revoked; it is refused.",
		"Take the device or app out of service where it stands; the credential may be in other hands."},
	"rate-limited": {"Callers of %s exceed its limits.",
		"Look who it is and whether the limit in the contract is right."},
	"deprecated": {"%s is deprecated and is still called.",
		"See which firmware calls it and move that to the successor before the sunset."},
	"retired": {"%s is retired and is still called; callers are answered 410 Gone.",
		"Update the firmware that calls it, or restore the version for a while."},
	"upstream": {"The service behind %s fails, or does not answer in time.",
		"Look at the service; callers are answered 502 or 504 meanwhile."},
	"malformed": {"Callers break the protocol itself; they are refused.",
		"Look at an exchange for its source and device: a faulty client, or somebody who tries."},
	"dropped": {"Messages of %s did not reach every subscriber.",
		"Look for subscribers that are too slow or away for too long, and whether the limits of the broker are right."},
}

// describeFinding says in words what was found.
func describeFinding(finding, operation string) words {
	w, known := findingWords[finding]
	if !known {
		return words{"Exchanges have the finding " + finding + ".", "Look at one of them."}
	}
	if operation == "" {
		operation = "An operation"
	}
	w.message = strings.ReplaceAll(w.message, "%s", operation)
	return w
}

func operationName(name, version, operation string) string {
	if operation == "" {
		return strings.TrimSpace(name + " " + version)
	}
	return fmt.Sprintf("%s of %s %s", operation, name, version)
}

func (o *operations) ListFindings(ctx context.Context, request ListFindingsRequestObject) (ListFindingsResponseObject, error) {
	p := request.Params
	page, err := newPage(p.Cursor, p.Limit, "findings", p.Filter)
	if err != nil {
		return nil, err
	}
	terms, err := filter.Parse(p.Filter, time.Now(), insight.FindingKeys...)
	if err != nil {
		return nil, err
	}
	after, err := findingAfter(page)
	if err != nil {
		return nil, err
	}
	list, err := o.config.Insight.Findings(ctx, terms, after, page.limit+1)
	if err != nil {
		return nil, err
	}
	list, more := cut(list, page)
	served, err := o.servedNow(ctx)
	if err != nil {
		return nil, err
	}
	answer := ListFindings200JSONResponse{Items: []api.Finding{}}
	for _, f := range list {
		w := describeFinding(f.Finding, operationName(f.API, f.Version, f.Operation))
		state, severity := served.stateOf(f)
		if state == api.FindingOngoing && f.Finding == "upstream" {
			missing, err := o.missingUpstream(ctx, served, f)
			if err != nil {
				return nil, err
			}
			if missing != "" {
				w = words{fmt.Sprintf("No gateway has the upstream %s, to which %s goes.", missing, operationName(f.API, f.Version, f.Operation)),
					"Add it to upstreams in the environment file and send the process SIGHUP; callers are answered 502 meanwhile."}
			}
		}
		example := f.Detail
		if example == "" {
			example = f.Route
		}
		answer.Items = append(answer.Items, api.Finding{Finding: api.FindingName(f.Finding), Severity: severity, State: state, Api: f.API,
			Version: f.Version, Operation: f.Operation, Exchanges: int64(f.Exchanges), FirstSeen: f.FirstSeen, LastSeen: f.LastSeen,
			Example: example, Principal: f.Principal, Message: w.message, Remedy: w.remedy})
	}
	if more {
		last := list[len(list)-1]
		answer.Next = page.nextAt(strconv.FormatBool(last.Ongoing), strconv.Itoa(int(last.Severity)), timePart(last.FirstSeen), last.API, last.Version, last.Operation, last.Finding)
	}
	return answer, nil
}

func findingAfter(page page) (*insight.Finding, error) {
	parts, err := page.parts(7)
	if err != nil || parts == nil {
		return nil, err
	}
	ongoing, err := strconv.ParseBool(parts[0])
	if err != nil {
		return nil, errCursor()
	}
	severity, err := strconv.Atoi(parts[1])
	if err != nil {
		return nil, errCursor()
	}
	first, err := parseTimePart(parts[2])
	return &insight.Finding{Ongoing: ongoing, Severity: insight.Severity(severity), FirstSeen: first,
		API: parts[3], Version: parts[4], Operation: parts[5], Finding: parts[6]}, err
}

// servedNow are the versions of APIs that are served, with the upstreams that they name.
type servedNow map[[2]string]*catalog.Served

func (o *operations) servedNow(ctx context.Context) (servedNow, error) {
	list, err := o.config.Catalog.Served(ctx)
	if err != nil {
		return nil, err
	}
	served := make(servedNow, len(list))
	for i := range list {
		served[[2]string{list[i].API, list[i].Version}] = &list[i]
	}
	return served, nil
}

// stateOf says whether a finding goes on. That a retired version is still called does so without its being served.
func (s servedNow) stateOf(f *insight.Finding) (api.FindingState, api.Severity) {
	version := f.API != "" && f.API != catalog.OwnName && f.Finding != "retired"
	switch {
	case version && s[[2]string{f.API, f.Version}] == nil:
		return api.FindingNotServed, api.SeverityNotice
	case f.Ongoing:
		return api.FindingOngoing, api.Severity(f.Severity.String())
	}
	return api.FindingOver, api.SeverityNotice
}

// missingUpstream is the upstream of a finding's operation when no gateway has it; else empty.
func (o *operations) missingUpstream(ctx context.Context, served servedNow, f *insight.Finding) (string, error) {
	version := served[[2]string{f.API, f.Version}]
	if version == nil {
		return "", nil
	}
	missing := unknownUpstreams(version.Upstreams, upstreamNames(o.config.Rollout.List(), time.Now()))
	if missing == nil { // nearly always: nothing has to be decoded
		return "", nil
	}
	contract, err := o.config.Catalog.Contract(ctx, f.API, f.Version)
	if err != nil {
		return "", err
	}
	for i := range contract.Operations {
		if operation := &contract.Operations[i]; operation.ID == f.Operation && slices.Contains(missing, operation.Upstream) {
			return operation.Upstream, nil
		}
	}
	return "", nil
}
