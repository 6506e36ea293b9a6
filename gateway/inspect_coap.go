package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/capture"
	"fieldgate/gateway/coapfront"
	"fieldgate/gateway/pipeline"
)

// coapInspection answers what operators ask about CoAP.
type coapInspection struct {
	node     string
	bus      *bus.Bus
	front    *coapfront.Front // nil: the gateway does not speak CoAP
	pipeline *pipeline.Pipeline
	shown    *capture.Messages
}

// run answers until the context ends.
func (i *coapInspection) run(ctx context.Context) error {
	stop, err := i.bus.Serve(fieldgate.SubjectCoAP+i.node, i.serve)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	<-ctx.Done()
	stop()
	return nil
}

var errCoAPQuestion = errors.New("malformed question about CoAP")

func (i *coapInspection) serve(question []byte) (bus.Answer, error) {
	var asked fieldgate.CoAPQuestion
	if json.Unmarshal(question, &asked) != nil {
		return bus.Answer{}, errCoAPQuestion
	}
	answer, err := i.answer(&asked)
	if err != nil {
		return bus.Answer{}, err
	}
	encoded, err := json.Marshal(answer)
	return bus.Answer{Data: encoded}, err
}

func (i *coapInspection) answer(asked *fieldgate.CoAPQuestion) (answer fieldgate.CoAPAnswer, err error) {
	if i.front == nil {
		return answer, nil
	}
	switch {
	case asked.Peers != nil:
		all := i.front.Inspect(nil).Peers
		answer.Peers, answer.More = coapPage(i.node, asked.Peers, all, (*fieldgate.CoAPPeer).Order, func(p *fieldgate.CoAPPeer) *fieldgate.CoAPOwner { return &p.CoAPOwner }, peerHas)
	case asked.Observations != nil:
		all := i.front.Inspect(nil).Observations
		for n := range all {
			all[n].Path = i.path(fieldgate.MethodGet, all[n].Path)
		}
		answer.Observations, answer.More = coapPage(i.node, asked.Observations, all, (*fieldgate.CoAPObservation).Order,
			func(o *fieldgate.CoAPObservation) *fieldgate.CoAPOwner { return &o.CoAPOwner },
			func(o *fieldgate.CoAPObservation, t *fieldgate.FilterTerm) bool {
				return t.Key != "path" || t.Matches(o.Path)
			})
	case asked.Transfers != nil:
		all := i.front.Inspect(nil).Transfers
		for n := range all {
			all[n].Path = i.path(fieldgate.ParseMethod([]byte(all[n].Method)), all[n].Path)
		}
		answer.Transfers, answer.More = coapPage(i.node, asked.Transfers, all, (*fieldgate.CoAPTransfer).Order,
			func(t *fieldgate.CoAPTransfer) *fieldgate.CoAPOwner { return &t.CoAPOwner }, transferHas)
	case asked.Peer != nil:
		i.onePeer(asked.Peer, &answer)
	case asked.EndObservation != nil:
		answer.Done = i.front.EndObservation(asked.EndObservation)
	case asked.EndSession != nil:
		answer.Done = i.front.EndSession(asked.EndSession)
	default:
		err = errCoAPQuestion
	}
	return answer, err
}

// onePeer is a peer with its observations and transfers.
func (i *coapInspection) onePeer(key *fieldgate.CoAPPeerKey, answer *fieldgate.CoAPAnswer) {
	all := i.front.Inspect(key)
	for n := range all.Observations {
		o := &all.Observations[n]
		o.Node, o.Path = i.node, i.path(fieldgate.MethodGet, o.Path)
	}
	for n := range all.Transfers {
		t := &all.Transfers[n]
		t.Node, t.Path = i.node, i.path(fieldgate.ParseMethod([]byte(t.Method)), t.Path)
	}
	for n := range all.Peers {
		all.Peers[n].Node = i.node
	}
	answer.Peers, answer.Observations, answer.Transfers = all.Peers, all.Observations, all.Transfers
}

// path is what may be shown of a path: the contract's template where a part of it is secret, and no query.
func (i *coapInspection) path(method fieldgate.Method, path string) string {
	path, _, _ = strings.Cut(path, "?")
	return i.shown.CoAPPath(i.pipeline.CoAPOperation(method, path), path)
}

// coapPage is a page of what the terms of a question select.
func coapPage[T any](node string, asked *fieldgate.CoAPListQuestion, all []T, order func(*T) string, owner func(*T) *fieldgate.CoAPOwner, has func(*T, *fieldgate.FilterTerm) bool) ([]T, bool) {
	p := newPage[T](asked.Limit)
next:
	for n := range all {
		entry := &all[n]
		owner := owner(entry)
		owner.Node = node
		for t := range asked.Terms {
			if term := &asked.Terms[t]; !ownerHas(owner, term) || !has(entry, term) {
				continue next
			}
		}
		if at := order(entry); at > asked.After && p.fits(at) {
			p.add(at, *entry)
		}
	}
	return p.entries()
}

func ownerHas(o *fieldgate.CoAPOwner, t *fieldgate.FilterTerm) bool {
	switch t.Key {
	case "":
		return t.Finds(o.Source, o.Principal)
	case "source":
		return t.Matches(o.Source)
	case "principal":
		return t.Matches(o.Principal)
	case "kind":
		return t.Matches(string(o.Kind))
	case "listener":
		return t.Matches(o.Listener)
	}
	return true
}

func peerHas(p *fieldgate.CoAPPeer, t *fieldgate.FilterTerm) bool {
	switch t.Key {
	case "observes":
		return t.Matches(yesNo(p.Observations > 0))
	case "transfers":
		return t.Matches(yesNo(p.Transfers > 0))
	case "verified":
		return t.Matches(yesNo(p.Verified))
	case "session":
		return t.Matches(yesNo(!p.Opened.IsZero()))
	case "credential":
		return t.Matches(cmp.Or(string(p.Credential), "none"))
	case "since":
		return !p.Heard.Before(t.Values[0].Time)
	}
	return true
}

func transferHas(x *fieldgate.CoAPTransfer, t *fieldgate.FilterTerm) bool {
	switch t.Key {
	case "path":
		return t.Matches(x.Path)
	case "direction":
		if x.Upload {
			return t.Matches("up")
		}
		return t.Matches("down")
	}
	return true
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
