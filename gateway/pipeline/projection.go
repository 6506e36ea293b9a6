package pipeline

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"weak"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/broker"
)

// projections are an operation's policies of privacy, linked. Receivers for whom the same policies count share a Projection, so that what
// they see of a message is made once.
type projections struct {
	policies []fieldgate.Projection
	made     []atomic.Pointer[Projection] // by the policies that count, a bit each; nil: nobody asked for it yet
	media    []linkedMedia                // of messages and answers: what their CBOR means
}

// Projection is what some receivers see of an operation's messages and answers. It never changes.
type Projection struct {
	pipeline  *Pipeline
	operation weak.Pointer[Operation] // who idles keeps no contract that was replaced
	reduction schema.Reduction
	media     []linkedMedia
	recorded  atomic.Int64 // when a message was last recorded that could not be projected, in nanoseconds since 1970
}

func (o *Operation) linkProjections(schemas *schemas) (*projections, error) {
	policies := o.Policies.Privacy
	if len(policies) == 0 {
		return nil, nil
	}
	linked := &projections{policies: policies, made: make([]atomic.Pointer[Projection], 1<<min(len(policies), fieldgate.MaxProjections))}
	if o.Message != nil {
		var err error
		linked.media, err = linkMedia(o.Message.Media, schemas)
		return linked, err
	}
	for i := range o.Responses {
		media, err := linkMedia(o.Responses[i].Media, schemas)
		if err != nil {
			return nil, err
		}
		linked.media = append(linked.media, media...)
	}
	return linked, nil
}

// Projection is what the exchange's caller sees of the operation's messages and answers; nil: all.
func (p *Pipeline) Projection(x *Exchange) *Projection {
	if x.Operation == nil || x.Operation.policies == nil || x.Operation.policies.privacy == nil {
		return nil
	}
	all := x.Operation.policies.privacy
	counts := 0
	for i := range all.policies {
		if one := &all.policies[i]; (one.For == nil || isAmong(&x.Principal, one.For)) && (one.Except == nil || !isAmong(&x.Principal, one.Except)) {
			counts |= 1 << i
		}
	}
	if counts == 0 {
		return nil
	}
	if made := all.made[counts].Load(); made != nil {
		return made
	}
	made := &Projection{pipeline: p, operation: weak.Make(x.Operation), media: all.media}
	for i := range all.policies {
		if counts&(1<<i) != 0 {
			add(&made.reduction, &all.policies[i])
		}
	}
	if !all.made[counts].CompareAndSwap(nil, made) {
		made = all.made[counts].Load()
	}
	return made
}

func add(r *schema.Reduction, p *fieldgate.Projection) {
	for _, path := range p.Remove {
		r.Remove(fieldgate.SplitPath(path))
	}
	for _, path := range p.Mask {
		r.Mask(fieldgate.SplitPath(path))
	}
	for _, c := range p.Coarsen {
		path := fieldgate.SplitPath(c.Member)
		if c.Every > 0 {
			r.CoarsenTime(path, c.Every)
		} else if r.CoarsenNumber(path, c.Step) != nil {
			r.Remove(path) // no compiler of ours lets it in
		}
	}
}

// isAmong says whether all holds for the principal.
func isAmong(p *fieldgate.Principal, r *fieldgate.Receivers) bool {
	kind := p.Kind
	if kind != fieldgate.PrincipalDevice && kind != fieldgate.PrincipalApp {
		kind = fieldgate.PrincipalAnonymous
	}
	isDevice, isApp := kind == fieldgate.PrincipalDevice, kind == fieldgate.PrincipalApp
	switch {
	case len(r.Kinds) > 0 && !slices.Contains(r.Kinds, kind),
		len(r.Apps) > 0 && !(isApp && oneOf(r.Apps, p.ID)),
		len(r.Models) > 0 && !(isDevice && oneOf(r.Models, p.Model)),
		len(r.Firmware) > 0 && !(isDevice && oneOf(r.Firmware, p.Firmware)):
		return false
	}
	for _, scope := range r.Scopes {
		if !isApp || !slices.Contains(p.Scopes, scope) {
			return false
		}
	}
	return true
}

// Project implements broker.Projection.
func (v *Projection) Project(m *broker.Message) *broker.Message {
	if len(m.Payload) == 0 { // it deletes a retained message
		return m
	}
	payload, ok := v.Payload(m.Topic, m.ContentType, m.Payload)
	if !ok {
		return nil
	}
	projected := *m
	projected.Payload = payload
	return &projected
}

// Payload is what is seen of a message's payload. Where nothing can be taken from it, because it is not what it should be, it is not ok: the
// message is not to be delivered, which is counted and recorded.
func (v *Projection) Payload(topic, contentType string, payload []byte) (_ []byte, ok bool) {
	if len(payload) == 0 {
		return payload, true
	}
	seen, err := v.reduce(contentType, payload)
	if err != nil {
		v.fail(topic, err)
	}
	return seen, err == nil
}

// reduce takes from content what is not for the receiver. It fails where that is neither JSON nor CBOR.
func (v *Projection) reduce(contentType string, content []byte) ([]byte, error) {
	var lower [128]byte
	given := mediaType(lower[:0], []byte(contentType))
	if encodingOfBytes(given) != encodingCBOR && (len(given) > 0 || startsLikeJSON(content)) {
		return v.reduction.JSON(nil, content)
	}
	var s *schema.Schema
	if media := mediaOf(v.media, given, encodingCBOR); media != nil {
		s = media.schema
	}
	return v.reduction.CBOR(nil, content, s)
}

var errUnprojected = fieldgate.NewProblem(fieldgate.ProblemInvalidPayload, "Receivers who may not see all of a message do not get one of which nothing can be taken.")

// unprojectedInterval is the time between two Records about messages that one Projection could not do anything with.
const unprojectedInterval = 10 * time.Second

// fail counts a message that nobody gets who sees it by this projection, and leaves a Record, the first at once.
func (v *Projection) fail(topic string, err error) {
	v.pipeline.Unprojected.Add(1)
	now, before := time.Now().UnixNano(), v.recorded.Load()
	if now-before < int64(unprojectedInterval) || !v.recorded.CompareAndSwap(before, now) {
		return
	}
	x := &Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodSubscribe, Path: []byte(topic), Operation: v.operation.Value(),
		Findings: fieldgate.FindingDropped, Detail: "not delivered to receivers with less privileges: " + violationText(err)}
	x.rule = "privacy"
	v.pipeline.Malformed(x, errUnprojected)
}

// projectAnswer leaves of an answer what the caller may see of it.
func (p *Pipeline) projectAnswer(x *Exchange) *fieldgate.Problem {
	view, answer := p.Projection(x), &x.Answer
	if view == nil || len(answer.Body) == 0 || !mayHaveContent(answer.Status) {
		return nil
	}
	body, err := view.reduce(answer.ContentType, answer.Body)
	switch {
	case err == nil:
	case answer.Status < 300:
		p.Unprojected.Add(1)
		x.Detail = "privacy: " + violationText(err)
		return x.by("privacy", errNotProjected)
	default: // what failed and why is in the status
		body, answer.ContentType = nil, ""
	}
	x.rewriteBody(body)
	return nil
}

var errNotProjected = fieldgate.NewProblem(fieldgate.ProblemUpstreamInvalid, "The answer cannot be shown to a caller who may not see all of it.")

// rewriteBody gives the answer other content. What describes the content of before, byte by byte, is left out (RFC 9110 section 8.8).
func (x *Exchange) rewriteBody(body []byte) {
	answer := &x.Answer
	kept := answer.Fields[:0:0]
	for _, f := range answer.Fields {
		if !slices.Contains(aboutContent, strings.ToLower(f.Name)) {
			kept = append(kept, f)
		}
	}
	answer.Fields, answer.Body, answer.ETag = kept, body, ""
}

// A Hearing is one subscriber's subscription beyond MQTT sessions: whether it still may hear, and how much of each message, as contracts
// and its caller are now. Who uses it locks it.
type Hearing struct {
	pipeline *Pipeline
	caller   Caller
	api, id  string // of the operation
	filter   string
	program  uint64 // serial of the one that was asked
	version  uint32 // of the caller in the directory then
	view     *Projection
	refused  bool
}

// Hear begins a hearing for an exchange that has passed Begin, by the filter that Filter gave.
func (p *Pipeline) Hear(x *Exchange, filter string) *Hearing {
	h := &Hearing{pipeline: p, caller: *x.caller, api: x.Operation.Contract.API, id: x.Operation.ID, filter: filter, program: x.program.Serial}
	h.version = p.version(&h.caller)
	h.view = p.Projection(x)
	return h
}

// See is the message as the subscriber may see it; nil: not at all.
func (h *Hearing) See(m *broker.Message) *broker.Message {
	if program, version := h.pipeline.Program(), h.pipeline.version(&h.caller); program.Serial != h.program || version != h.version {
		h.program, h.version = program.Serial, version
		h.ask(program)
	}
	switch {
	case h.refused:
		return nil
	case h.view == nil:
		return m
	}
	return m.Projected(h.view)
}

func (h *Hearing) ask(program *Program) {
	h.refused, h.view = true, nil
	if h.pipeline.Valid(&h.caller) != nil {
		return
	}
	for _, o := range program.topics.offered([]byte(h.filter), nil) {
		k := o.operation.Contract
		if k.API != h.api || o.operation.ID != h.id || k.State == fieldgate.LifecycleRetired {
			continue
		}
		x := &Exchange{Operation: o.operation, program: program}
		x.setCaller(h.pipeline, &h.caller)
		if x.demandCredential() == nil && admitKind(h.pipeline, x) == nil {
			h.refused, h.view = false, h.pipeline.Projection(x)
			return
		}
	}
}
