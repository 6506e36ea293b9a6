package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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
		answer.Warnings = append(answer.Warnings, api.Warning{Code: api.WarningUnclaimed, Severity: api.SeverityWarning, Message: "nobody has claimed this installation; it is served on this machine only",
			Remedy: "sign in to the console with the one-time token, and make yourself its owner"})
	}
	var sealedBy string
	err = o.config.Store.View(ctx, func(tx *store.Tx) (err error) {
		if sealedBy, err = directory.SealedBy(ctx, tx); err != nil {
			return err
		}
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
	served, err := o.config.Catalog.Served(ctx)
	if err != nil {
		return nil, err
	}
	now, gateways := time.Now(), o.config.Rollout.List()
	upstreams := upstreamNames(gateways, now)
	for i := range served {
		answer.Warnings = append(answer.Warnings, contractWarnings(&served[i], upstreams, now.UTC())...)
	}
	answer.Warnings = append(answer.Warnings, trafficWarnings(totals, now)...)
	answer.Warnings = append(answer.Warnings, o.secretsWarnings(sealedBy, gateways, now)...)
	for _, g := range gateways {
		behind := g.Behind(newest, now)
		answer.Gateways = append(answer.Gateways, api.Gateway{Node: g.Node, Snapshot: int64(g.Snapshot), Directory: int64(g.Directory), SeenAt: g.Seen.UTC(), Behind: behind,
			Connections: total(g.Connections), RecordsDropped: int64(g.RecordsDropped), RecordsWaiting: int64(g.OutboxBytes), RecordsSince: g.OutboxOldest,
			Certificates: certificates(g.Certificates), AccessLog: accessLog(g.AccessLog), Cache: answerCache(g.Cache), Coap: coapListeners(g.CoAP), Dtls: dtlsState(g.DTLS)})
		if behind != "" {
			answer.Warnings = append(answer.Warnings, api.Warning{Code: api.WarningGatewayBehind, Severity: api.SeverityWarning, Message: behind, Remedy: "see its log; it serves by the rules that it has"})
		}
		if late := g.Late(now); late != "" {
			answer.Warnings = append(answer.Warnings, api.Warning{Code: api.WarningGatewayBehind, Severity: api.SeverityWarning, Message: late, Remedy: "see its log, and whether the bus answers it; its history ends there until they arrive"})
		}
		if g.RecordsDropped > 0 {
			answer.Warnings = append(answer.Warnings, api.Warning{Code: api.WarningRecordsLost, Severity: api.SeverityWarning,
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

// upstreamNames are the upstreams in the environment files of gateways, as they have them now; nil when no gateway has told.
func upstreamNames(gateways []rollout.Gateway, now time.Time) (names map[string]bool) {
	for i := range gateways {
		if gateways[i].Silent(now) || gateways[i].Upstreams == nil {
			continue
		}
		if names == nil {
			names = make(map[string]bool)
		}
		for j := range gateways[i].Upstreams {
			if name := gateways[i].Upstreams[j].Name; name != fieldgate.MQTTProxyUpstream {
				names[name] = true
			}
		}
	}
	return names
}

// unknownUpstreams are those of names that no gateway has; none where nobody knows which there are.
func unknownUpstreams(names []string, upstreams map[string]bool) (unknown []string) {
	for _, name := range names {
		if upstreams != nil && !upstreams[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// contractWarnings lists what a contract that is served leaves open. Where upstreams is nil nobody knows which there are.
func contractWarnings(k *catalog.Served, upstreams map[string]bool, now time.Time) (warnings []api.Warning) {
	warn := func(code api.WarningCode, severity api.Severity, message, remedy string) {
		warnings = append(warnings, api.Warning{Code: code, Severity: severity, Message: message, Remedy: remedy, Api: k.API, Version: k.Version})
	}
	if k.Kind == fieldgate.KindPassThrough {
		warn(api.WarningPassThrough, api.SeverityWarning, fmt.Sprintf("%s %s lets everything through unchecked", k.API, k.Version),
			"publish contracts for the traffic that it shows as undocumented, then retire it")
	}
	if k.Open != nil {
		warn(api.WarningUnauthenticatedOperations, api.SeverityWarning, openOperations(k),
			"add security, or leave it so if that is meant")
	}
	if unknown := unknownUpstreams(k.Upstreams, upstreams); unknown != nil {
		warn(api.WarningUnknownUpstream, api.SeverityBad, fmt.Sprintf("%s %s names upstreams that no gateway has: %s", k.API, k.Version, someOf(unknown)),
			"add them to the environment file and send the process SIGHUP; until then their operations answer 502")
	}
	if sunset, err := time.Parse(time.DateOnly, k.Sunset); err == nil && k.State == fieldgate.LifecycleDeprecated && now.After(sunset.AddDate(0, 0, 1)) {
		warn(api.WarningDeprecatedPastSunset, api.SeverityWarning, fmt.Sprintf("%s %s was to end on %s and is still served", k.API, k.Version, k.Sunset), "retire it")
	}
	return warnings
}

func openOperations(k *catalog.Served) string {
	if len(k.Open) == 1 {
		return fmt.Sprintf("1 operation of %s %s needs no credential: %s", k.API, k.Version, k.Open[0])
	}
	return fmt.Sprintf("%d operations of %s %s need no credential: %s", len(k.Open), k.API, k.Version, someOf(k.Open))
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
		warnings = append(warnings, api.Warning{Code: api.WarningUndocumentedTraffic, Severity: api.SeverityWarning,
			Message: "in the last 24 hours there was traffic that no contract explains", Remedy: "list it with \"fieldgate traffic undocumented\""})
	}
	if totals.Lost > 0 {
		warnings = append(warnings, api.Warning{Code: api.WarningRecordsLost, Severity: api.SeverityWarning,
			Message: fmt.Sprintf("%d records of exchanges never arrived", totals.Lost), Remedy: "see the logs of the gateways; their disk or the bus was overloaded"})
	}
	return warnings
}
