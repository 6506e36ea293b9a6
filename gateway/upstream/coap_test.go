package upstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/coaphttp"
	"fieldgate/protocol/coap"
	"fieldgate/test/certtest"
	"fieldgate/test/port"
)

// coapService serves over plain UDP what handler answers, and gives its address.
func coapService(t testing.TB, handler coap.Handler) string {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return serveCoAP(t, conn, handler)
}

func serveCoAP(t testing.TB, conn *net.UDPConn, handler coap.Handler) string {
	t.Helper()
	server, err := coap.NewUDP(conn, coap.Config{MaxBody: 2 << 20, MaxRunningOfPeer: 64, MaxRequestsOfPeer: 256}, 64, handler, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return "coap://" + conn.LocalAddr().String()
}

// libcoap runs the example server of libcoap, and gives its port.
func libcoap(t testing.TB, program string, arguments ...string) (number string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%v: install libcoap3-bin", err)
	}
	_, number, _ = net.SplitHostPort(port.Free(t))
	startLibcoap(t, program, number, arguments...)
	return number
}

func startLibcoap(t testing.TB, program, number string, arguments ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command(program, append([]string{"-A", "127.0.0.1", "-p", number}, arguments...)...)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	began := time.Now()
	for {
		conn, err := net.Dial("udp", net.JoinHostPort("127.0.0.1", number))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		err = ping(ctx, conn)
		cancel()
		conn.Close()
		if err == nil || program != "coap-server-notls" && !errors.Is(err, os.ErrDeadlineExceeded) && time.Since(began) > time.Second {
			return command
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%s does not answer: %v", program, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func answerOf(t testing.TB, u *Upstream, request *Request) *Response {
	t.Helper()
	response, err := u.Do(context.Background(), request)
	if err != nil {
		t.Fatalf("%s %s: %v", request.Method, request.Target, err)
	}
	return response
}

func coapUpstream(t testing.TB, config fieldgate.Upstream) *Upstream {
	t.Helper()
	config.Name = "x"
	patient(&config)
	orDefault(&config.Timeout, 5*time.Minute) // a large body in small blocks takes long on a slow machine
	set, err := NewSet([]fieldgate.Upstream{config})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		set.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return set.Upstream("x")
}

// The server is libcoap's, as an unconstrained service would be.
func TestCoAPServiceOfLibcoap(t *testing.T) {
	port := libcoap(t, "coap-server-notls", "-d", "100", "-e")
	u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{"coap://127.0.0.1:" + port}})
	if !u.SpeaksCoAP() {
		t.Error("it does not know that it speaks CoAP")
	}
	r := answerOf(t, u, &Request{Method: "GET", Target: "/time"})
	if r.Status != 200 || r.Field("Cache-Control") != "max-age=1" || len(r.Body) == 0 {
		t.Errorf("GET /time: %+v %s", r, r.Body)
	}
	r = answerOf(t, u, &Request{Method: "GET", Target: "/no/such"})
	if r.Status != 404 {
		t.Errorf("GET /no/such: %d", r.Status)
	}
	r = answerOf(t, u, &Request{Method: "GET", Target: "/async?1"}) // a separate response (RFC 7252 §5.2.2)
	if r.Status != 200 || string(r.Body) != "done" {
		t.Errorf("GET /async: %d %q", r.Status, r.Body)
	}
	for _, size := range []int{10, 64 << 10} {
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		path := fmt.Sprintf("/made/%d", size)
		r = answerOf(t, u, &Request{Method: "PUT", Target: path, Body: body, Fields: []Field{{Name: "Content-Type", Value: "application/octet-stream"}}})
		if r.Status != 201 {
			t.Errorf("PUT of %d bytes: %d %s", size, r.Status, r.Body)
		}
		r = answerOf(t, u, &Request{Method: "GET", Target: path})
		if r.Status != 200 || sha256.Sum256(r.Body) != sha256.Sum256(body) || r.Field("Content-Type") != "application/octet-stream" {
			t.Errorf("GET of %d bytes: %d, %d bytes, %s", size, r.Status, len(r.Body), r.Field("Content-Type"))
		}
		if r = answerOf(t, u, &Request{Method: "DELETE", Target: path}); r.Status != 204 {
			t.Errorf("DELETE: %d", r.Status)
		}
	}
	if r := answerOf(t, u, &Request{Method: "HEAD", Target: "/time"}); r.Status != 200 || len(r.Body) != 0 {
		t.Errorf("HEAD: %d, %d bytes", r.Status, len(r.Body))
	}
}

// A DTLS server of libcoap with a pre-shared key: it is reached with the key alone, and by nobody else.
func TestCoAPServiceOverDTLS(t *testing.T) {
	const key = "secretPSK-of-16-bytes"
	port := libcoap(t, "coap-server-openssl", "-k", key, "-h", "service")
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("coaps://127.0.0.1:%d", number+1) // as libcoap has it
	folder := t.TempDir()
	file := func(name, key string) *fieldgate.UpstreamTLS {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte("gateway:"+hex.EncodeToString([]byte(key))+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return &fieldgate.UpstreamTLS{PSKFile: path}
	}
	u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{address}, TLS: file("right", key)})
	for range 3 {
		if r := answerOf(t, u, &Request{Method: "GET", Target: "/time"}); r.Status != 200 || len(r.Body) == 0 {
			t.Errorf("GET: %d %q", r.Status, r.Body)
		}
	}
	for name, wrong := range map[string]*fieldgate.UpstreamTLS{"another key": file("wrong", key+"!"), "certificates": nil} {
		u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{address}, TLS: wrong, ConnectTimeout: 500 * time.Millisecond})
		if _, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/time"}); codeOf(err) != fieldgate.ProblemUpstreamUnreachable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Certificates show both sides of a DTLS session or a TLS connection to each other; over TCP nobody is shown. Bodies pass in both directions, and an
// observation hears what changes.
func TestCoAPServiceInAllWays(t *testing.T) {
	fleet, foreign := certtest.NewAuthority(t), certtest.NewAuthority(t)
	folder := t.TempDir()
	file := func(name string) string { return filepath.Join(folder, name) }
	certtest.Write(t, fleet.Issue(t, -time.Hour, time.Hour, "127.0.0.1"), file("service.pem"), file("service-key.pem"))
	certtest.Write(t, fleet.Issue(t, -time.Hour, time.Hour, "gateway"), file("own.pem"), file("own-key.pem"))
	plain := libcoap(t, "coap-server-notls", "-d", "100")
	port, err := strconv.Atoi(libcoap(t, "coap-server-openssl", "-d", "100", "-c", file("service.pem"), "-j", file("service-key.pem"), "-C", fleet.File))
	if err != nil {
		t.Fatal(err)
	}
	secure := fmt.Sprintf("127.0.0.1:%d", port+1) // as libcoap has it
	known := &fieldgate.UpstreamTLS{CAFile: fleet.File, CertFile: file("own.pem"), KeyFile: file("own-key.pem")}
	for address, settings := range map[string]*fieldgate.UpstreamTLS{"coap+tcp://127.0.0.1:" + plain: nil, "coaps+tcp://" + secure: known, "coaps://" + secure: known} {
		scheme, _, _ := strings.Cut(address, ":")
		t.Run(scheme, func(t *testing.T) {
			u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{address}, TLS: settings, Health: fieldgate.HealthCheck{Kind: fieldgate.HealthCoAP, Path: "/time", Interval: time.Hour}})
			if err := u.checkAddress(context.Background(), u.addresses()[0]); err != nil {
				t.Errorf("health check: %v", err)
			}
			var group sync.WaitGroup
			for _, size := range []int{10, 64 << 10, 1 << 20} {
				group.Go(func() {
					body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
					path := fmt.Sprintf("/%s-%d", scheme, size)
					r, err := u.Do(context.Background(), &Request{Method: "PUT", Target: path, Body: body, Fields: []Field{{Name: "Content-Type", Value: "application/octet-stream"}}})
					if err != nil || r.Status != 201 {
						t.Errorf("PUT of %d bytes: %v %v", size, r, err)
						return
					}
					if r, err = u.Do(context.Background(), &Request{Method: "GET", Target: path}); err != nil || r.Status != 200 || sha256.Sum256(r.Body) != sha256.Sum256(body) {
						t.Errorf("GET of %d bytes: %v, or they differ", size, err)
					}
				})
			}
			group.Wait()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			states := 0
			if _, err := u.Observe(ctx, &Request{Method: "GET", Target: "/time"}, func(*Response) {
				if states++; states == 3 {
					cancel()
				}
			}); err != nil || states < 3 {
				t.Errorf("%d states were heard of a clock: %v", states, err)
			}
			if settings == nil {
				return
			}
			for name, wrong := range map[string]*fieldgate.UpstreamTLS{"an authority that has not issued the service's": {CAFile: foreign.File, CertFile: settings.CertFile, KeyFile: settings.KeyFile},
				"another name": {CAFile: fleet.File, CertFile: settings.CertFile, KeyFile: settings.KeyFile, ServerName: "elsewhere.example"}, "the system's authorities": nil} {
				u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{address}, TLS: wrong})
				if _, err := u.Do(context.Background(), &Request{Method: "GET", Target: "/time"}); codeOf(err) != fieldgate.ProblemUpstreamUnreachable {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// A connection that ends while nothing is under way is opened again by the next call; one that nobody answers fails.
func TestCoAPConnectionEnds(t *testing.T) {
	port := libcoap(t, "coap-server-notls")
	u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{"coap+tcp://127.0.0.1:" + port}})
	for range 3 {
		if r := answerOf(t, u, &Request{Method: "GET", Target: "/time"}); r.Status != 200 {
			t.Errorf("GET: %d", r.Status)
		}
		a := u.addresses()[0]
		a.mu.Lock()
		link := a.links[len(a.links)-1]
		a.mu.Unlock()
		link.stream.Close()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			a.mu.Lock()
			left := len(a.links)
			a.mu.Unlock()
			if left == 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the link is kept")
			}
		}
	}
	gone := coapUpstream(t, fieldgate.Upstream{Addresses: []string{"coap+tcp://127.0.0.1:9"}})
	if _, err := gone.Do(context.Background(), &Request{Method: "GET", Target: "/time"}); codeOf(err) != fieldgate.ProblemUpstreamUnreachable {
		t.Errorf("nobody listens: %v", err)
	}
}

// A call that nobody can have seen goes to another address, also when it must not be repeated; the address is left out.
func TestCoAPFailover(t *testing.T) {
	address := "coap://" + port.Free(t)
	var calls atomic.Int32
	alive := coapService(t, func(_ *coap.Request, response *coap.Response) func(context.Context) {
		calls.Add(1)
		response.Code = coap.Changed
		return nil
	})
	u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{address, alive}, Outlier: fieldgate.Outlier{Ejection: time.Hour, MaxEjection: time.Hour}})
	retry := &fieldgate.Retry{Attempts: 1, On: fieldgate.RetryConnect}
	for range 4 {
		if r := answerOf(t, u, &Request{Method: "POST", Target: "/x", Body: []byte("1"), Retry: retry}); r.Status != 204 {
			t.Errorf("POST: %d", r.Status)
		}
	}
	if calls.Load() != 4 {
		t.Errorf("the service was asked %d times, want 4", calls.Load())
	}
	u.shared.mu.Lock()
	defer u.shared.mu.Unlock()
	if u.members[0].healthy() || !u.members[1].healthy() {
		t.Error("the address at which nobody listens is not left out")
	}
}

// The network loses a datagram in each direction: whatever is sent arrives once, and whole.
func TestCoAPOverALossyNetwork(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 512) // 8 KiB
	var executed atomic.Int32
	service := coapService(t, func(request *coap.Request, response *coap.Response) func(context.Context) {
		executed.Add(1)
		response.Code, response.Body = coap.Changed, bytes.Clone(request.Body)
		return nil
	})
	u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{"coap://" + lossy(t, strings.TrimPrefix(service, "coap://"))}})
	r := answerOf(t, u, &Request{Method: "POST", Target: "/echo", Body: body})
	if r.Status != 200 || sha256.Sum256(r.Body) != sha256.Sum256(body) || executed.Load() != 1 {
		t.Errorf("%d, %d bytes, executed %d times", r.Status, len(r.Body), executed.Load())
	}
}

// lossy forwards datagrams to an address and back for one client, without one in each direction, and gives where it listens.
func lossy(t *testing.T, to string) string {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		front.Close()
		back.Close()
	})
	var client atomic.Pointer[net.Addr]
	const lost = 4 // which one, in each direction
	go func() {
		buffer := make([]byte, 2048)
		for number := 1; ; number++ {
			n, from, err := front.ReadFrom(buffer)
			if err != nil {
				return
			}
			client.Store(&from)
			if number != lost {
				back.Write(buffer[:n])
			}
		}
	}()
	go func() {
		buffer := make([]byte, 2048)
		for number := 1; ; number++ {
			n, err := back.Read(buffer)
			if err != nil {
				return
			}
			if to := client.Load(); to != nil && number != lost {
				front.WriteTo(buffer[:n], *to)
			}
		}
	}()
	return front.LocalAddr().String()
}

// What RFC 8075 §7 and its successors say of answers, and how a stored one is asked about.
func TestCoAPAnswers(t *testing.T) {
	problem := []byte("\xa3\x20\x69Too large\x23\x18\x80\x78\x1burn:fieldgate:problem:range\xa2\x00\x62/t\x01\x67maximum")
	u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{coapService(t, func(request *coap.Request, response *coap.Response) func(context.Context) {
		response.Trusted = true
		switch request.Path() {
		case "/tagged":
			response.Options.Add(coap.ETag, []byte{0x5f, 0x1c})
			if tag, asked := request.Option(coap.ETag); asked && bytes.Equal(tag, []byte{0x5f, 0x1c}) {
				response.Code = coap.Valid
			} else {
				response.Code, response.Body = coap.Content, []byte("1")
			}
		case "/busy":
			response.Code = coap.TooManyRequests
			response.Options.AddUint(coap.MaxAge, 7)
		case "/problem":
			response.Code, response.Body = coap.BadRequest, problem
			response.Options.AddUint(coap.ContentFormat, coap.ConciseProblemCBOR)
		case "/who":
			who, _ := request.Option(coaphttp.OptionPrincipal)
			hops, _ := request.Uint(coap.HopLimit)
			response.Code, response.Body = coap.Content, fmt.Appendf(nil, "%s %d %s", who, hops, request.Query())
		}
		return nil
	})}})
	r := answerOf(t, u, &Request{Method: "GET", Target: "/tagged"})
	if r.Status != 200 || r.Field("ETag") != `"5f1c"` || r.Field("Cache-Control") != "max-age=60" {
		t.Errorf("%+v", r)
	}
	if r = answerOf(t, u, &Request{Method: "GET", Target: "/tagged", Fields: []Field{{Name: "If-None-Match", Value: `W/"5f1c", "other"`}}}); r.Status != 304 || len(r.Body) != 0 {
		t.Errorf("asked whether it holds: %+v", r)
	}
	if r = answerOf(t, u, &Request{Method: "GET", Target: "/busy"}); r.Status != 429 || r.Field("Retry-After") != "7" {
		t.Errorf("RFC 8516 §4: %+v", r)
	}
	r = answerOf(t, u, &Request{Method: "GET", Target: "/problem"})
	want := `{"clause":"maximum","pointer":"/t","status":400,"title":"Too large","type":"urn:fieldgate:problem:range"}`
	if r.Status != 400 || r.Field("Content-Type") != fieldgate.ProblemMediaType || string(r.Body) != want {
		t.Errorf("RFC 9290: %+v %s", r, r.Body)
	}
	r = answerOf(t, u, &Request{Method: "GET", Target: "/who?a=%26&b", HopLimit: 3, Lines: []byte("Fieldgate-Principal: d7\r\nFieldgate-Principal-Kind: device\r\n")})
	if string(r.Body) != "device:d7 3 a=%26&b" {
		t.Errorf("it was asked as %s", r.Body)
	}
	for name, request := range map[string]*Request{
		"a method that CoAP has nothing for": {Method: "OPTIONS", Target: "/"},
		"a media type without a format":      {Method: "POST", Target: "/", Body: []byte("x"), Fields: []Field{{Name: "Content-Type", Value: "application/pdf"}}},
		"a content coding":                   {Method: "POST", Target: "/", Body: []byte("x"), Fields: []Field{{Name: "Content-Encoding", Value: "gzip"}}},
		"a segment of 256 bytes":             {Method: "GET", Target: "/" + strings.Repeat("x", 256)},
		"a dot segment":                      {Method: "GET", Target: "/a/../b"},
	} {
		if _, err := u.Do(context.Background(), request); err == nil || codeOf(err).Status() < 400 || codeOf(err).Status() >= 500 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A ping and a GET as health checks, of a service that is there and one that is not.
func TestCoAPHealth(t *testing.T) {
	service := coapService(t, func(request *coap.Request, response *coap.Response) func(context.Context) {
		if response.Code = coap.NotFound; request.Path() == "/well" {
			response.Code = coap.Content
		}
		return nil
	})
	for _, test := range []struct {
		path string
		want bool
	}{{"", true}, {"/well", true}, {"/ill", false}} {
		u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{service}, Health: fieldgate.HealthCheck{Kind: fieldgate.HealthCoAP, Path: test.path, Interval: time.Hour}})
		if err := u.checkAddress(context.Background(), u.addresses()[0]); (err == nil) != test.want {
			t.Errorf("check of %q: %v", test.path, err)
		}
	}
	u := coapUpstream(t, fieldgate.Upstream{Addresses: []string{"coap://127.0.0.1:9"}, Health: fieldgate.HealthCheck{Kind: fieldgate.HealthCoAP, Interval: time.Hour}})
	if err := u.checkAddress(context.Background(), u.addresses()[0]); err == nil {
		t.Error("a service that is not there passed")
	}
}
