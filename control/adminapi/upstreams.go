package adminapi

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/filter"
	"fieldgate/control/refusal"
	"fieldgate/control/rollout"
	"fieldgate/control/targets"
)

const (
	listedAddresses = 20  // of an upstream in lists
	listedStates    = 100 // of an address
)

var upstreamKeys = []filter.Key{{Name: "name"}, {Name: "state", Values: []string{"healthy", "unhealthy"}},
	{Name: "circuit", Values: []string{string(api.CircuitClosed), string(api.CircuitOpen), string(api.CircuitHalfOpen)}}, {Name: "algorithm"}, {Name: "node"}}

func (o *operations) ListUpstreams(ctx context.Context, request ListUpstreamsRequestObject) (ListUpstreamsResponseObject, error) {
	p := request.Params
	page, err := newPage(p.Cursor, p.Limit, "upstreams", p.Filter)
	if err != nil {
		return nil, err
	}
	terms, err := filter.Parse(p.Filter, time.Now(), upstreamKeys...)
	if err != nil {
		return nil, err
	}
	registered, err := o.config.Targets.List(ctx, "")
	if err != nil {
		return nil, err
	}
	all := gatherUpstreams(o.config.Rollout.List(), registered, "", time.Now())
	all = slices.DeleteFunc(all, func(u api.Upstream) bool { return u.Name <= page.after || !upstreamSelected(&u, terms) })
	list, more := cut(all[:min(len(all), page.limit+1)], page)
	for i := range list {
		u := &list[i]
		shown := min(len(u.Addresses), listedAddresses)
		u.NotShown += len(u.Addresses) - shown
		u.Addresses = u.Addresses[:shown]
		for j := range u.Addresses {
			u.Addresses[j].States = nil
		}
	}
	answer := ListUpstreams200JSONResponse{Items: list}
	if more {
		answer.Next = page.next(list[len(list)-1].Name)
	}
	return answer, nil
}

func (o *operations) GetUpstream(ctx context.Context, request GetUpstreamRequestObject) (GetUpstreamResponseObject, error) {
	registered, err := o.config.Targets.List(ctx, request.Upstream)
	if err != nil {
		return nil, err
	}
	found := gatherUpstreams(o.config.Rollout.List(), registered, request.Upstream, time.Now())
	if len(found) == 0 {
		return nil, refusal.NotFound("No gateway that is heard has an upstream %q, and nothing is registered for it: add it to the environment file of a node.", request.Upstream)
	}
	return GetUpstream200JSONResponse(found[0]), nil
}

// gatherUpstreams puts together what gateways and services say of one upstream, or of all, in the order of their names. The addresses of
// each are sorted, those that are not healthy first.
func gatherUpstreams(gateways []rollout.Gateway, registered []targets.Registration, only string, now time.Time) []api.Upstream {
	gathering := make(map[string]*gathered)
	of := func(name string) *gathered {
		g := gathering[name]
		if g == nil {
			g = &gathered{Upstream: api.Upstream{Name: name, Gateways: []api.UpstreamGateway{}}, addresses: make(map[string]*api.UpstreamAddress)}
			gathering[name] = g
		}
		return g
	}
	for i := range gateways {
		if gateways[i].Silent(now) {
			continue
		}
		for j := range gateways[i].Upstreams {
			if state := &gateways[i].Upstreams[j]; only == "" || state.Name == only {
				of(state.Name).hear(gateways[i].Node, state)
			}
		}
	}
	for i := range registered {
		of(registered[i].Upstream).register(&registered[i])
	}
	list := make([]api.Upstream, 0, len(gathering))
	for _, g := range gathering {
		list = append(list, g.finish())
	}
	slices.SortFunc(list, func(a, b api.Upstream) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// gathered is an upstream while it is put together.
type gathered struct {
	api.Upstream
	addresses map[string]*api.UpstreamAddress // by their one form
	most      int                             // addresses on any gateway
}

func (g *gathered) address(text string) (a *api.UpstreamAddress) {
	key := text
	if parsed, err := fieldgate.ParseTargetAddress(text); err == nil {
		key = parsed.String()
	}
	if a = g.addresses[key]; a == nil {
		a = &api.UpstreamAddress{Address: text}
		g.addresses[key] = a
	}
	return a
}

var circuitRank = map[fieldgate.CircuitState]int{fieldgate.CircuitClosed: 1, fieldgate.CircuitHalfOpen: 2, fieldgate.CircuitOpen: 3}

func (g *gathered) hear(node string, u *fieldgate.UpstreamState) {
	g.Gateways = append(g.Gateways, api.UpstreamGateway{Node: node, Algorithm: string(u.Algorithm), Circuit: api.CircuitState(u.Circuit), Panic: u.Panic,
		Healthy: u.Healthy, Unhealthy: u.Unhealthy, Registered: u.Registered, Problem: u.Problem, DiscoveredAt: u.Discovered, Load: load(&u.CallStats)})
	g.Load = sum(g.Load, load(&u.CallStats))
	g.InFlight += u.InFlight
	g.Latency = mean(g.Latency, g.Calls, u.Latency, int64(u.Calls))
	g.Calls, g.Failures = g.Calls+int64(u.Calls), g.Failures+int64(u.Failures)
	g.Algorithm, g.Problem = cmp.Or(g.Algorithm, string(u.Algorithm)), cmp.Or(g.Problem, u.Problem)
	if circuitRank[u.Circuit] > circuitRank[fieldgate.CircuitState(g.Circuit)] {
		g.Circuit = api.CircuitState(u.Circuit)
	}
	g.Panic, g.Registered = g.Panic || u.Panic, g.Registered || u.Registered
	g.most = max(g.most, u.Healthy+u.Unhealthy)
	for i := range u.Addresses {
		s := &u.Addresses[i]
		a := g.address(s.Address)
		if a.Healthy+a.Unhealthy == 0 {
			a.Zone, a.Priority, a.Weight, a.Since = s.Zone, s.Priority, s.Weight, s.Since
		}
		switch {
		case !s.Healthy && a.Unhealthy == 0:
			a.Why, a.Since = s.Why, s.Since
		case s.Healthy && a.Unhealthy == 0 && s.Since.After(a.Since), !s.Healthy && s.Since.Before(a.Since):
			a.Since = s.Since
		}
		if s.Healthy {
			a.Healthy++
		} else {
			a.Unhealthy++
		}
		a.InFlight += s.InFlight
		a.Latency = mean(a.Latency, a.Calls, s.Latency, int64(s.Calls))
		a.Calls, a.Failures = a.Calls+int64(s.Calls), a.Failures+int64(s.Failures)
		if len(a.States) < listedStates {
			a.States = append(a.States, api.AddressState{Node: node, Healthy: s.Healthy, Why: s.Why, Since: s.Since, InFlight: s.InFlight, Calls: int64(s.Calls),
				Failures: int64(s.Failures), Latency: rounded(s.Latency), Open: s.Open, Idle: s.Idle})
		}
	}
}

func load(s *fieldgate.CallStats) api.UpstreamLoad {
	return api.UpstreamLoad{UnderWay: int64(s.UnderWay), Limit: int64(s.Limit), Retries: int64(s.Retries), RetriesRefused: int64(s.RetriesRefused),
		Hedges: int64(s.Hedges), HedgesWon: int64(s.HedgesWon), Mirroring: int64(s.Mirroring), MirrorsDropped: int64(s.MirrorsDropped),
		Shed: api.ShedCalls{Critical: int64(s.Shed[fieldgate.PriorityCritical]), Normal: int64(s.Shed[fieldgate.PriorityNormal]),
			Background: int64(s.Shed[fieldgate.PriorityBackground])}}
}

func sum(a, b api.UpstreamLoad) api.UpstreamLoad {
	return api.UpstreamLoad{UnderWay: a.UnderWay + b.UnderWay, Limit: a.Limit + b.Limit, Retries: a.Retries + b.Retries, RetriesRefused: a.RetriesRefused + b.RetriesRefused,
		Hedges: a.Hedges + b.Hedges, HedgesWon: a.HedgesWon + b.HedgesWon, Mirroring: a.Mirroring + b.Mirroring, MirrorsDropped: a.MirrorsDropped + b.MirrorsDropped,
		Shed: api.ShedCalls{Critical: a.Shed.Critical + b.Shed.Critical, Normal: a.Shed.Normal + b.Shed.Normal, Background: a.Shed.Background + b.Shed.Background}}
}

func (g *gathered) register(r *targets.Registration) {
	a := g.address(r.Address)
	if a.Healthy+a.Unhealthy == 0 { // no gateway has it, or shows it
		a.Zone, a.Priority, a.Weight = r.Zone, r.Priority, r.Weight
	}
	registered := target(r)
	a.Target = &registered
}

func (g *gathered) finish() api.Upstream {
	g.Addresses = make([]api.UpstreamAddress, 0, len(g.addresses))
	seen := 0
	for _, a := range g.addresses {
		if a.Healthy+a.Unhealthy > 0 {
			seen++
		}
		if a.Unhealthy > 0 {
			g.Unhealthy++
		}
		a.Latency = rounded(a.Latency)
		g.Upstream.Addresses = append(g.Upstream.Addresses, *a)
	}
	total := max(seen, g.most)
	g.Healthy, g.NotShown, g.Latency = total-g.Unhealthy, total-seen, rounded(g.Latency)
	slices.SortFunc(g.Upstream.Addresses, func(a, b api.UpstreamAddress) int {
		return cmp.Or(-cmp.Compare(min(a.Unhealthy, 1), min(b.Unhealthy, 1)), cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Address, b.Address))
	})
	return g.Upstream
}

// mean of two means of so many values.
func mean(a float64, n int64, b float64, m int64) float64 {
	if n+m == 0 || a == 0 || b == 0 { // one says nothing: nobody was answered there of late
		return max(a, b)
	}
	return (a*float64(n) + b*float64(m)) / float64(n+m)
}

// rounded keeps microseconds.
func rounded(milliseconds float64) float64 { return math.Round(milliseconds*1000) / 1000 }

func upstreamSelected(u *api.Upstream, terms filter.Filter) bool {
	for _, t := range terms {
		selected := true
		switch t.Key {
		case "":
			texts := []string{u.Name}
			for i := range u.Addresses {
				texts = append(texts, u.Addresses[i].Address)
			}
			selected = t.Finds(texts...)
		case "name":
			selected = t.Matches(u.Name)
		case "state":
			state := "healthy"
			if u.Unhealthy > 0 || u.Circuit == api.CircuitOpen || u.Circuit == api.CircuitHalfOpen || u.Problem != "" {
				state = "unhealthy"
			}
			selected = t.Matches(state)
		case "circuit":
			selected = t.Matches(string(u.Circuit))
		case "algorithm":
			selected = t.Matches(u.Algorithm)
		case "node":
			var nodes []string
			for i := range u.Gateways {
				nodes = append(nodes, u.Gateways[i].Node)
			}
			selected = t.Matches(nodes...)
		}
		if !selected {
			return false
		}
	}
	return true
}

func target(r *targets.Registration) api.Target {
	return api.Target{Upstream: r.Upstream, Address: r.Address, Zone: r.Zone, Priority: r.Priority, Weight: r.Weight, TtlSeconds: int(r.TTL / time.Second),
		Registrar: r.Registrar, RegisteredAt: r.Registered, RenewedAt: r.Renewed, ExpiresAt: r.Expires()}
}

// targetAnswer is a registered address as its GET answers it, after a decision that may have been refused.
func (o *operations) targetAnswer(ctx context.Context, upstream, address string, r *targets.Registration, err error) (TargetAnswerJSONResponse, error) {
	if err != nil {
		return TargetAnswerJSONResponse{}, o.explainChange(ctx, err, fmt.Sprintf("action:target.* target:%q", upstream), func() (any, error) {
			present, err := o.config.Targets.Get(ctx, upstream, address)
			if err != nil {
				return nil, err
			}
			return target(present), nil
		})
	}
	return TargetAnswerJSONResponse{Body: target(r), Headers: TargetAnswerResponseHeaders{ETag: entityTag(r.Version)}}, nil
}

func (o *operations) GetTarget(ctx context.Context, request GetTargetRequestObject) (GetTargetResponseObject, error) {
	r, err := o.config.Targets.Get(ctx, request.Upstream, request.Target)
	answer, err := o.targetAnswer(ctx, request.Upstream, request.Target, r, err)
	if err != nil {
		return nil, err
	}
	return GetTarget200JSONResponse{answer}, nil
}

func (o *operations) RegisterTarget(ctx context.Context, request RegisterTargetRequestObject) (RegisterTargetResponseObject, error) {
	body := request.Body
	r, err := o.config.Targets.Register(ctx, targets.Registration{Upstream: request.Upstream, TTL: time.Duration(body.TtlSeconds) * time.Second,
		Target: fieldgate.Target{Address: request.Target, Zone: body.Zone, Priority: body.Priority, Weight: body.Weight}}, versionOf(request.Params.IfMatch))
	answer, err := o.targetAnswer(ctx, request.Upstream, request.Target, r, err)
	if err != nil {
		return nil, err
	}
	return RegisterTarget200JSONResponse{answer}, nil
}

func (o *operations) RemoveTarget(ctx context.Context, request RemoveTargetRequestObject) (RemoveTargetResponseObject, error) {
	if err := o.config.Targets.Remove(ctx, request.Upstream, request.Target, versionOf(request.Params.IfMatch)); err != nil {
		_, err = o.targetAnswer(ctx, request.Upstream, request.Target, nil, err)
		return nil, err
	}
	return RemoveTarget204Response{}, nil
}
