package httpfront

import (
	"slices"
	"sync"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/tunnel"
)

// Bounds of what waits for one subscriber. A subscriber that is slower loses the newest messages, which is recorded. Retained messages are
// not among them: they are read as it takes them, so that a topic filter may match millions.
const (
	maxQueued      = 256
	maxQueuedBytes = 1 << 20

	retainedStep      = 64        // retained messages that are read at a time
	retainedStepBytes = 256 << 10 // of these
)

// queue is a subscriber's messages on their way.
type queue struct {
	front  *Front
	stream *stream
	ready  chan struct{} // holds one token while there is something to take

	mu       sync.Mutex
	hearing  *pipeline.Hearing
	messages []*broker.Message
	bytes    int
	dropped  uint64
	problem  *fieldgate.Problem // why there is nothing to hear any more; nil: there is
	tunnel   *tunnel.Tunnel     // is woken instead of ready, if there is one

	backlog broker.RetainedReader // nil: all retained messages were read
	page    []*broker.Message     // read, and not taken
	reading bool
	newer   []string // topics of retained messages that came while older ones were being read
}

func newQueue(f *Front, hearing *pipeline.Hearing) *queue {
	return &queue{front: f, hearing: hearing, ready: make(chan struct{}, 1)}
}

// Deliver implements broker.Subscriber.
func (q *queue) Deliver(message *broker.Message, _ byte) {
	q.mu.Lock()
	if message.Retain && q.backlog != nil {
		q.overtaken(message.Topic)
	}
	message = q.hearing.See(message)
	switch {
	case message == nil:
		q.mu.Unlock()
		return
	case len(q.messages) >= maxQueued || q.bytes+len(message.Payload) > maxQueuedBytes:
		q.dropped++
		q.mu.Unlock()
		return
	}
	q.messages = append(q.messages, message)
	q.bytes += len(message.Payload)
	first, reader := len(q.messages) == 1, q.tunnel
	q.mu.Unlock()
	if reader == nil || first { // otherwise it knows
		q.wake(reader)
	}
}

// End implements pipeline.Ender: the stream ends, and says why.
func (q *queue) End(problem *fieldgate.Problem) {
	q.mu.Lock()
	q.problem = problem
	q.mu.Unlock()
	q.front.endStream(q.stream, problem.Title())
}

// why the stream was ended; nil: not by End.
func (q *queue) why() *fieldgate.Problem {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.problem
}

func (q *queue) wake(reader *tunnel.Tunnel) {
	if reader != nil {
		reader.Wake()
		return
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// overtaken notes that a retained message has come: an older one of its topic must not come behind it. q is locked.
func (q *queue) overtaken(topic string) {
	q.page = slices.DeleteFunc(q.page, func(m *broker.Message) bool { return m.Topic == topic })
	if q.reading {
		q.newer = append(q.newer, topic)
	}
}

// begin has retained messages read, for a subscription that is made.
func (q *queue) begin(backlog broker.RetainedReader) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.backlog = backlog
	q.read()
}

// end stops that.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.backlog, q.page = nil, nil
}

// read has the next retained messages read if none wait to be taken. q is locked.
func (q *queue) read() {
	if q.backlog == nil || q.reading || len(q.page) > 0 {
		return
	}
	q.reading, q.newer = q.front.begin(q.readRetained), nil
}

// readRetained reads until there are some, or no more.
func (q *queue) readRetained() {
	q.mu.Lock()
	for q.backlog != nil && len(q.page) == 0 {
		backlog := q.backlog
		q.mu.Unlock()
		messages, err := backlog.Next(q.front.context, retainedStep, retainedStepBytes)
		q.mu.Lock()
		if q.backlog == nil { // the subscriber has gone
			break
		}
		for _, m := range messages {
			if slices.Contains(q.newer, m.Topic) {
				continue
			}
			if m = q.hearing.See(m); m != nil {
				q.page = append(q.page, m)
			}
		}
		q.newer = nil
		if err != nil {
			q.dropped++
			q.front.logger.Error("retained messages cannot be read", "error", err)
		}
		if err != nil || backlog.Ended() {
			q.backlog = nil
		}
	}
	q.reading = false
	some, reader := len(q.page) > 0, q.tunnel
	q.mu.Unlock()
	if some {
		q.wake(reader)
	}
}

// take empties the queue into into, and has the next retained messages read: the subscriber has taken what came before.
func (q *queue) take(into []*broker.Message) []*broker.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	into = append(append(into[:0], q.page...), q.messages...)
	q.page = nil
	clear(q.messages)
	q.messages, q.bytes = q.messages[:0], 0
	q.read()
	return into
}

// lost reports whether the subscriber missed messages.
func (q *queue) lost() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped > 0
}

// begin has a function run beside the connections, unless the front drains.
func (f *Front) begin(do func()) bool {
	f.besideMu.Lock()
	defer f.besideMu.Unlock()
	if f.draining.Load() {
		return false
	}
	f.beside.Go(do)
	return true
}
