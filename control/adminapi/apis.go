package adminapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/catalog"
	"fieldgate/control/filter"
	"fieldgate/control/refusal"
)

// operations carries out the generated interface.
type operations struct{ *Server }

var _ StrictServerInterface = &operations{}

const trafficOfAPI = 24 * 60 // minutes

func (o *operations) ListApis(ctx context.Context, request ListApisRequestObject) (ListApisResponseObject, error) {
	page, err := newPage(request.Params.Cursor, request.Params.Limit)
	if err != nil {
		return nil, err
	}
	terms, err := filter.Parse(request.Params.Filter, time.Now(), catalog.Keys...)
	if err != nil {
		return nil, err
	}
	list, err := o.config.Catalog.List(ctx, catalog.Filter{Terms: terms, After: page.after, Limit: page.limit + 1})
	if err != nil {
		return nil, err
	}
	answer := ListApis200JSONResponse{Items: []api.Api{}}
	for i, a := range list {
		if i == page.limit {
			answer.Next = encodeCursor(list[i-1].API)
			break
		}
		answer.Items = append(answer.Items, api.Api{Name: a.API, Title: a.Title, Kind: api.ContractKind(a.Kind), Version: a.Version.Version,
			State: api.Lifecycle(a.State), Versions: a.Versions, Operations: a.Operations, UpdatedAt: a.Published})
	}
	return answer, nil
}

func (o *operations) PublishApi(ctx context.Context, request PublishApiRequestObject) (PublishApiResponseObject, error) {
	document, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	file := request.Params.Name
	if file == "" {
		file = "document"
	}
	if len(file) > maxFileName {
		return nil, refusal.Invalid("The parameter name has at most %d bytes.", maxFileName)
	}
	plan, err := o.config.Catalog.Publish(ctx, file, document, request.Params.DryRun)
	if err != nil {
		return nil, err
	}
	k := plan.Contract
	answer := api.Plan{Api: k.API, Version: k.Version, Title: k.Title, Kind: api.ContractKind(k.Kind), Digest: k.Digest,
		Change: api.PlanChange(plan.Change), Applied: plan.Applied, Supersedes: plan.Supersedes, Findings: findings(plan.Warnings),
		Snapshot: int64(plan.Snapshot), Operations: []api.OperationChange{}}
	for _, operation := range plan.Operations {
		answer.Operations = append(answer.Operations, api.OperationChange{Id: operation.ID, Change: api.OperationChangeChange(operation.Change)})
	}
	if plan.Applied {
		return PublishApi201JSONResponse(answer), nil
	}
	return PublishApi200JSONResponse(answer), nil
}

const maxFileName = 1024

func (o *operations) GetApi(ctx context.Context, request GetApiRequestObject) (GetApiResponseObject, error) {
	versions, served, err := o.config.Catalog.Get(ctx, request.Api)
	if err != nil {
		return nil, err
	}
	traffic, err := o.config.Insight.Operations(ctx, request.Api, trafficOfAPI)
	if err != nil {
		return nil, err
	}
	newest := versions[0]
	answer := api.ApiDetail{Name: newest.API, Title: newest.Title, Kind: api.ContractKind(newest.Kind),
		Operations: []api.Operation{}, Traffic: operationTraffic(traffic)}
	for _, v := range versions {
		answer.Versions = append(answer.Versions, version(v))
	}
	for _, k := range served {
		for i := range k.Operations {
			answer.Operations = append(answer.Operations, operation(k.Version, &k.Operations[i]))
		}
	}
	return GetApi200JSONResponse{Body: answer}, nil
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
		PassThrough: o.PassThrough, Scopes: o.Access.Scopes}
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
	document, err := o.config.Catalog.Document(ctx, request.Api, request.Version)
	if err != nil {
		return nil, err
	}
	return GetDocument200ApplicationoctetStreamResponse{Body: bytes.NewReader(document), ContentLength: int64(len(document))}, nil
}

func (o *operations) DeprecateVersion(ctx context.Context, request DeprecateVersionRequestObject) (DeprecateVersionResponseObject, error) {
	sunset := ""
	if !request.Body.Sunset.IsZero() {
		sunset = request.Body.Sunset.UTC().Format(time.DateOnly)
	}
	v, err := o.config.Catalog.Deprecate(ctx, request.Api, request.Version, sunset, request.Body.Successor)
	if err != nil {
		return nil, err
	}
	return DeprecateVersion200JSONResponse{VersionAnswerJSONResponse{Body: version(v)}}, nil
}

func (o *operations) RetireVersion(ctx context.Context, request RetireVersionRequestObject) (RetireVersionResponseObject, error) {
	v, err := o.config.Catalog.Retire(ctx, request.Api, request.Version)
	if err != nil {
		return nil, err
	}
	return RetireVersion200JSONResponse{VersionAnswerJSONResponse{Body: version(v)}}, nil
}

func (o *operations) RestoreVersion(ctx context.Context, request RestoreVersionRequestObject) (RestoreVersionResponseObject, error) {
	v, err := o.config.Catalog.Restore(ctx, request.Api, request.Version)
	if err != nil {
		return nil, err
	}
	return RestoreVersion200JSONResponse{VersionAnswerJSONResponse{Body: version(v)}}, nil
}
