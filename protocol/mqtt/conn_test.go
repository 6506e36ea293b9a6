package mqtt

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var epoch = time.Unix(1_700_000_000, 0)

// A server is a Conn with the simplest broker behind it: it accepts everybody, acknowledges everything and grants every
// subscription, and keeps what it saw.
type server struct {
	*Conn
	in      Packets
	session *Session
	topics  []string // of the PUBLISH packets received
	events  []Event
	manual  bool // leave acknowledging to the test
	err     error
	fates   []Fate

	maxQueued, maxQueuedBytes int

	accepted bool
	auth     func(*Connect) // decides about a CONNECT with an authentication method; nil: refused
}

func newServer(limits Limits) *server {
	s := &server{Conn: NewConn(&limits)}
	s.session, s.maxQueued, s.maxQueuedBytes = &Session{Owner: s}, 100, 1<<20
	return s
}

func (s *server) QueueLimits() (messages, bytes int) { return s.maxQueued, s.maxQueuedBytes }
func (s *server) Done(_ Delivery, f Fate)            { s.fates = append(s.fates, f) }

func (s *server) feed(b []byte) {
	s.Feed(b)
	for s.err == nil {
		event, err := s.Next(epoch, &s.in)
		if err != nil {
			s.err = err
			return
		}
		if event == NeedMore || event == Blocked {
			return
		}
		s.events = append(s.events, event)
		switch event {
		case ConnectReceived:
			if s.in.Connect.Properties.Has(AuthenticationMethod) {
				if s.auth == nil {
					s.Refuse(BadAuthenticationMethod, "")
				} else {
					s.auth(&s.in.Connect)
				}
				continue
			}
			s.Accept(Acceptance{Session: s.session, SessionPresent: s.accepted}, epoch)
			s.accepted = true
		case AuthReceived:
			s.decide()
		case PublishReceived:
			p := &s.in.Publish
			s.topics = append(s.topics, string(p.Topic))
			if p.QoS > 0 && !s.manual {
				s.Acknowledge(p.PacketID, Success, "")
			}
		case SubscribeReceived:
			s.AcknowledgeSubscribe(s.in.Subscribe.PacketID, []Reason{GrantedQoS1})
		case UnsubscribeReceived:
			s.AcknowledgeUnsubscribe(s.in.Unsubscribe.PacketID, []Reason{Success})
		}
	}
}

func (s *server) sent() []byte { return s.Out(nil, epoch) }

func connectPacket(v Version, set func(*Connect)) []byte {
	p := Connect{Version: v, CleanStart: true, ClientID: []byte("c")}
	if set != nil {
		set(&p)
	}
	return p.Append(nil)
}

func connected5(t *testing.T, set func(*Connect)) *server {
	t.Helper()
	s := newServer(DefaultLimits())
	s.feed(connectPacket(V5, set))
	if s.err != nil {
		t.Fatal(s.err)
	}
	s.sent()
	return s
}

func publishPacket(v Version, qos byte, id uint16, topic, payload string) []byte {
	return (&Publish{QoS: qos, PacketID: id, Topic: []byte(topic), Payload: []byte(payload)}).Append(nil, v)
}

func ackPacket(t PacketType, id uint16) []byte { return (&Ack{Type: t, PacketID: id}).Append(nil, V5) }

func message(topic, payload string, qos byte) Delivery {
	return Delivery{Message: &Message{Topic: []byte(topic), Payload: []byte(payload), QoS: qos}, QoS: qos}
}

// packets splits sent bytes into packet types, and for PUBLISH appends topic and flags.
func packets(t *testing.T, v Version, b []byte) (names []string) {
	t.Helper()
	for len(b) > 0 {
		h, size, err := ReadHeader(b)
		if err != nil || size == 0 || len(b) < size+h.Length {
			t.Fatalf("sent a broken packet: %x", b)
		}
		name := h.Type.String()
		if h.Type == PUBLISH {
			var p Publish
			if err := p.Decode(h.Flags, b[size:size+h.Length], v); err != nil {
				t.Fatalf("sent a broken PUBLISH: %v", err)
			}
			name = "PUBLISH " + string(p.Topic)
			if p.Dup {
				name += " DUP"
			}
		}
		names = append(names, name)
		b = b[size+h.Length:]
	}
	return names
}

func wantPackets(t *testing.T, s *server, want ...string) {
	t.Helper()
	if got := packets(t, s.Version(), s.sent()); !slices.Equal(got, want) {
		t.Fatalf("sent %q, want %q", got, want)
	}
}

// wantDisconnect reads a DISCONNECT with the reason, and a text where the reason is a failure; 0: nothing was sent.
func wantDisconnect(t *testing.T, s *server, want Reason) {
	t.Helper()
	out := s.sent()
	if want == 0 {
		if len(out) > 0 {
			t.Fatalf("told the client %x, want nothing", out)
		}
		return
	}
	h, size, err := ReadHeader(out)
	if err != nil || h.Type != DISCONNECT || len(out) != size+h.Length {
		t.Fatalf("told the client %x, want DISCONNECT %v", out, want)
	}
	var p Disconnect
	if err := p.Decode(DISCONNECT, out[size:], V5); err != nil || p.Reason != want || p.Properties.Text(ReasonString) == nil {
		t.Fatalf("told the client %x (%v), want DISCONNECT %v and why", out, err, want)
	}
}

func TestProtocolViolationsEndTheConnection(t *testing.T) {
	subscriptionID := (&Publish{Topic: []byte("a"), Properties: Properties{SubscriptionIDs: []uint32{1}}}).Append(nil, V5)
	alias := func(alias uint32, topic string) []byte {
		p := Publish{Topic: []byte(topic)}
		p.Properties.SetNumber(TopicAlias, alias)
		return p.Append(nil, V5)
	}
	disconnect := Disconnect{Type: DISCONNECT}
	disconnect.Properties.SetNumber(SessionExpiryInterval, 5)
	large := make([]byte, 0, 10)
	large = appendHeader(large, PUBLISH, 0, 1<<20)

	tests := []struct {
		clause string
		name   string
		first  bool // sent instead of CONNECT
		bytes  []byte
		want   error
		told   Reason // in a DISCONNECT; 0: nothing
	}{
		{"MQTT-3.1.0-1", "first packet PINGREQ", true, []byte{0xC0, 0}, ErrNotConnect, 0},
		{"MQTT-3.1.0-1", "first packet PUBLISH of 1 MiB: judged by its header", true, large, ErrNotConnect, 0},
		{"MQTT-3.2.2-15", "CONNECT above 64 KiB: judged by its header", true, appendHeader(nil, CONNECT, 0, 64<<10), ErrTooLarge, 0},
		{"MQTT-3.1.0-2", "second CONNECT", false, connectPacket(V5, nil), ErrSecondConnect, 0x82},
		{"MQTT-3.2.2-15", "packet above the maximum: judged by its header", false, large, ErrTooLarge, 0x95},
		{"MQTT-3.3.4-6", "subscription identifier from a client", false, subscriptionID, ErrSubscriptionID, 0x82},
		{"MQTT-3.3.2-9", "alias above the maximum", false, alias(17, "a"), ErrTopicAlias, 0x94},
		{"", "alias that stands for nothing (§3.3.2.3.4)", false, alias(3, ""), ErrTopicAliasUnknown, 0x82},
		{"MQTT-3.14.2-2", "session expiry raised from 0 at DISCONNECT", false, disconnect.Append(nil, V5), ErrSessionExpiry, 0x82},
		{"MQTT-4.12.0-7", "AUTH without method", false, []byte{0xF0, 0}, ErrAuthNotExpected, 0x82},
		{"MQTT-4.13.1-1", "SUBACK from a client", false, []byte{0x90, 4, 0, 1, 0, 0}, ErrDirection, 0x82},
		{"MQTT-4.13.1-1", "PINGREQ with a body", false, []byte{0xC0, 1, 0}, ErrTrailing, 0x81},
		{"MQTT-3.2.2-15", "remaining length of 256 MiB: judged by its header", false, unhex(t, "30 ffffff7f"), ErrTooLarge, 0x95},
		{"MQTT-3.14.2-1", "DISCONNECT with a reason of another packet", false, unhex(t, "e0 01 85"), ErrReason, 0x81},
		{"MQTT-3.4.2-1", "PUBACK with a reason of another packet", false, unhex(t, "40 03 0001 8e"), ErrReason, 0x81},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(DefaultLimits())
			if !test.first {
				s.feed(connectPacket(V5, nil))
				s.sent()
			}
			s.feed(test.bytes)
			if s.err != test.want || test.want != ErrReason && s.err.(*Error).Clause != test.clause {
				t.Fatalf("got %v, want %v", s.err, test.want)
			}
			if !s.Closed() {
				t.Fatal("not closed")
			}
			wantDisconnect(t, s, test.told)
			s.Feed([]byte{0xC0, 0})
			if event, err := s.Next(epoch, &s.in); event != NeedMore || err != nil || s.HasOut() {
				t.Fatal("[MQTT-3.14.4-1] something happened after the end")
			}
		})
	}
}

func TestInvalidConnectIsAnsweredInItsVersion(t *testing.T) {
	for _, test := range []struct{ name, packet, out string }{
		{"[MQTT-3.1.2-2] level 3 gets return code 1", "10 0d 0004 4d515454 03 02 003c 0001 61", "20020001"},
		{"[MQTT-3.1.2-2] level 6 gets reason 0x84", "10 0d 0004 4d515454 06 02 003c 0001 61", "2003008400"},
		{"[MQTT-3.1.3-8] empty client id in 3.1.1 gets return code 2", "10 0c 0004 4d515454 04 00 003c 0000", "20020002"},
		{"[MQTT-3.1.4-1] reserved flag in 5 gets 0x81", "10 0e 0004 4d515454 05 03 003c 00 0001 61", "2003008100"},
		{"[MQTT-4.12.0-1] authentication method gets 0x8C", "10 12 0004 4d515454 05 02 003c 04 15 0001 6d 0001 61", "2003008c00"},
		{"[MQTT-3.1.2-1] another protocol gets nothing", "10 0d 0004 48545450 04 02 003c 0001 61", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(DefaultLimits())
			s.feed(unhex(t, test.packet))
			if !s.Closed() {
				t.Fatalf("accepted: %v", s.err)
			}
			if out := s.sent(); !bytes.Equal(out, unhex(t, test.out)) {
				t.Fatalf("got %x, want %s", out, test.out)
			}
		})
	}
}

func TestConnackAnnouncesLimits(t *testing.T) {
	s := newServer(DefaultLimits())
	s.feed(connectPacket(V5, nil))
	var p Connack
	if err := p.Decode(s.sent()[2:], V5); err != nil {
		t.Fatal(err)
	}
	if p.Properties.Number(ReceiveMaximum) != 64 || p.Properties.Number(MaximumPacketSize) != 1<<20 || p.Properties.Number(TopicAliasMaximum) != 16 {
		t.Fatalf("announced %+v", p.Properties)
	}
}

func TestKeepAliveDoesNotOverflow(t *testing.T) {
	for _, seconds := range []uint16{1, 43_691, 65_535} {
		s := connected5(t, func(c *Connect) { c.KeepAlive = seconds })
		limit := epoch.Add(time.Duration(seconds) * 1500 * time.Millisecond)
		if !s.Deadline().Equal(limit) {
			t.Fatalf("[MQTT-3.1.2-22] keep alive %d: deadline after %v", seconds, s.Deadline().Sub(epoch))
		}
		if err := s.Tick(limit); err != nil {
			t.Fatalf("ended at the deadline itself: %v", err)
		}
		if err := s.Tick(limit.Add(1)); err != ErrKeepAlive {
			t.Fatalf("got %v", err)
		}
		wantDisconnect(t, s, KeepAliveTimeout)
	}
	if s := connected5(t, nil); !s.Deadline().IsZero() {
		t.Fatal("keep alive 0 has a deadline")
	}
}

func TestPacketIdentifiersOfTheTwoDirectionsAreSeparate(t *testing.T) {
	s := connected5(t, nil)
	s.Deliver(message("down", "x", 1), epoch) // sent with identifier 1
	s.feed(publishPacket(V5, 1, 1, "up", ""))
	wantPackets(t, s, "PUBLISH down", "PUBACK")
	if s.session.InFlight() != 1 {
		t.Fatal("[MQTT-2.2.1-4] the client's PUBLISH 1 ended the server's message 1")
	}
	s.feed(ackPacket(PUBACK, 1))
	if s.session.InFlight() != 0 || !slices.Equal(s.fates, []Fate{Delivered}) {
		t.Fatalf("fates %v", s.fates)
	}
}

func TestReceiveMaximumDelaysAndNeverDrops(t *testing.T) {
	s := connected5(t, func(c *Connect) { c.Properties.SetNumber(ReceiveMaximum, 1) })
	for _, topic := range []string{"1", "2", "3", "4", "5"} {
		if !s.Deliver(message(topic, "x", 1), epoch) {
			t.Fatal("dropped")
		}
	}
	s.Deliver(message("zero", "x", 0), epoch)
	wantPackets(t, s, "PUBLISH 1", "PUBLISH zero") // [MQTT-4.9.0-2] the window is for QoS above 0
	for i, topic := range []string{"2", "3", "4", "5"} {
		s.feed(ackPacket(PUBACK, uint16(i+1)))
		wantPackets(t, s, "PUBLISH "+topic)
	}
}

func TestClientAboveReceiveMaximumIsDisconnected(t *testing.T) {
	limits := DefaultLimits()
	limits.ReceiveMaximum = 2
	s := newServer(limits)
	s.manual = true
	s.feed(connectPacket(V5, nil))
	s.feed(publishPacket(V5, 1, 1, "a", ""))
	s.feed(publishPacket(V5, 2, 2, "b", ""))
	s.Acknowledge(1, Success, "")
	s.feed(publishPacket(V5, 1, 1, "c", "")) // quota is back, identifier too [MQTT-4.3.2-5]
	if s.err != nil {
		t.Fatal(s.err)
	}
	s.feed(publishPacket(V5, 1, 9, "d", ""))
	if s.err != ErrReceiveMaximum {
		t.Fatalf("[MQTT-3.3.4-7] got %v", s.err)
	}
}

// PUBREL gives quota back even for a message that we do not know. It gives no room for more messages that are not decided.
func TestQuotaIsNotMadeOfNothing(t *testing.T) {
	limits := DefaultLimits()
	limits.ReceiveMaximum = 2
	s := newServer(limits)
	s.manual = true
	s.feed(connectPacket(V5, nil))
	for id := uint16(1); id < 50; id++ {
		s.feed(publishPacket(V5, 1, id, "a", ""))
		s.feed(ackPacket(PUBREL, 1000+id))
	}
	if s.Unacknowledged() > 2 {
		t.Fatalf("%d messages await a decision, at most 2 may", s.Unacknowledged())
	}
}

func TestQoS2QuotaReturnsWithPubcomp(t *testing.T) {
	limits := DefaultLimits()
	limits.ReceiveMaximum = 1
	s := newServer(limits)
	s.feed(connectPacket(V5, nil))
	s.sent()
	for id := uint16(1); id < 50; id++ {
		s.feed(publishPacket(V5, 2, id, "a", ""))
		s.feed(ackPacket(PUBREL, id))
		if s.err != nil {
			t.Fatal(s.err)
		}
		wantPackets(t, s, "PUBREC", "PUBCOMP")
	}
}

func TestClient311AboveTheLimitWaits(t *testing.T) {
	limits := DefaultLimits()
	limits.ReceiveMaximum = 1
	s := newServer(limits)
	s.manual = true
	s.feed(connectPacket(V311, nil))
	s.sent()
	s.feed(append(publishPacket(V311, 1, 1, "a", ""), publishPacket(V311, 1, 2, "b", "")...))
	if !slices.Equal(s.topics, []string{"a"}) {
		t.Fatalf("topics %q", s.topics)
	}
	s.Acknowledge(1, Success, "")
	s.feed(nil)
	s.Acknowledge(2, Success, "")
	wantPackets(t, s, "PUBACK", "PUBACK")
	if !slices.Equal(s.topics, []string{"a", "b"}) || s.err != nil {
		t.Fatalf("topics %q, %v", s.topics, s.err)
	}
}

func TestAcknowledgementsKeepTheOrderOfMessages(t *testing.T) {
	s := connected5(t, nil)
	s.manual = true
	for id := uint16(1); id <= 3; id++ {
		s.feed(publishPacket(V5, 1, id, "a", ""))
	}
	s.Acknowledge(3, Success, "")
	s.Acknowledge(2, NotAuthorized, "no")
	if s.HasOut() {
		t.Fatal("[MQTT-4.6.0-2] acknowledged out of order")
	}
	s.Acknowledge(1, Success, "")
	if out := s.sent(); !bytes.Equal(out, unhex(t, "40020001 4009 0002 87 05 1f00026e6f 40020003")) {
		t.Fatalf("sent %x", out)
	}
}

func TestReasonStringOnlyWhereWanted(t *testing.T) {
	for name, set := range map[string]func(*Connect){
		"[MQTT-3.1.2-29] request problem information 0": func(c *Connect) { c.Properties.SetNumber(RequestProblemInformation, 0) },
		"[MQTT-3.4.2-2] maximum packet size":            func(c *Connect) { c.Properties.SetNumber(MaximumPacketSize, 64) },
	} {
		s := connected5(t, set)
		s.manual = true
		s.feed(publishPacket(V5, 1, 1, "a", ""))
		s.Acknowledge(1, NotAuthorized, strings.Repeat("reason ", 20))
		if out := s.sent(); !bytes.Equal(out, unhex(t, "4003000187")) {
			t.Errorf("%s: sent %x", name, out)
		}
	}
}

func TestInboundAliasIsResolvedBeforeAnybodyLooks(t *testing.T) {
	s := connected5(t, nil)
	for _, topic := range []string{"first", "", "second", ""} {
		p := Publish{Topic: []byte(topic)}
		p.Properties.SetNumber(TopicAlias, 16) // [MQTT-3.3.2-12] the highest announced one
		s.feed(p.Append(nil, V5))
		if s.in.Publish.Properties.Has(TopicAlias) {
			t.Fatal("alias left in the packet")
		}
	}
	if want := []string{"first", "first", "second", "second"}; !slices.Equal(s.topics, want) || s.err != nil {
		t.Fatalf("topics %q, %v", s.topics, s.err)
	}
}

func TestInboundQoS2IsDeliveredOnce(t *testing.T) {
	s := connected5(t, nil)
	dup := publishPacket(V5, 2, 7, "a", "")
	dup[0] |= 8
	s.feed(publishPacket(V5, 2, 7, "a", ""))
	s.feed(dup) // [MQTT-4.3.3-10]
	s.feed(ackPacket(PUBREL, 7))
	s.feed(ackPacket(PUBREL, 7)) // released already
	s.feed(publishPacket(V5, 2, 7, "b", ""))
	if !slices.Equal(s.topics, []string{"a", "b"}) || s.err != nil { // [MQTT-4.3.3-12]
		t.Fatalf("delivered %q, %v", s.topics, s.err)
	}
	if out := s.sent(); !bytes.Equal(out, unhex(t, "50020007 50020007 70020007 7003000792 50020007")) {
		t.Fatalf("sent %x", out)
	}
}

func TestOutboundQoS2(t *testing.T) {
	s := connected5(t, nil)
	s.Deliver(message("a", "x", 2), epoch)
	s.feed(ackPacket(PUBREC, 1))
	s.feed(ackPacket(PUBREC, 1))
	s.feed(ackPacket(PUBCOMP, 1))
	wantPackets(t, s, "PUBLISH a", "PUBREL", "PUBREL")
	if s.session.InFlight() != 0 {
		t.Fatal("still in flight")
	}
	s.feed(ackPacket(PUBREC, 1)) // unknown by now (§4.3.3)
	if out := s.sent(); !bytes.Equal(out, unhex(t, "6203000192")) {
		t.Fatalf("sent %x", out)
	}
	s.Deliver(message("b", "x", 2), epoch)
	s.feed(ackPacket(PUBACK, 2))
	if s.err != ErrAckQoS {
		t.Fatalf("PUBACK for QoS 2: %v", s.err)
	}
}

// A version 5 client that uses an identifier twice is told 0x91 and stays connected; one of 3.1.1 breaks the protocol, unless
// it sends its message again.
func TestIdentifierInUse(t *testing.T) {
	s := connected5(t, nil)
	s.manual = true
	s.feed(publishPacket(V5, 1, 1, "a", ""))
	s.feed(publishPacket(V5, 1, 1, "b", ""))
	s.feed(unhex(t, "82 07 0001 00 0001 61 00"))
	s.feed(unhex(t, "a2 06 0001 00 0001 61"))
	s.feed(publishPacket(V5, 2, 2, "c", ""))
	s.Acknowledge(1, Success, "")
	s.Acknowledge(2, Success, "")
	s.feed(publishPacket(V5, 1, 2, "d", "")) // not released yet
	s.feed(unhex(t, "82 07 0002 00 0001 61 00"))
	if out := s.sent(); !bytes.Equal(out, unhex(t, "90 04 0001 00 91 b0 04 0001 00 91 40 02 0001 40 03 0001 91 50 02 0002 40 03 0002 91 90 04 0002 00 91")) {
		t.Fatalf("sent %x", out)
	}
	if !slices.Equal(s.topics, []string{"a", "c"}) || s.err != nil {
		t.Fatalf("topics %q, %v", s.topics, s.err)
	}
	s.feed(ackPacket(PUBREL, 2))
	for id := uint16(3); id < 200; id++ { // the quota is as it was
		s.feed(publishPacket(V5, 1, id, "e", ""))
		s.Acknowledge(id, Success, "")
	}
	if s.err != nil {
		t.Fatal(s.err)
	}

	for _, dup := range []bool{false, true} {
		s := newServer(DefaultLimits())
		s.manual = true
		s.feed(connectPacket(V311, nil))
		s.feed(publishPacket(V311, 1, 1, "a", ""))
		again := publishPacket(V311, 1, 1, "a", "")
		if dup {
			again[0] |= 8
		}
		s.feed(again)
		if (s.err == nil) != dup || len(s.topics) != 1 {
			t.Fatalf("3.1.1, DUP %v: %v, topics %q", dup, s.err, s.topics)
		}
	}
}

// [MQTT-2.2.1-3] QoS 2 messages that are never released are bounded; the connection of who goes on ends.
func TestAllIdentifiersInFlight(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		s := newServer(DefaultLimits())
		s.feed(connectPacket(v, nil))
		for id := 1; id <= 65535 && s.err == nil; id++ {
			s.feed(publishPacket(v, 2, uint16(id), "a", ""))
			s.sent()
		}
		if s.err != ErrReceiveMaximum || len(s.session.held().received) > maxReceived {
			t.Fatalf("%v: %v with %d unreleased", v, s.err, len(s.session.held().received))
		}
	}
}

func TestResumedSessionIsSentAgainInOrder(t *testing.T) {
	s := connected5(t, nil)
	s.Deliver(message("1", "x", 1), epoch)
	s.Deliver(message("2", "x", 2), epoch)
	s.Deliver(message("3", "x", 1), epoch)
	s.feed(ackPacket(PUBREC, 2))
	s.sent()

	again := &server{Conn: NewConn(new(DefaultLimits())), session: s.session, accepted: true}
	again.session.Enqueue(message("4", "x", 1)) // while away
	again.feed(connectPacket(V5, func(c *Connect) { c.CleanStart = false }))
	wantPackets(t, again, "CONNACK", "PUBLISH 1 DUP", "PUBREL", "PUBLISH 3 DUP", "PUBLISH 4") // [MQTT-4.4.0-1] [MQTT-4.6.0-1]

	narrow := &server{Conn: NewConn(new(DefaultLimits())), session: s.session, accepted: true}
	narrow.feed(connectPacket(V5, func(c *Connect) { c.Properties.SetNumber(ReceiveMaximum, 1) }))
	wantPackets(t, narrow, "CONNACK", "PUBLISH 1 DUP", "PUBREL") // [MQTT-3.3.4-10] only PUBLISH waits for the window
	narrow.feed(ackPacket(PUBACK, 1))
	wantPackets(t, narrow)
	narrow.feed(ackPacket(PUBCOMP, 2))
	wantPackets(t, narrow, "PUBLISH 3 DUP")
}

func TestIdentifiersWrapAndSkipThoseInUse(t *testing.T) {
	s := connected5(t, nil)
	s.Deliver(message("held", "x", 1), epoch) // identifier 1 stays in flight
	for i := range 70_000 {
		s.Deliver(message("a", "x", 1), epoch)
		id := s.session.lastID
		if id == 0 || id == 1 {
			t.Fatalf("[MQTT-2.2.1-4] message %d got identifier %d", i, id)
		}
		s.feed(ackPacket(PUBACK, id))
		if i%100 == 0 {
			s.sent()
		}
	}
	if s.err != nil || s.session.InFlight() != 1 {
		t.Fatal(s.err, s.session.InFlight())
	}
}

func TestMessagesTheClientCannotTake(t *testing.T) {
	s := connected5(t, func(c *Connect) { c.Properties.SetNumber(MaximumPacketSize, 20) })
	if s.Deliver(message("a", strings.Repeat("x", 30), 0), epoch) {
		t.Fatal("[MQTT-3.1.2-24] QoS 0 message sent or not counted")
	}
	s.Deliver(message("a", strings.Repeat("x", 30), 1), epoch)
	s.Deliver(message("b", "x", 1), epoch)
	wantPackets(t, s, "PUBLISH b") // [MQTT-3.1.2-25] as if it had been completed
	if !slices.Equal(s.fates, []Fate{TooLarge}) {
		t.Fatalf("fates %v", s.fates)
	}
}

func TestMessageExpiry(t *testing.T) {
	s := connected5(t, func(c *Connect) { c.Properties.SetNumber(ReceiveMaximum, 1) })
	p := Publish{Topic: []byte("t"), QoS: 1, PacketID: 1}
	p.Properties.SetNumber(MessageExpiryInterval, 10)
	m := NewMessage(&p, epoch)
	for range 3 {
		s.Deliver(Delivery{Message: m, QoS: 1}, epoch)
	}
	s.sent()
	s.Feed(ackPacket(PUBACK, 1))
	s.Next(epoch.Add(4*time.Second), &s.in)
	var got Publish
	out := s.Out(nil, epoch.Add(4*time.Second))
	if err := got.Decode(2, out[2:], V5); err != nil || got.Properties.Number(MessageExpiryInterval) != 6 {
		t.Fatalf("[MQTT-3.3.2-6] sent %x, %v", out, err)
	}
	s.Feed(ackPacket(PUBACK, 2))
	s.Next(epoch.Add(10*time.Second), &s.in)
	if s.HasOut() || !slices.Equal(s.fates, []Fate{Delivered, Delivered, Expired}) {
		t.Fatalf("[MQTT-3.3.2-5] fates %v", s.fates)
	}
}

func TestPropertiesPassUnchangedAndNoneIsInvented(t *testing.T) {
	in := unhex(t, "34 2d 0001 61 0001 25 01 01 03 0001 74 08 0001 72 09 0002 0102 23 0005 26 0001 6b 0001 76 26 0001 6a 0001 77 26 0000 0000 6869")
	var p Publish
	if err := p.Decode(4, in[2:], V5); err != nil {
		t.Fatal(err)
	}
	s := connected5(t, nil)
	s.Deliver(Delivery{Message: NewMessage(&p, epoch), SubscriptionIDs: []uint32{7, 200}}, epoch)
	want := unhex(t, "30 2d 0001 61 27 0b 07 0b c801 01 01 03 0001 74 08 0001 72 09 0002 0102 26 0001 6b 0001 76 26 0001 6a 0001 77 26 0000 0000 6869")
	if out := s.sent(); !bytes.Equal(out, want) { // [MQTT-3.3.2-4] [MQTT-3.3.2-15] to [MQTT-3.3.2-20]
		t.Fatalf("got  %x\nwant %x", out, want)
	}
	s = newServer(DefaultLimits())
	s.feed(connectPacket(V311, nil))
	s.sent()
	s.Deliver(Delivery{Message: NewMessage(&p, epoch), SubscriptionIDs: []uint32{7}}, epoch)
	if out := s.sent(); !bytes.Equal(out, unhex(t, "30 05 0001 61 6869")) {
		t.Fatalf("3.1.1 got %x", out)
	}
}

func TestFullQueuesDropAndCount(t *testing.T) {
	limits := DefaultLimits()
	limits.OutSize = 100
	s := newServer(limits)
	s.maxQueued, s.maxQueuedBytes = 3, 1000
	s.feed(connectPacket(V5, nil))
	s.sent()
	delivered := 0
	for range 20 {
		if s.Deliver(message("a", strings.Repeat("x", 30), 0), epoch) {
			delivered++
		}
	}
	if delivered != 3 {
		t.Fatalf("%d QoS 0 messages for a client that reads nothing", delivered)
	}
	for range 3 {
		if !s.Deliver(message("q1", "x", 1), epoch) {
			t.Fatal("QoS 1 dropped with room in the queue")
		}
	}
	if s.Deliver(message("q1", "x", 1), epoch) || !slices.Equal(s.fates, []Fate{Overflow}) {
		t.Fatalf("fates %v", s.fates)
	}
	s.sent()
	wantPackets(t, s, "PUBLISH q1", "PUBLISH q1", "PUBLISH q1") // followed as soon as there was room
}

// scripts are what a client sends; the server answers by itself. They must have the same effect however they are cut.
func scripts() map[string][]byte {
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	alias := Publish{Topic: []byte("sensors/1"), QoS: 1, PacketID: 5, Payload: bytes.Repeat([]byte("p"), 300)}
	alias.Properties.SetNumber(TopicAlias, 2)
	aliased := Publish{QoS: 2, PacketID: 6}
	aliased.Properties.SetNumber(TopicAlias, 2)
	return map[string][]byte{
		"session of version 5": join(connectPacket(V5, nil), publishPacket(V5, 0, 0, "a", "x"), alias.Append(nil, V5),
			aliased.Append(nil, V5), ackPacket(PUBREL, 6), unhexScript("82 0a 0001 00 0004 612f2b2f 01 c000 a2 06 0002 00 0001 61"), []byte{0xE0, 0}),
		"session of 3.1.1": join(connectPacket(V311, nil), publishPacket(V311, 1, 1, "a", "x"), publishPacket(V311, 2, 2, "b", ""),
			ackPacket(PUBREL, 2), unhexScript("82 06 0001 0001 61 01 a2 05 0002 0001 61 c000 e000")),
		"violation in the middle": join(connectPacket(V5, nil), publishPacket(V5, 1, 1, "a", "x"), []byte{0xC1, 0}, publishPacket(V5, 1, 2, "b", "x")),
		"no MQTT":                 []byte("GET / HTTP/1.1\r\nHost: example\r\n\r\n"),
		"wrong level":             unhexScript("10 0d 0004 4d515454 07 02 003c 0001 61 c000"),
	}
}

func unhexScript(s string) []byte {
	b := make([]byte, 0, len(s)/2)
	for _, field := range strings.Fields(s) {
		for i := 0; i < len(field); i += 2 {
			hi, lo := strings.IndexByte("0123456789abcdef", field[i]), strings.IndexByte("0123456789abcdef", field[i+1])
			b = append(b, byte(hi<<4|lo))
		}
	}
	return b
}

// run feeds script in the given cuts through one reused buffer, as a network reader does.
func run(script []byte, next func(left int) int) (out []byte, events []Event, topics []string, err error) {
	s := newServer(DefaultLimits())
	buffer := make([]byte, len(script))
	for len(script) > 0 {
		n := copy(buffer, script[:next(len(script))])
		script = script[n:]
		s.feed(buffer[:n])
		clear(buffer) // nobody may still look at what was fed
		out = append(out, s.sent()...)
	}
	return out, s.events, s.topics, s.err
}

func TestScriptsDoNotDependOnHowTheyAreCut(t *testing.T) {
	for name, script := range scripts() {
		t.Run(name, func(t *testing.T) {
			out, events, topics, err := run(script, func(left int) int { return left })
			same := func(how string, next func(int) int) {
				gotOut, gotEvents, gotTopics, gotErr := run(script, next)
				if !bytes.Equal(gotOut, out) || !slices.Equal(gotEvents, events) || !slices.Equal(gotTopics, topics) || gotErr != err {
					t.Fatalf("%s: %x %v %q %v\nwhole: %x %v %q %v", how, gotOut, gotEvents, gotTopics, gotErr, out, events, topics, err)
				}
			}
			same("byte by byte", func(int) int { return 1 })
			for seed := range uint64(200) {
				random := rand.New(rand.NewPCG(seed, 1))
				same("cut at random", func(left int) int { return 1 + random.IntN(min(left, 40)) })
			}
		})
	}
}

// Table 2-6: which packets may carry which reason, in both directions.
func TestReasonCodesOfEachPacket(t *testing.T) {
	for kind, codes := range map[PacketType]string{
		CONNACK:    "00 80 81 82 83 84 85 86 87 88 89 8a 8c 90 95 97 99 9a 9b 9c 9d 9f",
		PUBACK:     "00 10 80 83 87 90 91 97 99",
		PUBREC:     "00 10 80 83 87 90 91 97 99",
		PUBREL:     "00 92",
		PUBCOMP:    "00 92",
		SUBACK:     "00 01 02 80 83 87 8f 91 97 9e a1 a2",
		UNSUBACK:   "00 11 80 83 87 8f 91",
		DISCONNECT: "00 04 80 81 82 83 87 89 8b 8c 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2",
		AUTH:       "00 18 19",
	} {
		allowed := unhex(t, codes)
		for code := range 256 {
			if got, want := Reason(code).BelongsTo(kind), bytes.IndexByte(allowed, byte(code)) >= 0; got != want {
				t.Errorf("%v %v: %v, want %v", kind, Reason(code), got, want)
			}
		}
	}
}

// What makes an answer too large for the client is left out of it, the answer is not.
func TestAnswersLeaveOutWhatDoesNotFit(t *testing.T) {
	long := strings.Repeat("x", 100)
	small := func(c *Connect) { c.Properties.SetNumber(MaximumPacketSize, 60) }
	s := newServer(DefaultLimits())
	s.auth = func(*Connect) {
		s.Accept(Acceptance{Session: s.session, User: []Pair{{[]byte("k"), []byte(long)}}}, epoch)
	}
	s.feed(connectPacket(V5, func(c *Connect) { small(c); withMethod("M")(c) }))
	var ack Connack
	if err := ack.Decode(s.sent()[2:], V5); err != nil || ack.Reason != Success || len(ack.Properties.User) > 0 { // [MQTT-3.2.2-20]
		t.Errorf("accepted with %+v, %v", ack, err)
	}
	s = newServer(DefaultLimits())
	s.auth = func(*Connect) { s.Refuse(Banned, long) }
	s.feed(connectPacket(V5, func(c *Connect) { small(c); withMethod("M")(c) }))
	if out := s.sent(); !bytes.Equal(out, []byte{0x20, 3, 0, 0x8A, 0}) { // [MQTT-3.2.2-19]
		t.Errorf("refused with %x", out)
	}
	for qos := byte(1); qos <= 2; qos++ {
		s = connected5(t, small)
		s.manual = true
		s.feed(publishPacket(V5, qos, 1, "a", ""))
		s.Acknowledge(1, NotAuthorized, long)
		if out := s.sent(); !bytes.Equal(out, []byte{0x30 + qos<<4, 3, 0, 1, 0x87}) { // [MQTT-3.4.2-2] [MQTT-3.5.2-2]
			t.Errorf("QoS %d: %x", qos, out)
		}
	}
}

// [MQTT-4.3.3-7] [MQTT-4.3.3-13]: once sent, a message expires no more, and its handshake goes on.
func TestMessageExpiryEndsWithTheFirstSending(t *testing.T) {
	s := connected5(t, nil)
	for qos := byte(1); qos <= 2; qos++ {
		p := Publish{Topic: []byte("t"), QoS: qos}
		p.Properties.SetNumber(MessageExpiryInterval, 1)
		s.Deliver(Delivery{Message: NewMessage(&p, epoch), QoS: qos}, epoch)
	}
	s.sent()
	later := epoch.Add(time.Hour)
	again := &server{Conn: NewConn(new(DefaultLimits())), session: s.session, accepted: true}
	again.Feed(connectPacket(V5, func(c *Connect) { c.CleanStart = false }))
	again.Next(later, &again.in)
	again.Accept(Acceptance{Session: s.session, SessionPresent: true}, later)
	if got := packets(t, V5, again.Out(nil, later)); !slices.Equal(got, []string{"CONNACK", "PUBLISH t DUP", "PUBLISH t DUP"}) {
		t.Fatalf("sent %q", got)
	}
	again.feed(ackPacket(PUBREC, 2))
	wantPackets(t, again, "PUBREL")
	again.feed(ackPacket(PUBCOMP, 2))
	if s.session.InFlight() != 1 {
		t.Fatal("the handshake did not end")
	}
}

// [MQTT-4.3.3-9]
func TestRefusedQoS2FreesItsIdentifier(t *testing.T) {
	s := connected5(t, nil)
	s.manual = true
	for _, topic := range []string{"a", "b"} {
		s.feed(publishPacket(V5, 2, 5, topic, ""))
		s.Acknowledge(5, NotAuthorized, "")
	}
	if !slices.Equal(s.topics, []string{"a", "b"}) {
		t.Fatalf("topics %q", s.topics)
	}
	if out := s.sent(); !bytes.Equal(out, unhex(t, "50030005 87 50030005 87")) {
		t.Fatalf("sent %x", out)
	}
}
