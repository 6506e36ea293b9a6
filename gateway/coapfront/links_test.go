package coapfront

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// cut is a list of links without the commas between them.
func cut(list []byte) []string {
	if len(list) == 0 {
		return nil
	}
	return strings.Split(string(list), ",")
}

func TestLinks(t *testing.T) {
	g := newGateway(t)
	contracts := testContracts()
	named := []string{"putBlob", "getBlob", "dead", "other", "hang", "limited", "mock", "addReading", "getReading", "remove"}
	contracts[0].Operations = slices.DeleteFunc(contracts[0].Operations, func(o fieldgate.Operation) bool { return !slices.Contains(named, o.ID) })
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: contracts}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
	r := g.do(call(coap.GET, "/.well-known/core", nil))
	format, _ := r.Uint(coap.ContentFormat)
	if r.Code != coap.Content || format != coap.LinkFormat {
		t.Fatalf("RFC 6690 section 7.3: %v, content format %d", r.Code, format)
	}
	want := []string{
		`</blob>;rt="meters.getBlob meters.putBlob";if="meters";title="Summary of putBlob";ct="50 60"`,
		`</dead>;rt="meters.dead";if="meters";title="Summary of dead"`,
		`</devices/%7Bid%7D/other>;rt="meters.other";if="meters";title="Summary of other"`,
		`</hang>;rt="meters.hang";if="meters";title="Summary of hang"`,
		`</limited>;rt="meters.limited";if="meters";title="Summary of limited"`,
		`</mock>;rt="meters.mock";if="meters";title="Summary of mock";ct="50 60"`,
		`</readings>;rt="meters.addReading meters.getReading meters.remove";if="meters";title="Summary of addReading";ct="50 60"`,
		`</temperature>;rt="events.hear events.say";if="events";title="Summary of hear";ct="50 60";obs`,
	}
	if got := cut(r.Body); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, test := range []struct {
		filter []string
		want   []string // paths
	}{
		{[]string{"href=/mock"}, []string{"/mock"}},
		{[]string{"href=/moc"}, nil},
		{[]string{"href=/m*"}, []string{"/mock"}},
		{[]string{"href=/devices/{id}/*"}, []string{"/devices/%7Bid%7D/other"}},
		{[]string{"href=/devices/%7Bid%7D/other"}, []string{"/devices/%7Bid%7D/other"}},
		{[]string{"rt=meters.putBlob"}, []string{"/blob"}},
		{[]string{"rt=meters.put"}, nil},
		{[]string{"rt=events.*"}, []string{"/temperature"}},
		{[]string{"rt=meters.getBlob meters.putBlob"}, nil},
		{[]string{"if=events"}, []string{"/temperature"}},
		{[]string{"ct=60"}, []string{"/blob", "/mock", "/readings", "/temperature"}},
		{[]string{"ct=6"}, nil},
		{[]string{"ct=6*"}, []string{"/blob", "/mock", "/readings", "/temperature"}},
		{[]string{"title=Summary of dead"}, []string{"/dead"}},
		{[]string{"title=Summary of h*"}, []string{"/hang", "/temperature"}},
		{[]string{"title=*", "ct=60", "rt=meters.*"}, []string{"/blob", "/mock", "/readings"}},
		{[]string{"obs"}, []string{"/temperature"}},
		{[]string{"obs="}, []string{"/temperature"}},
		{[]string{"sz=10"}, nil},
		{[]string{"color=red"}, nil},
		{[]string{""}, nil},
	} {
		c := call(coap.GET, "/.well-known/core", nil)
		for _, filter := range test.filter {
			c.Options.AddString(coap.URIQuery, filter)
		}
		r := g.do(c)
		var got []string
		for _, link := range cut(r.Body) {
			path, _, _ := strings.Cut(link, ">")
			got = append(got, path[1:])
		}
		if r.Code != coap.Content || !slices.Equal(got, test.want) {
			t.Errorf("RFC 6690 section 4.1: %q: %v %q, want %q", test.filter, r.Code, got, test.want)
		}
	}
}

func TestLinksAreARepresentation(t *testing.T) {
	g := newGateway(t)
	whole := g.do(call(coap.GET, "/.well-known/core", nil))
	tag, ok := whole.Option(coap.ETag)
	if !ok {
		t.Fatal("the list has no ETag")
	}
	for _, test := range []struct {
		name string
		call *coap.Call
		want coap.Code
	}{
		{"Accept: link-format", call(coap.GET, "/.well-known/core", nil, number(coap.Accept, coap.LinkFormat)), coap.Content},
		{"Accept: JSON", call(coap.GET, "/.well-known/core", nil, number(coap.Accept, coap.JSON)), coap.NotAcceptable},
		{"its ETag", call(coap.GET, "/.well-known/core", nil, text(coap.ETag, "x"), text(coap.ETag, string(tag))), coap.Valid},
		{"another ETag", call(coap.GET, "/.well-known/core", nil, text(coap.ETag, "x")), coap.Content},
		{"its ETag, for a part of it", call(coap.GET, "/.well-known/core", nil, text(coap.ETag, string(tag)), text(coap.URIQuery, "obs")), coap.Content},
		{"a condition that does not hold", call(coap.GET, "/.well-known/core", nil, text(coap.IfMatch, "x")), coap.PreconditionFailed},
		{"PUT", call(coap.PUT, "/.well-known/core", []byte("x")), coap.MethodNotAllowed},
	} {
		if r := g.do(test.call); r.Code != test.want {
			t.Errorf("%s: %v, want %v", test.name, r.Code, test.want)
		}
	}
}

// A list of many blocks is fetched whole, and does not change while contracts do not.
func TestLongListOfLinks(t *testing.T) {
	g := newGateway(t)
	contract := &fieldgate.Contract{API: "many", Version: "1", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive}
	for i := range 500 {
		name := fmt.Sprintf("operation%d", i)
		contract.Operations = append(contract.Operations, fieldgate.Operation{ID: name, Access: fieldgate.Access{Anonymous: true}, MaxBody: 1,
			CoAP: &fieldgate.CoAPBinding{Method: fieldgate.MethodGet, Path: "/" + name}, Upstream: "service"})
	}
	install := func() {
		program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{contract}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		g.pipeline.Install(program)
	}
	install()
	c := call(coap.GET, "/.well-known/core", nil)
	c.BlockSize = 256
	r := g.do(c)
	if links := cut(r.Body); len(links) != 500 || !slices.IsSorted(links) {
		t.Fatalf("RFC 6690 section 4: %v, %d links, sorted: %v", r.Code, len(links), slices.IsSorted(links))
	}
	tag, _ := r.Option(coap.ETag)
	install()
	if r := g.do(call(coap.GET, "/.well-known/core", nil, text(coap.ETag, string(tag)))); r.Code != coap.Valid {
		t.Errorf("the same contracts again: %v", r.Code)
	}
}

func TestLinksOfDeprecated(t *testing.T) {
	g := newGateway(t)
	version := func(name, path string, state fieldgate.Lifecycle) *fieldgate.Contract {
		return &fieldgate.Contract{API: "pump", Version: name, Kind: fieldgate.KindOpenAPI, State: state, Operations: []fieldgate.Operation{
			{ID: "rate", Access: fieldgate.Access{Anonymous: true}, MaxBody: 1, Upstream: "service", CoAP: &fieldgate.CoAPBinding{Method: fieldgate.MethodGet, Path: path}}}}
	}
	retired, old, undated, current := version("0", "/v0", fieldgate.LifecycleRetired), version("1", "/v1/{id}", fieldgate.LifecycleDeprecated),
		version("1.5", "/v1.5", fieldgate.LifecycleDeprecated), version("2", "/v2/{id}", fieldgate.LifecycleActive)
	old.Deprecated, old.Sunset, old.Successor = "2026-11-01", "2027-05-01", "2"
	undated.Successor = "3" // which is not served
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{retired, old, undated, current}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
	want := []string{
		`</v1.5>;rt="pump.rate";if="pump";deprecated`,
		`</v1/%7Bid%7D>;rt="pump.rate";if="pump";deprecated="2026-11-01";sunset="2027-05-01"`,
		`</v2/%7Bid%7D>;rel="successor-version";anchor="/v1/%7Bid%7D"`,
		`</v2/%7Bid%7D>;rt="pump.rate";if="pump"`,
	}
	if got := cut(g.do(call(coap.GET, "/.well-known/core", nil)).Body); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for filter, want := range map[string]int{"deprecated": 2, "deprecated=2026-11-01": 1, "sunset=2027*": 1, "rel=successor-version": 1, "anchor=/v1*": 1} {
		if got := cut(g.do(call(coap.GET, "/.well-known/core", nil, text(coap.URIQuery, filter))).Body); len(got) != want {
			t.Errorf("RFC 6690 section 4.1: %s finds %q", filter, got)
		}
	}
}
