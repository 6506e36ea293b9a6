package coapfront

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/directory"
	"fieldgate/protocol/coap"
)

// What operators see and decide of peers. Traffic waits only while their states are copied.

// inspected is a transport whose peers can be looked at.
type inspected interface {
	Inspect(look func(*coap.Endpoint))
}

// holding is a transport whose peers have sessions or connections.
type holding interface {
	// session adds what is known of the session of a peer, if it has not ended.
	session(peer *fieldgate.CoAPPeer, name netip.AddrPort)
	// end ends it, and says whether there was one.
	end(name netip.AddrPort) bool
}

// Inspection is a copy of what the listeners' peers have.
type Inspection struct {
	Peers        []fieldgate.CoAPPeer
	Observations []fieldgate.CoAPObservation
	Transfers    []fieldgate.CoAPTransfer
}

// Inspect copies what the peers have, or one of them has, that key names.
func (f *Front) Inspect(key *fieldgate.CoAPPeerKey) (all Inspection) {
	var one netip.AddrPort
	if key != nil {
		var err error
		if one, err = netip.ParseAddrPort(key.Peer); err != nil {
			return all
		}
	}
	for _, l := range f.listeners {
		in, can := l.transport.(inspected)
		if !can || key != nil && key.Listener != l.name {
			continue
		}
		var peers []coap.PeerState
		var observations []coap.ObservationState
		var transfers []coap.TransferState
		in.Inspect(func(e *coap.Endpoint) {
			peers = e.AppendPeers(peers)
			observations = e.AppendObservations(observations, one)
			transfers = e.AppendTransfers(transfers, one)
		})
		owners := make(map[netip.AddrPort]fieldgate.CoAPOwner)
		if s, is := l.transport.(*secured); is {
			peers = s.appendSilent(peers)
		}
		for i := range peers {
			s := &peers[i]
			if key != nil && s.Addr != one {
				continue
			}
			peer := f.peer(l, s)
			if s.Observations+s.Transfers > 0 {
				owners[s.Addr] = peer.CoAPOwner
			}
			all.Peers = append(all.Peers, peer)
		}
		for i := range observations {
			s := &observations[i]
			all.Observations = append(all.Observations, fieldgate.CoAPObservation{CoAPOwner: owners[s.Addr], Token: hex.EncodeToString([]byte(s.Token)),
				Path: s.Path, Since: s.Since, Sent: s.Sent, Waiting: s.Waiting})
		}
		for i := range transfers {
			s := &transfers[i]
			all.Transfers = append(all.Transfers, fieldgate.CoAPTransfer{CoAPOwner: owners[s.Addr], Method: strings.ToUpper(s.Code.String()), Path: s.Path, Upload: s.Upload,
				Bytes: s.Bytes, Size: s.Size, Used: s.Used})
		}
	}
	return all
}

// peer is one peer: where it is, and who, as the transport shows it, else as its newest request did.
func (f *Front) peer(l *listener, s *coap.PeerState) fieldgate.CoAPPeer {
	source, caller := l.sender(s.Addr)
	peer := fieldgate.CoAPPeer{CoAPOwner: fieldgate.CoAPOwner{CoAPPeerKey: fieldgate.CoAPPeerKey{Listener: l.name, Peer: s.Addr.String()}, Source: source.String()},
		Heard: s.Heard, Verified: s.Verified, Requests: s.Requests, Calls: s.Calls, Observations: s.Observations, Transfers: s.Transfers}
	switch {
	case caller != nil:
		peer.Kind, peer.Principal, peer.Credential = caller.Kind, caller.ID, fieldgate.CoAPCertificate
	case s.Owner != 0:
		principal := f.pipeline.Directory.Principal(directory.Ref(s.Owner))
		peer.Kind, peer.Principal, peer.Credential = principal.Kind, principal.ID, fieldgate.CoAPToken
	}
	if t, holds := l.transport.(holding); holds {
		t.session(&peer, s.Addr)
	}
	return peer
}

func (s *secured) session(peer *fieldgate.CoAPPeer, name netip.AddrPort) {
	state, ok := s.sessions.Session(name)
	if !ok {
		return
	}
	peer.Opened, peer.Heard, peer.Cipher, peer.ConnectionID = state.Opened, state.Heard, state.Cipher, state.ConnectionID
	if state.PSK {
		peer.Credential = fieldgate.CoAPPSK
	}
}

// appendSilent adds the sessions whose peers have sent no request yet, or not for long.
func (s *secured) appendSilent(peers []coap.PeerState) []coap.PeerState {
	known := make(map[netip.AddrPort]bool, len(peers))
	for i := range peers {
		known[peers[i].Addr] = true
	}
	for _, state := range s.sessions.Sessions() {
		if !known[state.Peer] {
			peers = append(peers, coap.PeerState{Addr: state.Peer, Verified: true})
		}
	}
	return peers
}

func (s *secured) end(name netip.AddrPort) bool { return s.sessions.End(name) }

func (s *streams) session(peer *fieldgate.CoAPPeer, name netip.AddrPort) {
	peer.Opened = s.Opened(name)
	if o, ok := s.Origin(name).(*origin); ok {
		peer.Cipher = o.cipher
	}
}

func (s *streams) end(name netip.AddrPort) bool {
	return s.End(name, "An operator has ended the connection.")
}

// EndSession ends the DTLS session or the connection of a peer, which is told so, and may come again. It says whether there was one.
func (f *Front) EndSession(key *fieldgate.CoAPPeerKey) bool {
	name, err := netip.ParseAddrPort(key.Peer)
	if err != nil {
		return false
	}
	for _, l := range f.listeners {
		if t, holds := l.transport.(holding); holds && key.Listener == l.name {
			return t.end(name)
		}
	}
	return false
}

// EndObservation ends an observation: its client is told 5.03, and may register anew. It says whether there was one.
func (f *Front) EndObservation(key *fieldgate.CoAPObservationKey) (ended bool) {
	peer, err := netip.ParseAddrPort(key.Peer)
	token, wrong := hex.DecodeString(key.Token)
	if err != nil || wrong != nil {
		return false
	}
	for _, l := range f.listeners {
		if in, can := l.transport.(inspected); can && key.Listener == l.name {
			in.Inspect(func(e *coap.Endpoint) {
				ended = e.EndObservation(peer, string(token), coap.ServiceUnavailable, time.Now()) || ended
			})
		}
	}
	return ended
}
