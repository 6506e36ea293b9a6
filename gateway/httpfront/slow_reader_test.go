package httpfront

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Who takes 64 KiB in each WriteTimeout is slow, but gets all of its answer, also where the kernel moves it.
func TestSlowReaderGetsAll(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 3<<19)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	defer service.Close()
	g := newGateway(t, service.URL, func(c *Config) { c.WriteTimeout = 3 * time.Second })
	link, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	link.(*net.TCPConn).SetReadBuffer(64 << 10)
	io.WriteString(link, "GET /legacy/1 HTTP/1.1\r\nHost: a\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReaderSize(link, 4096), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for buf := make([]byte, 64<<10); ; time.Sleep(200 * time.Millisecond) {
		n, err := io.ReadFull(answer.Body, buf)
		got += n
		if err != nil {
			break
		}
	}
	if got != len(content) {
		t.Errorf("%d of %d bytes", got, len(content))
	}
}
