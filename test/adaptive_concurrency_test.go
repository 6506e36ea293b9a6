package test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// narrow is a service that works on eight requests at once and lets the others wait.
type narrow struct {
	places   chan struct{}
	takes    atomic.Int64 // nanoseconds for each request
	underWay atomic.Int64
	most     atomic.Int64 // under way at once, waiting ones too
}

func (s *narrow) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	n := s.underWay.Add(1)
	defer s.underWay.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	s.places <- struct{}{}
	time.Sleep(time.Duration(s.takes.Load()))
	<-s.places
	io.WriteString(w, "ok")
}

// told counts the answers that callers of one priority got.
type told struct{ served, refused, other atomic.Int64 }

func (c *told) String() string {
	return fmt.Sprintf("%d served, %d refused", c.served.Load(), c.refused.Load())
}

// call calls operations until the context ends: so many callers of each priority, each waiting for its answer.
func (n *node) call(ctx context.Context, callers map[string]int) (answers map[string]*told, end func()) {
	answers = make(map[string]*told)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	for priority, count := range callers {
		counts := new(told)
		answers[priority] = counts
		for range count {
			all.Go(func() {
				for ctx.Err() == nil {
					answer, err := client.Get("http://" + n.http + "/" + priority)
					if err != nil {
						counts.other.Add(1)
						continue
					}
					io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
					switch answer.StatusCode {
					case http.StatusOK:
						counts.served.Add(1)
					case http.StatusServiceUnavailable:
						if counts.refused.Add(1); answer.Header.Get("Retry-After") == "" {
							counts.other.Add(1)
						}
						time.Sleep(10 * time.Millisecond)
					default:
						counts.other.Add(1)
					}
				}
			})
		}
	}
	return answers, func() {
		stop()
		all.Wait()
		client.CloseIdleConnections()
	}
}

// A service becomes ten times slower while many call it: the gateway asks less of it, refuses what matters least first and what matters most
// never, and all is served again when the service has recovered.
func TestAdaptiveConcurrency(t *testing.T) {
	service := &narrow{places: make(chan struct{}, 8)}
	service.takes.Store(int64(5 * time.Millisecond))
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	n := newNode(t, nil)
	n.rewrite(func(text string) string {
		return strings.Replace(text, "upstreams:\n  {}\n", fmt.Sprintf("upstreams:\n  slow: {addresses: ['%s'], adaptive-concurrency: {min: 10, max: 200}}\n", server.URL), 1)
	})
	n.start()
	document := "openapi: 3.1.0\ninfo: {title: Priorities, version: 1.0.0}\nsecurity: []\nx-fieldgate: {upstreams: {slow: {ref: env/slow}}, upstream: slow}\npaths:\n"
	for _, priority := range []string{"critical", "normal", "background"} {
		document += fmt.Sprintf("  /%s:\n    get: {operationId: %[1]s, x-fieldgate: {priority: %[1]s}, responses: {'200': {description: ok}}}\n", priority)
	}
	n.run("api", "publish", writeDocument(t, "priorities.yaml", document))
	light := map[string]int{"critical": 1, "normal": 2, "background": 3}
	quiet := func() bool { // a second in which everybody is served
		answers, end := n.call(t.Context(), light)
		time.Sleep(time.Second)
		end()
		for priority, counts := range answers {
			if counts.refused.Load() > 0 || counts.other.Load() > 0 || counts.served.Load() == 0 {
				return false
			}
			t.Logf("light load, %s: %v", priority, counts)
		}
		return true
	}
	wait(t, "everybody to be served", quiet)

	service.takes.Store(int64(50 * time.Millisecond))
	answers, end := n.call(t.Context(), map[string]int{"critical": 1, "normal": 20, "background": 60})
	service.most.Store(0)
	time.Sleep(100 * time.Millisecond)
	first := service.most.Load()
	wait(t, "the limit to shrink to what the service carries", func() bool {
		service.most.Store(0)
		time.Sleep(500 * time.Millisecond)
		return service.most.Load() <= 12
	})
	before := map[string]int64{}
	for priority, counts := range answers {
		before[priority] = counts.served.Load()
		counts.refused.Store(0)
	}
	service.most.Store(0)
	time.Sleep(3 * time.Second)
	last := service.most.Load()
	end()
	t.Logf("at once at the slow service: %d at first, %d when the limit had shrunk", first, last)
	share := make(map[string]float64)
	for priority, counts := range answers {
		served, refused := counts.served.Load()-before[priority], counts.refused.Load()
		share[priority] = float64(served) / float64(max(served+refused, 1))
		t.Logf("overload, %s: %d served, %d refused (%.1f %% served)", priority, served, refused, 100*share[priority])
		if counts.other.Load() > 0 {
			t.Errorf("%s: %d answers were neither 200 nor 503 with Retry-After", priority, counts.other.Load())
		}
	}
	if first <= last {
		t.Errorf("the gateway asks as much of the slow service as before: %d, then %d at once", first, last)
	}
	if share["critical"] < 1 {
		t.Errorf("critical calls were refused")
	}
	if share["background"] >= share["normal"] || share["background"] >= 0.5 {
		t.Errorf("background calls are not the first to be refused")
	}

	service.takes.Store(int64(5 * time.Millisecond))
	wait(t, "everybody to be served again", quiet)
}
