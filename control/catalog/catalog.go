// Package catalog decides about APIs: which versions of which contracts are published, in which state of their lifecycle,
// and so what the Snapshot holds that gateways serve. Each decision is one transaction with its audit row and a new version
// of the snapshot.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
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

// deprecate notes since when a version is deprecated, for its callers (RFC 9745).
func deprecate(k *fieldgate.Contract, sunset, successor string) {
	if k.State != fieldgate.LifecycleDeprecated || k.Deprecated == "" {
		k.Deprecated = time.Now().UTC().Format(time.DateOnly)
	}
	k.State, k.Sunset, k.Successor = fieldgate.LifecycleDeprecated, sunset, successor
}

func isServed(state fieldgate.Lifecycle) bool {
	return state == fieldgate.LifecycleActive || state == fieldgate.LifecycleDeprecated
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
		if conflicts := foreignConflicts(routes, k); len(conflicts) > 0 {
			return change{}, &ConflictError{conflicts}
		}
		versions, err := versionsOf(ctx, tx, api)
		if err != nil {
			return change{}, err
		}
		restored := change{made: true}
		for _, v := range supersededBy(routes, k, versions) {
			old, err := readContract(ctx, tx, v.API, v.Version)
			if err != nil {
				return change{}, err
			}
			old.State = fieldgate.LifecycleSuperseded
			restored.others = append(restored.others, old)
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
				if _, err := updateContract(ctx, tx, one, snapshot); err != nil {
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
