package pipeline

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate"
)

// limited is a fixture whose messages have these limits and quotas.
func limited(t testing.TB, limits []fieldgate.Limit, quotas []fieldgate.Quota) (*fixture, *Caller) {
	t.Helper()
	f, caller := messaging(t)
	contract := messages()
	contract.Operations[0].Limits, contract.Operations[0].Quotas = limits, quotas
	f.link(t, contract)
	f.records.discard = false
	return f, caller
}

// A rate of bytes lets pass what is left and a message that takes more, which then has to be made up for.
func TestByteRate(t *testing.T) {
	f, caller := limited(t, []fieldgate.Limit{{Count: 60 << 10, Bytes: true, Period: time.Minute, Burst: 4 << 10, Key: fieldgate.LimitPrincipal}}, nil)
	now := time.Now()
	for _, c := range []struct {
		at    time.Duration
		bytes int
		wait  time.Duration // 0: passes
	}{
		{0, 3 << 10, 0},
		{0, 0, 0},
		{0, 3 << 10, 0}, // 1 KiB was left
		{0, 1, 2*time.Second + 1},
		{2 * time.Second, 1, 1},
		{3 * time.Second, 1 << 10, 0},
		{3 * time.Second, 1, 1},
		{time.Hour, 1 << 19, 0}, // however large, it passes when nothing is owed
		{time.Hour, 1, 508*time.Second + 1},
	} {
		x := publishing(caller, nil, "f/d7/raw", strings.Repeat("x", c.bytes))
		x.Started = now.Add(c.at)
		problem := f.do(x)
		if (problem == nil) != (c.wait == 0) || problem != nil && (problem.Code != "rate-limited" || problem.RetryAfter.Round(time.Millisecond) != c.wait.Round(time.Millisecond)) {
			t.Errorf("%d bytes after %v: %+v, want a wait of %v", c.bytes, c.at, problem, c.wait)
		}
	}
	if r := f.records.last(); r.Rule != "rate 60KiB/min per principal, burst 4KiB" || r.Decided != fieldgate.StageLimit || r.Findings != fieldgate.FindingRateLimited {
		t.Errorf("%+v", r)
	}
}

// A quota is used up by what passes, for each caller, and begins anew with the day or month of the calendar (UTC).
func TestQuotas(t *testing.T) {
	f, caller := limited(t, nil, []fieldgate.Quota{
		{Count: 3, Period: fieldgate.QuotaDay, Key: fieldgate.LimitPrincipal},
		{Count: 100, Bytes: true, Period: fieldgate.QuotaMonth, Key: fieldgate.LimitOperation}})
	for _, c := range []struct {
		at    string
		bytes int
		rule  string
		retry time.Duration
	}{
		{"2026-11-29T23:59:58Z", 40, "", 0},
		{"2026-11-29T23:59:58Z", 61, "quota 100B/month per operation", 24*time.Hour + 2*time.Second},
		{"2026-11-29T23:59:58Z", 40, "", 0},
		{"2026-11-29T23:59:59Z", 1, "quota 3/day per principal", time.Second},
		{"2026-11-30T00:00:00Z", 20, "", 0},
		{"2026-11-30T23:59:59Z", 1, "quota 100B/month per operation", time.Second},
		{"2026-12-01T00:00:00Z", 100, "", 0},
		{"2026-12-01T00:00:00Z", 1, "quota 100B/month per operation", 31 * 24 * time.Hour},
	} {
		x := publishing(caller, nil, "f/d7/raw", strings.Repeat("x", c.bytes))
		x.Started, _ = time.Parse(time.RFC3339, c.at)
		problem := f.do(x)
		r := f.records.last()
		if r.Rule != c.rule || problem != nil && (problem.Code != "rate-limited" || problem.RetryAfter != c.retry) {
			t.Errorf("%d bytes at %s: %q %+v", c.bytes, c.at, r.Rule, problem)
		}
	}
}

// What was used survives a restart; callers that are gone and a damaged file do not keep a gateway from starting.
func TestQuotasAreKept(t *testing.T) {
	f, caller := limited(t, nil, []fieldgate.Quota{
		{Count: 2, Period: fieldgate.QuotaMonth, Key: fieldgate.LimitPrincipal}, {Count: 9, Period: fieldgate.QuotaMonth, Key: fieldgate.LimitOperation}})
	file := filepath.Join(t.TempDir(), "quotas")
	open := func() {
		t.Helper()
		var err error
		if f.quotas, err = OpenQuotas(file, f.Directory, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	send := func() *fieldgate.Problem { return f.do(publishing(caller, nil, "f/d7/raw", "x")) }
	stop := func() {
		t.Helper()
		ended, end := context.WithCancel(t.Context())
		end()
		if err := f.quotas.Run(ended); err != nil {
			t.Fatal(err)
		}
	}
	open()
	send()
	send()
	stop()
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	open()
	if problem := send(); problem == nil || problem.Code != "rate-limited" {
		t.Errorf("after a restart: %v\n%s", problem, kept)
	}
	if err := os.WriteFile(file, append(kept, []byte(`{"quota":"a","kind":"device","id":"gone","window":1,"used":1}`+"\n")...), 0o600); err != nil {
		t.Fatal(err)
	}
	if open(); len(f.quotas.used) != 2 {
		t.Errorf("%d counts", len(f.quotas.used))
	}
	if err := os.WriteFile(file, kept[:len(kept)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	if open(); send() != nil {
		t.Error("nothing passes after a file that was damaged")
	}
	if _, err := os.Stat(file + ".corrupt"); err != nil {
		t.Error(err)
	}
}
