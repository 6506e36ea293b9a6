package recorder

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"fieldgate"
)

// Exchanges share a Record only at thousands a second, while it waits, and no more than it has room for; each is counted once.
func TestFold(t *testing.T) {
	var got []fieldgate.Record
	r := openTest(t, t.TempDir(), 0, func(_ context.Context, _ string, encoded []byte) error {
		batch, err := fieldgate.DecodeRecords(encoded)
		if err != nil {
			return err
		}
		got = append(got, batch.Records...)
		return nil
	})
	record := func(number uint64) *fieldgate.Record {
		return &fieldgate.Record{Time: time.Now(), Exchange: number, Duration: time.Millisecond, API: "thermo", BytesIn: 10, BytesOut: 1}
	}
	again := func(ticket uint64) bool { return r.Fold(ticket, 7*time.Microsecond, 5, 2) }

	first := r.Add(record(1))
	if again(first) {
		t.Error("of few exchanges each has a record")
	}
	for n := range uint64(foldAbove) {
		r.Add(record(n + 2))
	}
	for range fieldgate.MaxRecordOthers {
		if !again(first) {
			t.Fatal("there was room")
		}
	}
	if again(first) {
		t.Error("more than a record has room for")
	}
	newest := r.Add(record(foldAbove + 2))
	if !again(newest) {
		t.Error("there was room")
	}
	r.writeAll()
	if again(newest) || again(0) {
		t.Error("the record has left")
	}
	start(r)()

	exchanges, in, out := uint64(0), uint64(0), uint64(0)
	for i := range got {
		exchanges += got[i].Exchanges()
		in, out = in+got[i].BytesIn, out+got[i].BytesOut
	}
	const folded = fieldgate.MaxRecordOthers + 1
	if len(got) != foldAbove+2 || exchanges != foldAbove+2+folded || in != (foldAbove+2)*10+folded*5 || out != (foldAbove+2)+folded*2 {
		t.Errorf("%d records of %d exchanges, %d bytes in, %d out", len(got), exchanges, in, out)
	}
	if got[0].Others[0] != 7 || len(got[0].Others) != fieldgate.MaxRecordOthers || len(got[foldAbove+1].Others) != 1 || got[1].Others != nil {
		t.Errorf("%v", got[0].Others)
	}
}

// What a Record stands for survives a kill as the Record does.
func TestFoldedSurviveKill(t *testing.T) {
	folder := t.TempDir()
	r := openTest(t, folder, 0, nil)
	var ticket uint64
	for n := range uint64(foldAbove) {
		ticket = r.Add(&fieldgate.Record{Exchange: n + 1, BytesIn: 1})
	}
	for range 3 {
		r.Fold(ticket, time.Second, 4, 5)
	}
	left := r.unwritten.read(r.unwritten.half, "n1").Records
	if len(left) != foldAbove {
		t.Fatalf("%d records", len(left))
	}
	if last := left[foldAbove-1]; last.Exchanges() != 4 || last.Others[2] != 1_000_000 || last.BytesIn != 13 || last.BytesOut != 15 || left[0].Others != nil {
		t.Errorf("%+v", last)
	}
}

func BenchmarkFold(b *testing.B) {
	r, err := Open(Config{Node: "n1", Folder: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	record := &fieldgate.Record{Time: time.Now(), API: "thermo", Version: "1.0.0", Operation: "sendTelemetry", Principal: "d7", Kind: "device"}
	b.ReportAllocs()
	var ticket uint64
	n := 0
	for b.Loop() {
		if !r.Fold(ticket, time.Microsecond, 64, 0) {
			ticket = r.Add(record)
			if n++; n%1000 == 0 {
				b.StopTimer()
				r.writeAll()
				b.StartTimer()
			}
		}
	}
}
