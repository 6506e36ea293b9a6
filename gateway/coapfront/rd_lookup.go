package coapfront

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// What one answer of a look-up holds at the most; page and count lead to the rest.
const (
	maxFound      = 1000
	maxFoundBytes = 512 << 10
)

// criterion is what a look-up asks of links or registrations (RFC 9176 section 6.2).
type criterion struct{ name, pattern string }

// lookUp answers a look-up of resources or endpoints (RFC 9176 section 6).
func (d *Devices) lookUp(x *pipeline.Exchange, request *coap.Request, response *coap.Response) *fieldgate.Problem {
	switch accept, given := request.Uint(coap.Accept); {
	case request.Code != coap.GET:
		return errDirectoryVerb
	case x.Principal.Kind != fieldgate.PrincipalApp || !slices.Contains(x.Principal.Scopes, ScopeLookup):
		return errNoLookup
	case given && accept != coap.LinkFormat:
		return errNotAcceptable
	}
	page, count := 0, maxFound
	var criteria []criterion
	for it := request.Iterate(); it.Next(); {
		if it.Number != coap.URIQuery {
			continue
		}
		name, value, _ := strings.Cut(string(it.Value), "=")
		switch name {
		case "page", "count": // RFC 9176 section 6.2
			n, err := strconv.ParseUint(value, 10, 20)
			if err != nil || name == "count" && n == 0 {
				return errParameter(name, "is a number")
			}
			if name == "page" {
				page = int(n)
			} else {
				count = min(int(n), maxFound)
			}
		default:
			if criteria = append(criteria, criterion{name, value}); len(criteria) > fieldgate.MaxDeviceAttributes {
				return errParameter(name, fmt.Sprintf("is one of more than %d criteria", fieldgate.MaxDeviceAttributes))
			}
		}
	}
	var body strings.Builder
	skip := page * count
	for _, r := range d.registered(time.Now()) {
		if found := r.found(string(x.Path) == directoryResources, criteria); len(found) <= skip {
			skip -= len(found)
		} else {
			for _, text := range found[skip:] {
				if count == 0 {
					break
				}
				if body.Len()+len(text) > maxFoundBytes {
					return errParameter("count", "asks for more than one answer holds: ask for less at a time")
				}
				if body.Len() > 0 {
					body.WriteByte(',')
				}
				body.WriteString(text)
				count--
			}
			skip = 0
		}
		if count == 0 {
			break
		}
	}
	response.Code = coap.Content
	response.Options.AddUint(coap.ContentFormat, coap.LinkFormat)
	response.Body = []byte(body.String())
	return nil
}

// registered are the registrations that stand, in the order of their devices, so that pages fit together.
func (d *Devices) registered(now time.Time) (list []*registration) {
	d.mu.RLock()
	for _, device := range d.all {
		device.mu.Lock()
		if r := device.registration; r != nil && now.Before(r.until) {
			list = append(list, r)
		}
		device.mu.Unlock()
	}
	d.mu.RUnlock()
	slices.SortFunc(list, func(a, b *registration) int { return strings.Compare(a.Device, b.Device) })
	return list
}

// found are the links of a registration that a look-up of resources asks for, or the registration itself.
func (r *registration) found(resources bool, criteria []criterion) (texts []string) {
	own := r.attributes()
	base := r.base()
	if !resources {
		for _, c := range criteria {
			of := func(l rdLink) bool { return matches(l.described(base), c.name, c.pattern) }
			if !matches(append(own, rdAttribute{"href", directoryRegistered + r.Device, true}), c.name, c.pattern) && !slices.ContainsFunc(r.links, of) {
				return nil
			}
		}
		var text strings.Builder
		text.WriteString("<" + directoryRegistered + r.Device + ">")
		for _, a := range own {
			a.append(&text)
		}
		return []string{text.String()}
	}
	for i := range r.links {
		described := append(r.links[i].described(base), own...)
		if slices.ContainsFunc(criteria, func(c criterion) bool { return !matches(described, c.name, c.pattern) }) {
			continue
		}
		var text strings.Builder
		r.links[i].append(&text, base)
		texts = append(texts, text.String())
	}
	return texts
}

// described are the attributes of a link by which it is looked for.
func (l *rdLink) described(base string) []rdAttribute {
	return append(slices.Clone(l.attributes), rdAttribute{"href", l.target, true}, rdAttribute{"href", base + l.target, true})
}

// attributes are those that a look-up of endpoints shows (RFC 9176 section 6.3).
func (r *registration) attributes() []rdAttribute {
	list := []rdAttribute{{"base", r.base(), true}, {"ep", r.Device, true}}
	if r.Sector != "" {
		list = append(list, rdAttribute{"d", r.Sector, true})
	}
	list = append(list, rdAttribute{"lt", strconv.Itoa(int(r.Lifetime / time.Second)), true}, rdAttribute{"rt", "core.rd-ep", true})
	for _, a := range r.Attributes {
		name, value, valued := strings.Cut(a, "=")
		if name != "rt" {
			list = append(list, rdAttribute{name, value, valued})
		}
	}
	return list
}

// schemes of listeners (RFC 7252 section 6, RFC 8323 section 8).
var schemes = map[string]string{"coap": "coap", "coaps": "coaps", "coap-tcp": "coap+tcp", "coaps-tcp": "coaps+tcp", "coap-ws": "coap+ws", "coaps-ws": "coaps+ws"}

// base is the URI below which the device serves.
func (r *registration) base() string {
	at := r.Address
	if r.Base != (netip.AddrPort{}) {
		at = r.Base
	}
	return schemes[r.Transport] + "://" + at.String()
}
