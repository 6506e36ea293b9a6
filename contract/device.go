package contract

import (
	"slices"
	"time"

	"fieldgate"
)

// deviceWords say at which resource of which device an operation is carried out.
var deviceWords = closed(fields{
	"id!":            text,
	"path!":          text,
	"method":         text,
	"queue":          text,
	"content-format": integer,
})

// readDevice reads x-fieldgate.device. It takes the place of an upstream that stands further out.
func (c *compiler) readDevice(op *fieldgate.Operation, n, own *node) {
	if upstream := own.get("upstream"); upstream != nil {
		c.fail(upstream, "remove one of the two", "%s is carried out by a device or by an upstream, not by both", op.ID)
	}
	if own.get("websocket") != nil {
		c.fail(own.get("websocket"), "remove it", "CoAP, by which devices are reached, has no WebSockets")
	}
	if op.HTTP == nil {
		c.fail(n, "describe the operation in OpenAPI", "device is for requests, and %s is a message", op.ID)
		return
	}
	op.Upstream = ""
	d := &fieldgate.DeviceTarget{Parameter: n.get("id").string(), Path: n.get("path").string(), Method: op.HTTP.Method}
	var known []string
	for _, p := range op.Parameters {
		if p.In == fieldgate.InPath && p.Required {
			known = append(known, p.Name)
		}
	}
	if !slices.Contains(known, d.Parameter) {
		c.fail(n.get("id"), c.didYouMean(d.Parameter, known), "id names the parameter of the path that holds the device's id, and %s has no %q there", op.ID, excerpt(d.Parameter))
	}
	c.checkTemplate(op, n.get("path"), "path at the device", d.Path, SplitPath, func(fieldgate.Parameter) bool { return false })
	if segments, err := SplitPath(d.Path); err == nil {
		for _, s := range segments {
			if s.Parameter != "" && !slices.Contains(known, s.Parameter) {
				c.fail(n.get("path"), c.didYouMean(s.Parameter, known), "the path at the device has {%s}, which is no parameter of the path of %s", excerpt(s.Parameter), op.ID)
			}
		}
	}
	if method := n.get("method"); method != nil {
		d.Method = methodNamed(method.string())
	}
	switch d.Method { // RFC 7252 section 5.8, RFC 8132
	case fieldgate.MethodGet, fieldgate.MethodPost, fieldgate.MethodPut, fieldgate.MethodDelete, fieldgate.MethodFetch, fieldgate.MethodPatch, fieldgate.MethodIPatch:
	default:
		c.fail(n, "name another with method: POST", "CoAP has no method %s", d.Method)
	}
	if own.get("idempotent") == nil {
		op.Idempotent = d.Method != fieldgate.MethodPost && d.Method != fieldgate.MethodPatch // RFC 7252 section 5.1, RFC 8132 section 1
	}
	if queue := n.get("queue"); queue != nil {
		d.Queue = c.duration(queue, time.Second, fieldgate.MaxDeviceQueue)
	}
	if format := n.get("content-format"); format != nil {
		switch number, _ := format.integer(); number {
		case 50:
		case 60:
			d.CBOR = true
		default:
			c.fail(format, "write 50 (JSON) or 60 (CBOR)", "JSON goes to the device as it is, or as CBOR")
		}
	}
	op.Device = d
}

// servicePolicies are about calls of a service. Here they mean nothing: why, and what to do.
var servicePolicies = map[string]struct{ why, remedy string }{
	"canary":   {"is carried out by the device that its path names, and by no other", "remove the policy, or name an upstream in place of device"},
	"mirror":   {"is sent to the device that its path names, and to nobody else", "remove the policy, or name an upstream in place of device"},
	"retry":    {"is repeated by CoAP until the device acknowledges it, within the timeout", "remove the policy; timeout says how long, and idempotent: true that it may be sent again"},
	"hedge":    {"is never asked of a device twice at a time", "remove the policy"},
	"cache":    {"is answered by its device each time, so nothing of it is cached", "remove the policy"},
	"redirect": {"is answered by a redirection or by a device, not by both", "remove one of the two"},
}

// suitsDevice says whether a policy means something where a device answers. One of the whole document holds where it does.
func (c *compiler) suitsDevice(op *fieldgate.Operation, sort string, policy *node, own bool) bool {
	if none, is := servicePolicies[sort]; is {
		if own {
			c.fail(policy, none.remedy, "%s %s: %s means nothing here", op.ID, none.why, sort)
		}
		return false
	}
	if fields := policy.get("request").get("set"); sort == "request" && own && (fields != nil || policy.get("request").get("remove") != nil) {
		c.fail(policy, "remove set and remove; body works", "%s goes to a device over CoAP, which has no header fields", op.ID)
	}
	return true
}

// checkServiceWords refuses what an operation says of a service that it does not have.
func (c *compiler) checkServiceWords(op *fieldgate.Operation, own *node) {
	if n := own.get("priority"); n != nil {
		c.fail(n, "remove it", "priority says who is served first by an upstream, and %s has none", op.ID)
	}
	if n := own.get("service-format"); n != nil {
		c.fail(n, "write content-format: 60 in device", "service-format says what an upstream takes, and %s has none", op.ID)
	}
}
