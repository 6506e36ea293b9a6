package mqttfront

import (
	"iter"

	"fieldgate/protocol/mqtt"
)

// subscription is one of a session's. What the tree has of it never changes; the rest is guarded by the session's lock.
type subscription struct {
	*mqtt.Subscription[*session]
	mute  bool // it is not allowed any more
	loose bool // a pass-through API let it in
}

// subscriptions are a session's by filter: in a row as long as they are few, as with most clients.
type subscriptions struct {
	few  []subscription
	many map[string]*subscription // nil: few has them
}

// fewSubscriptions is how many are in a row at most.
const fewSubscriptions = 8

func (l *subscriptions) len() int { return len(l.few) + len(l.many) }

// find gives the subscription to a filter, nil if there is none. It is valid until the next change.
func (l *subscriptions) find(filter string) *subscription {
	for i := range l.few {
		if l.few[i].Filter == filter {
			return &l.few[i]
		}
	}
	return l.many[filter]
}

// put adds a subscription, or replaces the one to the same filter.
func (l *subscriptions) put(s subscription) {
	if old := l.find(s.Filter); old != nil {
		*old = s
		return
	}
	if l.many == nil && len(l.few) < fewSubscriptions {
		l.few = append(l.few, s)
		return
	}
	if l.many == nil {
		l.many = make(map[string]*subscription)
		for i := range l.few {
			l.many[l.few[i].Filter] = &l.few[i]
		}
		l.few = nil
	}
	added := s // not s, which would be on the heap in any case
	l.many[s.Filter] = &added
}

func (l *subscriptions) remove(filter string) {
	delete(l.many, filter)
	for i := range l.few {
		if l.few[i].Filter == filter {
			last := len(l.few) - 1
			l.few[i], l.few[last] = l.few[last], subscription{}
			l.few = l.few[:last]
			return
		}
	}
}

// all gives them in no order.
func (l *subscriptions) all() iter.Seq[*subscription] {
	return func(yield func(*subscription) bool) {
		for i := range l.few {
			if !yield(&l.few[i]) {
				return
			}
		}
		for _, s := range l.many {
			if !yield(s) {
				return
			}
		}
	}
}
