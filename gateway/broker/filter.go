package broker

import "strings"

// MatchFilter says whether a topic filter matches a topic name (MQTT 5 section 4.7): "+" is one level, "#" the rest, and
// neither at the start matches a topic that begins with "$" (section 4.7.2).
func MatchFilter(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		if filter == "#" {
			return true
		}
		filterLevel, filterRest, filterMore := strings.Cut(filter, "/")
		topicLevel, topicRest, topicMore := strings.Cut(topic, "/")
		if filterLevel != "+" && filterLevel != topicLevel {
			return false
		}
		if !topicMore {
			return !filterMore || filterRest == "#"
		}
		if !filterMore {
			return false
		}
		filter, topic = filterRest, topicRest
	}
}
