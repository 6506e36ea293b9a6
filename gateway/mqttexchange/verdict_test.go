package mqttexchange

import (
	"testing"

	"fieldgate"
	"fieldgate/protocol/mqtt"
)

// The table of statuses in docs/protocols.md, as PUBACK says them (MQTT 5 table 3-4).
func TestReasonCodes(t *testing.T) {
	for code, want := range map[fieldgate.ProblemCode]mqtt.Reason{
		fieldgate.ProblemBadRequest: 0x99, fieldgate.ProblemInvalidParameter: 0x99, fieldgate.ProblemInvalidPayload: 0x99, fieldgate.ProblemUnsupportedMedia: 0x99,
		fieldgate.ProblemForbidden: 0x87, fieldgate.ProblemNotOwner: 0x87, fieldgate.ProblemQuarantined: 0x87, fieldgate.ProblemUnauthenticated: 0x87,
		fieldgate.ProblemQoS: 0x87, fieldgate.ProblemRetain: 0x87,
		fieldgate.ProblemNotFound: 0x90, fieldgate.ProblemMethodNotAllowed: 0x90, fieldgate.ProblemGone: 0x90,
		fieldgate.ProblemTooLarge: 0x97, fieldgate.ProblemRateLimited: 0x97, fieldgate.ProblemOverloaded: 0x97, fieldgate.ProblemNotDurable: 0x97,
		fieldgate.ProblemUpstreamUnreachable: 0x83, fieldgate.ProblemUpstreamTimeout: 0x83, fieldgate.ProblemUpstreamInvalid: 0x83, fieldgate.ProblemInternal: 0x83,
	} {
		if got := Reason(code); got != want {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
}
