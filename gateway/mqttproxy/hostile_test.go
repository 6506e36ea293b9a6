package mqttproxy

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// A device that breaks the protocol is told why and ends only its own connections; so does a broker.
func TestHostilePackets(t *testing.T) {
	b := newScriptedBroker(t, nil)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}})
	good := g.connect("d2", mqtt.ClientOptions{})
	<-b.devices
	identified := publish("d/d1/raw", "x", 0)
	identified.Properties.SubscriptionIDs = []uint32{1}
	unknown := mqtt.Publish{}
	unknown.Properties.SetNumber(mqtt.TopicAlias, 3)
	beyond := publish("d/d1/raw", "x", 0)
	beyond.Properties.SetNumber(mqtt.TopicAlias, 17)
	for _, test := range []struct {
		name   string
		packet []byte
		device mqtt.Reason // that the device is told
		broker bool        // the broker may send it
	}{
		{"packet type 0", []byte{0, 0}, mqtt.MalformedPacket, false},
		{"QoS 3", []byte{0x36, 2, 0, 0}, mqtt.MalformedPacket, false},
		{"a second CONNECT", (&mqtt.Connect{Version: mqtt.V5}).Append(nil), mqtt.ProtocolViolation, false},
		{"CONNACK", (&mqtt.Connack{}).Append(nil, mqtt.V5), mqtt.ProtocolViolation, false},
		{"AUTH", (&mqtt.Disconnect{Type: mqtt.AUTH}).Append(nil, mqtt.V5), mqtt.ProtocolViolation, false},
		{"too large", []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, mqtt.PacketTooLarge, false},
		{"length of five bytes", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1}, mqtt.MalformedPacket, false},
		{"alias that stands for nothing", unknown.Append(nil, mqtt.V5), mqtt.ProtocolViolation, false},
		{"alias beyond the maximum", beyond.Append(nil, mqtt.V5), mqtt.TopicAliasInvalid, false},
		{"subscription identifier of a client", identified.Append(nil, mqtt.V5), mqtt.ProtocolViolation, true},
		{"SUBACK to nothing", (&mqtt.SubAck{Type: mqtt.SUBACK, PacketID: 9, Reasons: []mqtt.Reason{0}}).Append(nil, mqtt.V5), mqtt.ProtocolViolation, false},
		{"PINGRESP with a body", []byte{0xD0, 1, 0}, mqtt.ProtocolViolation, false},
	} {
		device := g.raw("d1", mqtt.Connect{CleanStart: true})
		device.packet(mqtt.CONNACK)
		upstream := <-b.devices
		device.write(test.packet)
		var told mqtt.Disconnect
		if err := told.Decode(mqtt.DISCONNECT, device.packet(mqtt.DISCONNECT), mqtt.V5); err != nil || told.Reason != test.device {
			t.Errorf("%s from a device: %v %v, want %v", test.name, told.Reason, err, test.device)
		}
		if rest, err := io.ReadAll(upstream.in.conn); err != nil || len(rest) > 0 {
			t.Errorf("%s from a device: the broker got %x, %v", test.name, rest, err)
		}
		if test.broker {
			continue
		}
		device = g.raw("d1", mqtt.Connect{CleanStart: true})
		device.packet(mqtt.CONNACK)
		upstream = <-b.devices
		upstream.write(test.packet)
		if err := told.Decode(mqtt.DISCONNECT, device.packet(mqtt.DISCONNECT), mqtt.V5); err != nil || told.Reason != mqtt.ImplementationSpecificError {
			t.Errorf("%s from a broker: %v %v", test.name, told.Reason, err)
		}
	}
	if err := good.Err(); err != nil {
		t.Errorf("another connection has ended: %v", err)
	}
	// Before CONNECT.
	for _, first := range [][]byte{{0xC0, 0}, {0x10, 0xFF, 0xFF, 0xFF, 0x7F}, {0x30, 2, 0, 0}, {0}} {
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		s := newScripted(t, conn)
		s.write(first)
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%x: %v", first, err)
		}
	}
}

// memory is a connection that takes what it is told and gives nothing.
type memory struct {
	net.Conn
	written bytes.Buffer
}

func (m *memory) Write(b []byte) (int, error)      { return m.written.Write(b) }
func (m *memory) Close() error                     { return nil }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// newLoops is a session without network: packets are fed to its loops.
func newLoops(t testing.TB, p *Proxy, caller *pipeline.Caller, device, broker mqtt.Version) (s *session, toDevice, toBroker *memory) {
	toDevice, toBroker = new(memory), new(memory)
	s = newSession(&arrival{proxy: p, brokers: p.brokers.Load(), conn: toDevice, caller: caller, client: "c"}, "c", &mqtt.Connect{Version: device})
	s.broker.conn, s.broker.version, s.same, s.at = toBroker, broker, device == broker, p.brokers.Load().all[0]
	s.fromDevice, s.fromBroker = packets{limit: p.config.Limits.PacketSize}, packets{limit: p.config.Limits.PacketSize}
	if device != broker {
		s.window = newWindow(2, 1000)
	}
	return s, toDevice, toBroker
}

// feed hands bytes to one of the loops, and says whether the session goes on.
func (s *session) feed(in *packets, bytes []byte, packet func(mqtt.Header, []byte, []byte, *batch) *farewell) bool {
	in.buffer, in.start, in.end = bytes, 0, len(bytes)
	b := s.proxy.batches.Get().(*batch)
	defer s.proxy.batches.Put(b)
	return s.handle(in, b, packet) == nil && s.release(b) == nil
}

// FuzzLoops feeds packets from both sides. What comes out are sound packets; nothing that the contract denies passes, whatever the device
// sends, and no topic outside of the prefix, whatever the broker sends.
func FuzzLoops(f *testing.F) {
	add := func(v mqtt.Version, device, broker []byte) {
		for _, other := range versions {
			f.Add(device, broker, v == mqtt.V5, other == mqtt.V5)
		}
	}
	for _, v := range versions {
		var device, broker []byte
		for qos := range byte(3) {
			for i, topic := range []string{"d/d1/raw", "d/d2/raw", "d/d1/limited", "d/d1/once", "fg/x"} {
				p := publish(topic, "x", qos)
				p.PacketID = uint16(i + 1)
				p.Properties.AddUser("idempotency-key", "k")
				device = p.Append(device, v)
				p.Topic = append([]byte("p/"), p.Topic...)
				broker = p.Append(broker, v)
			}
		}
		for _, kind := range []mqtt.PacketType{mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP} {
			for id := uint16(1); id < 4; id++ {
				ack := mqtt.Ack{Type: kind, PacketID: id}
				device, broker = ack.Append(device, v), ack.Append(broker, v)
			}
		}
		device = (&mqtt.Subscribe{PacketID: 9, Filters: []mqtt.Filter{{Filter: []byte("d/d1/command"), QoS: 2}, {Filter: []byte("#")}}}).Append(device, v)
		broker = (&mqtt.SubAck{Type: mqtt.SUBACK, PacketID: 9, Reasons: []mqtt.Reason{1}}).Append(broker, v)
		device = (&mqtt.Unsubscribe{PacketID: 10, Filters: [][]byte{[]byte("d/d1/command")}}).Append(device, v)
		broker = (&mqtt.SubAck{Type: mqtt.UNSUBACK, PacketID: 10, Reasons: []mqtt.Reason{0}}).Append(broker, v)
		device = append(device, byte(mqtt.PINGREQ)<<4, 0)
		broker = append(broker, byte(mqtt.PINGRESP)<<4, 0)
		if v == mqtt.V5 {
			aliased := publish("d/d1/raw", "x", 0)
			aliased.Properties.SetNumber(mqtt.TopicAlias, 1)
			device = aliased.Append(device, v)
			aliased.Topic = nil
			device = aliased.Append(device, v)
			aliased.Topic = []byte("p/d/d1/command")
			broker = aliased.Append(broker, v)
			aliased.Topic = nil
			broker = aliased.Append(broker, v)
			broker = (&mqtt.Disconnect{Type: mqtt.DISCONNECT, Reason: mqtt.UseAnotherServer}).Append(broker, v)
		}
		device = (&mqtt.Disconnect{Type: mqtt.DISCONNECT}).Append(device, v)
		add(v, device, broker)
	}
	g := newGateway(f, Settings{Addresses: []string{"mqtt://127.0.0.1:1"}, Prefix: "p/"})
	caller, problem := g.pipeline.Identify(nil, []byte(g.tokens["d1"]))
	if problem != nil {
		f.Fatal(problem)
	}
	f.Fuzz(func(t *testing.T, device, broker []byte, deviceFive, brokerFive bool) {
		version := map[bool]mqtt.Version{true: mqtt.V5, false: mqtt.V311}
		if !deviceFive && brokerFive {
			return // a 3.1.1 device speaks 3.1.1 to the broker
		}
		s, toDevice, toBroker := newLoops(t, g.Proxy, caller, version[deviceFive], version[brokerFive])
		if s.feed(&s.fromDevice, device, s.devicePacket) {
			s.feed(&s.fromBroker, broker, s.brokerPacket)
		}
		s.dropCommands()
		for out, v := range map[*memory]mqtt.Version{toDevice: version[deviceFive], toBroker: version[brokerFive]} {
			in := packets{buffer: out.written.Bytes(), end: out.written.Len(), limit: 1 << 28}
			for {
				h, body, whole, err := in.next()
				if err != nil {
					t.Fatalf("sent %x: %v", out.written.Bytes(), err)
				}
				if whole == nil {
					break
				}
				switch h.Type {
				case mqtt.PUBLISH:
					var p mqtt.Publish
					if err := p.Decode(h.Flags, body, v); err != nil {
						t.Fatalf("sent %x: %v", whole, err)
					}
					if out == toBroker && !bytes.HasPrefix(p.Topic, []byte("p/d/d1/")) || out == toDevice && string(p.Topic) != "d/d1/command" && !bytes.HasPrefix(p.Topic, []byte("fg/d1/")) {
						t.Fatalf("topic %q passed", p.Topic)
					}
				case mqtt.SUBSCRIBE:
					var p mqtt.Subscribe
					if err := p.Decode(body, v, 64); err != nil {
						t.Fatalf("sent %x: %v", whole, err)
					}
					for _, filter := range p.Filters {
						if _, levels := mqtt.SplitShare(filter.Filter); string(levels) != "p/d/d1/command" && !bytes.HasPrefix(levels, []byte("p/fg/d1/")) {
							t.Fatalf("filter %q passed", filter.Filter)
						}
					}
				case mqtt.UNSUBSCRIBE:
					var p mqtt.Unsubscribe
					if err := p.Decode(body, v, 64); err != nil {
						t.Fatalf("sent %x: %v", whole, err)
					}
				case mqtt.SUBACK, mqtt.UNSUBACK:
					var p mqtt.SubAck
					if err := p.Decode(h.Type, body, v); err != nil {
						t.Fatalf("sent %x: %v", whole, err)
					}
				}
			}
			if in.start != in.end {
				t.Fatalf("sent the beginning of a packet: %x", in.buffer[in.start:])
			}
		}
	})
}
