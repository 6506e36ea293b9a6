package coapfront

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/coap"
)

// etsiService is the service of the ETSI plugtests, over HTTP: to the clients of the gateway it is their server, and the gateway what the
// plugtests call a reverse proxy.
func etsiService(document *document) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /test", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/location1/location2/location3")
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("POST /location-query", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/?first=1&second=2")
		w.WriteHeader(http.StatusCreated)
	})
	mux.HandleFunc("GET /multi-format", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Accept"), "application/xml") {
			w.Header().Set("Content-Type", "application/xml")
			io.WriteString(w, "<a/>")
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "a")
	})
	mux.HandleFunc("GET /aging", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=30")
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "a")
	})
	mux.HandleFunc("GET /path", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/link-format")
		io.WriteString(w, "</path/sub1>,</path/sub2>")
	})
	mux.HandleFunc("GET /path/sub1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "/path/sub1")
	})
	mux.Handle("/validate", document)
	mux.Handle("/create1", document)
	return mux
}

// The scenarios of the ETSI plugtests that need a service, by their identifiers. TD_COAP_CORE_24 to 29 are those of 18 to 23, and Max-Age, with a
// reverse proxy between client and server, as there is one here; TD_COAP_CORE_30 is in no list.
func TestETSI(t *testing.T) {
	d := &document{}
	service := httptest.NewServer(etsiService(d))
	t.Cleanup(service.Close)
	g := newGateway(t)
	var err error
	if g.pipeline.Upstreams, err = upstream.NewSet([]fieldgate.Upstream{{Name: "service", Addresses: []string{service.URL}}}); err != nil {
		t.Fatal(err)
	}
	operation := func(api, id, path string, media ...string) *fieldgate.Contract {
		o := fieldgate.Operation{ID: id, Access: fieldgate.Access{Anonymous: true}, MaxBody: 100, Timeout: time.Minute, Upstream: "service",
			CoAP: &fieldgate.CoAPBinding{Method: fieldgate.MethodGet, Path: path}, HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: path}}
		for _, m := range media {
			o.Responses = append(o.Responses, fieldgate.Response{Status: "200", Media: []fieldgate.MediaType{{Type: m}}})
		}
		return &fieldgate.Contract{API: api, Version: "1", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive, Operations: []fieldgate.Operation{o}}
	}
	post := operation("If2", "Type2", "/link1")
	post.Operations[0].CoAP.Method, post.Operations[0].HTTP.Method = fieldgate.MethodPost, fieldgate.MethodPost
	rest := &fieldgate.Contract{API: "rest", Version: "1", Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive, Operations: []fieldgate.Operation{
		{ID: "rest", PassThrough: true, Access: fieldgate.Access{Anonymous: true}, MaxBody: 100, Timeout: time.Minute, Upstream: "service",
			CoAP: &fieldgate.CoAPBinding{Method: fieldgate.MethodOther, Path: "/"}}}}
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{rest, post, operation("If1", "Type1", "/link1"),
		operation("foo", "Type3", "/link2"), operation("foo", "Type1", "/test"), operation("path", "list", "/path", "application/link-format")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
	exchange := func(t *testing.T, c *coap.Call, want coap.Code) *coap.Reply {
		t.Helper()
		r := g.do(c)
		if r.Code != want {
			t.Errorf("%v %s: %v %q, want %v", c.Code, c.Body, r.Code, r.Body, want)
		}
		return r
	}
	links := func(filter string, want ...string) func(*testing.T) {
		return func(t *testing.T) {
			c := call(coap.GET, "/.well-known/core", nil)
			if filter != "" {
				c.Options.AddString(coap.URIQuery, filter)
			}
			r := exchange(t, c, coap.Content)
			var paths []string
			for _, link := range cut(r.Body) {
				path, _, _ := strings.Cut(link, ">")
				paths = append(paths, path[1:])
			}
			if format, _ := r.Uint(coap.ContentFormat); format != coap.LinkFormat || !slices.Equal(paths, want) {
				t.Errorf("content format %d, %q; want %q", format, paths, want)
			}
		}
	}
	location := func(path, want string, query ...string) func(*testing.T) {
		return func(t *testing.T) {
			r := exchange(t, call(coap.POST, path, []byte("x"), number(coap.ContentFormat, coap.TextPlain)), coap.Created)
			var got []string
			for it := r.Iterate(); it.Next(); {
				if it.Number == coap.LocationQuery {
					got = append(got, string(it.Value))
				}
			}
			if r.Location() != want || !slices.Equal(got, query) {
				t.Errorf("Location-Path %s, Location-Query %q", r.Location(), got)
			}
		}
	}
	accept := func(t *testing.T) {
		for format, want := range map[uint32]string{coap.TextPlain: "a", coap.XML: "<a/>"} {
			r := exchange(t, call(coap.GET, "/multi-format", nil, number(coap.Accept, format)), coap.Content)
			if got, _ := r.Uint(coap.ContentFormat); got != format || string(r.Body) != want {
				t.Errorf("Accept %d: content format %d, %q", format, got, r.Body)
			}
		}
	}
	tagOf := func(r *coap.Reply) func(*coap.Options) {
		tag, _ := r.Option(coap.ETag)
		return text(coap.IfMatch, string(tag))
	}
	validate := func(t *testing.T) {
		d.set(`"1"`, "one")
		first := exchange(t, call(coap.GET, "/validate", nil), coap.Content)
		tag, _ := first.Option(coap.ETag)
		again := exchange(t, call(coap.GET, "/validate", nil, text(coap.ETag, string(tag))), coap.Valid)
		if same, _ := again.Option(coap.ETag); string(same) != string(tag) || len(again.Body) != 0 {
			t.Errorf("2.03 with ETag %x and %d bytes", same, len(again.Body))
		}
		d.set(`"2"`, "two")
		if r := exchange(t, call(coap.GET, "/validate", nil, text(coap.ETag, string(tag))), coap.Content); string(r.Body) != "two" {
			t.Errorf("%q", r.Body)
		}
	}
	match := func(t *testing.T) {
		d.set(`"1"`, "one")
		first := exchange(t, call(coap.GET, "/validate", nil), coap.Content)
		exchange(t, call(coap.PUT, "/validate", []byte("two"), tagOf(first)), coap.Changed)
		second := exchange(t, call(coap.GET, "/validate", nil), coap.Content)
		if string(second.Body) != "two" {
			t.Errorf("%q", second.Body)
		}
		d.set(`"3"`, "three")
		exchange(t, call(coap.PUT, "/validate", []byte("four"), tagOf(second)), coap.PreconditionFailed)
		if content := d.read(); content != "three" {
			t.Errorf("it was changed to %q", content)
		}
	}
	create := func(t *testing.T) {
		d.set("", "")
		exchange(t, call(coap.PUT, "/create1", []byte("x"), text(coap.IfNoneMatch, "")), coap.Changed)
		exchange(t, call(coap.PUT, "/create1", []byte("y"), text(coap.IfNoneMatch, "")), coap.PreconditionFailed)
	}
	for _, scenario := range []struct {
		names, objective string
		run              func(*testing.T)
	}{
		{"TD_COAP_CORE_18 TD_COAP_CORE_24", "several Location-Path options", location("/test", "/location1/location2/location3")},
		{"TD_COAP_CORE_19 TD_COAP_CORE_25", "several Location-Query options", location("/location-query", "/", "first=1", "second=2")},
		{"TD_COAP_CORE_20 TD_COAP_CORE_26", "Accept", accept},
		{"TD_COAP_CORE_21", "ETag", validate},
		{"TD_COAP_CORE_22 TD_COAP_CORE_27", "If-Match", match},
		{"TD_COAP_CORE_23 TD_COAP_CORE_28", "If-None-Match", create},
		{"TD_COAP_CORE_29", "Max-Age", func(t *testing.T) {
			if age, _ := exchange(t, call(coap.GET, "/aging", nil), coap.Content).Uint(coap.MaxAge); age != 30 {
				t.Errorf("Max-Age %d", age)
			}
		}},
		{"TD_COAP_LINK_01", "the list", links("", "/link1", "/link2", "/path", "/test")},
		{"TD_COAP_LINK_02", "filter by rt", links("rt=foo.Type3", "/link2")},
		{"TD_COAP_LINK_03", "an empty prefix", links("rt=*", "/link1", "/link2", "/path", "/test")},
		{"TD_COAP_LINK_04", "several values of rt", links("rt=If2.Type2", "/link1")},
		{"TD_COAP_LINK_05", "filter by a prefix of if", links("if=If*", "/link1")},
		{"TD_COAP_LINK_06", "filter by sz, which no link has", links("sz=*")},
		{"TD_COAP_LINK_07", "filter by href", links("href=/link1", "/link1")},
		{"TD_COAP_LINK_08", "filter by a prefix of href", links("href=/link*", "/link1", "/link2")},
		{"TD_COAP_LINK_09", "links of a service's own", func(t *testing.T) {
			links("ct=40", "/path")(t)
			r := exchange(t, call(coap.GET, "/path", nil), coap.Content)
			if format, _ := r.Uint(coap.ContentFormat); format != coap.LinkFormat || len(cut(r.Body)) != 2 {
				t.Errorf("content format %d, %s", format, r.Body)
			}
			if r := exchange(t, call(coap.GET, "/path/sub1", nil), coap.Content); string(r.Body) != "/path/sub1" {
				t.Errorf("%q", r.Body)
			}
		}},
	} {
		t.Run(scenario.names, scenario.run)
	}
}
