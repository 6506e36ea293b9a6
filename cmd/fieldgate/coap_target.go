package main

import (
	"cmp"
	"net"
	"net/netip"
	"strings"

	"fieldgate/protocol/coap"
)

// coapTarget is where a request goes.
type coapTarget struct {
	scheme  string
	address string // host:port
}

func (t *coapTarget) String() string { return t.scheme + "://" + t.address }

// coapSchemes are CoAP's (RFC 7252 section 6, RFC 8323 section 8), each with the listener of the environment file that speaks it.
var coapSchemes = []struct {
	name    string
	setting string
	address func(*listen) string
}{
	{"coap", "coap", func(l *listen) string { return l.CoAP }},
	{"coaps", "coaps", func(l *listen) string { return l.CoAPS }},
	{"coap+tcp", "coap-tcp", func(l *listen) string { return l.CoAPTCP }},
	{"coaps+tcp", "coaps-tcp", func(l *listen) string { return l.CoAPSTCP }},
	{"coap+ws", "http", func(l *listen) string { return l.HTTP }},
	{"coaps+ws", "https", func(l *listen) string { return l.HTTPS }},
}

func coapSchemeNames() string {
	var names []string
	for _, s := range coapSchemes {
		names = append(names, s.name)
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// target takes the URL apart into options.
func (f *coapFlags) target(text string, options *coap.Options) (*coapTarget, error) {
	if strings.HasPrefix(text, "/") {
		scheme := "coap"
		if f.security.given() {
			scheme = "coaps"
		}
		text = scheme + "://" + text
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return nil, usagef("%q is no URL: write coap://HOST/PATH, or only /PATH for the gateway of the environment file", text)
	}
	if strings.HasPrefix(rest, "/") {
		gateway, err := f.gateway(scheme)
		if err != nil {
			return nil, err
		}
		rest = gateway + rest
	}
	if err := f.security.check(scheme); err != nil {
		return nil, err
	}
	address, err := coap.AddURI(options, scheme+"://"+rest)
	if err != nil {
		return nil, usagef("%q is no URL that can be asked for: write %s://HOST:PORT/PATH?QUERY, without a user and without #", text, scheme)
	}
	return &coapTarget{scheme: scheme, address: address}, nil
}

// gateway is the address of the environment file for a scheme, or the usual one where there is no such file.
func (f *coapFlags) gateway(scheme string) (string, error) {
	for _, s := range coapSchemes {
		if s.name != scheme {
			continue
		}
		e, err := readEnvironment(f.environment())
		if err != nil {
			return "127.0.0.1", nil
		}
		address := s.address(&e.Listen)
		if strings.HasSuffix(scheme, "+ws") && e.CoAP.WebSocket != defaultCoAPPath {
			return "", usagef("the gateway of %s has coap.websocket: %s, and a URL of %s stands for %s (RFC 8323 section 8.3)", f.environment(), cmp.Or(e.CoAP.WebSocket, off), scheme, defaultCoAPPath)
		}
		if address == "" {
			return "", usagef("the gateway of %s does not listen for %s: set listen.%s there, or write the URL with a host", f.environment(), scheme, s.setting)
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil || port == "0" {
			return "", usagef("listen.%s of %s names no port: write the URL with a host and a port, as \"fieldgate status\" says them", s.setting, f.environment())
		}
		if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		return net.JoinHostPort(host, port), nil
	}
	return "", nil // the scheme is refused
}
