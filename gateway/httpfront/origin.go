package httpfront

import (
	"net/netip"

	"fieldgate/protocol/h1"
)

// origin is where the requests of a connection come from: its peer, or whom the peer forwards for, as far as that is trusted.
type origin struct {
	settings *Settings
	peer     netip.AddrPort // of the TCP connection
	claimed  netip.AddrPort // by a PROXY header; invalid: by none
	secure   bool           // the connection is TLS
	version  string         // that it speaks, as RFC 9110 §7.6.3 writes it
	trusted  bool           // its forwarding fields count

	source netip.AddrPort // of the request
	https  bool           // it came to us, or to the first trusted proxy, by TLS
	host   []byte         // that a trusted proxy says was asked for; nil: none says
	lines  []byte         // the fields that tell it to upstreams, but for the host
	first  []byte         // of the Forwarded field the first element, to which the host belongs; empty: none is sent
	others []byte         // and those of proxies that follow it

	hops  []hop        // scratch of resolve
	chain []netip.Addr // scratch of resolve
}

// adopt puts settings into force.
func (o *origin) adopt(settings *Settings) {
	o.settings = settings
	o.trusted = settings.trusts(o.peer.Addr()) && (!o.claimed.IsValid() || settings.trusts(o.claimed.Addr()))
	o.direct()
}

// client is the other end of the connection, as far as we know.
func (o *origin) client() netip.AddrPort {
	if o.claimed.IsValid() {
		return o.claimed
	}
	return o.peer
}

// speak is to be called when the connection turns out to speak another version of HTTP.
func (o *origin) speak(version string) {
	o.version = version
	o.direct()
}

// take makes the origin that of one exchange on the connection whose origin parent is.
func (o *origin) take(parent *origin) {
	lines, first, others, hops, chain := o.lines, o.first, o.others, o.hops, o.chain
	*o = *parent
	o.lines, o.first, o.others = append(lines[:0], o.lines...), append(first[:0], o.first...), append(others[:0], o.others...)
	o.hops, o.chain = hops[:0], chain[:0]
}

// direct is the origin of a request that nobody whom we trust has forwarded.
func (o *origin) direct() {
	o.source, o.https, o.host = o.client(), o.secure, nil
	o.chain = append(o.chain[:0], o.source.Addr())
	o.write()
}

// resolve finds where a request comes from. The fields are those of a trusted peer: each proxy vouches for the address that it was
// called by, so they are read from the last, while the one before is trusted too (RFC 7239 §8.1).
func (o *origin) resolve(fields h1.Fields) (err error) {
	o.hops = o.hops[:0]
	if o.settings.ForwardedIn == Forwarded {
		for value := range fields.All("Forwarded") {
			if o.hops, err = appendHops(o.hops, value); err != nil {
				return err
			}
		}
	} else if o.hops, err = appendXHops(o.hops, fields); err != nil {
		return err
	}
	o.source, o.https, o.host = o.client(), o.secure, nil
	o.chain = append(o.chain[:0], o.source.Addr())
	for i := len(o.hops) - 1; i >= 0 && o.hops[i].client.IsValid(); i-- {
		h := &o.hops[i]
		o.source = h.client
		if h.proto != protoUnknown {
			o.https = h.proto == protoHTTPS
		}
		if h.host != nil {
			o.host = h.host
		}
		o.chain = append(o.chain, o.source.Addr())
		if !o.settings.trusts(o.source.Addr()) {
			break
		}
	}
	o.write()
	return nil
}

// write makes the fields. Upstreams are told of those addresses only that are vouched for: the source, then the proxies after it.
func (o *origin) write() {
	scheme := "http"
	if o.https {
		scheme = "https"
	}
	o.lines, o.first, o.others = o.lines[:0], o.first[:0], o.others[:0]
	if o.settings.ForwardedOut&XForwarded != 0 {
		o.lines = append(o.lines, "X-Forwarded-For: "...)
		for i := len(o.chain) - 1; i >= 0; i-- {
			if i < len(o.chain)-1 {
				o.lines = append(o.lines, ", "...)
			}
			o.lines = o.chain[i].AppendTo(o.lines)
		}
		o.lines = h1.AppendField(append(o.lines, "\r\n"...), "X-Forwarded-Proto", scheme)
	}
	if o.settings.ForwardedOut&Forwarded != 0 {
		last := len(o.chain) - 1
		o.first = append(appendNode(append(o.first, "Forwarded: "...), o.chain[last]), ";proto="...)
		o.first = append(o.first, scheme...)
		for i := last - 1; i >= 0; i-- {
			o.others = appendNode(append(o.others, ", "...), o.chain[i])
		}
	}
	o.lines = h1.AppendField(o.lines, "Via", o.version+" fieldgate") // RFC 9110 §7.6.3
}

// appendNode: RFC 7239 §6. IPv6 addresses have to be quoted.
func appendNode(dst []byte, address netip.Addr) []byte {
	if address.Is6() {
		return append(address.AppendTo(append(dst, `for="[`...)), `]"`...)
	}
	return address.AppendTo(append(dst, "for="...))
}

// appendFields appends what upstreams are told of a request that asked for that host.
func (o *origin) appendFields(dst, host []byte) []byte {
	dst = append(dst, o.lines...)
	if o.host != nil {
		host = o.host
	}
	if len(host) > 0 && o.settings.ForwardedOut&XForwarded != 0 {
		dst = h1.AppendField(dst, "X-Forwarded-Host", host)
	}
	if len(o.first) > 0 {
		dst = append(dst, o.first...)
		if len(host) > 0 && plainHost(host) != nil {
			dst = append(append(append(dst, `;host="`...), host...), '"')
		}
		dst = append(append(dst, o.others...), "\r\n"...)
	}
	return dst
}
