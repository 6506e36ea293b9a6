package coap

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// DefaultPort is that of the scheme "coap" (RFC 7252 §6.1).
const DefaultPort = "5683"

// defaultPorts are those of CoAP's schemes (RFC 7252 §6, RFC 8323 §8).
var defaultPorts = map[string]string{"coap": DefaultPort, "coaps": "5684", "coap+tcp": "5683", "coaps+tcp": "5684", "coap+ws": "80", "coaps+ws": "443"}

// ErrURI says that a text is no URI of CoAP that can be asked for.
var ErrURI = errors.New("coap: not a coap URI with host, without fragment, and with parts of at most 255 bytes")

// AddURI takes a URI of one of CoAP's schemes apart into options (RFC 7252 §6.4, RFC 8323 §8.6) and returns the address to send the request to, as
// "host:port". Uri-Host is added for a name, not for an address.
func AddURI(options *Options, uri string) (address string, err error) {
	u, err := url.Parse(uri)
	if err != nil || defaultPorts[u.Scheme] == "" || u.Hostname() == "" || u.Fragment != "" || u.User != nil {
		return "", ErrURI
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = defaultPorts[u.Scheme]
	}
	var parts Options
	fits := true
	add := func(number OptionNumber, escaped string) {
		value, err := url.PathUnescape(escaped)
		fits = fits && err == nil && len(value) <= 255
		parts.AddString(number, value)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		add(URIHost, host)
	}
	if path := u.EscapedPath(); path != "" && path != "/" {
		for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
			add(URIPath, segment)
		}
	}
	if u.RawQuery != "" {
		for argument := range strings.SplitSeq(u.RawQuery, "&") {
			add(URIQuery, argument)
		}
	}
	if !fits {
		return "", ErrURI
	}
	for i := range parts.Len() {
		options.Add(parts.At(i))
	}
	return net.JoinHostPort(host, port), nil
}
