package mqttfront

import (
	"context"
	"net/netip"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/gateway/mqttstore"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// will is the message that a client leaves for the case that it goes without a word.
type will struct {
	message     *mqtt.Message // Expires is not set: the time counts from its publication
	isText      bool          // its payload format indicator says UTF-8
	contentType []byte
	expiry      time.Duration // 0: none
	delay       uint32        // seconds
	caller      *pipeline.Caller
	source      netip.AddrPort
	client      string
}

func (c *connection) newWill(p *mqtt.Connect) *will {
	publish := p.Will()
	w := &will{
		delay:  p.WillProperties.Number(mqtt.WillDelayInterval),
		expiry: time.Duration(p.WillProperties.Number(mqtt.MessageExpiryInterval)) * time.Second,
		caller: c.caller, source: c.source, client: c.client,
		isText: p.WillProperties.Number(mqtt.PayloadFormatIndicator) == 1,
	}
	w.contentType = append(w.contentType, p.WillProperties.Text(mqtt.ContentType)...)
	publish.Properties.Delete(mqtt.MessageExpiryInterval)
	w.message = mqtt.NewMessage(&publish, time.Time{})
	return w
}

// record is the will as the store keeps it.
func (w *will) record() *mqttstore.Will {
	return &mqttstore.Will{
		Message: broker.Message{Topic: string(w.message.Topic), Payload: w.message.Payload, ContentType: string(w.contentType),
			Properties: w.message.Forward, QoS: w.message.QoS, Retain: w.message.Retain, Client: w.client},
		Delay: w.delay, Expiry: w.expiry, IsText: w.isText, Credential: w.caller.Mark(),
	}
}

// restoreWill is the will of a session that was read back. Its sender is asked about when it is published, as always.
func (f *Front) restoreWill(s *session, r *mqttstore.Will) *will {
	m := &r.Message
	sender := s.key.caller.principal()
	caller := &pipeline.Caller{Kind: sender.Kind, ID: sender.ID, Hash: r.Credential,
		Ref: f.pipeline.Directory.Holder(sender.Kind, sender.ID, &r.Credential)}
	if s.key.caller.kind == onRampKind {
		caller.OnRamp, caller.Hash = f.onRamp(), fieldgate.CredentialHash{}
	}
	if user := f.onRamp().Recall(f.pipeline, sender.ID, r.Credential); user != nil {
		caller = user
	}
	return &will{
		message: &mqtt.Message{Topic: []byte(m.Topic), Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Forward: m.Properties},
		isText:  r.IsText, contentType: []byte(m.ContentType), expiry: r.Expiry, delay: r.Delay, caller: caller, client: m.Client,
	}
}

func (w *will) exchange() *pipeline.Exchange {
	return &pipeline.Exchange{
		Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodPublish, Source: w.source, Caller: w.caller,
		ClientID: w.client, Path: w.message.Topic, ContentType: w.contentType, QoS: w.message.QoS, Retain: w.message.Retain,
	}
}

// checkWill asks at CONNECT whether the will may be published: a client learns at once, not when it is gone. A refusal
// leaves a Record, consent does not: nothing has been published.
func (c *connection) checkWill(w *will) *fieldgate.Problem {
	x := w.exchange()
	problem := c.front().pass(x, w)
	if problem != nil {
		c.front().pipeline.Attribute(x)
		c.front().pipeline.Finish(x)
	}
	return problem
}

// pass takes the will through the stages before it goes anywhere.
func (f *Front) pass(x *pipeline.Exchange, w *will) *fieldgate.Problem {
	if problem := f.pipeline.Begin(x); problem != nil {
		return problem
	}
	x.Body = w.message.Payload
	if problem := f.pipeline.Check(x); problem != nil {
		return problem
	}
	return mqttexchange.CheckMessage(x, w.isText)
}

// delayWill gives the will of a client that has been absent for so long if it is due, or sees to it that it will be. f and s are locked.
func (f *Front) delayWill(s *session, absent time.Duration) *will {
	w := s.will
	if w == nil {
		return nil
	}
	left := time.Duration(w.delay)*time.Second - absent
	if left <= 0 {
		s.will = nil
		return w
	}
	if w.delay >= s.expiry {
		return nil // due with the session's end
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		stopping := f.isStopping()
		s.mu.Lock()
		due := !stopping && s.will == w && s.conn == nil && s.had().willTimer == timer
		if due {
			s.will = nil
			f.saveAway(s)
		}
		s.mu.Unlock()
		if due {
			f.publishWill(w)
		}
	})
	s.more().willTimer = timer
	return nil
}

// publishWill publishes a will that is due; it passes the whole pipeline again, for its sender may have been refused since.
func (f *Front) publishWill(w *will) {
	if w == nil {
		return
	}
	x := w.exchange()
	if problem := f.pass(x, w); problem != nil {
		f.Counters.Denied.Add(problem.Code)
		f.pipeline.Finish(x)
		return
	}
	if !x.Operation.Calls() {
		properties := w.message.Forward
		var expires time.Time
		if w.expiry > 0 {
			expires = time.Now().Add(w.expiry)
		}
		b := f.newBatch()
		f.forward(x, properties, expires, b, mqttstore.Received{}, nil)
		b.end()
		return
	}
	f.running.Go(func() {
		f.workers <- struct{}{}
		defer func() { <-f.workers }()
		f.pipeline.Forward(context.WithoutCancel(f.ctx), x)
		f.pipeline.Finish(x)
	})
}
