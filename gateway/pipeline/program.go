package pipeline

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"

	"fieldgate"
)

// Program is a Snapshot linked for execution. It is immutable.
type Program struct {
	Version    uint64
	Serial     uint64       // tells programs apart without keeping them: who idles for days may remember one
	Operations []*Operation // of all contracts

	sites     map[string]*site // by host
	everySite site             // contracts that name no host
	coap      site
	topics    node
	filters   []filter // of pass-through APIs

	contracts     map[*fieldgate.Contract][]*Operation
	caches        bool // some operation keeps answers
	observes      bool // some operation's service is observed
	anonymousMQTT bool // some MQTT operation lets callers in without a credential
	foreignMQTT   bool // some pass-through API lets foreign credentials in over MQTT
}

// filter is what a pass-through API takes of MQTT.
type filter struct {
	filter    string
	action    fieldgate.MQTTAction
	operation *Operation
}

// Operation is an operation linked for execution: its stages and all that they need, compiled.
type Operation struct {
	*fieldgate.Operation
	Contract *fieldgate.Contract
	serial   uint64 // likewise

	beforeBody  []step
	eachMessage []step // those of beforeBody that are left when the caller has a grant of the topic
	withBody    []step
	buffered    bool

	lasting  []fieldgate.Stage // of the other steps of beforeBody, and before
	fixed    bool              // the topic has all parameters, so that a message brings no values for them
	rules    rules
	policies *policies // nil: none

	versionFields []byte                    // field lines of a version on its way out
	successor     atomic.Pointer[successor] // the operation that follows it
	limits        []linkedLimit
	byteLimits    []linkedLimit
	quotas        []linkedQuota
	parameters    []linkedParameter
	request       []linkedMedia
	queried       bool     // a parameter may stand in the query
	offers        *offers  // nil: the contract does not say what success is answered with
	answers       *answers // nil: nothing is held against them
	mocks         []Answer // what is answered without an upstream, by media type; one at least
	publish       *target  // topic that calls are heard on
	name          string   // API, version and operation, for upstreams
	subscribe     *target  // topic that subscribers of the operation hear
	messages      *Messages
}

// step is one question about an exchange, as part of a stage. A nil answer lets it pass on.
type step struct {
	stage fieldgate.Stage
	run   func(p *Pipeline, x *Exchange) *fieldgate.Problem
	// lasting: of a message, the answer is the same as long as program, caller and topic are.
	lasting bool
}

// Link compiles a Snapshot. Contracts that the previous program (nil: none) holds too are taken over as they are, so that a
// publish costs what the published contract costs. An error names the contract and the operation.
func Link(snapshot *fieldgate.Snapshot, previous *Program) (*Program, error) {
	program := &Program{Version: snapshot.Version, Serial: serials.Add(1), sites: make(map[string]*site), contracts: make(map[*fieldgate.Contract][]*Operation, len(snapshot.Contracts))}
	for _, contract := range snapshot.Contracts {
		var operations []*Operation
		if previous != nil {
			operations = previous.contracts[contract]
		}
		if operations == nil {
			var err error
			if operations, err = linkContract(contract); err != nil {
				return nil, err
			}
		}
		program.contracts[contract] = operations
		program.Operations = append(program.Operations, operations...)
		for _, operation := range operations {
			program.observes = program.observes || operation.ObservesService
			program.caches = program.caches || operation.policies != nil && operation.policies.cache != nil
			if err := program.add(operation); err != nil {
				return nil, fmt.Errorf("%s %s, operation %s: %w", contract.API, contract.Version, operation.ID, err)
			}
		}
	}
	program.sortPrefixes()
	program.everySite.root.finish()
	for _, s := range program.sites {
		s.root.finish()
	}
	program.linkSuccessors()
	return program, nil
}

var serials atomic.Uint64

func linkContract(contract *fieldgate.Contract) ([]*Operation, error) {
	schemas, err := newSchemas(contract)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", contract.API, contract.Version, err)
	}
	operations := make([]*Operation, len(contract.Operations))
	for i := range contract.Operations {
		operation := &Operation{Operation: &contract.Operations[i], Contract: contract, serial: serials.Add(1)}
		operation.name = fieldValue(contract.API + " " + contract.Version + " " + operation.ID)
		if err := operation.link(schemas); err != nil {
			return nil, fmt.Errorf("%s %s, operation %s: %w", contract.API, contract.Version, operation.ID, err)
		}
		operations[i] = operation
	}
	return operations, nil
}

// link compiles the operation's stages. A stage that the operation does not need is not in its list.
func (o *Operation) link(schemas *schemas) error {
	if len(o.Parameters) > fieldgate.MaxParameters {
		return fmt.Errorf("%d parameters, more than %d", len(o.Parameters), fieldgate.MaxParameters)
	}
	o.rules = linkRules(o.Operation)
	for i := range o.Parameters {
		parameter, err := linkParameter(&o.Parameters[i], schemas)
		if err != nil {
			return err
		}
		o.parameters = append(o.parameters, parameter)
		o.queried = o.queried || parameter.In == fieldgate.InQuery || parameter.In == fieldgate.InPath
	}
	if o.Request != nil {
		var err error
		if o.request, err = linkMedia(o.Request.Media, schemas); err != nil {
			return err
		}
	}
	if !o.PassThrough {
		o.offers = linkOffers(o.Operation)
	}
	if err := o.linkAnswers(schemas); err != nil {
		return err
	}
	for i, l := range o.Limits {
		if l.Count < 1 || l.Burst < 1 || l.Period <= 0 {
			return fmt.Errorf("limit %d: count, burst and period must be positive", i)
		}
		linked := linkLimit(l, maphash.String(limitSeed, fmt.Sprint(o.Contract.API, "\x00", o.ID, "\x00", i)))
		if l.Bytes {
			o.byteLimits = append(o.byteLimits, linked)
		} else {
			o.limits = append(o.limits, linked)
		}
	}
	for _, q := range o.Quotas {
		o.quotas = append(o.quotas, linkQuota(q, o.Contract, o.ID))
	}
	if o.MQTT != nil && !o.PassThrough {
		t := newTarget(o, o.MQTT.Topic)
		if o.MQTT.Action == fieldgate.ActionPublish {
			o.publish = t
		} else {
			o.subscribe = t
		}
	}
	if err := o.linkMessages(schemas); err != nil {
		return err
	}
	var err error
	if o.mocks, err = mockAnswers(o.Operation, schemas); err != nil {
		return err
	}
	if err := o.linkPolicies(schemas); err != nil {
		return err
	}
	o.linkVersionFields()
	o.linkStages()
	return nil
}

func (o *Operation) linkStages() {
	anyOf := slices.ContainsFunc[[]linkedParameter]
	bound := anyOf(o.parameters, func(p linkedParameter) bool { return p.Bound })
	elsewhere := anyOf(o.parameters, func(p linkedParameter) bool { return p.Bound && (p.In != fieldgate.InPath || o.CoAP != nil) })
	checkedParameters := anyOf(o.parameters, func(p linkedParameter) bool { return p.schema != nil || p.Required || p.In != fieldgate.InPath })
	use := func(steps *[]step, needed bool, stage fieldgate.Stage, run func(*Pipeline, *Exchange) *fieldgate.Problem) {
		if needed {
			*steps = append(*steps, step{stage: stage, run: run})
		}
	}
	lasting := func(needed bool, stage fieldgate.Stage, run func(*Pipeline, *Exchange) *fieldgate.Problem) {
		if needed {
			o.beforeBody = append(o.beforeBody, step{stage, run, true})
		}
	}
	if o.Contract.State == fieldgate.LifecycleRetired {
		o.beforeBody = []step{{stage: fieldgate.StageAdmit, run: retired}}
		return
	}
	lasting(o.PassThrough, fieldgate.StageMatch, undocumented)
	lasting(o.Contract.State == fieldgate.LifecycleDeprecated, fieldgate.StageMatch, deprecated)
	opens := o.HTTP != nil && (o.HTTP.WebSocket || o.subscribe != nil)
	use(&o.beforeBody, opens && o.policies != nil && o.policies.cors != nil, fieldgate.StageAdmit, checkOrigin)
	lasting(true, fieldgate.StageIdentify, identify)
	lasting(true, fieldgate.StageAdmit, admitState)
	lasting(true, fieldgate.StageAdmit, admitKind)
	lasting(elsewhere, fieldgate.StageAdmit, readBound)
	lasting(bound, fieldgate.StageAdmit, own)
	use(&o.beforeBody, o.MQTT != nil && !o.PassThrough, fieldgate.StageAdmit, admitMessage)
	quotaOf := func(bytes bool) bool {
		return slices.ContainsFunc(o.quotas, func(q linkedQuota) bool { return q.Bytes == bytes })
	}
	byBytes := len(o.byteLimits) > 0 || quotaOf(true)
	use(&o.beforeBody, len(o.limits) > 0 || quotaOf(false), fieldgate.StageLimit, limit)
	lasting(checkedParameters, fieldgate.StageCheck, checkParameters)
	use(&o.beforeBody, o.offers != nil && o.HTTP != nil, fieldgate.StageCheck, negotiate)
	use(&o.beforeBody, o.policies != nil && o.policies.redirect != nil, fieldgate.StageForward, redirect)
	use(&o.beforeBody, o.policies != nil && o.policies.cache != nil, fieldgate.StageForward, cacheLookup)

	o.linkGrants()

	use(&o.withBody, !o.PassThrough, fieldgate.StageCheck, checkSize)
	use(&o.withBody, byBytes, fieldgate.StageLimit, limitBytes)
	use(&o.withBody, !o.PassThrough, fieldgate.StageCheck, checkBody)
	use(&o.withBody, o.policies != nil && o.policies.Idempotency != nil, fieldgate.StageForward, idempotency)
	// Without an upstream the answer is made here; with a topic the body is needed twice; a schema needs it whole.
	o.buffered = !o.PassThrough && (o.Upstream == "" || o.publish != nil || o.checksBody() || o.readsRequests() || byBytes || o.takesCBOR() || o.ObservesService)
}

func (o *Operation) checksBody() bool {
	return o.Request != nil && slices.ContainsFunc(o.request, func(m linkedMedia) bool { return m.schema != nil })
}

// Subscribes says whether the operation offers a stream of messages: over SSE, WebSocket and CoAP observe.
func (o *Operation) Subscribes() bool { return o.subscribe != nil }

// Calls says whether the operation is answered by an upstream or mock. Otherwise it only publishes or subscribes.
func (o *Operation) Calls() bool { return o.Contract.Kind == fieldgate.KindOpenAPI || o.Upstream != "" }

func (o *Operation) parameterNumber(name string) int {
	return slices.IndexFunc(o.Parameters, func(p fieldgate.Parameter) bool { return p.Name == name && p.In == fieldgate.InPath })
}

// add puts an operation into the routers.
func (program *Program) add(o *Operation) error {
	if o.HTTP != nil {
		s := &program.everySite
		if o.HTTP.Host != "" {
			if s = program.sites[o.HTTP.Host]; s == nil {
				s = &site{}
				program.sites[o.HTTP.Host] = s
			}
		}
		if err := s.add(o, o.HTTP.Method, o.HTTP.Path, o.HTTP.Conditions); err != nil {
			return err
		}
	}
	if o.CoAP != nil {
		if err := program.coap.add(o, o.CoAP.Method, o.CoAP.Path, nil); err != nil {
			return err
		}
	}
	if o.MQTT == nil {
		return nil
	}
	if served := o.Contract.State != fieldgate.LifecycleRetired; served && o.Access.Anonymous {
		program.anonymousMQTT = true
		program.foreignMQTT = program.foreignMQTT || o.PassThrough
	}
	if o.PassThrough {
		program.filters = append(program.filters, filter{o.MQTT.Topic, o.MQTT.Action, o})
		return nil
	}
	t := newTarget(o, o.MQTT.Topic)
	if len(t.levels) > fieldgate.MaxPathSegments {
		return fmt.Errorf("topic %q has more than %d levels", o.MQTT.Topic, fieldgate.MaxPathSegments)
	}
	n := program.topics.at(t.levels)
	if o.MQTT.Action == fieldgate.ActionSubscribe {
		n.subscribe = append(n.subscribe, t)
		return nil
	}
	return n.claim(fieldgate.MethodPublish, nil, t)
}

func (s *site) add(o *Operation, method fieldgate.Method, path string, conditions []fieldgate.Condition) error {
	if o.PassThrough {
		s.prefixes = append(s.prefixes, prefix{strings.TrimSuffix(path, "/"), o})
		return nil
	}
	t := newTarget(o, strings.TrimPrefix(path, "/"))
	if len(t.levels) > fieldgate.MaxPathSegments {
		return fmt.Errorf("path %q has more than %d segments", path, fieldgate.MaxPathSegments)
	}
	n := s.root.at(t.levels)
	return n.claim(method, conditions, t)
}

// claim gives a route to an operation, as far as its conditions go.
func (n *node) claim(method fieldgate.Method, conditions []fieldgate.Condition, t *target) (err error) {
	there := n.operations[method]
	switch {
	case there != nil && there.choice != nil:
		return there.choice.add(conditions, t)
	case len(conditions) > 0:
		c := &choice{otherwise: there}
		n.operations[method] = &target{choice: c}
		return c.add(conditions, t)
	}
	n.operations[method], err = heir(there, t)
	return err
}

// heir is which of two operations has a route. A retired version gives way to whoever serves the route today.
func heir(taken, t *target) (*target, error) {
	switch {
	case taken == nil || taken.operation.Contract.State == fieldgate.LifecycleRetired:
		return t, nil
	case t.operation.Contract.State == fieldgate.LifecycleRetired:
		return taken, nil
	}
	other := taken.operation
	return taken, fmt.Errorf("%s is taken by %s %s, operation %s", strings.Join(t.levels, "/"), other.Contract.API, other.Contract.Version, other.ID)
}

func (program *Program) sortPrefixes() {
	longest := func(a, b prefix) int { return len(b.path) - len(a.path) }
	slices.SortStableFunc(program.everySite.prefixes, longest)
	slices.SortStableFunc(program.coap.prefixes, longest)
	for _, s := range program.sites {
		slices.SortStableFunc(s.prefixes, longest)
	}
}
