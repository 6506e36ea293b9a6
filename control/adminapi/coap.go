package adminapi

import (
	"cmp"
	"context"
	"encoding/base64"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/control/audit"
	"fieldgate/control/filter"
	"fieldgate/control/messaging"
	"fieldgate/control/refusal"
)

func (o *operations) ListCoapPeers(ctx context.Context, request ListCoapPeersRequestObject) (ListCoapPeersResponseObject, error) {
	list, next, err := coapList(ctx, request.Params.Filter, request.Params.Cursor, request.Params.Limit, "coap peers", messaging.PeerKeys, o.config.Messaging.CoAPPeers, (*fieldgate.CoAPPeer).Order)
	if err != nil {
		return nil, err
	}
	answer := ListCoapPeers200JSONResponse{Items: []api.CoapPeer{}, Missing: list.Missing, Next: next}
	for i := range list.Items {
		answer.Items = append(answer.Items, coapPeer(&list.Items[i]))
	}
	return answer, nil
}

func (o *operations) ListCoapObservations(ctx context.Context, request ListCoapObservationsRequestObject) (ListCoapObservationsResponseObject, error) {
	list, next, err := coapList(ctx, request.Params.Filter, request.Params.Cursor, request.Params.Limit, "coap observations", messaging.ObservationKeys, o.config.Messaging.CoAPObservations, (*fieldgate.CoAPObservation).Order)
	if err != nil {
		return nil, err
	}
	return ListCoapObservations200JSONResponse{Items: coapObservations(list.Items), Missing: list.Missing, Next: next}, nil
}

func (o *operations) ListCoapTransfers(ctx context.Context, request ListCoapTransfersRequestObject) (ListCoapTransfersResponseObject, error) {
	list, next, err := coapList(ctx, request.Params.Filter, request.Params.Cursor, request.Params.Limit, "coap transfers", messaging.TransferKeys, o.config.Messaging.CoAPTransfers, (*fieldgate.CoAPTransfer).Order)
	if err != nil {
		return nil, err
	}
	return ListCoapTransfers200JSONResponse{Items: coapTransfers(list.Items), Missing: list.Missing, Next: next}, nil
}

// coapList is one page of a list of CoAP.
func coapList[T any](ctx context.Context, text, cursor string, limit int, name string, keys []filter.Key,
	read func(context.Context, filter.Filter, string, int) (messaging.Page[T], error), order func(*T) string) (list messaging.Page[T], next string, err error) {
	page, err := newPage(cursor, limit, name, text)
	if err != nil {
		return list, "", err
	}
	terms, err := filter.Parse(text, time.Now(), keys...)
	if err != nil {
		return list, "", err
	}
	if list, err = read(ctx, terms, page.after, page.limit); err == nil && list.More {
		next = page.next(order(&list.Items[len(list.Items)-1]))
	}
	return list, next, err
}

// coapID is the name of a peer or observation in addresses.
func coapID(parts ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, "\x00")))
}

// coapParts takes a name apart again.
func coapParts(id string, number int) ([]string, error) {
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(id)
	parts := strings.Split(string(decoded), "\x00")
	if err != nil || len(parts) != number || !isText(strings.Join(parts, "")) {
		return nil, refusal.NotFound("There is no such peer or observation: take the id from the list.")
	}
	return parts, nil
}

func coapPeerID(key *fieldgate.CoAPPeerKey) string { return coapID(key.Node, key.Listener, key.Peer) }

func coapPeer(p *fieldgate.CoAPPeer) api.CoapPeer {
	return api.CoapPeer{Id: coapPeerID(&p.CoAPPeerKey), Source: p.Source, Listener: p.Listener, Node: p.Node, Kind: string(p.Kind), Principal: p.Principal, HeardAt: p.Heard,
		Credential: string(p.Credential), OpenedAt: p.Opened, Cipher: p.Cipher, ConnectionId: p.ConnectionID,
		Verified: p.Verified, Requests: p.Requests, Calls: p.Calls, Observations: p.Observations, Transfers: p.Transfers}
}

func coapObservations(list []fieldgate.CoAPObservation) []api.CoapObservation {
	shown := []api.CoapObservation{}
	for i := range list {
		o := &list[i]
		shown = append(shown, api.CoapObservation{Id: coapID(o.Node, o.Listener, o.Peer, o.Token), Peer: coapPeerID(&o.CoAPPeerKey), Source: o.Source, Listener: o.Listener, Node: o.Node,
			Kind: string(o.Kind), Principal: o.Principal, Path: o.Path, Since: o.Since, Sent: o.Sent, Waiting: o.Waiting})
	}
	return shown
}

func coapTransfers(list []fieldgate.CoAPTransfer) []api.CoapTransfer {
	shown := []api.CoapTransfer{}
	for i := range list {
		t := &list[i]
		shown = append(shown, api.CoapTransfer{Peer: coapPeerID(&t.CoAPPeerKey), Source: t.Source, Listener: t.Listener, Node: t.Node, Kind: string(t.Kind), Principal: t.Principal,
			Method: t.Method, Path: t.Path, Upload: t.Upload, Bytes: int64(t.Bytes), Size: int64(t.Size), UsedAt: t.Used})
	}
	return shown
}

func (o *operations) GetCoapPeer(ctx context.Context, request GetCoapPeerRequestObject) (GetCoapPeerResponseObject, error) {
	parts, err := coapParts(request.CoapPeer, 3)
	if err != nil {
		return nil, err
	}
	found, err := o.config.Messaging.CoAPPeer(ctx, fieldgate.CoAPPeerKey{Node: parts[0], Listener: parts[1], Peer: parts[2]})
	if err != nil {
		return nil, err
	}
	return GetCoapPeer200JSONResponse{Peer: coapPeer(&found.Peers[0]), Observations: coapObservations(found.Observations), Transfers: coapTransfers(found.Transfers)}, nil
}

func (o *operations) EndCoapSession(ctx context.Context, request EndCoapSessionRequestObject) (EndCoapSessionResponseObject, error) {
	parts, err := coapParts(request.CoapPeer, 3)
	if err != nil {
		return nil, err
	}
	found, err := o.config.Messaging.CoAPPeer(ctx, fieldgate.CoAPPeerKey{Node: parts[0], Listener: parts[1], Peer: parts[2]})
	if err != nil {
		return nil, err
	}
	peer := &found.Peers[0]
	if peer.Opened.IsZero() {
		return nil, refusal.Conflict("The peer speaks CoAP over UDP, which has no session that could be ended: end its observations, or quarantine the device.")
	}
	if err := o.auditAction(ctx, audit.Change{Action: "coap-session.end", Target: auditName(cmp.Or(peer.Principal, peer.Source)), Detail: request.Params.Reason}); err != nil {
		return nil, err
	}
	outcome, err := o.config.Messaging.EndCoAPSession(ctx, peer.CoAPPeerKey)
	if err != nil {
		return nil, err
	}
	return EndCoapSession200JSONResponse{outcomeAnswer(&outcome)}, nil
}

func (o *operations) EndCoapObservation(ctx context.Context, request EndCoapObservationRequestObject) (EndCoapObservationResponseObject, error) {
	parts, err := coapParts(request.CoapObservation, 4)
	if err != nil {
		return nil, err
	}
	key := fieldgate.CoAPObservationKey{CoAPPeerKey: fieldgate.CoAPPeerKey{Node: parts[0], Listener: parts[1], Peer: parts[2]}, Token: parts[3]}
	if err := o.auditAction(ctx, audit.Change{Action: "coap-observation.end", Target: auditName(key.Peer), Detail: request.Params.Reason}); err != nil {
		return nil, err
	}
	outcome, err := o.config.Messaging.EndCoAPObservation(ctx, key)
	if err != nil {
		return nil, err
	}
	return EndCoapObservation200JSONResponse{outcomeAnswer(&outcome)}, nil
}
