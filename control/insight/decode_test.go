package insight

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/engine/bus"
)

// Who reads a message second gets what the first one decoded, once; a message of the same number with other content is another.
func TestBatchesAreDecodedOnce(t *testing.T) {
	var b batches
	now := time.Now()
	entry := func(first uint64) bus.Entry {
		return bus.Entry{Sequence: 1, Data: fieldgate.EncodeRecords(nil, &fieldgate.RecordBatch{Node: "n", Epoch: 1, First: first, Records: []fieldgate.Record{record(1)}})}
	}
	decode := func(e bus.Entry) *fieldgate.RecordBatch {
		t.Helper()
		batch, err := b.decode(e, now)
		if err != nil {
			t.Fatal(err)
		}
		return batch
	}
	first, second := entry(1), entry(2)
	one, other := decode(first), decode(second)
	if one == other || other.First != 2 {
		t.Fatal("two messages are one")
	}
	if decode(first) != one || decode(second) != other {
		t.Error("decoded twice")
	}
	if decode(first) == one {
		t.Error("kept for nobody")
	}
	if _, err := b.decode(entry(maxRecordNumber+2), now); err == nil {
		t.Error("a number that no column holds is taken")
	}
}

func TestClean(t *testing.T) {
	now := time.Now()
	bad := fieldgate.Record{Time: now.Add(time.Hour), API: "a\x00", Version: "\xff", Operation: "o\x00", Route: "\xff/", Detail: "\x00", Rule: "\xffr", Principal: "p\xff",
		Kind: "k\x00", Model: "\xffm", Firmware: "f\x00", Problem: "\xff", Status: -1, Duration: -1, BytesIn: 1 << 50}
	batch := &fieldgate.RecordBatch{Node: "n\x00", Records: []fieldgate.Record{bad, bad, {}, bad}}
	clean(batch, now)
	for i, r := range batch.Records {
		for _, text := range []string{batch.Node, r.API, r.Version, r.Operation, r.Route, r.Detail, r.Rule, r.Principal, string(r.Kind), r.Model, r.Firmware, string(r.Problem)} {
			if strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text) {
				t.Errorf("record %d: %q", i, text)
			}
		}
		if r.Time.After(now) || r.Status != 0 || r.Duration != 0 || r.BytesIn > 1<<40 {
			t.Errorf("record %d: %+v", i, r)
		}
	}
}
