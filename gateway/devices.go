package gateway

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"fieldgate/gateway/directory"
)

// DeviceAuthorities are certification authorities whose certificates name devices.
type DeviceAuthorities struct {
	Files []string // PEM, with one certificate or more
	SAN   bool     // the device's id is the certificate's first subjectAltName, in place of the subject's common name
}

const (
	maxAuthorityFile = 1 << 20
	maxAuthorities   = 100
)

// read reads the files.
func (a DeviceAuthorities) read(log *slog.Logger) (*directory.Authorities, error) {
	var all []*x509.Certificate
	for _, path := range a.Files {
		found, err := readAuthorities(path)
		if err != nil {
			return nil, fmt.Errorf("device-authorities: %w", err)
		}
		all = append(all, found...)
	}
	if len(all) > maxAuthorities {
		return nil, fmt.Errorf("device-authorities: at most %d certificates", maxAuthorities)
	}
	for _, c := range all {
		if time.Now().After(c.NotAfter) {
			log.Error("an authority of devices has expired: the certificates that it issued are refused", "authority", c.Subject.String(), "until", c.NotAfter.UTC())
		}
	}
	return directory.NewAuthorities(all, a.SAN), nil
}

func readAuthorities(path string) (found []*x509.Certificate, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxAuthorityFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxAuthorityFile {
		return nil, fmt.Errorf("%s is no PEM file", path)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if certificate.BasicConstraintsValid && !certificate.IsCA {
			return nil, fmt.Errorf("%s: the certificate of %q is no authority's: register one device's by \"fieldgate device certificate\"", path, certificate.Subject)
		}
		found = append(found, certificate)
	}
	if found == nil {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", path)
	}
	return found, nil
}

// checkCertificate is why a client's certificate is no device's.
func (g *Gateway) checkCertificate(chain []*x509.Certificate) error {
	_, err := g.directory.Certificate(chain, time.Now())
	return err
}
