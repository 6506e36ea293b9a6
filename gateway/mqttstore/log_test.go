package mqttstore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
)

const patience = time.Minute

// member is a store that takes part in a log.
type member struct {
	*Store
	t      testing.TB
	node   string
	folder string
	logs   *lockedBuffer
	stop   func()

	mu       sync.Mutex
	applied  []Change
	replaced int
}

// Waiting, Expired, Applied and Replaced implement Follower.
func (*member) Waiting(uint64, int, int)                     {}
func (*member) Expired(uint64, uint64, *broker.Message) bool { return true }

func (m *member) Applied(changes []*Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		m.applied = append(m.applied, *c)
	}
}

func (m *member) Replaced([]Kept) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.replaced++
}

// members share a log on a bus in this process.
type members struct {
	t     testing.TB
	bus   *bus.Bus
	epoch uint64
	mu    sync.Mutex
	of    map[string]*member
}

func newMembers(t testing.TB) *members {
	t.Helper()
	b, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	all := &members{t: t, bus: b, of: make(map[string]*member)}
	all.keep(0)
	return all
}

func (all *members) keep(maxBytes int64) {
	all.t.Helper()
	if _, err := all.bus.Keep(all.t.Context(), bus.Stream{Name: fieldgate.StreamMQTT, Subjects: []string{fieldgate.SubjectMQTTLog + "*"}, MaxBytes: maxBytes, MaxAge: time.Hour}); err != nil {
		all.t.Fatal(err)
	}
}

func (all *members) names() (names []string) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for name := range all.of {
		names = append(names, name)
	}
	return names
}

// start starts a node on a folder, and waits until it has caught up.
func (all *members) start(node, folder string) *member {
	all.t.Helper()
	m := all.open(node, folder)
	waitUntil(all.t, node+" has caught up", func() bool { return m.LogState().Joined })
	return m
}

func (all *members) open(node, folder string) *member {
	all.t.Helper()
	all.epoch++
	m := &member{t: all.t, node: node, folder: folder, logs: new(lockedBuffer)}
	var err error
	if m.Store, err = Open(Config{Folder: folder, Logger: slog.New(slog.NewTextHandler(m.logs, nil)), Log: &Log{Bus: all.bus, Node: node, Epoch: all.epoch, Peers: all.names}}); err != nil {
		all.t.Fatal(err)
	}
	all.mu.Lock()
	all.of[node] = m
	all.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { m.RunShared(ctx, m) })
	m.stop = sync.OnceFunc(func() {
		all.mu.Lock()
		delete(all.of, node)
		all.mu.Unlock()
		cancel()
		running.Wait()
	})
	all.t.Cleanup(m.stop)
	return m
}

func waitUntil(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain: " + what)
		}
	}
}

func (m *member) wait(write func(done func(error))) error {
	done := make(chan error, 1)
	write(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		m.t.Fatalf("nothing comes of what %s proposes:\n%s", m.node, m.logs)
		return nil
	}
}

func (m *member) must(write func(done func(error))) {
	m.t.Helper()
	if err := m.wait(write); err != nil {
		m.t.Fatal(err)
	}
}

// claim makes the node the owner of a client's session and gives the change.
func (m *member) claim(client string, cleanStart bool, expiry uint32, subscriptions ...Subscription) Change {
	m.t.Helper()
	mine := new(int)
	m.must(func(done func(error)) {
		m.Claim(&Session{Kind: "device", Principal: "d1", Client: client, Expiry: expiry}, cleanStart, subscriptions, mine, done)
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.applied) - 1; i >= 0; i-- {
		if m.applied[i].Mine == any(mine) {
			return m.applied[i]
		}
	}
	m.t.Fatal("the claim was not applied")
	return Change{}
}

func (m *member) publish(message *broker.Message, to ...uint64) {
	m.t.Helper()
	var recipients []Recipient
	for _, session := range to {
		recipients = append(recipients, Recipient{Session: session, QoS: 1})
	}
	m.must(func(done func(error)) { m.Publish(message, recipients, Received{}, done) })
}

func (m *member) queue(session uint64) (queued []Queued) {
	m.t.Helper()
	queued, _, err := m.Queue(session, 0, 1<<20, 1<<30)
	if err != nil {
		m.t.Fatal(err)
	}
	return queued
}

func payloads(queued []Queued) (payloads []string) {
	for _, q := range queued {
		payloads = append(payloads, string(q.Message.Payload))
	}
	return payloads
}

// content is all that a store holds.
func (m *member) content() string {
	m.t.Helper()
	var b bytes.Buffer
	if err := m.read(func(db *pebble.DB) error {
		return scan(db, []byte{0}, []byte{0xFF}, func(key, value []byte) (bool, error) {
			fmt.Fprintf(&b, "%q: %x\n", key, value)
			return true, nil
		})
	}); err != nil {
		m.t.Fatal(err)
	}
	return b.String()
}

// settle waits until all stores have applied the same.
func (all *members) settle() {
	all.t.Helper()
	waitUntil(all.t, "all stores stand at the end of the log", func() bool {
		stream, err := all.bus.State(all.t.Context(), fieldgate.StreamMQTT)
		if err != nil {
			all.t.Fatal(err)
		}
		all.mu.Lock()
		defer all.mu.Unlock()
		for _, m := range all.of {
			m.Store.mu.Lock()
			at := m.shared.state.applied == stream.Last && len(m.shared.proposals) == 0 && len(m.shared.sent) == 0
			m.Store.mu.Unlock()
			if !at {
				return false
			}
		}
		return true
	})
}

// same demands that all stores hold the same.
func (all *members) same() {
	all.t.Helper()
	all.settle()
	waitUntil(all.t, "nothing is left of sessions that ended", func() bool {
		for _, m := range all.of {
			if strings.Contains(m.content(), `"d\x`) {
				return false
			}
		}
		return true
	})
	want, of := "", ""
	for name, m := range all.of {
		content := m.content()
		if of == "" {
			want, of = content, name
		} else if content != want {
			all.t.Errorf("%s holds\n%s\nand %s\n%s", of, want, name, content)
		}
	}
}

func TestStoresWithALogAreAlike(t *testing.T) {
	all := newMembers(t)
	a, b := all.start("a", t.TempDir()), all.start("b", t.TempDir())
	session := a.claim("c", false, 60, Subscription{"x/#", Options{QoS: 1}})
	if !session.Made || session.Session != session.Number {
		t.Fatalf("%+v", session)
	}
	b.publish(message("x/1", "one"), session.Session)
	b.publish(retainedMessage("r", "kept"))
	a.must(func(done func(error)) { a.Subscribe(session.Session, []Subscription{{"y", Options{QoS: 2}}}, done) })
	all.same()
	for _, m := range []*member{a, b} {
		same(t, "queue", payloads(m.queue(session.Session)), []string{"one"})
		same(t, "retained", m.Store.retained.Load(), 1)
	}

	// Another node takes the session over: what the first one still says of it is ignored by all.
	again := b.claim("c", false, 60)
	if again.Made || again.Session != session.Session {
		t.Fatalf("%+v", again)
	}
	waitUntil(t, "a knows", func() bool {
		a.shared.owners.RLock()
		defer a.shared.owners.RUnlock()
		return a.shared.owners.of[session.Session].node == "b"
	})
	if err := a.wait(func(done func(error)) { a.Unsubscribe(session.Session, []string{"y"}, done) }); err != ErrTakenOver {
		t.Error(err)
	}
	number := a.queue(session.Session)[0].Number
	late := Change{Kind: Taken, Session: session.Session, Claim: session.Number, Queued: number}
	if err := a.wait(func(done func(error)) { a.propose(&late, done) }); err != ErrTakenOver {
		t.Error(err)
	}
	same(t, "queue", payloads(b.queue(session.Session)), []string{"one"})

	// A message of a client whose session is another node's by now is not published: the client sends it again there.
	lateMessage := Change{Kind: Published, Session: session.Session, Claim: session.Number, Received: 7, Message: message("x/2", "late"), To: []Recipient{{Session: session.Session, QoS: 2}}}
	if err := a.wait(func(done func(error)) { a.propose(&lateMessage, done) }); err != ErrTakenOver {
		t.Error(err)
	}
	b.Done(session.Session, number, time.Time{})
	all.same()
	same(t, "queue", payloads(a.queue(session.Session)), []string{})

	// A session whose node has gone is adopted once.
	a.Adopt(session.Session, again.Number)
	all.settle()
	b.Adopt(session.Session, again.Number)
	all.same()
	kept := a.reopened(all).Sessions()
	if len(kept) != 1 || kept[0].Node != "a" || kept[0].Away.IsZero() || len(kept[0].Subscriptions) != 2 {
		t.Errorf("%+v", kept)
	}

	// A clean start ends what was there, and leaves nothing if the new session ends with its connection.
	ended := b.claim("c", true, 0)
	same(t, "ended", ended.Ended, session.Session)
	same(t, "session", ended.Session, 0)
	all.same()
	if strings.Contains(b.content(), "x/#") {
		t.Error(b.content())
	}
}

// reopened stops the node and gives the store as it was read back, without running it.
func (m *member) reopened(all *members) *Store {
	m.t.Helper()
	m.stop()
	s, err := Open(Config{Folder: m.folder, Logger: slog.New(slog.DiscardHandler), Log: &Log{Bus: all.bus, Node: m.node}})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if s.snapshot != nil {
			s.snapshot.Close()
		}
		s.disk.close()
	})
	return s
}

// Nodes do what they like at the same time, stop and come back: in the end all stores hold the same.
func TestStoresStayAlike(t *testing.T) {
	all := newMembers(t)
	folders := map[string]string{"a": t.TempDir(), "b": t.TempDir(), "c": t.TempDir()}
	for node, folder := range folders {
		all.start(node, folder)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range 3 {
		var working sync.WaitGroup
		for i, node := range []string{"a", "b", "c"} {
			m := all.of[node]
			random := rand.New(rand.NewPCG(seed, uint64(round*3+i)))
			working.Go(func() { m.work(random, 100) })
		}
		working.Wait()
		away := []string{"a", "b", "c"}[round]
		all.of[away].stop()
		for i, node := range []string{"a", "b", "c"} {
			if node != away {
				all.of[node].work(rand.New(rand.NewPCG(seed, uint64(100+round*3+i))), 50)
			}
		}
		all.start(away, folders[away])
		all.same()
		if t.Failed() {
			return
		}
	}
}

// work does so many things at random.
func (m *member) work(random *rand.Rand, times int) {
	var pending sync.WaitGroup
	done := func(error) { pending.Done() }
	for range times {
		m.shared.owners.RLock()
		var sessions, own []uint64
		for number, o := range m.shared.owners.of {
			sessions = append(sessions, number)
			if o.node == m.node {
				own = append(own, number)
			}
		}
		m.shared.owners.RUnlock()
		slices.Sort(sessions)
		slices.Sort(own)
		pending.Add(1)
		what := random.IntN(10)
		if len(own) == 0 && what > 4 {
			what = 0
		}
		switch what {
		case 0, 1:
			m.Claim(&Session{Kind: "device", Client: fmt.Sprint(random.IntN(12)), Expiry: uint32(random.IntN(4) * 60)}, random.IntN(4) == 0, []Subscription{{fmt.Sprint(random.IntN(9)), Options{QoS: 1}}}, nil, done)
		case 2, 3, 4:
			msg := message(fmt.Sprint("t/", random.IntN(5)), fmt.Sprint(random.Uint64()))
			msg.Retain = random.IntN(3) == 0
			if random.IntN(8) == 0 {
				msg.Payload = nil
			}
			var to []Recipient
			for _, session := range sessions {
				if random.IntN(3) == 0 {
					to = append(to, Recipient{Session: session, QoS: 1})
				}
			}
			m.Publish(msg, to, Received{}, done)
		case 5, 6:
			session := own[random.IntN(len(own))]
			for _, q := range m.queue(session) {
				if random.IntN(2) == 0 {
					switch random.IntN(3) {
					case 0:
						m.Done(session, q.Number, time.Time{})
					case 1:
						pending.Add(1)
						m.Delivered(session, q.Number, time.Time{}, done)
					case 2:
						pending.Add(1)
						m.Discard(session, q.Number, time.Time{}, done)
					}
				}
			}
			done(nil)
		case 7:
			session := own[random.IntN(len(own))]
			m.shared.owners.RLock()
			client := m.shared.owners.of[session].name.client
			m.shared.owners.RUnlock()
			m.SaveSession(session, &Session{Kind: "device", Client: client, Away: time.Unix(random.Int64N(1e9), 0)}, nil, done)
		case 8:
			m.Unsubscribe(own[random.IntN(len(own))], []string{fmt.Sprint(random.IntN(9))}, done)
		case 9:
			session := own[random.IntN(len(own))]
			if random.IntN(2) == 0 {
				m.EndSession(session)
				done(nil)
			} else {
				m.Publish(message("t", "qos 2"), nil, Received{session, uint16(1 + random.IntN(9))}, done)
			}
		}
	}
	pending.Wait()
}

// A node that comes when the stream does not go back far enough copies another's store, and so does one whose own store the log did not
// begin with; what it had is set aside.
func TestStoreIsCopied(t *testing.T) {
	all := newMembers(t)
	a := all.start("a", t.TempDir())
	session := a.claim("c", false, 60, Subscription{"x/#", Options{QoS: 1}})
	folder := t.TempDir()
	b := all.start("b", folder)
	b.stop()
	for i := range 200 {
		a.publish(message("x", fmt.Sprint(i, strings.Repeat(" ", 10_000))), session.Session)
		a.publish(retainedMessage(fmt.Sprint("r/", i), "r"))
	}
	all.keep(500_000)
	if stream, err := all.bus.State(t.Context(), fieldgate.StreamMQTT); err != nil || stream.First < 3 {
		t.Fatal(stream, err)
	}
	b = all.start("b", folder)
	all.same()
	same(t, "replaced", b.replaced, 1)
	same(t, "queue", len(b.queue(session.Session)), 200)
	waitUntil(t, "what was copied is counted", func() bool { return b.Store.retained.Load() == 200 })

	alone := open(t, t.TempDir(), nil)
	alone.publish(retainedMessage("mine", "mine"))
	alone.stop()
	c := all.start("c", alone.config.Folder)
	all.same()
	same(t, "own", len(retainedIn(c.Store)), 200)
	if aside, err := filepath.Glob(filepath.Join(alone.config.Folder, "store.replaced-*")); err != nil || len(aside) != 1 {
		t.Error(aside, err)
	}
	b.publish(message("x", "after"), session.Session)
	all.same()

	// Nobody is there who has a copy to give: the node says so, and goes on when there is.
	folders := []string{a.folder, b.folder}
	a.stop()
	b.stop()
	c.stop()
	d := all.open("d", t.TempDir())
	waitUntil(t, "d says why", func() bool { return strings.Contains(d.LogState().Problem, "no other node") })
	if d.Ready() == nil {
		t.Error("it would serve")
	}
	all.start("a", folders[0])
	waitUntil(t, "d has caught up", func() bool { return d.LogState().Joined })
	all.same()
}

func retainedIn(s *Store) (topics []string) {
	if err := s.EachRetained(context.Background(), "#", "", func(m *broker.Message) bool {
		topics = append(topics, m.Topic)
		return true
	}); err != nil {
		panic(err)
	}
	return topics
}

// The log begins with what the first node had alone; numbers go on above those that it had given.
func TestFounderKeepsItsStore(t *testing.T) {
	alone := open(t, t.TempDir(), nil)
	session := alone.session("c", Subscription{"x", Options{QoS: 1}})
	for range 3 {
		alone.publish(message("x", "before"), session)
	}
	alone.stop()
	all := newMembers(t)
	a := all.start("a", alone.config.Folder)
	again := a.claim("c", false, 60)
	same(t, "session", again.Session, session)
	a.publish(message("x", "after"), session)
	all.start("b", t.TempDir())
	all.same()
	same(t, "queue", payloads(all.of["b"].queue(session)), []string{"before", "before", "before", "after"})
}

// A stream that was lost is begun anew with what the nodes hold.
func TestLostStreamIsFoundedAgain(t *testing.T) {
	all := newMembers(t)
	a := all.start("a", t.TempDir())
	b := all.start("b", t.TempDir())
	session := a.claim("c", false, 60)
	a.publish(message("x", "one"), session.Session)
	all.same()
	folder := t.TempDir()
	other, err := bus.Open(bus.Config{Directory: folder, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	folders := []string{a.folder, b.folder}
	a.stop()
	b.stop()
	all.bus = other
	all.keep(0)
	all.start("a", folders[0])
	b = all.start("b", folders[1])
	all.same()
	same(t, "queue", payloads(b.queue(session.Session)), []string{"one"})
	b.claim("c", false, 60)
	b.publish(message("x", "two"), session.Session)
	all.same()
	same(t, "queue", payloads(all.of["a"].queue(session.Session)), []string{"one", "two"})
}

// A group that the stream holds twice, because its acknowledgement was lost for long, counts once; one of an earlier start of the node that
// comes late does not count.
func TestGroupsCountOnce(t *testing.T) {
	all := newMembers(t)
	a := all.start("a", t.TempDir())
	session := a.claim("c", false, 60)
	entry := func(epoch, number uint64, text string) {
		c := Change{Kind: Published, Message: message("x", text), To: []Recipient{{Session: session.Session, QoS: 1}}}
		data := appendChange(appendEntry(nil, "z", epoch, number, 1), &c)
		if err := all.bus.Append(t.Context(), fieldgate.SubjectMQTTLog+"z", fmt.Sprint(rand.Uint64()), data); err != nil {
			t.Fatal(err)
		}
	}
	entry(5, 1, "one")
	entry(5, 1, "again")
	entry(6, 1, "two")
	entry(5, 2, "late")
	if err := all.bus.Append(t.Context(), fieldgate.SubjectMQTTLog+"z", "damaged", []byte{groupVersion, 0xFF}); err != nil {
		t.Fatal(err)
	}
	entry(6, 2, "three")
	all.settle()
	same(t, "queue", payloads(a.queue(session.Session)), []string{"one", "two", "three"})
}

func TestNewerVersionIsNotApplied(t *testing.T) {
	all := newMembers(t)
	a := all.start("a", t.TempDir())
	if err := all.bus.Append(t.Context(), fieldgate.SubjectMQTTLog+"z", "newer", []byte{groupVersion + 1}); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "a says why", func() bool { return strings.Contains(a.LogState().Problem, "upgrade") })
	if a.Ready() == nil {
		t.Error("it would serve")
	}
}

func FuzzEntry(f *testing.F) {
	at := time.Unix(0, 1_700_000_000_000_000_000)
	session := &Session{Kind: "device", Principal: "d1", Client: "c", Expiry: 60, Away: at, Will: &Will{Message: *retainedMessage("gone", "x"), Delay: 9}}
	session.Will.Message.Time = at
	m := message("a/b", "payload")
	m.Time = at
	b := appendEntry(nil, "node", 7, 9, int(kinds))
	for _, c := range []Change{
		{Kind: Nothing}, {Kind: Founded, Empty: true, After: 9},
		{Kind: Claimed, Record: session, CleanStart: true, Subscriptions: []Subscription{{"a/#", Options{QoS: 1, ID: 300}}}},
		{Kind: Adopted, Session: 1, Claim: 2, Record: &Session{Away: at}}, {Kind: Saved, Session: 1, Claim: 2, Record: session},
		{Kind: Subscribed, Session: 1, Claim: 2, Subscriptions: []Subscription{{"a", Options{}}}}, {Kind: Unsubscribed, Session: 1, Claim: 2, Filters: []string{"a", "b"}},
		{Kind: Ended, Session: 1, Claim: 2}, {Kind: Published, Session: 1, Claim: 2, Received: 9, Message: m, To: []Recipient{{Session: 1, QoS: 2, Retain: true, SubscriptionIDs: []uint32{1, 2}}}},
		{Kind: Taken, Session: 1, Claim: 2, Queued: 77, Expires: at}, {Kind: Came, Session: 1, Claim: 2, Received: 9}, {Kind: Released, Session: 1, Claim: 2, Received: 9},
		{Kind: Reached, Session: 1, Claim: 2, Queued: 77, Expires: at}, {Kind: Completed, Session: 1, Claim: 2, Queued: 77},
	} {
		b = appendChange(b, &c)
	}
	f.Add(b)
	f.Add([]byte{groupVersion, 1, 'a', 1, 1, 0xFF, 0xFF, 0x03})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err != nil {
			return
		}
		again := appendEntry(nil, e.node, e.epoch, e.number, len(e.changes))
		for i := range e.changes {
			again = appendChange(again, &e.changes[i])
		}
		other, err := decodeEntry(again)
		if err != nil || fmt.Sprintf("%+v", other.changes) != fmt.Sprintf("%+v", e.changes) && !strings.Contains(fmt.Sprintf("%+v", e.changes), "0x") {
			t.Fatalf("%v: %+v became %+v", err, e, other)
		}
	})
}
