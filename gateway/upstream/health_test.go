package upstream

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"fieldgate"
	"fieldgate/test/port"
)

// Thresholds: so many checks in a row change an address, and one the other way begins the count anew.
func TestHealthThresholds(t *testing.T) {
	u := pretend(t, 2, fieldgate.Upstream{Health: fieldgate.HealthCheck{Healthy: 2, Unhealthy: 3}})
	a := u.addresses()[0]
	down := errors.New("no answer")
	now := time.Now()
	for i, step := range []struct {
		result  error
		healthy bool
	}{{down, true}, {down, true}, {nil, true}, {down, true}, {down, true}, {down, false}, {nil, false}, {down, false}, {nil, false}, {nil, true}, {down, true}} {
		now = now.Add(time.Second)
		u.checked(a, now, step.result)
		state := u.state(now).Addresses[0]
		if state.Healthy != step.healthy || (a.weight() > 0) != step.healthy || !step.healthy && state.Why != "check: no answer" {
			t.Fatalf("after check %d: %+v", i+1, state)
		}
		if changed := i == 5 || i == 9; changed && state.Since.Sub(now).Abs() > time.Millisecond {
			t.Errorf("after check %d: it is so since %v", i+1, state.Since)
		}
	}
	// A check that reaches an address ends an ejection for want of a connection, not one for failures.
	after(a, now, unreachable)
	u.checked(a, now, nil)
	if a.weight() == 0 {
		t.Error("the check connects, and the address is left out")
	}
	for range 5 {
		after(a, now, timedOut)
	}
	u.checked(a, now, nil)
	if a.weight() != 0 {
		t.Error("the check ends an ejection for failures")
	}
}

// service is one that a test takes down and up again, at one address.
type service struct {
	url      string
	up, down func()
}

func httpService(t *testing.T) *service {
	status := new(atomic.Int32)
	status.Store(200)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || r.Host != "api.example" || r.Method != "GET" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(int(status.Load()))
		io.WriteString(w, "ok")
	}))
	t.Cleanup(server.Close)
	return &service{server.URL, func() { status.Store(207) }, func() { status.Store(500) }}
}

func tcpService(t *testing.T) *service {
	address := port.Free(t)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return &service{"http://" + address,
		func() {
			if listener, err = net.Listen("tcp", address); err != nil {
				t.Fatal(err)
			}
		},
		func() { listener.Close() }}
}

func grpcService(t *testing.T) *service {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, states := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, states)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-ended
	})
	set := func(status grpc_health_v1.HealthCheckResponse_ServingStatus) func() {
		return func() { states.SetServingStatus("models.v1", status) }
	}
	set(grpc_health_v1.HealthCheckResponse_SERVING)()
	return &service{"http://" + listener.Addr().String(), set(grpc_health_v1.HealthCheckResponse_SERVING), set(grpc_health_v1.HealthCheckResponse_NOT_SERVING)}
}

// Real services go down and come up again; Run's checks notice both.
func TestHealthChecks(t *testing.T) {
	for name, test := range map[string]struct {
		service *service
		check   fieldgate.HealthCheck
		why     string
	}{
		"http": {httpService(t), fieldgate.HealthCheck{Kind: fieldgate.HealthHTTP, Path: "/healthz", Host: "api.example",
			Statuses: []fieldgate.StatusRange{{From: 200, To: 200}, {From: 207, To: 207}}}, "check: answered 500"},
		"tcp":  {tcpService(t), fieldgate.HealthCheck{Kind: fieldgate.HealthTCP}, "refused"},
		"grpc": {grpcService(t), fieldgate.HealthCheck{Kind: fieldgate.HealthGRPC, Service: "models.v1"}, "check: the service says NOT_SERVING"},
	} {
		t.Run(name, func(t *testing.T) {
			test.check.Interval, test.check.Timeout, test.check.Healthy, test.check.Unhealthy = 10*time.Millisecond, time.Minute, 1, 1
			s, err := NewSet([]fieldgate.Upstream{{Name: "a", Addresses: []string{test.service.url}, Health: test.check}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				s.Run(ctx)
				close(ended)
			}()
			defer func() {
				cancel()
				<-ended
			}()
			until := func(healthy bool) {
				for s.States()[0].Addresses[0].Healthy != healthy {
					time.Sleep(time.Millisecond)
				}
			}
			until(true)
			test.service.down()
			until(false)
			// The first check after a listener's end may have been in its backlog, and is reset; the next one says what is there now.
			for !strings.Contains(s.States()[0].Addresses[0].Why, test.why) {
				time.Sleep(time.Millisecond)
			}
			test.service.up()
			until(true)
		})
	}
}

// Checks that fail: the wrong status, nothing that listens, an answer that does not come, a certificate that nobody vouches for.
func TestFailingChecks(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of our refusal
	secure.StartTLS()
	defer secure.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for _, url := range []string{plain.URL, secure.URL, "http://" + silent.Addr().String(), "http://" + port.Free(t)} {
		for _, kind := range []fieldgate.HealthKind{fieldgate.HealthHTTP, fieldgate.HealthGRPC, fieldgate.HealthTCP} {
			check := fieldgate.HealthCheck{Kind: kind}
			if strings.Contains(url, silent.Addr().String()) && kind != fieldgate.HealthTCP {
				check.Timeout = 100 * time.Millisecond // the others say how it is, however slow they are
			}
			u := newSet(t, fieldgate.Upstream{Addresses: []string{url}, Health: check})
			err := u.checkAddress(t.Context(), u.addresses()[0])
			connects := url == plain.URL || strings.Contains(url, silent.Addr().String())
			if (err == nil) != (kind == fieldgate.HealthTCP && connects) {
				t.Errorf("%s of %s: %v", kind, url, err)
			}
		}
	}
}
