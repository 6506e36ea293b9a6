package cache

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"fieldgate"
)

type request map[string]string

func (r request) Field(name string) ([]byte, bool) {
	value, found := r[name]
	return []byte(value), found
}

func key(group string) *Key { return &Key{Group: []byte(group), Rest: []byte("query")} }

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func fields(pairs ...string) (list []Field) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, Field{pairs[i], pairs[i+1]})
	}
	return list
}

// What may be kept, and what it is good for some time later.
func TestFreshness(t *testing.T) {
	private, shared := &Policy{TTL: time.Minute}, &Policy{TTL: time.Minute, Shared: true}
	for _, test := range []struct {
		clause string
		policy *Policy
		asked  request
		status int
		said   []Field
		after  time.Duration
		want   Verdict
	}{
		{"contract's TTL", shared, nil, 200, nil, 59 * time.Second, Fresh},
		{"contract's TTL is over", shared, nil, 200, nil, time.Minute, Miss},
		{"TTL is for successes only", shared, nil, 404, nil, 0, Miss},
		{"§4.2.1 max-age before the contract", shared, nil, 200, fields("Cache-Control", "max-age=10"), 11 * time.Second, Miss},
		{"§4.2.1 max-age of a 404", shared, nil, 404, fields("Cache-Control", "max-age=10"), 9 * time.Second, Fresh},
		{"§4.2.1 the stricter of two", shared, nil, 200, fields("Cache-Control", "max-age=100", "Cache-Control", "max-age=10"), 11 * time.Second, Miss},
		{"§4.2.1 a number that is none", shared, nil, 200, fields("Cache-Control", "max-age=ten"), 0, Miss},
		{"§5.2.2.10 s-maxage for all", shared, nil, 200, fields("Cache-Control", "max-age=10, s-maxage=100"), 50 * time.Second, Fresh},
		{"§5.2.2.10 not for one", private, nil, 200, fields("Cache-Control", "max-age=10, s-maxage=100"), 50 * time.Second, Miss},
		{"§5.2.2.5 no-store", private, nil, 200, fields("Cache-Control", "no-store, max-age=10"), 0, Miss},
		{"§5.2.1.5 no-store asked", private, request{"cache-control": "no-store"}, 200, nil, 0, Miss},
		{"§5.2.2.7 private for all", shared, nil, 200, fields("Cache-Control", "private"), 0, Miss},
		{"§5.2.2.7 private for one", private, nil, 200, fields("Cache-Control", "private"), 0, Fresh},
		{"§7.3 a cookie for all", shared, nil, 200, fields("Set-Cookie", "a=b"), 0, Miss},
		{"§5.2.2.4 no-cache", private, nil, 200, fields("Cache-Control", "no-cache", "ETag", `"1"`), 0, Stale},
		{"§5.2.2.4 no-cache of what cannot be revalidated", private, nil, 200, fields("Cache-Control", "no-cache"), 0, Miss},
		{"§5.3 Expires", private, nil, 200, fields("Expires", start.Add(time.Hour).Format(http.TimeFormat)), 50 * time.Minute, Fresh},
		{"§5.3 Expires by the service's clock", private, nil, 200, fields("Date", start.Add(-time.Hour).Format(http.TimeFormat), "Expires", start.Format(http.TimeFormat)), 50 * time.Minute, Fresh},
		{"§5.3 Expires: 0", private, nil, 200, fields("Expires", "0"), 0, Miss},
		{"§5.1 Age counts", private, nil, 200, fields("Cache-Control", "max-age=100", "Age", "90"), 11 * time.Second, Miss},
		{"§3, RFC 9110 §15.1: a refusal of one request", shared, nil, 400, fields("Cache-Control", "max-age=100"), 0, Miss},
		{"of one without credential", shared, nil, 401, fields("Cache-Control", "max-age=100"), 0, Miss},
		{"of a precondition", shared, nil, 412, fields("Cache-Control", "max-age=100"), 0, Miss},
		{"of a range", shared, nil, 416, fields("Cache-Control", "max-age=100"), 0, Miss},
		{"of long fields", shared, nil, 431, fields("Cache-Control", "max-age=100"), 0, Miss},
		{"a fault of the service", shared, nil, 500, fields("Cache-Control", "max-age=100"), 0, Miss},
		{"RFC 9110 §12.5.3: a coding that not all callers know", shared, nil, 200, fields("Content-Encoding", "gzip"), 0, Miss},
		{"RFC 9110 §12.5.3: and one that is negotiated", shared, nil, 200, fields("Content-Encoding", "gzip", "Vary", "Origin, accept-encoding"), 0, Fresh},
		{"§3 206", private, nil, 206, fields("Cache-Control", "max-age=100"), 0, Miss},
		{"§4.1 Vary: *", private, nil, 200, fields("Vary", "*"), 0, Miss},
		{"stale with a validator", private, nil, 200, fields("ETag", `"1"`), time.Hour, Stale},
		{"RFC 5861 §3", private, nil, 200, fields("Cache-Control", "max-age=10, stale-while-revalidate=30"), 39 * time.Second, Tolerable},
		{"RFC 5861 §3 is over", private, nil, 200, fields("Cache-Control", "max-age=10, stale-while-revalidate=30", "ETag", "x"), 41 * time.Second, Stale},
		{"§5.2.2.2 must-revalidate", private, nil, 200, fields("Cache-Control", "max-age=10, stale-while-revalidate=30, must-revalidate"), 11 * time.Second, Stale},
		{"§5.2.1.1 max-age asked", private, request{"cache-control": "max-age=5"}, 200, nil, 6 * time.Second, Stale},
		{"§5.2.1.2 max-stale asked", private, request{"cache-control": "max-stale=100"}, 200, fields("ETag", "x"), 90 * time.Second, Tolerable},
		{"§5.2.1.3 min-fresh asked", private, request{"cache-control": "min-fresh=30"}, 200, nil, 40 * time.Second, Stale},
		{"§5.4 Pragma", private, request{"pragma": "no-cache"}, 200, nil, 0, Stale},
		{"§5.2 quoted comma", private, nil, 200, fields("Cache-Control", `community="a, no-store", max-age=10`), 5 * time.Second, Fresh},
	} {
		c := New(DefaultSize)
		c.Store(key("key"), test.policy, test.asked, test.status, test.said, []byte("body"), start)
		_, got := c.Lookup(key("key"), test.asked, start.Add(test.after))
		if got == Stale && test.want == Miss { // it is never used as it is
			answer, _ := c.Lookup(key("key"), test.asked, start.Add(test.after))
			if tag, modified := answer.Validators(); tag == "" && modified == "" {
				continue
			}
		}
		if got != test.want {
			t.Errorf("%s: verdict %d, want %d", test.clause, got, test.want)
		}
	}
}

func TestVariants(t *testing.T) { // RFC 9111 section 4.1
	c := New(DefaultSize)
	policy := &Policy{TTL: time.Hour, Shared: true}
	for _, language := range []string{"de", "en"} {
		c.Store(key("k"), policy, request{"accept-language": language}, 200, fields("Vary", "Accept-Language"), []byte(language), start)
	}
	for _, language := range []string{"de", "en"} {
		if a, v := c.Lookup(key("k"), request{"accept-language": language}, start); v != Fresh || string(a.Body) != language {
			t.Errorf("%s: %v", language, v)
		}
	}
	if _, v := c.Lookup(key("k"), nil, start); v != Miss {
		t.Errorf("without the field: %v", v)
	}
	for i := range 100 {
		c.Store(key("k"), policy, request{"accept-language": fmt.Sprint(i)}, 200, fields("Vary", "Accept-Language"), nil, start)
	}
	if _, v := c.Lookup(key("k"), request{"accept-language": "de"}, start); v != Miss {
		t.Error("variants of one resource are not bounded")
	}
}

// Memory is bounded whatever comes, and what was used last stays.
func TestMemoryIsBounded(t *testing.T) {
	const size = 1 << 20
	c := New(size)
	policy := &Policy{TTL: time.Hour, Shared: true}
	for i := range 20_000 {
		c.Store(key(fmt.Sprintf("/%d", i)), policy, nil, 200, fields("X", "y"), make([]byte, 1000), start)
		if c.State().Bytes > size {
			t.Fatalf("%d bytes after %d answers", c.State().Bytes, i+1)
		}
	}
	if _, v := c.Lookup(key("/19999"), nil, start); v != Fresh {
		t.Error("the newest is gone")
	}
	if c.Store(key("big"), policy, nil, 200, nil, make([]byte, size), start) {
		t.Error("one answer took all the room")
	}
	c.Invalidate([]byte("/19999"))
	if _, v := c.Lookup(key("/19999"), nil, start); v != Miss {
		t.Error("it outlived its resource")
	}
	for i := range 20_000 {
		c.Invalidate(fmt.Appendf(nil, "/%d", i))
	}
	if c.State().Bytes != 0 {
		t.Errorf("%d bytes of nothing", c.State().Bytes)
	}
}

// RFC 9111 section 4.1: of several answers that suit, the newest counts, also where the service began to say Vary later.
func TestNewestVariant(t *testing.T) {
	c := New(DefaultSize)
	policy, german := &Policy{TTL: time.Hour, Shared: true}, request{"accept-language": "de"}
	c.Store(key("k"), policy, nil, 200, nil, []byte("for all"), start)
	c.Store(key("k"), policy, german, 200, fields("Vary", "Accept-Language"), []byte("de"), start)
	if a, v := c.Lookup(key("k"), german, start); v != Fresh || string(a.Body) != "de" {
		t.Errorf("%v %s", v, a.Body)
	}
}

// RFC 9111 section 4.4: an answer to a request that began before a change says what was before, and is not kept.
func TestChangeUnderWay(t *testing.T) {
	c := New(DefaultSize)
	policy := &Policy{TTL: time.Hour, Shared: true}
	asked, other := key("/things/a"), key("/things/b")
	c.Lookup(asked, nil, start)
	c.Lookup(other, nil, start)
	c.Invalidate(asked.Group)
	if c.Store(asked, policy, nil, 200, nil, []byte("before"), start) {
		t.Error("an answer from before the change is kept")
	}
	if !c.Store(other, policy, nil, 200, nil, nil, start) {
		t.Error("an answer of another resource is not kept")
	}
	c.Lookup(asked, nil, start)
	if !c.Store(asked, policy, nil, 200, nil, []byte("after"), start) {
		t.Error("no answer is kept any more")
	}
}

// Whatever a service or caller writes, the stricter is understood: what names no-store is not kept.
func FuzzCacheControl(f *testing.F) {
	for _, seed := range []string{"max-age=10", "no-store, max-age=1", `private="a, b", s-maxage=5`, `x="no-store, max-age=9`, "max-age=99999999999999999999", ",,=,;", "max-stale", "max-age=\"5\""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		d := directivesOf(value)
		for _, duration := range []time.Duration{d.maxAge, d.sharedMaxAge, d.maxStale, d.minFresh, d.staleWhileRevalidate} {
			if duration < -1 || duration > maxDelta {
				t.Fatalf("%q: %v", value, duration)
			}
		}
		if !directivesOf("no-store, " + value).noStore {
			t.Fatalf("%q hides what stands before it", value)
		}
	})
}

// What the cache did is counted, and what is in it.
func TestState(t *testing.T) {
	c := New(1 << 20)
	policy := &Policy{TTL: time.Minute}
	said := fields("Cache-Control", "max-age=10, stale-while-revalidate=10", "ETag", `"1"`, "Vary", "accept")
	ask := func(accept string, after time.Duration) *Answer {
		k := key("a")
		answer, verdict := c.Lookup(k, request{"accept": accept}, start.Add(after))
		switch verdict {
		case Miss:
			c.Store(k, policy, request{"accept": accept}, 200, said, []byte("body"), start.Add(after))
		case Stale:
			c.Refresh(k, policy, request{"accept": accept}, answer, said, start.Add(after))
		}
		return answer
	}
	expect := func(when string, want fieldgate.CacheState) {
		t.Helper()
		got := c.State()
		if (got.Bytes > 0) != (got.Entries > 0) {
			t.Errorf("%s: %d answers take %d bytes", when, got.Entries, got.Bytes)
		}
		got.Bytes = 0
		if got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	expect("at first", fieldgate.CacheState{})
	ask("json", 0)
	ask("cbor", 0)
	expect("two variants", fieldgate.CacheState{Misses: 2, Entries: 2})
	ask("json", 9*time.Second)
	expect("fresh", fieldgate.CacheState{Hits: 1, Misses: 2, Entries: 2})
	ask("json", 15*time.Second)
	expect("RFC 5861 §3: stale while it is revalidated", fieldgate.CacheState{Hits: 2, Stale: 1, Misses: 2, Entries: 2})
	ask("json", 30*time.Second)
	expect("RFC 9111 §4.3: found valid", fieldgate.CacheState{Hits: 2, Stale: 1, Misses: 3, Revalidated: 1, Entries: 2})
	c.Invalidate([]byte("a"))
	expect("RFC 9111 §4.4: changed", fieldgate.CacheState{Hits: 2, Stale: 1, Misses: 3, Revalidated: 1})
	for i := range 5 * 16 {
		k := key(fmt.Sprint(i))
		c.Lookup(k, request{}, start)
		c.Store(k, policy, request{}, 200, nil, make([]byte, c.Most()-512), start)
	}
	if s := c.State(); s.Evicted == 0 || int(s.Evicted)+s.Entries != 5*16 {
		t.Errorf("when it is full: %+v", s)
	}
}
