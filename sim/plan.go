package sim

import (
	"fmt"
	"math/rand/v2"
)

// Size is how many devices of a fleet speak each protocol.
type Size struct{ MQTT, CoAP, HTTP int }

var firmwares = map[Product][]string{
	Thermometer: {"1.8.3", "1.9.0", "2.0.1"},
	Tracker:     {"5.2.0", "5.3.1"},
	Meter:       {"0.9.0"},
	Legacy:      {""},
}

var models = map[Product][]string{Thermometer: {"T1", "T2"}, Tracker: {"V7"}, Meter: {"W3"}, Legacy: {""}}

// role is what the n-th device of a protocol is, for the first few; the others are regular.
type role struct {
	product   Product
	behaviour Behaviour
}

// misfits come first in each protocol, so that a small fleet has them too.
var misfits = map[Protocol][]role{
	MQTT: {{Thermometer, WrongPayload}, {Tracker, WrongPayload}, {Thermometer, Undocumented}, {Thermometer, WrongKey}, {Tracker, Burst},
		{Tracker, Impersonator}, {Legacy, Regular}, {Meter, Regular}},
	CoAP: {{Thermometer, WrongPayload}, {Thermometer, Undocumented}, {Thermometer, WrongKey}, {Thermometer, Burst}, {Thermometer, Impersonator},
		{Legacy, Regular}, {Meter, Regular}, {Meter, Regular}},
	HTTP: {{Thermometer, WrongPayload}, {Thermometer, Undocumented}, {Thermometer, WrongKey}, {Thermometer, Burst}, {Thermometer, Impersonator},
		{Legacy, Regular}, {Legacy, Regular}, {Meter, Regular}},
}

// Plan names the devices of a fleet: the same for the same size and seed, so that a second run finds them registered.
func Plan(size Size, seed uint64) []Device {
	random := rand.New(rand.NewPCG(seed, 0))
	var devices []Device
	for _, part := range []struct {
		protocol Protocol
		count    int
	}{{MQTT, size.MQTT}, {CoAP, size.CoAP}, {HTTP, size.HTTP}} {
		for n := range part.count {
			as := role{Thermometer, Regular}
			if part.protocol == MQTT && n%2 == 1 {
				as.product = Tracker
			}
			if n < len(misfits[part.protocol]) {
				as = misfits[part.protocol][n]
			}
			devices = append(devices, Device{
				ID:        fmt.Sprintf("%s-%s-%03d", as.product, part.protocol, n+1),
				Model:     pick(random, models[as.product]),
				Firmware:  pick(random, firmwares[as.product]),
				Protocol:  part.protocol,
				Product:   as.product,
				Behaviour: as.behaviour,
			})
		}
	}
	return devices
}

func pick(random *rand.Rand, of []string) string { return of[random.IntN(len(of))] }
