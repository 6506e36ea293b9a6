//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fieldgate/contract/schema"
	"fieldgate/protocol/coap"
)

// coapContract is answered by mocks, but for what is cached of a service, and what the service takes long for. Nobody reaches the limits.
const coapContract = `openapi: 3.1.0
info: {title: Bench, version: 1.0.0}
x-fieldgate: {api: bench, upstreams: {origin: {ref: env/origin}}, principal: {from: [token], as: deviceId}}
security: [{token: []}]
paths:
  /devices/{deviceId}/state:
    parameters: [{$ref: '#/components/parameters/deviceId'}]
    get:
      operationId: state
      x-fieldgate: {access: [device], policies: [{rate: 1000000/s, key: deviceId}]}
      x-fieldgate-bindings: {coap: {path: /state}}
      responses: {'200': {description: ok, content: {application/json: {example: ` + coapState + `}}}}
  /devices/{deviceId}/cached:
    parameters: [{$ref: '#/components/parameters/deviceId'}]
    get:
      operationId: cached
      x-fieldgate: {access: [device], upstream: origin, policies: [{rate: 1000000/s, key: deviceId}, {cache: {ttl: 1h, for: everyone}}]}
      x-fieldgate-bindings: {coap: {path: /cached}}
      responses: {'200': {description: ok}}
  /devices/{deviceId}/slow:
    parameters: [{$ref: '#/components/parameters/deviceId'}]
    get:
      operationId: slow
      x-fieldgate: {access: [device], upstream: origin}
      x-fieldgate-bindings: {coap: {path: /slow}}
      responses: {'200': {description: ok}}
  /devices/{deviceId}/readings:
    parameters: [{$ref: '#/components/parameters/deviceId'}]
    post:
      operationId: addReading
      x-fieldgate: {access: [device], policies: [{rate: 1000000/s, key: deviceId}]}
      x-fieldgate-bindings: {coap: {path: /r}}
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              additionalProperties: false
              required: [seq, temp]
              properties:
                seq: {type: integer, minimum: 0, maximum: 4294967295}
                temp: {type: number, minimum: -60, maximum: 125}
                u: {type: string, enum: [Cel, K]}
      responses: {'204': {description: taken}}
components:
  parameters: {deviceId: {name: deviceId, in: path, required: true, x-fieldgate-bind: principal, schema: {type: string, maxLength: 64}}}
  securitySchemes: {token: {type: http, scheme: bearer}}
`

const (
	coapState   = `{"t":21.5,"u":"Cel"}`
	coapReading = `{"seq":7,"temp":21.5,"u":"Cel"}`
	coapSlow    = 3 * time.Second

	coapFleet   = 10_000 // devices
	coapWindow  = 64     // requests under way
	coapWarming = 500 * time.Millisecond
	coapLong    = 1_000_000 // requests of one peer
	coapIDs     = 60_000    // of these, with message IDs that do not come again
	coapIdle    = 20_000    // peers

	optionCredential coap.OptionNumber = 65002
)

var coapPeersFrom = [4]byte{127, 1, 0, 1}

// coapServer is one that runs.
type coapServer struct {
	server
	secure string   // address for DTLS
	config string   // of Fieldgate: its file
	tokens []string // of the devices by number; none: nobody needs one
	method coap.Code
}

// coapCase is one kind of load.
type coapCase struct {
	name, title string
	path        string
	method      coap.Code // 0: what each server has for it, with a reading
	peers       int
	ours        bool // is Fieldgate's alone
}

var coapCases = []coapCase{
	{name: "get64", title: "CON GET, 64 peers", path: "/state", method: coap.GET, peers: 64},
	{name: "cached", title: "CON GET, 64 peers, from the cache", path: "/cached", method: coap.GET, peers: 64, ours: true},
	{name: "post", title: "CON POST of 25 bytes of CBOR, 64 peers", path: "/r", peers: 64},
	{name: "get10000", title: "CON GET, 10,000 peers in turn", path: "/state", method: coap.GET, peers: coapFleet},
}

// coapResult is what one server did in one round of a case.
type coapResult struct {
	micros, ratio, rate float64
	p50, p99            time.Duration
	memory              float64
	resent              int
}

// coap measures CoAP, part by part.
func (b *bench) coap() error {
	if slices.ContainsFunc(coapCases, func(c coapCase) bool { return b.wanted(c.name) }) {
		if err := b.coapRequests(); err != nil {
			return err
		}
		b.stopAll()
	}
	for _, part := range []struct {
		name string
		run  func() error
	}{{"oneflat", b.coapFlat}, {"fanout", b.coapFanOut}, {"coap-idle", b.coapIdlePeers}, {"isolation", b.coapIsolation}, {"dtls", b.coapDTLS}, {"dtls-idle", b.coapIdleSessions}} {
		if b.wanted(part.name) {
			fmt.Println()
			err := part.run()
			b.stopAll()
			if err != nil {
				return fmt.Errorf("%s: %w", part.name, err)
			}
		}
	}
	return nil
}

// coapRequests measures what a request costs in Fieldgate, in libcoap's server and in one made of go-coap, in turn.
func (b *bench) coapRequests() error {
	servers, err := b.coapServers()
	if err != nil {
		return err
	}
	results := make(map[string][][]coapResult)
	for _, c := range coapCases { // the most peers last: they are not forgotten for minutes
		if !b.wanted(c.name) {
			continue
		}
		results[c.name] = make([][]coapResult, len(servers))
		for round := range b.rounds {
			for i, s := range servers {
				if c.ours && s.tokens == nil {
					continue
				}
				r, err := b.coapLoad(c, s)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, s.name, err)
				}
				r.ratio = 1
				if i > 0 {
					r.ratio = r.micros / results[c.name][0][round].micros
				}
				results[c.name][i] = append(results[c.name][i], r)
			}
		}
	}
	fmt.Println("| CoAP over UDP | server | CPU µs per request | × Fieldgate in the same round: median (least … most) | requests/s | p50, p99 in ms | sent again | RSS MB |\n|---|---|---|---|---|---|---|---|")
	for _, c := range coapCases {
		for i, list := range results[c.name] {
			if len(list) == 0 {
				continue
			}
			byRatio := func(a, b coapResult) int { return cmp.Compare(a.ratio, b.ratio) }
			resent := 0
			for _, r := range list {
				resent += r.resent
			}
			fmt.Printf("| %s | %s | **%.1f** | %.2f (%.2f … %.2f) | %.0f | %s, %s | %d | %.0f |\n", c.title, servers[i].name,
				median(list, func(r coapResult) float64 { return r.micros }), median(list, func(r coapResult) float64 { return r.ratio }),
				slices.MinFunc(list, byRatio).ratio, slices.MaxFunc(list, byRatio).ratio, median(list, func(r coapResult) float64 { return r.rate }),
				milliseconds(median(list, func(r coapResult) time.Duration { return r.p50 })), milliseconds(median(list, func(r coapResult) time.Duration { return r.p99 })),
				resent, median(list, func(r coapResult) float64 { return r.memory }))
		}
	}
	return nil
}

// coapLoad loads a server with a case.
func (b *bench) coapLoad(c coapCase, s *coapServer) (r coapResult, err error) {
	load, err := s.load(c, c.peers)
	if err != nil {
		return r, err
	}
	defer load.close()
	return b.coapMeasure(load, c.peers, c.name, s)
}

// coapMeasure loads a server, once it knows every peer.
func (b *bench) coapMeasure(load *coapLoad, peers int, name string, s *coapServer) (r coapResult, err error) {
	if _, err := load.run(coapWindow, peers, time.Hour, nil); err != nil {
		return r, err
	}
	if _, err := load.run(coapWindow, coapLong, coapWarming, nil); err != nil {
		return r, err
	}
	time.Sleep(settle)
	load.latencies, load.resent = histogram{}, 0
	own := ownCPU()
	before, err := cpu(s.pid)
	if err != nil {
		return r, err
	}
	began := time.Now()
	answered, err := load.run(coapWindow, 1<<40, b.duration, nil)
	if err != nil {
		return r, err
	}
	took := time.Since(began)
	own = ownCPU() - own
	r.memory = resident(s.pid)
	time.Sleep(settle)
	after, err := cpu(s.pid)
	if err != nil {
		return r, err
	}
	r.micros = float64((after - before).Microseconds()) / float64(answered)
	r.rate, r.resent = float64(answered)/took.Seconds(), load.resent
	r.p50, r.p99 = load.latencies.share(0.5), load.latencies.share(0.99)
	fmt.Fprintf(os.Stderr, "%s, %s: %.1f µs, %.0f/s; the load generator took %.1f µs\n", name, s.name, r.micros, r.rate, float64(own.Microseconds())/float64(answered))
	return r, nil
}

// load makes a generator for so many peers that repeat the request of a case.
func (s *coapServer) load(c coapCase, peers int) (*coapLoad, error) {
	method, want, body := c.method, coap.Content, []byte(nil)
	var options coap.Options
	for segment := range strings.SplitSeq(c.path[1:], "/") {
		options.AddString(coap.URIPath, segment)
	}
	if method == 0 {
		var err error
		if body, err = schema.CBORFromJSON(nil, []byte(coapReading), nil); err != nil {
			return nil, err
		}
		method, want = s.method, coap.Changed
		options.AddUint(coap.ContentFormat, coap.CBOR)
	}
	requests := make([][]byte, peers)
	for i := range requests {
		var own coap.Options
		own.CopyFrom(&options)
		if s.tokens != nil {
			own.AddString(optionCredential, s.tokens[i%len(s.tokens)])
		}
		requests[i] = coap.AppendMessage(nil, coap.Confirmable, method, 0, make([]byte, 4), &own, body)
	}
	return newCoapLoad(s.address, coapPeersFrom, requests, byte(want))
}

// coapFlat has one peer ask very often: what it costs at the end is to be what it costs at the beginning.
func (b *bench) coapFlat() error {
	servers, err := b.coapServers()
	if err != nil {
		return err
	}
	fmt.Println("| one CoAP peer | server | requests | CPU µs per request, first tenth | last tenth | RSS MB |\n|---|---|---|---|---|---|")
	for _, s := range servers {
		requests := coapLong
		if s.name == goCoapName {
			requests = coapIDs // it answers a message ID that comes again with what it answered before
		}
		load, err := s.load(coapCases[0], 1)
		if err != nil {
			return err
		}
		defer load.close()
		var used []time.Duration
		look := func() {
			if now, err := cpu(s.pid); err == nil {
				used = append(used, now)
			}
		}
		look()
		_, err = load.run(1, requests, time.Hour, func(answered int) {
			if answered%(requests/10) == 0 {
				look()
			}
		})
		if err == nil && len(used) != 11 {
			err = errors.New("the server has ended")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		tenth := float64(requests / 10)
		fmt.Printf("| CON GET, one under way | %s | %d | **%.1f** | **%.1f** | %.0f |\n", s.name, requests,
			float64((used[1]-used[0]).Microseconds())/tenth, float64((used[10]-used[9]).Microseconds())/tenth, resident(s.pid))
	}
	return nil
}

// coapIdlePeers measures what a peer takes that has asked once.
func (b *bench) coapIdlePeers() error {
	servers, err := b.coapServers()
	if err != nil {
		return err
	}
	fmt.Println("| idle CoAP peers | server | peers | RSS each, bytes |\n|---|---|---|---|")
	for _, s := range servers {
		s.tokens = s.tokens[:min(len(s.tokens), 64)] // what is known of a device is no peer's
		load, err := s.load(coapCases[0], 2*coapIdle)
		if err != nil {
			return err
		}
		defer load.close()
		// The first half makes what serving takes memory for, and what Records of so many sources do.
		if _, err := load.run(coapWindow, coapIdle, time.Hour, nil); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		time.Sleep(settleIdle)
		before := residentBytes(s.pid)
		if _, err := load.run(coapWindow, coapIdle, time.Hour, nil); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		time.Sleep(settleIdle)
		fmt.Printf("| that have asked once | %s | %d | **%.0f** |\n", s.name, coapIdle, float64(residentBytes(s.pid)-before)/coapIdle)
	}
	return nil
}

// coapIsolation has one peer ask for as much as it may of what takes three seconds, and another, meanwhile, for what does not.
func (b *bench) coapIsolation() error {
	servers, err := b.coapServers()
	if err != nil {
		return err
	}
	fmt.Println("| isolation | server | p50, p99 in ms of another peer alone | beside one that blocks |\n|---|---|---|---|")
	for _, s := range servers {
		if s.name == libcoapName {
			continue // which has no resource that waits
		}
		other, err := s.load(coapCases[0], 1)
		if err != nil {
			return err
		}
		defer other.close()
		measure := func() (p50, p99 time.Duration, err error) {
			other.latencies = histogram{}
			_, err = other.run(1, 2000, coapSlow, nil)
			return other.latencies.share(0.5), other.latencies.share(0.99), err
		}
		if _, _, err := measure(); err != nil { // warms up
			return err
		}
		p50, p99, err := measure()
		if err != nil {
			return err
		}
		block, err := b.coapBlock(s)
		if err != nil {
			return err
		}
		blocked50, blocked99, err := measure()
		block.Close()
		if err != nil {
			fmt.Printf("| CON GET | %s | %s, %s | %v |\n", s.name, milliseconds(p50), milliseconds(p99), err)
			continue
		}
		fmt.Printf("| CON GET | %s | %s, %s | **%s, %s** |\n", s.name, milliseconds(p50), milliseconds(p99), milliseconds(blocked50), milliseconds(blocked99))
	}
	return nil
}

// coapServers starts Fieldgate, libcoap's server and one made of go-coap.
func (b *bench) coapServers() ([]*coapServer, error) {
	var all []*coapServer
	plain := func() (*coapServer, error) {
		s, err := b.goCoap("")
		if err == nil {
			err = s.await()
		}
		return s, err
	}
	for _, start := range []func() (*coapServer, error){b.coapGateway, b.libcoap, plain} {
		s, err := start()
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

const (
	goCoapName  = "go-coap"
	libcoapName = "libcoap"
)

// libcoap starts Debian's coap-server, whose resources are what was put there.
func (b *bench) libcoap() (*coapServer, error) {
	s := &coapServer{server: server{name: libcoapName, address: freePort()}, method: coap.PUT}
	host, port, _ := strings.Cut(s.address, ":")
	process, err := b.start("coap-server-notls", "-A", host, "-p", port, "-d", "10")
	if err != nil {
		return nil, err
	}
	s.pid = process.Process.Pid
	return s, errors.Join(s.put("/state", coapState), s.put("/r", coapReading))
}

// goCoap starts this program as a server made of go-coap, whose address begins with a scheme for anything but plain UDP.
func (b *bench) goCoap(scheme string) (*coapServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &coapServer{server: server{name: goCoapName, address: freePort()}, method: coap.POST}
	os.Setenv(goCoapVariable, scheme+s.address)
	process, err := b.start(self)
	os.Unsetenv(goCoapVariable)
	if err != nil {
		return nil, err
	}
	s.pid = process.Process.Pid
	return s, nil
}

// coapGateway starts Fieldgate with a contract and a fleet.
func (b *bench) coapGateway() (*coapServer, error) {
	origin, err := b.coapOrigin()
	if err != nil {
		return nil, err
	}
	b.gateways++
	name := fmt.Sprint("coap", b.gateways)
	n, err := b.node(name, origin)
	if err != nil {
		return nil, err
	}
	s := &coapServer{server: server{"Fieldgate", n.coap, n.process.Process.Pid}, config: n.config, secure: n.coaps, method: coap.POST}
	contract := filepath.Join(b.folder, name+".openapi.yaml")
	if err := os.WriteFile(contract, []byte(coapContract), 0o600); err != nil {
		return nil, err
	}
	if _, err := b.fieldgate(n.config, "api", "publish", contract); err != nil {
		return nil, err
	}
	if s.tokens, err = b.importFleet(n, name, coapFleet, dtlsDevice); err != nil {
		return nil, err
	}
	return s, s.await()
}
