package contract

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"fieldgate"
)

// The words of x-fieldgate, where each may stand. docs/contracts.md explains them all; a test holds that.

// inheritedWords may stand on the document, on a path or channel, and on an operation; the innermost one counts.
func inheritedWords(more fields) *shape {
	members := fields{
		"upstream":      text,
		"access":        atMost(maxInherited, list(word("device", "app", "anonymous"))),
		"scopes":        atMost(maxInherited, list(text)),
		"policies":      atMost(maxInherited, list(policyWords)),
		"on-invalid":    word("reject", "shadow"),
		"priority":      word("critical", "normal", "background"),
		"check-answers": word("off", "report", "enforce"),
		"when":          whenWords,
	}
	for name, member := range more {
		members[name] = member
	}
	return closed(members)
}

var (
	pathWords = inheritedWords(nil)

	operationWords = inheritedWords(fields{
		"idempotent": boolean,
		"websocket":  webSocketWords,
	})

	rootWords = inheritedWords(fields{
		"api":       text,
		"host":      text,
		"upstreams": mapOf(closed(fields{"ref!": text})),
		"principal": closed(fields{
			"from": list(word("token", "mtls.cn", "mqtt.clientId", "mqtt.username", "coap.pskIdentity")),
			"as":   text,
		}),
		"lifecycle": closed(fields{
			"state":              word("active", "deprecated", "retired"),
			"deprecated":         text,
			"sunset":             text,
			"successor":          text,
			"replaces":           text,
			"sunset-of-replaced": text,
		}),
		"capture": word("never"),
		"compat": closed(fields{
			"window":            text,
			"block-if-affected": integer,
			"group-by":          list(word("model", "firmware")),
		}),
	})

	bindWord = word("principal")

	httpBindingWords = closed(fields{"path": text, "method": text})
	coapBindingWords = closed(fields{
		"path":           text,
		"method":         text,
		"type":           word("CON", "NON"),
		"content-format": integer,
		"observe":        boolean,
	})
	mqttBindingWords = closed(fields{
		"topic!": text,
		"action": word("publish", "subscribe"),
		"qos":    integer,
		"retain": boolean,
	})

	openAPIBindingWords  = closed(fields{"coap": coapBindingWords, "mqtt": mqttBindingWords})
	asyncAPIBindingWords = closed(fields{"http": httpBindingWords, "coap": coapBindingWords})
)

// readRoot reads what x-fieldgate says about the whole contract.
func (c *compiler) readRoot(words, info *node) {
	k := c.contract
	k.Title, k.Version = info.get("title").string(), info.get("version").string()
	k.API = slug(k.Title)
	if name := words.get("api"); name != nil {
		k.API = name.string()
		if k.API != slug(k.API) {
			c.fail(name, fmt.Sprintf("write %q", slug(k.API)), "the name of an API is made of lower-case letters, digits and single dashes")
		}
	}
	if k.API == "" || len(k.API) > fieldgate.MaxIdentifierBytes {
		c.fail(info.get("title"), "name the API with x-fieldgate.api", "the title gives no name of 1 to %d characters for the API", fieldgate.MaxIdentifierBytes)
	}
	if !fieldgate.ValidIdentifier(k.Version) {
		c.fail(info.get("version"), "write it like 1.4.0", "the version must be 1 to %d letters, digits and . _ - :", fieldgate.MaxIdentifierBytes)
	}
	c.readUpstreams(words.get("upstreams"))
	c.readHost(words.get("host"))
	c.readLifecycle(words.get("lifecycle"))
	k.NoCapture = words.get("capture").string() == "never"
	if compat := words.get("compat"); compat != nil {
		c.duration(compat.get("window"), time.Hour, 365*24*time.Hour)
		if n, given := compat.get("block-if-affected").integer(); given && n < 1 {
			c.fail(compat.get("block-if-affected"), "write 1 or more", "block-if-affected counts devices")
		}
	}
	c.principal = words.find("principal", "as")
}

// slug is the title in lower case with everything but letters and digits turned into single dashes.
func slug(title string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.TrimSuffix(b.String(), "-")
}

func (c *compiler) readUpstreams(upstreams *node) {
	c.upstreams = make(map[string]string)
	for _, upstream := range upstreams.all() {
		name, ok := strings.CutPrefix(upstream.get("ref").string(), "env/")
		if !ok || !fieldgate.ValidIdentifier(name) {
			c.fail(upstream.get("ref"), "write env/NAME; the node's environment file gives NAME its addresses", "an upstream refers to the environment, which knows its addresses")
		}
		c.upstreams[upstream.name] = name
	}
}

func (c *compiler) readHost(host *node) {
	if host == nil {
		return
	}
	c.host = host.string()
	if !validHost(c.host) {
		c.fail(host, "write a name such as devices.example.com", "%q is not a lower-case host name without port", excerpt(c.host))
	}
}

// validHost says whether host is a lower-case DNS name (RFC 1123 section 2.1).
func validHost(host string) bool {
	if len(host) > 253 {
		return false
	}
	for _, label := range strings.Split(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') }) {
			return false
		}
	}
	return true
}

func (c *compiler) readLifecycle(lifecycle *node) {
	c.contract.State = fieldgate.LifecycleActive
	if state := lifecycle.get("state"); state != nil {
		c.contract.State = fieldgate.Lifecycle(state.string())
	}
	c.contract.Deprecated = c.date(lifecycle.get("deprecated"))
	c.contract.Sunset = c.date(lifecycle.get("sunset"))
	c.contract.Successor = lifecycle.get("successor").string()
	c.date(lifecycle.get("sunset-of-replaced"))
	if lifecycle.get("sunset-of-replaced") != nil && lifecycle.get("replaces") == nil {
		c.fail(lifecycle.get("sunset-of-replaced"), "add replaces: VERSION", "sunset-of-replaced says when the replaced version ends, but replaces does not say which")
	}
	for _, name := range []string{"replaces", "successor"} {
		other := lifecycle.get(name)
		switch {
		case other == nil:
		case !fieldgate.ValidIdentifier(other.string()):
			c.fail(other, "write it like 1.4.0", "%s must be a version: 1 to %d letters, digits and . _ - :", name, fieldgate.MaxIdentifierBytes)
		case other.string() == c.contract.Version:
			c.fail(other, "name another version", "version %s cannot be its own %s", c.contract.Version, strings.TrimSuffix(name, "s"))
		}
	}
}

func (c *compiler) date(n *node) string {
	if n == nil {
		return ""
	}
	if _, err := time.Parse(time.DateOnly, n.string()); err != nil {
		c.fail(n, "write it like 2027-06-30", "%s must be a date (RFC 3339 full-date)", n.name)
	}
	return n.string()
}

// inherited is the member of that name of the innermost of the objects that has it.
func inherited(name string, innermostFirst ...*node) *node {
	for _, words := range innermostFirst {
		if n := words.get(name); n != nil {
			return n
		}
	}
	return nil
}

// readOperationWords fills what x-fieldgate says about an operation. levels are the objects in force, innermost first.
func (c *compiler) readOperationWords(op *fieldgate.Operation, levels ...*node) {
	op.OnInvalid = fieldgate.InvalidReject
	if n := inherited("on-invalid", levels...); n != nil {
		op.OnInvalid = fieldgate.OnInvalid(n.string())
	}
	if n := inherited("upstream", levels...); n != nil {
		op.Upstream = c.upstreamNamed(n)
	}
	if n := levels[0].get("idempotent"); n != nil {
		op.Idempotent = n.isTrue()
	}
	c.readConditions(op, levels)
	c.readPolicies(op, levels)
	if n := inherited("priority", levels...); n != nil && n.string() != "normal" {
		c.policies(op).Priority = fieldgate.PriorityCritical
		if n.string() == "background" {
			c.policies(op).Priority = fieldgate.PriorityBackground
		}
	}
	c.readAnswerCheck(op, levels)
}

// policies are those of the operation, which has some from now on.
func (c *compiler) policies(op *fieldgate.Operation) *fieldgate.Policies {
	if op.Policies == nil {
		op.Policies = &fieldgate.Policies{}
	}
	return op.Policies
}

// upstreamNamed is the environment's name of an upstream that the document declares.
func (c *compiler) upstreamNamed(n *node) string {
	name, declared := c.upstreams[n.string()]
	if !declared {
		known := make([]string, 0, len(c.upstreams))
		for upstream := range c.upstreams {
			known = append(known, upstream)
		}
		remedy := "declare it: x-fieldgate.upstreams." + excerpt(n.string()) + ": {ref: env/NAME}"
		if len(known) > 0 {
			remedy = c.didYouMean(n.string(), known)
		}
		c.fail(n, remedy, "x-fieldgate.upstreams has no %q", excerpt(n.string()))
	}
	return name
}

// Bounds of a rate.
const maxRate = 1_000_000

var rateUnits = map[string]time.Duration{
	"s": time.Second, "sec": time.Second, "second": time.Second,
	"min": time.Minute, "minute": time.Minute,
	"h": time.Hour, "hour": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour,
}

func (c *compiler) limit(op *fieldgate.Operation, policy *node) fieldgate.Limit {
	rate := policy.get("rate")
	digits, unit, _ := strings.Cut(rate.string(), "/")
	count, err := strconv.Atoi(digits)
	period, known := rateUnits[unit]
	if err != nil || !known || count < 1 || count > maxRate {
		c.fail(rate, "write it like 6/min, with s, min, h or day", "%q is not a rate of 1 to %d in a period", excerpt(rate.string()), maxRate)
	}
	l := fieldgate.Limit{Count: count, Period: period, Burst: count, Key: fieldgate.LimitPrincipal}
	if burst := policy.get("burst"); burst != nil {
		l.Burst, _ = burst.integer()
		if l.Burst < 1 || l.Burst > maxRate {
			c.fail(burst, "write a number from 1 on", "burst must be 1 to %d", maxRate)
		}
	}
	if key := policy.get("key"); key != nil {
		l.Key = c.limitKey(op, key)
	}
	return l
}

// limitKey reads what a rate counts by. The name of the parameter that is bound to the caller means the caller.
func (c *compiler) limitKey(op *fieldgate.Operation, key *node) fieldgate.LimitKey {
	known := []string{string(fieldgate.LimitPrincipal), string(fieldgate.LimitOperation), string(fieldgate.LimitSource)}
	for _, name := range known {
		if key.string() == name {
			return fieldgate.LimitKey(name)
		}
	}
	for _, p := range op.Parameters {
		if p.Bound {
			if p.Name == key.string() {
				return fieldgate.LimitPrincipal
			}
			known = append(known, p.Name)
		}
	}
	c.fail(key, c.didYouMean(key.string(), known), "a rate cannot count by %q; %s has no parameter of that name that is bound to the caller", excerpt(key.string()), op.ID)
	return fieldgate.LimitPrincipal
}

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"KB", 1000}, {"MB", 1000 * 1000}, {"kB", 1000}, {"B", 1}, {"", 1}}

// size reads a number of bytes such as 1KiB.
func (c *compiler) size(n *node) int64 {
	for _, unit := range sizeUnits {
		digits, found := strings.CutSuffix(n.string(), unit.suffix)
		if !found {
			continue
		}
		count, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 32)
		if err == nil && count >= 1 && count*unit.bytes <= fieldgate.MaxBody {
			return count * unit.bytes
		}
		break
	}
	c.fail(n, "write it like 1KiB, with B, KB, KiB, MB or MiB", "%q is not a size of 1 B to %d MiB", excerpt(n.string()), fieldgate.MaxBody>>20)
	return fieldgate.DefaultMaxBody
}

// duration reads a time such as 5s or 30d.
func (c *compiler) duration(n *node, least, most time.Duration) time.Duration {
	if n == nil {
		return least
	}
	d, err := time.ParseDuration(n.string())
	if days, isDays := strings.CutSuffix(n.string(), "d"); isDays {
		var count int
		count, err = strconv.Atoi(days)
		d = time.Duration(min(max(count, 0), 10_000)) * 24 * time.Hour
	}
	if err != nil || d < least || d > most {
		c.fail(n, "write it like 500ms, 5s, 2m, 1h or 30d", "%s must be a time from %v to %v", n.name, least, most)
		return least
	}
	return d
}
