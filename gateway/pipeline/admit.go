package pipeline

import (
	"slices"

	"fieldgate"
)

var (
	errRetired  = fieldgate.NewProblem(fieldgate.ProblemGone, "Move to the current version of the API.")
	errKind     = fieldgate.NewProblem(fieldgate.ProblemForbidden, "The operation is not for this kind of caller.")
	errScope    = fieldgate.NewProblem(fieldgate.ProblemForbidden, "The app lacks a scope that the operation demands.")
	errNotOwner = fieldgate.NewProblem(fieldgate.ProblemNotOwner, "A device may use its own id only.")
	errQoS      = fieldgate.NewProblem(fieldgate.ProblemQoS, "The contract does not allow this quality of service on the topic.")
	errNoRetain = fieldgate.NewProblem(fieldgate.ProblemRetain, "The contract does not allow retained messages on the topic.")
)

// retired is the stage that answers for versions that are no longer served.
func retired(p *Pipeline, x *Exchange) *fieldgate.Problem {
	p.recognise(x) // whose device still asks for it
	if successor := x.Operation.Contract.Successor; successor != "" {
		return fieldgate.NewProblem(fieldgate.ProblemGone, "Move to version "+successor+" of the API.")
	}
	return errRetired
}

// deprecated is the stage that notes calls of a version on its way out.
func deprecated(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	x.Findings |= fieldgate.FindingDeprecated
	return nil
}

// undocumented is the stage that notes that no contract explains the exchange.
func undocumented(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	x.Findings |= fieldgate.FindingUndocumented
	return nil
}

// admitState is the stage: has an operator cut the caller off?
func admitState(p *Pipeline, x *Exchange) *fieldgate.Problem {
	problem := p.stateProblem(x.caller)
	if problem == errWrongCredential {
		return x.by("state revoked", problem)
	}
	return problem
}

// admitKind is the stage: is the operation for this kind of caller, and does an app have the scopes?
func admitKind(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	access := &x.Operation.Access
	if x.caller.Ref == 0 {
		return nil // admitted as anonymous
	}
	if !slices.Contains(access.Kinds, x.Principal.Kind) && !access.Anonymous {
		return x.by(x.Operation.rules.kind, errKind)
	}
	if x.Principal.Kind == fieldgate.PrincipalApp {
		for i, scope := range access.Scopes {
			if !slices.Contains(x.Principal.Scopes, scope) {
				return x.by(x.Operation.rules.scopes[i], errScope)
			}
		}
	}
	return nil
}

// own is the stage: bound parameters are the calling device's own id. Where the path or topic does not carry the parameter,
// the caller's id is its value. Apps that the contract lets in may name any device.
func own(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	for i := range x.Operation.Parameters {
		if !x.Operation.Parameters[i].Bound {
			continue
		}
		switch {
		case x.Principal.Kind == fieldgate.PrincipalDevice && x.values[i] == nil:
			x.values[i] = append(x.ownID[:0], x.Principal.ID...)
		case x.Principal.Kind == fieldgate.PrincipalDevice && string(x.values[i]) != x.Principal.ID:
			return x.by(x.Operation.rules.owners[i], errNotOwner)
		case x.Principal.Kind != fieldgate.PrincipalDevice && x.Principal.Kind != fieldgate.PrincipalApp:
			return x.by(x.Operation.rules.owners[i], errNotOwner)
		}
	}
	return nil
}

// admitMessage is the stage of MQTT publishes: does the contract allow the quality of service and the RETAIN flag?
func admitMessage(_ *Pipeline, x *Exchange) *fieldgate.Problem {
	if x.Protocol != fieldgate.ProtocolMQTT || x.Method != fieldgate.MethodPublish {
		return nil
	}
	if x.QoS > x.Operation.MQTT.QoS {
		return x.by(x.Operation.rules.qos, errQoS)
	}
	if x.Retain && !x.Operation.MQTT.Retain {
		return x.by("retain", errNoRetain)
	}
	return nil
}
