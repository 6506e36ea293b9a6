// Package certtest issues the certificates of servers and clients that tests start.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a certification authority that nobody knows unless he is given its certificate.
type Authority struct {
	Certificate *x509.Certificate
	File        string // with the certificate, in PEM form
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority whose certificate is valid for ten days.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{File: filepath.Join(t.TempDir(), "authority.pem")}
	own := template(-48*time.Hour, 240*time.Hour)
	own.Subject.CommonName, own.IsCA, own.KeyUsage = "Authority of a test", true, x509.KeyUsageCertSign
	pair := a.sign(t, own)
	a.Certificate, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	text, _ := PEM(t, pair)
	write(t, a.File, text)
	return a
}

// Pool is of this authority only.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

// Issue makes a certificate for a server or a client, with a key of its own. It is valid between two times, told from now; names are
// host names and IP addresses, the first of them the subject's.
func (a *Authority) Issue(t testing.TB, from, to time.Duration, names ...string) tls.Certificate {
	t.Helper()
	issued := template(from, to)
	issued.Subject.CommonName = names[0]
	issued.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, name := range names {
		if address := net.ParseIP(name); address != nil {
			issued.IPAddresses = append(issued.IPAddresses, address)
		} else {
			issued.DNSNames = append(issued.DNSNames, name)
		}
	}
	return a.sign(t, issued)
}

func template(from, to time.Duration) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(from), NotAfter: now.Add(to), BasicConstraintsValid: true}
}

// sign makes a key and its certificate; the authority's own is signed by itself.
func (a *Authority) sign(t testing.TB, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := a.Certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{encoded}, PrivateKey: key, Leaf: leaf}
}

// PEM is a certificate and its key as files hold them.
func PEM(t testing.TB, pair tls.Certificate) (certificate, key []byte) {
	t.Helper()
	encoded, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// Write puts a certificate and its key into two files.
func Write(t testing.TB, pair tls.Certificate, certificateFile, keyFile string) {
	t.Helper()
	certificate, key := PEM(t, pair)
	write(t, certificateFile, certificate)
	write(t, keyFile, key)
}

func write(t testing.TB, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
