package pipeline

import (
	"slices"
	"weak"

	"fieldgate"
)

// Grants are what contracts let the caller of one connection publish, by topic, so that what depends on neither the message nor the
// time is found once: operation, parameters and whose they are, kind, scopes, lifecycle. They hold as long as the program and the
// caller's entry in the directory are the same. The zero value is empty and takes no memory of its own. They belong to one goroutine.
type Grants struct {
	last    *grant // most clients publish to one topic again and again
	byTopic map[string]*grant
}

// maxGrants bounds the topics of which a connection's grants are kept; beyond them any makes room.
const maxGrants = 64

// grant is one topic's. It never changes.
type grant struct {
	topic     string
	program   uint64 // serial
	caller    *Caller
	version   uint32                  // of the caller in the directory
	operation weak.Pointer[Operation] // which lives as long as the program does
	principal fieldgate.Principal
	findings  fieldgate.Findings
	values    [][]byte // by the operation's parameter number
	stages    []fieldgate.Stage
}

func (g *Grants) find(topic []byte) *grant {
	if g.last != nil && g.last.topic == string(topic) {
		return g.last
	}
	found := g.byTopic[string(topic)]
	if found != nil {
		g.last = found
	}
	return found
}

func (g *Grants) keep(one *grant) {
	if g.byTopic == nil {
		g.byTopic = make(map[string]*grant, 1)
	}
	if len(g.byTopic) >= maxGrants && g.byTopic[one.topic] == nil {
		for topic := range g.byTopic {
			delete(g.byTopic, topic)
			break
		}
	}
	g.byTopic[one.topic], g.last = one, one
}

// lastingFindings are those that come of the operation alone.
const lastingFindings = fieldgate.FindingDeprecated | fieldgate.FindingUndocumented

// recall takes up the grant of the exchange's topic, if there is one that holds.
func (p *Pipeline) recall(x *Exchange, version uint32) bool {
	g := x.Grants.find(x.Path)
	if g == nil || g.program != x.program.Serial || g.caller != x.Caller || g.version != version {
		return false
	}
	operation := g.operation.Value()
	if !operation.fixed && x.brings() {
		return false
	}
	x.granted = g
	x.Operation, x.caller, x.Principal, x.Findings = operation, g.caller, g.principal, g.findings
	copy(x.values[:], g.values)
	x.read = !x.brings()
	for _, stage := range g.stages {
		x.times[stage] = fieldgate.StageUntimed
	}
	return true
}

// version of the caller in the directory; of one that is not there it is always the same.
func (p *Pipeline) version(caller *Caller) uint32 {
	switch {
	case caller.OnRamp != nil:
		return caller.OnRamp.asOf(p, caller)
	case caller.Ref == 0:
		return 0
	}
	return p.Directory.Version(caller.Ref)
}

// brings says whether the message itself may have values of parameters: MQTT's user properties.
func (x *Exchange) brings() bool { return len(x.Query) > 0 || x.Fields != nil }

// keepGrant keeps what Begin has found of a message that passed. version is the caller's from before.
func (p *Pipeline) keepGrant(x *Exchange, version uint32) {
	if x.answered || x.Findings&^lastingFindings != 0 || !x.Operation.fixed && x.brings() {
		return
	}
	g := &grant{topic: string(x.Path), program: x.program.Serial, caller: x.Caller, version: version, operation: weak.Make(x.Operation), principal: x.Principal,
		findings: x.Findings, stages: x.Operation.lasting}
	size := 0
	for i := range x.Operation.Parameters {
		size += len(x.values[i])
	}
	copied := make([]byte, 0, size)
	g.values = make([][]byte, len(x.Operation.Parameters))
	for i := range g.values {
		if x.values[i] != nil {
			begin := len(copied)
			copied = append(copied, x.values[i]...)
			g.values[i] = copied[begin:len(copied):len(copied)]
		}
	}
	x.granted = g
	x.Grants.keep(g)
}

// linkGrants finds what of the operation's steps a grant spares.
func (o *Operation) linkGrants() {
	o.lasting = []fieldgate.Stage{fieldgate.StageMatch}
	for _, s := range o.beforeBody {
		switch {
		case !s.lasting:
			o.eachMessage = append(o.eachMessage, s)
		case !slices.Contains(o.lasting, s.stage):
			o.lasting = append(o.lasting, s.stage)
		}
	}
	o.fixed = !slices.ContainsFunc(o.parameters, func(p linkedParameter) bool {
		return p.In != fieldgate.InPath || o.publish == nil || !slices.Contains(o.publish.levels, "{"+p.Name+"}")
	})
}
