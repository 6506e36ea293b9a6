package httpfront

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Whoever holds connections without using them is thrown out, and nothing of it stays: neither connections nor goroutines. Meanwhile
// others are served.
func TestFloodsLeaveNothing(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 16<<20)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(big)
	}))
	defer service.Close()
	const head = " HTTP/1.1\r\nHost: a\r\n"
	for name, attack := range map[string]struct {
		first string // what each connection sends
		drip  string // and then again and again
		reads bool
	}{
		"idle connections":      {reads: true},
		"slow heads":            {first: "GET /mock" + head, drip: "X", reads: true},
		"slow request lines":    {first: "GET /", drip: "a", reads: true},
		"slow content":          {first: "PUT /legacy/1" + head + "Content-Length: 100000\r\n\r\n", drip: "x", reads: true},
		"slow streamed content": {first: "PUT /legacy/1" + head + "Content-Length: 10000000\r\n\r\n", drip: "x", reads: true},
		"slow chunks":           {first: "PUT /legacy/1" + head + "Transfer-Encoding: chunked\r\n\r\n", drip: "1\r\nx\r\n", reads: true},
		"slow chunk lines":      {first: "PUT /legacy/1" + head + "Transfer-Encoding: chunked\r\n\r\n1;", drip: "x", reads: true},
		"fields without end":    {first: "GET /mock" + head, drip: strings.Repeat("X: y\r\n", 200), reads: true},
		"a field without end":   {first: "GET /mock" + head + "X: ", drip: strings.Repeat("y", 1000), reads: true},
		"slow readers":          {first: "GET /legacy/1" + head + "\r\n"},
		"pipelined requests":    {first: strings.Repeat("GET /mock"+head+"\r\n", 100), drip: strings.Repeat("GET /mock"+head+"\r\n", 2000)},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, service.URL, func(c *Config) {
				c.IdleTimeout, c.BodyTimeout, c.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
				c.HeadTimeout = 2 * time.Second // which the others have too, on a machine that is slow and busy with the attack
			})
			g.raw(t, bye)
			before := runtime.NumGoroutine()
			var attackers sync.WaitGroup
			attackersOf := 50
			if name == "pipelined requests" { // the kernel holds megabytes of answers for each
				attackersOf = 4
			}
			for range attackersOf {
				attackers.Go(func() {
					link, err := net.Dial("tcp", g.address)
					if err != nil {
						t.Error(err)
						return
					}
					defer link.Close()
					thrownOut := make(chan struct{})
					if attack.reads {
						go func() {
							defer close(thrownOut)
							io.Copy(io.Discard, link)
						}()
					} else {
						link.(*net.TCPConn).SetReadBuffer(4 << 10)
					}
					if _, err := io.WriteString(link, attack.first); err != nil {
						return
					}
					for {
						select {
						case <-thrownOut:
							return
						case <-time.After(20 * time.Millisecond):
						}
						link.SetWriteDeadline(time.Now().Add(time.Second)) // a full socket may not hear of its end
						drip := attack.drip
						if drip == "" && !attack.reads {
							drip = "x" // only to notice the end
						}
						if _, err := io.WriteString(link, drip); err != nil {
							return
						}
					}
				})
			}
			for range 5 { // others are served
				if answer := g.raw(t, bye); !strings.Contains(answer, `{"mock":true}`) {
					t.Errorf("meanwhile: %s", answer)
				}
			}
			attackers.Wait()
			for g.Stats().Connections > 0 || runtime.NumGoroutine() > before+5 { // a few belong to the service's idle connections
				time.Sleep(5 * time.Millisecond)
				service.CloseClientConnections()
			}
		})
	}
}
