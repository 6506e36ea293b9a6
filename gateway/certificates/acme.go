package certificates

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
)

const (
	issueTimeout = 3 * time.Minute
	// Let's Encrypt takes five failures for a name within an hour.
	retryFirst = 5 * time.Minute
	retryLast  = time.Hour
)

// ACME is an account with an ACME server (RFC 8555), and the names that it issues a certificate for, each one of its own.
type ACME struct {
	Directory string // URL; empty: Let's Encrypt
	Email     string // for the server's notices; may be empty
	CAFile    string // PEM, of the authority that the server's own certificate is from; empty: the system's
	Names     []string
}

func (a ACME) sameAccount(b *ACME) bool {
	return a.Directory == b.Directory && a.Email == b.Email && a.CAFile == b.CAFile
}

// issuer gets certificates from one ACME server.
type issuer struct {
	settings   ACME
	config     Config
	folder     string // of the account's key and the certificates
	client     *acme.Client
	challenges *challenges

	mu         sync.Mutex
	registered bool
}

// openIssuer reads or makes the account's key. The server is not asked yet.
func openIssuer(config Config, settings ACME, challenges *challenges) (*issuer, error) {
	directory := settings.Directory
	if directory == "" {
		directory = acme.LetsEncryptURL
	}
	i := &issuer{settings: settings, config: config, challenges: challenges,
		folder: filepath.Join(config.Folder, fmt.Sprintf("acme-%x", sha256.Sum256([]byte(directory)))[:len("acme-")+16])}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if settings.CAFile != "" {
		text, err := os.ReadFile(settings.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificates: the ACME server's authority: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("certificates: %s holds no certificate in PEM form", settings.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	if err := os.MkdirAll(i.folder, 0o700); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	key, err := accountKey(filepath.Join(i.folder, "account-key.pem"))
	if err != nil {
		return nil, fmt.Errorf("certificates: the key of the ACME account: %w", err)
	}
	i.client = &acme.Client{Key: key, DirectoryURL: directory, UserAgent: "fieldgate", HTTPClient: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
	return i, nil
}

func accountKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		if text, err = encodeKey(key); err != nil {
			return nil, err
		}
		return key, write(path, text)
	}
	if err != nil {
		return nil, err
	}
	return decodeKey(path, text)
}

// acmeSource is a certificate that an ACME server issues.
type acmeSource struct {
	status
	name   string
	issuer *issuer

	busy  bool          // the server is being asked
	waits time.Duration // after the last failure; 0: it was none
	next  time.Time     // when to ask again after it
}

// open reads what was issued before.
func (i *issuer) open(name string) *acmeSource {
	s := &acmeSource{name: name, issuer: i}
	pair, err := tls.LoadX509KeyPair(i.file(name), i.file(name))
	switch {
	case err == nil && pair.Leaf.VerifyHostname(name) == nil:
		s.certificate = &pair
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		i.config.Logger.Warn("a certificate from the ACME server cannot be read and is issued anew", "name", name, "error", err)
	}
	return s
}

func (i *issuer) file(name string) string { return filepath.Join(i.folder, name+".pem") }

// look does nothing: the server is asked by issue, since that takes its time.
func (s *acmeSource) look(time.Time) bool { return false }

// due says whether the server has to be asked now. With again, a failure is not waited for.
func (s *acmeSource) due(now time.Time, again bool) bool {
	switch {
	case s.busy:
		return false
	case s.waits > 0:
		return again || !now.Before(s.next)
	}
	return s.certificate == nil || !now.Before(renewal(s.certificate.Leaf))
}

func (s *acmeSource) done(certificate *tls.Certificate, err error, now time.Time) {
	if err != nil {
		s.waits = min(max(2*s.waits, retryFirst), retryLast)
		if limited, ok := acme.RateLimit(err); ok {
			s.waits = max(s.waits, limited)
		}
		s.next, s.problem = now.Add(s.waits), "the ACME server did not issue it: "+err.Error()
		s.issuer.config.Logger.Error("the ACME server did not issue a certificate", "name", s.name, "error", err, "again", s.waits)
		return
	}
	s.status, s.waits = status{certificate: certificate}, 0
	s.issuer.config.Logger.Info("the ACME server issued a certificate", "name", s.name, "until", certificate.Leaf.NotAfter.UTC())
}

// obtain gets a certificate for a name and keeps it in the folder.
func (i *issuer) obtain(ctx context.Context, name string) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	if err := i.register(ctx); err != nil {
		return nil, err
	}
	order, err := i.authorize(ctx, name)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		return nil, err
	}
	chain, _, err := i.client.CreateCertFromOrder(ctx, order, request, true) // RFC 8555 §7.4
	if err != nil {
		return nil, err
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	text = append(text, encodeCertificates(chain)...)
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, err
	}
	if err := pair.Leaf.VerifyHostname(name); err != nil {
		return nil, err
	}
	if err := write(i.file(name), text); err != nil {
		i.config.Logger.Error("a certificate from the ACME server was not kept: it will be issued anew after a restart", "name", name, "error", err)
	}
	return &pair, nil
}

// register makes the account, or finds the one that the key has (RFC 8555 §7.3).
func (i *issuer) register(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.registered {
		return nil
	}
	account := &acme.Account{}
	if i.settings.Email != "" {
		account.Contact = []string{"mailto:" + i.settings.Email}
	}
	_, err := i.client.Register(ctx, account, acme.AcceptTOS)
	if err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return err
	}
	i.registered = true
	return nil
}

// authorize proves that the name is ours, by one kind of challenge after the other (RFC 8555 §7.1.6: after a failure only a new order
// helps), and returns an order that is ready.
func (i *issuer) authorize(ctx context.Context, name string) (*acme.Order, error) {
	var kinds []string
	if i.config.TLSALPN01 {
		kinds = append(kinds, "tls-alpn-01")
	}
	if i.config.HTTP01 {
		kinds = append(kinds, "http-01")
	}
	var failures error
	for _, kind := range kinds {
		order, err := i.authorizeBy(ctx, kind, name)
		if err == nil {
			return order, nil
		}
		failures = errors.Join(failures, fmt.Errorf("%s: %w", kind, err))
		if _, limited := acme.RateLimit(err); limited || ctx.Err() != nil {
			break
		}
	}
	return nil, failures
}

func (i *issuer) authorizeBy(ctx context.Context, kind, name string) (*acme.Order, error) {
	order, err := i.client.AuthorizeOrder(ctx, acme.DomainIDs(name))
	if err != nil {
		return nil, err
	}
	for _, url := range order.AuthzURLs {
		authorization, err := i.client.GetAuthorization(ctx, url)
		if err != nil {
			return nil, err
		}
		if authorization.Status != acme.StatusPending {
			continue // it was proved lately
		}
		var challenge *acme.Challenge
		for _, offered := range authorization.Challenges {
			if offered.Type == kind {
				challenge = offered
			}
		}
		if challenge == nil {
			return nil, errors.New("the server does not offer this challenge")
		}
		withdraw, err := i.challenges.put(i.client, challenge, name)
		if err != nil {
			return nil, err
		}
		defer withdraw()
		if _, err := i.client.Accept(ctx, challenge); err != nil {
			return nil, err
		}
		if _, err := i.client.WaitAuthorization(ctx, authorization.URI); err != nil {
			return nil, err
		}
	}
	return i.client.WaitOrder(ctx, order.URI)
}
