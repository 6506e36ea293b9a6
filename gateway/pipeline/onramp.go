package pipeline

import (
	"bytes"
	"sync/atomic"

	"fieldgate"
	"fieldgate/gateway/users"
	"fieldgate/protocol/mqtt"
)

// OnRamp lets the clients of some MQTT listeners through where no contract speaks, as a plain broker does: any topic, as undocumented.
// Topics that contracts explain are theirs. It is safe for concurrent use.
type OnRamp struct {
	operation *Operation
	rules     atomic.Pointer[OnRampRules]
	version   atomic.Uint32
}

// OnRampRules can be replaced while clients are connected.
type OnRampRules struct {
	Anonymous bool        // clients without a user name are let in, and without Users those with any name
	Users     *users.File // nil: none
	Deny      []Denial
}

// Denial takes topics away from all clients of the on-ramp.
type Denial struct {
	Filter             string
	Publish, Subscribe bool
}

// OnRampName stands for the on-ramp where Records name an API.
const OnRampName = "mqtt.on-ramp"

// NewOnRamp makes an on-ramp that nobody is let in by before Replace.
func NewOnRamp() (*OnRamp, error) {
	linked, err := linkContract(&fieldgate.Contract{API: OnRampName, Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive, Operations: []fieldgate.Operation{{
		ID: "any-topic", PassThrough: true, MaxBody: fieldgate.MaxBody, OnInvalid: fieldgate.InvalidShadow, Access: fieldgate.Access{Anonymous: true},
		MQTT: &fieldgate.MQTTBinding{Topic: "#", Action: fieldgate.ActionBoth, QoS: 2, Retain: true},
	}}})
	if err != nil {
		return nil, err
	}
	r := &OnRamp{operation: linked[0]}
	r.rules.Store(&OnRampRules{})
	return r, nil
}

// Replace puts rules into force. Whoever they do not let in any more is refused from now on; Valid says who that is.
func (r *OnRamp) Replace(rules OnRampRules) {
	r.rules.Store(&rules)
	r.version.Add(1)
}

// Rules are those in force.
func (r *OnRamp) Rules() *OnRampRules { return r.rules.Load() }

var (
	errDenied = fieldgate.NewProblem(fieldgate.ProblemForbidden, "The on-ramp's rules deny this topic.")
	errSYS    = fieldgate.NewProblem(fieldgate.ProblemForbidden, `Only the gateway publishes below "$SYS/".`)
)

// Identify is Pipeline.Identify for a client of the on-ramp. Tokens are known there too. A user of the file whose name is the id of a
// device is that device, so that contracts that are published later know it.
func (r *OnRamp) Identify(p *Pipeline, username, secret []byte) (*Caller, *fieldgate.Problem) {
	rules := r.rules.Load()
	var caller *Caller
	switch {
	case fieldgate.WellFormedToken(secret):
		caller, problem := p.Identify(username, secret)
		if caller != nil {
			caller.OnRamp = r
		}
		return caller, problem
	case len(username) == 0 && rules.Anonymous:
		caller = &Caller{Kind: fieldgate.PrincipalAnonymous, OnRamp: r}
	case len(username) == 0:
		return nil, errNoCredential
	case rules.Users != nil:
		user := rules.Users.Check(username, secret)
		if user == nil {
			return nil, errWrongCredential
		}
		caller = &Caller{Kind: fieldgate.PrincipalForeign, ID: user.Name(), OnRamp: r, user: user}
		if caller.Ref = p.Directory.Find(fieldgate.PrincipalDevice, caller.ID); caller.Ref != 0 {
			caller.Kind = fieldgate.PrincipalDevice
		}
	case rules.Anonymous:
		caller = &Caller{Kind: fieldgate.PrincipalForeign, ID: claimedName(username), OnRamp: r}
	default:
		return nil, errWrongCredential
	}
	return caller, p.stateProblem(caller)
}

// holds says whether the on-ramp would let in a caller without token as it did.
func (r *OnRamp) holds(p *Pipeline, caller *Caller) bool {
	rules := r.rules.Load()
	switch {
	case caller.user != nil:
		return rules.Users != nil && rules.Users.Holds(caller.user) && p.Directory.Find(fieldgate.PrincipalDevice, caller.ID) == caller.Ref
	case caller.Kind == fieldgate.PrincipalForeign:
		return rules.Anonymous && rules.Users == nil
	}
	return rules.Anonymous
}

// Mark tells what the caller came with from other credentials, also after a restart.
func (c *Caller) Mark() fieldgate.CredentialHash {
	if c.user != nil {
		return c.user.Mark()
	}
	return c.Hash
}

// Recall is the user of the on-ramp's file that a mark is of, as it was let in before a restart; nil: it would not be let in any more.
func (r *OnRamp) Recall(p *Pipeline, name string, mark fieldgate.CredentialHash) *Caller {
	if r == nil || r.rules.Load().Users == nil {
		return nil
	}
	user := r.rules.Load().Users.Recall(name, mark)
	if user == nil {
		return nil
	}
	caller := &Caller{Kind: fieldgate.PrincipalForeign, ID: name, OnRamp: r, user: user}
	if caller.Ref = p.Directory.Find(fieldgate.PrincipalDevice, name); caller.Ref != 0 {
		caller.Kind = fieldgate.PrincipalDevice
	}
	return caller
}

// asOf is another number after each change of what counts for the caller. All that it adds up only grows.
func (r *OnRamp) asOf(p *Pipeline, caller *Caller) uint32 {
	version := r.version.Load()
	if file := r.rules.Load().Users; file != nil {
		version += file.Version()
	}
	if caller.Ref == 0 { // a device of its name may come
		return version + uint32(p.Directory.Sequence())
	}
	return version + p.Directory.Version(caller.Ref)
}

var sysTopics = []byte("$SYS/")

// mayPublish asks what the on-ramp itself has against a topic.
func (x *Exchange) mayPublish(r *OnRamp) *fieldgate.Problem {
	if bytes.HasPrefix(x.Path, sysTopics) {
		return x.by("$SYS", errSYS)
	}
	rules := r.rules.Load()
	for i := range rules.Deny {
		if d := &rules.Deny[i]; d.Publish && mqtt.FilterMatches([]byte(d.Filter), x.Path) {
			return x.by("deny "+d.Filter, errDenied)
		}
	}
	return nil
}

// mayAsk asks what it has against a filter of which everything is denied. Of one that is denied in parts Hides takes those away.
func (x *Exchange) mayAsk(r *OnRamp) *fieldgate.Problem {
	rules := r.rules.Load()
	for i := range rules.Deny {
		if d := &rules.Deny[i]; d.Subscribe && covers(d.Filter, string(x.Path)) {
			return x.by("deny "+d.Filter, errDenied)
		}
	}
	return nil
}

// Hides says whether no client of the on-ramp hears the topic. A nil OnRamp hides nothing.
func (r *OnRamp) Hides(topic []byte) bool {
	if r == nil {
		return false
	}
	rules := r.rules.Load()
	for i := range rules.Deny {
		if d := &rules.Deny[i]; d.Subscribe && mqtt.FilterMatches([]byte(d.Filter), topic) {
			return true
		}
	}
	return false
}
