package certificates

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/test/certtest"
	"fieldgate/test/output"
)

// put writes a certificate and its key into two files.
func put(t testing.TB, file File, certificate, key []byte) {
	t.Helper()
	for path, text := range map[string][]byte{file.Certificate: certificate, file.Key: key} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// file is a certificate for those names that is valid for a year.
func file(t testing.TB, names ...string) File {
	t.Helper()
	folder := t.TempDir()
	f := File{filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem")}
	certtest.Write(t, certtest.NewAuthority(t).Issue(t, -time.Hour, 365*day, names...), f.Certificate, f.Key)
	return f
}

func open(t testing.TB, settings Settings) (*Certificates, *output.Buffer) {
	t.Helper()
	l := new(output.Buffer)
	c, err := New(Config{Folder: t.TempDir(), Node: "n1", Logger: slog.New(slog.NewTextHandler(l, nil)), TLSALPN01: true, HTTP01: true}, settings)
	if err != nil {
		t.Fatal(err)
	}
	return c, l
}

// shake makes a handshake with a server of that configuration.
func shake(t testing.TB, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		link, err := listener.Accept()
		if err != nil {
			return
		}
		defer link.Close()
		secured := tls.Server(link, server)
		secured.Handshake() // what fails is seen at the other end
		io.Copy(io.Discard, secured)
	}()
	link, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	link.SetDeadline(time.Now().Add(time.Minute))
	secured := tls.Client(link, client)
	err = secured.Handshake()
	if err == nil && secured.ConnectionState().Version == tls.VersionTLS13 { // whose server may refuse after the client is done
		secured.CloseWrite()
		if _, err = secured.Read(make([]byte, 1)); err == io.EOF {
			err = nil
		}
	}
	return secured.ConnectionState(), err
}

// named is the first name of the certificate that a client who asks for that server is shown.
func named(t testing.TB, c *Certificates, server string) string {
	t.Helper()
	state, err := shake(t, c.Config("http/1.1"), &tls.Config{ServerName: server, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names(state.PeerCertificates[0]), " ")
}

// RFC 6066 §3 and RFC 9525 §6.3: the name as it is, then the wildcard of its leftmost label, then the first certificate.
func TestChosenByName(t *testing.T) {
	c, _ := open(t, Settings{Files: []File{file(t, "first.example.com"), file(t, "*.example.com"), file(t, "exact.example.com", "other.example.org"), file(t, "second.exact.example.com")}})
	for server, want := range map[string]string{
		"exact.example.com":        "exact.example.com other.example.org",
		"EXACT.Example.com":        "exact.example.com other.example.org",
		"other.example.org":        "exact.example.com other.example.org",
		"any.example.com":          "*.example.com",
		"first.example.com":        "first.example.com",
		"two.labels.example.com":   "first.example.com", // a wildcard stands for one label
		"example.com":              "first.example.com",
		"second.exact.example.com": "second.exact.example.com",
		"nobody.test":              "first.example.com",
		"":                         "first.example.com",
	} {
		if got := named(t, c, server); got != want {
			t.Errorf("%q is shown %q, want %q", server, got, want)
		}
	}
}

// RFC 9325 §3.1.1, §4.2: no version before 1.2, no suite without forward secrecy and authenticated encryption.
func TestVersionsAndSuites(t *testing.T) {
	c, _ := open(t, Settings{Files: []File{file(t, "a.test")}})
	config := c.Config("h2", "http/1.1")
	for _, test := range []struct {
		name    string
		client  *tls.Config
		version uint16 // 0: refused
	}{
		{"newest", &tls.Config{}, tls.VersionTLS13},
		{"1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, tls.VersionTLS12},
		{"1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 0},
		{"CBC", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, 0},
		{"no forward secrecy", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, 0},
	} {
		test.client.InsecureSkipVerify, test.client.NextProtos = true, []string{"http/1.1", "h2"}
		state, err := shake(t, config, test.client)
		if got := err == nil; got != (test.version != 0) || state.Version != test.version {
			t.Errorf("%s: %x, %v", test.name, state.Version, err)
		} else if err == nil && state.NegotiatedProtocol != "h2" { // RFC 7301 §3.2: the server prefers
			t.Errorf("%s: %q", test.name, state.NegotiatedProtocol)
		}
	}
	// RFC 7301 §3.2: no protocol in common is a fatal alert, a client without the extension is none.
	if _, err := shake(t, config, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"ftp"}}); err == nil {
		t.Error("a client that speaks none of the protocols gets in")
	}
	if _, err := shake(t, config, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}, ServerName: "a.test"}); err == nil {
		t.Error("a challenge that there is none of is answered")
	}
	apply, err := c.Prepare(Settings{Files: c.settings.Files, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	apply()
	if _, err := shake(t, config, &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true}); err == nil {
		t.Error("1.2 is let in though 1.3 was asked for")
	}
	if state, err := shake(t, config, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}); err != nil || state.NegotiatedProtocol != "h2" {
		t.Error(err, state.NegotiatedProtocol)
	}
}

// Sessions are resumed, whatever the lowest version is and after a certificate was replaced.
func TestSessionsAreResumed(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			c, _ := open(t, Settings{Files: []File{file(t, "a.test")}, MinVersion: version})
			listener, err := tls.Listen("tcp", "127.0.0.1:0", c.Config("http/1.1"))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				for {
					link, err := listener.Accept()
					if err != nil {
						return
					}
					go func() {
						defer link.Close()
						link.Write([]byte("x"))
						io.Copy(io.Discard, link)
					}()
				}
			}()
			client := &tls.Config{InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			for i, want := range []bool{false, true, true} {
				link, err := tls.Dial("tcp", listener.Addr().String(), client)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := link.Read(make([]byte, 1)); err != nil { // the ticket comes before it
					t.Fatal(err)
				}
				if link.ConnectionState().DidResume != want {
					t.Errorf("connection %d: resumed: %v", i, !want)
				}
				link.Close()
			}
		})
	}
}

func TestFileIsReplaced(t *testing.T) {
	f := file(t, "old.test")
	c, log := open(t, Settings{Files: []File{f, file(t, "other.test")}})
	config := c.Config("http/1.1")
	now := func() string {
		state, err := shake(t, config, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].DNSNames[0]
	}
	c.look(time.Now(), false)
	if now() != "old.test" {
		t.Fatal(now())
	}

	var first [2][]byte
	for i, path := range []string{f.Certificate, f.Key} {
		var err error
		if first[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}

	// What is broken, cut short or does not belong together changes nothing, and is said once.
	authority := certtest.NewAuthority(t)
	certificate, key := certtest.PEM(t, authority.Issue(t, -time.Hour, 365*day, "new.test"))
	_, foreign := certtest.PEM(t, authority.Issue(t, -time.Hour, 365*day, "new.test"))
	for name, broken := range map[string]func(){
		"garbage":     func() { put(t, f, []byte("no PEM"), key) },
		"cut short":   func() { put(t, f, certificate[:len(certificate)/2], key) },
		"foreign key": func() { put(t, f, certificate, foreign) },
		"empty":       func() { put(t, f, nil, nil) },
		"too large":   func() { put(t, f, append(bytes.Repeat([]byte("x"), maxFile), certificate...), key) },
		"gone":        func() { os.Remove(f.Certificate) },
	} {
		broken()
		before := strings.Count(log.String(), "is not used")
		c.look(time.Now(), false)
		c.look(time.Now(), true)
		if state := c.States()[0]; now() != "old.test" || state.Problem == "" || state.Names[0] != "old.test" {
			t.Errorf("%s: %s is in force, %+v", name, now(), state)
		}
		if said := strings.Count(log.String(), "is not used") - before; said != 1 {
			t.Errorf("%s: said %d times\n%s", name, said, log)
		}
		put(t, f, first[0], first[1])
		c.look(time.Now(), false)
		if problem := c.States()[0].Problem; problem != "" {
			t.Errorf("%s: it is whole again: %s", name, problem)
		}
	}
	if c.States()[1].Problem != "" {
		t.Error("the other certificate has a problem:", c.States()[1].Problem)
	}

	put(t, f, certificate, key)
	c.look(time.Now(), false)
	if state := c.States()[0]; now() != "new.test" || state.Problem != "" || state.Source != fieldgate.CertificateFile || state.File != f.Certificate {
		t.Errorf("%s is in force, %+v", now(), state)
	}
	if strings.Contains(log.String(), strings.Split(string(key), "\n")[1]) {
		t.Error("a key is in the log")
	}
}

// What New or Prepare cannot use is refused, and nothing changes.
func TestPrepareIsAllOrNothing(t *testing.T) {
	good := file(t, "good.test")
	c, _ := open(t, Settings{Files: []File{good}})
	missing := File{filepath.Join(t.TempDir(), "none.pem"), good.Key}
	mixed := File{good.Certificate, file(t, "x.test").Key}
	for name, settings := range map[string]Settings{
		"missing file":   {Files: []File{file(t, "next.test"), missing}},
		"foreign key":    {Files: []File{file(t, "next.test"), mixed}},
		"missing ACME":   {Files: []File{file(t, "next.test")}, ACME: &ACME{CAFile: missing.Certificate, Names: []string{"a.test"}}},
		"no certificate": {Files: []File{file(t, "next.test")}, ACME: &ACME{CAFile: good.Key, Names: []string{"a.test"}}},
	} {
		if _, err := c.Prepare(settings); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := named(t, c, ""); got != "good.test" {
			t.Errorf("%s: %s is in force", name, got)
		}
	}
	// A file that was in force before and is broken now is no reason to refuse other settings.
	if err := os.WriteFile(good.Certificate, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	apply, err := c.Prepare(Settings{Files: []File{file(t, "next.test"), good}})
	if err != nil {
		t.Fatal(err)
	}
	apply()
	if got := named(t, c, ""); got != "next.test" {
		t.Errorf("%s is in force", got)
	}
	if got := named(t, c, "good.test"); got != "good.test" {
		t.Errorf("%s is in force", got)
	}
}

func TestNoCertificateYet(t *testing.T) {
	c, _ := open(t, Settings{})
	if _, err := shake(t, c.Config("http/1.1"), &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("a handshake without a certificate")
	}
	if len(c.States()) != 0 {
		t.Error(c.States())
	}
}

// Of two certificates for one name, a client gets the one that it can use and that is valid.
func TestSeveralForOneName(t *testing.T) {
	folder := t.TempDir()
	old := File{filepath.Join(folder, "old.pem"), filepath.Join(folder, "old-key.pem")}
	certtest.Write(t, certtest.NewAuthority(t).Issue(t, -2*day, -day, "a.test", "expired.test"), old.Certificate, old.Key)
	c, log := open(t, Settings{Files: []File{old, file(t, "a.test")}})
	if got := named(t, c, "a.test"); got != "a.test" {
		t.Errorf("%s is shown", got)
	}
	// One that has expired is served where there is no other, and it is said.
	if got := named(t, c, "expired.test"); got != "a.test expired.test" {
		t.Errorf("%s is shown", got)
	}
	if _, err := shake(t, c.Config(), &tls.Config{ServerName: "expired.test"}); err == nil {
		t.Error("a client takes it")
	}
	c.look(time.Now(), false)
	c.look(time.Now(), false)
	if strings.Count(log.String(), "it expired on") != 1 || !strings.Contains(log.String(), "level=ERROR") || !c.States()[0].NotAfter.Before(time.Now()) {
		t.Errorf("%s\n%+v", log, c.States())
	}
}
