package pipeline

import (
	"time"

	"fieldgate"
)

// Finish records the exchange. To be called once for each exchange that began, after its answer was handed to the network;
// further calls do nothing.
func (p *Pipeline) Finish(x *Exchange) {
	if x.finished || x.number == 0 {
		return
	}
	p.complete(x)
	if !p.fold(x) {
		record := x.makeRecord()
		ticket := p.recorder.Add(record)
		if x.Place != nil {
			x.Place.put(x, ticket)
		}
		if x.Copy != nil {
			x.Copy.Finish(x, record)
		}
	}
	p.logAccess(x)
}

// Hold takes the place of Finish for an exchange that goes on when its front has given up all that it holds of it: a WebSocket of which
// thousands idle. The Record goes to Release when the exchange has ended. An exchange that is captured cannot be held.
func (p *Pipeline) Hold(x *Exchange) *fieldgate.Record {
	p.complete(x)
	record := *x.makeRecord()
	p.logAccess(x)
	return &record
}

// Release hands over the Record of an exchange that was held and has ended now.
func (p *Pipeline) Release(record *fieldgate.Record) {
	record.Duration = time.Since(record.Time)
	record.Detail, record.Rule = clip(record.Detail, fieldgate.MaxRecordDetail), ruleText(record.Rule)
	p.recorder.Add(record)
}

// complete ends the exchange.
func (p *Pipeline) complete(x *Exchange) {
	x.finished = true
	if x.command != nil {
		p.finishCommand(x)
	}
	if x.gathered != nil { // it was cut
		p.dropGathered(x)
	}
	x.land()
	x.Enter(fieldgate.StageRecord) // and whatever stage is under way ends
}

func (x *Exchange) makeRecord() *fieldgate.Record {
	record := &x.record
	*record = fieldgate.Record{
		Time: x.Started, Duration: time.Since(x.Started), Upstream: x.UpstreamTime,
		Protocol: x.Protocol, Method: x.Method, Status: x.Status(), Findings: x.Findings,
		Detail: clip(x.Detail, fieldgate.MaxRecordDetail), Principal: x.Principal.ID, Kind: x.Principal.Kind,
		Model: x.Principal.Model, Firmware: x.Principal.Firmware, BytesIn: x.BytesIn, BytesOut: x.BytesOut, Exchange: x.number, Source: x.Source.Addr().Unmap(),
	}
	if x.Problem != nil {
		record.Problem, record.Decided, record.Rule = x.Problem.Code, x.decided, x.rule
	}
	if op := x.Operation; op != nil {
		record.API, record.Version, record.Operation = op.Contract.API, op.Contract.Version, op.ID
	}
	if x.Operation == nil || x.Operation.PassThrough {
		record.Route = x.routeText()
	}
	x.Leave()
	if !x.timed && x.UpstreamTime > 0 {
		x.times[fieldgate.StageForward] = x.times[fieldgate.StageForward].Add(x.UpstreamTime) // which is known anyway
	}
	record.Stages = x.times
	return record
}

// routeText is the path or topic as Records hold it. A caller mostly asks for the same one again, which then costs no memory.
func (x *Exchange) routeText() string {
	path := x.Path[:min(len(x.Path), fieldgate.MaxRecordRoute)]
	if string(path) != x.route {
		x.route = string(path)
	}
	return x.route
}

// Status is the status that the caller was answered with, in HTTP's numbers.
func (x *Exchange) Status() int {
	if x.Problem != nil {
		if x.ProblemStatus != 0 {
			return x.ProblemStatus
		}
		return x.Problem.Status()
	}
	return x.Answer.Status
}

// Instance names the exchange in problem details, and leads to its Record.
func (p *Pipeline) Instance(x *Exchange) string {
	return string(p.AppendInstance(nil, x))
}

// AppendInstance appends what Instance is.
func (p *Pipeline) AppendInstance(dst []byte, x *Exchange) []byte {
	return fieldgate.AppendInstance(dst, p.node, p.epoch, x.number)
}

// Own records what the gateway has answered by itself, without a look at any contract: x.Answer.Status.
func (p *Pipeline) Own(x *Exchange) {
	p.start(x)
	p.Finish(x)
}

// BeginOwn takes the place of Begin for a resource of the gateway's own, which every caller with a credential may ask for.
func (p *Pipeline) BeginOwn(x *Exchange) *fieldgate.Problem {
	p.start(x)
	x.Enter(fieldgate.StageIdentify)
	if problem := p.identifyOwn(x); problem != nil {
		x.Fail(problem)
		return problem
	}
	x.Leave()
	return nil
}

// Malformed records what was refused before an Exchange could begin: bytes that broke their protocol, a connection that was
// not let in.
func (p *Pipeline) Malformed(x *Exchange, problem *fieldgate.Problem) {
	p.Refuse(x, problem)
	p.Finish(x)
}

// Refuse takes the place of Begin for an exchange that the front refuses whatever the contracts say.
func (p *Pipeline) Refuse(x *Exchange, problem *fieldgate.Problem) {
	p.start(x)
	p.recognise(x)
	x.Fail(problem)
}

// Attribute says whose exchange it is where it was refused before the pipeline asked: the Caller's, if it has one.
func (p *Pipeline) Attribute(x *Exchange) {
	switch {
	case x.Caller == nil || x.Principal.Kind != "":
	case x.Caller.Ref != 0:
		x.Principal = p.Directory.Principal(x.Caller.Ref)
	default:
		x.Principal = fieldgate.Principal{Kind: x.Caller.Kind, ID: x.Caller.ID}
	}
}
