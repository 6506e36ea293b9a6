package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// nginxConfig is a plain proxy with upstream keep-alive, and the origin that all candidates forward to.
const nginxConfig = `worker_processes %[1]s; daemon off; error_log %[2]s/nginx-%[3]s.err; pid %[2]s/nginx-%[3]s.pid;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path %[2]s/body-%[3]s; proxy_temp_path %[2]s/proxy-%[3]s; fastcgi_temp_path %[2]s/f-%[3]s; uwsgi_temp_path %[2]s/u-%[3]s; scgi_temp_path %[2]s/s-%[3]s;
  %[4]s
}
`

const contract = `openapi: 3.1.0
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

// requests measures the CPU time of each proxy per request, interleaved.
func (b *bench) requests() error {
	origin, proxy := freePort(), freePort()
	body := `{"answer":"` + fmt.Sprintf("%0188d", 0) + `"}` // 201 bytes
	if _, err := b.nginx("origin", "1", fmt.Sprintf(`server { listen %s; location / { default_type application/json; return 200 '%s'; } }`, origin, body)); err != nil {
		return err
	}
	nginx, err := b.nginx("proxy", "2", fmt.Sprintf(`upstream origin { server %s; keepalive 256; keepalive_requests 100000000; } server { listen %s; location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; } }`, origin, proxy))
	if err != nil {
		return err
	}
	for _, address := range []string{origin, proxy} {
		if err := awaitPort(address); err != nil {
			return err
		}
	}
	n, err := b.node("http", origin)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"bench.openapi.yaml": contract, "plain.pass-through.yaml": passThrough} {
		file := filepath.Join(b.folder, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		if _, err := b.fieldgate(n.config, "api", "publish", file); err != nil {
			return err
		}
	}
	token, err := b.fieldgate(n.config, "device", "add", "d7", "--quiet")
	if err != nil {
		return err
	}
	get := filepath.Join(b.folder, "get.lua")
	post := filepath.Join(b.folder, "post.lua")
	if err := os.WriteFile(get, []byte("wrk.method = 'GET'\n"), 0o600); err != nil {
		return err
	}
	script := fmt.Sprintf("wrk.method = 'POST'\nwrk.body = '%s'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.headers['Authorization'] = 'Bearer %s'\n", payload, token)
	if err := os.WriteFile(post, []byte(script), 0o600); err != nil {
		return err
	}
	candidates := []struct {
		name, script, url string
		pid               int
	}{
		{"nginx, plain GET", get, "http://" + proxy + "/plain/x", nginx.Process.Pid},
		{"Fieldgate, plain GET (pass-through)", get, "http://" + n.http + "/plain/x", n.process.Process.Pid},
		{"nginx, plain POST", post, "http://" + proxy + "/checked/d7", nginx.Process.Pid},
		{"Fieldgate, POST with key, limit and schema", post, "http://" + n.http + "/checked/d7", n.process.Process.Pid},
	}
	fmt.Println("| HTTP/1.1, 64 connections, 201-byte answer | CPU µs per request | × nginx | requests/s | RSS MB | round |\n|---|---|---|---|---|---|")
	var yardstick float64 // nginx with the same request, right before
	for round := range b.rounds {
		for _, c := range candidates {
			micros, rate, err := b.load(c.script, c.url, c.pid)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if c.pid == nginx.Process.Pid {
				yardstick = micros
			}
			fmt.Printf("| %s | %.1f | %.2f | %.0f | %.0f | %d |\n", c.name, micros, micros/yardstick, rate, resident(c.pid), round+1)
		}
	}
	b.stopAll()
	return nil
}

func (b *bench) nginx(name, workers, http string) (*exec.Cmd, error) {
	file := filepath.Join(b.folder, name+".conf")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(nginxConfig, workers, b.folder, name, http)), 0o600); err != nil {
		return nil, err
	}
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx"
	}
	return b.start(path, "-c", file, "-p", b.folder)
}

var (
	requestCount = regexp.MustCompile(`(\d+) requests in`)
	failed       = regexp.MustCompile(`Non-2xx or 3xx responses: \d+|Socket errors:.*`)
)

// settle is time for what a server does behind a request: its Record is on the way to the rollups.
const settle = time.Second

// load runs wrk and divides the CPU time that the server used by the requests that it answered.
func (b *bench) load(script, url string, pid int) (micros, rate float64, err error) {
	before, err := cpu(pid)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	output, err := exec.Command("wrk", "-t", "1", "-c", "64", "-d", b.duration.String(), "-s", script, url).CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, output)
	}
	elapsed := time.Since(began)
	time.Sleep(settle)
	after, err := cpu(pid)
	if err != nil {
		return 0, 0, err
	}
	if problem := failed.Find(output); problem != nil {
		return 0, 0, fmt.Errorf("%s", problem)
	}
	count, err := strconv.ParseFloat(string(requestCount.FindSubmatch(output)[1]), 64)
	if err != nil {
		return 0, 0, err
	}
	return float64((after - before).Microseconds()) / count, count / elapsed.Seconds(), nil
}
