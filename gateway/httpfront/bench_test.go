package httpfront

import (
	"io"
	"log/slog"
	"net"
	"testing"
)

// plainService answers each write of its client with one small answer, allocating nothing, so that what a benchmark counts is the
// gateway's.
func plainService(b testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Sun, 22 Nov 2026 20:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"ok\": true }")
	go func() {
		for {
			link, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer link.Close()
				buf := make([]byte, 4096)
				for {
					if _, err := link.Read(buf); err != nil {
						return
					}
					if _, err := link.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// exchanges returns what sends the request, on one connection, and takes its answer.
func exchanges(b testing.TB, request func(*gateway) string) func() {
	const want = "HTTP/1.1 200 OK\r\n"
	g := newGateway(b, plainService(b), func(c *Config) {
		c.Logger = slog.New(slog.DiscardHandler)
	})
	link, err := net.Dial("tcp", g.address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { link.Close() })
	message, buf := []byte(request(g)), make([]byte, 4096)
	g.records.discard = true
	return func() {
		if _, err := link.Write(message); err != nil {
			b.Fatal(err)
		}
		n, err := link.Read(buf)
		if err != nil && err != io.EOF || n < len(want) || string(buf[:len(want)]) != want {
			b.Fatalf("%q, %v", buf[:n], err)
		}
	}
}

// Requests of the benchmarks.
func plain(*gateway) string { // is relayed with nothing to check
	return "GET /items/1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
}

func passedThrough(*gateway) string {
	return "GET /legacy/1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
}

func checked(g *gateway) string { // by key and schema
	return "POST /devices/thermo-1/telemetry HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer " + g.token +
		"\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"temp\":21.5}"
}

func mocked(*gateway) string { // no upstream has to answer
	return "GET /mock HTTP/1.1\r\nHost: a\r\n\r\n"
}

// The benchmarks go over loopback, with client and upstream in the process.
func BenchmarkPlain(b *testing.B)   { benchmark(b, plain) }
func BenchmarkChecked(b *testing.B) { benchmark(b, checked) }
func BenchmarkMock(b *testing.B)    { benchmark(b, mocked) }

func benchmark(b *testing.B, request func(*gateway) string) {
	exchange := exchanges(b, request)
	b.ReportAllocs()
	for b.Loop() {
		exchange()
	}
}
