package catalog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"fieldgate"
)

// Seen is a route or topic that no contract explains.
type Seen struct {
	Protocol  fieldgate.Protocol
	Method    fieldgate.Method
	Route     string
	Exchanges uint64
}

// maxDraft bounds a draft.
const maxDraft = 500 // operations

// drafted is an operation of a draft.
type drafted struct {
	method    fieldgate.Method
	segments  []string // "" stands for a parameter
	exchanges uint64
	coap      bool
}

// DraftOpenAPI drafts a contract for what was seen over HTTP and CoAP. Segments that vary become parameters. It can be published
// as it is, to a service that has yet to be named; what a person has to complete is marked.
func DraftOpenAPI(seen []Seen) []byte {
	var operations []*drafted
	for _, s := range seen {
		if s.Protocol != fieldgate.ProtocolMQTT && slices.Contains(openAPIMethods, s.Method) {
			operations = collect(operations, s)
		}
	}
	operations = generalise(operations)
	var b strings.Builder
	b.WriteString(`# A draft from traffic. Complete what is marked with "→", then publish it.
openapi: 3.1.0
info: {title: Undocumented traffic, version: 0.1.0} # → its name
x-fieldgate:
  upstreams: {service: {ref: env/service}} # → the upstream of the environment file that answers it
  upstream: service
security: [{token: []}] # → who may call it
paths:
`)
	if len(operations) == 0 {
		return []byte(strings.TrimSuffix(b.String(), "\n") + " {}\n")
	}
	names, path := newNames(), "?" // no template
	for _, o := range operations {
		template, parameters := o.template()
		if template != path {
			path = template
			fmt.Fprintf(&b, "  %s:\n", strconv.Quote("/"+path))
			if parameters != nil {
				b.WriteString("    parameters:\n")
			}
			for _, p := range parameters {
				fmt.Fprintf(&b, "      - {name: %s, in: path, required: true, schema: {type: string}} # → bound to the caller? x-fieldgate-bind: principal\n", p)
			}
		}
		method := strings.ToLower(o.method.String())
		fmt.Fprintf(&b, "    %s:\n      operationId: %s\n      summary: Seen %s # → what it does\n", method, names.operation(method, o.segments), times(o.exchanges))
		if o.coap {
			fmt.Fprintf(&b, "      x-fieldgate-bindings: {coap: {path: %s}}\n", strconv.Quote("/"+path))
		}
		if o.method == fieldgate.MethodPost || o.method == fieldgate.MethodPut || o.method == fieldgate.MethodPatch {
			b.WriteString("      requestBody: {content: {'*/*': {}}} # → its media type and schema\n")
		}
		b.WriteString("      responses: {'2XX': {description: Done}} # → its answers\n")
	}
	b.WriteString("components:\n  securitySchemes: {token: {type: http, scheme: bearer}}\n")
	return []byte(b.String())
}

var openAPIMethods = []fieldgate.Method{fieldgate.MethodGet, fieldgate.MethodPut, fieldgate.MethodPost, fieldgate.MethodDelete,
	fieldgate.MethodOptions, fieldgate.MethodHead, fieldgate.MethodPatch}

// DraftAsyncAPI drafts a contract for what was seen over MQTT.
func DraftAsyncAPI(seen []Seen) []byte {
	var operations []*drafted
	for _, s := range seen {
		if s.Protocol == fieldgate.ProtocolMQTT {
			s.Method = fieldgate.MethodPost // a topic is one operation, whatever was done with it
			operations = collect(operations, s)
		}
	}
	operations = generalise(operations)
	var channels, receives strings.Builder
	names := newNames()
	for _, o := range operations {
		template, parameters := o.template()
		id := names.operation("publish", o.segments)
		fmt.Fprintf(&channels, "  %s:\n    address: %s\n", id, strconv.Quote(template))
		if parameters != nil {
			channels.WriteString("    parameters:\n")
		}
		for _, p := range parameters {
			fmt.Fprintf(&channels, "      %s: {} # → bound to the caller? x-fieldgate-bind: principal\n", p)
		}
		fmt.Fprintf(&receives, "  %s:\n    action: receive # → send where devices subscribe\n    summary: Seen %s # → what it says\n    channel: {$ref: %s}\n",
			id, times(o.exchanges), strconv.Quote("#/channels/"+id))
	}
	head := `# A draft from traffic. Complete what is marked with "→", then publish it.
asyncapi: 3.0.0
info: {title: Undocumented messages, version: 0.1.0} # → its name
servers: {broker: {host: 'broker.example:8883', protocol: secure-mqtt, security: [{type: userPassword}]}}
`
	if len(operations) == 0 {
		return []byte(head + "channels: {}\noperations: {}\n")
	}
	return []byte(head + "channels:\n" + channels.String() + "operations:\n" + receives.String())
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// collect adds a route; segments that look like names of single things, or cannot stand in a template, are parameters.
func collect(operations []*drafted, s Seen) []*drafted {
	path, _, _ := strings.Cut(s.Route, "?")
	if s.Protocol == fieldgate.ProtocolMQTT {
		path = s.Route
	}
	o := &drafted{method: s.Method, exchanges: s.Exchanges, coap: s.Protocol == fieldgate.ProtocolCoAP}
	if path = strings.Trim(path, "/"); path != "" {
		for segment := range strings.SplitSeq(path, "/") {
			if !isLiteral(segment) {
				segment = ""
			}
			o.segments = append(o.segments, segment)
		}
	}
	if len(o.segments) > fieldgate.MaxPathSegments || path == "" && s.Protocol == fieldgate.ProtocolMQTT {
		return operations
	}
	return merge(operations, o)
}

// merge keeps one of operations that are the same.
func merge(operations []*drafted, o *drafted) []*drafted {
	for _, other := range operations {
		if other.method == o.method && slices.Equal(other.segments, o.segments) {
			other.exchanges += o.exchanges
			other.coap = other.coap || o.coap
			return operations
		}
	}
	return append(operations, o)
}

// isLiteral says whether a segment is a word of an API: letters and dashes, or a version such as v2.
func isLiteral(segment string) bool {
	if segment == "" || len(segment) > 64 || segment[0] > unicode.MaxASCII || !unicode.IsLetter(rune(segment[0])) {
		return false
	}
	digits := 0
	for _, r := range segment {
		switch {
		case r >= '0' && r <= '9':
			digits++
		case r > unicode.MaxASCII || !unicode.IsLetter(r) && r != '-' && r != '_' && r != '.':
			return false
		}
	}
	isVersion := len(segment) <= 4 && (segment[0] == 'v' || segment[0] == 'V') && digits == len(segment)-1
	return digits == 0 || isVersion
}

// varies is how many values a segment has among routes that are the same otherwise, until it is taken for a parameter.
const varies = 4

// generalise makes parameters of segments that vary, and orders operations by path and method.
func generalise(operations []*drafted) []*drafted {
	for again := true; again; {
		again = false
		groups := make(map[string][]*drafted)
		for _, o := range operations {
			for i, segment := range o.segments {
				if segment != "" && (i > 0 || len(o.segments) > 1) {
					others := slices.Clone(o.segments)
					others[i] = "*"
					key := fmt.Sprintf("%d %d %s", o.method, i, strings.Join(others, "/"))
					groups[key] = append(groups[key], o)
				}
			}
		}
		for key, group := range groups {
			if len(group) < varies {
				continue
			}
			var place int
			fmt.Sscanf(key, "%d %d", new(int), &place)
			for _, o := range group {
				o.segments[place] = ""
			}
			merged := operations[:0:0]
			for _, o := range operations {
				merged = merge(merged, o)
			}
			operations, again = merged, true
			break // the groups are others now
		}
	}
	slices.SortFunc(operations, func(a, b *drafted) int {
		if c := slices.Compare(a.segments, b.segments); c != 0 {
			return c
		}
		return int(a.method) - int(b.method)
	})
	return operations[:min(len(operations), maxDraft)]
}

// template is the path without its first slash, and its parameters, named after what stands before them.
func (o *drafted) template() (path string, parameters []string) {
	segments := make([]string, len(o.segments))
	before := ""
	for i, segment := range o.segments {
		if segments[i] = segment; segment == "" {
			name := "id"
			if before != "" {
				name = camel(strings.TrimSuffix(before, "s")) + "Id"
			}
			for n := 2; slices.Contains(parameters, name); n++ {
				name = strings.TrimRight(name, "0123456789") + strconv.Itoa(n)
			}
			parameters = append(parameters, name)
			segments[i] = "{" + name + "}"
		}
		before = segment
	}
	return strings.Join(segments, "/"), parameters
}

// camel joins the words of a text that has ASCII letters, digits and separators.
func camel(text string) string {
	var b strings.Builder
	upper := false
	for _, r := range text {
		switch {
		case r == '-' || r == '_' || r == '.':
			upper = b.Len() > 0
		case upper:
			b.WriteRune(unicode.ToUpper(r))
			upper = false
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// names gives operations ids of their own.
type names map[string]bool

func newNames() names { return make(names) }

const maxDraftName = 100 // bytes

func (n names) operation(verb string, segments []string) string {
	name := verb
	for _, segment := range segments {
		if word := camel(segment); word != "" && len(name)+len(word) <= maxDraftName {
			name += strings.ToUpper(word[:1]) + word[1:]
		}
	}
	if len(segments) > 0 && segments[len(segments)-1] == "" {
		name += "One"
	}
	unique := name
	for i := 2; n[unique]; i++ {
		unique = name + strconv.Itoa(i)
	}
	n[unique] = true
	return unique
}
