package test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

const (
	openWebSockets = 2000
	openStreams    = 100
)

// Contracts, upstreams and certificates change while requests, 2,000 WebSockets and long answers go on: no request fails, none of them is
// closed, and memory stays what it was. FIELDGATE_SOAK_CHANGES says how many changes (default 200).
func TestChangesDisturbNobody(t *testing.T) {
	changes := 200
	if text := os.Getenv("FIELDGATE_SOAK_CHANGES"); text != "" {
		changes, _ = strconv.Atoi(text)
	}
	service := startProcess(t)
	n := newNode(t, map[string]string{"main": "http://" + service.address})
	n.start()
	n.run("api", "publish", writeDocument(t, "stable.yaml", `
openapi: 3.1.0
info: {title: Stable, version: 1.0.0}
x-fieldgate: {upstreams: {main: {ref: env/main}}, upstream: main}
security: []
paths:
  /chat: {get: {operationId: chat, x-fieldgate: {websocket: true}, responses: {'101': {description: ok}}}}
  /watch: {get: {operationId: watch, responses: {'200': {description: ok}}}}
  /drip: {get: {operationId: drip, x-fieldgate: {policies: [{timeout: 1m}]}, responses: {'200': {description: ok}}}}
  /plain: {get: {operationId: plain, responses: {'200': {description: ok}}}}
`))

	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	var failed, requests atomic.Int64
	fail := func(format string, arguments ...any) {
		if ctx.Err() == nil && failed.Add(1) < 10 {
			t.Errorf(format, arguments...)
		}
	}

	links := make([]*websocket.Conn, openWebSockets)
	for i := range links {
		link, _, err := websocket.Dial(ctx, "ws://"+n.http+"/chat", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer link.CloseNow()
		links[i] = link
	}
	for range openStreams {
		response, err := http.Get("http://" + n.http + "/watch?every=1s")
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			defer response.Body.Close()
			stop := context.AfterFunc(ctx, func() { response.Body.Close() })
			defer stop()
			_, err := io.Copy(io.Discard, response.Body)
			fail("an event stream ended: %v", err)
		})
	}
	for range 4 { // plain requests, and long answers one after the other
		running.Go(func() {
			for ctx.Err() == nil {
				response, err := http.Get("http://" + n.http + "/plain")
				if err != nil {
					fail("%v", err)
					continue
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != 200 || !strings.Contains(string(body), "received") {
					fail("a request failed: %s %q %v", response.Status, body, err)
				}
				requests.Add(1)
			}
		})
		running.Go(func() {
			for ctx.Err() == nil {
				request, _ := http.NewRequestWithContext(ctx, "GET", "http://"+n.http+"/drip?bytes=1000000&piece=4000", nil)
				response, err := http.DefaultClient.Do(request)
				if err != nil {
					fail("%v", err)
					continue
				}
				size, err := io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if err != nil || size != 1_000_000 {
					fail("a long answer was cut at %d: %v", size, err)
				}
			}
		})
	}

	environment, err := os.ReadFile(n.config)
	if err != nil {
		t.Fatal(err)
	}
	change := func(i int) {
		n.publish(fmt.Sprintf(`
openapi: 3.1.0
info: {title: Changing, version: 1.0.0, description: change %d}
security: []
paths:
  /changing/%d: {get: {operationId: read, responses: {'200': {description: ok, content: {application/json: {example: {change: %[1]d}}}}}}}
`, i, i%7))
		if i%10 == 0 { // another upstream comes or goes, and the settings of one in use change
			text := strings.Replace(string(environment), "timeout: 10s", fmt.Sprintf("timeout: %ds", 10+i/10%5), 1)
			if i%20 == 0 {
				text += fmt.Sprintf("  other: {addresses: ['http://127.0.0.1:%d']}\n", 20000+i)
			}
			if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			n.process.Process.Signal(syscall.SIGHUP)
		}
	}
	var quarter, after figures
	t.Logf("at the start %+v", n.figures())
	for i := range changes {
		change(i)
		if done := i + 1; done%(changes/4) == 0 {
			after = n.figures()
			t.Logf("after %d changes and %d requests %+v", done, requests.Load(), after)
			if quarter == (figures{}) {
				quarter = after
			}
		}
	}
	if most := quarter.resident + quarter.resident/4 + 16; after.resident > most { // the collector may be behind
		wait(t, fmt.Sprintf("memory to be given back, which grew from %d to %d MiB over the last three quarters of %d changes", quarter.resident, after.resident, changes),
			func() bool { return n.memory()>>20 <= most })
	}
	for i, link := range links {
		want := fmt.Sprint("still there ", i)
		if err := link.Write(ctx, websocket.MessageText, []byte(want)); err != nil {
			fail("WebSocket %d was closed: %v", i, err)
			continue
		}
		if _, got, err := link.Read(ctx); err != nil || string(got) != want {
			fail("WebSocket %d: %q, %v", i, got, err)
		}
	}
	if failed.Load() > 0 || requests.Load() == 0 {
		t.Errorf("%d of %d requests and streams failed", failed.Load(), requests.Load())
	}
	cancel()
}

// publish publishes a document through the admin API.
func (n *node) publish(document string) {
	n.t.Helper()
	token, err := os.ReadFile(filepath.Join(n.folder, "data", "operator.token"))
	if err != nil {
		n.t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodPost, "http://"+n.admin+"/api/v1/apis", strings.NewReader(document))
	if err != nil {
		n.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/yaml")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode > 299 {
		n.t.Fatalf("publish: %s %s", response.Status, answer)
	}
}

func writeDocument(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
