package pipeline

import (
	"net/netip"
	"time"

	"fieldgate"
)

// Place is where a connection's exchanges leave their Records. While they come faster than anybody looks at them, those that are alike share one:
// a Record costs as much as all other stages of a small message together. One goroutine at a time uses it.
type Place struct {
	newest [4]*left // Records of operations that a caller uses in turn; by serial
}

// left is a Record that was left, as far as others may be like it.
type left struct {
	ticket    uint64 // 0: it stands for nothing else
	operation uint64 // serial
	kind      fieldgate.PrincipalKind
	principal string
	model     string
	firmware  string
	source    netip.Addr
	route     string
	status    int
	method    fieldgate.Method
	protocol  fieldgate.Protocol
	findings  fieldgate.Findings
}

// put remembers the Record that the exchange has left.
func (place *Place) put(x *Exchange, ticket uint64) {
	if x.Operation == nil {
		return
	}
	newest := &place.newest[x.Operation.serial%uint64(len(place.newest))]
	switch refused := x.Problem != nil || x.Detail != ""; {
	case refused && *newest == nil:
		return
	case refused:
		**newest = left{} // each refusal has a number that its caller may ask about
		return
	case *newest == nil:
		*newest = new(left)
	}
	**newest = left{ticket, x.Operation.serial, x.Principal.Kind, x.Principal.ID, x.Principal.Model, x.Principal.Firmware, x.Source.Addr().Unmap(),
		x.record.Route, x.Status(), x.Method, x.Protocol, x.Findings}
}

// fold lets the newest Record that an exchange of the operation has left at the place stand for this one, too, if it is like it. Exchanges that
// somebody looks at closely, as their stages are timed, they are captured, or a log has a line for each, have Records of their own.
func (p *Pipeline) fold(x *Exchange) bool {
	if x.Place == nil || x.Operation == nil || x.Problem != nil || x.Detail != "" || x.timed || x.Copy != nil || p.access.Load() != nil {
		return false
	}
	newest := x.Place.newest[x.Operation.serial%uint64(len(x.Place.newest))]
	return newest != nil && newest.ticket != 0 && newest.isLike(x) && p.recorder.Fold(newest.ticket, time.Since(x.Started), x.BytesIn, x.BytesOut)
}

func (l *left) isLike(x *Exchange) bool {
	return l.operation == x.Operation.serial && l.status == x.Status() && l.findings == x.Findings && l.method == x.Method && l.protocol == x.Protocol &&
		l.principal == x.Principal.ID && l.kind == x.Principal.Kind && l.model == x.Principal.Model && l.firmware == x.Principal.Firmware &&
		l.source == x.Source.Addr().Unmap() && (!x.Operation.PassThrough || l.route == x.routeText())
}
