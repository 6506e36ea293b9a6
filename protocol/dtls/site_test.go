package dtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"fieldgate/test/certtest"
)

// site is a Server on a loopback socket whose handler returns each message to its sender, in upper case.
type site struct {
	testing.TB
	*Server
	conn      *net.UDPConn
	address   netip.AddrPort
	authority *certtest.Authority

	mu      sync.Mutex
	drop    func(n int, datagram []byte) bool // of what the Server sends by Config.Send
	sent    [][]byte                          // by Config.Send
	peers   []netip.AddrPort                  // whose message came, each time
	ended   []any
	refused []Refusal

	quarantined atomic.Bool // everybody is: nobody may resume a session
}

const rightKey = "0123456789abcdef"

// startSite serves devices d1, d2, … with one pre-shared key, and clients with a certificate of the site's authority.
func startSite(t testing.TB, network string, change func(*Config)) *site {
	t.Helper()
	s := &site{TB: t, authority: certtest.NewAuthority(t)}
	loopback := map[string]string{"udp4": "127.0.0.1:0", "udp6": "[::1]:0"}[network]
	conn, err := net.ListenPacket(network, loopback)
	if err != nil {
		t.Fatal(err)
	}
	s.conn, s.address = conn.(*net.UDPConn), conn.LocalAddr().(*net.UDPAddr).AddrPort()
	certificate := s.authority.Issue(t, -time.Hour, time.Hour, "localhost", "127.0.0.1", "::1")
	config := Config{
		Send:    s.send,
		Receive: s.receive,
		PSK: func(identity []byte) ([]byte, bool) {
			if !bytes.HasPrefix(identity, []byte("d")) {
				return nil, false
			}
			return []byte(rightKey), true
		},
		Certificate: func(string) *tls.Certificate { return &certificate },
		ClientCAs:   s.authority.Pool,
		Admit:       s.admit,
		Resume:      func(any) bool { return !s.quarantined.Load() },
		Ended: func(_ netip.AddrPort, owner any) {
			s.mu.Lock()
			s.ended = append(s.ended, owner)
			s.mu.Unlock()
		},
		Refused: func(_ netip.AddrPort, _ Identity, refusal Refusal, _ error) {
			s.mu.Lock()
			s.refused = append(s.refused, refusal)
			s.mu.Unlock()
		},
	}
	if change != nil {
		change(&config)
	}
	if s.Server, err = NewServer(config, time.Now()); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(s.read)
	t.Cleanup(func() {
		s.Server.Close()
		s.conn.Close()
		reading.Wait()
	})
	return s
}

var errStranger = errors.New("nobody of ours")

// admit knows devices by their identity, or by the common name of their certificate.
func (s *site) admit(identity Identity) (any, error) {
	if identity.PSK != "" {
		if identity.PSK == "d-revoked" {
			return nil, errStranger
		}
		return identity.PSK, nil
	}
	if _, err := identity.Chain[0].Verify(x509.VerifyOptions{Roots: s.authority.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return nil, err
	}
	return identity.Chain[0].Subject.CommonName, nil
}

func (s *site) read() {
	buffer := make([]byte, 4096)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		s.Open(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), buffer[:n], s.receive)
	}
}

func (s *site) send(to netip.AddrPort, datagram []byte) {
	s.mu.Lock()
	s.sent = append(s.sent, bytes.Clone(datagram))
	dropped := s.drop != nil && s.drop(len(s.sent), datagram)
	s.mu.Unlock()
	if !dropped {
		s.conn.WriteToUDPAddrPort(datagram, to)
	}
}

// lose sets which datagrams of handshakes do not arrive.
func (s *site) lose(drop func(n int, datagram []byte) bool) {
	s.mu.Lock()
	s.drop = drop
	s.mu.Unlock()
}

func (s *site) receive(peer netip.AddrPort, message []byte) {
	s.mu.Lock()
	s.peers = append(s.peers, peer)
	s.mu.Unlock()
	if to, datagram, ok := s.Seal(nil, peer, bytes.ToUpper(message)); ok {
		s.conn.WriteToUDPAddrPort(datagram, to)
	}
}

// eventually waits for what another goroutine is about to do.
func (s *site) eventually(what string, done func() bool) {
	s.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		ok := done()
		s.mu.Unlock()
		if ok {
			return
		}
	}
	s.Fatal("it did not come to this: ", what)
}

// roamer is a client's socket whose address can change, and which can lose what it sends.
type roamer struct {
	testing.TB
	mu      sync.Mutex
	conn    *net.UDPConn
	drop    func(n int) bool
	written int
	last    []byte       // datagram
	bytes   atomic.Int64 // that came and went
	closed  chan struct{}
	in      chan []byte
	late    chan struct{} // a read deadline is over
	server  *net.UDPAddr
}

func newRoamer(t testing.TB, server netip.AddrPort, local *net.UDPAddr) *roamer {
	r := &roamer{TB: t, closed: make(chan struct{}), in: make(chan []byte, 64), late: make(chan struct{}, 1), server: net.UDPAddrFromAddrPort(server)}
	r.listen(local)
	return r
}

// vanish makes the socket free for somebody else, without a word.
func (r *roamer) vanish() *net.UDPAddr {
	local := r.LocalAddr().(*net.UDPAddr)
	r.Close()
	return local
}

// move gets a new address. What comes to the old one is lost.
func (r *roamer) move() { r.listen(&net.UDPAddr{IP: r.server.IP}) }

func (r *roamer) listen(local *net.UDPAddr) {
	conn, err := net.ListenUDP("udp", local)
	if err != nil {
		r.Fatal(err)
	}
	r.mu.Lock()
	old := r.conn
	r.conn = conn
	r.mu.Unlock()
	if old != nil {
		old.Close()
	}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			r.bytes.Add(int64(n))
			select {
			case r.in <- bytes.Clone(buffer[:n]):
			case <-r.closed:
			}
		}
	}()
}

func (r *roamer) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case datagram := <-r.in:
		return copy(b, datagram), r.server, nil
	case <-r.late:
		return 0, nil, context.DeadlineExceeded
	case <-r.closed:
		return 0, nil, net.ErrClosed
	}
}

func (r *roamer) WriteTo(b []byte, _ net.Addr) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written++
	r.bytes.Add(int64(len(b)))
	r.last = bytes.Clone(b)
	if r.drop != nil && r.drop(r.written) {
		return len(b), nil
	}
	return r.conn.WriteToUDP(b, r.server)
}

func (r *roamer) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closed:
	default:
		close(r.closed)
		r.conn.Close()
	}
	return nil
}

func (r *roamer) SetReadDeadline(at time.Time) error {
	if !at.IsZero() {
		select {
		case r.late <- struct{}{}:
		default:
		}
	}
	return nil
}

func (r *roamer) LocalAddr() net.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conn.LocalAddr()
}
func (r *roamer) SetDeadline(time.Time) error      { return nil }
func (r *roamer) SetWriteDeadline(time.Time) error { return nil }

// psk are the options of a client with a pre-shared key.
func psk(identity, key string, suite dtls.CipherSuiteID) []dtls.ClientOption {
	return []dtls.ClientOption{dtls.WithPSK(func([]byte) ([]byte, error) { return []byte(key), nil }), dtls.WithPSKIdentityHint([]byte(identity)),
		dtls.WithCipherSuites(suite)}
}

// certified are those of a client with a certificate; none without names.
func (s *site) certified(suite dtls.CipherSuiteID, names ...string) []dtls.ClientOption {
	options := []dtls.ClientOption{dtls.WithRootCAs(s.authority.Pool()), dtls.WithServerName("localhost"), dtls.WithCipherSuites(suite)}
	if len(names) > 0 {
		options = append(options, dtls.WithCertificates(s.authority.Issue(s, -time.Hour, time.Hour, names...)))
	}
	return options
}

// client is a pion client of a site.
type client struct {
	*dtls.Conn
	socket *roamer
}

// dial makes a client; its handshake is still to be done.
func (s *site) dial(options ...dtls.ClientOption) *client {
	s.Helper()
	return s.dialFrom(&net.UDPAddr{IP: net.UDPAddrFromAddrPort(s.address).IP}, options...)
}

func (s *site) dialFrom(local *net.UDPAddr, options ...dtls.ClientOption) *client {
	s.Helper()
	socket := newRoamer(s, s.address, local)
	conn, err := dtls.ClientWithOptions(socket, socket.server, append(options, dtls.WithFlightInterval(50*time.Millisecond), dtls.WithLoggerFactory(silent{}))...)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		conn.Close()
		socket.Close()
	})
	return &client{conn, socket}
}

// handshake does it within 20 s.
func (c *client) handshake() error {
	ctx, cancel := context.WithTimeout(c.socket.Context(), 2*time.Minute)
	defer cancel()
	return c.HandshakeContext(ctx)
}

// connect makes a client whose handshake succeeds.
func (s *site) connect(options ...dtls.ClientOption) *client {
	s.Helper()
	c := s.dial(options...)
	if err := c.handshake(); err != nil {
		s.Fatal(err)
	}
	return c
}

// echo sends a message and wants it back.
func (c *client) echo(message string) {
	c.socket.Helper()
	if _, err := c.Write([]byte(message)); err != nil {
		c.socket.Fatal(err)
	}
	buffer := make([]byte, 2048)
	c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	n, err := c.Read(buffer)
	if want := string(bytes.ToUpper([]byte(message))); err != nil || string(buffer[:n]) != want {
		c.socket.Fatalf("%q, %v; want %q", buffer[:n], err, want)
	}
}
