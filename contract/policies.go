package contract

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"fieldgate"
)

// policyWords are the items of policies; each is one of the sorts below.
var policyWords = closed(fields{
	"rate":       text,
	"quota":      text,
	"key":        text,
	"burst":      anything,
	"max-body":   text,
	"max-expiry": text,
	"timeout":    text,
	"retry": closed(fields{
		"attempts!": integer, "per-try-timeout": text, "on": atMost(4, list(word("connect", "reset", "5xx", "timeout"))),
	}),
	"hedge": text,
	"cache": closed(fields{"ttl": text, "stale-while-revalidate": text, "for": word("caller", "everyone")}),
	"cors": closed(fields{
		"origins!": entries(text), "headers": entries(text), "expose": entries(text), "credentials": boolean, "max-age": text,
	}),
	"idempotency": closed(fields{"field": text, "ttl": text, "required": boolean}),
	"request":     transformWords,
	"response":    transformWords,
	"privacy": closed(fields{
		"for": receiverWords, "except": receiverWords,
		"remove": entries(text), "mask": entries(text), "coarsen": atMost(fieldgate.MaxPolicyEntries, mapOf(text)),
	}),
	"redirect": closed(fields{"to!": text, "status": integer}),
	"mirror":   closed(fields{"upstream!": text, "percent": anything}),
	"canary": closed(fields{
		"upstream!": text, "percent": anything, "header": atMost(1, mapOf(text)), "models": entries(text), "firmware": entries(text),
	}),
})

var transformWords = closed(fields{
	"set": atMost(fieldgate.MaxPolicyEntries, mapOf(text)), "remove": entries(text), "body": text,
})

var receiverWords = closed(fields{
	"access": atMost(maxInherited, list(word("device", "app", "anonymous"))), "apps": entries(text), "scopes": entries(text),
	"models": entries(text), "firmware": entries(text),
})

func entries(each *shape) *shape { return atMost(fieldgate.MaxPolicyEntries, list(each)) }

// policySorts are the policies in the order in which messages name them. Those that repeat may stand more than once at one place.
var policySorts = []struct {
	name    string
	repeats bool
}{
	{"rate", true}, {"quota", true}, {"max-body", false}, {"max-expiry", false}, {"timeout", false}, {"retry", false}, {"hedge", false}, {"cache", false}, {"cors", false},
	{"idempotency", false}, {"request", false}, {"response", false}, {"privacy", true}, {"redirect", false}, {"mirror", false}, {"canary", true},
}

// readPolicies takes each sort of policy from the innermost level that names it.
func (c *compiler) readPolicies(op *fieldgate.Operation, levels []*node) {
	op.MaxBody = fieldgate.DefaultMaxBody
	decided := make(map[string]bool)
	for _, level := range levels {
		here := make(map[string]bool)
		for _, policy := range level.get("policies").all() {
			sort, repeats := c.policySort(policy)
			if sort == "" || decided[sort] || op.Device != nil && !c.suitsDevice(op, sort, policy, level == levels[0]) {
				continue
			}
			if here[sort] && !repeats {
				c.fail(policy, "keep one", "%s is given twice", sort)
			}
			here[sort] = true
			c.readPolicy(op, sort, policy)
		}
		for sort := range here {
			decided[sort] = true
		}
	}
}

// policySort says which policy an item of policies is; each item is one.
func (c *compiler) policySort(policy *node) (sort string, repeats bool) {
	found := 0
	for _, known := range policySorts {
		if policy.get(known.name) != nil {
			sort, repeats = known.name, known.repeats
			found++
		}
	}
	if found != 1 {
		names := make([]string, len(policySorts))
		for i, known := range policySorts {
			names[i] = known.name
		}
		last := len(names) - 1
		c.fail(policy, "write one item for each policy", "a policy is one of %s and %s", strings.Join(names[:last], ", "), names[last])
		return "", false
	}
	if n := policy.get("key"); n != nil && sort != "rate" && sort != "quota" {
		c.fail(n, "move it to a rate or quota", "key belongs to a rate or quota")
	}
	if n := policy.get("burst"); n != nil && sort != "rate" {
		c.fail(n, "move it to a rate", "burst belongs to a rate")
	}
	return sort, repeats
}

func (c *compiler) readPolicy(op *fieldgate.Operation, sort string, policy *node) {
	n := policy.get(sort)
	switch sort {
	case "rate":
		op.Limits = append(op.Limits, c.limit(op, policy))
		if len(op.Limits) == fieldgate.MaxLimitsOfOperation+1 {
			c.fail(policy, "remove one", "an operation has at most %d rates", fieldgate.MaxLimitsOfOperation)
		}
		return
	case "quota":
		op.Quotas = append(op.Quotas, c.quota(op, policy))
		if len(op.Quotas) == fieldgate.MaxLimitsOfOperation+1 {
			c.fail(policy, "remove one", "an operation has at most %d quotas", fieldgate.MaxLimitsOfOperation)
		}
		return
	case "max-body":
		op.MaxBody = c.size(n)
		return
	case "max-expiry":
		op.MaxExpiry = c.duration(n, time.Second, 365*24*time.Hour)
		return
	case "timeout":
		op.Timeout = c.duration(n, time.Millisecond, 10*time.Minute)
		return
	}
	p := c.policies(op)
	switch sort {
	case "retry":
		p.Retry = c.retry(n)
	case "hedge":
		p.Hedge = c.duration(n, time.Millisecond, time.Minute)
	case "cache":
		p.Cache = c.cache(n)
	case "cors":
		p.CORS = c.cors(n)
	case "idempotency":
		p.Idempotency = c.idempotency(n)
	case "request":
		p.Request = c.transform(n)
	case "response":
		p.Response = c.transform(n)
	case "privacy":
		p.Privacy = append(p.Privacy, c.projection(n))
		if len(p.Privacy) == fieldgate.MaxProjections+1 {
			c.fail(policy, "remove one", "an operation has at most %d of privacy", fieldgate.MaxProjections)
		}
	case "redirect":
		p.Redirect = c.redirect(op, n)
	case "mirror":
		p.Mirror = &fieldgate.Mirror{Upstream: c.upstreamNamed(n.get("upstream")), Percent: c.percent(n.get("percent"))}
	case "canary":
		p.Canaries = append(p.Canaries, c.canary(n))
		if len(p.Canaries) == fieldgate.MaxCanaries+1 {
			c.fail(policy, "remove one", "an operation has at most %d canaries", fieldgate.MaxCanaries)
		}
	}
}

// checkPolicies holds once all words and bindings of the operation are read.
func (c *compiler) checkPolicies(op *fieldgate.Operation, at *node) {
	for i, q := range op.Quotas {
		if q.Key == fieldgate.LimitPrincipal && op.Access.Anonymous {
			c.fail(at, "write key: operation, or demand a credential", "a quota of %s counts by caller, but callers without a credential cannot be told apart", op.ID)
		}
		if slices.ContainsFunc(op.Quotas[:i], func(o fieldgate.Quota) bool { return o.Bytes == q.Bytes && o.Period == q.Period && o.Key == q.Key }) {
			c.fail(at, "keep one", "%s has two quotas that count the same: %s", op.ID, q)
		}
	}
	own := slices.ContainsFunc(at.get("policies").all(), func(n *node) bool { return n.get("max-expiry") != nil })
	if own && (op.MQTT == nil || op.MQTT.Action != fieldgate.ActionPublish) {
		c.warn(at, "leave the policy out", "%s is published on no topic, so nothing of it expires", op.ID)
	}
	c.checkPrivacy(op, at)
	p := op.Policies
	if p == nil {
		return
	}
	if (p.Hedge > 0 || p.Retry != nil && p.Retry.On&^fieldgate.RetryConnect != 0) && !op.Idempotent && op.Upstream != "" {
		c.warn(at, "say idempotent: true if the service may get a request twice, or leave the policy out", "%s is not idempotent: it is never hedged, and tried again only when nothing of it was sent", op.ID)
	}
	if p.Cache != nil && (op.HTTP == nil || op.HTTP.Method != fieldgate.MethodGet) {
		c.warn(at, "leave the policy out", "%s is no GET, so nothing of it is cached", op.ID)
	}
	if p.Cache != nil && op.MQTT != nil {
		c.warn(at, "leave out one of the two", "%s is heard on a topic, so nothing of it is cached", op.ID)
	}
	if p.Cache != nil && !p.Cache.Shared && op.Access.Anonymous {
		c.warn(at, "write for: everyone, if answers are the same for all", "nothing is kept for callers of %s without a credential, who cannot be told from each other", op.ID)
	}
	if p.Cache != nil && p.Cache.Shared && p.Request != nil && namesPrincipal(p.Request) {
		c.warn(at, "write for: caller, or leave principal out", "%s tells its service who calls, and gives the answer to everyone", op.ID)
	}
	if p.Idempotency != nil && op.HTTP != nil && op.HTTP.Method == fieldgate.MethodGet {
		c.warn(at, "leave the policy out", "%s is a GET, which needs no idempotency key", op.ID)
	}
	c.write(at, p.Size())
}

func namesPrincipal(t *fieldgate.Transform) bool {
	return strings.Contains(t.Body, "principal") || slices.ContainsFunc(t.Set, func(f fieldgate.TransformField) bool { return strings.Contains(f.Value, "principal") })
}

func (c *compiler) retry(n *node) *fieldgate.Retry {
	r := &fieldgate.Retry{On: fieldgate.RetryConnect | fieldgate.RetryReset}
	r.Attempts, _ = n.get("attempts").integer()
	if r.Attempts < 0 || r.Attempts > fieldgate.MaxRetries {
		c.fail(n.get("attempts"), "write 1 or 2", "attempts counts the tries after the first and must be 0 to %d", fieldgate.MaxRetries)
	}
	if n.get("per-try-timeout") != nil {
		r.PerTry = c.duration(n.get("per-try-timeout"), time.Millisecond, 10*time.Minute)
	}
	if on := n.get("on"); on != nil {
		r.On = 0
		for _, name := range on.strings() {
			r.On |= map[string]fieldgate.RetryOn{"connect": fieldgate.RetryConnect, "reset": fieldgate.RetryReset,
				"5xx": fieldgate.RetryStatus, "timeout": fieldgate.RetryTimeout}[name]
		}
	}
	if r.On&fieldgate.RetryTimeout != 0 && r.PerTry == 0 {
		c.fail(n.get("on"), "add per-try-timeout: 1s", "after a timeout there is time left for another try only with a per-try-timeout")
	}
	return r
}

func (c *compiler) cache(n *node) *fieldgate.Cache {
	cache := &fieldgate.Cache{Shared: n.get("for").string() == "everyone"}
	if n.get("ttl") != nil {
		cache.TTL = c.duration(n.get("ttl"), time.Second, 24*time.Hour)
	}
	if n.get("stale-while-revalidate") != nil {
		cache.StaleWhileRevalidate = c.duration(n.get("stale-while-revalidate"), time.Second, 24*time.Hour)
	}
	return cache
}

func (c *compiler) cors(n *node) *fieldgate.CORS {
	cors := &fieldgate.CORS{Origins: n.get("origins").strings(), Headers: n.get("headers").strings(), Expose: n.get("expose").strings(),
		Credentials: n.get("credentials").isTrue()}
	if n.get("max-age") != nil {
		cors.MaxAge = c.duration(n.get("max-age"), time.Second, 24*time.Hour)
	}
	for i, origin := range cors.Origins {
		at := n.get("origins").children[i]
		if origin == "*" {
			if cors.Credentials {
				c.fail(at, "name the origins", "with credentials, pages of every origin could act for the user") // WHATWG Fetch section 3.2.5
			}
			continue
		}
		if u, err := url.Parse(origin); err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin || strings.ToLower(origin) != origin {
			c.fail(at, "write it like https://app.example.com, without a path", "%q is not an origin", excerpt(origin))
		}
	}
	if len(cors.Origins) == 0 {
		c.fail(n, "name one, or \"*\"", "origins is empty")
	}
	c.fieldNames(n.get("headers"))
	c.fieldNames(n.get("expose"))
	return cors
}

func (c *compiler) idempotency(n *node) *fieldgate.Idempotency {
	i := &fieldgate.Idempotency{Field: "idempotency-key", TTL: 24 * time.Hour, Required: n.get("required").isTrue()}
	if n.get("field") != nil {
		i.Field = c.fieldName(n.get("field"), n.get("field").string())
	}
	if n.get("ttl") != nil {
		i.TTL = c.duration(n.get("ttl"), time.Second, 7*24*time.Hour)
	}
	return i
}

func (c *compiler) transform(n *node) *fieldgate.Transform {
	t := &fieldgate.Transform{Body: n.get("body").string(), Remove: c.fieldNames(n.get("remove"))}
	for _, set := range n.get("set").all() {
		t.Set = append(t.Set, fieldgate.TransformField{Name: c.fieldName(set, set.name), Value: set.string()})
	}
	for _, expression := range append(n.get("set").all(), n.get("body")) {
		if expression == nil {
			continue
		}
		if len(expression.string()) > fieldgate.MaxExpression {
			c.fail(expression, "shorten it", "an expression has at most %d bytes", fieldgate.MaxExpression)
		} else if err := CheckExpression(expression.string()); err != nil {
			c.fail(expression, "correct the CEL expression", "%v", err)
		}
	}
	if len(t.Set) == 0 && len(t.Remove) == 0 && t.Body == "" {
		c.fail(n, "add set, remove or body", "the transformation changes nothing")
	}
	return t
}

func (c *compiler) redirect(op *fieldgate.Operation, n *node) *fieldgate.Redirect {
	r := &fieldgate.Redirect{To: n.get("to").string(), Status: 308}
	if status := n.get("status"); status != nil {
		r.Status, _ = status.integer()
		if !slices.Contains([]int{301, 302, 303, 307, 308}, r.Status) {
			c.fail(status, "write 308, which keeps method and body", "a redirection has status 301, 302, 303, 307 or 308")
		}
	}
	at := n.get("to")
	if strings.ContainsFunc(r.To, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`"\<>^#`+"`", c) }) {
		c.fail(at, "percent-encode it", "%q has characters that an address cannot have", excerpt(r.To)) // RFC 3986 section 2
		return r
	}
	if authority, isURI := strings.CutPrefix(r.To[strings.Index(r.To, ":")+1:], "//"); isURI && strings.Contains(strings.SplitN(authority, "/", 2)[0], "{") {
		c.fail(at, "write out the host", "whoever calls would say to which host %q leads", excerpt(r.To))
		return r
	}
	u, err := url.Parse(strings.NewReplacer("{", "", "}", "").Replace(r.To))
	if err != nil || u.Scheme != "" && u.Scheme != "https" && u.Scheme != "http" || u.Scheme == "" && u.Host != "" || !strings.HasPrefix(u.Path, "/") || u.User != nil {
		c.fail(at, "write a path such as /v2/devices/{deviceId}, or an https address with one", "%q is not where a redirection can lead", excerpt(r.To))
		return r
	}
	for rest := r.To; ; {
		_, after, found := strings.Cut(rest, "{")
		if !found {
			break
		}
		name, tail, _ := strings.Cut(after, "}")
		if !slices.ContainsFunc(op.Parameters, func(p fieldgate.Parameter) bool { return p.Name == name && p.In == fieldgate.InPath }) {
			c.fail(at, "name a path parameter of the operation", "%q is no path parameter of %s", excerpt(name), op.ID)
		}
		rest = tail
	}
	return r
}

func (c *compiler) canary(n *node) fieldgate.Canary {
	canary := fieldgate.Canary{Upstream: c.upstreamNamed(n.get("upstream")), Percent: c.percent(n.get("percent")),
		Models: n.get("models").strings(), Firmware: n.get("firmware").strings()}
	for _, header := range n.get("header").all() {
		canary.Field, canary.Value = c.fieldName(header, header.name), header.string()
	}
	return canary
}

// percent reads a share; without one it is all.
func (c *compiler) percent(n *node) float64 {
	if n == nil {
		return 100
	}
	value, ok := n.number()
	if !ok || value < 0 || value > 100 {
		c.fail(n, "write a number such as 5 or 0.1", "percent must be 0 to 100")
	}
	return value
}

// fieldNames reads names of header fields, in lower case.
func (c *compiler) fieldNames(n *node) []string {
	var names []string
	for _, name := range n.all() {
		names = append(names, c.fieldName(name, name.string()))
	}
	return names
}

// ownFields are those that frame messages or that only the gateway writes, so that no contract can.
var ownFields = []string{"connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "host", "expect",
	"forwarded", "via", "date"}

func (c *compiler) fieldName(at *node, name string) string {
	lower := strings.ToLower(name)
	switch {
	case !isToken(name):
		c.fail(at, "write it like X-Tenant", "%q is not the name of a header field", excerpt(name))
	case slices.Contains(ownFields, lower), strings.HasPrefix(lower, "x-forwarded-"), strings.HasPrefix(lower, "fieldgate-"):
		c.fail(at, "leave it out", "the field %s is written by Fieldgate alone", excerpt(name))
	}
	return lower
}

// webSocketWords are true, or the schemas of the messages.
var webSocketWords = booleanOr(closed(fields{"from-client": schemaShape, "from-service": schemaShape, "max-message": text}))

// readWebSocket reads x-fieldgate.websocket of an OpenAPI operation.
func (c *compiler) readWebSocket(op *fieldgate.Operation, n *node, d dialect) {
	op.HTTP.WebSocket = n.isTrue() || n != nil && n.kind == mapping
	if !op.HTTP.WebSocket || n.kind != mapping {
		return
	}
	op.WebSocket = &fieldgate.WebSocketMessages{MaxMessage: fieldgate.DefaultWebSocket}
	op.WebSocket.FromClient = c.messageSchema(op, n.get("from-client"), d)
	op.WebSocket.FromService = c.messageSchema(op, n.get("from-service"), d)
	if most := n.get("max-message"); most != nil {
		if op.WebSocket.MaxMessage = c.size(most); op.WebSocket.MaxMessage > fieldgate.MaxWebSocketMessage {
			c.fail(most, "write 4MiB or less", "a checked message has at most %d MiB", fieldgate.MaxWebSocketMessage>>20)
		}
	}
}

func (c *compiler) messageSchema(op *fieldgate.Operation, n *node, d dialect) fieldgate.SchemaRef {
	if n == nil || n.kind != mapping && n.tag != "!!bool" {
		return "" // which has been said
	}
	sound := true
	if c.checkReferencesIn(n, false, &sound); !sound {
		return ""
	}
	return c.schemaRef(n, op.ID+".websocket."+n.name, d)
}
