package mqtt

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// maxLevels bounds the depth of topics and filters, and with it the work of matching one.
const maxLevels = 128

// checkUTF8 enforces the rules for strings (MQTT 5 §1.5.4): well-formed UTF-8, which excludes surrogates
// [MQTT-1.5.4-1], and no U+0000 [MQTT-1.5.4-2]. Other control characters and non-characters are allowed.
func checkUTF8(b []byte) error {
	if bytes.IndexByte(b, 0) >= 0 {
		return ErrNull
	}
	if !utf8.Valid(b) {
		return ErrUTF8
	}
	return nil
}

// ValidTopic reports whether b may be the topic name of a PUBLISH: not empty [MQTT-4.7.3-1], without wildcards
// [MQTT-3.3.2-2], and of no more levels than we match. Its UTF-8 is the decoder's business.
func ValidTopic(b []byte) bool {
	return len(b) > 0 && len(b) <= 65535 && bytes.IndexByte(b, '+') < 0 && bytes.IndexByte(b, '#') < 0 &&
		bytes.IndexByte(b, 0) < 0 && bytes.Count(b, slash) < maxLevels
}

// ValidFilter reports whether b may be a topic filter: "#" only alone as the last level [MQTT-4.7.1-1], "+" only alone
// in a level [MQTT-4.7.1-2], and a share name of at least one character without wildcards that a filter follows
// [MQTT-4.8.2-1] [MQTT-4.8.2-2].
func ValidFilter(b []byte) bool {
	if len(b) == 0 || len(b) > 65535 || bytes.IndexByte(b, 0) >= 0 || bytes.Count(b, slash) >= maxLevels {
		return false
	}
	if bytes.HasPrefix(b, sharePrefix) {
		group, filter := SplitShare(b)
		return len(group) > 0 && len(filter) > 0 && !bytes.ContainsAny(group, "+#") && validLevels(filter)
	}
	return validLevels(b)
}

func validLevels(b []byte) bool {
	for rest, more := b, true; more; {
		var level []byte
		level, rest, more = bytes.Cut(rest, slash)
		if bytes.IndexByte(level, '#') >= 0 && (len(level) > 1 || more) {
			return false
		}
		if bytes.IndexByte(level, '+') >= 0 && len(level) > 1 {
			return false
		}
	}
	return true
}

var (
	slash       = []byte("/")
	sharePrefix = []byte("$share/")
)

// SplitShare splits "$share/group/filter"; group is nil for an ordinary filter.
func SplitShare(b []byte) (group, filter []byte) {
	rest, shared := bytes.CutPrefix(b, sharePrefix)
	if !shared {
		return nil, b
	}
	group, filter, _ = bytes.Cut(rest, slash)
	return group, filter
}

// splitShare is SplitShare; group is empty for an ordinary filter.
func splitShare(s string) (group, filter string) {
	rest, shared := strings.CutPrefix(s, string(sharePrefix))
	if !shared {
		return "", s
	}
	group, filter, _ = strings.Cut(rest, "/")
	return group, filter
}

// FilterMatches reports whether the filter (without a share prefix) matches the topic name. A wildcard in the first level
// does not match a topic that begins with "$" [MQTT-4.7.2-1].
func FilterMatches(filter, topic []byte) bool {
	if len(topic) > 0 && topic[0] == '$' && len(filter) > 0 && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	return levelsMatch(filter, topic)
}

// levelsMatch is FilterMatches for what is left of both behind a level.
func levelsMatch[F string | []byte](filter F, topic []byte) bool {
	for {
		wanted, filterRest, filterMore := cutLevel(filter)
		if len(wanted) == 1 && wanted[0] == '#' {
			return true
		}
		level, topicRest, topicMore := cutLevel(topic)
		if !(len(wanted) == 1 && wanted[0] == '+') && string(wanted) != string(level) {
			return false
		}
		switch {
		case !filterMore && !topicMore:
			return true
		case !topicMore: // "sport/#" also matches "sport" (§4.7.1.2)
			return len(filterRest) == 1 && filterRest[0] == '#'
		case !filterMore:
			return false
		}
		filter, topic = filterRest, topicRest
	}
}

func cutLevel[S string | []byte](s S) (level, rest S, more bool) {
	for i := range len(s) {
		if s[i] == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, s[len(s):], false
}
