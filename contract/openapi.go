package contract

import (
	"errors"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"strings"

	"fieldgate"

	openapiyaml "github.com/pb33f/go-yaml"
	"github.com/pb33f/libopenapi"
	"github.com/pb33f/libopenapi/datamodel"
	"github.com/pb33f/libopenapi/datamodel/high/base"
	openapi "github.com/pb33f/libopenapi/datamodel/high/v3"
	"github.com/pb33f/libopenapi/index"
)

// compileOpenAPI reads an OpenAPI 3.0 or 3.1 document. libopenapi builds the model and resolves what it refers to; our own
// tree gives places, schemas and the words of Fieldgate.
func (c *compiler) compileOpenAPI(document []byte) {
	version := c.root.get("openapi")
	switch {
	case strings.HasPrefix(version.string(), "3.0."):
		c.dialect = dialectOpenAPI
	case strings.HasPrefix(version.string(), "3.1."):
		c.dialect = dialect2020
	default:
		c.fail(version, "write openapi: 3.1.0", "OpenAPI %q is not read; 3.0 and 3.1 are", excerpt(version.string()))
		return
	}
	if !c.conforms(c.root, openAPIShape) || c.exceeded || !c.checkReferences() {
		return
	}
	model, release := c.openAPIModel(document)
	defer release()
	if model == nil {
		return
	}
	c.namedSchemas = c.root.find("components", "schemas")
	c.readRoot(c.root.get("x-fieldgate"), c.root.get("info"))
	c.base = c.basePath(c.root.get("servers"))
	if model.Paths == nil || model.Paths.PathItems.Len() == 0 {
		c.warn(c.root, "describe its operations in paths", "the API has no paths")
		return
	}
	for path, item := range model.Paths.PathItems.FromOldest() {
		if c.exceeded {
			return
		}
		r := openAPIReader{compiler: c, model: model, item: item, path: path, itemNode: c.at(item.GoLow().RootNode)}
		r.readPathItem()
	}
}

// openAPIModel is libopenapi's model, which takes some thirty times the memory of the document until it is released.
func (c *compiler) openAPIModel(document []byte) (model *openapi.Document, release func()) {
	configuration := datamodel.NewDocumentConfiguration() // follows neither files nor addresses
	configuration.SkipExternalRefResolution = true
	configuration.SkipCircularReferenceCheck = true // ours finds those that matter
	configuration.SkipMetadataCollection = true
	configuration.SkipJSONConversion = true
	configuration.ExcludeExtensionRefs = true
	configuration.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	d, err := libopenapi.NewDocumentWithConfiguration(document, configuration)
	if err != nil {
		c.failModel(err)
		return nil, func() {}
	}
	built, err := d.BuildV3Model()
	if err != nil {
		c.failModel(err)
		return nil, d.Release
	}
	return &built.Model, d.Release
}

func (c *compiler) failModel(err error) {
	var all interface{ Unwrap() []error }
	if errors.As(err, &all) {
		for _, one := range all.Unwrap() {
			c.failModel(one)
		}
		return
	}
	var at *node
	var indexing *index.IndexingError
	var resolving *index.ResolvingError
	switch {
	case errors.As(err, &indexing):
		at = c.at(indexing.Node)
	case errors.As(err, &resolving):
		at = c.at(resolving.Node)
	}
	c.fail(at, "correct it as the OpenAPI specification says", "the document is not OpenAPI: %s", excerpt(err.Error()))
}

// at is the place of a node of libopenapi's tree in ours.
func (c *compiler) at(y *openapiyaml.Node) *node {
	if y == nil {
		return nil
	}
	where := position{y.Line, y.Column, scalar}
	switch y.Kind {
	case openapiyaml.MappingNode:
		where.kind = mapping
	case openapiyaml.SequenceNode:
		where.kind = sequence
	}
	return c.positions[where]
}

// basePath is the path of the first server's address. Where the server itself stands is the business of the environment.
func (c *compiler) basePath(servers *node) string {
	if len(servers.all()) == 0 {
		return ""
	}
	server := servers.children[0]
	address := server.get("url").string()
	for _, variable := range server.get("variables").all() {
		value := variable.get("default").string()
		if len(address) > maxAddress || len(value) > maxAddress {
			break
		}
		address = strings.ReplaceAll(address, "{"+variable.name+"}", value)
	}
	return c.pathOf(server.get("url"), address)
}

// maxAddress bounds a server's address, in bytes, before and after its variables are filled in.
const maxAddress = 2 * fieldgate.MaxPathBytes

// pathOf is the path of an address, without a slash at its end.
func (c *compiler) pathOf(at *node, address string) string {
	u, err := url.Parse(address)
	if err != nil || len(address) > maxAddress {
		c.fail(at, "write it like https://devices.example.com/v1", "%q is not the address of a server", excerpt(address))
		return ""
	}
	path := strings.TrimSuffix(u.Path, "/")
	if path != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return path
}

// openAPIReader reads one path.
type openAPIReader struct {
	*compiler
	model    *openapi.Document
	item     *openapi.PathItem
	itemNode *node
	path     string
}

func (r *openAPIReader) readPathItem() {
	key := r.root.get("paths").get(r.path)
	base := r.base
	if servers := r.itemNode.get("servers"); servers != nil { // OpenAPI 3.1 section 4.8.9: they take the place of the document's
		base = r.basePath(servers)
	}
	if !r.validPath(key, base+r.path) {
		return
	}
	operations := r.item.GetOperations()
	if operations.Len() == 0 {
		r.warn(key, "add a method, or remove the path", "the path %s has no operation", excerpt(r.path))
	}
	for name, operation := range operations.FromOldest() {
		r.readOperation(methodNamed(name), operation, base)
	}
}

func (r *openAPIReader) validPath(at *node, path string) bool {
	_, err := SplitPath(path)
	if err != nil {
		r.fail(at, "correct the path", "the path %q: %v", excerpt(path), err)
	}
	return err == nil
}

func (r *openAPIReader) readOperation(method fieldgate.Method, o *openapi.Operation, base string) {
	n := r.at(o.GoLow().RootNode)
	if n == nil {
		n = r.itemNode
	}
	if method == fieldgate.MethodTrace {
		r.warn(n, "remove it", "TRACE is not served")
		return
	}
	if servers := n.get("servers"); servers != nil {
		if base = r.basePath(servers); !r.validPath(servers, base+r.path) {
			return
		}
	}
	op := fieldgate.Operation{ID: o.OperationId, Summary: o.Summary}
	named := n.get("operationId")
	if op.ID == "" {
		op.ID, named = r.unused(identifier(strings.ToLower(method.String())+r.path)), n
	} else if !fieldgate.ValidIdentifier(op.ID) {
		op.ID = r.unused(identifier(op.ID))
		r.warn(named, "use letters, digits and . _ - :", "%q cannot be the id of an operation; it is called %q", excerpt(o.OperationId), op.ID)
	}
	op.HTTP = &fieldgate.HTTPBinding{Host: r.host, Method: method, Path: base + r.path}
	r.readWebSocket(&op, n.find("x-fieldgate", "websocket"), r.dialect)
	switch method { // RFC 9110 section 9.2.2
	case fieldgate.MethodGet, fieldgate.MethodHead, fieldgate.MethodPut, fieldgate.MethodDelete, fieldgate.MethodOptions:
		op.Idempotent = true
	}
	r.readParameters(&op, o)
	r.checkPathParameters(&op, n)
	r.readRequest(&op, o)
	r.readResponses(&op, o)

	levels := []*node{n.get("x-fieldgate"), r.itemNode.get("x-fieldgate"), r.root.get("x-fieldgate")}
	r.readOperationWords(&op, levels...)
	r.readAccess(&op, n, r.requirement(o, n), levels)
	r.readBindings(&op, n.get("x-fieldgate-bindings"))
	r.readObserves(&op, levels[0])
	r.checkPolicies(&op, levels[0])
	r.checkMock(&op, n)
	r.checkOwnerless(&op, n)
	r.addOperation(op, n, named)
}

// identifier makes a text the id of an operation: get-devices-deviceId of get/devices/{deviceId}.
func identifier(text string) string {
	id := strings.Map(func(c rune) rune {
		switch {
		case c == '{' || c == '}':
			return -1
		case !fieldgate.ValidIdentifier(string([]rune{'a', c})):
			return '-'
		}
		return c
	}, text)
	return id[:min(len(id), fieldgate.MaxIdentifierBytes)]
}

// unused is the id, or if another operation has it, the id with the first number that makes it unique.
func (c *compiler) unused(id string) string {
	unique := id
	for i := 2; c.ids[unique] != nil; i++ {
		number := "-" + strconv.Itoa(i)
		unique = id[:min(len(id), fieldgate.MaxIdentifierBytes-len(number))] + number
	}
	return unique
}

// readParameters takes those of the path and those of the operation, which win over the path's of the same name and place.
func (r *openAPIReader) readParameters(op *fieldgate.Operation, o *openapi.Operation) {
	seen := make(map[string]bool)
	for level, parameters := range [][]*openapi.Parameter{o.Parameters, r.item.Parameters} {
		here := make(map[string]bool)
		for _, parameter := range parameters {
			n := r.at(parameter.GoLow().RootNode)
			key := parameter.In + " " + parameter.Name
			if here[key] {
				r.fail(n, "remove one of the two", "%s declares the %s parameter %q twice", op.ID, parameter.In, excerpt(parameter.Name))
			}
			here[key] = true
			if level == 1 && seen[key] {
				continue
			}
			seen[key] = true
			r.readParameter(op, parameter, n)
		}
	}
}

func (r *openAPIReader) readParameter(op *fieldgate.Operation, parameter *openapi.Parameter, n *node) {
	if parameter.In == "header" {
		switch strings.ToLower(parameter.Name) { // OpenAPI 3.1 section 4.8.12.2: these are not parameters
		case "accept", "content-type", "authorization":
			r.warn(n, "say it with content or security", "the header field %s is not a parameter", parameter.Name)
			return
		}
	}
	p := fieldgate.Parameter{Name: parameter.Name, In: fieldgate.ParameterPlace(parameter.In), Required: n.get("required").isTrue()}
	if p.In == fieldgate.InPath && !p.Required {
		r.fail(n, "add required: true", "the path parameter %s must be required", excerpt(p.Name))
	}
	r.readBinding(&p, n)
	schema := r.readStyle(&p, n)
	p.Schema = r.schemaRef(schema, op.ID+".parameter."+p.Name, r.dialect)
	if p.Schema != "" {
		for _, example := range append(n.get("examples").all(), n.get("content").all()...) {
			r.checkParameterExample(p, r.resolve(example).get("value"))
			r.checkParameterExample(p, example.get("example"))
		}
		r.checkParameterExample(p, n.get("example"))
	}
	op.Parameters = append(op.Parameters, p)
}

func (r *openAPIReader) checkParameterExample(p fieldgate.Parameter, value *node) {
	if value != nil {
		r.examples = append(r.examples, pendingExample{value, p.Schema, r.toJSON(value), 0})
	}
}

// checkPathParameters holds the path and its parameters against each other.
func (r *openAPIReader) checkPathParameters(op *fieldgate.Operation, n *node) {
	segments, _ := SplitPath(op.HTTP.Path) // was checked
	inPath := make(map[string]bool)
	for _, s := range segments {
		inPath[s.Parameter] = true
	}
	for _, p := range op.Parameters {
		if p.In == fieldgate.InPath && !inPath[p.Name] {
			r.fail(n, "add {"+p.Name+"} to the path, or remove the parameter", "%s declares the path parameter %q, which is not in %s", op.ID, excerpt(p.Name), r.path)
		}
		if p.In == fieldgate.InPath {
			delete(inPath, p.Name)
		}
	}
	for name := range inPath {
		if name != "" {
			r.fail(n, "declare it: {name: "+name+", in: path, required: true, schema: …}", "the path of %s has {%s}, which no parameter declares", op.ID, excerpt(name))
		}
	}
}

func (r *openAPIReader) readRequest(op *fieldgate.Operation, o *openapi.Operation) {
	if o.RequestBody == nil {
		return
	}
	n := r.at(o.RequestBody.GoLow().RootNode)
	if op.HTTP.Method == fieldgate.MethodGet || op.HTTP.Method == fieldgate.MethodHead { // RFC 9110 section 9.3.1
		r.warn(n, "use POST, or put it into parameters", "%s is a %s, whose body has no meaning and is not accepted", op.ID, op.HTTP.Method)
		return
	}
	op.Request = &fieldgate.Payload{Required: n.get("required").isTrue()}
	number := 0
	for name, media := range o.RequestBody.Content.FromOldest() {
		number++
		op.Request.Media = append(op.Request.Media, r.readMedia(name, media, op.ID+".request."+strconv.Itoa(number), true))
	}
}

func (r *openAPIReader) readMedia(name string, media *openapi.MediaType, schemaName string, request bool) fieldgate.MediaType {
	n := r.at(media.GoLow().RootNode)
	m := fieldgate.MediaType{Type: r.mediaType(n, name)}
	if checked(m.Type) {
		m.Schema = r.schemaRef(n.get("schema"), schemaName, r.dialect)
	} else if n.get("schema") != nil && isXML(m.Type) {
		r.warn(n, "use JSON where the payload must be checked", "of payloads of the type %s only the type is checked", m.Type)
	}
	if m.Schema != "" && isForm(m.Type) {
		r.readEncodings(&m, n, schemaName)
	}
	r.addExample(&m, "example", n.get("example"), nil)
	for exampleName, example := range media.Examples.FromOldest() {
		e := r.at(example.GoLow().RootNode)
		if e.get("externalValue") != nil {
			r.warn(e, "write the value into the document", "the example %q lies outside of the document and is not read", excerpt(exampleName))
		}
		expectation := e.get("x-fieldgate-expect")
		if expectation != nil && !request {
			r.fail(expectation, "say it at an example of a request", "x-fieldgate-expect says what a request leads to; this is an answer")
		}
		r.addExample(&m, exampleName, e.get("value"), expectation)
	}
	if m.Schema != "" {
		r.borrowExample(&m, n.get("schema"))
	}
	return m
}

func (r *openAPIReader) readResponses(op *fieldgate.Operation, o *openapi.Operation) {
	if o.Responses == nil {
		return
	}
	for status, response := range o.Responses.Codes.FromOldest() {
		r.readResponse(op, status, response)
	}
	if o.Responses.Default != nil {
		r.readResponse(op, "default", o.Responses.Default)
	}
}

func (r *openAPIReader) readResponse(op *fieldgate.Operation, status string, response *openapi.Response) {
	n := r.at(response.GoLow().RootNode)
	if !validStatus(status) {
		r.fail(n, "write it like 204, 2XX or default", "%q is not a status", excerpt(status))
		return
	}
	answer := fieldgate.Response{Status: status, Description: response.Description}
	number := 0
	for name, media := range response.Content.FromOldest() {
		number++
		answer.Media = append(answer.Media, r.readMedia(name, media, op.ID+".response."+status+"."+strconv.Itoa(number), false))
	}
	for _, header := range n.get("headers").all() {
		if strings.EqualFold(header.name, "content-type") { // OpenAPI 3.1 section 4.8.17: it shall be ignored
			continue
		}
		if p, ok := r.readHeader(header, op.ID+".response."+status+".header."+header.name); ok {
			answer.Headers = append(answer.Headers, p)
		}
	}
	op.Responses = append(op.Responses, answer)
}

func validStatus(status string) bool {
	if status == "default" {
		return true
	}
	if len(status) != 3 || status[0] < '1' || status[0] > '5' {
		return false
	}
	digit := func(b byte) bool { return b >= '0' && b <= '9' }
	return status[1:] == "XX" || digit(status[1]) && digit(status[2])
}

// success is the first answer that is one, or nil.
func success(op *fieldgate.Operation) *fieldgate.Response {
	for i := range op.Responses {
		if op.Responses[i].Status[0] == '2' {
			return &op.Responses[i]
		}
	}
	return nil
}

// requirement reads the security in force for the operation.
func (r *openAPIReader) requirement(o *openapi.Operation, n *node) requirement {
	var req requirement
	requirements, at := o.Security, n.get("security")
	if at == nil {
		requirements, at = r.model.Security, r.root.get("security")
	}
	if at == nil {
		return req
	}
	req.given = true
	real := 0
	for i, alternative := range requirements {
		if alternative.Requirements.Len() == 0 { // {}: OpenAPI 3.1 section 4.8.30
			req.optional = true
			continue
		}
		real++
		r.addAlternative(&req, alternative, at.descend("/"+strconv.Itoa(i)))
	}
	req.anonymous = real == 0
	return req
}

func (r *openAPIReader) addAlternative(req *requirement, alternative *base.SecurityRequirement, at *node) {
	schemes := r.root.find("components", "securitySchemes")
	for name, scopes := range alternative.Requirements.FromOldest() {
		scheme := r.resolve(schemes.get(name))
		if scheme == nil {
			remedy := "declare it in components.securitySchemes"
			if len(schemes.all()) > 0 {
				remedy = r.didYouMean(name, schemes.names())
			}
			r.fail(at, remedy, "components.securitySchemes has no %q", excerpt(name))
			continue
		}
		r.addScheme(req, scheme)
		req.addScopes(scopes)
	}
}

// readBindings reads the other protocols that the operation is reachable through.
func (r *openAPIReader) readBindings(op *fieldgate.Operation, bindings *node) {
	if n := bindings.get("mqtt"); n != nil {
		r.readMQTT(op, n)
		if op.MQTT.Action == fieldgate.ActionSubscribe {
			if answer := success(op); answer != nil && len(answer.Media) > 0 {
				op.Message = &fieldgate.Payload{Required: true, Media: answer.Media}
			}
		}
	}
	if n := bindings.get("coap"); n != nil {
		r.readCoAP(op, n, op.HTTP.Path, op.HTTP.Method)
		r.checkObserve(op, n)
	}
}

// checkMock warns where no upstream and no example can answer.
func (r *openAPIReader) checkMock(op *fieldgate.Operation, n *node) {
	if op.Upstream != "" || op.Device != nil || op.Policies != nil && op.Policies.Redirect != nil {
		return
	}
	answer := success(op)
	if answer == nil {
		r.warn(n, "add an upstream, or a 2XX response", "%s has no upstream and no success to answer with", op.ID)
		return
	}
	if len(answer.Media) > 0 && answer.Media[0].Example == nil {
		r.warn(n, "add an upstream, or an example of the response", "%s has no upstream and no example to answer with", op.ID)
	}
}
