// Package cache keeps answers of services for the next caller that asks the same, as RFC 9111 allows.
//
// It owns the stored answers, in memory and within a bound of bytes: the ones that were used longest ago make room. It promises that
// nothing is answered from it that the service has forbidden to keep, that a stale answer is only used where the service or
// the contract allows it, that a request is answered by what was said to one that the service would not tell from it (Vary), and that
// no answer is kept to a request that began before its resource was changed.
// Keys are the caller's: they hold the operation, the path and query, and whose answers they are.
package cache

import (
	"container/list"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
)

// Field is one header field.
type Field struct{ Name, Value string }

// Fields looks up fields of a request by lower-case name.
type Fields interface {
	Field(name string) (value []byte, found bool) // all lines of the field, joined
}

// Answer is a stored answer. It is immutable but for what its methods change.
type Answer struct {
	Status int
	Fields []Field // end-to-end fields
	Body   []byte

	stored     time.Time // when it was got or last found valid
	age        time.Duration
	freshness  freshness
	vary       []variant
	revalidate atomic.Bool // somebody is asking the service whether it still holds
}

// variant is a request field that the answer depends on (RFC 9111 section 4.1).
type variant struct {
	name, value string
	present     bool
}

// Verdict says what a stored answer is good for.
type Verdict uint8

const (
	Miss       Verdict = iota // there is none
	Fresh                     // it is the answer
	Tolerable                 // it is the answer for now, and has to be revalidated meanwhile (RFC 5861 section 3)
	Stale                     // the service must be asked whether it still holds
	Impossible                // the caller wants a stored answer or none, and there is none (RFC 9111 section 5.2.1.7)
)

const (
	shards      = 16
	maxVariants = 8        // answers of one key that differ by Vary
	overhead    = 512      // bytes that an answer takes besides its texts
	maxShare    = 4        // an answer takes at most this part of a shard
	marks       = 1 << 10  // that changes of groups are counted in
	DefaultSize = 64 << 20 // bytes of all answers
)

// Key names an answer.
type Key struct {
	Group []byte // the resource, whoever asks and whatever the query: its answers are dropped together
	Rest  []byte

	mark uint64 // changes of the group when the answer was looked up
}

// Cache is safe for concurrent use.
type Cache struct {
	seed    maphash.Seed
	shards  [shards]shard
	changes [marks]atomic.Uint64 // by hash of the group
}

type shard struct {
	mu      sync.Mutex
	most    int // bytes
	bytes   int
	answers int
	groups  map[string]map[string]*slot // by the rest of the key
	order   list.List                   // of *slot, the one used last in front

	hits, stale, misses, revalidated, evicted atomic.Uint64 // beside the lock that each of them follows

	_ [64]byte // the next shard's counts are other cores'
}

// slot holds the answers of one key, the oldest first.
type slot struct {
	group, rest string
	answers     []*Answer
	bytes       int
	element     *list.Element
}

// New makes a cache of so many bytes.
func New(size int) *Cache {
	c := &Cache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].most, c.shards[i].groups = size/shards, make(map[string]map[string]*slot)
	}
	return c
}

// of is where a group's answers lie, and where its changes are counted.
func (c *Cache) of(group []byte) (*shard, *atomic.Uint64) {
	hash := maphash.Bytes(c.seed, group)
	return &c.shards[hash%shards], &c.changes[hash/shards%marks]
}

// Most is how many bytes of content an answer has at most that is kept.
func (c *Cache) Most() int { return c.shards[0].most/maxShare - overhead }

// Lookup finds the stored answer to a request. request are the fields of the request. The key is ready for Store and Refresh then.
func (c *Cache) Lookup(key *Key, request Fields, now time.Time) (*Answer, Verdict) {
	asked := directivesOf(field(request, "cache-control"))
	if asked.empty() && field(request, "pragma") == "no-cache" { // RFC 9111 section 5.4
		asked.noCache = true
	}
	s, changes := c.of(key.Group)
	key.mark = changes.Load()
	answer := s.find(key, request)
	verdict := answer.verdict(asked, now)
	switch {
	case verdict == Miss && asked.onlyIfCached, verdict == Stale && asked.onlyIfCached:
		verdict = Impossible
	case verdict == Tolerable:
		s.stale.Add(1)
		fallthrough
	case verdict == Fresh:
		s.hits.Add(1)
		return answer, verdict
	}
	s.misses.Add(1)
	return answer, verdict
}

// find looks at the newest answers first (RFC 9111 section 4.1).
func (s *shard) find(key *Key, request Fields) *Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.groups[string(key.Group)][string(key.Rest)]
	if found == nil {
		return nil
	}
	for _, answer := range slices.Backward(found.answers) {
		if answer.suits(request) {
			s.order.MoveToFront(found.element)
			return answer
		}
	}
	return nil
}

// suits: RFC 9111 section 4.1.
func (a *Answer) suits(request Fields) bool {
	for _, v := range a.vary {
		value, present := lookup(request, v.name)
		if present != v.present || value != v.value {
			return false
		}
	}
	return true
}

func (a *Answer) verdict(asked directives, now time.Time) Verdict {
	if a == nil {
		return Miss
	}
	age := a.Age(now)
	switch {
	case asked.noCache, a.freshness.always, asked.maxAge >= 0 && age > asked.maxAge:
		return Stale
	case age < a.freshness.lifetime:
		if asked.minFresh > 0 && a.freshness.lifetime-age < asked.minFresh {
			return Stale
		}
		return Fresh
	case a.freshness.mustRevalidate:
		return Stale
	case age < a.freshness.lifetime+max(a.freshness.staleWhileRevalidate, asked.maxStale):
		return Tolerable
	}
	return Stale
}

// Age is RFC 9111 section 4.2.3: since the service wrote the answer or found it valid.
func (a *Answer) Age(now time.Time) time.Duration { return max(now.Sub(a.stored), 0) + a.age }

// Claim says that the caller is the one who revalidates the answer; Release gives that up.
func (a *Answer) Claim() bool { return a.revalidate.CompareAndSwap(false, true) }

// Release is Claim's end.
func (a *Answer) Release() { a.revalidate.Store(false) }

// Validators are the values for If-None-Match and If-Modified-Since; empty where the service gave none (RFC 9110 section 13).
func (a *Answer) Validators() (entityTag, lastModified string) {
	return a.Field("etag"), a.Field("last-modified")
}

// Field is the value of the first field of that lower-case name.
func (a *Answer) Field(name string) string { return valueOf(a.Fields, name) }

// Store keeps an answer, if the service and the policy let it be kept and nobody has changed its resource since the key was looked up. It
// says whether it did. The answer's slices are kept.
func (c *Cache) Store(key *Key, policy *Policy, request Fields, status int, fields []Field, body []byte, now time.Time) bool {
	answer := newAnswer(policy, request, status, fields, now)
	if answer == nil {
		return false
	}
	answer.Body = body
	return c.put(key, answer)
}

// Keeps says whether Store would keep an answer with such a head, so that nobody gathers its content in vain.
func Keeps(policy *Policy, request Fields, status int, fields []Field, now time.Time) bool {
	return newAnswer(policy, request, status, fields, now) != nil
}

func newAnswer(policy *Policy, request Fields, status int, fields []Field, now time.Time) *Answer {
	fresh, ok := policy.freshness(request, status, fields, now)
	if !ok {
		return nil
	}
	answer := &Answer{Status: status, stored: now, freshness: fresh}
	if seconds, ok := deltaSeconds(valueOf(fields, "age")); ok {
		answer.age = seconds
	}
	for _, f := range fields {
		switch strings.ToLower(f.Name) {
		case "age":
			continue
		case "vary":
			for name := range strings.SplitSeq(f.Value, ",") {
				name = strings.ToLower(strings.TrimSpace(name))
				if name == "*" {
					return nil
				}
				if name != "" {
					value, present := lookup(request, name)
					answer.vary = append(answer.vary, variant{name, value, present})
				}
			}
		}
		answer.Fields = append(answer.Fields, f)
	}
	return answer
}

// Refresh renews an answer that the service has found to hold still (304): RFC 9111 section 4.3.4. What it returns is to be sent.
func (c *Cache) Refresh(key *Key, policy *Policy, request Fields, old *Answer, fields []Field, now time.Time) *Answer {
	s, _ := c.of(key.Group)
	s.revalidated.Add(1)
	merged := slices.Clone(old.Fields)
	for _, f := range fields {
		if strings.EqualFold(f.Name, "content-length") {
			continue
		}
		merged = slices.DeleteFunc(merged, func(o Field) bool { return strings.EqualFold(o.Name, f.Name) })
	}
	for _, f := range fields {
		if !strings.EqualFold(f.Name, "content-length") {
			merged = append(merged, f)
		}
	}
	answer := newAnswer(policy, request, old.Status, merged, now)
	if answer == nil { // the service does not want it kept any more
		c.drop(key, old)
		return &Answer{Status: old.Status, Fields: merged, Body: old.Body, stored: now}
	}
	answer.Body = old.Body
	c.put(key, answer)
	return answer
}

func (c *Cache) put(key *Key, answer *Answer) bool {
	s, changes := c.of(key.Group)
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer.size() > s.most/maxShare || changes.Load() != key.mark {
		return false
	}
	group := s.groups[string(key.Group)]
	held := group[string(key.Rest)]
	if held == nil {
		held = &slot{group: string(key.Group), rest: string(key.Rest)}
		held.element = s.order.PushFront(held)
		if group == nil {
			group = make(map[string]*slot)
			s.groups[held.group] = group
		}
		group[held.rest] = held
	}
	s.answers -= len(held.answers)
	held.answers = slices.DeleteFunc(held.answers, func(a *Answer) bool { return sameVariant(a, answer) })
	held.answers = append(held.answers, answer)
	if len(held.answers) > maxVariants {
		held.answers = slices.Delete(held.answers, 0, 1)
	}
	s.answers += len(held.answers)
	s.bytes -= held.bytes
	held.bytes = len(held.group) + len(held.rest)
	for _, a := range held.answers {
		held.bytes += a.size()
	}
	s.bytes += held.bytes
	s.order.MoveToFront(held.element)
	for s.bytes > s.most {
		oldest := s.order.Back().Value.(*slot)
		s.evicted.Add(uint64(len(oldest.answers)))
		s.remove(oldest)
	}
	return true
}

func sameVariant(a, b *Answer) bool { return slices.Equal(a.vary, b.vary) }

func (a *Answer) size() int {
	size := overhead + len(a.Body)
	for _, f := range a.Fields {
		size += len(f.Name) + len(f.Value)
	}
	for _, v := range a.vary {
		size += len(v.name) + len(v.value)
	}
	return size
}

func (s *shard) remove(held *slot) {
	group := s.groups[held.group]
	if delete(group, held.rest); len(group) == 0 {
		delete(s.groups, held.group)
	}
	s.order.Remove(held.element)
	s.bytes, s.answers = s.bytes-held.bytes, s.answers-len(held.answers)
}

func (c *Cache) drop(key *Key, answer *Answer) {
	s, _ := c.of(key.Group)
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.groups[string(key.Group)][string(key.Rest)]; held != nil && slices.Contains(held.answers, answer) {
		s.remove(held)
	}
}

// Invalidate drops all answers of a group, because somebody has changed the resource (RFC 9111 section 4.4), and those that are still on
// their way: nobody can tell whether they are from before.
func (c *Cache) Invalidate(group []byte) {
	s, changes := c.of(group)
	s.mu.Lock()
	defer s.mu.Unlock()
	changes.Add(1)
	for _, held := range s.groups[string(group)] {
		s.remove(held)
	}
}

// State is what the cache has done since New, and what is in it.
func (c *Cache) State() (state fieldgate.CacheState) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		state.Bytes, state.Entries = state.Bytes+s.bytes, state.Entries+s.answers
		s.mu.Unlock()
		state.Hits, state.Stale, state.Misses = state.Hits+s.hits.Load(), state.Stale+s.stale.Load(), state.Misses+s.misses.Load()
		state.Revalidated, state.Evicted = state.Revalidated+s.revalidated.Load(), state.Evicted+s.evicted.Load()
	}
	return state
}
