package upstream

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"fieldgate"
	"fieldgate/gateway/coaphttp"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/h1"
)

const (
	// maxCoAPOptions bounds the options of a request in bytes: with them a block of 1,024 bytes has to fit a datagram.
	maxCoAPOptions = 1 << 10

	// defaultHopLimit is that of requests which come without one (RFC 8768 §3).
	defaultHopLimit = 16
)

var (
	errCoAPMethod    = &fieldgate.Problem{Code: fieldgate.ProblemMethodNotAllowed, Detail: "The service speaks CoAP, which has nothing for this method.", Allow: "GET, HEAD, POST, PUT, PATCH, DELETE"}
	errCoAPTarget    = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The service speaks CoAP, in which a part of a path or query has at most 255 bytes, and all together 1024.")
	errCoAPCondition = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The service speaks CoAP, in which If-None-Match of a request that changes something can only be *.")
	errCoAPCoding    = fieldgate.NewProblem(fieldgate.ProblemUnsupportedMedia, "The service speaks CoAP, which has no content codings such as gzip.")
	errCoAPUpgrade   = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The service speaks CoAP, which has no WebSockets.")
	errCoAPTooLarge  = fieldgate.NewProblem(fieldgate.ProblemTooLarge, fmt.Sprintf("The service speaks CoAP: at most %d bytes are passed on.", MaxBufferedAnswer))
)

// coapRequest maps the head of the call (RFC 8075 §5 to §7). What CoAP has no word for is left out, unless leaving it out would change what
// is asked for.
func (c *Call) coapRequest(a *address, to *coap.Call) *fieldgate.Problem {
	if c.Upgrade != nil {
		return errCoAPUpgrade
	}
	r := coapRequest{method: string(c.Method), options: &to.Options}
	for line := range bytes.SplitSeq(c.Fields, []byte("\r\n")) {
		if name, value, found := strings.Cut(string(line), ": "); found {
			if problem := r.field(name, value); problem != nil {
				return problem
			}
		}
	}
	code, known := coaphttp.RequestCode(r.method, r.contentType)
	if !known {
		return errCoAPMethod
	}
	to.Code = code
	path, query, queried := c.Path, c.Query, c.Query != nil
	if !queried {
		path, query, _ = bytes.Cut(path, []byte{'?'})
	}
	if !coaphttp.AddTarget(&to.Options, string(path), string(query)) {
		return errCoAPTarget
	}
	if _, err := netip.ParseAddr(a.name); err != nil { // RFC 7252 §6.4, step 5
		to.Options.AddString(coap.URIHost, strings.ToLower(a.name))
	}
	if c.HopLimit == 0 {
		to.Options.AddUint(coap.HopLimit, defaultHopLimit)
	} else {
		to.Options.AddUint(coap.HopLimit, uint32(c.HopLimit))
	}
	if problem := r.finish(c.Framing != h1.NoBody); problem != nil {
		return problem
	}
	size := 0
	for i := range to.Options.Len() {
		_, value := to.Options.At(i)
		size += 2 + len(value)
	}
	if size > maxCoAPOptions {
		return errCoAPTarget
	}
	return nil
}

// coapRequest is a request of HTTP on its way to be one of CoAP.
type coapRequest struct {
	method              string
	options             *coap.Options
	contentType, accept string
	principal, kind     string
}

// field takes a field line.
func (r *coapRequest) field(name, value string) *fieldgate.Problem {
	switch strings.ToLower(name) {
	case "content-type":
		r.contentType = value
	case "accept":
		if r.accept != "" {
			r.accept += ","
		}
		r.accept += value
	case "content-encoding":
		if !strings.EqualFold(strings.TrimSpace(value), "identity") {
			return errCoAPCoding
		}
	case "if-none-match":
		return r.ifNoneMatch(value)
	case "if-match":
		r.ifMatch(value)
	case "fieldgate-principal":
		r.principal = value
	case "fieldgate-principal-kind":
		r.kind = value
	}
	return nil
}

// maxTags bounds the entity tags of one condition; others are left out, which costs a caller at most an answer that it has already.
const maxTags = 16

// ifNoneMatch becomes ETag options of a request that reads (RFC 7252 §5.10.6.2), and If-None-Match of one that creates (§5.10.8.2).
func (r *coapRequest) ifNoneMatch(value string) *fieldgate.Problem {
	reads := r.method == "GET" || r.method == "HEAD" || r.method == "FETCH" || r.method == "QUERY"
	switch star := strings.TrimSpace(value) == "*"; {
	case star && !reads:
		r.options.Set(coap.IfNoneMatch, nil)
	case !reads:
		return errCoAPCondition
	case !star:
		r.tags(coap.ETag, value)
	}
	return nil
}

func (r *coapRequest) ifMatch(value string) {
	if strings.TrimSpace(value) == "*" {
		r.options.Add(coap.IfMatch, nil)
		return
	}
	r.tags(coap.IfMatch, value)
}

func (r *coapRequest) tags(number coap.OptionNumber, list string) {
	count := 0
	for item := range strings.SplitSeq(list, ",") {
		if tag := coaphttp.AppendEntityTag(nil, strings.Trim(strings.TrimPrefix(strings.TrimSpace(item), "W/"), `"`)); len(tag) > 0 && count < maxTags {
			r.options.Add(number, tag)
			count++
		}
	}
}

// finish writes the options that are made of several fields.
func (r *coapRequest) finish(content bool) *fieldgate.Problem {
	if content && r.contentType != "" {
		format, known := coaphttp.Format(r.contentType)
		if !known {
			return &fieldgate.Problem{Code: fieldgate.ProblemUnsupportedMedia, Detail: "The service speaks CoAP, which has no content format for this media type."}
		}
		r.options.AddUint(coap.ContentFormat, format)
	}
	if format, one := acceptedFormat(r.accept); one {
		r.options.AddUint(coap.Accept, format)
	}
	if r.principal != "" {
		r.options.AddString(coaphttp.OptionPrincipal, r.kind+":"+r.principal)
	}
	return nil
}

// acceptedFormat is the only content format that an Accept field takes. CoAP asks for one or leaves it to the server (RFC 7252 §5.10.4): where
// there is a choice, the server has it.
func acceptedFormat(accept string) (format uint32, one bool) {
	for item := range strings.SplitSeq(accept, ",") {
		mediaType, parameters, _ := strings.Cut(item, ";")
		if quality := strings.ReplaceAll(parameters, " ", ""); strings.TrimSpace(mediaType) == "" || strings.HasPrefix(quality, "q=0") && strings.Trim(quality[3:], ".0") == "" {
			continue
		}
		next, known := coaphttp.Format(item)
		if !known || one {
			return 0, false
		}
		format, one = next, true
	}
	return format, one
}
