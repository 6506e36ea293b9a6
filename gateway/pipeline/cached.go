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
	flight *flight // others wait for the answer; nil: none do
}

const (
	maxRevalidations = 64 // answers that are revalidated behind the callers' backs at once
)

// cacheLookup is the stage that answers from the cache.
func cacheLookup(p *Pipeline, x *Exchange) *fieldgate.Problem {
	if !x.cacheable() {
		return nil
	}
	now := time.Now()
	c := &x.ownCached
	c.key = x.cacheKey()
	landed := p.flights.landed.Load()
	answer, verdict := p.Cache.Lookup(&c.key, askedFields{x}, now)
	if (verdict == cache.Miss || verdict == cache.Stale) && x.mayWait() {
		var again bool
		if c.flight, again = p.flights.join(&c.key, landed, x.Operation.Timeout); again {
			now = time.Now()
			answer, verdict = p.Cache.Lookup(&c.key, askedFields{x}, now)
		}
		if verdict != cache.Miss && verdict != cache.Stale {
			c.flight.land()
		}
	}
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
		return p.answerCached(x, answer, now)
	case cache.Fresh:
		return p.answerCached(x, answer, now)
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
// asked for, and the query (RFC 9111 section 2: at least the method and the whole target URI). It is written into the exchange's keyBuffer.
func (x *Exchange) cacheKey() (key cache.Key) {
	o := x.Operation
	b := append(append(x.keyBuffer[:0], o.Upstream...), 0)
	b = x.appendTarget(b)
	end := len(b)
	query := 0
	if i := bytes.IndexByte(b, '?'); i >= 0 {
		end, query = i, i+1
	}
	rest := len(b)
	for _, part := range [...]string{o.Contract.Digest, o.ID} {
		b = append(append(b, part...), 0)
	}
	if !o.policies.cache.Shared {
		b = append(append(append(append(b, x.Principal.Kind...), 0), x.Principal.ID...), 0)
	}
	if service := x.service(); service != o.Upstream { // a canary's answers are for its callers
		b = append(b, service...)
	}
	b = append(b, 0)
	if x.HTTP != nil {
		b = x.HTTP.AppendOrigin(b)
	}
	b = append(b, 0)
	if query > 0 {
		b = append(b, b[query:rest]...)
	}
	x.keyBuffer = b
	key.Group, key.Rest = b[:end:end], b[rest:len(b):len(b)]
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
	case "accept":
		if x.HTTP == nil {
			return []byte(x.accepted()), true
		}
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
func (p *Pipeline) answerCached(x *Exchange, stored *cache.Answer, now time.Time) *fieldgate.Problem {
	x.answer(answerFrom(stored.Status, stored.Fields, stored.Body, x.HTTP != nil || x.Operation.rewritesAnswers()))
	age := stored.Age(now)
	if x.HTTP != nil {
		x.Answer.Fields = append(x.Answer.Fields, AnswerField{Name: "Age", Value: strconv.Itoa(int(age / time.Second))},
			AnswerField{Name: "Cache-Status", Value: "fieldgate; hit"}) // RFC 9111 section 5.1, RFC 9211
	} else if x.Answer.MaxAge > 0 { // for who is not told the age
		x.Answer.MaxAge = max(x.Answer.MaxAge-age, time.Second)
	}
	if problem := x.translateAnswer(); problem != nil { // stored is what the service said
		return problem
	}
	if x.Operation.rewritesAnswers() {
		if x.Operation.policies.response != nil {
			if problem := x.transformAnswer(); problem != nil {
				return problem
			}
		}
		if problem := p.projectAnswer(x); problem != nil {
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
	key.Group, key.Rest = bytes.Clone(key.Group), bytes.Clone(key.Rest) // which the exchange writes anew
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
	x := Exchange{Operation: o, Method: fieldgate.MethodGet, Answer: answerFrom(response.Status, response.Fields, response.Body, true)}
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
	if x.HTTP == nil {
		add([]byte("accept"), []byte(x.accepted()))
	} else {
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
	switch {
	case x.cached == nil || x.cached.stale == nil:
		return dst
	case x.conditional():
		x.cached.stale = nil
		return dst
	}
	return appendValidators(dst, x.cached.stale)
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
