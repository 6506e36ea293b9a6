package access

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/controltest"
	"fieldgate/control/once"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// office is the operators of one installation, with passwords that cost little.
type office struct {
	*Operators
	t    *testing.T
	data string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	data := t.TempDir()
	local, _, err := LoadOperator(data)
	if err != nil {
		t.Fatal(err)
	}
	o := NewOperators(controltest.Store(t, data), controltest.Bus(t, data), local, controltest.Log(t))
	o.passwords = newPasswords(cost{memory: 64, passes: 1, threads: 1})
	return &office{o, t, data}
}

var here = Client{Source: "192.0.2.1", Agent: "test", Request: "r"}

const secretWord = "a long enough secret"

// claimed is an office whose owner is ana.
func claimed(t *testing.T) (*office, *Started) {
	t.Helper()
	o := newOffice(t)
	setup := must(o.FirstSignIn(t.Context()))(t)
	session := must(o.Redeem(t.Context(), setup, here))(t)
	return o, must(o.Claim(as(t, &session.Caller), &session.Caller, "ana", secretWord, here))(t)
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// as is a context in which a caller decides.
func as(t *testing.T, caller *Caller) context.Context {
	return audit.As(t.Context(), caller.Actor(here.Source, here.Request))
}

// join has somebody added with a role, and signs them in.
func (o *office) join(owner *Started, name string, role Role) *Started {
	o.t.Helper()
	invited := must(o.AddAccount(as(o.t, &owner.Caller), name, role))(o.t)
	session := must(o.Redeem(o.t.Context(), invited.Token, here))(o.t)
	return must(o.SetPassword(as(o.t, &session.Caller), &session.Caller, "", secretWord, here))(o.t)
}

func (o *office) session(s *Started) (*Caller, error) {
	return o.Session(o.t.Context(), s.Secret, here.Source)
}

func (o *office) exec(statement string, values ...any) {
	o.t.Helper()
	err := o.store.Update(o.t.Context(), func(tx *store.Tx) error {
		_, err := tx.ExecContext(o.t.Context(), statement, values...)
		return err
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

// decisions are the newest audit rows, the newest first, as action, actor and target.
func (o *office) decisions(limit int) (rows []string) {
	o.t.Helper()
	entries := must(audit.List(o.t.Context(), o.store, audit.Filter{Limit: limit}))(o.t)
	for _, e := range entries {
		rows = append(rows, e.Action+" "+e.Actor.Name+" "+e.Target)
	}
	return rows
}

func wantCode(t *testing.T, err error, code refusal.Code) {
	t.Helper()
	if !isRefused(err, code) {
		t.Errorf("want %s, got %v", code, err)
	}
}

func TestFirstSignIn(t *testing.T) {
	o := newOffice(t)
	ctx := t.Context()
	token := must(o.FirstSignIn(ctx))(t)
	path := filepath.Join(o.data, SignInTokenFile)
	info, err := os.Stat(path)
	if content, _ := os.ReadFile(path); err != nil || info.Mode().Perm() != 0o600 || string(content) != token+"\n" || !strings.HasPrefix(token, "fgs_") {
		t.Fatalf("%v %v %q", info, err, content)
	}
	if must(o.Claimed(ctx))(t) {
		t.Fatal("claimed by nobody")
	}
	session := must(o.Redeem(ctx, token, here))(t)
	c := must(o.session(session))(t)
	if c.Kind != KindSetup || c.Account != NameSetup || c.Role != RoleOwner || !c.May(ScopeAccessWrite) || c.ID == "" {
		t.Fatalf("%+v", c)
	}
	_, err = o.Redeem(ctx, token, here) // replayed
	wantCode(t, err, refusal.CodeUnauthenticated)

	expired := must(o.FirstSignIn(ctx))(t)
	o.exec("UPDATE operator_link SET expires = ?", time.Now().Add(-time.Second).UnixMilli())
	_, err = o.Redeem(ctx, expired, here)
	wantCode(t, err, refusal.CodeUnauthenticated)

	// Another node's token and another person's session: all end when one claims.
	other := must(o.FirstSignIn(ctx))(t)
	second := must(o.Redeem(ctx, must(o.FirstSignIn(ctx))(t), here))(t)
	_, _, err = o.AddToken(as(t, c), c, "x", []Scope{ScopeRead}, 0)
	wantCode(t, err, refusal.CodeForbidden)
	owner := must(o.Claim(as(t, c), c, "ana", secretWord, here))(t)
	if c := must(o.session(owner))(t); c.Kind != KindOperator || c.Account != "ana" || c.Role != RoleOwner {
		t.Fatalf("%+v", c)
	}
	for _, ended := range []*Started{session, second} {
		_, err = o.session(ended)
		wantCode(t, err, refusal.CodeUnauthenticated)
	}
	_, err = o.Redeem(ctx, other, here)
	wantCode(t, err, refusal.CodeUnauthenticated)
	_, err = o.Claim(as(t, c), c, "ben", secretWord, here)
	wantCode(t, err, refusal.CodeConflict)
	_, err = o.Invite(as(t, c), NameSetup)
	wantCode(t, err, refusal.CodeConflict)
	if !must(o.Claimed(ctx))(t) {
		t.Fatal("not claimed")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the file is still there: %v", err)
	}
	if token := must(o.FirstSignIn(ctx))(t); token != "" {
		t.Fatal("a first sign-in after the claim")
	}
}

// Two people with one token, and two who claim at once: one wins.
func TestOneWins(t *testing.T) {
	o := newOffice(t)
	token := must(o.FirstSignIn(t.Context()))(t)
	var won atomic.Int32
	var sessions [8]*Started
	race := func(do func(i int) error, lost refusal.Code) {
		t.Helper()
		won.Store(0)
		var group sync.WaitGroup
		for i := range sessions {
			group.Go(func() {
				if err := do(i); err == nil {
					won.Add(1)
				} else if !isRefused(err, lost) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if won.Load() != 1 {
			t.Errorf("%d won", won.Load())
		}
	}
	race(func(int) error { _, err := o.Redeem(t.Context(), token, here); return err }, refusal.CodeUnauthenticated)
	for i := range sessions {
		sessions[i] = must(o.Redeem(t.Context(), must(o.FirstSignIn(t.Context()))(t), here))(t)
	}
	race(func(i int) error {
		_, err := o.Claim(as(t, &sessions[i].Caller), &sessions[i].Caller, fmt.Sprint("ana", i), secretWord, here)
		return err
	}, refusal.CodeConflict)
}

func TestSignInByName(t *testing.T) {
	o, owner := claimed(t)
	ctx := t.Context()
	session := must(o.SignIn(ctx, "ana", secretWord, here))(t)
	c := must(o.session(session))(t)
	if c.Account != "ana" || c.Source != here.Source || c.Agent != "test" || c.Expires.Sub(c.Created) != sessionLifetime {
		t.Fatalf("%+v", c)
	}
	if got := o.decisions(1); got[0] != "session.start ana ana" {
		t.Fatal(got)
	}
	invited := must(o.AddAccount(as(t, &owner.Caller), "ben", RoleDeveloper))(t)
	disabled := o.join(owner, "eve", RoleDeveloper)
	yes := true
	must(o.UpdateAccount(as(t, &owner.Caller), "eve", 0, "", &yes))(t)
	_, err := o.session(disabled)
	wantCode(t, err, refusal.CodeUnauthenticated)

	// Whatever is wrong: one computation, one audit row, one answer.
	tests := []struct{ name, password, target string }{
		{"ana", "a wrong password", "ana"},
		{"nobody", secretWord, ""},
		{"ben", secretWord, "ben"},
		{"eve", secretWord, "eve"},
		{"my secret typed here", "x", ""},
		{"' OR 1=1 --", secretWord, ""},
		{"аna", secretWord, ""}, // a Cyrillic letter
		{"ana\x00", secretWord, ""},
		{"\xff\xfe", secretWord, ""},
		{"ana", "", "ana"},
		{"ana", strings.Repeat("x", maxPasswordBytes+1), "ana"},
		{Name, secretWord, ""},
	}
	var answer string
	for i, test := range tests {
		client := Client{Source: fmt.Sprint("198.51.100.", i)}
		before := o.passwords.computed.Load()
		_, err := o.SignIn(ctx, test.name, test.password, client)
		wantCode(t, err, refusal.CodeUnauthenticated)
		if answer == "" {
			answer = err.Error()
		}
		if work := o.passwords.computed.Load() - before; work != 1 || err.Error() != answer {
			t.Errorf("%q: %d computations, %v", test.name, work, err)
		}
		e := must(audit.List(ctx, o.store, audit.Filter{Limit: 1}))(t)[0]
		if e.Action != "session.refuse" || e.Target != test.target || e.Actor.Name != NameAnonymous || e.Actor.Source != client.Source ||
			strings.Contains(fmt.Sprint(e), secretWord) || strings.Contains(fmt.Sprint(e), "typed") {
			t.Errorf("%q: %+v", test.name, e)
		}
	}
	if _, err := o.Redeem(ctx, invited.Token, here); err != nil {
		t.Fatal(err)
	}
}

func TestBruteForce(t *testing.T) {
	o, _ := claimed(t)
	// As many as usual, and none more while the test runs.
	unhurried := func() *limits {
		return &limits{passwordSource: newLimiter(10, time.Hour), passwordName: newLimiter(50, time.Hour), secretSource: newLimiter(60, time.Hour),
			refusals: newLimiter(1000, time.Hour)}
	}
	o.limits = unhurried()
	guess := func(name, source string) error {
		_, err := o.SignIn(t.Context(), name, "a wrong password", Client{Source: source})
		return err
	}
	// One source, whatever the name.
	for i := range 10 {
		wantCode(t, guess(fmt.Sprint("n", i), "203.0.113.5"), refusal.CodeUnauthenticated)
	}
	computed, rows := o.passwords.computed.Load(), len(o.decisions(1000))
	err := guess("ana", "203.0.113.5")
	wantCode(t, err, refusal.CodeRateLimited)
	var refused *refusal.Error
	if errors.As(err, &refused) && (refused.RetryAfter <= 0 || refused.RetryAfter > time.Hour) {
		t.Errorf("wait %s", refused.RetryAfter)
	}
	if o.passwords.computed.Load() != computed || len(o.decisions(1000)) != rows {
		t.Error("an attempt that is refused for the limit costs something")
	}
	// One network of IPv6, one name from everywhere; others are not held up.
	for i := range 10 {
		wantCode(t, guess(fmt.Sprint("m", i), fmt.Sprintf("2001:db8::%d", i)), refusal.CodeUnauthenticated)
	}
	wantCode(t, guess("m", "2001:db8::ffff"), refusal.CodeRateLimited)
	for i := range 50 {
		wantCode(t, guess("ana", fmt.Sprintf("2001:db8:%x::1", i+1)), refusal.CodeUnauthenticated)
	}
	wantCode(t, guess("ana", "2001:db8:ffff::1"), refusal.CodeRateLimited)
	wantCode(t, guess("ben", "2001:db8:fffe::1"), refusal.CodeUnauthenticated)
	// Right passwords are never counted.
	o.limits = unhurried()
	for range 40 {
		must(o.SignIn(t.Context(), "ana", secretWord, here))(t)
	}
	// Neither are right tokens; wrong ones are, by source.
	unknown := must(fieldgate.NewToken(fieldgate.PrefixOperator))(t)
	for range 60 {
		_, err := o.Bearer(t.Context(), unknown, "203.0.113.9")
		wantCode(t, err, refusal.CodeUnauthenticated)
	}
	_, err = o.Bearer(t.Context(), unknown, "203.0.113.9")
	wantCode(t, err, refusal.CodeRateLimited)
	_, err = o.Bearer(t.Context(), unknown, "203.0.113.10")
	wantCode(t, err, refusal.CodeUnauthenticated)
}

// Who guesses behind the same address, such as that of a proxy, does not shut out sessions and tokens that are in use.
func TestGuessesDoNotShutOutTheirNeighbours(t *testing.T) {
	o, ana := claimed(t)
	o.limits.secretSource = newLimiter(60, time.Hour)
	must(o.session(ana))(t)
	unused := must(o.SignIn(t.Context(), "ana", secretWord, here))(t)
	for range 60 {
		_, err := o.Redeem(t.Context(), "fgs_guess", here)
		wantCode(t, err, refusal.CodeUnauthenticated)
	}
	must(o.session(ana))(t)
	_, err := o.session(unused)
	wantCode(t, err, refusal.CodeRateLimited)
	// It is looked up each time, nevertheless.
	if err := o.SignOut(as(t, &ana.Caller), &ana.Caller); err != nil {
		t.Fatal(err)
	}
	_, err = o.session(ana)
	wantCode(t, err, refusal.CodeUnauthenticated)
}

// Anybody can fail to sign in: after a thousand rows of the audit the others are counted, and told with the next.
func TestRefusedSignInsDoNotFillTheAudit(t *testing.T) {
	o, _ := claimed(t)
	o.limits.refusals = newLimiter(3, time.Hour)
	rows := len(o.decisions(1000))
	fail := func(i int) {
		t.Helper()
		_, err := o.Redeem(t.Context(), "fgs_guess", Client{Source: fmt.Sprintf("203.0.113.%d", i)})
		wantCode(t, err, refusal.CodeUnauthenticated)
	}
	for i := range 40 {
		fail(i)
	}
	if got := len(o.decisions(1000)) - rows; got != 3 {
		t.Errorf("%d rows", got)
	}
	o.limits.refusals = newLimiter(3, time.Hour)
	fail(41)
	newest := must(audit.List(t.Context(), o.store, audit.Filter{Limit: 1}))(t)[0]
	if !strings.Contains(newest.Detail, "37 more since") || newest.Action != "session.refuse" {
		t.Errorf("%+v", newest)
	}
	fail(42)
	if newest := must(audit.List(t.Context(), o.store, audit.Filter{Limit: 1}))(t)[0]; strings.Contains(newest.Detail, "more since") {
		t.Errorf("%+v", newest)
	}
}

// Who opened somebody's link has no use of it once another was made.
func TestAnotherInvitationEndsSessionsOfTheFirst(t *testing.T) {
	o, ana := claimed(t)
	ctx := as(t, &ana.Caller)
	intercepted := must(o.AddAccount(ctx, "ben", RoleDeveloper))(t)
	thief := must(o.Redeem(t.Context(), intercepted.Token, here))(t)
	again := must(o.Invite(ctx, "ben"))(t)
	_, err := o.session(thief)
	wantCode(t, err, refusal.CodeUnauthenticated)
	ben := must(o.Redeem(t.Context(), again.Token, here))(t)
	ben = must(o.SetPassword(as(t, &ben.Caller), &ben.Caller, "", secretWord, here))(t)
	// The session of somebody who is in, and forgot the password, goes on until the new one is set.
	must(o.Invite(ctx, "ben"))(t)
	must(o.session(ben))(t)
}

func TestLimiter(t *testing.T) {
	l := newLimiter(3, time.Second)
	now := time.Unix(1e9, 0)
	steps := []struct {
		after time.Duration
		wait  time.Duration
	}{
		{0, 0}, {0, 0}, {0, 0}, {0, time.Second}, {500 * time.Millisecond, 500 * time.Millisecond},
		{500 * time.Millisecond, 0}, {0, time.Second}, {10 * time.Second, 0}, {0, 0}, {0, 0}, {0, time.Second},
	}
	for i, step := range steps {
		now = now.Add(step.after)
		if wait := l.wait("k", now); wait != step.wait {
			t.Errorf("%d: would wait %s", i, wait)
		}
		if wait := l.take("k", now); wait != step.wait {
			t.Errorf("%d: waits %s", i, wait)
		}
	}
	l.restore("k")
	if wait := l.take("k", now); wait != 0 {
		t.Errorf("waits %s after a success", wait)
	}
}

// A flood of sign-ins is refused at once instead of waiting without end.
func TestFlood(t *testing.T) {
	p := newPasswords(cost{memory: 64, passes: 1, threads: 1})
	for range hashesAtOnce {
		p.slots <- struct{}{} // all busy
	}
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for range hashesAtOnce + hashesWaiting {
		go func() { _, _, err := p.verify(ctx, "", "x"); errs <- err }()
	}
	for len(p.waiting) < cap(p.waiting) {
		time.Sleep(time.Millisecond)
	}
	_, _, err := p.verify(ctx, "", "x")
	wantCode(t, err, refusal.CodeOverloaded)
	cancel()
	for range hashesAtOnce + hashesWaiting {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if len(p.waiting) != 0 {
		t.Error("places in the queue are lost")
	}
}

func TestPasswordHashes(t *testing.T) {
	ctx := t.Context()
	p := newPasswords(cost{memory: 64, passes: 1, threads: 1})
	hash := must(p.hash(ctx, "Zürich und Umgebung"))(t) // ü as one character
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=64,t=1,p=1$") || must(p.hash(ctx, "Zürich und Umgebung"))(t) == hash {
		t.Fatal(hash)
	}
	for password, want := range map[string]bool{"Zürich und Umgebung": true, "Zu\u0308rich und Umgebung": true, "zürich und umgebung": false, "": false} {
		if right, _, err := p.verify(ctx, hash, password); right != want || err != nil {
			t.Errorf("%q: %v %v", password, right, err)
		}
	}
	if right, _, err := p.verify(ctx, "", ""); right || err != nil {
		t.Error("no password is a password", err)
	}
	raised := newPasswords(cost{memory: 128, passes: 1, threads: 1})
	if right, outdated, err := raised.verify(ctx, hash, "Zürich und Umgebung"); !right || !outdated || err != nil {
		t.Error(right, outdated, err)
	}
	for _, damaged := range []string{"x", "$argon2id$v=19$m=4294967295,t=1,p=1$AAAA$AAAA", hash[:len(hash)-1], strings.Replace(hash, "argon2id", "argon2i", 1)} {
		if _, _, err := p.verify(ctx, damaged, "x"); !errors.Is(err, errHash) {
			t.Errorf("%q: %v", damaged, err)
		}
	}
	for _, bad := range []string{"", "eleven char", "ana-the-first", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", strings.Repeat("x", 1025)} {
		wantCode(t, checkPassword("ana-the-first", bad), refusal.CodeInvalid)
	}
	if err := checkPassword("ana", "twelve chars"); err != nil {
		t.Error(err)
	}
}

// A hash of older parameters is replaced when its password is at hand.
func TestRehash(t *testing.T) {
	o, _ := claimed(t)
	o.passwords = newPasswords(cost{memory: 128, passes: 2, threads: 1})
	must(o.SignIn(t.Context(), "ana", secretWord, here))(t)
	if account := must(o.Account(t.Context(), "ana"))(t); !strings.Contains(account.password, "m=128,t=2") {
		t.Fatal(account.password)
	}
	must(o.SignIn(t.Context(), "ana", secretWord, here))(t)
}

func TestInvitation(t *testing.T) {
	o, owner := claimed(t)
	ctx := t.Context()
	by := as(t, &owner.Caller)
	first := must(o.AddAccount(by, "ben", RoleDeveloper))(t)
	if d := time.Until(first.Expires); first.Account.State != AccountInvited || d > 24*time.Hour || d < 23*time.Hour {
		t.Fatalf("%+v", first)
	}
	second := must(o.Invite(by, "ben"))(t)
	_, err := o.Redeem(ctx, first.Token, here)
	wantCode(t, err, refusal.CodeUnauthenticated)
	session := must(o.Redeem(ctx, second.Token, here))(t)
	if c := must(o.session(session))(t); c.Kind != KindInvited || c.Scopes != nil || c.Role != RoleDeveloper {
		t.Fatalf("%+v", c)
	}
	_, err = o.SetPassword(as(t, &session.Caller), &session.Caller, "", "short", here)
	wantCode(t, err, refusal.CodeInvalid)
	ben := must(o.SetPassword(as(t, &session.Caller), &session.Caller, "", secretWord, here))(t)
	if c := must(o.session(ben))(t); c.Kind != KindOperator || !c.May(ScopeAPIsWrite) || c.May(ScopeDevicesWrite) {
		t.Fatalf("%+v", c)
	}
	_, err = o.session(session) // its secret is no longer one
	wantCode(t, err, refusal.CodeUnauthenticated)

	// The password is changed with the present one; other sessions are over then.
	other := must(o.SignIn(ctx, "ben", secretWord, here))(t)
	_, err = o.SetPassword(as(t, &ben.Caller), &ben.Caller, "not this one", "another good secret", here)
	wantCode(t, err, refusal.CodeForbidden)
	renewed := must(o.SetPassword(as(t, &ben.Caller), &ben.Caller, secretWord, "another good secret", here))(t)
	for _, ended := range []*Started{ben, other} {
		_, err = o.session(ended)
		wantCode(t, err, refusal.CodeUnauthenticated)
	}
	must(o.session(renewed))(t)

	// An invitation resets the password: until it is used the present one works.
	reset := must(o.Invite(by, "ben"))(t)
	must(o.SignIn(ctx, "ben", "another good secret", here))(t)
	yes := true
	must(o.UpdateAccount(by, "ben", 0, "", &yes))(t)
	_, err = o.Redeem(ctx, reset.Token, here)
	wantCode(t, err, refusal.CodeUnauthenticated)
	_, err = o.Invite(by, "ben")
	wantCode(t, err, refusal.CodeConflict)
}

// A decision about somebody counts from the very next request, on another node too.
func TestRoleTakenAway(t *testing.T) {
	o, owner := claimed(t)
	by := as(t, &owner.Caller)
	ben := o.join(owner, "ben", RoleOperator)
	_, secret, err := o.AddToken(as(t, &ben.Caller), &ben.Caller, "fleet", []Scope{ScopeRead, ScopeDevicesWrite}, 0)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := NewOperators(o.store, o.bus, o.local, controltest.Log(t))
	may := func(scope Scope) (bySession, byToken bool) {
		t.Helper()
		session, sessionErr := elsewhere.Session(t.Context(), ben.Secret, here.Source)
		token, tokenErr := elsewhere.Bearer(t.Context(), secret, here.Source)
		if err := errors.Join(sessionErr, tokenErr); err != nil {
			wantCode(t, err, refusal.CodeUnauthenticated)
			return false, false
		}
		return session.May(scope), token.May(scope)
	}
	want := func(when string, scope Scope, session, token bool) {
		t.Helper()
		if s, k := may(scope); s != session || k != token {
			t.Errorf("%s: %s by session %v, by token %v", when, scope, s, k)
		}
	}
	want("as operator", ScopeDevicesWrite, true, true)
	want("as operator", ScopeAppsWrite, true, false)
	want("as operator", ScopeAccessWrite, false, false)
	must(o.UpdateAccount(by, "ben", 0, RoleDeveloper, nil))(t)
	want("as developer", ScopeDevicesWrite, false, false)
	want("as developer", ScopeRead, true, true)
	must(o.UpdateAccount(by, "ben", 0, RoleOwner, nil))(t)
	want("as owner", ScopeAccessWrite, true, false)
	yes, no := true, false
	must(o.UpdateAccount(by, "ben", 0, RoleOperator, &yes))(t)
	want("disabled", ScopeRead, false, false)
	must(o.UpdateAccount(by, "ben", 0, "", &no))(t)
	if _, err := elsewhere.Session(t.Context(), ben.Secret, here.Source); err == nil {
		t.Error("an ended session lives again")
	}
	if _, err := elsewhere.Bearer(t.Context(), secret, here.Source); err != nil {
		t.Error(err)
	}
	if err := o.RemoveAccount(by, "ben", 0); err != nil {
		t.Fatal(err)
	}
	o.join(owner, "ben", RoleOwner) // somebody else of this name
	if _, err := elsewhere.Bearer(t.Context(), secret, here.Source); err == nil {
		t.Error("the token of a removed operator works for another of the same name")
	}
}

func TestLastOwner(t *testing.T) {
	o, ana := claimed(t)
	by := as(t, &ana.Caller)
	yes := true
	must(o.AddAccount(by, "ida", RoleOwner))(t) // an invited owner is none yet
	attempts := map[string]func(name string) error{
		"demote":  func(name string) error { _, err := o.UpdateAccount(by, name, 0, RoleAuditor, nil); return err },
		"disable": func(name string) error { _, err := o.UpdateAccount(by, name, 0, "", &yes); return err },
		"remove":  func(name string) error { return o.RemoveAccount(by, name, 0) },
	}
	for name, attempt := range attempts {
		if err := attempt("ana"); !isRefused(err, refusal.CodeConflict) {
			t.Errorf("%s the last owner: %v", name, err)
		}
	}
	must(o.session(ana))(t)
	ben := o.join(ana, "ben", RoleOwner)
	// Both at once must not leave nobody.
	var group sync.WaitGroup
	errs := make([]error, 2)
	for i, name := range []string{"ana", "ben"} {
		group.Go(func() { errs[i] = o.RemoveAccount(by, name, 0) })
	}
	group.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatal(errs)
	}
	_, anaErr := o.session(ana)
	_, benErr := o.session(ben)
	if (anaErr == nil) == (benErr == nil) || !must(o.Claimed(t.Context()))(t) {
		t.Fatal(anaErr, benErr)
	}
}

func TestAccountNames(t *testing.T) {
	o, owner := claimed(t)
	by := as(t, &owner.Caller)
	for _, name := range []string{"", "Ana", "a b", "-a", ".a", "a/b", "ana'; DROP TABLE operator_account; --", "аnа", "a\u202eb", "a\x00", "\xff",
		strings.Repeat("a", 65), Name, NameSetup, NameAnonymous, audit.Self, "a%", "ä"} {
		_, err := o.AddAccount(by, name, RoleAuditor)
		wantCode(t, err, refusal.CodeInvalid)
		_, err = o.Account(t.Context(), strings.ToValidUTF8(strings.ReplaceAll(name, "\x00", ""), ""))
		wantCode(t, err, refusal.CodeNotFound)
	}
	_, err := o.AddAccount(by, "ben", "root")
	wantCode(t, err, refusal.CodeInvalid)
	for _, name := range []string{"a", "0", "ana.b-c_d", strings.Repeat("a", 64)} {
		must(o.AddAccount(by, name, RoleAuditor))(t)
	}
	_, err = o.AddAccount(by, "a", RoleOwner)
	wantCode(t, err, refusal.CodeConflict)
}

func TestVersion(t *testing.T) {
	o, owner := claimed(t)
	by := as(t, &owner.Caller)
	ben := must(o.AddAccount(by, "ben", RoleAuditor))(t).Account
	changed := must(o.UpdateAccount(by, "ben", ben.Version, RoleOperator, nil))(t)
	_, err := o.UpdateAccount(by, "ben", ben.Version, RoleOwner, nil)
	wantCode(t, err, refusal.CodeChanged)
	wantCode(t, o.RemoveAccount(by, "ben", ben.Version), refusal.CodeChanged)
	if same := must(o.UpdateAccount(by, "ben", changed.Version, RoleOperator, nil))(t); same.Version != changed.Version {
		t.Error("nothing changed, and the version did")
	}
	if err := o.RemoveAccount(by, "ben", changed.Version); err != nil {
		t.Error(err)
	}
}

func TestSessions(t *testing.T) {
	o, ana := claimed(t)
	ben := o.join(ana, "ben", RoleAuditor)
	other := must(o.SignIn(t.Context(), "ben", secretWord, Client{Source: "198.51.100.7", Agent: "a\x1b[31m\u202eb\xff" + strings.Repeat("x", 300)}))(t)
	list := func(who *Started) (ids []string) {
		t.Helper()
		after := ""
		for {
			page := must(o.Sessions(t.Context(), &who.Caller, after, 2))(t)
			if len(page) == 0 {
				return ids
			}
			for _, s := range page {
				ids, after = append(ids, s.ID), s.ID
			}
		}
	}
	if ids := list(ben); len(ids) != 2 || !slices.Contains(ids, other.Caller.ID) {
		t.Fatal(ids)
	}
	if ids := list(ana); len(ids) != 3 {
		t.Fatal(ids)
	}
	if agent := other.Caller.Agent; strings.ContainsAny(agent, "\x1b\u202e") || !utf8.ValidString(agent) || len(agent) > maxAgentBytes {
		t.Errorf("%q", agent)
	}
	// One ends an own one, an owner anybody's; nobody learns of others.
	wantCode(t, o.EndSession(as(t, &ben.Caller), &ben.Caller, ana.Caller.ID), refusal.CodeNotFound)
	wantCode(t, o.EndSession(as(t, &ben.Caller), &ben.Caller, "nope"), refusal.CodeNotFound)
	if err := o.EndSession(as(t, &ben.Caller), &ben.Caller, other.Caller.ID); err != nil {
		t.Fatal(err)
	}
	_, err := o.session(other)
	wantCode(t, err, refusal.CodeUnauthenticated)
	if err := o.EndSession(as(t, &ana.Caller), &ana.Caller, ben.Caller.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Present(t.Context(), &ben.Caller); !isRefused(err, refusal.CodeUnauthenticated) {
		t.Error(err)
	}

	// Idle for too long, or too old.
	idle := must(o.SignIn(t.Context(), "ben", secretWord, here))(t)
	o.exec("UPDATE operator_session SET used = ? WHERE id = ?", time.Now().Add(-sessionIdle-time.Minute).UnixMilli(), idle.Caller.ID)
	_, err = o.session(idle)
	wantCode(t, err, refusal.CodeUnauthenticated)
	old := must(o.SignIn(t.Context(), "ben", secretWord, here))(t)
	o.exec("UPDATE operator_session SET expires = ? WHERE id = ?", time.Now().UnixMilli(), old.Caller.ID)
	_, err = o.session(old)
	wantCode(t, err, refusal.CodeUnauthenticated)

	// The use is noted once a minute.
	used := must(o.SignIn(t.Context(), "ben", secretWord, here))(t)
	for _, age := range []time.Duration{30 * time.Second, 90 * time.Second} {
		at := time.Now().Add(-age).Truncate(time.Millisecond).UTC()
		o.exec("UPDATE operator_session SET used = ? WHERE id = ?", at.UnixMilli(), used.Caller.ID)
		must(o.session(used))(t)
		noted := must(o.Present(t.Context(), &used.Caller))(t).Seen
		if (age < seenInterval) != noted.Equal(at) {
			t.Errorf("used %s ago, noted %s", age, time.Since(noted))
		}
	}

	// So many, and no more.
	for range maxSessions + 5 {
		must(o.SignIn(t.Context(), "ben", secretWord, here))(t)
	}
	if account := must(o.Account(t.Context(), "ben"))(t); account.Sessions != maxSessions {
		t.Errorf("%d sessions", account.Sessions)
	}
	if err := o.SignOut(as(t, &ana.Caller), &ana.Caller); err != nil {
		t.Fatal(err)
	}
	_, err = o.session(ana)
	wantCode(t, err, refusal.CodeUnauthenticated)
	if got := o.decisions(1); got[0] != "session.end ana ana" {
		t.Error(got)
	}
}

func TestTokens(t *testing.T) {
	o, ana := claimed(t)
	ben := o.join(ana, "ben", RoleDeveloper)
	add := func(who *Caller, name string, days int, scopes ...Scope) (*Token, string, error) {
		return o.AddToken(as(t, who), who, name, scopes, days)
	}
	token, secret, err := add(&ben.Caller, "CI: \"build\" 🚀", 0, ScopeAPIsWrite, ScopeRead, ScopeRead)
	if err != nil || !fieldgate.WellFormedToken([]byte(secret)) || !strings.HasPrefix(secret, "fgp_") || joinScopes(token.Scopes) != "read apis.write" ||
		token.Expires.Sub(token.Created) < 89*24*time.Hour || token.Expires.Sub(token.Created) > 91*24*time.Hour {
		t.Fatalf("%+v %v", token, err)
	}
	c := must(o.Bearer(t.Context(), secret, here.Source))(t)
	if c.Kind != KindToken || c.Account != "ben" || !c.May(ScopeAPIsWrite) || c.May(ScopeAppsWrite) || c.Actor("x", "").Via != "token "+token.Name {
		t.Fatalf("%+v", c)
	}
	refused := []struct {
		who    *Caller
		name   string
		days   int
		scopes []Scope
		code   refusal.Code
	}{
		{&ben.Caller, "x", 0, []Scope{ScopeDevicesWrite}, refusal.CodeForbidden},
		{&ben.Caller, "x", 0, []Scope{ScopeRead, ScopeAccessWrite}, refusal.CodeForbidden},
		{&ben.Caller, "x", 0, []Scope{"root"}, refusal.CodeInvalid},
		{&ben.Caller, "x", 0, nil, refusal.CodeInvalid},
		{&ben.Caller, "x", 401, []Scope{ScopeRead}, refusal.CodeInvalid},
		{&ben.Caller, "x", -1, []Scope{ScopeRead}, refusal.CodeInvalid},
		{&ben.Caller, " ", 0, []Scope{ScopeRead}, refusal.CodeInvalid},
		{&ben.Caller, "a\nb", 0, []Scope{ScopeRead}, refusal.CodeInvalid},
		{&ben.Caller, "\xff", 0, []Scope{ScopeRead}, refusal.CodeInvalid},
		{c, "x", 0, []Scope{ScopeRead}, refusal.CodeForbidden}, // a token makes no token
	}
	for i, test := range refused {
		if _, _, err := add(test.who, test.name, test.days, test.scopes...); !isRefused(err, test.code) {
			t.Errorf("%d: %v", i, err)
		}
	}
	local := must(o.Bearer(t.Context(), must(readToken(filepath.Join(o.data, OperatorTokenFile)))(t), here.Source))(t)
	if local.Kind != KindLocal || local.Account != Name || !local.May(ScopeAccessWrite) {
		t.Fatalf("%+v", local)
	}
	automation, automationSecret, err := add(local, "backup", 400, ScopeRead, ScopeAuditRead)
	if err != nil {
		t.Fatal(err)
	}
	if c := must(o.Bearer(t.Context(), automationSecret, here.Source))(t); c.Account != Name || !c.May(ScopeAuditRead) || c.May(ScopeAPIsWrite) {
		t.Fatalf("%+v", c)
	}

	ids := func(who *Caller) int {
		return len(must(o.Tokens(t.Context(), who, nil, "", 100))(t))
	}
	if ids(&ben.Caller) != 1 || ids(&ana.Caller) != 2 {
		t.Error("everybody sees their own tokens, owners all")
	}
	wantCode(t, o.RevokeToken(as(t, &ben.Caller), &ben.Caller, automation.ID), refusal.CodeNotFound)
	for range 2 {
		if err := o.RevokeToken(as(t, &ana.Caller), &ana.Caller, token.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.decisions(2); got[0] != "token.revoke ana ben" || got[1] == got[0] {
		t.Error(got)
	}
	_, err = o.Bearer(t.Context(), secret, here.Source)
	wantCode(t, err, refusal.CodeUnauthenticated)
	o.exec("UPDATE operator_token SET expires = ? WHERE id = ?", time.Now().UnixMilli(), automation.ID)
	_, err = o.Bearer(t.Context(), automationSecret, here.Source)
	wantCode(t, err, refusal.CodeUnauthenticated)
	for _, malformed := range []string{"", "fgp_", "fgd_" + secret[4:], secret + "x", secret[:39] + "!"} {
		_, err = o.Bearer(t.Context(), malformed, here.Source)
		wantCode(t, err, refusal.CodeUnauthenticated)
	}
}

func TestRoles(t *testing.T) {
	want := map[Role]string{
		RoleAuditor:   "read audit.read",
		RoleDeveloper: "read apis.write apps.write",
		RoleOperator:  "read apis.write apps.write devices.write targets.write audit.read",
		RoleOwner:     "read apis.write apps.write devices.write targets.write audit.read access.write",
		"root":        "",
	}
	for role, scopes := range want {
		if got := joinScopes(role.Scopes()); got != scopes {
			t.Errorf("%s: %s", role, got)
		}
	}
	if got := RolesWith(ScopeDevicesWrite); got != "operator or owner" {
		t.Error(got)
	}
}

// Nothing that could be used is in the database in plain.
func TestNoSecretIsKept(t *testing.T) {
	o, ana := claimed(t)
	invited := must(o.AddAccount(as(t, &ana.Caller), "ben", RoleOwner))(t)
	_, secret, err := o.AddToken(as(t, &ana.Caller), &ana.Caller, "x", []Scope{ScopeRead}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"operator_account", "operator_link", "operator_session", "operator_token", "audit"} {
		err := o.store.View(t.Context(), func(tx *store.Tx) error {
			rows, err := tx.QueryContext(t.Context(), "SELECT * FROM "+table)
			if err != nil {
				return err
			}
			defer rows.Close()
			columns, err := rows.Columns()
			if err != nil {
				return err
			}
			for rows.Next() {
				values := make([]any, len(columns))
				for i := range values {
					values[i] = new([]byte)
				}
				if err := rows.Scan(values...); err != nil {
					return err
				}
				for i, value := range values {
					for _, secret := range []string{secretWord, invited.Token, secret, ana.Secret} {
						if strings.Contains(string(*value.(*[]byte)), secret) {
							t.Errorf("%s.%s holds a secret", table, columns[i])
						}
					}
				}
			}
			return rows.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What was asked under one Idempotency-Key is made once, and its secret answered again.
func TestSentAgain(t *testing.T) {
	o, ana := claimed(t)
	requests := once.NewRequests()
	again := func(operation string, do func(ctx context.Context) string) {
		t.Helper()
		var answers []string
		for range 2 {
			ctx, end, err := requests.Begin(as(t, &ana.Caller), "key-of-its-sender-"+operation, operation, operation)
			if err != nil {
				t.Fatal(err)
			}
			answers = append(answers, do(ctx))
			end()
		}
		if answers[0] != answers[1] || answers[0] == "" {
			t.Errorf("%s: %q", operation, answers)
		}
	}
	again("AddToken", func(ctx context.Context) string {
		token, secret, err := o.AddToken(ctx, &ana.Caller, "x", []Scope{ScopeRead}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return token.ID + secret
	})
	again("AddOperator", func(ctx context.Context) string {
		invited := must(o.AddAccount(ctx, "ben", RoleAuditor))(t)
		return invited.Account.Name + invited.Token
	})
	if tokens := must(o.Tokens(t.Context(), &ana.Caller, nil, "", 10))(t); len(tokens) != 1 {
		t.Errorf("%d tokens", len(tokens))
	}
}
