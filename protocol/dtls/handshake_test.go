package dtls

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"fieldgate/test/certtest"
)

// What pion.go relies on holds with the version of pion/dtls that the module names.
func TestSelfTest(t *testing.T) {
	if err := selfTest(); err != nil {
		t.Fatal(err)
	}
}

func TestHandshakes(t *testing.T) {
	for _, network := range []string{"udp4", "udp6"} {
		s := startSite(t, network, nil)
		for suite, name := range map[dtls.CipherSuiteID]string{pskCCM8: "PSK CCM-8", pskCCM: "PSK CCM", pskGCM: "PSK GCM", ecdsaCCM8: "ECDSA CCM-8",
			ecdsaCCM: "ECDSA CCM", ecdsaGCM: "ECDSA GCM"} {
			for _, id := range []string{"", "Connection ID"} {
				t.Run(strings.TrimSpace(network+" "+name+" "+id), func(t *testing.T) {
					options := psk("d1", rightKey, suite)
					if strings.HasPrefix(name, "ECDSA") {
						options = s.certified(suite, "d1")
					}
					if id != "" {
						options = append(options, dtls.WithConnectionIDGenerator(dtls.RandomCIDGenerator(5)))
					}
					c := s.connect(options...)
					for i := range 3 {
						c.echo(fmt.Sprintf("message %d of d1", i))
					}
					owner, address := s.Owner(s.lastPeer())
					if want := c.LocalAddr().String(); owner != "d1" || address.String() != want {
						t.Errorf("%v at %v, want d1 at %v", owner, address, want)
					}
				})
			}
		}
	}
}

// lastPeer is whose message came last.
func (s *site) lastPeer() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[len(s.peers)-1]
}

// Who is not to come in gets no session, whatever it shows.
func TestRefusals(t *testing.T) {
	patient := startSite(t, "udp4", func(c *Config) { c.HandshakeTimeout = time.Minute })
	// Who has no key, or another one, is noticed by nothing but that the handshake does not end: it has to have come as far as the key by then.
	impatient := startSite(t, "udp4", func(c *Config) { c.HandshakeTimeout = 3 * time.Second })
	other := certtest.NewAuthority(t)
	for _, test := range []struct {
		name    string
		options []dtls.ClientOption
		want    Refusal
	}{
		{"wrong key", psk("d1", "another key of 16", pskCCM8), RefusedKey},
		{"unknown identity", psk("x1", rightKey, pskCCM8), RefusedUnknown},
		{"identity that is too long", psk("d"+strings.Repeat("1", maxIdentity), rightKey, pskCCM8), RefusedUnknown},
		{"revoked", psk("d-revoked", rightKey, pskCCM8), RefusedOwner},
		{"no certificate", patient.certified(ecdsaCCM8), RefusedCertificate},
		{"certificate of another authority", append(patient.certified(ecdsaCCM8), dtls.WithCertificates(other.Issue(t, -time.Hour, time.Hour, "d1"))), RefusedCertificate},
		{"expired certificate", append(patient.certified(ecdsaCCM8), dtls.WithCertificates(patient.authority.Issue(t, -2*time.Hour, -time.Hour, "d1"))), RefusedCertificate},
		{"no common cipher", psk("d1", rightKey, dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256), RefusedOther},
		{"client that does not trust us", append(patient.certified(ecdsaCCM8, "d1"), dtls.WithRootCAs(other.Pool())), RefusedOther},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := patient
			if test.want == RefusedKey || test.want == RefusedUnknown {
				s = impatient
			}
			s.mu.Lock()
			s.refused = nil
			s.mu.Unlock()
			c := s.dial(append(test.options, dtls.WithFlightInterval(time.Minute))...)
			done := make(chan error, 1)
			go func() { done <- c.handshake() }()
			s.eventually("a refusal", func() bool { return len(s.refused) > 0 })
			c.Close()
			if err := <-done; err == nil {
				t.Error("the client has a session")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if !slices.Equal(s.refused, []Refusal{test.want}) {
				t.Errorf("refused %v, want %v", s.refused, test.want)
			}
			if n := s.Stats(); n.Sessions != 0 || n.Handshakes != 0 {
				t.Errorf("%d sessions, %d handshakes", n.Sessions, n.Handshakes)
			}
		})
	}
}

// RFC 4279 §7.3, and the security considerations of any list of names: an attacker cannot find out which identities there are.
func TestUnknownIdentityLooksLikeWrongKey(t *testing.T) {
	said := func(identity string) (kinds []string) {
		s := startSite(t, "udp4", func(c *Config) { c.HandshakeTimeout = 3 * time.Second }) // enough to come as far as the key
		c := s.dial(append(psk(identity, "another key of 16", pskCCM8), dtls.WithFlightInterval(time.Minute))...)
		done := make(chan error, 1)
		go func() { done <- c.handshake() }()
		s.eventually("a refusal", func() bool { return len(s.refused) > 0 })
		if err := <-done; err == nil || !strings.Contains(err.Error(), "HandshakeFailure") {
			t.Errorf("RFC 5246 §7.2.2: the client waits on, and ends with %v", err)
		}
		c.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, datagram := range s.sent {
			kinds = append(kinds, fmt.Sprint(datagram[0], len(datagram)))
		}
		return slices.Compact(kinds) // a flight that nothing answers is sent again, as often as there is time for
	}
	known, unknown := said("d1"), said("x1")
	if !slices.Equal(known, unknown) || len(known) != 3 {
		t.Errorf("with a wrong key we say %v, with an unknown identity %v", known, unknown)
	}
}

// Each datagram of a handshake can be lost, in both directions (RFC 6347 §4.2.4).
func TestLostFlights(t *testing.T) {
	for _, kind := range []string{"PSK", "certificate"} {
		for _, side := range []string{"server", "client"} {
			for n := 1; n <= 5; n++ {
				t.Run(fmt.Sprintf("%s, datagram %d of the %s", kind, n, side), func(t *testing.T) {
					t.Parallel()
					s := startSite(t, "udp4", nil)
					options := psk("d1", rightKey, pskCCM8)
					if kind == "certificate" {
						options = s.certified(ecdsaCCM8, "d1")
					}
					c := s.dial(options...)
					if side == "server" {
						s.lose(func(i int, _ []byte) bool { return i == n })
					} else {
						c.socket.drop = func(i int) bool { return i == n }
					}
					if err := c.handshake(); err != nil {
						t.Fatal(err)
					}
					// The message may be lost, too: it is not for DTLS to see to that.
					for s.Stats().Completed == 0 {
						time.Sleep(time.Millisecond)
					}
					if c.socket.drop != nil {
						c.socket.mu.Lock()
						c.socket.drop = nil
						c.socket.mu.Unlock()
					}
					c.echo("hello")
				})
			}
		}
	}
}

// The last flight is lost several times: it is sent again for each repetition of the client's, until a message has come.
func TestLastFlightIsRepeated(t *testing.T) {
	s := startSite(t, "udp4", nil)
	lost := 0
	s.lose(func(_ int, datagram []byte) bool {
		if datagram[0] == typeChangeCipherSpec && lost < 3 {
			lost++
			return true
		}
		return false
	})
	c := s.connect(psk("d1", rightKey, pskCCM8)...)
	c.echo("hello") // which a slow client may have repeated its flight once more for
	if n := s.Stats(); n.Resent < 3 || n.Completed != 1 {
		t.Errorf("%d times, %d handshakes", n.Resent, n.Completed)
	}
}

// A ClientHello cut into small fragments is put together, once the first has brought a valid cookie.
func TestFragmentedHello(t *testing.T) {
	s := startSite(t, "udp4", nil)
	c := s.connect(append(psk("d1", rightKey, pskCCM8), dtls.WithMTU(100))...)
	c.echo("hello")
}

// openssl is a client that we have not written.
func TestOpenSSL(t *testing.T) {
	s := startSite(t, "udp4", nil)
	psk, x509 := s.opensslIdentities(t)
	for _, test := range []struct {
		name      string
		arguments []string
	}{
		{"PSK", append(psk, "-cipher", "PSK-AES128-CCM8")},
		{"PSK, its own choice", psk},
		{"certificate", append(x509, "-cipher", "ECDHE-ECDSA-AES128-CCM8@SECLEVEL=0")},
		{"certificate, its own choice", x509},
		{"certificate, small datagrams", append(x509, "-mtu", "256")},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.openssl(t, test.arguments...)
		})
	}
	s.eventually("the end of all sessions", func() bool { return len(s.ended) == 5 })
}

// openssl has a message answered to openssl's client, which then ends its session.
func (s *site) openssl(t *testing.T, arguments ...string) {
	command := exec.CommandContext(t.Context(), "openssl", append([]string{"s_client", "-dtls1_2", "-quiet", "-no_ign_eof", "-connect", s.address.String()}, arguments...)...)
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	in.Write([]byte("hello"))
	answer := make([]byte, 5)
	if _, err := out.Read(answer); err != nil || string(answer) != "HELLO" {
		t.Errorf("%q %v\n%s", answer, err, said.String())
	}
	in.Close() // close_notify
	command.Wait()
}

// opensslIdentities are the options of openssl's client for d1, with its key, and for d2, with a certificate.
func (s *site) opensslIdentities(t *testing.T) (psk, x509 []string) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("this test needs openssl")
	}
	folder := t.TempDir()
	certificate, key := certtest.PEM(t, s.authority.Issue(t, -time.Hour, time.Hour, "d2"))
	for name, text := range map[string][]byte{"client.pem": certificate, "client.key": key} {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	psk = []string{"-psk_identity", "d1", "-psk", fmt.Sprintf("%x", rightKey)}
	x509 = []string{"-CAfile", s.authority.File, "-verify_return_error", "-cert", folder + "/client.pem", "-key", folder + "/client.key"}
	return slices.Clip(psk), slices.Clip(x509)
}
