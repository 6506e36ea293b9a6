package audit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/controltest"
	"fieldgate/control/filter"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

type facts struct {
	State string   `json:"state"`
	Model string   `json:"model,omitempty"`
	Notes []string `json:"notes,omitempty"`
}

func write(t *testing.T, db *store.Store, actor audit.Actor, changes ...audit.Change) {
	t.Helper()
	for _, change := range changes {
		err := db.Update(t.Context(), func(tx *store.Tx) error { return audit.Write(audit.As(t.Context(), actor), tx, change) })
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestBeforeAndAfter(t *testing.T) {
	db := controltest.Store(t, t.TempDir())
	large := []string{strings.Repeat("x", 20<<10)}
	actor := audit.Actor{Name: "ana", Via: "session abc", Source: "192.0.2.7", Request: "r1"}
	tests := []struct {
		before, after any
		was, became   string
	}{
		{nil, facts{State: "active"}, ``, `{"state":"active"}`},
		{facts{State: "active"}, nil, `{"state":"active"}`, ``},
		{nil, nil, ``, ``},
		{facts{State: "active", Model: "T2"}, facts{State: "revoked", Model: "T2"}, `{"state":"active"}`, `{"state":"revoked"}`},
		{facts{State: "active", Model: "T2"}, facts{State: "active"}, `{"model":"T2"}`, ``},
		{facts{State: "active"}, facts{State: "active"}, ``, ``},
		{facts{}, facts{Model: "a\x00\"'; DROP TABLE audit;\u202e"}, ``, `{"model":"a\u0000\"'; DROP TABLE audit;` + "\u202e" + `"}`},
		{facts{}, facts{Notes: large}, ``, `{"omittedBytes":20494}`},
	}
	for i, test := range tests {
		write(t, db, actor, audit.Change{Action: "device.update", Target: "d7", Detail: "d", Before: test.before, After: test.after})
		entries, err := audit.List(t.Context(), db, audit.Filter{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		e := entries[0]
		if string(e.Before) != test.was || string(e.After) != test.became {
			t.Errorf("%d: %s → %s", i, e.Before, e.After)
		}
		if e.Actor != actor || e.Action != "device.update" || e.Target != "d7" || e.Detail != "d" || time.Since(e.Time).Abs() > time.Minute {
			t.Errorf("%d: %+v", i, e)
		}
	}
	err := db.Update(t.Context(), func(tx *store.Tx) error { return audit.Write(t.Context(), tx, audit.Change{Action: "device.add"}) })
	if err == nil {
		t.Error("a decision of nobody is kept")
	}
}

func TestList(t *testing.T) {
	db := controltest.Store(t, t.TempDir())
	for i := range 12 {
		actor := audit.Actor{Name: []string{"ana", "ben"}[i%2]}
		action := []string{"device.add", "device.revoke", "api.publish"}[i%3]
		write(t, db, actor, audit.Change{Action: action, Target: fmt.Sprint("t", i%4)})
	}
	// Rows a minute apart, so that times select; ids stay.
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), "UPDATE audit SET time = id * 60000")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		filter string
		want   string // ids
	}{
		{"", "12 11 10 9 8 7 6 5 4 3 2 1"},
		{"actor:ana", "11 9 7 5 3 1"},
		{"action:device.*", "11 10 8 7 5 4 2 1"},
		{"-action:device.*,app.*", "12 9 6 3"},
		{"action:device.revoke", "11 8 5 2"},
		{"action:dev*", "11 10 8 7 5 4 2 1"},
		{"action:device.a*,api.*", "12 10 9 7 6 4 3 1"},
		{"action:devic", ""},
		{"target:t0", "9 5 1"},
		{"t3 -ana", "12 8 4"},
		{"since:1970-01-01T00:10:00Z", "12 11 10"},
		{"actor:ben action:device.add target:t3 since:1970-01-01T00:01:00Z", "4"},
		{`actor:"' OR 1=1 --"`, ""},
		{"action:%.*", ""},
	}
	for _, test := range tests {
		for _, limit := range []int{1, 2, 100} {
			terms, err := filter.Parse(test.filter, time.Now(), audit.Keys...)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			wanted := audit.Filter{Terms: terms, Limit: limit}
			for {
				page, err := audit.List(t.Context(), db, wanted)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				for i := range page {
					ids = append(ids, fmt.Sprint(page[i].ID))
				}
				wanted.After = page[len(page)-1].Key()
			}
			if got := strings.Join(ids, " "); got != test.want {
				t.Errorf("%s: %s", test.filter, got)
			}
		}
	}
	for _, cursor := range []string{"x", "1", "1.x", ".", "99999999999999999999.1"} {
		var refused *refusal.Error
		if _, err := audit.List(t.Context(), db, audit.Filter{After: cursor, Limit: 1}); !errors.As(err, &refused) {
			t.Errorf("%q: %v", cursor, err)
		}
	}
}

func TestFeed(t *testing.T) {
	data := t.TempDir()
	db, bus := controltest.Store(t, data), controltest.Bus(t, data)
	nodes := []*audit.Feed{audit.NewFeed(db, bus, controltest.Log(t)), audit.NewFeed(db, bus, controltest.Log(t))}
	var readers []*audit.Reader
	for _, feed := range nodes {
		reader, err := feed.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		readers = append(readers, reader)
		go feed.Run(t.Context())
	}
	// Nobody says when a feed has begun: decide until both have told of one.
	ana := audit.Actor{Name: "ana"}
	seen := make([]uint64, len(readers))
	for i, reader := range readers {
		for seen[i] == 0 {
			write(t, db, ana, audit.Change{Action: "device.add", Target: "first"})
			audit.Nudge(bus, controltest.Log(t))
			select {
			case e := <-reader.Entries:
				seen[i] = e.ID
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	const decisions = 50
	for i := range decisions {
		write(t, db, ana, audit.Change{Action: "device.add", Target: fmt.Sprint("d", i)})
		audit.Nudge(bus, controltest.Log(t))
	}
	for i, reader := range readers {
		for last := ""; last != fmt.Sprint("d", decisions-1); {
			e, open := <-reader.Entries
			if !open || e.ID != seen[i]+1 {
				t.Fatalf("node %d: after %d came %+v", i, seen[i], e)
			}
			seen[i], last = e.ID, e.Target
		}
	}
	// A lost nudge costs time only.
	write(t, db, ana, audit.Change{Action: "device.add", Target: "unheard"})
	if e := <-readers[0].Entries; e.Target != "unheard" {
		t.Fatalf("%+v", e)
	}
	// A reader that does not read is ended; the others go on.
	lazy, err := nodes[0].Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	defer lazy.Close()
	err = db.Update(t.Context(), func(tx *store.Tx) error {
		for range 400 {
			if err := audit.Write(audit.As(t.Context(), ana), tx, audit.Change{Action: "device.add", Target: "many"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Publish(fieldgate.SubjectAuditChanged, []byte("whatever")); err != nil {
		t.Fatal(err)
	}
	missed := false
	for deadline := time.After(time.Minute); !missed; {
		select {
		case <-deadline:
			t.Fatal("the lazy reader is kept")
		case <-time.After(time.Millisecond):
			if len(lazy.Entries) == cap(lazy.Entries) {
				for range lazy.Entries {
				}
				missed = true
			}
		}
	}
}
