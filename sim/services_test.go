package sim

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"fieldgate/contract/schema"
)

func TestServices(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	services, err := NewServices(5, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- services.Run(ctx) }()
	addresses := services.Addresses()

	statuses := map[int]int{}
	for range 100 {
		response, err := http.Post(addresses["ingest"][0]+"/devices/d7/telemetry", "application/json", strings.NewReader(`{"ts":"2026-11-22T18:11:05Z","seq":7,"temp":21.5}`))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		statuses[response.StatusCode]++
	}
	if statuses[204] < 80 || statuses[204]+statuses[503] != 100 || services.Stored() != uint64(statuses[204]) {
		t.Errorf("telemetry: %v, %d stored", statuses, services.Stored())
	}

	var state *schema.Schema
	for _, o := range compileExamples(t) {
		if o.operation.ID == "getState" {
			if state, err = schema.Compile(o.contract.Schemas, string(o.operation.Responses[0].Media[0].Schema), schema.Options{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	good, broken := 0, 0
	for range 500 {
		response, err := http.Get(addresses["ingest"][0] + "/devices/d7/state")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != 200 {
			continue
		}
		if state.ValidateJSON(body) == nil {
			good++
		} else {
			broken++
		}
	}
	if good < 400 || broken == 0 {
		t.Errorf("%d states are as the contract says, %d break it, on purpose", good, broken)
	}

	response, err := http.Post(addresses["legacy"][0]+"/legacy/anything", "text/plain", bytes.NewReader([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 {
		t.Errorf("legacy: %s", response.Status)
	}

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
