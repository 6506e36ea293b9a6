package coapfront

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"

	"fieldgate"
	"fieldgate/gateway/coaphttp"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// wellKnownCore is where a CoAP server lists its resources (RFC 6690 section 4).
const wellKnownCore = "/.well-known/core"

// linkList is the list made of one Program.
type linkList struct {
	program *pipeline.Program
	links   []link
	whole   []byte // all links, as they are written
}

// link is a link with its target attributes (RFC 6690 section 2).
type link struct {
	href       string
	attributes []attribute
}

// attribute is a target attribute with its values, which stand in one text with spaces between; one without values is a flag.
type attribute struct {
	name   string
	values []string
}

// serveLinks answers for /.well-known/core: to everybody, with the operations of all live contracts. It is the gateway's own
// resource, like its address: no contract, no Record.
func (f *Front) serveLinks(request *coap.Request, response *coap.Response) {
	if request.Code != coap.GET {
		response.Code = coap.MethodNotAllowed
		return
	}
	if accept, ok := request.Uint(coap.Accept); ok && accept != coap.LinkFormat {
		response.Code = coap.NotAcceptable
		return
	}
	program := f.pipeline.Program()
	list := f.links.Load()
	if list == nil || list.program != program {
		links := linksOf(program.Operations)
		if f.devices != nil {
			links = append(links, directoryLinks...)
		}
		list = &linkList{program, links, appendLinks(nil, links)}
		f.links.Store(list)
	}
	body := list.whole
	if _, filtered := request.Option(coap.URIQuery); filtered {
		body = appendLinks(nil, slices.DeleteFunc(slices.Clone(list.links), func(l link) bool { return !l.matches(request) }))
	}
	sum := sha256.Sum256(body) // the same for all gateways with these contracts, and for each block
	tag := sum[:8]
	asked := conditionsOf(request)
	if !asked.met(tag) {
		response.Code = coap.PreconditionFailed
		return
	}
	response.Options.Add(coap.ETag, tag)
	if contains(asked.validate, tag) {
		response.Code = coap.Valid
		return
	}
	response.Options.AddUint(coap.ContentFormat, coap.LinkFormat)
	response.Body = body
}

// linksOf are the links to all paths where live contracts have operations, and from deprecated ones to their successors.
func linksOf(operations []*pipeline.Operation) []link {
	type version struct{ api, version, operation string }
	byVersion := make(map[version]string)
	byPath := make(map[string][]*pipeline.Operation)
	for _, o := range operations {
		live := o.Contract.State == fieldgate.LifecycleActive || o.Contract.State == fieldgate.LifecycleDeprecated
		if o.CoAP == nil || o.PassThrough || !live {
			continue
		}
		byPath[o.CoAP.Path] = append(byPath[o.CoAP.Path], o)
		byVersion[version{o.Contract.API, o.Contract.Version, o.ID}] = o.CoAP.Path
	}
	var links []link
	for path, operations := range byPath {
		href := escaped(path)
		links = append(links, link{href, attributesOf(operations)})
		var successors []string
		for _, o := range operations {
			next, served := byVersion[version{o.Contract.API, o.Contract.Successor, o.ID}]
			if o.Contract.State == fieldgate.LifecycleDeprecated && served && !slices.Contains(successors, next) {
				successors = append(successors, next)
				links = append(links, link{escaped(next), []attribute{{"rel", []string{"successor-version"}}, {"anchor", []string{href}}}})
			}
		}
	}
	slices.SortFunc(links, func(a, b link) int {
		return strings.Compare(string(a.append(nil)), string(b.append(nil)))
	})
	return links
}

// escaped is a path template as a URI reference, which has no braces (RFC 3986 section 2).
func escaped(template string) string {
	return strings.NewReplacer("{", "%7B", "}", "%7D").Replace(template)
}

// attributesOf describes what operations of one path are: RFC 6690 section 3, RFC 7252 section 7.2.1, RFC 7641 section 6. rt names
// API and operation of each method, if the APIs. deprecated and sunset are the earliest dates of the contracts that have any.
func attributesOf(operations []*pipeline.Operation) []attribute {
	var rt, interfaces, formats []string
	var title, deprecated, sunset string
	observe, ends := false, false
	earliest := func(date *string, other string) {
		if other != "" && (*date == "" || other < *date) {
			*date = other
		}
	}
	for _, o := range operations {
		rt = append(rt, o.Contract.API+"."+o.ID)
		interfaces = append(interfaces, o.Contract.API)
		if title == "" {
			title = o.Summary
		}
		observe = observe || o.CoAP.Observe && o.Subscribes()
		ends = ends || o.Contract.State == fieldgate.LifecycleDeprecated
		if o.Contract.State == fieldgate.LifecycleDeprecated {
			earliest(&deprecated, o.Contract.Deprecated)
		}
		earliest(&sunset, o.Contract.Sunset)
		if o.Request != nil {
			formats = appendFormats(formats, o.Request.Media)
		}
		if o.Message != nil {
			formats = appendFormats(formats, o.Message.Media)
		}
		for _, r := range o.Responses {
			formats = appendFormats(formats, r.Media)
		}
	}
	var attributes []attribute
	add := func(name string, values ...string) {
		slices.Sort(values)
		attributes = append(attributes, attribute{name, slices.Compact(values)})
	}
	add("rt", rt...)
	add("if", interfaces...)
	if title != "" {
		add("title", title)
	}
	if formats != nil {
		add("ct", formats...)
	}
	if observe {
		add("obs")
	}
	switch {
	case deprecated != "":
		add("deprecated", deprecated)
	case ends:
		add("deprecated")
	}
	if sunset != "" {
		add("sunset", sunset)
	}
	return attributes
}

// appendFormats appends the content formats in which a path gives and takes those media types.
func appendFormats(names []string, media []fieldgate.MediaType) []string {
	for _, m := range media {
		if coaphttp.IsJSON(m.Type) {
			names = append(names, strconv.Itoa(coap.CBOR)) // the same schema reads CBOR
		}
		if number, known := coaphttp.Format(m.Type); known {
			names = append(names, strconv.FormatUint(uint64(number), 10))
		}
	}
	return names
}

func appendLinks(dst []byte, links []link) []byte {
	for i := range links {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = links[i].append(dst)
	}
	return dst
}

func (l *link) append(dst []byte) []byte {
	dst = append(append(append(dst, '<'), l.href...), '>')
	for _, a := range l.attributes {
		dst = append(append(dst, ';'), a.name...)
		if len(a.values) > 0 {
			dst = append(append(dst, '='), quoted(strings.Join(a.values, " "))...)
		}
	}
	return dst
}

// quoted is a quoted-string without what could end it.
func quoted(text string) string {
	return `"` + strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text) + `"`
}

// matches filters by the Uri-Query options, of which all must fit (RFC 6690 section 4.1, RFC 9176 section 6.2).
func (l *link) matches(request *coap.Request) bool {
	for it := request.Iterate(); it.Next() && it.Number <= coap.URIQuery; {
		if it.Number == coap.URIQuery && !l.fits(string(it.Value)) {
			return false
		}
	}
	return true
}

// fits says whether the link has an attribute, or a target, of that name with that value; "*" at the end of the value stands for any
// rest, and of several values one is enough. Without a value the attribute has to be there.
func (l *link) fits(filter string) bool {
	name, pattern, valued := strings.Cut(filter, "=")
	prefix, open := strings.CutSuffix(pattern, "*")
	matches := func(value string) bool { return value == prefix || open && strings.HasPrefix(value, prefix) }
	if name == "href" {
		return matches(l.href) || matches(strings.NewReplacer("%7B", "{", "%7D", "}").Replace(l.href))
	}
	for _, a := range l.attributes {
		if a.name == name {
			return !valued || len(a.values) == 0 && pattern == "" || slices.ContainsFunc(a.values, matches)
		}
	}
	return false
}
