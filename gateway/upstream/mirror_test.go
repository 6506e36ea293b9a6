package upstream

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
)

// Copies are sent and their answers dropped; those beyond the bound are counted and not sent; none outlives the set.
func TestMirror(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	release := make(chan struct{})
	var arrived atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || r.URL.Path != "/copy" || string(content) != "content" || r.Header.Get("X-A") != "1" {
			t.Errorf("%s %s %q", r.Method, r.URL, content)
		}
		arrived.Add(1)
		<-release
	}))
	defer server.Close()
	s, err := NewSet([]fieldgate.Upstream{{Name: "shadow", Addresses: []string{server.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	u := s.Upstream("shadow")
	request := &Request{Method: "POST", Target: "/copy", Body: []byte("content"), Fields: []Field{{Name: "X-A", Value: "1"}}}
	for range maxMirrors + 10 {
		s.Mirror(u, request)
	}
	for arrived.Load() < maxMirrors {
		time.Sleep(time.Millisecond)
	}
	if stats := u.CallStats(); stats.Mirroring != maxMirrors || stats.MirrorsDropped != 10 {
		t.Errorf("%+v", stats)
	}
	close(release)
	for u.CallStats().Mirroring > 0 {
		time.Sleep(time.Millisecond)
	}
	s.Mirror(u, request)
	for arrived.Load() < maxMirrors+1 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Run(ctx)
	s.Mirror(u, request)
	if stats := u.CallStats(); stats.Mirroring != 0 || stats.MirrorsDropped != 11 || arrived.Load() != maxMirrors+1 {
		t.Errorf("after the end: %+v, %d arrived", stats, arrived.Load())
	}
	server.Close()
	settle(t, goroutines)
}

// A mirror that hangs is cut when the set ends.
func TestMirrorEndsWithTheSet(t *testing.T) {
	release := make(chan struct{})
	address, requests := hanging(t, release)
	defer close(release)
	s, err := NewSet([]fieldgate.Upstream{{Name: "shadow", Addresses: []string{address}, Timeout: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	s.Mirror(s.Upstream("shadow"), &Request{Method: "GET", Target: "/"})
	for requests.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Run(ctx)
	if n := s.Upstream("shadow").CallStats().Mirroring; n != 0 {
		t.Errorf("%d copies are still under way", n)
	}
}
