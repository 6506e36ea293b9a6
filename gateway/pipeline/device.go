package pipeline

import (
	"context"
	"slices"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/contract/schema"
)

// DeviceCall is an operation that a device carries out itself.
type DeviceCall struct {
	Device    string
	Request   fieldgate.DeviceRequest
	Queue     time.Duration // that the command may wait for a device that sleeps; 0: it does not
	By        string        // kind and id of the caller
	Operation string        // API, version and id
}

// AskDevice carries a DeviceCall out. The answer is the device's, or 202 for a command that waits for it and is durable.
type AskDevice func(ctx context.Context, call *DeviceCall) (Answer, *fieldgate.Problem)

var errNoDirectory = fieldgate.NewProblem(fieldgate.ProblemUpstreamUnreachable, "The gateway has no resource directory, by which it would know where devices are.")

// askDevice sends the exchange to the device that the operation names.
func (p *Pipeline) askDevice(ctx context.Context, x *Exchange) *fieldgate.Problem {
	if p.Devices == nil {
		return x.by("device", errNoDirectory)
	}
	call, problem := x.deviceCall()
	if problem != nil {
		return problem
	}
	began := time.Now()
	answer, problem := p.Devices(ctx, call)
	x.UpstreamTime = time.Since(began)
	if problem != nil {
		x.unanswered = problem.Code == fieldgate.ProblemUpstreamTimeout
		return x.by("device", problem)
	}
	x.carriedOut, x.Answer = true, answer
	if x.HTTP != nil && !x.toCBOR && answer.ContentType == cborType && x.Operation.answersIn(jsonType) && !x.Operation.answersIn(cborType) {
		body, err := schema.JSONFromCBOR(nil, answer.Body, x.AnswerSchema())
		if err != nil {
			return &fieldgate.Problem{Code: fieldgate.ProblemUpstreamInvalid, Detail: errDeviceAnswer, Cause: err}
		}
		x.Answer.ContentType, x.Answer.Body = jsonType, body
	}
	if o := x.Operation; o.policies != nil && o.policies.response != nil {
		return x.transformAnswer()
	}
	return nil
}

const (
	jsonType        = "application/json"
	errDeviceAnswer = "The device's answer is not the CBOR that its content format says."
)

// answersIn says whether the contract has answers of a media type.
func (o *Operation) answersIn(mediaType string) bool {
	return slices.ContainsFunc(o.Responses, func(r fieldgate.Response) bool {
		return slices.ContainsFunc(r.Media, func(m fieldgate.MediaType) bool { return m.Type == mediaType })
	})
}

func (x *Exchange) deviceCall() (*DeviceCall, *fieldgate.Problem) {
	o := x.Operation
	target := o.Device
	call := &DeviceCall{Device: string(x.values[o.parameterNumber(target.Parameter)]), Queue: target.Queue, By: string(x.Principal.Kind) + " " + x.Principal.ID, Operation: o.name}
	path, problem := x.fillPath(target.Path)
	if problem != nil {
		return nil, problem
	}
	body, contentType, problem := x.upstreamBody()
	if problem != nil {
		return nil, problem
	}
	if o.policies != nil && o.policies.request != nil { // header fields have no place in CoAP
		if _, body, contentType, problem = x.transformRequest(body, contentType); problem != nil {
			return nil, problem
		}
	}
	if target.CBOR && contentType == jsonType {
		encoded, err := schema.CBORFromJSON(nil, body, x.schema)
		if err != nil {
			return nil, x.violation(fieldgate.ProblemInvalidPayload, "", err)
		}
		body, contentType = encoded, cborType
	}
	call.Request = fieldgate.DeviceRequest{Method: target.Method.String(), Path: path, ContentType: contentType, Body: body, Idempotent: o.Idempotent, Timeout: o.Timeout}
	return call, nil
}

// fillPath fills in the parameters of a path at the device, percent-encoded.
func (x *Exchange) fillPath(template string) (string, *fieldgate.Problem) {
	var path []byte
	for level := range strings.SplitSeq(strings.TrimPrefix(template, "/"), "/") {
		filled := x.appendLevel(nil, level)
		if _, name, _, variable := cutParameter(level); variable {
			if decoded, ok := percentDecoded(filled, false); !ok || !isSegment(decoded) {
				return "", x.by(ruleText("parameter "+name), &fieldgate.Problem{Code: fieldgate.ProblemInvalidParameter, Detail: errSegment, Pointer: name})
			}
		}
		path = append(append(path, '/'), filled...)
	}
	return string(path), nil
}
