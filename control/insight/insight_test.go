package insight

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fieldgate"
	"fieldgate/control/controltest"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

var records = bus.Stream{Name: fieldgate.StreamRecords, Subjects: []string{fieldgate.SubjectRecords + ">"}, MaxBytes: 64 << 20, MaxAge: time.Hour}

type node struct {
	*Insight
	db      *store.Store
	bus     *bus.Bus
	metrics *prometheus.Registry
}

var quick = pace{flush: 2 * time.Millisecond, renew: 20 * time.Millisecond, look: 5 * time.Millisecond, takeover: 300 * time.Millisecond, presence: time.Hour}

func openBus(t testing.TB, data string) *bus.Bus {
	t.Helper()
	b := controltest.Bus(t, data)
	if _, err := b.Keep(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	return b
}

func newNode(t testing.TB, db *store.Store, b *bus.Bus) node {
	metrics := prometheus.NewRegistry()
	n := node{New(db, b, metrics, controltest.Log(t)), db, b, metrics}
	n.pace = quick
	return n
}

// open makes a node on the engines of a data directory.
func open(t testing.TB, data string) node {
	t.Helper()
	return newNode(t, controltest.Store(t, data), openBus(t, data))
}

// begin takes the turn without reading the stream.
func (n node) begin(t testing.TB) *counting {
	t.Helper()
	c, err := n.await(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// feed counts Records as if the stream had brought them.
func (c *counting) feed(batch *fieldgate.RecordBatch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.consumeEntry(bus.Entry{Sequence: c.progress.sequence + 1, Data: fieldgate.EncodeRecords(nil, batch)}, 0, time.Now())
}

func (c *counting) mustFlush(t testing.TB) {
	t.Helper()
	if err := c.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// run consumes until stop is called.
func (n node) run(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("insight ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// record is one exchange: device i, taking i milliseconds.
func record(i int) fieldgate.Record {
	r := fieldgate.Record{Time: time.Now(), Exchange: uint64(i), Duration: time.Duration(i) * time.Millisecond, Protocol: fieldgate.ProtocolMQTT,
		Method: fieldgate.MethodPost, Status: 204, API: "thermo", Version: "2.4.0", Operation: "sendTelemetry",
		Principal: fmt.Sprint("d", i), Kind: fieldgate.PrincipalDevice, Firmware: "1.8.3", BytesIn: 276, BytesOut: 2}
	if i%10 == 0 {
		r.Status, r.Problem, r.Findings, r.Detail = 422, fieldgate.ProblemInvalidPayload, fieldgate.FindingInvalidRequest, "/temp /properties/temp/maximum"
	}
	return r
}

// send appends records number first to last of a node's epoch.
func (n node) send(t testing.TB, name string, epoch uint64, first, last int) {
	t.Helper()
	batch := &fieldgate.RecordBatch{Node: name, Epoch: epoch, First: uint64(first)}
	for i := first; i <= last; i++ {
		batch.Records = append(batch.Records, record(i))
	}
	// A new id each time: the bus does not hide a repetition here.
	id := strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := n.bus.Append(t.Context(), fieldgate.SubjectRecords+name, id, fieldgate.EncodeRecords(nil, batch)); err != nil {
		t.Fatal(err)
	}
}

// wait returns when the stream was shown and counted to its end.
func (n node) wait(t testing.TB) {
	t.Helper()
	state, err := n.bus.State(t.Context(), fieldgate.StreamRecords)
	if err != nil {
		t.Fatal(err)
	}
	var created int64
	var sequence uint64
	for sequence < state.Last || created != state.Created.UnixNano() || n.shownTo() < state.Last {
		err := n.db.View(t.Context(), func(tx *store.Tx) error {
			err := tx.QueryRowContext(t.Context(), "SELECT created, sequence FROM ingest_stream").Scan(&created, &sequence)
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func (n node) shownTo() uint64 {
	n.lag.mu.Lock()
	defer n.lag.mu.Unlock()
	return n.lag.seen
}

func (n node) operation(t testing.TB) *OperationTraffic {
	t.Helper()
	list, err := n.Operations(t.Context(), "thermo", 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	return list[0]
}

func (n node) totals(t testing.TB) Totals {
	t.Helper()
	totals, err := n.Totals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return totals
}

func TestRollups(t *testing.T) {
	n := open(t, t.TempDir())
	n.run(t)
	n.send(t, "n1", 7, 1, 1000)
	n.wait(t)
	sum := n.operation(t)
	if sum.Exchanges != 1000 || sum.Passed != 900 || sum.Refused != 100 || sum.Failed != 0 || sum.BytesIn != 276_000 || sum.BytesOut != 2000 {
		t.Fatalf("%+v", sum)
	}
	for quantile, got := range map[float64]time.Duration{0.5: sum.P50, 0.9: sum.P90, 0.99: sum.P99} {
		want := quantile * float64(time.Second)
		if math.Abs(float64(got)-want) > 0.011*want {
			t.Errorf("the %v quantile is %v", quantile, got)
		}
	}
	if math.Abs(float64(sum.Callers)-1000) > 50 {
		t.Errorf("%d callers", sum.Callers)
	}
	if len(sum.Findings) != 1 || sum.Findings[0] != (NamedCount{"invalid-request", 100, "/temp /properties/temp/maximum"}) {
		t.Errorf("%+v", sum.Findings)
	}
	if len(sum.Protocols) != 1 || sum.Protocols[0].Protocol != fieldgate.ProtocolMQTT || sum.Protocols[0].Refused != 100 || sum.Protocols[0].P50 != sum.P50 {
		t.Errorf("%+v", sum.Protocols)
	}
	// The same in hours, and in hours and days.
	for _, minutes := range []int{120, 30 * 24 * 60} {
		list, err := n.Operations(t.Context(), "", minutes)
		if err != nil || len(list) != 1 || list[0].Exchanges != 1000 || list[0].P99 != sum.P99 {
			t.Fatalf("%d minutes: %v %v", minutes, list, err)
		}
	}
}

// A Record that stands for several exchanges counts as so many, everywhere.
func TestRecordsOfSeveral(t *testing.T) {
	several := record(1)
	several.Duration, several.Others, several.BytesIn = time.Millisecond, []uint32{900_000, 900_000, 900_000}, 4*276
	n, _ := countRecords(t, t.TempDir(), several)
	list, err := n.OperationsOf(t.Context(), OperationsQuery{API: "thermo", Version: "2.4.0", Minutes: 10})
	if err != nil || len(list) != 1 || list[0].Exchanges != 4 || list[0].Passed != 4 || list[0].BytesIn != 4*276 || list[0].P90 < 800*time.Millisecond {
		t.Fatalf("%+v %v", *list[0], err)
	}
	callers, err := n.Callers(t.Context(), "thermo", "2.4.0", time.Now().Add(-time.Hour))
	if err != nil || len(callers) != 1 || callers[0].Exchanges != 4 {
		t.Fatalf("%+v %v", callers, err)
	}
	l := newLive()
	l.countSecond(&several, several.Time.Unix()+1)
	if rates := l.rates(maxSeconds, several.Time.Unix()+1); rates.Protocols[0].Exchanges != 4 || rates.Protocols[0].Passed != 4 {
		t.Errorf("%+v", rates)
	}
}

func TestCountsOnly(t *testing.T) {
	n, _ := countRecords(t, t.TempDir(), record(1), record(10))
	list, err := n.OperationsOf(t.Context(), OperationsQuery{API: "thermo", Version: "2.4.0", Minutes: 10, CountsOnly: true})
	if err != nil || len(list) != 1 || list[0].Exchanges != 2 || list[0].Refused != 1 || list[0].P50 != 0 || list[0].Callers != 0 || len(list[0].Findings) != 1 {
		t.Fatalf("%+v %v", list, err)
	}
}

func TestEachRecordIsCountedOnce(t *testing.T) {
	n := open(t, t.TempDir())
	n.run(t)
	n.send(t, "n1", 7, 1, 100)
	n.send(t, "n1", 7, 1, 100)   // the whole batch again
	n.send(t, "n1", 7, 51, 150)  // half of it again
	n.send(t, "n2", 7, 1, 10)    // another node
	n.send(t, "n1", 8, 1, 10)    // the same node after a restart
	n.send(t, "n1", 7, 171, 180) // of the time before; twenty are missing
	if err := n.bus.Append(t.Context(), fieldgate.SubjectRecords+"n3", "x", []byte("no batch")); err != nil {
		t.Fatal(err)
	}
	n.wait(t)
	if totals := n.totals(t); totals.Exchanges != 180 || totals.Lost != 20 {
		t.Fatalf("%+v", totals)
	}
	n.send(t, "n1", 7, 161, 175) // half of what is missing comes late, with some that are known
	n.wait(t)
	if totals := n.totals(t); totals.Exchanges != 190 || totals.Lost != 10 {
		t.Fatalf("%+v", totals)
	}
	if sum := n.operation(t); sum.Exchanges != 190 {
		t.Fatalf("%+v", sum)
	}
}

// TestRestartInTheMiddle ends the process of consuming at different moments: after a flush, before one, and as a crash
// that loses what is pending.
func TestRestartInTheMiddle(t *testing.T) {
	data := t.TempDir()
	next := 1
	for round := range 6 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			n := open(t, data)
			if round%3 == 1 {
				n.pace.flush = time.Hour // stored when it stops
			}
			stop := n.run(t)
			n.send(t, "n1", 7, next, next+99)
			switch round % 3 {
			case 0:
				n.wait(t)
			case 2: // a crash: nothing more reaches the database
				n.db.Close()
			}
			stop()
		})
		next += 100
	}
	n := open(t, data)
	n.run(t)
	n.wait(t)
	if totals := n.totals(t); totals.Exchanges != 600 || totals.Lost != 0 {
		t.Fatalf("%+v", totals)
	}
	if sum := n.operation(t); sum.Exchanges != 600 {
		t.Fatalf("%+v", sum)
	}
	if recent, _ := n.RecentPage(Filter{}, "", 1000); len(recent) < 600 {
		t.Errorf("%d exchanges are remembered after a restart", len(recent))
	}
	if online := n.Online(); online.Devices != 600 || online.Protocols[fieldgate.ProtocolMQTT] != 600 {
		t.Errorf("%+v are online after a restart", online)
	}
}

// TestStreamWasLost: a new stream of the same name starts at 1 again; what nodes repeat is not counted again.
func TestStreamWasLost(t *testing.T) {
	data := t.TempDir()
	t.Run("before", func(t *testing.T) {
		n := open(t, data)
		stop := n.run(t)
		for first := 1; first < 100; first += 10 {
			n.send(t, "n1", 7, first, first+9)
		}
		n.wait(t)
		stop()
	})
	n := newNode(t, controltest.Store(t, data), openBus(t, t.TempDir()))
	n.run(t)
	n.send(t, "n1", 7, 91, 110)
	n.wait(t)
	if totals := n.totals(t); totals.Exchanges != 110 || totals.Lost != 0 {
		t.Fatalf("%+v", totals)
	}
}

func TestFailedFlushLosesNothing(t *testing.T) {
	n := open(t, t.TempDir())
	c := n.begin(t)
	batch := &fieldgate.RecordBatch{Node: "n1", Epoch: 7, First: 1, Records: []fieldgate.Record{record(1), record(2)}}
	c.feed(batch)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.flush(cancelled); err == nil {
		t.Fatal("a flush with an ended context succeeded")
	}
	batch.First = 3
	c.feed(batch)
	for range 3 { // the last one has nothing left to do
		c.mustFlush(t)
	}
	if sum := n.operation(t); sum.Exchanges != 4 {
		t.Fatalf("%+v", sum)
	}
}

func TestUndocumentedRoutes(t *testing.T) {
	n := open(t, t.TempDir())
	batch := &fieldgate.RecordBatch{Node: "n1", Epoch: 1, First: 1}
	add := func(api, route string, finding fieldgate.Findings) {
		batch.Records = append(batch.Records, fieldgate.Record{Time: time.Now(), Status: 200, API: api, Route: route, Findings: finding, Principal: "d1"})
	}
	add("legacy", "/old", fieldgate.FindingUndocumented)
	add("legacy", "/old", fieldgate.FindingUndocumented)
	add("", "/admin.php", fieldgate.FindingUnmatched)
	for i := range maxRefusedRoutes + 10 {
		add("", fmt.Sprint("/scan", i), fieldgate.FindingUnmatched)
	}
	n.run(t)
	for all := batch.Records; len(all) > 0; all = all[len(batch.Records):] {
		batch.Records = all[:min(len(all), fieldgate.MaxBatchRecords)]
		if err := n.bus.Append(t.Context(), fieldgate.SubjectRecords+"n1", fmt.Sprint(batch.First), fieldgate.EncodeRecords(nil, batch)); err != nil {
			t.Fatal(err)
		}
		batch.First += uint64(len(batch.Records))
	}
	n.wait(t)
	routes, overflow, err := n.UndocumentedPage(t.Context(), nil, nil, 10)
	if err != nil || len(routes) != 10 || overflow != 11 {
		t.Fatalf("%v %d %v", routes, overflow, err)
	}
	if first := routes[0]; first.Route != "/old" || first.API != "legacy" || first.Exchanges != 2 || first.Principal != "d1" || first.Last.IsZero() {
		t.Fatalf("%+v", first)
	}
}

// TestScannersDisplaceNothing: who asks for what is not there fills the list of what was refused, and only until he is gone.
func TestScannersDisplaceNothing(t *testing.T) {
	ctx := t.Context()
	n := open(t, t.TempDir())
	c := n.begin(t)
	var first uint64 = 1
	see := func(at time.Time, api, path string, routes int) {
		finding := fieldgate.FindingUndocumented
		if api == "" {
			finding = fieldgate.FindingUnmatched
		}
		for i := range routes {
			c.feed(&fieldgate.RecordBatch{Node: "n1", Epoch: 1, First: first, Records: []fieldgate.Record{{Time: at, API: api, Route: fmt.Sprint(path, i), Findings: finding}}})
			first++
		}
		c.mustFlush(t)
		c.pruned = time.Time{}
		if err := c.prune(ctx); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (passed, refused int) {
		routes, _, err := n.UndocumentedPage(ctx, nil, nil, 5000)
		if err != nil || len(routes) != len(c.routes.routes) {
			t.Fatalf("%d routes, %d known, %v", len(routes), len(c.routes.routes), err)
		}
		for _, r := range routes {
			if r.API == "" {
				refused++
			} else {
				passed++
			}
		}
		return passed, refused
	}
	now := time.Now()
	see(now.Add(-2*routeRetention), "legacy", "/forgotten", 5)
	see(now.Add(-2*time.Hour), "", "/scan", maxRefusedRoutes+100)
	see(now.Add(-2*time.Hour), "legacy", "/device", 20)
	if passed, refused := count(); passed != 20 || refused != 0 {
		t.Fatalf("%d passed, %d refused", passed, refused)
	}
	see(now, "", "/new", 10)
	if passed, refused := count(); passed != 20 || refused != 10 || c.routes.refused != 10 {
		t.Fatalf("%d passed, %d refused, %d known", passed, refused, c.routes.refused)
	}
}

// TestRecordsOfTheFuture: a node whose clock is wrong leaves nothing that is kept until its time comes.
func TestRecordsOfTheFuture(t *testing.T) {
	n := open(t, t.TempDir())
	c := n.begin(t)
	early := record(1)
	early.Time = time.Now().AddDate(50, 0, 0)
	c.feed(&fieldgate.RecordBatch{Node: "n1", Epoch: 1, First: 1, Records: []fieldgate.Record{early}})
	for key := range c.pending.traffic {
		if key.start > time.Now().Unix() {
			t.Fatalf("a rollup of %v", time.Unix(key.start, 0))
		}
	}
}

func TestLiveTraffic(t *testing.T) {
	n := open(t, t.TempDir())
	n.run(t)
	refused, err := n.Subscribe(Filter{Terms: parse(t, "status:4xx", TrafficKeys)})
	if err != nil {
		t.Fatal(err)
	}
	n.send(t, "n1", 36, 1, 50)
	for want := 10; want <= 50; want += 10 {
		if got := <-refused.Exchanges(); got.Exchange != uint64(want) || got.Instance != "n1-10-"+strconv.FormatInt(int64(want), 36) {
			t.Fatalf("%+v", got)
		}
	}
	n.wait(t)
	for text, want := range map[string]int{"": 50, "protocol:mqtt": 50, "protocol:coap": 0, "principal:d7": 1, "api:other": 0, "finding:invalid-request": 5, "status:2xx": 45} {
		if got, _ := n.RecentPage(Filter{Terms: parse(t, text, TrafficKeys)}, "", 100); len(got) != want {
			t.Errorf("%s: %d", text, len(got))
		}
	}
	if newest, _ := n.RecentPage(Filter{}, "", 2); len(newest) != 2 || newest[0].Exchange != 50 || newest[1].Exchange != 49 {
		t.Errorf("%+v", newest)
	}
	rates := n.Rates(maxSeconds)
	if len(rates.Protocols) != 1 || rates.Protocols[0].Exchanges != 50 || rates.Protocols[0].Refused != 5 || rates.Protocols[0].BytesIn != 50*276 {
		t.Errorf("%+v", rates)
	}
	if len(rates.Problems) != 1 || rates.Problems[0].Name != "invalid-payload" || rates.Problems[0].Count != 5 {
		t.Errorf("%+v", rates.Problems)
	}
	refused.Close()
	n.send(t, "n1", 36, 51, 60)
	n.wait(t)
	if len(refused.Exchanges()) != 0 {
		t.Error("a closed subscription receives")
	}
}

func TestSlowSubscriberIsTold(t *testing.T) {
	l := newLive()
	s := &Subscriber{live: l, exchanges: make(chan Exchange, subscriberBuffer)}
	l.subscribers[s] = true
	batch := &fieldgate.RecordBatch{Node: "n1"}
	for i := range subscriberBuffer + 30 {
		batch.Records = append(batch.Records, record(i+1))
	}
	l.add(batch, batch.Records, time.Now())
	if dropped := s.Dropped(); dropped != 30 || s.Dropped() != 0 {
		t.Fatalf("%d dropped", dropped)
	}
}

func TestRecentIsBounded(t *testing.T) {
	l := newLive()
	for i := range maxRecent + 100 {
		l.add(&fieldgate.RecordBatch{Node: "n"}, []fieldgate.Record{{Exchange: uint64(i)}}, time.Now())
	}
	newest, more := l.newest(Filter{}, "", maxRecent*2)
	if more || len(newest) != maxRecent || newest[0].Exchange != maxRecent+99 || newest[maxRecent-1].Exchange != 100 {
		t.Fatalf("%d, %d to %d", len(newest), newest[0].Exchange, newest[len(newest)-1].Exchange)
	}
}

func TestFirmwareVersionsAreBounded(t *testing.T) {
	n := open(t, t.TempDir())
	c := n.begin(t)
	batch := &fieldgate.RecordBatch{Node: "n1", Epoch: 1, First: 1}
	for i := range 3 * maxUses {
		r := record(1)
		r.Firmware = fmt.Sprint(i)
		batch.Records = []fieldgate.Record{r}
		c.feed(batch)
		batch.First++
		if i%700 == 0 {
			c.mustFlush(t)
		}
	}
	c.mustFlush(t)
	callers, err := n.Callers(t.Context(), "thermo", "2.4.0", time.Now().Add(-time.Hour))
	total := uint64(0)
	for _, c := range callers {
		total += c.Exchanges
	}
	if err != nil || len(callers) != maxUses+1 || callers[0].Firmware != other || total != 3*maxUses {
		t.Fatalf("%d callers, %d exchanges, %v", len(callers), total, err)
	}
}

func TestPrune(t *testing.T) {
	n := open(t, t.TempDir())
	c := n.begin(t)
	batch := &fieldgate.RecordBatch{Node: "n1", Epoch: 1, First: 1}
	for i, age := range []time.Duration{0, 32 * 24 * time.Hour, 500 * 24 * time.Hour} {
		r := record(i + 1)
		r.Time = time.Now().Add(-age)
		batch.Records = append(batch.Records, r)
	}
	c.feed(batch)
	c.mustFlush(t)
	// What is older than it is kept gets no row in the first place; the others are aged here.
	count := func(want map[string]int) {
		t.Helper()
		for table, rows := range want {
			if got := n.rows(t, table); got != rows {
				t.Errorf("%d rows in %s, not %d", got, table, rows)
			}
		}
	}
	count(map[string]int{"traffic": 3 + 1, "traffic_total": 3 + 1, "callers": 2 * 2, "firmware_use": 3})
	n.exec(t, "UPDATE traffic SET start = start - 35000000")
	n.exec(t, "UPDATE traffic_total SET start = start - 35000000")
	n.exec(t, "UPDATE callers SET start = start - 35000000")
	c.pruned = time.Time{}
	if err := c.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	count(map[string]int{"traffic": 0, "traffic_total": 0, "callers": 0, "firmware_use": 1, "ingest_node": 1})
}

func (n node) rows(t testing.TB, table string) (rows int) {
	t.Helper()
	err := n.db.View(t.Context(), func(tx *store.Tx) error {
		return tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&rows)
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func (n node) exec(t testing.TB, statement string, values ...any) {
	t.Helper()
	err := n.db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), statement, values...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestHostileRecords: a node that sends nonsense spoils nothing.
func TestHostileRecords(t *testing.T) {
	n := open(t, t.TempDir())
	n.run(t)
	const text = "\xff\x00"
	batch := &fieldgate.RecordBatch{Node: text, Epoch: 1 << 63, First: 1, Records: []fieldgate.Record{
		{Time: time.Unix(-5, 0), Duration: -1, Status: 1 << 40, Protocol: 200, Method: 200, API: text, Version: text, Operation: text, Route: text,
			Detail: text, Principal: text, Kind: text, Model: text, Firmware: text, Problem: text, Findings: math.MaxUint32,
			BytesIn: math.MaxUint64, BytesOut: math.MaxUint64},
		{Time: time.Now().AddDate(50, 0, 0), Duration: math.MaxInt64, Status: 200, API: text, Protocol: 200, Kind: fieldgate.PrincipalDevice,
			Principal: text, Model: text, Firmware: text, BytesIn: math.MaxUint64},
	}}
	for i, first := range []uint64{1, 0, math.MaxUint64, 1 << 62} {
		batch.First = first
		if err := n.bus.Append(t.Context(), fieldgate.SubjectRecords+"n1", fmt.Sprint(i), fieldgate.EncodeRecords(nil, batch)); err != nil {
			t.Fatal(err)
		}
	}
	n.wait(t)
	if totals := n.totals(t); totals.Exchanges != 2 {
		t.Fatalf("%+v", totals)
	}
	if _, _, err := n.UndocumentedPage(t.Context(), nil, nil, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Operations(t.Context(), "", 120); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Findings(t.Context(), nil, nil, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := n.metrics.Gather(); err != nil {
		t.Fatal(err)
	}
}

func TestMetricsNameNoDevice(t *testing.T) {
	n := open(t, t.TempDir())
	n.run(t)
	n.send(t, "n1", 1, 1, 20)
	n.wait(t)
	families, err := n.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	exchanges := 0.0
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				switch label.GetName() {
				case "api", "version", "operation", "protocol", "class", "finding":
				default:
					t.Errorf("%s has a label %s", family.GetName(), label.GetName())
				}
			}
			if family.GetName() == "fieldgate_exchanges_total" {
				exchanges += metric.GetCounter().GetValue()
			}
		}
	}
	if exchanges != 20 {
		t.Fatalf("%v exchanges", exchanges)
	}
}

func BenchmarkConsume(b *testing.B) {
	n := open(b, b.TempDir())
	c := n.begin(b)
	batch := &fieldgate.RecordBatch{Node: "n1", Epoch: 1, First: 1}
	for i := range 1000 {
		batch.Records = append(batch.Records, record(i+1))
	}
	encoded := fieldgate.EncodeRecords(nil, batch)
	b.ReportAllocs()
	for b.Loop() {
		clear(c.nodes)
		c.consumeEntry(bus.Entry{Sequence: c.progress.sequence + 1, Data: encoded}, 0, time.Now())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
}
