package pipeline

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/accesslog"
	"fieldgate/gateway/cache"
	"fieldgate/gateway/directory"
)

// However many commands one caller gives, those of others stay, and the memory has its bound.
func TestCommandsOfOneCaller(t *testing.T) {
	s, now := newCommands(), time.Now()
	give := func(caller directory.Ref, n int, answer Answer) {
		t.Helper()
		key := sha256.Sum256(fmt.Append(nil, caller, n))
		begun, _, problem := s.begin(key, key, caller, now)
		if problem != nil {
			t.Fatal(problem)
		}
		s.end(begun, answer, nil, now.Add(time.Hour))
	}
	known := func(caller directory.Ref, n int) bool {
		key := sha256.Sum256(fmt.Append(nil, caller, n))
		_, done, problem := s.begin(key, key, caller, now)
		if problem != nil {
			t.Fatal(problem)
		}
		return done != nil
	}
	give(7, 0, Answer{Status: 201})
	for n := range maxCommands + 1 {
		give(0, n, Answer{Status: 201}) // callers without a credential
	}
	for n := range 40 {
		give(8, n, Answer{Status: 201, Body: make([]byte, 4<<20)})
	}
	if !known(7, 0) || !known(0, maxCommands) || known(0, 0) || !known(8, 39) {
		t.Error("the commands of one caller made the gateway forget another's")
	}
	if s.all.bytes > maxCommandBytes || s.of[0].count > maxCommands/callerShare+1 || s.of[8].bytes > maxCommandBytes/callerShare {
		t.Errorf("%d bytes, %d of nobody, %d bytes of one caller", s.all.bytes, s.of[0].count, s.of[8].bytes)
	}
}

// Commands that never end take the share of their caller, and no more; once they end there is room again.
func TestCommandsUnderWay(t *testing.T) {
	s, now := newCommands(), time.Now()
	var under []*command
	for n := 0; ; n++ {
		key := sha256.Sum256(fmt.Append(nil, n))
		begun, _, problem := s.begin(key, key, 1, now)
		if problem != nil {
			if n != maxCommands/callerShare || problem.Code != fieldgate.ProblemOverloaded {
				t.Fatal(n, problem)
			}
			break
		}
		under = append(under, begun)
	}
	if _, _, problem := s.begin(sha256.Sum256([]byte("other")), [32]byte{}, 2, now); problem != nil {
		t.Error("another caller is refused:", problem)
	}
	for _, c := range under {
		s.abandon(c)
	}
	if _, _, problem := s.begin(sha256.Sum256([]byte("again")), [32]byte{}, 1, now); problem != nil || s.all.count != 2 {
		t.Error(problem, s.all.count)
	}
}

// Answers that many connections gather at once have one bound of memory; what was cut gives its part back.
func TestGatheredAnswersAreBounded(t *testing.T) {
	f := newFixture(t)
	operation := &Operation{Operation: &fieldgate.Operation{}, policies: &policies{cache: &cache.Policy{TTL: time.Hour, Shared: true}}, Contract: contracts()[0]}
	var exchanges []*Exchange
	piece := make([]byte, 64<<10)
	for range 200 {
		x := &Exchange{Operation: operation, Method: fieldgate.MethodGet, cached: &cached{key: cache.Key{Group: []byte("a")}}}
		f.start(x)
		if _, problem := f.KeepHead(x, 200, nil); problem != nil || !x.Keeps() {
			t.Fatal(problem)
		}
		for range 10 {
			f.KeepContent(x, piece, false)
		}
		exchanges = append(exchanges, x)
	}
	if got := f.gathered.Load(); got > maxGathered || got < maxGathered/2 {
		t.Errorf("%d bytes are gathered", got)
	}
	for i, x := range exchanges {
		if i%2 == 0 {
			f.KeepContent(x, nil, true)
		}
		f.Finish(x)
	}
	if got := f.gathered.Load(); got != 0 {
		t.Errorf("%d bytes stay gathered", got)
	}
}

// A subscriber has a /64 of IPv6, and may use any address of it: all fall into the same share.
func TestShareOfNobody(t *testing.T) {
	share := func(address string) float64 {
		x := Exchange{Source: netip.MustParseAddrPort(address)}
		return x.share("next")
	}
	if share("[2001:db8::1]:1") != share("[2001:db8::ffff:2]:2") || share("[2001:db8::1]:1") == share("[2001:db8:0:1::1]:1") ||
		share("192.0.2.1:1") == share("192.0.2.2:1") || share("192.0.2.1:1") != share("[::ffff:192.0.2.1]:9") {
		t.Error("shares go by something else than the subscriber")
	}
}

// Lines hold one exchange each whatever callers write, and no key that a contract has in a header field.
func TestHostileAccessLog(t *testing.T) {
	f := newFixture(t)
	path := filepath.Join(t.TempDir(), "access.log")
	file, err := accesslog.Open(accesslog.Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { file.Run(ctx) })
	f.SetAccessLog(NewAccessLog(file, []string{"path", "header:X-Key", "header:X-Other"}))
	x := &Exchange{Protocol: fieldgate.ProtocolHTTP, Method: fieldgate.MethodGet, Path: []byte("/key"), Fields: fields{"x-key": f.app, "x-other": "a\"}\n{\"path\":\"\x00\u2028\xff"}}
	if problem := f.Begin(x); problem != nil {
		t.Fatal(problem)
	}
	f.Finish(x)
	stop()
	running.Wait()
	line, err := os.ReadFile(path)
	if want := `{"path":"/key","X-Key":null,"X-Other":"a\"}\u000a{\"path\":\"\u0000` + "\u2028\ufffd\"}\n"; err != nil || string(line) != want {
		t.Errorf("%v %q", err, line)
	}
}

// RFC 9110 section 8.8.3.2: a list names every tag that was put into it, weak or not, and no other.
func FuzzEntityTags(f *testing.F) {
	f.Add(`"a", W/"b"`, `"a"`)
	f.Add(`"a,b"`, `W/"a,b"`)
	f.Add(`*`, `"x"`)
	f.Add(`"`, `""`)
	f.Fuzz(func(t *testing.T, list, tag string) {
		weaklyListed(list, tag)
		if opaque := strings.Trim(tag, `"W/ `); !strings.ContainsAny(opaque, "\"\t\r\n") && strings.Count(list, `"`)%2 == 0 {
			tag = `"` + opaque + `"`
			if !weaklyListed(list+","+tag, tag) || !weaklyListed("W/"+tag+" ,"+list, "W/"+tag) {
				t.Fatalf("%q is not found beside %q", tag, list)
			}
		}
	})
}

// W3C Trace Context section 3.2.2: what is passed on has the parts that every version has.
func FuzzTraceParent(f *testing.F) {
	f.Add([]byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	f.Add([]byte("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what"))
	f.Add([]byte("00-00000000000000000000000000000000-b7ad6b7169203331-01"))
	f.Add([]byte("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	f.Fuzz(func(t *testing.T, value []byte) {
		if !ValidTraceParent(value) {
			return
		}
		parts := strings.SplitN(string(value), "-", 5)
		if len(parts) < 4 || len(parts[0]) != 2 || len(parts[1]) != 32 || len(parts[2]) != 16 || len(parts[3]) != 2 || strings.Trim(parts[1], "0") == "" || strings.Trim(parts[2], "0") == "" {
			t.Fatalf("%q", value)
		}
	})
}

// An answer that was kept for a caller of one protocol serves those of others that are told nothing of a host. An operation that is heard on
// a topic is not cached: subscribers would miss calls.
func TestCacheOverProtocols(t *testing.T) {
	f := newFixture(t)
	asked := make(chan string, 10)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked <- r.RequestURI }))
	t.Cleanup(service.Close)
	if err := f.Upstreams.Replace([]fieldgate.Upstream{{Name: "ingest", Addresses: []string{service.URL}}}); err != nil {
		t.Fatal(err)
	}
	read := func(id string) fieldgate.Operation {
		return fieldgate.Operation{ID: id, Access: fieldgate.Access{Anonymous: true}, Upstream: "ingest", MaxBody: 1024, Timeout: 30 * time.Second,
			OnInvalid: fieldgate.InvalidReject, Parameters: []fieldgate.Parameter{{Name: "id", In: fieldgate.InPath, Required: true}},
			HTTP:     &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/" + id + "/{id}"},
			CoAP:     &fieldgate.CoAPBinding{Method: fieldgate.MethodGet, Path: "/" + id[:1] + "/{id}"},
			Policies: &fieldgate.Policies{Cache: &fieldgate.Cache{TTL: time.Hour, Shared: true}}}
	}
	heard := read("heard")
	heard.MQTT = &fieldgate.MQTTBinding{Topic: "heard/{id}", Action: fieldgate.ActionPublish, QoS: 1}
	contract := &fieldgate.Contract{API: "cached", Version: "1.0.0", Kind: fieldgate.KindOpenAPI, State: fieldgate.LifecycleActive, Digest: "d",
		Operations: []fieldgate.Operation{read("things"), heard}}
	f.serve(t, contract)
	var answers []string
	for _, path := range []string{"/t/a", "/t/a", "/t/b", "/h/a", "/h/a"} {
		x := &Exchange{Protocol: fieldgate.ProtocolCoAP, Method: fieldgate.MethodGet, Path: []byte(path)}
		if problem := f.do(x); problem != nil {
			t.Fatal(path, problem)
		}
		answers = append(answers, fmt.Sprint(path, " ", x.Answered()))
	}
	if got := strings.Join(answers, ","); got != "/t/a false,/t/a true,/t/b false,/h/a false,/h/a false" {
		t.Error(got)
	}
	var calls []string
	for len(asked) > 0 {
		calls = append(calls, <-asked)
	}
	if got := strings.Join(calls, ","); got != "/things/a,/things/b,/heard/a,/heard/a" {
		t.Error(got)
	}
}
