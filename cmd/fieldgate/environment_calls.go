package main

import (
	"cmp"
	"errors"
	"fmt"
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
		if !u.secure() {
			return errors.New("tls: no address begins with https://")
		}
	}
	return cmp.Or(between("max-waiting", c.MaxWaiting, 1, 1_000_000), between("max-requests", c.MaxRequests, 1, 1_000_000),
		between("retry-budget.percent", c.RetryBudget.Percent, 1, 100), between("retry-budget.per-second", c.RetryBudget.PerSecond, 1, 10_000))
}

// secure reports whether some address is, or may be, reached over TLS.
func (u *upstream) secure() bool {
	if u.Discover.Registered || strings.HasPrefix(u.Discover.DNS+u.Discover.SRV, "https:") {
		return true
	}
	for _, address := range u.Addresses {
		if strings.HasPrefix(address, "https:") {
			return true
		}
	}
	for _, t := range u.Targets {
		if strings.HasPrefix(t.Address, "https:") {
			return true
		}
	}
	return false
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
		config.TLS = &fieldgate.UpstreamTLS{CAFile: in(t.CA), CertFile: in(t.Certificate), KeyFile: in(t.Key), ServerName: t.ServerName}
	}
}
