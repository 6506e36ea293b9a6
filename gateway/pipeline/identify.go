package pipeline

import (
	"bytes"

	"fieldgate"
)

// Identify finds out who opens a connection, for protocols where that happens once (MQTT CONNECT). An empty secret is an
// anonymous caller, a credential that is not of Fieldgate's making a foreign one; both are accepted only where some MQTT
// operation lets them in. A quarantined or revoked caller is refused.
func (p *Pipeline) Identify(username, secret []byte) (*Caller, *fieldgate.Problem) {
	if len(secret) == 0 && len(username) == 0 {
		if !p.Program().anonymousMQTT {
			return nil, errNoCredential
		}
		return &Caller{Kind: fieldgate.PrincipalAnonymous}, nil
	}
	if fieldgate.WellFormedToken(secret) {
		caller, problem := p.lookup(secret)
		if problem != nil {
			return nil, problem
		}
		if len(username) != 0 && string(username) != caller.ID {
			return nil, errWrongName
		}
		return caller, p.stateProblem(caller)
	}
	if !p.Program().foreignMQTT {
		return nil, errWrongCredential
	}
	return &Caller{Kind: fieldgate.PrincipalForeign, ID: claimedName(username)}, nil
}

// Valid says whether a caller's credential still stands: a problem when it was revoked or the device quarantined since.
func (p *Pipeline) Valid(caller *Caller) *fieldgate.Problem {
	if !p.stands(caller) {
		return errWrongCredential
	}
	return p.stateProblem(caller)
}

// stands says whether what let the caller in would let it in now.
func (p *Pipeline) stands(caller *Caller) bool {
	switch {
	case caller.OnRamp != nil && caller.Hash == fieldgate.CredentialHash{}:
		return caller.OnRamp.holds(p, caller)
	case caller.Ref != 0:
		return p.Directory.Holds(caller.Ref, &caller.Hash)
	}
	return true
}

var (
	errNoCredential    = fieldgate.NewProblem(fieldgate.ProblemUnauthenticated, "Present a device token or an app key.")
	errWrongCredential = fieldgate.NewProblem(fieldgate.ProblemUnauthenticated, "The credential is not valid: it is mistyped, was replaced or was revoked.")
	errWrongName       = fieldgate.NewProblem(fieldgate.ProblemUnauthenticated, "The user name is not that of the credential's owner; leave it out or correct it.")
	errQuarantined     = fieldgate.NewProblem(fieldgate.ProblemQuarantined, "An operator has to release the device.")
)

// lookup finds the owner of a token.
func (p *Pipeline) lookup(secret []byte) (*Caller, *fieldgate.Problem) {
	caller := new(Caller)
	if !p.lookupInto(secret, caller) {
		return nil, errWrongCredential
	}
	return caller, nil
}

func (p *Pipeline) lookupInto(secret []byte, caller *Caller) bool {
	if !fieldgate.WellFormedToken(secret) {
		return false
	}
	caller.Hash = fieldgate.HashToken(secret)
	caller.Ref = p.Directory.Lookup(&caller.Hash)
	if caller.Ref == 0 {
		return false
	}
	principal := p.Directory.Principal(caller.Ref)
	caller.Kind, caller.ID = principal.Kind, principal.ID
	return true
}

func (p *Pipeline) stateProblem(caller *Caller) *fieldgate.Problem {
	ref := caller.Ref
	if ref == 0 && caller.OnRamp != nil && caller.ID != "" { // nobody goes on under the name of a device that was stopped
		ref = p.Directory.Find(fieldgate.PrincipalDevice, caller.ID)
	}
	if ref == 0 {
		return nil
	}
	switch p.Directory.State(ref) {
	case fieldgate.StateQuarantined:
		return errQuarantined
	case fieldgate.StateRevoked:
		return errWrongCredential
	}
	return nil
}

// recognise notes who calls, for the Record of an exchange that is refused whoever it is.
func (p *Pipeline) recognise(x *Exchange) {
	if x.Caller != nil {
		x.setCaller(p, x.Caller)
	} else if p.lookupInto(x.Secret, &x.own) {
		x.setCaller(p, &x.own)
	}
}

// identify is the stage: who calls?
func identify(p *Pipeline, x *Exchange) *fieldgate.Problem {
	if x.Caller != nil {
		x.setCaller(p, x.Caller)
		if !p.stands(x.Caller) {
			return errWrongCredential
		}
		if x.Protocol != fieldgate.ProtocolMQTT { // where CONNECT was asked
			if problem := p.agree(x.Caller, x.credential(), x.Operation.PassThrough); problem != nil {
				return problem
			}
		}
		return x.demandCredential()
	}
	secret := x.credential()
	switch {
	case len(secret) == 0:
		x.own.Kind = fieldgate.PrincipalAnonymous
	case p.lookupInto(secret, &x.own):
	case x.Operation.PassThrough && !fieldgate.WellFormedToken(secret):
		x.own.Kind, x.own.ID = fieldgate.PrincipalForeign, claimedName(x.Username)
	default:
		return errWrongCredential
	}
	x.setCaller(p, &x.own)
	return x.demandCredential()
}

// identifyOwn finds out who asks for a resource of the gateway's own.
func (p *Pipeline) identifyOwn(x *Exchange) *fieldgate.Problem {
	caller := x.Caller
	switch {
	case caller != nil && caller.Ref != 0:
	case len(x.Secret) == 0:
		return errNoCredential
	case !p.lookupInto(x.Secret, &x.own):
		return errWrongCredential
	default:
		caller = &x.own
	}
	x.setCaller(p, caller)
	return p.Valid(caller)
}

// demandCredential refuses callers that are nobody we know, unless the operation is for them.
func (x *Exchange) demandCredential() *fieldgate.Problem {
	if x.caller.Ref != 0 || x.Operation.Access.Anonymous {
		return nil
	}
	return x.by("credential required", errNoCredential)
}

func (x *Exchange) setCaller(p *Pipeline, caller *Caller) {
	x.caller = caller
	if caller.Ref != 0 {
		x.Principal = p.Directory.Principal(caller.Ref)
		return
	}
	x.Principal = fieldgate.Principal{Kind: caller.Kind, ID: caller.ID}
}

// credential is what the request itself carries.
func (x *Exchange) credential() []byte {
	if len(x.Secret) > 0 {
		return x.Secret
	}
	return x.keyField()
}

// keyField is the credential in one of the header fields that the contract's apiKey schemes name.
func (x *Exchange) keyField() []byte {
	if x.Fields == nil {
		return nil
	}
	for _, name := range x.Operation.Access.Headers {
		if value, found := x.Fields.Field(name); found {
			return bytes.TrimSpace(value)
		}
	}
	return nil
}

// claimedName is what a foreign caller calls itself, cut to what Records accept.
func claimedName(username []byte) string {
	return string(username[:min(len(username), fieldgate.MaxIdentifierBytes)])
}
