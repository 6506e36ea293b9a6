package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/protocol/h1"
	"fieldgate/test/certtest"
	"fieldgate/test/port"
)

// Why an address is left out is said in plain words, by the check of a real service and by calls of it.
func TestWhyAnAddressIsLeftOut(t *testing.T) {
	ca := certtest.NewAuthority(t)
	certificate := func(from, to time.Duration, name string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, from, to, name, "127.0.0.2")}}
	}
	serve := func(status int, config *tls.Config) string {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		if config == nil {
			server.Start()
		} else {
			server.TLS = config
			server.StartTLS()
		}
		t.Cleanup(server.Close)
		return server.URL
	}
	answer := func(bytes string) string { // to whatever comes
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
				go func() {
					defer link.Close()
					if link.Read(make([]byte, 4096)); bytes == "" {
						io.Copy(io.Discard, link)
					}
					io.WriteString(link, bytes)
				}()
			}
		}()
		return "http://" + listener.Addr().String()
	}
	clientNeeded := certificate(-time.Hour, time.Hour, "service.example")
	clientNeeded.ClientAuth = tls.RequireAnyClientCert

	const day = 24 * time.Hour
	secret := "Bearer-of-the-upstream"
	for name, test := range map[string]struct {
		url         string
		check, call string // empty: nothing fails
	}{
		"nothing listens":            {"http://" + port.Free(t), "connection refused", "no connection came about: connection refused"},
		"status":                     {serve(503, nil), "answered 503", "1 calls in a row failed, the last: answered 503"},
		"silent":                     {answer(""), "timed out after 300 ms", "1 calls in a row failed, the last: timed out after "},
		"garbage":                    {answer(secret + "\r\n\r\n"), "no clean answer", "1 calls in a row failed, the last: no clean answer: malformed status line"},
		"broken off":                 {answer("H"), "no clean answer", "1 calls in a row failed, the last: the answer broke off"},
		"expired":                    {serve(200, certificate(-day, -time.Hour, "service.example")), "certificate expired", "no connection came about: certificate expired"},
		"not valid yet":              {serve(200, certificate(time.Hour, day, "service.example")), "certificate not valid yet", "no connection came about: certificate not valid yet"},
		"another name":               {serve(200, certificate(-time.Hour, time.Hour, secret)), "certificate is for another name", "no connection came about: certificate is for another name"},
		"unknown authority":          {serve(200, &tls.Config{Certificates: []tls.Certificate{certtest.NewAuthority(t).Issue(t, -time.Hour, time.Hour, "service.example")}}), "certificate of an unknown authority", "no connection came about: certificate of an unknown authority"},
		"client certificate missing": {serve(200, clientNeeded), "TLS refused: certificate required", ""},
		"no TLS":                     {"https" + strings.TrimPrefix(serve(200, nil), "http"), "no TLS is spoken there", "no connection came about: no TLS is spoken there"},
		"well":                       {serve(200, certificate(-time.Hour, time.Hour, "service.example")), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := time.Minute
			if name == "silent" {
				timeout = 300 * time.Millisecond
			}
			u := newSet(t, fieldgate.Upstream{Addresses: []string{test.url}, Timeout: timeout, CountServerErrors: true,
				TLS:    &fieldgate.UpstreamTLS{CAFile: ca.File, ServerName: "service.example"},
				Health: fieldgate.HealthCheck{Kind: fieldgate.HealthHTTP, Timeout: timeout, Unhealthy: 1}, Outlier: fieldgate.Outlier{Consecutive: 1, MaxEjected: 100}})
			a := u.addresses()[0]
			get(u)
			if why := u.state(time.Now()).Addresses[0].Why; test.call == "" && name != "client certificate missing" && why != "" || !strings.HasPrefix(why, test.call) {
				t.Errorf("after a call: %q", why)
			}
			if err := u.checkAddress(t.Context(), a); err != nil {
				u.checked(a, time.Now(), err)
			} else if test.check != "" {
				t.Fatal("the check succeeds")
			}
			why := u.state(time.Now()).Addresses[0].Why
			if test.check != "" && why != "check: "+test.check || strings.Contains(why, secret) || len(why) > 120 {
				t.Errorf("after a check: %q", why)
			}
		})
	}
}

// What a service answers over gRPC is said by its status's name, never by its message.
func TestWhyOverGRPC(t *testing.T) {
	service := grpcService(t)
	check := func(name string) error {
		u := newSet(t, fieldgate.Upstream{Addresses: []string{service.url}, Health: fieldgate.HealthCheck{Kind: fieldgate.HealthGRPC, Service: name, Timeout: time.Minute}})
		return u.checkAddress(t.Context(), u.addresses()[0])
	}
	if err := check("models.v2"); err == nil || err.Error() != "gRPC status NotFound" {
		t.Errorf("unknown service: %v", err)
	}
	service.down()
	if err := check("models.v1"); err == nil || err.Error() != "the service says NOT_SERVING" {
		t.Errorf("not serving: %v", err)
	}
	service.url = "http://127.0.0.1:1"
	if err := check("models.v1"); err == nil || err.Error() != "connection refused" {
		t.Errorf("nothing listens: %v", err)
	}
}

// A check that fails for another reason than before is shown with that.
func TestWhyNow(t *testing.T) {
	u := pretend(t, 1, fieldgate.Upstream{Health: fieldgate.HealthCheck{Healthy: 1, Unhealthy: 1}})
	a := u.addresses()[0]
	for _, why := range []string{"certificate expired", "answered 503"} {
		u.checked(a, time.Now(), checkError(why))
		if got := u.state(time.Now()).Addresses[0].Why; got != "check: "+why {
			t.Errorf("%q, want %q", got, why)
		}
	}
}

// The words are bounded and repeat nothing that an upstream may have chosen.
func TestInWords(t *testing.T) {
	long := strings.Repeat("\x1bsecret", 100)
	for want, err := range map[string]error{
		"no such host":                             &net.DNSError{Err: long, Name: long, IsNotFound: true},
		"DNS timed out":                            &connectError{&net.DNSError{Err: long, Name: long, IsTimeout: true}},
		"DNS failed":                               &net.DNSError{Err: long, Name: long},
		"connection reset by peer":                 &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)},
		"no route to host":                         &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)},
		"timed out after 1.5 s":                    &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)},
		"timed out after 1.5 s ":                   fmt.Errorf("%s: %w", long, context.DeadlineExceeded),
		"all connections were in use":              errNoConnectionFree,
		"no HTTP/2 is spoken there":                errNotHTTP2,
		"the connection ended without an answer":   errors.Join(errNoAnswer, errors.New(long)),
		"the answer broke off":                     io.ErrUnexpectedEOF,
		"no clean answer: malformed status line":   h1.ErrStatusLine,
		"certificate not valid for a server":       x509.CertificateInvalidError{Reason: x509.IncompatibleUsage, Detail: long},
		"certificate not accepted":                 &tls.CertificateVerificationError{Err: errors.New(long)},
		"certificate of an unknown authority":      &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
		"no TLS is spoken there":                   tls.RecordHeaderError{Msg: long},
		"no clean answer":                          errors.New(long),
		"answered 503":                             checkError("answered 503"),
		"timed out after 1.5 s  ":                  os.ErrDeadlineExceeded,
		"certificate is for another name":          x509.HostnameError{Host: long, Certificate: new(x509.Certificate)},
		"certificate expired":                      x509.CertificateInvalidError{Reason: x509.Expired, Detail: long},
		"the connection ended without an answer  ": io.EOF,
	} {
		if got := inWords(err, 1500*time.Millisecond); got != strings.TrimSpace(want) || len(got) > 70 {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0 ms", 300 * time.Millisecond: "300 ms", time.Second: "1 s", 1049 * time.Millisecond: "1 s", 2 * time.Minute: "120 s"} {
		if got := roughly(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
