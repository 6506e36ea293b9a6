package insight

import (
	"testing"
	"time"

	"fieldgate"
)

// TestSlotsFollowWhatIsCounted: what a query remembers of spans that are over never hides a late Record, on any node.
func TestSlotsFollowWhatIsCounted(t *testing.T) {
	n, c := countRecords(t, t.TempDir(), with(1, func(r *fieldgate.Record) { r.Time = time.Now().Add(-30 * time.Minute) }),
		with(2, func(r *fieldgate.Record) { r.Time = time.Now().Add(-5 * time.Hour) }))
	reader := newNode(t, n.db, nil)
	for round := range uint64(4) {
		for minutes, want := range map[int]uint64{60: 1 + round, 24 * 60: 2 + 2*round, 30 * 24 * 60: 2 + 2*round} {
			for _, node := range []node{n, reader} {
				for range 2 {
					list, err := node.OperationsOf(t.Context(), OperationsQuery{Minutes: minutes})
					if err != nil || len(list) != 1 || list[0].Exchanges != want || list[0].P99 == 0 {
						t.Fatalf("round %d, %d minutes: %+v %v", round, minutes, list, err)
					}
				}
			}
		}
		if len(reader.slots.kept) == 0 {
			t.Fatal("nothing is remembered")
		}
		c.feed(&fieldgate.RecordBatch{Node: "g1", Epoch: 2 + round, First: 1, Records: []fieldgate.Record{
			with(1, func(r *fieldgate.Record) { r.Time = time.Now().Add(-30 * time.Minute) }),
			with(2, func(r *fieldgate.Record) { r.Time = time.Now().Add(-5 * time.Hour) })}})
		c.mustFlush(t)
	}
}

func TestSlotsAreBounded(t *testing.T) {
	s := newSlots()
	key := func(start int64) slotKey { return slotKey{slot{hour, start}, latenciesColumn} }
	now := time.Now()
	for start := range int64(10) {
		s.keep(map[slotKey]*slotRows{key(start): {exchanges: 1, used: now.Add(time.Duration(start) * time.Second), bytes: maxSlotBytes / 4}})
	}
	if len(s.kept) != 4 || s.bytes != maxSlotBytes || s.find(key(0), 1) != nil || s.find(key(9), 1) == nil || s.find(key(9), 2) != nil {
		t.Errorf("%d slots of %d bytes", len(s.kept), s.bytes)
	}
	s.dropIdle(now.Add(slotIdle + time.Minute))
	if len(s.kept) != 0 || s.bytes != 0 {
		t.Errorf("%d slots of %d bytes", len(s.kept), s.bytes)
	}
}
