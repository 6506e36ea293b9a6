package mqttfront

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate/gateway/broker"
)

func testEntries() []entry {
	at := time.Unix(0, 1_700_000_000_000_000_000)
	key := sessionKey{"device", "d1", "client"}
	message := func(topic, payload string, retain bool) *broker.Message {
		return &broker.Message{Topic: topic, Payload: []byte(payload), ContentType: "t/x", Properties: []byte{1, 1}, QoS: 1, Retain: retain, Time: at, Expires: at}
	}
	return []entry{
		{kind: entrySession, session: 1, key: key, expiry: 60, away: at},
		{kind: entrySession, session: 2, key: sessionKey{"device", "d2", "client"}, expiry: neverExpires},
		{kind: entrySubscribe, session: 1, filter: "a/#", options: subscriptionOptions{QoS: 2, NoLocal: true, ID: 9}},
		{kind: entrySubscribe, session: 1, filter: "b", options: subscriptionOptions{QoS: 1, RetainAsPublished: true}},
		{kind: entryUnsubscribe, session: 1, filter: "b"},
		{kind: entryMessage, number: 10, message: message("a/1", "one", false), recipients: []recipient{{1, 2, false, []uint32{9, 300}}, {2, 1, true, nil}}},
		{kind: entryMessage, number: 11, message: message("a/2", "two", true), recipients: []recipient{{session: 1, qos: 1}}},
		{kind: entryMessage, message: message("a/3", "three", true)},
		{kind: entryMessage, message: message("a/3", "", true)},
		{kind: entryDone, session: 2, number: 10},
		{kind: entryEnd, session: 2},
		{kind: entryDone, session: 2, number: 11},
	}
}

func openTest(t testing.TB, folder string, logs *bytes.Buffer) *journal {
	t.Helper()
	j, err := openJournal(folder, slog.New(slog.NewTextHandler(logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// runTest runs the journal until stop is called.
func runTest(j *journal) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { j.run(ctx) })
	return func() { cancel(); running.Wait() }
}

func writeEntries(t testing.TB, folder string, entries []entry) {
	t.Helper()
	j := openTest(t, folder, new(bytes.Buffer))
	stop := runTest(j)
	for i := range entries {
		if err := j.wait(entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	stop()
}

func TestJournalIsReadBack(t *testing.T) {
	folder := t.TempDir()
	want := newStored()
	for _, e := range testEntries() {
		want.apply(&e)
		var again entry
		if err := again.decode(e.append(nil)); err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	}
	writeEntries(t, folder, testEntries())
	for _, how := range []string{"as written", "rewritten"} {
		j := openTest(t, folder, new(bytes.Buffer))
		j.stored.newest = want.newest // a rewritten journal numbers on from where it was, not necessarily from the same entry
		if !reflect.DeepEqual(j.stored.sessions, want.sessions) || !reflect.DeepEqual(j.stored.retained, want.retained) {
			t.Fatalf("%s: got %+v", how, j.stored)
		}
		if err := j.compact(); err != nil {
			t.Fatal(err)
		}
		j.file.Close()
		// The message that was retained and queued is one of two entries now.
		m := *want.sessions[1].pending[11].message
		m.Retain = false
		d := want.sessions[1].pending[11]
		d.message = &m
		want.sessions[1].pending[11] = d
	}
}

func TestTornJournalIsCutAtEveryByte(t *testing.T) {
	folder := t.TempDir()
	entries := testEntries()
	writeEntries(t, folder, entries)
	whole, err := os.ReadFile(filepath.Join(folder, journalName))
	if err != nil {
		t.Fatal(err)
	}
	ends := []int{len(journalMagic)}
	for i := range entries {
		ends = append(ends, ends[i]+len(appendFrame(nil, &entries[i])))
	}
	for cut := 0; cut <= len(whole); cut++ {
		for _, tail := range []string{"", "\x00\x00\x00", strings.Repeat("\x00", 40)} {
			torn := t.TempDir()
			if err := os.WriteFile(filepath.Join(torn, journalName), append(whole[:cut:cut], tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			if cut < len(journalMagic) && tail != "" {
				continue // not a journal any more: see the next test
			}
			// Zeros behind may happen to be what was cut off.
			same := cut
			for same < len(whole) && same-cut < len(tail) && whole[same] == tail[same-cut] {
				same++
			}
			want := newStored()
			for i := range entries {
				if ends[i+1] <= same {
					want.apply(&entries[i])
				}
			}
			var logs bytes.Buffer
			j := openTest(t, torn, &logs)
			if len(j.stored.sessions) != len(want.sessions) || len(j.stored.retained) != len(want.retained) || j.stored.live != want.live {
				t.Fatalf("cut at %d with %d bytes behind: got %+v\n%s", cut, len(tail), j.stored, &logs)
			}
			isEnd := false
			for _, end := range ends {
				isEnd = isEnd || same == end && same-cut == len(tail) || cut == end && tail == ""
			}
			if !isEnd && cut > len(journalMagic) && !strings.Contains(logs.String(), "cut off") {
				t.Fatalf("cut at %d: nothing was logged", cut)
			}
			stop := runTest(j)
			if err := j.wait(entry{kind: entrySession, session: 50, key: sessionKey{"a", "b", "c"}}); err != nil {
				t.Fatal(err)
			}
			stop()
			j = openTest(t, torn, &logs)
			if j.stored.sessions[50] == nil {
				t.Fatalf("cut at %d: what was written afterwards is lost", cut)
			}
			j.file.Close()
		}
	}
}

func TestDamagedJournalIsSetAside(t *testing.T) {
	folder := t.TempDir()
	writeEntries(t, folder, testEntries())
	path := filepath.Join(folder, journalName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 5, len(journalMagic), len(journalMagic) + 5, len(journalMagic) + 12, len(whole) / 2} {
		damaged := t.TempDir()
		b := bytes.Clone(whole)
		b[at] ^= 0x40
		if err := os.WriteFile(filepath.Join(damaged, journalName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		var logs bytes.Buffer
		j := openTest(t, damaged, &logs)
		j.file.Close()
		kept, err := filepath.Glob(filepath.Join(damaged, journalName+".corrupt-*"))
		if err != nil || len(kept) != 1 || !strings.Contains(logs.String(), "level=ERROR") {
			t.Fatalf("byte %d: set aside %q, log %s", at, kept, &logs)
		}
		if got, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("byte %d: the damaged file was changed", at)
		}
	}
}

// A disk that takes nothing: nobody is told that something is stored, and it goes on when the disk does.
func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	var logs bytes.Buffer
	j := openTest(t, folder, &logs)
	stop := runTest(j)
	first := entry{kind: entrySession, session: 1, key: sessionKey{"a", "b", "c"}, expiry: 9}
	if err := j.wait(first); err != nil {
		t.Fatal(err)
	}
	stop()

	j = openTest(t, folder, &logs)
	j.file.Close()
	var err error
	if j.file, err = os.OpenFile("/dev/full", os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	blocker := j.path + ".new"
	if err := os.Mkdir(blocker, 0o700); err != nil { // no new file either
		t.Fatal(err)
	}
	stop = runTest(j)
	for range 2 {
		if err := j.wait(entry{kind: entrySession, session: 2, key: sessionKey{"lost", "", ""}}); err == nil {
			t.Fatal("acknowledged on a full disk")
		}
	}
	if n := strings.Count(logs.String(), "cannot be stored"); n != 1 {
		t.Fatalf("logged %d times:\n%s", n, &logs)
	}
	j.append(nil, entry{kind: entryEnd, session: 1}) // nobody waits for it; it must not get lost
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	if err := j.wait(entry{kind: entrySession, session: 3, key: sessionKey{"kept", "", ""}}); err != nil {
		t.Fatal(err)
	}
	stop()
	j = openTest(t, folder, &logs)
	defer j.file.Close()
	if len(j.stored.sessions) != 1 || j.stored.sessions[3] == nil {
		t.Fatalf("after recovery: %+v", j.stored.sessions)
	}
}

func TestJournalIsRewrittenWhenMostlyDead(t *testing.T) {
	folder := t.TempDir()
	j := openTest(t, folder, new(bytes.Buffer))
	stop := runTest(j)
	m := &broker.Message{Topic: "t", Payload: bytes.Repeat([]byte("x"), 64<<10), QoS: 1}
	if err := j.wait(entry{kind: entrySession, session: 1, key: sessionKey{"a", "b", "c"}}); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(1000) { // 64 MB
		if err := j.wait(entry{kind: entryMessage, number: i + 2, message: m, recipients: []recipient{{session: 1, qos: 1}}},
			entry{kind: entryDone, session: 1, number: i + 2}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.wait(entry{kind: entryMessage, number: 2000, message: m, recipients: []recipient{{session: 1, qos: 1}}}); err != nil {
		t.Fatal(err)
	}
	stop()
	info, err := os.Stat(j.path)
	if err != nil || info.Size() > compactAbove+(1<<20) {
		t.Fatalf("the journal has %d bytes, %v", info.Size(), err)
	}
	j = openTest(t, folder, new(bytes.Buffer))
	defer j.file.Close()
	if len(j.stored.sessions[1].pending) != 1 || j.stored.newest != 2000 {
		t.Fatalf("%d pending, newest %d", len(j.stored.sessions[1].pending), j.stored.newest)
	}
}

// A rewritten journal says the same as the one before, whatever has the newest number.
func TestRewritingEndsNoSession(t *testing.T) {
	folder := t.TempDir()
	j := openTest(t, folder, new(bytes.Buffer))
	j.stored.apply(&entry{kind: entrySession, session: 7, key: sessionKey{"device", "d1", "newest"}})
	if err := j.compact(); err != nil {
		t.Fatal(err)
	}
	j.file.Close()
	j = openTest(t, folder, new(bytes.Buffer))
	defer j.file.Close()
	if j.stored.sessions[7] == nil || j.stored.newest != 7 {
		t.Fatalf("%d sessions, newest %d", len(j.stored.sessions), j.stored.newest)
	}
}

// A message for many sessions is written once, also by a rewrite.
func TestRewritingDoesNotMultiplyMessages(t *testing.T) {
	j := openTest(t, t.TempDir(), new(bytes.Buffer))
	defer func() { j.file.Close() }()
	e := entry{kind: entryMessage, number: 1000, message: &broker.Message{Topic: "t", Payload: make([]byte, 100_000), QoS: 1}}
	for i := range uint64(100) {
		j.stored.apply(&entry{kind: entrySession, session: i + 1, key: sessionKey{"device", fmt.Sprint(i), "c"}})
		e.recipients = append(e.recipients, recipient{session: i + 1, qos: 1})
	}
	j.stored.apply(&e)
	if err := j.compact(); err != nil {
		t.Fatal(err)
	}
	if j.size > 200_000 || j.stored.live > 200_000 {
		t.Errorf("%d bytes, %d of them live, for one message of 100,000", j.size, j.stored.live)
	}
	for i := range uint64(100) {
		j.stored.apply(&entry{kind: entryDone, session: i + 1, number: 1000})
	}
	if j.stored.live != 0 {
		t.Errorf("%d bytes are live when all is done", j.stored.live)
	}
}

// Once the new file has the journal's name nothing is written into the old one, which nobody would read again.
func TestRewritingSurvivesAFailureBehindTheRename(t *testing.T) {
	folder := t.TempDir()
	j := openTest(t, folder, new(bytes.Buffer))
	j.syncFolder = func(string) error { return errors.New("input/output error") }
	if err := j.compact(); err == nil {
		t.Fatal("the error was swallowed")
	}
	j.syncFolder = syncFolder
	stop := runTest(j)
	if err := j.wait(entry{kind: entrySession, session: 1, key: sessionKey{"kept", "", ""}}); err != nil {
		t.Fatal(err)
	}
	stop()
	j = openTest(t, folder, new(bytes.Buffer))
	defer j.file.Close()
	if j.stored.sessions[1] == nil {
		t.Fatal("what was acknowledged is lost")
	}
}

// An entry that could not be read back is refused, and harms none beside it.
func TestJournalRefusesWhatItCouldNotRead(t *testing.T) {
	folder := t.TempDir()
	j := openTest(t, folder, new(bytes.Buffer))
	stop := runTest(j)
	m := &broker.Message{Topic: "t", Payload: make([]byte, maxEntry), Retain: true}
	if err := j.wait(entry{kind: entryMessage, message: m}); !errors.Is(err, errEntryTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := j.wait(entry{kind: entrySession, session: 1, key: sessionKey{"kept", "", ""}}); err != nil {
		t.Fatal(err)
	}
	stop()
	j = openTest(t, folder, new(bytes.Buffer))
	defer j.file.Close()
	if j.stored.sessions[1] == nil {
		t.Error("the journal is not read back")
	}
}

// replaceFile puts another file in the journal's place between two commits.
func (j *journal) replaceFile(file *os.File) {
	done := make(chan struct{})
	j.append(func(error) { j.file.Close(); j.file = file; close(done) }, entry{kind: entryEnd})
	<-done
}

func FuzzEntry(f *testing.F) {
	for _, e := range testEntries() {
		f.Add(e.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again entry
		if e.decode(b) != nil {
			return
		}
		encoded := e.append(nil)
		if err := again.decode(encoded); err != nil || !bytes.Equal(again.append(nil), encoded) {
			t.Fatalf("%x: %v", b, err)
		}
	})
}

func FuzzJournal(f *testing.F) {
	folder := f.TempDir()
	writeEntries(f, folder, testEntries())
	whole, err := os.ReadFile(filepath.Join(folder, journalName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, journalName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := openJournal(folder, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("a bad file keeps the gateway from starting: %v", err)
		}
		j.file.Close()
	})
}

func BenchmarkJournal(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			j := openTest(b, b.TempDir(), new(bytes.Buffer))
			stop := runTest(j)
			defer stop()
			m := &broker.Message{Topic: "d/1/telemetry", Payload: make([]byte, 64), QoS: 1}
			if err := j.wait(entry{kind: entrySession, session: 1}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetParallelism(writers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					number := rand.Uint64()
					if err := j.wait(entry{kind: entryMessage, number: number, message: m, recipients: []recipient{{session: 1, qos: 1}}},
						entry{kind: entryDone, session: 1, number: number}); err != nil {
						b.Error(errors.New("not stored"))
					}
				}
			})
		})
	}
}
