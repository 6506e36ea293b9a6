// Package mqttexchange puts MQTT packets into the terms of the pipeline, and its verdicts into those of MQTT, for all that speak MQTT to
// clients. It keeps nothing and decides nothing.
package mqttexchange

import (
	"fieldgate"
	"fieldgate/protocol/mqtt"
)

// Reason is the version 5 reason code of a problem, as PUBACK and PUBREC may say it (MQTT 5 table 3-4).
func Reason(code fieldgate.ProblemCode) mqtt.Reason {
	switch code {
	case fieldgate.ProblemUnauthenticated, fieldgate.ProblemForbidden, fieldgate.ProblemNotOwner, fieldgate.ProblemQuarantined,
		fieldgate.ProblemQoS, fieldgate.ProblemRetain: // whose own codes, 0x9B and 0x9A, these packets do not have
		return mqtt.NotAuthorized
	case fieldgate.ProblemNotFound, fieldgate.ProblemMethodNotAllowed, fieldgate.ProblemGone:
		return mqtt.TopicNameInvalid
	case fieldgate.ProblemRateLimited, fieldgate.ProblemOverloaded, fieldgate.ProblemNotDurable, fieldgate.ProblemTooLarge:
		return mqtt.QuotaExceeded
	case fieldgate.ProblemInvalidPayload, fieldgate.ProblemUnsupportedMedia, fieldgate.ProblemInvalidParameter, fieldgate.ProblemBadRequest:
		return mqtt.PayloadFormatInvalid
	}
	return mqtt.ImplementationSpecificError
}

// SubscribeReason is that of SUBACK: table 3-8 has fewer words than table 3-4.
func SubscribeReason(code fieldgate.ProblemCode) mqtt.Reason {
	switch reason := Reason(code); reason {
	case mqtt.TopicNameInvalid, mqtt.PayloadFormatInvalid:
		return mqtt.NotAuthorized
	default:
		return reason
	}
}

// ConnectReason is that of a CONNACK that refuses a client, or its will (table 3-1).
func ConnectReason(code fieldgate.ProblemCode) mqtt.Reason {
	switch code {
	case fieldgate.ProblemUnauthenticated:
		return mqtt.BadUserNameOrPassword
	case fieldgate.ProblemQoS:
		return mqtt.QoSNotSupported // of the will
	case fieldgate.ProblemRetain:
		return mqtt.RetainNotSupported // of the will
	case fieldgate.ProblemInvalidPayload, fieldgate.ProblemUnsupportedMedia, fieldgate.ProblemInvalidParameter:
		return mqtt.PayloadFormatInvalid // of the will
	case fieldgate.ProblemNotFound:
		return mqtt.TopicNameInvalid // of the will
	case fieldgate.ProblemRateLimited, fieldgate.ProblemTooLarge:
		return mqtt.QuotaExceeded
	}
	return mqtt.NotAuthorized
}

// HasFailed says of a problem that nobody refused the message: it could not be taken now.
func HasFailed(code fieldgate.ProblemCode) bool {
	switch code {
	case fieldgate.ProblemNotDurable, fieldgate.ProblemOverloaded, fieldgate.ProblemUpstreamUnreachable, fieldgate.ProblemUpstreamTimeout:
		return true
	}
	return false
}
