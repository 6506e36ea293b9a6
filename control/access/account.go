package access

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/filter"
	"fieldgate/control/once"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// AccountState says whether an operator can sign in.
type AccountState string

// The states of an account.
const (
	AccountInvited  AccountState = "invited" // has no password yet
	AccountActive   AccountState = "active"
	AccountDisabled AccountState = "disabled"
)

// Account is one operator.
type Account struct {
	Name     string
	Role     Role
	State    AccountState
	Version  int64 // rises with each change
	Created  time.Time
	Seen     time.Time // the last request, to the minute; zero: never
	Sessions int       // open
	Tokens   int       // valid

	password string // hash
}

// accountFacts is what the audit keeps of an account before and after a decision.
type accountFacts struct {
	Role  Role         `json:"role"`
	State AccountState `json:"state"`
}

func (a *Account) facts() accountFacts { return accountFacts{a.Role, a.State} }

// maxNameBytes bounds the name of an account.
const maxNameBytes = 64

var reservedNames = []string{Name, NameSetup, NameAnonymous, audit.Self}

func checkName(name string) error {
	valid := name != "" && len(name) <= maxNameBytes
	for i := 0; i < len(name) && valid; i++ {
		c := name[i]
		valid = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if !valid {
		return refusal.Invalid("%.100q cannot be the name of an operator: use 1 to %d lower-case letters, digits and . _ -, with a letter or digit first.", name, maxNameBytes)
	}
	if slices.Contains(reservedNames, name) {
		return refusal.Invalid("The name %q is reserved: choose another one.", name)
	}
	return nil
}

func checkRole(role Role) error {
	if role.Scopes() == nil {
		return refusal.Invalid("%.60q is no role: choose auditor, developer, operator or owner.", string(role))
	}
	return nil
}

// Invitation is a one-time token, which is shown only once, and the account it is for.
type Invitation struct {
	Account Account // of the first sign-in: its name is NameSetup
	Token   string
	Expires time.Time
}

// AddAccount adds an operator, who sets a password by the invitation.
func (o *Operators) AddAccount(ctx context.Context, name string, role Role) (*Invitation, error) {
	if err := errors.Join(checkName(name), checkRole(role)); err != nil {
		return nil, err
	}
	return o.invite(ctx, name, invitationLifetime, func(tx *store.Tx) (*Account, error) {
		var taken bool
		if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM operator_account WHERE name = ?)", name).Scan(&taken); err != nil {
			return nil, err
		}
		if taken {
			return nil, refusal.Conflict("There is an operator %q already.", name)
		}
		account := &Account{Name: name, Role: role, State: AccountInvited}
		if err := insertAccount(ctx, tx, account); err != nil {
			return nil, err
		}
		return account, audit.Write(ctx, tx, audit.Change{Action: "operator.add", Target: name, After: account.facts()})
	})
}

// Invite makes a one-time token by which an operator sets a new password. Earlier ones stop working, as do sessions that began by them;
// the password that there is works until then. For NameSetup it is another token of the first sign-in.
func (o *Operators) Invite(ctx context.Context, name string) (*Invitation, error) {
	if name == NameSetup {
		return o.inviteSetup(ctx)
	}
	return o.invite(ctx, name, invitationLifetime, func(tx *store.Tx) (*Account, error) {
		account, err := readAccount(ctx, tx, name)
		if err != nil {
			return nil, err
		}
		if account.State == AccountDisabled {
			return nil, refusal.Conflict("The operator %q is disabled: enable the account first.", name)
		}
		// An earlier link may have been opened by somebody else, who has not set a password yet.
		for _, statement := range []string{"DELETE FROM operator_link WHERE account = ?", "DELETE FROM operator_session WHERE account = ? AND kind = 'invited'"} {
			if _, err := tx.ExecContext(ctx, statement, name); err != nil {
				return nil, err
			}
		}
		return account, audit.Write(ctx, tx, audit.Change{Action: "operator.invite", Target: name})
	})
}

func (o *Operators) inviteSetup(ctx context.Context) (*Invitation, error) {
	invitation, err := o.invite(ctx, "", firstSignInLifetime, func(tx *store.Tx) (*Account, error) {
		claimed, err := isClaimed(ctx, tx)
		if err != nil {
			return nil, err
		}
		if claimed {
			return nil, refusal.Conflict("The installation has been claimed: sign in by name, or have an owner invite you.")
		}
		return &Account{Name: NameSetup, Role: RoleOwner, State: AccountInvited, Created: tx.Now},
			audit.Write(ctx, tx, audit.Change{Action: "operator.invite", Target: NameSetup})
	})
	return invitation, err
}

// invite adds a one-time token in the transaction that decides about its account.
func (o *Operators) invite(ctx context.Context, name string, lifetime time.Duration, decide func(*store.Tx) (*Account, error)) (*Invitation, error) {
	token, err := fieldgate.NewToken(fieldgate.PrefixSignIn)
	if err != nil {
		return nil, err
	}
	var answer Invitation
	err = o.update(ctx, func(tx *store.Tx) error {
		return once.Do(ctx, tx, &answer, func() error {
			account, err := decide(tx)
			if err != nil {
				return err
			}
			answer = Invitation{Account: *account, Token: token, Expires: tx.Now.Add(lifetime).Truncate(time.Millisecond)}
			if _, err := tx.ExecContext(ctx, "DELETE FROM operator_link WHERE expires <= ?", tx.Now.UnixMilli()); err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, "INSERT INTO operator_link (hash, account, expires) VALUES (?, ?, ?)", hashOf(token), name, answer.Expires.UnixMilli())
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return &answer, nil
}

// Account is one operator.
func (o *Operators) Account(ctx context.Context, name string) (account *Account, err error) {
	err = o.store.View(ctx, func(tx *store.Tx) error {
		account, err = readAccount(ctx, tx, name)
		return err
	})
	return account, err
}

// AccountKeys is what the list of operators is filtered by; words are searched in names.
var AccountKeys = []filter.Key{
	{Name: "role", Values: []string{string(RoleAuditor), string(RoleDeveloper), string(RoleOperator), string(RoleOwner)}},
	{Name: "state", Values: []string{string(AccountInvited), string(AccountActive), string(AccountDisabled)}},
}

var accountKeyColumns = map[string]filter.Column{"role": {Name: "a.role"}, "state": {Name: "a.state"}}

// Accounts is one page of operators in the order of their names, after one.
func (o *Operators) Accounts(ctx context.Context, terms filter.Filter, after string, limit int) (page []*Account, err error) {
	query := "SELECT " + accountColumns + " FROM operator_account a WHERE a.name > ?"
	conditions, filtered := terms.Where(accountKeyColumns, "a.name")
	if conditions != "" {
		query += " AND " + conditions
	}
	err = o.store.View(ctx, func(tx *store.Tx) error {
		page = nil
		now := tx.Now.UnixMilli()
		values := append([]any{now, tx.Now.Add(-sessionIdle).UnixMilli(), now, after}, filtered...)
		rows, err := tx.QueryContext(ctx, query+" ORDER BY a.name LIMIT ?", append(values, limit)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			account, err := scanAccount(rows)
			if err != nil {
				return err
			}
			page = append(page, account)
		}
		return rows.Err()
	})
	return page, err
}

// UpdateAccount changes the role of an operator, or disables or enables them; an empty role and nil leave it as it is. Disabling
// ends their sessions. version, unless it is 0, is that which the decision was made for.
func (o *Operators) UpdateAccount(ctx context.Context, name string, version int64, role Role, disabled *bool) (account *Account, err error) {
	if role != "" {
		if err := checkRole(role); err != nil {
			return nil, err
		}
	}
	err = o.update(ctx, func(tx *store.Tx) error {
		if account, err = readVersion(ctx, tx, name, version); err != nil {
			return err
		}
		before := account.facts()
		if role != "" {
			account.Role = role
		}
		if disabled != nil && *disabled {
			account.State = AccountDisabled
		} else if disabled != nil && account.State == AccountDisabled {
			account.State = AccountActive
			if account.password == "" {
				account.State = AccountInvited
			}
		}
		if account.facts() == before {
			return nil
		}
		if before == (accountFacts{RoleOwner, AccountActive}) {
			if err := keepAnOwner(ctx, tx, name); err != nil {
				return err
			}
		}
		if account.State == AccountDisabled {
			if err := signOutEverywhere(ctx, tx, name); err != nil {
				return err
			}
			account.Sessions = 0
		}
		if err := endSetup(ctx, tx, account); err != nil {
			return err
		}
		if err := saveAccount(ctx, tx, account); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Change{Action: "operator.update", Target: name, Before: before, After: account.facts()})
	})
	if err != nil {
		return nil, err
	}
	return account, nil
}

// RemoveAccount removes an operator with their sessions and tokens. version is as for UpdateAccount.
func (o *Operators) RemoveAccount(ctx context.Context, name string, version int64) error {
	return o.update(ctx, func(tx *store.Tx) error {
		account, err := readVersion(ctx, tx, name, version)
		if err != nil {
			return err
		}
		if account.Role == RoleOwner && account.State == AccountActive {
			if err := keepAnOwner(ctx, tx, name); err != nil {
				return err
			}
		}
		if err := signOutEverywhere(ctx, tx, name); err != nil {
			return err
		}
		for _, statement := range []string{"DELETE FROM operator_token WHERE account = ?", "DELETE FROM operator_account WHERE name = ?"} {
			if _, err := tx.ExecContext(ctx, statement, name); err != nil {
				return err
			}
		}
		return audit.Write(ctx, tx, audit.Change{Action: "operator.remove", Target: name, Before: account.facts()})
	})
}

// signOutEverywhere ends the sessions and invitations of an account; the empty one is that of the first sign-in.
func signOutEverywhere(ctx context.Context, tx *store.Tx, account string) error {
	for _, statement := range []string{"DELETE FROM operator_session WHERE account = ?", "DELETE FROM operator_link WHERE account = ?"} {
		if _, err := tx.ExecContext(ctx, statement, account); err != nil {
			return err
		}
	}
	return nil
}

// endSetup ends what the first sign-in was for, where there is an active owner now.
func endSetup(ctx context.Context, tx *store.Tx, account *Account) error {
	if account.Role != RoleOwner || account.State != AccountActive {
		return nil
	}
	return signOutEverywhere(ctx, tx, "")
}

func keepAnOwner(ctx context.Context, tx *store.Tx, name string) error {
	n, err := activeOwners(ctx, tx, name)
	if err == nil && n == 0 {
		return refusal.Conflict("%q is the last active owner: make somebody else an owner first.", name)
	}
	return err
}

func activeOwners(ctx context.Context, tx *store.Tx, but string) (n int, err error) {
	err = tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM operator_account WHERE role = ? AND state = ? AND name <> ?", RoleOwner, AccountActive, but).Scan(&n)
	return n, err
}

// accountColumns take the time, the time since when an idle session is open, and the time again.
const accountColumns = `a.name, a.role, a.state, a.password, a.version, a.created, a.seen,
	(SELECT COUNT(*) FROM operator_session s WHERE s.account = a.name AND s.expires > ? AND s.used > ?),
	(SELECT COUNT(*) FROM operator_token t WHERE t.account = a.name AND t.expires > ? AND t.revoked = 0)`

func scanAccount(row interface{ Scan(...any) error }) (*Account, error) {
	var a Account
	var created, seen int64
	if err := row.Scan(&a.Name, &a.Role, &a.State, &a.password, &a.Version, &created, &seen, &a.Sessions, &a.Tokens); err != nil {
		return nil, err
	}
	a.Created, a.Seen = fromMillis(created), fromMillis(seen)
	return &a, nil
}

func readAccount(ctx context.Context, tx *store.Tx, name string) (*Account, error) {
	now := tx.Now.UnixMilli()
	account, err := scanAccount(tx.QueryRowContext(ctx, "SELECT "+accountColumns+" FROM operator_account a WHERE a.name = ?",
		now, tx.Now.Add(-sessionIdle).UnixMilli(), now, name))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, refusal.NotFound("There is no operator %q.", name)
	}
	return account, err
}

func readVersion(ctx context.Context, tx *store.Tx, name string, version int64) (*Account, error) {
	account, err := readAccount(ctx, tx, name)
	if err == nil && version != 0 && version != account.Version {
		return nil, refusal.Changed("Somebody else has changed the operator %q since: look again, then decide.", name)
	}
	return account, err
}

func insertAccount(ctx context.Context, tx *store.Tx, a *Account) error {
	a.Version, a.Created = 1, tx.Now.Truncate(time.Millisecond)
	_, err := tx.ExecContext(ctx, "INSERT INTO operator_account (name, role, state, password, version, created, seen) VALUES (?, ?, ?, ?, ?, ?, ?)",
		a.Name, a.Role, a.State, a.password, a.Version, a.Created.UnixMilli(), 0)
	return err
}

func saveAccount(ctx context.Context, tx *store.Tx, a *Account) error {
	a.Version++
	_, err := tx.ExecContext(ctx, "UPDATE operator_account SET role = ?, state = ?, password = ?, version = ? WHERE name = ?",
		a.Role, a.State, a.password, a.Version, a.Name)
	return err
}
