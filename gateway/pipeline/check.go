package pipeline

import (
	"bytes"
	"errors"
	"strings"

	"fieldgate"
	"fieldgate/contract/schema"
)

// encoding is how a checked body is written.
type encoding uint8

const (
	encodingOther encoding = iota
	encodingJSON
	encodingCBOR
	encodingText
	encodingForm
	encodingMultipart
)

var (
	errNoBody     = fieldgate.NewProblem(fieldgate.ProblemInvalidPayload, "The contract has no body for this operation; leave it out.")
	errBodyNeeded = fieldgate.NewProblem(fieldgate.ProblemInvalidPayload, "The contract demands a body.")
	errTooLarge   = fieldgate.NewProblem(fieldgate.ProblemTooLarge, "The contract allows a smaller body only.")
)

// checkSize is the stage: is the body within the contract's limit? Fronts that know the length beforehand refuse earlier.
func checkSize(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	if int64(len(x.Body)) > x.Operation.MaxBody {
		return errTooLarge
	}
	return nil
}

// checkBody is the stage: is the body of a media type that the contract has, and is it what the schema says?
func checkBody(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	problem := x.checkMedia()
	if problem == nil || x.Operation.OnInvalid != fieldgate.InvalidShadow {
		return problem
	}
	x.shadow()
	return nil
}

// shadow lets an invalid exchange through, because the contract says so.
func (x *Exchange) shadow() {
	x.Findings |= fieldgate.FindingShadowed | fieldgate.FindingInvalidRequest
	x.rule = ""
}

func (x *Exchange) checkMedia() *fieldgate.Problem {
	request := x.Operation.Request
	switch {
	case len(x.Body) == 0 && (request == nil || !request.Required):
		return nil
	case len(x.Body) == 0 && x.Retain:
		return nil // MQTT 5 section 3.3.1.3: an empty payload removes the retained message
	case len(x.Body) == 0:
		return x.by("body required", errBodyNeeded)
	case request == nil:
		return x.by("no body", errNoBody)
	}
	media := x.media()
	if media == nil {
		return &fieldgate.Problem{Code: fieldgate.ProblemUnsupportedMedia, Detail: "The contract has " + x.Operation.mediaTypes() + "."}
	}
	if x.schema = media.schema; media.schema == nil {
		return nil
	}
	err := media.check(x.encoding, x.ContentType, x.Body)
	if err == errParameters {
		return errParameters
	}
	return x.violation(fieldgate.ProblemInvalidPayload, "", err)
}

// violation turns a schema's answer into a problem. parameter is its name, or empty for the body.
func (x *Exchange) violation(code fieldgate.ProblemCode, parameter string, err error) *fieldgate.Problem {
	if err == nil {
		return nil
	}
	problem := &fieldgate.Problem{Code: code, Pointer: parameter, Detail: "It could not be checked.", Cause: err}
	var violation *schema.Violation
	if errors.As(err, &violation) {
		problem.Detail, problem.Clause, problem.Cause = violation.Message, violation.Clause, nil
		problem.Pointer += violation.Instance
		x.Detail = strings.TrimSpace(problem.Pointer + " " + violation.Clause)
		if violation.Kind == schema.Mismatch {
			x.rule = ruleText(strings.TrimSpace(parameter + " " + violation.Clause))
		} else {
			x.rule = violation.Kind.String()
		}
	}
	return problem
}

// media finds the contract's media type for the body and notes how it is encoded.
func (x *Exchange) media() *linkedMedia {
	var lower [128]byte
	given := mediaType(lower[:0], x.ContentType)
	if len(given) > 0 {
		x.encoding = encodingOfBytes(given)
		return mediaOf(x.Operation.request, given, x.encoding)
	}
	media := &x.Operation.request[0]
	x.encoding = encodingOf(media.mediaType)
	if x.encoding == encodingJSON && !startsLikeJSON(x.Body) && x.Protocol != fieldgate.ProtocolHTTP {
		x.encoding = encodingCBOR
	}
	return media
}

// mediaOf finds a media type among those that the contract has for a payload; nil: it has none. A schema for JSON checks CBOR too.
func mediaOf(declared []linkedMedia, given []byte, written encoding) *linkedMedia {
	for i := range declared {
		if declared[i].mediaType == string(given) {
			return &declared[i]
		}
	}
	if written == encodingCBOR {
		for i := range declared {
			if encodingOf(declared[i].mediaType) == encodingJSON {
				return &declared[i]
			}
		}
	}
	for i := range declared {
		if inRange(declared[i].mediaType, given) {
			return &declared[i]
		}
	}
	return nil
}

func (o *Operation) mediaTypes() string {
	names := make([]string, len(o.request))
	for i := range o.request {
		names[i] = o.request[i].mediaType
	}
	return strings.Join(names, ", ")
}

// mediaType appends the type without its parameters, in lower case.
func mediaType(dst, contentType []byte) []byte {
	if i := bytes.IndexByte(contentType, ';'); i >= 0 {
		contentType = contentType[:i]
	}
	contentType = bytes.TrimSpace(contentType)
	if len(contentType) > cap(dst) {
		contentType = contentType[:cap(dst)] // longer than any that a contract could match exactly
	}
	for _, c := range contentType {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

func encodingOf(mediaType string) encoding { return encodingOfBytes([]byte(mediaType)) }

func encodingOfBytes(mediaType []byte) encoding {
	switch {
	case string(mediaType) == "application/json", bytes.HasSuffix(mediaType, []byte("+json")), string(mediaType) == "text/json":
		return encodingJSON
	case string(mediaType) == "application/cbor", bytes.HasSuffix(mediaType, []byte("+cbor")):
		return encodingCBOR
	case string(mediaType) == "text/plain":
		return encodingText
	case string(mediaType) == "application/x-www-form-urlencoded":
		return encodingForm
	case string(mediaType) == "multipart/form-data":
		return encodingMultipart
	}
	return encodingOther
}

// inRange says whether a media type lies in a range such as */* or image/* (RFC 9110 section 12.5.1).
func inRange(mediaRange string, given []byte) bool {
	if mediaRange == "*/*" {
		return true
	}
	kind, ok := strings.CutSuffix(mediaRange, "*")
	return ok && bytes.HasPrefix(given, []byte(kind))
}

// startsLikeJSON tells JSON from CBOR where nobody said which: the first byte of a JSON text is none of a CBOR map or array.
func startsLikeJSON(body []byte) bool {
	switch c := body[0]; {
	case c == '{', c == '[', c == '"', c == '-', c >= '0' && c <= '9', c == ' ', c == '\t', c == '\r', c == '\n', c == 't', c == 'f', c == 'n':
		return true
	}
	return false
}
