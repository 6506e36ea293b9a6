package gateway

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/protocol/mqtt"
	"fieldgate/test/nats"
)

// What comes from another gateway is seen as a contract says where it is heard: whoever it shows less sees less, over every protocol.
func TestPrivacyOfWhatIsHeardElsewhere(t *testing.T) {
	url := nats.New(t, 1, "").URLs()
	connect := func(name string) *bus.Bus {
		b, err := bus.Connect(bus.Cluster{URLs: url, Name: name, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	control := connect("control")
	if _, err := control.Keep(t.Context(), bus.Stream{Name: fieldgate.StreamRecords, Subjects: []string{fieldgate.SubjectRecords + ">"}, MaxBytes: 1 << 20, MaxAge: time.Hour}); err != nil {
		t.Fatal(err)
	}
	p := &plane{}
	p.publish(t, carsContract(t, "1.0.0", carsPrivacy))
	there := &garage{control: p, tokens: make(map[string]string), hashes: make(map[string][]fieldgate.CredentialHash)}
	for id, scopes := range map[string][]string{"c1": nil, "map": nil, "police": {"cars.exact"}} {
		there.tokens[id], there.hashes[id] = newToken(t)
		there.principal(t, id, scopes...)
	}
	p.open(t, control)
	t.Cleanup(p.close)
	here := *there
	here.running = runAs(t, "n1", t.TempDir(), connect("n1"))
	there.running = runAs(t, "n2", t.TempDir(), connect("n2"))
	for _, g := range []*garage{&here, there} {
		g.get("/cars/c1/position", g.tokens["police"], 204, "")
	}

	heard := make(map[string][]<-chan string)
	for _, protocol := range []string{"mqtt", "mqtt-0", "mqtt-shared", "sse", "websocket"} {
		for _, who := range []string{"map", "police"} {
			heard[who] = append(heard[who], there.hear(protocol, who))
		}
	}
	const filters = 4 // two of them shared
	for deadline := time.Now().Add(patience); here.cluster.State().Filters != filters; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d filters are known", here.cluster.State().Filters)
		}
	}
	const message = `{"ts":"2026-11-22T18:11:05Z","lat":52.5163,"plate":"B-XY 42","driver":{"name":"Ann","shift":2}}`
	device := here.connect("c1", "car", mqtt.ClientOptions{})
	if err := device.Publish(t.Context(), &mqtt.Publish{Topic: []byte("cars/c1/position"), Payload: []byte(message), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	for who, all := range heard {
		for i, one := range all {
			select {
			case got := <-one:
				if exact := got == message; exact != (who == "police") || !exact && (strings.Contains(got, "Ann") || strings.Contains(got, "XY") || strings.Contains(got, "5163") || !strings.Contains(got, `"shift":2`)) {
					t.Errorf("%s hears by way %d: %s", who, i, got)
				}
			case <-time.After(patience):
				t.Fatalf("%s hears nothing by way %d", who, i)
			}
		}
	}
}
