package pipeline

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/cache"
)

// cached is what an exchange has to do with the cache.
type cached struct {
	key     []byte // nil: nothing
	group   int    // how much of key names the resource
	stale   *cache.Answer
	verdict cache.Verdict
	keep    bool          // the answer under way is gathered
	fields  []cache.Field // its head
	status  int
	body    []byte
}

// maxKept bounds the content of an answer that is gathered to be kept, in bytes.
const maxKept = 1 << 20

// maxRevalidations is how many answers are revalidated behind the callers' backs at once.
const maxRevalidations = 64

// cacheLookup is the stage that answers from the cache.
func cacheLookup(p *Pipeline, x *Exchange) *fieldgate.Problem {
	if x.Method != fieldgate.MethodGet && x.Method != fieldgate.MethodHead {
		return nil
	}
	now := time.Now()
	x.cacheKey()
	answer, verdict := p.Cache.Lookup(x.cached.key, x.cached.group, x.cacheFields(), now)
	x.cached.verdict = verdict
	switch verdict {
	case cache.Impossible: // RFC 9111 section 5.2.1.7
		x.cached.key = nil
		return fieldgate.NewProblem(fieldgate.ProblemUpstreamTimeout, "There is no stored answer, and the request demands one.")
	case cache.Stale:
		x.cached.stale = answer
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

// cacheKey names the resource, then the version of the contract, whose answers are meant, and the query.
func (x *Exchange) cacheKey() {
	o := x.Operation
	path := x.upstreamTarget()
	resource, query, _ := bytes.Cut([]byte(path), []byte{'?'})
	key := append(make([]byte, 0, 64+len(path)), o.Upstream...)
	key = append(append(key, 0), resource...)
	x.cached.group = len(key)
	key = append(append(key, 0), o.Contract.Digest...)
	key = append(append(key, 0), o.ID...)
	if !o.policies.cache.Shared {
		key = append(append(append(append(key, 0), x.Principal.Kind...), 0), x.Principal.ID...)
		if x.caller.Ref == 0 {
			key = append(key, "anonymous"...)
		}
	}
	if service := x.service(); service != o.Upstream { // a canary's answers are for its callers
		key = append(append(key, 0), service...)
	}
	x.cached.key = append(append(key, 0), query...)
}

func (x *Exchange) cacheFields() cache.Fields {
	if x.HTTP == nil {
		return nil
	}
	return x.HTTP
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
	} else if x.notModified(stored) {
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
	select {
	case p.revalidations <- struct{}{}:
	default:
		answer.Release()
		return
	}
	service := p.Service(x)
	call, problem := p.newCall(x, service)
	key, group, policy, fields := x.cached.key, x.cached.group, x.Operation.policies.cache, x.copyFields()
	go func() {
		defer func() { <-p.revalidations }()
		defer answer.Release()
		if service == nil || problem != nil {
			return
		}
		call.Lines = appendValidators(call.Lines, answer)
		response, err := service.Do(context.Background(), call)
		if err != nil {
			return // the stored answer is used for as long as it may be
		}
		now := time.Now()
		if response.Status == 304 {
			p.Cache.Refresh(key, group, policy, fields, answer, response.Fields, now)
			return
		}
		p.Cache.Store(key, group, policy, fields, response.Status, response.Fields, response.Body, now)
	}()
}

// copiedFields are fields of a request that outlive it: those that decide about stored answers.
type copiedFields map[string][]byte

// Field implements cache.Fields.
func (f copiedFields) Field(name string) (value []byte, found bool) {
	value, found = f[name]
	return value, found
}

func (x *Exchange) copyFields() cache.Fields {
	if x.HTTP == nil {
		return nil
	}
	copied := make(copiedFields)
	x.HTTP.Each(func(name, value []byte) {
		key := string(bytes.ToLower(name))
		if before, found := copied[key]; found {
			copied[key] = append(append(before, ", "...), value...)
		} else {
			copied[key] = bytes.Clone(value)
		}
	})
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

func (x *Exchange) conditional() bool {
	if x.HTTP == nil {
		return false
	}
	for _, name := range [...]string{"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"} {
		if _, found := x.HTTP.Field(name); found {
			return true
		}
	}
	return false
}

// Caches says whether the front has to hand the answer of the upstream to KeepHead, and its content to KeepContent.
func (x *Exchange) Caches() bool { return x.cached.key != nil }

// KeepHead begins to keep an answer, if it may be kept. It says whether the exchange is answered instead: the service has found
// the stored answer to hold.
func (p *Pipeline) KeepHead(x *Exchange, status int, fields []cache.Field) (answered bool, problem *fieldgate.Problem) {
	c, now := &x.cached, time.Now()
	if status == 304 && c.stale != nil {
		return true, x.answerCached(p.Cache.Refresh(c.key, c.group, x.Operation.policies.cache, x.cacheFields(), c.stale, fields, now), now)
	}
	c.keep = x.Method == fieldgate.MethodGet && cache.Keeps(x.Operation.policies.cache, x.cacheFields(), status, fields, now)
	c.status, c.fields, c.body = status, fields, nil
	return false, nil
}

// Keeping says whether content of the answer is wanted.
func (x *Exchange) Keeping() bool { return x.cached.keep }

// KeepContent takes a piece of the answer's content.
func (x *Exchange) KeepContent(piece []byte) {
	c := &x.cached
	if !c.keep {
		return
	}
	if len(c.body)+len(piece) > maxKept {
		c.keep, c.body = false, nil
		return
	}
	c.body = append(c.body, piece...)
}

// KeepEnd stores the answer, of which all has come.
func (p *Pipeline) KeepEnd(x *Exchange) {
	c := &x.cached
	if c.keep {
		p.Cache.Store(c.key, c.group, x.Operation.policies.cache, x.cacheFields(), c.status, c.fields, c.body, time.Now())
		c.keep, c.body = false, nil // which is the cache's now
	}
}

// forget drops stored answers of a resource that a caller has changed (RFC 9111 section 4.4).
func (p *Pipeline) forget(x *Exchange) {
	if x.program != nil && x.program.caches && x.Operation != nil && x.Operation.Upstream != "" && !safe(x.Method) && x.Problem == nil && x.Answer.Status < 400 {
		path, _, _ := bytes.Cut([]byte(x.upstreamTarget()), []byte{'?'})
		p.Cache.Invalidate(append(append([]byte(x.Operation.Upstream), 0), path...))
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
