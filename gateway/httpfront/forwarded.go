package httpfront

import (
	"bytes"
	"net/http"
	"net/netip"
	"strings"
	"unsafe"

	"fieldgate/protocol/h1"
)

// maxHops is how many proxies a request may have come through.
const maxHops = 64

var (
	errForwarded = &h1.Error{Status: http.StatusBadRequest, Reason: "malformed Forwarded field"}
	errHops      = &h1.Error{Status: http.StatusBadRequest, Reason: "forwarded by too many proxies"}
)

// hop is what one proxy says of the connection that a request came to it by.
type hop struct {
	client netip.AddrPort // invalid: it does not say
	proto  proto
	host   []byte // that the client asked for; nil: it does not say
}

// proto is the scheme that a client used.
type proto uint8

const (
	protoUnknown proto = iota
	protoHTTP
	protoHTTPS
)

// appendHops appends what Forwarded fields say (RFC 7239 §4), the proxy that is the nearest to the client first:
//
//	Forwarded         = 1#forwarded-element
//	forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] )
//	forwarded-pair    = token "=" ( token / quoted-string )
//
// Space around ";" is taken, since there are proxies that write it.
func appendHops(hops []hop, value []byte) ([]hop, error) {
	for rest := value; len(rest) > 0; {
		var element hop
		var seen [3]bool // for, proto, host: each once at the most
		some := false
		for {
			rest = bytes.TrimLeft(rest, " \t")
			if len(rest) > 0 && rest[0] != ';' && rest[0] != ',' {
				var err error
				if rest, err = element.pair(rest, &seen); err != nil {
					return hops, err
				}
				some = true
				rest = bytes.TrimLeft(rest, " \t")
			}
			if len(rest) == 0 || rest[0] == ',' {
				break
			}
			if rest[0] != ';' {
				return hops, errForwarded
			}
			rest = rest[1:]
		}
		if len(rest) > 0 { // the comma
			rest = rest[1:]
		}
		if !some { // RFC 9110 §5.6.1.2: lists may have empty elements
			continue
		}
		if len(hops) == maxHops {
			return hops, errHops
		}
		hops = append(hops, element)
	}
	return hops, nil
}

// pair reads one pair and returns what follows it.
func (h *hop) pair(text []byte, seen *[3]bool) (rest []byte, err error) {
	n := tokenLength(text)
	if n == 0 || n == len(text) || text[n] != '=' {
		return nil, errForwarded
	}
	name, value := text[:n], text[n+1:]
	if len(value) > 0 && value[0] == '"' {
		if value, rest, err = quoted(value[1:]); err != nil {
			return nil, err
		}
	} else {
		n = tokenLength(value)
		if value, rest = value[:n], value[n:]; n == 0 {
			return nil, errForwarded
		}
	}
	which := -1
	switch {
	case h1.EqualFold(name, "for"):
		which = 0
		if h.client, err = node(value); err != nil {
			return nil, err
		}
	case h1.EqualFold(name, "proto"):
		which, h.proto = 1, scheme(value)
	case h1.EqualFold(name, "host"):
		which, h.host = 2, plainHost(value)
	default: // by, and extensions (§5.5)
		return rest, nil
	}
	if seen[which] { // §4: "Each parameter MUST NOT occur more than once per field-value."
		return nil, errForwarded
	}
	seen[which] = true
	return rest, nil
}

// quoted splits a quoted-string (RFC 9110 §5.6.4) whose opening quote is gone. What addresses, schemes and hosts are made of needs no
// backslash, so that none is undone.
func quoted(text []byte) (value, rest []byte, err error) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			return text[:i], text[i+1:], nil
		case '\\':
			i++
		}
	}
	return nil, nil, errForwarded
}

// node reads who a proxy was called by (§6). One that hides it, as "unknown" or "_" and a name, gives no address.
func node(text []byte) (netip.AddrPort, error) {
	if h1.EqualFold(text, "unknown") || len(text) > 0 && text[0] == '_' {
		return netip.AddrPort{}, nil
	}
	address, ok := address(text)
	if !ok {
		return netip.AddrPort{}, errForwarded
	}
	return address, nil
}

func tokenLength(text []byte) int {
	n := 0
	for n < len(text) && isToken(text[n]) {
		n++
	}
	return n
}

// isToken: RFC 9110 §5.6.2.
func isToken(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

// address reads IPv4 or IPv6, with or without a port: what proxies write into X-Forwarded-For, and §6 allows. A port that is hidden
// ("_" and a name) counts as none.
func address(text []byte) (netip.AddrPort, bool) {
	host, port := text, []byte(nil)
	if len(text) > 0 && text[0] == '[' {
		end := bytes.IndexByte(text, ']')
		if end < 0 || end+1 < len(text) && text[end+1] != ':' {
			return netip.AddrPort{}, false
		}
		host = text[1:end]
		if bytes.IndexByte(host, ':') < 0 {
			return netip.AddrPort{}, false
		}
		if end+1 < len(text) {
			port = text[end+2:]
		}
	} else if colon := bytes.IndexByte(text, ':'); colon >= 0 && colon == bytes.LastIndexByte(text, ':') {
		host, port = text[:colon], text[colon+1:]
	}
	number := 0
	if port != nil && (len(port) == 0 || port[0] != '_') {
		if len(port) == 0 || len(port) > 5 {
			return netip.AddrPort{}, false
		}
		for _, digit := range port {
			if digit < '0' || digit > '9' {
				return netip.AddrPort{}, false
			}
			number = 10*number + int(digit-'0')
		}
		if number > 65535 {
			return netip.AddrPort{}, false
		}
	}
	if len(host) == 0 || len(host) > 45 { // of the longest IPv6 address; zones are of no use to others
		return netip.AddrPort{}, false
	}
	// The string is only looked at: without one of its own this costs no allocation.
	ip, err := netip.ParseAddr(unsafe.String(&host[0], len(host)))
	if err != nil || ip.Zone() != "" {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), true
}

// scheme reads http or https. Of WebSockets some proxies write ws and wss.
func scheme(text []byte) proto {
	switch {
	case h1.EqualFold(text, "https"), h1.EqualFold(text, "wss"):
		return protoHTTPS
	case h1.EqualFold(text, "http"), h1.EqualFold(text, "ws"):
		return protoHTTP
	}
	return protoUnknown
}

// plainHost is a host with or without port; nil for what is none.
func plainHost(text []byte) []byte {
	for _, b := range text {
		if !(isToken(b) || b == ':' || b == '[' || b == ']') {
			return nil
		}
	}
	if len(text) == 0 || len(text) > 255+6 {
		return nil
	}
	return text
}

// appendXHops appends what X-Forwarded-* fields say. Proxies write one address for each hop, but mostly one scheme and one host for all:
// the last ones then count.
func appendXHops(hops []hop, fields h1.Fields) ([]hop, error) {
	begin := len(hops)
	for value := range fields.All("X-Forwarded-For") {
		for item := range bytes.SplitSeq(value, []byte{','}) {
			if item = bytes.TrimSpace(item); len(item) == 0 {
				continue
			}
			if len(hops)-begin == maxHops {
				return hops, errHops
			}
			client, _ := address(item) // what is no address, such as "unknown", tells nothing
			hops = append(hops, hop{client: client})
		}
	}
	added := hops[begin:]
	fillFromEnd(added, fields, "X-Forwarded-Proto", func(h *hop, item []byte) { h.proto = scheme(item) })
	fillFromEnd(added, fields, "X-Forwarded-Host", func(h *hop, item []byte) { h.host = plainHost(item) })
	return hops, nil
}

// fillFromEnd gives the hops, the last one first, the items of a list, the last one first. Where there are fewer items, the first
// one of them is for all hops before.
func fillFromEnd(hops []hop, fields h1.Fields, name string, set func(*hop, []byte)) {
	next := len(hops) - 1
	var item []byte
	for i := len(fields) - 1; i >= 0 && next >= 0; i-- {
		if !h1.EqualFold(fields[i].Name, name) {
			continue
		}
		for value, more := fields[i].Value, true; more && next >= 0; next-- {
			comma := bytes.LastIndexByte(value, ',')
			item = bytes.TrimSpace(value[comma+1:])
			set(&hops[next], item)
			if more = comma >= 0; more {
				value = value[:comma]
			}
		}
	}
	if item != nil {
		for ; next >= 0; next-- {
			set(&hops[next], item)
		}
	}
}
