package adminapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/access"
	"fieldgate/control/catalog"
	"fieldgate/control/filter"
	"fieldgate/control/insight"
	"fieldgate/control/refusal"
)

const (
	defaultSeconds = 10
	maxSeconds     = 300
	defaultMinutes = 60
	maxMinutes     = 30 * 24 * 60

	maxByMinute      = 180
	maxSeriesMinutes = 400 * 24 * 60
)

func trafficFilter(text string) (insight.Filter, error) {
	terms, err := filter.Parse(text, time.Now(), insight.TrafficKeys...)
	return insight.Filter{Terms: terms}, err
}

func trafficRecord(e *insight.Exchange) api.TrafficRecord {
	record := api.TrafficRecord{Time: e.Time, Instance: e.Instance, Protocol: api.Protocol(e.Protocol.String()), Method: e.Method.String(),
		Status: e.Status, Problem: string(e.Problem), Api: e.API, Version: e.Version, Operation: e.Operation, Route: e.Route, Detail: e.Detail,
		Principal: e.Principal, Kind: string(e.Kind), Model: e.Model, Firmware: e.Firmware, BytesIn: int64(e.BytesIn),
		BytesOut: int64(e.BytesOut), Exchanges: int64(e.Exchanges()), DurationMicros: e.Duration.Microseconds(), UpstreamMicros: e.Upstream.Microseconds()}
	if e.Source.IsValid() {
		record.Source = e.Source.String()
	}
	for _, name := range e.Findings.Names() {
		record.Findings = append(record.Findings, api.FindingName(name))
	}
	record.Node, record.Decided, record.Rule = e.Node, e.Decided.String(), e.Rule
	for stage, t := range e.Stages {
		if t.Ran() {
			record.Stages = append(record.Stages, api.StageTime{Stage: api.StageTimeStage(fieldgate.Stage(stage).String()),
				Micros: float64(t.Duration().Nanoseconds()) / 1e3})
		}
	}
	return record
}

func (o *operations) ListTraffic(_ context.Context, request ListTrafficRequestObject) (ListTrafficResponseObject, error) {
	p := request.Params
	page, err := newPage(p.Cursor, p.Limit, "traffic", p.Filter)
	if err != nil {
		return nil, err
	}
	wanted, err := trafficFilter(p.Filter)
	if err != nil {
		return nil, err
	}
	list, next := o.config.Insight.RecentPage(wanted, page.after, page.limit)
	answer := ListTraffic200JSONResponse{Items: []api.TrafficRecord{}}
	for i := range list {
		answer.Items = append(answer.Items, trafficRecord(&list[i]))
	}
	if next != "" {
		answer.Next = page.next(next)
	}
	return answer, nil
}

// GetExchange looks among the newest exchanges; the clause is told by what is published now.
func (o *operations) GetExchange(ctx context.Context, request GetExchangeRequestObject) (GetExchangeResponseObject, error) {
	e, known := o.config.Insight.Exchange(request.Instance)
	if !known {
		return nil, refusal.NotFound("The exchange %.120q is not among the newest ones, which are all that is remembered.", request.Instance)
	}
	var captured *api.CapturedExchange
	// What an exchange carried is for who may capture, as it is where captures are asked for themselves.
	if askedOf(ctx).caller.May(access.ScopeDevicesWrite) {
		var err error
		if captured, err = o.captured(e.Instance); err != nil {
			return nil, err
		}
	}
	answer := GetExchange200JSONResponse{Exchange: trafficRecord(&e), Captured: captured}
	if e.API == "" || e.Operation == "" {
		return answer, nil
	}
	k, err := o.config.Catalog.Contract(ctx, e.API, e.Version)
	var refused *refusal.Error
	switch {
	case errors.As(err, &refused):
		return answer, nil // it was published then, and no longer is
	case err != nil:
		return nil, err
	}
	for i := range k.Operations {
		if k.Operations[i].ID == e.Operation {
			rendered := operation(k.Version, &k.Operations[i])
			answer.Operation = &rendered
		}
	}
	document, err := o.document(ctx, e.API, e.Version)
	if err != nil {
		return nil, err
	}
	answer.Clause, err = clauseOf(document, e.Operation)
	return answer, err
}

func (o *operations) StreamTraffic(ctx context.Context, request StreamTrafficRequestObject) (StreamTrafficResponseObject, error) {
	wanted, err := trafficFilter(request.Params.Filter)
	if err != nil {
		return nil, err
	}
	subscriber, err := o.config.Insight.Subscribe(wanted)
	if err != nil {
		return nil, err
	}
	stream := newEventStream(ctx, o.stopping, subscriber.Close)
	stream.wait = func(timeout <-chan time.Time) {
		select {
		case exchange := <-subscriber.Exchanges():
			stream.event("exchange", trafficRecord(&exchange))
		case <-timeout:
		case <-ctx.Done():
		case <-o.stopping:
		}
		if dropped := subscriber.Dropped(); dropped > 0 {
			stream.event("dropped", map[string]int{"count": dropped})
		}
	}
	return StreamTraffic200TexteventStreamResponse{Body: stream}, nil
}

func (o *operations) GetTrafficSummary(ctx context.Context, request GetTrafficSummaryRequestObject) (GetTrafficSummaryResponseObject, error) {
	seconds, err := bounded("seconds", request.Params.Seconds, defaultSeconds, maxSeconds)
	if err != nil {
		return nil, err
	}
	minutes, err := bounded("minutes", request.Params.Minutes, defaultMinutes, maxMinutes)
	if err != nil {
		return nil, err
	}
	traffic, err := o.config.Insight.Operations(ctx, request.Params.Api, minutes)
	if err != nil {
		return nil, err
	}
	rates := o.config.Insight.Rates(seconds)
	answer := GetTrafficSummary200JSONResponse{At: time.Now().UTC(), Seconds: seconds, Minutes: minutes, Protocols: []api.ProtocolTraffic{},
		Problems: namedCounts(rates.Problems), Findings: namedCounts(rates.Findings), Operations: operationTraffic(traffic)}
	for _, p := range rates.Protocols {
		answer.Exchanges += int64(p.Exchanges)
		answer.Protocols = append(answer.Protocols, api.ProtocolTraffic{Protocol: api.Protocol(p.Protocol.String()), Exchanges: int64(p.Exchanges),
			PerSecond: float64(p.Exchanges) / float64(seconds), Passed: int64(p.Passed), Refused: int64(p.Refused), Failed: int64(p.Failed),
			BytesIn: int64(p.BytesIn), BytesOut: int64(p.BytesOut)})
	}
	answer.PerSecond = float64(answer.Exchanges) / float64(seconds)
	return answer, nil
}

func namedCounts(counts []insight.NamedCount) []api.NamedCount {
	list := make([]api.NamedCount, 0, len(counts))
	for _, n := range counts {
		list = append(list, api.NamedCount{Name: n.Name, Count: int64(n.Count), Example: n.Example})
	}
	return list
}

func operationTraffic(traffic []*insight.OperationTraffic) []api.OperationTraffic {
	list := make([]api.OperationTraffic, 0, len(traffic))
	for _, t := range traffic {
		var protocols []api.OperationProtocol
		for _, p := range t.Protocols {
			protocols = append(protocols, api.OperationProtocol{Protocol: api.Protocol(p.Protocol.String()), Exchanges: int64(p.Exchanges),
				Refused: int64(p.Refused), Failed: int64(p.Failed), P50Micros: p.P50.Microseconds(), P99Micros: p.P99.Microseconds()})
		}
		list = append(list, api.OperationTraffic{Protocols: protocols, Api: t.API, Version: t.Version, Operation: t.Operation, Exchanges: int64(t.Exchanges),
			Passed: int64(t.Passed), Refused: int64(t.Refused), Failed: int64(t.Failed), Devices: int64(t.Callers),
			P50Micros: t.P50.Microseconds(), P90Micros: t.P90.Microseconds(), P99Micros: t.P99.Microseconds(),
			BytesIn: int64(t.BytesIn), BytesOut: int64(t.BytesOut), Findings: namedCounts(t.Findings)})
	}
	return list
}

func (o *operations) ListUndocumented(ctx context.Context, request ListUndocumentedRequestObject) (ListUndocumentedResponseObject, error) {
	p := request.Params
	page, err := newPage(p.Cursor, p.Limit, "undocumented", p.Filter)
	if err != nil {
		return nil, err
	}
	terms, err := filter.Parse(p.Filter, time.Now(), insight.RouteKeys...)
	if err != nil {
		return nil, err
	}
	after, err := routeAfter(page)
	if err != nil {
		return nil, err
	}
	routes, overflow, err := o.config.Insight.UndocumentedPage(ctx, terms, after, page.limit+1)
	if err != nil {
		return nil, err
	}
	routes, more := cut(routes, page)
	answer := ListUndocumented200JSONResponse{Items: []api.UndocumentedRoute{}, Overflow: int64(overflow)}
	for _, r := range routes {
		answer.Items = append(answer.Items, api.UndocumentedRoute{Protocol: api.Protocol(r.Protocol.String()), Method: r.Method.String(), Route: r.Route,
			Api: r.API, Exchanges: int64(r.Exchanges), LastPrincipal: r.Principal, FirstSeen: r.First, LastSeen: r.Last})
	}
	if more {
		last := routes[len(routes)-1]
		answer.Next = page.nextAt(fmt.Sprint(last.Exchanges), last.Route, last.API, fmt.Sprint(int(last.Protocol)), fmt.Sprint(int(last.Method)))
	}
	return answer, nil
}

func routeAfter(page page) (*insight.Route, error) {
	parts, err := page.parts(5)
	if err != nil || parts == nil {
		return nil, err
	}
	exchanges, err := strconv.ParseUint(parts[0], 10, 63)
	protocol, err2 := strconv.ParseUint(parts[3], 10, 8)
	method, err3 := strconv.ParseUint(parts[4], 10, 8)
	if err != nil || err2 != nil || err3 != nil {
		return nil, errCursor()
	}
	return &insight.Route{Exchanges: exchanges, Route: parts[1], API: parts[2], Protocol: fieldgate.Protocol(protocol), Method: fieldgate.Method(method)}, nil
}

func (o *operations) GetTrafficSeries(ctx context.Context, request GetTrafficSeriesRequestObject) (GetTrafficSeriesResponseObject, error) {
	minutes, err := bounded("minutes", request.Params.Minutes, defaultMinutes, maxSeriesMinutes)
	if err != nil {
		return nil, err
	}
	wanted := insight.SeriesFilter{API: request.Params.Api}
	if name := request.Params.Protocol; name != "" {
		protocol, known := fieldgate.ParseProtocol(string(name))
		if !known {
			return nil, refusal.Invalid("%.60q is no protocol that is known.", string(name))
		}
		wanted.Protocol = &protocol
	}
	span := insight.Day
	switch {
	case minutes <= maxByMinute:
		span = insight.Minute
	case minutes <= maxMinutes:
		span = insight.Hour
	}
	perPoint := int(span) / 60
	series, err := o.config.Insight.Series(ctx, wanted, span, (minutes+perPoint-1)/perPoint)
	if err != nil {
		return nil, err
	}
	answer := GetTrafficSeries200JSONResponse{From: series.From, SpanSeconds: int(series.Span), Protocols: []api.ProtocolSeries{}}
	for _, p := range series.Protocols {
		answer.Protocols = append(answer.Protocols, api.ProtocolSeries{Protocol: api.Protocol(p.Protocol.String()),
			Passed: int64s(p.Passed), Refused: int64s(p.Refused), Failed: int64s(p.Failed)})
	}
	return answer, nil
}

func (o *operations) ListCallers(ctx context.Context, request ListCallersRequestObject) (ListCallersResponseObject, error) {
	since, err := sinceOf(request.Params.Since, "7d")
	if err != nil {
		return nil, err
	}
	callers, err := o.config.Insight.Callers(ctx, request.Api, request.Version, since)
	if err != nil {
		return nil, err
	}
	answer := ListCallers200JSONResponse{Items: []api.Caller{}}
	for _, c := range callers {
		answer.Items = append(answer.Items, api.Caller{Firmware: c.Firmware, Model: c.Model, Exchanges: int64(c.Exchanges), LastSeen: c.LastSeen, Operations: len(c.Operations)})
	}
	return answer, nil
}

// sinceOf reads how far a question looks back, at the most maxMinutes.
func sinceOf(text, otherwise string) (time.Time, error) {
	if text == "" {
		text = otherwise
	}
	now := time.Now().UTC()
	since, err := filter.ParseTime(text, now)
	if err != nil {
		return since, refusal.Invalid("since: %s.", err)
	}
	if now.Sub(since) > maxMinutes*time.Minute {
		return since, refusal.Invalid("since: %.40q is more than 30 days ago, which is as far as this looks back.", text)
	}
	return since, nil
}

// draftRoutes is from how many routes a contract is drafted.
const draftRoutes = 2000

func (o *operations) DraftContract(ctx context.Context, request DraftContractRequestObject) (DraftContractResponseObject, error) {
	kind := request.Params.Kind
	if kind != "" && !kind.Valid() {
		return nil, refusal.Invalid("%.60q is no kind of draft: it is openapi or asyncapi.", string(kind))
	}
	terms, err := filter.Parse(request.Params.Filter, time.Now(), insight.RouteKeys...)
	if err != nil {
		return nil, err
	}
	routes, _, err := o.config.Insight.UndocumentedPage(ctx, terms, nil, draftRoutes)
	if err != nil {
		return nil, err
	}
	seen := make([]catalog.Seen, len(routes))
	for i, r := range routes {
		seen[i] = catalog.Seen{Protocol: r.Protocol, Method: r.Method, Route: r.Route, Exchanges: r.Exchanges}
	}
	draft := catalog.DraftOpenAPI
	if kind == api.DraftAsyncapi {
		draft = catalog.DraftAsyncAPI
	}
	document := draft(seen)
	return DraftContract200ApplicationyamlResponse{Body: bytes.NewReader(document), ContentLength: int64(len(document))}, nil
}
