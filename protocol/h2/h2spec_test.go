package h2

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// TestH2spec runs all suites of h2spec, strict ones included.
func TestH2spec(t *testing.T) {
	address := serve(t, nil, func(s *Stream) {
		buf := make([]byte, 1024)
		for {
			if _, err := s.Read(buf); err != nil {
				break
			}
		}
		s.Send(200, []Field{{[]byte("Content-Type"), []byte("text/plain")}}, []byte("Hello"), true)
	})
	c := &config.Config{Host: "127.0.0.1", Port: address.Port, Path: "/", Timeout: 10 * time.Second, MaxHeaderLen: 4000, Strict: true}
	passed := 0
	for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		group.Test(c)
		passed += checkGroup(t, group)
	}
	if passed < 146 {
		t.Errorf("only %d cases ran", passed)
	}
}

func checkGroup(t *testing.T, group *spec.TestGroup) (passed int) {
	for _, test := range group.Tests {
		switch {
		case test.Result == nil:
			t.Errorf("%s: %s: not run", group.ID(), test.Desc)
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

// serve serves connections on loopback until the test ends.
func serve(t testing.TB, config *Config, handle func(*Stream)) *net.TCPAddr {
	t.Helper()
	if config == nil {
		config = &Config{}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			link, err := listener.Accept()
			if err != nil {
				return
			}
			go NewConn(link, nil, config, handle).Serve()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-ended
	})
	return listener.Addr().(*net.TCPAddr)
}
