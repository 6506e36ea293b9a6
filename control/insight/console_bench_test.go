package insight

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/control/controltest"
	"fieldgate/control/filter"
	"fieldgate/engine/store"
)

// The size for which the console must answer within 100 ms: 1,000 operations of 100 APIs, each over two protocols, 1,000,000
// devices, 30 days.
const (
	benchAPIs       = 100
	benchOperations = 10 // of each API
	benchDevices    = 1_000_000
	benchDays       = 31
	benchFirmware   = 20
)

// BenchmarkConsole measures what the console asks.
func BenchmarkConsole(b *testing.B) {
	n := newNode(b, controltest.Store(b, b.TempDir()), nil)
	fillConsole(b, n)
	ctx := b.Context()
	names, ids := make([]string, benchAPIs), make([]string, 100)
	for i := range names {
		names[i] = apiName(i)
	}
	for i := range ids {
		ids[i] = fmt.Sprint("device-", i*997)
	}
	coap := fieldgate.ProtocolCoAP
	now := time.Now()
	for _, query := range []struct {
		name string
		run  func() (int, error)
	}{
		{"series/hour of minutes", func() (int, error) { s, err := n.Series(ctx, SeriesFilter{}, Minute, 60); return len(s.Protocols), err }},
		{"series/30 days of hours", func() (int, error) { s, err := n.Series(ctx, SeriesFilter{}, Hour, 720); return len(s.Protocols), err }},
		{"series/30 days of hours of an API", func() (int, error) {
			s, err := n.Series(ctx, SeriesFilter{API: names[5]}, Hour, 720)
			return len(s.Protocols), err
		}},
		{"operations/an hour, 100 busiest", func() (int, error) {
			l, err := n.OperationsOf(ctx, OperationsQuery{Minutes: 60, Limit: 100})
			return len(l), err
		}},
		{"operations/24 hours, 100 busiest", func() (int, error) {
			l, err := n.OperationsOf(ctx, OperationsQuery{Minutes: 24 * 60, Limit: 100})
			return len(l), err
		}},
		{"operations/30 days, 100 busiest", func() (int, error) {
			l, err := n.OperationsOf(ctx, OperationsQuery{Minutes: 30 * 24 * 60, Limit: 100})
			return len(l), err
		}},
		{"operations/an hour, 100 busiest, nothing in memory", func() (int, error) {
			n.slots = newSlots()
			l, err := n.OperationsOf(ctx, OperationsQuery{Minutes: 60, Limit: 100})
			return len(l), err
		}},
		{"operations/24 hours, 100 busiest, nothing in memory", func() (int, error) {
			n.slots = newSlots()
			l, err := n.OperationsOf(ctx, OperationsQuery{Minutes: 24 * 60, Limit: 100})
			return len(l), err
		}},
		{"operations/30 days, 100 busiest, nothing in memory", func() (int, error) {
			n.slots = newSlots()
			l, err := n.OperationsOf(ctx, OperationsQuery{Minutes: 30 * 24 * 60, Limit: 100})
			return len(l), err
		}},
		{"operations/30 days, 100 busiest, counts", func() (int, error) {
			l, err := n.OperationsOf(ctx, OperationsQuery{Minutes: 30 * 24 * 60, Limit: 100, CountsOnly: true})
			return len(l), err
		}},
		{"operations/30 days of an API", func() (int, error) {
			l, err := n.OperationsOf(ctx, OperationsQuery{API: names[5], Minutes: 30 * 24 * 60})
			return len(l), err
		}},
		{"APIs/100", func() (int, error) { m, err := n.APIs(ctx, names); return len(m), err }},
		{"callers/30 days", func() (int, error) {
			l, err := n.Callers(ctx, names[5], "1.0.0", now.AddDate(0, 0, -30))
			return len(l), err
		}},
		{"findings/100", func() (int, error) { l, err := n.Findings(ctx, nil, nil, 100); return len(l), err }},
		{"findings/100 of a filter", func() (int, error) {
			l, err := n.Findings(ctx, filter.Filter{{Key: "severity", Values: []filter.Value{{Text: "warning"}}}}, nil, 100)
			return len(l), err
		}},
		{"presence/100", func() (int, error) {
			m, err := n.Presence(ctx, fieldgate.PrincipalDevice, ids)
			return len(m), err
		}},
		{"last seen/100", func() (int, error) {
			l, err := n.LastSeen(ctx, fieldgate.PrincipalDevice, nil, LastSeenCursor{}, 100)
			return len(l), err
		}},
		{"last seen/100 in the middle", func() (int, error) {
			l, err := n.LastSeen(ctx, fieldgate.PrincipalDevice, &coap, LastSeenCursor{Time: now.Add(-5 * time.Hour)}, 100)
			return len(l), err
		}},
		{"first seen/100", func() (int, error) { l, err := n.FirstSeen(ctx, now.AddDate(0, 0, -1), 100); return len(l), err }},
		{"totals", func() (int, error) { _, err := n.Totals(ctx); return 1, err }},
	} {
		b.Run(query.name, func(b *testing.B) {
			if _, err := query.run(); err != nil { // the console's windows are in memory
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if found, err := query.run(); err != nil || found == 0 {
					b.Fatalf("%d %v", found, err)
				}
			}
		})
	}
}

func apiName(i int) string { return fmt.Sprintf("api-%03d", i) }

// fillConsole writes the rows that counting would have written.
func fillConsole(b *testing.B, n node) {
	random := rand.New(rand.NewPCG(1, 2))
	packed := make([]packedTraffic, 16) // the first half for minutes, with fewer exchanges
	for v := range packed {
		samples := 400 // 100 to 200 of 1,100 bins
		if v < len(packed)/2 {
			samples = 40
		}
		operations, latencies := make(map[string]*packedOperation), make(map[string][]byte)
		for o := range benchOperations {
			var durations latency
			for range samples {
				durations.add(binOf(time.Duration(random.ExpFloat64()*20_000+300)*time.Microsecond), 1)
			}
			operation := &packedOperation{counts: counts{exchanges: uint64(300 + o*10 + v), refused: 20, failed: 3, bytesIn: 1 << 18, bytesOut: 1 << 16}}
			operation.findings[2] = 10
			operations[fmt.Sprint("operation", o)], latencies[fmt.Sprint("operation", o)] = operation, durations.appendTo(nil)
		}
		packed[v] = packedTraffic{packOperations(operations), packLatencies(latencies)}
	}
	b.Logf("%d and %d bytes in a row of %d operations", len(packed[8].operations), len(packed[8].latencies), benchOperations)
	sketches := make([][]byte, 8)
	for v := range sketches {
		callers := newCallers()
		for range 20_000 {
			callers.InsertHash(random.Uint64())
		}
		callers.Estimate()
		var err error
		if sketches[v], err = callers.MarshalBinary(); err != nil {
			b.Fatal(err)
		}
	}
	fill := filler{b: b, n: n}
	now := time.Now().Unix()
	for _, span := range []struct{ seconds, count int }{{minute, 180}, {hour, benchDays * 24}, {day, benchDays}} {
		for back := range span.count {
			start := now - now%int64(span.seconds) - int64(back*span.seconds)
			for _, protocol := range []fieldgate.Protocol{fieldgate.ProtocolMQTT, fieldgate.ProtocolCoAP} {
				fill.add("INSERT INTO traffic_total (span, start, protocol, exchanges, refused, failed, bytes_in, bytes_out)",
					span.seconds, start, int(protocol), 400_000, 20_000, 3_000, 1<<30, 1<<28)
				for a := range benchAPIs {
					row := packed[random.IntN(len(packed)/2)]
					if span.seconds != minute {
						row = packed[len(packed)/2+random.IntN(len(packed)/2)]
					}
					fill.add("INSERT INTO traffic (span, start, api, version, protocol, exchanges, refused, failed, bytes_in, bytes_out, operations, latencies)",
						span.seconds, start, apiName(a), "1.0.0", int(protocol), 4_000, 200, 30, 1<<20, 1<<18, row.operations, row.latencies)
				}
			}
			if span.seconds == minute || span.seconds == hour && back > 49 {
				continue
			}
			for a := range benchAPIs {
				fill.add("INSERT INTO callers (span, start, api, version, operation, sketch)", span.seconds, start, apiName(a), "", "", sketches[random.IntN(len(sketches))])
				for o := range benchOperations {
					fill.add("INSERT INTO callers (span, start, api, version, operation, sketch)", span.seconds, start, apiName(a), "1.0.0",
						fmt.Sprint("operation", o), sketches[random.IntN(len(sketches))])
				}
			}
		}
	}
	uses := make(map[use]*useCount)
	for o := range benchOperations {
		for f := range benchFirmware {
			uses[use{fmt.Sprint("operation", o), fmt.Sprint("T", f%3), fmt.Sprint("1.", f)}] = &useCount{1_000, uint64(now)}
		}
	}
	for back := range benchDays {
		for a := range benchAPIs {
			fill.add("INSERT INTO firmware_use (start, api, version, uses)", now-now%day-int64(back*day), apiName(a), "1.0.0", packUses(uses))
		}
	}
	for a := range benchAPIs {
		for o := range benchOperations {
			for f, name := range []string{"invalid-request", "invalid-response", "deprecated"} {
				fill.add("INSERT INTO finding (api, version, operation, finding, severity, first_seen, last_seen, protocol, route, detail, kind, principal, instance)",
					apiName(a), "1.0.0", fmt.Sprint("operation", o), name, int(severityOf(name)), (now-int64(random.IntN(9*day)))*1000,
					(now-int64(random.IntN(day)))*1000, 3, "", "/temp /maximum", "device", fmt.Sprint("device-", f), "n1-1-1")
			}
		}
	}
	for i := range benchDevices {
		protocol := fieldgate.ProtocolMQTT
		if i%5 == 0 {
			protocol = fieldgate.ProtocolCoAP
		}
		fill.add(`INSERT INTO presence (kind, id, last_seen, protocol, source, node, day, exchanges, refusals, refusal, refused_at)`,
			"device", fmt.Sprint("device-", i), (now-int64(random.IntN(day)))*1000, int(protocol), "203.0.113.7", "gateway-1", now/day, 300, 2, "rate-limited", now*1000)
	}
	fill.flush()
}

// filler inserts rows in large transactions.
type filler struct {
	b      *testing.B
	n      node
	insert string
	rows   [][]any
}

func (f *filler) add(insert string, row ...any) {
	if insert != f.insert || len(f.rows) >= 5_000 {
		f.flush()
		f.insert = insert
	}
	f.rows = append(f.rows, row)
}

func (f *filler) flush() {
	if len(f.rows) == 0 {
		return
	}
	err := f.n.db.Update(f.b.Context(), func(tx *store.Tx) error { return insertRows(f.b.Context(), tx, f.insert, "", f.rows) })
	if err != nil {
		f.b.Fatal(err)
	}
	f.rows = f.rows[:0]
}
