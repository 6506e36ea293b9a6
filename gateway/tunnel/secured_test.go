//go:build linux && (amd64 || arm64)

package tunnel

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/socket"
	"fieldgate/protocol/h1"
)

// handshake is a TLS connection: its far end, and the near end as the relay takes it.
func handshake(t testing.TB) (far *tls.Conn, near Link) {
	t.Helper()
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	certificate.Close()
	outer, inner := pair(t)
	far = tls.Client(outer, &tls.Config{InsecureSkipVerify: true})
	near = Link{TCP: inner, TLS: tls.Server(socket.New(inner), &tls.Config{Certificates: certificate.TLS.Certificates})}
	done := make(chan error, 1)
	go func() { done <- near.TLS.Handshake() }()
	if err := far.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return far, near
}

// joinSecured joins the near ends by way of a relay that speaks TLS with both.
func joinSecured(t testing.TB, relay *Relay, near [2]*net.TCPConn, read [2]string, messages *pipeline.Messages, idle time.Duration) (ends, func(int, string)) {
	t.Helper()
	var links [2]Link
	for i := range near {
		var far *tls.Conn
		far, links[i] = handshake(t)
		go carry(far, near[i])
		go carry(near[i], far)
	}
	ended := make(ends, 1)
	tunnel, err := relay.Take(links[0], links[1], []byte(read[0]), []byte(read[1]), messages, idle, ended)
	if err != nil {
		t.Fatal(err)
	}
	links[0].TCP.Close()
	links[1].TCP.Close()
	return ended, tunnel.End
}

// carry copies until the end, which it passes on, or until either side breaks off, which ends both.
func carry(to, from interface {
	net.Conn
	CloseWrite() error
}) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}

// One over TLS idles without a goroutine too, and goes on after it has.
func TestSecuredTunnelIdles(t *testing.T) {
	relay := running(t)
	goroutines := runtime.NumGoroutine()
	far, near := handshake(t)
	other, service := handshake(t)
	ended := make(ends, 1)
	if _, err := relay.Take(near, service, nil, nil, nil, 0, ended); err != nil {
		t.Fatal(err)
	}
	near.TCP.Close()
	service.TCP.Close()
	content := make([]byte, 3<<20) // records of all sizes, more than the sockets hold
	rand.Read(content)
	for range 3 {
		go func() {
			for rest := content; len(rest) > 0; {
				n, err := far.Write(rest[:min(len(rest), 1+len(rest)/3)])
				if err != nil {
					return
				}
				rest = rest[n:]
			}
		}()
		got := make([]byte, len(content))
		if _, err := io.ReadFull(other, got); err != nil || !bytes.Equal(got, content) {
			t.Fatal("not what was sent", err)
		}
	}
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > goroutines && time.Now().Before(end); time.Sleep(time.Millisecond) { // the writer ends
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines more", n-goroutines)
	}
	other.Close()
	far.Close()
	if end := ended.next(t); end.FromClient != 3*uint64(len(content)) {
		t.Errorf("%+v", end)
	}
}

// Nobody says anything for too long: both sides are told, and a ping of either is a sign of life (RFC 6455 §5.5.2).
func TestSilenceEnds(t *testing.T) {
	const idle = 4 * time.Second // and four signs of life in that time: some may come late
	for name, join := range map[string]func(near [2]*net.TCPConn) ends{
		"relay": func(near [2]*net.TCPConn) ends {
			ended := make(ends, 1)
			if _, err := running(t).Take(Link{TCP: near[0]}, Link{TCP: near[1]}, nil, nil, nil, idle, ended); err != nil {
				t.Fatal(err)
			}
			near[0].Close()
			near[1].Close()
			return ended
		},
		"relay over TLS": func(near [2]*net.TCPConn) ends {
			ended, _ := joinSecured(t, running(t), near, [2]string{}, nil, idle)
			return ended
		},
		"copy": func(near [2]*net.TCPConn) ends {
			ended := make(ends, 1)
			go func() { ended <- Copy(near[0], near[1], nil, nil, nil, idle, Ending{}, Ending{}) }()
			return ended
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var far, near [2]*net.TCPConn
			for i := range far {
				far[i], near[i] = pair(t)
			}
			ended := join(near)
			began := time.Now()
			for range 8 { // twice as long as it may idle
				time.Sleep(idle / 4)
				io.WriteString(far[client], frame(0x89, ""))
				expect(t, far[service], frame(0x89, ""))
			}
			far[client].SetReadDeadline(time.Now().Add(time.Minute))
			expect(t, far[client], served(0x88, "\x03\xe9"+silent))
			expectEnd(t, far[client])
			if time.Since(began) < 3*idle-idle/8 {
				t.Errorf("ended after %v", time.Since(began))
			}
			far[client].Close()
			far[service].Close()
			if end := ended.next(t); end.Code != h1.CloseGoingAway {
				t.Errorf("%+v", end)
			}
		})
	}
}
