package coap

import "slices"

// blockSet is blocks of a download that go at a time, MAX_PAYLOADS at the most (RFC 9177 §7.2).
type blockSet struct {
	blocks      []uint32 // numbers, in order
	token       []byte
	observed    bool
	confirmable bool // each waits for the acknowledgement of the one before it
}

// isContinue tells whether a request says that all blocks before its first one have come (RFC 9177 §4.4).
func (e *Endpoint) isContinue(in *incoming) bool {
	return in.block2.More && in.block2.Num > 0 && int(in.block2.Num)%e.config.MaxPayloads == 0
}

// follow notes which blocks are to follow the first one that a request asks for, which is its answer (RFC 9177 §4.4). Nothing follows to
// where the peer may not be, unless it has shown a credential. patience is how many sets go while it says nothing.
func (e *Endpoint) follow(t *transfer, in *incoming, set blockSet, patience int) {
	t.set, t.tries, t.patience = blockSet{}, 0, patience
	if t.token == nil {
		t.token = slices.Clone(set.token)
	}
	if t.confirming != nil {
		e.settle(t.confirming)
		t.confirming = nil
	}
	if !t.peer.verified && !t.trusted {
		t.goesOn = false
		return
	}
	size, most := 16<<t.szx, e.config.MaxPayloads
	behind := 0 // the last block that was added
	add := func(from, to int) {
		for n := max(from, behind); n < to && n*size < len(t.body) && len(set.blocks) < most; n++ {
			set.blocks = append(set.blocks, uint32(n))
		}
		behind = max(behind, to) // RFC 9177 §4.4: no block goes twice
	}
	all := func(from int) {
		add(from, from+most)
		t.goesOn, t.next = true, max(t.next, from*size)
	}
	names := false
	for it := in.Iterate(); it.Next(); {
		if it.Number != QBlock2 {
			continue
		}
		names = true
		v, _ := decodeUint(it.Value)
		block := decodeBlock(v)
		switch n := block.Offset() / size; {
		case !block.More:
			add(n, n+1)
		case n%most == 0:
			all(n)
		default:
			add(n, n-n%most+most)
		}
	}
	if !names && (in.block2.More || !in.hasBlock2) { // of a notification, whose request is gone, or after Q-Block1 alone
		all(0)
	}
	if len(set.blocks) > 0 {
		t.passed(int(set.blocks[0]))
		set.blocks = set.blocks[1:]
	}
	t.set = set
}

// passed notes that a block has gone. What was asked for out of turn does not count.
func (t *transfer) passed(block int) {
	size := 16 << t.szx
	if offset := block * size; offset <= t.next {
		t.next = max(t.next, min(offset+size, len(t.body)))
	}
}

// sendSet sends what is to follow, and sees to what comes after that: the next set goes when the peer says so, or after NON_TIMEOUT
// (RFC 9177 §7.2).
func (e *Endpoint) sendSet(t *transfer, now instant) {
	if t.stillAllowed != nil && !t.stillAllowed() {
		e.drop(t)
		return
	}
	e.use(t, now)
	for {
		for len(t.set.blocks) > 0 {
			block := t.set.blocks[0]
			t.set.blocks = t.set.blocks[1:]
			e.sendBlock(t, int(block), now)
			if t.set.confirmable {
				return // until it is acknowledged (RFC 9177 §7.1)
			}
		}
		switch {
		case !t.goesOn || t.next >= len(t.body):
			t.goesOn = false
			e.unpace(t)
			return
		case !t.set.confirmable:
			e.pace(t, now+e.randomized(e.config.AckTimeout))
			return
		}
		e.nextSet(t)
	}
}

// nextSet goes on behind what has gone, up to the end of the set.
func (e *Endpoint) nextSet(t *transfer) {
	size, most := 16<<t.szx, e.config.MaxPayloads
	for n, end := t.next/size, t.next/size/most*most+most; n < end && n*size < len(t.body); n++ {
		t.set.blocks = append(t.set.blocks, uint32(n))
	}
}

// missContinue has the next set go to a peer that has said nothing, unless that happened too often: whoever is there asks for what it lacks.
// So a body that nobody receives ends after some sets (RFC 9177 §7.2 has PROBING_RATE for that).
func (e *Endpoint) missContinue(t *transfer, now instant) {
	if !t.goesOn || t.tries >= t.patience {
		t.goesOn = false
		e.unpace(t)
		return
	}
	t.tries++
	t.set = blockSet{token: t.token, observed: t.observed}
	e.nextSet(t)
	e.sendSet(t, now)
}

func (e *Endpoint) sendBlock(t *transfer, number int, now instant) {
	p, size := t.peer, 16<<t.szx
	offset := number * size
	end := min(offset+size, len(t.body))
	options := &e.scratch.Options
	options.CopyFrom(&t.options)
	if t.set.observed {
		options.SetUint(Observe, t.sequence)
	}
	options.SetUint(QBlock2, blockAt(offset, end < len(t.body), t.szx).Uint())
	options.SetUint(Size2, uint32(len(t.body))) // RFC 9177 §4.6
	t.passed(number)
	t.sent += end - offset
	kind, id := NonConfirmable, p.messageID()
	if t.set.confirmable {
		kind = Confirmable
	}
	e.out = AppendMessage(e.out[:0], kind, t.code, id, t.set.token, options, t.body[offset:end])
	p.spend(len(e.out), t.trusted)
	if kind == NonConfirmable {
		t.lastID = id
		e.send(p.addr, e.out)
		return
	}
	t.confirming = e.transmit(p, id, e.out, now)
	t.confirming.trusted, t.confirming.download = t.trusted, t
}

// blockConfirmed goes on when a block, or the response or notification that is the first one, has been acknowledged.
func (e *Endpoint) blockConfirmed(t *transmission, now instant) {
	d := t.download
	if d == nil || d.ended {
		return
	}
	if d.confirming == t {
		d.confirming = nil
	}
	e.sendSet(d, now)
}
