package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzRequest reads a stream of requests. Whatever we accept, net/http must frame identically: same method, Host, content
// and same bytes left over. Cutting the stream into single bytes must not change the outcome.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /a?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: b\r\n\r\n",
		"POST /a/../b%41//c HTTP/1.1\r\nHost: [::1]:8080\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\nrest",
		"GET http://b/c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: X, close\r\nX: y\r\n\r\n",
		"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"\r\nGET / HTTP/1.1\r\nHost: a\r\nX: \xff\t\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		ours, content, rest, err := oneRequest(bytes.NewReader(stream))
		_, contentCut, _, errCut := oneRequest(iotest.OneByteReader(bytes.NewReader(stream)))
		if !bytes.Equal(content, contentCut) || !errors.Is(err, errCut) {
			t.Fatalf("cutting the stream changes the outcome: %v, %v", err, errCut)
		}
		if err != nil {
			return
		}
		stream = bytes.TrimPrefix(stream, []byte("\r\n"))
		source := bufio.NewReader(bytes.NewReader(stream))
		theirs, err := http.ReadRequest(source)
		if err != nil {
			if reason := err.Error(); strings.Contains(reason, "bad trailer key") || strings.Contains(reason, "parse ") {
				return // stricter about a field that is dropped here, or about a URI; neither touches the framing
			}
			t.Fatalf("net/http refuses: %v", err)
		}
		theirContent, err := io.ReadAll(theirs.Body)
		if err != nil {
			t.Fatalf("net/http cannot read the content: %v", err)
		}
		theirRest, _ := io.ReadAll(source)
		if string(ours.Method) != theirs.Method || string(ours.Host) != theirs.Host {
			t.Fatalf("method %q host %q, net/http: %q %q", ours.Method, ours.Host, theirs.Method, theirs.Host)
		}
		if !bytes.Equal(content, theirContent) || !bytes.Equal(rest, theirRest) {
			t.Fatalf("content %q then %q, net/http: %q then %q", content, rest, theirContent, theirRest)
		}
		if normal, _, err := normalizePath(ours.Path, nil); len(ours.Path) > 0 && (err != nil || !bytes.Equal(normal, ours.Path)) {
			t.Fatalf("path %q is not stable: %q, %v", ours.Path, normal, err)
		}
	})
}

func oneRequest(src io.Reader) (request *Request, content, rest []byte, err error) {
	reader := NewReader(src, 256)
	head, err := reader.ReadHead(DefaultHead)
	if err != nil {
		return nil, nil, nil, err
	}
	request = new(Request)
	if err := request.Parse(head, &defaults); err != nil {
		return nil, nil, nil, err
	}
	var body Body
	body.Reset(reader, request.Framing, request.Length)
	if content, err = body.ReadAll(nil, 1<<20); err != nil {
		return nil, nil, nil, err
	}
	rest, err = io.ReadAll(io.MultiReader(bytes.NewReader(reader.Buffered()), src))
	return request, content, rest, err
}

// FuzzResponse does the same for answers to GET and HEAD.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.0 200\r\n\r\nuntil close",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, stream []byte, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		ours, content, err := readResponse(bytes.NewReader(stream), method)
		if err != nil || ours.Status < 200 {
			return
		}
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(stream)), &http.Request{Method: method})
		if err != nil {
			if strings.Contains(err.Error(), "bad trailer key") {
				return
			}
			t.Fatalf("net/http refuses: %v", err)
		}
		theirContent, err := io.ReadAll(theirs.Body)
		if err != nil || string(theirContent) != content || theirs.StatusCode != ours.Status {
			t.Fatalf("status %d content %q, net/http: %d %q, %v", ours.Status, content, theirs.StatusCode, theirContent, err)
		}
	})
}

// FuzzChunked compares the chunk decoder with that of net/http.
func FuzzChunked(f *testing.F) {
	for _, seed := range []string{
		"3\r\nabc\r\n0\r\n\r\n", "3;a=b\r\nabc\r\nA\r\n0123456789\r\n0;c\r\nT: u\r\n\r\n", "0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "3 \r\nabc\r\n0\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		ours, err := chunked(bytes.NewReader(stream)).ReadAll(nil, 1<<20)
		if err != nil {
			return
		}
		message := append([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), stream...)
		request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(message)))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := io.ReadAll(request.Body)
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Fatalf("content %q, net/http: %q, %v", ours, theirs, err)
		}
	})
}

// FuzzWebSocket checks that no stream of frames crashes the reader or makes it hold more than its limit.
func FuzzWebSocket(f *testing.F) {
	f.Add([]byte(clientFrame(0x01, "a") + clientFrame(0x89, "p") + clientFrame(0x80, "b")))
	f.Add([]byte(clientFrame(0x88, "\x03\xe8bye")))
	f.Add([]byte("\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		messages := NewMessageReader(NewReader(bytes.NewReader(stream), 256), 1000)
		for {
			_, payload, err := messages.Next()
			if err != nil {
				return
			}
			if len(payload) > 1000 {
				t.Fatalf("a message of %d bytes", len(payload))
			}
		}
	})
}
