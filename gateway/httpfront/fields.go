package httpfront

import (
	"fieldgate/protocol/h1"
)

// callerFields are the request's fields as the pipeline sees them.
type callerFields connection

// Field is the value of the field of that name.
func (f *callerFields) Field(name string) (value []byte, found bool) {
	value = f.request.Fields.Joined(name)
	return value, value != nil
}

// Each visits the end-to-end fields that the upstream gets.
func (f *callerFields) Each(visit func(name, value []byte)) {
	for i := range f.request.Fields {
		if field := &f.request.Fields[i]; field.Kind == h1.KindOther && !field.Hop && !f.Withholds(field.Name) {
			visit(field.Name, field.Value)
		}
	}
}

// Withholds says whether the upstream does not get the caller's field of that name.
func (f *callerFields) Withholds(name []byte) bool { return (*connection)(f).withheld(name) }

// HasContent says whether the request has content.
func (f *callerFields) HasContent() bool { return f.request.Framing != h1.NoBody }

// Upgrades says whether the request asks for a WebSocket.
func (f *callerFields) Upgrades() bool { return f.request.WantsWebSocket() }

// AppendOrigin appends the origin that the upstream is told was asked for (RFC 6454 section 6.2).
func (f *callerFields) AppendOrigin(dst []byte) []byte {
	scheme, host := "http://", f.request.Host
	if f.origin.https {
		scheme = "https://"
	}
	if f.origin.host != nil {
		host = f.origin.host
	}
	return append(append(dst, scheme...), host...)
}

// AppendForwarded appends what the upstream gets of the caller's fields, after where the request comes from.
func (f *callerFields) AppendForwarded(dst []byte, drop func(name []byte) bool) []byte {
	return (*connection)(f).appendForwarded(dst, func(name []byte) bool { return h1.EqualFold(name, "Content-Type") || drop(name) })
}

// appendForwarded appends where the request comes from, and its end-to-end fields but those that only the gateway may say, credentials
// of ours, and what drop names (nil: nothing).
func (c *connection) appendForwarded(dst []byte, drop func(name []byte) bool) []byte {
	r := &c.request
	dst = c.origin.appendFields(dst, r.Host)
	dst = c.appendContext(dst)
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.Kind != h1.KindOther || f.Hop || c.withheld(f.Name) || drop != nil && drop(f.Name) {
			continue
		}
		dst = h1.AppendField(dst, f.Name, f.Value)
	}
	return dst
}
