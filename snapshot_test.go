package fieldgate

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"
)

func sampleContract() *Contract {
	return &Contract{API: "thermo", Version: "2.4.0", Title: "Thermo", Kind: KindOpenAPI, State: LifecycleActive, Digest: "ab",
		Schemas: json.RawMessage(`{"$defs":{"T":{"type":"object"}}}`),
		Operations: []Operation{{ID: "sendTelemetry", HTTP: &HTTPBinding{Method: MethodPost, Path: "/devices/{deviceId}/telemetry"},
			Limits: []Limit{{Count: 6, Period: time.Minute, Burst: 6, Key: LimitPrincipal}}, MaxBody: 1024, OnInvalid: InvalidReject}}}
}

func TestSnapshotRoundTrip(t *testing.T) {
	s := &Snapshot{Version: 7, Contracts: []*Contract{sampleContract()}}
	encoded, err := EncodeSnapshot(s)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeSnapshot(encoded)
	if err != nil || !reflect.DeepEqual(s, back) {
		t.Fatalf("%v %+v", err, back)
	}
	for i := range encoded {
		altered := append([]byte(nil), encoded...)
		altered[i] ^= 1
		if _, err := DecodeSnapshot(altered); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("altered at %d: %v", i, err)
		}
		if _, err := DecodeSnapshot(encoded[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestContractRoundTrip(t *testing.T) {
	c := sampleContract()
	key, encoded, err := EncodeContract(c)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeContract(key, encoded)
	if err != nil || !reflect.DeepEqual(c, back) {
		t.Fatalf("%v %+v", err, back)
	}
	if _, err := DecodeContract(key, encoded[1:]); err == nil {
		t.Fatal("a contract that does not match its key is accepted")
	}
}
