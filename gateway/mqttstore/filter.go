package mqttstore

import "bytes"

// A matcher finds the keys of the topics that a filter matches, in order, by jumping over those that it does not match.
type matcher struct {
	levels [][]byte // of the filter
	lower  []byte   // all matching keys are in [lower, upper)
	upper  []byte
}

func newMatcher(filter string) *matcher {
	m := &matcher{levels: bytes.Split([]byte(filter), []byte{'/'})}
	m.lower = []byte{prefixRetain}
	literal := 0
	for _, level := range m.levels {
		if isWildcard(level) {
			break
		}
		if literal > 0 {
			m.lower = append(m.lower, 0)
		}
		m.lower = append(m.lower, level...)
		literal++
	}
	m.upper = bytes.Clone(m.lower)
	if literal == 0 {
		m.upper = successor(m.upper)
	} else {
		m.upper = append(m.upper, 1) // the topic itself, and those below it
	}
	return m
}

func isWildcard(level []byte) bool { return len(level) == 1 && (level[0] == '+' || level[0] == '#') }

// match says whether the filter matches the topic of the key, which is one in [lower, upper). If not, the next key that it may
// match is at or behind seek, which is appended to buffer and greater than key.
func (m *matcher) match(key, buffer []byte) (matches bool, seek []byte) {
	start := 1 // of the present level of the key; before it stands a separator, or the prefix
	for i, wanted := range m.levels {
		if start > len(key) { // the topic has ended
			if len(wanted) == 1 && wanted[0] == '#' { // "sport/#" also matches "sport" (MQTT 5 section 4.7.1.2)
				return true, nil
			}
			seek = append(append(buffer, key...), 0)
			if !isWildcard(wanted) {
				seek = append(seek, wanted...)
			}
			return false, seek
		}
		end := len(key)
		if n := bytes.IndexByte(key[start:], 0); n >= 0 {
			end = start + n
		}
		level := key[start:end]
		if isWildcard(wanted) {
			if i == 0 && len(level) > 0 && level[0] == '$' { // [MQTT-4.7.2-1]
				return false, append(buffer, prefixRetain, '$'+1)
			}
			if wanted[0] == '#' {
				return true, nil
			}
		} else if order := bytes.Compare(level, wanted); order < 0 {
			return false, append(append(buffer, key[:start]...), wanted...)
		} else if order > 0 {
			return false, past(buffer, key, start)
		}
		start = end + 1
	}
	if start > len(key) {
		return true, nil
	}
	return false, append(append(buffer, key[:start-1]...), 1) // the topic has more levels: past all below this one
}

// past is behind all keys that have the levels before start, where one begins.
func past(buffer, key []byte, start int) []byte {
	if start == 1 {
		return append(buffer, prefixRetain+1)
	}
	return append(append(buffer, key[:start-1]...), 1)
}
