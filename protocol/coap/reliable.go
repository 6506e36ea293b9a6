package coap

import (
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Signalling codes (RFC 8323 §5.1).
const (
	CSM     Code = 7<<5 | 1 // Capabilities and Settings
	Ping    Code = 7<<5 | 2
	Pong    Code = 7<<5 | 3
	Release Code = 7<<5 | 4
	Abort   Code = 7<<5 | 5

	signalClass = 7
)

// Options of signalling messages; each code has numbers of its own (RFC 8323 §5.2).
const (
	maxMessageSize OptionNumber = 2 // of a CSM (§5.3.1)
	blockwise      OptionNumber = 4 // of a CSM (§5.3.2)
	extendedToken  OptionNumber = 6 // of a CSM (RFC 8974 §2.2.1); what peers say is not needed, since our own tokens are short
	custody        OptionNumber = 2 // of Ping and Pong (§5.4.1)
	badCSMOption   OptionNumber = 2 // of an Abort (§5.6)
)

const (
	baseMessage = 1152 // what a peer takes that has not said (RFC 8323 §5.3.1)
	// leastMessage is the shortest Max-Message-Size that can be kept to: header, token, the options of a block and 16 bytes of it.
	leastMessage = 64
	// maxCustody is how many Pings of one peer wait for what came before them; further ones are answered at once (RFC 8323 §5.4.1).
	maxCustody = 8
)

// ErrClosed says that the connection to the peer has ended, or is about to.
var ErrClosed = errors.New("coap: there is no connection to the peer")

// Connections carry the messages of an Endpoint (RFC 8323). Their methods are called inside the Endpoint's and must not call it.
type Connections interface {
	// Hangup ends a connection once what was sent is written.
	Hangup(peer netip.AddrPort)
	// Congested tells whether the peer has not taken yet what was sent. Then notifications wait, the newest of each observation, until
	// Relieved.
	Congested(peer netip.AddrPort) bool
	// Full says whether the peer has as many requests in hand as Config.MaxRequestsOfPeer allows, when that changes. While it has, it is
	// not to be read: further ones are refused.
	Full(peer netip.AddrPort, full bool)
}

func (e *Endpoint) reliable() bool { return e.config.Connections != nil }

// link is what an Endpoint knows of the connection to a peer (RFC 8323 §5).
type link struct {
	greeted    bool // its first CSM has come
	blockwise  bool
	released   bool // it wants the connection to end (RFC 8323 §5.5)
	over       bool // nothing that comes counts any more
	held       bool // a notification waits until the connection takes more
	maxMessage int  // bytes of a message that it takes
	requests   uint16
	custody    []custodyPing
}

// custodyPing is a Ping whose Pong waits until all requests before it are answered.
type custodyPing struct {
	token  []byte
	before uint16 // number of the first request after it
	left   int    // requests before it that are not answered
}

// Open begins a connection to a peer that is not connected: it is sent our CSM (RFC 8323 §5.3). Connections are counted by whoever opens
// them, not by Config.MaxPeers.
func (e *Endpoint) Open(to netip.AddrPort) {
	p := &peer{addr: to, hash: e.hash(to), verified: true, link: &link{maxMessage: baseMessage}}
	e.peers.insert(p)
	e.peersByUse.pushBack(p)
	options := &e.scratch.Options
	options.Reset()
	options.AddUint(maxMessageSize, uint32(e.config.MaxMessage))
	options.Add(blockwise, nil)
	options.AddUint(extendedToken, maxToken)
	e.signal(p, CSM, nil, options, "")
}

// Close forgets a connection that has ended: observations end (RFC 8323 §7.4), calls fail with ErrClosed, requests that Next has not
// given out are dropped, and what is responded to the others goes nowhere.
func (e *Endpoint) Close(to netip.AddrPort, now time.Time) {
	p := e.known(to)
	if p == nil {
		return
	}
	at := now.Sub(e.epoch)
	p.link.over = true
	for p.firstQueued != nil {
		r := p.firstQueued
		p.firstQueued = r.next
		p.queued--
		e.requests--
		e.transferBytes -= r.assembled
		*r = Request{datagram: r.datagram[:0]}
		e.freeRequests = append(e.freeRequests, r)
	}
	p.lastQueued = nil
	if p.isReady {
		e.ready.remove(p)
		p.isReady = false
	}
	if more := p.more; more != nil {
		for len(more.observations) > 0 {
			e.endObservation(more.observations[0])
		}
		e.failCalls(p, at)
		e.dropTransfers(more)
	}
	e.peersByUse.remove(p)
	e.peers.remove(p)
}

// Greeted tells whether the peer has sent the CSM that every connection begins with.
func (e *Endpoint) Greeted(peer netip.AddrPort) bool {
	p := e.known(peer)
	return p != nil && p.link.greeted
}

// Ping asks a silent peer for a sign of life (RFC 8323 §5.4).
func (e *Endpoint) Ping(peer netip.AddrPort) {
	if p := e.known(peer); p != nil && !p.link.over {
		e.signal(p, Ping, nil, nil, "")
	}
}

// Release tells the peer that the connection is to end in good order (RFC 8323 §5.5).
func (e *Endpoint) Release(peer netip.AddrPort) {
	if p := e.known(peer); p != nil && !p.link.over {
		e.signal(p, Release, nil, nil, "")
	}
}

// Abort ends a connection and tells the peer why (RFC 8323 §5.6).
func (e *Endpoint) Abort(peer netip.AddrPort, why string) {
	if p := e.known(peer); p != nil {
		e.abort(p, why, nil)
	}
}

func (e *Endpoint) abort(p *peer, why string, options *Options) {
	if p.link.over {
		return
	}
	p.link.over = true
	e.signal(p, Abort, nil, options, why)
	e.config.Connections.Hangup(p.addr)
}

// refuseCSM says which option of a CSM cannot be kept to (RFC 8323 §5.6).
func (e *Endpoint) refuseCSM(p *peer, option OptionNumber, why string) {
	options := &e.scratch.Options
	options.Reset()
	options.AddUint(badCSMOption, uint32(option))
	e.abort(p, why, options)
}

func (e *Endpoint) signal(p *peer, code Code, token []byte, options *Options, diagnostic string) {
	e.out = AppendMessage(e.out[:0], NonConfirmable, code, 0, token, options, []byte(diagnostic))
	e.send(p.addr, e.out)
}

// receiveReliable takes a message that came over a connection. There is no message layer below it (RFC 8323 §2): it counts as
// Non-confirmable, and is numbered here.
func (e *Endpoint) receiveReliable(from netip.AddrPort, datagram []byte, now instant) {
	p := e.known(from)
	if p == nil || p.link.over || len(datagram) < headerLength || Code(datagram[1]) == Empty {
		return // RFC 8323 §3.4: an Empty message keeps the connection alive, and is ignored
	}
	m, err := Decode(datagram)
	if err != nil {
		e.stats.Malformed++
		e.abort(p, "a message that cannot be read", nil) // RFC 8323 §5.6
		return
	}
	m.reliable = true
	switch {
	case m.Code.Class() == signalClass:
		e.receiveSignal(p, &m)
	case !p.link.greeted:
		e.stats.Malformed++
		e.abort(p, "the first message has to be a CSM", nil) // RFC 8323 §3.3
	case m.Code.IsRequest():
		m.MessageID = p.link.requests
		p.link.requests++
		e.receiveRequest(from, &m, datagram, now)
	case m.Code.IsResponse():
		e.receiveResponse(from, &m, datagram, now)
	default:
		e.stats.Malformed++
		e.abort(p, "a code of a reserved class", nil)
	}
}

func (e *Endpoint) receiveSignal(p *peer, m *Message) {
	for it := m.Iterate(); it.Next(); {
		if it.Number.Critical() { // RFC 8323 §5.2: no option is that we know of
			e.stats.Malformed++
			if m.Code == CSM {
				e.refuseCSM(p, it.Number, "a critical option that is not known")
			} else {
				e.abort(p, "a critical option that is not known", nil)
			}
			return
		}
	}
	if m.Code == CSM {
		e.receiveCSM(p, m)
		return
	}
	if !p.link.greeted {
		e.stats.Malformed++
		e.abort(p, "the first message has to be a CSM", nil)
		return
	}
	switch m.Code {
	case Ping:
		e.receivePing(p, m)
	case Release:
		p.link.released = true
		e.parted(p)
	case Abort:
		p.link.over = true
		e.config.Connections.Hangup(p.addr)
	}
	// A Pong is a sign of life and nothing else; codes to come are not for us.
}

func (e *Endpoint) receiveCSM(p *peer, m *Message) {
	p.link.greeted = true
	for it := m.Iterate(); it.Next(); {
		switch it.Number {
		case maxMessageSize:
			size, ok := decodeUint(it.Value)
			if !ok || size < leastMessage {
				e.stats.Malformed++
				e.refuseCSM(p, maxMessageSize, "a Max-Message-Size that nothing fits into")
				return
			}
			p.link.maxMessage = int(min(size, uint32(e.config.MaxMessage))) // longer ones we do not send, however much it takes
		case blockwise:
			p.link.blockwise = true
		}
	}
}

func (e *Endpoint) receivePing(p *peer, m *Message) {
	asked := false
	for it := m.Iterate(); it.Next(); {
		asked = asked || it.Number == custody
	}
	left := int(p.queued + p.running)
	switch {
	case !asked:
		e.signal(p, Pong, m.Token, nil, "")
	case left == 0:
		e.pongWithCustody(p, m.Token)
	case len(p.link.custody) < maxCustody:
		p.link.custody = append(p.link.custody, custodyPing{slices.Clone(m.Token), p.link.requests, left})
	default:
		e.signal(p, Pong, m.Token, nil, "") // it does not say what was asked for, which it only should
	}
}

func (e *Endpoint) pongWithCustody(p *peer, token []byte) {
	options := &e.scratch.Options
	options.Reset()
	options.Add(custody, nil)
	e.signal(p, Pong, token, options, "")
}

// answered does what waits for the answer to the request of that number.
func (e *Endpoint) answered(p *peer, number uint16) {
	if int(p.queued+p.running) == e.config.MaxRequestsOfPeer-1 {
		e.config.Connections.Full(p.addr, false)
	}
	for i := range p.link.custody {
		if ping := &p.link.custody[i]; int16(number-ping.before) < 0 {
			ping.left--
		}
	}
	p.link.custody = slices.DeleteFunc(p.link.custody, func(ping custodyPing) bool {
		if ping.left == 0 {
			e.pongWithCustody(p, ping.token)
		}
		return ping.left == 0
	})
	e.parted(p)
}

// parted ends a connection that the peer has released once nothing is in hand (RFC 8323 §5.5).
func (e *Endpoint) parted(p *peer) {
	if p.link.released && !p.link.over && p.queued+p.running == 0 && (p.more == nil || p.more.activeCalls == 0) {
		p.link.over = true
		e.config.Connections.Hangup(p.addr)
	}
}

// congested tells whether what is notified now could only wait behind what the peer has not taken yet.
func (e *Endpoint) congested(p *peer) bool {
	return p.link != nil && e.config.Connections.Congested(p.addr)
}

// Relieved lets notifications go that waited until the peer had taken what was before them. Of each observation that is the newest.
func (e *Endpoint) Relieved(peer netip.AddrPort, now time.Time) {
	p := e.known(peer)
	if p == nil || !p.link.held {
		return
	}
	p.link.held = false
	at := now.Sub(e.epoch)
	for _, o := range slices.Clone(p.more.observations) { // one that ends is taken out
		if o.hasPending && e.congested(p) {
			p.link.held = true
			return
		}
		e.flushPending(o, at)
	}
}

// bert tells whether the peer takes several blocks at once (RFC 8323 §5.3.2, §6).
func (l *link) bert() bool { return l.blockwise && l.maxMessage > baseMessage }

// blocks says in which pieces a body goes to the peer, as size exponent and bytes: whole where the peer takes so long a message and nobody
// asks for blocks, several blocks at once where it knows that (RFC 8323 §6), else as on UDP. szx is the exponent asked for; overhead is what
// else is in the message, without its header.
func (l *link) blocks(szx uint8, asked bool, overhead, body int) (_ uint8, size int) {
	room := l.maxMessage - maxFrameHeader - overhead - 1
	switch {
	case !asked && body <= room:
		return szx, body
	case asked && szx == bertSZX, !asked && l.bert():
		if room >= bertUnit {
			return bertSZX, room &^ (bertUnit - 1)
		}
		szx = maxSZX
	}
	szx = min(szx, maxSZX, szxFor(room))
	return szx, 16 << szx
}
