package coapfront

import (
	"slices"
	"strings"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/coaphttp"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

var (
	errNotAcceptable = fieldgate.NewProblem(fieldgate.ProblemNotAcceptable, "The operation has no representation in the content format of the Accept option.")
	errValid         = fieldgate.NewProblem(fieldgate.ProblemUpstreamInvalid, "The service says that what the caller has is still valid, but not which of it.")
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
	have, ok := coaphttp.Format(mediaType)
	return ok && have == want || want == coap.CBOR && coaphttp.IsJSON(mediaType) || want == coap.JSON && coaphttp.IsCBOR(mediaType)
}

// answer writes the exchange's answer.
func answer(x *pipeline.Exchange, request *coap.Request, asked *conditions, response *coap.Response) *fieldgate.Problem {
	a := &x.Answer
	var tagBuffer [8]byte
	tag := coaphttp.AppendEntityTag(tagBuffer[:0], a.ETag)
	if reads(x.Method) && a.Status >= 200 && a.Status < 300 && !asked.met(tag) {
		*a = pipeline.Answer{Status: 412}
		tag = nil
	}
	response.Code = coaphttp.CodeOf(a.Status, x.Method)
	switch {
	case response.Code == coap.Content && reads(x.Method) && contains(asked.validate, tag):
		response.Code = coap.Valid // RFC 7252 section 5.10.6.2, RFC 8132 section 2.4
	case response.Code == coap.Valid && len(tag) == 0 && len(asked.validate) == 1:
		tag = asked.validate[0] // what else may it mean?
	case response.Code == coap.Valid && !contains(asked.validate, tag):
		return errValid
	}
	body, format, hasFormat := a.Body, uint32(0), false
	if response.Code == coap.Valid {
		body = nil // RFC 7252 section 5.9.1.3
	}
	if concise, ok := conciseProblem(a, response.Code); ok {
		body, format, hasFormat = concise, coap.ConciseProblemCBOR, true
	} else if len(body) > 0 {
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
	if len(tag) > 0 {
		response.Options.Add(coap.ETag, tag)
	}
	if a.MaxAge > 0 {
		coaphttp.AddMaxAge(&response.Options, a.MaxAge)
	}
	if response.Code == coap.Created {
		coaphttp.AddLocation(&response.Options, a.Location)
	}
	if len(body) > 0 && hasFormat {
		response.Options.AddUint(coap.ContentFormat, format)
	}
	response.Body = body
	return nil
}

// conciseProblem is the problem that a service told in HTTP's words, in CoAP's (RFC 9290). An error is for whoever asked, whatever it accepts.
func conciseProblem(a *pipeline.Answer, code coap.Code) (body []byte, ok bool) {
	if a.Status < 400 || !strings.HasPrefix(a.ContentType, fieldgate.ProblemMediaType) {
		return nil, false
	}
	return coaphttp.ProblemFromJSON(a.Body, code)
}

// represent gives the body in the content format that the request accepts; ok is false when it cannot be had. written is its schema,
// which may have numbers for names.
func represent(request *coap.Request, mediaType string, body []byte, written *schema.Schema) (_ []byte, format uint32, hasFormat, ok bool, err error) {
	format, hasFormat = coaphttp.Format(mediaType)
	want, asked := request.Uint(coap.Accept)
	switch {
	case !asked || hasFormat && format == want:
		return body, format, hasFormat, true, nil
	case want == coap.CBOR && coaphttp.IsJSON(mediaType):
		body, err = schema.CBORFromJSON(nil, body, written)
		return body, coap.CBOR, true, true, err
	case want == coap.JSON && coaphttp.IsCBOR(mediaType):
		body, err = schema.JSONFromCBOR(nil, body, written)
		return body, coap.JSON, true, true, err
	}
	return nil, 0, false, false, nil
}
