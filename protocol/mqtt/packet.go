package mqtt

// Version is the protocol level that CONNECT names.
type Version byte

// The versions spoken.
const (
	V311 Version = 4
	V5   Version = 5
)

func (v Version) String() string {
	if v == V5 {
		return "5.0"
	}
	return "3.1.1"
}

// PacketType is the upper half of a packet's first byte (MQTT 5 §2.1.2).
type PacketType byte

// The packet types.
const (
	CONNECT PacketType = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

var packetNames = [16]string{"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

func (t PacketType) String() string { return packetNames[t&15] }

// Connect is a CONNECT packet (MQTT 5 §3.1). A nil Username or Password is an absent one.
type Connect struct {
	Version    Version
	CleanStart bool // "clean session" in 3.1.1
	KeepAlive  uint16
	ClientID   []byte
	Username   []byte
	Password   []byte
	Properties Properties

	HasWill        bool
	WillQoS        byte
	WillRetain     bool
	WillTopic      []byte
	WillPayload    []byte
	WillProperties Properties
}

// Connack is a CONNACK packet (§3.2). In 3.1.1 Reason is translated from and to the return code.
type Connack struct {
	SessionPresent bool
	Reason         Reason
	Properties     Properties
}

// Publish is a PUBLISH packet (§3.3). PacketID is 0 exactly when QoS is 0.
type Publish struct {
	Dup        bool
	QoS        byte
	Retain     bool
	Topic      []byte
	PacketID   uint16
	Properties Properties
	Payload    []byte
}

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP packet (§3.4 to §3.7).
type Ack struct {
	Type       PacketType
	PacketID   uint16
	Reason     Reason
	Properties Properties
}

// Filter is one topic filter of a SUBSCRIBE with its options (§3.8.3.1).
type Filter struct {
	Filter            []byte
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0 send retained messages, 1 only for a new subscription, 2 never
}

// Subscribe is a SUBSCRIBE packet (§3.8).
type Subscribe struct {
	PacketID   uint16
	Properties Properties
	Filters    []Filter
}

// Unsubscribe is an UNSUBSCRIBE packet (§3.10).
type Unsubscribe struct {
	PacketID   uint16
	Properties Properties
	Filters    [][]byte
}

// SubAck is a SUBACK or UNSUBACK packet (§3.9, §3.11): one reason for each filter, in order. An UNSUBACK of 3.1.1
// carries none.
type SubAck struct {
	Type       PacketType
	PacketID   uint16
	Properties Properties
	Reasons    []Reason
}

// Disconnect is a DISCONNECT or AUTH packet (§3.14, §3.15).
type Disconnect struct {
	Type       PacketType
	Reason     Reason
	Properties Properties
}
