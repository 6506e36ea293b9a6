package mqttexchange

import (
	"sync/atomic"

	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// OwnedTopics knows the topics that contracts explain. Who hears everything because a pass-through API lets it in hears what no contract
// explains, and of the rest what a contract lets it hear. The zero value is ready; it is safe for concurrent use.
type OwnedTopics struct{ known atomic.Pointer[ownedTopics] }

// ownedTopics are those of one Program.
type ownedTopics struct {
	program *pipeline.Program
	tree    *mqtt.Tree[int]
}

// Has says whether a contract of the program explains the topic.
func (t *OwnedTopics) Has(program *pipeline.Program, topic []byte) bool {
	owned := t.known.Load()
	if owned == nil || owned.program != program {
		owned = &ownedTopics{program, mqtt.NewTree[int]()}
		for i, o := range program.Operations {
			if o.MQTT != nil && !o.PassThrough {
				owned.tree.Subscribe(&mqtt.Subscription[int]{Filter: o.MQTT.Filter(), Subscriber: i})
			}
		}
		t.known.Store(owned)
	}
	var found mqtt.Matches[int]
	owned.tree.Match(topic, &found)
	return len(found.Subscriptions) > 0
}
