package insight

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/control/filter"
)

// parse reads a filter as an operator writes it.
func parse(t *testing.T, text string, keys []filter.Key) filter.Filter {
	t.Helper()
	f, err := filter.Parse(text, time.Now(), keys...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// count makes a node that has counted Records, and the turn to count more.
func countRecords(t *testing.T, location string, records ...fieldgate.Record) (node, *counting) {
	t.Helper()
	n := open(t, location)
	c := n.begin(t)
	for first := 1; len(records) > 0; {
		part := records[:min(len(records), fieldgate.MaxBatchRecords)]
		c.feed(&fieldgate.RecordBatch{Node: "g1", Epoch: 1, First: uint64(first), Records: part})
		first, records = first+len(part), records[len(part):]
		c.mustFlush(t)
	}
	c.presence.storeAll(t.Context(), c)
	return n, c
}

// with is a record of the operation sendTelemetry that differs.
func with(i int, change func(*fieldgate.Record)) fieldgate.Record {
	r := record(i)
	r.Status, r.Problem, r.Findings, r.Detail = 204, "", 0, ""
	change(&r)
	return r
}

func TestSeriesAndAPIs(t *testing.T) {
	location := t.TempDir()
	now := time.Now()
	var sent []fieldgate.Record
	for i := range 100 {
		sent = append(sent, with(i+1, func(r *fieldgate.Record) {
			r.Time = now.Add(-time.Duration(i) * time.Minute)
			if i%4 == 0 {
				r.Protocol, r.Status = fieldgate.ProtocolCoAP, 404
			}
			if i%10 == 1 {
				r.API, r.Status = "pump", 502
			}
		}))
	}
	n, _ := countRecords(t, location, sent...)
	series, err := n.Series(t.Context(), SeriesFilter{}, Minute, 60)
	if err != nil || len(series.Protocols) != 2 || series.Span != Minute {
		t.Fatalf("%+v %v", series, err)
	}
	if last := series.From.Add(59 * time.Minute); now.Sub(last) < 0 || time.Since(last) > 3*time.Minute {
		t.Errorf("from %v", series.From)
	}
	sum := func(list []uint64) (sum uint64) {
		for _, n := range list {
			sum += n
		}
		return sum
	}
	mqtt, coap := series.Protocols[0], series.Protocols[1]
	if mqtt.Protocol != fieldgate.ProtocolMQTT || len(mqtt.Passed) != 60 || sum(coap.Refused) < 14 || sum(coap.Refused) > 15 || sum(coap.Passed) != 0 {
		t.Errorf("%+v", series)
	}
	onlyCoAP := fieldgate.ProtocolCoAP
	for _, test := range []struct {
		filter SeriesFilter
		span   Span
		want   uint64
	}{{SeriesFilter{}, Hour, 100}, {SeriesFilter{API: "pump"}, Hour, 10}, {SeriesFilter{API: "thermo"}, Day, 90}, {SeriesFilter{Protocol: &onlyCoAP}, Hour, 25},
		{SeriesFilter{API: "thermo", Protocol: &onlyCoAP}, Hour, 25}, {SeriesFilter{API: "none"}, Hour, 0}} {
		series, err := n.Series(t.Context(), test.filter, test.span, 24)
		total := uint64(0)
		for _, p := range series.Protocols {
			total += sum(p.Passed) + sum(p.Refused) + sum(p.Failed)
		}
		if err != nil || total != test.want {
			t.Errorf("%+v by %d: %d %v", test.filter, test.span, total, err)
		}
	}
	apis, err := n.APIs(t.Context(), []string{"thermo", "pump", "none"})
	if err != nil || len(apis) != 3 || apis["none"].Exchanges != 0 {
		t.Fatalf("%+v %v", apis, err)
	}
	thermo, pump := apis["thermo"], apis["pump"]
	if thermo.Exchanges != 90 || thermo.Refused != 25 || thermo.Failed != 0 || thermo.Callers != 90 || sum(thermo.Hours[:]) != 90 || thermo.Hours[APIHours-1]+thermo.Hours[APIHours-2] < 40 {
		t.Errorf("%+v", thermo)
	}
	if pump.Exchanges != 10 || pump.Failed != 10 || pump.Callers != 10 {
		t.Errorf("%+v", pump)
	}
}

func TestCallersOfAVersion(t *testing.T) {
	location := t.TempDir()
	var sent []fieldgate.Record
	for i := range 30 {
		sent = append(sent, with(i+1, func(r *fieldgate.Record) {
			r.Firmware, r.Model = []string{"1.4", "1.8"}[i%2], "T2"
			if r.Firmware == "1.4" {
				r.Operation = fmt.Sprint("operation", i%3)
			}
			if i == 29 {
				r.Version = "3.0.0"
			}
		}))
	}
	n, _ := countRecords(t, location, sent...)
	callers, err := n.Callers(t.Context(), "thermo", "2.4.0", time.Now().AddDate(0, 0, -7))
	if err != nil || len(callers) != 2 {
		t.Fatalf("%+v %v", callers, err)
	}
	old := callers[0]
	if old.Firmware != "1.4" || old.Model != "T2" || old.Exchanges != 15 || len(old.Operations) != 3 || old.Operations[0].Exchanges != 5 || time.Since(old.LastSeen) > time.Minute {
		t.Errorf("%+v", old)
	}
	if callers[1].Exchanges != 14 || len(callers[1].Operations) != 1 {
		t.Errorf("%+v", callers[1])
	}
}

func TestFindings(t *testing.T) {
	now := time.Now()
	n, c := countRecords(t, t.TempDir(),
		with(1, func(r *fieldgate.Record) { r.Findings, r.Time = fieldgate.FindingDeprecated, now.Add(-time.Hour) }),
		with(2, func(r *fieldgate.Record) {
			r.Findings, r.Time, r.Detail = fieldgate.FindingInvalidResponse|fieldgate.FindingUpstream, now.Add(-time.Minute), "/temp"
		}),
		with(3, func(r *fieldgate.Record) { r.Findings, r.Time = fieldgate.FindingNotOwner, now.Add(-30*time.Hour) }),
		with(5, func(r *fieldgate.Record) { r.Findings, r.Time = fieldgate.FindingDropped, now.Add(-6*time.Minute) }), // it is over
		with(4, func(r *fieldgate.Record) {
			r.Findings, r.Time, r.Operation = fieldgate.FindingInvalidResponse, now.Add(-time.Second), "getConfig"
		}))
	list := func(text string) (names []string) {
		t.Helper()
		var after *Finding
		for { // in pages of one
			page, err := n.Findings(t.Context(), parse(t, text, FindingKeys), after, 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				return names
			}
			after = page[0]
			name := after.Severity.String() + " " + after.Finding + " " + after.Operation
			if !after.Ongoing {
				name += " over"
			}
			names = append(names, name)
		}
	}
	for text, want := range map[string][]string{
		"":                      {"bad invalid-response getConfig", "bad upstream sendTelemetry", "bad invalid-response sendTelemetry", "notice dropped sendTelemetry over", "notice deprecated sendTelemetry over"},
		"severity:notice":       {"notice dropped sendTelemetry over", "notice deprecated sendTelemetry over"},
		"-severity:bad":         {"notice dropped sendTelemetry over", "notice deprecated sendTelemetry over"},
		"getc":                  {"bad invalid-response getConfig"},
		"finding:upstream":      {"bad upstream sendTelemetry"},
		"api:pump":              nil,
		"operation:get*":        {"bad invalid-response getConfig"},
		"version:2.4.0 tele":    {"bad upstream sendTelemetry", "bad invalid-response sendTelemetry", "notice dropped sendTelemetry over", "notice deprecated sendTelemetry over"},
		"finding:not-owner":     nil, // not seen for a day
		"api:thermo -finding:*": nil,
	} {
		if got := list(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
	page, err := n.Findings(t.Context(), parse(t, "finding:invalid-response tele", FindingKeys), nil, 10)
	if err != nil || len(page) != 1 || page[0].Exchanges != 1 || page[0].Detail != "/temp" || page[0].Principal != "d2" || page[0].Instance != "g1-1-2" || page[0].FirstSeen.IsZero() {
		t.Errorf("%+v %v", page, err)
	}
	if open, err := n.OpenFindings(t.Context()); err != nil || open[Bad] != 3 || open[Notice] != 2 || open[Warning] != 0 {
		t.Errorf("%v %v", open, err)
	}
	// What was closed opens anew.
	c.feed(&fieldgate.RecordBatch{Node: "g1", Epoch: 2, First: 1, Records: []fieldgate.Record{with(3, func(r *fieldgate.Record) { r.Findings = fieldgate.FindingNotOwner })}})
	c.mustFlush(t)
	page, err = n.Findings(t.Context(), parse(t, "finding:not-owner", FindingKeys), nil, 10)
	if err != nil || len(page) != 1 || time.Since(page[0].FirstSeen) > time.Minute {
		t.Errorf("%+v %v", page, err)
	}
	first, err := n.FirstSeen(t.Context(), now.Add(-24*time.Hour), 10)
	if err != nil || len(first) != 6 {
		t.Errorf("%+v %v", first, err)
	}
}

func TestEveryFindingHasASeverity(t *testing.T) {
	for _, name := range findingNames {
		if severityOf(name) == 0 {
			t.Error(name)
		}
	}
}

func TestFirstSeen(t *testing.T) {
	location := t.TempDir()
	var sent []fieldgate.Record
	for i, firmware := range []string{"1.0", "1.0", "1.1", ""} {
		sent = append(sent, with(i+1, func(r *fieldgate.Record) {
			r.Model, r.Firmware, r.Time = "T2", firmware, time.Now().Add(time.Duration(i-10)*time.Minute)
		}))
	}
	n, c := countRecords(t, location, sent...)
	first, err := n.FirstSeen(t.Context(), time.Now().Add(-time.Hour), 10)
	if err != nil || len(first) != 3 || first[0].Subject != "firmware" || first[0].Firmware != "1.1" || first[0].Model != "T2" || !first[0].Time.After(first[1].Time) {
		t.Fatalf("%+v %v", first, err)
	}
	if err := n.release(t.Context(), c.turn); err != nil {
		t.Fatal(err)
	}
	// The next process knows what was seen.
	again := newNode(t, n.db, n.bus).begin(t)
	again.feed(&fieldgate.RecordBatch{Node: "g1", Epoch: 2, First: 1, Records: sent[:1]})
	if len(again.pending.firsts) != 0 {
		t.Errorf("%v is new", again.pending.firsts)
	}
}

func TestPresence(t *testing.T) {
	location := t.TempDir()
	now := time.Now()
	sent := []fieldgate.Record{
		with(1, func(r *fieldgate.Record) { r.Time, r.Protocol = now.Add(-2*time.Second), fieldgate.ProtocolCoAP }),
		with(1, func(r *fieldgate.Record) {
			r.Time, r.Status, r.Problem, r.Source = now.Add(-time.Second), 429, fieldgate.ProblemRateLimited, netip.MustParseAddr("203.0.113.7")
		}),
		with(2, func(r *fieldgate.Record) { r.Time, r.Protocol = now.Add(-3*time.Second), fieldgate.ProtocolCoAP }),
		with(3, func(r *fieldgate.Record) { r.Time = now.Add(-4 * time.Second) }),
		with(4, func(r *fieldgate.Record) { r.Kind = fieldgate.PrincipalForeign }),
		with(5, func(r *fieldgate.Record) { r.Kind = fieldgate.PrincipalApp }),
	}
	n, c := countRecords(t, location, sent...)
	found, err := n.Presence(t.Context(), fieldgate.PrincipalDevice, []string{"d1", "d2", "d4", "d5", "d99"})
	if err != nil || len(found) != 2 {
		t.Fatalf("%+v %v", found, err)
	}
	if d1 := found["d1"]; d1.Protocol != fieldgate.ProtocolMQTT || d1.Node != "g1" || d1.Source != "203.0.113.7" || d1.Refusal != "rate-limited" || d1.RefusedAt.IsZero() ||
		d1.Refusals != 1 || d1.Exchanges != 2 || d1.LastSeen != now.Add(-time.Second).UTC().Truncate(time.Millisecond) {
		t.Errorf("%+v", d1)
	}
	// Late news change nothing but the counts.
	c.feed(&fieldgate.RecordBatch{Node: "g2", Epoch: 1, First: 1, Records: sent[:1]})
	c.presence.storeAll(t.Context(), c)
	found, err = n.Presence(t.Context(), fieldgate.PrincipalDevice, []string{"d1"})
	if d1 := found["d1"]; err != nil || d1.Protocol != fieldgate.ProtocolMQTT || d1.Node != "g1" || d1.Exchanges != 3 || d1.Refusal != "rate-limited" {
		t.Errorf("%+v %v", d1, err)
	}
	coap := fieldgate.ProtocolCoAP
	for _, test := range []struct {
		protocol *fieldgate.Protocol
		want     []string
	}{{nil, []string{"d1", "d2", "d3"}}, {&coap, []string{"d2"}}} {
		var ids []string
		var after LastSeenCursor
		for { // in pages of one
			page, err := n.LastSeen(t.Context(), fieldgate.PrincipalDevice, test.protocol, after, 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			ids = append(ids, page[0].ID)
			after = LastSeenCursor{page[0].LastSeen, page[0].ID}
		}
		if !slices.Equal(ids, test.want) {
			t.Errorf("%v", ids)
		}
	}
}

// TestPresenceIsBounded: beyond the bound somebody is noted later, and nobody is forgotten for somebody else.
func TestPresenceIsBounded(t *testing.T) {
	p := newPresences()
	r := record(1)
	for i := range maxPresences + 10 {
		r.Principal = fmt.Sprint(i)
		p.touch("g1", []fieldgate.Record{r}, true)
	}
	r.Principal = "0"
	p.touch("g1", []fieldgate.Record{r}, true)
	if len(p.collecting) != maxPresences || p.skipped != 10 || p.collecting[presenceKey{fieldgate.PrincipalDevice, "0"}].exchanges != 2 {
		t.Fatalf("%d collected, %d skipped", len(p.collecting), p.skipped)
	}
}

func TestOnline(t *testing.T) {
	now := time.Now()
	o := newOnline()
	see := func(i int, age time.Duration, protocol fieldgate.Protocol) {
		r := with(i, func(r *fieldgate.Record) { r.Time, r.Duration, r.Protocol = now.Add(-age), 0, protocol })
		o.see([]fieldgate.Record{r}, now)
	}
	for i := range 100 {
		see(i, time.Duration(i)*time.Second, fieldgate.ProtocolMQTT)
		see(i, time.Minute, fieldgate.ProtocolHTTP)
	}
	see(1000, 6*time.Minute, fieldgate.ProtocolMQTT)        // too long ago
	see(1001, -24*time.Hour, fieldgate.ProtocolMQTT)        // its clock is wrong
	see(1002, 24*365*100*time.Hour, fieldgate.ProtocolMQTT) // likewise
	if online := o.estimate(now); online.Devices != 101 || online.Protocols[fieldgate.ProtocolMQTT] != 101 || online.Protocols[fieldgate.ProtocolHTTP] != 100 {
		t.Errorf("%+v", online)
	}
	if online := o.estimate(now.Add(5*time.Minute + 30*time.Second)); online.Devices != 0 {
		t.Errorf("%+v", online)
	}
	for i := range 200_000 {
		see(i, 0, fieldgate.ProtocolCoAP)
	}
	if online := o.estimate(now); online.Protocols[fieldgate.ProtocolCoAP] < 195_000 || online.Protocols[fieldgate.ProtocolCoAP] > 205_000 {
		t.Errorf("%+v", online)
	}
}

func TestTrafficFilter(t *testing.T) {
	r := with(7, func(r *fieldgate.Record) {
		r.Model, r.Problem, r.Findings, r.Status, r.Route = "T2", fieldgate.ProblemInvalidPayload, fieldgate.FindingInvalidRequest, 422, "/Pumps/7"
	})
	e := &Exchange{Record: &r, Node: "gateway-1"}
	for text, want := range map[string]bool{
		"": true, "protocol:mqtt": true, "protocol:http,mqtt": true, "protocol:coap": false, "-protocol:mqtt": false, "-protocol:coap": true,
		"api:thermo": true, "api:pump": false, "api:th*": true, "version:2.4.0": true, "operation:sendTelemetry": true, "-operation:send*": false,
		"principal:d7": true, "principal:d*": true, "device:d7": true, "app:d7": false, "-app:d7": true, "-device:d7": false, "kind:device": true, "kind:app": false,
		"model:T2": true, "firmware:1.8.*": true, "firmware:1.9": false, "status:422": true, "status:4xx": true, "status:denied": true, "status:ok": false,
		"status:failed": false, "status:5xx": false, "-status:2xx": true, "status:200,422": true, "problem:invalid-payload": true, "problem:gone": false,
		"finding:invalid-request": true, "finding:upstream": false, "-finding:upstream": true, "-finding:invalid-request": false, "finding:*": true, "-finding:*": false,
		"finding:invalid*": true, "node:gateway-1": true, "node:g2": false, "since:15m": true, "pumps": true, "PUMPS": true, "telemetry": true, "-pumps": false, "nothing": false,
		"protocol:mqtt status:4xx device:d7": true, "protocol:mqtt status:2xx": false,
	} {
		f := Filter{Terms: parse(t, text, TrafficKeys)}
		if f.matches(e) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
	e.Time = time.Now().Add(-time.Hour)
	if f := (Filter{Terms: parse(t, "since:15m", TrafficKeys)}); f.matches(e) {
		t.Error("an hour is not within 15 minutes")
	}
}

func TestRecentPages(t *testing.T) {
	n := open(t, t.TempDir())
	var batch fieldgate.RecordBatch
	for i := range 25 {
		batch.Records = append(batch.Records, record(i+1))
	}
	batch.Node = "g1"
	n.live.add(&batch, batch.Records, time.Now())
	var got []uint64
	after := ""
	for {
		page, next := n.RecentPage(Filter{Terms: parse(t, "status:2xx", TrafficKeys)}, after, 10)
		for _, e := range page {
			got = append(got, e.Exchange)
		}
		if after = next; next == "" {
			break
		}
		n.live.add(&fieldgate.RecordBatch{Node: "g2"}, []fieldgate.Record{record(99)}, time.Now()) // does not shift pages
	}
	if len(got) != 23 || got[0] != 25 || got[22] != 1 {
		t.Errorf("%v", got)
	}
	if page, next := n.RecentPage(Filter{}, "gone", 10); len(page) != 0 || next != "" {
		t.Errorf("%v", page)
	}
}

func TestUndocumentedPages(t *testing.T) {
	location := t.TempDir()
	var sent []fieldgate.Record
	for i := range 12 {
		for range i%3 + 1 {
			sent = append(sent, with(1, func(r *fieldgate.Record) {
				r.API, r.Route, r.Findings = "legacy", fmt.Sprint("/Old/", i), fieldgate.FindingUndocumented
				if i%2 == 0 {
					r.API, r.Findings, r.Protocol = "", fieldgate.FindingUnmatched, fieldgate.ProtocolHTTP
				}
			}))
		}
	}
	n, _ := countRecords(t, location, sent...)
	for text, want := range map[string]int{"": 12, "api:legacy": 6, "-api:*": 6, "protocol:http": 6, "old/1": 3, "method:POST": 12, "method:GET": 0, "since:1h": 12} {
		var routes []Route
		var after *Route
		for {
			page, _, err := n.UndocumentedPage(t.Context(), parse(t, text, RouteKeys), after, 5)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			routes = append(routes, page...)
			after = &page[len(page)-1]
		}
		if len(routes) != want || !slices.IsSortedFunc(routes, func(a, b Route) int { return int(b.Exchanges) - int(a.Exchanges) }) {
			t.Errorf("%q: %d routes, %+v", text, len(routes), routes)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(packOperations(map[string]*packedOperation{"a": {counts: counts{1, 2, 3, 4, 5}, findings: [findingKinds]uint64{3: 7}}, "b": {}}))
	f.Add(packLatencies(map[string][]byte{"a": {1, 2}, "b": nil}))
	f.Add(packUses(map[use]*useCount{{"a", "b", "c"}: {1, 2}}))
	f.Add([]byte{packForm, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, packed []byte) {
		operations := make(map[string]*packedOperation)
		err := unpackOperations(packed, func(name []byte, o *packedOperation) error {
			operations[string(name)] = o
			return nil
		})
		if err == nil {
			again := make(map[string]*packedOperation)
			err := unpackOperations(packOperations(operations), func(name []byte, o *packedOperation) error {
				again[string(name)] = o
				return nil
			})
			if err != nil || len(again) != len(operations) {
				t.Fatalf("%d operations became %d, %v", len(operations), len(again), err)
			}
		}
		uses := make(map[use]*useCount)
		if unpackUses(packed, func(u use, n useCount) { uses[u] = &n }) == nil {
			again := make(map[use]useCount)
			err := unpackUses(packUses(uses), func(u use, n useCount) { again[u] = n })
			if err != nil || !maps.EqualFunc(uses, again, func(a *useCount, b useCount) bool { return *a == b }) {
				t.Fatalf("%v became %v, %v", uses, again, err)
			}
		}
		latencies := make(map[string][]byte)
		err = unpackLatencies(packed, func(name, latency []byte) error {
			latencies[string(name)] = latency
			return nil
		})
		if err == nil {
			if err := unpackLatencies(packLatencies(latencies), func(name, latency []byte) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
	})
}
