package main

import (
	"strings"
	"testing"
)

// What is wrong is refused with the line where it stands, and with what to write.
func TestWrongSettings(t *testing.T) {
	upstream := func(settings string) string {
		return "# first\nupstreams:\n  a.b:\n    addresses:\n      - https://a\n    " + settings
	}
	for text, want := range map[string]string{
		"# first\nnode: 'a b'":                                                `line 2: node: "a b" is no name: use letters`,
		"listen:\n  http: '127.0.0.1:99999'":                                  `line 2: listen.http: "127.0.0.1:99999" is no address: give HOST:PORT`,
		"listen:\n  mqtt: '127.0.0.1:mqtt-'":                                  "line 2: listen.mqtt: ",
		"log:\n  level: loud":                                                 `line 2: log.level: "loud" is none: write debug, info, warn or error`,
		"log: [level]":                                                        "line 1: a list does not fit here: write a group of settings",
		"node: a\n---\nnode: b":                                               "write all of them before it",
		"node: a\nnode: b":                                                    "line 2: ",
		"http: {https-port: 70000}":                                           `line 1: "70000" does not fit here: write a whole number, 0 to 65535`,
		"http: {redirect-to-https: perhaps}":                                  "write true or false",
		"http:\n  trusted-proxies:\n    - 10.0.0.5\n    - 10.0.0.1/8":         `line 4: http.trusted-proxies: "10.0.0.1/8" is no address: write one`,
		"tls:\n  acme:\n    names: [gateway.example.com, '*.example.com']":    `line 3: tls.acme.names: "*.example.com" is none: write whole host names`,
		"access-log:\n  file: a.log\n  fields: ['header:a b']":                `line 3: access-log.fields: "a b" is no name of a header field: write`,
		upstream("timeout: 5"):                                                `line 6: "5" does not fit here: write a time with its unit, such as 5s or 500ms`,
		upstream("timeout: -1s"):                                              "line 6: upstreams.a.b: timeout: -1s is out of range: write 1ms to 24h0m0s",
		upstream("connect-timeout: 48h"):                                      "write 1ms to 10m0s",
		upstream("max-connections: 100000"):                                   "line 6: upstreams.a.b: max-connections: 100000 is out of range: write 1 to 65535",
		upstream("max-connections: many"):                                     `line 6: "many" does not fit here: write a whole number`,
		upstream("adaptive-concurrency: true"):                                `line 6: "true" does not fit here: write a group of settings`,
		upstream("adaptive-concurrency: {min: 50, max: 20}"):                  "line 6: upstreams.a.b: adaptive-concurrency: min is more than max",
		upstream("addresses-of: a"):                                           `line 6: there is no setting "addresses-of" here`,
		upstream("targets: {address: 'http://b'}"):                            "line 6: a group of settings does not fit here: write a list of groups of settings",
		upstream("targets:\n      - address: 'http://b'\n      - address: b"): `line 8: upstreams.a.b: targets: "b" is no address: give`,
		upstream("  - http://a/path"):                                         `line 6: upstreams.a.b: addresses: "http://a/path" is no address: give http://HOST:PORT or https://HOST:PORT, without a path`,
		upstream("  - http://a:0"):                                            "is no address: give",
		upstream("  - http://a?b=c"):                                          "is no address: give",
		upstream("  - https://a"):                                             "is there twice: write it once",
		upstream("hash-load: 2"):                                              "line 6: upstreams.a.b: hash-load: it counts with balance: hash only",
		upstream("balance: hash\n    hash-by: header:a b"):                    `line 7: upstreams.a.b: hash-by: "a b" is no name of a header field: write`,
		upstream("tls: {server-name: https://a}"):                             `line 6: upstreams.a.b: tls.server-name: "https://a" is no host name: write`,
		upstream("health:\n      http: /a%zz"):                                `line 7: upstreams.a.b: health.http: "/a%zz" is no path: give`,
		upstream("health: {http: /, host: a b}"):                              "give HOST or HOST:PORT",
		upstream("health: {tcp: true, statuses: [200]}"):                      "host and statuses go with {http: /PATH}: leave them out",
		upstream("health: {grpc: true}"):                                      `write the name of the service, or "" for the server as a whole`,
		upstream("outlier: {ejection: 2m}"):                                   "2m0s is longer than max-ejection, 1m0s: write",
		upstream("outlier: {max-ejected: 0}"):                                 "write 1 to 100",
		upstream("discover: {dns: 'http://10.0.0.1:80'}"):                     "needs no DNS: write it under addresses",
		upstream("discover: {srv: 'http://_a._tcp.x:80'}"):                    "leave it out",
		upstream("discover: {dns-server: '10.0.0.2:53'}"):                     "write discover.dns or discover.srv, too",
		upstream("discover: {dns: 'http://x', dns-server: '10.0.0.2:99999'}"): "give ADDRESS:PORT, such as 10.0.0.2:53",
	} {
		if _, err := readText(t, text+"\n"); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s\ngot %v\nwant %q", text, err, want)
		}
	}
}
