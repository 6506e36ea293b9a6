package directory

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"testing"
	"time"

	"fieldgate"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// issuer makes certificates: an authority, or a device with a certificate of its own making.
type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
}

func newIssuer(t *testing.T, name string, signer *issuer, authority bool) *issuer {
	t.Helper()
	made := template(name)
	made.IsCA, made.BasicConstraintsValid = authority, true
	return issue(t, made, signer)
}

// issue has a certificate signed; by itself if there is no signer.
func issue(t *testing.T, made *x509.Certificate, signer *issuer) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	if signer == nil {
		signer = &issuer{made, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, made, signer.certificate, &key.PublicKey, signer.key)
	if err == nil {
		i.certificate, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// RFC 5280 §6.1: a chain to an authority, in its time, of a certificate for clients; and the names that devices are known by.
func TestCertificateOfAnAuthority(t *testing.T) {
	root := newIssuer(t, "Fleet CA", nil, true)
	between := newIssuer(t, "Plant CA", root, true)
	stranger := newIssuer(t, "Fleet CA", nil, true)
	chain := func(all ...*issuer) (certificates []*x509.Certificate) {
		for _, i := range all {
			certificates = append(certificates, i.certificate)
		}
		return certificates
	}
	leaf := func(name string, by *issuer, alter func(*x509.Certificate)) *issuer {
		made := template(name)
		made.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if alter != nil {
			alter(made)
		}
		return issue(t, made, by)
	}
	names := func(uris []string, dns ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.DNSNames = dns
			for _, text := range uris {
				u, err := url.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				c.URIs = append(c.URIs, u)
			}
		}
	}
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		san   bool
		want  string
		err   error
	}{
		"the common name":          {chain(leaf("d1", root, nil)), false, "d1", nil},
		"through an intermediate":  {chain(leaf("d1", between, nil), between), false, "d1", nil},
		"an intermediate missing":  {chain(leaf("d1", between, nil)), false, "", ErrCertificateUnknown},
		"a quarantined device":     {chain(leaf("d2", root, nil)), false, "d2", nil}, // the pipeline tells it
		"a revoked device":         {chain(leaf("d3", root, nil)), false, "", ErrCertificateName},
		"no device":                {chain(leaf("d9", root, nil)), false, "", ErrCertificateName},
		"no name":                  {chain(leaf("", root, nil)), false, "", ErrCertificateName},
		"an app":                   {chain(leaf("a1", root, nil)), false, "", ErrCertificateName},
		"another authority":        {chain(leaf("d1", stranger, nil), stranger), false, "", ErrCertificateUnknown},
		"its own authority":        {chain(newIssuer(t, "d1", nil, false)), false, "", ErrCertificateUnknown},
		"no authority as issuer":   {chain(leaf("d1", leaf("d2", root, nil), nil)), false, "", ErrCertificateUnknown},
		"a server's":               {chain(leaf("d1", root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), false, "", ErrCertificateUnknown},
		"for any use":              {chain(leaf("d1", root, func(c *x509.Certificate) { c.ExtKeyUsage = nil })), false, "d1", nil},
		"expired":                  {chain(leaf("d1", root, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })), false, "", ErrCertificateTime},
		"not valid yet":            {chain(leaf("d1", root, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) })), false, "", ErrCertificateTime},
		"a URI":                    {chain(leaf("x", root, names([]string{"https://d2.example", "urn:fieldgate:device:d1"}, "d2"))), true, "d1", nil},
		"a DNS name":               {chain(leaf("x", root, names(nil, "d1", "d2"))), true, "d1", nil},
		"a common name beside SAN": {chain(leaf("d1", root, nil)), true, "", ErrCertificateName},
		"nothing":                  {nil, false, "", ErrCertificateUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, t.TempDir())
			apply(t, d, device(1, "d1", 0), device(2, "d2", fieldgate.StateQuarantined), device(3, "d3", fieldgate.StateRevoked),
				fieldgate.DirectoryChange{Sequence: 4, Kind: fieldgate.PrincipalApp, ID: "a1"})
			d.SetAuthorities(NewAuthorities(only(root), test.san))
			who, err := d.Certificate(test.chain, now)
			if !errors.Is(err, test.err) || test.want != "" && (d.Principal(who.Ref).ID != test.want || !d.Holds(who.Ref, &who.Hash)) {
				t.Errorf("%+v %v", who, err)
			}
		})
	}
}

func only(i *issuer) []*x509.Certificate { return []*x509.Certificate{i.certificate} }

// A certificate that is registered for a device needs no authority, and is its own proof until it is removed.
func TestPinnedCertificate(t *testing.T) {
	d := open(t, t.TempDir())
	own := newIssuer(t, "whatever", nil, false)
	pinned := device(1, "d1", 0, 1)
	pinned.Certificates = []fieldgate.CredentialHash{fieldgate.HashCertificate(own.certificate.Raw)}
	if asks, _ := d.Asks(); asks {
		t.Error("there is none yet")
	}
	apply(t, d, pinned)
	who, err := d.Certificate(only(own), now)
	if err != nil || d.Principal(who.Ref).ID != "d1" || !d.Holds(who.Ref, &who.Hash) {
		t.Fatalf("%+v %v", who, err)
	}
	d.SetAuthorities(NewAuthorities(only(newIssuer(t, "Fleet CA", nil, true)), false))
	if asks, authorities := d.Asks(); !asks || authorities != nil {
		t.Error("only certificates of the authority are asked for")
	}
	for _, at := range []time.Time{now.Add(-2 * time.Hour), now.Add(2 * time.Hour)} {
		if _, err := d.Certificate(only(own), at); !errors.Is(err, ErrCertificateTime) {
			t.Error(err)
		}
	}
	if _, err := d.Certificate(only(newIssuer(t, "whatever", nil, false)), now); !errors.Is(err, ErrCertificateUnknown) {
		t.Error(err)
	}
	apply(t, d, device(2, "d1", 0, 1))
	if _, err := d.Certificate(only(own), now); !errors.Is(err, ErrCertificateUnknown) || d.Holds(who.Ref, &who.Hash) {
		t.Error("it stands after its removal", err)
	}
	if asks, authorities := d.Asks(); !asks || authorities == nil {
		t.Error("not only certificates of the authority are asked for")
	}
}

// Who came by the certificate of an authority is told of when that authority is gone; tokens stand.
func TestAuthorityIsRemoved(t *testing.T) {
	d := open(t, t.TempDir())
	root, other := newIssuer(t, "Fleet CA", nil, true), newIssuer(t, "Other CA", nil, true)
	apply(t, d, device(1, "d1", 0, 1))
	d.SetAuthorities(NewAuthorities([]*x509.Certificate{root.certificate, other.certificate}, false))
	who, err := d.Certificate(only(issue(t, template("d1"), root)), now)
	if err != nil {
		t.Fatal(err)
	}
	heard := 0
	d.Watch(func(change *fieldgate.DirectoryChange) {
		if change.ID == "d1" && change.Kind == fieldgate.PrincipalDevice && change.State == fieldgate.StateActive {
			heard++
		}
	})
	version := d.Version(who.Ref)
	d.SetAuthorities(NewAuthorities([]*x509.Certificate{root.certificate, other.certificate}, false))
	if heard != 0 || !d.Holds(who.Ref, &who.Hash) {
		t.Error("a reload that changes nothing is one")
	}
	d.SetAuthorities(NewAuthorities(only(other), false))
	token := hash(1)
	if heard != 1 || d.Version(who.Ref) == version || d.Holds(who.Ref, &who.Hash) || !d.Holds(who.Ref, &token) {
		t.Error("the removal does not count", heard)
	}
	if d.Holder(fieldgate.PrincipalDevice, "d1", &who.Hash) != 0 || d.Holder(fieldgate.PrincipalDevice, "d1", &token) != who.Ref ||
		d.Holder(fieldgate.PrincipalDevice, "d9", &token) != 0 {
		t.Error("Holder and Holds differ")
	}
	if d.SetAuthorities(nil); heard != 2 || d.authorities.Load() != nil {
		t.Error("the last authority is there", heard)
	}
}
