// Package catalog decides about APIs: which versions of which contracts are published, in which state of their lifecycle,
// and so what the Snapshot holds that gateways serve. Each decision is one transaction with its audit row and a new version
// of the snapshot.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/control/audit"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// Catalog is the APIs of one installation.
type Catalog struct {
	store *store.Store
	bus   *bus.Bus
	link  Link
	live  live
	log   *slog.Logger
}

// Link is what gateways do with a Snapshot before it is in force, and which this house cannot do: it says why they would not.
type Link func(*fieldgate.Snapshot) error

// New makes a Catalog on its store; the bus tells the gateways. Without link what gateways would say is not asked.
func New(db *store.Store, b *bus.Bus, link Link, log *slog.Logger) *Catalog {
	return &Catalog{store: db, bus: b, link: link, log: log}
}

// linkable refuses a contract that no gateway could put into force.
func (c *Catalog) linkable(file string, compiled *fieldgate.Contract) error {
	if c.link == nil {
		return nil
	}
	if err := c.link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{compiled}}); err != nil {
		return &contract.InvalidError{Errors: []contract.Diagnostic{{Severity: contract.SeverityError, File: file, Line: 1, Column: 1,
			Message: "gateways cannot serve this contract: " + err.Error(), Remedy: "change what the message names"}}}
	}
	return nil
}

// OwnName is the name of the admin API, which is part of the program and not in the database.
const OwnName = "fieldgate"

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

	before any // facts of this version as it was published; nil when it is new
}

// ConflictError says that other APIs serve routes of a contract.
type ConflictError struct{ Conflicts []contract.Conflict }

func (e *ConflictError) Error() string { return e.Conflicts[0].String() }

// Publish compiles a document and makes it live, unless it is published already. file names the document in diagnostics.
// A document that is no contract is a *contract.InvalidError, one whose routes other APIs serve a *ConflictError. With
// dryRun nothing is changed. With an error, a plan names at the most what it was about. match is the Change of the API that the decision is made for; 0: whichever there is.
func (c *Catalog) Publish(ctx context.Context, file string, document []byte, dryRun bool, match uint64) (*Plan, error) {
	compiled, warnings, err := contract.Compile(file, document)
	if err != nil {
		return nil, err
	}
	if compiled.API == OwnName {
		return nil, refusal.Conflict("The name %q is that of Fieldgate's own API: give the contract another title, or another name with x-fieldgate: {api: …}.", OwnName)
	}
	if err := c.linkable(file, compiled); err != nil {
		return nil, err
	}
	plan := new(Plan)
	replaces, sunset := contract.Replacement(document)
	if dryRun {
		err := c.store.View(ctx, func(tx *store.Tx) error {
			*plan = newPlan(compiled, warnings)
			if err := checkChange(ctx, tx, compiled.API, match); err != nil {
				return err
			}
			routes, release, err := c.live.routes(ctx, tx)
			if err != nil {
				return err
			}
			defer release()
			_, err = prepare(ctx, tx, plan, routes, replaces, sunset)
			return err
		})
		return plan, err
	}
	said := Describe(document)
	err = c.store.Update(ctx, func(tx *store.Tx) error {
		*plan = newPlan(compiled, warnings) // the transaction may run again
		if err := checkChange(ctx, tx, compiled.API, match); err != nil {
			return err
		}
		routes, release, err := c.live.routes(ctx, tx)
		if err != nil {
			return err
		}
		defer release()
		ended, err := prepare(ctx, tx, plan, routes, replaces, sunset)
		if err != nil || plan.Change == ChangeNone {
			return err
		}
		if plan.Snapshot, err = tx.Next(ctx, "snapshot"); err != nil {
			return err
		}
		detail := string(plan.Change) + " " + compiled.Digest
		for _, old := range ended {
			detail += fmt.Sprintf(", %s is %s", old.Version, old.State)
			if err := updateContract(ctx, tx, old, plan.Snapshot); err != nil {
				return err
			}
		}
		if err := insertContract(ctx, tx, plan.Contract, document, said, plan.Snapshot); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Change{Action: "api.publish", Target: name(compiled), Detail: detail, Before: plan.before, After: contractFacts(plan.Contract)})
	})
	if err != nil {
		return plan, err
	}
	if plan.Change != ChangeNone {
		plan.Applied = true
		c.nudge()
	}
	return plan, nil
}

// newPlan has values of its own, because preparing it changes them.
func newPlan(compiled *fieldgate.Contract, warnings []contract.Diagnostic) Plan {
	candidate := *compiled
	return Plan{Contract: &candidate, Warnings: slices.Clone(warnings)}
}

// prepare completes a plan from what is published, and lists the versions whose state it changes, in their new state. replaces and
// sunset are what the document says of the version before it.
func prepare(ctx context.Context, tx *store.Tx, plan *Plan, routes *contract.Routes, replaces, sunset string) (ended []*fieldgate.Contract, err error) {
	candidate := plan.Contract
	versions, err := versionsOf(ctx, tx, candidate.API)
	if err != nil {
		return nil, err
	}
	var before *fieldgate.Contract // this version as it is published
	plan.Change = ChangeNewVersion
	if len(versions) == 0 {
		plan.Change = ChangeNewAPI
	}
	for _, version := range versions {
		if version.Version == candidate.Version {
			plan.Change = ChangeReplacement
			if before, err = readContract(ctx, tx, candidate.API, candidate.Version); err != nil {
				return nil, err
			}
		}
	}
	if before != nil && before.Digest == candidate.Digest {
		if isServed(before.State) || before.State == candidate.State {
			plan.keep(before)
			return nil, nil
		}
		plan.Change = ChangeRestoration
	}
	if before != nil {
		plan.before = contractFacts(before)
		plan.keepDecision(before)
	}
	superseded, err := takeOver(ctx, tx, candidate, routes)
	if err != nil {
		return nil, err
	}
	if before != nil && !isServed(before.State) && len(superseded) > 0 {
		// Another version stands in its place, and stays there: a correction of an old document must not take devices of the
		// newer version off, and a directory with both would exchange them each time it is applied.
		plan.warn("%s is %s: %s is served in its place", "restore it to exchange the two", name(candidate), before.State, superseded[0].Version)
		if plan.Change == ChangeRestoration {
			plan.keep(before)
			return nil, nil
		}
		candidate.State, superseded = before.State, nil
	}
	for _, old := range superseded {
		plan.Supersedes = append(plan.Supersedes, old.Version)
		old.State = fieldgate.LifecycleSuperseded
	}
	predecessors := superseded
	if before != nil {
		predecessors = append([]*fieldgate.Contract{before}, superseded...)
	}
	plan.Operations = compareOperations(candidate, predecessors)
	deprecated, err := plan.replace(ctx, tx, versions, replaces, sunset)
	return append(superseded, deprecated...), err
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

// replace deprecates the version that the document says it takes the place of, where it serves on beside it because their routes
// differ.
func (p *Plan) replace(ctx context.Context, tx *store.Tx, versions []*Version, replaces, sunset string) (deprecated []*fieldgate.Contract, err error) {
	if !isServed(p.Contract.State) || replaces == p.Contract.Version || slices.Contains(p.Supersedes, replaces) {
		return nil, nil
	}
	for _, v := range versions {
		if v.Version == replaces && v.State == fieldgate.LifecycleActive {
			old, err := readContract(ctx, tx, v.API, v.Version)
			if err != nil {
				return nil, err
			}
			deprecate(old, sunset, p.Contract.Version)
			return []*fieldgate.Contract{old}, nil
		}
	}
	return nil, nil
}

// deprecate notes since when a version is deprecated, for its callers (RFC 9745).
func deprecate(k *fieldgate.Contract, sunset, successor string) {
	if k.State != fieldgate.LifecycleDeprecated || k.Deprecated == "" {
		k.Deprecated = time.Now().UTC().Format(time.DateOnly)
	}
	k.State, k.Sunset, k.Successor = fieldgate.LifecycleDeprecated, sunset, successor
}

func (p *Plan) warn(format, remedy string, arguments ...any) {
	p.Warnings = append(p.Warnings, contract.Diagnostic{Severity: contract.SeverityWarning, Message: fmt.Sprintf(format, arguments...), Remedy: remedy})
}

func isServed(state fieldgate.Lifecycle) bool {
	return state == fieldgate.LifecycleActive || state == fieldgate.LifecycleDeprecated
}

// takeOver reads the live versions of the same API that a contract takes the place of, oldest publication first; routes of another
// API are a *ConflictError.
func takeOver(ctx context.Context, tx *store.Tx, candidate *fieldgate.Contract, routes *contract.Routes) (superseded []*fieldgate.Contract, err error) {
	if candidate.State == fieldgate.LifecycleRetired {
		return nil, nil // it serves nothing
	}
	var foreign []contract.Conflict
	replaced := make(map[string]bool)
	for _, conflict := range routes.Conflicts(candidate) {
		if conflict.Superseding {
			replaced[conflict.LiveVersion] = true
		} else {
			foreign = append(foreign, conflict)
		}
	}
	if foreign != nil {
		return nil, &ConflictError{foreign}
	}
	if len(replaced) == 0 {
		return nil, nil
	}
	versions, err := versionsOf(ctx, tx, candidate.API)
	if err != nil {
		return nil, err
	}
	for _, v := range slices.Backward(versions) {
		if replaced[v.Version] {
			old, err := readContract(ctx, tx, v.API, v.Version)
			if err != nil {
				return nil, err
			}
			superseded = append(superseded, old)
		}
	}
	return superseded, nil
}

// facts is what the audit keeps of a version before and after a decision.
type facts struct {
	State      fieldgate.Lifecycle `json:"state"`
	Title      string              `json:"title"`
	Digest     string              `json:"digest"`
	Operations int                 `json:"operations"`
	Sunset     string              `json:"sunset,omitempty"`
	Successor  string              `json:"successor,omitempty"`
}

func contractFacts(k *fieldgate.Contract) facts {
	return facts{k.State, k.Title, k.Digest, len(k.Operations), k.Sunset, k.Successor}
}

func name(c *fieldgate.Contract) string { return c.API + " " + c.Version }

// Deprecate keeps serving a version and tells its callers that it will end. sunset is a date (RFC 3339 full-date), which
// may be empty, as may successor.
func (c *Catalog) Deprecate(ctx context.Context, api, version, sunset, successor string, match uint64) (*Version, error) {
	if _, err := time.Parse(time.DateOnly, sunset); sunset != "" && err != nil {
		return nil, refusal.Invalid("%.40q is no date: write it as 2027-06-30.", sunset)
	}
	return c.decide(ctx, "api.deprecate", api, version, match, func(tx *store.Tx, k *fieldgate.Contract) (change, error) {
		if !isServed(k.State) {
			return change{}, refusal.Conflict("%s is %s, so that it is not served: restore it first.", name(k), k.State)
		}
		if successor != "" {
			if _, err := readVersion(ctx, tx, api, successor); err != nil {
				return change{}, err
			}
		}
		changed := k.State != fieldgate.LifecycleDeprecated || k.Sunset != sunset || k.Successor != successor
		deprecate(k, sunset, successor)
		return change{made: changed}, nil
	})
}

// Retire ends a version; its callers are answered 410 Gone.
func (c *Catalog) Retire(ctx context.Context, api, version string, match uint64) (*Version, error) {
	return c.decide(ctx, "api.retire", api, version, match, func(_ *store.Tx, k *fieldgate.Contract) (change, error) {
		changed := k.State != fieldgate.LifecycleRetired
		k.State = fieldgate.LifecycleRetired
		return change{made: changed}, nil
	})
}

// Restore makes a version active again. Versions of the same API that stand in its place are superseded.
func (c *Catalog) Restore(ctx context.Context, api, version string, match uint64) (*Version, error) {
	return c.decide(ctx, "api.restore", api, version, match, func(tx *store.Tx, k *fieldgate.Contract) (change, error) {
		if k.State == fieldgate.LifecycleActive {
			return change{}, nil
		}
		k.State, k.Deprecated, k.Sunset, k.Successor = fieldgate.LifecycleActive, "", "", ""
		routes, release, err := c.live.routes(ctx, tx)
		if err != nil {
			return change{}, err
		}
		defer release()
		superseded, err := takeOver(ctx, tx, k, routes)
		if err != nil {
			return change{}, err
		}
		restored := change{made: true, others: superseded}
		for _, old := range superseded {
			old.State = fieldgate.LifecycleSuperseded
			restored.detail += name(old) + " is superseded "
		}
		return restored, nil
	})
}

// change is what a decision does to a version.
type change struct {
	made   bool                  // something is new
	detail string                // for the audit
	others []*fieldgate.Contract // further versions that change with it
}

// decide carries out one decision about a version.
func (c *Catalog) decide(ctx context.Context, action, api, version string, match uint64, alter func(*store.Tx, *fieldgate.Contract) (change, error)) (decided *Version, err error) {
	var altered change
	if api == OwnName {
		return nil, refusal.Conflict("%s is Fieldgate's own API: it is part of the program, and served while it runs.", OwnName)
	}
	err = c.store.Update(ctx, func(tx *store.Tx) error {
		if err := checkChange(ctx, tx, api, match); err != nil {
			return err
		}
		k, err := readContract(ctx, tx, api, version)
		if err != nil {
			return err
		}
		before := contractFacts(k)
		if altered, err = alter(tx, k); err != nil {
			return err
		}
		if altered.made {
			snapshot, err := tx.Next(ctx, "snapshot")
			if err != nil {
				return err
			}
			for _, one := range append(altered.others, k) {
				if err := updateContract(ctx, tx, one, snapshot); err != nil {
					return err
				}
			}
			if err := audit.Write(ctx, tx, audit.Change{Action: action, Target: name(k), Detail: strings.TrimSpace(altered.detail), Before: before, After: contractFacts(k)}); err != nil {
				return err
			}
		}
		decided, err = readVersion(ctx, tx, api, version)
		return err
	})
	if err != nil {
		return nil, err
	}
	if altered.made {
		c.nudge()
	}
	return decided, nil
}

// nudge tells the gateways and those who watch decisions, after a commit, that there is a new snapshot. One that is lost only costs time: they ask on
// their own, too.
func (c *Catalog) nudge() {
	if err := c.bus.Publish(fieldgate.SubjectSnapshotChanged, nil); err != nil {
		c.log.Warn("gateways were not told of a new snapshot", "error", err)
	}
	audit.Nudge(c.bus, c.log)
}

// Serve answers gateways until stop is called.
func (c *Catalog) Serve() (stop func(), err error) {
	stopManifest, err := c.bus.Serve(fieldgate.SubjectSnapshotManifest, func([]byte) (bus.Answer, error) {
		manifest, err := c.manifest(context.Background())
		if err != nil {
			return bus.Answer{}, err
		}
		encoded, err := json.Marshal(manifest)
		return bus.Answer{Data: encoded}, err
	})
	if err != nil {
		return nil, err
	}
	stopContract, err := c.bus.Serve(fieldgate.SubjectSnapshotContract, func(request []byte) (bus.Answer, error) {
		var asked fieldgate.ContractRequest
		if err := json.Unmarshal(request, &asked); err != nil || asked.Offset < 0 || len(asked.More) > fieldgate.MaxMoreContracts {
			return bus.Answer{}, errors.New("malformed request")
		}
		return c.contracts(context.Background(), &asked)
	})
	if err != nil {
		stopManifest()
		return nil, err
	}
	return func() { stopManifest(); stopContract() }, nil
}
