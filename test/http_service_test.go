package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/interop/grpc_testing"

	"fieldgate/test/halt"
	"fieldgate/test/port"
)

// serviceVariable makes the test's program a service at the address in it.
const serviceVariable = "FIELDGATE_TEST_SERVICE"

// process is an upstream that is a program of its own, so that it can be killed and stopped as real ones are.
type process struct {
	t       testing.TB
	address string // host:port
	command *exec.Cmd
}

func startProcess(t testing.TB) *process {
	t.Helper()
	p := &process{t: t, address: port.Free(t)}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.command = exec.Command(os.Args[0])
	p.command.Env = append(os.Environ(), serviceVariable+"="+p.address)
	p.command.Stderr = os.Stderr
	if _, err := p.command.StdinPipe(); err != nil { // which ends with the test
		p.t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		p.t.Fatal(err)
	}
	wait(p.t, "the service to listen", func() bool {
		link, err := net.Dial("tcp", p.address)
		if err == nil {
			link.Close()
		}
		return err == nil
	})
}

// kill ends the process without a word; its sockets are gone when kill returns.
func (p *process) kill() {
	if p.command != nil {
		p.command.Process.Kill()
		p.command.Wait()
		p.command = nil
	}
}

// pause makes the process hang, with its connections open; the system goes on accepting new ones for it.
func (p *process) pause()  { halt.Stop(p.t, p.command.Process.Pid) }
func (p *process) resume() { p.command.Process.Signal(syscall.SIGCONT) }

// asked is what the process counts, which is asked without the gateway.
func (p *process) asked() (counts struct{ Waiting, Aborted int64 }) {
	p.t.Helper()
	response, err := http.Get("http://" + p.address + "/counts")
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&counts); err != nil {
		p.t.Fatal(err)
	}
	return counts
}

// release lets an answer go on that waits under this name.
func (p *process) release(name string) {
	response, err := http.Post("http://"+p.address+"/release?name="+name, "", nil)
	if err != nil {
		p.t.Error(err)
		return
	}
	response.Body.Close()
}

// garbage is what a service sends that does not speak HTTP as it should.
var garbage = map[string]string{
	"another-protocol": "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
	"noise":            strings.Repeat("\x00\xff\x16\x03\x01", 1000),
	"two-lengths":      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
	"endless-head":     "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 10_000),
	"nul":              "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok",
	"bad-chunk":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	"unasked-upgrade":  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	"nothing":          "",
}

// program is the service: the last segment of a path says how it answers.
type program struct {
	waiting, aborted atomic.Int64
	mu               sync.Mutex
	gates            map[string]chan struct{}
}

func (p *program) gate(name string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gates[name] == nil {
		p.gates[name] = make(chan struct{})
	}
	return p.gates[name]
}

func (p *program) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	number := func(name string) int {
		n, _ := strconv.Atoi(r.URL.Query().Get(name))
		return n
	}
	switch path.Base(r.URL.Path) {
	case "plain", "checked", "cached", "idempotent", "upload": // says how much it was sent
		size, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			p.aborted.Add(1)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if path.Base(r.URL.Path) == "cached" {
			w.Header().Set("Cache-Control", "max-age=1")
		}
		fmt.Fprintf(w, `{"process": %d, "received": %d}`, os.Getpid(), size)
	case "waits": // for as long as the caller does
		p.waiting.Add(1)
		defer p.waiting.Add(-1)
		io.Copy(io.Discard, r.Body) // without which net/http does not look for callers that leave
		<-r.Context().Done()
		p.aborted.Add(1)
	case "drip": // a piece, of a byte if nothing else is said, now and then
		size, piece := number("bytes"), bytes.Repeat([]byte("."), max(number("piece"), 1))
		w.Header().Set("Content-Length", strconv.Itoa(size))
		for ; size > 0; size -= len(piece) {
			if _, err := w.Write(piece[:min(size, len(piece))]); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	case "download":
		size := number("bytes")
		w.Header().Set("Content-Length", strconv.Itoa(size))
		for piece := make([]byte, 64<<10); size > 0; size -= len(piece) {
			if _, err := w.Write(piece[:min(size, len(piece))]); err != nil {
				p.aborted.Add(1)
				return
			}
		}
	case "garbage":
		p.raw(w, func(link *net.TCPConn) { io.WriteString(link, garbage[r.URL.Query().Get("kind")]) })
	case "cut": // an answer that breaks off
		p.raw(w, func(link *net.TCPConn) {
			size, how := number("bytes"), r.URL.Query().Get("how")
			head := map[string]string{"length": fmt.Sprintf("Content-Length: %d\r\n", 2*size), "chunked": "Transfer-Encoding: chunked\r\n", "close": "Connection: close\r\n"}[how]
			io.WriteString(link, "HTTP/1.1 200 OK\r\n"+head+"\r\n")
			if how == "chunked" {
				fmt.Fprintf(link, "%x\r\n", 2*size)
			}
			link.Write(make([]byte, size))
			<-p.gate(r.URL.Query().Get("name"))
			if r.URL.Query().Get("by") == "reset" {
				link.SetLinger(0)
			}
		})
	case "refuses": // to read on
		p.raw(w, func(link *net.TCPConn) { link.SetLinger(0) })
	case "chat":
		link, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer link.CloseNow()
		for {
			kind, message, err := link.Read(r.Context())
			if err != nil || link.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	case "watch":
		every, err := time.ParseDuration(r.URL.Query().Get("every"))
		if err != nil {
			every = 100 * time.Millisecond
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			io.WriteString(w, "data: tick\n\n")
			w.(http.Flusher).Flush()
			time.Sleep(every)
		}
	case "counts":
		fmt.Fprintf(w, `{"waiting": %d, "aborted": %d}`, p.waiting.Load(), p.aborted.Load())
	case "release":
		close(p.gate(r.URL.Query().Get("name")))
	default:
		http.NotFound(w, r)
	}
}

// raw gives the connection to a script, and closes it afterwards.
func (p *program) raw(w http.ResponseWriter, script func(link *net.TCPConn)) {
	link, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer link.Close()
	script(link.(*net.TCPConn))
}

// serveProgram serves HTTP/1.1, HTTP/2 without TLS, and gRPC's own test service.
func serveProgram(address string) error {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0) // the test is gone
	}()
	calls := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(calls, interop.NewTestServer())
	p := &program{gates: make(map[string]chan struct{})}
	server := &http.Server{Addr: address, Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		p.ServeHTTP(w, r)
	})}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server.ListenAndServe()
}
