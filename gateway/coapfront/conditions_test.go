package coapfront

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/coaphttp"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/coap"
)

// document is a service with one resource that keeps to RFC 9110 section 13.
type document struct {
	mu      sync.Mutex
	tag     string // as in the field; empty: there is no document
	content string
	asked   []string // method and conditions
	bare    bool     // 304 comes without ETag
	noHead  bool
}

func (d *document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	d.asked = append(d.asked, strings.TrimSpace(r.Method+" "+match+" "+none))
	opaque := func(tag string) string { return strings.TrimPrefix(tag, "W/") }
	listed := func(list string, compare func(string) string) bool {
		return list == "*" && d.tag != "" || slices.ContainsFunc(strings.Split(list, ", "), func(tag string) bool {
			return d.tag != "" && compare(tag) == compare(d.tag)
		})
	}
	strong := func(tag string) string {
		if strings.HasPrefix(tag, "W/") {
			return "weak tags never match strongly"
		}
		return tag
	}
	weakTag := strings.HasPrefix(d.tag, "W/")
	switch {
	case r.Method == http.MethodHead && d.noHead:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case match != "" && (!listed(match, strong) || match != "*" && weakTag):
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	case none != "" && listed(none, opaque):
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		if !d.bare {
			w.Header().Set("ETag", d.tag)
		}
		w.WriteHeader(http.StatusNotModified)
		return
	case r.Method == http.MethodPut:
		content, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		d.content, d.tag = string(content), `"changed"`
	case r.Method == http.MethodDelete:
		d.content, d.tag = "", ""
		w.WriteHeader(http.StatusNoContent)
		return
	case d.tag == "":
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("ETag", d.tag)
	w.Header().Set("Content-Type", "text/plain")
	if r.Method == http.MethodGet {
		io.WriteString(w, d.content)
	}
}

// newDocument puts a document behind a gateway: at /d as it is, at /kept with a cache.
func newDocument(t *testing.T) (*gateway, *document) {
	d := &document{}
	service := httptest.NewServer(d)
	t.Cleanup(service.Close)
	g := newGateway(t)
	var err error
	if g.pipeline.Upstreams, err = upstream.NewSet([]fieldgate.Upstream{{Name: "service", Addresses: []string{service.URL}}}); err != nil {
		t.Fatal(err)
	}
	kept := fieldgate.Operation{ID: "kept", Access: fieldgate.Access{Anonymous: true}, MaxBody: 4096, Timeout: 30 * time.Second, Upstream: "service",
		HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/kept"}, CoAP: &fieldgate.CoAPBinding{Method: fieldgate.MethodGet, Path: "/kept"}}
	kept.Policies = &fieldgate.Policies{Cache: &fieldgate.Cache{TTL: time.Minute, Shared: true}}
	contract := &fieldgate.Contract{API: "documents", Version: "1", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive, Operations: []fieldgate.Operation{
		{ID: "document", PassThrough: true, Access: fieldgate.Access{Anonymous: true}, MaxBody: 4096, Timeout: 30 * time.Second, Upstream: "service",
			CoAP: &fieldgate.CoAPBinding{Method: fieldgate.MethodOther, Path: "/d"}}, kept}}
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{contract}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(program)
	return g, d
}

func (d *document) set(tag, content string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tag, d.content, d.asked = tag, content, nil
}

func (d *document) be(noHead, bare bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noHead, d.bare = noHead, bare
}

func (d *document) read() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.content
}

func (d *document) said() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// Whatever the service's tags look like, a change on condition of what was read is made once, and not after another's.
func TestIfMatch(t *testing.T) {
	g, d := newDocument(t)
	for _, test := range []struct {
		name, tag string
		probed    bool
	}{
		{"hexadecimal digits", `"5f1c"`, false},
		{"a short text", `"v12"`, false},
		{"upper-case digits", `"5F1C"`, false},
		{"a long text", `"65f1c2a3-1f4a"`, true},
		{"16 digits", `"0123456789abcdef"`, true},
		{"a text of 8 bytes", `"version8"`, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			d.set(test.tag, "one")
			tag, ok := g.do(call(coap.GET, "/d", nil)).Option(coap.ETag)
			if !ok {
				t.Fatal("the answer has no ETag")
			}
			match := text(coap.IfMatch, string(tag))
			if r := g.do(call(coap.PUT, "/d", []byte("two"), match)); r.Code != coap.Changed {
				t.Errorf("RFC 7252 section 5.10.8.1: %v for the tag that there is", r.Code)
			}
			if r := g.do(call(coap.PUT, "/d", []byte("three"), match)); r.Code != coap.PreconditionFailed {
				t.Errorf("RFC 7252 section 5.10.8.1: %v for a tag that there was", r.Code)
			}
			if r := g.do(call(coap.PUT, "/d", []byte("four"), match, text(coap.IfMatch, "changed"))); r.Code != coap.Changed {
				t.Errorf("RFC 7252 section 5.10.8.1: %v for the second of two tags", r.Code)
			}
			heads := 0
			for _, asked := range d.said() {
				if strings.HasPrefix(asked, "HEAD") {
					heads++
				}
			}
			if test.probed != (heads > 0) {
				t.Errorf("the service was asked for its tag %d times: %q", heads, d.said())
			}
			if content := d.read(); content != "four" {
				t.Errorf("the document is %q", content)
			}
		})
	}
	t.Run("a weak tag", func(t *testing.T) {
		d.set(`W/"5f1c"`, "one")
		if r := g.do(call(coap.PUT, "/d", nil, text(coap.IfMatch, "\x5f\x1c"))); r.Code != coap.PreconditionFailed {
			t.Errorf("RFC 9110 section 13.1.1: %v", r.Code)
		}
	})
	t.Run("anything", func(t *testing.T) {
		d.set(`"5f1c"`, "one")
		if r := g.do(call(coap.DELETE, "/d", nil, text(coap.IfMatch, ""))); r.Code != coap.Deleted {
			t.Errorf("RFC 7252 section 5.10.8.1: %v for an empty If-Match of what there is", r.Code)
		}
		if r := g.do(call(coap.DELETE, "/d", nil, text(coap.IfMatch, ""))); r.Code != coap.PreconditionFailed {
			t.Errorf("RFC 7252 section 5.10.8.1: %v for an empty If-Match of what there is not", r.Code)
		}
		if r := g.do(call(coap.PUT, "/d", nil, text(coap.IfMatch, "12345678"))); r.Code != coap.PreconditionFailed {
			t.Errorf("RFC 7252 section 5.10.8.1: %v for a tag of what there is not", r.Code)
		}
	})
	t.Run("a service without HEAD", func(t *testing.T) {
		d.be(true, false)
		defer d.be(false, false)
		d.set(`"0123456789abcdef"`, "one")
		if r := g.do(call(coap.PUT, "/d", nil, text(coap.IfMatch, "\x01\x23\x45\x67\x89\xab\xcd\xef"))); r.Code != coap.Changed {
			t.Errorf("%v: what the tag may have been is tried", r.Code)
		}
	})
}

func TestIfNoneMatch(t *testing.T) {
	g, d := newDocument(t)
	if r := g.do(call(coap.PUT, "/d", []byte("one"), text(coap.IfNoneMatch, ""))); r.Code != coap.Changed {
		t.Errorf("RFC 7252 section 5.10.8.2: %v for what there is not", r.Code)
	}
	if r := g.do(call(coap.PUT, "/d", []byte("two"), text(coap.IfNoneMatch, ""))); r.Code != coap.PreconditionFailed || d.read() != "one" {
		t.Errorf("RFC 7252 section 5.10.8.2: %v for what there is, which is now %q", r.Code, d.read())
	}
	records := g.records.take(t, 2)
	if records[1].Status != 412 || records[1].Problem != "" {
		t.Errorf("the service's refusal left %+v", records[1])
	}
}

// Conditions of requests that read are decided about by what was read.
func TestConditionsOfReading(t *testing.T) {
	g, d := newDocument(t)
	d.set(`"5f1c"`, "one")
	for _, path := range []string{"/d", "/kept", "/kept"} {
		for _, test := range []struct {
			name string
			add  func(*coap.Options)
			want coap.Code
		}{
			{"If-Match of what there is", text(coap.IfMatch, "\x5f\x1c"), coap.Content},
			{"an empty If-Match", text(coap.IfMatch, ""), coap.Content},
			{"If-Match of something else", text(coap.IfMatch, "x"), coap.PreconditionFailed},
			{"If-None-Match", text(coap.IfNoneMatch, ""), coap.PreconditionFailed},
		} {
			if r := g.do(call(coap.GET, path, nil, test.add)); r.Code != test.want || r.Code != coap.Content && len(r.Body) > 0 {
				t.Errorf("RFC 7252 section 5.10.8: %s, %s: %v %q, want %v", path, test.name, r.Code, r.Body, test.want)
			}
		}
	}
}

// RFC 7252 section 5.10.6.2: whoever names tags gets 2.03 with the one that holds.
func TestValidation(t *testing.T) {
	for _, path := range []string{"/d", "/kept"} {
		for _, tag := range []string{`"5f1c"`, `W/"5f1c"`, `"v12"`, `"65f1c2a3-1f4a"`} {
			g, d := newDocument(t) // whose cache is empty
			d.set(tag, "one")
			have := coaphttp.AppendEntityTag(nil, pipeline.OpaqueTag(tag))
			r := g.do(call(coap.GET, path, nil, text(coap.ETag, "older"), text(coap.ETag, string(have)), text(coap.ETag, "oldest")))
			got, _ := r.Option(coap.ETag)
			if _, format := r.Option(coap.ContentFormat); r.Code != coap.Valid || !bytes.Equal(got, have) || len(r.Body) != 0 || format {
				t.Errorf("%s with the tag %s: %v, ETag %x, %q; the service was asked %q", path, tag, r.Code, got, r.Body, d.said())
			}
			if r = g.do(call(coap.GET, path, nil, text(coap.ETag, "older"))); r.Code != coap.Content || string(r.Body) != "one" {
				t.Errorf("%s with the tag %s, of which the caller has another: %v %q", path, tag, r.Code, r.Body)
			}
		}
	}
	g, d := newDocument(t)
	t.Run("the service is asked whether it holds", func(t *testing.T) {
		d.set(`"v12"`, "one")
		g.do(call(coap.GET, "/d", nil, text(coap.ETag, "v12")))
		if asked := d.said(); !slices.Equal(asked, []string{`GET  "763132", "v12"`}) {
			t.Errorf("the service was asked %q", asked)
		}
	})
	t.Run("it does not say which", func(t *testing.T) {
		d.be(false, true)
		defer d.be(false, false)
		d.set(`"v12"`, "one")
		r := g.do(call(coap.GET, "/d", nil, text(coap.ETag, "v12")))
		if tag, _ := r.Option(coap.ETag); r.Code != coap.Valid || string(tag) != "v12" {
			t.Errorf("one: %v %q", r.Code, tag)
		}
		if r = g.do(call(coap.GET, "/d", nil, text(coap.ETag, "v11"), text(coap.ETag, "v12"))); r.Code != coap.BadGateway {
			t.Errorf("one of two: %v", r.Code)
		}
	})
}

func TestHopLimit(t *testing.T) {
	g, d := newDocument(t)
	d.set(`"1"`, "one")
	for hops, want := range map[uint32]coap.Code{1: coap.HopLimitReached, 2: coap.Content, 255: coap.Content} {
		if r := g.do(call(coap.GET, "/d", nil, number(coap.HopLimit, hops))); r.Code != want {
			t.Errorf("RFC 8768 section 3: %d: %v, want %v", hops, r.Code, want)
		}
	}
}

// A service that speaks CoAP gets one hop less than the gateway got.
func TestHopLimitIsPassedOn(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	service, err := coap.NewUDP(conn, coap.Config{}, 1, func(request *coap.Request, response *coap.Response) func(context.Context) {
		hops, _ := request.Uint(coap.HopLimit)
		response.Body = fmt.Append(nil, hops)
		return nil
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	run(t, service.Run)
	g, _ := newDocument(t)
	if g.pipeline.Upstreams, err = upstream.NewSet([]fieldgate.Upstream{{Name: "service", Addresses: []string{"coap://" + service.LocalAddr().String()}}}); err != nil {
		t.Fatal(err)
	}
	g.pipeline.Install(g.pipeline.Program()) // so that those who serve see the upstreams
	if r := g.do(call(coap.GET, "/d", nil, number(coap.HopLimit, 7))); string(r.Body) != "6" {
		t.Errorf("RFC 8768 section 3: %v %q", r.Code, r.Body)
	}
}
