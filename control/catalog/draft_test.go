package catalog

import (
	"fmt"
	"strings"
	"testing"

	"fieldgate"
	"fieldgate/contract"
)

func TestDraftOpenAPI(t *testing.T) {
	seen := []Seen{
		{fieldgate.ProtocolHTTP, fieldgate.MethodGet, "/api/v1/pumps/pump-17/state?verbose=1", 3},
		{fieldgate.ProtocolHTTP, fieldgate.MethodGet, "/api/v1/pumps/pump-18/state", 4},
		{fieldgate.ProtocolCoAP, fieldgate.MethodPost, "/api/v1/pumps/9f2c/readings/2026-11-22", 1},
		{fieldgate.ProtocolHTTP, fieldgate.MethodPost, "/a \"quoted\" {path}/../x", 1},
		{fieldgate.ProtocolHTTP, fieldgate.MethodGet, "/", 1},
	}
	for _, town := range []string{"ulm", "bonn", "kiel", "jena"} {
		seen = append(seen, Seen{fieldgate.ProtocolHTTP, fieldgate.MethodGet, "/towns/" + town + "/weather", 1})
	}
	document := DraftOpenAPI(seen)
	k, diagnostics, err := contract.Compile("draft.yaml", document)
	if err != nil {
		t.Fatalf("%v %v\n%s", err, diagnostics, document)
	}
	got := make(map[string]bool)
	for _, o := range k.Operations {
		got[o.HTTP.Method.String()+" "+o.HTTP.Path] = true
		if strings.Contains(o.HTTP.Path, "readings") && (o.CoAP == nil || o.Request == nil) {
			t.Errorf("%+v", o)
		}
	}
	for _, want := range []string{"GET /api/v1/pumps/{pumpId}/state", "POST /api/v1/pumps/{pumpId}/readings/{readingId}", "GET /towns/{townId}/weather"} {
		if !got[want] {
			t.Errorf("%s is missing: %v", want, got)
		}
	}
}

func TestDraftAsyncAPI(t *testing.T) {
	document := DraftAsyncAPI([]Seen{
		{fieldgate.ProtocolMQTT, fieldgate.MethodPost, "plant/line-4/pump-17/temp", 7},
		{fieldgate.ProtocolMQTT, fieldgate.MethodPost, "plant/line-5/pump-17/temp", 7},
		{fieldgate.ProtocolMQTT, fieldgate.MethodPost, "status", 7},
		{fieldgate.ProtocolMQTT, fieldgate.MethodPost, "übel/#/+", 1},
	})
	k, diagnostics, err := contract.Compile("draft.yaml", document)
	if err != nil || len(k.Operations) != 3 {
		t.Fatalf("%v %v\n%s", err, diagnostics, document)
	}
}

// Whatever devices send, a draft can be read.
func FuzzDraft(f *testing.F) {
	f.Add("/pumps/1/x", "/pumps/2/x")
	f.Add("\"'{}#:", "//")
	f.Fuzz(func(t *testing.T, one, other string) {
		for _, protocol := range []fieldgate.Protocol{fieldgate.ProtocolHTTP, fieldgate.ProtocolMQTT} {
			seen := []Seen{{protocol, fieldgate.MethodPost, one, 1}, {protocol, fieldgate.MethodGet, other, 1}}
			for name, draft := range map[string]func([]Seen) []byte{"openapi": DraftOpenAPI, "asyncapi": DraftAsyncAPI} {
				document := draft(seen)
				if _, diagnostics, err := contract.Compile("draft.yaml", document); err != nil && !strings.Contains(fmt.Sprint(diagnostics, err), "no operation") {
					t.Fatalf("%s: %v %v\n%s", name, err, diagnostics, document)
				}
			}
		}
	})
}
