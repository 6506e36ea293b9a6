package insight

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/control/controltest"
	"fieldgate/control/filter"
)

// BenchmarkFlush stores what 1,000 Records of as many devices changed, on a hundred operations of ten APIs, among what was
// stored before: an operation is one such portion.
func BenchmarkFlush(b *testing.B) {
	n := newNode(b, controltest.Store(b, b.TempDir()), nil)
	c := n.begin(b)
	random := rand.New(rand.NewPCG(1, 2))
	first := uint64(1)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		batch := &fieldgate.RecordBatch{Node: "g1", Epoch: 1, First: first}
		for range 1_000 {
			batch.Records = append(batch.Records, someRecord(random))
		}
		first += 1_000
		c.feed(batch)
		b.StartTimer()
		c.mustFlush(b)
	}
}

// BenchmarkPresence notes 10,000 devices of 1,000,000.
func BenchmarkPresence(b *testing.B) {
	n := newNode(b, controltest.Store(b, b.TempDir()), nil)
	c := n.begin(b)
	random := rand.New(rand.NewPCG(1, 2))
	var rows [][]any
	for range 10_000 {
		rows = append(rows, nil)
	}
	for b.Loop() {
		b.StopTimer()
		for i := range rows {
			rows[i] = []any{"device", fmt.Sprint("device-", random.IntN(1_000_000)), time.Now().UnixMilli(), 3, "203.0.113.7", "gateway-1",
				int64(20_000), int64(3), int64(0), "", int64(0)}
		}
		b.StartTimer()
		for i := 0; i < len(rows); i += presencePerStep {
			if err := c.storePresences(b.Context(), distinctRows(rows[i:i+presencePerStep])); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// distinctRows leaves out principals that are there twice: PostgreSQL refuses them in one statement.
func distinctRows(rows [][]any) (distinct [][]any) {
	known := make(map[any]bool)
	for _, row := range rows {
		if !known[row[1]] {
			known[row[1]] = true
			distinct = append(distinct, row)
		}
	}
	return distinct
}

func someRecord(random *rand.Rand) fieldgate.Record {
	r := record(1)
	operation := random.IntN(100)
	r.API, r.Operation = apiName(operation%10), fmt.Sprint("operation", operation)
	r.Principal, r.Duration = fmt.Sprint("device-", random.IntN(1_000_000)), time.Duration(random.ExpFloat64()*float64(20*time.Millisecond))
	r.Firmware = fmt.Sprint("1.", random.IntN(5))
	return r
}

// BenchmarkFilter compares one exchange with a filter of three terms.
func BenchmarkFilter(b *testing.B) {
	terms, err := filter.Parse("protocol:mqtt -status:2xx device:d7*", time.Now(), TrafficKeys...)
	if err != nil {
		b.Fatal(err)
	}
	r := record(70)
	f, e := Filter{Terms: terms}, &Exchange{Record: &r}
	b.ReportAllocs()
	for b.Loop() {
		if !f.matches(e) {
			b.Fatal("not selected")
		}
	}
}
