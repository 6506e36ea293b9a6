package upstream

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"strconv"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/gateway/coaphttp"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/h1"
)

// What a service says or does over CoAP that is no clean answer.
var (
	errCoAPReset   = &h1.Error{Status: http.StatusBadGateway, Reason: "the message was rejected (Reset)"}
	errCoAPAnswer  = &h1.Error{Status: http.StatusBadGateway, Reason: "no response of CoAP that means anything"}
	errCoAPUnknown = &h1.Error{Status: http.StatusBadGateway, Reason: "an option that must be understood, and is not"}
	errCoAPBlocks  = &h1.Error{Status: http.StatusBadGateway, Reason: "blocks that do not fit together"}
)

// coapFailure is an error of the endpoint in the words of this package.
func coapFailure(err error) error {
	switch {
	case errors.Is(err, coap.ErrTimeout): // MAX_TRANSMIT_WAIT is over (RFC 7252 §4.8.2)
		return os.ErrDeadlineExceeded
	case errors.Is(err, coap.ErrClosed):
		return errNoAnswer
	case errors.Is(err, coap.ErrTooMany):
		return errNoConnectionFree
	case errors.Is(err, coap.ErrReset):
		return errCoAPReset
	case errors.Is(err, coap.ErrBadResponse):
		return errCoAPUnknown
	case errors.Is(err, coap.ErrBodyTooBig):
		return h1.ErrBodyTooLarge
	case errors.Is(err, coap.ErrBlocks):
		return errCoAPBlocks
	}
	return err
}

// defaultMaxAge is how many seconds a response without Max-Age is fresh (RFC 7252 §5.10.5).
const defaultMaxAge = 60

// coapAnswer maps a response (RFC 8075 §7) to head and content of one of HTTP. validates says whether the request had an entity tag.
func coapAnswer(method string, validates bool, reply *coap.Reply, r *h1.Response, body *h1.Body) error {
	content := reply.Body
	*r = h1.Response{Status: coaphttp.StatusOf(reply.Code, len(content) > 0), Minor: 1}
	if r.Status == 0 || reply.Code == coap.Valid && !validates { // what is valid only the caller's tag could say (RFC 7252 §5.9.1.3)
		return errCoAPAnswer
	}
	add := func(name, value string) {
		r.Fields = append(r.Fields, h1.Field{Name: []byte(name), Value: []byte(value), Kind: h1.KindOther})
	}
	var mediaType string
	switch format, given := reply.Uint(coap.ContentFormat); {
	case given && format == coap.ConciseProblemCBOR && !reply.Code.IsSuccess():
		mediaType = coaphttp.MediaType(format)
		if problem, ok := coaphttp.ProblemToJSON(content, r.Status); ok {
			content, mediaType = problem, fieldgate.ProblemMediaType
		}
	case given:
		mediaType = coaphttp.MediaType(format)
	case !reply.Code.IsSuccess() && utf8.Valid(content): // a diagnostic payload (RFC 7252 §5.5.2, RFC 8075 §6.6)
		mediaType = coaphttp.MediaType(coap.TextPlain)
	}
	if mediaType != "" && len(content) > 0 {
		add("Content-Type", mediaType)
	}
	if tag, given := reply.Option(coap.ETag); given {
		add("ETag", `"`+coaphttp.EntityTagText(tag)+`"`)
	}
	age, given := reply.Uint(coap.MaxAge)
	switch {
	case reply.Code == coap.TooManyRequests || reply.Code == coap.ServiceUnavailable: // RFC 8516 §4, RFC 7252 §5.9.3.4
		if given {
			add("Retry-After", strconv.FormatUint(uint64(age), 10))
		}
	case given:
		add("Cache-Control", "max-age="+strconv.FormatUint(uint64(age), 10))
	case (reply.Code == coap.Content || reply.Code == coap.Valid) && (method == "GET" || method == "HEAD"):
		add("Cache-Control", "max-age="+strconv.Itoa(defaultMaxAge))
	}
	if r.Status == http.StatusUnauthorized { // RFC 9110 §15.5.2 demands a challenge, of which CoAP has none
		add("WWW-Authenticate", "CoAP")
	}
	if location := coaphttp.Location(&reply.Message); location != "" && reply.Code == coap.Created {
		add("Location", location)
	}
	if r.Status == http.StatusNoContent || r.Status == http.StatusNotModified {
		r.Framing, content = h1.NoBody, nil
	} else {
		r.Framing, r.ContentLength, r.Length = h1.Length, int64(len(content)), int64(len(content))
		if method == "HEAD" {
			r.Framing, r.Length = h1.NoBody, 0
		}
	}
	body.Reset(h1.NewReader(bytes.NewReader(content), min(max(len(content), 512), h1.DefaultBuffer)), r.Framing, r.Length)
	return nil
}
