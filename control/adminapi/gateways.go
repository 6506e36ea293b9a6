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

var illCodes = map[rollout.IllKind]api.WarningCode{rollout.IllUpstream: api.WarningUpstream, rollout.IllCircuit: api.WarningCircuit,
	rollout.IllCertificate: api.WarningCertificate, rollout.IllAccessLog: api.WarningAccessLog}

// illsShown bounds the warnings of one gateway.
const illsShown = 50

// illWarnings lists what of a gateway's HTTP side needs a look; of one that is silent nothing is known.
func illWarnings(g *rollout.Gateway, now time.Time) (warnings []api.Warning) {
	if g.Silent(now) {
		return nil
	}
	ills := g.Ills(now)
	for _, ill := range ills[:min(len(ills), illsShown)] {
		warnings = append(warnings, api.Warning{Code: illCodes[ill.Kind], Message: ill.Message, Remedy: ill.Remedy, Upstream: ill.Upstream, Node: g.Node})
	}
	return warnings
}
