package httpfront

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// TestH2spec runs all suites of h2spec against the gateway, over TLS and over TCP.
func TestH2spec(t *testing.T) {
	for name, secure := range map[string]bool{"TLS": true, "TCP": false} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, newService(t), nil)
			address := g.address
			if secure {
				address = g.serveTLS(t)
			}
			host, port, _ := net.SplitHostPort(address)
			number, err := strconv.Atoi(port)
			if err != nil {
				t.Fatal(err)
			}
			c := &config.Config{Host: host, Port: number, Path: "/legacy/1", Timeout: 10 * time.Second, MaxHeaderLen: 4000, Strict: true, TLS: secure, Insecure: true}
			passed := 0
			for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
				group.Test(c)
				passed += checkGroup(t, group)
			}
			want := 146
			if !secure {
				want-- // on TCP a connection that begins otherwise speaks HTTP/1.1, and is answered so
			}
			if passed < want {
				t.Errorf("only %d cases passed", passed)
			}
		})
	}
}

// serveTLS serves the front on another address by TLS as well.
func (g *gateway) serveTLS(t testing.TB) string {
	t.Helper()
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	certificate.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- g.ServeTLS(ctx, listener, &tls.Config{Certificates: certificate.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func checkGroup(t *testing.T, group *spec.TestGroup) (passed int) {
	for _, test := range group.Tests {
		switch {
		case test.Result == nil:
			t.Errorf("%s: %s: not run", group.ID(), test.Desc)
		case test.Result.Failed && test.Desc == "Sends invalid connection preface" && strings.Contains(test.Result.Error.Error(), "looked like an HTTP/1.1 header"):
		case test.Result.Failed:
			t.Errorf("%s: %s: %v", strings.TrimSpace(group.Title()), test.Desc, test.Result.Error)
		case test.Result.Skipped:
			t.Errorf("%s: %s: skipped", group.ID(), test.Desc)
		default:
			passed++
		}
	}
	for _, sub := range group.Groups {
		passed += checkGroup(t, sub)
	}
	return passed
}
