package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"fieldgate/test/certtest"
	"fieldgate/test/port"
	"fieldgate/test/smalldisk"
)

// nameServer is a DNS server that knows one name, until it is told to fail.
type nameServer struct {
	address string
	failing atomic.Bool

	mu      sync.Mutex
	records []string
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	link, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{address: link.LocalAddr().String()}
	server := &dns.Server{PacketConn: link, Handler: dns.HandlerFunc(s.serve)}
	ended := make(chan error, 1)
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		server.Shutdown()
		<-ended
	})
	return s
}

func (s *nameServer) serve(w dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg)
	answer.SetReply(question)
	if s.failing.Load() {
		answer.Rcode = dns.RcodeServerFailure
	} else if question.Question[0].Qtype == dns.TypeSRV {
		s.mu.Lock()
		for _, text := range s.records {
			if record, err := dns.NewRR(text); err == nil {
				answer.Answer = append(answer.Answer, record)
			}
		}
		s.mu.Unlock()
	} else if name := question.Question[0].Name; question.Question[0].Qtype == dns.TypeA {
		if record, err := dns.NewRR(name + " 1 IN A 127.0.0.1"); err == nil {
			answer.Answer = append(answer.Answer, record)
		}
	}
	w.WriteMsg(answer)
}

// at makes the service's name stand for these processes, for a second.
func (s *nameServer) at(processes ...*process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = nil
	for _, p := range processes {
		_, port, _ := net.SplitHostPort(p.address)
		s.records = append(s.records, fmt.Sprintf("_service._tcp.test. 1 IN SRV 1 1 %s host.test.", port))
	}
}

// An upstream is found by DNS, which is gone for a while: calls go on with the addresses of before. A node that starts meanwhile has
// none, and says so, until DNS is back.
func TestHTTPFaultDNS(t *testing.T) {
	t.Parallel() // it mostly waits
	names := startNameServer(t)
	u := &faultyUpstream{name: "found", processes: []*process{startProcess(t), startProcess(t)},
		settings: fmt.Sprintf("discover: {srv: 'http://_service._tcp.test', dns-server: '%s'}", names.address)}
	names.at(u.processes...)
	n := newFaulty(t, "", u)
	n.works("found")
	n.allAnswer(u)

	names.failing.Store(true)
	time.Sleep(2 * time.Second) // longer than what DNS said before is good for
	client := protocols["HTTP/1.1"]()
	for range 100 {
		if got := n.ask(client, "GET", "/found/plain", nil, nil); got.status != 200 || got.cut != nil {
			t.Fatalf("while DNS is gone a caller gets %+v", got)
		}
	}
	n.shows("found", "that DNS is gone", func(u *upstreamState) bool { return u.Problem != "" && u.Healthy == 2 })
	n.stop()
	n.start()
	n.expect(n.ask(client, "GET", "/found/plain", nil, nil), "found", 502, "upstream-unreachable", "unreachable")

	names.at(u.processes[0])
	names.failing.Store(false)
	n.works("found")
	names.at(u.processes...)
	n.allAnswer(u)
	n.showsHealthy("found")
}

// The gateway's certificate expires while it serves: clients refuse it and say why, the log does too, plain HTTP goes on, and a new file
// is enough to mend it.
func TestHTTPFaultCertificate(t *testing.T) {
	t.Parallel() // it mostly waits
	a := certtest.NewAuthority(t)
	folder := t.TempDir()
	certificate, key := filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem")
	put := func(life time.Duration) {
		certtest.Write(t, a.Issue(t, -time.Hour, life, "127.0.0.1"), certificate, key)
	}
	put(time.Hour)
	u := &faultyUpstream{name: "plain", processes: []*process{startProcess(t)}}
	secure := port.Free(t)
	n := newFaulty(t, fmt.Sprintf("tls: {certificates: [{certificate: %s, key: %s}]}\n", certificate, key), u)
	n.stop()
	n.rewrite(func(text string) string {
		return strings.Replace(text, "listen: {", "listen: {https: '"+secure+"', ", 1)
	})
	n.start()
	url := "https://" + secure + "/plain/plain"
	curl := func() (string, error) { return tool(t, "curl", "-sS", "--cacert", a.File, url) }
	if got, err := curl(); err != nil || !strings.Contains(got, "received") {
		t.Fatalf("%s %v", got, err)
	}
	put(10 * time.Second) // read within a second or two
	wait(t, "a client to refuse the certificate", func() bool { got, err := curl(); return err != nil && strings.Contains(got, "expired") })
	wait(t, "the log to say so", func() bool { return strings.Contains(n.log.String(), "it expired on ") })
	n.warns("certificate", true, func(g *gatewayState) bool {
		return len(g.Certificates) == 1 && g.Certificates[0].NotAfter.Before(time.Now())
	})
	n.works("plain")
	put(100 * 24 * time.Hour)
	wait(t, "the new certificate to be served", func() bool { got, err := curl(); return err == nil && strings.Contains(got, "received") })
	n.warns("certificate", false, func(g *gatewayState) bool {
		return len(g.Certificates) == 1 && g.Certificates[0].NotAfter.After(time.Now())
	})
}

// The certificate of a service has expired: it is not spoken to, the caller hears that it cannot be reached, and the log, when it tells
// each failure, that the certificate has expired.
func TestHTTPFaultUpstreamCertificate(t *testing.T) {
	t.Parallel() // it mostly waits
	a := certtest.NewAuthority(t)
	var shown atomic.Pointer[tls.Certificate]
	show := func(life time.Duration) {
		certificate := a.Issue(t, -time.Hour, life, "localhost")
		shown.Store(&certificate)
	}
	show(-time.Minute)
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) }))
	service.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Load(), nil }}
	service.Config.ErrorLog = log.New(io.Discard, "", 0) // which would be told of each handshake that fails
	service.StartTLS()
	t.Cleanup(service.Close)
	u := &faultyUpstream{name: "vault", settings: fmt.Sprintf("addresses: ['https://%s'], tls: {ca: '%s', server-name: localhost}", service.Listener.Addr(), a.File)}
	n := newFaulty(t, "log: {level: debug}\n", u)
	for _, client := range protocols {
		n.expect(n.ask(client(), "GET", "/vault/plain", nil, nil), "vault", 502, "upstream-unreachable", "unreachable")
	}
	wait(t, "the log to say why", func() bool { return strings.Contains(n.log.String(), "certificate has expired") })
	n.shows("vault", "why no connection comes about", func(u *upstreamState) bool { return u.ill("no connection came about: certificate expired") == 1 })
	show(time.Hour)
	n.works("vault")
	n.showsHealthy("vault")
}

// The disk of the access log is full: no caller notices, what is not written is counted, and no line is torn when there is room again.
func TestHTTPFaultAccessLogDisk(t *testing.T) {
	t.Parallel() // it mostly waits
	folder := filepath.Join(t.TempDir(), "log")
	smalldisk.Mount(t, folder, 1)
	path := filepath.Join(folder, "access.log")
	u := &faultyUpstream{name: "plain", processes: []*process{startProcess(t)}}
	n := newFaulty(t, fmt.Sprintf("access-log: {file: '%s'}\n", path), u)
	client := protocols["HTTP/1.1"]()
	call := func(times int) {
		t.Helper()
		for range times {
			if got := n.ask(client, "GET", "/plain/plain", nil, nil); got.status != 200 || got.cut != nil {
				t.Fatalf("a caller gets %+v", got)
			}
		}
	}
	lines := func() (count int) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		scan := bufio.NewScanner(bytes.NewReader(text))
		for scan.Scan() {
			var line struct{ Status int }
			if err := json.Unmarshal(scan.Bytes(), &line); err != nil || line.Status == 0 {
				t.Errorf("a line is torn: %q", scan.Bytes())
			}
			count++
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			t.Errorf("the last line has no end")
		}
		return count
	}
	call(10)
	wait(t, "ten lines", func() bool { return lines() >= 10 })
	give := smalldisk.Fill(t, folder)
	call(300)
	// The calls go on: where the last page of the disk has room for a line, the log is whole again until the next one.
	asking, enough := context.WithCancel(t.Context())
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for asking.Err() == nil {
			n.ask(client, "GET", "/plain/plain", nil, nil)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	n.warns("access-log", true, func(g *gatewayState) bool { return g.AccessLog.Problem != "" && g.AccessLog.Dropped > 0 })
	enough()
	<-asked
	kept := lines()
	if kept >= 300 {
		t.Fatalf("the disk is not full: %d lines", kept)
	}
	give()
	call(10)
	wait(t, "lines again", func() bool { return lines() >= kept+10 })
	n.warns("access-log", false, func(g *gatewayState) bool { return g.AccessLog.Problem == "" })
}
