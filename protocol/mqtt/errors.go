package mqtt

// Error says how a packet broke the protocol. All are package-level values, so that finding one costs no allocation
// and a test can compare them.
type Error struct {
	Reason Reason // what a version 5 peer is told
	Clause string // the statement that was broken, e.g. "MQTT-3.1.0-1", or "" where the standard numbers none
	Text   string
}

func (e *Error) Error() string {
	if e.Clause == "" {
		return "mqtt: " + e.Text
	}
	return "mqtt: " + e.Text + " [" + e.Clause + "]"
}

func malformed(clause, text string) *Error { return &Error{MalformedPacket, clause, text} }
func violation(clause, text string) *Error { return &Error{ProtocolViolation, clause, text} }

// Violations that any packet can commit.
var (
	ErrShort          = malformed("MQTT-4.13.1-1", "packet ends inside a field")
	ErrTrailing       = malformed("MQTT-4.13.1-1", "bytes after the last field")
	ErrPacketType     = malformed("MQTT-4.13.1-1", "packet type 0 is reserved, and AUTH does not exist in 3.1.1")
	ErrFlags          = malformed("MQTT-2.1.3-1", "reserved header flags have the wrong value")
	ErrVariableInt    = malformed("MQTT-1.5.5-1", "variable byte integer is longer than necessary or than 4 bytes")
	ErrUTF8           = malformed("MQTT-1.5.4-1", "string is not well-formed UTF-8")
	ErrNull           = malformed("MQTT-1.5.4-2", "string contains U+0000")
	ErrTooLarge       = &Error{PacketTooLarge, "MQTT-3.2.2-15", "packet is larger than the limit"}
	ErrPacketID       = violation("MQTT-2.2.1-3", "packet identifier is 0")
	ErrReason         = malformed("", "reason code does not belong to this packet")
	ErrDirection      = violation("MQTT-4.13.1-1", "this packet is never sent in this direction")
	ErrPropertyID     = malformed("MQTT-4.13.1-1", "property is unknown or does not belong to this packet")
	ErrPropertyTwice  = violation("MQTT-4.13.1-1", "property appears more than once")
	ErrPropertyValue  = violation("MQTT-4.13.1-1", "property has a value that is not allowed")
	ErrPropertyLength = malformed("MQTT-2.2.2-1", "property length exceeds the packet")
	ErrTooMany        = &Error{QuotaExceeded, "", "more user properties, subscription identifiers or filters than the limit"}
)

// Violations of one packet type.
var (
	ErrProtocolName      = &Error{UnsupportedProtocolVersion, "MQTT-3.1.2-1", "protocol name is not MQTT"}
	ErrProtocolVersion   = &Error{UnsupportedProtocolVersion, "MQTT-3.1.2-2", "protocol version is neither 4 (3.1.1) nor 5"}
	ErrConnectFlags      = malformed("MQTT-3.1.2-3", "reserved CONNECT flag is set")
	ErrWillFlags         = malformed("MQTT-3.1.2-11", "will QoS or will retain is set without a will")
	ErrWillQoS           = malformed("MQTT-3.1.2-12", "will QoS is 3")
	ErrPasswordFlag      = malformed("MQTT-3.1.2-22", "password without user name (3.1.1)")
	ErrClientID          = &Error{ClientIdentifierNotValid, "MQTT-3.1.3-8", "empty client identifier with clean session 0 (3.1.1)"}
	ErrAuthMethod        = violation("MQTT-4.12.0-1", "authentication data without a method")
	ErrNotConnect        = violation("MQTT-3.1.0-1", "first packet is not CONNECT")
	ErrSecondConnect     = violation("MQTT-3.1.0-2", "second CONNECT")
	ErrQoS               = malformed("MQTT-3.3.1-4", "QoS is 3")
	ErrDup               = malformed("MQTT-3.3.1-2", "DUP is set on a QoS 0 message")
	ErrTopic             = &Error{TopicNameInvalid, "MQTT-3.3.2-2", "topic name contains a wildcard"}
	ErrTopicEmpty        = violation("MQTT-4.7.3-1", "topic name is empty and no alias stands for it")
	ErrTopicAlias        = &Error{TopicAliasInvalid, "MQTT-3.3.2-9", "topic alias is 0 or above the maximum"}
	ErrTopicAliasUnknown = violation("", "topic alias stands for no topic yet") // §3.3.2.3.4
	ErrResponseTopic     = violation("MQTT-3.3.2-14", "response topic contains a wildcard or is empty")
	ErrSubscriptionID    = violation("MQTT-3.3.4-6", "subscription identifier in a PUBLISH to the server")
	ErrReceiveMaximum    = &Error{ReceiveMaximumExceeded, "MQTT-3.3.4-7", "more unacknowledged messages than the receive maximum"}
	ErrPacketIDInUse     = violation("MQTT-2.2.1-3", "packet identifier is in use")
	ErrQoSNotSupported   = &Error{QoSNotSupported, "MQTT-3.2.2-11", "QoS is above the announced maximum"}
	ErrNoFilters         = violation("MQTT-3.8.3-2", "no topic filter")
	ErrSubscribeOptions  = malformed("MQTT-3.8.3-5", "reserved bits of the subscription options are set, or QoS or retain handling is 3")
	ErrNoLocalShared     = violation("MQTT-3.8.3-4", "no local on a shared subscription")
	ErrUnsubscribeEmpty  = violation("MQTT-3.10.3-2", "no topic filter")
	ErrSessionExpiry     = violation("MQTT-3.14.2-2", "session expiry raised from 0 at DISCONNECT, or sent by a server")
	ErrAuthNotExpected   = violation("MQTT-4.12.0-7", "AUTH without an authentication method in CONNECT")
	ErrAuthOtherMethod   = violation("MQTT-4.12.0-5", "AUTH without the authentication method of CONNECT")
	ErrAuthReason        = violation("MQTT-4.12.0-3", "AUTH that is due neither as an answer nor as the start of a re-authentication")
	ErrNotAuth           = violation("MQTT-3.1.2-30", "packet other than AUTH or DISCONNECT before the authentication ended")
	ErrAckQoS            = violation("MQTT-4.13.1-1", "acknowledgement does not belong to the message's QoS")
	ErrKeepAlive         = &Error{KeepAliveTimeout, "MQTT-3.1.2-22", "no packet for one and a half keep-alive periods"}
)
