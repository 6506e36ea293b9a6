package fieldgate

import (
	"strings"
	"time"
)

// What the control plane asks gateways about MQTT, and what they answer. Every list is a page in the order of its keys; what does not
// fit is on the next.

// Bounds of questions about MQTT.
const (
	MaxMQTTPage       = 1000             // entries of a page
	MaxMQTTPageBytes  = 512 << 10        // of a page as JSON, about
	MaxMQTTListed     = 100              // messages in flight that one session shows
	MaxMQTTWatches    = 16               // live subscriptions of operators that a gateway follows
	MaxMQTTWatchRate  = 100              // messages a second that a gateway sends for one of them; the others are counted
	MQTTWatchLease    = 5 * time.Second  // a live subscription ends unless its order comes again within this time
	MQTTWatchInterval = time.Second      // between two sendings of its order
	MQTTTopicsLease   = time.Minute      // topics are counted for so long after somebody has asked for them
	MaxMQTTScan       = 20_000           // retained messages that are read from the disk for one page of topics
	MaxMQTTTopics     = 10_000           // that a gateway counts; messages on others are counted together
	MQTTAnswerTimeout = 10 * time.Second // a gateway that takes longer is missing from an answer
)

// MQTTQuestion is one question to one gateway; one of its members is there.
type MQTTQuestion struct {
	Sessions       *MQTTSessionsQuestion `json:"sessions,omitempty"`
	Session        *MQTTSessionKey       `json:"session,omitempty"`
	Disconnect     *MQTTDisconnect       `json:"disconnect,omitempty"`
	End            *MQTTSessionKey       `json:"end,omitempty"`
	Topics         *MQTTTopicsQuestion   `json:"topics,omitempty"`
	Retained       *MQTTRetainedQuestion `json:"retained,omitempty"`
	Message        string                `json:"message,omitempty"`        // topic of the retained message to show
	DeleteRetained string                `json:"deleteRetained,omitempty"` // topic
}

// MQTTAnswer is what a gateway answers, by the member of the question.
type MQTTAnswer struct {
	Sessions []MQTTSession  `json:"sessions,omitempty"` // one where one was asked for, none where the gateway does not have it
	Topics   []MQTTTopic    `json:"topics,omitempty"`
	Retained []MQTTRetained `json:"retained,omitempty"` // one where one was asked for
	More     bool           `json:"more,omitempty"`     // another page follows
	Counted  float64        `json:"counted,omitempty"`  // seconds that the rates of Topics were counted over; 0: counting has just begun
	Others   float64        `json:"others,omitempty"`   // messages a second on topics beyond MaxMQTTTopics
	Done     bool           `json:"done,omitempty"`     // what Disconnect, End or DeleteRetained names was there, and is no more
}

// MQTTSessionKey names a session.
type MQTTSessionKey struct {
	Kind      PrincipalKind `json:"kind"`
	Principal string        `json:"principal"`
	Client    string        `json:"client"` // MQTT client identifier
}

// Order is the place of a session in lists: by client, then by principal.
func (k *MQTTSessionKey) Order() string {
	return k.Client + "\x00" + string(k.Kind) + "\x00" + k.Principal // no MQTT string holds U+0000 [MQTT-1.5.4-2]
}

// MQTTDisconnect asks to close the connection that a session has had since then; not one that was made later.
type MQTTDisconnect struct {
	MQTTSessionKey
	Since time.Time `json:"since"`
}

// MQTTSessionsQuestion asks for a page of sessions.
type MQTTSessionsQuestion struct {
	Terms []FilterTerm `json:"terms,omitempty"`
	After string       `json:"after,omitempty"` // Order of the last one of the page before
	Limit int          `json:"limit"`           // MaxMQTTPage at the most
}

// MQTTSession is one session. Lists leave out all that is said to be of one session only.
type MQTTSession struct {
	MQTTSessionKey
	Connected     bool      `json:"connected,omitempty"`
	Since         time.Time `json:"since,omitzero"`      // connected, or away
	Version       string    `json:"version,omitempty"`   // 3.1.1 or 5; empty while away
	KeepAlive     int       `json:"keepAlive,omitempty"` // seconds; 0: none, or away
	Source        string    `json:"source,omitempty"`    // address of the connection
	Expiry        int64     `json:"expiry"`              // seconds that it outlives its connection
	NeverExpires  bool      `json:"neverExpires,omitempty"`
	Kept          bool      `json:"kept,omitempty"` // on disk: it survives a restart of the gateway
	Subscriptions int       `json:"subscriptions"`
	Queued        int       `json:"queued"`      // messages that wait
	QueuedBytes   int       `json:"queuedBytes"` // of them
	InFlight      int       `json:"inFlight"`    // sent and not acknowledged

	// Of one session only.
	Filters         []MQTTSubscription `json:"filters,omitempty"`
	FiltersNotShown int                `json:"filtersNotShown,omitempty"`
	Messages        []MQTTInFlight     `json:"messages,omitempty"`  // in flight, the oldest first; MaxMQTTListed at the most
	Receiving       int                `json:"receiving,omitempty"` // QoS 2 messages received and not released
	Will            *MQTTWill          `json:"will,omitempty"`
	MaxQueued       int                `json:"maxQueued,omitempty"`
	MaxQueuedBytes  int                `json:"maxQueuedBytes,omitempty"`
}

// MQTTSubscription is one filter of a session.
type MQTTSubscription struct {
	Filter            string `json:"filter"`
	QoS               byte   `json:"qos"`
	NoLocal           bool   `json:"noLocal,omitempty"`
	RetainAsPublished bool   `json:"retainAsPublished,omitempty"`
	ID                uint32 `json:"id,omitempty"`
	Mute              bool   `json:"mute,omitempty"` // contracts no longer let it in: nothing is delivered
}

// MQTTInFlight is a message that was sent and not acknowledged.
type MQTTInFlight struct {
	ID       uint16 `json:"id"`
	Topic    string `json:"topic"`
	QoS      byte   `json:"qos"`
	Bytes    int    `json:"bytes"`
	Released bool   `json:"released,omitempty"` // PUBREL was sent
}

// MQTTWill is what a session's client left for the case that it goes without a word.
type MQTTWill struct {
	Topic  string `json:"topic"`
	QoS    byte   `json:"qos"`
	Retain bool   `json:"retain,omitempty"`
	Delay  uint32 `json:"delay,omitempty"` // seconds
	Bytes  int    `json:"bytes"`
}

// MQTTTopicsQuestion asks for a page of the levels below a topic, and makes the gateway count messages by topic for MQTTTopicsLease.
type MQTTTopicsQuestion struct {
	Prefix string  `json:"prefix,omitempty"` // empty for the first level, else it ends in "/"
	After  *string `json:"after,omitempty"`  // level; one may be empty
	Limit  int     `json:"limit"`
}

// MQTTTopic is one level of the tree with all below it.
type MQTTTopic struct {
	Level    string  `json:"level"`
	Rate     float64 `json:"rate,omitempty"`     // messages a second, on it and below it
	Retained int     `json:"retained,omitempty"` // messages, on it and below it
	Topics   int     `json:"topics"`             // known below it
	AtLeast  bool    `json:"atLeast,omitempty"`  // Retained and Topics are more: MaxMQTTScan was reached
	Own      bool    `json:"own,omitempty"`      // it is a topic itself
}

// TopicOrder is the place of a topic in lists: level by level.
func TopicOrder(topic string) string { return strings.ReplaceAll(topic, "/", "\x00") }

// MQTTRetainedQuestion asks for a page of retained messages.
type MQTTRetainedQuestion struct {
	Filter string `json:"filter"`          // MQTT topic filter
	After  string `json:"after,omitempty"` // topic
	Limit  int    `json:"limit"`
}

// MQTTRetained is a retained message; its content is there where it alone was asked for.
type MQTTRetained struct {
	MQTTMessage
	Expires time.Time        `json:"expires,omitzero"`
	Content *CapturedContent `json:"content,omitempty"`
}

// MQTTMessage is a message without its content.
type MQTTMessage struct {
	Topic       string        `json:"topic"`
	QoS         byte          `json:"qos"`
	Retain      bool          `json:"retain,omitempty"`
	Bytes       int           `json:"bytes"`
	ContentType string        `json:"contentType,omitempty"`
	Kind        PrincipalKind `json:"kind,omitempty"` // of who published it; empty: Fieldgate itself, or nobody knows any more
	Principal   string        `json:"principal,omitempty"`
	Client      string        `json:"client,omitempty"`
	Time        time.Time     `json:"time,omitzero"`
}

// MQTTWatch orders gateways to send what is published on the topics of a filter. It is sent again and again while somebody looks.
type MQTTWatch struct {
	ID     string `json:"id"`
	Filter string `json:"filter"`
	Over   bool   `json:"over,omitempty"` // nobody looks any more
}

// MQTTHeard is what a gateway sends for a live subscription: at once when it begins to listen, at each order, and when there are messages.
type MQTTHeard struct {
	Node     string             `json:"node"`
	Messages []MQTTHeardMessage `json:"messages,omitempty"`
	LeftOut  int                `json:"leftOut,omitempty"` // since the last one, beyond MaxMQTTWatchRate
}

// MQTTHeardMessage is one message with its content.
type MQTTHeardMessage struct {
	MQTTMessage
	Content CapturedContent `json:"content"`
}
