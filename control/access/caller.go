package access

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// Kind says how a caller is known.
type Kind string

// The kinds of callers.
const (
	KindSetup    Kind = "setup"    // by the session of a first sign-in
	KindInvited  Kind = "invited"  // by the session of an invitation, which may only set a password
	KindOperator Kind = "operator" // by the session of an account
	KindToken    Kind = "token"    // by an API token
	KindLocal    Kind = "local"    // by the token of the data directory
)

// Caller is who asks, as the database says at this moment.
type Caller struct {
	Kind    Kind
	Account string // or one of the reserved names
	Role    Role
	Scopes  []Scope
	ID      string // of the session or token
	Label   string // name of the token
	Created time.Time
	Seen    time.Time // to the minute
	Expires time.Time
	Source  string // of a session, where it was begun
	Agent   string
}

// May says whether a caller has a scope. An invited one has none.
func (c *Caller) May(scope Scope) bool { return slices.Contains(c.Scopes, scope) }

// Actor is the caller as the audit knows them.
func (c *Caller) Actor(source, request string) audit.Actor {
	actor := audit.Actor{Name: c.Account, Source: source, Request: request}
	switch c.Kind {
	case KindLocal:
		actor.Via = "local"
	case KindToken:
		actor.Via = "token " + c.Label
	default:
		actor.Via = "session"
	}
	return actor
}

// owns says whether a caller may look at, and end, sessions and tokens of an account.
func (c *Caller) owns(account string) bool { return account == c.Account || c.May(ScopeAccessWrite) }

const (
	sessionIdle     = 12 * time.Hour
	sessionLifetime = 7 * 24 * time.Hour
	setupLifetime   = 12 * time.Hour
	invitedLifetime = time.Hour

	// seenInterval is how often the last use of a session or token is written, and seenTimeout how long a request waits for that.
	seenInterval = time.Minute
	seenTimeout  = time.Second
)

// errUnknown refuses a token or session, whatever is wrong with it.
var errUnknown = refusal.Unauthenticated("The token or session is unknown, or no longer valid: sign in again, or send a valid token.")

// Bearer is the caller who presents an API token, or the token of the data directory.
func (o *Operators) Bearer(ctx context.Context, token, source string) (*Caller, error) {
	if o.local.Verify([]byte(token)) {
		return &Caller{Kind: KindLocal, Account: Name, Role: RoleOwner, Scopes: RoleOwner.Scopes()}, nil
	}
	if !strings.HasPrefix(token, fieldgate.PrefixOperator) || !fieldgate.WellFormedToken([]byte(token)) {
		return nil, errUnknown
	}
	return o.identify(ctx, source, "operator_token", hashOf(token), func(tx *store.Tx, hash []byte) (*Caller, error) {
		return findToken(ctx, tx, "t.hash", hash)
	})
}

// findToken is who has an API token that is valid; errUnknown where it is not, or its account is not active.
func findToken(ctx context.Context, tx *store.Tx, column string, value any) (*Caller, error) {
	c := Caller{Kind: KindToken}
	var scopes string
	var role, state sql.NullString
	var created, used, expires, revoked int64
	err := tx.QueryRowContext(ctx, `
		SELECT t.id, t.account, t.name, t.scopes, t.created, t.used, t.expires, t.revoked, a.role, a.state
		FROM operator_token t LEFT JOIN operator_account a ON a.name = t.account WHERE `+column+" = ?", value).
		Scan(&c.ID, &c.Account, &c.Label, &scopes, &created, &used, &expires, &revoked, &role, &state)
	if err != nil {
		return nil, err
	}
	c.Role = Role(role.String)
	active := AccountState(state.String) == AccountActive
	if c.Account == Name {
		c.Role, active = RoleOwner, true
	}
	if revoked != 0 || expires <= tx.Now.UnixMilli() || !active {
		return nil, errUnknown
	}
	// What the role no longer has, the token has not either.
	for _, scope := range c.Role.Scopes() {
		if slices.Contains(strings.Fields(scopes), string(scope)) {
			c.Scopes = append(c.Scopes, scope)
		}
	}
	c.Created, c.Seen, c.Expires = fromMillis(created), fromMillis(used), fromMillis(expires)
	return &c, nil
}

// Session is the caller who presents the secret of a session.
func (o *Operators) Session(ctx context.Context, secret, source string) (*Caller, error) {
	if len(secret) != sessionSecretChars {
		return nil, errUnknown
	}
	return o.identify(ctx, source, "operator_session", hashOf(secret), func(tx *store.Tx, hash []byte) (*Caller, error) {
		return findSession(ctx, tx, "s.hash", hash)
	})
}

// findSession is who has a session that is open; errUnknown where it is not, or its account does not let it in any more.
func findSession(ctx context.Context, tx *store.Tx, column string, value any) (*Caller, error) {
	c, err := scanSession(tx.QueryRowContext(ctx, sessionQuery+" WHERE "+column+" = ?", value))
	if err != nil {
		return nil, err
	}
	if !c.Expires.After(tx.Now) || !c.Seen.Add(sessionIdle).After(tx.Now) {
		return nil, errUnknown
	}
	return c, nil
}

const sessionQuery = `SELECT s.id, s.account, s.kind, s.source, s.agent, s.created, s.used, s.expires, a.role, a.state
	FROM operator_session s LEFT JOIN operator_account a ON a.name = s.account`

// scanSession is a session as a caller; errUnknown where its account does not let it in any more.
func scanSession(row interface{ Scan(...any) error }) (*Caller, error) {
	var c Caller
	var role, state sql.NullString
	var created, used, expires int64
	if err := row.Scan(&c.ID, &c.Account, &c.Kind, &c.Source, &c.Agent, &created, &used, &expires, &role, &state); err != nil {
		return nil, err
	}
	c.Created, c.Seen, c.Expires, c.Role = fromMillis(created), fromMillis(used), fromMillis(expires), Role(role.String)
	switch {
	case c.Kind == KindSetup:
		c.Account, c.Role, c.Scopes = NameSetup, RoleOwner, RoleOwner.Scopes()
	case AccountState(state.String) == AccountDisabled || !role.Valid:
		return nil, errUnknown
	case c.Kind == KindOperator:
		c.Scopes = c.Role.Scopes()
	}
	return &c, nil
}

// identify looks a secret up by its hash, bounds the failures of a source, and notes when the secret was used.
func (o *Operators) identify(ctx context.Context, source, table string, hash []byte, find func(*store.Tx, []byte) (*Caller, error)) (caller *Caller, err error) {
	if err := o.limits.secret(source, time.Now()); err != nil && !o.limits.known.has(hash) {
		return nil, err
	}
	now := time.Time{}
	err = o.store.View(ctx, func(tx *store.Tx) error {
		now = tx.Now
		caller, err = find(tx, hash)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) || errors.Is(err, errUnknown) {
		o.limits.secretFailed(source, time.Now())
		return nil, errUnknown
	}
	if err != nil {
		return nil, err
	}
	o.limits.known.add(hash)
	if now.Sub(caller.Seen) >= seenInterval {
		o.noteUse(ctx, table, hash, caller.Account)
		caller.Seen = now.Truncate(time.Millisecond)
	}
	return caller, nil
}

// noteUse may fail: then the next request tries again.
func (o *Operators) noteUse(ctx context.Context, table string, hash []byte, account string) {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	err := o.store.Update(ctx, func(tx *store.Tx) error {
		now := tx.Now.UnixMilli()
		if _, err := tx.ExecContext(ctx, "UPDATE "+table+" SET used = ? WHERE hash = ? AND used <= ?", now, hash, now-seenInterval.Milliseconds()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE operator_account SET seen = ? WHERE name = ? AND seen < ?", now, account, now)
		return err
	})
	if err != nil {
		o.log.Debug("the use of a session or token was not noted", "error", err)
	}
}

// Present is a caller as the database says now, without counting as a use: for requests that last.
func (o *Operators) Present(ctx context.Context, caller *Caller) (present *Caller, err error) {
	if caller.Kind == KindLocal {
		return caller, nil
	}
	find := findSession
	column := "s.id"
	if caller.Kind == KindToken {
		find, column = findToken, "t.id"
	}
	err = o.store.View(ctx, func(tx *store.Tx) error {
		present, err = find(ctx, tx, column, caller.ID)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = errUnknown
	}
	return present, err
}
