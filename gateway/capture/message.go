package capture

import (
	"sync"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// Notes about messages whose content is not shown.
const (
	noteUndocumented = "left out: no contract explains the topic, so that nobody has said what is secret in it"
	noteForbidden    = "left out: the contract forbids to capture"
	noteForeign      = "left out: it was published with a credential that is not Fieldgate's"
)

// Messages shows single messages to operators by the rules of captures: without what is secret in them. It is safe for concurrent use.
type Messages struct {
	pipeline *pipeline.Pipeline

	mu      sync.Mutex
	program *pipeline.Program // that topics and hidden are of
	topics  *mqtt.Tree[*pipeline.Operation]
	hidden  *mqtt.Tree[*pipeline.Operation] // whose topics hold a secret
	of      map[*fieldgate.Contract]*redactor
}

// NewMessages makes what shows messages.
func NewMessages(p *pipeline.Pipeline) *Messages { return &Messages{pipeline: p} }

// View is a message without its content.
func View(m *broker.Message) fieldgate.MQTTMessage {
	return fieldgate.MQTTMessage{Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, Bytes: len(m.Payload), ContentType: withoutCredentials(text(m.ContentType)),
		Kind: m.Publisher.Kind, Principal: m.Publisher.ID, Client: m.Client, Time: m.Time}
}

// MayName says whether the topic itself may be shown: none of its levels is a parameter that the contract says is secret, or looks like a
// credential.
func (m *Messages) MayName(topic string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.link()
	return (m.hidden.Len() == 0 || len(match(m.hidden, topic)) == 0) && withoutCredentials(topic) == topic
}

// CoAPPath is a path as it may be shown: the contract's template where one of its parameters is secret.
func (m *Messages) CoAPPath(o *pipeline.Operation, path string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.link()
	if o != nil && o.CoAP != nil {
		for i := range o.Parameters {
			if p := &o.Parameters[i]; p.In == fieldgate.InPath && m.redactor(o.Contract).secretParameter(p) {
				return o.CoAP.Path
			}
		}
	}
	return withoutCredentials(path)
}

// Content is what a message carries, without what is secret in it.
func (m *Messages) Content(message *broker.Message) fieldgate.CapturedContent {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.link()
	c := fieldgate.CapturedContent{Type: withoutCredentials(text(message.ContentType)), Bytes: uint64(len(message.Payload))}
	if message.Publisher.Kind == fieldgate.PrincipalForeign {
		c.Note = noteForeign
		return c
	}
	operations := match(m.topics, message.Topic)
	if len(operations) == 0 {
		c.Note = noteUndocumented
		return c
	}
	carried := content{mediaType: message.ContentType}
	carried.add(message.Payload)
	for i, o := range operations {
		if o.Contract.NoCapture {
			return fieldgate.CapturedContent{Type: c.Type, Bytes: c.Bytes, Note: noteForbidden}
		}
		r := m.redactor(o.Contract)
		if given := r.given(o.Operation); i == 0 || c.JSON == nil {
			c = r.content(&carried, o.Operation, given, uint64(len(message.Payload)))
		} else if c.JSON = r.json(c.JSON, given, false); c.JSON == nil { // several operations, and what is secret for one of them is
			c.Note = noteTooLarge
		}
		if c.JSON == nil && c.Data == nil {
			break
		}
	}
	return c
}

func (m *Messages) redactor(contract *fieldgate.Contract) *redactor {
	r := m.of[contract]
	if r == nil {
		r = newRedactor(contract)
		m.of[contract] = r
	}
	return r
}

// link knows the topics of the contracts in force. m is locked.
func (m *Messages) link() {
	program := m.pipeline.Program()
	if m.program == program {
		return
	}
	m.program, m.of = program, make(map[*fieldgate.Contract]*redactor)
	m.topics, m.hidden = mqtt.NewTree[*pipeline.Operation](), mqtt.NewTree[*pipeline.Operation]()
	for _, o := range program.Operations {
		if o.MQTT == nil || o.PassThrough {
			continue
		}
		filter := o.MQTT.Filter()
		m.topics.Subscribe(&mqtt.Subscription[*pipeline.Operation]{Filter: filter, Subscriber: o})
		for i := range o.Parameters {
			if p := &o.Parameters[i]; p.In == fieldgate.InPath && m.redactor(o.Contract).secretParameter(p) {
				m.hidden.Subscribe(&mqtt.Subscription[*pipeline.Operation]{Filter: filter, Subscriber: o})
			}
		}
	}
}

func match(tree *mqtt.Tree[*pipeline.Operation], topic string) (operations []*pipeline.Operation) {
	var found mqtt.Matches[*pipeline.Operation]
	tree.Match([]byte(topic), &found)
	for _, s := range found.Subscriptions {
		operations = append(operations, s.Subscriber)
	}
	return operations
}
