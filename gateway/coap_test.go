package gateway

import (
	"testing"

	"fieldgate"
	"fieldgate/protocol/dtls"
)

// Metrics know the reasons by the words of the state.
func TestDTLSRefusals(t *testing.T) {
	var stats dtls.Stats
	for reason := range stats.Refused {
		stats.Refused[reason] = uint64(reason) + 1
	}
	state := dtlsState(&stats)
	for i, reason := range fieldgate.DTLSRefusals {
		if state.Refused[reason] != uint64(i)+1 {
			t.Errorf("%s: %d", reason, state.Refused[reason])
		}
	}
	if len(state.Refused) != len(fieldgate.DTLSRefusals) {
		t.Errorf("%v", state.Refused)
	}
}
