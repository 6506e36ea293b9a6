package coap

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/tcp"
	"github.com/plgd-dev/go-coap/v3/tcp/client"

	"fieldgate/test/port"
)

// testCertificate makes a certificate for 127.0.0.1 and localhost that is its own authority, and a file with it.
func testCertificate(t *testing.T) (tls.Certificate, *x509.CertPool, string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, authorities, file
}

// secured adds a TLS listener to the Stream and gives its address.
func (b *streamBench) secured(certificate tls.Certificate) string {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"coap"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go b.stream.Serve(conn, nil)
		}
	}()
	return listener.Addr().String()
}

// Debian's libcoap clients put and get bodies, in blocks and whole, over TCP and TLS.
func TestLibcoapOverTCP(t *testing.T) {
	b := startStream(t, StreamConfig{})
	certificate, _, authority := testCertificate(t)
	secured := b.secured(certificate)
	for _, over := range []struct {
		name, url string
		command   []string
	}{
		{"TCP", "coap+tcp://" + b.listener.Addr().String(), []string{"coap-client-notls", "-r"}},
		{"TLS", "coaps+tcp://" + secured, []string{"coap-client-openssl", "-r", "-R", authority}},
	} {
		t.Run(over.name, func(t *testing.T) {
			t.Parallel()
			run := func(arguments ...string) string {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
				defer cancel()
				arguments = append(over.command[1:len(over.command):len(over.command)], arguments...)
				out, err := exec.CommandContext(ctx, over.command[0], arguments...).CombinedOutput()
				if err != nil {
					t.Fatalf("%s %s: %v\n%s", over.command[0], strings.Join(arguments, " "), err, out)
				}
				return string(out)
			}
			dir := t.TempDir()
			for _, size := range []int{1, 1000, 64 << 10, 1 << 20} {
				for _, block := range []string{"", "1024", "64"} {
					if block == "64" && size > 64<<10 {
						continue // 16,384 round trips
					}
					body, file := pattern(size), filepath.Join(dir, "up")
					if err := os.WriteFile(file, body, 0o600); err != nil {
						t.Fatal(err)
					}
					path := fmt.Sprintf("/%s%d-%s", over.name, size, block)
					arguments := []string{"-B", "55"}
					if block != "" {
						arguments = append(arguments, "-b", block)
					}
					run(append(arguments, "-m", "put", "-f", file, over.url+path)...)
					b.mu.Lock()
					stored := b.bodies[path]
					b.mu.Unlock()
					if sha256.Sum256(stored) != sha256.Sum256(body) {
						t.Errorf("PUT of %d bytes in blocks of %q: %d bytes arrived, or they differ", size, block, len(stored))
					}
					down := filepath.Join(dir, "down")
					run(append(arguments, "-m", "get", "-o", down, over.url+path)...)
					if got, err := os.ReadFile(down); err != nil || sha256.Sum256(got) != sha256.Sum256(body) {
						t.Errorf("GET of %d bytes in blocks of %q: %v; %d bytes arrived, or they differ", size, block, err, len(got))
					}
				}
			}
			if out := run("-v", "7", "-B", "55", over.url+"/nothing"); !strings.Contains(out, "4.04") {
				t.Errorf("no 4.04 in\n%s", out)
			}
		})
	}
}

func TestLibcoapObservesOverTCP(t *testing.T) {
	needLibcoap(t)
	t.Parallel() // it mostly waits for the client, which observes as long as a slow machine may need
	b := startStream(t, StreamConfig{})
	b.bodies["/o"] = []byte("value-first")
	done := make(chan string)
	go func() {
		done <- libcoap(t, "-r", "-v", "7", "-s", "15", "-B", "60", "coap+tcp://"+b.listener.Addr().String()+"/o")
	}()
	until(t, "the observation", func() bool { return b.stream.Stats().Observations == 1 })
	for i := range 30 {
		b.stream.Notify(b.observer(), &Response{Body: fmt.Appendf(nil, "value-%d;", i)})
	}
	out := <-done
	for _, want := range []string{"value-first", "value-29;", "Observe:1"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	until(t, "that it has deregistered and gone", func() bool { return b.stream.Stats().Peers == 0 && b.stream.Stats().Observations == 0 })
}

// Our client against libcoap's server.
func TestLibcoapServerOverTCP(t *testing.T) {
	address := port.Free(t)
	_, number, _ := net.SplitHostPort(address)
	command := exec.Command("coap-server-notls", "-A", "127.0.0.1", "-p", number, "-d", "10")
	if err := command.Start(); err != nil {
		t.Fatal("this test needs coap-server-notls from the Debian package libcoap3-bin")
	}
	t.Cleanup(func() { command.Process.Kill(); command.Wait() })
	var conn net.Conn
	until(t, "that the server listens", func() bool {
		var err error
		conn, err = net.Dial("tcp", address)
		return err == nil
	})
	c, err := NewClient(t.Context(), conn, StreamConfig{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int{0, 512, 64} {
		body := pattern(20_000)
		put := call(PUT, fmt.Sprintf("/x%d", size), body)
		put.BlockSize = size
		if r, err := c.Do(t.Context(), put); err != nil || !r.Code.IsSuccess() {
			t.Fatalf("PUT in blocks of %d: %+v %v", size, r, err)
		}
		fetch := get(fmt.Sprintf("/x%d", size))
		fetch.BlockSize = size
		if r, err := c.Do(t.Context(), fetch); err != nil || !bytes.Equal(r.Body, body) {
			t.Fatalf("GET in blocks of %d: %v, or the body differs", size, err)
		}
	}
	seen := 0
	if err := c.Observe(t.Context(), get("/time"), func(*Reply) bool { seen++; return seen < 2 }); err != nil || seen != 2 {
		t.Errorf("observed %d times: %v", seen, err)
	}
}

// go-coap's client, over TCP and TLS. It does long transfers in BERT blocks.
func TestGoCoapOverTCP(t *testing.T) {
	b := startStream(t, StreamConfig{})
	certificate, authorities, _ := testCertificate(t)
	secured := b.secured(certificate)
	for _, over := range []struct {
		name, address string
		options       []tcp.Option
	}{
		{"TCP", b.listener.Addr().String(), nil},
		{"TLS", secured, []tcp.Option{options.WithTLS(&tls.Config{RootCAs: authorities, NextProtos: []string{"coap"}})}},
	} {
		t.Run(over.name, func(t *testing.T) {
			conn, err := tcp.Dial(over.address, append(over.options, options.WithErrors(func(error) {}), options.WithMaxMessageSize(2<<20))...)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			for _, size := range []int{1, 60_000, 64 << 10, 1 << 20} {
				path, body := fmt.Sprintf("/go%s%d", over.name, size), pattern(size)
				if r, err := conn.Put(ctx, path, message.AppOctets, bytes.NewReader(body)); err != nil || r.Code().String() != "Changed" {
					t.Fatalf("PUT of %d bytes: %v, %v", size, r, err)
				}
				b.mu.Lock()
				stored := b.bodies[path]
				b.mu.Unlock()
				if sha256.Sum256(stored) != sha256.Sum256(body) {
					t.Errorf("PUT of %d bytes: %d arrived, or they differ", size, len(stored))
				}
				r, err := conn.Get(ctx, path)
				if err != nil {
					t.Fatalf("GET of %d bytes: %v", size, err)
				}
				got, err := io.ReadAll(r.Body())
				if err != nil || sha256.Sum256(got) != sha256.Sum256(body) {
					t.Errorf("GET of %d bytes: %v; %d arrived, or they differ", size, err, len(got))
				}
			}
			if err := conn.Ping(ctx); err != nil {
				t.Errorf("Ping: %v", err)
			}
			goObserves(t, ctx, b, conn)
		})
	}
}

func goObserves(t *testing.T, ctx context.Context, b *streamBench, conn *client.Conn) {
	b.mu.Lock()
	b.bodies["/o"] = []byte("first")
	b.mu.Unlock()
	heard := make(chan string, 100)
	observation, err := conn.Observe(ctx, "/o", func(m *pool.Message) {
		body, _ := m.ReadBody()
		heard <- string(body)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "first" {
		t.Errorf("heard %q", got)
	}
	for i := range 5 {
		b.stream.Notify(b.observer(), &Response{Body: fmt.Append(nil, i)})
		if got := <-heard; got != fmt.Sprint(i) {
			t.Errorf("heard %q, want %d", got, i)
		}
	}
	if err := observation.Cancel(ctx); err != nil {
		t.Error(err)
	}
	until(t, "that it is deregistered", func() bool { return b.stream.Stats().Observations == 0 })
}
