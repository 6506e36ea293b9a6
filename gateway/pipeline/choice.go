package pipeline

import (
	"slices"

	"github.com/cespare/xxhash/v2"

	"fieldgate"
	"fieldgate/gateway/upstream"
)

// Choice is what an upstream chooses the address of the exchange by: nothing, unless it hashes or its callers stick. Keys are the same on
// every gateway.
func (x *Exchange) Choice(service *upstream.Upstream) (choice upstream.Choice) {
	config := &service.Config
	if config.Algorithm == fieldgate.AlgorithmHash {
		if key := x.hashed(config.HashBy); len(key) > 0 {
			choice.Key = max(xxhash.Sum64(key), 1)
		}
	}
	if config.Sticky.Cookie != "" && x.Fields != nil {
		cookies, _ := x.Fields.Field("cookie")
		choice.Sticky = string(cookieValue(cookies, config.Sticky.Cookie))
	}
	return choice
}

// hashed is the part of the exchange that consistent hashing goes by; empty where the exchange has none.
func (x *Exchange) hashed(by fieldgate.HashBy) []byte {
	switch by.Kind {
	case fieldgate.HashHost:
		return x.Host
	case fieldgate.HashPath:
		return x.Path
	case fieldgate.HashQuery:
		value, _ := queryValue(x.Query, by.Name)
		return value
	case fieldgate.HashHeader, fieldgate.HashCookie:
		if x.Fields == nil {
			return nil
		}
		if by.Kind == fieldgate.HashHeader {
			value, _ := x.Fields.Field(by.Name)
			return value
		}
		cookies, _ := x.Fields.Field("cookie")
		return cookieValue(cookies, by.Name)
	case fieldgate.HashParameter:
		number := slices.IndexFunc(x.Operation.Parameters, func(p fieldgate.Parameter) bool { return p.Name == by.Name })
		if number < 0 {
			return nil
		}
		return x.values[number]
	case fieldgate.HashPrincipal:
		if x.Principal.ID != "" {
			return []byte(x.Principal.ID)
		}
	}
	address := x.Source.Addr().As16()
	return address[:]
}
