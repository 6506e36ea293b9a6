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
	Lamp:        {"3.1.0"},
	Legacy:      {""},
}

var models = map[Product][]string{Thermometer: {"T1", "T2"}, Tracker: {"V7"}, Meter: {"W3"}, Lamp: {"L5"}, Legacy: {""}}

// role is what the n-th device of a protocol is, for the first few; the others are regular.
type role struct {
	product   Product
	behaviour Behaviour
}

// misfits come first in each protocol, so that a small fleet has them too.
var misfits = map[Protocol][]role{
	MQTT: {{Thermometer, WrongPayload}, {Tracker, WrongPayload}, {Thermometer, Undocumented}, {Thermometer, WrongKey}, {Tracker, Burst},
		{Tracker, Impersonator}, {Legacy, Regular}, {Meter, Regular}, {Thermometer, Regular}, {Tracker, Unsteady}},
	CoAP: {{Thermometer, WrongPayload}, {Thermometer, Undocumented}, {Thermometer, WrongKey}, {Thermometer, Burst}, {Thermometer, Impersonator},
		{Legacy, Regular}, {Meter, Regular}, {Lamp, Regular}, {Lamp, Sleeper}},
	HTTP: {{Thermometer, WrongPayload}, {Thermometer, Undocumented}, {Thermometer, WrongKey}, {Thermometer, Burst}, {Thermometer, Impersonator},
		{Legacy, Regular}, {Legacy, Regular}, {Meter, Regular}},
}

// transports take turns among the CoAP devices that come after the misfits, which speak plain UDP but for the lamp that is awake.
var transports = [...]Transport{UDP, DTLS, TCP}

// transportOf is what the n-th CoAP device speaks over.
func transportOf(n int, as role) Transport {
	switch {
	case n >= len(misfits[CoAP]):
		return transports[n%len(transports)]
	case as == role{Lamp, Regular}:
		return DTLS
	}
	return UDP
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
			device := Device{
				ID:        fmt.Sprintf("%s-%s-%03d", as.product, part.protocol, n+1),
				Model:     pick(random, models[as.product]),
				Firmware:  pick(random, firmwares[as.product]),
				Protocol:  part.protocol,
				Product:   as.product,
				Behaviour: as.behaviour,
			}
			if part.protocol == CoAP {
				device.Transport = transportOf(n, as)
			}
			devices = append(devices, device)
		}
	}
	return devices
}

func pick(random *rand.Rand, of []string) string { return of[random.IntN(len(of))] }
