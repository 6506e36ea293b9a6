package insight

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/control/controltest"
	"fieldgate/engine/bus"
)

// TestOneCountsAtATime: three control nodes on one store and bus are stopped, stalled and crashed at random while gateways send,
// repeat and delay their batches. Each Record is counted once.
func TestOneCountsAtATime(t *testing.T) {
	location := t.TempDir()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b := openBus(t, t.TempDir())
	watcher := newNode(t, controltest.Store(t, location), b) // only asks

	control := make([]*control, 3)
	for i := range control {
		control[i] = startControl(t, location, b)
	}
	gateways := []*gateway{{name: "g1", epoch: 1}, {name: "g2", epoch: 9}}
	steps := 40
	if testing.Short() {
		steps = 15
	}
	for range steps {
		for _, g := range gateways {
			g.step(t, watcher, random)
		}
		switch i := random.IntN(len(control)); random.IntN(6) {
		case 0: // stops in order
			control[i].stop()
			control[i] = startControl(t, location, b)
		case 1: // dies: whatever it was about to store is gone
			control[i].db.Close()
			control[i].stop()
			control[i] = startControl(t, location, b)
		case 2: // sleeps longer than its turn lasts, in the middle of its work, and wakes up believing that it is its turn
			control[i].lag.mu.Lock()
			time.AfterFunc(quick.takeover*2, control[i].lag.mu.Unlock)
		}
		time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
	}
	var sent uint64
	for _, g := range gateways {
		g.sendLate(t, watcher, len(g.late))
		sent += uint64(g.sent)
	}
	control[0].wait(t)
	if totals := watcher.totals(t); totals.Exchanges != sent || totals.Lost != 0 {
		t.Fatalf("%+v, %d were sent", totals, sent)
	}
	if sum := watcher.operation(t); sum.Exchanges != sent {
		t.Fatalf("%d, %d were sent", sum.Exchanges, sent)
	}
	if hours, err := watcher.Operations(t.Context(), "", 24*60); err != nil || hours[0].Exchanges != sent {
		t.Fatalf("%+v %v, %d were sent", hours, err, sent)
	}
	if callers, err := watcher.Callers(t.Context(), "thermo", "2.4.0", time.Now().Add(-time.Hour)); err != nil || callers[0].Exchanges != sent {
		t.Fatalf("%+v %v, %d were sent", callers, err, sent)
	}
	for counting := 0; counting != 1; time.Sleep(time.Millisecond) { // one that slept may still have to notice
		counting = 0
		for _, c := range control {
			if c.Lag().Counting {
				counting++
			}
		}
	}
}

// control is a control node with a connection of its own to the store.
type control struct {
	node
	stop func()
}

func startControl(t *testing.T, location string, b *bus.Bus) *control {
	c := &control{node: newNode(t, controltest.Store(t, location), b)}
	c.stop = c.run(t)
	return c
}

// gateway sends Records and remembers how many there are.
type gateway struct {
	name  string
	epoch uint64
	next  int // number
	sent  int // of all epochs
	late  []batchRange
}

type batchRange struct {
	epoch       uint64
	first, last int
}

func (g *gateway) step(t *testing.T, n node, random *rand.Rand) {
	r := batchRange{g.epoch, g.next + 1, g.next + 1 + random.IntN(40)}
	g.next = r.last
	g.sent += r.last - r.first + 1
	switch random.IntN(10) {
	case 0: // waits in an outbox, behind what comes later
		g.late = append(g.late, r)
		return
	case 1: // sent again, because no answer came
		n.send(t, g.name, r.epoch, r.first, r.last)
	case 2: // a restart; what was late comes from the time before
		defer func() { g.epoch, g.next = g.epoch+1, 0 }()
	case 3:
		g.sendLate(t, n, random.IntN(len(g.late)+1))
	}
	n.send(t, g.name, r.epoch, r.first, r.last)
}

func (g *gateway) sendLate(t *testing.T, n node, count int) {
	for _, r := range g.late[:count] {
		n.send(t, g.name, r.epoch, r.first, r.last)
	}
	g.late = g.late[count:]
}

// TestLateFlush: what a node has read counts nothing once another one has taken over, however late it wakes up.
func TestLateFlush(t *testing.T) {
	location := t.TempDir()
	b := openBus(t, t.TempDir())
	slow, other := newNode(t, controltest.Store(t, location), b), newNode(t, controltest.Store(t, location), b)
	sleeping := slow.begin(t)
	batch := &fieldgate.RecordBatch{Node: "g1", Epoch: 1, First: 1, Records: []fieldgate.Record{record(1), record(2)}}
	sleeping.feed(batch)
	awake := other.begin(t) // after a while
	awake.feed(batch)
	awake.mustFlush(t)
	if err := sleeping.flush(t.Context()); !errors.Is(err, errTurnOver) {
		t.Fatalf("the late flush: %v", err)
	}
	if totals := other.totals(t); totals.Exchanges != 2 {
		t.Fatalf("%+v", totals)
	}
	again := slow.begin(t) // it counts on from there when the other one is gone
	batch.First, batch.Records = 2, append(batch.Records, record(3))
	again.feed(batch)
	again.mustFlush(t)
	if totals := other.totals(t); totals.Exchanges != 4 {
		t.Fatalf("%+v", totals)
	}
}

// TestHandOver: a node that stops leaves its turn to the next without a wait.
func TestHandOver(t *testing.T) {
	location := t.TempDir()
	b := openBus(t, t.TempDir())
	first, second := newNode(t, controltest.Store(t, location), b), newNode(t, controltest.Store(t, location), b)
	first.pace.takeover, second.pace.takeover = time.Hour, time.Hour
	stop := first.run(t)
	first.send(t, "g1", 1, 1, 10)
	first.wait(t)
	second.run(t)
	stop()
	second.send(t, "g1", 1, 11, 20)
	second.wait(t)
	if totals := second.totals(t); totals.Exchanges != 20 || !second.Lag().Counting || first.Lag().Counting {
		t.Fatalf("%+v %+v %+v", totals, first.Lag(), second.Lag())
	}
}

// TestStoreIsAway: live traffic goes on and says since when the rollups do not; what came meanwhile is counted afterwards.
func TestStoreIsAway(t *testing.T) {
	data := t.TempDir()
	b := openBus(t, data)
	n := newNode(t, controltest.Store(t, data), b)
	n.run(t)
	n.send(t, "g1", 1, 1, 10)
	n.wait(t)
	n.db.Close()
	n.send(t, "g1", 1, 11, 30)
	for n.shownTo() < 2 || n.Lag().StoreFailing.IsZero() {
		time.Sleep(time.Millisecond)
	}
	if recent, _ := n.RecentPage(Filter{}, "", 100); len(recent) != 30 {
		t.Errorf("%d exchanges are shown", len(recent))
	}
	if online := n.Online(); online.Devices != 30 {
		t.Errorf("%+v", online)
	}
	again := newNode(t, controltest.Store(t, data), b)
	again.run(t)
	again.wait(t)
	if totals := again.totals(t); totals.Exchanges != 30 {
		t.Fatalf("%+v", totals)
	}
	if lag := again.Lag(); !lag.StoreFailing.IsZero() || !lag.StreamFailing.IsZero() || lag.Newest.IsZero() || !lag.Counting {
		t.Errorf("%+v", lag)
	}
}

// TestNumbering compares with a set of numbers.
func TestNumbering(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	n, taken := make(numbering), make(map[uint64]bool)
	newest := uint64(0)
	for range 5_000 {
		// Mostly onward, sometimes back: gaps stay few.
		first := uint64(max(1, int(newest)-30+random.IntN(50)))
		batch := &fieldgate.RecordBatch{Node: "g", First: first}
		want := make(map[uint64]bool)
		for number := first; number < first+uint64(1+random.IntN(20)); number++ {
			batch.Records = append(batch.Records, fieldgate.Record{Exchange: number})
			if !taken[number] {
				want[number], taken[number] = true, true
			}
			newest = max(newest, number)
		}
		p := n[nodeKey{node: "g"}]
		if p != nil && len(p.gaps) >= maxGaps-3 {
			// None is given up: fill the oldest.
			old := &fieldgate.RecordBatch{Node: "g", First: p.gaps[0].first, Records: make([]fieldgate.Record, p.gaps[0].end-p.gaps[0].first)}
			if got := n.take(old); len(got) != len(old.Records) {
				t.Fatalf("seed %d: %d of %d", seed, len(got), len(old.Records))
			}
			for i := range old.Records {
				number := old.First + uint64(i)
				taken[number] = true
				delete(want, number)
			}
		}
		got := make(map[uint64]bool)
		for _, r := range n.take(batch) {
			got[r.Exchange] = true
		}
		if !maps.Equal(got, want) {
			t.Fatalf("seed %d: took %v, not %v", seed, got, want)
		}
		p = n[nodeKey{node: "g"}]
		if absent := newest - uint64(len(taken)); p.absent() != absent {
			t.Fatalf("seed %d: %d are absent, not %d", seed, p.absent(), absent)
		}
		gaps, err := parseGaps(p.gapsText())
		if err != nil || fmt.Sprint(gaps) != fmt.Sprint(p.gaps) {
			t.Fatalf("seed %d: %v became %v %v", seed, p.gaps, gaps, err)
		}
	}
}

// TestGapsAreBounded: beyond the bound the oldest numbers are given up as lost.
func TestGapsAreBounded(t *testing.T) {
	n := make(numbering)
	for i := range uint64(maxGaps + 10) {
		n.take(&fieldgate.RecordBatch{Node: "g", First: 2 + 2*i, Records: make([]fieldgate.Record, 1)})
	}
	p := n[nodeKey{node: "g"}]
	if len(p.gaps) != maxGaps || p.lost != 10 || p.absent() != maxGaps+10 {
		t.Fatalf("%d gaps, %d lost", len(p.gaps), p.lost)
	}
	if late := n.take(&fieldgate.RecordBatch{Node: "g", First: 1, Records: make([]fieldgate.Record, 1)}); late != nil {
		t.Fatal("what was given up was taken")
	}
}

// TestAloneTakesTheTurnAtOnce: after a crash nobody waits for a holder who is gone.
func TestAloneTakesTheTurnAtOnce(t *testing.T) {
	killed := open(t, t.TempDir())
	killed.begin(t)
	next := newNode(t, killed.db, killed.bus)
	next.pace.takeover = time.Hour
	next.Alone()
	next.begin(t)
}
