package fieldgate

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func sampleBatch() *RecordBatch {
	at := time.Unix(1790000000, 5).UTC()
	batch := &RecordBatch{Node: "n1", Epoch: 9, First: 4}
	for i := range 50 {
		batch.Records = append(batch.Records, Record{Time: at.Add(time.Duration(i) * time.Millisecond), Exchange: uint64(100 - i), Duration: 1500, Upstream: 900,
			Protocol: ProtocolCoAP, Method: MethodPost, Status: 422, Problem: ProblemInvalidPayload, Findings: FindingInvalidRequest,
			API: "thermo", Version: "2.4.0", Operation: "sendTelemetry", Detail: "/temp /properties/temp/maximum", Principal: "d7",
			Stages:  [Stages]StageTime{StageMatch: 2, StageIdentify: 4, StageAdmit: 1, StageCheck: 9, StageForward: StageUntimed, StageRecord: 1},
			Decided: StageCheck, Rule: "/properties/temp/maximum",
			Kind: PrincipalDevice, Model: "T2", Firmware: "1.8.3", Source: netip.MustParseAddr("127.0.0.1"), BytesIn: 276, BytesOut: 80})
	}
	batch.Records[3].Others = []uint32{7, math.MaxUint32}
	return batch
}

func TestRecordsRoundTrip(t *testing.T) {
	batch := sampleBatch()
	encoded := EncodeRecords(nil, batch)
	back, err := DecodeRecords(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if batch.Records[3].Exchanges() != 3 || batch.Records[4].Exchanges() != 1 {
		t.Error("exchanges that a record stands for")
	}
	if !reflect.DeepEqual(batch, back) {
		t.Fatalf("got %+v", back.Records[0])
	}
	if perRecord := len(encoded) / len(batch.Records); perRecord > 56 {
		t.Errorf("%d bytes per record", perRecord)
	}
	for cut := range encoded {
		if _, err := DecodeRecords(encoded[:cut]); err == nil {
			t.Fatalf("a batch cut at %d is accepted", cut)
		}
	}
}

// Batches as older forms had them, with the first two Records of sampleBatch, are what they were; the first form had no stages.
func TestRecordsOfAnOlderGateway(t *testing.T) {
	for form := recordFormStageless; form < recordFormVersion; form++ {
		encoded, err := os.ReadFile(fmt.Sprintf("testdata/records-%d.bin", form))
		if err != nil {
			t.Fatal(err)
		}
		batch, err := DecodeRecords(encoded)
		if err != nil {
			t.Fatal(err)
		}
		want := sampleBatch()
		want.Records = want.Records[:2]
		for i := range want.Records {
			if r := &want.Records[i]; form == recordFormStageless {
				r.Stages, r.Decided, r.Rule = [Stages]StageTime{}, StageNone, ""
			}
		}
		if !reflect.DeepEqual(batch, want) {
			t.Fatalf("form %d: got %+v", form, batch.Records)
		}
	}
}

// A batch of the longest Records that one node can leave, each with texts of its own where a caller chooses them, fits a message
// of the bus.
func TestLongestBatchFitsTheBus(t *testing.T) {
	batch := &RecordBatch{Node: strings.Repeat("n", MaxIdentifierBytes), Epoch: math.MaxUint64, First: math.MaxUint64}
	for i := range MaxBatchRecords {
		chosen := func(n int) string { return fmt.Sprintf("%0*d", n, i) }
		// None that has a detail and a rule stands for more than one exchange; the others are shorter than those.
		r := Record{Time: time.Unix(0, int64(i)<<40), Duration: math.MaxInt64, Upstream: math.MaxInt64, Status: 422, Findings: findingsEnd - 1, BytesIn: math.MaxUint64,
			BytesOut: math.MaxUint64, Exchange: math.MaxUint64, Detail: chosen(MaxRecordDetail), Route: chosen(MaxRecordRoute), Principal: chosen(MaxIdentifierBytes),
			Rule: chosen(MaxRecordRule), Source: netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff:ffff:ffff:ffff:ffff:%x", i+0x1000)), Decided: StageCheck}
		for stage := StageMatch; stage < Stages; stage++ {
			r.Stages[stage] = StageUntimed - 1
		}
		batch.Records = append(batch.Records, r)
	}
	if n := len(EncodeRecords(nil, batch)); n > 1<<20 {
		t.Errorf("%d bytes", n)
	}
}

func TestMalformedStages(t *testing.T) {
	one := func(change func(*Record)) []byte {
		batch := sampleBatch()
		batch.Records = batch.Records[:1]
		change(&batch.Records[0])
		return EncodeRecords(nil, batch)
	}
	for name, change := range map[string]func(*Record){
		"no such stage decided": func(r *Record) { r.Decided = Stages },
		"the stage none ran":    func(r *Record) { r.Stages[StageNone] = StageUntimed },
		"the stage none timed":  func(r *Record) { r.Stages[StageNone] = 1 },
	} {
		if _, err := DecodeRecords(one(change)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestStageTime(t *testing.T) {
	for _, c := range []struct {
		before StageTime
		more   time.Duration
		want   time.Duration
	}{
		{0, 0, 100 * time.Nanosecond}, // it ran
		{0, 101 * time.Nanosecond, 200 * time.Nanosecond},
		{3, 100 * time.Nanosecond, 400 * time.Nanosecond},
		{StageUntimed, time.Microsecond, time.Microsecond},
		{3, time.Hour, time.Duration(StageUntimed-1) * 100},
		{StageUntimed - 1, math.MaxInt64, time.Duration(StageUntimed-1) * 100},
		{0, -1, 100 * time.Nanosecond},
	} {
		if got := c.before.Add(c.more); got.Duration() != c.want || !got.Timed() {
			t.Errorf("%v + %v: %v", c.before, c.more, got.Duration())
		}
	}
	named := make(map[string]bool)
	for stage := StageNone; stage < Stages; stage++ {
		if name := stage.String(); named[name] || (name == "") != (stage == StageNone) {
			t.Errorf("stage %d is called %q", stage, name)
		} else {
			named[name] = true
		}
	}
}

func FuzzDecodeRecords(f *testing.F) {
	f.Add(EncodeRecords(nil, sampleBatch()))
	older, err := os.ReadFile("testdata/records-1.bin")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(older)
	f.Add([]byte{recordFormVersion, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		batch, err := DecodeRecords(encoded)
		if err != nil {
			return
		}
		again, err := DecodeRecords(EncodeRecords(nil, batch))
		if err != nil || !reflect.DeepEqual(batch, again) {
			t.Fatalf("%v: %+v, %+v", err, batch, again)
		}
	})
}

func TestFindingNames(t *testing.T) {
	if len(findingNames) != len((findingsEnd - 1).Names()) {
		t.Fatal("a finding has no name, or a name no finding")
	}
	for i, name := range findingNames {
		if ParseFinding(name) != 1<<i {
			t.Error(name)
		}
	}
}

// A single Record's form keeps all of it, and needs no memory.
func TestAppendRecord(t *testing.T) {
	want := Record{Time: time.Unix(1, 5).UTC(), Duration: 3, Upstream: 2, Protocol: ProtocolMQTT, Status: 422, Findings: FindingInvalidRequest, API: "a", Version: "1",
		Operation: "o", Route: "r", Detail: "d", Principal: "p", Kind: PrincipalDevice, Model: "m", Firmware: "f", Rule: "x", Problem: "invalid-payload",
		Source: netip.MustParseAddr("2001:db8::1"), BytesIn: 1, BytesOut: 2, Exchange: 9, Decided: StageCheck}
	want.Stages[StageMatch] = 4
	want.Stages[StageCheck] = StageUntimed
	buffer := make([]byte, 0, 1024)
	encoded := AppendRecord(buffer, &want)
	got, err := DecodeRecord(encoded)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v %v", got, err)
	}
	for n := range encoded {
		if _, err := DecodeRecord(encoded[:n]); err == nil {
			t.Fatalf("%d of %d bytes are accepted", n, len(encoded))
		}
	}
	if n := testing.AllocsPerRun(100, func() { AppendRecord(buffer, &want) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEncodeRecords(b *testing.B) {
	batch, dst := sampleBatch(), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		dst = EncodeRecords(dst[:0], batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch.Records)), "ns/record")
}

func BenchmarkDecodeRecords(b *testing.B) {
	batch := sampleBatch()
	encoded := EncodeRecords(nil, batch)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeRecords(encoded); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch.Records)), "ns/record")
}

func BenchmarkAppendRecord(b *testing.B) {
	batch, dst := sampleBatch(), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendRecord(dst[:0], &batch.Records[0])
	}
}
