package coap

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// PeerState is what an Endpoint knows of a peer, for people who look at it.
type PeerState struct {
	Addr         netip.AddrPort
	Heard        time.Time // when its last request came, to the second; zero: there was none
	Verified     bool      // its address is known to be its own
	Owner        uint32    // the newest Response.Owner
	Requests     int       // of the peer that are not answered yet
	Calls        int       // of ours that it has not answered yet
	Observations int
	Transfers    int
}

// ObservationState is one observation of a peer.
type ObservationState struct {
	Addr    netip.AddrPort
	Token   string // bytes
	Code    Code
	Path    string // with query; segments escaped as in a URI
	Since   time.Time
	Sent    int  // notifications
	Waiting bool // for an acknowledgement
}

// TransferState is one body on its way in blocks.
type TransferState struct {
	Addr   netip.AddrPort
	Upload bool // from the peer
	Code   Code // of the request
	Path   string
	Bytes  int // that have come, or have been asked for
	Size   int // of the body; 0: the peer has not said
	Used   time.Time
}

// AppendPeers adds the state of all peers. It takes some milliseconds for 100,000 of them.
func (e *Endpoint) AppendPeers(to []PeerState) []PeerState {
	for p := e.peersByUse.first; p != nil; p = p.byUse.next {
		state := PeerState{Addr: p.addr, Verified: p.verified, Owner: p.owner, Requests: int(p.queued + p.running)}
		if p.heardAt > 0 {
			state.Heard = e.epoch.Add(time.Duration(p.heardAt) * time.Second)
		}
		if more := p.more; more != nil {
			state.Calls = len(more.waiting) + more.activeCalls
			state.Observations = len(more.observations)
			for _, all := range [][]*transfer{more.uploads, more.downloads} {
				for _, t := range all {
					if t.underWay() {
						state.Transfers++
					}
				}
			}
		}
		to = append(to, state)
	}
	return to
}

// AppendObservations adds all observations, or with a valid address those of one peer.
func (e *Endpoint) AppendObservations(to []ObservationState, of netip.AddrPort) []ObservationState {
	e.eachMore(of, func(p *peer) {
		for _, o := range p.more.observations {
			to = append(to, ObservationState{Addr: p.addr, Token: string(o.token), Code: o.request.Code, Path: operationPath(o.request.operation),
				Since: e.epoch.Add(o.since), Sent: int(o.sent), Waiting: o.unacknowledged != nil})
		}
	})
	return to
}

// AppendTransfers adds all bodies in transfer, or with a valid address those of one peer.
func (e *Endpoint) AppendTransfers(to []TransferState, of netip.AddrPort) []TransferState {
	e.eachMore(of, func(p *peer) {
		for _, t := range p.more.uploads {
			if t.underWay() {
				to = append(to, TransferState{Addr: p.addr, Upload: true, Code: Code(t.operation[0]), Path: operationPath(t.operation), Bytes: t.come(),
					Size: int(t.announced), Used: e.epoch.Add(t.used)})
			}
		}
		for _, t := range p.more.downloads {
			if t.underWay() {
				to = append(to, TransferState{Addr: p.addr, Code: Code(t.operation[0]), Path: operationPath(t.operation), Bytes: t.next, Size: len(t.body), Used: e.epoch.Add(t.used)})
			}
		}
	})
	return to
}

// underWay is false for what is only kept in case that blocks are sent, or asked for, again.
func (t *transfer) underWay() bool { return t.upload && !t.whole || !t.upload && t.next < len(t.body) }

// come is how many bytes of an upload have come.
func (t *transfer) come() int {
	come := len(t.body)
	for _, g := range t.gaps {
		come -= g.to - g.from
	}
	return come
}

func (e *Endpoint) eachMore(of netip.AddrPort, visit func(*peer)) {
	if of.IsValid() {
		if p := e.known(of); p != nil && p.more != nil {
			visit(p)
		}
		return
	}
	for p := e.peersByUse.first; p != nil; p = p.byUse.next {
		if p.more != nil {
			visit(p)
		}
	}
}

// EndObservation ends the observation that a peer has registered under a token: it is sent the code, which is none of success
// (RFC 7641 §4.2). It says whether there was one.
func (e *Endpoint) EndObservation(of netip.AddrPort, token string, code Code, now time.Time) bool {
	p := e.known(of)
	if p == nil {
		return false
	}
	o := p.observation([]byte(token))
	if o != nil {
		o.endWith(e, code, now)
	}
	return o != nil
}

// endWith notifies an error, past a notification that waits for its acknowledgement.
func (o *Observation) endWith(e *Endpoint, code Code, now time.Time) {
	if t := o.unacknowledged; t != nil {
		e.settle(t)
		o.unacknowledged, o.hasPending = nil, false
	}
	e.Notify(o, &Response{Code: code}, now)
}

// operationPath is path and query of what appendOperation wrote.
func operationPath(operation []byte) string {
	var options Options
	for rest := operation[1:]; len(rest) > 0; {
		number, length := OptionNumber(binary.BigEndian.Uint16(rest)), int(binary.BigEndian.Uint16(rest[2:]))
		options.Add(number, rest[4:4+length])
		rest = rest[4+length:]
	}
	m, err := Decode(AppendMessage(nil, Confirmable, GET, 0, nil, &options, nil))
	if err != nil {
		return ""
	}
	path := m.Path()
	if query := m.Query(); query != "" {
		path += "?" + query
	}
	return path
}
