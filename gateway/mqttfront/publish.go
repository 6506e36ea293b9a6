package mqttfront

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/gateway/mqttstore"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// publishing is a PUBLISH on its way through the pipeline.
type publishing struct {
	pipeline.Exchange
	connection    *connection
	id            uint16
	topic         []byte
	properties    []byte // of a QoS 0 message
	responseTopic string
	correlation   []byte
}

// publish takes a PUBLISH through the pipeline. What does not call an upstream is done when it returns, but for the disk.
func (c *connection) publish(p *mqtt.Publish, now time.Time) {
	f := c.front()
	f.Counters.Published.Add(1)
	n := c.need()
	if n.publisher == nil {
		n.publisher = new(publisher)
	}
	x := publishings.Get().(*publishing)
	x.connection, x.id = c, p.PacketID
	x.topic = append(x.topic[:0], p.Topic...) // parameters are views of it
	x.Protocol, x.Method, x.Source, x.Caller, x.ClientID = fieldgate.ProtocolMQTT, fieldgate.MethodPublish, c.source, c.caller, c.client
	x.Path, x.QoS, x.Retain, x.Started, x.Grants = x.topic, p.QoS, p.Retain, now, &n.publisher.grants
	if p.QoS == 0 { // the others may end in another goroutine
		x.Place = &n.publisher.place
	}
	x.ContentType = bytes.Clone(p.Properties.Text(mqtt.ContentType))
	if p.Properties.Has(mqtt.ResponseTopic) {
		x.responseTopic = string(p.Properties.Text(mqtt.ResponseTopic))
		x.correlation = bytes.Clone(p.Properties.Text(mqtt.CorrelationData))
	}

	problem := mqttexchange.Ask(f.pipeline, &x.Exchange, p)
	if problem == nil && x.responseTopic != "" && x.Operation.Calls() {
		if problem = f.pipeline.ReplyTopic(c.caller, x.responseTopic); problem != nil {
			x.Fail(problem)
		}
	}
	switch {
	case problem != nil:
		x.deny(problem)
	case x.Operation.Calls():
		x.Body = bytes.Clone(p.Payload)
		c.call(x)
	case x.Answered(): // it was heard before
		f.pipeline.Finish(&x.Exchange)
		if p.QoS > 0 {
			c.acknowledge(x.id, mqtt.Success, "")
		}
		x.release()
	default:
		var expires time.Time
		if p.Properties.Has(mqtt.MessageExpiryInterval) {
			expires = now.Add(time.Duration(p.Properties.Number(mqtt.MessageExpiryInterval)) * time.Second)
		}
		if p.QoS == 0 {
			x.properties = p.Properties.AppendForward(x.properties[:0])
			f.forward(&x.Exchange, x.properties, expires, c.batch, mqttstore.Received{}, nil)
			x.release()
			return
		}
		f.forward(&x.Exchange, p.Properties.AppendForward(nil), expires, c.batch, c.received(p.QoS, x.id), func(problem *fieldgate.Problem) {
			c.acknowledgeWith(x.id, problem)
			x.release()
		})
	}
}

var publishings = sync.Pool{New: func() any { return new(publishing) }}

// release gives the memory back; the exchange is finished and nobody looks at it any more.
func (x *publishing) release() {
	*x = publishing{topic: x.topic, properties: x.properties}
	publishings.Put(x)
}

// notStored is the problem that the refusal of a message by the store, or the backbone, is; nil: it took it.
func notStored(err error) *fieldgate.Problem {
	var problem *fieldgate.Problem
	switch {
	case err == nil:
		return nil
	case errors.As(err, &problem):
		return problem
	}
	return &fieldgate.Problem{Code: fieldgate.ProblemNotDurable, Detail: "The message could not be stored; send it again later.", Cause: err}
}

// forward makes an exchange without upstream heard, as part of a batch, and has the store remember that it was received. answer, which may
// be nil, is told the outcome once it is durable; the exchange is finished then.
func (f *Front) forward(x *pipeline.Exchange, properties []byte, expires time.Time, b *batch, received mqttstore.Received, answer func(*fieldgate.Problem)) {
	message := &b.message
	if x.QoS > 0 {
		message = new(broker.Message)
		x.Body = bytes.Clone(x.Body)
	}
	if problem := f.pipeline.Message(x, message); problem != nil {
		x.Fail(problem)
		f.pipeline.Finish(x)
		if answer != nil {
			answer(problem)
		}
		return
	}
	message.Properties, message.Fleeting = properties, x.QoS == 0
	if message.Expires.IsZero() || !expires.IsZero() && expires.Before(message.Expires) {
		message.Expires = expires
	}
	x.Body = nil
	x.Answer.Status = 204
	if answer == nil {
		f.publishTo(b, message, received, nil)
		f.pipeline.Finish(x)
		return
	}
	f.publishTo(b, message, received, func(err error) {
		problem := notStored(err)
		if problem != nil {
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
		c.acknowledge(id, mqttexchange.Reason(problem.Code), problem.Detail)
	case mqttexchange.HasFailed(problem.Code):
		c.drop(id, mqtt.ServerUnavailable)
	default:
		c.acknowledge(id, mqtt.Success, "")
	}
}

// deny answers a PUBLISH that the pipeline refused, and records it. At QoS 0 there is no answer but the Record.
func (x *publishing) deny(problem *fieldgate.Problem) {
	c := x.connection
	c.front().Counters.Denied.Add(problem.Code)
	c.front().pipeline.Attribute(&x.Exchange)
	if x.responseTopic != "" && c.front().pipeline.ReplyTopic(c.caller, x.responseTopic) == nil {
		x.reply(problem)
	}
	c.refuseMessage(x.QoS, x.id, problem)
	c.front().pipeline.Finish(&x.Exchange)
	x.release()
}

func (x *publishing) forward() {
	c := x.connection
	f := c.front()
	f.workers <- struct{}{}
	problem := f.pipeline.Forward(f.ctx, &x.Exchange)
	<-f.workers
	if x.responseTopic != "" {
		x.reply(problem)
		c.acknowledgeCall(x.QoS, x.id, nil) // the reply says the rest
	} else {
		if status := x.Answer.Status; problem == nil && status >= 300 {
			problem = &fieldgate.Problem{Code: codeOf(status), Detail: "The service answered with status " + strconv.Itoa(status) + "."}
		}
		if problem != nil {
			f.Counters.Denied.Add(problem.Code)
		}
		c.acknowledgeCall(x.QoS, x.id, problem)
	}
	f.pipeline.Finish(&x.Exchange)
	x.release()
}

// acknowledgeCall answers a PUBLISH that went to a service, which is not to be called again for it.
func (c *connection) acknowledgeCall(qos byte, id uint16, problem *fieldgate.Problem) {
	received := c.received(qos, id)
	switch {
	case problem != nil && !mqttexchange.HasFailed(problem.Code):
		c.refuseMessage(qos, id, problem)
	case problem == nil && received.Session != 0:
		c.front().store.Receive(received, func(err error) { c.acknowledgeWith(id, notStored(err)) })
	case qos > 0:
		c.acknowledgeWith(id, problem)
	}
}

// maxReplyField bounds a field of an upstream's answer that becomes a user property, in bytes.
const maxReplyField = 1024

// reply publishes the exchange's answer on its response topic: status, location, etag and max-age as user properties, the
// body as payload (problem details where it failed).
func (x *publishing) reply(problem *fieldgate.Problem) {
	f := x.connection.front()
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
	caller := callerOf(x.connection.caller)
	message.Answers = broker.Caller{Kind: caller.kind, ID: caller.id}
	if f.config.Backbone != nil {
		f.Publish(message, nil) // answers are not its affair
	} else {
		f.pipeline.Broker.Publish(message, nil)
	}
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
