package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"fieldgate/api"
	"fieldgate/api/client"
)

type action string

const (
	actionCreate action = "create"
	actionChange action = "change"
	actionKeep   action = "keep"
	actionEnd    action = "end"
)

// step is one line of a plan and, unless it keeps things as they are, the decision behind it. apply gives the secret of
// what it created.
type step struct {
	Action action `json:"action"`
	Kind   string `json:"kind"` // api, device or app
	ID     string `json:"id"`
	Detail string `json:"detail,omitempty"`

	Operations []api.OperationChange `json:"operations,omitempty"` // of an API: those that change

	document *contractFile // of a contract, which is published with the others
	apply    func(context.Context) (secret string, err error)
}

// changes is how to get from what is to what is wanted.
type changes struct {
	steps    []*step
	findings []api.ContractFinding
}

func (c *changes) add(s *step) { c.steps = append(c.steps, s) }

func (c *changes) pending() []*step {
	var pending []*step
	for _, s := range c.steps {
		if s.Action != actionKeep {
			pending = append(pending, s)
		}
	}
	return pending
}

// applySteps makes the changes in their order, those of contracts in one decision, and stops at the first that fails; a second
// run goes on from there.
func applySteps(ctx context.Context, admin *client.ClientWithResponses, notes io.Writer, pending []*step, secrets *tokenFile) error {
	var files []contractFile
	for _, s := range pending {
		if s.document != nil {
			files = append(files, *s.document)
		}
	}
	published, err := publishAll(ctx, admin, notes, files, false)
	if err != nil {
		return stopped(err, len(published), len(pending))
	}
	for i, s := range pending {
		if s.document != nil {
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %d of %d changes were made; apply again to go on", i, len(pending))
		}
		// What was asked for is waited for: a secret is told once, and would be lost with the answer.
		secret, err := s.apply(context.WithoutCancel(ctx))
		if err == nil && secret != "" {
			err = secrets.add(s.Kind, s.ID, secret)
		}
		if err != nil {
			return stopped(fmt.Errorf("%s %s: %w", s.Kind, s.ID, err), i, len(pending))
		}
	}
	return nil
}

// stopped says how far it came. Where no answer came, what was asked for last may have been carried out.
func stopped(err error, made, all int) error {
	least := "at least "
	if problem := new(api.Problem); errors.As(err, &problem) && problem.Status < 500 {
		least = ""
	}
	return fmt.Errorf("%w (%s%d of %d changes were made; apply again once this is put right)", err, least, made, all)
}

func planChanges(ctx context.Context, admin *client.ClientWithResponses, notes io.Writer, wanted *desired, prune bool) (*changes, error) {
	plan := &changes{}
	if err := planContracts(ctx, admin, notes, plan, wanted.contracts, prune); err != nil {
		return nil, err
	}
	if wanted.devices != nil {
		if err := planDevices(ctx, admin, plan, wanted.devices, prune); err != nil {
			return nil, err
		}
	}
	if wanted.apps != nil {
		if err := planApps(ctx, admin, plan, wanted.apps, prune); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

func planContracts(ctx context.Context, admin *client.ClientWithResponses, notes io.Writer, plan *changes, files []contractFile, prune bool) error {
	plans, err := publishAll(ctx, admin, notes, files, true)
	if err != nil {
		return err
	}
	source := map[string]string{} // "api version" to file
	for i := range plans {
		p, file := &plans[i], files[i]
		key := p.Api + " " + p.Version
		if other, twice := source[key]; twice { // in different portions
			return fmt.Errorf("%s and %s are both %s: keep one of them", other, file.name, key)
		}
		source[key] = file.name
		plan.findings = append(plan.findings, p.Findings...)
		s := contractStep(p)
		s.document = &file
		plan.add(s)
	}
	for i, p := range plans {
		for _, superseded := range p.Supersedes {
			// Published in turn they would supersede each other at every run.
			if other, both := source[p.Api+" "+superseded]; both {
				return fmt.Errorf("%s and %s are versions of %s on the same routes: keep one of them", other, files[i].name, p.Api)
			}
		}
	}
	if !prune {
		return nil
	}
	return planRetirements(ctx, admin, plan, plans)
}

// contractStep says what publishing a document does.
func contractStep(p *api.Plan) *step {
	s := &step{Kind: "api", ID: p.Api + " " + p.Version, Operations: touched(p)}
	switch p.Change {
	case api.ChangeNone:
		s.Action, s.Detail = actionKeep, p.Title
	case api.ChangeNewApi, api.ChangeNewVersion:
		s.Action, s.Detail = actionCreate, contractDetail(p)
	default:
		s.Action, s.Detail = actionChange, contractDetail(p)
	}
	return s
}

// contractDetail says what becomes of the operations.
func contractDetail(p *api.Plan) string {
	count := map[api.OperationChangeChange]int{}
	for _, o := range p.Operations {
		count[o.Change]++
	}
	var parts []string
	for _, change := range []api.OperationChangeChange{api.OperationAdded, api.OperationChanged, api.OperationRemoved, api.OperationUnchanged} {
		if n := count[change]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, change))
		}
	}
	return fmt.Sprintf("%s; operations: %s", changeText(p), strings.Join(parts, ", "))
}

// planRetirements ends the APIs that no document is about.
func planRetirements(ctx context.Context, admin *client.ClientWithResponses, plan *changes, plans []api.Plan) error {
	existing, err := allPages(func(cursor string) ([]api.Api, string, error) {
		answer, err := admin.ListApisWithResponse(ctx, &api.ListApisParams{Cursor: cursor, Limit: pageSize})
		if err != nil {
			return nil, "", err
		}
		return answer.JSON200.Items, answer.JSON200.Next, nil
	})
	if err != nil {
		return err
	}
	for _, a := range existing {
		if a.BuiltIn || slices.ContainsFunc(plans, func(p api.Plan) bool { return p.Api == a.Name }) {
			continue
		}
		answer, err := admin.GetApiWithResponse(ctx, a.Name)
		if err != nil {
			return err
		}
		for _, v := range answer.JSON200.Versions {
			if v.State != api.LifecycleActive && v.State != api.LifecycleDeprecated {
				continue
			}
			plan.add(&step{Action: actionEnd, Kind: "api", ID: v.Api + " " + v.Version, Detail: "retire: no document is about it", apply: func(ctx context.Context) (string, error) {
				_, err := admin.RetireVersionWithResponse(ctx, v.Api, v.Version, nil)
				return "", err
			}})
		}
	}
	return nil
}

func planDevices(ctx context.Context, admin *client.ClientWithResponses, plan *changes, wanted []desiredDevice, prune bool) error {
	existing, err := allPages(func(cursor string) ([]api.Device, string, error) {
		answer, err := admin.ListDevicesWithResponse(ctx, &api.ListDevicesParams{Cursor: cursor, Limit: pageSize})
		if err != nil {
			return nil, "", err
		}
		return answer.JSON200.Items, answer.JSON200.Next, nil
	})
	if err != nil {
		return err
	}
	byID := map[string]*api.Device{}
	for i := range existing {
		byID[existing[i].Id] = &existing[i]
	}
	for i := range wanted {
		s, err := planDevice(admin, &wanted[i], byID[wanted[i].ID])
		if err != nil {
			return err
		}
		plan.add(s)
		delete(byID, wanted[i].ID)
	}
	for i := range existing {
		d := &existing[i]
		if !prune || byID[d.Id] == nil || d.State == api.PrincipalStateRevoked {
			continue
		}
		plan.add(&step{Action: actionEnd, Kind: "device", ID: d.Id, Detail: "revoke: it is not listed", apply: func(ctx context.Context) (string, error) {
			_, err := admin.RevokeDeviceWithResponse(ctx, d.Id, nil, api.Reason{})
			return "", err
		}})
	}
	return nil
}

func planDevice(admin *client.ClientWithResponses, wanted *desiredDevice, is *api.Device) (*step, error) {
	s := &step{Kind: "device", ID: wanted.ID}
	if is == nil {
		s.Action, s.Detail = actionCreate, strings.TrimSpace(wanted.Model+" "+wanted.Firmware)
		s.apply = func(ctx context.Context) (string, error) {
			answer, err := admin.AddDeviceWithResponse(ctx, nil, api.NewDevice{Id: wanted.ID, Model: wanted.Model, Firmware: wanted.Firmware})
			if err != nil || wanted.State == api.PrincipalStateActive {
				return tokenOf(answer), err
			}
			return tokenOf(answer), setState(ctx, admin, wanted.ID, wanted.State)
		}
		return s, nil
	}
	if is.State == api.PrincipalStateRevoked {
		return nil, fmt.Errorf("device %s was revoked for good: take it off the list, or give it another id", wanted.ID)
	}
	var update api.DeviceUpdate
	var parts []string
	if wanted.Model != is.Model {
		update.Model = &wanted.Model
		parts = append(parts, fmt.Sprintf("model %s → %s", dash(is.Model), dash(wanted.Model)))
	}
	if wanted.Firmware != is.Firmware {
		update.Firmware = &wanted.Firmware
		parts = append(parts, fmt.Sprintf("firmware %s → %s", dash(is.Firmware), dash(wanted.Firmware)))
	}
	newState := wanted.State != is.State
	if newState {
		parts = append(parts, fmt.Sprintf("%s → %s", is.State, wanted.State))
	}
	if len(parts) == 0 {
		s.Action = actionKeep
		return s, nil
	}
	s.Action, s.Detail = actionChange, strings.Join(parts, ", ")
	s.apply = func(ctx context.Context) (string, error) {
		if update != (api.DeviceUpdate{}) {
			if _, err := admin.UpdateDeviceWithResponse(ctx, wanted.ID, nil, update); err != nil {
				return "", err
			}
		}
		if newState {
			return "", setState(ctx, admin, wanted.ID, wanted.State)
		}
		return "", nil
	}
	return s, nil
}

func tokenOf(answer *client.AddDeviceResponse) string {
	if answer == nil || answer.JSON201 == nil {
		return ""
	}
	return answer.JSON201.Token
}

func setState(ctx context.Context, admin *client.ClientWithResponses, id string, state api.PrincipalState) error {
	if state == api.PrincipalStateQuarantined {
		_, err := admin.QuarantineDeviceWithResponse(ctx, id, nil, api.Reason{})
		return err
	}
	_, err := admin.ReleaseDeviceWithResponse(ctx, id, nil, api.Reason{})
	return err
}

func planApps(ctx context.Context, admin *client.ClientWithResponses, plan *changes, wanted []desiredApp, prune bool) error {
	existing, err := allPages(func(cursor string) ([]api.App, string, error) {
		answer, err := admin.ListAppsWithResponse(ctx, &api.ListAppsParams{Cursor: cursor, Limit: pageSize})
		if err != nil {
			return nil, "", err
		}
		return answer.JSON200.Items, answer.JSON200.Next, nil
	})
	if err != nil {
		return err
	}
	for i := range wanted {
		w := &wanted[i]
		at := slices.IndexFunc(existing, func(a api.App) bool { return a.Id == w.ID })
		if at < 0 {
			plan.add(&step{Action: actionCreate, Kind: "app", ID: w.ID, Detail: strings.Join(w.Scopes, ", "), apply: func(ctx context.Context) (string, error) {
				answer, err := admin.AddAppWithResponse(ctx, nil, api.NewApp{Id: w.ID, Name: w.Name, Scopes: w.Scopes})
				if err != nil {
					return "", err
				}
				return answer.JSON201.Key, nil
			}})
			continue
		}
		is := existing[at]
		if is.State == api.PrincipalStateRevoked {
			return fmt.Errorf("app %s was revoked for good: take it off the list, or give it another id", w.ID)
		}
		slices.Sort(is.Scopes)
		if is.Name != w.Name || !slices.Equal(is.Scopes, w.Scopes) {
			return fmt.Errorf("app %s is registered as %q with the scopes [%s], which cannot be changed: list it so, or give the new one another id",
				w.ID, is.Name, strings.Join(is.Scopes, ", "))
		}
		plan.add(&step{Action: actionKeep, Kind: "app", ID: w.ID})
	}
	if !prune {
		return nil
	}
	for _, a := range existing {
		if a.State == api.PrincipalStateRevoked || slices.ContainsFunc(wanted, func(w desiredApp) bool { return w.ID == a.Id }) {
			continue
		}
		plan.add(&step{Action: actionEnd, Kind: "app", ID: a.Id, Detail: "revoke: it is not listed", apply: func(ctx context.Context) (string, error) {
			_, err := admin.RevokeAppWithResponse(ctx, a.Id, nil, api.Reason{})
			return "", err
		}})
	}
	return nil
}
