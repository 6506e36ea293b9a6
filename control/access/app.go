package access

import (
	"context"
	"strings"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/directory"
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
	added = &App{Kind: fieldgate.PrincipalApp, ID: app.ID, Name: app.Name, Scopes: app.Scopes}
	if key, err = directory.Issue(added, fieldgate.PrefixApp, false); err != nil {
		return nil, "", err
	}
	err = a.store.Update(ctx, func(tx *store.Tx) error {
		if err := directory.Insert(ctx, tx, added); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Change{Action: "app.add", Target: app.ID, After: added.Facts()})
	})
	if err != nil {
		return nil, "", err
	}
	a.directory.Nudge()
	return added, key, nil
}

// Get is one app.
func (a *Apps) Get(ctx context.Context, id string) (app *App, err error) {
	err = a.store.View(ctx, func(tx *store.Tx) error {
		app, err = directory.Find(ctx, tx, fieldgate.PrincipalApp, id)
		return err
	})
	return app, err
}

// List is one page of apps in the order of their ids.
func (a *Apps) List(ctx context.Context, filter directory.Filter) ([]*App, error) {
	filter.Kind = fieldgate.PrincipalApp
	return directory.List(ctx, a.store, filter)
}

// IssueKey issues a new key; the older ones stop working unless they are kept.
func (a *Apps) IssueKey(ctx context.Context, id string, keep bool) (app *App, key string, err error) {
	err = a.store.Update(ctx, func(tx *store.Tx) error {
		if app, err = directory.Find(ctx, tx, fieldgate.PrincipalApp, id); err != nil {
			return err
		}
		if app.State == fieldgate.StateRevoked {
			return refusal.Conflict("The app %q is revoked for good: register it under another id.", id)
		}
		before := app.Facts()
		if key, err = directory.Issue(app, fieldgate.PrefixApp, keep); err != nil {
			return err
		}
		if err := directory.Save(ctx, tx, app); err != nil {
			return err
		}
		detail := ""
		if keep {
			detail = "older ones kept"
		}
		return audit.Write(ctx, tx, audit.Change{Action: "app.key", Target: id, Detail: detail, Before: before, After: app.Facts()})
	})
	if err != nil {
		return nil, "", err
	}
	a.directory.Nudge()
	return app, key, nil
}

// Revoke shuts an app out for good and deletes its keys.
func (a *Apps) Revoke(ctx context.Context, id string) (app *App, err error) {
	err = a.store.Update(ctx, func(tx *store.Tx) error {
		if app, err = directory.Find(ctx, tx, fieldgate.PrincipalApp, id); err != nil || app.State == fieldgate.StateRevoked {
			return err
		}
		before := app.Facts()
		app.State, app.Credentials = fieldgate.StateRevoked, nil
		if err := directory.Save(ctx, tx, app); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Change{Action: "app.revoke", Target: id, Before: before, After: app.Facts()})
	})
	if err != nil {
		return nil, err
	}
	a.directory.Nudge()
	return app, nil
}
