package pipeline

import (
	"crypto/x509"
	"time"

	"fieldgate"
	"fieldgate/gateway/directory"
)

// PSK is the pre-shared key that an identity of a handshake stands for, and whose connection it is when the handshake has succeeded. Not
// ok: nobody has that identity.
func (p *Pipeline) PSK(identity []byte) (key []byte, caller *Caller, ok bool) {
	key, who, ok := p.Directory.PSK(identity)
	if !ok {
		return nil, nil, false
	}
	return key, p.Proven(who), true
}

// Certified is whose connection it is that was made with a chain of certificates, the client's first. That the client has the private key is
// for the handshake to find out. The errors are directory.CertificateErrors.
func (p *Pipeline) Certified(chain []*x509.Certificate) (*Caller, error) {
	who, err := p.Directory.Certificate(chain, time.Now())
	if err != nil {
		return nil, err
	}
	return p.Proven(who), nil
}

// Proven is the caller whom a credential of a handshake, or of a protected message, is of.
func (p *Pipeline) Proven(who directory.Proven) *Caller {
	principal := p.Directory.Principal(who.Ref)
	return &Caller{Ref: who.Ref, Hash: who.Hash, Kind: principal.Kind, ID: principal.ID}
}

var errOtherCaller = fieldgate.NewProblem(fieldgate.ProblemUnauthenticated, "The credential is of another caller than the certificate or pre-shared key of the connection; leave it out.")

// Confirm is Identify for a connection whose client has shown in the handshake to be that caller: what it says besides must agree.
func (p *Pipeline) Confirm(caller *Caller, username, secret []byte) *fieldgate.Problem {
	foreign := p.Program().foreignMQTT && len(secret) > 0 && !fieldgate.WellFormedToken(secret)
	if !foreign && len(username) != 0 && string(username) != caller.ID {
		return errWrongName
	}
	if problem := p.agree(caller, secret, foreign); problem != nil {
		return problem
	}
	return p.Valid(caller)
}

// agree asks whether a further credential is of the caller that the connection has proved to be. One that is not of Fieldgate's making may
// be meant for what is behind a pass-through API.
func (p *Pipeline) agree(caller *Caller, secret []byte, foreign bool) *fieldgate.Problem {
	var other Caller
	switch {
	case len(secret) == 0:
		return nil
	case p.lookupInto(secret, &other):
		if other.Ref != caller.Ref {
			return errOtherCaller
		}
	case !foreign || fieldgate.WellFormedToken(secret):
		return errWrongCredential
	}
	return nil
}
