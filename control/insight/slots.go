package insight

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/engine/store"
)

// Reading a hundred thousand packed values from the database is what queries of many operations cost, and most of them never
// change again: those of spans that are over. slots keeps them in memory. Whether a span has changed since, late Records included,
// its row in traffic_total says, in the same transaction: whatever is counted makes the exchanges there more.
const (
	maxSlotBytes = 128 << 20
	slotIdle     = 5 * time.Minute  // after which a slot that nobody asked for is dropped
	warmInterval = 20 * time.Second // between two looks whether what the console asks for is there
)

// warmWindows are the windows of the console, in minutes, that touch all spans of the others.
var warmWindows = [...]int{60, 24 * 60, 7 * 24 * 60, 30 * 24 * 60}

type slots struct {
	mu    sync.Mutex
	kept  map[slotKey]*slotRows
	bytes int
}

// slotKey names one packed column of all rows of traffic that begin at a moment.
type slotKey struct {
	slot
	column packedColumn
}

type packedColumn string

const (
	operationsColumn packedColumn = "operations"
	latenciesColumn  packedColumn = "latencies"
)

type slotRows struct {
	exchanges uint64 // of the span, when it was read
	used      time.Time
	bytes     int
	rows      []trafficRow
}

// trafficRow is a row of traffic with one of its packed columns.
type trafficRow struct {
	start        int64
	api, version string
	protocol     fieldgate.Protocol
	counts       // without bytes
	packed       []byte
}

func newSlots() *slots { return &slots{kept: make(map[slotKey]*slotRows)} }

// find is what is kept of a slot, if nothing has been counted there since.
func (s *slots) find(key slotKey, exchanges uint64) *slotRows {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.kept[key]
	if found == nil || found.exchanges != exchanges {
		return nil
	}
	found.used = time.Now()
	return found
}

// keep remembers slots and forgets those that were not used for the longest time while they are too many bytes.
func (s *slots) keep(read map[slotKey]*slotRows) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, rows := range read {
		s.drop(key)
		s.kept[key] = rows
		s.bytes += rows.bytes
	}
	for s.bytes > maxSlotBytes {
		var oldest slotKey
		for key, rows := range s.kept {
			if first := s.kept[oldest]; first == nil || rows.used.Before(first.used) {
				oldest = key
			}
		}
		s.drop(oldest)
	}
}

func (s *slots) drop(key slotKey) {
	if rows := s.kept[key]; rows != nil {
		s.bytes -= rows.bytes
		delete(s.kept, key)
	}
}

func (s *slots) dropIdle(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, rows := range s.kept {
		if now.Sub(rows.used) > slotIdle {
			s.drop(key)
		}
	}
}

// keepWarm has in memory what the console is going to ask for, until the context ends.
func (i *Insight) keepWarm(ctx context.Context) {
	for ctx.Err() == nil {
		for _, minutes := range warmWindows {
			if _, err := i.OperationsOf(ctx, OperationsQuery{Minutes: minutes, Limit: 1}); err != nil {
				break // the next one who asks gets the error
			}
		}
		i.slots.dropIdle(time.Now())
		pause(ctx, warmInterval)
	}
}

// eachRow hands the rows of traffic in a period to do, with one of the packed columns. What it gets must not be changed.
func (i *Insight) eachRow(ctx context.Context, tx *store.Tx, column packedColumn, p period, do func(*trafficRow) error) error {
	exchanges := make(map[int64]uint64)
	err := each(ctx, tx, "SELECT start, exchanges FROM traffic_total WHERE span = ? AND start >= ? AND start < ?", []any{p.span, p.from, p.to},
		func(rows *sql.Rows) error {
			var start int64
			var n uint64
			err := rows.Scan(&start, &n)
			exchanges[start] += n
			return err
		})
	if err != nil {
		return err
	}
	var missing []any
	for start, n := range exchanges {
		found := i.slots.find(slotKey{slot{p.span, start}, column}, n)
		if found == nil {
			missing = append(missing, start)
			continue
		}
		for r := range found.rows {
			if err := do(&found.rows[r]); err != nil {
				return err
			}
		}
	}
	for part := range slices.Chunk(missing, keysPerStatement) {
		read := make(map[slotKey]*slotRows, len(part))
		err := readRows(ctx, tx, column, "span = ? AND start IN ("+placeholders(len(part))+")", append([]any{p.span}, part...), func(row *trafficRow) error {
			key := slotKey{slot{p.span, row.start}, column}
			if read[key] == nil {
				read[key] = &slotRows{exchanges: exchanges[row.start], used: time.Now()}
			}
			row.packed = slices.Clone(row.packed)
			read[key].rows = append(read[key].rows, *row)
			read[key].bytes += len(row.packed) + rowOverhead
			return do(row)
		})
		if err != nil {
			return err
		}
		i.slots.keep(read)
	}
	return nil
}

const rowOverhead = 200 // bytes about

// readRows reads rows of traffic from the database. What do gets is valid until it returns.
func readRows(ctx context.Context, tx *store.Tx, column packedColumn, where string, values []any, do func(*trafficRow) error) error {
	var row trafficRow
	var packed sql.RawBytes
	return each(ctx, tx, "SELECT start, api, version, protocol, exchanges, refused, failed, "+string(column)+" FROM traffic WHERE "+where, values,
		func(rows *sql.Rows) error {
			err := rows.Scan(&row.start, &row.api, &row.version, &row.protocol, &row.exchanges, &row.refused, &row.failed, &packed)
			if err != nil {
				return err
			}
			row.packed = packed
			return do(&row)
		})
}
