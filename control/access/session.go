package access

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

const (
	sessionSecretBytes = 32
	sessionSecretChars = 43 // in base64url without padding

	maxSessions   = 50 // of one account; the one that was used longest ago gives way
	maxAgentBytes = 256
)

// Client is where a request comes from.
type Client struct {
	Source  string // address without port; "socket" for the socket file
	Agent   string // what the browser calls itself
	Request string // id of the request
}

// Started is a session that has begun. Secret is what its cookie holds; only its hash is kept.
type Started struct {
	Caller Caller
	Secret string
}

// SignIn begins a session by name and password. A name that is not there costs the same work, and has the same answer, as a
// wrong password.
func (o *Operators) SignIn(ctx context.Context, name, password string, client Client) (*Started, error) {
	restore, err := o.limits.password(client.Source, name, time.Now())
	if err != nil {
		return nil, err
	}
	var account *Account
	if checkName(name) == nil {
		if account, err = o.Account(ctx, name); err != nil && !isRefused(err, refusal.CodeNotFound) {
			restore()
			return nil, err
		}
	}
	hash := ""
	if account != nil && account.State == AccountActive {
		hash = account.password
	}
	right, outdated, err := o.passwords.verify(ctx, hash, password[:min(len(password), maxPasswordBytes)])
	if err != nil {
		restore()
		return nil, err
	}
	if !right || len(password) > maxPasswordBytes {
		if account == nil {
			// What somebody typed into the wrong field is not for the audit.
			name = ""
		}
		return nil, o.refuseSignIn(ctx, name, "wrong name or password", client)
	}
	restore()
	better := ""
	if outdated {
		if better, err = o.passwords.hash(ctx, password); err != nil {
			return nil, err
		}
	}
	return o.start(ctx, name, "password", client, func(tx *store.Tx) (Kind, error) {
		present, err := readAccount(ctx, tx, name)
		if err != nil && !isRefused(err, refusal.CodeNotFound) {
			return "", err
		}
		// The decision about the account may have come while the hash was computed.
		if err != nil || present.State != AccountActive || present.password != account.password {
			return "", errSignIn
		}
		if better != "" {
			_, err = tx.ExecContext(ctx, "UPDATE operator_account SET password = ? WHERE name = ?", better, name)
		}
		return KindOperator, err
	})
}

// Redeem begins a session by a one-time token: that of a first sign-in, or an invitation, whose session may only set a password.
func (o *Operators) Redeem(ctx context.Context, token string, client Client) (*Started, error) {
	if err := o.limits.secret(client.Source, time.Now()); err != nil {
		return nil, err
	}
	var account string
	valid := false
	if strings.HasPrefix(token, fieldgate.PrefixSignIn) && fieldgate.WellFormedToken([]byte(token)) {
		// Only one of those who redeem it at the same moment deletes the row.
		err := o.store.Update(ctx, func(tx *store.Tx) error {
			var expires int64
			err := tx.QueryRowContext(ctx, "DELETE FROM operator_link WHERE hash = ? RETURNING account, expires", hashOf(token)).Scan(&account, &expires)
			valid = err == nil && expires > tx.Now.UnixMilli()
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if !valid {
		o.limits.secretFailed(client.Source, time.Now())
		return nil, o.refuseSignIn(ctx, account, "unknown, used or expired link", client)
	}
	if account == "" {
		return o.start(ctx, "", "first sign-in", client, func(tx *store.Tx) (Kind, error) {
			claimed, err := isClaimed(ctx, tx)
			if err == nil && claimed {
				err = errSignIn
			}
			return KindSetup, err
		})
	}
	return o.start(ctx, account, "invitation", client, func(tx *store.Tx) (Kind, error) {
		present, err := readAccount(ctx, tx, account)
		if isRefused(err, refusal.CodeNotFound) || err == nil && present.State == AccountDisabled {
			err = errSignIn
		}
		return KindInvited, err
	})
}

func (o *Operators) refuseSignIn(ctx context.Context, name, detail string, client Client) error {
	if !o.limits.list(time.Now()) {
		return errSignIn
	}
	others := o.limits.unlisted.Swap(0)
	if others > 0 {
		detail += fmt.Sprintf("; %d more since the one before are not listed", others)
	}
	ctx = audit.As(ctx, audit.Actor{Name: NameAnonymous, Source: client.Source, Request: client.Request})
	err := o.update(ctx, func(tx *store.Tx) error {
		return audit.Write(ctx, tx, audit.Change{Action: "session.refuse", Target: name, Detail: detail})
	})
	if err != nil {
		o.limits.unlisted.Add(others)
		return err
	}
	return errSignIn
}

// start begins a session in the transaction that makes sure that it may begin.
func (o *Operators) start(ctx context.Context, account, by string, client Client, allow func(*store.Tx) (Kind, error)) (*Started, error) {
	name := account
	if name == "" {
		name = NameSetup
	}
	ctx = audit.As(ctx, audit.Actor{Name: name, Via: by, Source: client.Source, Request: client.Request})
	var started *Started
	err := o.update(ctx, func(tx *store.Tx) error {
		kind, err := allow(tx)
		if err != nil {
			return err
		}
		if started, err = insertSession(ctx, tx, account, kind, client); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Change{Action: "session.start", Target: name, Detail: by, After: sessionFacts{started.Caller.ID, kind}})
	})
	if err != nil {
		return nil, err
	}
	return started, nil
}

type sessionFacts struct {
	Session string `json:"session"`
	Kind    Kind   `json:"kind"`
}

func insertSession(ctx context.Context, tx *store.Tx, account string, kind Kind, client Client) (*Started, error) {
	random := make([]byte, sessionSecretBytes)
	rand.Read(random) // never fails
	secret := base64.RawURLEncoding.EncodeToString(random)
	now := tx.Now.UnixMilli()
	lifetime := map[Kind]time.Duration{KindSetup: setupLifetime, KindInvited: invitedLifetime, KindOperator: sessionLifetime}[kind]
	for _, statement := range []struct {
		text   string
		values []any
	}{
		{"DELETE FROM operator_session WHERE expires <= ?", []any{now}},
		{"DELETE FROM operator_session WHERE account = ? AND used <= ?", []any{account, now - sessionIdle.Milliseconds()}},
		{`DELETE FROM operator_session WHERE id IN (
			SELECT id FROM operator_session WHERE account = ? ORDER BY used DESC, id LIMIT 1000 OFFSET ?)`, []any{account, maxSessions - 1}},
		{"INSERT INTO operator_session (id, hash, account, kind, source, agent, created, used, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			[]any{newID(), hashOf(secret), account, kind, client.Source, plainAgent(client.Agent), now, now, now + lifetime.Milliseconds()}},
		{"UPDATE operator_account SET seen = ? WHERE name = ?", []any{now, account}},
	} {
		if _, err := tx.ExecContext(ctx, statement.text, statement.values...); err != nil {
			return nil, err
		}
	}
	caller, err := findSession(ctx, tx, "s.hash", hashOf(secret))
	if err != nil {
		return nil, err
	}
	return &Started{Caller: *caller, Secret: secret}, nil
}

// plainAgent keeps what a browser says of itself from being anything but a short text.
func plainAgent(agent string) string {
	agent = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(agent[:min(len(agent), maxAgentBytes)], ""))
	return agent
}

// SignOut ends the session of a caller; it is nothing where there is none.
func (o *Operators) SignOut(ctx context.Context, caller *Caller) error {
	return o.update(ctx, func(tx *store.Tx) error { return endSession(ctx, tx, caller.ID, caller.Account, "sign-out") })
}

func endSession(ctx context.Context, tx *store.Tx, id, account, detail string) error {
	var kind Kind
	err := tx.QueryRowContext(ctx, "DELETE FROM operator_session WHERE id = ? RETURNING kind", id).Scan(&kind)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return audit.Write(ctx, tx, audit.Change{Action: "session.end", Target: account, Detail: detail, Before: sessionFacts{id, kind}})
}

// EndSession ends a session: an own one, or as owner anybody's.
func (o *Operators) EndSession(ctx context.Context, caller *Caller, id string) error {
	return o.update(ctx, func(tx *store.Tx) error {
		var account string
		err := tx.QueryRowContext(ctx, "SELECT account FROM operator_session WHERE id = ?", id).Scan(&account)
		if account == "" {
			account = NameSetup
		}
		if errors.Is(err, sql.ErrNoRows) || err == nil && !caller.owns(account) {
			return refusal.NotFound("There is no session %.100q of yours.", id)
		}
		if err != nil {
			return err
		}
		return endSession(ctx, tx, id, account, "")
	})
}

// Sessions is one page of open sessions in the order of their ids, after one: those of the caller, or as owner all.
func (o *Operators) Sessions(ctx context.Context, caller *Caller, after string, limit int) (page []*Caller, err error) {
	err = o.store.View(ctx, func(tx *store.Tx) error {
		page = nil
		now := tx.Now.UnixMilli()
		query, values := sessionQuery+" WHERE s.id > ? AND s.expires > ? AND s.used > ?", []any{after, now, now - sessionIdle.Milliseconds()}
		if !caller.May(ScopeAccessWrite) {
			query, values = query+" AND s.account = ?", append(values, caller.Account)
		}
		rows, err := tx.QueryContext(ctx, query+" ORDER BY s.id LIMIT ?", append(values, limit)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			session, err := scanSession(rows)
			if errors.Is(err, errUnknown) {
				continue
			}
			if err != nil {
				return err
			}
			page = append(page, session)
		}
		return rows.Err()
	})
	return page, err
}

// Claim makes the first owner, by the session of a first sign-in. All such sessions and their tokens end; the caller has a new
// session of the account.
func (o *Operators) Claim(ctx context.Context, caller *Caller, name, password string, client Client) (started *Started, err error) {
	if caller.Kind != KindSetup {
		return nil, refusal.Forbidden("Only the session of a first sign-in claims an installation: run \"fieldgate sign-in\", and open its link.")
	}
	if err := errors.Join(checkName(name), checkPassword(name, password)); err != nil {
		return nil, err
	}
	hash, err := o.passwords.hash(ctx, password)
	if err != nil {
		return nil, err
	}
	err = o.update(ctx, func(tx *store.Tx) error {
		claimed, err := isClaimed(ctx, tx)
		if err != nil {
			return err
		}
		if claimed {
			return refusal.Conflict("The installation has been claimed by somebody else a moment ago.")
		}
		var taken bool
		if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM operator_account WHERE name = ?)", name).Scan(&taken); err != nil {
			return err
		}
		if taken {
			return refusal.Conflict("There is an operator %q already, who has been invited: choose another name.", name)
		}
		account := &Account{Name: name, Role: RoleOwner, State: AccountActive, password: hash}
		if err := insertAccount(ctx, tx, account); err != nil {
			return err
		}
		if err := endSetup(ctx, tx, account); err != nil {
			return err
		}
		if started, err = insertSession(ctx, tx, name, KindOperator, client); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Change{Action: "operator.claim", Target: name, After: account.facts()})
	})
	if err != nil {
		return nil, err
	}
	o.forgetSignInToken()
	return started, nil
}

// SetPassword sets the caller's own password: with the present one, or after an invitation. All sessions of the account end; the
// caller has a new one.
func (o *Operators) SetPassword(ctx context.Context, caller *Caller, current, password string, client Client) (started *Started, err error) {
	if caller.Kind != KindInvited && caller.Kind != KindOperator {
		return nil, refusal.Forbidden("A password belongs to an account: sign in by name, or by an invitation.")
	}
	if err := checkPassword(caller.Account, password); err != nil {
		return nil, err
	}
	var known *Account
	if caller.Kind == KindOperator {
		restore, err := o.limits.password(client.Source, caller.Account, time.Now())
		if err != nil {
			return nil, err
		}
		if known, err = o.Account(ctx, caller.Account); err != nil {
			restore()
			return nil, err
		}
		right, _, err := o.passwords.verify(ctx, known.password, current[:min(len(current), maxPasswordBytes)])
		if err != nil {
			restore()
			return nil, err
		}
		if !right {
			return nil, refusal.Forbidden("The present password is wrong.")
		}
		restore()
	}
	hash, err := o.passwords.hash(ctx, password)
	if err != nil {
		return nil, err
	}
	err = o.update(ctx, func(tx *store.Tx) error {
		account, err := readAccount(ctx, tx, caller.Account)
		if err != nil {
			return err
		}
		if account.State == AccountDisabled || known != nil && account.password != known.password {
			return refusal.Conflict("Somebody else has just decided about this account: sign in again.")
		}
		before := account.facts()
		account.State, account.password = AccountActive, hash
		if err := saveAccount(ctx, tx, account); err != nil {
			return err
		}
		if err := signOutEverywhere(ctx, tx, account.Name); err != nil {
			return err
		}
		if err := endSetup(ctx, tx, account); err != nil {
			return err
		}
		if started, err = insertSession(ctx, tx, account.Name, KindOperator, client); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Change{Action: "operator.password", Target: account.Name, Before: before, After: account.facts()})
	})
	if err != nil {
		return nil, err
	}
	if started.Caller.Role == RoleOwner {
		o.forgetSignInToken()
	}
	return started, nil
}

// forgetSignInToken removes a file whose token no longer works.
func (o *Operators) forgetSignInToken() {
	if err := removeFile(o.SignInTokenPath()); err != nil {
		o.log.Warn("a token that no longer works was not removed", "error", err)
	}
}
