package dtls

import (
	"net/netip"
	"time"

	"github.com/pion/dtls/v3"
)

// SessionState is what is known of a session, for people who look at it.
type SessionState struct {
	Peer          netip.AddrPort // its name
	Cipher        string         // such as TLS_PSK_WITH_AES_128_CCM_8
	PSK           bool           // the peer has shown a pre-shared key; otherwise a certificate
	ConnectionID  bool           // it keeps the session when its address changes (RFC 9146)
	Opened, Heard time.Time      // to the second
}

// Sessions are all that there are. It takes some milliseconds for 100,000 of them.
func (s *Server) Sessions() []SessionState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	states := make([]SessionState, len(s.all))
	for i, established := range s.all {
		states[i] = s.state(established)
	}
	return states
}

// Session is the one of a peer; ok is false if it has ended.
func (s *Server) Session(peer netip.AddrPort) (state SessionState, ok bool) {
	established := s.session(peer)
	if established == nil {
		return state, false
	}
	return s.state(established), true
}

// state reads what does not change, and the atomic lastUsed.
func (s *Server) state(established *session) SessionState {
	at := func(second uint32) time.Time { return s.began.Add(time.Duration(second) * time.Second) }
	suite := established.suite
	return SessionState{Peer: virtual(established.number), Cipher: dtls.CipherSuiteName(dtls.CipherSuiteID(suite)), PSK: suite == pskCCM8 || suite == pskCCM || suite == pskGCM,
		ConnectionID: established.hasCID, Opened: at(established.opened), Heard: at(established.lastUsed.Load())}
}
