package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Files of the node's own authority, in the folder.
const (
	AuthorityFile    = "ca.pem"
	authorityKeyFile = "ca-key.pem"
)

const (
	authorityLife = 3650 * day
	internalLife  = 90 * day
	clockSkew     = time.Hour // of clients; certificates begin that much earlier
)

// internalSource is a certificate that the node's own authority issues. Its key is never written anywhere: each start makes a new one.
type internalSource struct {
	status
	names     []string
	authority *authority
	logger    *slog.Logger
}

func openInternal(config Config, names []string) (*internalSource, error) {
	a, err := openAuthority(config.Folder, config.Node)
	if err != nil {
		return nil, err
	}
	s := &internalSource{names: names, authority: a, logger: config.Logger}
	s.certificate, err = a.issue(names, time.Now())
	return s, err
}

// look renews the certificate when two thirds of its life are over, unless the authority ends with it.
func (s *internalSource) look(now time.Time) bool {
	leaf := s.certificate.Leaf
	if now.Before(renewal(leaf)) || !leaf.NotAfter.Before(s.authority.certificate.NotAfter) {
		return false
	}
	certificate, err := s.authority.issue(s.names, now)
	if err != nil {
		changed := s.problem != err.Error()
		s.problem = err.Error()
		return changed
	}
	s.status = status{certificate: certificate}
	s.logger.Info("the certificate was renewed", "names", s.names, "until", certificate.Leaf.NotAfter)
	return true
}

func renewal(leaf *x509.Certificate) time.Time {
	return leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
}

// authority is the node's own certification authority (RFC 5280).
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// openAuthority reads the authority, or makes it where there is none.
func openAuthority(folder, node string) (*authority, error) {
	certificate, key := filepath.Join(folder, AuthorityFile), filepath.Join(folder, authorityKeyFile)
	if _, err := os.Stat(certificate); errors.Is(err, fs.ErrNotExist) {
		if err := makeAuthority(certificate, key, node); err != nil {
			return nil, fmt.Errorf("make the node's certification authority: %w", err)
		}
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("the node's certification authority %s: %w; restore both files from a backup, or remove both and give clients the new one", certificate, err)
	}
	signer, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s is no certification authority of Fieldgate", certificate)
	}
	return &authority{pair.Leaf, signer}, nil
}

// makeAuthority writes the key first: the certificate, which clients are given, is there only when its key is.
func makeAuthority(certificatePath, keyPath, node string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := serialNumber()
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Fieldgate"}, CommonName: fmt.Sprintf("Fieldgate CA of %s, %x", node, serial.Bytes()[:4])},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyText, err := encodeKey(key)
	if err != nil {
		return err
	}
	if err := write(keyPath, keyText); err != nil {
		return err
	}
	return write(certificatePath, encodeCertificates([][]byte{encoded}))
}

// issue makes a server certificate with a key of its own.
func (a *authority) issue(names []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Fieldgate"}},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(internalLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if template.NotAfter.After(a.certificate.NotAfter) {
		template.NotAfter = a.certificate.NotAfter
	}
	for _, name := range names {
		if address := net.ParseIP(name); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(encoded)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{encoded}, PrivateKey: key, Leaf: leaf}, nil
}

// serialNumber is positive, random, and at most 20 bytes (RFC 5280 §4.1.2.2).
func serialNumber() (*big.Int, error) {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	random[0] = random[0]&0x7f | 0x40
	return new(big.Int).SetBytes(random), nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), nil
}

// decodeKey reads what encodeKey wrote.
func decodeKey(path string, text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key in PEM form", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	ours, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is no key of Fieldgate", path)
	}
	return ours, nil
}

func encodeCertificates(chain [][]byte) (text []byte) {
	for _, encoded := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: encoded})...)
	}
	return text
}
