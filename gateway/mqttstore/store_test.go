package mqttstore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
)

// opened is a store that runs.
type opened struct {
	*Store
	t    testing.TB
	logs *lockedBuffer
	stop func()

	waiting map[uint64]int // guarded by mu
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func open(t testing.TB, folder string, set func(*Config)) *opened {
	t.Helper()
	o := &opened{t: t, logs: new(lockedBuffer), waiting: make(map[uint64]int)}
	config := Config{Folder: folder, Logger: slog.New(slog.NewTextHandler(o.logs, nil))}
	if set != nil {
		set(&config)
	}
	var err error
	if o.Store, err = Open(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { o.Run(ctx, o) })
	o.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(o.stop)
	return o
}

// Waiting and Expired implement Owner.
func (o *opened) Waiting(session uint64, messages, _ int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting[session] = messages
}

func (*opened) Expired(uint64, uint64, *broker.Message) bool { return true }

// wait calls write with a callback and waits for it.
func (o *opened) wait(write func(done func(error))) error {
	done := make(chan error, 1)
	write(func(err error) { done <- err })
	return <-done
}

func (o *opened) must(write func(done func(error))) {
	o.t.Helper()
	if err := o.wait(write); err != nil {
		o.t.Fatal(err)
	}
}

func (o *opened) session(client string, subscriptions ...Subscription) uint64 {
	o.t.Helper()
	number := o.NewNumber()
	o.must(func(done func(error)) {
		o.SaveSession(number, &Session{Kind: "device", Principal: "d1", Client: client, Expiry: 60}, subscriptions, done)
	})
	return number
}

func (o *opened) publish(m *broker.Message, to ...uint64) (number uint64) {
	o.t.Helper()
	var recipients []Recipient
	for _, session := range to {
		recipients = append(recipients, Recipient{Session: session, QoS: 1})
	}
	o.must(func(done func(error)) { number = o.Publish(m, recipients, Received{}, done) })
	return number
}

func (o *opened) payloads(session uint64) (payloads []string) {
	o.t.Helper()
	if err := o.Settle(context.Background()); err != nil {
		o.t.Fatal(err)
	}
	for after, all := uint64(0), false; !all; {
		var queued []Queued
		var err error
		if queued, all, err = o.Queue(session, after, 3, 1<<20); err != nil {
			o.t.Fatal(err)
		}
		for _, q := range queued {
			payloads = append(payloads, string(q.Message.Payload))
			after = q.Number
		}
	}
	return payloads
}

func (o *opened) retained(filter string) (payloads []string) {
	o.t.Helper()
	for r := o.Retained(filter); !r.Ended(); {
		messages, err := r.Next(context.Background(), 2, 1<<20)
		if err != nil {
			o.t.Fatal(err)
		}
		for _, m := range messages {
			payloads = append(payloads, string(m.Payload))
		}
	}
	return payloads
}

func message(topic, payload string) *broker.Message {
	return &broker.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Time: time.Now()}
}

func retainedMessage(topic, payload string) *broker.Message {
	m := message(topic, payload)
	m.Retain = true
	return m
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestEverythingIsReadBack(t *testing.T) {
	folder := t.TempDir()
	o := open(t, folder, nil)
	at := time.Unix(0, 1_700_000_000_000_000_000)
	will := &Will{Message: *retainedMessage("gone", "with the wind"), Delay: 9, Expiry: time.Minute, IsText: true}
	will.Message.Time, will.Message.Properties = at, []byte{1, 1}
	want := Session{Kind: "device", Principal: "d1", Client: "c", Expiry: 60, Away: at, Will: will}
	subscriptions := []Subscription{{"a/#", Options{QoS: 2, NoLocal: true, ID: 9}}, {"b", Options{QoS: 1, RetainAsPublished: true}}}
	first, second := o.NewNumber(), o.NewNumber()
	o.must(func(done func(error)) { o.SaveSession(first, &want, subscriptions, done) })
	o.must(func(done func(error)) { o.SaveSession(second, &Session{Client: "ends"}, subscriptions, done) })
	o.must(func(done func(error)) { o.Unsubscribe(first, []string{"b"}, done) })
	m := &broker.Message{Topic: "a/1", Payload: []byte("one"), ContentType: "t/x", Properties: []byte{1, 1}, QoS: 2, Client: "c", Publisher: fieldgate.Principal{Kind: "device", ID: "d1"}, Time: at, Expires: at.Add(time.Hour * 1e6)}
	recipients := []Recipient{{first, 2, true, []uint32{9, 300}}, {second, 1, false, nil}}
	o.must(func(done func(error)) { o.Publish(m, recipients, Received{first, 77}, done) })
	o.publish(message("a/2", "two"), first)
	o.publish(retainedMessage("a/3", "three"))
	o.publish(retainedMessage("a/4", "four"))
	o.publish(retainedMessage("a/4", ""))
	o.EndSession(second)
	o.stop()

	o = open(t, folder, nil)
	kept := o.Sessions()
	if len(kept) != 1 || kept[0].Number != first {
		t.Fatalf("got %+v", kept)
	}
	if !reflect.DeepEqual(kept[0].Session, want) {
		t.Errorf("got %+v with %+v", kept[0].Session, kept[0].Will)
	}
	same(t, "subscriptions", kept[0].Subscriptions, subscriptions[:1])
	same(t, "received", kept[0].Received, []uint16{77})
	queued, all, err := o.Queue(first, 0, 10, 1<<20)
	if err != nil || !all || len(queued) != 2 {
		t.Fatalf("%v %v %v", queued, all, err)
	}
	if !reflect.DeepEqual(queued[0].Message, m) || !reflect.DeepEqual(queued[0].Recipient, Recipient{first, 2, true, []uint32{9, 300}}) {
		t.Errorf("got %+v of %+v", queued[0].Recipient, queued[0].Message)
	}
	same(t, "retained", o.retained("#"), []string{"three"})
	if number := o.NewNumber(); number <= queued[1].Number {
		t.Errorf("number %d again", number)
	}
}

// A message of several sessions is on disk once, until the last of them is done with it.
func TestSharedMessageIsStoredOnce(t *testing.T) {
	folder := t.TempDir()
	o := open(t, folder, nil)
	const size, count = 100_000, 50
	var sessions []uint64
	for i := range count {
		sessions = append(sessions, o.session(fmt.Sprint(i)))
	}
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(i * i >> 3) // not to be compressed much
	}
	number := o.publish(&broker.Message{Topic: "t", Payload: payload, QoS: 1}, sessions...)
	if err := o.disk.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if used := diskUsage(t, o.Store, prefixMessage, prefixQueue+1); used > 3*size {
		t.Errorf("%d bytes for one message of %d", used, size)
	}
	for i, session := range sessions {
		same(t, "waiting", len(o.payloads(session)), 1)
		o.Done(session, number, time.Time{})
		if i == count/2 {
			o.stop()
			o = open(t, folder, nil)
		}
	}
	for _, session := range sessions {
		same(t, "left", o.payloads(session), []string{})
	}
	if err := o.disk.db.Compact(context.Background(), []byte{0}, []byte{0xFF}, false); err != nil {
		t.Fatal(err)
	}
	if used := diskUsage(t, o.Store, prefixMessage, prefixQueue+1); used > size/10 {
		t.Errorf("%d bytes are left when all is done", used)
	}
}

func diskUsage(t testing.TB, s *Store, from, to byte) uint64 {
	t.Helper()
	used, err := s.disk.db.EstimateDiskUsage([]byte{from}, []byte{to})
	if err != nil {
		t.Fatal(err)
	}
	return used
}

// A publisher is answered as soon as everybody has its message, and then nothing is written.
func TestTakenMessageIsNotWritten(t *testing.T) {
	o := open(t, t.TempDir(), nil)
	first, second := o.session("1"), o.session("2")
	o.stop() // no commit comes between
	folder := o.config.Folder
	s, err := Open(Config{Folder: folder, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	answered := 0
	number := s.Publish(message("t", "taken"), []Recipient{{Session: first, QoS: 1}, {Session: second, QoS: 1}}, Received{}, func(err error) {
		if err == nil {
			answered++
		}
	})
	s.Done(second, number, time.Time{})
	if len(s.answers) != 0 {
		t.Fatal("answered before the first session had the message")
	}
	s.Done(first, number, time.Time{})
	if len(s.answers) != 1 || s.pending[0].kind != opNothing {
		t.Fatalf("%d answers, %+v", len(s.answers), s.pending)
	}
	number = s.Publish(message("t", "half"), []Recipient{{Session: first, QoS: 1}, {Session: second, QoS: 1}}, Received{}, nil)
	s.Done(first, number, time.Time{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Run(ctx, o)
	same(t, "answers", answered, 1)
	o = open(t, folder, nil)
	same(t, "first", o.payloads(first), []string{})
	same(t, "second", o.payloads(second), []string{"half"})
}

func TestRemainsOfSessionsAreDeleted(t *testing.T) {
	folder := t.TempDir()
	o := open(t, folder, nil)
	ends, stays := o.session("ends", Subscription{Filter: "a"}), o.session("stays", Subscription{Filter: "a"})
	for i := range 20 {
		o.publish(message("a", fmt.Sprint(i)), ends, stays)
	}
	o.must(func(done func(error)) { o.Publish(message("x", "x"), nil, Received{ends, 5}, done) })
	o.EndSession(ends)
	for deadline := time.Now().Add(time.Minute); len(keys(t, o.Store, ends)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q are left", keys(t, o.Store, ends))
		}
	}
	same(t, "of the other", len(o.payloads(stays)), 20)
}

// keys are those that belong to a session.
func keys(t testing.TB, s *Store, session uint64) (found []string) {
	t.Helper()
	i, err := s.disk.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	for i.First(); i.Valid(); i.Next() {
		if k := i.Key(); len(k) >= 9 && slices.Contains([]byte{prefixSession, prefixFilter, prefixID, prefixDelivered, prefixQueue, prefixDeleted}, k[0]) &&
			bytes.Equal(k[:9], appendKey(nil, k[0], session)) {
			found = append(found, string(k))
		}
	}
	return found
}

func TestExpiredMessagesAreDeleted(t *testing.T) {
	o := open(t, t.TempDir(), nil)
	session := o.session("c")
	short, long := message("a", "short"), message("a", "long")
	short.Expires, long.Expires = time.Now().Add(10*time.Millisecond), time.Now().Add(time.Hour)
	o.publish(short, session)
	o.publish(long, session)
	brief, renewed := retainedMessage("r/1", "brief"), retainedMessage("r/2", "brief")
	brief.Expires, renewed.Expires = short.Expires, short.Expires
	o.publish(brief)
	o.publish(renewed)
	o.publish(retainedMessage("r/2", "renewed"))
	for deadline := time.Now().Add(time.Minute); len(o.payloads(session)) > 1 || o.Store.retained.Load() > 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q, %d retained", o.payloads(session), o.Store.retained.Load())
		}
	}
	same(t, "queued", o.payloads(session), []string{"long"})
	same(t, "retained", o.retained("#"), []string{"renewed"})
}

func TestRetainedMessagesAreBounded(t *testing.T) {
	o := open(t, t.TempDir(), func(c *Config) { c.MaxRetained = 2 })
	o.publish(retainedMessage("1", "a"))
	o.publish(retainedMessage("2", "a"))
	if err := o.wait(func(done func(error)) { o.Publish(retainedMessage("3", "a"), nil, Received{}, done) }); err != ErrRetained {
		t.Fatalf("the third: %v", err)
	}
	o.publish(retainedMessage("2", "b"))
	o.publish(retainedMessage("1", ""))
	o.publish(retainedMessage("3", "c"))
	same(t, "retained", o.retained("#"), []string{"b", "c"})
	same(t, "counted", o.Store.retained.Load(), 2)
}

// A subscription that was made before hears what is published as it comes: it is not read as retained too, nor the message it replaced.
func TestRetainedReaderLeavesOutWhatIsNewer(t *testing.T) {
	o := open(t, t.TempDir(), nil)
	for _, topic := range []string{"a", "b", "c"} {
		o.publish(retainedMessage(topic, "old"))
	}
	r := o.Retained("#")
	o.publish(retainedMessage("b", "new"))
	o.publish(retainedMessage("d", "new"))
	o.mu.Lock()
	o.retaining["c"] = o.newest + 2 // on its way
	o.mu.Unlock()
	messages, err := r.Next(t.Context(), 10, 1<<20)
	if err != nil || len(messages) != 1 || messages[0].Topic != "a" {
		t.Errorf("got %v, %v", messages, err)
	}
}

func TestJournalIsTakenOver(t *testing.T) {
	old, err := os.ReadFile("testdata/mqtt.journal")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	path := filepath.Join(folder, journalName)
	if err := os.WriteFile(path, append(old, 9, 0, 0), 0o600); err != nil { // torn at its end
		t.Fatal(err)
	}
	for range 2 { // the second time there is no journal
		o := open(t, folder, nil)
		kept := o.Sessions()
		if len(kept) != 2 || kept[0].Client != "client" || kept[0].Expiry != 60 || kept[1].Client != "c3" {
			t.Fatalf("got %+v", kept)
		}
		same(t, "subscriptions", kept[0].Subscriptions, []Subscription{{"a/#", Options{QoS: 2, NoLocal: true, ID: 9}}})
		same(t, "first", o.payloads(kept[0].Number), []string{"one", "two", "one"})
		same(t, "second", o.payloads(kept[1].Number), []string{"one"})
		queued, _, err := o.Queue(kept[0].Number, 0, 1, 1)
		if err != nil || queued[0].QoS != 2 || queued[0].Message.ContentType != "t/x" || fmt.Sprint(queued[0].SubscriptionIDs) != "[9 300]" {
			t.Errorf("got %+v, %v", queued, err)
		}
		if !strings.Contains(o.logs.String(), "taken over") {
			o.logs = nil
		}
		o.stop()
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the journal is still there: %v", err)
		}
	}
}

func TestDamagedJournalIsSetAside(t *testing.T) {
	whole, err := os.ReadFile("testdata/mqtt.journal")
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 5, len(journalMagic), len(journalMagic) + 5, len(journalMagic) + 12, len(whole) / 2} {
		folder := t.TempDir()
		b := bytes.Clone(whole)
		b[at] ^= 0x40
		if err := os.WriteFile(filepath.Join(folder, journalName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		o := open(t, folder, nil)
		same(t, "sessions", len(o.Sessions()), 0)
		kept, err := filepath.Glob(filepath.Join(folder, journalName+".corrupt-*"))
		if err != nil || len(kept) != 1 || !strings.Contains(o.logs.String(), "level=ERROR") {
			t.Fatalf("byte %d: set aside %q, log %s", at, kept, o.logs)
		}
		if got, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("byte %d: the damaged file was changed", at)
		}
	}
}

func FuzzJournal(f *testing.F) {
	whole, err := os.ReadFile("testdata/mqtt.journal")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), journalName)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		new(journal).replay(file)
	})
}
