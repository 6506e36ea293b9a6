package contract

import (
	"slices"
	"strings"

	"fieldgate"
)

// readBinding decides whether a parameter stands for the caller: because it says so itself, or because x-fieldgate.principal
// names it.
func (c *compiler) readBinding(p *fieldgate.Parameter, n *node) {
	word := n.get("x-fieldgate-bind")
	p.Bound = word != nil || (c.principal != nil && p.In == fieldgate.InPath && p.Name == c.principal.string())
	if p.Bound && p.In == fieldgate.InCookie {
		c.fail(word, "put the parameter into the path", "a cookie cannot be bound to the caller")
	}
}

// readCoAP reads x-fieldgate-bindings.coap. path and method are those of HTTP, which hold where the binding names none.
func (c *compiler) readCoAP(op *fieldgate.Operation, n *node, path string, method fieldgate.Method) {
	b := &fieldgate.CoAPBinding{Method: method, Path: path, Observe: n.get("observe").isTrue()}
	at := n
	if word := n.get("path"); word != nil {
		at, b.Path = word, word.string()
	}
	if word := n.get("method"); word != nil {
		b.Method = fieldgate.ParseMethod([]byte(word.string()))
		if b.Method == fieldgate.MethodOther {
			c.fail(word, c.didYouMean(word.string(), []string{"GET", "POST", "PUT", "DELETE", "FETCH", "PATCH", "IPATCH"}), "%q is not a CoAP method", excerpt(word.string()))
		}
	}
	switch b.Method { // RFC 7252 section 5.8, RFC 8132
	case fieldgate.MethodHead, fieldgate.MethodOptions, fieldgate.MethodTrace:
		c.fail(n, "name another with method: GET", "CoAP has no method %s", b.Method)
	}
	if format := n.get("content-format"); format != nil {
		if number, _ := format.integer(); number < 0 || number > 0xffff {
			c.fail(format, "write a number of the CoAP Content-Formats registry, such as 50 (JSON) or 60 (CBOR)", "a content format is 0 to 65535") // RFC 7252 section 12.3
		}
	}
	c.checkTemplate(op, at, "CoAP path", b.Path, SplitPath, func(p fieldgate.Parameter) bool {
		return p.In == fieldgate.InHeader || p.In == fieldgate.InCookie
	})
	op.CoAP = b
}

// checkObserve holds after all bindings are read: an observer hears a topic.
func (c *compiler) checkObserve(op *fieldgate.Operation, n *node) {
	if op.CoAP == nil || !op.CoAP.Observe {
		return
	}
	if op.CoAP.Method != fieldgate.MethodGet { // what a FETCH asks stands in its body, and the messages of a topic answer no question
		c.fail(n.get("observe"), "let the operation be a GET", "only GET can be observed, not %s", op.CoAP.Method)
	}
	if op.MQTT == nil || op.MQTT.Action != fieldgate.ActionSubscribe {
		c.fail(n.get("observe"), "add mqtt: {topic: …, action: subscribe} to the bindings", "an observer of %s hears the topic of its mqtt binding, but there is none to subscribe to", op.ID)
	}
}

// readObserves holds after all bindings are read: what a service notifies is heard on a topic.
func (c *compiler) readObserves(op *fieldgate.Operation, n *node) {
	word := n.get("observe-service")
	if op.ObservesService = word.isTrue(); !op.ObservesService {
		return
	}
	if op.MQTT == nil || op.MQTT.Action != fieldgate.ActionSubscribe {
		c.fail(word, "add mqtt: {topic: …, action: subscribe} to the bindings", "what the service of %s notifies is heard on the topic of its mqtt binding, but there is none to subscribe to", op.ID)
	}
	if op.Upstream == "" {
		c.fail(word, "add upstream: NAME", "%s has no upstream that could be observed", op.ID)
	}
}

// readMQTT reads x-fieldgate-bindings.mqtt of an OpenAPI operation.
func (c *compiler) readMQTT(op *fieldgate.Operation, n *node) {
	action := fieldgate.ActionPublish
	if op.HTTP.Method == fieldgate.MethodGet {
		action = fieldgate.ActionSubscribe
	}
	if word := n.get("action"); word != nil {
		action = fieldgate.MQTTAction(word.string())
	}
	switch method := op.HTTP.Method; {
	case action == fieldgate.ActionSubscribe && method != fieldgate.MethodGet:
		c.fail(n, "bind the topic to a GET operation", "%s is a %s, and only a GET can be subscribed to", op.ID, method)
	case action == fieldgate.ActionPublish && op.Request == nil:
		c.fail(n, "add a requestBody, or write action: subscribe", "%s takes no body, so nothing can be published to it", op.ID)
	}
	op.MQTT = &fieldgate.MQTTBinding{Topic: n.get("topic").string(), Action: action, QoS: c.qos(n.get("qos")), Retain: n.get("retain").isTrue()}
	if op.MQTT.Retain && action == fieldgate.ActionSubscribe {
		c.fail(n.get("retain"), "say it at the operation that publishes", "retain is decided by who publishes")
	}
	c.checkTemplate(op, n.get("topic"), "topic", op.MQTT.Topic, SplitTopic, func(fieldgate.Parameter) bool { return true })
	c.checkSystem(op, n.get("topic"))
}

// checkSystem refuses an operation by which statistics of the gateway would be published.
func (c *compiler) checkSystem(op *fieldgate.Operation, topic *node) {
	if op.MQTT.Action == fieldgate.ActionPublish && isSystem(op.MQTT.Topic) {
		c.fail(topic, "give it another topic", "%s publishes on %q, where only the gateway does", op.ID, excerpt(op.MQTT.Topic))
	}
}

func (c *compiler) qos(n *node) byte {
	if n == nil {
		return 1
	}
	value, ok := n.integer()
	if !ok || value < 0 || value > 2 {
		c.fail(n, "write 0, 1 or 2", "qos must be 0, 1 or 2")
		return 1
	}
	return byte(value)
}

// checkTemplate holds a template and the operation's parameters against each other. Parameters that the template lacks
// must be optional or bound to the caller, if the protocol has no other place for them.
func (c *compiler) checkTemplate(op *fieldgate.Operation, at *node, what, template string, split func(string) ([]Segment, error), homeless func(fieldgate.Parameter) bool) {
	segments, err := split(template)
	if err != nil {
		c.fail(at, "correct the template", "the %s %q of %s: %v", what, excerpt(template), op.ID, err)
		return
	}
	inTemplate := make(map[string]bool)
	for _, s := range segments {
		if s.Parameter == "" {
			continue
		}
		inTemplate[s.Parameter] = true
		var known []string
		for _, p := range op.Parameters {
			if p.In == fieldgate.InPath || p.In == fieldgate.InQuery {
				known = append(known, p.Name)
			}
		}
		if !slices.Contains(known, s.Parameter) {
			remedy := "declare it in parameters"
			if len(known) > 0 {
				remedy += "; " + c.didYouMean(s.Parameter, known)
			}
			c.fail(at, remedy, "the %s of %s has {%s}, which is no parameter of the operation", what, op.ID, excerpt(s.Parameter))
		}
	}
	for _, p := range op.Parameters {
		if p.Required && !p.Bound && !inTemplate[p.Name] && homeless(p) {
			c.fail(at, "add {"+p.Name+"} to the "+what+", bind it to the caller, or make it optional", "%s requires %s, which the %s has no place for", op.ID, p.Name, what)
		}
	}
}

// methodNamed reads a method of HTTP in upper or lower case.
func methodNamed(name string) fieldgate.Method {
	return fieldgate.ParseMethod([]byte(strings.ToUpper(name)))
}
