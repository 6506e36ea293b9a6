package contract

import (
	"fmt"
	"strings"

	"fieldgate"
)

var passThroughShape = closed(fields{
	"fieldgate!": word("pass-through"),
	"info!":      closed(fields{"title!": text, "version!": text}),
	"access!":    word("anonymous", "credentials"),
	"http":       list(closed(fields{"host": text, "prefix": text, "upstream!": text, "websocket": boolean})),
	"mqtt":       list(closed(fields{"filter!": text})),
	"coap":       list(closed(fields{"prefix": text, "upstream!": text})),
})

// compilePassThrough reads the on-ramp for a fleet that exists already: what it names is let through unchecked and recorded as
// undocumented.
func (c *compiler) compilePassThrough() {
	if !c.conforms(c.root, passThroughShape) || c.failed {
		return
	}
	c.readRoot(nil, c.root.get("info"))
	for i, n := range c.root.get("http").all() {
		if n.get("host") == nil && n.get("prefix") == nil {
			c.fail(n, "add host or prefix; prefix: / takes everything that no contract explains", "an item of http names neither host nor prefix")
		}
		c.host = ""
		c.readHost(n.get("host"))
		op := c.passThrough("http", i)
		op.HTTP = &fieldgate.HTTPBinding{Host: c.host, Method: fieldgate.MethodOther, Path: c.prefix(n), WebSocket: n.get("websocket").isTrue()}
		op.Upstream = c.environmentName(n.get("upstream"))
		c.addOperation(op, n, n)
	}
	for i, n := range c.root.get("mqtt").all() {
		filter := n.get("filter")
		if err := ValidFilter(filter.string()); err != nil {
			c.fail(filter, "write a topic filter such as legacy/#", "%q: %v", excerpt(filter.string()), err)
		}
		op := c.passThrough("mqtt", i)
		op.MQTT = &fieldgate.MQTTBinding{Topic: filter.string(), Action: fieldgate.ActionBoth, QoS: 2, Retain: true}
		c.addOperation(op, n, n)
	}
	for i, n := range c.root.get("coap").all() {
		op := c.passThrough("coap", i)
		op.CoAP = &fieldgate.CoAPBinding{Method: fieldgate.MethodOther, Path: c.prefix(n)}
		op.Upstream = c.environmentName(n.get("upstream"))
		c.addOperation(op, n, n)
	}
	if len(c.contract.Operations) == 0 {
		c.fail(c.root, "add http, mqtt or coap", "nothing is passed through")
	}
}

func (c *compiler) passThrough(protocol string, i int) fieldgate.Operation {
	op := fieldgate.Operation{
		ID: fmt.Sprintf("%s-%d", protocol, i+1), PassThrough: true,
		MaxBody: fieldgate.MaxBody, OnInvalid: fieldgate.InvalidShadow,
	}
	if c.root.get("access").string() == "anonymous" {
		op.Access.Anonymous = true
	} else {
		op.Access.Kinds = []fieldgate.PrincipalKind{fieldgate.PrincipalDevice, fieldgate.PrincipalApp}
	}
	return op
}

// prefix reads the path below which everything passes; without one it is all of the host.
func (c *compiler) prefix(n *node) string {
	at := n.get("prefix")
	if at == nil {
		return "/"
	}
	prefix := at.string()
	segments, err := SplitPath(prefix)
	if err != nil {
		c.fail(at, "write a path such as /legacy", "the prefix %q: %v", excerpt(prefix), err)
	}
	for _, s := range segments {
		if s.Parameter != "" {
			c.fail(at, "write a path such as /legacy", "a prefix has no parameters")
		}
	}
	if prefix != "/" {
		prefix = strings.TrimSuffix(prefix, "/")
	}
	return prefix
}

func (c *compiler) environmentName(n *node) string {
	if name := n.string(); fieldgate.ValidIdentifier(name) {
		return name
	}
	c.fail(n, "write the name of an upstream of the environment file", "%q is not the name of an upstream", excerpt(n.string()))
	return ""
}
