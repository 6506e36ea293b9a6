package adminapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"time"

	"fieldgate/api"
	"fieldgate/control/access"
	"fieldgate/control/directory"
	"fieldgate/control/filter"
	"fieldgate/control/fleet"
	"fieldgate/control/refusal"
)

func device(d *fleet.Device) api.Device {
	return api.Device{Id: d.ID, State: api.PrincipalState(d.State.String()), Model: d.Model, Firmware: d.Firmware,
		Tokens: len(d.Credentials), CreatedAt: d.Created, UpdatedAt: d.Updated}
}

func app(a *access.App) api.App {
	scopes := a.Scopes
	if scopes == nil {
		scopes = []string{}
	}
	return api.App{Id: a.ID, Name: a.Name, State: api.PrincipalState(a.State.String()), Scopes: scopes, Keys: len(a.Credentials),
		CreatedAt: a.Created, UpdatedAt: a.Updated}
}

func principalFilter(cursor string, limit int, text string, keys []filter.Key) (directory.Filter, error) {
	page, err := newPage(cursor, limit)
	if err != nil {
		return directory.Filter{}, err
	}
	terms, err := filter.Parse(text, time.Now(), keys...)
	return directory.Filter{Terms: terms, After: page.after, Limit: page.limit + 1}, err
}

// next is the cursor of the page that follows, and the page without the entry that proved that there is one.
func next(list []*directory.Principal, limit int) (string, []*directory.Principal) {
	if len(list) <= limit {
		return "", list
	}
	return encodeCursor(list[limit-1].ID), list[:limit]
}

func (o *operations) ListDevices(ctx context.Context, request ListDevicesRequestObject) (ListDevicesResponseObject, error) {
	wanted, err := principalFilter(request.Params.Cursor, request.Params.Limit, request.Params.Filter, directory.DeviceKeys)
	if err != nil {
		return nil, err
	}
	list, err := o.config.Fleet.List(ctx, wanted)
	if err != nil {
		return nil, err
	}
	answer := ListDevices200JSONResponse{Items: []api.Device{}}
	answer.Next, list = next(list, wanted.Limit-1)
	for _, d := range list {
		answer.Items = append(answer.Items, device(d))
	}
	return answer, nil
}

func (o *operations) AddDevice(ctx context.Context, request AddDeviceRequestObject) (AddDeviceResponseObject, error) {
	added, token, err := o.config.Fleet.Add(ctx, fleet.NewDevice{ID: request.Body.Id, Model: request.Body.Model, Firmware: request.Body.Firmware})
	if err != nil {
		return nil, err
	}
	return AddDevice201JSONResponse{Body: api.DeviceWithToken{Device: device(added), Token: token}}, nil
}

func (o *operations) GetDevice(ctx context.Context, request GetDeviceRequestObject) (GetDeviceResponseObject, error) {
	d, err := o.config.Fleet.Get(ctx, request.Device)
	if err != nil {
		return nil, err
	}
	return GetDevice200JSONResponse{DeviceAnswerJSONResponse{Body: device(d)}}, nil
}

func (o *operations) UpdateDevice(ctx context.Context, request UpdateDeviceRequestObject) (UpdateDeviceResponseObject, error) {
	d, err := o.config.Fleet.Update(ctx, request.Device, request.Body.Model, request.Body.Firmware)
	if err != nil {
		return nil, err
	}
	return UpdateDevice200JSONResponse{DeviceAnswerJSONResponse{Body: device(d)}}, nil
}

func (o *operations) IssueDeviceToken(ctx context.Context, request IssueDeviceTokenRequestObject) (IssueDeviceTokenResponseObject, error) {
	d, token, err := o.config.Fleet.IssueToken(ctx, request.Device, request.Params.Keep)
	if err != nil {
		return nil, err
	}
	return IssueDeviceToken200JSONResponse{Body: api.DeviceWithToken{Device: device(d), Token: token}}, nil
}

func (o *operations) RevokeDevice(ctx context.Context, request RevokeDeviceRequestObject) (RevokeDeviceResponseObject, error) {
	d, err := o.config.Fleet.Revoke(ctx, request.Device)
	if err != nil {
		return nil, err
	}
	return RevokeDevice200JSONResponse{DeviceAnswerJSONResponse{Body: device(d)}}, nil
}

func (o *operations) QuarantineDevice(ctx context.Context, request QuarantineDeviceRequestObject) (QuarantineDeviceResponseObject, error) {
	d, err := o.config.Fleet.Quarantine(ctx, request.Device)
	if err != nil {
		return nil, err
	}
	return QuarantineDevice200JSONResponse{DeviceAnswerJSONResponse{Body: device(d)}}, nil
}

func (o *operations) ReleaseDevice(ctx context.Context, request ReleaseDeviceRequestObject) (ReleaseDeviceResponseObject, error) {
	d, err := o.config.Fleet.Release(ctx, request.Device)
	if err != nil {
		return nil, err
	}
	return ReleaseDevice200JSONResponse{DeviceAnswerJSONResponse{Body: device(d)}}, nil
}

func (o *operations) ListApps(ctx context.Context, request ListAppsRequestObject) (ListAppsResponseObject, error) {
	wanted, err := principalFilter(request.Params.Cursor, request.Params.Limit, request.Params.Filter, directory.AppKeys)
	if err != nil {
		return nil, err
	}
	list, err := o.config.Apps.List(ctx, wanted)
	if err != nil {
		return nil, err
	}
	answer := ListApps200JSONResponse{Items: []api.App{}}
	answer.Next, list = next(list, wanted.Limit-1)
	for _, a := range list {
		answer.Items = append(answer.Items, app(a))
	}
	return answer, nil
}

func (o *operations) AddApp(ctx context.Context, request AddAppRequestObject) (AddAppResponseObject, error) {
	added, key, err := o.config.Apps.Add(ctx, access.NewApp{ID: request.Body.Id, Name: request.Body.Name, Scopes: request.Body.Scopes})
	if err != nil {
		return nil, err
	}
	return AddApp201JSONResponse{Body: api.AppWithKey{App: app(added), Key: key}}, nil
}

func (o *operations) GetApp(ctx context.Context, request GetAppRequestObject) (GetAppResponseObject, error) {
	a, err := o.config.Apps.Get(ctx, request.App)
	if err != nil {
		return nil, err
	}
	return GetApp200JSONResponse{AppAnswerJSONResponse{Body: app(a)}}, nil
}

func (o *operations) IssueAppKey(ctx context.Context, request IssueAppKeyRequestObject) (IssueAppKeyResponseObject, error) {
	a, key, err := o.config.Apps.IssueKey(ctx, request.App, request.Params.Keep)
	if err != nil {
		return nil, err
	}
	return IssueAppKey200JSONResponse{Body: api.AppWithKey{App: app(a), Key: key}}, nil
}

func (o *operations) RevokeApp(ctx context.Context, request RevokeAppRequestObject) (RevokeAppResponseObject, error) {
	a, err := o.config.Apps.Revoke(ctx, request.App)
	if err != nil {
		return nil, err
	}
	return RevokeApp200JSONResponse{AppAnswerJSONResponse{Body: app(a)}}, nil
}

const (
	importBatch   = 1000
	maxImportLine = 4 << 10
)

func (o *operations) ImportDevices(ctx context.Context, request ImportDevicesRequestObject) (ImportDevicesResponseObject, error) {
	lines := bufio.NewScanner(request.Body)
	lines.Buffer(make([]byte, 0, maxImportLine), maxImportLine)
	return ImportDevices200ApplicationxNdjsonResponse{Body: &importer{ctx: ctx, fleet: o.config.Fleet, lines: lines}}, nil
}

// importer is the answer to an import: reading it carries the import out, batch by batch.
type importer struct {
	ctx    context.Context
	fleet  *fleet.Fleet
	lines  *bufio.Scanner
	answer bytes.Buffer
	ended  bool
}

func (i *importer) Read(p []byte) (int, error) {
	for i.answer.Len() == 0 {
		if i.ended {
			return 0, io.EOF
		}
		i.answer.Reset()
		if err := i.nextBatch(); err != nil {
			// The status is sent already: the last line says what happened.
			i.ended = true
			i.tell(api.ImportLine{Problem: new(problemOf(err))})
		}
	}
	return i.answer.Read(p)
}

func (i *importer) nextBatch() error {
	var devices []fleet.NewDevice
	unreadable := make(map[int]bool) // by the place in the batch
	for len(devices) < importBatch && !i.ended {
		if !i.lines.Scan() {
			i.ended = true
			break
		}
		line := bytes.TrimSpace(i.lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var device api.NewDevice
		if err := json.Unmarshal(line, &device); err != nil {
			unreadable[len(devices)] = true
			device = api.NewDevice{}
		}
		devices = append(devices, fleet.NewDevice{ID: device.Id, Model: device.Model, Firmware: device.Firmware})
	}
	if len(devices) > 0 {
		imported, err := i.fleet.Import(i.ctx, devices)
		if err != nil {
			return err
		}
		for place, result := range imported {
			told := api.ImportLine{Id: result.ID, Token: result.Token}
			if result.Refused != nil {
				told.Problem = new(problemOf(result.Refused))
			}
			if unreadable[place] {
				told.Problem = new(problemOf(refusal.Invalid("The line is no JSON object of a device.")))
			}
			i.tell(told)
		}
	}
	if i.lines.Err() == bufio.ErrTooLong {
		return refusal.Invalid("A line has at most %d bytes; this one and the following were not read.", maxImportLine)
	}
	return i.lines.Err()
}

func (i *importer) tell(result api.ImportLine) {
	if err := json.NewEncoder(&i.answer).Encode(result); err != nil {
		panic(err) // plain strings and numbers
	}
}
