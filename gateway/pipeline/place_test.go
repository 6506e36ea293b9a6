package pipeline

import (
	"testing"
	"time"

	"fieldgate"
)

// Exchanges of a place share a Record while they are alike. One that was refused, whose stages are timed, or that differs has one of
// its own.
func TestAlikeShareARecord(t *testing.T) {
	f := newFixture(t)
	f.records.folds = true
	place := &Place{}
	ask := func(device, body string) {
		x := f.http(fieldgate.MethodPost, "/devices/"+device+"/telemetry", f.device, body)
		x.Started = time.Now()
		f.timed.Store(x.Started.UnixNano()) // another exchange was timed at that moment
		if x.Place = place; device == "" {
			x.Path = []byte("/nothing")
		}
		f.do(x)
	}
	const good, hot = `{"seq":7,"temp":21.5}`, `{"seq":7,"temp":900}`
	for _, step := range []struct {
		device, body string
		records      int
		exchanges    uint64 // of the newest
	}{
		{"d7", good, 1, 1},
		{"d7", good, 1, 2},
		{"d7", good, 1, 3},
		{"d7", hot, 2, 1}, // each refusal has a number
		{"d7", hot, 3, 1},
		{"d7", good, 4, 1},
		{"d7", good, 4, 2},
		{"", "", 5, 1}, // no operation
	} {
		ask(step.device, step.body)
		newest := f.records.last()
		if len(f.records.list) != step.records || newest.Exchanges() != step.exchanges {
			t.Fatalf("%+v: %d records, the newest of %d: %+v", step, len(f.records.list), newest.Exchanges(), newest)
		}
	}
}
