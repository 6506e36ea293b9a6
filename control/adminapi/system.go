package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/audit"
	"fieldgate/control/catalog"
	"fieldgate/control/directory"
	"fieldgate/control/filter"
	"fieldgate/control/insight"
	"fieldgate/control/rollout"
	"fieldgate/control/targets"
	"fieldgate/engine/store"
)

func (o *operations) GetHealth(context.Context, GetHealthRequestObject) (GetHealthResponseObject, error) {
	return GetHealth204Response{}, nil
}

func (o *operations) GetContract(context.Context, GetContractRequestObject) (GetContractResponseObject, error) {
	return GetContract200ApplicationyamlResponse{Body: bytes.NewReader(api.Document), ContentLength: int64(len(api.Document))}, nil
}

func (o *operations) ListAudit(ctx context.Context, request ListAuditRequestObject) (ListAuditResponseObject, error) {
	p := request.Params
	page, err := newPage(p.Cursor, p.Limit, "audit", p.Filter)
	if err != nil {
		return nil, err
	}
	terms, err := filter.Parse(p.Filter, time.Now(), audit.Keys...)
	if err != nil {
		return nil, err
	}
	entries, err := audit.List(ctx, o.config.Store, audit.Filter{Terms: terms, After: page.after, Limit: page.limit + 1})
	if err != nil {
		return nil, err
	}
	entries, more := cut(entries, page)
	answer := ListAudit200JSONResponse{Items: []api.AuditEntry{}}
	for i := range entries {
		answer.Items = append(answer.Items, auditEntry(&entries[i]))
	}
	if more {
		answer.Next = page.next(entries[len(entries)-1].Key())
	}
	return answer, nil
}

func auditEntry(e *audit.Entry) api.AuditEntry {
	return api.AuditEntry{Id: int64(e.ID), Time: e.Time, Actor: e.Actor.Name, Action: e.Action, Target: e.Target, Detail: e.Detail,
		Via: e.Actor.Via, Source: e.Actor.Source, Before: object(e.Before), After: object(e.After)}
}

// object is a JSON object that the audit keeps; nil without one.
func object(encoded json.RawMessage) map[string]any {
	var decoded map[string]any
	if encoded != nil && json.Unmarshal(encoded, &decoded) != nil {
		return nil // it was encoded by us; what cannot be read has nothing to show
	}
	return decoded
}

// GetReadiness asks anew, so that a load balancer hears what is, not what was.
func (o *operations) GetReadiness(ctx context.Context, _ GetReadinessRequestObject) (GetReadinessResponseObject, error) {
	answer := api.Readiness{Ready: true, Checks: []api.Check{}}
	check := func(name api.CheckName, err error, since time.Time) {
		answer.Checks = append(answer.Checks, api.Check{Name: name, Ok: err == nil, Since: since})
		answer.Ready = answer.Ready && err == nil
	}
	asking, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	err := o.config.Store.Health(asking)
	since := time.Time{}
	if err != nil {
		since = o.monitor.storeSince()
	}
	check(api.CheckStore, err, since)
	if o.config.Bus != nil {
		err, since = o.config.Bus.Health(), time.Time{}
		if err != nil {
			since = o.config.Bus.Since().UTC()
		}
		check(api.CheckBus, err, since)
	}
	if o.config.GatewayReady != nil {
		check(api.CheckGateway, o.config.GatewayReady(), time.Time{})
	}
	if !answer.Ready {
		return GetReadiness503JSONResponse(answer), nil
	}
	return GetReadiness200JSONResponse(answer), nil
}

func (o *operations) GetStatus(ctx context.Context, _ GetStatusRequestObject) (GetStatusResponseObject, error) {
	answer := GetStatus200JSONResponse{Version: o.config.Version, Node: o.config.Node, StartedAt: o.started,
		Role: o.config.Role, Store: o.config.Engines.Store, Bus: o.config.Engines.Bus, Listeners: []api.Listener{}, Gateways: []api.Gateway{}, Warnings: []api.Warning{}}
	if address := o.Address(); address != "" {
		answer.Listeners = append(answer.Listeners, api.Listener{Name: "admin", Address: address})
	}
	if o.config.Listeners != nil {
		answer.Listeners = append(answer.Listeners, o.config.Listeners()...)
	}
	newest, err := o.newest(ctx)
	if err != nil {
		return nil, err
	}
	answer.Snapshot, answer.Directory = int64(newest.Snapshot), int64(newest.Directory)
	answer.Health, _ = o.monitor.health()
	if answer.Claimed, err = o.config.Operators.Claimed(ctx); err != nil {
		return nil, err
	}
	if !answer.Claimed {
		answer.Warnings = append(answer.Warnings, api.Warning{Code: api.WarningUnclaimed, Message: "nobody has claimed this installation; it is served on this machine only",
			Remedy: "sign in to the console with the one-time token, and make yourself its owner"})
	}
	err = o.config.Store.View(ctx, func(tx *store.Tx) (err error) {
		if answer.Apis, err = catalog.Count(ctx, tx); err != nil {
			return err
		}
		if answer.Devices, err = directory.Count(ctx, tx, fieldgate.PrincipalDevice); err != nil {
			return err
		}
		answer.Apps, err = directory.Count(ctx, tx, fieldgate.PrincipalApp)
		return err
	})
	if err != nil {
		return nil, err
	}
	totals, err := o.config.Insight.Totals(ctx)
	if err != nil {
		return nil, err
	}
	answer.Exchanges = int64(totals.Exchanges)
	live, err := o.config.Catalog.Live(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range live {
		answer.Warnings = append(answer.Warnings, contractWarnings(k, o.config.Upstreams, time.Now().UTC())...)
	}
	answer.Warnings = append(answer.Warnings, trafficWarnings(totals, time.Now())...)
	now := time.Now()
	for _, g := range o.config.Rollout.List() {
		behind := g.Behind(newest, now)
		answer.Gateways = append(answer.Gateways, api.Gateway{Node: g.Node, Snapshot: int64(g.Snapshot), Directory: int64(g.Directory), SeenAt: g.Seen.UTC(), Behind: behind,
			Connections: total(g.Connections), RecordsDropped: int64(g.RecordsDropped), RecordsWaiting: int64(g.OutboxBytes), RecordsSince: g.OutboxOldest,
			Certificates: certificates(g.Certificates), AccessLog: accessLog(g.AccessLog)})
		if behind != "" {
			answer.Warnings = append(answer.Warnings, api.Warning{Code: api.WarningGatewayBehind, Message: behind, Remedy: "see its log; it serves by the rules that it has"})
		}
		if late := g.Late(now); late != "" {
			answer.Warnings = append(answer.Warnings, api.Warning{Code: api.WarningGatewayBehind, Message: late, Remedy: "see its log, and whether the bus answers it; its history ends there until they arrive"})
		}
		if g.RecordsDropped > 0 {
			answer.Warnings = append(answer.Warnings, api.Warning{Code: api.WarningRecordsLost,
				Message: fmt.Sprintf("gateway %s has dropped %d records since it started: its outbox was full, or its disk", g.Node, g.RecordsDropped),
				Remedy:  "give its disk room, or the bus back, before the outbox is full; traffic is not touched"})
		}
		answer.Warnings = append(answer.Warnings, illWarnings(&g, now)...)
	}
	return answer, nil
}

func total(counts map[string]int) (sum int) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// newest is what gateways should have in force.
func (s *Server) newest(ctx context.Context) (newest rollout.Wanted, err error) {
	err = s.config.Store.View(ctx, func(tx *store.Tx) (err error) {
		if newest.Snapshot, err = tx.Counter(ctx, "snapshot"); err != nil {
			return err
		}
		if newest.Directory, err = tx.Counter(ctx, "directory"); err != nil {
			return err
		}
		newest.Targets, err = targets.Version(ctx, tx)
		return err
	})
	return newest, err
}

const namesInWarning = 5

// contractWarnings lists what a contract that is served leaves open.
func contractWarnings(k *fieldgate.Contract, upstreams []string, now time.Time) (warnings []api.Warning) {
	warn := func(code api.WarningCode, message, remedy string) {
		warnings = append(warnings, api.Warning{Code: code, Message: message, Remedy: remedy, Api: k.API, Version: k.Version})
	}
	if k.Kind == fieldgate.KindPassThrough {
		warn(api.WarningPassThrough, fmt.Sprintf("%s %s lets everything through unchecked", k.API, k.Version),
			"publish contracts for the traffic that it shows as undocumented, then retire it")
	}
	var open, unknown []string
	for i := range k.Operations {
		operation := &k.Operations[i]
		if operation.Access.Anonymous && !operation.PassThrough {
			open = append(open, operation.ID)
		}
		if operation.Upstream != "" && !slices.Contains(upstreams, operation.Upstream) && !slices.Contains(unknown, operation.Upstream) {
			unknown = append(unknown, operation.Upstream)
		}
	}
	if open != nil {
		warn(api.WarningUnauthenticatedOperations, fmt.Sprintf("%d operations of %s %s need no credential: %s", len(open), k.API, k.Version, someOf(open)),
			"add security to them, or leave them open if that is meant")
	}
	if unknown != nil {
		warn(api.WarningUnknownUpstream, fmt.Sprintf("%s %s names upstreams that the environment does not have: %s", k.API, k.Version, someOf(unknown)),
			"add them to the environment file; until then their operations answer 502")
	}
	if sunset, err := time.Parse(time.DateOnly, k.Sunset); err == nil && k.State == fieldgate.LifecycleDeprecated && now.After(sunset.AddDate(0, 0, 1)) {
		warn(api.WarningDeprecatedPastSunset, fmt.Sprintf("%s %s was to end on %s and is still served", k.API, k.Version, k.Sunset), "retire it")
	}
	return warnings
}

func someOf(names []string) string {
	if len(names) > namesInWarning {
		return strings.Join(names[:namesInWarning], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// trafficWarnings lists what the records of all nodes leave open.
func trafficWarnings(totals insight.Totals, now time.Time) (warnings []api.Warning) {
	if now.Sub(totals.NewestUndocumented) < 24*time.Hour {
		warnings = append(warnings, api.Warning{Code: api.WarningUndocumentedTraffic,
			Message: "in the last 24 hours there was traffic that no contract explains", Remedy: "list it with \"fieldgate traffic undocumented\""})
	}
	if totals.Lost > 0 {
		warnings = append(warnings, api.Warning{Code: api.WarningRecordsLost,
			Message: fmt.Sprintf("%d records of exchanges never arrived", totals.Lost), Remedy: "see the logs of the gateways; their disk or the bus was overloaded"})
	}
	return warnings
}
