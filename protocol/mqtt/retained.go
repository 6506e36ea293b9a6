package mqtt

import (
	"bytes"
	"sync"
)

// Retained holds one value for each topic, to be found by topic filter: the retained messages of a server.
type Retained[V any] struct {
	mu   sync.RWMutex
	root retainedNode[V]
	len  int
}

type retainedNode[V any] struct {
	children map[string]*retainedNode[V]
	value    V
	set      bool
}

// Len gives the number of values.
func (r *Retained[V]) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.len
}

// Get gives the value of a topic.
func (r *Retained[V]) Get(topic []byte) (v V, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := &r.root
	for rest, more := topic, true; more; {
		var level []byte
		level, rest, more = bytes.Cut(rest, slash)
		if n = n.children[string(level)]; n == nil {
			return v, false
		}
	}
	return n.value, n.set
}

// Set stores a topic's value and returns the one it replaces.
func (r *Retained[V]) Set(topic []byte, v V) (old V, replaced bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := &r.root
	for rest, more := topic, true; more; {
		var level []byte
		level, rest, more = bytes.Cut(rest, slash)
		child := n.children[string(level)]
		if child == nil {
			child = &retainedNode[V]{}
			if n.children == nil {
				n.children = make(map[string]*retainedNode[V])
			}
			n.children[string(level)] = child
		}
		n = child
	}
	old, replaced = n.value, n.set
	n.value, n.set = v, true
	if !replaced {
		r.len++
	}
	return old, replaced
}

// Delete removes a topic's value and returns it.
func (r *Retained[V]) Delete(topic []byte) (old V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	path, names := []*retainedNode[V]{&r.root}, []string{""}
	for rest, more := topic, true; more; {
		var level []byte
		level, rest, more = bytes.Cut(rest, slash)
		child := path[len(path)-1].children[string(level)]
		if child == nil {
			return old, false
		}
		path, names = append(path, child), append(names, string(level))
	}
	n := path[len(path)-1]
	if !n.set {
		return old, false
	}
	old = n.value
	var zero V
	n.value, n.set = zero, false
	r.len--
	for i := len(path) - 1; i > 0 && !path[i].set && len(path[i].children) == 0; i-- {
		delete(path[i-1].children, names[i])
	}
	return old, true
}

// Match calls visit for the value of every topic that the filter (without share prefix) matches. visit must not use r.
func (r *Retained[V]) Match(filter []byte, visit func(V)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.root.match(filter, true, true, visit)
}

func (n *retainedNode[V]) match(filter []byte, more, first bool, visit func(V)) {
	if !more {
		if n.set {
			visit(n.value)
		}
		return
	}
	level, rest, more := bytes.Cut(filter, slash)
	switch string(level) {
	case "#":
		n.all(first, visit)
	case "+":
		for name, child := range n.children {
			if !first || len(name) == 0 || name[0] != '$' { // [MQTT-4.7.2-1]
				child.match(rest, more, false, visit)
			}
		}
	default:
		if child := n.children[string(level)]; child != nil {
			child.match(rest, more, false, visit)
		}
	}
}

// all visits n, for "sport/#" also matches "sport" (§4.7.1.2), and everything below.
func (n *retainedNode[V]) all(first bool, visit func(V)) {
	if n.set {
		visit(n.value)
	}
	for name, child := range n.children {
		if !first || len(name) == 0 || name[0] != '$' {
			child.all(false, visit)
		}
	}
}
