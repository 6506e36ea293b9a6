package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/capture"
	"fieldgate/gateway/mqttfront"
	"fieldgate/protocol/mqtt"
)

// inspection answers what operators ask about MQTT, and follows their live subscriptions. Traffic does not wait for it: it looks at
// sessions a few at a time, hears messages as any other subscriber does, and answers one question after the other.
type inspection struct {
	node     string
	bus      *bus.Bus
	broker   *broker.Broker
	sessions *mqttfront.Front
	messages *capture.Messages
	topics   topics
	watches  watches
}

func newInspection(node string, b *bus.Bus, messages *broker.Broker, sessions *mqttfront.Front, shown *capture.Messages, logger *slog.Logger) *inspection {
	i := &inspection{node: node, bus: b, broker: messages, sessions: sessions, messages: shown}
	i.topics = topics{broker: messages, retained: sessions.RetainedAfter, mayName: shown.MayName}
	i.watches = watches{node: node, bus: b, broker: messages, messages: shown, logger: logger, open: make(map[string]*watch)}
	return i
}

// run answers until the context ends.
func (i *inspection) run(ctx context.Context) error {
	stop, err := i.bus.Serve(fieldgate.SubjectMQTT+i.node, i.serve)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	defer stop()
	stopWatching, err := i.bus.Subscribe(fieldgate.SubjectMQTTWatch, func(_ string, data []byte) { i.watches.receive(ctx, data) })
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	<-ctx.Done()
	stopWatching()
	i.topics.stop()
	i.watches.running.Wait()
	return nil
}

var errQuestion = errors.New("malformed question about MQTT")

func (i *inspection) serve(question []byte) (bus.Answer, error) {
	var asked fieldgate.MQTTQuestion
	if json.Unmarshal(question, &asked) != nil {
		return bus.Answer{}, errQuestion
	}
	answer, err := i.answer(&asked)
	if err != nil {
		return bus.Answer{}, err
	}
	encoded, err := json.Marshal(answer)
	return bus.Answer{Data: encoded}, err
}

func (i *inspection) answer(asked *fieldgate.MQTTQuestion) (answer fieldgate.MQTTAnswer, err error) {
	switch {
	case asked.Sessions != nil:
		answer.Sessions, answer.More = i.listSessions(asked.Sessions)
	case asked.Session != nil:
		if s := i.sessions.Session(asked.Session); s != nil {
			answer.Sessions = []fieldgate.MQTTSession{*s}
		}
	case asked.Disconnect != nil:
		answer.Done = i.sessions.Disconnect(asked.Disconnect)
	case asked.End != nil:
		answer.Done = i.sessions.End(asked.End)
	case asked.Topics != nil:
		answer, err = i.topics.list(asked.Topics, time.Now())
	case asked.Retained != nil && mqtt.ValidFilter([]byte(asked.Retained.Filter)):
		answer.Retained, answer.More, err = i.listRetained(asked.Retained)
	case mqtt.ValidTopic([]byte(asked.Message)):
		err = i.broker.Retained(asked.Message, func(m *broker.Message) bool {
			content := i.messages.Content(m)
			answer.Retained = []fieldgate.MQTTRetained{{MQTTMessage: capture.View(m), Expires: m.Expires, Content: &content}}
			return false
		})
	case mqtt.ValidTopic([]byte(asked.DeleteRetained)):
		answer.Done, err = i.deleteRetained(asked.DeleteRetained)
	default:
		err = errQuestion
	}
	return answer, err
}

func (i *inspection) listSessions(asked *fieldgate.MQTTSessionsQuestion) ([]fieldgate.MQTTSession, bool) {
	p := newPage[fieldgate.MQTTSession](asked.Limit)
	i.sessions.Sessions(asked.Terms, func(key *fieldgate.MQTTSessionKey) bool {
		order := key.Order()
		return order > asked.After && p.fits(order)
	}, func(s *fieldgate.MQTTSession) { p.add(s.Order(), *s) })
	return p.entries()
}

func (i *inspection) listRetained(asked *fieldgate.MQTTRetainedQuestion) (list []fieldgate.MQTTRetained, more bool, err error) {
	p := newPage[fieldgate.MQTTRetained](asked.Limit)
	err = i.sessions.RetainedAfter(asked.Filter, asked.After, func(m *broker.Message) bool {
		order := fieldgate.TopicOrder(m.Topic)
		if !p.fits(order) {
			return false // they come in order
		}
		if i.messages.MayName(m.Topic) {
			p.add(order, fieldgate.MQTTRetained{MQTTMessage: capture.View(m), Expires: m.Expires})
		}
		return true
	})
	list, more = p.entries()
	return list, more, err
}

// deleteRetained does what a publisher does who wants no retained message any more: it publishes an empty one, which subscribers hear,
// too (MQTT 5 section 3.3.1.3). It says whether there was one once that is on disk.
func (i *inspection) deleteRetained(topic string) (there bool, err error) {
	err = i.broker.Retained(topic, func(*broker.Message) bool {
		there = true
		return false
	})
	if !there {
		return false, err
	}
	done := make(chan error, 1)
	i.broker.Publish(&broker.Message{Topic: topic, QoS: 1, Retain: true, Time: time.Now()}, func(err error) { done <- err })
	select {
	case err = <-done:
	case <-time.After(fieldgate.MQTTAnswerTimeout):
		err = errors.New("the disk takes too long")
	}
	if err != nil {
		return false, fmt.Errorf("the retained message could not be deleted: %w", err)
	}
	return true, nil
}
