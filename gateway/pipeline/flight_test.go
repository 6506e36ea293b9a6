package pipeline

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/upstream"
)

// httpFields are the fields of a request over HTTP.
type httpFields struct{ fields }

func (f httpFields) Each(visit func(name, value []byte)) {
	for name, value := range f.fields {
		visit([]byte(name), []byte(value))
	}
}
func (f httpFields) Withholds([]byte) bool          { return false }
func (f httpFields) HasContent() bool               { return false }
func (f httpFields) Upgrades() bool                 { return false }
func (f httpFields) AppendOrigin(dst []byte) []byte { return append(dst, "http://gateway"...) }
func (f httpFields) AppendForwarded(dst []byte, drop func([]byte) bool) []byte {
	for name, value := range f.fields {
		if drop == nil || !drop([]byte(name)) {
			dst = append(dst, name+": "+value+"\r\n"...)
		}
	}
	return dst
}

// cachedFixture has one operation whose answers are kept for everyone.
func cachedFixture(t *testing.T, service http.HandlerFunc) *fixture {
	f := newFixture(t)
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	upstreams, err := upstream.NewSet([]fieldgate.Upstream{{Name: "ingest", Addresses: []string{server.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	f.Upstreams, f.flights.most = upstreams, time.Minute
	program, err := Link(&fieldgate.Snapshot{Contracts: []*fieldgate.Contract{{API: "a", Version: "1", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "get", Access: fieldgate.Access{Anonymous: true}, Upstream: "ingest", Timeout: time.Minute,
			HTTP:     &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/thing"},
			Policies: &fieldgate.Policies{Cache: &fieldgate.Cache{TTL: time.Hour, Shared: true}}}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Install(program)
	return f
}

func (f *fixture) get(sent fields) *Exchange {
	x := &Exchange{Protocol: fieldgate.ProtocolHTTP, Method: fieldgate.MethodGet, Path: []byte("/thing"), Source: netip.MustParseAddrPort("127.0.0.1:9"),
		Fields: sent, HTTP: httpFields{sent}}
	f.do(x)
	return x
}

// together makes so many requests at once, and gives the answers.
func (f *fixture) together(n int, sent fields) []*Exchange {
	exchanges := make([]*Exchange, n)
	var all sync.WaitGroup
	for i := range exchanges {
		all.Go(func() { exchanges[i] = f.get(sent) })
	}
	all.Wait()
	return exchanges
}

// RFC 9111 section 4: of many who miss the same answer one asks the service, and all get what it says. Likewise of many to whom a stored
// answer is stale.
func TestConcurrentMisses(t *testing.T) {
	var calls, revalidations atomic.Int32
	f := cachedFixture(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Cache-Control", "max-age=1")
		time.Sleep(20 * time.Millisecond)
		if r.Header.Get("If-None-Match") != "" {
			revalidations.Add(1)
			w.Header().Set("Cache-Control", "max-age=1000")
			w.WriteHeader(304)
			return
		}
		fmt.Fprint(w, calls.Add(1))
	})
	f.flights.most = time.Minute // nobody goes on its own, however slow the service
	for _, x := range f.together(100, fields{}) {
		if x.Problem != nil || string(x.Answer.Body) != "1" {
			t.Fatal(x.Problem, string(x.Answer.Body))
		}
	}
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
	time.Sleep(1100 * time.Millisecond)
	for _, x := range f.together(100, fields{}) {
		if x.Problem != nil || string(x.Answer.Body) != "1" {
			t.Fatal(x.Problem, string(x.Answer.Body))
		}
	}
	if calls.Load() != 1 || revalidations.Load() != 1 {
		t.Errorf("%d calls, %d revalidations", calls.Load(), revalidations.Load())
	}
	if len(f.flights.byKey) != 0 {
		t.Error("a flight never landed")
	}
}

// Those who wait go on their own at once when the first fails, or gets what is for it alone, or what depends on a field of its own; and soon
// when it takes long. Who says something about stored answers does not wait.
func TestWaitersGoOnTheirOwn(t *testing.T) {
	for name, c := range map[string]struct {
		first  func(w http.ResponseWriter) // answers the first request
		sent   fields                      // by those who come after it
		calls  int32                       // in all, of 1 + 10
		most   time.Duration
		status int
	}{
		"the first fails":      {func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }, fields{}, 11, time.Minute, 502},
		"it is private":        {func(w http.ResponseWriter) { w.Header().Set("Cache-Control", "private"); w.Write([]byte("first")) }, fields{}, 11, time.Minute, 200},
		"it varies":            {func(w http.ResponseWriter) { w.Header().Set("Vary", "X-Unit"); w.Write([]byte("first")) }, fields{"x-unit": "F"}, 11, time.Minute, 200},
		"it is kept":           {func(w http.ResponseWriter) { w.Write([]byte("first")) }, fields{}, 1, time.Minute, 200},
		"it takes long":        {nil, fields{}, 11, 50 * time.Millisecond, 200},
		"they want a new one":  {nil, fields{"cache-control": "no-cache"}, 11, time.Minute, 200},
		"they have conditions": {nil, fields{"if-none-match": `"x"`}, 11, time.Minute, 200},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			called, release := make(chan struct{}), make(chan struct{})
			f := cachedFixture(t, func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) > 1 {
					w.Header().Set("Cache-Control", "no-store")
					w.Write([]byte("another"))
					return
				}
				close(called)
				<-release
				if c.first != nil {
					c.first(w)
				}
			})
			f.flights.most = c.most
			var first sync.WaitGroup
			var x *Exchange
			first.Go(func() { x = f.get(fields{}) })
			<-called
			if c.first == nil { // the others do not need it to go on
				f.together(10, c.sent)
				close(release)
				first.Wait()
			} else {
				var others sync.WaitGroup
				others.Go(func() { f.together(10, c.sent) })
				time.Sleep(20 * time.Millisecond) // most of them wait now; none has to for the test to hold
				close(release)
				others.Wait()
				first.Wait()
			}
			if x.Status() != c.status || calls.Load() != c.calls {
				t.Errorf("%d, %d calls, want %d, %d", x.Status(), calls.Load(), c.status, c.calls)
			}
			if len(f.flights.byKey) != 0 {
				t.Error("a flight never landed")
			}
		})
	}
}
