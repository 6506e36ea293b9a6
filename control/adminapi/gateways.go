package adminapi

import (
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/rollout"
)

func certificates(states []fieldgate.CertificateState) []api.Certificate {
	var list []api.Certificate
	for i := range states {
		s := &states[i]
		names := s.Names
		if names == nil {
			names = []string{}
		}
		list = append(list, api.Certificate{Names: names, Source: api.CertificateSource(s.Source), File: s.File, NotBefore: s.NotBefore, NotAfter: s.NotAfter, Problem: s.Problem})
	}
	return list
}

func accessLog(state *fieldgate.AccessLogState) *api.AccessLog {
	if state == nil {
		return nil
	}
	return &api.AccessLog{Written: int64(state.Written), Dropped: int64(state.Dropped), Problem: state.Problem}
}

func answerCache(s fieldgate.CacheState) api.AnswerCache {
	return api.AnswerCache{Hits: int64(s.Hits), Stale: int64(s.Stale), Misses: int64(s.Misses), Revalidated: int64(s.Revalidated), Evicted: int64(s.Evicted),
		Entries: int64(s.Entries), Bytes: int64(s.Bytes)}
}

func coapListeners(states map[string]fieldgate.CoAPListenerState) (listeners []api.CoapListener) {
	for _, name := range fieldgate.CoAPListeners { // a node names its own
		if s, has := states[name]; has {
			listeners = append(listeners, api.CoapListener{Name: name, Address: s.Address, Peers: s.Peers, Observations: s.Observations, TransferBytes: int64(s.TransferBytes),
				Received: int64(s.Received), Malformed: int64(s.Malformed), Refused: int64(s.Refused), Limited: int64(s.Limited)})
		}
	}
	return listeners
}

func dtlsState(s *fieldgate.DTLSState) *api.DtlsState {
	if s == nil {
		return nil
	}
	state := &api.DtlsState{Sessions: s.Sessions, Unfinished: s.Unfinished, Handshakes: int64(s.Handshakes), Resumed: int64(s.Resumed), Refused: []api.DtlsRefusals{}, Discarded: int64(s.Discarded),
		Moved: int64(s.Moved), Expired: int64(s.Expired), Evicted: int64(s.Evicted)}
	for _, reason := range fieldgate.DTLSRefusals {
		if n := s.Refused[reason]; n > 0 {
			state.Refused = append(state.Refused, api.DtlsRefusals{Reason: api.DtlsRefusalsReason(reason), Count: int64(n)})
		}
	}
	return state
}

var illCodes = map[rollout.IllKind]api.WarningCode{rollout.IllUpstream: api.WarningUpstream, rollout.IllCircuit: api.WarningCircuit, rollout.IllOverload: api.WarningOverload,
	rollout.IllCertificate: api.WarningCertificate, rollout.IllAccessLog: api.WarningAccessLog, rollout.IllMQTTStore: api.WarningMQTTStore}

// illsShown bounds the warnings of one gateway.
const illsShown = 50

// illWarnings lists what of a gateway's HTTP side needs a look; of one that is silent nothing is known.
func illWarnings(g *rollout.Gateway, now time.Time) (warnings []api.Warning) {
	if g.Silent(now) {
		return nil
	}
	ills := g.Ills(now)
	for _, ill := range ills[:min(len(ills), illsShown)] {
		severity := api.SeverityWarning
		if ill.Bad {
			severity = api.SeverityBad
		}
		warnings = append(warnings, api.Warning{Code: illCodes[ill.Kind], Severity: severity, Message: ill.Message, Remedy: ill.Remedy, Upstream: ill.Upstream, Node: g.Node})
	}
	return warnings
}
