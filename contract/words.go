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
		"upstream":       text,
		"access":         atMost(maxInherited, list(word("device", "app", "anonymous"))),
		"scopes":         atMost(maxInherited, list(text)),
		"policies":       atMost(maxInherited, list(policyWords)),
		"on-invalid":     word("reject", "shadow"),
		"priority":       word("critical", "normal", "background"),
		"check-answers":  word("off", "report", "enforce"),
		"service-format": word("json", "cbor"),
		"when":           whenWords,
	}
	for name, member := range more {
		members[name] = member
	}
	return closed(members)
}

var (
	pathWords = inheritedWords(nil)

	operationWords = inheritedWords(fields{
		"idempotent":      boolean,
		"websocket":       webSocketWords,
		"observe-service": boolean,
		"device":          deviceWords,
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
			"coap-option":        boolean,
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
	c.contract.DeprecationOption = lifecycle.get("coap-option").isTrue()
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
	if n := levels[0].get("device"); n != nil {
		c.readDevice(op, n, levels[0])
	}
	c.readConditions(op, levels)
	c.readPolicies(op, levels)
	c.readAnswerCheck(op, levels)
	if op.Device != nil {
		c.checkServiceWords(op, levels[0])
		return
	}
	if n := inherited("priority", levels...); n != nil && n.string() != "normal" {
		c.policies(op).Priority = fieldgate.PriorityCritical
		if n.string() == "background" {
			c.policies(op).Priority = fieldgate.PriorityBackground
		}
	}
	if n := inherited("service-format", levels...); n != nil && n.string() == "cbor" {
		op.ServiceFormat = fieldgate.FormatCBOR
	}
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

// Bounds of rates and quotas.
const (
	maxRate      = 1_000_000
	maxByteRate  = 1 << 30
	maxQuota     = 1_000_000_000_000
	maxByteQuota = 1 << 50
)

var rateUnits = map[string]time.Duration{
	"s": time.Second, "sec": time.Second, "second": time.Second,
	"min": time.Minute, "minute": time.Minute,
	"h": time.Hour, "hour": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour,
}

func (c *compiler) limit(op *fieldgate.Operation, policy *node) fieldgate.Limit {
	rate := policy.get("rate")
	amount, unit, _ := strings.Cut(rate.string(), "/")
	count, bytes, ok := readAmount(amount, maxRate, maxByteRate)
	period, known := rateUnits[unit]
	if !ok || !known {
		c.fail(rate, "write it like 6/min or 64KiB/min, with s, min, h or day", "%q is not a rate of 1 to %d, or of 1B to %s, in a period", excerpt(rate.string()), maxRate, fieldgate.SizeText(maxByteRate))
	}
	l := fieldgate.Limit{Count: int(count), Bytes: bytes, Period: period, Burst: int(count), Key: fieldgate.LimitPrincipal}
	if burst := policy.get("burst"); burst != nil {
		count, inBytes, ok := readAmount(burst.text, maxRate, maxByteRate)
		switch l.Burst = int(count); {
		case !ok || burst.kind != scalar:
			c.fail(burst, "write a number from 1 on", "burst must be 1 to %d, or 1B to %s", maxRate, fieldgate.SizeText(maxByteRate))
		case inBytes != bytes:
			c.fail(burst, "write both in bytes, as 64KiB, or neither", "burst %q and rate %q count different things", excerpt(burst.text), excerpt(rate.string()))
		}
	}
	if key := policy.get("key"); key != nil {
		l.Key = c.limitKey(op, key)
	}
	return l
}

// quota reads a number of messages or bytes in a day or month.
func (c *compiler) quota(op *fieldgate.Operation, policy *node) fieldgate.Quota {
	n := policy.get("quota")
	amount, period, _ := strings.Cut(n.string(), "/")
	count, bytes, ok := readAmount(amount, maxQuota, maxByteQuota)
	q := fieldgate.Quota{Count: count, Bytes: bytes, Period: fieldgate.QuotaPeriod(period), Key: fieldgate.LimitPrincipal}
	if !ok || q.Period != fieldgate.QuotaDay && q.Period != fieldgate.QuotaMonth {
		c.fail(n, "write it like 10000/day or 50MiB/month", "%q is not a quota of 1 to %d, or of 1B to %s, in a day or month", excerpt(n.string()), maxQuota, fieldgate.SizeText(maxByteQuota))
	}
	if key := policy.get("key"); key != nil {
		if q.Key = c.limitKey(op, key); q.Key == fieldgate.LimitSource {
			c.fail(key, "write principal or operation", "a quota cannot count by source: addresses change, and their number has no bound")
		}
	}
	return q
}

// readAmount reads a number, or a size such as 64KiB.
func readAmount(text string, most, mostBytes int64) (amount int64, bytes, ok bool) {
	if count, err := strconv.ParseInt(text, 10, 64); err == nil {
		return count, false, count >= 1 && count <= most
	}
	amount, ok = readSize(text, mostBytes)
	return amount, true, ok
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
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"TB", 1e12}, {"GB", 1e9}, {"KB", 1000}, {"MB", 1000 * 1000}, {"kB", 1000}, {"B", 1}, {"", 1}}

// size reads a number of bytes such as 1KiB.
func (c *compiler) size(n *node) int64 {
	if size, ok := readSize(n.string(), fieldgate.MaxBody); ok {
		return size
	}
	c.fail(n, "write it like 1KiB, with B, KB, KiB, MB or MiB", "%q is not a size of 1 B to %d MiB", excerpt(n.string()), fieldgate.MaxBody>>20)
	return fieldgate.DefaultMaxBody
}

func readSize(text string, most int64) (size int64, ok bool) {
	for _, unit := range sizeUnits {
		if digits, found := strings.CutSuffix(text, unit.suffix); found {
			count, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			return count * unit.bytes, err == nil && count >= 1 && count <= most/unit.bytes
		}
	}
	return 0, false
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
		c.fail(n, "write it like 500ms, 5s, 2m, 1h or 30d", "%s must be a time from %s to %s", n.name, timeText(least), timeText(most))
		return least
	}
	return d
}

// timeText is a bound as one would write it: 10m and 7d rather than 10m0s and 168h0m0s.
func timeText(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day && d%day == 0:
		return strconv.Itoa(int(d/day)) + "d"
	case d%time.Hour == 0:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	case d%time.Minute == 0:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	}
	return d.String()
}
