package httpfront

import (
	"net/netip"
	"time"
)

// Settings are what can be replaced while the front serves. They count from the next connection or request on.
type Settings struct {
	// Proxies that send a PROXY header on each connection to the plain listener, or to that for TLS. Where there are any, nobody else
	// is let in there.
	ProxyProtocol, ProxyProtocolTLS []netip.Prefix

	// TrustedProxies are the peers whose word is taken for where a request comes from, and only in the fields that they are known
	// to write: a proxy passes on what it does not know, so that what it leaves alone is the client's.
	TrustedProxies []netip.Prefix
	ForwardedIn    ForwardedFields // that trusted proxies write: XForwarded or Forwarded
	ForwardedOut   ForwardedFields // that upstreams are told by

	RequestID    string // name of the field that tells callers and upstreams the exchange's instance; empty: none does
	StartsTraces bool   // requests without a W3C trace context get one

	WebSocketIdle time.Duration // how long nobody may say anything on a WebSocket that is passed through; 0: for ever

	RedirectPort uint16                   // of the TLS listener that plain requests are sent to; 0: none are
	Challenge    func(path string) []byte // answers an ACME server that asks the plain listener for a path below challengePath; nil for other paths
}

// ForwardedFields are the fields that tell where a request comes from.
type ForwardedFields uint8

// Forwarding fields. The zero value means XForwarded.
const (
	XForwarded    ForwardedFields = 1 << iota // X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host
	Forwarded                                 // RFC 7239
	BothForwarded = XForwarded | Forwarded
)

// Where an ACME server looks for answers: on plain connections below a path (RFC 8555 §8.3), on TLS connections of a protocol that
// nothing is exchanged by (RFC 8737 §3).
const (
	challengePath     = "/.well-known/acme-challenge/"
	challengeProtocol = "acme-tls/1"
)

func (s Settings) withDefaults() *Settings {
	if s.ForwardedIn == 0 {
		s.ForwardedIn = XForwarded
	}
	if s.ForwardedOut == 0 {
		s.ForwardedOut = XForwarded
	}
	return &s
}

// Replace puts settings into force. No connection is touched.
func (f *Front) Replace(settings Settings) { f.settings.Store(settings.withDefaults()) }

func (s *Settings) trusts(address netip.Addr) bool { return contains(s.TrustedProxies, address) }

// proxies are those that the listener takes PROXY headers from.
func (s *Settings) proxies(secure bool) []netip.Prefix {
	if secure {
		return s.ProxyProtocolTLS
	}
	return s.ProxyProtocol
}

func contains(prefixes []netip.Prefix, address netip.Addr) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}
