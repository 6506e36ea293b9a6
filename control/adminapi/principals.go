package adminapi

import (
	"context"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/access"
	"fieldgate/control/directory"
	"fieldgate/control/filter"
	"fieldgate/control/fleet"
	"fieldgate/control/refusal"
)

func device(d *fleet.Device, seen *api.Presence) api.Device {
	return api.Device{Id: d.ID, State: api.PrincipalState(d.State.String()), Model: d.Model, Firmware: d.Firmware,
		Tokens: len(d.Credentials), Certificates: deviceCertificates(d), PskIdentity: pskIdentity(d), Oscore: oscoreIDs(d), Presence: seen, CreatedAt: d.Created, UpdatedAt: d.Updated}
}

func app(a *access.App, seen *api.Presence) api.App {
	scopes := a.Scopes
	if scopes == nil {
		scopes = []string{}
	}
	return api.App{Id: a.ID, Name: a.Name, State: api.PrincipalState(a.State.String()), Scopes: scopes, Keys: len(a.Credentials),
		Presence: seen, CreatedAt: a.Created, UpdatedAt: a.Updated}
}

// presence finds when principals of a kind were last seen.
func (o *operations) presence(ctx context.Context, kind fieldgate.PrincipalKind, ids ...string) (map[string]*api.Presence, error) {
	found, err := o.config.Insight.Presence(ctx, kind, ids)
	if err != nil {
		return nil, err
	}
	rendered := make(map[string]*api.Presence, len(found))
	for id, p := range found {
		rendered[id] = &api.Presence{SeenAt: p.LastSeen, Protocol: api.Protocol(p.Protocol.String()), Node: p.Node, Source: p.Source,
			ExchangesToday: int64(p.Exchanges), RefusedToday: int64(p.Refusals), RefusedAt: p.RefusedAt, Problem: p.Refusal}
	}
	return rendered, nil
}

// listing reads what a list of principals was asked for.
func listing(p page, text string, keys []filter.Key, lastSeen bool) (wanted directory.Filter, err error) {
	wanted = directory.Filter{LastSeen: lastSeen, Limit: p.limit + 1}
	if wanted.Terms, err = filter.Parse(text, time.Now(), keys...); err != nil || p.after == "" {
		return wanted, err
	}
	parts, err := p.parts(2)
	if err != nil {
		return wanted, err
	}
	wanted.After.ID = parts[0]
	wanted.After.Seen, err = parseTimePart(parts[1])
	return wanted, err
}

func idsOf(list []directory.Listed) []string {
	ids := make([]string, len(list))
	for i, entry := range list {
		ids[i] = entry.ID
	}
	return ids
}

func (o *operations) ListDevices(ctx context.Context, request ListDevicesRequestObject) (ListDevicesResponseObject, error) {
	p := request.Params
	if p.Order != "" && !p.Order.Valid() {
		return nil, refusal.Invalid("%.60q is no order: it is id or seen.", string(p.Order))
	}
	page, err := newPage(p.Cursor, p.Limit, "devices", p.Filter, string(p.Order))
	if err != nil {
		return nil, err
	}
	wanted, err := listing(page, p.Filter, directory.DeviceKeys, p.Order == api.DeviceOrderSeen)
	if err != nil {
		return nil, err
	}
	list, err := o.config.Fleet.List(ctx, wanted)
	if err != nil {
		return nil, err
	}
	list, more := cut(list, page)
	seen, err := o.presence(ctx, fieldgate.PrincipalDevice, idsOf(list)...)
	if err != nil {
		return nil, err
	}
	answer := ListDevices200JSONResponse{Items: []api.Device{}}
	for _, d := range list {
		answer.Items = append(answer.Items, device(d.Principal, seen[d.ID]))
	}
	if more {
		last := list[len(list)-1]
		answer.Next = page.nextAt(last.ID, timePart(last.Seen))
	}
	return answer, nil
}

func (o *operations) AddDevice(ctx context.Context, request AddDeviceRequestObject) (AddDeviceResponseObject, error) {
	wanted, err := newDevice(request.Body)
	if err != nil {
		return nil, err
	}
	added, token, err := o.config.Fleet.Add(ctx, wanted)
	if err != nil {
		return nil, err
	}
	return AddDevice201JSONResponse{Body: api.DeviceWithToken{Device: device(added, nil), Token: token},
		Headers: AddDevice201ResponseHeaders{ETag: entityTag(added.Sequence)}}, nil
}

// deviceAnswer is a device as its GET answers it, after a decision that may have been refused.
func (o *operations) deviceAnswer(ctx context.Context, id string, d *fleet.Device, err error) (DeviceAnswerJSONResponse, error) {
	if err != nil {
		return DeviceAnswerJSONResponse{}, o.explainChange(ctx, err, "action:device.* target:"+id, func() (any, error) {
			present, err := o.config.Fleet.Get(ctx, id)
			if err != nil {
				return nil, err
			}
			answer, err := o.deviceAnswer(ctx, id, present, nil)
			return answer.Body, err
		})
	}
	seen, err := o.presence(ctx, fieldgate.PrincipalDevice, id)
	return DeviceAnswerJSONResponse{Body: device(d, seen[id]), Headers: DeviceAnswerResponseHeaders{ETag: entityTag(d.Sequence)}}, err
}

func (o *operations) GetDevice(ctx context.Context, request GetDeviceRequestObject) (GetDeviceResponseObject, error) {
	d, err := o.config.Fleet.Get(ctx, request.Device)
	answer, err := o.deviceAnswer(ctx, request.Device, d, err)
	if err != nil {
		return nil, err
	}
	answer.Body.Registration = o.registration(ctx, request.Device)
	return GetDevice200JSONResponse{answer}, nil
}

func basisOf(match string, reason *api.Reason) directory.Basis {
	basis := directory.Basis{Version: versionOf(match)}
	if reason != nil {
		basis.Reason = reason.Reason
	}
	return basis
}

func (o *operations) UpdateDevice(ctx context.Context, request UpdateDeviceRequestObject) (UpdateDeviceResponseObject, error) {
	d, err := o.config.Fleet.Update(ctx, request.Device, request.Body.Model, request.Body.Firmware, basisOf(request.Params.IfMatch, nil))
	answer, err := o.deviceAnswer(ctx, request.Device, d, err)
	if err != nil {
		return nil, err
	}
	return UpdateDevice200JSONResponse{answer}, nil
}

func (o *operations) IssueDeviceToken(ctx context.Context, request IssueDeviceTokenRequestObject) (IssueDeviceTokenResponseObject, error) {
	d, token, err := o.config.Fleet.IssueToken(ctx, request.Device, request.Params.Keep, basisOf(request.Params.IfMatch, nil))
	answer, err := o.deviceAnswer(ctx, request.Device, d, err)
	if err != nil {
		return nil, err
	}
	return IssueDeviceToken200JSONResponse{Body: api.DeviceWithToken{Device: answer.Body, Token: token},
		Headers: IssueDeviceToken200ResponseHeaders{ETag: answer.Headers.ETag}}, nil
}

func (o *operations) RevokeDevice(ctx context.Context, request RevokeDeviceRequestObject) (RevokeDeviceResponseObject, error) {
	d, err := o.config.Fleet.Revoke(ctx, request.Device, basisOf(request.Params.IfMatch, request.Body))
	answer, err := o.deviceAnswer(ctx, request.Device, d, err)
	if err != nil {
		return nil, err
	}
	return RevokeDevice200JSONResponse{answer}, nil
}

func (o *operations) QuarantineDevice(ctx context.Context, request QuarantineDeviceRequestObject) (QuarantineDeviceResponseObject, error) {
	d, err := o.config.Fleet.Quarantine(ctx, request.Device, basisOf(request.Params.IfMatch, request.Body))
	answer, err := o.deviceAnswer(ctx, request.Device, d, err)
	if err != nil {
		return nil, err
	}
	return QuarantineDevice200JSONResponse{answer}, nil
}

func (o *operations) ReleaseDevice(ctx context.Context, request ReleaseDeviceRequestObject) (ReleaseDeviceResponseObject, error) {
	d, err := o.config.Fleet.Release(ctx, request.Device, basisOf(request.Params.IfMatch, request.Body))
	answer, err := o.deviceAnswer(ctx, request.Device, d, err)
	if err != nil {
		return nil, err
	}
	return ReleaseDevice200JSONResponse{answer}, nil
}

func (o *operations) ListApps(ctx context.Context, request ListAppsRequestObject) (ListAppsResponseObject, error) {
	p := request.Params
	page, err := newPage(p.Cursor, p.Limit, "apps", p.Filter)
	if err != nil {
		return nil, err
	}
	wanted, err := listing(page, p.Filter, directory.AppKeys, false)
	if err != nil {
		return nil, err
	}
	list, err := o.config.Apps.List(ctx, wanted)
	if err != nil {
		return nil, err
	}
	list, more := cut(list, page)
	seen, err := o.presence(ctx, fieldgate.PrincipalApp, idsOf(list)...)
	if err != nil {
		return nil, err
	}
	answer := ListApps200JSONResponse{Items: []api.App{}}
	for _, a := range list {
		answer.Items = append(answer.Items, app(a.Principal, seen[a.ID]))
	}
	if more {
		last := list[len(list)-1]
		answer.Next = page.nextAt(last.ID, timePart(last.Seen))
	}
	return answer, nil
}

func (o *operations) AddApp(ctx context.Context, request AddAppRequestObject) (AddAppResponseObject, error) {
	added, key, err := o.config.Apps.Add(ctx, access.NewApp{ID: request.Body.Id, Name: request.Body.Name, Scopes: request.Body.Scopes})
	if err != nil {
		return nil, err
	}
	return AddApp201JSONResponse{Body: api.AppWithKey{App: app(added, nil), Key: key}, Headers: AddApp201ResponseHeaders{ETag: entityTag(added.Sequence)}}, nil
}

// appAnswer is an app as its GET answers it, after a decision that may have been refused.
func (o *operations) appAnswer(ctx context.Context, id string, a *access.App, err error) (AppAnswerJSONResponse, error) {
	if err != nil {
		return AppAnswerJSONResponse{}, o.explainChange(ctx, err, "action:app.* target:"+id, func() (any, error) {
			present, err := o.config.Apps.Get(ctx, id)
			if err != nil {
				return nil, err
			}
			answer, err := o.appAnswer(ctx, id, present, nil)
			return answer.Body, err
		})
	}
	seen, err := o.presence(ctx, fieldgate.PrincipalApp, id)
	return AppAnswerJSONResponse{Body: app(a, seen[id]), Headers: AppAnswerResponseHeaders{ETag: entityTag(a.Sequence)}}, err
}

func (o *operations) GetApp(ctx context.Context, request GetAppRequestObject) (GetAppResponseObject, error) {
	a, err := o.config.Apps.Get(ctx, request.App)
	answer, err := o.appAnswer(ctx, request.App, a, err)
	if err != nil {
		return nil, err
	}
	return GetApp200JSONResponse{answer}, nil
}

func (o *operations) UpdateApp(ctx context.Context, request UpdateAppRequestObject) (UpdateAppResponseObject, error) {
	a, err := o.config.Apps.Update(ctx, request.App, request.Body.Name, request.Body.Scopes, basisOf(request.Params.IfMatch, nil))
	answer, err := o.appAnswer(ctx, request.App, a, err)
	if err != nil {
		return nil, err
	}
	return UpdateApp200JSONResponse{answer}, nil
}

func (o *operations) IssueAppKey(ctx context.Context, request IssueAppKeyRequestObject) (IssueAppKeyResponseObject, error) {
	a, key, err := o.config.Apps.IssueKey(ctx, request.App, request.Params.Keep, basisOf(request.Params.IfMatch, nil))
	answer, err := o.appAnswer(ctx, request.App, a, err)
	if err != nil {
		return nil, err
	}
	return IssueAppKey200JSONResponse{Body: api.AppWithKey{App: answer.Body, Key: key}, Headers: IssueAppKey200ResponseHeaders{ETag: answer.Headers.ETag}}, nil
}

func (o *operations) RevokeApp(ctx context.Context, request RevokeAppRequestObject) (RevokeAppResponseObject, error) {
	a, err := o.config.Apps.Revoke(ctx, request.App, basisOf(request.Params.IfMatch, request.Body))
	answer, err := o.appAnswer(ctx, request.App, a, err)
	if err != nil {
		return nil, err
	}
	return RevokeApp200JSONResponse{answer}, nil
}
