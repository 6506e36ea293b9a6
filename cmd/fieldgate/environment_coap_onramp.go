package main

import (
	"errors"
	"fmt"
	"strings"

	"fieldgate"
	"fieldgate/gateway"
)

// coapOnRamp is a listener whose clients are let through to one upstream.
type coapOnRamp struct {
	Listen   string   `yaml:"listen"`
	Upstream string   `yaml:"upstream"` // an address, or the name of one of upstreams
	Deny     []string `yaml:"deny"`     // paths
}

const (
	defaultCoAPOnRamp = "127.0.0.1:5685"

	// coapOnRampUpstream is the name of the upstream that an address makes.
	coapOnRampUpstream = "coap-on-ramp"
)

func (o *coapOnRamp) check() error {
	switch {
	case o.Upstream == "":
		return errors.New("upstream: it is missing, such as coap://10.0.0.7:5683, http://10.0.0.7:8080 or the name of one of upstreams")
	case o.named():
		if !fieldgate.ValidIdentifier(o.Upstream) {
			return fmt.Errorf("upstream: %q is neither an address nor a name: write one such as coap://10.0.0.7:5683", o.Upstream)
		}
	default:
		if err := checkAddress(o.Upstream); err != nil {
			return fmt.Errorf("upstream: %w", err)
		}
	}
	if len(o.Deny) > maxDenials {
		return fmt.Errorf("deny: at most %d", maxDenials)
	}
	for _, path := range o.Deny {
		if !validPath(path) || path == "/" || strings.ContainsAny(path, "?*%") || len(path) > fieldgate.MaxPathBytes {
			return fmt.Errorf("deny: %q is no path: write one such as /admin, which stands for all below it, too", path)
		}
	}
	return nil
}

// named says that Upstream is the name of one that is configured.
func (o *coapOnRamp) named() bool { return !strings.Contains(o.Upstream, "://") }

// checkCoAPOnRamp holds the on-ramp against the upstreams.
func (e *environment) checkCoAPOnRamp() error {
	o := e.CoAP.OnRamp
	if o == nil {
		return nil
	}
	if err := o.check(); err != nil {
		return fmt.Errorf("coap.on-ramp.%w", err)
	}
	if _, known := e.Upstreams[o.Upstream]; o.named() && !known {
		return fmt.Errorf("coap.on-ramp.upstream: upstreams has no %q: write its name or an address such as coap://10.0.0.7:5683", o.Upstream)
	}
	if _, taken := e.Upstreams[coapOnRampUpstream]; taken && !o.named() {
		return fmt.Errorf("upstreams: the upstream of coap.on-ramp is shown as %q: choose another name", coapOnRampUpstream)
	}
	return nil
}

// coapOnRampAddress is where the on-ramp listens; empty: there is none.
func (e *environment) coapOnRampAddress() string {
	if e.CoAP.OnRamp == nil {
		return ""
	}
	return e.CoAP.OnRamp.Listen
}

// settings are those that can be changed while the gateway serves.
func (o *coapOnRamp) settings() gateway.CoAPOnRamp {
	switch {
	case o == nil:
		return gateway.CoAPOnRamp{}
	case o.named():
		return gateway.CoAPOnRamp{Upstream: o.Upstream, Deny: o.Deny}
	}
	return gateway.CoAPOnRamp{Upstream: coapOnRampUpstream, Deny: o.Deny}
}
