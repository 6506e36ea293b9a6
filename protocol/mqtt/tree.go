package mqtt

import (
	"bytes"
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// Tree holds subscriptions by topic filter. Match takes no lock, so that publishers never wait for each other or for a
// subscriber: what it reads is only ever replaced as a whole or appended to behind its back. T names a subscriber.
type Tree[T comparable] struct {
	mu    sync.Mutex // writers only
	seed  maphash.Seed
	root  node[T]
	count atomic.Int64
}

// Subscription is one subscriber's interest in one filter. Its options are fixed; a new SUBSCRIBE makes a new one.
type Subscription[T comparable] struct {
	Subscriber        T
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	ID                uint32 // subscription identifier, 0: none

	dead atomic.Bool
}

// Group is the members of one share name on one filter (MQTT 5 §4.8.2).
type Group[T comparable] struct {
	name    string
	members list[T]
	turn    atomic.Uint32
}

// Matches collects what a topic matches; reuse it, it keeps its memory.
type Matches[T comparable] struct {
	Subscriptions []*Subscription[T]
	Groups        []*Group[T]
	// Overlap says that more than one filter contributed, so that a subscriber may appear more than once.
	Overlap bool
	filters int
}

// node is one level of a filter. Its name never changes; everything else is reached through atomics.
type node[T comparable] struct {
	level    []byte
	children table[T]
	plus     atomic.Pointer[node[T]] // the child "+"
	hash     atomic.Pointer[node[T]] // the child "#"
	members  list[T]
	groups   atomic.Pointer[[]*Group[T]]
}

func (n *node[T]) empty() bool {
	return n.members.live == 0 && n.groups.Load() == nil && n.plus.Load() == nil && n.hash.Load() == nil &&
		n.children.used == 0
}

// NewTree returns an empty tree.
func NewTree[T comparable]() *Tree[T] { return &Tree[T]{seed: maphash.MakeSeed()} }

// Len gives the number of subscriptions.
func (t *Tree[T]) Len() int { return int(t.count.Load()) }

// Subscribe adds the subscription under a valid filter, shared or not, and reports whether the subscriber had one there,
// which it replaces [MQTT-3.8.4-3].
func (t *Tree[T]) Subscribe(filter []byte, s *Subscription[T]) (replaced bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	group, levels := SplitShare(filter)
	n := &t.root
	for rest, more := levels, true; more; {
		var level []byte
		level, rest, more = bytes.Cut(rest, slash)
		n = n.child(level, t.seed, true)
	}
	members := &n.members
	if group != nil {
		members = n.group(string(group))
	}
	replaced = members.put(s)
	if !replaced {
		t.count.Add(1)
	}
	return replaced
}

// Unsubscribe removes the subscriber's subscription under exactly this filter [MQTT-3.10.4-1] and reports whether there
// was one.
func (t *Tree[T]) Unsubscribe(filter []byte, subscriber T) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	group, levels := SplitShare(filter)
	path := []*node[T]{&t.root}
	for rest, more := levels, true; more; {
		var level []byte
		level, rest, more = bytes.Cut(rest, slash)
		next := path[len(path)-1].child(level, t.seed, false)
		if next == nil {
			return false
		}
		path = append(path, next)
	}
	n := path[len(path)-1]
	if !n.drop(string(group), group != nil, subscriber) {
		return false
	}
	t.count.Add(-1)
	for i := len(path) - 1; i > 0 && path[i].empty(); i-- {
		path[i-1].prune(path[i], t.seed)
	}
	return true
}

// Match collects into m the subscriptions whose filter matches the topic.
func (t *Tree[T]) Match(topic []byte, m *Matches[T]) {
	m.Subscriptions, m.Groups, m.filters = m.Subscriptions[:0], m.Groups[:0], 0
	level, rest, more := bytes.Cut(topic, slash)
	// Wildcards in the first level do not see topics that begin with "$" [MQTT-4.7.2-1].
	t.root.match(level, rest, more, t.seed, m, len(topic) > 0 && topic[0] == '$')
	m.Overlap = m.filters > 1
}

func (n *node[T]) match(level, rest []byte, more bool, seed maphash.Seed, m *Matches[T], system bool) {
	if child := n.children.get(level, seed); child != nil {
		child.matchRest(rest, more, seed, m)
	}
	if system {
		return
	}
	if child := n.plus.Load(); child != nil {
		child.matchRest(rest, more, seed, m)
	}
	if child := n.hash.Load(); child != nil {
		child.collect(m)
	}
}

func (n *node[T]) matchRest(rest []byte, more bool, seed maphash.Seed, m *Matches[T]) {
	if !more {
		n.collect(m)
		if child := n.hash.Load(); child != nil { // "sport/#" also matches "sport" (§4.7.1.2)
			child.collect(m)
		}
		return
	}
	level, rest, more := bytes.Cut(rest, slash)
	n.match(level, rest, more, seed, m, false)
}

func (n *node[T]) collect(m *Matches[T]) {
	before := len(m.Subscriptions)
	m.Subscriptions = n.members.collect(m.Subscriptions)
	if len(m.Subscriptions) > before {
		m.filters++
	}
	if groups := n.groups.Load(); groups != nil {
		m.Groups = append(m.Groups, *groups...)
	}
}

// Pick chooses the member whose turn it is, the first that usable accepts; if none is, the first whose turn it is.
func (g *Group[T]) Pick(usable func(T) bool) *Subscription[T] {
	slots := g.members.slots.Load()
	if slots == nil {
		return nil
	}
	members := *slots
	start := int(g.turn.Add(1))
	var fallback *Subscription[T]
	for i := range members {
		s := members[(start+i)%len(members)]
		if s.dead.Load() {
			continue
		}
		if usable(s.Subscriber) {
			return s
		}
		if fallback == nil {
			fallback = s
		}
	}
	return fallback
}

// Below, all but get and collect is called under the tree's lock.

func (n *node[T]) child(level []byte, seed maphash.Seed, create bool) *node[T] {
	var wildcard *atomic.Pointer[node[T]]
	switch string(level) {
	case "+":
		wildcard = &n.plus
	case "#":
		wildcard = &n.hash
	default:
		child := n.children.get(level, seed)
		if child == nil && create {
			child = &node[T]{level: bytes.Clone(level)}
			n.children.put(child, seed)
		}
		return child
	}
	child := wildcard.Load()
	if child == nil && create {
		child = &node[T]{level: bytes.Clone(level)}
		wildcard.Store(child)
	}
	return child
}

func (n *node[T]) prune(child *node[T], seed maphash.Seed) {
	switch string(child.level) {
	case "+":
		n.plus.Store(nil)
	case "#":
		n.hash.Store(nil)
	default:
		n.children.remove(child, seed)
	}
}

func (n *node[T]) group(name string) *list[T] {
	var groups []*Group[T]
	if old := n.groups.Load(); old != nil {
		groups = *old
	}
	for _, g := range groups {
		if g.name == name {
			return &g.members
		}
	}
	g := &Group[T]{name: name}
	groups = append(groups[:len(groups):len(groups)], g)
	n.groups.Store(&groups)
	return &g.members
}

func (n *node[T]) drop(group string, shared bool, subscriber T) bool {
	if !shared {
		return n.members.remove(subscriber)
	}
	old := n.groups.Load()
	if old == nil {
		return false
	}
	for i, g := range *old {
		if g.name != group {
			continue
		}
		removed := g.members.remove(subscriber)
		if g.members.live == 0 {
			groups := append((*old)[:i:i], (*old)[i+1:]...)
			if len(groups) == 0 {
				n.groups.Store(nil)
			} else {
				n.groups.Store(&groups)
			}
		}
		return removed
	}
	return false
}

// list is a set of subscriptions that readers walk while it grows: additions go behind the length they saw, removals
// only mark, and a new slice is made when half of it is marked.
type list[T comparable] struct {
	slots atomic.Pointer[[]*Subscription[T]]
	live  int
	index map[T]*Subscription[T] // made when the list is long enough to need it
}

const indexFrom = 16

func (l *list[T]) collect(into []*Subscription[T]) []*Subscription[T] {
	slots := l.slots.Load()
	if slots == nil {
		return into
	}
	for _, s := range *slots {
		if !s.dead.Load() {
			into = append(into, s)
		}
	}
	return into
}

func (l *list[T]) find(subscriber T) *Subscription[T] {
	if l.index != nil {
		return l.index[subscriber]
	}
	if slots := l.slots.Load(); slots != nil {
		for _, s := range *slots {
			if s.Subscriber == subscriber && !s.dead.Load() {
				return s
			}
		}
	}
	return nil
}

func (l *list[T]) put(s *Subscription[T]) (replaced bool) {
	old := l.find(s.Subscriber)
	var slots []*Subscription[T]
	if current := l.slots.Load(); current != nil {
		slots = *current
	}
	slots = append(slots, s)
	l.slots.Store(&slots)
	l.live++
	if old != nil {
		old.dead.Store(true)
		l.live--
	}
	if l.index == nil && l.live > indexFrom {
		l.index = make(map[T]*Subscription[T])
		for _, s := range slots {
			if !s.dead.Load() {
				l.index[s.Subscriber] = s
			}
		}
	} else if l.index != nil {
		l.index[s.Subscriber] = s
	}
	l.compact()
	return old != nil
}

func (l *list[T]) remove(subscriber T) bool {
	s := l.find(subscriber)
	if s == nil {
		return false
	}
	s.dead.Store(true)
	l.live--
	delete(l.index, subscriber)
	l.compact()
	return true
}

func (l *list[T]) compact() {
	slots := *l.slots.Load()
	if l.live == 0 {
		l.slots.Store(nil)
		l.index = nil
		return
	}
	if len(slots) < 2*l.live+4 {
		return
	}
	kept := make([]*Subscription[T], 0, l.live+l.live/2)
	for _, s := range slots {
		if !s.dead.Load() {
			kept = append(kept, s)
		}
	}
	l.slots.Store(&kept)
}

// table is an open-addressed hash table of children that readers probe while a writer adds: slots go from nil to a node
// and stay; removal and growth make a new table.
type table[T comparable] struct {
	slots atomic.Pointer[[]atomic.Pointer[node[T]]]
	used  int
}

func (t *table[T]) get(level []byte, seed maphash.Seed) *node[T] {
	p := t.slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	mask := uint64(len(slots) - 1)
	for i := maphash.Bytes(seed, level) & mask; ; i = (i + 1) & mask {
		n := slots[i].Load()
		if n == nil {
			return nil
		}
		if bytes.Equal(n.level, level) {
			return n
		}
	}
}

func (t *table[T]) put(n *node[T], seed maphash.Seed) {
	if p := t.slots.Load(); p == nil || 4*(t.used+1) > 3*len(*p) {
		t.rebuild(max(4, 2*t.capacity()), nil, seed)
	}
	insert(*t.slots.Load(), n, seed)
	t.used++
}

func (t *table[T]) remove(gone *node[T], seed maphash.Seed) {
	t.used--
	if t.used == 0 {
		t.slots.Store(nil)
		return
	}
	slots := *t.slots.Load()
	mask := uint64(len(slots) - 1)
	i := maphash.Bytes(seed, gone.level) & mask
	for slots[i].Load() != gone {
		i = (i + 1) & mask
	}
	if slots[(i+1)&mask].Load() == nil {
		// The end of its probe chain: no other node is found through this slot.
		slots[i].Store(nil)
		return
	}
	t.rebuild(len(slots), gone, seed)
}

func (t *table[T]) capacity() int {
	if p := t.slots.Load(); p != nil {
		return len(*p)
	}
	return 0
}

func (t *table[T]) rebuild(size int, without *node[T], seed maphash.Seed) {
	slots := make([]atomic.Pointer[node[T]], size)
	if old := t.slots.Load(); old != nil {
		for i := range *old {
			if n := (*old)[i].Load(); n != nil && n != without {
				insert(slots, n, seed)
			}
		}
	}
	t.slots.Store(&slots)
}

func insert[T comparable](slots []atomic.Pointer[node[T]], n *node[T], seed maphash.Seed) {
	mask := uint64(len(slots) - 1)
	i := maphash.Bytes(seed, n.level) & mask
	for slots[i].Load() != nil {
		i = (i + 1) & mask
	}
	slots[i].Store(n)
}
