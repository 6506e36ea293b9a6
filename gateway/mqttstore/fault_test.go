package mqttstore

import (
	"bufio"
	"bytes"
	"fieldgate/test/smalldisk"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const childFolder = "FIELDGATE_TEST_MQTTSTORE"

// TestWriteForKill is the child of the next test: publishers write queued and retained messages as fast as they are answered, and it
// says what was.
func TestWriteForKill(t *testing.T) {
	folder := os.Getenv(childFolder)
	if folder == "" {
		return // only a child has something to do here
	}
	o := open(t, folder, nil)
	var sessions []uint64
	for _, kept := range o.Sessions() {
		sessions = append(sessions, kept.Number)
	}
	for len(sessions) < 2 {
		sessions = append(sessions, o.session("c"))
	}
	var saying sync.Mutex
	var publishing sync.WaitGroup
	from, _ := strconv.Atoi(os.Getenv(childFolder + "_FROM"))
	for p := range 20 {
		publishing.Go(func() {
			for i := from; ; i++ {
				m := retainedMessage(fmt.Sprint("t/", p), fmt.Sprint(p, " ", i))
				o.publish(m, sessions[:1+i%2]...) // alone, or stored apart
				saying.Lock()
				fmt.Println("acknowledged", p, i)
				saying.Unlock()
			}
		})
	}
	publishing.Wait()
}

// Kill -9 under load loses nothing that was acknowledged, and keeps the order of each publisher.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	folder := t.TempDir()
	const kills, rounds = 5, 1_000_000
	acknowledged := map[int][]int{} // by publisher
	for kill := range kills {
		child := exec.Command(os.Args[0], "-test.run=^TestWriteForKill$")
		child.Env = append(os.Environ(), childFolder+"="+folder, fmt.Sprint(childFolder, "_FROM=", kill*rounds))
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); {
			var p, i int
			if _, err := fmt.Sscanf(lines.Text(), "acknowledged %d %d", &p, &i); err != nil {
				continue
			}
			acknowledged[p] = append(acknowledged[p], i)
			if n++; n == 300 {
				child.Process.Kill() // the others go on while it dies, and what they say still counts
			}
		}
		child.Wait()
	}
	o := open(t, folder, nil)
	kept := o.Sessions()
	if len(kept) != 2 {
		t.Fatalf("%d sessions", len(kept))
	}
	total := 0
	for s, session := range kept {
		found := map[string]bool{}
		last := map[int]int{}
		for _, payload := range o.payloads(session.Number) {
			var p, i int
			if _, err := fmt.Sscan(payload, &p, &i); err != nil {
				t.Fatal(err)
			}
			if before, ok := last[p]; ok && i <= before {
				t.Fatalf("publisher %d: %d behind %d", p, i, before)
			}
			last[p], found[payload] = i, true
		}
		for p, list := range acknowledged {
			for _, i := range list {
				if i%2 >= s && !found[fmt.Sprint(p, " ", i)] {
					t.Fatalf("message %d of publisher %d was acknowledged and is lost for session %d", i, p, s)
				}
				total++
			}
		}
	}
	for p, list := range acknowledged {
		var i int
		if _, err := fmt.Sscan(o.retained(fmt.Sprint("t/", p))[0], new(int), &i); err != nil || i < list[len(list)-1] {
			t.Errorf("publisher %d: number %d is retained, %d was acknowledged (%v)", p, i, list[len(list)-1], err)
		}
	}
	t.Logf("%d deliveries of acknowledged messages survived %d kills", total, kills)
}

// A full disk: messages are refused, that is told once, what is stored can be read, the gateway can start, and all goes on by itself
// when there is room.
func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	smalldisk.Mount(t, folder, 64)
	o := open(t, folder, nil)
	session := o.session("c")
	number := o.publish(message("t", "before"), session)
	o.publish(message("t", "stays"), session)
	o.publish(retainedMessage("r", "before"))
	give := smalldisk.Fill(t, folder)
	refused := func(o *opened) {
		t.Helper()
		for range 3 {
			if err := o.wait(func(done func(error)) {
				o.Publish(message("t", "during"), []Recipient{{Session: session, QoS: 1}}, Received{}, done)
			}); err != ErrDiskFull {
				t.Fatalf("on a full disk: %v", err)
			}
		}
		if o.Problem() != ErrDiskFull {
			t.Errorf("problem %v", o.Problem())
		}
		if n := strings.Count(o.logs.String(), "cannot be stored"); n != 1 {
			t.Errorf("told %d times:\n%s", n, o.logs)
		}
		same(t, "retained", o.retained("#"), []string{"before"})
	}
	refused(o)
	o.Done(session, number, time.Time{}) // nobody waits for it; it must not get lost
	refused(o)
	give()
	o.publish(message("t", "after"), session)
	if o.Problem() != nil {
		t.Errorf("problem %v", o.Problem())
	}
	same(t, "queued", o.payloads(session), []string{"stays", "after"})
	o.stop()

	give = smalldisk.Fill(t, folder)
	o = open(t, folder, nil)
	same(t, "sessions", len(o.Sessions()), 1)
	refused(o)
	give()
	for deadline := time.Now().Add(time.Minute); o.Problem() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not go on")
		}
	}
	o.publish(message("t", "at last"), session)
	same(t, "queued", o.payloads(session), []string{"stays", "after", "at last"})
}

// A disk that is filled by what is stored, with commits and reorganisation under way: in the end messages are refused; when there is
// room it goes on, and what was stored is there.
func TestDiskFillsUnderLoad(t *testing.T) {
	folder := t.TempDir()
	smalldisk.Mount(t, folder, 48)
	filler := filepath.Join(folder, "filler")
	if err := os.WriteFile(filler, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	o := open(t, folder, nil)
	session := o.session("c")
	var stored, refused atomic.Int64
	var answered sync.WaitGroup
	payload := make([]byte, 10_000)
	random := rand.NewChaCha8([32]byte{})
	for i := 0; refused.Load() == 0 && i < 100_000; i++ {
		random.Read(payload) // not to be compressed
		answered.Add(1)
		o.Publish(message("t", string(payload)), []Recipient{{Session: session, QoS: 1}}, Received{}, func(err error) {
			if err == nil {
				stored.Add(1)
			} else if err != ErrBusy {
				refused.Add(1)
			}
			answered.Done()
		})
		if i%100 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if refused.Load() == 0 {
		t.Fatal("nothing was refused")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	answered.Wait()
	for deadline := time.Now().Add(time.Minute); o.Problem() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not go on")
		}
	}
	o.publish(message("t", "after"), session)
	o.stop()
	o = open(t, folder, nil)
	same(t, "kept", len(o.payloads(session)), stored.Load()+1)
}

func TestStoreIsBounded(t *testing.T) {
	o := open(t, t.TempDir(), func(c *Config) { c.MaxBytes = 1 })
	for deadline := time.Now().Add(time.Minute); o.Problem() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is refused")
		}
	}
	if err := o.wait(func(done func(error)) { o.Publish(retainedMessage("t", "x"), nil, Received{}, done) }); err != ErrFull {
		t.Errorf("got %v", err)
	}
}

// A log that was torn by a crash is read up to the tear, wherever it is.
func TestTornLogIsCut(t *testing.T) {
	folder := t.TempDir()
	o := open(t, folder, nil)
	session := o.session("c")
	for i := range 20 {
		o.publish(message("t", fmt.Sprint(i)), session)
	}
	logs := filesOf(t, folder, ".log")
	whole, err := os.ReadFile(logs[len(logs)-1]) // as a kill would have left it
	if err != nil {
		t.Fatal(err)
	}
	whole = bytes.TrimRight(whole, "\x00")
	twin := t.TempDir()
	if err := os.CopyFS(twin, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	name, err := filepath.Rel(folder, logs[len(logs)-1])
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(whole); cut > 0; cut -= max(len(whole)/12, 1) {
		torn := t.TempDir()
		if err := os.CopyFS(torn, os.DirFS(twin)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(torn, name), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		o := open(t, torn, nil)
		if len(filesOf(t, torn, "")) == 0 || strings.Contains(o.logs.String(), "set aside") {
			t.Fatalf("cut at %d of %d:\n%s", cut, len(whole), o.logs)
		}
		for i, payload := range o.payloads(session) {
			same(t, "message", payload, i)
		}
		o.stop()
	}
}

func filesOf(t testing.TB, folder, suffix string) (paths []string) {
	t.Helper()
	if err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, suffix) {
			paths = append(paths, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return paths
}

// A damaged store is set aside as it is, with an error in the log, and a new one serves. Damage of a table that only shows when its
// messages are read is told then, and the rest is served.
func TestDamagedStoreIsSetAside(t *testing.T) {
	folder := t.TempDir()
	o := open(t, folder, nil)
	session := o.session("c", Subscription{Filter: "a/#"})
	for i := range 900 { // the log is longer than a block of it
		o.publish(message("t", fmt.Sprint(i, strings.Repeat("x", 200))), session)
		if i == 250 || i == 500 {
			if err := o.disk.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	o.stop()
	flip := func(at func(length int) int) func(path string, b []byte) error {
		return func(path string, b []byte) error {
			b[at(len(b))] ^= 0x55
			return os.WriteFile(path, b, 0o600)
		}
	}
	missing := func(path string, _ []byte) error { return os.Remove(path) }
	first, middle, last := flip(func(int) int { return 0 }), flip(func(n int) int { return n / 2 }), flip(func(n int) int { return n - 1 })
	for _, c := range []struct {
		file   string // the name begins or ends so
		how    string
		damage func(path string, b []byte) error
		read   bool // it only shows when messages are read
	}{
		{"MANIFEST", "first", first, false}, {"MANIFEST", "missing", missing, false}, {"marker.manifest", "missing", missing, false},
		{".sst", "missing", missing, false}, {".sst", "last", last, false}, {".sst", "middle", middle, true},
		{".log", "first", first, false},
	} {
		damaged := t.TempDir()
		if err := os.CopyFS(damaged, os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
		var path string
		var size int64 // of the largest
		for _, file := range filesOf(t, damaged, "") {
			if info, err := os.Stat(file); err != nil {
				t.Fatal(err)
			} else if name := filepath.Base(file); info.Size() >= size && (strings.HasPrefix(name, c.file) || strings.HasSuffix(name, c.file)) {
				path, size = file, info.Size()
			}
		}
		b, err := os.ReadFile(path)
		if err == nil {
			err = c.damage(path, b)
		}
		if err != nil {
			t.Fatal(err)
		}
		o := open(t, damaged, nil)
		if c.read {
			if _, _, err := o.Queue(session, 0, 1000, 1<<20); err == nil {
				t.Errorf("%s %s: damage was served", c.file, c.how)
			}
		} else if kept, err := filepath.Glob(filepath.Join(damaged, folderName+".corrupt-*")); err != nil || len(kept) != 1 {
			t.Errorf("%s %s: set aside %q", c.file, c.how, kept)
		}
		if !strings.Contains(o.logs.String(), "level=ERROR") {
			t.Errorf("%s %s: nothing was told", c.file, c.how)
		}
		o.publish(retainedMessage("t", "new"))
		o.stop()
	}
}
