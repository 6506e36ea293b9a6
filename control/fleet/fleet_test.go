package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/controltest"
	"fieldgate/control/directory"
	"fieldgate/control/filter"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
	"fieldgate/engine/seal"
	"fieldgate/engine/store"
)

type node struct {
	*Fleet
	bus *bus.Bus
}

func open(t testing.TB, data string) node {
	t.Helper()
	db, b := controltest.Store(t, data), controltest.Bus(t, data)
	d := directory.New(db, b, controltest.Log(t))
	if _, err := d.Serve(); err != nil {
		t.Fatal(err)
	}
	return node{New(db, d, seal.Open(filepath.Join(data, "secrets.key"), true)), b}
}

func refused(err error, code refusal.Code) bool {
	var r *refusal.Error
	return errors.As(err, &r) && r.Code == code
}

// follow reads the change feed as a gateway does.
func follow(t testing.TB, b *bus.Bus, after uint64) (changes []fieldgate.DirectoryChange) {
	t.Helper()
	for more := true; more; {
		request, _ := json.Marshal(fieldgate.DirectoryRequest{After: after})
		answer, err := b.Request(t.Context(), fieldgate.SubjectDirectoryChanges, request)
		if err != nil {
			t.Fatal(err)
		}
		var page fieldgate.DirectoryPage
		if err := json.Unmarshal(answer.Data, &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Changes) > fieldgate.DirectoryPageChanges || page.More && len(page.Changes) == 0 {
			t.Fatalf("a page of %d changes, more: %v", len(page.Changes), page.More)
		}
		for _, change := range page.Changes {
			if change.Sequence <= after {
				t.Fatalf("sequence %d after %d", change.Sequence, after)
			}
			after = change.Sequence
		}
		changes, more = append(changes, page.Changes...), page.More
	}
	return changes
}

func TestLifeOfADevice(t *testing.T) {
	ctx := controltest.Context(t)
	n := open(t, t.TempDir())
	nudges := make(chan struct{}, 16)
	stop, err := n.bus.Subscribe(fieldgate.SubjectDirectoryChanged, func(string, []byte) { nudges <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()

	added, token, err := n.Add(ctx, NewDevice{ID: "d7", Model: "T2", Firmware: "1.8.3"})
	if err != nil || !strings.HasPrefix(token, fieldgate.PrefixDevice) || !fieldgate.WellFormedToken([]byte(token)) {
		t.Fatalf("%v %q", err, token)
	}
	<-nudges
	if added.Credentials[0] != fieldgate.HashToken([]byte(token)) || added.State != fieldgate.StateActive {
		t.Fatalf("%+v", added)
	}
	if _, _, err := n.Add(ctx, NewDevice{ID: "d7"}); !refused(err, refusal.CodeConflict) {
		t.Fatalf("added twice: %v", err)
	}
	found, err := n.Get(ctx, "d7")
	if err != nil || found.Model != "T2" || found.Firmware != "1.8.3" || !found.Created.Equal(added.Created) {
		t.Fatalf("%+v %v", found, err)
	}
	if _, err := n.Get(ctx, "d8"); !refused(err, refusal.CodeNotFound) {
		t.Fatal(err)
	}

	// Rotation: the older token stays only when it is kept.
	for want := 2; want <= fieldgate.MaxCredentials; want++ {
		device, _, err := n.IssueToken(ctx, "d7", true, directory.Basis{})
		if err != nil || len(device.Credentials) != want {
			t.Fatalf("%+v %v", device, err)
		}
	}
	if _, _, err := n.IssueToken(ctx, "d7", true, directory.Basis{}); !refused(err, refusal.CodeConflict) {
		t.Fatalf("a fifth token: %v", err)
	}
	device, newest, err := n.IssueToken(ctx, "d7", false, directory.Basis{})
	if err != nil || len(device.Credentials) != 1 || device.Credentials[0] != fieldgate.HashToken([]byte(newest)) {
		t.Fatalf("%+v %v", device, err)
	}

	if device, err = n.Quarantine(ctx, "d7", directory.Basis{}); err != nil || device.State != fieldgate.StateQuarantined {
		t.Fatalf("%+v %v", device, err)
	}
	again, err := n.Quarantine(ctx, "d7", directory.Basis{})
	if err != nil || again.Sequence != device.Sequence {
		t.Fatalf("quarantined twice, it changed: %+v %v", again, err)
	}
	if device, err = n.Release(ctx, "d7", directory.Basis{}); err != nil || device.State != fieldgate.StateActive {
		t.Fatalf("%+v %v", device, err)
	}
	firmware := "1.9.0"
	if device, err = n.Update(ctx, "d7", nil, &firmware, directory.Basis{}); err != nil || device.Firmware != firmware || device.Model != "T2" {
		t.Fatalf("%+v %v", device, err)
	}
	if device, err = n.Revoke(ctx, "d7", directory.Basis{}); err != nil || device.State != fieldgate.StateRevoked || device.Credentials != nil {
		t.Fatalf("%+v %v", device, err)
	}
	for name, decide := range map[string]func() error{
		"token":      func() error { _, _, err := n.IssueToken(ctx, "d7", false, directory.Basis{}); return err },
		"quarantine": func() error { _, err := n.Quarantine(ctx, "d7", directory.Basis{}); return err },
		"release":    func() error { _, err := n.Release(ctx, "d7", directory.Basis{}); return err },
	} {
		if err := decide(); !refused(err, refusal.CodeConflict) {
			t.Errorf("%s of a revoked device: %v", name, err)
		}
	}

	// One row in the feed, the newest; one audit row for each decision that changed something.
	feed := follow(t, n.bus, 0)
	if len(feed) != 1 || feed[0].State != fieldgate.StateRevoked || feed[0].Sequence != device.Sequence || feed[0].Credentials != nil {
		t.Fatalf("%+v", feed)
	}
	entries, err := audit.List(ctx, n.store, audit.Filter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, entry := range entries {
		if entry.Actor.Name != "me" || entry.Target != "d7" {
			t.Errorf("%+v", entry)
		}
		actions = append(actions, entry.Action)
	}
	slices.Reverse(actions)
	want := "device.add device.token device.token device.token device.token device.quarantine device.release device.update device.revoke"
	if strings.Join(actions, " ") != want {
		t.Fatalf("got %s", actions)
	}
}

func TestInvalidDevices(t *testing.T) {
	n := open(t, t.TempDir())
	for _, device := range []NewDevice{{ID: ""}, {ID: "a/b"}, {ID: ".."}, {ID: strings.Repeat("x", 129)}, {ID: "a\x00"},
		{ID: "a", Model: "x\ny"}, {ID: "a", Firmware: strings.Repeat("x", 129)}, {ID: "a", Model: "\xff"}} {
		if _, _, err := n.Add(controltest.Context(t), device); !refused(err, refusal.CodeInvalid) {
			t.Errorf("%+v: %v", device, err)
		}
	}
	if feed := follow(t, n.bus, 0); len(feed) != 0 {
		t.Fatalf("%+v", feed)
	}
}

func TestImport(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of devices")
	}
	ctx := controltest.Context(t)
	n := open(t, t.TempDir())
	var devices []NewDevice
	for i := range 2500 {
		devices = append(devices, NewDevice{ID: fmt.Sprintf("d%04d", i), Model: "T2"})
	}
	devices = append(devices, NewDevice{ID: "d0001"}, NewDevice{ID: "no/id"})
	imported, err := n.Import(ctx, devices)
	if err != nil || len(imported) != len(devices) {
		t.Fatal(err)
	}
	for i, result := range imported {
		if wrong := i >= 2500; (result.Refused != nil) != wrong || (result.Token == "") != wrong {
			t.Fatalf("%d: %+v", i, result)
		}
	}
	if feed := follow(t, n.bus, 0); len(feed) != 2500 || feed[0].Credentials[0] != fieldgate.HashToken([]byte(imported[0].Token)) {
		t.Fatalf("%d changes", len(feed))
	}
}

// The counter of the directory is the sequence of a change that is there: gateways are held against it, and would seem to be
// behind for ever.
func TestRefusedDevicesTakeNoSequence(t *testing.T) {
	n := open(t, t.TempDir())
	long := strings.Repeat("x", 4000)
	if _, err := n.Import(controltest.Context(t), []NewDevice{{ID: long}, {ID: "d1"}, {ID: "d1"}}); err != nil {
		t.Fatal(err)
	}
	var counter uint64
	err := n.store.View(t.Context(), func(tx *store.Tx) (err error) {
		counter, err = tx.Counter(t.Context(), "directory")
		return err
	})
	changes := follow(t, n.bus, 0)
	if err != nil || len(changes) != 1 || changes[0].Sequence != counter {
		t.Fatalf("the counter is %d, the changes are %+v, %v", counter, changes, err)
	}
	entries, err := audit.List(t.Context(), n.store, audit.Filter{Limit: 10})
	if err != nil || len(entries) != 1 || entries[0].Target != "d1" || entries[0].Detail != "1 device" {
		t.Fatalf("%.300v %v", entries, err)
	}
}

func TestList(t *testing.T) {
	ctx := controltest.Context(t)
	n := open(t, t.TempDir())
	for i := range 25 {
		if _, _, err := n.Add(ctx, NewDevice{ID: fmt.Sprintf("a%02d", i), Model: fmt.Sprint("T", i%2)}); err != nil {
			t.Fatal(err)
		}
	}
	n.Add(ctx, NewDevice{ID: "b"})
	n.Quarantine(ctx, "a03", directory.Basis{})
	for text, test := range map[string]struct {
		want  int
		first string
	}{
		"":                           {26, "a00"},
		"id:a1*":                     {10, "a10"},
		"a1":                         {10, "a10"},
		"-a1 -id:a2*":                {11, "a00"},
		"id:a24":                     {1, "a24"},
		"model:T1":                   {12, "a01"},
		"-model:*":                   {1, "b"},
		"state:quarantined":          {1, "a03"},
		"state:quarantined model:T0": {0, ""},
	} {
		terms, err := filter.Parse(text, time.Now(), directory.DeviceKeys...)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		wanted := directory.Filter{Terms: terms, Limit: 7}
		for {
			page, err := n.List(ctx, wanted)
			if err != nil {
				t.Fatal(err)
			}
			for _, device := range page {
				ids = append(ids, device.ID)
			}
			if len(page) < wanted.Limit {
				break
			}
			wanted.After.ID = page[len(page)-1].ID
		}
		if len(ids) != test.want || test.want > 0 && ids[0] != test.first || !slices.IsSorted(ids) {
			t.Errorf("%s: %s", text, ids)
		}
	}
}

// TestRandomDecisions carries out random decisions and compares the fleet and its change feed with a map, across restarts.
func TestRandomDecisions(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	type known struct {
		state    fieldgate.PrincipalState
		firmware string
		tokens   int
	}
	ctx := audit.As(context.Background(), audit.Actor{Name: controltest.Actor})
	data := t.TempDir()
	model := make(map[string]known)
	gateway := make(map[string]fieldgate.DirectoryChange) // what a gateway has learnt from the feed
	after := uint64(0)
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			n := open(t, data)
			for range 150 {
				id := fmt.Sprint("d", random.IntN(12))
				device, exists := model[id]
				var err error
				want := refusal.Code("")
				if !exists {
					want = refusal.CodeNotFound
				} else if device.state == fieldgate.StateRevoked {
					want = refusal.CodeConflict
				}
				switch random.IntN(7) {
				case 0, 1:
					_, _, err = n.Add(ctx, NewDevice{ID: id})
					if want = refusal.CodeConflict; !exists {
						want, device = "", known{tokens: 1}
					}
				case 2:
					keep := random.IntN(2) == 0
					_, _, err = n.IssueToken(ctx, id, keep, directory.Basis{})
					if keep && device.tokens == fieldgate.MaxCredentials {
						want = refusal.CodeConflict
					}
					if device.tokens++; !keep {
						device.tokens = 1
					}
				case 3:
					_, err = n.Quarantine(ctx, id, directory.Basis{})
					device.state = fieldgate.StateQuarantined
				case 4:
					_, err = n.Release(ctx, id, directory.Basis{})
					device.state = fieldgate.StateActive
				case 5:
					firmware := fmt.Sprint(random.IntN(3))
					_, err = n.Update(ctx, id, nil, &firmware, directory.Basis{})
					if want == refusal.CodeConflict {
						want = "" // what is registered about a revoked device may be corrected
					}
					device.firmware = firmware
				case 6:
					if random.IntN(4) > 0 {
						continue
					}
					_, err = n.Revoke(ctx, id, directory.Basis{})
					if want == refusal.CodeConflict {
						want = ""
					}
					device.state, device.tokens = fieldgate.StateRevoked, 0
				}
				if want == "" && err != nil || want != "" && !refused(err, want) {
					t.Fatalf("%s: want %q, got %v", id, want, err)
				}
				if want == "" {
					model[id] = device
				}
				if random.IntN(10) == 0 {
					for _, change := range follow(t, n.bus, after) {
						gateway[change.ID], after = change, change.Sequence
					}
				}
			}
			for _, change := range follow(t, n.bus, after) {
				gateway[change.ID], after = change, change.Sequence
			}
			if len(gateway) != len(model) {
				t.Fatalf("the gateway knows %d of %d", len(gateway), len(model))
			}
			for id, want := range model {
				device, err := n.Get(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				if got := (known{device.State, device.Firmware, len(device.Credentials)}); got != want {
					t.Fatalf("%s is %+v, want %+v", id, got, want)
				}
				learnt := gateway[id]
				if got := (known{learnt.State, learnt.Firmware, len(learnt.Credentials)}); got != want || learnt.Kind != fieldgate.PrincipalDevice {
					t.Fatalf("the gateway thinks that %s is %+v, want %+v", id, learnt, want)
				}
			}
		})
	}
}

func TestParallelDecisions(t *testing.T) {
	n := open(t, t.TempDir())
	const writers, each = 50, 4
	errs := make(chan error, writers)
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				if _, _, err := n.Add(controltest.Context(t), NewDevice{ID: fmt.Sprintf("d%d-%d", w, i)}); err != nil {
					errs <- err
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if feed := follow(t, n.bus, 0); len(feed) != writers*each {
		t.Fatalf("%d changes", len(feed))
	}
}

// BenchmarkFeed reads the change feed of 100,000 devices; it also says how fast they are imported.
func BenchmarkFeed(b *testing.B) {
	n := open(b, b.TempDir())
	const devices = 100_000
	begin := time.Now()
	for from := 0; from < devices; from += 1000 {
		batch := make([]NewDevice, 1000)
		for i := range batch {
			batch[i] = NewDevice{ID: fmt.Sprintf("70b3d5e75%07d", from+i), Model: "T2", Firmware: "1.8.3"}
		}
		if _, err := n.Import(controltest.Context(b), batch); err != nil {
			b.Fatal(err)
		}
	}
	imported := devices / time.Since(begin).Seconds()
	for b.Loop() {
		if changes := follow(b, n.bus, 0); len(changes) != devices {
			b.Fatal(len(changes))
		}
	}
	b.ReportMetric(imported, "imports/s")
	b.ReportMetric(devices*float64(b.N)/b.Elapsed().Seconds(), "changes/s")
}

// A token that is issued alone has a SCRAM verifier, one of an import has none; gateways hear of both in the order of the tokens.
func TestScramVerifiers(t *testing.T) {
	f, ctx := open(t, t.TempDir()), controltest.Context(t)
	_, first, err := f.Add(ctx, NewDevice{ID: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := f.IssueToken(ctx, "d1", true, directory.Basis{})
	if err != nil {
		t.Fatal(err)
	}
	imported, err := f.Import(ctx, []NewDevice{{ID: "d2"}, {ID: "d3"}})
	if err != nil {
		t.Fatal(err)
	}
	_, later, err := f.IssueToken(ctx, "d2", true, directory.Basis{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"d1": {first, second}, "d2": {"", later}, "d3": nil} // tokens with a verifier
	for _, change := range follow(t, f.bus, 0) {
		if len(change.Verifiers) != len(want[change.ID]) {
			t.Fatalf("%s: %d verifiers", change.ID, len(change.Verifiers))
		}
		for i, token := range want[change.ID] {
			var v fieldgate.ScramVerifier
			if token != "" {
				if v, err = fieldgate.NewScramVerifier(change.ID, token); err != nil || fieldgate.HashToken([]byte(token)) != change.Credentials[i] {
					t.Fatalf("%s: credential %d is another, %v", change.ID, i, err)
				}
			}
			if change.Verifiers[i] != v {
				t.Errorf("%s: verifier %d is another", change.ID, i)
			}
		}
	}
	if _, err := f.Revoke(ctx, "d1", directory.Basis{}); err != nil {
		t.Fatal(err)
	}
	changes := follow(t, f.bus, 0)
	if last := changes[len(changes)-1]; last.ID != "d1" || len(last.Verifiers) != 0 || len(imported) != 2 {
		t.Fatalf("after the revocation: %+v", last)
	}
}
