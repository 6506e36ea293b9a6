package access

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// SignInTokenFile is the file in the data directory that holds the one-time token of the first sign-in.
const SignInTokenFile = "sign-in.token"

const (
	firstSignInLifetime = 15 * time.Minute
	invitationLifetime  = 24 * time.Hour
)

// Names that no account has: Name for the token of a data directory, and these.
const (
	NameSetup     = "setup"     // the first sign-in, before there is an account
	NameAnonymous = "anonymous" // who failed to sign in
)

// Operators is the people who decide: their accounts, how they sign in, their sessions and API tokens. What a request may do is
// read from the database each time, so that a decision about an operator counts from the very next one, on every node.
type Operators struct {
	store     *store.Store
	bus       *bus.Bus
	log       *slog.Logger
	local     *Operator
	passwords *passwords
	limits    *limits
	claimed   atomic.Bool // once it is, it stays so
}

// NewOperators makes Operators on their store; the bus tells those who watch decisions. local is the token of the data
// directory, whose holder is an owner.
func NewOperators(db *store.Store, b *bus.Bus, local *Operator, log *slog.Logger) *Operators {
	return &Operators{store: db, bus: b, log: log, local: local, passwords: newPasswords(presentCost), limits: newLimits()}
}

// update is one decision about operators, and tells those who watch.
func (o *Operators) update(ctx context.Context, do func(*store.Tx) error) error {
	if err := o.store.Update(ctx, do); err != nil {
		return err
	}
	audit.Nudge(o.bus, o.log)
	return nil
}

// Claimed says whether the installation has an owner who signs in by name. Until then it must not be reached from elsewhere.
func (o *Operators) Claimed(ctx context.Context) (claimed bool, err error) {
	if o.claimed.Load() {
		return true, nil
	}
	err = o.store.View(ctx, func(tx *store.Tx) error {
		claimed, err = isClaimed(ctx, tx)
		return err
	})
	if claimed && err == nil {
		o.claimed.Store(true)
	}
	return claimed, err
}

// isClaimed needs no memory of its own: the last active owner stays one.
func isClaimed(ctx context.Context, tx *store.Tx) (claimed bool, err error) {
	n, err := activeOwners(ctx, tx, "")
	return n > 0, err
}

// FirstSignIn makes a one-time token for the first sign-in and puts it into the data directory. It is empty, and an old file is
// removed, where the installation has been claimed.
func (o *Operators) FirstSignIn(ctx context.Context) (token string, err error) {
	ctx = audit.As(ctx, audit.Actor{Name: audit.Self})
	path := o.SignInTokenPath()
	claimed, err := o.Claimed(ctx)
	if err != nil {
		return "", err
	}
	if claimed {
		return "", removeFile(path)
	}
	invitation, err := o.inviteSetup(ctx)
	if err != nil {
		return "", err
	}
	return invitation.Token, replaceFile(path, invitation.Token+"\n")
}

// SignInTokenPath is where FirstSignIn puts the token.
func (o *Operators) SignInTokenPath() string {
	return filepath.Join(o.local.directory, SignInTokenFile)
}

// newID names a session or token: 16 digits of base32, 80 random bits.
func newID() string { return strings.ToLower(rand.Text()[:16]) }

func hashOf(secret string) []byte {
	hash := fieldgate.HashToken([]byte(secret))
	return hash[:]
}

func fromMillis(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.UnixMilli(at).UTC()
}

func millisText(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }

var errSignIn = refusal.Unauthenticated("The name, the password or the link is wrong, or no longer valid.")

func isRefused(err error, code refusal.Code) bool {
	var refused *refusal.Error
	return errors.As(err, &refused) && refused.Code == code
}
