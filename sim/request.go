package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// request is what a device sends next, for whichever protocol it speaks.
type request struct {
	method  string // HTTP's words
	key     string // HTTP: the header field that carries the token, where it is not Authorization
	path    string // HTTP and CoAP
	links   string // CoAP: what a device offers, in link format, in place of a payload
	topic   string // MQTT
	retain  bool   // MQTT
	payload payload
}

// source makes one device's requests, decided by its random numbers alone except for the time in its readings.
type source struct {
	device Device
	other  string // another device's id, for impersonators
	random *rand.Rand
	sent   int
	temp   float64
	lat    float64
	lon    float64
	litres float64
}

func newSource(device Device, other string, seed, number uint64) *source {
	random := rand.New(rand.NewPCG(seed, number+1))
	return &source{
		device: device, other: other, random: random,
		temp: 15 + 10*random.Float64(),
		lat:  52.3 + 0.4*random.Float64(), lon: 13.1 + 0.6*random.Float64(),
		litres: math.Round(100_000 * random.Float64()),
	}
}

// pause is how long the device waits: around the interval, so that a fleet does not beat in time. Lamps say little.
func (s *source) pause(interval time.Duration) time.Duration {
	switch {
	case s.device.Behaviour == Sleeper:
		return sleepBeats * interval
	case s.device.Product == Lamp:
		return lampBeats * interval
	}
	return time.Duration(float64(interval) * (0.5 + s.random.Float64()))
}

// first are the requests after connecting: a tracker says that it is there, and a lamp what it offers.
func (s *source) first() []request {
	switch s.device.Product {
	case Lamp:
		return s.next()
	case Tracker:
	default:
		return nil
	}
	return []request{{topic: "tracker/" + s.device.ID + "/status", retain: true,
		payload: payload{{"state", "online"}, {"battery", 20 + s.random.IntN(81)}}}}
}

// loses says whether the device loses its connection now.
func (s *source) loses() bool {
	return s.device.Behaviour == Unsteady && s.sent%steadyBeats == steadyBeats-1
}

// next are the requests of one beat.
func (s *source) next() []request {
	s.sent++
	if s.device.Behaviour == Burst && s.sent%10 == 5 {
		burst := make([]request, burstRequests)
		for i := range burst {
			burst[i] = s.one()
		}
		return burst
	}
	return []request{s.one()}
}

func (s *source) one() request {
	id := s.device.ID
	if s.device.Behaviour == Impersonator && s.other != "" {
		id = s.other
	}
	if s.device.Behaviour == Undocumented && s.sent%2 == 0 {
		return request{method: "GET", path: "/debug/" + id + "/dump", topic: "debug/" + id + "/dump", payload: payload{{"heap", s.random.IntN(1 << 16)}}}
	}
	switch s.device.Product {
	case Tracker:
		return s.position(id)
	case Meter:
		return s.reading(id)
	case Lamp:
		return s.registration()
	case Legacy:
		return request{method: "POST", path: "/legacy/v0/push", topic: "legacy/v0/push", payload: payload{{"unit", id}, {"raw", s.random.IntN(4096)}}}
	}
	return s.thermometer(id)
}

// thermometer: mostly readings; over HTTP and CoAP it also asks for commands, and over HTTP for its state.
func (s *source) thermometer(id string) request {
	turn := s.sent % 8
	if s.device.Behaviour != Burst && s.device.Behaviour != WrongPayload {
		switch {
		case s.device.Protocol == HTTP && turn == 3:
			return request{method: "GET", path: "/devices/" + id + "/state"}
		case s.device.Protocol == HTTP && turn == 6:
			return request{method: "GET", path: "/devices/" + id + "/commands"}
		case s.device.Protocol == CoAP && turn == 3 && s.device.Behaviour != Impersonator:
			return request{method: "GET", path: "/c"}
		case s.device.Protocol == CoAP && (turn == 6 || s.device.Behaviour == Impersonator):
			// The short CoAP paths name no device: only this one can be asked for another's.
			return request{method: "GET", path: "/devices/" + id + "/state"}
		}
	}
	s.temp = max(-40, min(60, s.temp+s.random.NormFloat64()/4))
	r := request{method: "POST", path: "/devices/" + id + "/telemetry", topic: "d/" + id + "/telemetry", payload: payload{
		{"ts", time.Now().UTC().Format(time.RFC3339)}, {"seq", s.sent}, {"temp", math.Round(s.temp*10) / 10}}}
	if s.device.Protocol == CoAP {
		r.path = "/t"
	}
	if s.device.Behaviour == WrongPayload {
		switch s.sent % 3 {
		case 0:
			r.payload[2].value = 900.5
		case 1:
			r.payload = append(r.payload, field{"humidity", 40})
		case 2:
			r.payload[1].value = "seven"
		}
	}
	return r
}

func (s *source) position(id string) request {
	s.lat += s.random.NormFloat64() / 2000
	s.lon += s.random.NormFloat64() / 2000
	r := request{topic: "tracker/" + id + "/position", payload: payload{{"ts", time.Now().UTC().Format(time.RFC3339)},
		{"lat", math.Round(s.lat*1e5) / 1e5}, {"lon", math.Round(s.lon*1e5) / 1e5}, {"speed", math.Round(s.random.Float64() * 30)}}}
	if s.device.Behaviour == WrongPayload {
		r.payload[1].value = 120.0
	}
	return r
}

func (s *source) reading(id string) request {
	s.litres += float64(s.random.IntN(40))
	r := request{method: "POST", key: "X-Meter-Key", path: "/v1/meters/" + id + "/readings", topic: "meter/" + id + "/reading",
		payload: payload{{"litres", s.litres}, {"flow", math.Round(s.random.Float64()*100) / 10}}}
	if s.device.Protocol == CoAP {
		r.path = "/r"
	}
	return r
}

// registration tells the resource directory what the lamp offers (RFC 9176 section 5), and that it sleeps where it does.
func (s *source) registration() request {
	path := "/rd?lt=3600"
	if s.device.Behaviour == Sleeper {
		path += "&Q"
	}
	return request{method: "POST", path: path, links: lampLinks}
}
