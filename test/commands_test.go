package test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

const pump = `openapi: 3.1.0
info: {title: Pump, version: 1.0.0}
x-fieldgate: {upstreams: {pump: {ref: env/pump}}, upstream: pump}
paths:
  /doses:
    post:
      operationId: dose
      x-fieldgate: {policies: [{idempotency: {required: true}}]}
      requestBody: {content: {text/plain: {}}}
      responses: {'201': {description: given}}
components:
  securitySchemes: {token: {type: http, scheme: bearer}}
security: [{token: []}]
`

// A command is carried out once, whichever gateway is asked, also when one is killed before or after it has answered, and when all of
// the bus is. While the bus is away none is carried out.
func TestCommandsOfTwoGateways(t *testing.T) {
	t.Parallel() // it mostly waits
	var calls atomic.Int32
	hanging, hang := make(chan struct{}, 1), atomic.Bool{}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		io.Copy(io.Discard, r.Body) // before which the server does not notice that its caller has left
		if hang.Load() {
			hanging <- struct{}{}
			<-r.Context().Done()
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, "dose ", n)
	}))
	t.Cleanup(service.Close)
	e := newEngines(t)
	control, gateways := e.member(t, "control", "c1"), []*node{e.member(t, "gateway", "g1"), e.member(t, "gateway", "g2")}
	for _, g := range gateways {
		g.extend("upstreams: {pump: {addresses: ['%s'], timeout: 10s}}", service.URL) // in which another gateway is asked, and one killed
	}
	control.start()
	for _, g := range gateways {
		g.start()
	}
	waitForGateways(t, control, 2)
	path := filepath.Join(control.folder, "pump.yaml")
	if err := os.WriteFile(path, []byte(pump), 0o600); err != nil {
		t.Fatal(err)
	}
	control.run("api", "publish", path)
	token := control.run("device", "add", "p1", "--quiet")
	give := func(gateway int, key string) string {
		request, err := http.NewRequest(http.MethodPost, "http://"+gateways[gateway].http+"/doses", strings.NewReader("2 ml"))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Authorization": "Bearer " + token, "Content-Type": "text/plain", "Idempotency-Key": key} {
			request.Header.Set(name, value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		content, _ := io.ReadAll(response.Body)
		return fmt.Sprint(response.StatusCode, " ", string(content), " ", response.Header.Get("Idempotent-Replayed"))
	}
	expect := func(what string, gateway int, key, want string, called int32) {
		t.Helper()
		wait(t, what, func() bool {
			got := give(gateway, key)
			if calls.Load() > called {
				t.Fatalf("%s: the service was called %d times", what, calls.Load())
			}
			return strings.Contains(got, want)
		})
	}

	expect("a command", 0, "k1", "201 dose 1", 1)
	gateways[0].kill()
	expect("what a killed gateway has answered", 1, "k1", "201 dose 1 true", 1)
	gateways[0].start()
	expect("what the gateway has answered before it was killed", 0, "k1", "201 dose 1 true", 1)

	hang.Store(true)
	var cut sync.WaitGroup
	cut.Go(func() { give(0, "k2") })
	<-hanging
	if got := give(1, "k2"); !strings.Contains(got, "command-running") {
		t.Error(got)
	}
	gateways[0].kill()
	cut.Wait()
	hang.Store(false)
	if got := give(1, "k2"); !strings.Contains(got, "command-running") {
		t.Error(got)
	}
	expect("nobody knows what became of it", 1, "k2", "command-unknown", 2)
	gateways[0].start()
	expect("nor does the gateway that was killed", 0, "k2", "command-unknown", 2)

	for i := range e.nats.Size() {
		e.nats.Kill(i)
	}
	expect("no command without the bus", 1, "k3", "503 ", 2)
	for i := range e.nats.Size() {
		e.nats.Start(i)
	}
	e.nats.Ready()
	expect("a command when the bus is back", 1, "k3", "201 dose 3", 3)
	expect("the same at the other gateway", 0, "k3", "201 dose 3 true", 3)
	expect("what was answered before", 0, "k1", "201 dose 1 true", 3)
}
