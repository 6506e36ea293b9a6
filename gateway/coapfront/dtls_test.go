package coapfront

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pion "github.com/pion/dtls/v3"
	"github.com/pion/logging"

	"fieldgate"
	"fieldgate/engine/seal"
	"fieldgate/gateway/directory"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/dtls"
	"fieldgate/test/certtest"
)

// secureGateway is a gateway with CoAP over DTLS, whose device d7 has a pre-shared key and certificates of an authority.
type secureGateway struct {
	*gateway
	secure    netip.AddrPort
	authority *certtest.Authority
	secrets   *seal.Keyring
}

const deviceKey = "sixteen bytes or more"

func newSecureGateway(t testing.TB, change ...func(*DTLS)) *secureGateway {
	t.Helper()
	s := &secureGateway{authority: certtest.NewAuthority(t), secrets: seal.Open(filepath.Join(t.TempDir(), "secrets.key"), true)}
	if _, err := s.secrets.Need(); err != nil {
		t.Fatal(err)
	}
	certificate := s.authority.Issue(t, -time.Hour, time.Hour, "localhost", "127.0.0.1")
	s.gateway = newGateway(t, func(c *Config) {
		c.Pipeline.Directory.Secrets = s.secrets
		c.Pipeline.Directory.SetAuthorities(directory.NewAuthorities([]*x509.Certificate{s.authority.Certificate}, false))
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		c.DTLS = DTLS{Conn: conn, Certificate: func(string) *tls.Certificate { return &certificate }}
		for _, f := range change {
			f(&c.DTLS)
		}
	})
	s.secure = s.front.Addresses()["coaps"]
	s.provision("d7", fieldgate.StateActive, deviceKey)
	return s
}

// provision sets a device's state and pre-shared key, whose identity is the device's id.
func (s *secureGateway) provision(id string, state fieldgate.PrincipalState, key string) {
	s.Helper()
	s.sequence++
	change := fieldgate.DirectoryChange{Sequence: s.sequence, Kind: fieldgate.PrincipalDevice, ID: id, State: state,
		Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(s.token))}, PSK: &fieldgate.SealedPSK{Identity: id}}
	change.PSK.Sealed = s.secrets.Key().Seal([]byte(key), change.PSK.Binding(change.Kind, id))
	if err := s.pipeline.Directory.Apply([]fieldgate.DirectoryChange{change}); err != nil {
		s.Fatal(err)
	}
}

// eventually waits for what another goroutine is about to do.
func (s *secureGateway) eventually(what string, done func() bool) {
	s.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if done() {
			return
		}
	}
	s.Fatal("it did not come to this: ", what)
}

func (s *secureGateway) sessions() int {
	stats, _ := s.front.DTLSStats()
	return stats.Sessions
}

// refused is how many handshakes were, for a reason.
func (s *secureGateway) refused(reason dtls.Refusal) uint64 {
	stats, _ := s.front.DTLSStats()
	return stats.Refused[reason]
}

// libcoap runs one of its clients (Debian libcoap3-bin).
func (s *secureGateway) libcoap(client, path string, arguments ...string) string {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, client, append(arguments, "coaps://"+s.secure.String()+path)...).CombinedOutput()
	if err != nil {
		s.Fatalf("%s %v: %v\n%s", client, arguments, err, out)
	}
	return string(out)
}

// certificateOf writes a certificate of a device and gives the arguments with which libcoap shows it.
func (s *secureGateway) certificateOf(authority *certtest.Authority, name string) []string {
	folder := s.TempDir()
	certificate, key := certtest.PEM(s, authority.Issue(s, -time.Hour, time.Hour, name))
	for file, text := range map[string][]byte{"client.pem": certificate, "client.key": key} {
		if err := os.WriteFile(filepath.Join(folder, file), text, 0o600); err != nil {
			s.Fatal(err)
		}
	}
	return []string{"-c", folder + "/client.pem", "-j", folder + "/client.key", "-C", s.authority.File}
}

// RFC 7252 §9: libcoap's clients with both TLS libraries, pre-shared keys (§9.1.3.1) and certificates (§9.1.3.3).
func TestLibcoapOverDTLS(t *testing.T) {
	s := newSecureGateway(t)
	blob := []byte(fmt.Sprintf(`{"blob":%q}`, strings.Repeat("y", 20_000)))
	file := filepath.Join(t.TempDir(), "blob.json")
	if err := os.WriteFile(file, blob, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, client := range []string{"coap-client-openssl", "coap-client-gnutls"} {
		if _, err := exec.LookPath(client); err != nil {
			t.Fatalf("this test needs %s from the Debian package libcoap3-bin", client)
		}
		for kind, credentials := range map[string][]string{"PSK": {"-u", "d7", "-k", deviceKey}, "certificate": s.certificateOf(s.authority, "d7")} {
			t.Run(client+" "+kind, func(t *testing.T) {
				if out := s.libcoap(client, "/readings", append([]string{"-m", "get"}, credentials...)...); !strings.Contains(out, `{"t":21.5,"u":"C"}`) {
					t.Errorf("GET: %s", out)
				}
				if asked := <-s.asked; asked.principal != "device:d7" && !strings.Contains(asked.principal, "d7") {
					t.Errorf("the service was asked by %q", asked.principal)
				}
				record := s.records.take(t, 1)[0]
				if record.Principal != "d7" || !strings.HasPrefix(fmt.Sprint(record.Source), "127.0.0.1") {
					t.Errorf("the record says %+v at %v", record.Principal, record.Source)
				}
				s.libcoap(client, "/blob", append([]string{"-m", "put", "-b", "512", "-t", "50", "-f", file}, credentials...)...)
				if asked := <-s.asked; asked.body != string(blob) {
					t.Errorf("PUT in blocks: %d bytes arrived, of %d", len(asked.body), len(blob))
				}
				s.records.take(t, 1)
				if out := s.libcoap(client, "/blob", append([]string{"-m", "get"}, credentials...)...); !strings.Contains(out, strings.Repeat("x", 50_000)) {
					t.Errorf("GET in blocks: %d bytes", len(out))
				}
				<-s.asked
				s.records.take(t, 1)
			})
		}
	}
	s.eventually("the end of all sessions, which the clients tell of", func() bool { return s.sessions() == 0 && s.front.secured.Stats().Peers == 0 })
}

// Who is not a device that may come in does not. Records tell of it.
func TestStrangersOverDTLS(t *testing.T) {
	patient := newSecureGateway(t, func(c *DTLS) { c.HandshakeTimeout = time.Minute })
	other := certtest.NewAuthority(t)
	patient.provision("d8", fieldgate.StateQuarantined, deviceKey)
	// Who has no key, or another one, is noticed by nothing but that the handshake does not end: it has to have come as far as the key by then.
	impatient := newSecureGateway(t, func(c *DTLS) { c.HandshakeTimeout = 3 * time.Second })
	for _, test := range []struct {
		name    string
		options []pion.ClientOption
		want    dtls.Refusal
	}{
		{"wrong key", pskOptions("d7", "another key of sixteen"), dtls.RefusedKey},
		{"unknown identity", pskOptions("d9", deviceKey), dtls.RefusedUnknown},
		{"quarantined", pskOptions("d8", deviceKey), dtls.RefusedOwner},
		{"no certificate", certificateOptions(), dtls.RefusedCertificate},
		{"certificate of another authority", certificateOptions(other.Issue(t, -time.Hour, time.Hour, "d7")), dtls.RefusedCertificate},
		{"certificate of no device", certificateOptions(patient.authority.Issue(t, -time.Hour, time.Hour, "d9")), dtls.RefusedCertificate},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := patient
			if test.want == dtls.RefusedKey || test.want == dtls.RefusedUnknown {
				s = impatient
			}
			before := s.refused(test.want)
			_, conn := s.newClient(test.options...)
			handshaking, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- conn.HandshakeContext(handshaking) }()
			record := s.records.take(t, 1)[0]
			cancel()
			if err := <-done; err == nil {
				t.Error("the client has a session")
			}
			if record.Problem != fieldgate.ProblemUnauthenticated || !strings.HasPrefix(record.Detail, "DTLS handshake: ") {
				t.Errorf("the record says %s %q", record.Problem, record.Detail)
			}
			if s.refused(test.want) != before+1 || s.sessions() != 0 {
				t.Errorf("refused %d more, %d sessions", s.refused(test.want)-before, s.sessions())
			}
		})
	}
}

// A device that is quarantined, revoked or gets another key loses its sessions at once; what is for it goes on in the next one.
func TestRevokedOverDTLS(t *testing.T) {
	s := newSecureGateway(t)
	for name, change := range map[string]func(){
		"quarantined":      func() { s.provision("d7", fieldgate.StateQuarantined, deviceKey) },
		"revoked":          func() { s.provision("d7", fieldgate.StateRevoked, deviceKey) },
		"the key replaced": func() { s.provision("d7", fieldgate.StateActive, deviceKey) }, // sealed anew it is another one
	} {
		s.provision("d7", fieldgate.StateActive, deviceKey)
		_, conn := s.newClient(pskOptions("d7", deviceKey)...)
		s.exchange(conn, 1, coap.GET, "/temperature", observe(0))
		if n := s.front.secured.Stats().Observations; n != 1 {
			t.Fatalf("%d observations", n)
		}
		change()
		s.eventually("no session any more: "+name, func() bool { return s.sessions() == 0 && s.front.secured.Stats().Observations == 0 })
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		var err error
		for err == nil { // the observation's last answer may have left before
			_, err = conn.Read(make([]byte, 2000))
		}
		if timeout, is := errors.AsType[net.Error](err); is && timeout.Timeout() {
			t.Error("the client was not told: ", name)
		}
	}
}

// A device that has lost its session resumes it, and is the same one; one that may not come in any more does not come in so either.
func TestResumedOverDTLS(t *testing.T) {
	s := newSecureGateway(t)
	resumed := func() uint64 {
		stats, _ := s.front.DTLSStats()
		return stats.Resumed
	}
	for name, options := range map[string][]pion.ClientOption{"key": pskOptions("d7", deviceKey),
		"certificate": certificateOptions(s.authority.Issue(t, -time.Hour, time.Hour, "d7"))} {
		options = append(options, pion.WithSessionStore(&keptSession{}))
		before := resumed()
		for range 2 {
			_, conn := s.newClient(options...)
			if reply := s.exchange(conn, 1, coap.GET, "/temperature"); reply.Code != coap.Content {
				t.Errorf("%s: %v", name, reply.Code)
			}
			conn.Close()
		}
		if n := resumed() - before; n != 1 {
			t.Errorf("%s: %d sessions were resumed, want the second", name, n)
		}
		s.provision("d7", fieldgate.StateQuarantined, deviceKey)
		if _, conn := s.newClient(options...); conn.HandshakeContext(t.Context()) == nil {
			t.Errorf("%s: the device comes in although it is quarantined", name)
		}
		if n := resumed() - before; n != 1 {
			t.Errorf("%s: a session of a device in quarantine was resumed", name)
		}
		s.provision("d7", fieldgate.StateActive, deviceKey)
	}
}

// keptSession is where a pion client keeps its session.
type keptSession struct {
	mu      sync.Mutex
	session pion.Session
}

func (k *keptSession) Get([]byte) (pion.Session, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.session, nil
}

func (k *keptSession) Set(_ []byte, session pion.Session) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.session = session
	return nil
}

func (k *keptSession) Del([]byte) error { return k.Set(nil, pion.Session{}) }

// A key that is replaced while a handshake is under way lets nobody in any more, nor does the new one in its place.
func TestKeyChangesDuringAHandshake(t *testing.T) {
	s := newSecureGateway(t)
	admit := func(key string) error {
		_, err := s.front.secured.admit(dtls.Identity{PSK: "d7", Key: []byte(key)})
		return err
	}
	if err := admit(deviceKey); err != nil {
		t.Fatal(err)
	}
	s.provision("d7", fieldgate.StateActive, "another key of the device")
	if admit(deviceKey) == nil || admit("") == nil || admit("another key of the device") != nil {
		t.Error("who has the key of before is let in by the new one")
	}
}

// RFC 9146: a device whose address changes keeps its observations.
func TestObserverMoves(t *testing.T) {
	s := newSecureGateway(t)
	socket, conn := s.newClient(append(pskOptions("d7", deviceKey), pion.WithConnectionIDGenerator(pion.OnlySendCIDGenerator()))...)
	s.exchange(conn, 1, coap.GET, "/temperature", observe(0))
	for i := range 3 {
		socket.move(t)
		if reply := s.exchange(conn, uint16(2+2*i), coap.GET, "/readings"); reply.Code != coap.Content {
			t.Fatalf("GET from another address: %v", reply.Code)
		}
		<-s.asked
		s.do(call(coap.POST, "/temperature", cbor(t, `{"t":20.5}`), token(s.token), number(coap.ContentFormat, coap.CBOR)))
		notification := s.receive(conn)
		if _, ok := notification.Uint(coap.Observe); !ok || notification.Code != coap.Content {
			t.Fatalf("the notification is %v", notification.Code)
		}
	}
	if stats, _ := s.front.DTLSStats(); stats.Moved != 3 || stats.Sessions != 1 {
		t.Errorf("%+v", stats)
	}
}

// One device cannot have all sessions.
func TestSessionsOfOneDevice(t *testing.T) {
	s := newSecureGateway(t)
	for range maxSessionsOfPrincipal + 3 {
		_, conn := s.newClient(pskOptions("d7", deviceKey)...)
		s.exchange(conn, 1, coap.GET, "/readings")
		<-s.asked
	}
	s.eventually("the end of the oldest", func() bool { return s.sessions() == maxSessionsOfPrincipal })
}

// roaming is a client's socket whose address can change.
type roaming struct {
	atomic.Pointer[net.UDPConn]
	server *net.UDPAddr
}

func (r *roaming) move(t testing.TB) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if old := r.Swap(conn); old != nil {
		old.Close()
	}
}

func (r *roaming) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		conn := r.Load()
		n, err := conn.Read(b)
		if err == nil || conn == r.Load() {
			return n, r.server, err
		}
	}
}

func (r *roaming) WriteTo(b []byte, _ net.Addr) (int, error) { return r.Load().WriteToUDP(b, r.server) }
func (r *roaming) Close() error                              { return r.Load().Close() }
func (r *roaming) LocalAddr() net.Addr                       { return r.Load().LocalAddr() }
func (r *roaming) SetDeadline(t time.Time) error             { return r.Load().SetDeadline(t) }
func (r *roaming) SetReadDeadline(t time.Time) error         { return r.Load().SetReadDeadline(t) }
func (r *roaming) SetWriteDeadline(t time.Time) error        { return r.Load().SetWriteDeadline(t) }

func pskOptions(identity, key string) []pion.ClientOption {
	return []pion.ClientOption{pion.WithPSK(func([]byte) ([]byte, error) { return []byte(key), nil }), pion.WithPSKIdentityHint([]byte(identity)),
		pion.WithCipherSuites(pion.TLS_PSK_WITH_AES_128_CCM_8)}
}

func certificateOptions(shown ...tls.Certificate) []pion.ClientOption {
	options := []pion.ClientOption{pion.WithInsecureSkipVerify(true), pion.WithCipherSuites(pion.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8)}
	if len(shown) > 0 {
		options = append(options, pion.WithCertificates(shown...))
	}
	return options
}

// newClient makes a client whose handshake is to be done, by its first use.
func (s *secureGateway) newClient(options ...pion.ClientOption) (*roaming, *pion.Conn) {
	s.Helper()
	socket := &roaming{server: net.UDPAddrFromAddrPort(s.secure)}
	socket.move(s)
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	conn, err := pion.ClientWithOptions(socket, socket.server, append(options, pion.WithLoggerFactory(quiet))...)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		conn.Close()
		socket.Close()
	})
	return socket, conn
}

func observe(value uint32) func(*coap.Options) {
	return func(o *coap.Options) { o.AddUint(coap.Observe, value) }
}

// exchange sends a Confirmable request, and wants the response that acknowledges it.
func (s *secureGateway) exchange(conn *pion.Conn, id uint16, code coap.Code, path string, add ...func(*coap.Options)) coap.Message {
	s.Helper()
	c := call(code, path, nil, add...)
	if _, err := conn.Write(coap.AppendMessage(nil, coap.Confirmable, code, id, []byte{byte(id)}, &c.Options, nil)); err != nil {
		s.Fatal(err)
	}
	for {
		m := s.receive(conn)
		if m.MessageID == id && bytes.Equal(m.Token, []byte{byte(id)}) {
			return m
		}
	}
}

func (s *secureGateway) receive(conn *pion.Conn) coap.Message {
	s.Helper()
	buffer := make([]byte, 2000)
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	n, err := conn.Read(buffer)
	if err != nil {
		s.Fatal(err)
	}
	m, err := coap.Decode(buffer[:n])
	if err != nil {
		s.Fatal(err)
	}
	return m
}
