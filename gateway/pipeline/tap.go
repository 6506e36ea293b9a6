package pipeline

import "fieldgate"

// Tap says which exchanges are copied while somebody captures.
type Tap interface {
	// Copy is what takes in a copy of an exchange whose operation is known, or known not to be there; nil: it is not wanted.
	Copy(x *Exchange) Copy
}

// Copy takes in what one exchange carries. Nothing is kept of what it is given but copies.
type Copy interface {
	RequestField(name, value []byte)
	Request(content []byte) // the next piece
	ResponseField(name, value []byte)
	Response(content []byte)                      // the next piece, where the front streams; otherwise it is in x.Answer
	Finish(x *Exchange, record *fieldgate.Record) // the exchange has ended
}

// SetTap puts a tap into force for the exchanges that begin from now on; nil: none. Without one an exchange pays one load for it.
func (p *Pipeline) SetTap(tap Tap) {
	if tap == nil {
		p.tap.Store(nil)
		return
	}
	p.tap.Store(&tap)
}

// offer lets the tap, if one is in force, look at an exchange that has been matched.
func (x *Exchange) offer() {
	if x.tap != nil {
		x.Copy = (*x.tap).Copy(x)
	}
}
