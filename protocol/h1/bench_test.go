package h1

import (
	"bytes"
	"io"
	"testing"
)

const benchRequest = "POST /devices/thermo-0001/telemetry?unit=celsius HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: device/1.2\r\n" +
	"Accept: */*\r\nAuthorization: Bearer fgd_0123456789abcdefghijklmnopqrstuvwxyz\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n"

const benchBody = `{"temperature":21.5,"seq":12345}`

const benchResponse = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 22 Nov 2026 20:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 30\r\n" +
	"Connection: keep-alive\r\nCache-Control: no-store\r\n\r\n"

// repeat is a source that yields one message again and again.
type repeat struct {
	message []byte
	at      int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.message[r.at:])
	if r.at += n; r.at == len(r.message) {
		r.at = 0
	}
	return n, nil
}

func benchmarkRequests(tb testing.TB) func() {
	reader := NewReader(&repeat{message: []byte(benchRequest + benchBody)}, DefaultBuffer)
	var request Request
	var body Body
	content := make([]byte, 0, 64)
	return func() {
		head, err := reader.ReadHead(DefaultHead)
		if err != nil {
			tb.Fatal(err)
		}
		if err := request.Parse(head, &defaults); err != nil {
			tb.Fatal(err)
		}
		body.Reset(reader, request.Framing, request.Length)
		if content, err = body.ReadAll(content[:0], 64); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkReadRequest(b *testing.B) {
	read := benchmarkRequests(b)
	b.SetBytes(int64(len(benchRequest + benchBody)))
	b.ReportAllocs()
	for b.Loop() {
		read()
	}
}

func TestReadingARequestAllocatesNothing(t *testing.T) {
	read := benchmarkRequests(t)
	read() // grows the slice of fields
	if n := testing.AllocsPerRun(1000, read); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	head := []byte(benchRequest)
	var request Request
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		if err := request.Parse(head, &defaults); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseResponse(b *testing.B) {
	head, method := []byte(benchResponse), []byte("POST")
	var response Response
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		if err := response.Parse(head, method, &defaults); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkForwardFields(b *testing.B) {
	var request Request
	if err := request.Parse([]byte(benchRequest), &defaults); err != nil {
		b.Fatal(err)
	}
	out := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		out = AppendEndToEnd(AppendRequestLine(out[:0], request.Method, request.Path, request.Query), request.Fields)
	}
}

func BenchmarkReadChunked(b *testing.B) {
	stream := bytes.Repeat([]byte("400\r\n"+string(make([]byte, 1024))+"\r\n"), 16)
	stream = append(stream, LastChunk...)
	reader := NewReader(&repeat{message: stream}, DefaultBuffer)
	buf := make([]byte, 16<<10)
	var body Body
	b.SetBytes(16 << 10)
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(reader, Chunked, 0)
		for {
			if _, err := body.Read(buf); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}
