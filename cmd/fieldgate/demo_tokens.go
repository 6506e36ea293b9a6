package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"fieldgate/api"
	"fieldgate/sim"
)

const demoTokensName = "tokens.json"

// demoTokens are the secrets of simulated devices and apps, kept so that a second run goes on with them. Real devices keep
// theirs to themselves.
type demoTokens struct {
	Devices map[string]string `json:"devices"`
	Keys    map[string]string `json:"keys"` // of devices that make DTLS sessions; texts, so that one can be pasted
	Apps    map[string]string `json:"apps"`

	path string
}

func readDemoTokens(path string) (*demoTokens, error) {
	t := &demoTokens{Devices: map[string]string{}, Keys: map[string]string{}, Apps: map[string]string{}, path: path}
	encoded, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(encoded, t); err != nil {
		return nil, fmt.Errorf("%s is damaged: delete it, and new tokens are issued (%w)", path, err)
	}
	return t, nil
}

// write replaces the file as a whole; only its owner can read it.
func (t *demoTokens) write() error {
	encoded, err := json.Marshal(t)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(t.path), demoTokensName+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(encoded)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return os.Rename(file.Name(), t.path)
}

// pskOf makes a pre-shared key for a device and keeps it.
func (t *demoTokens) pskOf(device string) *api.NewPsk {
	t.Keys[device] = rand.Text()
	return &api.NewPsk{Key: hex.EncodeToString([]byte(t.Keys[device]))}
}

// pskBytes are the keys as devices need them.
func (t *demoTokens) pskBytes() map[string][]byte {
	keys := make(map[string][]byte)
	for device, key := range t.Keys {
		keys[device] = []byte(key)
	}
	return keys
}

// withToken leaves out devices that the gateway knows and that have no token, because an operator revoked them.
func (t *demoTokens) withToken(devices []sim.Device) []sim.Device {
	return slices.DeleteFunc(devices, func(d sim.Device) bool {
		return d.Registered() && t.Devices[d.ID] == "" || d.Transport == sim.DTLS && t.Keys[d.ID] == ""
	})
}

// register makes sure that devices and app are known and that we have their secrets. What an operator did to them meanwhile
// (quarantine, revocation) stays.
func (d *demo) register(ctx context.Context, devices []sim.Device) error {
	known, err := allPages(func(cursor string) ([]api.Device, string, error) {
		answer, err := d.admin.ListDevicesWithResponse(ctx, &api.ListDevicesParams{Cursor: cursor, Limit: pageSize})
		if err != nil {
			return nil, "", err
		}
		return answer.JSON200.Items, answer.JSON200.Next, nil
	})
	if err != nil {
		return err
	}
	state := map[string]api.PrincipalState{}
	for _, device := range known {
		state[device.Id] = device.State
	}
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for _, device := range append([]sim.Device{{ID: visitor, Model: "T2", Firmware: "2.0.1", Transport: sim.DTLS}}, devices...) {
		if !device.Registered() || state[device.ID] == api.PrincipalStateRevoked {
			continue
		}
		if state[device.ID] == "" {
			added := api.NewDevice{Id: device.ID, Model: device.Model, Firmware: device.Firmware}
			if device.Transport == sim.DTLS {
				added.Psk = d.tokens.pskOf(device.ID)
			}
			if err := encoder.Encode(added); err != nil {
				return err
			}
			continue
		}
		if d.tokens.Devices[device.ID] == "" {
			answer, err := d.admin.IssueDeviceTokenWithResponse(ctx, device.ID, &api.IssueDeviceTokenParams{})
			if err != nil {
				return err
			}
			d.tokens.Devices[device.ID] = answer.JSON200.Token
		}
		if device.Transport == sim.DTLS && d.tokens.Keys[device.ID] == "" {
			if _, err := d.admin.SetDevicePskWithResponse(ctx, device.ID, nil, *d.tokens.pskOf(device.ID)); err != nil {
				return err
			}
		}
	}
	if err := d.importDevices(ctx, &lines); err != nil {
		return err
	}
	if state[outcast] == "" {
		if _, err := d.admin.QuarantineDeviceWithResponse(ctx, outcast, nil, api.Reason{Reason: "the demo shows a device in quarantine"}); err != nil {
			return err
		}
	}
	if err := d.registerApp(ctx); err != nil {
		return err
	}
	return d.tokens.write()
}

func (d *demo) importDevices(ctx context.Context, lines *bytes.Buffer) error {
	if lines.Len() == 0 {
		return nil
	}
	// Not through the generated reader, which would take the lines for one object.
	answer, err := d.admin.ImportDevicesWithBody(ctx, nil, "application/x-ndjson", lines)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	decoder := json.NewDecoder(answer.Body)
	for {
		var imported api.ImportLine
		if err := decoder.Decode(&imported); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("the answer to the import cannot be read: %w", err)
		}
		if imported.Problem != nil {
			return fmt.Errorf("device %s: %w", imported.Id, imported.Problem)
		}
		if imported.Token != "" {
			d.tokens.Devices[imported.Id] = imported.Token
		}
	}
}

var dashboardScopes = []string{"positions.read", "commands.send", "state.read", "tariff.read", "lamps.write", "rooms.read", "rooms.write"}

func (d *demo) registerApp(ctx context.Context) error {
	apps, err := d.admin.ListAppsWithResponse(ctx, &api.ListAppsParams{Limit: pageSize})
	if err != nil {
		return err
	}
	at := slices.IndexFunc(apps.JSON200.Items, func(a api.App) bool { return a.Id == dashboard })
	if at < 0 {
		answer, err := d.admin.AddAppWithResponse(ctx, nil, api.NewApp{Id: dashboard, Name: "Demo dashboard", Scopes: dashboardScopes})
		if err != nil {
			return err
		}
		d.tokens.Apps[dashboard] = answer.JSON201.Key
		return nil
	}
	app := apps.JSON200.Items[at]
	if app.State == api.PrincipalStateRevoked {
		return nil
	}
	if scopes := slices.Compact(slices.Sorted(slices.Values(slices.Concat(app.Scopes, dashboardScopes)))); len(scopes) > len(app.Scopes) { // the folder is an older version's
		if _, err := d.admin.UpdateAppWithResponse(ctx, dashboard, nil, api.AppUpdate{Scopes: &scopes}); err != nil {
			return err
		}
	}
	if d.tokens.Apps[dashboard] == "" {
		answer, err := d.admin.IssueAppKeyWithResponse(ctx, dashboard, &api.IssueAppKeyParams{})
		if err != nil {
			return err
		}
		d.tokens.Apps[dashboard] = answer.JSON200.Key
	}
	return nil
}
