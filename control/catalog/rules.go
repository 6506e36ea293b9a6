package catalog

import (
	"fmt"
	"math"
	"net/textproto"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"fieldgate"
)

// Rules says what holds for calls of an operation besides payloads and credentials, a sentence each: what its contract declares beyond
// what holds anyway. Texts and lists of the contract are shortened.
func Rules(o *fieldgate.Operation) []string {
	rules := rulesOf(o, brief)
	sentences := make([]string, len(rules))
	for i := range rules {
		sentences[i] = rules[i].sentence
	}
	return sentences
}

// rule is one sentence, with the word of contracts that it explains.
type rule struct{ word, sentence string }

// extent is how much sentences show of what contracts hold.
type extent struct {
	text int // bytes of a value
	list int // entries of a list
}

var (
	brief = extent{text: 80, list: 3}
	whole = extent{text: math.MaxInt, list: math.MaxInt}
)

// rulesOf is in the order in which people read it: which calls are meant, how many, how large, how they are carried out, what is given
// back, and where they go instead.
func rulesOf(o *fieldgate.Operation, shown extent) (rules []rule) {
	add := func(word, format string, values ...any) {
		rules = append(rules, rule{word, fmt.Sprintf(format, values...)})
	}
	if o.HTTP != nil && len(o.HTTP.Conditions) > 0 {
		add("when", "Only requests with %s are meant.", shown.conditions(o.HTTP.Conditions))
	}
	for _, l := range o.Limits {
		add("rate", "%s", rateSentence(o, l))
	}
	for _, q := range o.Quotas {
		add("quota", "%s", quotaSentence(o, q))
	}
	if o.Request != nil || o.PassThrough || o.MaxBody != fieldgate.DefaultMaxBody {
		add("max-body", "A body has at most %s.", sizeText(o.MaxBody))
	}
	if o.MaxExpiry > 0 {
		add("max-expiry", "Messages expire %s after they were published, at the latest.", timeText(o.MaxExpiry))
	}
	if o.OnInvalid == fieldgate.InvalidShadow {
		add("on-invalid", "Payloads that break their schema pass, and are recorded.")
	}
	if o.Timeout > 0 {
		add("timeout", "A call takes at most %s.", timeText(o.Timeout))
	}
	if o.Idempotent && o.HTTP != nil && !idempotentMethod(o.HTTP.Method) {
		add("idempotent", "The service may get a call twice without harm.")
	}
	if o.ServiceFormat == fieldgate.FormatCBOR {
		add("service-format", "The service gets CBOR, and its answers in CBOR become JSON for callers who do not take CBOR.")
	}
	if o.ObservesService {
		add("observe-service", "While somebody hears the topic the service is observed over CoAP, once for all of them.")
	}
	if o.HTTP != nil && o.HTTP.WebSocket {
		add("websocket", "%s", webSocketSentence(o.WebSocket))
	}
	if o.Policies != nil {
		shown.policies(o, add)
	}
	return rules
}

func (e extent) policies(o *fieldgate.Operation, add func(word, format string, values ...any)) {
	p := o.Policies
	switch p.Priority {
	case fieldgate.PriorityCritical:
		add("priority", "Refused last when its service is overloaded (critical).")
	case fieldgate.PriorityBackground:
		add("priority", "Refused first when its service is overloaded (background).")
	}
	switch p.Answers {
	case fieldgate.AnswersReported:
		add("check-answers", "Answers that break the contract pass, and are recorded.")
	case fieldgate.AnswersEnforced:
		add("check-answers", "Answers that break the contract do not reach the caller.")
	}
	if p.Retry != nil {
		add("retry", "%s", retrySentence(p.Retry, o.Idempotent))
	}
	if p.Hedge > 0 {
		add("hedge", "A second try starts when no answer has begun after %s; the first answer counts.", timeText(p.Hedge))
	}
	if p.Cache != nil {
		add("cache", "%s", cacheSentence(p.Cache))
	}
	if p.CORS != nil {
		add("cors", "%s", e.corsSentence(p.CORS))
	}
	if i := p.Idempotency; i != nil {
		if i.Required {
			add("idempotency", "Needs header %s; the same key within %s gets the first answer.", headerName(i.Field), timeText(i.TTL))
		} else {
			add("idempotency", "The same %s within %s gets the first answer.", headerName(i.Field), timeText(i.TTL))
		}
	}
	if p.Request != nil {
		add("request", "Requests reach the service %s.", e.changes(p.Request))
	}
	if p.Response != nil {
		add("response", "Answers reach the caller %s.", e.changes(p.Response))
	}
	for i := range p.Privacy {
		add("privacy", "%s", e.privacySentence(&p.Privacy[i]))
	}
	if p.Redirect != nil {
		add("redirect", "Callers are redirected to %s (%d).", e.value(p.Redirect.To), p.Redirect.Status)
	}
	if m := p.Mirror; m != nil {
		add("mirror", "Copies of %s go to %s, whose answers nobody sees.", share(m.Percent, "all calls", "the calls"), m.Upstream)
	}
	for i := range p.Canaries {
		add("canary", "%s", e.canarySentence(&p.Canaries[i]))
	}
}

// idempotentMethod is by RFC 9110 section 9.2.2.
func idempotentMethod(m fieldgate.Method) bool {
	switch m {
	case fieldgate.MethodGet, fieldgate.MethodHead, fieldgate.MethodPut, fieldgate.MethodDelete, fieldgate.MethodOptions:
		return true
	}
	return false
}

func (e extent) conditions(conditions []fieldgate.Condition) string {
	parts := make([]string, len(conditions))
	for i, c := range conditions {
		if c.MediaType != "" {
			parts[i] = "media type " + e.value(c.MediaType)
		} else {
			parts[i] = "header " + headerName(c.Field) + ": " + e.value(c.Value)
		}
	}
	return enumerate(parts, "and")
}

func rateSentence(o *fieldgate.Operation, l fieldgate.Limit) string {
	text := fmt.Sprintf("At most %s %s %s", amountText(o, int64(l.Count), l.Bytes), l.EachPeriod(), countedBy(o, l.Key))
	switch {
	case l.Burst == l.Count:
	case l.Bytes:
		text += ", bursts of " + sizeText(int64(l.Burst))
	default:
		text += fmt.Sprintf(", bursts of %d", l.Burst)
	}
	return text + "."
}

func quotaSentence(o *fieldgate.Operation, q fieldgate.Quota) string {
	return fmt.Sprintf("At most %s in a calendar %s (UTC) %s.", amountText(o, q.Count, q.Bytes), q.Period, countedBy(o, q.Key))
}

// amountText is how many calls, messages or bytes a limit allows.
func amountText(o *fieldgate.Operation, count int64, bytes bool) string {
	noun := "call"
	switch {
	case bytes:
		return sizeText(count)
	case o.HTTP == nil && o.CoAP == nil && o.MQTT != nil:
		noun = "message"
	}
	if count != 1 {
		noun += "s"
	}
	return strconv.FormatInt(count, 10) + " " + noun
}

func countedBy(o *fieldgate.Operation, key fieldgate.LimitKey) string {
	switch {
	case key == fieldgate.LimitOperation:
		return "by all callers together"
	case key == fieldgate.LimitSource:
		return "by source address"
	case len(o.Access.Kinds) == 1 && !o.Access.Anonymous:
		return "by " + string(o.Access.Kinds[0])
	}
	return "by caller"
}

func webSocketSentence(m *fieldgate.WebSocketMessages) string {
	text := "An upgrade to WebSocket is passed through"
	if m == nil || m.FromClient == "" && m.FromService == "" {
		return text + "."
	}
	whose := "callers"
	if m.FromClient == "" {
		whose = "the service"
	} else if m.FromService != "" {
		whose = "both sides"
	}
	return fmt.Sprintf("%s; messages of %s are checked and have at most %s.", text, whose, sizeText(m.MaxMessage))
}

func retrySentence(r *fieldgate.Retry, idempotent bool) string {
	var causes []string
	on := func(cause fieldgate.RetryOn, text string) {
		if r.On&cause != 0 {
			causes = append(causes, text)
		}
	}
	on(fieldgate.RetryConnect, "no connection came about")
	if len(causes) > 0 {
		on(fieldgate.RetryReset, "it ended before an answer")
	} else {
		on(fieldgate.RetryReset, "the connection ended before an answer")
	}
	on(fieldgate.RetryStatus, "the answer was 502 to 504")
	on(fieldgate.RetryTimeout, "no answer came in time")
	if r.Attempts == 0 || len(causes) == 0 {
		return "Not tried again."
	}
	times := "once"
	if r.Attempts > 1 {
		times = fmt.Sprintf("up to %d times", r.Attempts)
	}
	text := "Tried again " + times + " when " + enumerate(causes, "or")
	if !idempotent && r.On != fieldgate.RetryConnect {
		text += ", but only if nothing of it was sent" // what is not idempotent may not reach the service twice
	}
	if r.PerTry > 0 {
		text += ", " + timeText(r.PerTry) + " each"
	}
	return text + "."
}

func cacheSentence(c *fieldgate.Cache) string {
	text := "Answers are kept as long as their service says"
	if c.TTL > 0 {
		text = "Answers are kept " + timeText(c.TTL) + ", unless their service says otherwise"
	}
	if c.Shared {
		text += ", one for all callers"
	} else {
		text += ", one for each caller"
	}
	if c.StaleWhileRevalidate > 0 {
		text += "; stale ones serve " + timeText(c.StaleWhileRevalidate) + " more while they are fetched anew"
	}
	return text + "."
}

func (e extent) corsSentence(c *fieldgate.CORS) string {
	text := "Pages of " + e.some(c.Origins, "and") + " may call it"
	if len(c.Origins) == 1 && c.Origins[0] == "*" {
		text = "Pages of every origin may call it"
	}
	if c.Credentials {
		text += " with cookies and authorization"
	}
	if len(c.Headers) > 0 {
		text += ", sending " + e.headers(c.Headers)
	}
	if len(c.Expose) > 0 {
		text += ", seeing " + e.headers(c.Expose)
	}
	if c.MaxAge > 0 {
		text += "; preflights count for " + timeText(c.MaxAge)
	}
	return text + "."
}

// changes is what is different of a message behind a transformation.
func (e extent) changes(t *fieldgate.Transform) string {
	var parts []string
	for _, set := range t.Set {
		parts = append(parts, headerName(set.Name)+" = "+e.value(set.Value))
	}
	if len(parts) > e.list {
		parts = append(parts[:e.list], fmt.Sprintf("%d more fields", len(parts)-e.list))
	}
	if t.Body != "" {
		parts = append(parts, "content = "+e.value(t.Body))
	}
	text := ""
	if len(parts) > 0 {
		text = "with " + enumerate(parts, "and")
	}
	if len(t.Remove) > 0 {
		text = strings.TrimPrefix(text+", without "+e.headers(t.Remove), ", ")
	}
	return text
}

func (e extent) canarySentence(c *fieldgate.Canary) string {
	var conditions []string
	if c.Field != "" {
		conditions = append(conditions, "with header "+headerName(c.Field)+": "+e.value(c.Value))
	}
	if len(c.Models) > 0 {
		conditions = append(conditions, "of model "+e.some(c.Models, "or"))
	}
	if len(c.Firmware) > 0 {
		conditions = append(conditions, "with firmware "+e.some(c.Firmware, "or"))
	}
	who := share(c.Percent, "All callers", "the callers")
	if c.Percent == 100 && len(conditions) > 0 {
		who = "Callers"
	}
	text := strings.Join(append([]string{who}, conditions...), " ") + " go to " + c.Upstream
	if c.Percent < 100 {
		text += " (a caller always the same way)"
	}
	return text + "."
}

func (e extent) privacySentence(p *fieldgate.Projection) string {
	who := "Receivers"
	switch {
	case p.For != nil:
		who = upperFirst(e.receivers(p.For))
		if p.Except != nil {
			who += ", but not " + e.receivers(p.Except) + ","
		}
	case p.Except != nil:
		who = "All but " + e.receivers(p.Except)
	}
	var parts []string
	if len(p.Remove) > 0 {
		parts = append(parts, "without "+e.some(p.Remove, "and"))
	}
	if len(p.Mask) > 0 {
		parts = append(parts, "with "+e.some(p.Mask, "and")+" masked")
	}
	if len(p.Coarsen) > 0 {
		steps := make([]string, len(p.Coarsen))
		for i, c := range p.Coarsen {
			step := c.Step
			if c.Every > 0 {
				step = timeText(c.Every)
			}
			steps[i] = c.Member + " in steps of " + step
		}
		parts = append(parts, "with "+e.some(steps, "and"))
	}
	return who + " get messages and answers " + enumerate(parts, "and") + "."
}

// receivers is whom a policy of privacy names.
func (e extent) receivers(r *fieldgate.Receivers) string {
	who := "callers"
	if len(r.Kinds) > 0 {
		kinds := make([]string, len(r.Kinds))
		for i, kind := range r.Kinds {
			kinds[i] = map[fieldgate.PrincipalKind]string{fieldgate.PrincipalDevice: "devices", fieldgate.PrincipalApp: "apps", fieldgate.PrincipalAnonymous: "anonymous callers"}[kind]
		}
		who = enumerate(kinds, "and")
	}
	var conditions []string
	if len(r.Apps) > 0 {
		who, conditions = "apps", append(conditions, "called "+e.some(r.Apps, "or"))
	}
	if len(r.Scopes) > 0 {
		conditions = append(conditions, "with scope "+e.some(r.Scopes, "and"))
	}
	if len(r.Models) > 0 {
		conditions = append(conditions, "of model "+e.some(r.Models, "or"))
	}
	if len(r.Firmware) > 0 {
		conditions = append(conditions, "with firmware "+e.some(r.Firmware, "or"))
	}
	return strings.Join(append([]string{who}, conditions...), " ")
}

func upperFirst(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// share is "5 % of the calls", or all.
func share(percent float64, all, some string) string {
	if percent == 100 {
		return all
	}
	return strconv.FormatFloat(percent, 'f', -1, 64) + " % of " + some
}

func headerName(lower string) string { return textproto.CanonicalMIMEHeaderKey(lower) }

func (e extent) headers(lower []string) string {
	names := make([]string, len(lower))
	for i := range lower {
		names[i] = headerName(lower[i])
	}
	return e.some(names, "and")
}

// some are the first of a list.
func (e extent) some(list []string, conjunction string) string {
	parts := make([]string, 0, min(len(list), e.list)+1)
	for _, text := range list {
		if len(parts) == e.list {
			parts = append(parts, fmt.Sprintf("%d more", len(list)-e.list))
			break
		}
		parts = append(parts, e.value(text))
	}
	return enumerate(parts, conjunction)
}

// value is a text of the contract on one line.
func (e extent) value(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= e.text {
		return text
	}
	end := e.text
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// enumerate is "a", "a and b", "a, b and c".
func enumerate(parts []string, conjunction string) string {
	last := len(parts) - 1
	if last < 1 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:last], ", ") + " " + conjunction + " " + parts[last]
}

// timeText is a time in the largest unit that has no fraction.
func timeText(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		least  int64 // of this unit
		name   string
	}{{24 * time.Hour, 2, "days"}, {time.Hour, 1, "h"}, {time.Minute, 1, "min"}, {time.Second, 1, "s"}, {time.Millisecond, 1, "ms"}} {
		if n := int64(d / unit.length); d%unit.length == 0 && n >= unit.least {
			return fmt.Sprintf("%d %s", n, unit.name)
		}
	}
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', -1, 64) + " ms"
}

// sizeText is a number of bytes in the largest unit that has no fraction.
func sizeText(n int64) string {
	switch {
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	case n == 1:
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}
