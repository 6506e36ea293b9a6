package certificates

import (
	"crypto/tls"
	"strings"
	"sync"

	"golang.org/x/crypto/acme"
)

// challenges are the answers that an ACME server waits for.
type challenges struct {
	mu           sync.Mutex
	certificates map[string]*tls.Certificate // of TLS-ALPN-01, by name
	answers      map[string][]byte           // of HTTP-01, by path
}

// put makes the answer to a challenge and holds it ready until it is withdrawn.
func (c *challenges) put(client *acme.Client, challenge *acme.Challenge, name string) (withdraw func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if challenge.Type == "http-01" { // RFC 8555 §8.3
		answer, err := client.HTTP01ChallengeResponse(challenge.Token)
		if err != nil {
			return nil, err
		}
		path := client.HTTP01ChallengePath(challenge.Token)
		if c.answers == nil {
			c.answers = make(map[string][]byte)
		}
		c.answers[path] = []byte(answer)
		return func() { c.remove(func() { delete(c.answers, path) }) }, nil
	}
	certificate, err := client.TLSALPN01ChallengeCert(challenge.Token, name) // RFC 8737 §3
	if err != nil {
		return nil, err
	}
	if c.certificates == nil {
		c.certificates = make(map[string]*tls.Certificate)
	}
	c.certificates[name] = &certificate
	return func() { c.remove(func() { delete(c.certificates, name) }) }, nil
}

func (c *challenges) remove(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do()
}

// answer is that of a path; nil: there is none.
func (c *challenges) answer(path string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers[path]
}

// asked says whether the client is an ACME server with a challenge: it offers this protocol alone (RFC 8737 §3).
func (c *challenges) asked(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acme.ALPNProto && c.of(hello) != nil
}

func (c *challenges) of(hello *tls.ClientHelloInfo) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.certificates[strings.ToLower(hello.ServerName)]
}

func (c *challenges) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if certificate := c.of(hello); certificate != nil {
		return certificate, nil
	}
	return nil, errNone
}
