package mqttstore

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"fieldgate/protocol/mqtt"
)

// Jumping from key to key finds exactly the topics that mqtt.FilterMatches matches, in order, and soon.
func TestMatcherAgainstFilterMatches(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	levels := []string{"a", "b", "ab", "abc", "", "$", "$SYS", "a\x01", "\x01", "%", "ü", "\U0010FFFF"}
	topic := func(words []string) string {
		var parts []string
		for range 1 + random.IntN(4) {
			parts = append(parts, words[random.IntN(len(words))])
		}
		return strings.Join(parts, "/")
	}
	for range 3000 {
		topics := map[string]bool{}
		for range random.IntN(60) {
			if name := topic(levels); name != "" {
				topics[name] = true
			}
		}
		filter := topic(append(levels, "+", "+", "+", "+"))
		if random.IntN(3) == 0 {
			filter += "/#"
		}
		if random.IntN(20) == 0 {
			filter = "#"
		}
		if !mqtt.ValidFilter([]byte(filter)) || strings.HasPrefix(filter, "$share/") {
			continue
		}
		var keys []string
		var want []string
		for name := range topics {
			keys = append(keys, string(retainKey(nil, name)))
			if mqtt.FilterMatches([]byte(filter), []byte(name)) {
				want = append(want, name)
			}
		}
		slices.Sort(keys)
		var got []string
		m := newMatcher(filter)
		position := m.lower
		steps := 0
		for {
			i, _ := slices.BinarySearch(keys, string(position))
			if i == len(keys) || keys[i] >= string(m.upper) {
				break
			}
			key := []byte(keys[i])
			matches, seek := m.match(key, nil)
			if matches {
				got = append(got, string(topicOf(key)))
				seek = append(bytes.Clone(key), 0)
				if i+1 < len(keys) {
					seek = []byte(keys[i+1])
				}
			}
			if bytes.Compare(seek, key) <= 0 {
				t.Fatalf("seed %d: filter %q: from %q back to %q", seed, filter, key, seek)
			}
			position = seek
			steps++
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: filter %q in %q: got %q, want %q", seed, filter, keys, got, want)
		}
		if steps > len(keys) {
			t.Fatalf("seed %d: %d steps over %d topics", seed, steps, len(keys))
		}
	}
}

// A wildcard in the middle of a filter does not look at what lies between.
func TestMatcherJumps(t *testing.T) {
	m := newMatcher("site/+/status")
	var b []byte
	for _, c := range []struct{ topic, seek string }{
		{"site", "site/"},
		{"site/1", "site/1/status"},
		{"site/1/a/b", "site/1/status"},
		{"site/1/status/more", "site/1/status\x01"},
		{"site/1/zoo", "site/1\x01"},
	} {
		matches, seek := m.match(retainKey(nil, c.topic), b[:0])
		if want := retainKey(nil, c.seek); matches || !bytes.Equal(seek, want) {
			t.Errorf("%s: %v, %q, want %q", c.topic, matches, seek, want)
		}
	}
}
