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
	"fieldgate/control/directory"
	"fieldgate/control/filter"
	"fieldgate/control/once"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

const (
	defaultTokenDays = 90
	maxTokenDays     = 400
	maxTokens        = 100 // valid at once, of one account
	tokenMemory      = 90 * 24 * time.Hour
)

// TokenState says whether an API token works.
type TokenState string

// The states of an API token.
const (
	TokenActive  TokenState = "active"
	TokenExpired TokenState = "expired"
	TokenRevoked TokenState = "revoked"
)

// Token is an API token. It can do no more than its operator may, whatever its scopes.
type Token struct {
	ID      string
	Account string
	Name    string
	Scopes  []Scope
	State   TokenState
	Created time.Time
	Used    time.Time // to the minute; zero: never
	Expires time.Time
}

type tokenFacts struct {
	Token   string     `json:"token"`
	Name    string     `json:"name"`
	Scopes  []Scope    `json:"scopes"`
	State   TokenState `json:"state"`
	Expires time.Time  `json:"expires"`
}

func (t *Token) facts() tokenFacts { return tokenFacts{t.ID, t.Name, t.Scopes, t.State, t.Expires} }

// AddToken makes an API token for the caller, which is shown only here. It expires after so many days; 0 stands for 90.
func (o *Operators) AddToken(ctx context.Context, caller *Caller, name string, scopes []Scope, days int) (token *Token, secret string, err error) {
	if caller.Kind != KindOperator && caller.Kind != KindLocal {
		return nil, "", refusal.Forbidden("An API token is made by an operator who signed in, or with the token of the data directory.")
	}
	if err := directory.CheckText("name", name); err != nil {
		return nil, "", err
	}
	if strings.TrimSpace(name) == "" {
		return nil, "", refusal.Invalid("An API token needs a name that says what it is for.")
	}
	if days == 0 {
		days = defaultTokenDays
	}
	if days < 1 || days > maxTokenDays {
		return nil, "", refusal.Invalid("An API token lasts from 1 to %d days.", maxTokenDays)
	}
	granted, err := grant(caller, scopes)
	if err != nil {
		return nil, "", err
	}
	if secret, err = fieldgate.NewToken(fieldgate.PrefixOperator); err != nil {
		return nil, "", err
	}
	answer := struct {
		Token  *Token
		Secret string
	}{}
	err = o.update(ctx, func(tx *store.Tx) error {
		return once.Do(ctx, tx, &answer, func() error {
			now := fromMillis(tx.Now.UnixMilli())
			answer.Secret = secret
			answer.Token = &Token{ID: newID(), Account: caller.Account, Name: name, Scopes: granted, State: TokenActive,
				Created: now, Expires: now.AddDate(0, 0, days)}
			return insertToken(ctx, tx, answer.Token, secret)
		})
	})
	if err != nil {
		return nil, "", err
	}
	return answer.Token, answer.Secret, nil
}

func insertToken(ctx context.Context, tx *store.Tx, token *Token, secret string) error {
	now := token.Created.UnixMilli()
	if _, err := tx.ExecContext(ctx, "DELETE FROM operator_token WHERE account = ? AND expires <= ?", token.Account, now-tokenMemory.Milliseconds()); err != nil {
		return err
	}
	var valid int
	err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM operator_token WHERE account = ? AND revoked = 0 AND expires > ?", token.Account, now).Scan(&valid)
	if err != nil {
		return err
	}
	if valid >= maxTokens {
		return refusal.Conflict("%s has %d valid API tokens, which is the most: revoke one first.", token.Account, valid)
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO operator_token (id, hash, account, name, scopes, created, used, expires, revoked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		token.ID, hashOf(secret), token.Account, token.Name, joinScopes(token.Scopes), now, 0, token.Expires.UnixMilli(), 0)
	if err != nil {
		return err
	}
	return audit.Write(ctx, tx, audit.Change{Action: "token.add", Target: token.Account, Detail: token.Name, After: token.facts()})
}

// grant is the scopes of a token, in the usual order: no more than the caller has.
func grant(caller *Caller, scopes []Scope) (granted []Scope, err error) {
	for _, scope := range RoleOwner.Scopes() {
		if slices.Contains(scopes, scope) {
			granted = append(granted, scope)
		}
	}
	for _, scope := range scopes {
		if !slices.Contains(granted, scope) {
			return nil, refusal.Invalid("%.60q is no scope: choose among %s.", string(scope), joinScopes(RoleOwner.Scopes()))
		}
		if !caller.May(scope) {
			return nil, refusal.Forbidden("A token can do no more than you: the scope %s needs the role %s.", scope, RolesWith(scope))
		}
	}
	if granted == nil {
		return nil, refusal.Invalid("An API token needs a scope: choose among %s.", joinScopes(caller.Scopes))
	}
	return granted, nil
}

func joinScopes(scopes []Scope) string {
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		names[i] = string(scope)
	}
	return strings.Join(names, " ")
}

// TokenKeys is what the list of API tokens is filtered by; words are searched in names.
var TokenKeys = []filter.Key{{Name: "operator"}, {Name: "state", Values: []string{string(TokenActive), string(TokenExpired), string(TokenRevoked)}}}

// Tokens is one page of API tokens in the order of their ids, after one: those of the caller, or as owner all. Revoked and expired
// ones are listed for a while.
func (o *Operators) Tokens(ctx context.Context, caller *Caller, terms filter.Filter, after string, limit int) (page []*Token, err error) {
	err = o.store.View(ctx, func(tx *store.Tx) error {
		page = nil
		query, values := "SELECT "+tokenColumns+" FROM operator_token WHERE id > ?", []any{after}
		if !caller.May(ScopeAccessWrite) {
			query, values = query+" AND account = ?", append(values, caller.Account)
		}
		conditions, filtered := terms.Where(tokenKeyColumns(tx.Now), "name")
		if conditions != "" {
			query, values = query+" AND "+conditions, append(values, filtered...)
		}
		rows, err := tx.QueryContext(ctx, query+" ORDER BY id LIMIT ?", append(values, limit)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			token, err := scanToken(rows, tx.Now)
			if err != nil {
				return err
			}
			page = append(page, token)
		}
		return rows.Err()
	})
	return page, err
}

// tokenKeyColumns has the state as an expression: it follows from the time.
func tokenKeyColumns(now time.Time) map[string]filter.Column {
	state := "CASE WHEN revoked <> 0 THEN 'revoked' WHEN expires <= " + millisText(now) + " THEN 'expired' ELSE 'active' END"
	return map[string]filter.Column{"operator": {Name: "account"}, "state": {Name: state}}
}

const tokenColumns = "id, account, name, scopes, created, used, expires, revoked"

func scanToken(row interface{ Scan(...any) error }, now time.Time) (*Token, error) {
	var t Token
	var scopes string
	var created, used, expires, revoked int64
	if err := row.Scan(&t.ID, &t.Account, &t.Name, &scopes, &created, &used, &expires, &revoked); err != nil {
		return nil, err
	}
	for _, scope := range strings.Fields(scopes) {
		t.Scopes = append(t.Scopes, Scope(scope))
	}
	t.Created, t.Used, t.Expires = fromMillis(created), fromMillis(used), fromMillis(expires)
	switch {
	case revoked != 0:
		t.State = TokenRevoked
	case !t.Expires.After(now):
		t.State = TokenExpired
	default:
		t.State = TokenActive
	}
	return &t, nil
}

// RevokeToken ends an API token: an own one, or as owner anybody's.
func (o *Operators) RevokeToken(ctx context.Context, caller *Caller, id string) error {
	return o.update(ctx, func(tx *store.Tx) error {
		token, err := scanToken(tx.QueryRowContext(ctx, "SELECT "+tokenColumns+" FROM operator_token WHERE id = ?", id), tx.Now)
		if errors.Is(err, sql.ErrNoRows) || err == nil && !caller.owns(token.Account) {
			return refusal.NotFound("There is no API token %.100q of yours.", id)
		}
		if err != nil || token.State == TokenRevoked {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE operator_token SET revoked = ? WHERE id = ?", tx.Now.UnixMilli(), id); err != nil {
			return err
		}
		before := token.facts()
		token.State = TokenRevoked
		return audit.Write(ctx, tx, audit.Change{Action: "token.revoke", Target: token.Account, Detail: token.Name, Before: before, After: token.facts()})
	})
}
