package dtls

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pion/dtls/v3"
	message "github.com/pion/dtls/v3/pkg/protocol/handshake"
)

const (
	// What pion is given in one handshake: the client's flights several times over, with a chain of certificates.
	maxHandshakeBytes = 64 << 10
	maxParked         = 4 // datagrams of the client that came before its session was there

	maxIdentity = 256 // bytes of a PSK identity
	maxChain    = 8   // certificates of a client
)

// handshake is an unfinished one. It exists only after a valid cookie.
type handshake struct {
	server *Server
	from   netip.AddrPort
	number uint64             // of the session to be
	began  uint32             // seconds on the Server's clock
	cancel context.CancelFunc // nil while the ClientHello is not whole

	// The second ClientHello.
	bound           string // what makes it another one than that of the next handshake
	recordSequence  uint64
	messageSequence uint16
	hello           []byte
	has             []bool // bytes that have come; nil: all
	missing         int

	link     link
	resuming atomic.Pointer[resuming] // the client resumes a session, so that link has nothing to do
	origin   *resumable               // what the session to be can be resumed from, by this ID; nil: it cannot
	id       sessionID

	mu           sync.Mutex // the following
	identity     Identity
	psk          []byte // of the identity, as it was when it was asked for
	keyAsked     bool   // a cipher with pre-shared keys was chosen, and the client has named itself
	keyFound     bool
	certificates bool // a cipher with certificates was chosen
	refused      bool // by Admit
	owner        any
}

// addHello takes in a fragment of the ClientHello, and says whether it is whole now. To be called with the Server's lock.
func (h *handshake) addHello(f *fragment) (whole bool) {
	if f.length != len(h.hello) || f.messageSequence != h.messageSequence || h.has == nil {
		return false
	}
	for i, b := range f.body {
		if at := f.offset + i; !h.has[at] {
			h.has[at], h.hello[at] = true, b
			h.missing--
		}
	}
	if h.missing > 0 {
		return false
	}
	h.has = nil
	return true
}

// run does the handshake, or begins it if a session is resumed.
func (h *handshake) run(ctx context.Context) {
	if h.server.config.Resume != nil && h.resume() {
		return
	}
	established, err := h.negotiate(ctx)
	h.server.finish(h, established, err)
	if established == nil {
		return
	}
	for _, datagram := range h.link.handOver() {
		h.server.Open(h.from, datagram, h.server.config.Receive)
	}
}

var errNobody = errors.New("dtls: the client is nobody that may come in")

func (h *handshake) negotiate(ctx context.Context) (*session, error) {
	suites, options := h.options()
	conn, err := dtls.ServerWithOptions(&h.link, h.link.peer, append(options, dtls.WithCipherSuites(suites...))...)
	if err != nil {
		return nil, err
	}
	h.link.begin(conn)
	defer conn.Close()
	defer h.link.mute() // pion's close_notify must not leave
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	established, err := takeOver(conn, h.origin)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	established.number, established.owner, established.address, established.final = h.number, h.owner, h.from, h.link.lastFlight()
	if h.origin != nil {
		h.origin.owner = h.owner
		h.server.resumables.add(h.id, h.origin, h.server.clock.Load())
	}
	return established, nil
}

// options are those that the present keys and certificate allow for. A client that offers ciphers with pre-shared keys has one, which
// is not sure of a certificate.
func (h *handshake) options() (suites []dtls.CipherSuiteID, options []dtls.ServerOption) {
	config := &h.server.config
	options = []dtls.ServerOption{
		dtls.WithLoggerFactory(silent{}),
		dtls.WithVerifyConnection(h.verifyConnection),
		dtls.WithConnectionIDGenerator(func() []byte { return binary.BigEndian.AppendUint64(nil, h.number) }),
	}
	if offer, ok := parseOffer(h.hello); ok && offer.extendedMaster && config.Resume != nil {
		h.origin, h.id = &resumable{serverName: offer.serverName}, newSessionID()
		options = append(options, dtls.WithServerHelloMessageHook(h.identify))
	}
	if config.PSK != nil {
		suites = append(suites, pskCCM8, pskCCM, pskGCM)
		options = append(options, dtls.WithPSK(h.key))
	}
	if config.Certificate == nil || config.PSK != nil && offersPSK(h.hello) {
		return suites, options
	}
	if config.Certificate("") != nil {
		suites = append(suites, ecdsaCCM8, ecdsaCCM, ecdsaGCM, rsaGCM)
		options = append(options, dtls.WithClientAuth(dtls.RequireAnyClientCert),
			dtls.WithVerifyPeerCertificate(h.verifyCertificate),
			dtls.WithGetCertificate(h.certificate))
		if config.ClientCAs != nil {
			options = append(options, dtls.WithClientCAs(config.ClientCAs()))
		}
	}
	return suites, options
}

// identify puts the ID into the ServerHello by which the client can resume the session.
func (h *handshake) identify(hello message.MessageServerHello) message.Message {
	hello.SessionID = h.id[:]
	return &hello
}

// key is that of an identity. An unknown one gets a key that nobody has, so that nothing tells it from a known one: neither an
// alert nor the time that it takes.
func (h *handshake) key(identity []byte) ([]byte, error) {
	mac := hmac.New(sha256.New, h.server.nobody[:])
	mac.Write(identity)
	nobodys := mac.Sum(nil)
	var key []byte
	found := false
	if len(identity) <= maxIdentity {
		key, found = h.server.config.PSK(identity)
	}
	h.mu.Lock()
	h.keyAsked, h.keyFound, h.psk = true, found, slices.Clone(key)
	h.identity = Identity{PSK: string(identity[:min(len(identity), maxIdentity)])}
	h.mu.Unlock()
	if !found {
		return nobodys, nil
	}
	return slices.Clone(key), nil
}

// certificate is called when a cipher with certificates was chosen.
func (h *handshake) certificate(hello *dtls.ClientHelloInfo) (*tls.Certificate, error) {
	h.mu.Lock()
	h.certificates = true
	h.mu.Unlock()
	if certificate := h.server.config.Certificate(hello.ServerName); certificate != nil {
		return certificate, nil
	}
	return nil, errNobody
}

// verifyCertificate is called when the client has proved to have the key of the first certificate.
func (h *handshake) verifyCertificate(certificates [][]byte, _ [][]*x509.Certificate) error {
	if len(certificates) > maxChain {
		return errNobody
	}
	var chain []*x509.Certificate
	for _, der := range certificates {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain = append(chain, certificate)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.keyAsked {
		h.identity = Identity{Chain: chain}
	}
	return nil
}

// verifyConnection is called when the client's Finished was right, before ours leaves.
func (h *handshake) verifyConnection(*dtls.State) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keyAsked && !h.keyFound || !h.keyAsked && len(h.identity.Chain) == 0 {
		return errNobody
	}
	who := h.identity
	who.Key = h.psk
	owner, err := h.server.config.Admit(who)
	if err != nil {
		h.refused = true
		return err
	}
	h.owner = owner
	return nil
}

// refusal is whose handshake has failed, and why.
func (h *handshake) refusal(err error) (Identity, Refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var alert interface{ IsFatalOrCloseNotify() bool } // of the client
	switch {
	case h.refused && h.keyAsked:
		return h.identity, RefusedOwner
	case h.keyAsked && !h.keyFound:
		return h.identity, RefusedUnknown
	case h.keyAsked:
		return h.identity, RefusedKey
	case errors.Is(err, context.DeadlineExceeded):
		return h.identity, RefusedTimeout
	case h.certificates && !errors.As(err, &alert):
		return h.identity, RefusedCertificate
	}
	return h.identity, RefusedOther
}
