package sim

import (
	"reflect"
	"testing"

	"fieldgate"
)

func TestPlanIsTheSameForTheSameSeed(t *testing.T) {
	size := Size{MQTT: 100, CoAP: 60, HTTP: 40}
	devices := Plan(size, 7)
	if !reflect.DeepEqual(devices, Plan(size, 7)) {
		t.Fatal("two plans of the same seed differ")
	}
	if reflect.DeepEqual(devices, Plan(size, 8)) {
		t.Fatal("plans of different seeds are the same")
	}
	count := map[Protocol]int{}
	behaviours := map[Protocol]map[Behaviour]bool{MQTT: {}, CoAP: {}, HTTP: {}}
	ids := map[string]bool{}
	for _, d := range devices {
		count[d.Protocol]++
		behaviours[d.Protocol][d.Behaviour] = true
		if ids[d.ID] || !fieldgate.ValidIdentifier(d.ID) {
			t.Errorf("the id %q is not valid, or there twice", d.ID)
		}
		ids[d.ID] = true
	}
	if count[MQTT] != 100 || count[CoAP] != 60 || count[HTTP] != 40 {
		t.Errorf("the sizes are %v", count)
	}
	transports := map[Transport]int{}
	for _, d := range devices {
		transports[d.Transport]++
	}
	if transports[UDP] < 15 || transports[DTLS] < 15 || transports[TCP] < 15 || transports[""] != 140 {
		t.Errorf("transports %v", transports)
	}
	for protocol, seen := range behaviours {
		for _, b := range []Behaviour{Regular, WrongPayload, Undocumented, WrongKey, Burst, Impersonator} {
			if !seen[b] {
				t.Errorf("no %s device shows %s", protocol, b)
			}
		}
	}
}

func TestDevicesKeepTheirIDsInALargerFleet(t *testing.T) {
	small, large := Plan(Size{MQTT: 10}, 1), Plan(Size{MQTT: 20}, 1)
	for i := range small {
		if small[i].ID != large[i].ID {
			t.Fatalf("%s became %s", small[i].ID, large[i].ID)
		}
	}
}
