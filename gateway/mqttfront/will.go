package mqttfront

import (
	"context"
	"time"

	"fieldgate"
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
	connection  *connection
}

func (c *connection) newWill(p *mqtt.Connect) *will {
	publish := p.Will()
	w := &will{
		delay:      p.WillProperties.Number(mqtt.WillDelayInterval),
		expiry:     time.Duration(p.WillProperties.Number(mqtt.MessageExpiryInterval)) * time.Second,
		caller:     c.caller,
		connection: c,
		isText:     p.WillProperties.Number(mqtt.PayloadFormatIndicator) == 1,
	}
	w.contentType = append(w.contentType, p.WillProperties.Text(mqtt.ContentType)...)
	publish.Properties.Delete(mqtt.MessageExpiryInterval)
	w.message = mqtt.NewMessage(&publish, time.Time{})
	return w
}

func (w *will) exchange() *pipeline.Exchange {
	return &pipeline.Exchange{
		Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodPublish, Source: w.connection.source, Caller: w.caller,
		ClientID: w.connection.client, Path: w.message.Topic, ContentType: w.contentType, QoS: w.message.QoS, Retain: w.message.Retain,
	}
}

// checkWill asks at CONNECT whether the will may be published: a client learns at once, not when it is gone. A refusal
// leaves a Record, consent does not: nothing has been published.
func (c *connection) checkWill(w *will) *fieldgate.Problem {
	x := w.exchange()
	problem := c.front.pass(x, w)
	if problem != nil {
		c.attribute(x)
		c.front.pipeline.Finish(x)
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
	return checkMessage(x, w.isText)
}

// delayWill gives the will of an absent client if it is due at once, or sees to it that it will be. f and s are locked.
func (f *Front) delayWill(s *session) *will {
	w := s.will
	if w == nil || w.delay == 0 {
		s.will = nil
		return w
	}
	if w.delay >= s.expiry {
		return nil // due with the session's end
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Duration(w.delay)*time.Second, func() {
		stopping := f.isStopping()
		s.mu.Lock()
		due := !stopping && s.will == w && s.conn == nil && s.willTimer == timer
		if due {
			s.will = nil
		}
		s.mu.Unlock()
		if due {
			f.publishWill(w)
		}
	})
	s.willTimer = timer
	return nil
}

// publishWill publishes a will that is due; it passes the whole pipeline again, for its sender may have been refused since.
func (f *Front) publishWill(w *will) {
	if w == nil {
		return
	}
	x := w.exchange()
	if problem := f.pass(x, w); problem != nil {
		f.pipeline.Finish(x)
		return
	}
	if !x.Operation.Calls() {
		properties := w.message.Forward
		var expires time.Time
		if w.expiry > 0 {
			expires = time.Now().Add(w.expiry)
		}
		f.forward(x, properties, expires, nil)
		return
	}
	f.running.Go(func() {
		f.workers <- struct{}{}
		defer func() { <-f.workers }()
		f.pipeline.Forward(context.WithoutCancel(f.ctx), x)
		f.pipeline.Finish(x)
	})
}
