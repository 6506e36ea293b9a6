package httpfront

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// FuzzFront sends any bytes to a front that has a service behind it: whatever comes, the answers are clean messages, there are no
// more of them than records, and the front goes on.
func FuzzFront(f *testing.F) {
	g := newGateway(f, newService(f), func(c *Config) { c.HeadTimeout, c.BodyTimeout = time.Second, time.Second })
	for _, seed := range []string{
		"GET /mock HTTP/1.1\r\nHost: a\r\n\r\nGET /items/1?x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
		"PUT /items/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /mock HTTP/1.0\r\n\r\n",
		"PUT /legacy/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
		"PATCH /items/1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n{\"temp\":1}",
		"GET /events/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nCONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		before := g.records.count()
		link, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer link.Close()
		link.SetDeadline(time.Now().Add(time.Minute))
		link.Write(stream) // the front may close before it has all
		link.(*net.TCPConn).CloseWrite()
		if strings.Contains(string(stream), "HEAD") {
			io.Copy(io.Discard, link)
			return // what follows the head of an answer depends on the method
		}
		in := bufio.NewReader(link)
		answers := 0
		for {
			if _, err := in.Peek(1); err != nil {
				break
			}
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("answer %d: %v", answers, err)
			}
			if answer.StatusCode == 101 || answer.Header.Get("Content-Type") == "text/event-stream" {
				return // it ends with the client
			}
			if _, err := io.ReadAll(answer.Body); err != nil {
				t.Fatalf("content of answer %d: %v", answers, err)
			}
			if answer.StatusCode != 100 {
				answers++
			}
		}
		if answers > 0 {
			g.records.next(t, before+answers-1)
		}
	})
}
