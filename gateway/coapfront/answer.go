package coapfront

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// codeOf is the response code for a status of HTTP (RFC 8075 section 7). RFC 7252 section 5.9.1 ties the codes for
// success to the method.
func codeOf(status int, method fieldgate.Method) coap.Code {
	switch {
	case status == 201:
		return coap.Created
	case status == 304:
		return coap.Valid
	case status >= 200 && status < 300:
		switch method {
		case fieldgate.MethodGet, fieldgate.MethodFetch:
			return coap.Content
		case fieldgate.MethodDelete:
			return coap.Deleted
		}
		return coap.Changed
	}
	switch status {
	case 401:
		return coap.Unauthorized
	case 403:
		return coap.Forbidden
	case 404, 410:
		return coap.NotFound
	case 405:
		return coap.MethodNotAllowed
	case 406:
		return coap.NotAcceptable
	case 409:
		return coap.Conflict
	case 412:
		return coap.PreconditionFailed
	case 413:
		return coap.RequestEntityTooLarge
	case 415:
		return coap.UnsupportedContentFormat
	case 422:
		return coap.UnprocessableEntity
	case 429:
		return coap.TooManyRequests
	case 501:
		return coap.NotImplemented
	case 502:
		return coap.BadGateway
	case 503:
		return coap.ServiceUnavailable
	case 504:
		return coap.GatewayTimeout
	}
	switch {
	case status >= 400 && status < 500:
		return coap.BadRequest
	case status >= 300 && status < 400:
		return coap.BadGateway // CoAP has no redirection, and following one is not the gateway's to decide
	}
	return coap.InternalServerError
}

var (
	errNotAcceptable = fieldgate.NewProblem(fieldgate.ProblemNotAcceptable, "The operation has no representation in the content format of the Accept option.")
	errAnswerForm    = "The answer is not the JSON or CBOR that its media type says."
)

// mayAccept refuses, before anything is carried out, an Accept option that none of the contract's responses and
// messages can satisfy. What has none declared is seen when the answer is there.
func mayAccept(x *pipeline.Exchange, request *coap.Request) *fieldgate.Problem {
	want, ok := request.Uint(coap.Accept)
	if !ok {
		return nil
	}
	var declared []fieldgate.MediaType
	for _, r := range x.Operation.Responses {
		declared = append(declared, r.Media...)
	}
	if x.Operation.Message != nil {
		declared = append(declared, x.Operation.Message.Media...)
	}
	can := func(m fieldgate.MediaType) bool { return canBe(m.Type, want) || strings.HasSuffix(m.Type, "*") }
	if len(declared) > 0 && !slices.ContainsFunc(declared, can) {
		return errNotAcceptable
	}
	return nil
}

// canBe tells whether a representation is of the content format or can be transcoded to it.
func canBe(mediaType string, want uint32) bool {
	have, ok := formatOf(mediaType)
	return ok && have == want || want == coap.CBOR && isJSON(mediaType) || want == coap.JSON && isCBOR(mediaType)
}

// answer writes the exchange's answer.
func answer(x *pipeline.Exchange, request *coap.Request, response *coap.Response) *fieldgate.Problem {
	a := &x.Answer
	response.Code = codeOf(a.Status, x.Method)
	body, format, hasFormat := a.Body, uint32(0), false
	if len(body) > 0 {
		var ok bool
		var err error
		if body, format, hasFormat, ok, err = represent(request, a.ContentType, body, x.AnswerSchema()); err != nil {
			return &fieldgate.Problem{Code: fieldgate.ProblemUpstreamInvalid, Detail: errAnswerForm, Cause: err}
		} else if !ok {
			if x.Method == fieldgate.MethodGet || x.Method == fieldgate.MethodFetch {
				return errNotAcceptable
			}
			body = nil // it has been carried out; an error would say that it was not
		}
	}
	if tag := entityTag(a.ETag); tag != nil {
		response.Options.Add(coap.ETag, tag)
		if response.Code == coap.Content && x.Method == fieldgate.MethodGet && asksToValidate(request, tag) {
			response.Code, body = coap.Valid, nil // RFC 7252 section 5.10.6.2
		}
	}
	if response.Code == coap.Valid {
		body = nil
	}
	if a.MaxAge > 0 {
		addMaxAge(response, a.MaxAge)
	}
	if response.Code == coap.Created {
		addLocation(response, a.Location)
	}
	if len(body) > 0 && hasFormat {
		response.Options.AddUint(coap.ContentFormat, format)
	}
	response.Body = body
	return nil
}

// represent gives the body in the content format that the request accepts; ok is false when it cannot be had. written is its schema,
// which may have numbers for names.
func represent(request *coap.Request, mediaType string, body []byte, written *schema.Schema) (_ []byte, format uint32, hasFormat, ok bool, err error) {
	format, hasFormat = formatOf(mediaType)
	want, asked := request.Uint(coap.Accept)
	switch {
	case !asked || hasFormat && format == want:
		return body, format, hasFormat, true, nil
	case want == coap.CBOR && isJSON(mediaType):
		body, err = schema.CBORFromJSON(nil, body, written)
		return body, coap.CBOR, true, true, err
	case want == coap.JSON && isCBOR(mediaType):
		body, err = schema.JSONFromCBOR(nil, body, nil)
		return body, coap.JSON, true, true, err
	}
	return nil, 0, false, false, nil
}

// entityTag is an ETag option for one of HTTP, which may be longer: hexadecimal digits become the bytes that they
// write, what fits stays as it is, anything else is hashed.
func entityTag(tag string) []byte {
	if tag == "" {
		return nil
	}
	if len(tag) <= 16 {
		if decoded, err := hex.DecodeString(tag); err == nil {
			return decoded
		}
	}
	if len(tag) <= 8 {
		return []byte(tag)
	}
	sum := sha256.Sum256([]byte(tag))
	return sum[:8]
}

func asksToValidate(request *coap.Request, tag []byte) bool {
	for it := request.Iterate(); it.Next(); {
		if it.Number == coap.ETag && bytes.Equal(it.Value, tag) {
			return true
		}
	}
	return false
}

// addMaxAge rounds up, so that nobody comes back too early.
func addMaxAge(response *coap.Response, age time.Duration) {
	seconds := (age + time.Second - 1) / time.Second
	response.Options.SetUint(coap.MaxAge, uint32(min(max(seconds, 0), 1<<32-1)))
}

// addLocation writes path and query of a Location field as options (RFC 7252 section 5.10.7). One that does not fit is
// left out: the resource exists, and half a location would name another.
func addLocation(response *coap.Response, location string) {
	if location == "" {
		return
	}
	u, err := url.Parse(location)
	if err != nil || u.Opaque != "" {
		return
	}
	var options coap.Options
	segments := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	if len(segments) > fieldgate.MaxPathSegments {
		return
	}
	add := func(number coap.OptionNumber, escaped string) bool {
		value, err := url.PathUnescape(escaped)
		if err != nil || len(value) > 255 || value == "." || value == ".." {
			return false
		}
		options.AddString(number, value)
		return true
	}
	for _, segment := range segments {
		if !add(coap.LocationPath, segment) {
			return
		}
	}
	if u.RawQuery != "" {
		for argument := range strings.SplitSeq(u.RawQuery, "&") {
			if !add(coap.LocationQuery, argument) || options.Len() > 2*fieldgate.MaxPathSegments {
				return
			}
		}
	}
	for i := range options.Len() {
		number, value := options.At(i)
		response.Options.Add(number, value)
	}
}
