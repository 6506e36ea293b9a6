package coap

import (
	"bytes"
	"container/heap"
	"slices"
	"time"
)

// transfer is a body on its way in blocks: an upload of the peer, of which so much has come, or what it downloads, of which so much was
// asked for. With Block (RFC 7959) the peer says when the next block goes; with Q-Block (RFC 9177) blocks go in sets, and whoever misses
// some of them says so.
type transfer struct {
	links[transfer]
	timing    // when it goes on although nothing comes
	peer      *peer
	operation []byte
	upload    bool
	quick     bool // Q-Block
	body      []byte
	used      instant
	counted   int  // bytes in Endpoint.transferBytes
	stranger  bool // counted in Endpoint.strangerBytes as well
	ended     bool

	// The response that is downloaded; of an upload by Q-Block that is whole, the one that was sent. Each block comes from here, so that
	// a body that changes at the origin is never mixed (RFC 7959 §2.4).
	code         Code
	options      Options
	trusted      bool
	stillAllowed func() bool

	// Of an upload:
	announced uint32 // Size1, if the peer says it
	gaps      []gap  // in body, in order
	whole     bool   // it has been given to the application: further blocks are repetitions
	begun     int    // the newest set of which something has come
	confirmed int    // sets that the peer was told have come

	// Of a download:
	next       int // offset behind the last block that was asked for
	sent       int // bytes, with repetitions
	sequence   uint32
	observed   bool // it is a notification with that sequence number
	goesOn     bool // set by set up to its end
	patience   int  // sets that go without a word of the peer
	set        blockSet
	confirming *transmission // of the set, when it is Confirmable

	// Of Q-Block:
	szx    uint8
	token  []byte // of the newest block of an upload, or of the request that began a download
	tries  int    // since the peer was heard
	lastID uint16 // of the newest message that was not Confirmable
}

// gap is where bytes from one offset to another are missing.
type gap struct{ from, to int }

// timing is when something is due, with its place in timers; -1: it is in none.
type timing struct {
	due   instant
	index int
}

func (t *timing) when() *timing { return t }

// timers are ordered by when they are due; see container/heap.
type timers[T interface{ when() *timing }] []T

func (h timers[T]) Len() int           { return len(h) }
func (h timers[T]) Less(i, j int) bool { return h[i].when().due < h[j].when().due }
func (h timers[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].when().index, h[j].when().index = i, j
}
func (h *timers[T]) Push(v any) {
	t := v.(T)
	t.when().index = len(*h)
	*h = append(*h, t)
}
func (h *timers[T]) Pop() any {
	old := *h
	t := old[len(old)-1]
	var none T
	old[len(old)-1] = none
	*h = old[:len(old)-1]
	t.when().index = -1
	return t
}

// pace has a transfer go on by itself at that time.
func (e *Endpoint) pace(t *transfer, due instant) {
	t.due = due
	if t.index < 0 {
		heap.Push(&e.paced, t)
	} else {
		heap.Fix(&e.paced, t.index)
	}
}

func (e *Endpoint) unpace(t *transfer) {
	if t.index >= 0 {
		heap.Remove(&e.paced, t.index)
	}
}

// goOn does what is due of a transfer of which nothing has come, or been asked for, in time.
func (e *Endpoint) goOn(t *transfer, now instant) {
	if t.upload {
		e.missBlocks(t, now)
	} else {
		e.missContinue(t, now)
	}
}

func (m *peerMore) transfers(upload bool) *[]*transfer {
	if upload {
		return &m.uploads
	}
	return &m.downloads
}

func (e *Endpoint) transfers(upload bool) *list[transfer] {
	if upload {
		return &e.uploads
	}
	return &e.downloads
}

// transfer finds the peer's body of that operation; nil: there is none.
func (p *peer) transfer(operation []byte, upload bool) *transfer {
	if p.more == nil {
		return nil
	}
	for _, t := range *p.more.transfers(upload) {
		if bytes.Equal(t.operation, operation) {
			return t
		}
	}
	return nil
}

// transferSize is the bookkeeping of one transfer, in bytes.
const transferSize = 512

// begin keeps a new transfer. When the peer has as many as it may, one gives way: an upload that is whole, or its oldest.
func (e *Endpoint) begin(t *transfer, operation []byte, now instant) {
	own := t.peer.extra().transfers(t.upload)
	if len(*own) >= e.config.TransfersOfPeer {
		e.drop((*own)[max(0, slices.IndexFunc(*own, func(t *transfer) bool { return t.whole }))])
	}
	t.operation, t.used, t.index = slices.Clone(operation), now, -1
	*own = append(*own, t)
	e.transfers(t.upload).pushBack(t)
	if t.upload {
		e.stats.Uploads++
	} else {
		e.stats.Downloads++
	}
	e.count(t, transferSize+len(t.operation)+cap(t.body))
}

func (e *Endpoint) use(t *transfer, now instant) {
	t.used = now
	e.transfers(t.upload).moveToBack(t)
}

func (e *Endpoint) count(t *transfer, bytes int) {
	t.counted += bytes
	e.transferBytes += bytes
	if t.stranger {
		e.strangerBytes += bytes
	}
}

func (e *Endpoint) drop(t *transfer) {
	e.transfers(t.upload).remove(t)
	own := t.peer.more.transfers(t.upload)
	*own = slices.DeleteFunc(*own, func(other *transfer) bool { return t == other })
	e.count(t, -t.counted)
	e.unpace(t)
	if t.confirming != nil {
		e.settle(t.confirming)
	}
	t.ended = true
}

// dropTransfers drops all of a peer.
func (e *Endpoint) dropTransfers(more *peerMore) {
	for len(more.uploads) > 0 {
		e.drop(more.uploads[0])
	}
	for len(more.downloads) > 0 {
		e.drop(more.downloads[0])
	}
}

// rejectedTransfer drops the transfer of whose newest message the peer does not want to know (RFC 9177 §4.3).
func (e *Endpoint) rejectedTransfer(more *peerMore, id uint16) {
	for _, upload := range []bool{true, false} {
		for _, t := range *more.transfers(upload) {
			if t.index >= 0 && t.lastID == id {
				e.drop(t)
				return
			}
		}
	}
}

// abandoned is when a body counts as given up: it has not grown for so long.
const abandoned = 10 * time.Second

// makeRoom keeps all transfers together within their budget. What gives way is the download that was used longest ago, since its blocks can
// be asked for anew, then an upload that has not grown for ten seconds.
func (e *Endpoint) makeRoom(size int, now instant) bool {
	for e.transferBytes+size > e.config.TransferBytes {
		switch {
		case e.downloads.first != nil:
			e.drop(e.downloads.first)
		case e.uploads.first != nil && now-e.uploads.first.used > abandoned:
			e.drop(e.uploads.first)
		default:
			return false
		}
	}
	return true
}

// roomFor is makeRoom, within what strangers may have together.
func (e *Endpoint) roomFor(size int, stranger bool, now instant) bool {
	return (!stranger || e.strangersRoom(size, now)) && e.makeRoom(size, now)
}
