package mqtt

import "fmt"

// Reason is a version 5 reason code (MQTT 5 §2.4). Values of 0x80 and above report failure.
type Reason byte

// The reason codes of MQTT 5, table 2-6.
const (
	Success                     Reason = 0x00 // also NormalDisconnection and GrantedQoS0
	GrantedQoS1                 Reason = 0x01
	GrantedQoS2                 Reason = 0x02
	DisconnectWithWill          Reason = 0x04
	NoMatchingSubscribers       Reason = 0x10
	NoSubscriptionExisted       Reason = 0x11
	ContinueAuthentication      Reason = 0x18
	Reauthenticate              Reason = 0x19
	UnspecifiedError            Reason = 0x80
	MalformedPacket             Reason = 0x81
	ProtocolViolation           Reason = 0x82 // "Protocol Error"
	ImplementationSpecificError Reason = 0x83
	UnsupportedProtocolVersion  Reason = 0x84
	ClientIdentifierNotValid    Reason = 0x85
	BadUserNameOrPassword       Reason = 0x86
	NotAuthorized               Reason = 0x87
	ServerUnavailable           Reason = 0x88
	ServerBusy                  Reason = 0x89
	Banned                      Reason = 0x8A
	ServerShuttingDown          Reason = 0x8B
	BadAuthenticationMethod     Reason = 0x8C
	KeepAliveTimeout            Reason = 0x8D
	SessionTakenOver            Reason = 0x8E
	TopicFilterInvalid          Reason = 0x8F
	TopicNameInvalid            Reason = 0x90
	PacketIdentifierInUse       Reason = 0x91
	PacketIdentifierNotFound    Reason = 0x92
	ReceiveMaximumExceeded      Reason = 0x93
	TopicAliasInvalid           Reason = 0x94
	PacketTooLarge              Reason = 0x95
	MessageRateTooHigh          Reason = 0x96
	QuotaExceeded               Reason = 0x97
	AdministrativeAction        Reason = 0x98
	PayloadFormatInvalid        Reason = 0x99
	RetainNotSupported          Reason = 0x9A
	QoSNotSupported             Reason = 0x9B
	UseAnotherServer            Reason = 0x9C
	ServerMoved                 Reason = 0x9D
	SharedSubsNotSupported      Reason = 0x9E
	ConnectionRateExceeded      Reason = 0x9F
	MaximumConnectTime          Reason = 0xA0
	SubscriptionIDsNotSupported Reason = 0xA1
	WildcardSubsNotSupported    Reason = 0xA2
)

// Failed reports whether the code reports failure.
func (r Reason) Failed() bool { return r >= 0x80 }

var reasonText = map[Reason]string{
	Success: "success", GrantedQoS1: "granted QoS 1", GrantedQoS2: "granted QoS 2",
	DisconnectWithWill: "disconnect with will message", NoMatchingSubscribers: "no matching subscribers",
	NoSubscriptionExisted: "no subscription existed", ContinueAuthentication: "continue authentication",
	Reauthenticate: "re-authenticate", UnspecifiedError: "unspecified error", MalformedPacket: "malformed packet",
	ProtocolViolation: "protocol error", ImplementationSpecificError: "implementation specific error",
	UnsupportedProtocolVersion: "unsupported protocol version", ClientIdentifierNotValid: "client identifier not valid",
	BadUserNameOrPassword: "bad user name or password", NotAuthorized: "not authorized",
	ServerUnavailable: "server unavailable", ServerBusy: "server busy", Banned: "banned",
	ServerShuttingDown: "server shutting down", BadAuthenticationMethod: "bad authentication method",
	KeepAliveTimeout: "keep alive timeout", SessionTakenOver: "session taken over",
	TopicFilterInvalid: "topic filter invalid", TopicNameInvalid: "topic name invalid",
	PacketIdentifierInUse: "packet identifier in use", PacketIdentifierNotFound: "packet identifier not found",
	ReceiveMaximumExceeded: "receive maximum exceeded", TopicAliasInvalid: "topic alias invalid",
	PacketTooLarge: "packet too large", MessageRateTooHigh: "message rate too high", QuotaExceeded: "quota exceeded",
	AdministrativeAction: "administrative action", PayloadFormatInvalid: "payload format invalid",
	RetainNotSupported: "retain not supported", QoSNotSupported: "QoS not supported",
	UseAnotherServer: "use another server", ServerMoved: "server moved",
	SharedSubsNotSupported: "shared subscriptions not supported", ConnectionRateExceeded: "connection rate exceeded",
	MaximumConnectTime: "maximum connect time", SubscriptionIDsNotSupported: "subscription identifiers not supported",
	WildcardSubsNotSupported: "wildcard subscriptions not supported",
}

func (r Reason) String() string {
	if text, ok := reasonText[r]; ok {
		return fmt.Sprintf("%s (0x%02X)", text, byte(r))
	}
	return fmt.Sprintf("reason 0x%02X", byte(r))
}

// reasonsOf is table 2-6: the packets that may carry each reason code.
var reasonsOf = func() (table [256]uint16) {
	set := func(packets uint16, reasons ...Reason) {
		for _, r := range reasons {
			table[r] = packets
		}
	}
	answers := in(PUBACK, PUBREC, SUBACK, UNSUBACK)
	ends := in(CONNACK, DISCONNECT)
	set(in(CONNACK, PUBREL, PUBCOMP, DISCONNECT, AUTH)|answers, Success)
	set(in(SUBACK), GrantedQoS1, GrantedQoS2)
	set(in(UNSUBACK), NoSubscriptionExisted)
	set(in(PUBACK, PUBREC), NoMatchingSubscribers)
	set(in(PUBREL, PUBCOMP), PacketIdentifierNotFound)
	set(in(AUTH), ContinueAuthentication, Reauthenticate)
	set(ends|answers, UnspecifiedError, ImplementationSpecificError, NotAuthorized)
	set(answers, PacketIdentifierInUse)
	set(ends, MalformedPacket, ProtocolViolation, ServerBusy, BadAuthenticationMethod, PacketTooLarge, RetainNotSupported,
		QoSNotSupported, UseAnotherServer, ServerMoved, ConnectionRateExceeded)
	set(in(CONNACK), UnsupportedProtocolVersion, ClientIdentifierNotValid, BadUserNameOrPassword, ServerUnavailable, Banned)
	set(in(DISCONNECT), DisconnectWithWill, ServerShuttingDown, KeepAliveTimeout, SessionTakenOver, ReceiveMaximumExceeded,
		TopicAliasInvalid, MessageRateTooHigh, AdministrativeAction, MaximumConnectTime)
	set(ends|in(PUBACK, PUBREC), TopicNameInvalid, PayloadFormatInvalid)
	set(ends|in(PUBACK, PUBREC, SUBACK), QuotaExceeded)
	set(in(SUBACK, UNSUBACK, DISCONNECT), TopicFilterInvalid)
	set(in(SUBACK, DISCONNECT), SharedSubsNotSupported, SubscriptionIDsNotSupported, WildcardSubsNotSupported)
	return table
}()

// BelongsTo reports whether a packet of the type may carry the code.
func (r Reason) BelongsTo(t PacketType) bool { return reasonsOf[r]&(1<<t) != 0 }

// The CONNACK return codes of MQTT 3.1.1, table 3.1.
const (
	returnAccepted          = 0x00
	returnBadVersion        = 0x01
	returnBadClientID       = 0x02
	returnServerUnavailable = 0x03
	returnBadCredentials    = 0x04
	returnNotAuthorized     = 0x05
)

// returnCode311 gives the 3.1.1 CONNACK return code that says most nearly what r says.
func returnCode311(r Reason) byte {
	switch r {
	case Success:
		return returnAccepted
	case UnsupportedProtocolVersion:
		return returnBadVersion
	case ClientIdentifierNotValid:
		return returnBadClientID
	case BadUserNameOrPassword:
		return returnBadCredentials
	case NotAuthorized, Banned, BadAuthenticationMethod, TopicNameInvalid, PayloadFormatInvalid, QoSNotSupported, RetainNotSupported:
		return returnNotAuthorized // trying again, as the unavailable server suggests, helps none of them
	}
	return returnServerUnavailable
}

// reasonFrom311 reads a 3.1.1 CONNACK return code.
func reasonFrom311(code byte) Reason {
	switch code {
	case returnAccepted:
		return Success
	case returnBadVersion:
		return UnsupportedProtocolVersion
	case returnBadClientID:
		return ClientIdentifierNotValid
	case returnServerUnavailable:
		return ServerUnavailable
	case returnBadCredentials:
		return BadUserNameOrPassword
	}
	return NotAuthorized
}
