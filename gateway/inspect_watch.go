package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/capture"
	"fieldgate/protocol/mqtt"
)

// watchInterval is how often what was heard is sent.
const watchInterval = 100 * time.Millisecond

// maxWatched bounds what waits to be sent for one live subscription, in bytes of payloads and topics.
const maxWatched = fieldgate.MaxCaptured

// watches are the live subscriptions of operators that the gateway follows.
type watches struct {
	node     string
	bus      *bus.Bus
	broker   *broker.Broker
	messages *capture.Messages
	logger   *slog.Logger
	running  sync.WaitGroup

	mu   sync.Mutex
	open map[string]*watch
}

// watch is one of them. It hears messages as any other subscriber does, and leaves out what is too much.
type watch struct {
	id     string
	renew  chan bool     // its order came again; false: it is over
	filled chan struct{} // something waits

	mu      sync.Mutex
	waiting []*broker.Message
	bytes   int
	leftOut int
	second  time.Time // that taken counts messages of
	taken   int
}

// Deliver implements broker.Subscriber.
func (w *watch) Deliver(m *broker.Message, _ byte) {
	now := time.Now()
	w.mu.Lock()
	if now.Sub(w.second) >= time.Second {
		w.second, w.taken = now, 0
	}
	// What is larger than a capture holds is shown without its content, so that it takes no room.
	size := len(m.Topic)
	if len(m.Payload) <= fieldgate.MaxCaptureContent {
		size += 2 * len(m.Payload) // it may grow when it is redacted, or encoded
	}
	if w.taken == fieldgate.MaxMQTTWatchRate || w.bytes+size > maxWatched {
		w.leftOut++
	} else {
		w.waiting = append(w.waiting, m)
		w.bytes, w.taken = w.bytes+size, w.taken+1
	}
	w.mu.Unlock()
	wake(w.filled)
}

// receive follows one order.
func (s *watches) receive(ctx context.Context, data []byte) {
	var order fieldgate.MQTTWatch
	if json.Unmarshal(data, &order) != nil || !fieldgate.ValidIdentifier(order.ID) || !mqtt.ValidFilter([]byte(order.Filter)) || len(order.Filter) > fieldgate.MaxPathBytes {
		s.logger.Warn("an order to watch messages is malformed", "bytes", len(data))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.open[order.ID]
	switch {
	case ctx.Err() != nil:
	case w != nil:
		select {
		case w.renew <- !order.Over:
		default: // it is told already
		}
	case order.Over:
	case len(s.open) >= fieldgate.MaxMQTTWatches:
		s.logger.Warn("too many operators watch messages at once: one sees none of this gateway", "watch", order.ID)
	default:
		w = &watch{id: order.ID, renew: make(chan bool, 4), filled: make(chan struct{}, 1)}
		s.open[order.ID] = w
		s.running.Go(func() { s.follow(ctx, w, order.Filter) })
	}
}

// follow sends what a live subscription hears until nobody looks any more.
func (s *watches) follow(ctx context.Context, w *watch, filter string) {
	defer func() {
		s.mu.Lock()
		delete(s.open, w.id)
		s.mu.Unlock()
	}()
	defer s.broker.Overhear(filter, w)()
	s.send(w) // says that this gateway listens
	lease := time.NewTimer(fieldgate.MQTTWatchLease)
	defer lease.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-lease.C:
			return
		case again := <-w.renew:
			if !again {
				return
			}
			lease.Reset(fieldgate.MQTTWatchLease)
			s.send(w)
		case <-w.filled:
			s.send(w)
			select { // more is sent together
			case <-ctx.Done():
				return
			case <-time.After(watchInterval):
			}
		}
	}
}

// send tells what was heard; with nothing in it, that the gateway listens.
func (s *watches) send(w *watch) {
	w.mu.Lock()
	messages, leftOut := w.waiting, w.leftOut
	w.waiting, w.bytes, w.leftOut = nil, 0, 0
	w.mu.Unlock()
	heard := fieldgate.MQTTHeard{Node: s.node, LeftOut: leftOut}
	for _, m := range messages {
		view := fieldgate.MQTTHeardMessage{MQTTMessage: capture.View(m), Content: s.messages.Content(m)}
		if !s.messages.MayName(m.Topic) {
			view.Topic = ""
		}
		heard.Messages = append(heard.Messages, view)
	}
	encoded, err := json.Marshal(&heard)
	if err == nil {
		err = s.bus.Publish(fieldgate.SubjectMQTTHeard+w.id, encoded)
	}
	if err != nil {
		s.logger.Warn("messages that an operator watches were not sent", "watch", w.id, "messages", len(messages), "error", err)
	}
}
