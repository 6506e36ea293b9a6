package mqttproxy

import (
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// session is a device's connection and the one to the broker that belongs to it. One goroutine reads the device, another the broker; each
// writes what comes of it before it reads again, so that whoever takes nothing is sent nothing.
type session struct {
	proxy       *Proxy
	brokers     *brokers
	caller      atomic.Pointer[pipeline.Caller] // who changes its credential, never its name
	enhanced    bool                            // it came with an enhanced authentication
	proof       []byte                          // that ended it
	source      netip.AddrPort
	client      string // identifier that the device gave, or got
	mapped      string // that the broker sees
	prefix      []byte
	noReasons   bool // the device wants no reason strings [MQTT-3.1.2-29]
	expiryFixed bool // CONNECT asked for session expiry 0
	same        bool // both sides speak one version

	device, broker         side
	fromDevice, fromBroker packets
	at                     *broker
	keepAlive              time.Duration // of the device; 0: none
	pingEvery              time.Duration // of the broker

	// Of the goroutine that reads the device.
	scram         *mqttexchange.Scram // under way again; nil: none
	grants        pipeline.Grants
	place         pipeline.Place
	deviceAliases mqtt.TopicAliases
	outTopic      []byte              // memory for topics with the prefix
	refused       map[uint16]struct{} // QoS 2 messages that were answered here, until their PUBREL

	// Of the goroutine that reads the broker.
	brokerAliases mqtt.TopicAliases
	withheld      map[uint16]struct{} // QoS 2 messages that the device did not get, until their PUBREL
	heard         heard

	window *window // nil: the broker keeps to the device's Receive Maximum

	mu            sync.Mutex
	subscriptions map[uint16]*subscribing // under way at the broker
	commands      map[uint16]*publishing  // that the broker has not acknowledged yet
	opened        bool                    // the device has its CONNACK
	bye           *farewell               // how it ends; nil: it goes on

	ending sync.Once
	ended  atomic.Bool // bye is set

	leaving    atomic.Bool // the device has said goodbye
	superseded atomic.Bool // another connection of its client has come
}

// side is where packets go to.
type side struct {
	conn    net.Conn
	version mqtt.Version
	limit   int // bytes of a packet that it takes
	mu      sync.Mutex
	ended   atomic.Bool
	wrote   atomic.Int64 // when something was sent last, in nanoseconds since 1970
}

var errEnded = errors.New("the connection has ended")

// write sends b, and waits until it is taken.
func (s *side) write(b []byte, timeout time.Duration) error {
	if len(b) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.conn.SetWriteDeadline(now.Add(timeout))
	if s.ended.Load() { // its deadline is last's
		return errEnded
	}
	s.wrote.Store(now.UnixNano())
	_, err := s.conn.Write(b)
	return err
}

// last sends the last words and says that nothing follows.
func (s *side) last(b []byte) {
	s.ended.Store(true)
	s.conn.SetWriteDeadline(time.Now().Add(lastWords)) // also for a write under way
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(b) > 0 && len(b) <= s.limit {
		s.conn.Write(b)
	}
	if half, ok := s.conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	s.conn.SetReadDeadline(time.Unix(1, 0)) // its reader wakes up
}

// lastWords is how long a connection that ends has to take what it is told.
const lastWords = time.Second

// finish closes a connection on which nothing is written any more. Bytes that arrive after our last word would make the kernel reset the
// connection before the other end has read it.
func finish(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	conn.SetReadDeadline(time.Now().Add(lastWords))
	io.CopyN(io.Discard, conn, 64<<10)
	conn.Close()
}

func newSession(a *arrival, mapped string, connect *mqtt.Connect) *session {
	s := &session{proxy: a.proxy, brokers: a.brokers, enhanced: a.proof != nil, proof: a.proof, source: a.source, client: a.client, mapped: mapped, prefix: []byte(a.brokers.settings.Prefix)}
	s.caller.Store(a.caller)
	s.device.conn, s.device.version, s.device.limit, s.broker.limit = a.conn, connect.Version, math.MaxInt32, math.MaxInt32
	if connect.Properties.Has(mqtt.MaximumPacketSize) {
		s.device.limit = int(connect.Properties.Number(mqtt.MaximumPacketSize))
	}
	s.noReasons = connect.Properties.Has(mqtt.RequestProblemInformation) && connect.Properties.Number(mqtt.RequestProblemInformation) == 0
	s.expiryFixed = connect.Properties.Number(mqtt.SessionExpiryInterval) == 0
	return s
}

// run serves until one of the connections ends, and ends the other.
func (s *session) run() {
	var brokerEnded sync.WaitGroup
	heard := make(chan struct{}) // all that the broker had to say
	brokerEnded.Go(func() {
		bye := s.readBroker()
		close(heard)
		s.end(bye)
		finish(s.broker.conn)
	})
	bye := s.readDevice()
	if s.leaving.Load() { // what the device does next the broker must not see before its goodbye
		select {
		case <-heard:
		case <-time.After(lastWords):
		}
	}
	s.end(bye)
	finish(s.device.conn)
	brokerEnded.Wait()
	s.at.closed()
	s.proxy.leave(s)
	s.dropCommands()
}

// farewell is how a session ends.
type farewell struct {
	reason  mqtt.Reason // that a device of version 5 is told; 0: it is gone, or told before
	text    string
	goodbye bool // the broker is told that this is no accident: it forgets the will
}

// end ends both connections, as soon as both are there. What is said first counts.
func (s *session) end(f farewell) {
	s.mu.Lock()
	if s.bye == nil {
		s.bye = &f
	}
	s.ended.Store(true)
	opened := s.opened
	s.mu.Unlock()
	if opened {
		s.ending.Do(s.close)
	}
}

// begin is called when the device has its CONNACK: from now on it may be told goodbye [MQTT-3.14.0-1].
func (s *session) begin() {
	s.mu.Lock()
	s.opened = true
	over := s.bye != nil
	s.mu.Unlock()
	if over {
		s.ending.Do(s.close)
	}
}

func (s *session) who() *pipeline.Caller { return s.caller.Load() }

func (s *session) isOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

func (s *session) close() {
	var goodbye, words []byte
	if s.bye.goodbye {
		goodbye = (&mqtt.Disconnect{Type: mqtt.DISCONNECT}).Append(nil, s.broker.version)
	}
	if s.bye.reason != mqtt.Success && s.device.version == mqtt.V5 {
		p := mqtt.Disconnect{Type: mqtt.DISCONNECT, Reason: s.bye.reason}
		words = p.Append(nil, mqtt.V5)
		if s.bye.text != "" && !s.noReasons {
			p.Properties.SetText(mqtt.ReasonString, []byte(s.bye.text))
			if explained := p.Append(nil, mqtt.V5); len(explained) <= s.device.limit { // [MQTT-3.14.2-3]
				words = explained
			}
		}
	}
	s.broker.last(goodbye)
	s.device.last(words)
}

// broken is the farewell to a device that broke the protocol.
func (s *session) broken(err error) farewell {
	s.proxy.Counters.Malformed.Add(1)
	f := farewell{reason: mqtt.MalformedPacket}
	if e, ok := err.(*mqtt.Error); ok {
		f.reason, f.text = e.Reason, e.Text
	}
	s.proxy.pipeline.Malformed(&pipeline.Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodOther, Source: s.source, Caller: s.who(), ClientID: s.client},
		&fieldgate.Problem{Code: fieldgate.ProblemBadRequest, Detail: err.Error()})
	return f
}

// readDevice handles what the device sends, until there is nothing more, and says how that ends.
func (s *session) readDevice() farewell {
	for {
		b := s.proxy.batches.Get().(*batch)
		bye := s.handle(&s.fromDevice, b, s.devicePacket)
		if bye == nil {
			bye = s.release(b)
		}
		b.reset()
		s.proxy.batches.Put(b)
		if bye != nil {
			return *bye
		}
		var deadline time.Time
		if s.keepAlive > 0 {
			deadline = time.Now().Add(s.keepAlive + s.keepAlive/2) // [MQTT-3.1.2-22]
		}
		s.device.conn.SetReadDeadline(deadline)
		if s.ended.Load() { // its deadline was last's
			return farewell{}
		}
		if err := s.fromDevice.receive(); err != nil {
			var broken *mqtt.Error // of a WebSocket's frames
			switch {
			case errors.As(err, &broken):
				return s.broken(err)
			case errors.Is(err, os.ErrDeadlineExceeded) && !s.ended.Load():
				return farewell{reason: mqtt.KeepAliveTimeout}
			}
			return farewell{}
		}
	}
}

// readBroker is readDevice for the other side.
func (s *session) readBroker() farewell {
	var asked bool // PINGREQ is under way, and nothing has come since
	for {
		b := s.proxy.batches.Get().(*batch)
		bye := s.handle(&s.fromBroker, b, s.brokerPacket)
		if silent := time.Since(time.Unix(0, s.broker.wrote.Load())); s.pingEvery > 0 && silent >= s.pingEvery/2 {
			b.toBroker = append(b.toBroker, byte(mqtt.PINGREQ)<<4, 0)
			asked = true
			s.flush(b) // where that fails the next does, too
		}
		b.reset()
		s.proxy.batches.Put(b)
		if bye != nil {
			return *bye
		}
		var deadline time.Time
		if s.pingEvery > 0 {
			deadline = time.Now().Add(s.pingEvery / 2)
		}
		s.broker.conn.SetReadDeadline(deadline)
		if s.ended.Load() {
			return farewell{}
		}
		switch err := s.fromBroker.receive(); {
		case err == nil:
			asked = false
		case errors.Is(err, os.ErrDeadlineExceeded) && !asked:
		default:
			return s.lost(err)
		}
	}
}

// lost is the farewell after an error of the network: whoever it was, the device's next connection goes to a broker that answers.
func (s *session) lost(err error) farewell {
	switch {
	case s.ended.Load() || s.leaving.Load():
		return farewell{}
	case s.superseded.Load(): // whether the broker has said so or not
		return farewell{reason: mqtt.SessionTakenOver}
	}
	s.at.lost()
	s.proxy.logger.Debug("the connection to an MQTT broker was lost", "address", s.at.name, "client", s.mapped, "error", err)
	return farewell{reason: mqtt.ServerShuttingDown, text: "The broker behind the gateway is gone; connect again."}
}

// handle handles the packets that were received; nil: the session goes on.
func (s *session) handle(in *packets, b *batch, packet func(h mqtt.Header, body, whole []byte, b *batch) *farewell) *farewell {
	for {
		h, body, whole, err := in.next()
		if err != nil {
			s.flush(b)
			f := s.brokenBy(in, err)
			return &f
		}
		if whole == nil {
			return s.flush(b)
		}
		if f := packet(h, body, whole, b); f != nil {
			s.flush(b) // what came before
			return f
		}
		if len(b.toBroker)+len(b.toDevice) >= flushSize {
			if f := s.flush(b); f != nil {
				return f
			}
		}
	}
}

// release sends what waited for the device's acknowledgements.
func (s *session) release(b *batch) *farewell {
	for s.window != nil {
		if b.toDevice = s.window.release(b.toDevice); len(b.toDevice) == 0 {
			break
		}
		if f := s.flush(b); f != nil {
			return f
		}
	}
	return nil
}

func (s *session) brokenBy(in *packets, err error) farewell {
	if in == &s.fromDevice {
		return s.broken(err)
	}
	return s.brokerBroke(err)
}

// brokerBroke is the farewell after a broker has broken the protocol.
func (s *session) brokerBroke(err error) farewell {
	s.at.lost()
	s.proxy.logger.Warn("an MQTT broker broke the protocol", "address", s.at.name, "client", s.mapped, "error", err)
	return farewell{reason: mqtt.ImplementationSpecificError}
}

// flush sends what a batch has come to.
func (s *session) flush(b *batch) *farewell {
	timeout := s.proxy.config.WriteTimeout
	toBroker, toDevice := b.toBroker, b.toDevice
	b.reset()
	if err := s.broker.write(toBroker, timeout); err != nil {
		f := s.lost(err)
		return &f
	}
	if s.device.write(toDevice, timeout) != nil { // it is gone, or takes nothing
		return &farewell{}
	}
	return nil
}

// heard remembers which topics a caller may hear, as long as contracts and the caller stay as they are.
type heard struct {
	program uint64 // serial
	version uint32
	topics  map[string]hearing
}

// maxHeard bounds the topics that are remembered for one connection.
const maxHeard = 1024

// hearing is what a device may hear of a topic.
type hearing struct {
	may  bool
	view *pipeline.Projection // nil: all of its messages
}

// hears says whether, and how much, the device may hear of a topic now. Sessions and their subscriptions are the broker's and outlive contracts: what let a
// subscription in may be gone.
func (s *session) hears(topic []byte) hearing {
	p, h := s.proxy, &s.heard
	program, version := p.pipeline.Program(), uint32(0)
	if caller := s.who(); caller.Ref != 0 {
		version = p.pipeline.Directory.Version(caller.Ref)
	}
	if h.program != program.Serial || h.version != version || len(h.topics) >= maxHeard {
		h.program, h.version, h.topics = program.Serial, version, make(map[string]hearing)
	}
	heard, known := h.topics[string(topic)]
	if !known {
		heard = s.mayHear(program, topic)
		h.topics[string(topic)] = heard
	}
	return heard
}

func (s *session) mayHear(program *pipeline.Program, topic []byte) hearing {
	if len(topic) > fieldgate.MaxPathBytes {
		return hearing{}
	}
	x := s.subscription(topic)
	if !s.proxy.pipeline.MayHear(x) {
		return hearing{}
	}
	may := x.Operation == nil || !x.Operation.PassThrough || !s.proxy.owned.Has(program, topic)
	return hearing{may, s.proxy.pipeline.Projection(x)}
}

func (s *session) subscription(filter []byte) *pipeline.Exchange {
	return mqttexchange.Subscription(s.source, s.who(), s.client, filter)
}
