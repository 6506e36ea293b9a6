package coap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate/test/port"
)

// libcoap runs coap-client-notls (Debian libcoap3-bin) and returns what it wrote: the response and, with -v 7,
// the messages.
func libcoap(t *testing.T, arguments ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "coap-client-notls", arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("coap-client-notls %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

func needLibcoap(t *testing.T) {
	if _, err := exec.LookPath("coap-client-notls"); err != nil {
		t.Fatal("this test needs coap-client-notls from the Debian package libcoap3-bin")
	}
}

func (s *store) url(path string) string { return "coap://" + s.udp.LocalAddr().String() + path }

// TestLibcoapMethods runs TD_COAP_CORE_01 to 08 of the ETSI CoAP plugtests and the methods of RFC 8132.
func TestLibcoapMethods(t *testing.T) {
	needLibcoap(t)
	s := startStore(t, Config{ProcessingDelay: time.Minute}) // no answer is separate, however slow the machine
	for _, test := range []struct {
		name      string
		arguments []string
		path      string
		want      []string
		wantNot   string
	}{
		{"CON PUT", []string{"-m", "put", "-e", "22.5", "-t", "0"}, "/a", []string{"t:CON c:PUT", "t:ACK c:2.01"}, ""},
		{"CON GET", []string{"-m", "get"}, "/a", []string{"t:CON c:GET", "t:ACK c:2.05", "22.5"}, ""},
		{"CON POST", []string{"-m", "post", "-e", "x"}, "/a", []string{"t:CON c:POST", "t:ACK c:2.04"}, ""},
		{"NON PUT", []string{"-N", "-m", "put", "-e", "23"}, "/a", []string{"t:NON c:PUT", "t:NON c:2.04"}, "t:CON"},
		{"NON GET", []string{"-N", "-m", "get"}, "/a", []string{"t:NON c:GET", "t:NON c:2.05", "23"}, "t:CON"},
		{"NON POST", []string{"-N", "-m", "post", "-e", "x"}, "/a", []string{"t:NON c:POST", "t:NON c:2.04"}, "t:CON"},
		{"FETCH", []string{"-m", "fetch", "-e", "q"}, "/a", []string{"c:FETCH", "c:2.05"}, ""},
		{"iPATCH", []string{"-m", "ipatch", "-e", "q"}, "/a", []string{"c:2.04"}, ""},
		{"no token", []string{"-T", ""}, "/a", []string{"c:2.05"}, ""},
		{"query", nil, "/a?x=1&y=2", []string{"c:2.05"}, ""},
		{"unknown elective option", []string{"-O", "65000,0x01"}, "/a", []string{"c:2.05"}, ""},
		{"unknown critical option", []string{"-O", "65001,0x01"}, "/a", []string{"c:4.02"}, ""},
		{"unknown critical option in NON", []string{"-N", "-O", "65001,0x01", "-B", "5"}, "/a", []string{"t:RST"}, "c:2.05"},
		{"not found", nil, "/none", []string{"c:4.04"}, ""},
		{"proxying", []string{"-O", "35,coap://x/"}, "/a", []string{"c:5.05"}, ""},
		{"NON DELETE", []string{"-N", "-m", "delete"}, "/a", []string{"t:NON c:DELETE", "t:NON c:2.02"}, "t:CON"},
		{"CON DELETE", []string{"-m", "delete"}, "/a", []string{"t:CON c:DELETE", "t:ACK c:2.02"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := libcoap(t, append(append([]string{"-v", "7", "-B", "60"}, test.arguments...), s.url(test.path))...)
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if test.wantNot != "" && strings.Contains(out, test.wantNot) {
				t.Errorf("%q in\n%s", test.wantNot, out)
			}
		})
	}
}

// TestLibcoapBlocks moves 64 KiB up and down with a new token for each block, with and without loss.
func TestLibcoapBlocks(t *testing.T) {
	needLibcoap(t)
	s := startStore(t, Config{})
	body := pattern(64 << 10)
	dir := t.TempDir()
	up := filepath.Join(dir, "up")
	if err := os.WriteFile(up, body, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		size, loss string
		length     int
	}{
		{"1024", "", 64 << 10}, {"512", "", 64 << 10}, {"256", "", 64 << 10}, {"32", "", 64 << 10}, {"16", "", 64 << 10},
		{"64", "10%", 800},
	} {
		t.Run("blocks of "+test.size+" loss "+test.loss, func(t *testing.T) {
			t.Parallel()
			want := body[:test.length]
			path := "/big" + test.size + strings.TrimSuffix(test.loss, "%")
			file := up
			if test.length < len(body) {
				file = filepath.Join(dir, "short")
				if err := os.WriteFile(file, want, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			arguments := []string{"-B", "55", "-b", test.size}
			if test.loss != "" {
				arguments = append(arguments, "-l", test.loss)
			}
			libcoap(t, append(arguments, "-m", "put", "-f", file, s.url(path))...)
			s.mu.Lock()
			stored := s.bodies[path]
			s.mu.Unlock()
			if sha256.Sum256(stored) != sha256.Sum256(want) {
				t.Errorf("PUT: %d bytes arrived, or they differ", len(stored))
			}
			down := filepath.Join(dir, "down"+path[1:])
			libcoap(t, append(arguments, "-m", "get", "-o", down, s.url(path))...)
			got, err := os.ReadFile(down)
			if err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
				t.Errorf("GET: %v; %d bytes arrived, or they differ", err, len(got))
			}
		})
	}
}

// TestLibcoapUnverified shows what each way of treating an unverified peer means for libcoap 4.3.1.
func TestLibcoapUnverified(t *testing.T) {
	needLibcoap(t)
	for _, challenge := range []bool{false, true} {
		t.Run(fmt.Sprintf("challenge %v", challenge), func(t *testing.T) {
			s := startStore(t, Config{Challenge: challenge})
			s.set("/big", pattern(20_000))
			down := filepath.Join(t.TempDir(), "down")
			out := libcoap(t, "-v", "7", "-B", "60", "-o", down, s.url("/big"))
			got, err := os.ReadFile(down)
			if err != nil || !bytes.Equal(got, pattern(20_000)) {
				t.Errorf("%v; %d bytes arrived, or they differ\n%.3000s", err, len(got), out)
			}
		})
	}
}

func TestLibcoapObserve(t *testing.T) {
	needLibcoap(t)
	t.Parallel() // it mostly waits for the client, which observes as long as a slow machine may need for 30 changes
	s := startStore(t, Config{})
	s.set("/t", []byte("value-0"))
	client := startUDP(t, Config{}, nil)
	done := make(chan string)
	go func() { done <- libcoap(t, "-v", "7", "-s", "15", "-B", "60", "-w", s.url("/t")) }()
	for s.udp.Stats().Observations == 0 {
		time.Sleep(time.Millisecond)
	}
	for i := range 30 {
		if _, err := client.Do(t.Context(), s.udp.LocalAddr(), call(PUT, "/t", fmt.Appendf(nil, "value-%d", i+1))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	out := <-done
	for _, want := range []string{"value-0", "value-30", "Observe:1", "t:CON c:2.05"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for end := time.Now().Add(time.Minute); s.udp.Stats().Observations != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("RFC 7641 §3.6: libcoap deregistered, but its observation remains")
		}
	}
}

// TestLibcoapSlow is TD_COAP_CORE_09, a separate response.
func TestLibcoapSlow(t *testing.T) {
	needLibcoap(t)
	s := startStore(t, Config{})
	go func() { // when its acknowledgement has left
		for s.udp.Stats().Sent == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		close(s.slow)
	}()
	out := libcoap(t, "-v", "7", "-B", "60", s.url("/slow"))
	for _, want := range []string{"t:ACK c:0.00", "t:CON c:2.05", "at last"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Count(out, "t:CON c:GET") != 1 {
		t.Errorf("libcoap repeated its request:\n%s", out)
	}
}

// TestLibcoapServer is our client against libcoap's server.
func TestLibcoapServer(t *testing.T) {
	if _, err := exec.LookPath("coap-server-notls"); err != nil {
		t.Fatal("this test needs coap-server-notls from the Debian package libcoap3-bin")
	}
	server := netip.MustParseAddrPort(port.Free(t))
	command := exec.Command("coap-server-notls", "-A", "127.0.0.1", "-p", fmt.Sprint(server.Port()), "-d", "10")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { command.Process.Kill(); command.Wait() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	client := startUDP(t, Config{AckTimeout: 200 * time.Millisecond}, nil)
	for _, size := range []int{0, 512, 64} {
		body := pattern(20_000)
		put := call(PUT, fmt.Sprintf("/x%d", size), body)
		put.BlockSize = size
		if r, err := client.Do(ctx, server, put); err != nil || !r.Code.IsSuccess() {
			t.Fatalf("PUT in blocks of %d: %+v %v", size, r, err)
		}
		fetch := get(fmt.Sprintf("/x%d", size))
		fetch.BlockSize = size
		r, err := client.Do(ctx, server, fetch)
		if err != nil || !bytes.Equal(r.Body, body) {
			t.Fatalf("GET in blocks of %d: %v, or the body differs", size, err)
		}
	}
	seen := 0
	if err := client.Observe(ctx, server, get("/time"), func(*Reply) bool { seen++; return seen < 3 }); err != nil || seen != 3 {
		t.Errorf("observed %d times: %v", seen, err)
	}
}
