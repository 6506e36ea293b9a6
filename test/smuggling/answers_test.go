package smuggling

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// wicked is an upstream that answers a request for /answer/N with the bytes of answer N, and one for /next/N cleanly. It keeps the
// connection when nothing speaks against it, so that whatever is left on it comes before the next answer.
func wicked(t testing.TB) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			link, err := listener.Accept()
			if err != nil {
				return
			}
			go serveWicked(link)
		}
	}()
	return listener.Addr().String()
}

func serveWicked(link net.Conn) {
	defer link.Close()
	in := bufio.NewReader(link)
	for {
		link.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := in.Peek(1); err != nil {
			return
		}
		request, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		io.Copy(io.Discard, request.Body)
		var number int
		if n, _ := fmt.Sscanf(request.URL.Path, "/next/%d", &number); n == 1 {
			fmt.Fprintf(link, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nnext-%d", len(fmt.Sprintf("next-%d", number)), number)
			continue
		}
		if n, _ := fmt.Sscanf(request.URL.Path, "/answer/%d", &number); n != 1 {
			return
		}
		raw, method := answerOf(number)
		io.WriteString(link, raw)
		// A whole answer that leaves the connection open is the only one after which there may be another request.
		if whole, _ := readAnswer([]byte(raw), method, false); !whole.clean || whole.untilClose {
			return
		}
	}
}

// reading is how an answer is read.
type reading struct {
	clean      bool // it is whole
	status     int
	content    string
	own        string // a field
	untilClose bool
}

// readAnswer reads the answer at the beginning of a stream, as net/http does, without interim responses; rest is what follows.
func readAnswer(stream []byte, method string, cut bool) (r reading, rest []byte) {
	in := bufio.NewReader(bytes.NewReader(stream))
	for range 100 {
		response, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return reading{}, nil
		}
		if response.StatusCode < 200 && response.StatusCode != 101 {
			continue
		}
		content, err := io.ReadAll(response.Body)
		rest, _ := io.ReadAll(in)
		bodiless := method == "HEAD" || response.StatusCode == 204 || response.StatusCode == 304
		untilClose := response.ContentLength < 0 && len(response.TransferEncoding) == 0 && !bodiless
		return reading{clean: err == nil && !(untilClose && cut), status: response.StatusCode, content: string(content), own: response.Header.Get("X-Own"), untilClose: untilClose}, rest
	}
	return reading{}, nil
}

// TestAnswers lets an upstream give each answer. What a client gets through Fieldgate is a clean answer, the same that net/http reads
// (and nginx and haproxy pass on, where they do), or 502, or visibly cut. The next request on the same connections gets its own answer.
func TestAnswers(t *testing.T) {
	service := wicked(t)
	gate := fieldgateBefore(t, service)
	others := map[string]string{"nginx": nginxBefore(t, service), "haproxy": haproxyBefore(t, service)}
	var clean, refused, cut atomic.Int64
	eachCase(t, func(number int) {
		raw, method := answerOf(number)
		fail := func(format string, args ...any) {
			t.Helper()
			if len(raw) > 5000 {
				raw = raw[:2500] + " … " + raw[len(raw)-2500:]
			}
			t.Errorf("answer %d to %s, %q\n"+format, append([]any{number, method, raw}, args...)...)
		}
		// The pool is not poisoned either.
		defer func() {
			if after := get(gate, fmt.Sprintf("/next/%d", number)); after.content != fmt.Sprintf("next-%d", number) {
				fail("the next request on another connection got %s", after)
			}
		}()
		got, next, err := askBoth(gate, method, number, patience)
		broken := err != nil
		if broken && !errors.Is(err, errCut) {
			fail("Fieldgate: %v", err)
		}
		if got.clean {
			if after, rest := readAnswer(next, "GET", broken); !after.clean && len(next) > 0 || after.clean && after.content != fmt.Sprintf("next-%d", number) || len(rest) > 0 {
				fail("the next request got %q", next)
			}
		}
		switch {
		case !got.clean:
			cut.Add(1)
			if !broken && len(next) > 0 {
				fail("something follows an answer that is not whole: %q", next)
			}
		case got.status == 502:
			refused.Add(1)
		default:
			clean.Add(1)
			want, _ := readAnswer([]byte(raw), method, false)
			if !want.clean || got.status != want.status || got.content != want.content || got.own != want.own && got.own != "" {
				fail("net/http reads %s, the client got %s", want, got)
			}
			if strings.HasPrefix(raw, "HTTP/1.1 1") {
				return // nginx 1.22 takes an interim response for the answer, haproxy 2.6 loses parts of a chunked answer behind one
			}
			for name, address := range others {
				theirs, _, err := askBoth(address, method, number, referencePatience)
				if err == nil && theirs.clean && theirs.status != 502 && (theirs.status != got.status || theirs.content != got.content) {
					fail("%s passes on %s, Fieldgate %s", name, theirs, got)
				}
			}
		}
	})
	t.Logf("%d answers: %d passed on, %d answered with 502, %d cut", cases(t), clean.Load(), refused.Load(), cut.Load())
	if !t.Failed() && (clean.Load() < int64(cases(t)/10) || refused.Load() < int64(cases(t)/10)) {
		t.Error("the corpus is too good or too bad to prove anything")
	}
}

func (r reading) String() string {
	return fmt.Sprintf("%d, whole: %v, %d bytes %.60q, X-Own %.20q", r.status, r.clean, len(r.content), r.content, r.own)
}

// askBoth asks for answer number and, on the same connection, for the next; what came after the first answer is next.
func askBoth(address, method string, number int, patience time.Duration) (first reading, next []byte, err error) {
	content := ""
	if method == "POST" {
		content = "Content-Length: 2\r\n\r\nhi"
	} else {
		content = "\r\n"
	}
	raw, err := exchange(address, fmt.Appendf(nil, "%s /answer/%d HTTP/1.1\r\nHost: a\r\n%sGET /next/%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", method, number, content, number), patience)
	first, next = readAnswer(raw, method, err != nil)
	return first, next, err
}

// get asks on a connection of its own.
func get(address, path string) reading {
	raw, err := exchange(address, []byte("GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), patience)
	r, _ := readAnswer(raw, "GET", err != nil)
	return r
}

// TestAnswerReading keeps the reference from reading too much into answers.
func TestAnswerReading(t *testing.T) {
	for raw, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore":              "ok",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil close": "until close",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok":                  "",
		"nonsense": "",
	} {
		got, _ := readAnswer([]byte(raw), "GET", false)
		if got.clean != (want != "") || got.clean && got.content != want {
			t.Errorf("%q: %s", raw, got)
		}
	}
	if got, _ := readAnswer([]byte("HTTP/1.1 200 OK\r\n\r\ncut"), "GET", true); got.clean {
		t.Error("a cut is no end")
	}
}
