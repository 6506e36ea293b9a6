package access

import (
	"context"
	"slices"
	"strings"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/directory"
	"fieldgate/control/once"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// App is a registered application.
type App = directory.Principal

// NewApp is what an app is registered with.
type NewApp struct {
	ID     string
	Name   string
	Scopes []string
}

const (
	maxScopes     = 64
	maxScopeBytes = 128
)

func (a *NewApp) validate() error {
	if err := directory.CheckID(fieldgate.PrincipalApp, a.ID); err != nil {
		return err
	}
	if err := directory.CheckText("name", a.Name); err != nil {
		return err
	}
	if len(a.Scopes) > maxScopes {
		return refusal.Invalid("An app has at most %d scopes.", maxScopes)
	}
	for _, scope := range a.Scopes {
		if !validScope(scope) {
			return refusal.Invalid("%.140q cannot be a scope: use 1 to %d printable ASCII characters without space, quote and backslash.", scope, maxScopeBytes)
		}
	}
	return nil
}

// validScope carries out the scope-token of RFC 6749 section 3.3.
func validScope(scope string) bool {
	return scope != "" && len(scope) <= maxScopeBytes &&
		!strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' })
}

// Apps is the applications of one installation.
type Apps struct {
	store     *store.Store
	directory *directory.Directory
}

// NewApps makes Apps on their store; the directory tells the gateways.
func NewApps(db *store.Store, d *directory.Directory) *Apps {
	return &Apps{store: db, directory: d}
}

// Add registers an app and issues its key, which is shown only here.
func (a *Apps) Add(ctx context.Context, app NewApp) (added *App, key string, err error) {
	if err := app.validate(); err != nil {
		return nil, "", err
	}
	var answer directory.Issued
	err = a.store.Update(ctx, func(tx *store.Tx) error {
		return once.Do(ctx, tx, &answer, func() error {
			added := &App{Kind: fieldgate.PrincipalApp, ID: app.ID, Name: app.Name, Scopes: app.Scopes}
			key, err := directory.Issue(added, fieldgate.PrefixApp, false)
			if err != nil {
				return err
			}
			answer = directory.Issued{Principal: added, Token: key}
			if err := directory.Insert(ctx, tx, added); err != nil {
				return err
			}
			return audit.Write(ctx, tx, audit.Change{Action: "app.add", Target: app.ID, After: added.Facts()})
		})
	})
	if err != nil {
		return nil, "", err
	}
	a.directory.Nudge()
	return answer.Principal, answer.Token, nil
}

// Get is one app.
func (a *Apps) Get(ctx context.Context, id string) (app *App, err error) {
	err = a.store.View(ctx, func(tx *store.Tx) error {
		app, err = directory.Find(ctx, tx, fieldgate.PrincipalApp, id)
		return err
	})
	return app, err
}

// List is one page of apps.
func (a *Apps) List(ctx context.Context, filter directory.Filter) ([]directory.Listed, error) {
	filter.Kind = fieldgate.PrincipalApp
	return directory.List(ctx, a.store, filter)
}

// Update changes the name or the scopes of an app; nil leaves a value as it is.
func (a *Apps) Update(ctx context.Context, id string, name *string, scopes *[]string, basis directory.Basis) (*App, error) {
	return a.decide(ctx, "app.update", id, "", basis, func(app *App) (bool, error) {
		after := NewApp{ID: id, Name: app.Name, Scopes: app.Scopes}
		if name != nil {
			after.Name = *name
		}
		if scopes != nil {
			after.Scopes = *scopes
		}
		if err := after.validate(); err != nil {
			return false, err
		}
		changed := app.Name != after.Name || !slices.Equal(app.Scopes, after.Scopes)
		app.Name, app.Scopes = after.Name, after.Scopes
		return changed, nil
	})
}

// IssueKey issues a new key; the older ones stop working unless they are kept.
func (a *Apps) IssueKey(ctx context.Context, id string, keep bool, basis directory.Basis) (app *App, key string, err error) {
	detail := ""
	if keep {
		detail = "older ones kept"
	}
	var answer directory.Issued
	err = a.store.Update(ctx, func(tx *store.Tx) error {
		return once.Do(ctx, tx, &answer, func() error {
			answer.Principal, _, err = decideApp(ctx, tx, "app.key", id, detail, basis, func(app *App) (bool, error) {
				if app.State == fieldgate.StateRevoked {
					return false, refusal.Conflict("The app %q is revoked for good: register it under another id.", id)
				}
				answer.Token, err = directory.Issue(app, fieldgate.PrefixApp, keep)
				return true, err
			})
			return err
		})
	})
	if err != nil {
		return nil, "", err
	}
	a.directory.Nudge()
	return answer.Principal, answer.Token, nil
}

// Revoke shuts an app out for good and deletes its keys.
func (a *Apps) Revoke(ctx context.Context, id string, basis directory.Basis) (*App, error) {
	return a.decide(ctx, "app.revoke", id, basis.Reason, basis, func(app *App) (bool, error) {
		changed := app.State != fieldgate.StateRevoked
		app.State, app.Credentials, app.Verifiers = fieldgate.StateRevoked, nil, nil
		return changed, nil
	})
}

// decide carries out one decision about an app; alter says whether it changes something.
func (a *Apps) decide(ctx context.Context, action, id, detail string, basis directory.Basis, alter func(*App) (bool, error)) (app *App, err error) {
	made := false
	err = a.store.Update(ctx, func(tx *store.Tx) error {
		app, made, err = decideApp(ctx, tx, action, id, detail, basis, alter)
		return err
	})
	if err != nil {
		return nil, err
	}
	if made {
		a.directory.Nudge()
	}
	return app, nil
}

func decideApp(ctx context.Context, tx *store.Tx, action, id, detail string, basis directory.Basis, alter func(*App) (bool, error)) (app *App, made bool, err error) {
	if app, err = directory.Find(ctx, tx, fieldgate.PrincipalApp, id); err != nil {
		return nil, false, err
	}
	if err := basis.Check(app); err != nil {
		return nil, false, err
	}
	before := app.Facts()
	if made, err = alter(app); err != nil || !made {
		return app, false, err
	}
	if err := directory.Save(ctx, tx, app); err != nil {
		return nil, false, err
	}
	return app, true, audit.Write(ctx, tx, audit.Change{Action: action, Target: id, Detail: detail, Before: before, After: app.Facts()})
}
