package contract

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"fieldgate"
)

// FuzzCompile: no document makes Compile panic, and what it accepts keeps the promises that gateways rely on. Seeds are the
// examples and the invalid documents.
func FuzzCompile(f *testing.F) {
	for _, pattern := range []string{"../examples/*.yaml", "testdata/invalid/*.txt"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal("no seeds", err)
		}
		for _, file := range files {
			document, _, _ := strings.Cut(read(f, file), separator)
			f.Add([]byte(document))
		}
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		if len(document) > 64<<10 {
			return
		}
		contract, diagnostics, err := Compile("api.yaml", document)
		if (err == nil) != (contract != nil) || len(diagnostics) > maxDiagnostics {
			t.Fatalf("contract %v, %d diagnostics, %v", contract, len(diagnostics), err)
		}
		for _, d := range diagnostics {
			if d.Line < 1 || d.Column < 1 || d.Message == "" {
				t.Fatalf("a diagnostic without a place: %+v", d)
			}
		}
		if contract != nil {
			checkPromises(t, contract)
		}
	})
}

// checkPromises checks what package fieldgate says of a contract.
func checkPromises(t *testing.T, k *fieldgate.Contract) {
	t.Helper()
	key, encoded, err := fieldgate.EncodeContract(k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fieldgate.DecodeContract(key, encoded); err != nil {
		t.Fatal(err)
	}
	if k.Schemas != nil && !json.Valid(k.Schemas) {
		t.Fatalf("schemas are not JSON: %s", k.Schemas)
	}
	if !fieldgate.ValidIdentifier(k.API) || !fieldgate.ValidIdentifier(k.Version) {
		t.Fatalf("bad name: %q %q", k.API, k.Version)
	}
	ids := make(map[string]bool)
	for _, op := range k.Operations {
		if ids[op.ID] || !fieldgate.ValidIdentifier(op.ID) {
			t.Fatalf("bad id %q", op.ID)
		}
		ids[op.ID] = true
		switch {
		case op.HTTP == nil && op.CoAP == nil && op.MQTT == nil:
			t.Fatalf("%s cannot be reached", op.ID)
		case !op.Access.Anonymous && len(op.Access.Kinds) == 0:
			t.Fatalf("%s lets nobody in", op.ID)
		case op.MaxBody < 1 || op.MaxBody > fieldgate.MaxBody || op.Timeout < 0:
			t.Fatalf("%s: limits %d %v", op.ID, op.MaxBody, op.Timeout)
		case len(op.Parameters) > fieldgate.MaxParameters || len(op.Limits) > fieldgate.MaxLimitsOfOperation:
			t.Fatalf("%s: too many parameters or limits", op.ID)
		}
		for _, l := range op.Limits {
			if l.Count < 1 || l.Period <= 0 || l.Burst < 1 || l.Key == "" {
				t.Fatalf("%s: limit %+v", op.ID, l)
			}
		}
		if op.HTTP != nil {
			if _, err := SplitPath(op.HTTP.Path); err != nil {
				t.Fatalf("%s: %v", op.ID, err)
			}
		}
		if op.CoAP != nil {
			if _, err := SplitPath(op.CoAP.Path); err != nil {
				t.Fatalf("%s: %v", op.ID, err)
			}
		}
		if op.MQTT != nil && !op.PassThrough {
			if _, err := SplitTopic(op.MQTT.Topic); err != nil {
				t.Fatalf("%s: %v", op.ID, err)
			}
		}
	}
}
