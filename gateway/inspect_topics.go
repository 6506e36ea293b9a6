package gateway

import (
	"strings"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
)

// countInterval is the time over which messages are counted at least; rates are those of one to two of them.
const countInterval = 5 * time.Second

// topics counts messages by topic while somebody looks at the tree of topics; then it is a subscriber like any other. Nobody pays for it
// otherwise.
type topics struct {
	broker   *broker.Broker
	retained func(filter, after string, visit func(*broker.Message) bool) error
	mayName  func(topic string) bool

	mu          sync.Mutex
	unsubscribe func() // nil: nothing is counted
	idle        *time.Timer
	counts      map[string]*count
	others      count     // of messages on topics that counts has no room for
	began       time.Time // of the interval that is being counted
	before      time.Time // when the one before it began; zero: there was none
}

// count is the messages of one topic.
type count struct{ now, before int }

// Deliver implements broker.Subscriber.
func (t *topics) Deliver(m *broker.Message, _ byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unsubscribe == nil {
		return
	}
	c := t.counts[m.Topic]
	switch {
	case c != nil:
		c.now++
	case len(t.counts) >= fieldgate.MaxMQTTTopics:
		t.others.now++
	default:
		t.counts[m.Topic] = &count{now: 1}
	}
}

// look goes on counting for a while. t is locked.
func (t *topics) look(now time.Time) {
	if t.unsubscribe == nil {
		t.counts, t.others, t.began, t.before = make(map[string]*count), count{}, now, time.Time{}
		t.unsubscribe = t.broker.Overhear("#", t)
		t.idle = time.AfterFunc(fieldgate.MQTTTopicsLease, t.stop)
		return
	}
	t.idle.Reset(fieldgate.MQTTTopicsLease)
	if now.Sub(t.began) < countInterval {
		return
	}
	for _, c := range t.counts {
		c.now, c.before = 0, c.now
	}
	t.others = count{before: t.others.now}
	t.began, t.before = now, t.began
}

// stop ends the counting.
func (t *topics) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unsubscribe != nil {
		t.idle.Stop()
		t.unsubscribe()
		t.unsubscribe, t.counts = nil, nil
	}
}

// seconds is how long what rate divides was counted. t is locked.
func (t *topics) seconds(now time.Time) float64 {
	if t.before.IsZero() {
		return now.Sub(t.began).Seconds()
	}
	return now.Sub(t.before).Seconds()
}

// list is a page of the levels below a prefix, of topics that are counted or have a retained message. Of retained messages it reads a
// bounded number: where there are more, the page ends with the level that it was about.
func (t *topics) list(asked *fieldgate.MQTTTopicsQuestion, now time.Time) (answer fieldgate.MQTTAnswer, err error) {
	counted := t.counted(now, &answer)
	levels := make(map[string]*fieldgate.MQTTTopic)
	see := func(topic string) *fieldgate.MQTTTopic {
		rest, below := strings.CutPrefix(topic, asked.Prefix)
		name, _, deeper := strings.Cut(rest, "/")
		if !below || asked.After != nil && name <= *asked.After || !t.mayName(topic) {
			return nil
		}
		level := levels[name]
		if level == nil {
			level = &fieldgate.MQTTTopic{Level: name}
			levels[name] = level
		}
		if deeper {
			level.Topics++
		} else {
			level.Own = true
		}
		return level
	}
	for topic, messages := range counted {
		if level := see(topic); level != nil && answer.Counted > 0 {
			level.Rate += float64(messages) / answer.Counted
		}
	}
	after := ""
	if asked.After != nil {
		after = asked.Prefix + *asked.After + "\x01" // behind all that is below the level
	}
	read, cut := 0, ""
	err = t.retained(asked.Prefix+"#", after, func(m *broker.Message) bool {
		if read++; read > fieldgate.MaxMQTTScan {
			cut, _, _ = strings.Cut(strings.TrimPrefix(m.Topic, asked.Prefix), "/")
			return false
		}
		_, known := counted[m.Topic]
		if level := see(m.Topic); level != nil {
			level.Retained++
			if known && level.Topics > 0 && strings.Contains(m.Topic[len(asked.Prefix):], "/") {
				level.Topics-- // it was seen already
			}
		}
		return true
	})
	p := newPage[fieldgate.MQTTTopic](asked.Limit)
	for name, level := range levels {
		if read > fieldgate.MaxMQTTScan && name >= cut {
			if name > cut {
				p.more = true
				continue
			}
			level.AtLeast = true
		}
		if p.fits(name) {
			p.add(name, *level)
		}
	}
	p.more = p.more || read > fieldgate.MaxMQTTScan
	answer.Topics, answer.More = p.entries()
	return answer, err
}

// counted is the messages by topic that the answer's rates come from.
func (t *topics) counted(now time.Time, answer *fieldgate.MQTTAnswer) map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look(now)
	if answer.Counted = t.seconds(now); answer.Counted > 0 {
		answer.Others = float64(t.others.now+t.others.before) / answer.Counted
	}
	counted := make(map[string]int, len(t.counts)) // publishers do not wait for what is made of it
	for topic, c := range t.counts {
		counted[topic] = c.now + c.before
	}
	return counted
}
