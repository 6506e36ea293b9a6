package smuggling

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/httpfront"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/upstream"
	"fieldgate/test/port"
)

// seenField is where an origin tells what it was asked.
const seenField = "X-Seen"

// origin is a net/http server that tells what it sees: method, query, length and checksum of the content.
func origin(t testing.TB) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), ReadTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			content, err := io.ReadAll(r.Body)
			if err != nil {
				w.Header().Set("Connection", "close")
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			w.Header().Set(seenField, fmt.Sprintf("%s %q %d %08x", r.Method, r.URL.RawQuery, len(content), crc32.ChecksumIEEE(content)))
			io.WriteString(w, "ok")
		})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// fieldgateBefore is a Fieldgate that passes everything on to that address.
func fieldgateBefore(t testing.TB, service string) (address string) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	people, err := directory.Open(t.TempDir(), logger)
	if err != nil {
		t.Fatal(err)
	}
	services, err := upstream.NewSet([]fieldgate.Upstream{{Name: "service", Addresses: []string{"http://" + service}}})
	if err != nil {
		t.Fatal(err)
	}
	p := pipeline.New(pipeline.Config{Node: "n1", Directory: people, Upstreams: services, Broker: broker.New(), Recorder: nowhere{}})
	program, err := pipeline.Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{{API: "all", Version: "1", Title: "All",
		Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive, Operations: []fieldgate.Operation{{ID: "all", HTTP: &fieldgate.HTTPBinding{Path: "/"},
			Access: fieldgate.Access{Anonymous: true}, PassThrough: true, Upstream: "service", Timeout: 10 * time.Second, MaxBody: fieldgate.DefaultMaxBody}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Install(program)
	front := httpfront.New(httpfront.Config{Pipeline: p, Logger: logger})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- front.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		services.Run(ctx) // closes idle connections, since ctx has ended
		people.Close()
	})
	return listener.Addr().String()
}

type nowhere struct{}

func (nowhere) Add(*fieldgate.Record) uint64                    { return 0 }
func (nowhere) Fold(uint64, time.Duration, uint64, uint64) bool { return false }

// nginxBefore is an nginx that passes everything on to that address.
func nginxBefore(t testing.TB, service string) (address string) {
	t.Helper()
	address = port.Free(t)
	directory := t.TempDir()
	config := fmt.Sprintf(`daemon off; master_process off; worker_processes 1; pid %[1]s/pid; error_log /dev/null crit;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	client_header_timeout 5s; client_body_timeout 5s; keepalive_requests 1000000; lingering_timeout 1s;
	upstream service { server %[2]s; keepalive 32; keepalive_requests 1000000; }
	server {
		listen %[3]s;
		location / {
			proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
			proxy_ignore_client_abort on; proxy_next_upstream off;
		}
	}
}`, directory, service, address)
	runReference(t, address, directory, config, "nginx", "-p", directory, "-c")
	return address
}

// haproxyBefore is a haproxy that passes everything on to that address.
func haproxyBefore(t testing.TB, service string) (address string) {
	t.Helper()
	address = port.Free(t)
	config := fmt.Sprintf(`global
	maxconn 4000
	nbthread 1
defaults
	mode http
	timeout client 5s
	timeout server 10s
	timeout connect 5s
	retries 0
frontend all
	bind %s
	default_backend service
backend service
	server s %s
`, address, service)
	runReference(t, address, t.TempDir(), config, "haproxy", "-db", "-f")
	return address
}

// runReference runs a program with that configuration until the test ends.
func runReference(t testing.TB, address, directory, config, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Fatalf("%s is needed: make tools installs it", name)
		}
	}
	file := filepath.Join(directory, name+".conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(path, append(args, file)...)
	var said strings.Builder
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		command.Process.Kill()
		<-ended
	})
	for patience := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		link, err := net.Dial("tcp", address)
		if err == nil {
			link.Close()
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("%s ended: %v\n%s", name, err, said.String())
		default:
		}
		if time.Now().After(patience) {
			t.Fatalf("%s does not listen: %v", name, err)
		}
	}
}

var (
	errCut   = errors.New("the connection was cut")
	errNoEnd = errors.New("the answers have no end")
)

// patience is how long one waits for the end of answers: from Fieldgate, which has to end them, and from references that wait for more of
// an answer than there is.
const (
	patience          = time.Minute
	referencePatience = 500 * time.Millisecond
)

// exchange sends a stream, ends it, and returns all that comes back. errCut: the end was not clean.
func exchange(address string, stream []byte, patience time.Duration) ([]byte, error) {
	link, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer link.Close()
	link.SetDeadline(time.Now().Add(patience))
	go func() {
		link.Write(stream) // who refuses does not read all of it
		link.(*net.TCPConn).CloseWrite()
	}()
	answers, err := io.ReadAll(link)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return answers, errNoEnd
	}
	if err != nil {
		err = errCut
	}
	return answers, err
}
