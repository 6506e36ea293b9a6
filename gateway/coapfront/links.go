package coapfront

import (
	"slices"
	"strconv"
	"strings"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// wellKnownCore is where a CoAP server lists its resources (RFC 6690 section 4).
const wellKnownCore = "/.well-known/core"

// linkList is the list made of one Program.
type linkList struct {
	program *pipeline.Program
	links   []link
}

// link is one path with all operations that live contracts have there.
type link struct {
	href    string
	rt      []string // API and operation, of each method
	title   string
	formats []string
	observe bool
	sunset  string
}

// serveLinks answers GET /.well-known/core. It is the gateway's own resource, like its address: no contract, no Record.
func (f *Front) serveLinks(request *coap.Request, response *coap.Response) {
	if accept, ok := request.Uint(coap.Accept); ok && accept != coap.LinkFormat {
		response.Code = coap.NotAcceptable
		return
	}
	program := f.pipeline.Program()
	list := f.links.Load()
	if list == nil || list.program != program {
		list = &linkList{program, linksOf(program.Operations)}
		f.links.Store(list)
	}
	var body strings.Builder
	for i := range list.links {
		if l := &list.links[i]; l.matches(request) {
			if body.Len() > 0 {
				body.WriteByte(',')
			}
			l.append(&body)
		}
	}
	response.Options.AddUint(coap.ContentFormat, coap.LinkFormat)
	response.Body = []byte(body.String())
}

func linksOf(operations []*pipeline.Operation) []link {
	byHref := make(map[string]*link)
	for _, o := range operations {
		live := o.Contract.State == fieldgate.LifecycleActive || o.Contract.State == fieldgate.LifecycleDeprecated
		if o.CoAP == nil || o.PassThrough || !live {
			continue
		}
		// A template is no URI reference: its braces are escaped (RFC 3986 section 2).
		href := strings.NewReplacer("{", "%7B", "}", "%7D").Replace(o.CoAP.Path)
		l := byHref[href]
		if l == nil {
			l = &link{href: href, title: o.Summary}
			byHref[href] = l
		}
		l.rt = append(l.rt, o.Contract.API+"."+o.ID)
		l.observe = l.observe || o.CoAP.Observe && o.Subscribes()
		if o.Contract.Sunset != "" {
			l.sunset = o.Contract.Sunset
		}
		if o.Request != nil {
			l.addFormats(o.Request.Media)
		}
		for _, r := range o.Responses {
			l.addFormats(r.Media)
		}
	}
	links := make([]link, 0, len(byHref))
	for _, l := range byHref {
		slices.Sort(l.rt)
		slices.Sort(l.formats)
		links = append(links, *l)
	}
	slices.SortFunc(links, func(a, b link) int { return strings.Compare(a.href, b.href) })
	return links
}

func (l *link) addFormats(media []fieldgate.MediaType) {
	for _, m := range media {
		var names []string
		if isJSON(m.Type) {
			names = append(names, "60") // the same schema reads CBOR
		}
		for _, f := range formats {
			if f.mediaType == m.Type {
				names = append(names, strconv.FormatUint(uint64(f.number), 10))
			}
		}
		for _, name := range names {
			if !slices.Contains(l.formats, name) {
				l.formats = append(l.formats, name)
			}
		}
	}
}

// append writes the link with the attributes of RFC 6690 section 3, RFC 7252 section 7.2.1 and RFC 7641 section 6.
func (l *link) append(dst *strings.Builder) {
	dst.WriteString("<" + l.href + ">;rt=" + quoted(strings.Join(l.rt, " ")))
	if l.title != "" {
		dst.WriteString(";title=" + quoted(l.title))
	}
	if len(l.formats) > 0 {
		dst.WriteString(";ct=" + quoted(strings.Join(l.formats, " ")))
	}
	if l.observe {
		dst.WriteString(";obs")
	}
	if l.sunset != "" {
		dst.WriteString(";sunset=" + quoted(l.sunset))
	}
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

// matches filters by the first Uri-Query as RFC 6690 section 4.1 says: name=value, where "*" at the end stands for any
// rest. An attribute that we do not know matches nothing.
func (l *link) matches(request *coap.Request) bool {
	query, ok := request.Option(coap.URIQuery)
	if !ok {
		return true
	}
	name, pattern, _ := strings.Cut(string(query), "=")
	prefix, open := strings.CutSuffix(pattern, "*")
	fits := func(value string) bool { return value == prefix || open && strings.HasPrefix(value, prefix) }
	switch name {
	case "href":
		return fits(l.href)
	case "rt":
		return slices.ContainsFunc(l.rt, fits)
	case "ct":
		return slices.ContainsFunc(l.formats, fits)
	case "obs":
		return l.observe
	}
	return false
}
