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
func (p *Pipeline) Forward(ctx context.Context, x *Exchange) *fieldgate.Problem {
	x.Enter(fieldgate.StageForward)
	problem := p.forward(ctx, x)
	if problem == nil && x.toCBOR {
		problem = x.transcodeAnswer()
	}
	if problem != nil {
		x.Fail(problem)
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
	case o.Upstream != "":
		if problem := p.call(ctx, x); problem != nil {
			return problem
		}
	case o.Contract.Kind == fieldgate.KindOpenAPI:
		x.Answer = o.mock
	case o.subscribe != nil:
		return p.answerRetained(x)
	default:
		x.Answer.Status = 204
	}
	if (o.publish != nil || o.PassThrough && x.Protocol == fieldgate.ProtocolMQTT) && x.Answer.Status < 300 {
		return p.publish(ctx, x)
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
	if x.Caches() {
		request.Lines = x.AppendValidators(request.Lines)
	}
	began := time.Now()
	response, err := service.Do(ctx, request)
	x.UpstreamTime = time.Since(began)
	if err != nil {
		if problem, ok := errors.AsType[*fieldgate.Problem](err); ok {
			return problem
		}
		return &fieldgate.Problem{Code: fieldgate.ProblemUpstreamUnreachable, Cause: err}
	}
	p.Forget(x, response.Status)
	x.carriedOut = !tryAgain(response.Status)
	if x.Caches() {
		if answered, problem := p.KeepHead(x, response.Status, response.Fields); answered {
			return problem
		}
	}
	x.Answer = answerFrom(response.Status, response.Fields, response.Body)
	if response.Cookie != "" {
		x.Answer.Fields = append(x.Answer.Fields, AnswerField{Name: "Set-Cookie", Value: response.Cookie})
	}
	if x.Operation.checksAnswers() {
		if problem := p.checkAnswer(x); problem != nil {
			return problem
		}
	}
	if x.Keeping() {
		p.store(x, response.Body)
	}
	if o := x.Operation; o.policies != nil && o.policies.response != nil {
		return x.transformAnswer()
	}
	return nil
}

// newCall is the exchange as a call of an upstream.
func (p *Pipeline) newCall(x *Exchange, service *upstream.Upstream) (*upstream.Request, *fieldgate.Problem) {
	o := x.Operation
	body, contentType, problem := x.upstreamBody()
	if problem != nil {
		return nil, problem
	}
	request := &upstream.Request{Method: x.upstreamMethod(), Target: x.upstreamTarget(), Lines: p.AppendUpstreamFields(nil, x), Body: body,
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
	if x.HTTP != nil {
		request.Lines = x.HTTP.AppendForwarded(request.Lines, x.drops)
	}
	switch {
	case x.HTTP != nil && x.toCBOR: // from JSON, which the service has
		request.Fields = append(request.Fields, upstream.Field{Name: "Accept", Value: "application/json, application/cbor;q=0.5"})
	case x.HTTP == nil:
		request.Fields = append(request.Fields, upstream.Field{Name: "Accept", Value: "application/json, */*;q=0.5"})
	}
	return request, nil
}

// drops says which of a caller's fields the service does not get.
func (x *Exchange) drops(name []byte) bool {
	var buffer [64]byte
	lower := text(appendLower(buffer[:0], name))
	p := x.Operation.policies
	rewrites := x.toCBOR || p != nil && p.response != nil && p.response.body != nil
	switch {
	case p != nil && p.request.changes(name):
		return true
	case lower == "accept":
		return x.toCBOR
	case lower == "accept-encoding": // answers that are read must not be compressed
		return x.toCBOR || x.Operation.readsAnswers()
	case slices.Contains(conditions, lower): // which are about the content as the service has it
		return rewrites || x.revalidating
	case lower == "cache-control", lower == "pragma":
		return x.revalidating
	case p != nil && p.request != nil && p.request.body != nil:
		return slices.Contains(aboutContent, lower)
	}
	return false
}

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

func (x *Exchange) upstreamMethod() string {
	method := x.Operation.HTTP
	switch {
	case x.Method == fieldgate.MethodHead && x.revalidating, x.Method == fieldgate.MethodHead && method != nil && x.Operation.rewritesAnswers():
		return "GET" // without content nobody can tell what would be said of it
	case x.Method == fieldgate.MethodHead:
		return "HEAD"
	case method != nil && !x.Operation.PassThrough:
		return method.Method.String()
	case x.Method == fieldgate.MethodOther:
		return x.MethodToken
	case x.Method == fieldgate.MethodFetch: // no HTTP method is safe and has a body in every server (RFC 8132 section 2)
		return "POST"
	case x.Method == fieldgate.MethodIPatch:
		return "PATCH"
	}
	return x.Method.String()
}

// answerFrom takes from an upstream's answer what every protocol can say; the rest stays as fields for HTTP.
func answerFrom(status int, fields []cache.Field, body []byte) Answer {
	answer := Answer{Status: status, Body: body}
	for _, f := range fields {
		switch strings.ToLower(f.Name) {
		case "content-type":
			answer.ContentType = f.Value
		case "content-length", "transfer-encoding", "connection":
		case "location":
			answer.Location = f.Value
		case "etag":
			answer.ETag = strings.Trim(strings.TrimPrefix(f.Value, "W/"), `"`)
			answer.Fields = append(answer.Fields, f)
		case "cache-control":
			answer.MaxAge = maxAge(f.Value)
			answer.Fields = append(answer.Fields, f)
		default:
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

// answerRetained answers a plain request of an operation that subscribes: with the newest retained message.
func (p *Pipeline) answerRetained(x *Exchange) *fieldgate.Problem {
	filter, problem := x.Filter()
	if problem != nil {
		return problem
	}
	var newest *broker.Message
	p.Broker.Retained(filter, func(m *broker.Message) {
		if newest == nil || m.Time.After(newest.Time) {
			newest = m
		}
	})
	if newest == nil {
		x.Answer.Status = 204
		return nil
	}
	x.Answer = Answer{Status: 200, ContentType: newest.ContentType, Body: newest.Payload}
	return nil
}

// publish makes the exchange heard on its operation's topic and waits until it is durable.
func (p *Pipeline) publish(ctx context.Context, x *Exchange) *fieldgate.Problem {
	message, problem := p.Message(x)
	if problem != nil {
		return problem
	}
	durable := make(chan error, 1)
	p.Broker.Publish(message, func(err error) { durable <- err })
	select {
	case err := <-durable:
		if err != nil {
			return &fieldgate.Problem{Code: fieldgate.ProblemNotDurable, Detail: errStored, Cause: err}
		}
		return nil
	case <-ctx.Done():
		return &fieldgate.Problem{Code: fieldgate.ProblemNotDurable, Detail: errStored, Cause: ctx.Err()}
	}
}

// Message is the exchange as a message on its topic, with a body of its own. The MQTT front adds properties. From here on the
// exchange is being forwarded, until Finish at the latest.
func (p *Pipeline) Message(x *Exchange) (*broker.Message, *fieldgate.Problem) {
	x.Enter(fieldgate.StageForward)
	message := &broker.Message{Payload: bytes.Clone(x.Body), ContentType: x.messageType(), Publisher: x.Principal, Client: x.ClientID, Time: x.Started}
	if x.Protocol == fieldgate.ProtocolMQTT {
		message.Topic, message.QoS, message.Retain = string(x.Path), x.QoS, x.Retain
		return message, nil
	}
	topic, problem := x.topic(x.Operation.publish, "")
	if problem != nil {
		return nil, problem
	}
	message.Topic, message.QoS, message.Retain = topic, x.Operation.MQTT.QoS, x.Operation.MQTT.Retain
	return message, nil
}

// messageType says what subscribers are told about the payload's type.
func (x *Exchange) messageType() string {
	switch {
	case len(x.ContentType) != 0:
		return string(x.ContentType)
	case x.encoding == encodingJSON:
		return "application/json"
	case x.encoding == encodingCBOR:
		return "application/cbor"
	}
	return ""
}
