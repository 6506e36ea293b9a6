package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/protocol/h1"
)

// What an upstream answers is either a clean message or a problem, whatever else it sends, and nothing of it is left for the next
// request.
func TestAnswers(t *testing.T) {
	const clean = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, test := range []struct {
		clause, method, answer string
		want                   string                // content of the clean answer
		problem                fieldgate.ProblemCode // or how it fails
	}{
		{clause: "RFC 9112 §6.3 two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9112 §6.3 the same length twice", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9112 §6.3 length list", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9112 §6.1 CL beside TE", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9112 §6.1 unknown coding", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9112 §6.1 repeated coding", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9112 §7.1 bad chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9112 §8 truncated content", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9112 §8 truncated chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9112 §8 truncated head", answer: "HTTP/1.1 200 OK\r\nContent-Le", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9110 §5.5 NUL in a field", answer: "HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 2\r\n\r\nok", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9112 §4 control in the reason", answer: "HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9110 §5.4 head too large", answer: "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 40<<10) + "\r\n\r\n", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9110 §5.4 too many fields", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: a\r\n", 101) + "\r\n", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9110 §15.2.2 101 unasked", answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9110 §15.2 1xx without end", answer: strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", maxInterim) + clean, problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9110 §15.2 1xx with content", answer: "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nno" + clean, problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "RFC 9110 §15.2 1xx unasked", answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + clean, want: "ok"},
		{clause: "HTTP/0.9", answer: "ok\r\n\r\n", problem: fieldgate.ProblemUpstreamInvalid},
		{clause: "extra bytes", answer: clean + "more", want: "ok"},
		{clause: "a second answer", answer: clean + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", want: "ok"},
		{clause: "a second answer behind chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", want: "ok"},
		{clause: "RFC 9110 §9.3.2 content after HEAD", method: "HEAD", answer: clean},
		{clause: "RFC 9110 §15.3.5 content after 204", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison"},
		{clause: "RFC 9110 §15.4.5 content after 304", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison"},
	} {
		t.Run(test.clause, func(t *testing.T) {
			address, connections := rawServer(t, func(number int, link net.Conn, in *bufio.Reader) {
				for readRequest(in) != "" {
					if number > 1 {
						io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond")
						continue
					}
					io.WriteString(link, test.answer)
					if strings.Contains(test.clause, "truncated") {
						return
					}
				}
			})
			u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
			method := test.method
			if method == "" {
				method = "GET"
			}
			answer, err := u.Do(context.Background(), &Request{Method: method, Target: "/", Timeout: time.Minute})
			if codeOf(err) != test.problem || err == nil && string(answer.Body) != test.want {
				t.Errorf("%v, %v", answer, err)
			}
			second, err := get(u)
			if err != nil || string(second.Body) == "poison" {
				t.Fatalf("the next request: %v, %v", second, err)
			}
			interim := test.problem == "" && strings.HasPrefix(test.answer, "HTTP/1.1 103")
			if (connections.Load() == 1) != interim {
				t.Errorf("%d connections", connections.Load())
			}
		})
	}
}

// What comes after the answer, on its own, is noticed before the next request goes out.
func TestLateBytesDoNotAnswerTheNextRequest(t *testing.T) {
	for name, secured := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan struct{})
			say := make(chan struct{})
			script := func(number int, link net.Conn, in *bufio.Reader) {
				for readRequest(in) != "" {
					fmt.Fprintf(link, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", number)
					if number == 1 {
						<-say
						io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
						sent <- struct{}{}
					}
				}
			}
			var certificates []tls.Certificate
			if secured {
				server := httptest.NewTLSServer(nil)
				certificates = server.TLS.Certificates
				server.Close()
				inner := script
				script = func(number int, link net.Conn, _ *bufio.Reader) {
					link = tls.Server(link, &tls.Config{Certificates: certificates})
					inner(number, link, bufio.NewReader(link))
				}
			}
			address, connections := rawServer(t, script)
			if secured {
				address = strings.Replace(address, "http:", "https:", 1)
			}
			u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
			if secured {
				u.addresses()[0].tls.loaded.InsecureSkipVerify = true
			}
			if answer, err := get(u); err != nil || string(answer.Body) != "1" {
				t.Fatal(answer, err)
			}
			close(say)
			<-sent
			for u.addresses()[0].idle[0].quiet() {
				time.Sleep(time.Millisecond)
			}
			if answer, err := get(u); err != nil || string(answer.Body) != "2" || connections.Load() != 2 {
				t.Errorf("%v, %v", answer, err)
			}
		})
	}
}

// Records that TLS has taken from the socket together with the answer are noticed too.
func TestBytesHeldByTLSDoNotAnswerTheNextRequest(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	certificates := server.TLS.Certificates
	server.Close()
	address, connections := rawServer(t, func(number int, link net.Conn, _ *bufio.Reader) {
		joined := &joiner{Conn: link}
		secured := tls.Server(joined, &tls.Config{Certificates: certificates})
		in := bufio.NewReader(secured)
		for readRequest(in) != "" {
			joined.hold = true // several records in one segment
			fmt.Fprintf(secured, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", number)
			if number == 1 {
				io.WriteString(secured, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
			}
			joined.release()
		}
	})
	u := newSet(t, fieldgate.Upstream{Addresses: []string{strings.Replace(address, "http:", "https:", 1)}})
	u.addresses()[0].tls.loaded.InsecureSkipVerify = true
	for _, want := range []string{"1", "2", "2"} {
		if answer, err := get(u); err != nil || string(answer.Body) != want {
			t.Fatalf("%v, %v", answer, err)
		}
	}
	if connections.Load() != 2 {
		t.Errorf("%d connections", connections.Load())
	}
}

// joiner sends what is written while it holds in one piece.
type joiner struct {
	net.Conn
	hold bool
	held []byte
}

func (j *joiner) Write(p []byte) (int, error) {
	if !j.hold {
		return j.Conn.Write(p)
	}
	j.held = append(j.held, p...)
	return len(p), nil
}

func (j *joiner) release() {
	j.Conn.Write(j.held)
	j.hold, j.held = false, nil
}

// An upstream that answers before it has the whole request may take the rest for another request: the connection is not used again.
func TestEarlyAnswerEndsTheConnection(t *testing.T) {
	address, connections := rawServer(t, func(_ int, link net.Conn, in *bufio.Reader) {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if strings.Contains(line, "HTTP/1.1") {
				io.WriteString(link, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	})
	u := newSet(t, fieldgate.Upstream{Addresses: []string{address}})
	for i := range 3 {
		call := Call{Method: []byte("POST"), Path: []byte("/"), Framing: 1, Length: 10}
		if problem := call.Send(u); problem != nil {
			t.Fatal(problem)
		}
		for call.conn.quiet() { // until the answer is there
			time.Sleep(time.Millisecond)
		}
		if err := call.Write(make([]byte, h1.ChunkRoom+10+h1.ChunkTail), 10); err != nil {
			t.Fatal(err)
		}
		if problem := call.Answer(); problem != nil {
			t.Fatal(problem)
		}
		if body, err := call.Body().ReadAll(nil, 2); err != nil || string(body) != "ok" {
			t.Fatal(body, err)
		}
		call.End()
		if int(connections.Load()) != i+1 {
			t.Errorf("%d connections after %d calls", connections.Load(), i+1)
		}
	}
}
