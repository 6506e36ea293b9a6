package mqtt

import (
	"bytes"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Tree holds subscriptions by topic filter. Match takes no lock, so that publishers never wait for each other or for a
// subscriber: what it reads is only ever replaced as a whole or appended to behind its back. T names a subscriber.
//
// Most filters name one device and have one subscriber: such a one is a leaf as soon as no other filter begins with the same
// levels, and becomes a branch when another one does.
type Tree[T comparable] struct {
	mu    sync.Mutex // writers only
	seed  maphash.Seed
	gone  *node[T] // where a child was removed
	root  branch[T]
	count atomic.Int64
}

// Subscription is one subscriber's interest in one filter. It never changes; a new SUBSCRIBE makes a new one.
type Subscription[T comparable] struct {
	Subscriber        T
	Filter            string // a valid one, shared or not
	ID                uint32 // subscription identifier, 0: none
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
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

// node is a leaf or a branch. It never changes.
type node[T comparable] struct {
	path   string           // a leaf's: what is left of its filter from here on, a view of it; a branch's: its level
	leaf   *Subscription[T] // nil: a branch
	branch *branch[T]
}

// branch is one level of filters, reached through atomics.
type branch[T comparable] struct {
	children table[T]
	plus     atomic.Pointer[node[T]] // the child "+"
	hash     atomic.Pointer[node[T]] // the child "#"
	members  list[T]                 // whose filter ends here
	groups   atomic.Pointer[[]*Group[T]]
}

func (b *branch[T]) empty() bool {
	return b.members.live == 0 && b.groups.Load() == nil && b.plus.Load() == nil && b.hash.Load() == nil && b.children.used == 0
}

// NewTree returns an empty tree.
func NewTree[T comparable]() *Tree[T] { return &Tree[T]{seed: maphash.MakeSeed(), gone: new(node[T])} }

// Len gives the number of subscriptions.
func (t *Tree[T]) Len() int { return int(t.count.Load()) }

// Subscribe adds the subscription and reports whether the subscriber had one under the same filter, which it replaces
// [MQTT-3.8.4-3].
func (t *Tree[T]) Subscribe(s *Subscription[T]) (replaced bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	group, path := splitShare(s.Filter)
	if group == "" {
		replaced = t.root.add(path, true, s, t)
	} else {
		b := &t.root
		for more := true; more; {
			var level string
			level, path, more = strings.Cut(path, "/")
			b = b.open(level, t)
		}
		replaced = b.group(group).put(s)
	}
	if !replaced {
		t.count.Add(1)
	}
	return replaced
}

// Unsubscribe removes the subscriber's subscription under exactly this filter [MQTT-3.10.4-1] and reports whether there
// was one.
func (t *Tree[T]) Unsubscribe(filter string, subscriber T) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	group, path := splitShare(filter)
	if !t.root.remove(path, true, group, subscriber, t) {
		return false
	}
	t.count.Add(-1)
	return true
}

// Match collects into m the subscriptions whose filter matches the topic.
func (t *Tree[T]) Match(topic []byte, m *Matches[T]) {
	m.Reset()
	// Wildcards in the first level do not see topics that begin with "$" [MQTT-4.7.2-1].
	t.root.match(topic, t, m, len(topic) > 0 && topic[0] == '$')
	m.Overlap = m.filters > 1
}

// Reset forgets what was collected.
func (m *Matches[T]) Reset() {
	m.Subscriptions, m.Groups, m.filters, m.Overlap = m.Subscriptions[:0], m.Groups[:0], 0, false
}

// Find adds to m the subscriptions under exactly this filter, shared or not.
func (t *Tree[T]) Find(filter string, m *Matches[T]) {
	group, path := splitShare(filter)
	b := &t.root
	for more := true; more; {
		var level, rest string
		level, rest, more = strings.Cut(path, "/")
		child := b.child(level, t)
		switch {
		case child == nil:
			return
		case child.leaf != nil:
			if group == "" && child.path == path {
				m.add(child.leaf)
				m.Overlap = m.filters > 1
			}
			return
		}
		b, path = child.branch, rest
	}
	if group == "" {
		m.Subscriptions = b.members.collect(m.Subscriptions)
		m.filters++
		m.Overlap = m.filters > 1
		return
	}
	if groups := b.groups.Load(); groups != nil {
		for _, g := range *groups {
			if g.name == group {
				m.Groups = append(m.Groups, g)
			}
		}
	}
}

func (b *branch[T]) match(topic []byte, t *Tree[T], m *Matches[T], system bool) {
	level, rest, more := bytes.Cut(topic, slash)
	if child := b.children.get(level, t); child != nil {
		child.match(rest, more, t, m)
	}
	if system {
		return
	}
	if child := b.plus.Load(); child != nil {
		child.match(rest, more, t, m)
	}
	if child := b.hash.Load(); child != nil {
		child.end(m)
	}
}

// match goes on behind the level of n; more: there are levels left.
func (n *node[T]) match(rest []byte, more bool, t *Tree[T], m *Matches[T]) {
	if n.leaf != nil {
		_, path, deeper := strings.Cut(n.path, "/")
		if deeper && more && levelsMatch(path, rest) || !more && (!deeper || path == "#") {
			m.add(n.leaf)
		}
		return
	}
	if more {
		n.branch.match(rest, t, m, false)
		return
	}
	n.end(m)
	if child := n.branch.hash.Load(); child != nil { // "sport/#" also matches "sport" (§4.7.1.2)
		child.end(m)
	}
}

// end collects the subscriptions whose filter ends at n.
func (n *node[T]) end(m *Matches[T]) {
	if n.leaf != nil {
		m.add(n.leaf)
		return
	}
	before := len(m.Subscriptions)
	m.Subscriptions = n.branch.members.collect(m.Subscriptions)
	if len(m.Subscriptions) > before {
		m.filters++
	}
	if groups := n.branch.groups.Load(); groups != nil {
		m.Groups = append(m.Groups, *groups...)
	}
}

func (m *Matches[T]) add(s *Subscription[T]) {
	m.Subscriptions = append(m.Subscriptions, s)
	m.filters++
}

// Pick chooses the member whose turn it is, the first that usable accepts; if none is, the first whose turn it is.
func (g *Group[T]) Pick(usable func(T) bool) *Subscription[T] {
	p := g.members.slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	start := int(g.turn.Add(1))
	var fallback *Subscription[T]
	for i := range slots {
		s := slots[(start+i)%len(slots)].Load()
		if s == nil {
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

// Below, all but get, child and collect is called under the tree's lock, or while nobody else knows what it changes.

// add puts a subscription where its filter ends: at b, or behind the path that is left of it.
func (b *branch[T]) add(path string, more bool, s *Subscription[T], t *Tree[T]) (replaced bool) {
	if !more {
		return b.members.put(s)
	}
	level, rest, more := strings.Cut(path, "/")
	child := b.child(level, t)
	leaf := &node[T]{path: path, leaf: s}
	switch {
	case child == nil:
		b.put(level, leaf, t)
	case child.leaf == nil:
		return child.branch.add(rest, more, s, t)
	case child.path == path && child.leaf.Subscriber == s.Subscriber:
		b.replace(level, child, leaf, t)
		return true
	default:
		grown := child.grow(t)
		grown.branch.add(rest, more, s, t)
		b.replace(level, child, grown, t)
	}
	return false
}

// grow makes a branch with the same subscription as the leaf.
func (n *node[T]) grow(t *Tree[T]) *node[T] {
	level, rest, more := strings.Cut(n.path, "/")
	grown := &node[T]{path: strings.Clone(level), branch: new(branch[T])} // it may live longer than the filter
	grown.branch.add(rest, more, n.leaf, t)
	return grown
}

// open gives the branch of a level below b.
func (b *branch[T]) open(level string, t *Tree[T]) *branch[T] {
	child := b.child(level, t)
	switch {
	case child == nil:
		child = &node[T]{path: strings.Clone(level), branch: new(branch[T])}
		b.put(level, child, t)
	case child.leaf != nil:
		grown := child.grow(t)
		b.replace(level, child, grown, t)
		child = grown
	}
	return child.branch
}

// remove takes a subscription out from below b, with all that is empty then. group is its share name, if it has one.
func (b *branch[T]) remove(path string, more bool, group string, subscriber T, t *Tree[T]) bool {
	if !more {
		if group != "" {
			return b.leave(group, subscriber)
		}
		return b.members.remove(subscriber)
	}
	level, rest, more := strings.Cut(path, "/")
	child := b.child(level, t)
	switch {
	case child == nil:
		return false
	case child.leaf == nil:
		if !child.branch.remove(rest, more, group, subscriber, t) {
			return false
		}
		if !child.branch.empty() {
			return true
		}
	case child.path != path || group != "" || child.leaf.Subscriber != subscriber:
		return false
	}
	b.prune(level, child, t)
	return true
}

// wildcard is the place of the child of a wildcard; nil: the level is none.
func (b *branch[T]) wildcard(level string) *atomic.Pointer[node[T]] {
	switch level {
	case "+":
		return &b.plus
	case "#":
		return &b.hash
	}
	return nil
}

func (b *branch[T]) child(level string, t *Tree[T]) *node[T] {
	if w := b.wildcard(level); w != nil {
		return w.Load()
	}
	return b.children.get([]byte(level), t)
}

func (b *branch[T]) put(level string, child *node[T], t *Tree[T]) {
	if w := b.wildcard(level); w != nil {
		w.Store(child)
	} else {
		b.children.put(child, t)
	}
}

func (b *branch[T]) replace(level string, old, child *node[T], t *Tree[T]) {
	if w := b.wildcard(level); w != nil {
		w.Store(child)
	} else {
		b.children.replace(old, child, t)
	}
}

func (b *branch[T]) prune(level string, child *node[T], t *Tree[T]) {
	if w := b.wildcard(level); w != nil {
		w.Store(nil)
	} else {
		b.children.remove(child, t)
	}
}

func (b *branch[T]) group(name string) *list[T] {
	var groups []*Group[T]
	if old := b.groups.Load(); old != nil {
		groups = *old
	}
	for _, g := range groups {
		if g.name == name {
			return &g.members
		}
	}
	g := &Group[T]{name: strings.Clone(name)}
	groups = append(groups[:len(groups):len(groups)], g)
	b.groups.Store(&groups)
	return &g.members
}

// leave takes a member out of a group, which ends with the last one.
func (b *branch[T]) leave(name string, subscriber T) bool {
	old := b.groups.Load()
	if old == nil {
		return false
	}
	for i, g := range *old {
		if g.name != name {
			continue
		}
		removed := g.members.remove(subscriber)
		if g.members.live == 0 {
			groups := append((*old)[:i:i], (*old)[i+1:]...)
			if len(groups) == 0 {
				b.groups.Store(nil)
			} else {
				b.groups.Store(&groups)
			}
		}
		return removed
	}
	return false
}

// list is a set of subscriptions that readers walk while it grows: additions go behind the length they saw, removals leave
// a slot empty, and a new slice is made when half of them are.
type list[T comparable] struct {
	slots atomic.Pointer[[]atomic.Pointer[Subscription[T]]]
	live  int
	index map[T]int // slots by subscriber; made when the list is long enough to need it
}

const indexFrom = 16

func (l *list[T]) collect(into []*Subscription[T]) []*Subscription[T] {
	p := l.slots.Load()
	if p == nil {
		return into
	}
	slots := *p
	for i := range slots {
		if s := slots[i].Load(); s != nil {
			into = append(into, s)
		}
	}
	return into
}

// find gives the slot of a subscriber, -1 if it has none.
func (l *list[T]) find(subscriber T) int {
	if l.index != nil {
		if i, ok := l.index[subscriber]; ok {
			return i
		}
		return -1
	}
	if p := l.slots.Load(); p != nil {
		slots := *p
		for i := range slots {
			if s := slots[i].Load(); s != nil && s.Subscriber == subscriber {
				return i
			}
		}
	}
	return -1
}

func (l *list[T]) put(s *Subscription[T]) (replaced bool) {
	if i := l.find(s.Subscriber); i >= 0 {
		(*l.slots.Load())[i].Store(s)
		return true
	}
	var slots []atomic.Pointer[Subscription[T]]
	if p := l.slots.Load(); p != nil {
		slots = *p
	}
	n := len(slots)
	slots = slices.Grow(slots, 1)[:n+1]
	slots[n].Store(s)
	l.slots.Store(&slots)
	if l.live++; l.index != nil {
		l.index[s.Subscriber] = n
	} else if l.live > indexFrom {
		l.reindex(slots)
	}
	return false
}

func (l *list[T]) remove(subscriber T) bool {
	i := l.find(subscriber)
	if i < 0 {
		return false
	}
	old := *l.slots.Load()
	old[i].Store(nil)
	delete(l.index, subscriber)
	switch l.live--; {
	case l.live == 0:
		l.slots.Store(nil)
		l.index = nil
	case len(old) >= 2*l.live+4:
		kept := make([]atomic.Pointer[Subscription[T]], 0, l.live+l.live/2)
		for i := range old {
			if s := old[i].Load(); s != nil {
				kept = kept[:len(kept)+1]
				kept[len(kept)-1].Store(s)
			}
		}
		l.slots.Store(&kept)
		if l.index != nil {
			l.reindex(kept)
		}
	}
	return true
}

func (l *list[T]) reindex(slots []atomic.Pointer[Subscription[T]]) {
	l.index = make(map[T]int, len(slots))
	for i := range slots {
		if s := slots[i].Load(); s != nil {
			l.index[s.Subscriber] = i
		}
	}
}

// table is an open-addressed hash table of children that readers probe while a writer adds: slots go from nil to a node of
// a level, to others of that level, and to the tree's gone; growth makes a new table.
type table[T comparable] struct {
	slots atomic.Pointer[[]atomic.Pointer[node[T]]]
	used  int
	gone  int
}

// is says whether the node is that of a level.
func (n *node[T]) is(level []byte) bool {
	return len(n.path) >= len(level) && n.path[:len(level)] == string(level) && (len(n.path) == len(level) || n.path[len(level)] == '/')
}

func (h *table[T]) get(level []byte, t *Tree[T]) *node[T] {
	p := h.slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	mask := uint64(len(slots) - 1)
	for i := maphash.Bytes(t.seed, level) & mask; ; i = (i + 1) & mask {
		if n := slots[i].Load(); n == nil || n != t.gone && n.is(level) {
			return n
		}
	}
}

// probe gives the first slot from a node's place on that holds wanted.
func (h *table[T]) probe(n, wanted *node[T], t *Tree[T]) *atomic.Pointer[node[T]] {
	slots := *h.slots.Load()
	mask := uint64(len(slots) - 1)
	level, _, _ := strings.Cut(n.path, "/")
	i := maphash.String(t.seed, level) & mask
	for slots[i].Load() != wanted {
		i = (i + 1) & mask
	}
	return &slots[i]
}

func (h *table[T]) put(n *node[T], t *Tree[T]) {
	if p := h.slots.Load(); p == nil || 4*(h.used+h.gone+1) > 3*len(*p) {
		h.rebuild(t)
	}
	h.probe(n, nil, t).Store(n)
	h.used++
}

func (h *table[T]) replace(old, n *node[T], t *Tree[T]) { h.probe(old, old, t).Store(n) }

func (h *table[T]) remove(n *node[T], t *Tree[T]) {
	h.probe(n, n, t).Store(t.gone)
	h.gone++
	if h.used--; h.used == 0 {
		h.slots.Store(nil)
		h.gone = 0
	}
}

// rebuild makes a table that is half full at most, with one node more.
func (h *table[T]) rebuild(t *Tree[T]) {
	size := 4
	for size < 2*(h.used+1) {
		size *= 2
	}
	old := h.slots.Load()
	slots := make([]atomic.Pointer[node[T]], size)
	var fresh table[T]
	fresh.slots.Store(&slots)
	if old != nil {
		for i := range *old {
			if n := (*old)[i].Load(); n != nil && n != t.gone {
				fresh.probe(n, nil, t).Store(n)
			}
		}
	}
	h.slots.Store(&slots)
	h.gone = 0
}
