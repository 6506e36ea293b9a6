package messaging

import (
	"context"

	"fieldgate"
	"fieldgate/control/filter"
)

type coapAnswer = given[fieldgate.CoAPAnswer]

var ownerKeys = []filter.Key{{Name: "source"}, {Name: "principal"}, {Name: "kind", Values: []string{"device", "app", "foreign"}}, {Name: "device"}, {Name: "listener"}, {Name: "node"}}

// What lists of CoAP can be filtered by.
var (
	PeerKeys = append([]filter.Key{{Name: "observes", Values: []string{"yes", "no"}}, {Name: "transfers", Values: []string{"yes", "no"}},
		{Name: "verified", Values: []string{"yes", "no"}}, {Name: "session", Values: []string{"yes", "no"}},
		{Name: "credential", Values: []string{"token", "psk", "certificate", "none"}}, {Name: "since", Since: true}}, ownerKeys...)
	ObservationKeys = append([]filter.Key{{Name: "path"}}, ownerKeys...)
	TransferKeys    = append([]filter.Key{{Name: "path"}, {Name: "direction", Values: []string{"up", "down"}}}, ownerKeys...)
)

// CoAPPeers lists peers behind a place, which is the Order of the last one before.
func (m *Messaging) CoAPPeers(ctx context.Context, terms filter.Filter, after string, limit int) (Page[fieldgate.CoAPPeer], error) {
	return coapPage(ctx, m, terms, after, limit, func(list *fieldgate.CoAPListQuestion) fieldgate.CoAPQuestion {
		return fieldgate.CoAPQuestion{Peers: list}
	},
		func(a *coapAnswer) ([]fieldgate.CoAPPeer, bool) { return a.answer.Peers, a.answer.More }, (*fieldgate.CoAPPeer).Order)
}

// CoAPObservations lists observations in the same way.
func (m *Messaging) CoAPObservations(ctx context.Context, terms filter.Filter, after string, limit int) (Page[fieldgate.CoAPObservation], error) {
	return coapPage(ctx, m, terms, after, limit, func(list *fieldgate.CoAPListQuestion) fieldgate.CoAPQuestion {
		return fieldgate.CoAPQuestion{Observations: list}
	},
		func(a *coapAnswer) ([]fieldgate.CoAPObservation, bool) { return a.answer.Observations, a.answer.More }, (*fieldgate.CoAPObservation).Order)
}

// CoAPTransfers lists bodies on their way in the same way.
func (m *Messaging) CoAPTransfers(ctx context.Context, terms filter.Filter, after string, limit int) (Page[fieldgate.CoAPTransfer], error) {
	return coapPage(ctx, m, terms, after, limit, func(list *fieldgate.CoAPListQuestion) fieldgate.CoAPQuestion {
		return fieldgate.CoAPQuestion{Transfers: list}
	},
		func(a *coapAnswer) ([]fieldgate.CoAPTransfer, bool) { return a.answer.Transfers, a.answer.More }, (*fieldgate.CoAPTransfer).Order)
}

func coapPage[T any](ctx context.Context, m *Messaging, terms filter.Filter, after string, limit int, question func(*fieldgate.CoAPListQuestion) fieldgate.CoAPQuestion,
	list func(*coapAnswer) ([]T, bool), order func(*T) string) (page Page[T], err error) {
	nodes, terms, err := separate(terms)
	if err != nil {
		return page, err
	}
	asked := fieldgate.CoAPListQuestion{After: after, Limit: limit + 1, Terms: terms}
	answers, missing, err := ask[fieldgate.CoAPQuestion, fieldgate.CoAPAnswer](ctx, m, fieldgate.SubjectCoAP, func(node string) (fieldgate.CoAPQuestion, bool) {
		return question(&asked), nodes.match(node)
	})
	if err != nil {
		return page, err
	}
	return merge(answers, missing, limit, list, order), nil
}

// CoAPPeer is a peer with its observations and transfers.
func (m *Messaging) CoAPPeer(ctx context.Context, key fieldgate.CoAPPeerKey) (peer fieldgate.CoAPAnswer, err error) {
	answers, missing, err := m.askCoAP(ctx, key.Node, fieldgate.CoAPQuestion{Peer: &key})
	switch {
	case err != nil:
		return peer, err
	case len(answers) == 0 || len(answers[0].answer.Peers) == 0:
		return peer, notFound(missing, "The gateway %.60s knows no such peer: it has forgotten it, or never heard it.", key.Node)
	}
	return answers[0].answer, nil
}

// EndCoAPObservation ends an observation.
func (m *Messaging) EndCoAPObservation(ctx context.Context, key fieldgate.CoAPObservationKey) (outcome Outcome, err error) {
	return m.decideCoAP(ctx, key.Node, fieldgate.CoAPQuestion{EndObservation: &key})
}

// EndCoAPSession ends the DTLS session or the connection of a peer.
func (m *Messaging) EndCoAPSession(ctx context.Context, key fieldgate.CoAPPeerKey) (Outcome, error) {
	return m.decideCoAP(ctx, key.Node, fieldgate.CoAPQuestion{EndSession: &key})
}

func (m *Messaging) decideCoAP(ctx context.Context, node string, question fieldgate.CoAPQuestion) (outcome Outcome, err error) {
	answers, missing, err := m.askCoAP(ctx, node, question)
	for i := range answers {
		if answers[i].answer.Done {
			outcome.Nodes = append(outcome.Nodes, answers[i].node)
		}
	}
	outcome.Missing = missing
	return outcome, err
}

func (m *Messaging) askCoAP(ctx context.Context, node string, question fieldgate.CoAPQuestion) ([]coapAnswer, []string, error) {
	return ask[fieldgate.CoAPQuestion, fieldgate.CoAPAnswer](ctx, m, fieldgate.SubjectCoAP, func(name string) (fieldgate.CoAPQuestion, bool) { return question, name == node })
}
