package certificates

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"time"
)

// table finds the certificate for the server that a client names.
type table struct {
	names map[string][]*tls.Certificate // by name in lower case; a wildcard's begins with "*."
	first []*tls.Certificate            // for everybody else
}

// newTable makes a table of certificates in the order in which they are preferred.
func newTable(all []*tls.Certificate) *table {
	t := &table{names: make(map[string][]*tls.Certificate), first: all}
	for _, certificate := range all {
		for _, name := range certificate.Leaf.DNSNames {
			name = strings.ToLower(name)
			t.names[name] = append(t.names[name], certificate)
		}
	}
	return t
}

// find is the certificate for a client: of the name it gives (RFC 6066 §3), of a wildcard that stands for the leftmost label
// (RFC 9525 §6.3), or the first of all. nil: there is none.
func (t *table) find(hello *tls.ClientHelloInfo, now time.Time) *tls.Certificate {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	candidates := t.names[name]
	if candidates == nil {
		if _, parent, found := strings.Cut(name, "."); found {
			candidates = t.names["*."+parent]
		}
	}
	if candidates == nil {
		candidates = t.first[:min(1, len(t.first))]
	}
	// Of several for one name, such as one with an RSA and one with an ECDSA key, the first that the client can use.
	for _, c := range candidates {
		if len(candidates) == 1 || now.Before(c.Leaf.NotAfter) && hello.SupportsCertificate(c) == nil {
			return c
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	return candidates[0]
}

// names are all that a certificate is for.
func names(leaf *x509.Certificate) []string {
	all := append([]string(nil), leaf.DNSNames...)
	for _, address := range leaf.IPAddresses {
		all = append(all, address.String())
	}
	return all
}
