package pipeline

import (
	"bytes"
	"slices"
	"strings"

	"fieldgate"
	"fieldgate/contract/schema"
)

// Services get JSON and answer JSON, unless the contract says that one speaks CBOR: then it gets CBOR, with the numbers of x-cbor-key for names, and its
// answers become JSON for callers who do not want CBOR.

// takesCBOR says whether the service speaks CBOR.
func (o *Operation) takesCBOR() bool {
	return o.ServiceFormat == fieldgate.FormatCBOR && o.Upstream != "" && !o.PassThrough
}

// bodyAsCBOR is a checked body in the form that the service takes.
func (x *Exchange) bodyAsCBOR() (body []byte, contentType string, problem *fieldgate.Problem) {
	if x.encoding == encodingCBOR {
		return x.Body, cborType, nil
	}
	var lower [128]byte
	if given := mediaType(lower[:0], x.ContentType); len(given) > 0 && string(given) != "application/json" {
		return x.Body, string(x.ContentType), nil // a format of its own, such as application/merge-patch+json
	}
	body, err := schema.CBORFromJSON(nil, x.Body, x.schema)
	if err != nil {
		return nil, "", x.violation(fieldgate.ProblemInvalidPayload, "", err)
	}
	return body, cborType, nil
}

// translateAnswer makes JSON of a service's CBOR, unless the caller wants CBOR. The two are as different as two representations are: entity
// tags, which the service gave to the other one, become weak (RFC 9110 section 8.8.1).
func (x *Exchange) translateAnswer() *fieldgate.Problem {
	a := &x.Answer
	var lower [128]byte
	if !x.Operation.takesCBOR() || x.toCBOR || len(a.Body) == 0 || string(mediaType(lower[:0], []byte(a.ContentType))) != cborType {
		return nil
	}
	if x.Accept == cborType {
		return nil
	}
	decoded, err := schema.JSONFromCBOR(nil, a.Body, x.AnswerSchema())
	if err != nil {
		return &fieldgate.Problem{Code: fieldgate.ProblemUpstreamInvalid, Cause: err}
	}
	a.Body, a.ContentType = bytes.Clone(decoded), "application/json"
	a.Fields = slices.Clone(a.Fields) // which may be the cache's
	for i := range a.Fields {
		if f := &a.Fields[i]; strings.EqualFold(f.Name, "etag") && !strings.HasPrefix(f.Value, "W/") {
			f.Value = "W/" + f.Value
		}
	}
	return nil
}
