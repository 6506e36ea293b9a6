package mqttcluster

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
)

const (
	maxLoose     = 8 << 20  // bytes of QoS 0 messages that wait for one node; more are dropped
	maxSure      = 64 << 20 // bytes of other messages that wait for a node or are on their way; more are refused
	maxUnderway  = 64       // numbered packets that are on their way
	maxMessage   = 32 << 20 // bytes of one message, with what belongs to it
	repeatAfter  = 2        // beats without an acknowledgement, after which all that is on its way is sent again
	giveUpAfter  = 40       // beats without one, after which a node that lives is taken not to listen: 10 s
	maxSpare     = 4        // buffers of a link that are kept for later
	maxSpareSize = bodySize + 64<<10
)

// Why a message was not handed to another node.
var (
	errBehind = errors.New("another gateway node does not take messages as fast as they come")
	errSilent = errors.New("another gateway node does not acknowledge messages")
	errLarge  = errors.New("the message is too large for other gateway nodes")
)

// link is what goes to another node: messages at QoS 0, which may be lost, and others, in numbered packets that it acknowledges. The
// messages of either sort arrive in the order in which they were put, and none twice.
type link struct {
	mu     sync.Mutex
	closed bool // the node is dead

	loose     [][]byte // packets without their heads
	looseSize int
	spare     [][]byte

	chunks   []*chunk // in the order of their numbers, which have no gap
	underway int      // of these: they were sent, and not acknowledged
	sureSize int
	number   uint64 // of the newest chunk
	waited   int    // beats since the first was sent or acknowledged
}

// chunk is the messages of one numbered packet, or a part of a large one.
type chunk struct {
	number   uint64
	data     []byte
	goesOn   bool // a message goes on in the next chunk
	sealed   bool // it was sent
	messages int
	waiting  []*settlement // of messages that end here
}

// settlement is a message that several have to take before its publisher is told.
type settlement struct {
	left   atomic.Int32
	failed atomic.Pointer[error]
	done   func(error)
}

func (s *settlement) settle(err error) {
	if err != nil {
		s.failed.CompareAndSwap(nil, &err)
	}
	if s.left.Add(-1) > 0 {
		return
	}
	if failed := s.failed.Load(); failed != nil {
		s.done(*failed)
	} else {
		s.done(nil)
	}
}

// putLoose has a message sent with the next turn. It says whether there was room.
func (l *link) putLoose(shares []string, message []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return true // its subscribers are gone, too
	}
	if l.looseSize+len(message) > maxLoose {
		return false
	}
	last := len(l.loose) - 1
	if last < 0 || len(l.loose[last])+len(message) > bodySize {
		l.loose = append(l.loose, l.buffer())
		last++
	}
	before := len(l.loose[last])
	l.loose[last] = appendMessage(l.loose[last], shares, message)
	l.looseSize += len(l.loose[last]) - before
	return true
}

func (l *link) buffer() []byte {
	if n := len(l.spare); n > 0 {
		buffer := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return buffer
	}
	return nil
}

// putSure has a message sent until it is acknowledged; then s, unless nil, is settled.
func (l *link) putSure(shares []string, message []byte, s *settlement) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		if s != nil {
			defer s.settle(nil)
		}
		return nil
	case l.sureSize+len(message) > maxSure:
		return errBehind
	}
	last := len(l.chunks) - 1
	if last < 0 || l.chunks[last].sealed || len(l.chunks[last].data)+len(message) > bodySize {
		l.begin()
		last++
	}
	c := l.chunks[last]
	before := len(c.data)
	c.data = appendMessage(c.data, shares, message)
	l.sureSize += len(c.data) - before
	for len(c.data) > 2*bodySize { // what is left over is as large as others
		rest := c.data[bodySize:]
		c.data, c.goesOn = c.data[:bodySize:bodySize], true
		c = l.begin()
		c.data = rest
	}
	c.messages++
	if s != nil {
		c.waiting = append(c.waiting, s)
	}
	return nil
}

func (l *link) begin() *chunk {
	l.number++
	c := &chunk{number: l.number}
	l.chunks = append(l.chunks, c)
	return c
}

// take gives the packets that are to be sent now, without their heads: those of QoS 0 messages, which are given back to release, and
// numbered ones.
func (l *link) take() (loose, sure [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	loose, l.loose, l.looseSize = l.loose, nil, 0
	if len(l.chunks) > 0 && !l.chunks[0].sealed {
		l.waited = 0
	}
	for ; l.underway < len(l.chunks) && l.underway < maxUnderway; l.underway++ {
		c := l.chunks[l.underway]
		c.sealed = true
		body := binary.AppendUvarint(make([]byte, 0, 24+len(c.data)), c.number)
		body = binary.AppendUvarint(body, l.chunks[0].number)
		goesOn := byte(0)
		if c.goesOn {
			goesOn = 1
		}
		sure = append(sure, append(append(body, goesOn), c.data...))
	}
	return loose, sure
}

// release takes back the buffers of packets that were sent.
func (l *link) release(loose [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, buffer := range loose {
		if len(l.spare) < maxSpare && cap(buffer) <= maxSpareSize {
			l.spare = append(l.spare, buffer[:0])
		}
	}
}

// acknowledge notes that the node has delivered all chunks up to a number, and gives them.
func (l *link) acknowledge(number uint64) (taken []*chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.chunks) && l.chunks[n].sealed && l.chunks[n].number <= number {
		l.sureSize -= len(l.chunks[n].data)
		n++
	}
	if n == 0 {
		return nil
	}
	taken = append(taken, l.chunks[:n]...)
	rest := copy(l.chunks, l.chunks[n:])
	clear(l.chunks[rest:])
	l.chunks = l.chunks[:rest]
	l.underway = max(l.underway-n, 0)
	l.waited = 0
	return taken
}

// beat has chunks sent again that are not acknowledged, and gives them when the node is taken not to listen.
func (l *link) beat() (again bool, lost []*chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.chunks) == 0 {
		return false, nil
	}
	switch l.waited++; {
	case l.waited >= giveUpAfter:
		return false, l.giveUp()
	case l.waited%repeatAfter == 0:
		again = l.underway > 0
		l.underway = 0
	}
	return again, nil
}

// giveUp empties the link. It is locked.
func (l *link) giveUp() (lost []*chunk) {
	lost, l.chunks, l.underway, l.sureSize, l.waited = l.chunks, nil, 0, 0, 0
	return lost
}

// close gives up what is on its way to a node that is dead; open lets messages go to it again.
func (l *link) close() (lost []*chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed, l.loose, l.looseSize, l.spare = true, nil, 0, nil
	return l.giveUp()
}

func (l *link) open() {
	l.mu.Lock()
	l.closed = false
	l.mu.Unlock()
}

// settle tells those who wait for chunks.
func settle(chunks []*chunk, err error) (messages int) {
	for _, c := range chunks {
		for _, s := range c.waiting {
			s.settle(err)
		}
		messages += c.messages
	}
	return messages
}
