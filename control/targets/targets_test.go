package targets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/controltest"
	"fieldgate/control/directory"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

func open(t *testing.T) (*Targets, *bus.Bus) {
	t.Helper()
	data := t.TempDir()
	db, b, log := controltest.Store(t, data), controltest.Bus(t, data), controltest.Log(t)
	stop, err := directory.New(db, b, log).Serve() // names the installation
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	registered := New(db, b, log)
	if stop, err = registered.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return registered, b
}

func at(address string) Registration {
	return Registration{Upstream: "therapy", Target: fieldgate.Target{Address: address}}
}

// actions are the decisions that the audit lists, the oldest first.
func (t *Targets) actions(test *testing.T) (actions string) {
	test.Helper()
	entries, err := audit.List(test.Context(), t.store, audit.Filter{Limit: 100})
	if err != nil {
		test.Fatal(err)
	}
	for _, e := range entries {
		actions = e.Action + " " + e.Detail + " by " + e.Actor.Name + "\n" + actions
	}
	return actions
}

func (t *Targets) ask(test *testing.T, b *bus.Bus, asked fieldgate.TargetsRequest) (page fieldgate.TargetsPage) {
	test.Helper()
	question, _ := json.Marshal(asked)
	answer, err := b.Request(test.Context(), fieldgate.SubjectTargets, question)
	if err != nil {
		test.Fatal(err)
	}
	if len(answer.Data) > 900<<10 {
		test.Errorf("a page has %d bytes", len(answer.Data))
	}
	if err := json.Unmarshal(answer.Data, &page); err != nil {
		test.Fatal(err)
	}
	return page
}

func code(err error) refusal.Code {
	var refused *refusal.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// A service registers, renews, changes and leaves; gateways hear of it, and the audit lists all but the renewals.
func TestLifeOfATarget(t *testing.T) {
	targets, b := open(t)
	ctx := controltest.Context(t)
	nudged := make(chan struct{}, 100)
	stop, err := b.Subscribe(fieldgate.SubjectTargetsChanged, func(string, []byte) { nudged <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()

	first, err := targets.Register(ctx, at("HTTP://Therapy-1.internal:80/"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if first.Address != "http://therapy-1.internal:80" || first.Weight != 1 || first.TTL != DefaultTTL || first.Registrar != controltest.Actor+" test" ||
		!first.Expires().Equal(first.Registered.Add(DefaultTTL)) {
		t.Errorf("%+v", first)
	}
	renewed, err := targets.Register(ctx, at("http://therapy-1.internal"), 0)
	if err != nil || renewed.Version != first.Version || renewed.Renewed.Before(first.Renewed) || !renewed.Registered.Equal(first.Registered) {
		t.Errorf("%+v, %v", renewed, err)
	}
	page := targets.ask(t, b, fieldgate.TargetsRequest{})
	if len(page.Upstreams["therapy"]) != 1 || page.Upstreams["therapy"][0] != (fieldgate.Target{Address: "http://therapy-1.internal:80", Weight: 1}) || page.Installation == 0 || page.More {
		t.Errorf("%+v", page)
	}
	if again := targets.ask(t, b, fieldgate.TargetsRequest{Installation: page.Installation, Version: page.Version}); again.Version != page.Version || len(again.Upstreams) != 0 {
		t.Errorf("nothing is new, and the answer is %+v", again)
	}

	heavier := at("http://therapy-1.internal")
	heavier.Weight, heavier.Zone = 5, "hall-3"
	changed, err := targets.Register(ctx, heavier, first.Version)
	if err != nil || changed.Weight != 5 || changed.Version <= first.Version || !changed.Registered.Equal(first.Registered) {
		t.Errorf("%+v, %v", changed, err)
	}
	if _, err := targets.Register(ctx, at("http://therapy-1.internal"), first.Version); code(err) != refusal.CodeChanged {
		t.Errorf("a change of an older state: %v", err)
	}
	if err := targets.Remove(ctx, "therapy", "http://therapy-1.internal", first.Version); code(err) != refusal.CodeChanged {
		t.Errorf("an older state is taken out: %v", err)
	}
	if err := targets.Remove(ctx, "therapy", "http://therapy-1.internal:80", changed.Version); err != nil {
		t.Error(err)
	}
	if _, err := targets.Get(ctx, "therapy", "http://therapy-1.internal:80"); code(err) != refusal.CodeNotFound {
		t.Errorf("it is there still: %v", err)
	}
	if err := targets.Remove(ctx, "therapy", "http://therapy-1.internal:80", 0); code(err) != refusal.CodeNotFound {
		t.Errorf("it is taken out twice: %v", err)
	}
	after := targets.ask(t, b, fieldgate.TargetsRequest{Installation: page.Installation, Version: page.Version})
	if len(after.Upstreams) != 0 || after.Version <= changed.Version {
		t.Errorf("%+v", after)
	}
	want := `target.register http://therapy-1.internal:80 by me
target.update http://therapy-1.internal:80 by me
target.remove http://therapy-1.internal:80 by me
`
	if got := targets.actions(t); got != want {
		t.Errorf("the audit has\n%s", got)
	}
	for range 3 {
		select {
		case <-nudged:
		case <-time.After(time.Minute):
			t.Fatal("gateways were not told")
		}
	}
}

// What the environment file would refuse is refused here too, and the bounds hold.
func TestRegisterRefuses(t *testing.T) {
	targets, _ := open(t)
	ctx := controltest.Context(t)
	with := func(change func(*Registration)) Registration {
		r := at("http://10.0.0.1:9000")
		change(&r)
		return r
	}
	for name, r := range map[string]Registration{
		"no address":          at(""),
		"no scheme":           at("10.0.0.1:9000"),
		"other scheme":        at("ftp://10.0.0.1"),
		"a path":              at("http://10.0.0.1/x"),
		"a user":              at("http://a@10.0.0.1"),
		"a line end":          at("http://10.0.0.1\r\n"),
		"port 0":              at("http://10.0.0.1:0"),
		"long":                at("http://" + strings.Repeat("a", 300)),
		"metadata of a cloud": at("http://169.254.169.254"),
		"the same in IPv6":    at("http://[::ffff:169.254.169.254]:80"),
		"link-local":          at("http://[fe80::1%25eth0]:80"),
		"unspecified":         at("http://0.0.0.0:8090"),
		"unspecified, IPv6":   at("http://[::]:8090"),
		"multicast":           at("http://224.0.0.1"),
		"broadcast":           at("http://255.255.255.255"),
		"name of an upstream": with(func(r *Registration) { r.Upstream = "a b" }),
		"weight":              with(func(r *Registration) { r.Weight = fieldgate.MaxWeight + 1 }),
		"negative weight":     with(func(r *Registration) { r.Weight = -1 }),
		"priority":            with(func(r *Registration) { r.Priority = fieldgate.MaxPriority + 1 }),
		"zone":                with(func(r *Registration) { r.Zone = strings.Repeat("z", fieldgate.MaxZone+1) }),
		"zone with NUL":       with(func(r *Registration) { r.Zone = "a\x00" }),
		"zone not in UTF-8":   with(func(r *Registration) { r.Zone = "\xff" }),
		"short":               with(func(r *Registration) { r.TTL = 9 * time.Second }),
		"for long":            with(func(r *Registration) { r.TTL = 25 * time.Hour }),
	} {
		if _, err := targets.Register(ctx, r, 0); code(err) != refusal.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := targets.Register(ctx, at("http://10.0.0.1:9000"), 7); code(err) != refusal.CodeChanged {
		t.Errorf("a state that is not there: %v", err)
	}
	targets.fill(t, "therapy", fieldgate.MaxTargets)
	if _, err := targets.Register(ctx, at("http://10.0.0.1:9000"), 0); code(err) != refusal.CodeConflict {
		t.Errorf("address %d: %v", fieldgate.MaxTargets+1, err)
	}
	if _, err := targets.Register(ctx, at("http://therapy-7:1"), 0); err != nil {
		t.Errorf("one that is there cannot be renewed: %v", err)
	}
}

// fill registers many addresses at once.
func (t *Targets) fill(test *testing.T, upstream string, count int) {
	test.Helper()
	err := t.store.Update(test.Context(), func(tx *store.Tx) error {
		for i := range count {
			version, err := tx.Next(test.Context(), counter)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(test.Context(), "INSERT INTO upstream_target ("+columns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", upstream, fmt.Sprintf("http://%s-%d:1", upstream, i),
				strings.Repeat("<", fieldgate.MaxZone), 0, 1, DefaultTTL.Milliseconds(), "test", tx.Now.UnixMilli(), tx.Now.UnixMilli(), int64(version)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		test.Fatal(err)
	}
}

// Many addresses come in pages that fit into a message; each holds whole upstreams.
func TestPages(t *testing.T) {
	targets, b := open(t)
	for _, upstream := range []string{"a", strings.Repeat("b", 120), "c" + strings.Repeat("d", 119), "e"} {
		targets.fill(t, upstream, 1000)
	}
	count, pages := 0, 0
	for asked := (fieldgate.TargetsRequest{}); ; {
		page := targets.ask(t, b, asked)
		pages++
		for name, registered := range page.Upstreams {
			count += len(registered)
			asked.After = max(asked.After, name)
			if len(registered) != 1000 {
				t.Errorf("%d addresses of %s are on one page", len(registered), name)
			}
		}
		if !page.More {
			break
		}
	}
	if count != 4000 || pages < 2 {
		t.Errorf("%d addresses on %d pages", count, pages)
	}
}

// An address goes when it was not renewed, unless the control plane could not have been asked for as long.
func TestExpire(t *testing.T) {
	targets, _ := open(t)
	ctx := controltest.Context(t)
	old, fresh := at("http://10.0.0.1:9000"), at("http://10.0.0.2:9000")
	old.TTL = MinTTL
	for _, r := range []Registration{old, fresh} {
		if _, err := targets.Register(ctx, r, 0); err != nil {
			t.Fatal(err)
		}
	}
	age := func() {
		t.Helper()
		if err := targets.store.Update(ctx, func(tx *store.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE upstream_target SET renewed = renewed - ? WHERE address = ?", MinTTL.Milliseconds(), "http://10.0.0.1:9000")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	left := func(there time.Duration) int {
		t.Helper()
		if err := targets.expire(context.Background(), there); err != nil {
			t.Fatal(err)
		}
		list, err := targets.List(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if n := left(time.Hour); n != 2 {
		t.Errorf("%d are left before their time", n)
	}
	age()
	if n := left(MinTTL - time.Second); n != 2 {
		t.Errorf("%d are left, and the control plane was there for a shorter time than they live", n)
	}
	if _, err := targets.Register(ctx, old, 0); err != nil { // in time
		t.Fatal(err)
	}
	if n := left(time.Hour); n != 2 {
		t.Errorf("%d are left, and all were renewed", n)
	}
	age()
	if n := left(time.Hour); n != 1 {
		t.Errorf("%d are left", n)
	}
	if !strings.HasSuffix(targets.actions(t), "target.expire http://10.0.0.1:9000 by "+audit.Self+"\n") {
		t.Error(targets.actions(t))
	}
}
