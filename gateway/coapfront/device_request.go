package coapfront

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/coaphttp"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

var (
	errAbsent = fieldgate.NewProblem(fieldgate.ProblemDeviceAbsent, "The device has not registered with the resource directory, or its registration has ended.")
	errGone   = fieldgate.NewProblem(fieldgate.ProblemDeviceAbsent, "The device's session has ended; it is reached again once it was heard.")
	errAway   = fieldgate.NewProblem(fieldgate.ProblemUpstreamUnreachable, "The gateway that heard the device last does not answer.")
	errStops  = fieldgate.NewProblem(fieldgate.ProblemQuarantined, "The device is in quarantine: an operator has to release it.")
	errMethod = fieldgate.NewProblem(fieldgate.ProblemMethodNotAllowed, "CoAP has no such method.")
	errTarget = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "CoAP cannot carry the path or query: a part is longer than 255 bytes, or \".\" or \"..\".")
	errFormat = fieldgate.NewProblem(fieldgate.ProblemUnsupportedMedia, "The media type has no CoAP content format.")

	errCutOff     = fieldgate.NewProblem(fieldgate.ProblemUpstreamTimeout, "The device's session ended before it answered.")
	errNoAnswer   = fieldgate.NewProblem(fieldgate.ProblemUpstreamTimeout, "The device does not answer.")
	errReset      = fieldgate.NewProblem(fieldgate.ProblemUpstreamInvalid, "The device rejects the message (Reset).")
	errUnreadable = fieldgate.NewProblem(fieldgate.ProblemUpstreamInvalid, "The device's answer cannot be read.")
	errTooMany    = fieldgate.NewProblem(fieldgate.ProblemOverloaded, "As many requests as may be wait for the device.")
)

// Ask carries out an operation at a device: now, or, where the contract lets commands wait, when it is heard again.
func (d *Devices) Ask(ctx context.Context, call *pipeline.DeviceCall) (pipeline.Answer, *fieldgate.Problem) {
	answer, problem := d.askOrKeep(ctx, call)
	if problem != nil {
		return pipeline.Answer{}, problem
	}
	return *answer, nil
}

func (d *Devices) askOrKeep(ctx context.Context, call *pipeline.DeviceCall) (*pipeline.Answer, *fieldgate.Problem) {
	ref := d.directory.Find(fieldgate.PrincipalDevice, call.Device)
	switch {
	case ref == 0 || d.directory.State(ref) == fieldgate.StateRevoked:
		return nil, errAbsent
	case d.directory.State(ref) == fieldgate.StateQuarantined:
		return nil, errStops
	}
	if _, problem := newCall(&call.Request); problem != nil {
		return nil, problem
	}
	device := d.device(call.Device)
	r, problem := d.find(ctx, device)
	if problem != nil {
		return nil, problem
	}
	if call.Queue > 0 && !device.ready(r, d.node) {
		return d.keep(ctx, device, call)
	}
	if r == nil {
		return nil, errAbsent
	}
	given, problem := d.ask(ctx, device, r, &call.Request)
	switch {
	case problem == nil:
		return answerOf(given), nil
	case call.Queue > 0 && mayRepeat(problem, &call.Request):
		return d.keep(ctx, device, call)
	}
	return nil, problem
}

// mayRepeat says whether a request that failed may be sent again: it never left, or does no more if it comes twice.
func mayRepeat(problem *fieldgate.Problem, request *fieldgate.DeviceRequest) bool {
	return neverLeft(problem) || problem.Code == fieldgate.ProblemUpstreamTimeout && request.Idempotent
}

// neverLeft says that a request which failed was not sent to the device.
func neverLeft(problem *fieldgate.Problem) bool {
	switch problem.Code { // not the problem itself: it may come from another node
	case fieldgate.ProblemDeviceAbsent, fieldgate.ProblemUpstreamUnreachable, fieldgate.ProblemOverloaded:
		return true
	}
	return false
}

// ready says whether a request may overtake the queue, as nothing waits and the device is awake.
func (d *device) ready(r *registration, node string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r == nil || d.waiting {
		return false
	}
	return !r.Sleeps || r.Node == node && d.awake(time.Now())
}

// find is a device's registration, nil if it has none. What this gateway has not heard of yet it asks for.
func (d *Devices) find(ctx context.Context, device *device) (*registration, *fieldgate.Problem) {
	if r := device.present(time.Now()); r != nil {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	r, err := d.shared.Registration(ctx, device.id)
	if err != nil {
		return nil, &fieldgate.Problem{Code: fieldgate.ProblemOverloaded, Detail: "Where the device is cannot be found out now; try again later.", Cause: err}
	}
	if r != nil {
		d.learnRegistration(device.id, r)
	}
	return device.present(time.Now()), nil
}

// ask sends a request from the gateway that reaches the device.
func (d *Devices) ask(ctx context.Context, device *device, r *registration, request *fieldgate.DeviceRequest) (*fieldgate.DeviceAnswer, *fieldgate.Problem) {
	timeout := request.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	if r.Node == d.node {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return d.send(ctx, device, r, request)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout+time.Second) // for the way there and back
	defer cancel()
	reply, err := d.askNode(ctx, r.Node, &fieldgate.DeviceQuestion{Device: device.id, Request: *request})
	switch {
	case errors.Is(err, bus.ErrNoResponder), errors.Is(err, bus.ErrUnavailable):
		return nil, errAway
	case err != nil:
		problem := *errNoAnswer
		problem.Cause = err
		return nil, &problem
	case reply.Problem != nil:
		return nil, reply.Problem
	}
	return reply.Answer, nil
}

func (d *Devices) askNode(ctx context.Context, node string, question *fieldgate.DeviceQuestion) (reply fieldgate.DeviceReply, err error) {
	encoded, err := json.Marshal(question)
	if err != nil {
		return reply, err
	}
	answer, err := d.bus.Ask(ctx, fieldgate.SubjectDeviceAsk+node, encoded)
	if err == nil {
		err = json.Unmarshal(answer.Data, &reply)
	}
	if err == nil && reply.Answer == nil && reply.Problem == nil && !question.Heard {
		err = errQuestion
	}
	return reply, err
}

var errQuestion = errors.New("malformed question about a device")

// answer answers other nodes, and the control plane.
func (d *Devices) answer(ctx context.Context, data []byte) (bus.Answer, error) {
	var question fieldgate.DeviceQuestion
	if json.Unmarshal(data, &question) != nil || question.Device == "" {
		return bus.Answer{}, errQuestion
	}
	var reply fieldgate.DeviceReply
	device := d.device(question.Device)
	switch r, problem := d.find(ctx, device); {
	case question.Heard:
		device.mu.Lock()
		device.heard = time.Now()
		device.mu.Unlock()
		d.deliver(device)
	case problem != nil:
		reply.Problem = problem
	case r == nil:
		reply.Problem = errAbsent
	case r.Node != d.node: // it has just moved on
		reply.Problem = errGone
	default:
		reply.Answer, reply.Problem = d.ask(ctx, device, r, &question.Request)
	}
	if reply.Problem != nil && reply.Problem.Cause != nil {
		problem := *reply.Problem
		problem.Cause, reply.Problem = nil, &problem
	}
	encoded, err := json.Marshal(&reply)
	return bus.Answer{Data: encoded}, err
}

// send sends a request to a device that this gateway heard last, and waits for the answer.
func (d *Devices) send(ctx context.Context, device *device, r *registration, request *fieldgate.DeviceRequest) (*fieldgate.DeviceAnswer, *fieldgate.Problem) {
	call, problem := newCall(request)
	if problem != nil {
		return nil, problem
	}
	began := time.Now()
	l, peer := d.way(r)
	if l == nil {
		device.unheard(r, began)
		return nil, errGone
	}
	reply, err := l.Do(ctx, peer, call)
	switch {
	case err == nil:
	case errors.Is(err, coap.ErrClosed): // perhaps after the request had left
		device.unheard(r, began)
		return nil, errCutOff
	case errors.Is(err, coap.ErrReset):
		return nil, errReset
	case errors.Is(err, coap.ErrTooMany):
		return nil, errTooMany
	case errors.Is(err, coap.ErrTimeout), ctx.Err() != nil:
		device.unheard(r, began)
		return nil, errNoAnswer
	default:
		problem := *errUnreadable
		problem.Cause = err
		return nil, &problem
	}
	device.mu.Lock()
	device.heard = time.Now()
	device.mu.Unlock()
	return readAnswer(reply)
}

// way is how a device is reached from here; a nil listener: its session has ended, or this gateway does not listen there any more.
func (d *Devices) way(r *registration) (l *listener, peer netip.AddrPort) {
	l, peer = d.listeners[r.Transport], r.Peer
	switch {
	case l == nil:
	case !l.session():
		if r.Base.IsValid() {
			peer = r.Base
		}
	case r.Epoch != d.epoch:
		return nil, peer
	default:
		if source, _ := l.who(peer); !source.IsValid() {
			return nil, peer
		}
	}
	return l, peer
}

// newCall is the request in CoAP (RFC 8075 section 7).
func newCall(request *fieldgate.DeviceRequest) (*coap.Call, *fieldgate.Problem) {
	code, ok := coaphttp.RequestCode(request.Method, request.ContentType)
	if !ok {
		return nil, errMethod
	}
	call := &coap.Call{Code: code, Body: request.Body}
	if !coaphttp.AddTarget(&call.Options, request.Path, request.Query) {
		return nil, errTarget
	}
	if len(request.Body) > 0 && request.ContentType != "" {
		format, ok := coaphttp.Format(request.ContentType)
		if !ok {
			return nil, errFormat
		}
		call.Options.AddUint(coap.ContentFormat, format)
	}
	if format, ok := coaphttp.Format(request.Accept); ok {
		call.Options.AddUint(coap.Accept, format)
	}
	return call, nil
}

func readAnswer(reply *coap.Reply) (*fieldgate.DeviceAnswer, *fieldgate.Problem) {
	status := coaphttp.StatusOf(reply.Code, len(reply.Body) > 0)
	if status == 0 || reply.Code == coap.Valid { // it was not asked whether anything is valid still (RFC 7252 section 5.9.1.3)
		return nil, errUnreadable
	}
	answer := &fieldgate.DeviceAnswer{Code: reply.Code.String(), Status: status, Body: reply.Body, Location: coaphttp.Location(&reply.Message)}
	if format, ok := reply.Uint(coap.ContentFormat); ok {
		answer.ContentType = coaphttp.MediaType(format)
	}
	if tag, ok := reply.Option(coap.ETag); ok {
		answer.ETag = coaphttp.EntityTagText(tag)
	}
	if age, ok := reply.Uint(coap.MaxAge); ok {
		answer.MaxAge = time.Duration(age) * time.Second
	}
	return answer, nil
}

// answerOf is a device's answer for the caller.
func answerOf(a *fieldgate.DeviceAnswer) *pipeline.Answer {
	answer := &pipeline.Answer{Status: a.Status, ContentType: a.ContentType, Body: a.Body, Location: a.Location, ETag: a.ETag, MaxAge: a.MaxAge}
	if a.ETag != "" {
		answer.Fields = append(answer.Fields, pipeline.AnswerField{Name: "ETag", Value: `"` + a.ETag + `"`})
	}
	seconds := strconv.Itoa(int(a.MaxAge / time.Second))
	switch {
	case a.Status == 401: // RFC 9110 section 15.5.2 demands a challenge, of which CoAP has none
		answer.Fields = append(answer.Fields, pipeline.AnswerField{Name: "WWW-Authenticate", Value: "CoAP"})
	case a.MaxAge == 0:
	case a.Status == 429 || a.Status == 503: // RFC 8516 section 4, RFC 7252 section 5.9.3.4
		answer.Fields = append(answer.Fields, pipeline.AnswerField{Name: "Retry-After", Value: seconds})
	default:
		answer.Fields = append(answer.Fields, pipeline.AnswerField{Name: "Cache-Control", Value: "max-age=" + seconds})
	}
	if a.Status >= 400 && a.ContentType == concise {
		if problem, ok := coaphttp.ProblemToJSON(a.Body, a.Status); ok {
			answer.ContentType, answer.Body = fieldgate.ProblemMediaType, problem
		}
	}
	return answer
}

var concise = coaphttp.MediaType(coap.ConciseProblemCBOR)
