package pipeline

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/cache"
	"fieldgate/gateway/upstream"
)

// Header fields that tell an upstream what the gateway knows. The same fields of a caller are dropped.
const (
	FieldPrefix        = "Fieldgate-"
	FieldPrincipal     = "Fieldgate-Principal"      // id of the device or app
	FieldPrincipalKind = "Fieldgate-Principal-Kind" // device, app, anonymous or foreign
	FieldProtocol      = "Fieldgate-Protocol"       // that the caller speaks
	FieldOperation     = "Fieldgate-Operation"      // API, version and operation
	FieldInstance      = "Fieldgate-Instance"       // names the exchange
)

var (
	errNoUpstream = fieldgate.NewProblem(fieldgate.ProblemUpstreamUnreachable, "The gateway's environment does not name the service of this operation.")
	errStored     = "The message could not be stored; send it again later."
)

// Forward takes the exchange where it goes: to the upstream or the mock, then to the operation's topic; or to the topic alone.
// It fills x.Answer. It returns when the upstream has answered and the message is durable.
func (p *Pipeline) Forward(ctx context.Context, x *Exchange) (problem *fieldgate.Problem) {
	if x.durable == nil {
		problem = p.send(ctx, x)
	}
	if problem == nil && x.durable != nil {
		problem = x.awaitDurable(ctx)
	}
	return p.forwarded(x, problem)
}

// ForwardNow is Forward for fronts that must not wait. It is not done when there is somebody to be waited for, which Forward then has to.
func (p *Pipeline) ForwardNow(x *Exchange) (problem *fieldgate.Problem, done bool) {
	if o := x.Operation; !x.answered && (o.Upstream != "" || o.Device != nil || o.subscribe != nil) || x.command != nil {
		return nil, false // a service, a device, the disk on which retained messages are, another gateway
	}
	problem = p.send(context.Background(), x)
	switch {
	case problem != nil || x.durable == nil:
	case len(x.durable) == 0:
		return nil, false
	default:
		problem = x.awaitDurable(context.Background())
	}
	return p.forwarded(x, problem), true
}

// send does all of forwarding but to wait until the message is durable.
func (p *Pipeline) send(ctx context.Context, x *Exchange) *fieldgate.Problem {
	x.Enter(fieldgate.StageForward)
	if x.command != nil && p.bus != nil {
		if problem := p.claim(ctx, x); problem != nil {
			return problem
		}
	}
	return p.forward(ctx, x)
}

// forwarded ends the forwarding.
func (p *Pipeline) forwarded(x *Exchange, problem *fieldgate.Problem) *fieldgate.Problem {
	if problem == nil && !x.answered {
		problem = p.projectAnswer(x)
	}
	if problem == nil && x.toCBOR {
		problem = x.transcodeAnswer()
	}
	if problem != nil {
		x.Fail(problem)
	}
	if x.command != nil {
		p.finishCommand(x)
	}
	if problem != nil {
		return problem
	}
	x.Leave()
	x.BytesOut = uint64(len(x.Answer.Body))
	return nil
}

func (p *Pipeline) forward(ctx context.Context, x *Exchange) *fieldgate.Problem {
	o := x.Operation
	switch {
	case x.answered:
		return nil
	case o.Device != nil:
		if problem := p.askDevice(ctx, x); problem != nil {
			return problem
		}
	case o.Upstream != "" && p.answerObserved(x):
	case o.Upstream != "":
		if o.publish != nil && x.Protocol != fieldgate.ProtocolMQTT { // before the service does what could not be heard
			if _, problem := x.topic(o.publish, ""); problem != nil {
				return problem
			}
		}
		if problem := p.call(ctx, x); problem != nil {
			return problem
		}
	case o.Contract.Kind == fieldgate.KindOpenAPI:
		x.Answer = x.mock()
	case o.subscribe != nil:
		return p.answerRetained(x)
	default:
		x.Answer.Status = 204
	}
	if (o.publish != nil || o.PassThrough && x.Protocol == fieldgate.ProtocolMQTT) && x.Answer.Status < 300 {
		return p.publish(x)
	}
	return nil
}

// call sends the exchange to the operation's upstream and notes the answer.
func (p *Pipeline) call(ctx context.Context, x *Exchange) *fieldgate.Problem {
	service := p.Service(x)
	if service == nil {
		return x.NoUpstream()
	}
	request, problem := p.newCall(x, service)
	if problem != nil {
		return problem
	}
	p.mirror(x, request)
	request.Lines = x.AppendValidators(request.Lines)
	began := time.Now()
	response, err := service.Do(ctx, request)
	x.UpstreamTime = time.Since(began)
	if err != nil {
		problem, ok := errors.AsType[*fieldgate.Problem](err)
		if !ok {
			problem = &fieldgate.Problem{Code: fieldgate.ProblemUpstreamUnreachable, Cause: err}
		}
		x.unanswered = !upstream.Unsent(problem)
		return problem
	}
	p.Forget(x, response.Status)
	x.carriedOut = !tryAgain(response.Status)
	if x.cached != nil {
		if answered, problem := p.KeepHead(x, response.Status, response.Fields); answered {
			return problem
		}
	}
	x.Answer = answerFrom(response.Status, response.Fields, response.Body, true)
	if response.Cookie != "" {
		x.Answer.Fields = append(x.Answer.Fields, AnswerField{Name: "Set-Cookie", Value: response.Cookie})
	}
	if x.gathered != nil && x.gathered.keep {
		p.store(x, response.Body)
	}
	return p.settleAnswer(x)
}

// settleAnswer makes of what the service said what callers get, whoever they are.
func (p *Pipeline) settleAnswer(x *Exchange) *fieldgate.Problem {
	if x.Operation.checksAnswers() {
		if problem := p.checkAnswer(x); problem != nil {
			return problem
		}
	}
	if problem := x.translateAnswer(); problem != nil {
		return problem
	}
	if o := x.Operation; o.policies != nil && o.policies.response != nil {
		return x.transformAnswer()
	}
	return nil
}

// newCall is the exchange as a call of an upstream.
func (p *Pipeline) newCall(x *Exchange, service *upstream.Upstream) (*upstream.Request, *fieldgate.Problem) {
	o := x.Operation
	if problem := x.checkTarget(); problem != nil {
		return nil, problem
	}
	body, contentType, problem := x.upstreamBody()
	if problem != nil {
		return nil, problem
	}
	request := &upstream.Request{Method: x.UpstreamMethod(service), Target: x.upstreamTarget(), Lines: p.AppendUpstreamFields(nil, x), Body: body,
		Timeout: o.Timeout, Idempotent: o.Idempotent}
	request.Choice = x.Choice(service)
	if o.policies != nil {
		request.Retry, request.Hedge, request.Priority = o.policies.Retry, o.policies.Hedge, o.policies.Priority
	}
	if o.policies != nil && o.policies.request != nil {
		var lines []byte
		if lines, request.Body, contentType, problem = x.transformRequest(body, contentType); problem != nil {
			return nil, problem
		}
		request.Lines = append(request.Lines, lines...)
	}
	if contentType != "" {
		request.Fields = append(request.Fields, upstream.Field{Name: "Content-Type", Value: contentType})
	}
	switch {
	case x.HTTP != nil:
		request.Lines = x.HTTP.AppendForwarded(request.Lines, x.drops)
	case !safe(x.Method) || x.cached == nil && !x.rewrites():
		request.Lines = append(request.Lines, x.Conditions...)
	}
	switch {
	case x.HTTP != nil && x.toCBOR && !o.takesCBOR(): // from JSON, which the service has
		request.Fields = append(request.Fields, upstream.Field{Name: "Accept", Value: "application/json, application/cbor;q=0.5"})
	case o.takesCBOR():
		request.Fields = append(request.Fields, upstream.Field{Name: "Accept", Value: cborType})
	case x.HTTP == nil && o.PassThrough:
		if x.Accept != "" {
			request.Fields = append(request.Fields, upstream.Field{Name: "Accept", Value: x.Accept})
		}
	case x.HTTP == nil:
		request.Fields = append(request.Fields, upstream.Field{Name: "Accept", Value: x.accepted()})
	}
	request.HopLimit = x.HopLimit
	return request, nil
}

// accepted is the Accept field for a caller that has none. JSON is what CBOR is made of, and the other way round.
func (x *Exchange) accepted() string {
	if x.Accept == "" || x.Accept == jsonType || x.Accept == cborType {
		return "application/json, */*;q=0.5"
	}
	return x.Accept
}

// drops says which of a caller's fields the service does not get.
func (x *Exchange) drops(name []byte) bool {
	var buffer [64]byte
	lower := text(appendLower(buffer[:0], name))
	p := x.Operation.policies
	switch {
	case p != nil && p.request.changes(name):
		return true
	case lower == "accept":
		return x.toCBOR || x.Operation.takesCBOR()
	case lower == "accept-encoding": // answers that are read must not be compressed
		return x.toCBOR || x.Operation.readsAnswers() || x.Operation.checksAnswers()
	case slices.Contains(conditions, lower): // which are about the content as the service has it
		return x.rewrites() || x.revalidating
	case lower == "cache-control", lower == "pragma":
		return x.revalidating
	case p != nil && p.request != nil && p.request.body != nil:
		return slices.Contains(aboutContent, lower)
	}
	return false
}

// rewrites says whether the caller gets other content than the service gives, of which the service's validators say nothing.
func (x *Exchange) rewrites() bool {
	p := x.Operation.policies
	return x.toCBOR || p != nil && (p.privacy != nil || p.response != nil && p.response.body != nil)
}

// EntityTag asks the service for the entity tag of what the exchange is about to change, as it is now: the field's value, empty when there
// is none. Status is that of the service's answer, 0 without one. Conditions are not sent.
func (p *Pipeline) EntityTag(ctx context.Context, x *Exchange) (status int, tag string) {
	service := p.Service(x)
	if service == nil {
		return 0, ""
	}
	conditions := x.Conditions
	x.Conditions = nil
	request, problem := p.newCall(x, service)
	x.Conditions = conditions
	if problem != nil {
		return 0, ""
	}
	request.Method, request.Body, request.Idempotent = "HEAD", nil, true
	request.Fields = slices.DeleteFunc(request.Fields, func(f upstream.Field) bool { return f.Name == "Content-Type" })
	response, err := service.Do(ctx, request)
	if err != nil {
		return 0, ""
	}
	return response.Status, response.Field("ETag")
}

// OpaqueTag is an entity tag without its quotes, weak or not (RFC 9110 section 8.8.3).
func OpaqueTag(field string) string { return strings.Trim(strings.TrimPrefix(field, "W/"), `"`) }

// aboutContent are fields that describe content byte by byte, and so none that was made from it.
var aboutContent = []string{"content-encoding", "content-md5", "content-digest", "repr-digest", "digest", "etag", "last-modified", "accept-ranges"}

func appendLower(dst, name []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// NoUpstream is the problem of an operation whose upstream the node does not know.
func (x *Exchange) NoUpstream() *fieldgate.Problem {
	return x.by(x.Operation.rules.unknown, errNoUpstream)
}

// AppendUpstreamFields appends the field lines by which the gateway tells an upstream who calls, by which protocol and operation.
func (p *Pipeline) AppendUpstreamFields(dst []byte, x *Exchange) []byte {
	dst = append(append(dst, FieldPrincipal+": "...), fieldValue(x.Principal.ID)...)
	dst = append(append(dst, "\r\n"+FieldPrincipalKind+": "...), x.Principal.Kind...)
	dst = append(append(dst, "\r\n"+FieldProtocol+": "...), x.Protocol.String()...)
	dst = append(append(dst, "\r\n"+FieldOperation+": "...), x.Operation.name...)
	dst = p.AppendInstance(append(dst, "\r\n"+FieldInstance+": "...), x)
	return append(dst, "\r\n"...)
}

// fieldValue keeps what may stand in a field value (RFC 9110 section 5.5); the names that foreign callers claim may hold anything.
func fieldValue(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '_'
		}
		return r
	}, text)
}

// upstreamBody is the body in the form that upstreams are promised: JSON where the caller wrote CBOR.
func (x *Exchange) upstreamBody() (body []byte, contentType string, problem *fieldgate.Problem) {
	switch {
	case len(x.Body) == 0:
		return nil, "", nil
	case x.Operation.takesCBOR() && x.schema != nil && (x.encoding == encodingJSON || x.encoding == encodingCBOR):
		return x.bodyAsCBOR()
	case x.encoding == encodingCBOR && x.schema != nil:
		body, err := schema.JSONFromCBOR(nil, x.Body, x.schema)
		if err != nil {
			return nil, "", x.violation(fieldgate.ProblemInvalidPayload, "", err)
		}
		return body, "application/json", nil
	case len(x.ContentType) == 0 && x.encoding == encodingJSON:
		return x.Body, "application/json", nil
	}
	return x.Body, string(x.ContentType), nil
}

// UpstreamMethod is the method that the service is called by. One that speaks CoAP is called by that of the CoAP binding, if there is one: so a POST that
// changes nothing can be a FETCH.
func (x *Exchange) UpstreamMethod(service *upstream.Upstream) string {
	o, method := x.Operation, x.Operation.HTTP
	coap := service.SpeaksCoAP()
	switch {
	case x.Method == fieldgate.MethodHead && x.revalidating, x.Method == fieldgate.MethodHead && method != nil && o.rewritesAnswers():
		return "GET" // without content nobody can tell what would be said of it
	case x.Method == fieldgate.MethodHead:
		return "HEAD"
	case coap && o.CoAP != nil && !o.PassThrough:
		return o.CoAP.Method.String()
	case method != nil && !o.PassThrough:
		return method.Method.String()
	case x.Method == fieldgate.MethodOther:
		return x.MethodToken
	case coap:
		return x.Method.String()
	case x.Method == fieldgate.MethodFetch: // no HTTP method is safe and has a body in every server (RFC 8132 section 2)
		return "POST"
	case x.Method == fieldgate.MethodIPatch:
		return "PATCH"
	}
	return x.Method.String()
}

// answerFrom takes from an upstream's answer what every protocol can say; the rest stays as fields for HTTP, if they are wanted.
func answerFrom(status int, fields []cache.Field, body []byte, rest bool) Answer {
	answer := Answer{Status: status, Body: body}
	for _, f := range fields {
		switch {
		case strings.EqualFold(f.Name, "content-type"):
			answer.ContentType = f.Value
			continue
		case strings.EqualFold(f.Name, "content-length"), strings.EqualFold(f.Name, "transfer-encoding"), strings.EqualFold(f.Name, "connection"):
			continue
		case strings.EqualFold(f.Name, "location"):
			answer.Location = f.Value
			continue
		case strings.EqualFold(f.Name, "etag"):
			answer.ETag = OpaqueTag(f.Value)
		case strings.EqualFold(f.Name, "cache-control"):
			answer.MaxAge = maxAge(f.Value)
		case strings.EqualFold(f.Name, "retry-after"):
			if seconds, err := strconv.ParseUint(f.Value, 10, 31); err == nil && (status == 429 || status == 503) {
				answer.MaxAge = time.Duration(seconds) * time.Second // RFC 8516 section 4, RFC 7252 section 5.9.3.4
			}
		}
		if rest {
			answer.Fields = append(answer.Fields, f)
		}
	}
	return answer
}

// maxAge is the max-age directive of a Cache-Control field (RFC 9111 section 5.2.2.1).
func maxAge(cacheControl string) time.Duration {
	for directive := range strings.SplitSeq(cacheControl, ",") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(directive), "max-age="); ok {
			if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
				return time.Duration(seconds) * time.Second
			}
		}
	}
	return 0
}

// maxRetainedVisited bounds the retained messages that are looked at to answer one request.
const maxRetainedVisited = 10_000

// answerRetained answers a plain request of an operation that subscribes: with the newest retained message, of the first
// maxRetainedVisited in the order of topics.
func (p *Pipeline) answerRetained(x *Exchange) *fieldgate.Problem {
	filter, problem := x.Filter()
	if problem != nil {
		return problem
	}
	var newest *broker.Message
	visited := 0
	err := p.Broker.Retained(filter, func(m *broker.Message) bool {
		if newest == nil || m.Time.After(newest.Time) {
			newest = m
		}
		visited++
		return visited < maxRetainedVisited
	})
	if err != nil {
		return &fieldgate.Problem{Code: fieldgate.ProblemOverloaded, Detail: "The retained messages cannot be read now; try again later.", Cause: err}
	}
	if newest == nil {
		x.Answer.Status = 204
		return nil
	}
	x.Answer = Answer{Status: 200, ContentType: newest.ContentType, Body: newest.Payload}
	return nil
}

// publish makes the exchange heard on its operation's topic.
func (p *Pipeline) publish(x *Exchange) *fieldgate.Problem {
	message := new(broker.Message)
	if problem := p.Message(x, message); problem != nil {
		return problem
	}
	message.Payload = bytes.Clone(message.Payload)
	durable := make(chan error, 1)
	x.durable = durable
	p.Broker.Publish(message, func(err error) { durable <- err })
	return nil
}

// awaitDurable waits until the message cannot be lost.
func (x *Exchange) awaitDurable(ctx context.Context) *fieldgate.Problem {
	select {
	case err := <-x.durable:
		if err != nil {
			return &fieldgate.Problem{Code: fieldgate.ProblemNotDurable, Detail: errStored, Cause: err}
		}
		return nil
	case <-ctx.Done():
		return &fieldgate.Problem{Code: fieldgate.ProblemNotDurable, Detail: errStored, Cause: ctx.Err()}
	}
}

// Message fills in the exchange as a message on its topic, with the exchange's body. The MQTT front adds properties. From here on
// the exchange is being forwarded, until Finish at the latest.
func (p *Pipeline) Message(x *Exchange, message *broker.Message) *fieldgate.Problem {
	x.Enter(fieldgate.StageForward)
	*message = broker.Message{Payload: x.Body, ContentType: x.messageType(), Publisher: x.Principal, Client: x.ClientID, Time: x.Started}
	if x.Operation.MaxExpiry > 0 {
		message.Expires = x.Started.Add(x.Operation.MaxExpiry)
	}
	if x.Protocol == fieldgate.ProtocolMQTT {
		message.QoS, message.Retain = x.QoS, x.Retain
		if x.granted != nil {
			message.Topic = x.granted.topic
		} else {
			message.Topic = string(x.Path)
		}
		return nil
	}
	topic, problem := x.topic(x.Operation.publish, "")
	if problem != nil {
		return problem
	}
	message.Topic, message.QoS, message.Retain = topic, x.Operation.MQTT.QoS, x.Operation.MQTT.Retain
	return nil
}

// messageType says what subscribers are told about the payload's type.
func (x *Exchange) messageType() string {
	switch {
	case len(x.ContentType) != 0:
		for i := range x.Operation.request {
			if declared := x.Operation.request[i].mediaType; declared == string(x.ContentType) {
				return declared // which costs no memory
			}
		}
		return string(x.ContentType)
	case x.encoding == encodingJSON:
		return "application/json"
	case x.encoding == encodingCBOR:
		return "application/cbor"
	}
	return ""
}
