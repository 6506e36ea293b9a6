//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

const checkedContract = `openapi: 3.1.0
info: {title: Bench, version: 1.0.0}
x-fieldgate: {upstreams: {origin: {ref: env/origin}}, upstream: origin}
paths:
  /checked/{deviceId}:
    parameters: [{name: deviceId, in: path, required: true, x-fieldgate-bind: principal, schema: {type: string, pattern: '^[a-z][0-9]+$'}}]
    post:
      operationId: checked
      security: [{token: []}]
      x-fieldgate: {policies: [{rate: 1000000/s, key: principal}]}
      requestBody: {required: true, content: {application/json: {schema: {$ref: '#/components/schemas/Telemetry'}}}}
      responses: {'200': {description: ok}}
components:
  securitySchemes: {token: {type: http, scheme: bearer}}
  schemas:
    Telemetry:
      type: object
      additionalProperties: false
      required: [ts, seq, temp]
      properties:
        ts: {type: string, format: date-time, maxLength: 35}
        seq: {type: integer, minimum: 0, maximum: 4294967295}
        temp: {type: number, minimum: -60, maximum: 125}
        unit: {type: string, enum: [C, F, K]}
        site: {type: string, pattern: '^[a-z]{2}-[0-9]{4}$'}
        window: {type: array, maxItems: 16, items: {type: number}}
`

const passThrough = `fieldgate: pass-through
info: {title: Plain, version: 1.0.0}
access: anonymous
http: [{prefix: /plain, upstream: origin}]
`

const payload = `{"ts":"2026-11-22T18:11:05Z","seq":7,"temp":21.5,"unit":"C","site":"de-0042","window":[1.5,2.5,3.5,4.5,5.5,6.5,7.5,8.5]}`

// gateway starts Fieldgate with both contracts, and gives a device's token for the checked one.
func (b *bench) gateway(name, origin string) (n *node, token string, err error) {
	if n, err = b.node(name, origin); err != nil {
		return nil, "", err
	}
	for file, text := range map[string]string{"bench.openapi.yaml": checkedContract, "plain.pass-through.yaml": passThrough} {
		file = filepath.Join(b.folder, file)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, "", err
		}
		if _, err := b.fieldgate(n.config, "api", "publish", file); err != nil {
			return nil, "", err
		}
	}
	token, err = b.fieldgate(n.config, "device", "add", "d7", "--quiet")
	return n, token, err
}

// candidate is a server that is sent one kind of request.
type candidate struct {
	name, request string
	script, url   string
	pid           int
	loads         []load
}

// http measures what a request costs in each proxy, in turn. The first candidate of a kind of request is the yardstick.
func (b *bench) http() error {
	origin, err := b.origin()
	if err != nil {
		return err
	}
	peers, err := b.peers(origin)
	if err != nil {
		return err
	}
	n, token, err := b.gateway("http", origin)
	if err != nil {
		return err
	}
	get, err := b.script("get", "wrk.method = 'GET'\n")
	if err != nil {
		return err
	}
	post, err := b.script("post", fmt.Sprintf("wrk.method = 'POST'\nwrk.body = '%s'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.headers['Authorization'] = 'Bearer %s'\n", payload, token))
	if err != nil {
		return err
	}
	fieldgate := server{"Fieldgate", n.http, n.process.Process.Pid}
	var groups [][]*candidate
	for _, kind := range []struct{ request, script, path string }{{"GET", get, "/plain/x"}, {"POST", post, "/plain/x"}} {
		group := []*candidate{}
		for _, s := range slices.Insert(slices.Clone(peers), 1, fieldgate) {
			group = append(group, &candidate{name: s.name, request: "plain " + kind.request, script: kind.script, url: "http://" + s.address + kind.path, pid: s.pid})
		}
		groups = append(groups, group)
	}
	groups[1] = slices.Insert(groups[1], 2, &candidate{name: fieldgate.name, request: "**checked** POST", script: post, url: "http://" + n.http + "/checked/d7", pid: fieldgate.pid})
	for range b.rounds {
		for _, group := range groups {
			if err := b.round(group); err != nil {
				return err
			}
		}
	}
	fmt.Println("| HTTP/1.1, 64 connections, answer of 201 bytes | CPU µs per request | × nginx in the same round: median (least … most) | requests/s | p50, p99 in ms | RSS MB |\n|---|---|---|---|---|---|")
	for _, c := range slices.Concat(groups...) {
		fmt.Printf("| %s, %s | %.1f | **%.2f** (%.2f … %.2f) | %.0f | %s, %s | %.0f |\n", c.name, c.request, median(c.loads, micros), median(c.loads, ratio),
			slices.MinFunc(c.loads, byRatio).ratio, slices.MaxFunc(c.loads, byRatio).ratio, median(c.loads, func(l load) float64 { return l.rate }),
			milliseconds(median(c.loads, func(l load) time.Duration { return l.p50 })), milliseconds(median(c.loads, func(l load) time.Duration { return l.p99 })),
			median(c.loads, func(l load) float64 { return l.memory }))
	}
	return nil
}

// round measures each candidate once, right after the other.
func (b *bench) round(group []*candidate) error {
	for _, c := range group {
		if c.loads == nil { // what a server does for the first time is not what a request costs
			if output, err := exec.Command("wrk", "-t", "1", "-c", "64", "-d", "1s", "-s", c.script, c.url).CombinedOutput(); err != nil {
				return fmt.Errorf("%s, %s: %w: %s", c.name, c.request, err, output)
			}
		}
		l, err := b.wrk(c.script, c.url, c.pid)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", c.name, c.request, err)
		}
		l.ratio = 1
		if c != group[0] {
			l.ratio = l.micros / group[0].loads[len(group[0].loads)-1].micros
		}
		c.loads = append(c.loads, l)
	}
	return nil
}
