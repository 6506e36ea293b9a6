package fleet

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"time"
	"unicode"

	"fieldgate"
	"fieldgate/control/directory"
	"fieldgate/control/refusal"
)

// AddCertificate registers a certificate for a device, in PEM form and alone. Who has made it does not matter.
func (f *Fleet) AddCertificate(ctx context.Context, id, text string, basis directory.Basis) (*Device, error) {
	certificate, err := parseCertificate(text)
	if err != nil {
		return nil, err
	}
	return f.decide(ctx, "device.certificate", id, basis, func(device *Device) (change, error) {
		added := directory.Certificate{Fingerprint: fieldgate.HashCertificate(certificate.Raw), Subject: subjectOf(certificate),
			NotBefore: certificate.NotBefore.UTC(), NotAfter: certificate.NotAfter.UTC(), Added: time.Now().UTC().Truncate(time.Millisecond)}
		switch {
		case device.State == fieldgate.StateRevoked:
			return change{}, errRevoked(id)
		case indexOf(device, added.Fingerprint) >= 0:
			return change{}, nil
		case len(device.Certificates) >= fieldgate.MaxCertificates:
			return change{}, refusal.Conflict("The device %q has %d certificates, which is the most: remove one first.", id, len(device.Certificates))
		}
		device.Certificates = append(device.Certificates, added)
		return change{made: true}, nil
	})
}

// RemoveCertificate takes a certificate away from a device; connections that were made with it end.
func (f *Fleet) RemoveCertificate(ctx context.Context, id string, fingerprint fieldgate.CredentialHash, basis directory.Basis) (*Device, error) {
	return f.decide(ctx, "device.certificate", id, basis, func(device *Device) (change, error) {
		at := indexOf(device, fingerprint)
		if at < 0 {
			return change{}, refusal.NotFound("The device %q has no certificate of that fingerprint.", id)
		}
		device.Certificates = slices.Delete(device.Certificates, at, at+1)
		return change{made: true}, nil
	})
}

func indexOf(device *Device, fingerprint fieldgate.CredentialHash) int {
	return slices.IndexFunc(device.Certificates, func(c directory.Certificate) bool { return c.Fingerprint == fingerprint })
}

func parseCertificate(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, refusal.Invalid("There is no certificate: give it in PEM form, from -----BEGIN CERTIFICATE----- on.")
	}
	if strings.TrimSpace(string(rest)) != "" {
		return nil, refusal.Invalid("Something follows the certificate: give that of the device alone, without its chain and its key.")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, refusal.Invalid("The certificate cannot be read: %v.", err)
	}
	if time.Now().After(certificate.NotAfter) {
		return nil, refusal.Invalid("The certificate has expired on %s.", certificate.NotAfter.UTC().Format(time.DateOnly))
	}
	return certificate, nil
}

// maxSubject bounds what is kept of a certificate's subject, in bytes.
const maxSubject = 256

func subjectOf(certificate *x509.Certificate) string {
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, certificate.Subject.String())
	return strings.ToValidUTF8(text[:min(len(text), maxSubject)], "")
}
