// Package certificates gives the gateway's TLS listeners their certificates: from PEM files, from a certification authority of the
// node's own, and from an ACME server.
//
// It owns its folder, with the authority and what the ACME server issued. It promises that a handshake waits for nobody, that a
// certificate is replaced without touching a connection, and that one which cannot be replaced stays in force, with its problem in
// States. A certificate that has expired is still served, since the gateway has no better one: clients refuse it, and log and
// States say so.
package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"fieldgate"
)

// lookEvery is how often files are looked at, and what is due for renewal.
const lookEvery = time.Second

// Config is all that Certificates work with.
type Config struct {
	Folder string // of its files; created if missing
	Node   string // name of this gateway; part of the name of its authority
	Logger *slog.Logger

	TLSALPN01 bool   // the ACME server can reach the TLS listener (RFC 8737)
	HTTP01    bool   // and the plain one (RFC 8555 §8.3)
	Changed   func() // is called when States have changed; may be nil

	// Asks says whether clients of a DeviceConfig are asked for a certificate, and of which authorities; nil: of any. Check is why one
	// that they show is refused; nil: it is not.
	Asks  func() (asks bool, authorities *x509.CertPool)
	Check func(chain []*x509.Certificate) error
}

// Settings are what can be replaced while the gateway serves.
type Settings struct {
	Files      []File   // the first certificate is for clients that name no server, or one that none is for
	InternalCA []string // names and addresses that the node's own authority issues one certificate for
	ACME       *ACME
	MinVersion uint16 // tls.VersionTLS12, which is the default, or tls.VersionTLS13
}

// File is a certificate with its chain, and its key, in PEM files.
type File struct {
	Certificate, Key string // paths
}

// source is one certificate and where it comes from.
type source interface {
	// look renews the certificate if that is due, and says whether anything changed.
	look(now time.Time) bool
	held() *status
}

// status is what all sources have.
type status struct {
	certificate *tls.Certificate // nil: none yet
	problem     string           // why there is none, or no newer one
	warned      mark             // of its life that was logged last
}

func (s *status) held() *status { return s }

// Certificates are safe for concurrent use.
type Certificates struct {
	config     Config
	challenges challenges
	wake       chan struct{}

	mu       sync.Mutex // held to change the following
	settings Settings
	sources  []source // in the order in which they are chosen
	acme     *issuer  // nil: none

	table      atomic.Pointer[table]
	minVersion atomic.Uint32
}

// New reads the files and makes the authority, if there is to be one. It asks no ACME server before Run.
func New(config Config, settings Settings) (*Certificates, error) {
	if err := os.MkdirAll(config.Folder, 0o700); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	c := &Certificates{config: config, wake: make(chan struct{}, 1)}
	if c.config.Changed == nil {
		c.config.Changed = func() {}
	}
	apply, err := c.Prepare(settings)
	if err != nil {
		return nil, err
	}
	apply()
	return c, nil
}

// Prepare makes all that the settings ask for, and gives the function that puts it into force for handshakes to come. After an error
// everything is as it was. A source that was there before stays as it is, even if it has a problem.
func (c *Certificates) Prepare(settings Settings) (apply func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sources []source
	for _, file := range settings.Files {
		s := find(c.sources, func(old *fileSource) bool { return old.file == file })
		if s == nil {
			if s, err = openFile(file, c.config.Logger); err != nil {
				return nil, err
			}
		}
		sources = append(sources, s)
	}
	if len(settings.InternalCA) > 0 {
		s := find(c.sources, func(old *internalSource) bool { return slices.Equal(old.names, settings.InternalCA) })
		if s == nil {
			if s, err = openInternal(c.config, settings.InternalCA); err != nil {
				return nil, err
			}
		}
		sources = append(sources, s)
	}
	account := c.acme
	if settings.ACME == nil {
		account = nil
	} else {
		if account == nil || !account.settings.sameAccount(settings.ACME) {
			if account, err = openIssuer(c.config, *settings.ACME, &c.challenges); err != nil {
				return nil, err
			}
		}
		for _, name := range settings.ACME.Names {
			s := find(c.sources, func(old *acmeSource) bool { return old.issuer == account && old.name == name })
			if s == nil {
				s = account.open(name)
			}
			sources = append(sources, s)
		}
	}
	return func() {
		c.mu.Lock()
		c.settings, c.sources, c.acme = settings, sources, account
		c.publish()
		c.mu.Unlock()
		c.Look()
	}, nil
}

// find is the source of that kind which matches; nil: none does.
func find[S interface {
	comparable
	source
}](sources []source, matches func(S) bool) (none S) {
	for _, s := range sources {
		if s, ok := s.(S); ok && matches(s) {
			return s
		}
	}
	return none
}

// publish puts what the sources have into force. To be called with mu held.
func (c *Certificates) publish() {
	var all []*tls.Certificate
	for _, s := range c.sources {
		if certificate := s.held().certificate; certificate != nil {
			all = append(all, certificate)
		}
	}
	c.table.Store(newTable(all))
	c.minVersion.Store(uint32(max(c.settings.MinVersion, tls.VersionTLS12)))
}

// Look makes Run look at all sources at once, and try again what has failed.
func (c *Certificates) Look() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run keeps the certificates up to date until the context ends.
func (c *Certificates) Run(ctx context.Context) error {
	var issuing sync.WaitGroup
	defer issuing.Wait()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for again := true; ; {
		c.look(time.Now(), again)
		c.issue(ctx, &issuing, time.Now(), again)
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
			again = true
		case <-ticker.C:
			again = false
		}
	}
}

// look lets each source renew itself. With again, files are read even if they look as they did.
func (c *Certificates) look(now time.Time, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	for _, s := range c.sources {
		if file, ok := s.(*fileSource); ok && again {
			file.seen = stamp{}
		}
		changed = s.look(now) || changed
		changed = c.warn(s.held(), now) || changed
	}
	if changed {
		c.publish()
		c.config.Changed()
	}
}

// issue lets the ACME server issue what is due, one goroutine for each certificate.
func (c *Certificates) issue(ctx context.Context, issuing *sync.WaitGroup, now time.Time, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sources {
		wanted, ok := s.(*acmeSource)
		if !ok || !wanted.due(now, again) {
			continue
		}
		wanted.busy = true
		issuing.Go(func() {
			certificate, err := wanted.issuer.obtain(ctx, wanted.name)
			c.mu.Lock()
			defer c.mu.Unlock()
			wanted.busy = false
			if ctx.Err() != nil {
				return
			}
			wanted.done(certificate, err, time.Now())
			c.publish()
			c.config.Changed()
		})
	}
}

// Config is the configuration of a TLS listener that offers these application protocols (RFC 7301), the preferred one first.
// Certificates and the lowest version follow the Settings in force.
func (c *Certificates) Config(protocols ...string) *tls.Config {
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     protocols,
		GetCertificate: c.certificate,
		// Of TLS 1.2 what RFC 9325 §4.2 recommends and HTTP/2 allows (RFC 9113 §9.2.2): forward secrecy and authenticated encryption.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	// The keys of session tickets stay those of config, which rotates them.
	strict, challenge := config.Clone(), config.Clone()
	strict.MinVersion = tls.VersionTLS13
	challenge.NextProtos, challenge.GetCertificate = []string{acme.ALPNProto}, c.challenges.certificate
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		switch {
		case c.challenges.asked(hello):
			return challenge, nil
		case c.minVersion.Load() == tls.VersionTLS13:
			return strict, nil
		}
		return nil, nil
	}
	return config
}

// DeviceConfig is Config for a listener whose clients may show by a certificate who they are. One that is shown and refused ends the
// handshake; on a resumed session the certificate counts that was shown first (RFC 8446 §2.2), and is checked anew.
func (c *Certificates) DeviceConfig(protocols ...string) *tls.Config {
	config := c.Config(protocols...)
	choose := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asks, authorities := c.config.Asks()
		chosen, err := choose(hello)
		if !asks || err != nil || c.challenges.asked(hello) {
			return chosen, err
		}
		if chosen == nil {
			chosen = config
		}
		asking := chosen.Clone()
		asking.ClientAuth, asking.ClientCAs = tls.RequestClientCert, authorities
		asking.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return nil
			}
			return c.config.Check(state.PeerCertificates)
		}
		return asking, nil
	}
	return config
}

var errNone = errors.New("certificates: there is none yet")

func (c *Certificates) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if found := c.table.Load().find(hello, time.Now()); found != nil {
		return found, nil
	}
	return nil, errNone
}

// For is the certificate for clients that name the server so; nil: there is none yet.
func (c *Certificates) For(serverName string) *tls.Certificate {
	return c.table.Load().find(&tls.ClientHelloInfo{ServerName: serverName}, time.Now())
}

// Challenge is the answer to an ACME server that asks the plain listener for this path; nil: there is none.
func (c *Certificates) Challenge(path string) []byte { return c.challenges.answer(path) }

// States are the certificates in the order of the Settings.
func (c *Certificates) States() []fieldgate.CertificateState {
	c.mu.Lock()
	defer c.mu.Unlock()
	states := make([]fieldgate.CertificateState, 0, len(c.sources))
	for _, s := range c.sources {
		var state fieldgate.CertificateState
		switch s := s.(type) {
		case *fileSource:
			state.Source, state.File = fieldgate.CertificateFile, s.file.Certificate
		case *internalSource:
			state.Source, state.Names = fieldgate.CertificateInternal, s.names
		case *acmeSource:
			state.Source, state.Names = fieldgate.CertificateACME, []string{s.name}
		}
		state.Problem = s.held().problem
		if certificate := s.held().certificate; certificate != nil {
			leaf := certificate.Leaf
			state.Names, state.NotBefore, state.NotAfter = names(leaf), leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
			if passed, text := expiry(leaf, time.Now()); passed == notBegun {
				state.Problem = strings.TrimPrefix(state.Problem+"; "+text, "; ")
			}
		}
		states = append(states, state)
	}
	return states
}
