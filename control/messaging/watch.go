package messaging

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/control/refusal"
)

const (
	maxWaiting = 1024            // messages that wait for the reader of a live subscription
	unheard    = 4 * time.Second // a gateway that says nothing for so long does not listen
)

// Watch is a live subscription over all gateways.
type Watch struct {
	messages chan Heard
	listens  chan struct{} // has a token when Listening may have changed

	mu      sync.Mutex
	leftOut int
	seen    map[string]time.Time // by node

	messaging *Messaging
	end       context.CancelFunc
	ended     chan struct{}
}

// Heard is a message, and the gateway on which it was published.
type Heard struct {
	Node string
	fieldgate.MQTTHeardMessage
}

// Watch begins a live subscription; Close ends it.
func (m *Messaging) Watch(topics string) (*Watch, error) {
	if err := CheckFilter(topics); err != nil {
		return nil, err
	}
	m.mu.Lock()
	if m.watching >= fieldgate.MaxMQTTWatches {
		m.mu.Unlock()
		return nil, &refusal.Error{Code: refusal.CodeOverloaded, Detail: fmt.Sprintf("%d live subscriptions are open, as many as there can be: end one of them.", fieldgate.MaxMQTTWatches)}
	}
	m.watching++
	m.mu.Unlock()
	ctx, end := context.WithCancel(context.Background())
	w := &Watch{messages: make(chan Heard, maxWaiting), listens: make(chan struct{}, 1), seen: make(map[string]time.Time), messaging: m, end: end, ended: make(chan struct{})}
	order := fieldgate.MQTTWatch{ID: rand.Text(), Filter: topics}
	stop, err := m.bus.Subscribe(fieldgate.SubjectMQTTHeard+order.ID, func(_ string, data []byte) { w.receive(data) })
	if err != nil {
		end()
		m.done()
		return nil, err
	}
	go w.run(ctx, order, stop)
	return w, nil
}

func (m *Messaging) done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watching--
}

// run repeats the order until the watch is closed.
func (w *Watch) run(ctx context.Context, order fieldgate.MQTTWatch, stop func()) {
	defer close(w.ended)
	defer w.messaging.done()
	defer stop()
	ticker := time.NewTicker(fieldgate.MQTTWatchInterval)
	defer ticker.Stop()
	for {
		w.send(&order)
		w.wake()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			order.Over = true
			w.send(&order)
			return
		}
	}
}

func (w *Watch) send(order *fieldgate.MQTTWatch) {
	encoded, err := json.Marshal(order)
	if err == nil {
		err = w.messaging.bus.Publish(fieldgate.SubjectMQTTWatch, encoded)
	}
	if err != nil {
		w.messaging.log.Warn("gateways were not told what an operator watches", "watch", order.ID, "error", err)
	}
}

func (w *Watch) receive(data []byte) {
	var heard fieldgate.MQTTHeard
	if err := json.Unmarshal(data, &heard); err != nil || !fieldgate.ValidIdentifier(heard.Node) {
		w.messaging.log.Warn("what a gateway heard is malformed", "bytes", len(data))
		return
	}
	w.mu.Lock()
	_, known := w.seen[heard.Node]
	w.seen[heard.Node] = time.Now()
	w.leftOut += max(heard.LeftOut, 0)
	for _, m := range heard.Messages {
		select {
		case w.messages <- Heard{heard.Node, m}:
		default:
			w.leftOut++
		}
	}
	w.mu.Unlock()
	if !known {
		w.wake()
	}
}

func (w *Watch) wake() {
	select {
	case w.listens <- struct{}{}:
	default:
	}
}

// Messages are those that are published, in the order in which they come from each gateway.
func (w *Watch) Messages() <-chan Heard { return w.messages }

// Changed has something when Listening may have changed.
func (w *Watch) Changed() <-chan struct{} { return w.listens }

// Listening is which gateways listen, and which should but are not heard.
func (w *Watch) Listening() (nodes, missing []string) {
	gateways := w.messaging.gateways()
	w.mu.Lock()
	defer w.mu.Unlock()
	nodes, missing = []string{}, slices.Clone(gateways.Silent)
	for _, node := range gateways.Present {
		if time.Since(w.seen[node]) < unheard {
			nodes = append(nodes, node)
		} else {
			missing = append(missing, node)
		}
	}
	slices.Sort(missing)
	return nodes, missing
}

// LeftOut is how many messages were not given since it was asked last.
func (w *Watch) LeftOut() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.leftOut
	w.leftOut = 0
	return n
}

// Close ends the live subscription and returns when that is done.
func (w *Watch) Close() {
	w.end()
	<-w.ended
}
