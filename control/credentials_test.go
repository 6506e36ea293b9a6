package control

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/rollout"
	"fieldgate/test/certtest"
)

const longPSK = "000102030405060708090a0b0c0d0e0f"

// A pre-shared key is in one answer, and in none after it; certificates are shown as they are.
func TestCredentialsOfADevice(t *testing.T) {
	n := start(t, socketDirectory(t))
	b := n.browser(t)
	b.header = http.Header{"Authorization": {"Bearer " + n.token}}
	b.want(201, "POST", "/api/v1/devices", object("id", "d7"), nil)
	b.header.Set("Idempotency-Key", "one-decision-about-d7")
	var first, again api.DeviceWithPsk
	b.want(200, "PUT", "/api/v1/devices/d7/psk", "{}", &first)
	b.want(200, "PUT", "/api/v1/devices/d7/psk", "{}", &again)
	if len(first.Key) != 64 || first.Identity != "d7" || first.Key != again.Key || first.Device.UpdatedAt != again.Device.UpdatedAt {
		t.Fatalf("%+v %+v", first, again)
	}
	b.header.Del("Idempotency-Key")
	certificate, _ := certtest.PEM(t, certtest.NewAuthority(t).Issue(t, -time.Hour, time.Hour, "pump"))
	var device api.Device
	b.want(200, "POST", "/api/v1/devices/d7/certificates", object("certificate", string(certificate)), &device)
	if device.PskIdentity != "d7" || len(device.Certificates) != 1 || device.Certificates[0].Subject != "CN=pump" {
		t.Errorf("%+v", device)
	}
	var page api.DevicePage
	b.want(200, "GET", "/api/v1/devices?filter=d7", "", &page)
	if encoded, _ := json.Marshal(page); strings.Contains(string(encoded), first.Key) || len(page.Items) != 1 || len(page.Items[0].Certificates) != 1 {
		t.Errorf("%s", encoded)
	}
	for name, refused := range map[string]struct {
		status             int
		method, path, body string
	}{
		"a key of no digits":      {422, "PUT", "/psk", object("key", strings.Repeat("xy", 16))},
		"an odd number of digits": {422, "PUT", "/psk", object("key", longPSK+"0")},
		"a key too short":         {422, "PUT", "/psk", object("key", longPSK[:30])},
		"no certificate":          {422, "POST", "/certificates", object("certificate", "pump")},
		"no fingerprint":          {422, "DELETE", "/certificates/pump", ""},
		"another fingerprint":     {404, "DELETE", "/certificates/" + strings.Repeat("0", 64), ""},
	} {
		if status := b.send(refused.method, "/api/v1/devices/d7"+refused.path, refused.body, nil); status != refused.status && !(refused.status == 422 && status == 400) {
			t.Errorf("%s: %d", name, status)
		}
	}
	b.want(200, "DELETE", "/api/v1/devices/d7/certificates/"+device.Certificates[0].Fingerprint, "", &device)
	device = api.Device{}
	b.want(200, "DELETE", "/api/v1/devices/d7/psk", "", &device)
	if device.PskIdentity != "" || device.Certificates != nil {
		t.Errorf("%+v", device)
	}
}

// The status names each node that cannot open the pre-shared keys, as long as there are any.
func TestNodesWithoutTheSecretsKey(t *testing.T) {
	n := start(t, socketDirectory(t))
	b := n.browser(t)
	b.header = http.Header{"Authorization": {"Bearer " + n.token}}
	b.want(201, "POST", "/api/v1/devices", object("id", "d7"), nil)
	told := func() (nodes []string) {
		t.Helper()
		var status api.Status
		b.want(200, "GET", "/api/v1/status", "", &status)
		for _, w := range status.Warnings {
			if w.Code == api.WarningSecretsKey {
				nodes = append(nodes, w.Node)
			}
		}
		return nodes
	}
	say := func(node, key, problem string) {
		t.Helper()
		state, err := json.Marshal(fieldgate.GatewayState{Node: node, Epoch: 1, SecretsKey: key, SecretsProblem: problem})
		if err == nil {
			err = n.bus.Publish(fieldgate.SubjectGatewayState, state)
		}
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); !slices.ContainsFunc(n.control.rollout.List(), func(g rollout.Gateway) bool {
			return g.Node == node && g.SecretsKey == key
		}); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the gateway is not heard")
			}
		}
	}
	say("g1", "", "")
	say("g2", "", "others may read it")
	if nodes := told(); !slices.Equal(nodes, []string{"g2"}) {
		t.Errorf("without a key in use: %v", nodes)
	}
	b.want(200, "PUT", "/api/v1/devices/d7/psk", object("key", longPSK), nil)
	say("g3", n.control.config.Secrets.Name(), "")
	say("g4", "0011223344556677", "")
	nodes := told()
	if slices.Sort(nodes); !slices.Equal(nodes, []string{"g1", "g2", "g4"}) {
		t.Errorf("%v", nodes)
	}
	b.want(200, "DELETE", "/api/v1/devices/d7/psk", "", nil)
	if nodes := told(); !slices.Equal(nodes, []string{"g2"}) {
		t.Errorf("after the last key is gone: %v", nodes)
	}
}
