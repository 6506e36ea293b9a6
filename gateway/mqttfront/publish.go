package mqttfront

import (
	"bytes"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// publishing is a PUBLISH on its way through the pipeline.
type publishing struct {
	pipeline.Exchange
	connection    *connection
	id            uint16
	topic         []byte
	responseTopic string
	correlation   []byte
	user          userFields
}

// userFields offers user properties to the pipeline as the header fields that a contract may have among its parameters.
type userFields []mqtt.Pair

func (u userFields) Field(name string) ([]byte, bool) {
	for i := range u {
		if len(u[i].Key) == len(name) && bytes.EqualFold(u[i].Key, []byte(name)) {
			return u[i].Value, true
		}
	}
	return nil, false
}

var errNotUTF8 = fieldgate.NewProblem(fieldgate.ProblemInvalidPayload, "The payload format indicator says UTF-8, but the payload is none.")

// publish takes a PUBLISH through the pipeline. What does not call an upstream is done when it returns, but for the disk.
func (c *connection) publish(p *mqtt.Publish, now time.Time) {
	f := c.front
	f.Counters.Published.Add(1)
	x := publishings.Get().(*publishing)
	x.connection, x.id = c, p.PacketID
	x.topic = append(x.topic[:0], p.Topic...) // parameters are views of it
	x.Protocol, x.Method, x.Source, x.Caller, x.ClientID = fieldgate.ProtocolMQTT, fieldgate.MethodPublish, c.source, c.caller, c.client
	x.Path, x.QoS, x.Retain, x.Started = x.topic, p.QoS, p.Retain, now
	x.ContentType = bytes.Clone(p.Properties.Text(mqtt.ContentType))
	if len(p.Properties.User) > 0 {
		x.user = cloneUser(p.Properties.User)
		x.Fields, x.Query = x.user, queryOf(x.user)
	}
	if p.Properties.Has(mqtt.ResponseTopic) {
		x.responseTopic = string(p.Properties.Text(mqtt.ResponseTopic))
		x.correlation = bytes.Clone(p.Properties.Text(mqtt.CorrelationData))
	}

	problem := f.pipeline.Begin(&x.Exchange)
	if x.Copy != nil {
		for _, pair := range x.user {
			x.Copy.RequestField(pair.Key, pair.Value)
		}
	}
	if problem == nil {
		x.Body = p.Payload
		if problem = f.pipeline.Check(&x.Exchange); problem == nil {
			problem = checkMessage(&x.Exchange, p.Properties.Number(mqtt.PayloadFormatIndicator) == 1)
		}
		if problem == nil && x.responseTopic != "" && x.Operation.Calls() {
			if problem = f.pipeline.ReplyTopic(c.caller, x.responseTopic); problem != nil {
				x.Fail(problem)
			}
		}
	}
	switch {
	case problem != nil:
		x.deny(problem)
	case x.Operation.Calls():
		x.Body = bytes.Clone(p.Payload)
		c.call(x)
	default:
		var expires time.Time
		if p.Properties.Has(mqtt.MessageExpiryInterval) {
			expires = now.Add(time.Duration(p.Properties.Number(mqtt.MessageExpiryInterval)) * time.Second)
		}
		properties := p.Properties.AppendForward(nil)
		if p.QoS == 0 {
			f.forward(&x.Exchange, properties, expires, nil)
			x.release()
			return
		}
		f.forward(&x.Exchange, properties, expires, func(problem *fieldgate.Problem) {
			c.acknowledgeWith(x.id, problem)
			x.release()
		})
	}
}

var publishings = sync.Pool{New: func() any { return new(publishing) }}

// release gives the memory back; the exchange is finished and nobody looks at it any more.
func (x *publishing) release() {
	*x = publishing{topic: x.topic}
	publishings.Put(x)
}

var errReplyTopic = fieldgate.NewProblem(fieldgate.ProblemForbidden, `Only the gateway publishes answers below "`+fieldgate.ReplyPrefix+`".`)

// checkMessage asks what holds for every message of MQTT, a will's too, whatever its contract says.
// isText: its payload format indicator says UTF-8.
func checkMessage(x *pipeline.Exchange, isText bool) *fieldgate.Problem {
	switch {
	case isText && !utf8.Valid(x.Body): // §3.3.2.3.2
		x.Fail(errNotUTF8)
	case bytes.HasPrefix(x.Path, []byte(fieldgate.ReplyPrefix)):
		x.Fail(errReplyTopic)
	}
	return x.Problem
}

func cloneUser(user []mqtt.Pair) userFields {
	fields := make(userFields, len(user))
	for i, pair := range user {
		fields[i] = mqtt.Pair{Key: bytes.Clone(pair.Key), Value: bytes.Clone(pair.Value)}
	}
	return fields
}

// queryOf offers user properties to the pipeline as query parameters.
func queryOf(user userFields) []byte {
	var query []byte
	for i, pair := range user {
		if i > 0 {
			query = append(query, '&')
		}
		query = append(query, percentEncoded(pair.Key)...)
		query = append(query, '=')
		query = append(query, percentEncoded(pair.Value)...)
	}
	return query
}

// percentEncoded escapes all that could end a query parameter (RFC 3986 section 2.1).
func percentEncoded(b []byte) string {
	return strings.ReplaceAll(url.QueryEscape(string(b)), "+", "%20")
}

var errNotStored = "The message could not be stored; send it again later."

// forward makes an exchange without upstream heard. answer, which may be nil, is told the outcome once it is durable; the
// exchange is finished then.
func (f *Front) forward(x *pipeline.Exchange, properties []byte, expires time.Time, answer func(*fieldgate.Problem)) {
	message, problem := f.pipeline.Message(x)
	if problem != nil {
		x.Fail(problem)
		f.pipeline.Finish(x)
		if answer != nil {
			answer(problem)
		}
		return
	}
	message.Properties, message.Expires = properties, expires
	x.Body = nil
	x.Answer.Status = 204
	if answer == nil {
		f.pipeline.Broker.Publish(message, nil)
		f.pipeline.Finish(x)
		return
	}
	f.pipeline.Broker.Publish(message, func(err error) {
		var problem *fieldgate.Problem
		if err != nil {
			problem = &fieldgate.Problem{Code: fieldgate.ProblemNotDurable, Detail: errNotStored, Cause: err}
			x.Fail(problem)
		}
		f.pipeline.Finish(x)
		answer(problem)
	})
}

// acknowledgeWith answers a QoS 1 or 2 PUBLISH. A 3.1.1 client cannot be told of a refusal: its message is acknowledged
// and dropped, unless it was not refused but failed, so that sending it again may help; then the connection ends without
// an acknowledgement.
func (c *connection) acknowledgeWith(id uint16, problem *fieldgate.Problem) {
	switch {
	case problem == nil:
		c.acknowledge(id, mqtt.Success, "")
	case c.mqtt.Version() == mqtt.V5:
		c.acknowledge(id, reasonOf(problem.Code), problem.Detail)
	case hasFailed(problem.Code):
		c.mu.Lock()
		c.end(mqtt.ServerUnavailable)
		c.mu.Unlock()
	default:
		c.acknowledge(id, mqtt.Success, "")
	}
}

// hasFailed says of a problem that nobody refused the message: it could not be taken now.
func hasFailed(code fieldgate.ProblemCode) bool {
	switch code {
	case fieldgate.ProblemNotDurable, fieldgate.ProblemOverloaded, fieldgate.ProblemUpstreamUnreachable, fieldgate.ProblemUpstreamTimeout:
		return true
	}
	return false
}

// deny answers a PUBLISH that the pipeline refused, and records it. At QoS 0 there is no answer but the Record.
func (x *publishing) deny(problem *fieldgate.Problem) {
	c := x.connection
	c.front.Counters.Denied.Add(1)
	c.attribute(&x.Exchange)
	if x.responseTopic != "" && c.front.pipeline.ReplyTopic(c.caller, x.responseTopic) == nil {
		x.reply(problem)
	}
	if x.QoS > 0 {
		c.acknowledgeWith(x.id, problem)
	}
	c.front.pipeline.Finish(&x.Exchange)
	x.release()
}

// call lets an upstream answer, without holding up the connection's reading: a PUBLISH that wants no reply waits for the
// one before it, so that messages keep their order [MQTT-4.6.0-5]; requests run side by side. When too many run, the
// connection is not read.
func (c *connection) call(x *publishing) {
	if x.responseTopic != "" {
		select {
		case c.requests <- struct{}{}:
		default:
			c.pause(func() { c.requests <- struct{}{} })
		}
		c.front.running.Go(func() {
			defer func() { <-c.requests }()
			x.forward()
		})
		return
	}
	select {
	case c.calls <- x:
	default:
		c.pause(func() { c.calls <- x })
	}
	if c.calling.CompareAndSwap(false, true) {
		c.front.running.Go(c.runCalls)
	}
}

func (c *connection) runCalls() {
	for {
		select {
		case x := <-c.calls:
			x.forward()
		default:
			c.calling.Store(false)
			if len(c.calls) == 0 || !c.calling.CompareAndSwap(false, true) {
				return
			}
		}
	}
}

func (x *publishing) forward() {
	c := x.connection
	f := c.front
	f.workers <- struct{}{}
	problem := f.pipeline.Forward(f.ctx, &x.Exchange)
	<-f.workers
	if x.responseTopic != "" {
		x.reply(problem)
		if x.QoS > 0 {
			c.acknowledge(x.id, mqtt.Success, "") // the reply says the rest
		}
	} else {
		if status := x.Answer.Status; problem == nil && status >= 300 {
			problem = &fieldgate.Problem{Code: codeOf(status), Detail: "The service answered with status " + strconv.Itoa(status) + "."}
		}
		if problem != nil {
			f.Counters.Denied.Add(1)
		}
		if x.QoS > 0 {
			c.acknowledgeWith(x.id, problem)
		}
	}
	f.pipeline.Finish(&x.Exchange)
	x.release()
}

// maxReplyField bounds a field of an upstream's answer that becomes a user property, in bytes.
const maxReplyField = 1024

// reply publishes the exchange's answer on its response topic: status, location, etag and max-age as user properties, the
// body as payload (problem details where it failed).
func (x *publishing) reply(problem *fieldgate.Problem) {
	f := x.connection.front
	var p mqtt.Properties
	if x.correlation != nil {
		p.SetText(mqtt.CorrelationData, x.correlation) // §4.10.1
	}
	message := &broker.Message{Topic: x.responseTopic, QoS: 1, Time: time.Now()}
	p.AddUser("status", strconv.Itoa(x.Status()))
	if problem != nil {
		message.ContentType = fieldgate.ProblemMediaType
		message.Payload = problem.AppendJSON(nil, f.pipeline.Instance(&x.Exchange))
		if problem.RetryAfter > 0 {
			p.AddUser("retry-after", strconv.Itoa(int((problem.RetryAfter+time.Second-1)/time.Second)))
		}
	} else {
		answer := &x.Answer
		message.ContentType, message.Payload = answer.ContentType, answer.Body
		addField(&p, "location", answer.Location)
		addField(&p, "etag", answer.ETag)
		if answer.MaxAge > 0 {
			p.AddUser("max-age", strconv.Itoa(int(answer.MaxAge/time.Second)))
		}
	}
	if isMediaType(x.ContentType, "application/cbor") && isJSON(message.ContentType) {
		// Who asks in CBOR is answered in it. A service whose JSON is none gets its answer through as it is.
		if body, err := schema.CBORFromJSON(nil, message.Payload, nil); err == nil {
			message.Payload, message.ContentType = body, "application/cbor"
		}
	}
	x.BytesOut = uint64(len(message.Payload))
	message.Properties = p.AppendForward(nil)
	caller := x.connection.caller
	f.route(message, &callerKey{caller.Kind, caller.ID}, nil)
}

func isMediaType(contentType []byte, name string) bool {
	kind, _, _ := bytes.Cut(contentType, []byte{';'})
	return strings.EqualFold(string(bytes.TrimSpace(kind)), name)
}

func isJSON(contentType string) bool {
	return isMediaType([]byte(contentType), "application/json") || isMediaType([]byte(contentType), fieldgate.ProblemMediaType)
}

func addField(p *mqtt.Properties, name, value string) {
	if value != "" && len(value) <= maxReplyField && utf8.ValidString(value) {
		p.AddUser(name, value)
	}
}

// reasonOf is the version 5 reason code of a problem, as PUBACK and SUBACK may say it (MQTT 5 tables 3-4 and 3-8).
func reasonOf(code fieldgate.ProblemCode) mqtt.Reason {
	switch code {
	case fieldgate.ProblemUnauthenticated, fieldgate.ProblemForbidden, fieldgate.ProblemNotOwner, fieldgate.ProblemQuarantined:
		return mqtt.NotAuthorized
	case fieldgate.ProblemNotFound, fieldgate.ProblemMethodNotAllowed, fieldgate.ProblemGone:
		return mqtt.TopicNameInvalid
	case fieldgate.ProblemRateLimited, fieldgate.ProblemOverloaded, fieldgate.ProblemNotDurable, fieldgate.ProblemTooLarge:
		return mqtt.QuotaExceeded
	case fieldgate.ProblemInvalidPayload, fieldgate.ProblemUnsupportedMedia, fieldgate.ProblemInvalidParameter, fieldgate.ProblemBadRequest:
		return mqtt.PayloadFormatInvalid
	}
	return mqtt.ImplementationSpecificError
}

// codeOf is the problem that an upstream's status stands for.
func codeOf(status int) fieldgate.ProblemCode {
	switch status {
	case 401, 403:
		return fieldgate.ProblemForbidden
	case 404, 405, 410:
		return fieldgate.ProblemNotFound
	case 400, 415, 422:
		return fieldgate.ProblemInvalidPayload
	case 413:
		return fieldgate.ProblemTooLarge
	case 429:
		return fieldgate.ProblemRateLimited
	case 503:
		return fieldgate.ProblemOverloaded
	case 502, 504: // what stands before the service does not reach it
		return fieldgate.ProblemUpstreamUnreachable
	}
	return fieldgate.ProblemUpstreamInvalid
}
