package control

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/engine/bus"
	"fieldgate/engine/devices"
)

// playsDevice registers a device, for which a gateway answers that plays it: it says what it was asked.
func (n *node) playsDevice(t *testing.T, gateway, device string) {
	t.Helper()
	registration := &fieldgate.DeviceRegistration{Device: device, Lifetime: time.Hour, Left: time.Hour, Node: gateway, Transport: "coap", Links: "</t>;rt=\"a,b\",</u>", Sleeps: true}
	shared := devices.New(n.bus)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // until there is the stream
		err := shared.Register(t.Context(), device, func(*fieldgate.DeviceRegistration) (*fieldgate.DeviceRegistration, error) { return registration, nil })
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	stop, err := n.bus.ServeEach(fieldgate.SubjectDeviceAsk+gateway, 4, func(_ context.Context, data []byte) (bus.Answer, error) {
		var asked fieldgate.DeviceQuestion
		if err := json.Unmarshal(data, &asked); err != nil {
			return bus.Answer{}, err
		}
		reply := fieldgate.DeviceReply{Answer: &fieldgate.DeviceAnswer{Code: "2.05", Status: 200, Body: []byte(asked.Device + asked.Request.Path)}}
		if asked.Request.Path == "/gone" {
			reply = fieldgate.DeviceReply{Problem: fieldgate.NewProblem(fieldgate.ProblemUpstreamTimeout, "The device does not answer.")}
		}
		encoded, err := json.Marshal(&reply)
		return bus.Answer{Data: encoded}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
}

// What a device has registered, what it answers, and what waits for it, as an operator sees it.
func TestDevicesAreAsked(t *testing.T) {
	n := start(t, t.TempDir())
	ctx := t.Context()
	for _, id := range []string{"d7", "d8"} {
		if _, err := n.AddDeviceWithResponse(ctx, nil, api.NewDevice{Id: id}); err != nil {
			t.Fatal(err)
		}
	}
	n.playsDevice(t, "g1", "d7")
	shown, err := n.GetDeviceWithResponse(ctx, "d7")
	if err != nil {
		t.Fatal(err)
	}
	if r := shown.JSON200.Registration; r == nil || r.Node != "g1" || !r.Sleeps || r.LifetimeSeconds != 3600 || r.LeftSeconds < 3000 || r.Links != "</t>;rt=\"a,b\",</u>" {
		t.Errorf("%+v", r)
	}
	if shown, err = n.GetDeviceWithResponse(ctx, "d8"); err != nil || shown.JSON200.Registration != nil {
		t.Error(err)
	}
	answer, err := n.AskDeviceWithResponse(ctx, "d7", api.DeviceRequest{Method: "get", Path: "/t"})
	if err != nil || answer.JSON200.Code != "2.05" || string(answer.JSON200.Body) != "d7/t" {
		t.Error(answer, err)
	}
	for _, test := range []struct {
		device string
		asked  api.DeviceRequest
		want   int
	}{
		{"d8", api.DeviceRequest{Method: "GET", Path: "/t"}, http.StatusConflict}, // not registered
		{"d9", api.DeviceRequest{Method: "GET", Path: "/t"}, http.StatusNotFound},
		{"d7", api.DeviceRequest{Method: "GET", Path: "/gone"}, http.StatusConflict},
		{"d7", api.DeviceRequest{Method: "BREW", Path: "/t"}, http.StatusBadRequest},
		{"d7", api.DeviceRequest{Method: "GET", Path: "t"}, http.StatusBadRequest},
		{"d7", api.DeviceRequest{Method: "GET", Path: "/t", TimeoutSeconds: 121}, http.StatusBadRequest},
	} {
		if _, err := n.AskDeviceWithResponse(ctx, test.device, test.asked); status(err) != test.want {
			t.Errorf("%s %+v: %v", test.device, test.asked, err)
		}
	}
	queue := func(path string) *api.DeviceCommand {
		t.Helper()
		queued, err := n.QueueDeviceCommandWithResponse(ctx, "d7", api.NewDeviceCommand{Request: api.DeviceRequest{Method: "POST", Path: path, Body: []byte("secret")}, WaitSeconds: 60})
		if err != nil {
			t.Fatal(err)
		}
		return queued.JSON202
	}
	first, second := queue("/a"), queue("/b")
	list, err := n.ListDeviceCommandsWithResponse(ctx, "d7")
	if err != nil || len(list.JSON200.Items) != 2 || list.JSON200.Items[0].Id != second.Id || list.JSON200.Items[1].State != api.CommandQueued {
		t.Fatal(list, err)
	}
	cancelled, err := n.CancelDeviceCommandWithResponse(ctx, "d7", first.Id)
	if err != nil || cancelled.JSON200.State != api.CommandCancelled {
		t.Error(err)
	}
	if _, err := n.CancelDeviceCommandWithResponse(ctx, "d7", first.Id); status(err) != http.StatusConflict {
		t.Error(err)
	}
	if _, err := n.GetDeviceCommandWithResponse(ctx, "d7", "nothing"); status(err) != http.StatusNotFound {
		t.Error(err)
	}
	for i := 1; i < fieldgate.MaxDeviceCommands; i++ {
		queue("/c")
	}
	if _, err := n.QueueDeviceCommandWithResponse(ctx, "d7", api.NewDeviceCommand{Request: api.DeviceRequest{Method: "POST", Path: "/d"}, WaitSeconds: 60}); status(err) != http.StatusConflict {
		t.Error(err)
	}
}
