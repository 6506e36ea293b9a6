package mqttproxy

import (
	"bytes"

	"fieldgate/protocol/mqtt"
)

// outward is a topic, or a filter without share, as the broker knows it. dst is memory for it.
func (s *session) outward(dst, topic []byte) []byte {
	if len(s.prefix) == 0 {
		return topic
	}
	return append(append(dst, s.prefix...), topic...)
}

// outwardFilter is a filter as the broker knows it: of "$share/group/filter" the group stays as it is.
func (s *session) outwardFilter(filter []byte) []byte {
	if len(s.prefix) == 0 {
		return filter
	}
	_, levels := mqtt.SplitShare(filter)
	share := filter[:len(filter)-len(levels)]
	return s.outward(append(make([]byte, 0, len(filter)+len(s.prefix)), share...), levels)
}

// inward is a broker's topic as the device knows it; no: it lies outside of what the device may see.
func (s *session) inward(topic []byte) ([]byte, bool) {
	inner, ok := bytes.CutPrefix(topic, s.prefix)
	return inner, ok && len(inner) > 0
}
