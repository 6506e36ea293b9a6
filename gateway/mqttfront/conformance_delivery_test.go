package mqttfront

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldgate/protocol/mqtt"
)

// Each quality of service has its handshake, in both directions, and identifiers of their own (MQTT 5 §4.3).
func TestConformanceHandshakes(t *testing.T) {
	t.Parallel()
	conformHandshakes(t, openGateway(t, nil))
}

func conformHandshakes(t *testing.T, g *gateway) {
	eachVersion(t, func(t *testing.T, v mqtt.Version) {
		topic := "qos/" + v.String()
		ear, mouth := g.peer(t, v, "ear-"+v.String(), kept), g.peer(t, v, "mouth-"+v.String(), kept)
		ear.subscribe(topic, 2, nil)

		mouth.write(mouth.publication(topic, "zero", 0, 0, nil))
		mouth.wantQuiet()
		ear.wantHeard("zero", 0)

		mouth.write(mouth.publication(topic, "one", 1, 10, nil))
		mouth.want("4002000a")
		mouth.write(mouth.publication(topic, "one again", 1, 10, func(m *mqtt.Publish) { m.Dup = true })) // the identifier is free again
		mouth.want("4002000a")
		for _, payload := range []string{"one", "one again"} {
			m := ear.unacknowledged()
			if string(m.Payload) != payload || m.QoS != 1 || m.Dup || m.PacketID == 0 {
				t.Fatalf("heard %+v", m)
			}
			ear.write((&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID}).Append(nil, v))
		}

		mouth.write(mouth.publication(topic, "two", 2, 11, nil))
		mouth.want("5002000b")
		mouth.write(mouth.publication(topic, "two", 2, 11, func(m *mqtt.Publish) { m.Dup = true })) // not released: the same message
		mouth.want("5002000b")
		mouth.send("6202000b")
		mouth.want("7002000b")
		mouth.send("6202000b") // a PUBREL that is late is answered, too
		if v == mqtt.V5 {
			mouth.want("7003000b92")
		} else {
			mouth.want("7002000b")
		}
		mouth.publish(topic, "three", 2, nil)
		m := ear.unacknowledged()
		if string(m.Payload) != "two" || m.QoS != 2 || m.Dup {
			t.Fatalf("heard %+v", m)
		}
		second := ear.unacknowledged()
		if string(second.Payload) != "three" || second.PacketID == m.PacketID { // not "two" once more
			t.Fatalf("heard %+v after %+v", second, m)
		}
		ear.send(fmt.Sprintf("5002%04x 5002%04x", m.PacketID, second.PacketID))
		ear.want(fmt.Sprintf("6202%04x", m.PacketID), fmt.Sprintf("6202%04x", second.PacketID)) // [MQTT-4.6.0-4]
		ear.send(fmt.Sprintf("7002%04x 7002%04x", m.PacketID, second.PacketID))
		ear.wantQuiet()
		if v == mqtt.V5 { // a PUBREC for nothing is answered
			ear.send("50020fff")
			ear.want("62030fff92")
		}
	})
}

// What was not acknowledged is sent again on the next connection of the session, with its identifier, DUP and in order; nothing
// is sent again before, and nothing that the client refused (MQTT 5 §4.4).
func TestConformanceResending(t *testing.T) {
	t.Parallel()
	conformResending(t, openGateway(t, nil))
}

func conformResending(t *testing.T, g *gateway) {
	eachVersion(t, func(t *testing.T, v mqtt.Version) {
		topic := "again/" + v.String()
		ear, mouth := g.peer(t, v, "ear-"+v.String(), kept), g.peer(t, v, "mouth-"+v.String(), kept)
		ear.subscribe(topic, 2, nil)
		var ids []uint16
		for i, qos := range []byte{1, 2, 2, 1} {
			mouth.publish(topic, fmt.Sprint(i), qos, nil)
			m := ear.unacknowledged() // one after the other: only those of one QoS have to arrive in order (MQTT 5 §4.6)
			if m.Dup || string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("heard %+v", m)
			}
			ids = append(ids, m.PacketID)
		}
		ear.send(fmt.Sprintf("5002%04x", ids[1]))
		ear.want(fmt.Sprintf("6202%04x", ids[1]))
		ear.wantQuiet() // waiting does not make anything be sent again
		// The sending side, too: a QoS 2 message that the client repeats on its next connection is delivered once.
		mouth.write(mouth.publication(topic, "4", 2, 20, nil))
		mouth.want("50020014")
		mouth.conn.Close()
		mouth = g.peer(t, v, "mouth-"+v.String(), kept)
		mouth.write(mouth.publication(topic, "4", 2, 20, func(m *mqtt.Publish) { m.Dup = true }))
		mouth.want("50020014")
		mouth.send("62020014")
		mouth.want("70020014")
		mouth.publish(topic, "5", 1, nil)

		ear.conn.Close()
		ear = g.peer(t, v, "ear-"+v.String(), kept)
		if !ear.connack.SessionPresent {
			t.Fatal("the session is gone")
		}
		again := func(i int) {
			t.Helper()
			if m := ear.unacknowledged(); string(m.Payload) != fmt.Sprint(i) || m.PacketID != ids[i] || !m.Dup {
				t.Fatalf("message %d was sent again as %+v", i, m)
			}
		}
		again(0)
		ear.want(fmt.Sprintf("6202%04x", ids[1])) // [MQTT-4.3.3-6] its PUBREL, never the PUBLISH
		again(2)
		again(3)
		// They may have left before the connection was cut, DUP says so; the client saw neither.
		if late := []string{string(ear.unacknowledged().Payload), string(ear.unacknowledged().Payload)}; !slices.Contains(late, "4") || !slices.Contains(late, "5") {
			t.Fatalf("heard %q, want 4 and 5", late)
		}
		if v == mqtt.V311 {
			return
		}
		// [MQTT-4.4.0-2] what the client refuses is done with.
		ear.send(fmt.Sprintf("4003%04x80 7002%04x 5003%04x87", ids[0], ids[1], ids[2]))
		ear.wantQuiet()
		ear.send("a2090001000004 6e6f6e65") // an UNSUBSCRIBE, which a proxy leaves to the broker: it has had the refusals by now
		ear.want("b00400010011")
		ear.conn.Close()
		ear = g.peer(t, v, "ear-"+v.String(), kept)
		again(3)
	})
}

// Messages of one client to a topic arrive in its order, and acknowledgements in the order of what they acknowledge (MQTT 5 §4.6).
func TestConformanceOrder(t *testing.T) {
	t.Parallel()
	conformOrder(t, openGateway(t, nil))
}

func conformOrder(t *testing.T, g *gateway) {
	eachVersion(t, func(t *testing.T, v mqtt.Version) {
		ear, mouth := g.peer(t, v, "ear", nil), g.peer(t, v, "mouth", nil)
		ear.subscribe("order", 2, nil)
		var all []byte
		var acknowledgements []string
		for i := range 50 {
			qos := byte(1 + i%2)
			all = append(all, mouth.publication("order", fmt.Sprint(i), qos, uint16(i+1), nil)...)
			acknowledgements = append(acknowledgements, fmt.Sprintf("%02x02%04x", map[byte]int{1: 0x40, 2: 0x50}[qos], i+1))
		}
		mouth.write(all)
		mouth.want(acknowledgements...)
		for i := range 50 {
			if m := ear.unacknowledged(); string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("message %d is %q", i, m.Payload)
			}
		}
	})
}

// Retained messages: one of a topic, the newest; none of zero bytes; not touched by what is not to be retained (MQTT 5 §3.3.1.3).
func TestConformanceRetained(t *testing.T) {
	t.Parallel()
	conformRetained(t, openGateway(t, nil))
}

func conformRetained(t *testing.T, g *gateway) {
	eachVersion(t, func(t *testing.T, v mqtt.Version) {
		topic := "retained/" + v.String()
		mouth := g.peer(t, v, "mouth", nil)
		retains := func(want string) {
			t.Helper()
			p := g.peer(t, v, "looker", nil)
			p.subscribe(topic, 2, nil)
			if want != "" {
				if m := p.heard(); string(m.Payload) != want || !m.Retain { // [MQTT-3.3.1-8 of 3.1.1]
					t.Fatalf("retained %+v, want %q", m, want)
				}
			}
			p.wantQuiet()
			// An established subscription gets it without the flag.
			mouth.publish(topic, "passes", 1, nil)
			if m := p.heard(); string(m.Payload) != "passes" || m.Retain {
				t.Fatalf("heard %+v", m)
			}
		}
		retains("")
		mouth.publish(topic, "first", 1, retained)
		retains("first")
		mouth.publish(topic, "second", 2, retained)
		retains("second")
		mouth.publish(topic, "at QoS 0", 0, retained)
		mouth.wantQuiet()
		retains("at QoS 0")
		ear := g.peer(t, v, "ear", nil)
		ear.subscribe(topic, 1, nil)
		ear.heard()
		mouth.publish(topic, "", 1, retained) // removes, and is heard as any message
		if m := ear.heard(); len(m.Payload) > 0 || m.Retain {
			t.Fatalf("heard %+v", m)
		}
		retains("")
	})
	// Retain Handling and Retain As Published (MQTT 5 §3.8.3.1).
	mouth, p := g.peer(t, mqtt.V5, "mouth", nil), g.peer(t, mqtt.V5, "ear", nil)
	mouth.publish("handling", "kept", 1, retained)
	for _, step := range []struct {
		handling byte
		sent     bool
	}{{2, false}, {1, false}, {0, true}, {0, true}} { // 1: the subscription was there already
		p.subscribe("handling", 1, func(s *mqtt.Subscribe) { s.Filters[0].RetainHandling = step.handling })
		if step.sent {
			p.wantHeard("kept", 1)
		}
		p.wantQuiet()
	}
	fresh := g.peer(t, mqtt.V5, "fresh", nil)
	fresh.subscribe("handling", 1, func(s *mqtt.Subscribe) { s.Filters[0].RetainHandling = 1 })
	fresh.wantHeard("kept", 1)
	for _, as := range []bool{false, true} {
		fresh.subscribe("handling", 1, func(s *mqtt.Subscribe) { s.Filters[0].RetainHandling, s.Filters[0].RetainAsPublished = 2, as })
		for _, retain := range []bool{true, false} {
			mouth.publish("handling", "now", 1, func(m *mqtt.Publish) { m.Retain = retain })
			if m := fresh.heard(); m.Retain != (retain && as) {
				t.Fatalf("retain as published %v: %v became %v", as, retain, m.Retain)
			}
		}
	}
}

// Subscriptions: one answer for each filter, the lower of both qualities, a new one in place of an old one, overlapping ones
// once at the highest quality with all identifiers (MQTT 5 §3.8.4, §3.3.4).
func TestConformanceSubscriptions(t *testing.T) {
	t.Parallel()
	conformSubscriptions(t, openGateway(t, nil))
}

func conformSubscriptions(t *testing.T, g *gateway) {
	eachVersion(t, func(t *testing.T, v mqtt.Version) {
		topic := "subscriptions/" + v.String()
		mouth, ear := g.peer(t, v, "mouth", nil), g.peer(t, v, "ear", nil)
		for granted := range byte(3) {
			ear.subscribe(topic, granted, nil) // replaces the one before
			for published := range byte(3) {
				mouth.publish(topic, "x", published, nil)
				ear.wantHeard("x", min(granted, published))
			}
		}
		ear.wantQuiet() // one copy each

		ear.subscribe(topic+"/+", 0, nil)
		ear.subscribe(topic+"/#", 2, nil)
		ear.subscribe(topic+"/deep", 1, nil)
		mouth.publish(topic+"/deep", "overlapping", 2, nil)
		ear.wantHeard("overlapping", 2)
		ear.wantQuiet()

		// UNSUBSCRIBE compares character by character, answers what was not there too, and lets what is under way arrive.
		mouth.publish(topic+"/deep", "under way", 1, nil)
		m := ear.unacknowledged()
		u := mqtt.Unsubscribe{PacketID: 5, Filters: [][]byte{[]byte(topic + "/#"), []byte(topic + "/x"), []byte(topic + "/+")}}
		ear.write(u.Append(nil, v))
		if v == mqtt.V5 {
			ear.want("b006 0005 00 00 11 00") // [MQTT-3.11.3-1]
		} else {
			ear.want("b002 0005")
		}
		ear.send(fmt.Sprintf("4002%04x", m.PacketID))
		mouth.publish(topic+"/other", "not heard", 1, nil)
		mouth.publish(topic+"/deep", "still heard", 2, nil)
		ear.wantHeard("still heard", 1)

		// Topics match as they are: no normal form, no folding of cases.
		ear.subscribe("+/exact/é", 0, nil)
		mouth.publish("a/exact/e\u0301", "other form", 1, nil)
		mouth.publish("a/EXACT/é", "other case", 1, nil)
		mouth.publish("\ufeffa/exact/é", "exact", 1, nil)
		if m := ear.heard(); string(m.Payload) != "exact" || string(m.Topic) != "\ufeffa/exact/é" {
			t.Fatalf("heard %q on %q", m.Payload, m.Topic)
		}
		long := strings.Repeat("l", 2000)
		ear.subscribe(long, 0, nil)
		mouth.publish(long, "long", 1, nil)
		ear.wantHeard("long", 0)
	})
	mouth, ear := g.peer(t, mqtt.V5, "mouth", nil), g.peer(t, mqtt.V5, "ear", nil)
	for i, filter := range []string{"ids/a", "ids/+", "ids/#"} {
		ear.subscribe(filter, 1, func(s *mqtt.Subscribe) {
			if i < 2 {
				s.Properties.SubscriptionIDs = []uint32{uint32(100 + 200*i)}
			}
		})
	}
	mouth.publish("ids/a", "x", 1, nil)
	m := ear.heard()
	slices.Sort(m.Properties.SubscriptionIDs)
	if !slices.Equal(m.Properties.SubscriptionIDs, []uint32{100, 300}) {
		t.Fatalf("identifiers %v", m.Properties.SubscriptionIDs)
	}
	mouth.publish("ids/b/c", "x", 1, nil)
	if m := ear.heard(); len(m.Properties.SubscriptionIDs) != 0 {
		t.Fatalf("identifiers %v", m.Properties.SubscriptionIDs)
	}
	// No Local is about the client, not about its connection (MQTT 5 §3.8.3.1).
	ear.subscribe("local", 1, func(s *mqtt.Subscribe) { s.Filters[0].NoLocal = true })
	ear.write(ear.publication("local", "own", 1, 8, nil))
	ear.want("40020008")
	mouth.publish("local", "another's", 1, nil)
	ear.wantHeard("another's", 1)
}

// A shared subscription's messages go to one of its members each, in its quality of service; retained ones to none; what a
// member refuses goes to nobody else, and what it began to receive it alone gets (MQTT 5 §4.8.2).
func TestConformanceSharedSubscriptions(t *testing.T) {
	t.Parallel()
	conformSharedSubscriptions(t, openGateway(t, nil))
}

func conformSharedSubscriptions(t *testing.T, g *gateway) {
	eachVersion(t, func(t *testing.T, v mqtt.Version) {
		topic := "shared/" + v.String()
		mouth := g.peer(t, v, "mouth", nil)
		mouth.publish(topic, "retained", 1, retained)
		one, two := g.peer(t, v, "one-"+v.String(), kept), g.peer(t, v, "two-"+v.String(), kept)
		other, plain := g.peer(t, v, "other", nil), g.peer(t, v, "plain", nil)
		one.subscribe("$share/g/"+topic, 2, nil)
		two.subscribe("$share/g/"+topic, 1, nil)
		other.subscribe("$share/h/"+topic, 0, nil)
		plain.subscribe(topic, 0, nil)
		plain.wantHeard("retained", 0)
		for i := range 10 {
			mouth.publish(topic, fmt.Sprint(i), 2, nil)
			other.wantHeard(fmt.Sprint(i), 0)
			plain.wantHeard(fmt.Sprint(i), 0)
		}
		var got []string
		for qos, member := range map[byte]*peer{2: one, 1: two} { // they take turns
			var ids []uint16
			for range 5 {
				m := member.unacknowledged()
				if m.QoS != qos {
					t.Fatalf("[MQTT-4.8.2-3] QoS %d, want %d", m.QoS, qos)
				}
				ids, got = append(ids, m.PacketID), append(got, string(m.Payload))
			}
			for _, id := range ids {
				if qos == 1 {
					member.send(fmt.Sprintf("4002%04x", id))
					continue
				}
				member.send(fmt.Sprintf("5002%04x", id))
				member.want(fmt.Sprintf("6202%04x", id))
				member.send(fmt.Sprintf("7002%04x", id))
			}
		}
		slices.Sort(got)
		if strings.Join(got, "") != "0123456789" {
			t.Fatalf("heard %q", got)
		}
		one.wantQuiet()
		two.wantQuiet()
		// A message that one member has not finished stays its own, whoever else is there.
		two.write((&mqtt.Unsubscribe{PacketID: 4, Filters: [][]byte{[]byte("$share/g/" + topic)}}).Append(nil, v))
		two.packet(mqtt.UNSUBACK)
		mouth.publish(topic, "mine", 2, nil)
		id := one.unacknowledged().PacketID
		two.subscribe("$share/g/"+topic, 1, nil)
		one.conn.Close()
		two.wantQuiet()
		one = g.peer(t, v, "one-"+v.String(), kept)
		if m := one.unacknowledged(); m.PacketID != id || string(m.Payload) != "mine" || !m.Dup { // [MQTT-4.8.2-4]
			t.Fatalf("heard %+v", m)
		}
		if v == mqtt.V5 {
			one.send(fmt.Sprintf("5003%04x83", id)) // [MQTT-4.8.2-6]
			one.wantQuiet()
		} else {
			g.peer(t, v, "one-"+v.String(), nil) // [MQTT-4.8.2-5] its session ends, and the message with it
		}
		two.wantQuiet()
	})
}

// The client's Receive Maximum is kept, messages wait and are not lost, and other packets do not wait (MQTT 5 §4.9).
func TestConformanceFlowControl(t *testing.T) {
	t.Parallel()
	conformFlowControl(t, openGateway(t, nil))
}

func conformFlowControl(t *testing.T, g *gateway) {
	mouth := g.peer(t, mqtt.V5, "mouth", nil)
	ear := g.peer(t, mqtt.V5, "ear", func(c *mqtt.Connect) { c.Properties.SetNumber(mqtt.ReceiveMaximum, 2) })
	ear.subscribe("flow", 2, nil)
	for i := range 6 {
		mouth.publish("flow", fmt.Sprint(i), byte(1+i%2), nil)
	}
	first, second := ear.unacknowledged(), ear.unacknowledged()
	ear.wantQuiet() // a PINGRESP, no third message
	ear.send("820a 0031 00 0004 666c6f78 00")
	ear.want("9004 0031 00 00")
	mouth.publish("flox", "QoS 0 does not wait", 0, nil)
	ear.wantHeard("QoS 0 does not wait", 0)
	ear.send(fmt.Sprintf("5002%04x", second.PacketID)) // PUBREC is no end: the quota is back with PUBCOMP
	ear.want(fmt.Sprintf("6202%04x", second.PacketID))
	ear.wantQuiet()
	ear.send(fmt.Sprintf("7002%04x", second.PacketID))
	third := ear.unacknowledged()
	ear.wantQuiet()
	ear.send(fmt.Sprintf("4002%04x", first.PacketID))
	fourth := ear.unacknowledged()
	ear.wantQuiet()
	if string(third.Payload)+string(fourth.Payload) != "23" {
		t.Fatalf("heard %q, %q", third.Payload, fourth.Payload)
	}
	ear.send(fmt.Sprintf("5003%04x80 4002%04x", fourth.PacketID, third.PacketID)) // a failed PUBREC is an end
	ear.wantHeard("4", 1)
	ear.wantHeard("5", 2)

	// Ours is announced, and who exceeds it is told.
	announced := mouth.connack.Properties.Number(mqtt.ReceiveMaximum)
	if announced == 0 {
		t.Fatal("nothing announced")
	}
	var flood []byte
	for i := range announced + 1 {
		flood = append(flood, mouth.publication("flood", "", 2, uint16(i+1), nil)...)
	}
	mouth.write(flood)
	for range announced {
		mouth.packet(mqtt.PUBREC)
	}
	mouth.wantEnd(mqtt.ReceiveMaximumExceeded)
}

// Properties of a message reach its receivers as they were, without any that its publisher did not set (MQTT 5 §3.3.2.3).
func TestConformanceProperties(t *testing.T) {
	t.Parallel()
	conformProperties(t, openGateway(t, nil))
}

func conformProperties(t *testing.T, g *gateway) {
	mouth, ear, old := g.peer(t, mqtt.V5, "mouth", nil), g.peer(t, mqtt.V5, "ear", nil), g.peer(t, mqtt.V311, "old", nil)
	ear.subscribe("p", 0, nil)
	old.subscribe("p", 0, nil)
	// payload format, content type, response topic, correlation data, four user properties in their order
	properties := "01 01 03 0003 742f70 08 0001 72 09 0002 00ff 26 0001 62 0001 31 26 0001 61 0001 32 26 0001 62 0001 31 26 0000 0000"
	body := "0001 70" + fmt.Sprintf("%02x", len(unhex(t, properties))) + properties + "6869"
	packet := fmt.Sprintf("30%02x", len(unhex(t, body))) + body
	mouth.send(packet)
	ear.want(packet)
	old.want("3005 0001 70 6869")
	mouth.send("3006 0001 70 00 6869")
	ear.want("3006 0001 70 00 6869")

	// Message expiry passes on less the time it waited, and what has expired is not sent.
	expiring := func(seconds uint32) func(*mqtt.Publish) {
		return func(m *mqtt.Publish) { m.Properties.SetNumber(mqtt.MessageExpiryInterval, seconds) }
	}
	mouth.publish("p", "soon", 1, expiring(3600))
	if m := ear.heard(); m.Properties.Number(mqtt.MessageExpiryInterval) > 3600 || m.Properties.Number(mqtt.MessageExpiryInterval) < 3500 {
		t.Fatalf("expiry %d", m.Properties.Number(mqtt.MessageExpiryInterval))
	}
	away := g.peer(t, mqtt.V5, "away", kept)
	away.subscribe("q", 1, nil)
	away.send("e000")
	away.wantEnd(0)
	mouth.publish("q", "expired", 1, expiring(0))
	mouth.publish("q", "lives", 1, nil)
	g.peer(t, mqtt.V5, "away", kept).wantHeard("lives", 1)

	// Aliases stand for the same topic to the end of the connection, ours and the client's.
	mouth.send("300b 0005 73616d6565 03 23 0010")
	aliased := g.peer(t, mqtt.V5, "aliased", func(c *mqtt.Connect) { c.Properties.SetNumber(mqtt.TopicAliasMaximum, 1) })
	aliased.subscribe("same-topic", 0, nil)
	mouth.send("3010 000a 73616d652d746f706963 03 23 0010 3006 0000 03 23 0010 3006 0000 03 23 0010")
	aliased.want("300d 000a 73616d652d746f706963 00", "3010 000a 73616d652d746f706963 03 23 0001", "3006 0000 03 23 0001")
	again := g.peer(t, mqtt.V5, "mouth", nil)
	again.send("3006 0000 03 23 0010") // [MQTT-3.3.2-7]
	again.wantEnd(mqtt.ProtocolViolation)
}

// Keep alive ends silent connections, the server's own where it is lower; a packet above the client's maximum is never sent.
func TestConformanceLimitsOfTheClient(t *testing.T) {
	t.Parallel()
	g := openGateway(t, func(c *Config) { c.MaxKeepAlive = 1 })
	for wanted, told := range map[uint16]bool{0: true, 1: false, 65535: true} {
		p := g.peer(t, mqtt.V5, fmt.Sprint("alive-", wanted), func(c *mqtt.Connect) { c.KeepAlive = wanted })
		if got := p.connack.Properties.Number(mqtt.ServerKeepAlive); (got == 1) != told {
			t.Errorf("keep alive %d: server keep alive %d", wanted, got)
		}
	}
	silent := g.peer(t, mqtt.V5, "silent", nil)
	silent.wantEnd(mqtt.KeepAliveTimeout)

	g = openGateway(t, nil)
	mouth := g.peer(t, mqtt.V5, "mouth", nil)
	small := g.peer(t, mqtt.V5, "small", func(c *mqtt.Connect) { c.Properties.SetNumber(mqtt.MaximumPacketSize, 40) })
	small.subscribe("s", 2, nil)
	for qos := range byte(3) {
		mouth.publish("s", strings.Repeat("x", 41), qos, nil)
	}
	mouth.publish("s", "fits", 1, nil)
	small.wantHeard("fits", 1)
	// Reason strings go only to who wants them and can take them.
	device := rawDialWith(t, g, "d1", "device", func(c *mqtt.Connect) {
		c.Username, c.Properties = []byte("d1"), mqtt.Properties{}
		c.Properties.SetNumber(mqtt.RequestProblemInformation, 0)
	})
	p := peer{raw: device, version: mqtt.V5}
	p.write(p.publication("d/d2/telemetry", "{}", 1, 3, nil))
	p.want("4003 0003 87")
}

// Response information tells a client that asks where its answers may go (MQTT 5 §3.1.2.11.6), redirection whom to ask (§4.11).
func TestConformanceResponseInformationAndRedirection(t *testing.T) {
	t.Parallel()
	g := openGateway(t, nil)
	for asked, want := range map[uint32]string{0: "", 1: "fg/d1/"} {
		p := g.peer(t, mqtt.V5, "asking", func(c *mqtt.Connect) {
			c.Password = []byte(g.tokens["d1"])
			c.Properties.SetNumber(mqtt.RequestResponseInformation, asked)
		})
		if got := p.connack.Properties.Text(mqtt.ResponseInformation); string(got) != want || (got == nil) != (want == "") { // [MQTT-3.1.2-28]
			t.Errorf("asked %d: %q", asked, got)
		}
		if want != "" {
			p.subscribe(want+"mine", 1, nil)
		}
	}
	g = openGateway(t, func(c *Config) { c.Redirect = &Redirect{mqtt.ServerMoved, "b.example:1883"} })
	p := g.peer(t, mqtt.V5, "moving", nil)
	if p.connack.Reason != mqtt.ServerMoved || string(p.connack.Properties.Text(mqtt.ServerReference)) != "b.example:1883" {
		t.Errorf("told %+v", p.connack)
	}
	p.wantEnd(0)
	if p := g.peer(t, mqtt.V311, "moving", nil); p.connack.Reason != mqtt.ServerUnavailable {
		t.Errorf("3.1.1 is told %v", p.connack.Reason)
	}
}

// Half a packet keeps nobody else waiting: the keep alive ends its connection; before CONNECT the deadline for that does.
func TestConformanceHalfAPacket(t *testing.T) {
	t.Parallel()
	g := openGateway(t, func(c *Config) { c.ConnectTimeout = 100 * time.Millisecond })
	half := g.peer(t, mqtt.V5, "half", func(c *mqtt.Connect) { c.KeepAlive = 1 })
	half.send("3064 0001")
	early := g.open(t, mqtt.V5)
	early.send("1064 0004")
	other := g.peer(t, mqtt.V5, "other", nil)
	other.subscribe("x", 1, nil)
	g.peer(t, mqtt.V5, "mouth", nil).publish("x", "passes", 1, nil)
	other.wantHeard("passes", 1)
	early.wantEnd(0)
	half.wantEnd(mqtt.KeepAliveTimeout)
	other.wantQuiet()
}

// The largest packet that was announced passes, a byte more does not.
func TestConformanceMaximumPacketSize(t *testing.T) {
	t.Parallel()
	limits := mqtt.DefaultLimits()
	limits.PacketSize = 1000
	g := openGateway(t, func(c *Config) { c.Limits = limits })
	p := g.peer(t, mqtt.V5, "p", nil)
	if got := p.connack.Properties.Number(mqtt.MaximumPacketSize); got != 1000 {
		t.Fatalf("announced %d", got)
	}
	largest := p.publication("t", string(bytes.Repeat([]byte("x"), 991)), 1, 1, nil)
	if len(largest) != 1000 {
		t.Fatal(len(largest))
	}
	p.write(largest)
	p.want("40020001")
	p.write(p.publication("t", string(bytes.Repeat([]byte("x"), 992)), 1, 2, nil))
	p.wantEnd(mqtt.PacketTooLarge)
}
