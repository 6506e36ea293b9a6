package coapfront

import (
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// busyAge is the Max-Age of a 5.03 for which nobody said when to come back.
const busyAge = 5 * time.Second

// refuse writes a problem as concise problem details (RFC 9290 section 2).
func (f *Front) refuse(x *pipeline.Exchange, problem *fieldgate.Problem, response *coap.Response) {
	observation := response.Observation
	response.Reset()
	response.Observation = observation // a response that is no success ends it
	response.Code = codeOf(problem.Status(), x.Method)
	if problem == errCondition {
		response.Code = coap.BadOption // HTTP has no status for it
	}
	switch {
	case problem.RetryAfter > 0:
		addMaxAge(response, problem.RetryAfter) // RFC 8516 section 4, RFC 7252 section 5.9.3.4
	case response.Code == coap.ServiceUnavailable || response.Code == coap.TooManyRequests:
		addMaxAge(response, busyAge)
	}
	response.Options.AddUint(coap.ContentFormat, coap.ConciseProblemCBOR)
	response.Body = appendProblem(nil, problem, response.Code, f.pipeline.Instance(x))
	x.BytesOut = uint64(len(response.Body))
}

// Keys of RFC 9290 section 2.1.
const (
	keyTitle        = 0x20 // -1
	keyDetail       = 0x21 // -2
	keyInstance     = 0x22 // -3
	keyResponseCode = 0x23 // -4
)

// appendProblem writes the CBOR map. The problem's type stands as the key of an entry of its own (section 3.1), which
// holds the place in the payload (0) and the clause that it breaks (1).
func appendProblem(dst []byte, problem *fieldgate.Problem, code coap.Code, instance string) []byte {
	entries := byte(3)
	if problem.Detail != "" {
		entries++
	}
	if instance != "" {
		entries++
	}
	dst = append(dst, cborMap|entries)
	dst = appendText(append(dst, keyTitle), problem.Title())
	if problem.Detail != "" {
		dst = appendText(append(dst, keyDetail), problem.Detail)
	}
	if instance != "" {
		dst = appendText(append(dst, keyInstance), instance)
	}
	dst = appendHead(append(dst, keyResponseCode), cborUnsigned, int(code))
	dst = appendText(dst, problem.TypeURI())
	switch {
	case problem.Pointer == "" && problem.Clause == "":
		return append(dst, cborMap)
	case problem.Clause == "":
		return appendText(append(dst, cborMap|1, 0), problem.Pointer)
	}
	dst = appendText(append(dst, cborMap|2, 0), problem.Pointer)
	return appendText(append(dst, 1), problem.Clause)
}

// Major types of CBOR (RFC 8949 section 3.1) in the place where they stand in the initial byte.
const (
	cborUnsigned = 0 << 5
	cborText     = 3 << 5
	cborMap      = 5 << 5
)

func appendHead(dst []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	}
	return append(dst, major|25, byte(n>>8), byte(n))
}

// appendText cuts a text at what two bytes of length hold; details are sentences.
func appendText(dst []byte, text string) []byte {
	text = text[:min(len(text), 1<<16-1)]
	return append(appendHead(dst, cborText, len(text)), text...)
}
