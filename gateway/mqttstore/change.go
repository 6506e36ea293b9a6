package mqttstore

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
)

// Change is one operation of the log that nodes share. Which fields count depends on its kind.
type Change struct {
	Kind    ChangeKind
	Session uint64 // which it is about; of Claimed: as it came out, 0 if there is none
	Claim   uint64 // by which whoever wrote the change has the session

	Record        *Session // of Claimed and Saved; of Adopted only Away counts
	CleanStart    bool     // of Claimed
	Subscriptions []Subscription
	Filters       []string
	Message       *broker.Message
	To            []Recipient
	Received      uint16    // packet identifier of a QoS 2 message that the session's client published; 0: none
	Queued        uint64    // number of the message that was taken
	Expires       time.Time // of that
	Empty         bool      // of Founded: the founder's store holds nothing
	After         uint64    // of Founded: the sequence that its entry must follow

	// Given when it is applied.
	Number uint64 // its own: of the message, or of the claim
	Size   int    // of the message Queued, that is waiting no more; 0: it was not there
	Node   string // that wrote it
	Epoch  uint64 // of that node
	Ended  uint64 // of Claimed: the session that a clean start has ended
	Made   bool   // of Claimed: the session is new
	Mine   any    // what this node gave along; nil: it is another's, or nothing
}

// ChangeKind says what a Change does. A change about a session counts only if its Claim is the session's newest.
type ChangeKind byte

// The values are those of the encoded form.
const (
	Nothing      ChangeKind = iota // somebody waits for what comes before it
	Founded                        // the log begins with what the founder's store holds
	Claimed                        // a client's CONNECT: from now on its node has the session, which it makes unless it is there
	Adopted                        // a node takes over a session whose node has gone
	Saved                          // Record replaces what is kept
	Subscribed                     // Subscriptions come or are replaced
	Unsubscribed                   // Filters go
	Ended                          // the session is over
	Published                      // Message waits for To, or is retained; the publisher's session is named only with Received
	Taken                          // the session needs the message Queued no more
	Came                           // the session's client has sent the message Received, which is not stored itself
	Released                       // and has released it
	Reached                        // the session's client has received the message Queued
	Completed                      // and that is complete
	kinds
)

// An entry of the log is a group of changes that one node wrote at once:
//
//	version, node, epoch, number of the group, count of changes, changes
//
// Numbers of groups rise, and so do the epochs of a node: a group that is there twice counts once.
type entry struct {
	node    string
	epoch   uint64
	number  uint64
	changes []Change
}

const (
	groupVersion = 1
	maxGroup     = 512 << 10 // bytes of changes, unless one alone is larger
	maxChange    = 960 << 10 // bytes of one: a message of the bus holds 1 MiB
	maxNodeName  = 256
	maxChanges   = 1 << (groupBits - 1) // of a group
)

// errVersion: the log was written by a newer version of Fieldgate.
var errVersion = fmt.Errorf("the log of MQTT changes has entries of a newer version: upgrade this node")

// appendEntry writes the head of a group; the changes follow.
func appendEntry(b []byte, node string, epoch, number uint64, changes int) []byte {
	b = appendText(append(b, groupVersion), node)
	b = binary.AppendUvarint(b, epoch)
	b = binary.AppendUvarint(b, number)
	return binary.AppendUvarint(b, uint64(changes))
}

func decodeEntry(b []byte) (g entry, err error) {
	r := reader{rest: b}
	if version := r.byte(); !r.bad && version != groupVersion {
		return g, errVersion
	}
	g.node, g.epoch, g.number = r.text(), r.uint(math.MaxUint64), r.uint(math.MaxUint64)
	count := r.uint(uint64(len(r.rest))) // each takes a byte at least
	if len(g.node) > maxNodeName || count > maxChanges {
		r.fail()
	}
	for range count {
		if r.bad {
			break
		}
		g.changes = append(g.changes, r.change())
	}
	if r.end() != nil {
		return g, fmt.Errorf("%w: an entry of the log cannot be read", fieldgate.ErrCorrupt)
	}
	return g, nil
}

func appendChange(b []byte, c *Change) []byte {
	b = append(b, byte(c.Kind))
	switch c.Kind {
	case Nothing:
	case Founded:
		b = append(b, bits(c.Empty))
		b = binary.AppendUvarint(b, c.After)
	case Claimed:
		b = append(b, bits(c.CleanStart))
		b = appendText(b, appendSession(nil, c.Record))
		b = appendSubscriptions(b, c.Subscriptions)
	case Published:
		b = binary.AppendUvarint(b, uint64(c.Received))
		if c.Received != 0 {
			b = appendOwned(b, c)
		}
		b = appendMessage(b, c.Message)
		b = binary.AppendUvarint(b, uint64(len(c.To)))
		for i := range c.To {
			to := &c.To[i]
			b = binary.AppendUvarint(b, to.Session)
			b = append(b, to.QoS, bits(to.Retain))
			b = appendIDs(b, to.SubscriptionIDs)
		}
	default:
		b = appendOwned(b, c)
		switch c.Kind {
		case Adopted:
			b = appendTime(b, c.Record.Away)
		case Saved:
			b = appendText(b, appendSession(nil, c.Record))
		case Subscribed:
			b = appendSubscriptions(b, c.Subscriptions)
		case Unsubscribed:
			b = binary.AppendUvarint(b, uint64(len(c.Filters)))
			for _, filter := range c.Filters {
				b = appendText(b, filter)
			}
		case Taken, Reached:
			b = binary.AppendUvarint(b, c.Queued)
			b = appendTime(b, c.Expires)
		case Completed:
			b = binary.AppendUvarint(b, c.Queued)
		case Came, Released:
			b = binary.AppendUvarint(b, uint64(c.Received))
		}
	}
	return b
}

// appendOwned writes the session, and by which claim whoever writes has it.
func appendOwned(b []byte, c *Change) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, c.Session), c.Claim)
}

func appendSubscriptions(b []byte, subscriptions []Subscription) []byte {
	b = binary.AppendUvarint(b, uint64(len(subscriptions)))
	for i := range subscriptions {
		b = appendText(b, subscriptions[i].Filter)
		b = appendText(b, appendOptions(nil, subscriptions[i].Options))
	}
	return b
}

// change reads what appendChange wrote. Nothing in it is longer than what was read.
func (r *reader) change() (c Change) {
	c.Kind = ChangeKind(r.byte())
	switch c.Kind {
	case Nothing:
	case Founded:
		c.Empty, c.After = r.byte()&1 != 0, r.uint(math.MaxUint64)
	case Claimed:
		c.CleanStart = r.byte()&1 != 0
		c.Record = r.record()
		c.Subscriptions = r.subscriptions()
	case Published:
		if c.Received = uint16(r.uint(math.MaxUint16)); c.Received != 0 {
			r.owned(&c)
		}
		c.Message = r.message()
		for range r.uint(uint64(len(r.rest))) {
			c.To = append(c.To, Recipient{Session: r.uint(math.MaxUint64), QoS: r.byte(), Retain: r.byte()&1 != 0, SubscriptionIDs: r.ids()})
			if r.bad {
				break
			}
		}
	case Adopted, Saved, Subscribed, Unsubscribed, Ended, Taken, Came, Released, Reached, Completed:
		r.owned(&c)
		switch c.Kind {
		case Adopted:
			c.Record = &Session{Away: r.time()}
		case Saved:
			c.Record = r.record()
		case Subscribed:
			c.Subscriptions = r.subscriptions()
		case Unsubscribed:
			for range r.uint(uint64(len(r.rest))) {
				if c.Filters = append(c.Filters, r.text()); r.bad {
					break
				}
			}
		case Taken, Reached:
			c.Queued, c.Expires = r.uint(math.MaxUint64), r.time()
		case Completed:
			c.Queued = r.uint(math.MaxUint64)
		case Came, Released:
			c.Received = uint16(r.uint(math.MaxUint16))
		}
	default:
		r.fail()
	}
	return c
}

func (r *reader) owned(c *Change) {
	c.Session, c.Claim = r.uint(math.MaxUint64), r.uint(math.MaxUint64)
}

func (r *reader) record() *Session {
	s, err := decodeSession(r.bytes())
	if err != nil {
		r.fail()
	}
	return &s
}

func (r *reader) subscriptions() (subscriptions []Subscription) {
	for range r.uint(uint64(len(r.rest))) {
		filter := r.text()
		options, err := decodeOptions(r.bytes())
		if err != nil {
			r.fail()
		}
		if r.bad {
			break
		}
		subscriptions = append(subscriptions, Subscription{filter, options})
	}
	return subscriptions
}
