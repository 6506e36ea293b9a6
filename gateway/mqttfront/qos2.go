package mqttfront

import (
	"time"

	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttstore"
	"fieldgate/protocol/mqtt"
)

// A QoS 2 message of or for a session in the store comes exactly once, also over a kill of the process (MQTT 5 section 4.3.3). So its
// publisher's identifier is on disk before PUBREC, and gone from there before PUBCOMP; nobody hears the message before the former, for it
// would be published again. The same for those whom it is for: PUBLISH, PUBREL and the next use of the identifier wait for the disk.

// received names a QoS 2 message of a session in the store; zero if there is nothing to remember of it.
func (c *connection) received(qos byte, id uint16) mqttstore.Received {
	if qos < 2 {
		return mqttstore.Received{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.number == 0 {
		return mqttstore.Received{}
	}
	return mqttstore.Received{Session: c.session.number, ID: id}
}

// reception publishes one message that is to be remembered as received.
type reception struct {
	*batch
	received mqttstore.Received
}

// Publish implements broker.Sessions.
func (r reception) Publish(m *broker.Message, acknowledged func(error)) {
	r.front.route(m, r.received, acknowledged, r.batch)
}

// receiveReleased completes a message from the client after its PUBREL.
func (c *connection) receiveReleased(id uint16) {
	received := c.received(2, id)
	complete := func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil {
			c.end(mqtt.ServerUnavailable)
			return
		}
		c.mqtt.Complete(id)
		c.flushLater()
	}
	if received.Session == 0 { // it has just ended
		complete(nil)
		return
	}
	c.front().store.Release(received, complete)
}

// deliveryReceived releases a message to the client after its PUBREC.
func (c *connection) deliveryReceived(token uint64, expires time.Time) {
	s := c.session
	s.mu.Lock()
	number := s.number
	s.mu.Unlock()
	if number == 0 {
		return // it has just ended
	}
	c.front().store.Delivered(number, token, expires, func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		current := c
		if s.conn != nil {
			current = s.conn
		}
		if err != nil {
			current.end(mqtt.ServerUnavailable)
			return
		}
		current.mqtt.Release(token)
		current.flushLater()
	})
}

// forgetDelivery has the store forget a QoS 2 delivery that was completed, or that the client does not get. s is locked.
func (f *Front) forgetDelivery(s *session, d *mqtt.Delivery, fate mqtt.Fate) {
	token := d.Token
	forgotten := func(err error) {
		if err != nil {
			return // after a restart it will be there again
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.conn == nil {
			s.state.Forgotten(token)
			return
		}
		s.conn.mqtt.Forgotten(token, time.Now())
		s.conn.flushLater()
	}
	if fate == mqtt.Delivered {
		f.store.Complete(s.number, token, forgotten)
	} else {
		f.store.Discard(s.number, token, d.Message.Expires, forgotten)
	}
}

// waiting copies those receivers of a message that wait for the disk, or will read it from there.
func (found *matching) waiting(m *broker.Message) (receivers []receiver) {
	var message *mqtt.Message
	for i := range found.receivers {
		r := &found.receivers[i]
		if r.place == nowhere || !r.later && r.place != inStore {
			continue
		}
		if r.later && message == nil {
			message = encodeMessage(m)
		}
		receivers = append(receivers, *r)
		receivers[len(receivers)-1].Message = message
	}
	return receivers
}

// whenStored makes what is called when the store has a message, or has refused it, for those receivers whom that concerns: some have waited
// for it, others read it from there.
func (f *Front) whenStored(receivers []receiver, m *broker.Message, acknowledged func(error)) func(error) {
	size, apart := len(m.Topic)+len(m.Payload)+len(m.Properties), m.Apart()
	return func(err error) {
		if err != nil {
			// Not here: whoever publishes may be refused at once, with locks held.
			f.running.Go(func() {
				for i := range receivers {
					receivers[i].takeBack(size)
				}
			})
		} else {
			f.order.Lock()
			//lint:ignore SA2001 whoever publishes holds it until the receivers have the message's number
			f.order.Unlock()
			b := f.newBatch()
			for i := range receivers {
				if receivers[i].later {
					f.deliver(&receivers[i], apart, b)
				}
			}
			b.leave()
		}
		if acknowledged != nil {
			acknowledged(err)
		}
	}
}

// takeBack notes that a message of this size does not wait for its receiver after all.
func (r *receiver) takeBack(size int) {
	if r.place != inMemory && r.place != inStore {
		return
	}
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting.gone(size)
	if r.place == inMemory {
		s.waiting.transit--
	}
}

// queueRetained has the store keep those retained messages that a session in it gets at QoS 2, among the others that wait for the session, and
// gives the rest. order and s are locked.
func (f *Front) queueRetained(s *session, b *backlog, messages []*broker.Message) (rest []*broker.Message) {
	for _, m := range messages {
		if m.QoS < 2 {
			rest = append(rest, m)
			continue
		}
		if hears, _ := f.hears(s, []byte(m.Topic), nil); !hears { // how much it sees is asked when it is handed out
			continue
		}
		queued := *m
		queued.Retain = false // it is already
		to := mqttstore.Recipient{Session: s.number, QoS: 2, Retain: true}
		if b.options.ID != 0 {
			to.SubscriptionIDs = []uint32{b.options.ID}
		}
		size := len(m.Topic) + len(m.Payload) + len(m.Properties)
		s.waiting.messages++
		s.waiting.bytes += size
		s.waiting.newest = f.store.Publish(&queued, []mqttstore.Recipient{to}, mqttstore.Received{}, f.whenStored([]receiver{{session: s, place: inStore}}, &queued, nil))
		f.Counters.Delivered.Add(1)
	}
	return rest
}
