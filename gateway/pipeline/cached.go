package pipeline

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/cache"
	"fieldgate/gateway/upstream"
)

// cached is what an exchange has to do with the cache.
type cached struct {
	key    cache.Key
	stale  *cache.Answer
	keep   bool          // the answer under way is gathered
	fields []cache.Field // its head
	status int
	body   []byte
}

const (
	maxGathered      = 32 << 20 // bytes of all answers that are gathered to be kept at once
	maxRevalidations = 64       // answers that are revalidated behind the callers' backs at once
)

// cacheLookup is the stage that answers from the cache.
func cacheLookup(p *Pipeline, x *Exchange) *fieldgate.Problem {
	if !x.cacheable() {
		return nil
	}
	now := time.Now()
	c := &cached{key: x.cacheKey()}
	answer, verdict := p.Cache.Lookup(&c.key, askedFields{x}, now)
	if verdict == cache.Impossible { // RFC 9111 section 5.2.1.7
		return fieldgate.NewProblem(fieldgate.ProblemUpstreamTimeout, "There is no stored answer, and the request demands one.")
	}
	x.cached = c
	switch verdict {
	case cache.Stale:
		c.stale = answer
	case cache.Tolerable:
		if answer.Claim() {
			p.revalidate(x, answer)
		}
		return x.answerCached(answer, now)
	case cache.Fresh:
		return x.answerCached(answer, now)
	}
	return nil
}

// overriding are fields by which many services answer for another method or path than the one that was asked for.
var overriding = []string{"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"}

// cacheable says whether the key names all that decides about the answer.
func (x *Exchange) cacheable() bool {
	if x.Method != fieldgate.MethodGet && x.Method != fieldgate.MethodHead {
		return false
	}
	known := x.caller.Ref != 0
	if !known && !x.Operation.policies.cache.Shared {
		return false // nobody can be told from nobody
	}
	if x.HTTP == nil {
		return true
	}
	if x.HTTP.HasContent() || x.HTTP.Upgrades() {
		return false
	}
	if _, found := x.HTTP.Field("authorization"); found && !known { // RFC 9111 section 3.5; those of callers we know stay here
		return false
	}
	return !slices.ContainsFunc(overriding, func(name string) bool {
		_, found := x.HTTP.Field(name)
		return found
	})
}

// cacheKey names the resource, then the version of the contract, whose answers are meant, the service, the origin that it is told was
// asked for, and the query (RFC 9111 section 2: at least the method and the whole target URI).
func (x *Exchange) cacheKey() (key cache.Key) {
	o := x.Operation
	resource, query, _ := strings.Cut(x.upstreamTarget(), "?")
	key.Group = resourceKey(o, resource)
	rest := make([]byte, 0, 128+len(query))
	for _, part := range [...]string{o.Contract.Digest, o.ID} {
		rest = append(append(rest, part...), 0)
	}
	if !o.policies.cache.Shared {
		rest = append(append(append(append(rest, x.Principal.Kind...), 0), x.Principal.ID...), 0)
	}
	if service := x.service(); service != o.Upstream { // a canary's answers are for its callers
		rest = append(rest, service...)
	}
	rest = append(rest, 0)
	if x.HTTP != nil {
		rest = x.HTTP.AppendOrigin(rest)
	}
	key.Rest = append(append(rest, 0), query...)
	return key
}

func resourceKey(o *Operation, resource string) []byte {
	key := make([]byte, 0, len(o.Upstream)+1+len(resource))
	return append(append(append(key, o.Upstream...), 0), resource...)
}

// askedFields are the fields of a request as the service gets them, which is what its Vary is about.
type askedFields struct{ x *Exchange }

// Field implements cache.Fields.
func (f askedFields) Field(name string) (value []byte, found bool) {
	x := f.x
	switch name {
	case "fieldgate-principal":
		return []byte(fieldValue(x.Principal.ID)), true
	case "fieldgate-principal-kind":
		return []byte(x.Principal.Kind), true
	case "fieldgate-protocol":
		return []byte(x.Protocol.String()), true
	}
	if x.HTTP == nil || x.HTTP.Withholds([]byte(name)) {
		return nil, false
	}
	return x.HTTP.Field(name)
}

// variesKnown says whether the values are known of all fields that the service says its answer depends on. The others are the gateway's
// own, and each request may have another value.
func (o *Operation) variesKnown(fields []cache.Field) bool {
	for _, f := range fields {
		if !strings.EqualFold(f.Name, "vary") {
			continue
		}
		for name := range strings.SplitSeq(f.Value, ",") {
			switch name = strings.ToLower(strings.TrimSpace(name)); name {
			case "fieldgate-principal", "fieldgate-principal-kind", "fieldgate-protocol", "fieldgate-operation":
				continue
			case "forwarded", "via", "x-forwarded-for", "traceparent", "tracestate":
				return false
			}
			if strings.HasPrefix(name, "fieldgate-") || o.policies.request.changes([]byte(name)) {
				return false
			}
		}
	}
	return true
}

// answerCached answers from the cache; 304 where the caller has the answer already (RFC 9110 section 13.1).
func (x *Exchange) answerCached(stored *cache.Answer, now time.Time) *fieldgate.Problem {
	x.answer(answerFrom(stored.Status, stored.Fields, stored.Body))
	x.Answer.Fields = append(x.Answer.Fields, AnswerField{Name: "Age", Value: strconv.Itoa(int(stored.Age(now) / time.Second))},
		AnswerField{Name: "Cache-Status", Value: "fieldgate; hit"}) // RFC 9111 section 5.1, RFC 9211
	if x.Operation.policies.response != nil { // stored is what the service said
		if problem := x.transformAnswer(); problem != nil {
			return problem
		}
	} else if !x.toCBOR && x.notModified(stored) {
		x.Answer.Status, x.Answer.Body = 304, nil
	}
	if x.toCBOR {
		if problem := x.transcodeAnswer(); problem != nil {
			return problem
		}
	}
	x.BytesOut = uint64(len(x.Answer.Body))
	return nil
}

// notModified: RFC 9110 section 13.2.2.
func (x *Exchange) notModified(stored *cache.Answer) bool {
	if x.HTTP == nil || stored.Status != 200 {
		return false
	}
	entityTag, lastModified := stored.Validators()
	if tags, asked := x.HTTP.Field("if-none-match"); asked {
		return entityTag != "" && weaklyListed(string(tags), entityTag)
	}
	since, asked := x.HTTP.Field("if-modified-since")
	return asked && lastModified != "" && string(since) == lastModified
}

// revalidate asks the service in the background whether an answer still holds.
func (p *Pipeline) revalidate(x *Exchange, answer *cache.Answer) {
	service := p.Service(x)
	if service == nil {
		answer.Release()
		return
	}
	select {
	case p.revalidations <- struct{}{}:
	default:
		answer.Release()
		return
	}
	x.revalidating = true
	call, problem := p.newCall(x, service)
	x.revalidating = false
	o, key, fields := x.Operation, x.cached.key, x.copyFields()
	go func() {
		defer func() { <-p.revalidations }()
		defer answer.Release()
		if problem != nil {
			return
		}
		call.Lines = appendValidators(call.Lines, answer)
		response, err := service.Do(context.Background(), call)
		if err != nil {
			return // the stored answer is used for as long as it may be
		}
		now := time.Now()
		if response.Status == 304 {
			p.Cache.Refresh(&key, o.policies.cache, fields, answer, response.Fields, now)
			return
		}
		if o.variesKnown(response.Fields) && !o.refuses(response) {
			p.Cache.Store(&key, o.policies.cache, fields, response.Status, response.Fields, response.Body, now)
		}
	}()
}

// refuses says whether an answer breaks the contract, and must not reach callers.
func (o *Operation) refuses(response *upstream.Response) bool {
	if !o.checksAnswers() || o.Policies.Answers != fieldgate.AnswersEnforced {
		return false
	}
	x := Exchange{Operation: o, Method: fieldgate.MethodGet, Answer: answerFrom(response.Status, response.Fields, response.Body)}
	return x.brokenAnswer() != ""
}

// copiedFields are askedFields that outlive the request.
type copiedFields map[string][]byte

// Field implements cache.Fields.
func (f copiedFields) Field(name string) (value []byte, found bool) {
	value, found = f[name]
	return value, found
}

func (x *Exchange) copyFields() copiedFields {
	copied := make(copiedFields)
	add := func(name, value []byte) { copied[string(name)] = bytes.Clone(value) }
	for _, name := range []string{"fieldgate-principal", "fieldgate-principal-kind", "fieldgate-protocol"} {
		value, _ := askedFields{x}.Field(name)
		add([]byte(name), value)
	}
	if x.HTTP != nil {
		x.HTTP.Each(func(name, _ []byte) {
			lower := bytes.ToLower(name)
			value, _ := x.HTTP.Field(string(lower)) // all lines of it
			add(lower, value)
		})
	}
	return copied
}

// AppendValidators appends field lines that make the request to the service conditional, because a stored answer is stale (RFC 9111
// section 4.3.1). Without one, or where the caller has conditions of its own, there are none.
func (x *Exchange) AppendValidators(dst []byte) []byte {
	stale := x.cached.stale
	if stale == nil || x.conditional() {
		x.cached.stale = nil
		return dst
	}
	return appendValidators(dst, stale)
}

func appendValidators(dst []byte, stale *cache.Answer) []byte {
	entityTag, lastModified := stale.Validators()
	if entityTag != "" {
		dst = append(append(append(dst, "If-None-Match: "...), entityTag...), "\r\n"...)
	}
	if lastModified != "" {
		dst = append(append(append(dst, "If-Modified-Since: "...), lastModified...), "\r\n"...)
	}
	return dst
}

// conditions are fields that ask for less than the whole answer, according to what of it the caller has.
var conditions = []string{"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"}

func (x *Exchange) conditional() bool {
	return x.HTTP != nil && slices.ContainsFunc(conditions, func(name string) bool {
		_, found := x.HTTP.Field(name)
		return found
	})
}

// Caches says whether a front that calls the upstream itself has to hand the answer to KeepHead, and its content to KeepContent.
func (x *Exchange) Caches() bool { return x.cached != nil }

// KeepHead begins to keep an answer, if it may be kept. It says whether the exchange is answered instead: the service has found
// the stored answer to hold.
func (p *Pipeline) KeepHead(x *Exchange, status int, fields []cache.Field) (answered bool, problem *fieldgate.Problem) {
	c, policy, now := x.cached, x.Operation.policies.cache, time.Now()
	if status == 304 && c.stale != nil {
		return true, x.answerCached(p.Cache.Refresh(&c.key, policy, askedFields{x}, c.stale, fields, now), now)
	}
	c.keep = x.Method == fieldgate.MethodGet && cache.Keeps(policy, askedFields{x}, status, fields, now) && x.Operation.variesKnown(fields)
	c.status, c.fields = status, fields
	return false, nil
}

// Keeping says whether content of the answer is wanted.
func (x *Exchange) Keeping() bool { return x.cached != nil && x.cached.keep }

// KeepContent takes a piece of the answer's content. Content that grows too large, or that there is no room to gather, is not kept.
func (p *Pipeline) KeepContent(x *Exchange, piece []byte) {
	if !x.Keeping() {
		return
	}
	c := x.cached
	need, most := len(c.body)+len(piece), p.Cache.Most()
	if need > most {
		p.keepNothing(c)
		return
	}
	if need > cap(c.body) {
		size := min(max(need, 2*cap(c.body)), most)
		if p.gathered.Add(int64(size-cap(c.body))) > maxGathered {
			p.gathered.Add(int64(cap(c.body) - size))
			p.keepNothing(c)
			return
		}
		c.body = append(make([]byte, 0, size), c.body...)
	}
	c.body = append(c.body, piece...)
}

// KeepEnd stores the answer, of which all has come.
func (p *Pipeline) KeepEnd(x *Exchange) {
	if !x.Keeping() {
		return
	}
	c := x.cached
	p.store(x, bytes.Clone(c.body))
	p.keepNothing(c)
}

func (p *Pipeline) store(x *Exchange, body []byte) {
	c := x.cached
	p.Cache.Store(&c.key, x.Operation.policies.cache, askedFields{x}, c.status, c.fields, body, time.Now())
}

// keepNothing gives up what was gathered.
func (p *Pipeline) keepNothing(c *cached) {
	p.gathered.Add(-int64(cap(c.body)))
	c.keep, c.body = false, nil
}

// Forget drops stored answers of a resource that a caller has changed (RFC 9111 section 4.4): before the caller hears of it, so that it
// does not read what was before.
func (p *Pipeline) Forget(x *Exchange, status int) {
	if x.program.caches && !safe(x.Method) && status < 400 {
		resource, _, _ := strings.Cut(x.upstreamTarget(), "?")
		p.Cache.Invalidate(resourceKey(x.Operation, resource))
	}
}

// safe: RFC 9110 section 9.2.1.
func safe(method fieldgate.Method) bool {
	switch method {
	case fieldgate.MethodGet, fieldgate.MethodHead, fieldgate.MethodOptions, fieldgate.MethodTrace, fieldgate.MethodFetch, fieldgate.MethodSubscribe:
		return true
	}
	return false
}

// weaklyListed says whether a list of entity tags has one that is weakly equal, or is "*" (RFC 9110 section 13.1.2).
func weaklyListed(list, entityTag string) bool {
	opaque := func(tag string) string {
		tag = strings.TrimSpace(tag)
		if len(tag) > 2 && tag[0] == 'W' && tag[1] == '/' {
			return tag[2:]
		}
		return tag
	}
	want := opaque(entityTag)
	for list != "" {
		var tag string
		tag, list = nextTag(list)
		if tag = opaque(tag); tag == want || tag == "*" {
			return true
		}
	}
	return false
}

// nextTag takes one entity tag off a list; a comma within quotes does not end it.
func nextTag(list string) (tag, rest string) {
	quoted := false
	for i := range len(list) {
		switch {
		case list[i] == '"':
			quoted = !quoted
		case list[i] == ',' && !quoted:
			return list[:i], list[i+1:]
		}
	}
	return list, ""
}
