package contract

import (
	"slices"
	"strconv"
	"strings"

	"fieldgate"
)

// compileAsyncAPI reads an AsyncAPI 3 document. As the specification has it, the document is the application's, which here
// is the service behind Fieldgate: what it receives, clients publish; what it sends, clients subscribe to.
func (c *compiler) compileAsyncAPI() {
	version := c.root.get("asyncapi")
	if !strings.HasPrefix(version.string(), "3.") {
		c.fail(version, "convert it to asyncapi: 3.0.0", "AsyncAPI %q is not read; 3.0 is", excerpt(version.string()))
		return
	}
	c.dialect = dialect07 // AsyncAPI 3.0.0, Schema Object: a superset of draft-07
	if !c.conforms(c.root, asyncAPIShape) || c.exceeded || !c.checkReferences() {
		return
	}
	c.namedSchemas = c.root.find("components", "schemas")
	c.readRoot(c.root.get("x-fieldgate"), c.root.get("info"))
	for _, server := range c.root.get("servers").all() {
		server = c.resolve(server)
		switch server.get("protocol").string() {
		case "http", "https", "ws", "wss":
			c.base = c.pathOf(server.get("pathname"), server.get("pathname").string())
		}
	}
	used := make(map[*node]bool)
	for _, operation := range c.root.get("operations").all() {
		if c.exceeded {
			return
		}
		r := asyncReader{compiler: c, entry: operation, operation: c.resolve(operation)}
		r.channel = c.resolve(r.operation.get("channel"))
		used[r.channel] = true
		r.readOperation()
	}
	for _, channel := range c.root.get("channels").all() {
		if !used[c.resolve(channel)] {
			c.warn(channel, "add an operation with action: receive or send", "no operation uses the channel %s; nothing is served there", excerpt(channel.name))
		}
	}
	if len(c.root.get("operations").all()) == 0 {
		c.warn(c.root, "say in operations what is received and sent", "the API has no operations")
	}
}

// asyncReader reads one operation.
type asyncReader struct {
	*compiler
	entry, operation, channel *node
}

func (r *asyncReader) readOperation() {
	n := r.operation
	op := fieldgate.Operation{ID: r.entry.name, Summary: r.trait(n, "summary").string()}
	address := r.channel.get("address")
	if !address.isText() {
		r.fail(r.entry, "give the channel an address", "the channel of %s has no address", excerpt(op.ID))
		return
	}
	r.readParameters(&op)
	mqtt := &fieldgate.MQTTBinding{Topic: address.string(), Action: fieldgate.ActionSubscribe, QoS: r.qos(r.mqttBinding("qos")), Retain: r.mqttBinding("retain").isTrue()}
	payload := r.readPayload(&op)
	if n.get("action").string() == "receive" {
		mqtt.Action = fieldgate.ActionPublish
		op.Request = payload
	} else {
		mqtt.Retain = false // decided by who publishes
		op.Message = payload
	}
	op.MQTT = mqtt
	r.checkTemplate(&op, address, "address", mqtt.Topic, SplitTopic, func(fieldgate.Parameter) bool { return false })
	r.checkSystem(&op, address)
	r.checkAddress(&op, address)
	if reply := n.get("reply"); reply != nil {
		r.warn(reply, "describe the answer as an operation of its own", "replies are documentation; Fieldgate sends none")
	}

	levels := []*node{n.get("x-fieldgate"), r.channel.get("x-fieldgate"), r.root.get("x-fieldgate")}
	if n.find("x-fieldgate", "websocket") != nil {
		r.fail(n.find("x-fieldgate", "websocket"), "remove it; what is sent can be heard over WebSocket in any case", "websocket passes upgrades to an upstream, which messages do not have")
	}
	r.readBindings(&op, n.get("x-fieldgate-bindings"))
	r.readOperationWords(&op, levels...)
	if word := levels[0].get("observe-service"); word != nil {
		r.fail(word, "describe the resource in an OpenAPI document, as a GET with a topic", "messages have no resource of a service that could be observed")
	}
	if mqtt.Action == fieldgate.ActionSubscribe && op.Upstream != "" {
		if own := levels[0].get("upstream"); own != nil {
			r.fail(own, "remove it", "%s is heard from the broker; there is nothing to send upstream", op.ID)
		}
		op.Upstream = ""
	}
	r.readAccess(&op, r.entry, r.requirement(), levels)
	r.checkPolicies(&op, levels[0])
	r.checkOwnerless(&op, r.entry)
	r.addOperation(op, r.entry, r.entry)
}

// trait is the member of that name, of n itself or else of the last of its traits that has it (AsyncAPI 3.0.0, Traits Merge
// Mechanism).
func (r *asyncReader) trait(n *node, name string) *node {
	if own := n.get(name); own != nil {
		return own
	}
	traits := n.get("traits").all()
	for _, trait := range slices.Backward(traits) {
		if inherited := r.resolve(trait).get(name); inherited != nil {
			return inherited
		}
	}
	return nil
}

// mqttBinding is a member of the operation's MQTT binding, which traits may add to.
func (r *asyncReader) mqttBinding(name string) *node {
	if own := r.resolve(r.operation.get("bindings")).find("mqtt", name); own != nil {
		return own
	}
	for _, trait := range slices.Backward(r.operation.get("traits").all()) {
		if inherited := r.resolve(r.resolve(trait).get("bindings")).find("mqtt", name); inherited != nil {
			return inherited
		}
	}
	return nil
}

func (r *asyncReader) readParameters(op *fieldgate.Operation) {
	for _, parameter := range r.channel.get("parameters").all() {
		n := r.resolve(parameter)
		p := fieldgate.Parameter{Name: parameter.name, In: fieldgate.InPath, Required: true}
		if enum := n.get("enum"); enum != nil {
			p.Schema = r.enumSchema(op.ID+".parameter."+p.Name, enum)
		}
		r.readBinding(&p, n)
		op.Parameters = append(op.Parameters, p)
	}
}

// enumSchema makes the schema of a channel's parameter, which AsyncAPI 3 gives values but no schema.
func (r *asyncReader) enumSchema(name string, enum *node) fieldgate.SchemaRef {
	def := r.schemas.add(name, nil, dialect2020)
	def.text = append(append([]byte(`{"enum":`), r.toJSON(enum)...), '}')
	return fieldgate.SchemaRef("#/$defs/" + def.name)
}

// checkAddress reports parameters that the channel declares without using them.
func (r *asyncReader) checkAddress(op *fieldgate.Operation, address *node) {
	for _, p := range op.Parameters {
		if !strings.Contains(address.string(), "{"+p.Name+"}") {
			r.fail(address, "add {"+p.Name+"} to the address, or remove the parameter", "the channel declares the parameter %q, which is not in its address", excerpt(p.Name))
		}
	}
}

// readPayload gathers the messages of the operation, or of its channel where it names none, by content type.
func (r *asyncReader) readPayload(op *fieldgate.Operation) *fieldgate.Payload {
	messages := r.operation.get("messages").all()
	if r.operation.get("messages") == nil {
		messages = r.channel.get("messages").all()
	} else {
		r.checkMessages(messages)
	}
	if len(messages) == 0 {
		r.warn(r.entry, "describe them in messages of the channel", "%s has no messages, so their payloads are not checked", excerpt(op.ID))
		return &fieldgate.Payload{Media: []fieldgate.MediaType{{Type: "*/*"}}}
	}
	payload := &fieldgate.Payload{Required: true}
	alternatives := make(map[string][]fieldgate.SchemaRef)
	for i, entry := range messages {
		m := r.readMessage(op, r.resolve(entry), op.ID+".message."+strconv.Itoa(i+1))
		if _, merged := alternatives[m.Type]; !merged {
			payload.Media = append(payload.Media, m)
		} else {
			first := &payload.Media[slices.IndexFunc(payload.Media, func(o fieldgate.MediaType) bool { return o.Type == m.Type })]
			first.Examples = append(first.Examples, m.Examples...)
		}
		alternatives[m.Type] = append(alternatives[m.Type], m.Schema)
	}
	for i := range payload.Media {
		m := &payload.Media[i]
		m.Schema = r.anyOf(op.ID+".message", alternatives[m.Type])
	}
	return payload
}

// checkMessages: the messages of an operation are among those of its channel (AsyncAPI 3.0.0, Operation Object).
func (r *asyncReader) checkMessages(messages []*node) {
	ofChannel := make(map[*node]bool)
	for _, message := range r.channel.get("messages").all() {
		ofChannel[r.resolve(message)] = true
	}
	for _, message := range messages {
		if !ofChannel[r.resolve(message)] {
			r.fail(message, "refer to a message of the channel", "the message is not one of the channel's")
		}
	}
}

// anyOf is the schema of a payload that may be any of several messages. One message without a schema leaves all open.
func (r *asyncReader) anyOf(name string, refs []fieldgate.SchemaRef) fieldgate.SchemaRef {
	if slices.Contains(refs, "") {
		return ""
	}
	if len(refs) == 1 {
		return refs[0]
	}
	def := r.schemas.add(name, nil, dialect2020)
	def.text = []byte(`{"anyOf":[`)
	for i, ref := range refs {
		if i > 0 {
			def.text = append(def.text, ',')
		}
		def.text = append(fieldgate.AppendJSONString(append(def.text, `{"$ref":`...), string(ref)), '}')
	}
	def.text = append(def.text, `]}`...)
	return fieldgate.SchemaRef("#/$defs/" + def.name)
}

func (r *asyncReader) readMessage(op *fieldgate.Operation, n *node, name string) fieldgate.MediaType {
	contentType, at := "application/json", n
	for _, word := range []*node{r.trait(n, "contentType"), r.root.get("defaultContentType")} {
		if word != nil {
			contentType, at = word.string(), word
			break
		}
	}
	m := fieldgate.MediaType{Type: r.mediaType(at, contentType)}
	if headers := r.trait(n, "headers"); headers != nil {
		r.warn(headers, "put what must be checked into the payload", "headers of messages are not checked")
	}
	payload := n.get("payload")
	d := r.dialect
	if multi := r.resolve(payload); multi.get("schemaFormat") != nil { // Multi Format Schema Object
		payload = multi.get("schema")
		var known bool
		if d, known = r.schemaFormat(multi.get("schemaFormat")); !known {
			payload = nil
		}
	}
	if checked(m.Type) {
		m.Schema = r.schemaRef(payload, name, d)
	}
	for i, example := range r.trait(n, "examples").all() {
		exampleName := example.get("name").string()
		if exampleName == "" {
			exampleName = "example-" + strconv.Itoa(i+1)
		}
		r.addExample(&m, exampleName, example.get("payload"), example.get("x-fieldgate-expect"))
	}
	return m
}

// schemaFormat reads which language a payload's schema is written in (AsyncAPI 3.0.0, Multi Format Schema Object).
func (r *asyncReader) schemaFormat(n *node) (d dialect, known bool) {
	format, parameters, _ := strings.Cut(strings.ReplaceAll(n.string(), " ", ""), ";")
	format = strings.TrimSuffix(strings.TrimSuffix(format, "+json"), "+yaml")
	version := strings.TrimPrefix(parameters, "version=")
	switch {
	case format == "application/vnd.aai.asyncapi", format == "application/schema" && version == "draft-07":
		return dialect07, true
	case format == "application/schema" && (version == "draft-2020-12" || version == "2020-12"):
		return dialect2020, true
	}
	r.fail(n, "use JSON Schema: application/schema+json;version=draft-07 or draft-2020-12", "schemas in the format %q are not read", excerpt(n.string()))
	return dialect07, false
}

// requirement reads the security of the operation, or else of the servers.
func (r *asyncReader) requirement() requirement {
	if own := r.trait(r.operation, "security"); own != nil {
		req := requirement{given: true, anonymous: len(own.all()) == 0}
		r.addSchemes(&req, own)
		return req
	}
	var req requirement
	for _, server := range r.root.get("servers").all() {
		if security := r.resolve(server).get("security"); security != nil {
			req.given = true
			r.addSchemes(&req, security)
		}
	}
	return req
}

func (r *asyncReader) addSchemes(req *requirement, security *node) {
	for _, scheme := range security.all() {
		n := r.resolve(scheme)
		r.addScheme(req, n)
		req.addScopes(n.get("scopes").strings())
	}
}

// readBindings reads the other protocols: what the service receives can be posted, what it sends can be streamed over HTTP and
// observed over CoAP.
func (r *asyncReader) readBindings(op *fieldgate.Operation, bindings *node) {
	method := fieldgate.MethodPost
	if op.MQTT.Action == fieldgate.ActionSubscribe {
		method = fieldgate.MethodGet
	}
	path := "/" + strings.TrimPrefix(op.MQTT.Topic, "/")
	if n := bindings.get("http"); n != nil {
		r.readHTTP(op, n, path, method)
	}
	n := bindings.get("coap")
	if n == nil {
		return
	}
	r.readCoAP(op, n, path, method)
	if method == fieldgate.MethodGet && n.get("observe") == nil {
		op.CoAP.Observe = true
	}
	if op.CoAP.Method != method && (method == fieldgate.MethodGet || !takesBody(op.CoAP.Method)) {
		r.fail(n.get("method"), "leave method out", "%s cannot be a %s over CoAP", op.ID, op.CoAP.Method)
	}
	if method == fieldgate.MethodGet && !op.CoAP.Observe {
		r.fail(n.get("observe"), "leave it out", "what %s sends can only be observed", op.ID)
	}
	r.checkObserve(op, n)
}

func (r *asyncReader) readHTTP(op *fieldgate.Operation, n *node, path string, method fieldgate.Method) {
	b := &fieldgate.HTTPBinding{Host: r.host, Method: method, Path: path}
	at := n
	if word := n.get("path"); word != nil {
		at, b.Path = word, word.string()
	}
	if word := n.get("method"); word != nil {
		b.Method = methodNamed(word.string())
		if b.Method != method && (method == fieldgate.MethodGet || !takesBody(b.Method)) {
			r.fail(word, "write "+method.String(), "%s cannot be a %s over HTTP", op.ID, excerpt(word.string()))
		}
	}
	b.Path = r.base + b.Path
	r.checkTemplate(op, at, "HTTP path", b.Path, SplitPath, func(p fieldgate.Parameter) bool { return p.In == fieldgate.InPath })
	op.HTTP = b
}

// takesBody says whether a message can be handed over in a request of the method.
func takesBody(m fieldgate.Method) bool {
	return m == fieldgate.MethodPost || m == fieldgate.MethodPut || m == fieldgate.MethodPatch
}
