package main

import (
	"errors"
	"fmt"
	"net/url"
	"sort"
	"text/template"
	"time"

	"fieldgate"
)

// upstream is a service behind the gateway.
type upstream struct {
	Addresses      []string      `yaml:"addresses"`
	Timeout        time.Duration `yaml:"timeout"`
	ConnectTimeout time.Duration `yaml:"connect-timeout"`
	MaxConnections int           `yaml:"max-connections"`
}

// upstreamsTemplate is the part of the environment file that names the upstreams.
var upstreamsTemplate = template.Must(template.New("").Parse(`{{define "upstreams"}}# Services behind the gateway, by the names that contracts use (x-fieldgate: {upstream: ingest}). Several addresses are
# used in turn.
{{if .Upstreams}}upstreams:
{{range $name, $u := .Upstreams}}  {{$name}}: {addresses: [{{range $i, $a := $u.Addresses}}{{if $i}}, {{end}}{{printf "%q" $a}}{{end}}], timeout: {{$u.Timeout}}, connect-timeout: {{$u.ConnectTimeout}}}
{{end}}{{else}}upstreams: {}
#  ingest:
#    addresses: [http://127.0.0.1:9000]
#    timeout: 5s             # of a whole call, where the contract names none (default 30s)
#    connect-timeout: 1s     # default 2s
#    max-connections: 512    # at once, to each address
{{end}}{{end}}`))

func (e *environment) checkUpstreams() error {
	for name, u := range e.Upstreams {
		if !fieldgate.ValidIdentifier(name) {
			return fmt.Errorf("upstreams: %q is no name: use letters, digits and . _ : -", name)
		}
		if err := u.check(); err != nil {
			return fmt.Errorf("upstreams.%s: %w", name, err)
		}
	}
	return nil
}

func (u *upstream) check() error {
	if len(u.Addresses) == 0 {
		return errors.New("addresses are missing, such as [http://127.0.0.1:9000]")
	}
	for _, address := range u.Addresses {
		if parsed, err := url.Parse(address); err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
			return fmt.Errorf("%q is no address: give http://HOST:PORT or https://HOST:PORT", address)
		}
	}
	if u.Timeout < 0 || u.ConnectTimeout < 0 || u.MaxConnections < 0 {
		return errors.New("timeouts and max-connections must not be negative")
	}
	return nil
}

// upstreamList is the upstreams in the order of their names.
func (e *environment) upstreamList() []fieldgate.Upstream {
	list := make([]fieldgate.Upstream, 0, len(e.Upstreams))
	for name, u := range e.Upstreams {
		list = append(list, fieldgate.Upstream{Name: name, Addresses: u.Addresses, ConnectTimeout: u.ConnectTimeout, Timeout: u.Timeout,
			MaxConnections: u.MaxConnections})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}
