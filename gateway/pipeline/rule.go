package pipeline

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"fieldgate"
)

// rules are the texts that Records tell refusals by, in the contract's words. They are made when a contract is linked, so that no
// exchange has to.
type rules struct {
	kind       string   // of caller
	scopes     []string // by the scope's number in Access.Scopes
	parameters []string // by the parameter's number
	owners     []string // by the parameter's number, of bound ones
	qos        string
	maxBody    string
	media      string

	unknown, unreachable, busy, late, invalid string // what can be wrong with the upstream
}

func linkRules(o *fieldgate.Operation) rules {
	r := rules{
		kind:    ruleText("access " + kindNames(o.Access.Kinds)),
		maxBody: ruleText("max-body " + strconv.FormatInt(o.MaxBody, 10) + " bytes"),
	}
	for _, scope := range o.Access.Scopes {
		r.scopes = append(r.scopes, ruleText("scope "+scope))
	}
	for _, parameter := range o.Parameters {
		r.parameters = append(r.parameters, ruleText("parameter "+parameter.Name))
		r.owners = append(r.owners, ruleText("owner of {"+parameter.Name+"}"))
	}
	if o.MQTT != nil {
		r.qos = ruleText("qos " + strconv.Itoa(int(o.MQTT.QoS)))
	}
	if o.Request != nil {
		var types []string
		for _, media := range o.Request.Media {
			types = append(types, media.Type)
		}
		r.media = ruleText("content type " + strings.Join(types, ", "))
	}
	upstream := "upstream " + o.Upstream
	r.unknown, r.unreachable, r.busy = ruleText(upstream+" not in the environment"), ruleText(upstream+" unreachable"), ruleText(upstream+" busy")
	r.late, r.invalid = ruleText(upstream+" timeout"), ruleText(upstream+" invalid answer")
	return r
}

func kindNames(kinds []fieldgate.PrincipalKind) string {
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = string(kind)
	}
	return strings.Join(names, ", ")
}

var periodNames = map[time.Duration]string{time.Second: "s", time.Minute: "min", time.Hour: "h", 24 * time.Hour: "day"}

// limitRule is a limit as a contract writes it.
func limitRule(limit *fieldgate.Limit) string {
	period, ok := periodNames[limit.Period]
	if !ok {
		period = limit.Period.String()
	}
	amount := strconv.Itoa
	if limit.Bytes {
		amount = func(n int) string { return fieldgate.SizeText(int64(n)) }
	}
	rule := fmt.Sprintf("rate %s/%s per %s", amount(limit.Count), period, limit.Key)
	if limit.Burst != limit.Count {
		rule += ", burst " + amount(limit.Burst)
	}
	return ruleText(rule)
}

// anywhere has the rules of exchanges that belong to no operation.
var anywhere = rules{maxBody: "max-body", media: "content type", busy: "overload", unreachable: "upstream unreachable", late: "upstream timeout",
	invalid: "upstream invalid answer"}

// ruleOf is the rule behind a problem where its stage named none that is narrower.
func (x *Exchange) ruleOf(code fieldgate.ProblemCode) string {
	rules := &anywhere
	if x.Operation != nil {
		rules = &x.Operation.rules
	}
	switch code {
	case fieldgate.ProblemBadRequest:
		return "malformed"
	case fieldgate.ProblemUnauthenticated:
		return "credential"
	case fieldgate.ProblemForbidden:
		return "access"
	case fieldgate.ProblemNotOwner:
		return "owner"
	case fieldgate.ProblemQuarantined:
		return "state quarantined"
	case fieldgate.ProblemNotFound:
		return "no route"
	case fieldgate.ProblemMethodNotAllowed:
		return "no such method"
	case fieldgate.ProblemNotAcceptable:
		return "accept"
	case fieldgate.ProblemGone:
		return "lifecycle retired"
	case fieldgate.ProblemTooLarge:
		return rules.maxBody
	case fieldgate.ProblemUnsupportedMedia:
		return rules.media
	case fieldgate.ProblemInvalidParameter:
		return "parameter"
	case fieldgate.ProblemInvalidPayload:
		return "payload"
	case fieldgate.ProblemOverloaded:
		return rules.busy
	case fieldgate.ProblemUpstreamUnreachable:
		return rules.unreachable
	case fieldgate.ProblemUpstreamInvalid:
		return rules.invalid
	case fieldgate.ProblemUpstreamTimeout:
		return rules.late
	case fieldgate.ProblemNotDurable:
		return "journal"
	case fieldgate.ProblemCallerLeft:
		return "caller left"
	}
	return string(code)
}

// ruleText is a rule's text as Records hold it.
func ruleText(text string) string { return clip(text, fieldgate.MaxRecordRule) }

// clip cuts a text at a number of bytes, between characters.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
