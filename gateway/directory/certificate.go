package directory

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"fieldgate"
)

// Authorities are those whose certificates name devices. They never change.
type Authorities struct {
	Pool *x509.CertPool
	SAN  bool // the device's id is the first subjectAltName, in place of the subject's common name

	hashes []fieldgate.CredentialHash // of the authorities' certificates
}

// NewAuthorities makes the set of those certificates; nil if there are none.
func NewAuthorities(certificates []*x509.Certificate, san bool) *Authorities {
	if len(certificates) == 0 {
		return nil
	}
	a := &Authorities{Pool: x509.NewCertPool(), SAN: san}
	for _, c := range certificates {
		a.Pool.AddCert(c)
		a.hashes = append(a.hashes, fieldgate.HashCertificate(c.Raw))
	}
	return a
}

// has says whether the certificate of that hash is among the authorities.
func (a *Authorities) has(hash *fieldgate.CredentialHash) bool {
	return a != nil && slices.Contains(a.hashes, *hash)
}

// SetAuthorities replaces the authorities; nil: there are none. Devices that came by the certificate of one that is gone are not who they
// are any more: watchers hear of a change of every device then.
func (d *Directory) SetAuthorities(authorities *Authorities) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.authorities.Swap(authorities)
	if before == nil || authorities != nil && authorities.SAN == before.SAN &&
		!slices.ContainsFunc(before.hashes, func(hash fieldgate.CredentialHash) bool { return !authorities.has(&hash) }) {
		return
	}
	for ref := uint32(1); ref <= d.principals.length(); ref++ {
		p := d.principals.at(ref)
		if p.kind != kindDevice {
			continue
		}
		p.version.Add(1)
		change := d.value(ref)
		for _, watcher := range d.watchers {
			watcher(change)
		}
	}
}

// Asks says whether any client's certificate is a device's, so that it is worth while to ask for it, and of which authorities it has to be;
// nil: of any, since devices have certificates registered.
func (d *Directory) Asks() (asks bool, authorities *x509.CertPool) {
	if d.certificates.Load() > 0 {
		return true, nil
	}
	if a := d.authorities.Load(); a != nil {
		return true, a.Pool
	}
	return false, nil
}

// CertificateError is why a certificate is no device's, in a sentence for people.
type CertificateError string

func (e CertificateError) Error() string { return string(e) }

const (
	ErrCertificateTime    CertificateError = "The client's certificate is not valid yet, or has expired."
	ErrCertificateUnknown CertificateError = "The client's certificate is neither registered for a device nor of an authority whose certificates name devices."
	ErrCertificateName    CertificateError = "The client's certificate names no device that is registered."
)

// maxChain bounds the certificates of a client that are looked at.
const maxChain = 8

// Certificate is whom a chain of certificates, the client's first, is of: the device that the client's is registered for, or the one that it
// names, if it is of one of the Authorities. That the client has the private key is for the handshake to find out. The errors are
// CertificateErrors.
func (d *Directory) Certificate(chain []*x509.Certificate, now time.Time) (Proven, error) {
	if len(chain) == 0 {
		return Proven{}, ErrCertificateUnknown
	}
	leaf := chain[0]
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return Proven{}, ErrCertificateTime
	}
	fingerprint := fieldgate.HashCertificate(leaf.Raw)
	if ref := d.Lookup(&fingerprint); ref != 0 {
		return Proven{ref, fingerprint}, nil
	}
	authorities := d.authorities.Load()
	if authorities == nil {
		return Proven{}, ErrCertificateUnknown
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:min(len(chain), maxChain)] {
		intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: authorities.Pool, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return Proven{}, ErrCertificateUnknown
	}
	ref := d.Find(fieldgate.PrincipalDevice, authorities.deviceOf(leaf))
	if ref == 0 || d.State(ref) == fieldgate.StateRevoked {
		return Proven{}, ErrCertificateName
	}
	anchor := chains[0][len(chains[0])-1]
	return Proven{ref, fieldgate.HashCertificate(anchor.Raw)}, nil
}

// Holds says whether what a principal has proved itself by still stands: one of its credentials, or, for a device whose certificate names it,
// the authority.
func (d *Directory) Holds(ref Ref, hash *fieldgate.CredentialHash) bool {
	if d.Lookup(hash) == ref {
		return true
	}
	return d.authorities.Load().has(hash) && d.principals.at(uint32(ref)).kind == kindDevice
}

// Holder is the principal of that name, if what that hash is of still stands for it; else the zero Ref.
func (d *Directory) Holder(kind fieldgate.PrincipalKind, id string, hash *fieldgate.CredentialHash) Ref {
	ref := d.Find(kind, id)
	if ref == 0 || !d.Holds(ref, hash) {
		return 0
	}
	return ref
}

// deviceURI begins the URI by which a certificate names a device.
const deviceURI = "urn:fieldgate:device:"

// deviceOf is the id of the device that a certificate of an authority names; empty: it names none.
func (a *Authorities) deviceOf(leaf *x509.Certificate) string {
	if !a.SAN {
		return leaf.Subject.CommonName
	}
	for _, uri := range leaf.URIs {
		if id, found := strings.CutPrefix(uri.String(), deviceURI); found {
			return id
		}
	}
	if len(leaf.DNSNames) > 0 {
		return leaf.DNSNames[0]
	}
	return ""
}
