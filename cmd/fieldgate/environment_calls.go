package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"fieldgate"
)

// callSettings are how an upstream is spoken to, and how much of it may be asked at once.
type callSettings struct {
	Protocol    string            `yaml:"protocol"` // auto, http1 or http2
	MaxWaiting  int               `yaml:"max-waiting"`
	MaxRequests int               `yaml:"max-requests"`
	Adaptive    *adaptiveSettings `yaml:"adaptive-concurrency"` // nil: the limit does not adjust itself
	RetryBudget budgetSettings    `yaml:"retry-budget"`
	TLS         *tlsSettings      `yaml:"tls"`
}

type adaptiveSettings struct {
	Min int `yaml:"min"`
	Max int `yaml:"max"`
}

type budgetSettings struct {
	Percent   int `yaml:"percent"`
	PerSecond int `yaml:"per-second"`
}

type tlsSettings struct {
	CA          string `yaml:"ca"`
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	ServerName  string `yaml:"server-name"`
	PSKFile     string `yaml:"psk-file"` // of coaps: a line IDENTITY:KEY
}

func (c *callSettings) check(u *upstream) error {
	switch c.Protocol {
	case "", "auto", "http1", "http2":
	default:
		return fmt.Errorf("protocol: %q is none: write auto, http1 or http2", c.Protocol)
	}
	if a := c.Adaptive; a != nil {
		if err := cmp.Or(between("adaptive-concurrency.min", a.Min, 1, 1_000_000), between("adaptive-concurrency.max", a.Max, 1, 1_000_000)); err != nil {
			return err
		}
		if a.Max != 0 && a.Min > a.Max {
			return errors.New("adaptive-concurrency: min is more than max")
		}
	}
	if t := c.TLS; t != nil {
		if (t.Certificate == "") != (t.Key == "") {
			return errors.New("tls: certificate and key go together")
		}
		if name := t.ServerName; name != "" && net.ParseIP(name) == nil && !validHostName(strings.ToLower(name)) {
			return fmt.Errorf("tls.server-name: %q is no host name: write the one in the service's certificate, such as vault.internal", name)
		}
		if !u.secure() {
			return errors.New("tls: no address begins with https://, coaps:// or coaps+tcp://")
		}
		if t.PSKFile != "" && !u.speaksDTLS() {
			return errors.New("tls.psk-file: only addresses with coaps:// take a pre-shared key: leave it out")
		}
		if t.PSKFile != "" && *t != (tlsSettings{PSKFile: t.PSKFile}) {
			return errors.New("tls.psk-file: a pre-shared key takes the place of certificates: leave out one or the other")
		}
	}
	return cmp.Or(between("max-waiting", c.MaxWaiting, 1, 1_000_000), between("max-requests", c.MaxRequests, 1, 1_000_000),
		between("retry-budget.percent", c.RetryBudget.Percent, 1, 100), between("retry-budget.per-second", c.RetryBudget.PerSecond, 1, 10_000))
}

// secure reports whether some address is, or may be, reached over TLS or DTLS.
func (u *upstream) secure() bool {
	for _, address := range u.all() {
		if a, err := fieldgate.ParseTargetAddress(address); err == nil && a.Scheme.Secure() {
			return true
		}
	}
	return u.Discover.Registered
}

// configure adds the settings, which were checked, to the upstream. Files are named from the folder of the environment file.
func (c *callSettings) configure(config *fieldgate.Upstream, folder string) {
	if c.Protocol != "auto" {
		config.Protocol = fieldgate.UpstreamProtocol(c.Protocol)
	}
	config.MaxWaiting, config.MaxRequests = c.MaxWaiting, c.MaxRequests
	config.RetryBudget = fieldgate.RetryBudget(c.RetryBudget)
	if c.Adaptive != nil {
		config.Adaptive = (*fieldgate.Adaptive)(c.Adaptive)
	}
	if t := c.TLS; t != nil {
		in := func(file string) string {
			if file == "" || filepath.IsAbs(file) {
				return file
			}
			return filepath.Join(folder, file)
		}
		config.TLS = &fieldgate.UpstreamTLS{CAFile: in(t.CA), CertFile: in(t.Certificate), KeyFile: in(t.Key), ServerName: t.ServerName, PSKFile: in(t.PSKFile)}
	}
}
