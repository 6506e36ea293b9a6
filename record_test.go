package fieldgate

import (
	"net/netip"
	"reflect"
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
			Kind: PrincipalDevice, Model: "T2", Firmware: "1.8.3", Source: netip.MustParseAddr("127.0.0.1"), BytesIn: 276, BytesOut: 80})
	}
	return batch
}

func TestRecordsRoundTrip(t *testing.T) {
	batch := sampleBatch()
	encoded := EncodeRecords(nil, batch)
	back, err := DecodeRecords(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(batch, back) {
		t.Fatalf("got %+v", back.Records[0])
	}
	if perRecord := len(encoded) / len(batch.Records); perRecord > 48 {
		t.Errorf("%d bytes per record", perRecord)
	}
	for cut := range encoded {
		if _, err := DecodeRecords(encoded[:cut]); err == nil {
			t.Fatalf("a batch cut at %d is accepted", cut)
		}
	}
}

func FuzzDecodeRecords(f *testing.F) {
	f.Add(EncodeRecords(nil, sampleBatch()))
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
