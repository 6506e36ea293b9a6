package pipeline

import "fieldgate"

// MayHear says whether a subscriber may hear a message on the topic x.Path, for fronts that do not know what it has subscribed to. It counts
// for no limit and leaves no Record: who subscribes is asked and counted by Subscribe.
func (p *Pipeline) MayHear(x *Exchange) bool {
	p.start(x)
	x.heard = true
	_, problem := p.subscribe(x)
	return problem == nil
}

// spares says whether a step is left out: a message that is heard takes nothing of what limits subscriptions.
func (x *Exchange) spares(stage fieldgate.Stage) bool {
	return x.heard && stage == fieldgate.StageLimit
}
