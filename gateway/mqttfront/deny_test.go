package mqttfront

import (
	"fmt"
	"io"
	"testing"

	"fieldgate"
	"fieldgate/protocol/mqtt"
)

// A will that its client may not publish is refused with its CONNECT (MQTT 5 table 3-1; MQTT 3.1.1 table 3.1 has one word for all).
func TestWillsThatAreRefused(t *testing.T) {
	g := newGateway(t, nil)
	for _, c := range []struct {
		name, topic, payload string
		qos                  byte
		retain               bool
		want                 mqtt.Reason
	}{
		{"QoS", "d/d1/low", "x", 1, false, mqtt.QoSNotSupported},
		{"retain", "d/d1/telemetry", `{"temp":1}`, 0, true, mqtt.RetainNotSupported},
		{"another's topic", "d/d2/status", "x", 0, false, mqtt.NotAuthorized},
		{"payload", "d/d1/telemetry", `{"temp":900}`, 0, false, mqtt.PayloadFormatInvalid},
		{"unknown topic", "nobody/knows", "x", 0, false, mqtt.TopicNameInvalid},
		{"$-topic", "$SYS/broker", "x", 0, false, mqtt.TopicNameInvalid},
		{"answers", "fg/d1/x", "x", 0, false, mqtt.TopicNameInvalid},
		{"passes", "d/d1/status", "gone", 1, true, mqtt.Success},
	} {
		for _, v := range versions {
			connack := func(connect *mqtt.Connect) {
				connect.Version, connect.HasWill, connect.WillQoS, connect.WillRetain = v, true, c.qos, c.retain
				connect.WillTopic, connect.WillPayload = []byte(c.topic), []byte(c.payload)
				if v == mqtt.V311 {
					connect.Username = []byte("d1")
				}
			}
			want := byte(c.want)
			if v == mqtt.V311 && want != 0 {
				want = 5 // not authorized
			}
			conn, body := rawConnack(t, g, "d1", "will", connack)
			if body[1] != want {
				t.Errorf("%s, %v: CONNACK %x, want %#x", c.name, v, body, want)
			}
			conn.conn.Close()
		}
	}
	if denied := g.Counters.Denied.ByReason(); denied["qos-not-allowed"] != 2 || denied["retain-not-allowed"] != 2 || denied["not-owner"] != 2 {
		t.Errorf("counted %v", denied)
	}
}

// A will that was accepted is asked about again when it fires.
func TestWillsThatHaveBecomeForbidden(t *testing.T) {
	g := newGateway(t, nil)
	ear := g.connect("dash", mqtt.ClientOptions{})
	ear.hear("d/+/status", 1)
	ear.hear("d/+/raw", 1)
	device, _ := rawConnack(t, g, "d1", "will", func(connect *mqtt.Connect) {
		connect.HasWill, connect.WillTopic, connect.WillPayload = true, []byte("d/d1/status"), []byte("gone")
	})
	changed := contracts()
	for i := range changed[0].Operations {
		if o := &changed[0].Operations[i]; o.ID == "status" {
			o.Access.Kinds = []fieldgate.PrincipalKind{fieldgate.PrincipalApp}
		}
	}
	g.installOnly(changed...)
	device.conn.Close()
	for g.Counters.Denied.ByReason()["forbidden"] == 0 {
		g.connect("d2", mqtt.ClientOptions{}).send(publish("d/d2/raw", "a round trip", 1))
		ear.next()
	}
	waitFor(t, "a record of the will", func() bool {
		return g.records.count(func(r *fieldgate.Record) bool { return r.Operation == "status" && r.Problem == "forbidden" }) == 1
	})
	if len(ear.received) != 0 {
		t.Errorf("heard %+v", <-ear.received)
	}
}

// SUBACK says of each filter whether it may be heard, shared ones and those of the gateway's own topics alike; what is refused is not
// sent, retained or not.
func TestFiltersThatAreRefused(t *testing.T) {
	g := newGateway(t, nil)
	statistics := fieldgate.Operation{ID: "statistics", Access: fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalApp}, Scopes: []string{"statistics"}},
		MQTT: &fieldgate.MQTTBinding{Topic: "$SYS/broker/{group}/{name}", Action: fieldgate.ActionSubscribe, QoS: 1}}
	g.install(&fieldgate.Contract{API: "statistics", Version: "1", Kind: fieldgate.KindAsyncAPI, State: fieldgate.LifecycleActive, Operations: []fieldgate.Operation{statistics}})
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalApp, ID: "other", Scopes: []string{"statistics"},
		Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(g.tokens["other"]))}})
	kept := publish("d/d1/status", "on", 1)
	kept.Retain = true
	g.connect("d1", mqtt.ClientOptions{}).send(kept)
	for _, c := range []struct {
		principal, filter string
		want              byte
	}{
		{"d2", "d/d1/status", 0x87},
		{"d2", "d/+/status", 0x87},
		{"d2", "$share/g/d/d1/status", 0x87},
		{"d2", "#", 0x87},
		{"d2", "$SYS/#", 0x87},
		{"dash", "$SYS/#", 0x87},
		{"dash", "$share/g/$SYS/#", 0x87},
		{"dash", "$SYS/broker/clients/connected", 0x87},
		{"other", "$SYS/#", 0x87},
		{"other", "$SYS/broker/clients/connected", 0x01},
		{"other", "$SYS/broker/+/+", 0x01},
		{"dash", "$share/g/d/+/status", 0x01}, // shared ones get nothing retained (MQTT 5 §4.8.2)
		{"dash", "d/+/status", 0x01},
	} {
		conn := rawDial(t, g, c.principal, "ear")
		conn.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte(c.filter), QoS: 2}}}).Append(nil, mqtt.V5))
		want := c.want
		if want == 1 && c.principal == "dash" {
			want = 2
		}
		conn.expect(mqtt.SUBACK, fmt.Sprintf("0001 00 %02x", want))
		if c.filter == "d/+/status" && c.want == 1 {
			conn.packet(mqtt.PUBLISH)
		}
		conn.write([]byte{0xC0, 0})
		conn.packet(mqtt.PINGRESP) // and nothing before it
		conn.conn.Close()
	}
}

// Publishing to topics that start with "$" is refused to everybody.
func TestOwnTopicsAreNotForPublishers(t *testing.T) {
	g := newGateway(t, nil)
	for i, topic := range []string{"$SYS/broker/uptime", "$share/g/d/d1/raw", "$x"} {
		conn := rawDial(t, g, "d1", fmt.Sprint("p", i))
		p := publish(topic, "x", 1)
		p.PacketID = 7
		conn.write(p.Append(nil, mqtt.V5))
		conn.expect(mqtt.PUBACK, "0007 90")
	}
}

// What becomes of a refused message of a 3.1.1 client is the listener's choice; of one of version 5 it is told.
func TestDeniedTo311(t *testing.T) {
	for _, disconnect := range []bool{false, true} {
		g := newGateway(t, func(c *Config) { c.DisconnectDenied = disconnect })
		for qos := range byte(3) {
			p := publish("d/d2/raw", "x", qos)
			p.PacketID = 9
			old, _ := rawConnack(t, g, "d1", "old", func(c *mqtt.Connect) { c.Version, c.Username = mqtt.V311, []byte("d1") })
			old.write(append(p.Append(nil, mqtt.V311), 0xC0, 0))
			if disconnect {
				if b, err := old.r.ReadByte(); err != io.EOF {
					t.Errorf("QoS %d: got %x %v, want the end of the connection", qos, b, err)
				}
			} else {
				if qos == 1 {
					old.expect(mqtt.PUBACK, "0009")
				} else if qos == 2 {
					old.expect(mqtt.PUBREC, "0009")
				}
				old.packet(mqtt.PINGRESP)
			}
			if qos > 0 {
				if got := g.connect("d1", mqtt.ClientOptions{ClientID: "new"}).send(publish("d/d2/raw", "x", qos)); got != mqtt.NotAuthorized {
					t.Errorf("QoS %d, version 5: %v", qos, got)
				}
			}
		}
		if denied := g.Counters.Denied.ByReason(); denied["not-owner"] != 5 {
			t.Errorf("counted %v", denied)
		}
	}
}

// An alias stands for its topic, whatever was granted: when it is set anew, the new topic counts.
func TestAliasesAndGrants(t *testing.T) {
	g := newGateway(t, nil)
	conn := rawDial(t, g, "d1", "alias")
	for i, c := range []struct{ topic, want string }{
		{"d/d1/raw", ""}, {"", ""}, {"d/d1/limited", ""}, {"", ""}, {"", "97"}, {"d/d2/raw", "87"}, {"", "87"}, {"d/d1/raw", ""}, {"", ""},
	} {
		p := publish(c.topic, "x", 1)
		p.PacketID = uint16(i + 1)
		p.Properties.SetNumber(mqtt.TopicAlias, 1)
		conn.write(p.Append(nil, mqtt.V5))
		conn.expect(mqtt.PUBACK, fmt.Sprintf("%04x %s", i+1, c.want))
	}
}
