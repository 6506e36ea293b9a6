package mqttproxy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	messages "fieldgate/gateway/broker"
	"fieldgate/gateway/socket"
	"fieldgate/protocol/mqtt"
)

// uplink is one of a pool's connections to brokers, or what is left of it until there is another one. One goroutine keeps it connected and
// reads. Whoever has something to send appends it to out, under the lock; it goes out with the next flush, by a goroutine of its own only
// where the socket does not take it at once.
type uplink struct {
	pool      *Pool
	name      string      // that tells it from all others
	connected atomic.Bool // link is there
	dirty     atomic.Bool // there may be something to send

	mu      sync.Mutex
	link    *link // nil: none
	lastID  uint16
	resumed bool // the next connection is to go on with the session at the broker

	publications            // to brokers
	filters      filters    // that sessions hear
	unreleased   unreleased // QoS 2 messages from the broker

	topic   []byte         // memory for one with the prefix
	running sync.WaitGroup // goroutines that write

	callbacks []func() // to be called without the lock

	// Of the goroutine that reads.
	inbound   []messages.Inbound
	aliases   mqtt.TopicAliases
	publishIn mqtt.Publish
	matches   mqtt.Matches[*filter]
}

// link is a connection to a broker that has accepted it.
type link struct {
	conn    net.Conn
	direct  *socket.Conn // which can send without waiting; nil: only a goroutine that waits can
	at      *broker
	version mqtt.Version
	limit   int    // bytes of a packet that the broker takes
	window  int    // messages of QoS 1 and 2 that it takes without having acknowledged one
	qos     byte   // the highest that it takes
	retains bool   // it takes messages to be retained
	named   bool   // it tells by which subscriptions a message comes
	shares  bool   // it has shared subscriptions
	out     []byte // to be sent
	reading bool   // packets are being handled: what there is to send is sent when that is done
	writing bool   // a goroutine is sending
	owed    int    // messages of QoS 1 and 2 that we have not acknowledged
	closed  bool
	renewed bool // it is given up for one with other settings
}

const (
	uplinkKeepAlive = 60 // seconds
	// uplinkExpiry is how long a broker keeps an uplink's session, in seconds: its connection may be lost, and nothing with it.
	uplinkExpiry = 300
	// uplinkUnsent bounds what waits for a broker to take it, in bytes. Above it messages of QoS 0 are dropped.
	uplinkUnsent = 4 << 20
	// uplinkReceive is our Receive Maximum.
	uplinkReceive = 1000
	leastRetry    = 100 * time.Millisecond
	mostRetry     = 5 * time.Second
)

func newUplink(p *Pool, name string) *uplink {
	return &uplink{pool: p, name: name, publications: publications{sent: make(map[uint16]*publication)}, filters: newFilters(), unreleased: make(unreleased)}
}

// run keeps the uplink connected until the context ends.
func (u *uplink) run(ctx context.Context) {
	wait, since := leastRetry, time.Now()
	for ctx.Err() == nil {
		in, err := u.connect(ctx)
		if err == nil {
			wait = leastRetry
			stop := context.AfterFunc(ctx, u.goodbye)
			err = u.read(in)
			stop()
			since = time.Now()
			u.lost(ctx, err)
			continue
		}
		u.pool.logger.Debug("an uplink to the MQTT brokers does not come about", "uplink", u.name, "error", err)
		if time.Since(since) >= u.pool.config.WriteTimeout {
			u.giveUp()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, mostRetry)
	}
	u.giveUp()
	u.running.Wait()
}

// clientID is what brokers know the uplink by.
func (u *uplink) clientID(s *Settings) string {
	if s.ClientID == "" {
		return "fieldgate-" + u.name
	}
	return strings.ReplaceAll(s.ClientID, placeUplink, u.name)
}

// connect connects to the first broker, in the uplink's order, that takes it.
func (u *uplink) connect(ctx context.Context) (in *packets, err error) {
	b := u.pool.brokers.Load()
	for _, one := range b.order(u.name) {
		if in, err = u.connectTo(ctx, b, one); err == nil {
			return in, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		b.mark(one, err)
	}
	return nil, err
}

func (u *uplink) connectTo(ctx context.Context, b *brokers, one *broker) (*packets, error) {
	if one.speaks() == 0 { // what it speaks decides what is asked for
		if err := b.probe(ctx, one); err != nil {
			return nil, err
		}
	}
	u.mu.Lock()
	connect := &mqtt.Connect{Version: mqtt.V5, CleanStart: !u.resumed, KeepAlive: uplinkKeepAlive, ClientID: []byte(u.clientID(&b.settings))}
	u.mu.Unlock()
	if one.speaks() == mqtt.V5 { // 3.1.1 would keep the session for ever
		connect.Properties.SetNumber(mqtt.SessionExpiryInterval, uplinkExpiry)
		connect.Properties.SetNumber(mqtt.ReceiveMaximum, uplinkReceive)
		connect.Properties.SetNumber(mqtt.MaximumPacketSize, uint32(b.size))
		connect.Properties.SetNumber(mqtt.TopicAliasMaximum, uint32(mqtt.DefaultLimits().TopicAliasMaximum))
	}
	b.addCredentials(connect, nil, "")
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	conn, in, ack, version, err := b.connect(ctx, one, connect)
	if one.called(err); err != nil {
		return nil, err
	}
	if ack.Reason != mqtt.Success {
		conn.Close()
		return nil, fmt.Errorf("it refuses an uplink: %s", ack.Reason)
	}
	l := &link{conn: conn, at: one, version: version, limit: math.MaxInt32, window: mostSent, qos: 2, retains: true, shares: true, named: version == mqtt.V5}
	l.direct, _ = conn.(*socket.Conn)
	for property, apply := range map[mqtt.PropertyID]func(uint32){
		mqtt.MaximumPacketSize:               func(n uint32) { l.limit = int(n) },
		mqtt.ReceiveMaximum:                  func(n uint32) { l.window = min(l.window, int(n)) },
		mqtt.MaximumQoS:                      func(n uint32) { l.qos = byte(n) },
		mqtt.RetainAvailable:                 func(n uint32) { l.retains = n == 1 },
		mqtt.SubscriptionIdentifierAvailable: func(n uint32) { l.named = n == 1 },
		mqtt.SharedSubscriptionAvailable:     func(n uint32) { l.shares = n == 1 },
	} {
		if ack.Properties.Has(property) {
			apply(ack.Properties.Number(property))
		}
	}
	u.begin(b, l, ack.SessionPresent)
	return in, nil
}

// begin takes a connection into use: what was under way goes on, or begins anew where the broker knows nothing of it.
func (u *uplink) begin(b *brokers, l *link, present bool) {
	u.mu.Lock()
	u.link, u.resumed = l, l.version == mqtt.V5
	l.renewed = u.pool.brokers.Load() != b // the settings have changed meanwhile
	u.aliases = nil
	if !present {
		clear(u.unreleased)
	}
	u.resubscribe()
	u.resend(present)
	u.connected.Store(true)
	u.flushLocked()
	if l.renewed {
		l.conn.SetReadDeadline(longAgo)
	}
	u.mu.Unlock()
	l.at.mu.Lock()
	l.at.devices++
	l.at.mu.Unlock()
	u.pool.brokers.Load().mark(l.at, nil)
}

var longAgo = time.Unix(1, 0)

// renew has the uplink connect anew, as the settings have changed: with a session of its own, for the topics may have another prefix.
func (u *uplink) renew() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.resumed = false
	if u.link != nil {
		u.link.renewed = true
		u.endLink()
	}
}

// goodbye ends the connection in good order when what there is to send is sent.
func (u *uplink) goodbye() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.link != nil {
		u.endLink()
	}
}

// endLink says goodbye: the broker forgets the session. u is locked.
func (u *uplink) endLink() {
	l := u.link
	p := mqtt.Disconnect{Type: mqtt.DISCONNECT}
	if l.version == mqtt.V5 {
		p.Properties.SetNumber(mqtt.SessionExpiryInterval, 0)
	}
	l.out = p.Append(l.out, l.version)
	u.flushLocked()
	l.closed = true
	l.conn.SetReadDeadline(time.Now().Add(lastWords)) // the broker closes
}

// lost notes that there is no connection any more.
func (u *uplink) lost(ctx context.Context, err error) {
	u.mu.Lock()
	l := u.link
	u.link = nil
	u.connected.Store(false)
	wanted := l.renewed || ctx.Err() != nil
	u.mu.Unlock()
	l.conn.Close()
	u.running.Wait()
	l.at.closed()
	if !wanted {
		l.at.lost()
		u.pool.logger.Warn("an uplink to an MQTT broker was lost", "address", l.at.name, "uplink", u.name, "error", err)
	}
}

// giveUp answers all that waits for a broker: there is none.
func (u *uplink) giveUp() {
	u.mu.Lock()
	u.resumed = false
	answers := u.failPublications()
	answers = u.failSubscriptions(answers)
	u.mu.Unlock()
	for _, answer := range answers {
		answer()
	}
}

// live is the connection; nil: there is none, or it is about to end. u is locked.
func (u *uplink) live() *link {
	if u.link == nil || u.link.closed {
		return nil
	}
	return u.link
}

// newID gives a packet identifier that nothing under way has; 0: there is none. u is locked.
func (u *uplink) newID() uint16 {
	for range math.MaxUint16 {
		u.lastID++
		if u.lastID != 0 && u.sent[u.lastID] == nil && u.filters.asked[u.lastID] == nil {
			return u.lastID
		}
	}
	return 0
}

var errSilent = errors.New("the broker is silent")

// read handles what the broker sends until the connection ends.
func (u *uplink) read(in *packets) error {
	l := u.link // nobody else sets it
	asked := false
	for {
		err := u.take(l, in)
		u.handOver()
		u.mu.Lock()
		if err == nil && !l.closed {
			l.conn.SetReadDeadline(time.Now().Add(uplinkKeepAlive / 3 * time.Second))
		}
		l.reading = false
		u.flushLocked()
		u.mu.Unlock()
		if err != nil {
			return err
		}
		switch err := in.receive(); {
		case err == nil:
			asked = false
		case !isTimeout(err) || asked:
			return err
		default:
			u.mu.Lock()
			closed := l.closed
			u.ping(l, nil)
			u.mu.Unlock()
			if asked = true; closed {
				return errSilent
			}
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// take handles the packets that were received, under the lock but for what they mean to others: handOver tells them.
func (u *uplink) take(l *link, in *packets) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	l.reading = true
	for {
		h, body, whole, err := in.next()
		if err != nil || whole == nil {
			return err
		}
		if err := u.packet(l, h, body); err != nil {
			return err
		}
	}
}

// packet handles one packet. u is locked.
func (u *uplink) packet(l *link, h mqtt.Header, body []byte) error {
	switch h.Type {
	case mqtt.PUBLISH:
		return u.publishReceived(l, h, body)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		var ack mqtt.Ack
		if err := ack.Decode(h.Type, body, l.version); err != nil {
			return err
		}
		if h.Type == mqtt.PUBREL {
			delete(u.unreleased, ack.PacketID)
			l.out = (&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: ack.PacketID}).Append(l.out, l.version)
			return nil
		}
		return u.acknowledged(l, &ack)
	case mqtt.SUBACK, mqtt.UNSUBACK:
		var p mqtt.SubAck
		if err := p.Decode(h.Type, body, l.version); err != nil {
			return err
		}
		return u.subscribed(l, &p)
	case mqtt.PINGRESP:
		return u.ponged(l)
	case mqtt.DISCONNECT:
		var p mqtt.Disconnect
		if l.version == mqtt.V311 {
			return mqtt.ErrDirection
		}
		if err := p.Decode(mqtt.DISCONNECT, body, l.version); err != nil {
			return err
		}
		return fmt.Errorf("the broker says goodbye: %s", p.Reason)
	}
	return mqtt.ErrDirection
}

// handOver tells others what the packets mean to them. u is not locked.
func (u *uplink) handOver() {
	if len(u.inbound) > 0 {
		u.pool.deliver(u.inbound)
		clear(u.inbound)
		u.inbound = u.inbound[:0]
	}
	u.callBack()
}

// callBack tells others what came of what they asked for. u is not locked.
func (u *uplink) callBack() {
	u.mu.Lock()
	calls := u.callbacks
	u.callbacks = nil
	u.mu.Unlock()
	for _, call := range calls {
		call()
	}
}
