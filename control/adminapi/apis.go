package adminapi

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/catalog"
	"fieldgate/control/filter"
	"fieldgate/control/insight"
)

// operations carries out the generated interface.
type operations struct{ *Server }

var _ StrictServerInterface = &operations{}

const trafficOfAPI = 24 * 60 // minutes

func (o *operations) ListApis(ctx context.Context, request ListApisRequestObject) (ListApisResponseObject, error) {
	p := request.Params
	page, err := newPage(p.Cursor, p.Limit, "apis", p.Filter)
	if err != nil {
		return nil, err
	}
	terms, err := filter.Parse(p.Filter, time.Now(), catalog.Keys...)
	if err != nil {
		return nil, err
	}
	list, err := o.config.Catalog.List(ctx, catalog.Filter{Terms: terms, After: page.after, Limit: page.limit + 1})
	if err != nil {
		return nil, err
	}
	list, more := cut(o.withOwn(list, terms, page.after), page)
	names := make([]string, len(list))
	for i, a := range list {
		names[i] = a.API
	}
	traffic, err := o.config.Insight.APIs(ctx, names)
	if err != nil {
		return nil, err
	}
	answer := ListApis200JSONResponse{Items: []api.Api{}}
	for _, a := range list {
		answer.Items = append(answer.Items, api.Api{Name: a.API, Title: a.Title, Kind: api.ContractKind(a.Kind), Version: a.Version.Version,
			State: api.Lifecycle(a.State), Versions: a.Versions, Operations: a.Operations, Owner: a.Owner, Protocols: protocolList(a.Protocols),
			BuiltIn: a.API == catalog.OwnName, UpdatedAt: a.Published, Traffic: apiTraffic(traffic[a.API])})
	}
	if more {
		answer.Next = page.next(list[len(list)-1].API)
	}
	return answer, nil
}

func protocolList(names []string) []api.Protocol {
	list := make([]api.Protocol, len(names))
	for i, name := range names {
		list[i] = api.Protocol(name)
	}
	return list
}

func apiTraffic(t *insight.APITraffic) api.ApiTraffic {
	if t == nil {
		t = &insight.APITraffic{}
	}
	return api.ApiTraffic{Exchanges: int64(t.Exchanges), Refused: int64(t.Refused), Failed: int64(t.Failed), Devices: int64(t.Callers), Hours: int64s(t.Hours[:])}
}

func int64s(list []uint64) []int64 {
	converted := make([]int64, len(list))
	for i, n := range list {
		converted[i] = int64(n)
	}
	return converted
}

func (o *operations) GetApi(ctx context.Context, request GetApiRequestObject) (GetApiResponseObject, error) {
	answer, change, err := o.apiDetail(ctx, request.Api)
	if err != nil {
		return nil, err
	}
	return GetApi200JSONResponse{Body: answer, Headers: GetApi200ResponseHeaders{ETag: entityTag(change)}}, nil
}

// apiDetail is an API and the number of its newest change.
func (o *operations) apiDetail(ctx context.Context, name string) (answer api.ApiDetail, change uint64, err error) {
	versions, served, description := o.own.versions, []*fieldgate.Contract{o.own.contract}, o.own.description.Text
	if name != catalog.OwnName {
		if versions, served, description, err = o.config.Catalog.Get(ctx, name); err != nil {
			return answer, 0, err
		}
	}
	traffic, err := o.config.Insight.Operations(ctx, name, trafficOfAPI)
	if err != nil {
		return answer, 0, err
	}
	newest := versions[0]
	answer = api.ApiDetail{Name: newest.API, Title: newest.Title, Kind: api.ContractKind(newest.Kind), Owner: newest.Owner, Description: description,
		Protocols: protocolList(newest.Protocols), BuiltIn: name == catalog.OwnName, Operations: []api.Operation{}, Traffic: operationTraffic(traffic)}
	for _, v := range versions {
		answer.Versions = append(answer.Versions, version(v))
		change = max(change, v.Change)
	}
	upstreams := upstreamNames(o.config.Rollout.List(), time.Now())
	for _, k := range served {
		for i := range k.Operations {
			shown := operation(k.Version, &k.Operations[i])
			shown.UpstreamMissing = shown.Upstream != "" && upstreams != nil && !upstreams[shown.Upstream]
			answer.Operations = append(answer.Operations, shown)
		}
	}
	return answer, change, nil
}

// explainAPIChange adds to a refusal because of If-Match how an API is now.
func (o *operations) explainAPIChange(ctx context.Context, err error, name string) error {
	return o.explainChange(ctx, err, `action:api.* target:"`+name+` "*`, func() (any, error) {
		answer, _, err := o.apiDetail(ctx, name)
		return answer, err
	})
}

func version(v *catalog.Version) api.Version {
	answer := api.Version{Api: v.API, Version: v.Version, Title: v.Title, Kind: api.ContractKind(v.Kind), State: api.Lifecycle(v.State),
		Digest: v.Digest, Operations: v.Operations, Successor: v.Successor, PublishedAt: v.Published}
	if sunset, err := time.Parse(time.DateOnly, v.Sunset); err == nil {
		answer.Sunset = sunset
	}
	return answer
}

func operation(version string, o *fieldgate.Operation) api.Operation {
	answer := api.Operation{Version: version, Id: o.ID, Summary: o.Summary, Upstream: o.Upstream, Anonymous: o.Access.Anonymous,
		PassThrough: o.PassThrough, Scopes: o.Access.Scopes, Rules: catalog.Rules(o)}
	for _, kind := range o.Access.Kinds {
		answer.Kinds = append(answer.Kinds, string(kind))
	}
	rest := ""
	if o.PassThrough {
		rest = "*"
	}
	if b := o.HTTP; b != nil {
		method := b.Method.String()
		if o.PassThrough {
			method = "any"
		}
		answer.Http = method + " " + b.Host + b.Path + rest
	}
	if b := o.CoAP; b != nil {
		method := b.Method.String()
		if o.PassThrough {
			method = "any"
		}
		answer.Coap = method + " " + b.Path + rest
		if b.Observe {
			answer.Coap += " (observe)"
		}
	}
	if b := o.MQTT; b != nil {
		answer.Mqtt = fmt.Sprintf("%s %s (QoS %d)", b.Action, b.Topic, b.QoS)
	}
	return answer
}

func (o *operations) GetDocument(ctx context.Context, request GetDocumentRequestObject) (GetDocumentResponseObject, error) {
	document, err := o.document(ctx, request.Api, request.Version)
	if err != nil {
		return nil, err
	}
	return GetDocument200ApplicationoctetStreamResponse{Body: bytes.NewReader(document), ContentLength: int64(len(document))}, nil
}

func (o *operations) document(ctx context.Context, name, version string) ([]byte, error) {
	if name == catalog.OwnName && version == o.own.contract.Version {
		return api.Document, nil
	}
	return o.config.Catalog.Document(ctx, name, version)
}

// versionAnswer is a version after a decision that may have been refused, with the ETag of its API.
func (o *operations) versionAnswer(ctx context.Context, name string, v *catalog.Version, err error) (VersionAnswerJSONResponse, error) {
	if err != nil {
		return VersionAnswerJSONResponse{}, o.explainAPIChange(ctx, err, name)
	}
	_, change, err := o.apiDetail(ctx, name)
	return VersionAnswerJSONResponse{Body: version(v), Headers: VersionAnswerResponseHeaders{ETag: entityTag(change)}}, err
}

func (o *operations) DeprecateVersion(ctx context.Context, request DeprecateVersionRequestObject) (DeprecateVersionResponseObject, error) {
	sunset := ""
	if !request.Body.Sunset.IsZero() {
		sunset = request.Body.Sunset.UTC().Format(time.DateOnly)
	}
	v, err := o.config.Catalog.Deprecate(ctx, request.Api, request.Version, sunset, request.Body.Successor, versionOf(request.Params.IfMatch))
	answer, err := o.versionAnswer(ctx, request.Api, v, err)
	if err != nil {
		return nil, err
	}
	return DeprecateVersion200JSONResponse{answer}, nil
}

func (o *operations) RetireVersion(ctx context.Context, request RetireVersionRequestObject) (RetireVersionResponseObject, error) {
	v, err := o.config.Catalog.Retire(ctx, request.Api, request.Version, versionOf(request.Params.IfMatch))
	answer, err := o.versionAnswer(ctx, request.Api, v, err)
	if err != nil {
		return nil, err
	}
	return RetireVersion200JSONResponse{answer}, nil
}

func (o *operations) RestoreVersion(ctx context.Context, request RestoreVersionRequestObject) (RestoreVersionResponseObject, error) {
	v, err := o.config.Catalog.Restore(ctx, request.Api, request.Version, versionOf(request.Params.IfMatch))
	answer, err := o.versionAnswer(ctx, request.Api, v, err)
	if err != nil {
		return nil, err
	}
	return RestoreVersion200JSONResponse{answer}, nil
}
