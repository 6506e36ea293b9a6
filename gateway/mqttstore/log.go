package mqttstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
)

// A store with a Log is one of several that are alike. What happens to it is first written to a stream of the bus, which all
// nodes read; each applies it to its own store in the order of the stream. So every node has every session, what waits for it, and
// every retained message, and any of them may be lost. Whoever has a session has it by a claim, which is a change like all others:
// what is written by an older claim is ignored by all, so that no two nodes ever serve a session by contradicting memories.

// Log says how a store takes part.
type Log struct {
	Bus   *bus.Bus
	Node  string
	Epoch uint64          // of this start of the node: larger than those before
	Peers func() []string // names of other nodes that live, from which a store may be copied
}

// Follower is what such a store tells what it has applied.
type Follower interface {
	Owner
	// Applied is told of changes in the order of the log, once they are in the store. Those that were ignored are left out.
	Applied(changes []*Change)
	// Replaced is told that the store holds what another node held, with the sessions in it.
	Replaced(sessions []Kept)
}

// Why a change was refused.
var (
	ErrTakenOver = errors.New("another node has the session")
	ErrLog       = errors.New("the log of MQTT changes cannot be reached")
	ErrNameTaken = errors.New("another gateway has this one's name")
)

const (
	sharedIdle    = 100 * time.Millisecond // changes that nobody waits for are put off so long
	lastChanges   = 3 * time.Second        // to be written when the node stops
	settleTimeout = time.Second
	joinPause     = 500 * time.Millisecond
	lagInterval   = 2 * time.Second
	readEntries   = 32
)

// shared is what a store has that takes part in a log.
type shared struct {
	Log
	follower Follower

	writing sync.Mutex // held while the database is written
	writers map[string]writer

	// Of the goroutine that follows the log.
	moved    *Change // by which another node has founded the log anew
	short    int     // times in a row that the stream was shorter than what was applied of it
	counting counter

	copies copies

	// Guarded by Store.mu.
	proposals []proposal  // changes that wait for being written to the log
	sent      []sentGroup // in their order
	groups    uint64      // number of the newest group
	state     logState
	joined    bool   // what was in the log when the node came has been applied
	target    uint64 // sequence up to which that is
	behind    uint64 // entries, as of the last look
	trouble   error  // why the log cannot be followed now

	owners struct { // written by whoever applies only
		sync.RWMutex
		of    map[uint64]owner
		names map[sessionName]uint64
	}
}

// sessionName names a session as clients do.
type sessionName struct{ kind, principal, client string }

func (s *Session) name() sessionName { return sessionName{s.Kind, s.Principal, s.Client} }

// owner is who has a session.
type owner struct {
	node  string
	epoch uint64
	claim uint64
	name  sessionName
}

// writer is the newest group that was applied of a node.
type writer struct{ epoch, number uint64 }

// proposal is a change on its way to the log.
type proposal struct {
	data   []byte
	mine   any
	done   func(error)
	urgent bool // somebody waits
}

// sentGroup is a group that was not applied yet. One at a time is on its way to the log, so that a node's changes never overtake each other.
type sentGroup struct {
	number    uint64
	proposals []proposal
}

// propose has a change written to the log. done, unless nil, is called once it has been applied here, or with the reason why it will not
// be, and must not block.
func (s *Store) propose(c *Change, done func(error)) {
	p := proposal{data: appendChange(nil, c), mine: c.Mine, done: done, urgent: done != nil && c.Kind != Taken && c.Kind != Completed}
	s.mu.Lock()
	err := s.refuses(done != nil)
	switch {
	case s.closed:
	case c.Kind >= Taken: // steps of messages, of which there are only as many as are under way
		err = nil
	case len(p.data) > maxChange:
		err = ErrTooLarge
	}
	if err == nil {
		h := s.shared
		h.proposals = append(h.proposals, p)
		s.bytes += len(p.data)
		if p.urgent {
			s.awaited++
		}
		signal(s.wake)
	}
	s.mu.Unlock()
	if err != nil && done != nil {
		done(err)
	}
}

// proposeOwned is propose for a change about a session that this node has.
func (s *Store) proposeOwned(c *Change, done func(error)) {
	h := s.shared
	h.owners.RLock()
	o := h.owners.of[c.Session]
	h.owners.RUnlock()
	if o.node != h.Node || o.epoch != h.Epoch {
		if done != nil {
			done(ErrTakenOver)
		}
		return
	}
	c.Claim = o.claim
	s.propose(c, done)
}

// Claim makes this node the owner of a client's session, which is made unless it is there; a clean start ends one that is there, and
// makes none if it is not to outlive its connection. mine comes back with the Change.
func (s *Store) Claim(session *Session, cleanStart bool, subscriptions []Subscription, mine any, done func(error)) {
	s.propose(&Change{Kind: Claimed, Record: session, CleanStart: cleanStart, Subscriptions: subscriptions, Mine: mine}, done)
}

// Adopt makes this node the owner of a session whose node has gone, unless another one has it by now.
func (s *Store) Adopt(session, claim uint64) {
	s.propose(&Change{Kind: Adopted, Session: session, Claim: claim, Record: &Session{Away: time.Now()}}, func(error) {})
}

// publishShared is Publish by way of the log. publisher's received identifier goes with the last of the changes that it takes.
func (s *Store) publishShared(m *broker.Message, to []Recipient, received Received, done func(error)) {
	if done != nil {
		if err := s.mayPublish(m); err != nil {
			done(err)
			return
		}
	}
	for {
		c := Change{Kind: Published, Message: m, To: to[:min(len(to), maxRecipients)]}
		if to = to[len(c.To):]; len(to) > 0 {
			s.propose(&c, nil)
			continue
		}
		if received.Session == 0 {
			s.propose(&c, done)
			return
		}
		c.Session, c.Received = received.Session, received.ID
		s.proposeOwned(&c, done)
		return
	}
}

// maxRecipients bounds those of one change, so that it fits an entry.
const maxRecipients = 4096

// mayPublish says why the store cannot take a message. Once it is in the log every store takes it.
func (s *Store) mayPublish(m *broker.Message) error {
	switch {
	case s.Problem() != nil:
		return s.Problem()
	case m.Retain && len(m.Payload) > 0 && s.retained.Load() >= s.config.MaxRetained:
		return ErrRetained
	}
	return nil
}

// Ready says why sessions cannot be claimed now; nil: they can.
func (s *Store) Ready() error {
	h := s.shared
	if err := h.Bus.Health(); err != nil {
		return fmt.Errorf("%w: %w", ErrLog, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !h.joined {
		return ErrLog
	}
	return nil
}

// LogState says how far the store has come; nil: it has no log.
func (s *Store) LogState() *fieldgate.MQTTLogState {
	h := s.shared
	if h == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state := &fieldgate.MQTTLogState{Applied: h.state.applied, Behind: h.behind, Joined: h.joined}
	if h.trouble != nil {
		state.Problem = h.trouble.Error()
	}
	return state
}

// RunShared is Run for a store that takes part in a log. What is proposed when the context ends is still written, if the bus is there.
func (s *Store) RunShared(ctx context.Context, follower Follower) {
	h := s.shared
	s.owner, h.follower = follower, follower
	var running, writing sync.WaitGroup
	batches := make(chan batch)
	writing.Go(func() {
		for b := range batches {
			s.applied <- b.db.Apply(b.Batch, b.options)
		}
	})
	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	s.recount(following)
	running.Go(func() { s.follow(following, batches) })
	running.Go(func() { s.watchLag(following) })
	running.Go(func() { s.tidy(following, batches) })
	stopCopies := s.offerCopies(following)
	s.writeLog(ctx)
	stopFollowing()
	s.disk.closing.Store(true)
	if stopCopies != nil {
		stopCopies()
	}
	running.Wait()
	s.stopCounting()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.refuseProposals(ErrClosed)
	close(batches)
	select {
	case <-s.disk.failed: // what waits for the database waits for ever
		return
	default:
	}
	writing.Wait()
	if err := s.disk.close(); err != nil {
		s.logger.Error("the MQTT store was not closed cleanly", "error", err)
	}
}

// writeLog writes what is proposed to the log until the context ends, and then, for a while, what is left.
func (s *Store) writeLog(ctx context.Context) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(lastChanges, cancel) })
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	written := time.Now()
	for lasting.Err() == nil {
		s.mu.Lock()
		waiting := s.shared.joined && len(s.shared.proposals) > 0 // before that, what they name may be another session in the log
		urgent := s.awaited > 0 || s.bytes > muchToWrite
		s.mu.Unlock()
		ending := ctx.Err() != nil
		left := sharedIdle - time.Since(written)
		switch {
		case waiting && (urgent || ending || left <= 0):
			s.writeGroup(lasting)
			written = time.Now()
			continue
		case ending:
			return
		case !waiting:
			left = time.Hour
		}
		timer.Reset(left)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// writeGroup writes a group of proposals and returns when the log has it.
func (s *Store) writeGroup(ctx context.Context) {
	h := s.shared
	s.mu.Lock()
	count, size := 0, 0
	for count < len(h.proposals) && count < maxChanges && (count == 0 || size+len(h.proposals[count].data) <= maxGroup) {
		size += len(h.proposals[count].data)
		count++
	}
	h.groups++
	sent := sentGroup{h.groups, h.proposals[:count:count]}
	h.sent = append(h.sent, sent)
	h.proposals = h.proposals[count:]
	if len(h.proposals) == 0 {
		h.proposals = nil
	}
	data := appendEntry(make([]byte, 0, size+len(h.Node)+64), h.Node, h.Epoch, h.groups, count)
	for i := range sent.proposals {
		p := &sent.proposals[i]
		data = append(data, p.data...)
		if p.data = nil; p.urgent {
			s.awaited--
		}
	}
	s.bytes -= size
	s.mu.Unlock()
	err := h.Bus.Append(ctx, fieldgate.SubjectMQTTLog+h.Node, fmt.Sprintf("%s-%d-%d", h.Node, h.Epoch, sent.number), data)
	if errors.Is(err, bus.ErrRefused) {
		s.logger.Error("the log of MQTT changes does not take a change", "error", err)
		s.answerSent(sent.number, func(int) error { return ErrTooLarge })
	}
}

// answerSent tells those that wait for a group what came of each of its changes.
func (s *Store) answerSent(number uint64, outcome func(int) error) {
	h := s.shared
	s.mu.Lock()
	proposals := h.sentWith(number)
	h.sent = slices.DeleteFunc(h.sent, func(g sentGroup) bool { return g.number <= number })
	s.mu.Unlock()
	for i := range proposals {
		if done := proposals[i].done; done != nil {
			done(outcome(i))
		}
	}
}

// sentWith gives the proposals of a group that was not applied yet. The store is locked.
func (h *shared) sentWith(number uint64) []proposal {
	for i := range h.sent {
		if h.sent[i].number == number {
			return h.sent[i].proposals
		}
	}
	return nil
}

// refuseProposals tells all that wait that nothing comes of it.
func (s *Store) refuseProposals(err error) {
	h := s.shared
	s.mu.Lock()
	var proposals []proposal
	for i := range h.sent {
		proposals = append(proposals, h.sent[i].proposals...)
	}
	proposals = append(proposals, h.proposals...)
	h.sent, h.proposals = nil, nil
	s.bytes, s.awaited = 0, 0
	s.mu.Unlock()
	for i := range proposals {
		if done := proposals[i].done; done != nil {
			done(err)
		}
	}
}

// settleShared is Settle for a store with a log. Without the log it gives what is there.
func (s *Store) settleShared(ctx context.Context) error {
	h := s.shared
	s.mu.Lock()
	settled := len(h.proposals) == 0 && len(h.sent) == 0
	s.mu.Unlock()
	if settled || s.Ready() != nil {
		return nil
	}
	done := make(chan struct{}, 1)
	s.propose(&Change{Kind: Nothing}, func(error) { done <- struct{}{} })
	select {
	case <-done:
	case <-time.After(settleTimeout):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// tidy keeps house until the context ends.
func (s *Store) tidy(ctx context.Context, batches chan<- batch) {
	ticker := time.NewTicker(housekeeping)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s.shared.writing.Lock()
		more := s.keepHouse(batches)
		s.shared.writing.Unlock()
		if more {
			ticker.Reset(time.Millisecond) // what is to be applied comes first
		} else {
			ticker.Reset(housekeeping)
		}
	}
}

// watchLag looks now and then how far behind the log the store is.
func (s *Store) watchLag(ctx context.Context) {
	ticker := time.NewTicker(lagInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		stream, err := s.shared.Bus.State(ctx, fieldgate.StreamMQTT)
		if err != nil {
			continue
		}
		s.mu.Lock()
		s.shared.behind = stream.Last - min(stream.Last, s.shared.state.applied)
		s.mu.Unlock()
	}
}
