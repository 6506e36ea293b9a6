package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// protocols are clients of each version of HTTP that a node speaks without TLS. A fault shows in the same way in all of them, as far as the
// version has words for it.
var protocols = map[string]func() *http.Client{
	"HTTP/1.1": func() *http.Client { return newClient(func(p *http.Protocols) { p.SetHTTP1(true) }) },
	"HTTP/2":   func() *http.Client { return newClient(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }) },
}

func newClient(speak func(*http.Protocols)) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	speak(transport.Protocols)
	return &http.Client{Transport: transport, Timeout: patience}
}

// answer is what a caller sees.
type answer struct {
	status     int
	problem    string // code
	retryAfter string
	instance   string
	body       []byte
	cut        error // the answer is visibly not whole
}

// faulty is a node with upstreams that fail: NAME is reached below /NAME, and what is asked of it stands behind.
type faulty struct {
	*node
	t *testing.T
}

// faultyUpstream is one of them.
type faultyUpstream struct {
	name      string
	settings  string // YAML, without the braces
	policies  string // of its operations
	processes []*process
}

func (u *faultyUpstream) first() *process { return u.processes[0] }

// newFaulty starts the node. settings go in front of the upstreams in its environment file.
func newFaulty(t *testing.T, settings string, upstreams ...*faultyUpstream) *faulty {
	t.Helper()
	n := &faulty{newNode(t, nil), t}
	contract := "openapi: 3.1.0\ninfo: {title: Faults, version: 1.0.0}\nsecurity: []\nx-fieldgate:\n  upstreams: {"
	paths := "}\npaths:\n"
	environment := "http: {request-id: X-Request-Id}\n" + settings + "upstreams:\n"
	for _, u := range upstreams {
		if u.settings == "" || !strings.Contains(u.settings, "discover") && !strings.Contains(u.settings, "addresses") {
			addresses := make([]string, len(u.processes))
			for i, p := range u.processes {
				addresses[i] = fmt.Sprintf("'http://%s'", p.address)
			}
			u.settings = strings.TrimSuffix("addresses: ["+strings.Join(addresses, ", ")+"], "+u.settings, ", ")
		}
		environment += fmt.Sprintf("  %s: {%s}\n", u.name, u.settings)
		contract += fmt.Sprintf("%s: {ref: env/%[1]s}, ", u.name)
		paths += fmt.Sprintf(`  /%s/{what}:
    parameters: [{name: what, in: path, required: true, schema: {type: string}}]
    x-fieldgate: {upstream: %[1]s, policies: [{max-body: 64MiB}%s]}
    get: {operationId: %[1]s-get, responses: {'200': {description: ok}}}
    post: {operationId: %[1]s-post, requestBody: {content: {application/octet-stream: {}}}, responses: {'200': {description: ok}}}
`, u.name, u.policies)
	}
	n.rewrite(func(text string) string { return strings.Replace(text, "upstreams:\n  {}\n", environment, 1) })
	n.start()
	n.run("api", "publish", writeDocument(t, "faults.yaml", strings.TrimSuffix(contract, ", ")+paths))
	wait(t, "the contract to be in force", func() bool {
		return n.ask(http.DefaultClient, "GET", "/"+upstreams[0].name+"/plain", nil, nil).status != http.StatusNotFound
	})
	return n
}

// rewrite changes the environment file.
func (n *node) rewrite(change func(text string) string) {
	n.t.Helper()
	text, err := os.ReadFile(n.config)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(n.config, []byte(change(string(text))), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// ask sends a request, and reads the answer as far as it goes. An answer that breaks off is read until release was called.
func (n *faulty) ask(client *http.Client, method, path string, body io.Reader, release func()) answer {
	request, err := http.NewRequest(method, "http://"+n.http+path, body)
	if err != nil {
		n.t.Error(err)
		return answer{cut: err}
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/octet-stream")
	}
	response, err := client.Do(request)
	if release != nil {
		release()
	}
	if err != nil {
		return answer{cut: err}
	}
	defer response.Body.Close()
	got := answer{status: response.StatusCode, retryAfter: response.Header.Get("Retry-After"), instance: response.Header.Get("X-Request-Id")}
	got.body, got.cut = io.ReadAll(response.Body)
	if response.Header.Get("Content-Type") == "application/problem+json" {
		var problem struct{ Type, Instance string }
		if err := json.Unmarshal(got.body, &problem); err != nil || problem.Instance != got.instance {
			n.t.Errorf("%s %s: %v %s, the field names %s", method, path, err, got.body, got.instance)
		}
		got.problem = strings.TrimPrefix(problem.Type, "urn:fieldgate:problem:")
	}
	return got
}

// works waits until a service answers again over each version of HTTP.
func (n *faulty) works(name string) {
	n.t.Helper()
	for version, client := range protocols {
		caller := client()
		var last answer
		wait(n.t, name+" to answer over "+version, func() bool {
			last = n.ask(caller, "GET", "/"+name+"/plain", nil, nil)
			return last.status == http.StatusOK && last.cut == nil
		})
		if last.problem != "" {
			n.t.Errorf("%+v", last)
		}
	}
}

// exchange is a Record as the console shows it.
type exchange struct {
	Status            int
	Problem           string
	Decided, Rule     string
	Findings          []string
	BytesIn, BytesOut int
	Operation         string
}

// recordOf waits for the Record of an exchange.
func (n *faulty) recordOf(instance string) (record exchange) {
	n.t.Helper()
	if instance == "" {
		n.t.Error("the answer does not name its exchange")
		return record
	}
	wait(n.t, "the record of "+instance, func() bool {
		status, body, err := n.node.ask("GET", "/api/v1/traffic/exchanges/"+instance, nil)
		var detail struct{ Exchange exchange }
		if err != nil || status != http.StatusOK {
			return false
		}
		if err := json.Unmarshal(body, &detail); err != nil {
			n.t.Fatal(err)
		}
		record = detail.Exchange
		return true
	})
	return record
}

// expect compares what the caller saw, and what the operator sees of it, with a failure of the upstream's.
func (n *faulty) expect(got answer, upstream string, status int, problem, rule string) {
	n.t.Helper()
	if got.status != status || got.problem != problem || got.cut != nil {
		n.t.Errorf("%s: the caller gets %d %q %v %.200s, not %d %q", upstream, got.status, got.problem, got.cut, got.body, status, problem)
		return
	}
	if (got.retryAfter != "") != (status == http.StatusServiceUnavailable) {
		n.t.Errorf("%s: %d with Retry-After %q", upstream, got.status, got.retryAfter)
	}
	n.expectRecord(got, upstream, status, problem, rule)
}

func (n *faulty) expectRecord(got answer, upstream string, status int, problem, rule string) {
	n.t.Helper()
	record := n.recordOf(got.instance)
	if record.Status != status || record.Problem != problem || record.Decided != "forward" || record.Rule != "upstream "+upstream+" "+rule ||
		slices.Contains(record.Findings, "upstream") != (status != http.StatusServiceUnavailable) { // which is the gateway's own word
		n.t.Errorf("%s: the operator sees %+v, not %d %q by rule %q", upstream, record, status, problem, rule)
	}
}

func megabyte() io.Reader { return bytes.NewReader(make([]byte, 1<<20)) }

// Each way in which a service fails: what the caller sees, what the operator sees, and that all is well again afterwards.
func TestHTTPFaults(t *testing.T) {
	t.Parallel() // it mostly waits
	upstream := func(name, settings string, processes int) *faultyUpstream {
		u := &faultyUpstream{name: name, settings: settings}
		for range processes {
			u.processes = append(u.processes, startProcess(t))
		}
		return u
	}
	killed, underway := upstream("killed", "", 1), upstream("underway", "", 1)
	hanging := upstream("hanging", "timeout: 1s, health: {http: /plain, interval: 200ms, timeout: 1s, unhealthy: 1, healthy: 1}", 1)
	slow, cut, noisy := upstream("slow", "timeout: 1s", 1), upstream("cut", "", 1), upstream("noisy", "", 1)
	half, stuck := upstream("half", "", 4), upstream("stuck", "", 4)
	stuck.policies = ", {retry: {attempts: 2, per-try-timeout: 2s, on: [connect, reset, timeout]}}"
	circuit := upstream("circuit", "timeout: 1s, circuit: {failure-percent: 10, minimum-calls: 4, window: 1h, open: 1s}", 1)
	left := upstream("left", "", 1)
	n := newFaulty(t, "", killed, underway, hanging, slow, cut, noisy, half, stuck, circuit, left)

	run := func(name string, test func(n *faulty)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(&faulty{n.node, t})
		})
	}

	run("killed", func(n *faulty) {
		for _, client := range protocols {
			n.works("killed")
			killed.first().kill()
			for range 2 {
				n.expect(n.ask(client(), "GET", "/killed/plain", nil, nil), "killed", 502, "upstream-unreachable", "unreachable")
				n.expect(n.ask(client(), "POST", "/killed/plain", megabyte(), nil), "killed", 502, "upstream-unreachable", "unreachable")
			}
			n.shows("killed", "that no connection comes about", func(u *upstreamState) bool { return u.ill("no connection came about: connection refused") == 1 })
			killed.first().start()
			n.works("killed")
			n.showsHealthy("killed")
		}
	})

	run("killed while calls are under way", func(n *faulty) {
		for _, client := range protocols {
			n.works("underway")
			var answers [10]answer
			var asking sync.WaitGroup
			for i := range answers {
				asking.Go(func() {
					if i%2 == 0 {
						answers[i] = n.ask(client(), "GET", "/underway/waits", nil, nil)
					} else {
						answers[i] = n.ask(client(), "POST", "/underway/waits", megabyte(), nil)
					}
				})
			}
			wait(n.t, "the calls to be under way", func() bool { return underway.first().asked().Waiting == int64(len(answers)) })
			underway.first().kill()
			asking.Wait()
			for _, got := range answers {
				n.expect(got, "underway", 502, "upstream-unreachable", "unreachable")
			}
			underway.first().start()
			n.works("underway")
		}
	})

	run("hanging", func(n *faulty) {
		for _, client := range protocols {
			n.works("hanging")
			hanging.first().pause()
			n.expect(n.ask(client(), "GET", "/hanging/plain", nil, nil), "hanging", 504, "upstream-timeout", "timeout")
			n.expect(n.ask(client(), "POST", "/hanging/plain", megabyte(), nil), "hanging", 504, "upstream-timeout", "timeout")
			n.shows("hanging", "the check that fails", func(u *upstreamState) bool { return u.ill("check: timed out after ") == 1 })
			hanging.first().resume()
			n.works("hanging")
			n.showsHealthy("hanging")
		}
	})

	run("slow", func(n *faulty) {
		for _, client := range protocols {
			if got := n.ask(client(), "GET", "/left/drip?bytes=30", nil, nil); got.status != 200 || len(got.body) != 30 || got.cut != nil {
				n.t.Errorf("slow, but in time: %+v", got)
			}
			got := n.ask(client(), "GET", "/slow/drip?bytes=10000", nil, nil)
			if got.status == http.StatusGatewayTimeout { // on a slow machine, before the first byte
				n.expect(got, "slow", 504, "upstream-timeout", "timeout")
				continue
			}
			if got.status != 200 || got.cut == nil {
				n.t.Errorf("an answer that does not end in time is taken for whole: %d, %d bytes", got.status, len(got.body))
			}
			n.expectRecord(got, "slow", 504, "upstream-timeout", "timeout")
		}
		n.works("slow")
	})

	run("answers that break off", func(n *faulty) {
		count := 0
		for version, client := range protocols {
			for _, how := range []string{"length", "chunked", "close"} {
				for by, problem := range map[string]string{"reset": "upstream-unreachable", "end": "upstream-invalid"} {
					if how == "close" && by == "end" { // it is how such an answer ends
						continue
					}
					for _, size := range []int{500, 500_000} {
						count++
						name := strconv.Itoa(count)
						got := n.ask(client(), "GET", fmt.Sprintf("/cut/cut?how=%s&by=%s&bytes=%d&name=%s", how, by, size, name), nil, func() { cut.first().release(name) })
						if got.status != 200 || got.cut == nil || len(got.body) > size {
							n.t.Errorf("%s: %s, %s after %d bytes: the caller takes %d and %d bytes for an answer", version, how, by, size, got.status, len(got.body))
						}
						rule := map[string]string{"reset": "unreachable", "end": "invalid answer"}[by]
						n.expectRecord(got, "cut", 502, problem, rule)
						n.works("cut")
					}
				}
			}
			got := n.ask(client(), "POST", "/cut/refuses", bytes.NewReader(make([]byte, 20<<20)), nil)
			n.expect(got, "cut", 502, "upstream-unreachable", "unreachable")
			n.works("cut")
		}
	})

	run("garbage", func(n *faulty) {
		for _, client := range protocols {
			for kind := range garbage {
				problem, rule := "upstream-invalid", "invalid answer"
				if kind == "nothing" {
					problem, rule = "upstream-unreachable", "unreachable"
				}
				got := n.ask(client(), "POST", "/noisy/garbage?kind="+kind, nil, nil)
				if kind == "bad-chunk" && got.status == 200 { // its head was passed on
					if got.cut == nil {
						n.t.Errorf("%s: %+v is taken for whole", kind, got)
					}
					n.expectRecord(got, "noisy", 502, problem, rule)
				} else {
					n.expect(got, "noisy", 502, problem, rule)
				}
			}
			n.works("noisy")
		}
	})

	run("half of a pool killed", func(n *faulty) {
		n.works("half")
		for _, p := range half.processes[:2] {
			p.kill()
		}
		for version, client := range protocols {
			caller := client()
			for range 50 {
				for _, got := range []answer{n.ask(caller, "GET", "/half/plain", nil, nil), n.ask(caller, "POST", "/half/plain", megabyte(), nil)} {
					if got.status != 200 || got.cut != nil {
						n.t.Fatalf("%s: with two of four addresses left a caller gets %+v", version, got)
					}
				}
			}
		}
		n.shows("half", "two dead addresses", func(u *upstreamState) bool { return u.ill("no connection") == 2 && u.Healthy == 2 })
		for _, p := range half.processes[:2] {
			p.start()
		}
		n.allAnswer(half)
		n.showsHealthy("half")
	})

	run("half of a pool hanging", func(n *faulty) {
		n.works("stuck")
		for _, p := range stuck.processes[:2] {
			p.pause()
		}
		for version, client := range protocols {
			caller := client()
			var asking sync.WaitGroup
			for range 16 {
				asking.Go(func() {
					for range 5 {
						if got := n.ask(caller, "GET", "/stuck/plain", nil, nil); got.status != 200 || got.cut != nil {
							n.t.Errorf("%s: with two of four addresses hanging, and tries of 2 s, a caller gets %+v", version, got)
						}
					}
				})
			}
			asking.Wait()
		}
		for _, p := range stuck.processes[:2] {
			p.resume()
		}
		n.allAnswer(stuck)
		n.shows("stuck", "two addresses that failed", func(u *upstreamState) bool {
			return len(u.Addresses) == 4 && len(slices.DeleteFunc(u.Addresses, func(a addressState) bool { return a.Failures < 5 })) == 2
		})
		n.showsHealthy("stuck")
	})

	run("a circuit", func(n *faulty) {
		for _, client := range protocols {
			n.works("circuit")
			circuit.first().pause()
			var got answer
			wait(n.t, "the circuit to open", func() bool {
				got = n.ask(client(), "GET", "/circuit/plain", nil, nil)
				return got.status != http.StatusGatewayTimeout
			})
			n.expect(got, "circuit", 503, "overloaded", "busy")
			n.shows("circuit", "the circuit that is open", func(u *upstreamState) bool { return u.Circuit == "open" || u.Circuit == "half-open" })
			circuit.first().resume()
			n.works("circuit")
			n.showsHealthy("circuit")
		}
	})

	run("callers that leave", func(n *faulty) { n.callersLeave(left) })
}

// allAnswer waits until each address of the pool is used again.
func (n *faulty) allAnswer(u *faultyUpstream) {
	n.t.Helper()
	heard := make(map[int]bool)
	client := protocols["HTTP/1.1"]()
	wait(n.t, "each address of "+u.name+" to answer", func() bool {
		var body struct{ Process int }
		if got := n.ask(client, "GET", "/"+u.name+"/plain", nil, nil); got.status == http.StatusOK && json.Unmarshal(got.body, &body) == nil {
			heard[body.Process] = true
		}
		return len(heard) == len(u.processes)
	})
}

// callersLeave checks that a caller who goes in the middle of something costs nobody else anything, that the service is told, and that
// the Record is there.
func (n *faulty) callersLeave(u *faultyUpstream) {
	t, service := n.t, u.first()
	aborted := service.asked().Aborted
	toldSo := func(what string) {
		t.Helper()
		aborted++
		wait(t, "the service to be told of "+what, func() bool { return service.asked().Aborted == aborted })
	}
	newest := func(operation, what string, is func(r exchange) bool) {
		t.Helper()
		var seen []exchange
		wait(t, "the record of "+what, func() bool {
			var page struct{ Items []exchange }
			n.adminGet("/api/v1/traffic?limit=20&filter=operation:"+operation, &page)
			seen = page.Items
			return slices.ContainsFunc(seen, is)
		})
	}

	// Over HTTP/1.1: while it sends, by a reset and by an end; while it reads.
	for _, reset := range []bool{true, false} {
		link, err := net.Dial("tcp", n.http)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(link, "POST /left/plain HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", 1<<20)
		link.Write(make([]byte, 300_000))
		if reset {
			link.(*net.TCPConn).SetLinger(0)
		}
		link.Close()
		toldSo("content that breaks off")
		newest("left-post", "a caller that left while it sent", func(r exchange) bool { return r.Status == 400 && r.Problem == "bad-request" && r.BytesIn < 1<<20 })
	}
	link, err := net.Dial("tcp", n.http)
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	fmt.Fprintf(link, "GET /left/download?bytes=%d HTTP/1.1\r\nHost: a\r\n\r\n", size)
	io.ReadFull(link, make([]byte, 100_000))
	link.Close()
	toldSo("an answer that nobody reads")
	newest("left-get", "a caller that left while it read", func(r exchange) bool { return r.BytesOut >= 100_000 && r.BytesOut < size })

	// Over HTTP/2: while it sends, while it waits, and while it reads.
	client := protocols["HTTP/2"]()
	call := func(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
		request, err := http.NewRequestWithContext(ctx, method, "http://"+n.http+path, body)
		if err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", "application/octet-stream")
		return client.Do(request)
	}
	for method, body := range map[string]io.Reader{"POST": endless{}, "GET": nil} {
		ctx, leave := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := call(ctx, method, "/left/waits", body)
			ended <- err
		}()
		wait(t, "the call to be under way", func() bool { return service.asked().Waiting == 1 })
		leave()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		toldSo("a " + method + " whose caller left over HTTP/2")
		newest("left-"+strings.ToLower(method), "a "+method+" whose caller left over HTTP/2", func(r exchange) bool {
			return r.Status == 499 && r.Problem == "caller-left" && r.Rule == "caller left" && len(r.Findings) == 0
		})
	}
	response, err := call(t.Context(), "GET", fmt.Sprintf("/left/download?bytes=%d", size), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(response.Body, make([]byte, 100_000))
	response.Body.Close()
	toldSo("an answer that nobody reads over HTTP/2")
	var page struct{ Items []exchange }
	wait(t, "the records of all who left", func() bool {
		n.adminGet("/api/v1/traffic?limit=200&filter=operation:left-get", &page)
		begun := 0
		for _, r := range page.Items {
			if r.BytesOut >= 100_000 {
				begun++
			}
		}
		return begun == 2
	})
	for _, r := range page.Items {
		if slices.Contains(r.Findings, "upstream") || r.Status >= 500 {
			t.Errorf("the service is blamed for a caller that left: %+v", r)
		}
	}
	n.works("left")
}

// endless is content that goes on slowly for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return min(len(p), 1000), nil
}
