package mqttproxy

import (
	"fmt"
	"net"
	"testing"

	"fieldgate/protocol/mqtt"
)

// refuseFive stands before a broker as one that speaks 3.1.1 only: CONNECT of version 5 is answered by return code 1 (MQTT 3.1.1 §3.1.2.2), or
// by closing. connects counts the CONNECTs of each version.
func refuseFive(t *testing.T, address string, answers bool) (front string, connects func() (five, old int)) {
	counted := make(chan byte, 1000)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := packets{conn: conn, limit: 1 << 20}
				for {
					if in.receive() != nil {
						return
					}
					_, body, whole, err := in.next()
					if err != nil {
						return
					}
					if whole == nil {
						continue
					}
					counted <- body[6]
					if body[6] != byte(mqtt.V311) {
						if answers {
							conn.Write([]byte{byte(mqtt.CONNACK) << 4, 2, 0, 1})
						}
						return
					}
					broker, err := net.Dial("tcp", address)
					if err != nil {
						return
					}
					defer broker.Close()
					broker.Write(whole)
					go func() {
						pipe(conn, broker)
						conn.Close()
					}()
					pipe(broker, conn)
					return
				}
			}()
		}
	}()
	return listener.Addr().String(), func() (five, old int) {
		for len(counted) > 0 {
			if <-counted == byte(mqtt.V5) {
				five++
			} else {
				old++
			}
		}
		return five, old
	}
}

// version is what is spoken with the first broker.
func (g *gateway) version() mqtt.Version {
	b := g.brokers.Load().all[0]
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.version
}

func pipe(to, from net.Conn) {
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			to.Write(buffer[:n])
		}
		if err != nil {
			return
		}
	}
}

// A version 5 device works on a 3.1.1 broker, and is told what that cannot do.
func TestVersion5DeviceOnA311Broker(t *testing.T) {
	for _, answers := range []bool{true, false} {
		m := newMosquitto(t)
		address, connects := refuseFive(t, m.address, answers)
		g := newGateway(t, Settings{Addresses: []string{"mqtt://" + address}})
		eventually(t, "the broker's version is known", func() bool { return g.version() == mqtt.V311 })
		connects()
		inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
		inside.hear("d/#", 2)
		c := g.connect("d1", mqtt.ClientOptions{})
		if five, old := connects(); five != 0 || old != 1 {
			t.Errorf("%d and %d CONNECTs, though the version was known", five, old)
		}
		announced := &c.Connack.Properties
		for _, missing := range []mqtt.PropertyID{mqtt.SubscriptionIdentifierAvailable, mqtt.SharedSubscriptionAvailable} {
			if !announced.Has(missing) || announced.Number(missing) != 0 {
				t.Errorf("property 0x%02x is not announced as missing", missing)
			}
		}
		got := c.subscribe(mqtt.Filter{Filter: []byte("d/d1/command"), QoS: 2, NoLocal: true}, mqtt.Filter{Filter: []byte("d/d1/command"), RetainHandling: 2},
			mqtt.Filter{Filter: []byte("$share/g/d/d1/command")}, mqtt.Filter{Filter: []byte("d/d2/command")}, mqtt.Filter{Filter: []byte("d/d1/command"), QoS: 2})
		if want := "[131 131 158 135 2]"; fmt.Sprintf("%d", got) != want {
			t.Errorf("SUBACK %d, want %s", got, want)
		}
		for qos := range byte(3) {
			p := publish("d/d1/raw", "up", qos)
			p.Properties.AddUser("k", "v")
			c.send(p)
			if got := inside.next(); got != (received{topic: "d/d1/raw", payload: "up", qos: qos}) {
				t.Errorf("%+v", got)
			}
			if got := c.send(publish("d/d2/raw", "denied", qos)); qos > 0 && got != mqtt.NotAuthorized {
				t.Errorf("QoS %d: %v", qos, got)
			}
			inside.send(publish("d/d1/command", "down", qos))
			inside.next()
			if got := c.next(); got != (received{topic: "d/d1/command", payload: "down", qos: qos}) {
				t.Errorf("%+v", got)
			}
		}
		if n := g.Counters.PropertiesDropped.Load(); n < 3 {
			t.Errorf("%d packets are counted that lost properties", n)
		}
		if reasons, err := c.Unsubscribe(t.Context(), "d/d1/command", "x"); err != nil || len(reasons) != 2 {
			t.Errorf("UNSUBACK %v, %v", reasons, err)
		}
		c.Disconnect(0)
	}
}

// Sessions of version 5 on a 3.1.1 broker: one begins anew though an older one is there, lasts, and does not where none was asked for.
func TestSessionsOfVersion5OnA311Broker(t *testing.T) {
	m := newMosquitto(t)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + m.address}, Version: mqtt.V311})
	lasting := mqtt.ClientOptions{}
	lasting.Properties.SetNumber(mqtt.SessionExpiryInterval, 60)
	c := g.connect("d1", lasting)
	if got := c.Connack.Properties.Number(mqtt.SessionExpiryInterval); got != neverExpires {
		t.Errorf("told %d seconds", got)
	}
	c.hear("d/d1/command", 1)
	c.Close()
	resumed := lasting
	resumed.Resume = true
	c = g.connect("d1", resumed)
	if !c.Connack.SessionPresent {
		t.Error("the session is gone")
	}
	c.Close()
	if c = g.connect("d1", lasting); c.Connack.SessionPresent {
		t.Error("clean start, and the session is present")
	}
	c.Close()
	c = g.connect("d1", mqtt.ClientOptions{Resume: true}) // expiry 0
	c.Close()
	if c = g.connect("d1", resumed); c.Connack.SessionPresent {
		t.Error("a session outlived a connection that asked for none")
	}
}

// A 3.1.1 broker knows no Receive Maximum: what is too much waits for the device's acknowledgements, and no PUBREL with it.
func TestReceiveMaximumOfAVersion5Device(t *testing.T) {
	b := newScriptedBroker(t, nil)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}, Version: mqtt.V311})
	connect := mqtt.Connect{CleanStart: true}
	connect.Properties.SetNumber(mqtt.ReceiveMaximum, 2)
	device := g.raw("dash", connect)
	device.packet(mqtt.CONNACK)
	upstream := <-b.devices
	for id := uint16(1); id <= 5; id++ {
		p := publish("d/d1/raw", fmt.Sprint(id), 2)
		p.PacketID = id
		upstream.write(p.Append(nil, mqtt.V311))
	}
	ack := func(kind mqtt.PacketType, id uint16, v mqtt.Version) []byte {
		return (&mqtt.Ack{Type: kind, PacketID: id}).Append(nil, v)
	}
	expect := func(id uint16) {
		t.Helper()
		var p mqtt.Publish
		if err := p.Decode(4, device.packet(mqtt.PUBLISH), mqtt.V5); err != nil || p.PacketID != id {
			t.Fatalf("%d, %v, want %d", p.PacketID, err, id)
		}
	}
	expect(1)
	expect(2)
	for id := uint16(1); id <= 5; id++ {
		device.write(ack(mqtt.PUBREC, id, mqtt.V5))
		upstream.expect(mqtt.PUBREC, fmt.Sprintf("%04x", id))
		upstream.write(ack(mqtt.PUBREL, id, mqtt.V311))
		device.expect(mqtt.PUBREL, fmt.Sprintf("%04x", id)) // and no PUBLISH before there is room
		device.write(ack(mqtt.PUBCOMP, id, mqtt.V5))
		upstream.expect(mqtt.PUBCOMP, fmt.Sprintf("%04x", id))
		if id <= 3 {
			expect(id + 2)
		}
	}
}

// The broker's aliases are resolved, and a packet that the device cannot take is acknowledged for it (MQTT 5 §3.1.2.11.4).
func TestAliasesAndPacketSizesOfEachSide(t *testing.T) {
	asked := make(chan mqtt.Connect, 10)
	b := newScriptedBroker(t, func(c *mqtt.Connect) *mqtt.Connack {
		if len(c.ClientID) < 9 || string(c.ClientID[:9]) != "fg-probe-" {
			asked <- *c
		}
		ack := &mqtt.Connack{}
		ack.Properties.SetNumber(mqtt.MaximumPacketSize, 60)
		ack.Properties.SetNumber(mqtt.ReceiveMaximum, 7)
		ack.Properties.SetNumber(mqtt.ServerKeepAlive, 33)
		ack.Properties.SetNumber(mqtt.SessionExpiryInterval, 5)
		ack.Properties.SetText(mqtt.ServerReference, []byte("elsewhere"))
		return ack
	})
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}, Prefix: "p/"})
	connect := mqtt.Connect{CleanStart: true}
	connect.Properties.SetNumber(mqtt.MaximumPacketSize, 100)
	device := g.raw("dash", connect)
	var ack mqtt.Connack
	if err := ack.Decode(device.packet(mqtt.CONNACK), mqtt.V5); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[mqtt.PropertyID]uint32{mqtt.MaximumPacketSize: 60, mqtt.ReceiveMaximum: 7, mqtt.ServerKeepAlive: 33, mqtt.SessionExpiryInterval: 5, mqtt.TopicAliasMaximum: 16} {
		if got := ack.Properties.Number(id); got != want {
			t.Errorf("property 0x%02x of CONNACK: %d, want %d", id, got, want)
		}
	}
	if ack.Properties.Has(mqtt.ServerReference) {
		t.Error("the device is pointed at a server around the gateway")
	}
	if got := <-asked; got.Properties.Number(mqtt.MaximumPacketSize) != 100 || got.Properties.Number(mqtt.TopicAliasMaximum) != 16 {
		t.Errorf("the broker is told %+v", got.Properties)
	}
	upstream := <-b.devices
	p := publish("p/d/d1/raw", "one", 1)
	p.PacketID = 1
	p.Properties.SetNumber(mqtt.TopicAlias, 3)
	upstream.write(p.Append(nil, mqtt.V5))
	p.Topic, p.Payload, p.PacketID = nil, []byte("two"), 2
	upstream.write(p.Append(nil, mqtt.V5))
	for _, want := range []string{"one", "two"} {
		var got mqtt.Publish
		if err := got.Decode(2, device.packet(mqtt.PUBLISH), mqtt.V5); err != nil || string(got.Topic) != "d/d1/raw" || string(got.Payload) != want || got.Properties.Has(mqtt.TopicAlias) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	p.Payload, p.PacketID = make([]byte, 91), 3 // 2 more with the topic's name than the device takes
	upstream.write(p.Append(nil, mqtt.V5))
	upstream.expect(mqtt.PUBACK, "0003")
	// Towards the broker the prefix counts.
	command := publish("d/d1/command", "", 1)
	command.PacketID, command.Payload = 9, make([]byte, 60-2-2-14-2-1)
	device.write(command.Append(nil, mqtt.V5))
	upstream.packet(mqtt.PUBLISH)
	command.Payload = make([]byte, 60-2-2-14-2)
	device.write(command.Append(nil, mqtt.V5))
	var refused mqtt.Ack
	if err := refused.Decode(mqtt.PUBACK, device.packet(mqtt.PUBACK), mqtt.V5); err != nil || refused.Reason != mqtt.QuotaExceeded {
		t.Errorf("%+v, %v", refused, err)
	}
}

// A contract's bound on how long messages live reaches the broker.
func TestMessageExpiryIsBounded(t *testing.T) {
	b := newScriptedBroker(t, nil)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}})
	device := g.raw("d1", mqtt.Connect{CleanStart: true})
	device.packet(mqtt.CONNACK)
	upstream := <-b.devices
	for _, test := range []struct{ said, want uint32 }{{0, 60}, {5, 5}, {1000, 60}} {
		p := publish("d/d1/brief", "x", 0)
		if test.said > 0 {
			p.Properties.SetNumber(mqtt.MessageExpiryInterval, test.said)
		}
		device.write(p.Append(nil, mqtt.V5))
		var got mqtt.Publish
		if err := got.Decode(0, upstream.packet(mqtt.PUBLISH), mqtt.V5); err != nil || got.Properties.Number(mqtt.MessageExpiryInterval) != test.want {
			t.Errorf("%d: %d seconds, %v", test.said, got.Properties.Number(mqtt.MessageExpiryInterval), err)
		}
	}
}

// PINGREQ is answered by the gateway, and the broker is asked by it.
func TestKeepAliveIsAnsweredOnEachSide(t *testing.T) {
	b := newScriptedBroker(t, nil)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}})
	device := g.raw("d2", mqtt.Connect{CleanStart: true, KeepAlive: 60})
	device.packet(mqtt.CONNACK)
	<-b.devices
	device.write([]byte{byte(mqtt.PINGREQ) << 4, 0})
	device.expect(mqtt.PINGRESP, "")
	device = g.raw("d1", mqtt.Connect{CleanStart: true, KeepAlive: 1})
	device.packet(mqtt.CONNACK)
	upstream := <-b.devices
	if err := upstream.in.receive(); err != nil {
		t.Fatal(err)
	}
	if h, _, whole, err := upstream.in.next(); err != nil || whole == nil || h.Type != mqtt.PINGREQ { // which packet leaves out
		t.Fatal(h.Type, err)
	}
	go func() { // the next ones are answered, too
		for answer := []byte{byte(mqtt.PINGRESP) << 4, 0}; ; upstream.in.start = upstream.in.end {
			if _, err := upstream.in.conn.Write(answer); err != nil || upstream.in.receive() != nil {
				return
			}
		}
	}()
	device.expect(mqtt.DISCONNECT, fmt.Sprintf("%02x", byte(mqtt.KeepAliveTimeout))) // it is silent for a second and a half
}
