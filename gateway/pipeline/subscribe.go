package pipeline

import (
	"bytes"
	"strings"

	"fieldgate"
)

var (
	errFilter  = fieldgate.NewProblem(fieldgate.ProblemForbidden, "No published contract lets the caller hear all of this topic filter.")
	errLevel   = fieldgate.NewProblem(fieldgate.ProblemInvalidParameter, `A value that stands for a topic level holds none of "/", "+" and "#".`)
	errReplyTo = fieldgate.NewProblem(fieldgate.ProblemForbidden, `Answers go to topics below "fg/" and the caller's own id.`)
)

// Filter is the topic filter that a subscriber of the exchange's operation hears (SSE, WebSocket, CoAP observe), after Begin. A
// parameter without value is every value: "+".
func (x *Exchange) Filter() (string, *fieldgate.Problem) { return x.topic(x.Operation.subscribe, "+") }

// topic fills a template's parameters with the exchange's values.
func (x *Exchange) topic(t *target, missing string) (string, *fieldgate.Problem) {
	var topic strings.Builder
	next := 0
	for i, level := range t.levels {
		if i > 0 {
			topic.WriteByte('/')
		}
		if _, _, _, variable := cutParameter(level); !variable {
			topic.WriteString(level)
			continue
		}
		number := t.numbers[next]
		next++
		switch {
		case number < 0 || x.values[number] == nil:
			topic.WriteString(missing)
		case len(x.values[number]) == 0 || bytes.ContainsAny(x.values[number], "/+#\x00"):
			return "", errLevel
		default:
			topic.Write(x.values[number])
		}
	}
	return topic.String(), nil
}

// Subscribe decides about one topic filter of an MQTT SUBSCRIBE and says which quality of service is granted at the most.
// x.Path is the filter. Like any exchange it ends with Finish.
func (p *Pipeline) Subscribe(x *Exchange) (qos byte, problem *fieldgate.Problem) {
	p.start(x)
	qos, problem = p.subscribe(x)
	x.offer()
	if problem != nil {
		x.Fail(problem)
		return 0, problem
	}
	x.Leave()
	x.Answer.Status = 200
	return qos, nil
}

func (p *Pipeline) subscribe(x *Exchange) (qos byte, problem *fieldgate.Problem) {
	x.Enter(fieldgate.StageIdentify)
	x.setCaller(p, x.Caller)
	if problem := p.Valid(x.Caller); problem != nil {
		x.Enter(x.stageOf(problem.Code))
		return 0, problem
	}
	if p.OwnReplyTopic(x.Caller, string(x.Path)) {
		return 1, nil
	}
	x.Enter(fieldgate.StageMatch)
	if x.Caller.OnRamp != nil {
		if problem := x.mayAsk(x.Caller.OnRamp); problem != nil {
			return 0, problem
		}
	}
	// The operation that lets the caller in wins; what the first one said is the answer when none does.
	found := x.program.topics.offered(x.Path, nil)
	var first struct {
		operation *Operation
		stage     fieldgate.Stage
		rule      string
	}
	for _, o := range found {
		refusal := x.mayHear(p, o)
		if refusal == nil {
			x.Operation = o.operation
			return o.operation.MQTT.QoS, nil
		}
		if problem == nil {
			problem = refusal
			first.operation, first.stage, first.rule = o.operation, x.under, x.rule
		}
		x.rule = ""
	}
	if problem != nil {
		x.Operation, x.rule = first.operation, first.rule
		x.Enter(first.stage)
		return 0, problem
	}
	for i := range x.program.filters {
		f := &x.program.filters[i]
		if f.action != fieldgate.ActionPublish && covers(f.filter, string(x.Path)) {
			x.Operation = f.operation
			return f.operation.MQTT.QoS, x.runStages(p, f.operation)
		}
	}
	if ramp := x.Caller.OnRamp; ramp != nil {
		x.Operation = ramp.operation
		return ramp.operation.MQTT.QoS, x.runStages(p, ramp.operation)
	}
	return 0, x.by("no route", errFilter)
}

// OwnReplyTopic says whether a topic or filter lies below the caller's own reply topics.
func (p *Pipeline) OwnReplyTopic(caller *Caller, topic string) bool {
	if caller.Ref == 0 {
		return false
	}
	rest, ok := strings.CutPrefix(topic, fieldgate.ReplyPrefix)
	if !ok {
		return false
	}
	rest, ok = strings.CutPrefix(rest, caller.ID)
	return ok && strings.HasPrefix(rest, "/")
}

// ReplyTopic checks where an MQTT request wants its answer.
func (p *Pipeline) ReplyTopic(caller *Caller, topic string) *fieldgate.Problem {
	if p.OwnReplyTopic(caller, topic) && !strings.ContainsAny(topic, "+#") {
		return nil
	}
	return errReplyTo
}

// offer is an operation whose topic template covers a filter, with the filter's values of the variable levels.
type offer struct {
	*target
	values [][]byte
}

// offered finds the operations whose topics a filter asks for. A filter is covered when each of its levels is the template's
// literal, or stands where the template has a parameter; "#" is covered by pass-through APIs only.
func (n *node) offered(filter []byte, values [][]byte) []offer {
	level, rest, more := bytes.Cut(filter, separator)
	if len(values) >= fieldgate.MaxPathSegments || len(level) == 1 && level[0] == '#' {
		return nil
	}
	var found []offer
	step := func(child *node, values [][]byte) {
		if child == nil {
			return
		}
		if more {
			found = append(found, child.offered(rest, values)...)
			return
		}
		for _, t := range child.subscribe {
			found = append(found, offer{t, values})
		}
	}
	step(n.literals[string(level)], values)
	if len(level) != 0 {
		step(n.parameter, append(values[:len(values):len(values)], level))
	}
	return found
}

// mayHear runs the operation's stages for a subscription.
func (x *Exchange) mayHear(p *Pipeline, o offer) *fieldgate.Problem {
	clear(x.values[:])
	for i, number := range o.numbers {
		switch {
		case number < 0:
		case string(o.values[i]) != "+":
			x.values[number] = o.values[i]
		case o.operation.Parameters[number].Bound && x.Principal.Kind != fieldgate.PrincipalApp:
			x.Enter(fieldgate.StageAdmit)
			return x.by(o.operation.rules.owners[number], errNotOwner) // a device that asks for "+" where its own id belongs would hear other devices
		}
	}
	return x.runStages(p, o.operation)
}

func (x *Exchange) runStages(p *Pipeline, operation *Operation) *fieldgate.Problem {
	x.Operation = operation
	for i := range operation.beforeBody {
		step := &operation.beforeBody[i]
		if x.spares(step.stage) {
			continue
		}
		x.Enter(step.stage)
		if problem := step.run(p, x); problem != nil {
			return problem
		}
	}
	return nil
}
