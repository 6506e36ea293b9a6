package pipeline

import (
	"bytes"
	"strconv"
	"time"

	"fieldgate"
	"fieldgate/gateway/cache"
	"fieldgate/gateway/upstream"
)

// maxGathered bounds the bytes of all answers that are gathered at once.
const maxGathered = 32 << 20

// gathered is a copy of an answer that goes to the caller as it comes, to be kept or checked when it is whole.
type gathered struct {
	keep, check bool
	fields      []cache.Field // its head
	status      int
	body        []byte
}

// Keeps says whether a front that calls the upstream itself has to hand over what comes next of the answer: to KeepHead, then to
// KeepContent.
func (x *Exchange) Keeps() bool {
	if x.gathered != nil {
		return x.gathered.keep || x.gathered.check
	}
	return x.cached != nil || x.Operation.reportsAnswers()
}

// KeepHead takes the head of the answer. It says whether the exchange is answered instead: the service has found the stored answer to hold.
func (p *Pipeline) KeepHead(x *Exchange, status int, fields []cache.Field) (answered bool, problem *fieldgate.Problem) {
	g := &gathered{status: status, fields: fields, check: x.Operation.reportsAnswers()}
	x.gathered = g
	if c := x.cached; c != nil {
		policy, now := x.Operation.policies.cache, time.Now()
		if status == 304 && c.stale != nil {
			g.check = false
			renewed := p.Cache.Refresh(&c.key, policy, askedFields{x}, c.stale, fields, now)
			c.flight.land()
			return true, p.answerCached(x, renewed, now)
		}
		g.keep = x.Method == fieldgate.MethodGet && cache.Keeps(policy, askedFields{x}, status, fields, now) && x.Operation.variesKnown(fields)
		if !g.keep {
			c.flight.land()
		}
	}
	return false, nil
}

// KeepContent takes the next piece of the answer's content; last: with it all has come. Content that grows too large, or that there is
// no room to gather, is neither kept nor checked.
func (p *Pipeline) KeepContent(x *Exchange, piece []byte, last bool) {
	g := x.gathered
	if g == nil || !g.keep && !g.check {
		return
	}
	need := len(g.body) + len(piece)
	if g.keep && need > p.Cache.Most() {
		g.keep = false
		x.land()
	}
	most := upstream.MaxBufferedAnswer
	if !g.check {
		most = p.Cache.Most()
	}
	if need > most || !p.gather(g, need, most) {
		if g.check {
			x.Detail = "answer " + strconv.Itoa(g.status) + ": too large to be checked"
		}
		p.dropGathered(x)
		return
	}
	g.body = append(g.body, piece...)
	if !last {
		return
	}
	if g.keep {
		p.store(x, bytes.Clone(g.body))
	}
	if g.check {
		x.checkGathered()
	}
	p.dropGathered(x)
}

// gather makes room for so many bytes of content, within the bound for all.
func (p *Pipeline) gather(g *gathered, need, most int) bool {
	if need <= cap(g.body) {
		return true
	}
	size := min(max(need, 2*cap(g.body)), most)
	if p.gathered.Add(int64(size-cap(g.body))) > maxGathered {
		p.gathered.Add(int64(cap(g.body) - size))
		return false
	}
	g.body = append(make([]byte, 0, size), g.body...)
	return true
}

// dropGathered gives up what was gathered.
func (p *Pipeline) dropGathered(x *Exchange) {
	g := x.gathered
	p.gathered.Add(-int64(cap(g.body)))
	g.keep, g.check, g.body = false, false, nil
	x.land()
}

func (p *Pipeline) store(x *Exchange, body []byte) {
	p.Cache.Store(&x.cached.key, x.Operation.policies.cache, askedFields{x}, x.gathered.status, x.gathered.fields, body, time.Now())
	x.land()
}

// checkGathered holds an answer against the contract that its caller has already.
func (x *Exchange) checkGathered() {
	relayed := x.Answer
	x.Answer = answerFrom(x.gathered.status, x.gathered.fields, x.gathered.body, true)
	if broken := x.brokenAnswer(); broken != "" {
		x.breaks(broken)
	}
	x.Answer = relayed
}
