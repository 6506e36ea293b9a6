package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/filter"
	"fieldgate/control/insight"
	"fieldgate/control/refusal"
)

const (
	defaultSeconds = 10
	maxSeconds     = 300
	defaultMinutes = 60
	maxMinutes     = 30 * 24 * 60

	keepAlive = 15 * time.Second
)

var trafficKeys = []filter.Key{{Name: "protocol"}, {Name: "api"}, {Name: "principal"}, {Name: "finding"},
	{Name: "status", Values: []string{"2xx", "3xx", "4xx", "5xx"}}}

func trafficFilter(text string) (insight.Filter, error) {
	var wanted insight.Filter
	terms, err := filter.Parse(text, time.Now(), trafficKeys...)
	if err != nil {
		return wanted, err
	}
	for _, t := range terms {
		if t.Key == "" || t.Not || len(t.Values) > 1 || t.Values[0].Prefix {
			return wanted, errPending
		}
		value := t.Values[0].Text
		switch t.Key {
		case "api":
			wanted.API = value
		case "principal":
			wanted.Principal = value
		case "status":
			wanted.StatusClass = int(value[0] - '0')
		case "protocol":
			known, ok := fieldgate.ParseProtocol(value)
			if !ok {
				return wanted, refusal.Invalid("%.60q is no protocol that is known.", value)
			}
			wanted.Protocol = &known
		case "finding":
			if wanted.Finding = fieldgate.ParseFinding(value); wanted.Finding == 0 {
				return wanted, refusal.Invalid("%.60q is no finding that is known.", value)
			}
		}
	}
	return wanted, nil
}

func trafficRecord(e *insight.Exchange) api.TrafficRecord {
	record := api.TrafficRecord{Time: e.Time, Instance: e.Instance, Protocol: api.Protocol(e.Protocol.String()), Method: e.Method.String(),
		Status: e.Status, Problem: string(e.Problem), Api: e.API, Version: e.Version, Operation: e.Operation, Route: e.Route, Detail: e.Detail,
		Principal: e.Principal, Kind: string(e.Kind), Model: e.Model, Firmware: e.Firmware, BytesIn: int64(e.BytesIn),
		BytesOut: int64(e.BytesOut), DurationMicros: e.Duration.Microseconds(), UpstreamMicros: e.Upstream.Microseconds()}
	if e.Source.IsValid() {
		record.Source = e.Source.String()
	}
	for _, name := range e.Findings.Names() {
		record.Findings = append(record.Findings, api.FindingName(name))
	}
	return record
}

func (o *operations) ListTraffic(_ context.Context, request ListTrafficRequestObject) (ListTrafficResponseObject, error) {
	wanted, err := trafficFilter(request.Params.Filter)
	if err != nil {
		return nil, err
	}
	limit, err := bounded("limit", request.Params.Limit, defaultLimit, maxLimit)
	if err != nil {
		return nil, err
	}
	answer := ListTraffic200JSONResponse{Items: []api.TrafficRecord{}}
	for _, exchange := range o.config.Insight.Recent(wanted, limit) {
		answer.Items = append(answer.Items, trafficRecord(&exchange))
	}
	return answer, nil
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
	stream := &eventStream{ctx: ctx, stopping: o.stopping, subscriber: subscriber}
	// The client learns at once that it listens.
	stream.pending.WriteString(": listening\n\n")
	return StreamTraffic200TexteventStreamResponse{Body: stream}, nil
}

// eventStream renders what a subscriber receives as server-sent events; reading it waits for them.
type eventStream struct {
	ctx        context.Context
	stopping   <-chan struct{}
	subscriber *insight.Subscriber
	pending    bytes.Buffer
}

func (s *eventStream) Read(p []byte) (int, error) {
	if s.pending.Len() == 0 {
		s.pending.Reset()
		select {
		case exchange := <-s.subscriber.Exchanges():
			s.event("exchange", trafficRecord(&exchange))
		case <-time.After(keepAlive):
			s.pending.WriteString(": still here\n\n")
		case <-s.ctx.Done():
			return 0, io.EOF
		case <-s.stopping:
			return 0, io.EOF
		}
		if dropped := s.subscriber.Dropped(); dropped > 0 {
			s.event("dropped", map[string]int{"count": dropped})
		}
	}
	return s.pending.Read(p)
}

func (s *eventStream) event(name string, data any) {
	encoded, err := json.Marshal(data)
	if err != nil {
		panic(err) // plain strings and numbers
	}
	fmt.Fprintf(&s.pending, "event: %s\ndata: %s\n\n", name, encoded)
}

func (s *eventStream) Close() error {
	s.subscriber.Close()
	return nil
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
		list = append(list, api.OperationTraffic{Api: t.API, Version: t.Version, Operation: t.Operation, Exchanges: int64(t.Exchanges),
			Passed: int64(t.Passed), Refused: int64(t.Refused), Failed: int64(t.Failed), Devices: int64(t.Callers),
			P50Micros: t.P50.Microseconds(), P90Micros: t.P90.Microseconds(), P99Micros: t.P99.Microseconds(),
			BytesIn: int64(t.BytesIn), BytesOut: int64(t.BytesOut), Findings: namedCounts(t.Findings)})
	}
	return list
}

func (o *operations) ListUndocumented(ctx context.Context, request ListUndocumentedRequestObject) (ListUndocumentedResponseObject, error) {
	limit, err := bounded("limit", request.Params.Limit, defaultLimit, maxLimit)
	if err != nil {
		return nil, err
	}
	routes, overflow, err := o.config.Insight.Undocumented(ctx, limit)
	if err != nil {
		return nil, err
	}
	answer := ListUndocumented200JSONResponse{Items: []api.UndocumentedRoute{}, Overflow: int64(overflow)}
	for _, r := range routes {
		answer.Items = append(answer.Items, api.UndocumentedRoute{Protocol: api.Protocol(r.Protocol.String()), Method: r.Method.String(), Route: r.Route,
			Api: r.API, Exchanges: int64(r.Exchanges), LastPrincipal: r.Principal, FirstSeen: r.First, LastSeen: r.Last})
	}
	return answer, nil
}
