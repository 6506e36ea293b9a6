// Package coaphttp is the mapping between HTTP and CoAP (RFC 8075): methods, statuses, media types, entity tags, locations, freshness and
// problem details, each in one place for both directions, whoever is the client.
//
// It is tables and functions without state. What it reads from the network is bounded by the messages that it comes in.
package coaphttp

import (
	"strings"

	"fieldgate/protocol/coap"
)

// RequestCode is the method code for a method of HTTP, or of CoAP by its name, with content of that type (RFC 8075 section 7, RFC 8132
// section 2). ok is false for a method that CoAP has nothing for.
func RequestCode(method, contentType string) (code coap.Code, ok bool) {
	switch method {
	case "GET", "HEAD":
		return coap.GET, true
	case "POST":
		return coap.POST, true
	case "PUT":
		return coap.PUT, true
	case "DELETE":
		return coap.DELETE, true
	case "FETCH", "QUERY":
		return coap.FETCH, true
	case "PATCH":
		if essence, _, _ := strings.Cut(contentType, ";"); strings.EqualFold(strings.TrimSpace(essence), "application/merge-patch+json") {
			return coap.IPATCH, true // RFC 7396: applying it again changes nothing
		}
		return coap.PATCH, true
	case "IPATCH":
		return coap.IPATCH, true
	}
	return 0, false
}
