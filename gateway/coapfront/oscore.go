package coapfront

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/oscore"
)

// OSCORERefusal is why a protected request was not served (RFC 8613 section 8.2).
type OSCORERefusal uint8

const (
	OSCOREMalformed OSCORERefusal = iota // the option cannot be read, or what only a proxy adds is there
	OSCOREUnknown                        // the context is nobody's
	OSCOREReplayed
	OSCOREForged     // it does not authenticate
	OSCORENotReady   // this gateway cannot answer: it has no numbers or not the secrets key
	OSCOREChallenged // it may be a repetition: to be sent again with an Echo value
	OSCORERefusals   // number of reasons
)

var oscoreRefusals = [OSCORERefusals]struct {
	name, diagnostic string
	code             coap.Code
}{
	OSCOREMalformed:  {"malformed", "", coap.BadOption},
	OSCOREUnknown:    {"unknown", "Security context not found", coap.Unauthorized},
	OSCOREReplayed:   {"replayed", "Replay detected", coap.Unauthorized},
	OSCOREForged:     {"forged", "Decryption failed", coap.BadRequest},
	OSCORENotReady:   {"not-ready", "", coap.ServiceUnavailable},
	OSCOREChallenged: {"challenged", "", coap.Unauthorized},
}

func (r OSCORERefusal) String() string { return oscoreRefusals[r].name }

// OSCOREStats are counted since the start.
type OSCOREStats struct {
	Opened  uint64 // requests
	Refused [OSCORERefusals]uint64
}

// objects opens what devices protect by OSCORE. It owns the state of their contexts, which are made when they are first named and
// kept as long as the credential stands: what was received cannot be forgotten without being received again.
type objects struct {
	front   *Front
	numbers *numbers
	opened  atomic.Uint64
	refused [OSCORERefusals]atomic.Uint64

	mu      sync.RWMutex
	byOwner map[directory.Ref]*securityContext
}

// securityContext is a device's context at this gateway.
type securityContext struct {
	caller *pipeline.Caller
	slot   int // of numbers

	mu         sync.Mutex // guards what follows
	oscore     *oscore.Context
	challenge  [8]byte // the Echo value that shows that a request was made after this state began
	challenges float64 // how many may be sent at once
	filled     time.Time
}

// A challenge costs a sequence number: repeating a request that was recorded must not use them up.
const (
	challengeBurst     = 20
	challengesInSecond = 10
)

func newObjects(f *Front, reserve func(context.Context, uint64) (uint64, error)) *objects {
	o := &objects{front: f, numbers: newNumbers(reserve, f.logger), byOwner: make(map[directory.Ref]*securityContext)}
	if f.pipeline.Directory.HasOSCORE() {
		o.numbers.want()
	}
	return o
}

// principalChanged forgets a context that is another's now, or nobody's.
func (o *objects) principalChanged(change *fieldgate.DirectoryChange) {
	if change.OSCORE != nil && o.numbers.newest.Load() == 0 {
		o.numbers.want()
	}
	ref := o.front.pipeline.Directory.Find(change.Kind, change.ID)
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.byOwner[ref]; c != nil && !o.front.pipeline.Directory.Holds(ref, &c.caller.Hash) {
		delete(o.byOwner, ref)
	}
}

// context is the state of a context that was found in the directory.
func (o *objects) context(sealed *fieldgate.SealedOSCORE, who directory.Proven) (*securityContext, error) {
	o.mu.RLock()
	c := o.byOwner[who.Ref]
	o.mu.RUnlock()
	if c != nil && c.caller.Hash == who.Hash {
		return c, nil
	}
	secret, salt, err := o.front.pipeline.Directory.OpenOSCORE(who.Ref, sealed)
	if err != nil {
		return nil, err
	}
	config := oscore.Config{MasterSecret: secret, MasterSalt: salt, SenderID: sealed.RecipientID, RecipientID: sealed.SenderID, Restarted: true}
	if len(sealed.IDContext) > 0 {
		config.IDContext = sealed.IDContext
	}
	slot := numberSlotOf(&config)
	config.Numbers = func() (uint64, error) { return o.numbers.take(slot) }
	made := &securityContext{caller: o.front.pipeline.Proven(who), slot: slot}
	if made.oscore, err = oscore.New(config); err != nil {
		return nil, err
	}
	rand.Read(made.challenge[:]) // which never fails
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.byOwner[who.Ref]; c != nil && c.caller.Hash == who.Hash {
		return c, nil
	}
	if o.front.pipeline.Directory.Holds(who.Ref, &who.Hash) { // principalChanged has missed what changed before
		o.byOwner[who.Ref] = made
	}
	return made, nil
}

// numberSlotOf is the same for all contexts whose sender keys are (RFC 8613 section 3.2.1: they are derived from just these).
func numberSlotOf(config *oscore.Config) int {
	h := sha256.New()
	for _, part := range [...][]byte{config.MasterSecret, config.MasterSalt, config.IDContext, config.SenderID} {
		h.Write([]byte{byte(len(part))})
		h.Write(part)
	}
	return int(binary.BigEndian.Uint16(h.Sum(nil))) % numberSlots
}

// listenerObjects opens what comes to a listener. It implements coap.ObjectSecurity.
type listenerObjects struct {
	*objects
	listener *listener
}

// Open implements coap.ObjectSecurity.
func (o listenerObjects) Open(dst []byte, from netip.AddrPort, request coap.Message, body []byte) coap.Opened {
	kid, known, opened, refusal := o.open(dst, request, body)
	if refusal == OSCORERefusals {
		o.opened.Add(1)
		return opened
	}
	o.refused[refusal].Add(1)
	opened.Code, opened.Diagnostic = oscoreRefusals[refusal].code, oscoreRefusals[refusal].diagnostic
	if refusal != OSCOREChallenged && o.front.refusals.take(time.Now()) {
		o.record(from, request, kid, known, refusal)
	}
	return opened
}

// record tells of a request that was not opened. Nobody has shown to be whose context it names.
func (o listenerObjects) record(from netip.AddrPort, request coap.Message, kid []byte, known *pipeline.Caller, refusal OSCORERefusal) {
	source, _ := o.listener.sender(from)
	x := &pipeline.Exchange{Protocol: fieldgate.ProtocolCoAP, Method: methods[request.Code], Source: source}
	x.Detail = "OSCORE: " + refusal.String()
	if kid != nil {
		x.Detail += ", kid " + hex.EncodeToString(kid[:min(len(kid), oscore.MaxIDLength)])
	}
	if known != nil {
		x.Detail += " of " + known.ID
	}
	problem := fieldgate.ProblemUnauthenticated
	switch refusal {
	case OSCOREMalformed:
		problem = fieldgate.ProblemBadRequest
	case OSCORENotReady:
		problem = fieldgate.ProblemOverloaded
	}
	o.front.pipeline.Malformed(x, fieldgate.NewProblem(problem, ""))
}

// open opens a request; refusal is OSCORERefusals where it is to be served. kid and known are for the Record of one that is not.
func (o listenerObjects) open(dst []byte, request coap.Message, body []byte) (kid []byte, known *pipeline.Caller, opened coap.Opened, refusal OSCORERefusal) {
	header, ok := headerOf(&request)
	if !ok {
		return nil, nil, opened, OSCOREMalformed
	}
	sealed, who, found := o.front.pipeline.Directory.OSCORE(header.KID, header.KIDContext)
	if !found {
		return header.KID, nil, opened, OSCOREUnknown
	}
	c, err := o.context(sealed, who)
	if err != nil {
		o.front.logger.Warn("an OSCORE context cannot be used", "device", o.front.pipeline.Directory.Principal(who.Ref).ID, "error", err)
		return header.KID, nil, opened, OSCORENotReady
	}
	refusal = c.open(dst, body, o.objects, &opened)
	return header.KID, c.caller, opened, refusal
}

// headerOf is the one OSCORE option of a request that was not cut into blocks on the way (RFC 8613 section 4.1.3.4.2).
func headerOf(request *coap.Message) (header oscore.Header, ok bool) {
	count := 0
	for it := request.Iterate(); it.Next(); {
		switch it.Number {
		case coap.OSCORE:
			var err error
			if header, err = oscore.ParseHeader(it.Value); err != nil {
				return header, false
			}
			count++
		case coap.Block1, coap.Block2:
			return header, false
		}
	}
	return header, count == 1 && header.KID != nil && header.Numbered() && len(request.Payload) > 0
}

func (c *securityContext) open(dst, body []byte, all *objects, opened *coap.Opened) OSCORERefusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !all.numbers.ready(c.slot) {
		return OSCORENotReady // before anything is received: it could not be answered
	}
	code, within, exchange, err := c.oscore.OpenRequest(dst, body)
	switch {
	case errors.Is(err, oscore.ErrReplay):
		return OSCOREReplayed
	case errors.Is(err, oscore.ErrOpen):
		return OSCOREForged
	case err != nil:
		return OSCOREMalformed
	}
	protection := &protection{context: c, exchange: exchange}
	if exchange.Unproven {
		within[1] = code
		if !c.proves(within) {
			if !c.mayChallenge(time.Now()) {
				return OSCORENotReady
			}
			opened.Protection, opened.Challenge = protection, c.challenge[:]
			return OSCOREChallenged
		}
		c.oscore.Synchronize(&protection.exchange)
	}
	*opened = coap.Opened{Code: coap.Code(code), Message: within, Protection: protection}
	return OSCORERefusals
}

// proves says whether a request returns the challenge, which nobody could know before this state began: it is no repetition of one
// that was received before (RFC 8613 appendix B.1.2).
func (c *securityContext) proves(datagram []byte) bool {
	within, err := coap.Decode(datagram)
	if err != nil {
		return false
	}
	value, _ := within.Option(coap.Echo)
	return subtle.ConstantTimeCompare(value, c.challenge[:]) == 1
}

func (c *securityContext) mayChallenge(now time.Time) bool {
	if c.filled.IsZero() {
		c.challenges = challengeBurst
	} else {
		c.challenges = min(challengeBurst, c.challenges+challengesInSecond*now.Sub(c.filled).Seconds())
	}
	c.filled = now
	if c.challenges < 1 {
		return false
	}
	c.challenges--
	return true
}

// protection is what the responses to one request are protected by. It implements coap.Protection.
type protection struct {
	context  *securityContext
	exchange oscore.Exchange
}

// Protect implements coap.Protection. Each response has a sequence number of its own, so that no nonce is used twice even if a request were
// answered twice (RFC 8613 section 8.3 leaves that open).
func (p *protection) Protect(dst []byte, code coap.Code, body []byte) (coap.Code, []byte, bool) {
	p.context.mu.Lock()
	defer p.context.mu.Unlock()
	outer, protected, err := p.context.oscore.ProtectResponse(dst, &p.exchange, byte(code), body, true)
	return coap.Code(outer), protected, err == nil
}

// Context implements coap.Protection.
func (p *protection) Context() [8]byte { return [8]byte(p.context.caller.Hash[:8]) }

var errOtherContext = fieldgate.NewProblem(fieldgate.ProblemUnauthenticated, "The request is protected by the OSCORE context of another device than the connection is of.")

// sender is where a request comes from, and whose it is as far as its connection or its protection shows.
func (x *exchange) sender() *fieldgate.Problem {
	x.Source, x.Caller = x.listener.sender(x.request.Peer)
	p, protected := x.request.Protection().(*protection)
	if !protected {
		return nil
	}
	connected := x.Caller
	x.Caller = p.context.caller
	if connected != nil && connected.Ref != x.Caller.Ref {
		return errOtherContext
	}
	return nil
}

// OSCOREStats are those of all listeners together; ok is false where there is no OSCORE.
func (f *Front) OSCOREStats() (stats OSCOREStats, ok bool) {
	if f.objects == nil {
		return stats, false
	}
	stats.Opened = f.objects.opened.Load()
	for i := range stats.Refused {
		stats.Refused[i] = f.objects.refused[i].Load()
	}
	return stats, true
}

// objectSecurity is nil where OSCORE is not spoken: behind an on-ramp nobody could read it.
func (f *Front) objectSecurity(l *listener) coap.ObjectSecurity {
	if f.objects == nil || l.onRamp != nil {
		return nil
	}
	return listenerObjects{f.objects, l}
}
