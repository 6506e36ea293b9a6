package mqttfront

import (
	"strings"

	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// ownedTopics knows the topics that contracts explain, of one Program. Who hears everything because a pass-through API lets
// it in hears what no contract explains, and of the rest what a contract lets it hear.
type ownedTopics struct {
	program *pipeline.Program
	tree    *mqtt.Tree[int]
}

func (f *Front) isOwned(topic []byte) bool {
	owned := f.owned.Load()
	if program := f.pipeline.Program(); owned == nil || owned.program != program {
		owned = &ownedTopics{program, mqtt.NewTree[int]()}
		for i, o := range program.Operations {
			if o.MQTT != nil && !o.PassThrough {
				owned.tree.Subscribe([]byte(filterOf(o.MQTT.Topic)), &mqtt.Subscription[int]{Subscriber: i})
			}
		}
		f.owned.Store(owned)
	}
	var found mqtt.Matches[int]
	owned.tree.Match(topic, &found)
	return len(found.Subscriptions) > 0
}

// filterOf is the filter that matches all topics of a template.
func filterOf(template string) string {
	levels := strings.Split(template, "/")
	for i, level := range levels {
		if strings.HasPrefix(level, "{") {
			levels[i] = "+"
		}
	}
	return strings.Join(levels, "/")
}
