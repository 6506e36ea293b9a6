package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/control/audit"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// Bounds of one decision about many documents, besides those of each.
const (
	MaxDocuments     = 2000
	MaxDocumentBytes = 64 << 20 // of all together

	maxCompiledBytes = 2 * MaxDocumentBytes // of all contracts together: a document may become four times as large
	maxFindings      = 50_000
)

// Document is a document to publish. Name is what findings call it.
type Document struct {
	Name    string
	Content []byte
}

// Change says what publishing a document does.
type Change string

const (
	ChangeNewAPI      Change = "new-api"
	ChangeNewVersion  Change = "new-version"
	ChangeReplacement Change = "replacement" // this version, with other content
	ChangeRestoration Change = "restoration" // this version, which had been retired or superseded and whose routes are free
	ChangeNone        Change = "none"        // exactly this is published already
)

// OperationChange says what publishing a document does to one operation.
type OperationChange struct {
	ID     string
	Change string   // added, changed, unchanged or removed
	Rules  []string // of a changed one: what becomes of its policies and conditions, a sentence each
}

// Plan is what publishing a document does, or did.
type Plan struct {
	Contract   *fieldgate.Contract
	Change     Change
	Applied    bool
	Supersedes []string // versions of the same API
	Operations []OperationChange
	Warnings   []contract.Diagnostic
	Snapshot   uint64 // version of the snapshot with the change; 0 when nothing was applied

	before any                   // facts of this version as it was published; nil when it is new
	ended  []*fieldgate.Contract // other versions whose state changes with it, in their new state
}

// ConflictError says that other APIs serve routes of a contract.
type ConflictError struct{ Conflicts []contract.Conflict }

func (e *ConflictError) Error() string { return e.Conflicts[0].String() }

// RefusedError says that documents were refused, so that none was published.
type RefusedError struct {
	Documents int // that were to be published
	Refused   []RefusedDocument
}

// RefusedDocument is why one of several documents was refused: a *contract.InvalidError, a *ConflictError or a *refusal.Error.
type RefusedDocument struct {
	Name string
	Err  error
}

func (e *RefusedError) Error() string {
	lines := make([]string, len(e.Refused))
	for i, d := range e.Refused {
		lines[i] = d.Name + ": " + d.Err.Error()
	}
	return strings.Join(lines, "\n")
}

func (e *RefusedError) add(name string, err error) {
	e.Refused = append(e.Refused, RefusedDocument{name, err})
}

// Publish is PublishAll for one document, whose refusal it gives as it is: a document that is no contract is a
// *contract.InvalidError, one whose routes other APIs serve a *ConflictError. With an error, a plan names at the most what it was
// about. match is the Change of the API that the decision is made for; 0: whichever there is.
func (c *Catalog) Publish(ctx context.Context, file string, document []byte, dryRun bool, match uint64) (*Plan, error) {
	plans, err := c.publish(ctx, []Document{{file, document}}, dryRun, match)
	var refused *RefusedError
	if errors.As(err, &refused) {
		err = refused.Refused[0].Err
	}
	if len(plans) == 0 {
		return nil, err
	}
	return plans[0], err
}

// PublishAll compiles documents and makes live, in one decision, those that are not published already: all of them or, with a
// *RefusedError for every document that keeps it from that, none. Each plan counts on the documents before it, and
// routes are those that all of them leave, so that APIs may exchange theirs. With dryRun nothing is changed.
func (c *Catalog) PublishAll(ctx context.Context, documents []Document, dryRun bool) ([]*Plan, error) {
	plans, err := c.publish(ctx, documents, dryRun, 0)
	if err != nil {
		return nil, err
	}
	return plans, nil
}

func (c *Catalog) publish(ctx context.Context, documents []Document, dryRun bool, match uint64) (plans []*Plan, err error) {
	candidates, invalid, err := c.compileAll(ctx, documents)
	if err != nil {
		return nil, err
	}
	changed := false
	decide := func(tx *store.Tx) error { // may run again
		routes, release, err := c.live.routes(ctx, tx)
		if err != nil {
			return err
		}
		defer release()
		p := publication{ctx: ctx, tx: tx, live: &c.live, routes: routes, match: match, versions: make(map[string][]*Version), contracts: make(map[versionKey]*fieldgate.Contract), names: make(map[versionKey]string)}
		refused := &RefusedError{Documents: len(documents), Refused: slices.Clone(invalid)}
		if plans, err = p.planAll(candidates, refused); err != nil {
			return err
		}
		if len(refused.Refused) > 0 {
			return refused
		}
		changed = slices.ContainsFunc(plans, func(plan *Plan) bool { return plan.Change != ChangeNone })
		if dryRun || !changed {
			return nil
		}
		return p.write(candidates, plans)
	}
	if dryRun || len(invalid) > 0 {
		return plans, c.store.View(ctx, decide)
	}
	if err := c.store.Update(ctx, decide); err != nil || !changed {
		return plans, err
	}
	for _, plan := range plans {
		plan.Applied = plan.Change != ChangeNone
	}
	c.nudge()
	return plans, nil
}

// candidate is a document that is a contract.
type candidate struct {
	Document
	contract.Reading
}

// compileAll compiles documents one after the other, as contract.Read would anyway: the other processors are for traffic.
func (c *Catalog) compileAll(ctx context.Context, documents []Document) (candidates []*candidate, refused []RefusedDocument, err error) {
	compiledBytes, findings := 0, 0
	for _, document := range documents {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		reading, size, err := c.compile(document)
		if err != nil {
			refused = append(refused, RefusedDocument{document.Name, err})
		} else {
			candidates = append(candidates, &candidate{Document: document, Reading: reading})
		}
		compiledBytes, findings = compiledBytes+size, findings+len(reading.Diagnostics)
		if compiledBytes > maxCompiledBytes || findings > maxFindings {
			err := refusal.Invalid("Up to here the documents become more than %d MiB of contracts, or have more than %d findings: publish them in smaller portions.", maxCompiledBytes>>20, maxFindings)
			return nil, append(refused, RefusedDocument{document.Name, err}), nil
		}
	}
	return candidates, refused, nil
}

// compile makes a contract that gateways can serve of a document; size is that of its encoded form.
func (c *Catalog) compile(document Document) (reading contract.Reading, size int, err error) {
	if reading, err = contract.Read(document.Name, document.Content); err != nil {
		return reading, 0, err
	}
	if reading.Contract.API == OwnName {
		return reading, 0, refusal.Conflict("The name %q is that of Fieldgate's own API: give the contract another title, or another name with x-fieldgate: {api: …}.", OwnName)
	}
	if err := c.linkable(document.Name, reading.Contract); err != nil {
		return reading, 0, err
	}
	_, encoded, err := fieldgate.EncodeContract(reading.Contract)
	return reading, len(encoded), err
}

// publication is one decision about documents in a transaction: what is published and, over it, what the documents up to now
// change. Nothing is written before all are planned, so that a dry run goes the same way.
type publication struct {
	ctx       context.Context
	tx        *store.Tx
	live      *live
	routes    *contract.Routes
	match     uint64
	versions  map[string][]*Version // of an API, newest publication first
	contracts map[versionKey]*fieldgate.Contract
	names     map[versionKey]string // of the documents
}

// planAll plans each document, and adds those that are in the way to refused. A refused document has a plan that says
// what it was about.
func (p *publication) planAll(candidates []*candidate, refused *RefusedError) (plans []*Plan, err error) {
	for _, k := range candidates {
		planned := *k.Contract // planning changes it
		plan := &Plan{Contract: &planned, Warnings: slices.Clone(k.Diagnostics)}
		plans = append(plans, plan)
		key := versionKey{planned.API, planned.Version}
		if other, twice := p.names[key]; twice {
			refused.add(k.Name, refusal.Conflict("%s and %s are both %s: keep one of them.", other, k.Name, name(&planned)))
			continue
		}
		p.names[key] = k.Name
		err := checkChange(p.ctx, p.tx, planned.API, p.match)
		if err == nil {
			err = p.plan(plan, k)
		}
		var refusal *refusal.Error
		if errors.As(err, &refusal) {
			refused.add(k.Name, err)
		} else if err != nil {
			return nil, err
		}
	}
	// Versions that take the place of others are known only now, in whichever order the documents stand.
	for i, plan := range plans {
		for _, version := range plan.Supersedes {
			if other, both := p.names[versionKey{plan.Contract.API, version}]; both {
				refused.add(candidates[i].Name, refusal.Conflict("%s and %s are versions of %s on the same routes: keep one of them.", other, candidates[i].Name, plan.Contract.API))
			}
		}
		if plan.Change == ChangeNone || !isServed(plan.Contract.State) {
			continue
		}
		if err := p.foreignConflicts(candidates[i].Name, plan.Contract); err != nil {
			refused.add(candidates[i].Name, err)
		}
	}
	return plans, nil
}

// plan completes a plan from what is published, all but the conflicts with other APIs.
func (p *publication) plan(plan *Plan, k *candidate) error {
	planned := plan.Contract
	versions, err := p.versionsOf(planned.API)
	if err != nil {
		return err
	}
	var before *fieldgate.Contract // this version as it is published
	plan.Change = ChangeNewVersion
	if len(versions) == 0 {
		plan.Change = ChangeNewAPI
	}
	for _, version := range versions {
		if version.Version == planned.Version {
			plan.Change = ChangeReplacement
			if before, err = p.contract(version); err != nil {
				return err
			}
		}
	}
	if before != nil && before.Digest == planned.Digest {
		if isServed(before.State) || before.State == planned.State {
			plan.keep(before)
			return nil
		}
		plan.Change = ChangeRestoration
	}
	if before != nil {
		plan.before = contractFacts(before)
		plan.keepDecision(before)
	}
	var superseded []*fieldgate.Contract
	for _, v := range supersededBy(p.routes, planned, versions) {
		old, err := p.contract(v)
		if err != nil {
			return err
		}
		superseded = append(superseded, old)
	}
	if before != nil && !isServed(before.State) && len(superseded) > 0 {
		// Another version stands in its place, and stays there: a correction of an old document must not take devices of the
		// newer version off, and a directory with both would exchange them each time it is applied.
		plan.warn("%s is %s: %s is served in its place", "restore it to exchange the two", name(planned), before.State, superseded[0].Version)
		if plan.Change == ChangeRestoration {
			plan.keep(before)
			return nil
		}
		planned.State, superseded = before.State, nil
	}
	predecessors := superseded
	if before != nil {
		predecessors = append([]*fieldgate.Contract{before}, superseded...)
	}
	plan.Operations = compareOperations(planned, predecessors)
	for _, old := range superseded {
		plan.Supersedes = append(plan.Supersedes, old.Version)
		old.State = fieldgate.LifecycleSuperseded
		p.change(old)
	}
	plan.ended = superseded
	deprecated, err := p.replaced(plan, k, versions)
	if err != nil {
		return err
	}
	if deprecated != nil {
		deprecate(deprecated, k.Sunset, planned.Version)
		p.change(deprecated)
		plan.ended = append(plan.ended, deprecated)
	}
	p.change(planned)
	return nil
}

// foreignConflicts is an error where other APIs serve routes of a contract, or other documents claim them.
func (p *publication) foreignConflicts(file string, k *fieldgate.Contract) error {
	conflicts := foreignConflicts(p.routes, k)
	for _, c := range conflicts {
		if other, both := p.names[versionKey{c.LiveAPI, c.LiveVersion}]; both {
			return refusal.Conflict("%s of %s is claimed by %s as well (%s %s, operation %s): give one of them another route.", c.Route, file, other, c.LiveAPI, c.LiveVersion, c.LiveOperation)
		}
	}
	if len(conflicts) > 0 {
		return &ConflictError{conflicts}
	}
	return nil
}

// versionsOf lists the versions of an API, newest publication first, as the documents up to now leave them.
func (p *publication) versionsOf(api string) (versions []*Version, err error) {
	versions, known := p.versions[api]
	if !known {
		if versions, err = versionsOf(p.ctx, p.tx, api); err != nil {
			return nil, err
		}
		p.versions[api] = versions
	}
	return versions, nil
}

// contract is a version as the documents up to now leave it.
func (p *publication) contract(v *Version) (*fieldgate.Contract, error) {
	key := versionKey{v.API, v.Version}
	if changed := p.contracts[key]; changed != nil {
		return changed, nil
	}
	return readContract(p.ctx, p.tx, v.API, v.Version)
}

// change notes a contract as it will be published, for the documents that follow. What the routes then say is of no database:
// the next transaction reads again what this one has not stored.
func (p *publication) change(k *fieldgate.Contract) {
	key := versionKey{k.API, k.Version}
	p.contracts[key] = k
	if isServed(k.State) {
		p.live.add(k, unstored)
	} else {
		p.live.remove(key)
	}
	versions := p.versions[k.API]
	at := slices.IndexFunc(versions, func(v *Version) bool { return v.Version == k.Version })
	if at >= 0 {
		versions[at].State = k.State
		return
	}
	p.versions[k.API] = slices.Insert(versions, 0, &Version{API: k.API, Version: k.Version, State: k.State})
}

// replaced is the version that the document says it takes the place of, where that serves on beside it because their routes
// differ; nil when there is none.
func (p *publication) replaced(plan *Plan, k *candidate, versions []*Version) (*fieldgate.Contract, error) {
	if !isServed(plan.Contract.State) || k.Replaces == plan.Contract.Version {
		return nil, nil
	}
	for _, v := range versions {
		if v.Version == k.Replaces && v.State == fieldgate.LifecycleActive {
			return p.contract(v)
		}
	}
	return nil, nil
}

// write carries the plans out. The versions of an API are ordered by the number of the snapshot that they were published in: each
// document of one API has a number of its own, of which gateways see the last alone.
func (p *publication) write(candidates []*candidate, plans []*Plan) error {
	var numbers []uint64
	published, ofAPI := make([]uint64, len(plans)), make(map[string]int)
	for i, plan := range plans {
		if plan.Change == ChangeNone {
			continue
		}
		at := ofAPI[plan.Contract.API]
		ofAPI[plan.Contract.API]++
		if at == len(numbers) {
			next, err := p.tx.Next(p.ctx, "snapshot")
			if err != nil {
				return err
			}
			numbers = append(numbers, next)
		}
		published[i] = numbers[at]
	}
	for i, plan := range plans {
		if plan.Change == ChangeNone {
			continue
		}
		plan.Snapshot = numbers[len(numbers)-1]
		if err := p.writeOne(candidates[i], plan, published[i]); err != nil {
			return err
		}
	}
	return nil
}

func (p *publication) writeOne(k *candidate, plan *Plan, published uint64) error {
	detail := string(plan.Change) + " " + plan.Contract.Digest
	for _, old := range plan.ended {
		detail += fmt.Sprintf(", %s is %s", old.Version, old.State)
		content, err := updateContract(p.ctx, p.tx, old, plan.Snapshot)
		if err != nil {
			return err
		}
		p.live.stored(old, content)
	}
	content, err := insertContract(p.ctx, p.tx, plan.Contract, k.Content, Describe(k.Reading), published, plan.Snapshot)
	if err != nil {
		return err
	}
	p.live.stored(plan.Contract, content)
	return audit.Write(p.ctx, p.tx, audit.Change{Action: "api.publish", Target: name(plan.Contract), Detail: detail, Before: plan.before, After: contractFacts(plan.Contract)})
}

// keep makes it a plan that changes nothing.
func (p *Plan) keep(before *fieldgate.Contract) {
	p.Change = ChangeNone
	p.Operations = compareOperations(p.Contract, []*fieldgate.Contract{before})
}

// keepDecision lets a version stay deprecated whose document is corrected.
func (p *Plan) keepDecision(before *fieldgate.Contract) {
	if k := p.Contract; before.State == fieldgate.LifecycleDeprecated && k.State == fieldgate.LifecycleActive {
		k.State, k.Deprecated, k.Sunset, k.Successor = before.State, before.Deprecated, before.Sunset, before.Successor
		p.warn("%s stays deprecated", "restore it to end that", name(k))
	}
}

func (p *Plan) warn(format, remedy string, arguments ...any) {
	p.Warnings = append(p.Warnings, contract.Diagnostic{Severity: contract.SeverityWarning, Message: fmt.Sprintf(format, arguments...), Remedy: remedy})
}

// foreignConflicts lists the routes of a contract that other APIs serve.
func foreignConflicts(routes *contract.Routes, k *fieldgate.Contract) []contract.Conflict {
	return slices.DeleteFunc(routes.Conflicts(k), func(c contract.Conflict) bool { return c.Superseding })
}

// supersededBy lists the versions of the same API, of those given newest publication first, that a contract takes the place of, oldest
// publication first.
func supersededBy(routes *contract.Routes, k *fieldgate.Contract, versions []*Version) (superseded []*Version) {
	if k.State == fieldgate.LifecycleRetired {
		return nil // it serves nothing
	}
	conflicts := routes.Conflicts(k)
	for _, v := range slices.Backward(versions) {
		if slices.ContainsFunc(conflicts, func(c contract.Conflict) bool { return c.Superseding && c.LiveVersion == v.Version }) {
			superseded = append(superseded, v)
		}
	}
	return superseded
}
