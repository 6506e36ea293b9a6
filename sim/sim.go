// Package sim is a simulated fleet and the services behind it: devices that speak MQTT, CoAP and HTTP to a gateway as real ones
// do, some of them wrongly, and the upstreams that answer them. The demo shows them and load tests use them.
//
// It knows a gateway by its addresses and tokens only. What devices do and send is decided by a seed; who is faster is
// not. It holds one request of each device in flight at the most, and every request has a deadline.
package sim

import "time"

// Protocol is what a device speaks.
type Protocol string

const (
	MQTT Protocol = "mqtt"
	CoAP Protocol = "coap"
	HTTP Protocol = "http"
)

// Transport is what carries the CoAP of a device.
type Transport string

const (
	UDP  Transport = "udp"
	DTLS Transport = "dtls" // by its pre-shared key, without token
	TCP  Transport = "tcp"
)

// Product is what a device is, and with that which contract of the folder examples it follows.
type Product string

const (
	Thermometer Product = "thermometer" // thermo.openapi.yaml
	Tracker     Product = "tracker"     // tracker.asyncapi.yaml; MQTT only
	Meter       Product = "meter"       // meter.openapi.yaml
	Lamp        Product = "lamp"        // lamp.openapi.yaml: it registers, and is asked; CoAP only
	Legacy      Product = "legacy"      // legacy.pass-through.yaml: predates every contract, with a credential of its own
)

// Behaviour is what a device does out of the ordinary, mostly wrongly.
type Behaviour string

const (
	Regular      Behaviour = "regular"
	WrongPayload Behaviour = "wrong-payload" // its readings break the schema
	Undocumented Behaviour = "undocumented"  // it uses a path or topic that no contract has
	WrongKey     Behaviour = "wrong-key"     // its token is well-formed, but nobody's
	Burst        Behaviour = "burst"         // it sends far more than the contract allows, now and then
	Impersonator Behaviour = "impersonator"  // it uses another device's id
	Unsteady     Behaviour = "unsteady"      // it loses its connection now and then, without a goodbye; MQTT only
	Sleeper      Behaviour = "sleeper"       // it sleeps most of the time, and says so when it registers; lamps only
)

const (
	requestLimit  = 10 * time.Second
	reconnectWait = 2 * time.Second
	burstRequests = 60
	steadyBeats   = 6  // of an unsteady device, between two losses
	lampBeats     = 8  // that a lamp takes as one
	sleepBeats    = 22 // that one takes as one which sleeps
)

// Device is one member of a fleet.
type Device struct {
	ID        string
	Model     string
	Firmware  string
	Protocol  Protocol
	Transport Transport // of CoAP
	Product   Product
	Behaviour Behaviour
}

// Registered says whether the gateway has to know the device. Legacy devices come with credentials of their own.
func (d *Device) Registered() bool { return d.Product != Legacy }
