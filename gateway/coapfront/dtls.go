package coapfront

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/dtls"
)

// DTLS is the listener of CoAP over DTLS (RFC 7252 section 9). Zero bounds mean the defaults of package dtls.
type DTLS struct {
	Conn        *net.UDPConn                             // its socket, mostly of port 5684, which Run closes; nil: there is none
	Certificate func(serverName string) *tls.Certificate // what the gateway shows clients that have a certificate; nil: there is none

	SessionBounds
	HandshakeTimeout time.Duration
}

// SessionBounds are what DTLS sessions may take. Zero values mean the defaults of package dtls.
type SessionBounds struct {
	MaxSessions         int
	MaxHandshakes       int // unfinished
	MaxHandshakesSource int // of these from one IPv4 address or IPv6 /64
	IdleTimeout         time.Duration
}

const (
	nameDTLS = "coaps"

	// maxSessionsOfPrincipal is how many sessions a device may have at once: one that begins anew without ending the one before, again
	// and again, shuts out nobody else.
	maxSessionsOfPrincipal = 16
)

// secured is the transport of a listener whose peers are DTLS sessions.
type secured struct {
	*coap.UDP
	front    *Front
	sessions *dtls.Server

	mu          sync.Mutex
	byPrincipal map[principalKey][]netip.AddrPort // the oldest session first
}

// listenDTLS adds CoAP over DTLS.
func (f *Front) listenDTLS(config DTLS) error {
	s := &secured{front: f, byPrincipal: make(map[principalKey][]netip.AddrPort)}
	l := &listener{name: nameDTLS, transport: s, who: s.who}
	var err error
	s.sessions, err = dtls.NewServer(dtls.Config{
		Send:    func(to netip.AddrPort, datagram []byte) { s.Send(to, datagram) },
		Receive: func(peer netip.AddrPort, message []byte) { s.Feed(peer, message) },
		PSK:     s.key, Certificate: s.certificate(config.Certificate), ClientCAs: s.authorities,
		Admit: s.admit, Resume: s.resume, Opened: s.opened, Ended: s.ended, Refused: s.refused,
		MaxSessions: config.MaxSessions, MaxHandshakes: config.MaxHandshakes, MaxHandshakesOfSource: config.MaxHandshakesSource,
		HandshakeTimeout: config.HandshakeTimeout, IdleTimeout: config.IdleTimeout,
	}, time.Now())
	if err == nil {
		endpoint := f.endpoint(l)
		endpoint.MaxPeers, endpoint.Verified = config.MaxSessions, true
		s.UDP, err = coap.NewUDP(config.Conn, endpoint, workers, f.handler(l), f.logger)
	}
	if err != nil {
		return fmt.Errorf("coap: %w", err)
	}
	s.Secure(s.sessions)
	f.secured = s
	f.listeners = append(f.listeners, l)
	return nil
}

// Run serves until ctx ends. Then all clients are told that their sessions have ended.
func (s *secured) Run(ctx context.Context) error {
	ticking, stop := context.WithCancel(ctx)
	var clock sync.WaitGroup
	clock.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticking.Done():
				return
			case now := <-ticker.C:
				s.sessions.Tick(now)
			}
		}
	})
	err := s.UDP.Run(ctx)
	stop()
	clock.Wait()
	return err
}

// who is whose session it is, and where it is now.
func (s *secured) who(peer netip.AddrPort) (netip.AddrPort, *pipeline.Caller) {
	owner, address := s.sessions.Owner(peer)
	if owner == nil {
		return netip.AddrPort{}, nil // the session has ended meanwhile
	}
	return address, owner.(*pipeline.Caller)
}

func (s *secured) key(identity []byte) (key []byte, found bool) {
	key, _, found = s.front.pipeline.PSK(identity)
	return key, found
}

// certificate is what the gateway shows, as long as there is a certificate that a client could show.
func (s *secured) certificate(own func(serverName string) *tls.Certificate) func(string) *tls.Certificate {
	return func(serverName string) *tls.Certificate {
		if asks, _ := s.front.pipeline.Directory.Asks(); !asks || own == nil {
			return nil
		}
		return own(serverName)
	}
}

func (s *secured) authorities() *x509.CertPool {
	_, authorities := s.front.pipeline.Directory.Asks()
	return authorities
}

// admit finds out who a client is that has shown a key or a certificate.
func (s *secured) admit(identity dtls.Identity) (owner any, err error) {
	var caller *pipeline.Caller
	if identity.PSK != "" {
		var key []byte
		var found bool
		key, caller, found = s.front.pipeline.PSK([]byte(identity.PSK))
		if !found || subtle.ConstantTimeCompare(key, identity.Key) == 0 {
			return nil, errRevoked // or replaced, or another device's, since it was asked for the key
		}
	} else if caller, err = s.front.pipeline.Certified(identity.Chain); err != nil {
		return nil, err
	}
	if problem := s.front.pipeline.Valid(caller); problem != nil {
		return nil, problem
	}
	return caller, nil
}

// resume lets in again whose session would have gone on.
func (s *secured) resume(owner any) bool {
	return s.front.pipeline.Valid(owner.(*pipeline.Caller)) == nil
}

func (s *secured) opened(peer netip.AddrPort, owner any) {
	caller := owner.(*pipeline.Caller)
	key := principalKey{caller.Kind, caller.ID}
	var oldest netip.AddrPort
	s.mu.Lock()
	if sessions := s.byPrincipal[key]; len(sessions) >= maxSessionsOfPrincipal {
		oldest = sessions[0]
	}
	s.byPrincipal[key] = append(s.byPrincipal[key], peer)
	s.mu.Unlock()
	if oldest.IsValid() {
		s.sessions.End(oldest)
	}
	if s.front.pipeline.Valid(caller) != nil { // principalChanged has missed what changed before
		s.sessions.End(peer)
	}
	if owner, _ := s.sessions.Owner(peer); owner == nil {
		s.remove(key, peer) // it has ended already, perhaps before it was here
	}
}

func (s *secured) ended(peer netip.AddrPort, owner any) {
	caller := owner.(*pipeline.Caller)
	s.remove(principalKey{caller.Kind, caller.ID}, peer)
	s.Gone(peer)
}

func (s *secured) remove(key principalKey, peer netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.DeleteFunc(s.byPrincipal[key], func(other netip.AddrPort) bool { return other == peer })
	if len(left) == 0 {
		delete(s.byPrincipal, key)
	} else {
		s.byPrincipal[key] = left
	}
}

// principalChanged ends the sessions of whoever was quarantined, revoked or lost the credential that it came with.
func (s *secured) principalChanged(key principalKey) {
	s.mu.Lock()
	sessions := slices.Clone(s.byPrincipal[key])
	s.mu.Unlock()
	for _, peer := range sessions {
		if owner, _ := s.sessions.Owner(peer); owner != nil && s.front.pipeline.Valid(owner.(*pipeline.Caller)) != nil {
			s.sessions.End(peer)
		}
	}
}

// refused records a handshake that failed because of who the client is, or is not.
func (s *secured) refused(from netip.AddrPort, identity dtls.Identity, reason dtls.Refusal, err error) {
	s.front.logger.Debug("a DTLS handshake failed", "from", from, "reason", reason.String(), "error", err)
	switch reason {
	case dtls.RefusedUnknown, dtls.RefusedKey, dtls.RefusedCertificate, dtls.RefusedOwner:
	default:
		return
	}
	if !s.front.refusals.take(time.Now()) {
		return
	}
	x := &pipeline.Exchange{Protocol: fieldgate.ProtocolCoAP, Method: fieldgate.MethodConnect, Source: from}
	x.Detail = "DTLS handshake: " + refusalTexts[reason]
	if identity.PSK != "" {
		x.Detail += fmt.Sprintf(", of identity %q", identity.PSK)
	}
	s.front.pipeline.Malformed(x, fieldgate.NewProblem(fieldgate.ProblemUnauthenticated, ""))
}

var refusalTexts = map[dtls.Refusal]string{
	dtls.RefusedUnknown:     "there is no such pre-shared key",
	dtls.RefusedKey:         "another pre-shared key, or the client was lost",
	dtls.RefusedCertificate: "no certificate, or none of a device",
	dtls.RefusedOwner:       "the device may not come in",
}

// DTLSStats are those of CoAP over DTLS; ok is false if that is not listened to.
func (f *Front) DTLSStats() (stats dtls.Stats, ok bool) {
	if f.secured == nil {
		return stats, false
	}
	return f.secured.sessions.Stats(), true
}
