package certificates

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fieldgate"
)

// roots are those of a client that was given the authority's certificate.
func roots(t *testing.T, folder string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, AuthorityFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate")
	}
	return pool
}

func TestInternalAuthority(t *testing.T) {
	wanted := Settings{InternalCA: []string{"gateway.lan", "*.devices.lan", "192.0.2.7", "2001:db8::7"}}
	c, _ := open(t, wanted)
	trusted := roots(t, c.config.Folder)
	for server, ok := range map[string]bool{"gateway.lan": true, "d7.devices.lan": true, "192.0.2.7": true, "2001:db8::7": true, "elsewhere.lan": false, "192.0.2.8": false} {
		_, err := shake(t, c.Config(), &tls.Config{ServerName: server, RootCAs: trusted})
		if (err == nil) != ok {
			t.Errorf("%s: %v", server, err)
		}
	}
	if _, err := shake(t, c.Config(), &tls.Config{ServerName: "gateway.lan"}); err == nil {
		t.Error("a client that does not know the authority trusts it")
	}
	for _, name := range []string{AuthorityFile, authorityKeyFile} {
		if info, err := os.Stat(filepath.Join(c.config.Folder, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}

	// The next start, and other names, keep the authority: clients need not be told again.
	again, err := New(c.config, wanted)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shake(t, again.Config(), &tls.Config{ServerName: "gateway.lan", RootCAs: trusted}); err != nil {
		t.Error(err)
	}
	apply, err := again.Prepare(Settings{InternalCA: []string{"renamed.lan"}})
	if err != nil {
		t.Fatal(err)
	}
	apply()
	if _, err := shake(t, again.Config(), &tls.Config{ServerName: "renamed.lan", RootCAs: trusted}); err != nil {
		t.Error(err)
	}
}

// A certificate is renewed when two thirds of its life are over, without a problem ever being shown.
func TestInternalIsRenewed(t *testing.T) {
	c, _ := open(t, Settings{InternalCA: []string{"gateway.lan"}})
	first := c.States()[0]
	if first.Source != fieldgate.CertificateInternal || first.Problem != "" || first.Names[0] != "gateway.lan" {
		t.Errorf("%+v", first)
	}
	for age := time.Duration(0); age < 2*internalLife/3-2*clockSkew; age += day {
		c.look(time.Now().Add(age), false)
	}
	if c.States()[0].NotAfter != first.NotAfter {
		t.Error("it is renewed too early")
	}
	later := time.Now().Add(2*internalLife/3 + day)
	c.look(later, false)
	if got := c.States()[0].NotAfter; got.Sub(later) < internalLife-time.Minute {
		t.Errorf("it ends on %v", got)
	}
	// Near the end of the authority's own life there is nothing better to be had: it is not tried again each second.
	end := time.Now().Add(authorityLife - day)
	c.look(end, false)
	last := c.table.Load().first[0]
	c.look(end.Add(time.Hour), false)
	if c.table.Load().first[0] != last || !last.Leaf.NotAfter.Equal(c.sources[0].(*internalSource).authority.certificate.NotAfter) {
		t.Errorf("it is issued again: until %v", last.Leaf.NotAfter)
	}
}

// What is left of a damaged authority is not replaced by another one, which no client would trust.
func TestDamagedAuthority(t *testing.T) {
	c, _ := open(t, Settings{InternalCA: []string{"gateway.lan"}})
	key := filepath.Join(c.config.Folder, authorityKeyFile)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := New(c.config, Settings{InternalCA: []string{"gateway.lan"}}); err == nil {
		t.Error("it is replaced")
	}
	if _, err := os.Stat(key); !os.IsNotExist(err) {
		t.Error(err)
	}
}
