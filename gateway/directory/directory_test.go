package directory

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t testing.TB, folder string) *Directory {
	t.Helper()
	d, err := Open(folder, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func hash(n int) fieldgate.CredentialHash { return fieldgate.HashToken(fmt.Append(nil, "token ", n)) }

func device(sequence uint64, id string, state fieldgate.PrincipalState, tokens ...int) fieldgate.DirectoryChange {
	change := fieldgate.DirectoryChange{Sequence: sequence, Kind: fieldgate.PrincipalDevice, ID: id, State: state, Model: "T2", Firmware: "1.8.3"}
	for _, n := range tokens {
		change.Credentials = append(change.Credentials, hash(n))
	}
	return change
}

func TestLookupFollowsChanges(t *testing.T) {
	folder := t.TempDir()
	d := open(t, folder)
	owner := func(d *Directory, token int) string {
		h := hash(token)
		ref := d.Lookup(&h)
		if ref == 0 {
			return ""
		}
		return d.Principal(ref).ID
	}
	app := fieldgate.DirectoryChange{Sequence: 3, Kind: fieldgate.PrincipalApp, ID: "d1", Scopes: []string{"read", "write"}, Credentials: []fieldgate.CredentialHash{hash(9)}}
	if err := d.Apply([]fieldgate.DirectoryChange{device(1, "d1", 0, 1), device(2, "d2", 0, 2, 3), app}); err != nil {
		t.Fatal(err)
	}
	if owner(d, 1) != "d1" || owner(d, 2) != "d2" || owner(d, 3) != "d2" || owner(d, 4) != "" {
		t.Fatal("wrong owners")
	}
	// An app may have a device's id.
	if ref := d.Find(fieldgate.PrincipalApp, "d1"); d.Principal(ref).Kind != fieldgate.PrincipalApp || !slices.Equal(d.Principal(ref).Scopes, app.Scopes) {
		t.Fatalf("%+v", d.Principal(ref))
	}
	// Token 2 is replaced by 5, and the device quarantined; an older change that comes again changes nothing.
	if err := d.Apply([]fieldgate.DirectoryChange{device(4, "d2", fieldgate.StateQuarantined, 3, 5), device(2, "d2", 0, 2)}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Directory{d, open(t, folder)} { // the second as a restart finds it
		if owner(d, 2) != "" || owner(d, 3) != "d2" || owner(d, 5) != "d2" || d.Sequence() != 4 || d.Length() != 3 {
			t.Fatal("the newest change does not count")
		}
		if ref := d.Find(fieldgate.PrincipalDevice, "d2"); d.State(ref) != fieldgate.StateQuarantined {
			t.Fatal("not quarantined")
		}
	}
}

// A token that was dropped and given again, to the same or another principal, belongs to its new owner.
func TestCredentialMoves(t *testing.T) {
	d := open(t, t.TempDir())
	changes := []fieldgate.DirectoryChange{device(1, "d1", 0, 1), device(2, "d1", 0), device(3, "d2", 0, 1), device(4, "d2", 0), device(5, "d1", 0, 1)}
	for i, want := range []string{"d1", "", "d2", "", "d1"} {
		if err := d.Apply(changes[i : i+1]); err != nil {
			t.Fatal(err)
		}
		h, got := hash(1), ""
		if ref := d.Lookup(&h); ref != 0 {
			got = d.Principal(ref).ID
		}
		if got != want {
			t.Fatalf("after change %d: owner %q, want %q", i+1, got, want)
		}
	}
}

// Another database, or an older one, is followed from its first change on, and nobody of the one before gets in.
func TestFollowAnotherInstallation(t *testing.T) {
	folder := t.TempDir()
	d := open(t, folder)
	follow := func(installation, newest uint64, want bool) {
		t.Helper()
		if began, err := d.Follow(installation, newest); err != nil || began != want {
			t.Fatalf("installation %d, newest %d: began anew %v, %v", installation, newest, began, err)
		}
	}
	follow(7, 2, false) // the first one
	if err := d.Apply([]fieldgate.DirectoryChange{device(1, "d1", 0, 1), device(2, "d2", 0, 2)}); err != nil {
		t.Fatal(err)
	}
	follow(7, 2, false)
	follow(7, 5, false)
	d.Close()
	d = open(t, folder)
	follow(7, 2, false) // remembered across a restart
	var shut []string
	d.Watch(func(c *fieldgate.DirectoryChange) { shut = append(shut, c.ID+" "+c.State.String()) })
	follow(7, 1, true) // restored from a backup
	h1, h2 := hash(1), hash(2)
	if d.Sequence() != 0 || d.Lookup(&h1) != 0 || d.Lookup(&h2) != 0 || !slices.Equal(shut, []string{"d1 revoked", "d2 revoked"}) {
		t.Fatalf("sequence %d, watchers heard %v", d.Sequence(), shut)
	}
	if err := d.Apply([]fieldgate.DirectoryChange{device(1, "d1", 0, 1)}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Directory{d, open(t, folder)} {
		if ref := d.Lookup(&h1); ref == 0 || d.State(ref) != fieldgate.StateActive || d.Lookup(&h2) != 0 {
			t.Fatal("the older database is not followed")
		}
	}
	follow(8, 1, true) // another database
	if d.Lookup(&h1) != 0 {
		t.Fatal("a device of another database gets in")
	}
}

func TestWatch(t *testing.T) {
	d := open(t, t.TempDir())
	var heard []uint64
	d.Watch(func(c *fieldgate.DirectoryChange) { heard = append(heard, c.Sequence) })
	for range 2 {
		if err := d.Apply([]fieldgate.DirectoryChange{device(1, "d1", 0), device(2, "d2", 0)}); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(heard, []uint64{1, 2}) {
		t.Fatal(heard)
	}
}

// Wherever a crash cuts the log, what was whole before is there, and the directory goes on.
func TestTornLog(t *testing.T) {
	folder := t.TempDir()
	d := open(t, folder)
	if err := d.Apply([]fieldgate.DirectoryChange{device(1, "d1", 0, 1), device(2, "d2", 0, 2)}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	whole, err := os.ReadFile(filepath.Join(folder, logName))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range whole {
		for _, tail := range [][]byte{nil, make([]byte, 20)} { // cut, or extended with zeros
			folder := t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, logName), append(whole[:cut:cut], tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			d := open(t, folder)
			if err := d.Apply([]fieldgate.DirectoryChange{device(9, "d9", 0, 9)}); err != nil {
				t.Fatal(err)
			}
			kept := d.Length()
			d.Close()
			if again := open(t, folder); again.Length() != kept || again.Find(fieldgate.PrincipalDevice, "d9") == 0 {
				t.Fatalf("cut at %d: %d principals after a restart, %d before", cut, again.Length(), kept)
			}
		}
	}
}

// A log that is damaged in the middle is set aside, not trusted and not deleted.
func TestCorruptLog(t *testing.T) {
	folder := t.TempDir()
	d := open(t, folder)
	for i := range 50 {
		if err := d.Apply([]fieldgate.DirectoryChange{device(uint64(i+1), fmt.Sprint("d", i), 0, i)}); err != nil {
			t.Fatal(err)
		}
	}
	d.Close()
	path := filepath.Join(folder, logName)
	content, _ := os.ReadFile(path)
	content[len(content)/2] ^= 0x40
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if d = open(t, folder); d.Length() != 0 || d.Sequence() != 0 {
		t.Fatal("a damaged log is trusted")
	}
	names, _ := filepath.Glob(path + ".corrupt-*")
	if len(names) != 1 {
		t.Fatal("the damaged log is not kept")
	}
}

// Random changes against a map; the log is rewritten on the way.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	folder := t.TempDir()
	d := open(t, folder)
	model := map[string]fieldgate.DirectoryChange{}
	for sequence := uint64(1); sequence <= 12_000; {
		var changes []fieldgate.DirectoryChange
		for range 1 + random.IntN(50) {
			id := fmt.Sprint("d", random.IntN(100))
			c := device(sequence, id, fieldgate.PrincipalState(random.IntN(3)))
			for k := range random.IntN(3) {
				c.Credentials = append(c.Credentials, hash(int(id[1])*1000+len(id)*100+random.IntN(5)*10+k))
			}
			for _, other := range model {
				if other.ID != id {
					c.Credentials = slices.DeleteFunc(c.Credentials, func(h fieldgate.CredentialHash) bool { return slices.Contains(other.Credentials, h) })
				}
			}
			model[id] = c
			changes = append(changes, c)
			sequence++
		}
		if err := d.Apply(changes); err != nil {
			t.Fatal(err)
		}
	}
	if d.log.frames > 11_000 {
		t.Errorf("the log still holds %d changes", d.log.frames)
	}
	for _, d := range []*Directory{d, open(t, folder)} {
		if d.Length() != len(model) {
			t.Fatalf("%d principals, want %d", d.Length(), len(model))
		}
		for id, want := range model {
			ref := d.Find(fieldgate.PrincipalDevice, id)
			if got := d.Principal(ref); got.State != want.State || got.Model != want.Model {
				t.Fatalf("%s: %+v, want %+v", id, got, want)
			}
			for _, h := range want.Credentials {
				if d.Lookup(&h) != ref {
					t.Fatalf("%s: a credential is lost", id)
				}
			}
		}
	}
}

// A full disk is an error that the next Apply recovers from; no change is lost.
func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	d := open(t, folder)
	if err := d.Apply([]fieldgate.DirectoryChange{device(1, "d1", 0, 1)}); err != nil {
		t.Fatal(err)
	}
	disk := d.log.file
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	d.log.file = full
	if err := d.Apply([]fieldgate.DirectoryChange{device(2, "d1", fieldgate.StateRevoked)}); err == nil {
		t.Fatal("a full disk is no error")
	}
	if d.State(d.Find(fieldgate.PrincipalDevice, "d1")) != fieldgate.StateRevoked {
		t.Fatal("the revocation does not count while the disk is full")
	}
	d.log.file = disk
	if err := d.Apply([]fieldgate.DirectoryChange{device(3, "d3", 0)}); err != nil {
		t.Fatal(err)
	}
	if again := open(t, folder); again.State(again.Find(fieldgate.PrincipalDevice, "d1")) != fieldgate.StateRevoked || again.Length() != 2 {
		t.Fatal("a change was lost")
	}
}

// Readers see every principal that was there before they began, while the table grows.
func TestConcurrentLookups(t *testing.T) {
	d := open(t, t.TempDir())
	first := make([]fieldgate.DirectoryChange, 1000)
	for i := range first {
		first[i] = device(uint64(i+1), fmt.Sprint("d", i), 0, i)
	}
	if err := d.Apply(first); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wait.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				h := hash(n % 1000)
				if ref := d.Lookup(&h); ref == 0 || d.Principal(ref).Model == "" {
					t.Error("a principal is lost")
					return
				}
			}
		})
	}
	for i := 1000; i < 30_000; i += 1000 {
		changes := make([]fieldgate.DirectoryChange, 1000)
		for k := range changes {
			changes[k] = device(uint64(i+k+1), fmt.Sprint("d", i+k), 0, i+k)
			changes[k].Model = fmt.Sprint("model ", k%50)
		}
		if err := d.Apply(changes); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wait.Wait()
}

func FuzzReadChange(f *testing.F) {
	c := device(7, "d1", fieldgate.StateQuarantined, 1, 2)
	c.Scopes = []string{"a", "b"}
	f.Add(appendChange(nil, &c))
	c.PSK, c.Certificates = &fieldgate.SealedPSK{Identity: "meter", Sealed: []byte("sealed")}, []fieldgate.CredentialHash{hash(3)}
	c.Verifiers = []fieldgate.ScramVerifier{{1}, {2}}
	f.Add(appendChange(nil, &c))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := readChange(body)
		if err != nil {
			return
		}
		again, err := readChange(appendChange(nil, c))
		if err != nil || again.ID != c.ID || strings.Join(again.Scopes, " ") != strings.Join(c.Scopes, " ") || !slices.Equal(again.Credentials, c.Credentials) ||
			!slices.Equal(again.Certificates, c.Certificates) || !slices.Equal(again.Verifiers, c.Verifiers) || !reflect.DeepEqual(again.PSK, c.PSK) {
			t.Fatalf("%v: %+v, %+v", err, c, again)
		}
	})
}

const million = 1_000_000

// fill puts a million devices into a folder's log.
func fill(b *testing.B, folder string) *Directory {
	d := open(b, folder)
	changes := make([]fieldgate.DirectoryChange, 1000)
	for i := 0; i < million; i += len(changes) {
		for k := range changes {
			changes[k] = device(uint64(i+k+1), fmt.Sprintf("%016x", i+k), 0, i+k)
			changes[k].Firmware = fmt.Sprint("1.", k%40)
		}
		if err := d.Apply(changes); err != nil {
			b.Fatal(err)
		}
	}
	return d
}

// BenchmarkMillion reports look-up, memory and restart of a directory with a million devices.
func BenchmarkMillion(b *testing.B) {
	folder := b.TempDir()
	hashes := make([]fieldgate.CredentialHash, 1<<16)
	for i := range hashes {
		hashes[i] = hash(i * 15)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	d := fill(b, folder)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if ref := d.Lookup(&hashes[i&(1<<16-1)]); ref == 0 || d.Principal(ref).State != fieldgate.StateActive {
				b.Fatal("lost")
			}
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
	})
	d.Close()
	b.Run("restart", func(b *testing.B) {
		for b.Loop() {
			d, err := Open(folder, quiet)
			if err != nil || d.Length() != million {
				b.Fatal(err)
			}
			d.Close()
		}
	})
}

// Verifiers of tokens survive a restart and a rewritten log; a token without one has none.
func TestScramVerifiersAreKept(t *testing.T) {
	folder := t.TempDir()
	d := open(t, folder)
	change := device(1, "d1", 0, 1, 2)
	change.Verifiers = []fieldgate.ScramVerifier{{1}, {}}
	app := fieldgate.DirectoryChange{Sequence: 2, Kind: fieldgate.PrincipalApp, ID: "d1", Credentials: []fieldgate.CredentialHash{hash(3)}}
	if err := d.Apply([]fieldgate.DirectoryChange{change, app}); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		found := map[fieldgate.ScramVerifier]int{}
		for _, token := range d.Tokens("d1") {
			if d.Lookup(&token.Hash) != token.Owner {
				t.Errorf("%s: a token that nobody has", when)
			}
			found[token.Verifier]++
		}
		if len(found) != 2 || found[fieldgate.ScramVerifier{1}] != 1 || found[fieldgate.ScramVerifier{}] != 2 || len(d.Tokens("d2")) != 0 {
			t.Errorf("%s: found %v", when, found)
		}
	}
	check("applied")
	d.Close()
	d = open(t, folder)
	check("read back")
	if err := d.compact(); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d = open(t, folder)
	check("rewritten")
	if err := d.Apply([]fieldgate.DirectoryChange{device(3, "d1", 0, 2)}); err != nil {
		t.Fatal(err)
	}
	if tokens := d.Tokens("d1"); len(tokens) != 2 {
		t.Errorf("after a revocation %d tokens", len(tokens))
	}
}
