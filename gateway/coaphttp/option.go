package coaphttp

import (
	"encoding/hex"
	"net/url"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/protocol/coap"
)

// OptionPrincipal tells a service who calls: kind and id of the principal with a colon between them. It is in the experimental range until
// a number is registered; elective, so that services which do not know it ignore it; unsafe to forward, so that proxies that do not know it
// keep it to themselves; and part of the cache key (RFC 7252 sections 5.4.6 and 12.2).
const OptionPrincipal coap.OptionNumber = 65006

// EntityTagText is the opaque tag of HTTP for an ETag option: hexadecimal digits, of which AppendEntityTag makes the option again.
func EntityTagText(tag []byte) string { return hex.EncodeToString(tag) }

// AddMaxAge rounds up, so that nobody comes back too early.
func AddMaxAge(to *coap.Options, age time.Duration) {
	seconds := (age + time.Second - 1) / time.Second
	to.SetUint(coap.MaxAge, uint32(min(max(seconds, 0), 1<<32-1)))
}

// AddLocation writes path and query of a Location field as options (RFC 7252 section 5.10.7). One that does not fit is
// left out: the resource exists, and half a location would name another.
func AddLocation(to *coap.Options, location string) {
	if location == "" {
		return
	}
	u, err := url.Parse(location)
	if err != nil || u.Opaque != "" {
		return
	}
	var options coap.Options
	segments := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	if len(segments) > fieldgate.MaxPathSegments {
		return
	}
	add := func(number coap.OptionNumber, escaped string) bool {
		value, err := url.PathUnescape(escaped)
		if err != nil || len(value) > 255 || value == "." || value == ".." {
			return false
		}
		options.AddString(number, value)
		return true
	}
	for _, segment := range segments {
		if !add(coap.LocationPath, segment) {
			return
		}
	}
	if u.RawQuery != "" {
		for argument := range strings.SplitSeq(u.RawQuery, "&") {
			if !add(coap.LocationQuery, argument) || options.Len() > 2*fieldgate.MaxPathSegments {
				return
			}
		}
	}
	for i := range options.Len() {
		number, value := options.At(i)
		to.Add(number, value)
	}
}

// Location is the Location field that Location-Path and Location-Query options stand for; empty: there are none.
func Location(response *coap.Message) string {
	var path, query strings.Builder
	for it := response.Iterate(); it.Next(); {
		switch it.Number {
		case coap.LocationPath:
			path.WriteByte('/')
			appendEscaped(&path, it.Value, segmentCharacters)
		case coap.LocationQuery:
			if query.Len() == 0 {
				query.WriteByte('?')
			} else {
				query.WriteByte('&')
			}
			appendEscaped(&query, it.Value, queryCharacters)
		}
	}
	if path.Len() == 0 && query.Len() > 0 {
		path.WriteByte('/')
	}
	return path.String() + query.String()
}

// Characters besides letters and digits that stand unescaped in a segment, and in an argument of a query (RFC 3986 section 3.3 and 3.4,
// RFC 7252 section 6.5).
const (
	segmentCharacters = "-._~!$&'()*+,;=:@"
	queryCharacters   = "-._~!$'()*+,;=:@/?"
)

func appendEscaped(to *strings.Builder, text []byte, plain string) {
	const hexadecimal = "0123456789ABCDEF"
	for _, c := range text {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(plain, c) >= 0 {
			to.WriteByte(c)
			continue
		}
		to.WriteByte('%')
		to.WriteByte(hexadecimal[c>>4])
		to.WriteByte(hexadecimal[c&15])
	}
}

// AddTarget writes the path and query of a request as options (RFC 7252 section 6.4). ok is false for a target that CoAP cannot carry: a
// part that is longer than 255 bytes or no percent-encoding, or a segment "." or "..".
func AddTarget(to *coap.Options, path, query string) (ok bool) {
	if path != "" && path != "/" && path != "*" {
		for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
			value, err := url.PathUnescape(segment)
			if err != nil || len(value) > 255 || value == "." || value == ".." {
				return false
			}
			to.AddString(coap.URIPath, value)
		}
	}
	if query != "" {
		for argument := range strings.SplitSeq(query, "&") {
			value, err := url.PathUnescape(argument)
			if err != nil || len(value) > 255 {
				return false
			}
			to.AddString(coap.URIQuery, value)
		}
	}
	return true
}
