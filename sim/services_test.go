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
	"fieldgate/protocol/coap"
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

// A room of the building can be observed: who does is told what others set, and what the building does by itself.
func TestBuilding(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	b, err := newBuilding(log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	ended := make(chan error, 1)
	go func() { ended <- b.udp.Run(ctx) }() // without a clock
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	client, err := (&Fleet{config: Config{CoAP: b.udp.LocalAddr().String(), Log: log}}).dialCoAP(ctx, UDP, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	set := newCall(coap.PUT, "/rooms/r1/target", "")
	set.Body = []byte("29.5")
	wanted := []string{"18.0", "29.5", "20.0"}
	err = client.Observe(ctx, newCall(coap.GET, "/rooms/r1/target", ""), func(reply *coap.Reply) bool {
		if got := string(reply.Body); got != wanted[0] {
			t.Errorf("%v %q, not %q", reply.Code, got, wanted[0])
		}
		wanted = wanted[1:]
		switch len(wanted) {
		case 2:
			go client.Do(ctx, set)
		case 1:
			go b.change(20)
		}
		return len(wanted) > 0
	})
	if err != nil || len(wanted) > 0 {
		t.Errorf("%v; %v was not heard", err, wanted)
	}
	for code, call := range map[coap.Code]*coap.Call{
		coap.BadRequest:       {Code: coap.PUT, Body: []byte("warm")},
		coap.MethodNotAllowed: {Code: coap.DELETE},
	} {
		call.Options.AddString(coap.URIPath, "rooms")
		if reply, err := client.Do(ctx, call); err != nil || reply.Code != code {
			t.Errorf("%+v %v, not %v", reply, err, code)
		}
	}
}
