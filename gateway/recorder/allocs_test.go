//go:build !race

package recorder

import (
	"testing"
	"time"

	"fieldgate"
)

// What an exchange pays for its Record is no memory: neither when it is added, nor, but for some for each batch, when it is written.
// The HTTP front's test of whole exchanges has a recorder that throws them away.
func TestAddAllocatesNothing(t *testing.T) {
	c := &collector{t: t}
	r := openTest(t, t.TempDir(), 0, c.sink)
	record := &fieldgate.Record{Time: time.Now(), API: "thermo", Version: "1.0.0", Operation: "sendTelemetry", Principal: "d7", Kind: "device", Model: "T2", Firmware: "1.8.3"}
	batch := func() {
		for range fieldgate.MaxBatchRecords {
			r.Add(record)
		}
	}
	for range 2 { // both buffers grow
		batch()
		r.writeAll()
	}
	if n := testing.AllocsPerRun(fieldgate.MaxBatchRecords-1, func() { r.Add(record) }); n != 0 {
		t.Errorf("%v allocations to add a record", n)
	}
	r.writeAll()
	if n := testing.AllocsPerRun(10, func() { batch(); r.writeAll() }); n > 50 {
		t.Errorf("%v allocations for a batch of %d", n, fieldgate.MaxBatchRecords)
	}
}
