package mqttfront

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// The tests of this file and its neighbours speak raw packets with a front on a real socket. Which statement of the standards
// each of them shows stands in conformance_table_test.go.

// openGateway is an on-ramp that lets everybody publish and hear everything, so that only MQTT's own rules are left.
func openGateway(t *testing.T, set func(*Config)) *gateway {
	t.Helper()
	ramp, err := pipeline.NewOnRamp()
	if err != nil {
		t.Fatal(err)
	}
	ramp.Replace(pipeline.OnRampRules{Anonymous: true})
	return newGateway(t, func(c *Config) {
		c.OnRamp = ramp
		if set != nil {
			set(c)
		}
	})
}

// peer is a connection that sends and expects whole packets in hexadecimal.
type peer struct {
	*raw
	early   [][]byte // what came before a SUBACK (MQTT 5 §3.8.4)
	version mqtt.Version
	connack mqtt.Connack
}

func (g *gateway) open(t *testing.T, v mqtt.Version) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &peer{raw: newRaw(t, conn), version: v}
}

// peer connects with a clean start unless set says otherwise.
func (g *gateway) peer(t *testing.T, v mqtt.Version, client string, set func(*mqtt.Connect)) *peer {
	t.Helper()
	p := g.open(t, v)
	connect := mqtt.Connect{Version: v, CleanStart: true, ClientID: []byte(client)}
	if set != nil {
		set(&connect)
	}
	p.write(connect.Append(nil))
	if err := p.connack.Decode(p.packet(mqtt.CONNACK), v); err != nil {
		t.Fatal(err)
	}
	return p
}

// kept is a session that outlives its connection.
func kept(c *mqtt.Connect) {
	c.CleanStart = false
	if c.Version == mqtt.V5 {
		c.Properties.SetNumber(mqtt.SessionExpiryInterval, 600)
	}
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (p *peer) send(hexadecimal string) { p.t.Helper(); p.write(unhex(p.t, hexadecimal)) }

// next reads one whole packet; nil: the connection has ended.
func (p *peer) next() []byte {
	p.t.Helper()
	if len(p.early) > 0 {
		first := p.early[0]
		p.early = p.early[1:]
		return first
	}
	return p.read()
}

func (p *peer) read() []byte {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	var packet []byte
	for {
		b, err := p.r.ReadByte()
		if err == io.EOF && packet == nil {
			return nil
		}
		if err != nil {
			p.t.Fatalf("reading a packet after %x: %v", packet, err)
		}
		packet = append(packet, b)
		h, size, err := mqtt.ReadHeader(packet)
		if err != nil {
			p.t.Fatal(err)
		}
		if size > 0 {
			packet = append(packet, make([]byte, h.Length)...)
			if _, err := io.ReadFull(p.r, packet[size:]); err != nil {
				p.t.Fatal(err)
			}
			return packet
		}
	}
}

// want expects these packets, one argument each.
func (p *peer) want(packets ...string) {
	p.t.Helper()
	for _, packet := range packets {
		if got := p.next(); !bytes.Equal(got, unhex(p.t, packet)) {
			p.t.Fatalf("%v: got %x, want %s", p.version, got, packet)
		}
	}
}

// wantQuiet shows that nothing was sent to the peer since, as far as its own packets are concerned.
func (p *peer) wantQuiet() { p.t.Helper(); p.send("c000"); p.want("d000") }

// wantEnd expects the end of the connection, to a version 5 client with DISCONNECT (CONNACK before it was accepted) and the reason.
func (p *peer) wantEnd(reason mqtt.Reason) {
	p.t.Helper()
	got := p.next()
	if p.version == mqtt.V5 && reason != 0 {
		at := 2
		if len(got) > 3 && got[0] == byte(mqtt.CONNACK)<<4 {
			at = 3
		}
		if len(got) <= at || got[0] != byte(mqtt.DISCONNECT)<<4 && at == 2 || mqtt.Reason(got[at]) != reason {
			p.t.Fatalf("ended with %x, want %v", got, reason)
		}
		got = p.next()
	}
	if got != nil {
		p.t.Fatalf("%v: got %x instead of the end", p.version, got)
	}
}

// publication encodes a PUBLISH of the peer's version.
func (p *peer) publication(topic, payload string, qos byte, id uint16, set func(*mqtt.Publish)) []byte {
	m := mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, PacketID: id}
	if set != nil {
		set(&m)
	}
	return m.Append(nil, p.version)
}

// publish sends a message and completes its handshake.
func (p *peer) publish(topic, payload string, qos byte, set func(*mqtt.Publish)) {
	p.t.Helper()
	p.write(p.publication(topic, payload, qos, 77, set))
	switch qos {
	case 1:
		p.want("4002004d")
	case 2:
		p.want("5002004d")
		p.send("6202004d")
		p.want("7002004d")
	}
}

func retained(m *mqtt.Publish) { m.Retain = true }

// subscribe asks for one filter and expects it granted.
func (p *peer) subscribe(filter string, qos byte, set func(*mqtt.Subscribe)) {
	p.t.Helper()
	s := mqtt.Subscribe{PacketID: 9, Filters: []mqtt.Filter{{Filter: []byte(filter), QoS: qos}}}
	if set != nil {
		set(&s)
	}
	p.write(s.Append(nil, p.version))
	answer := p.read()
	for ; answer != nil && answer[0]>>4 == byte(mqtt.PUBLISH); answer = p.read() {
		p.early = append(p.early, answer)
	}
	var ack mqtt.SubAck
	if err := ack.Decode(mqtt.SUBACK, answer[min(2, len(answer)):], p.version); err != nil || ack.PacketID != 9 || ack.Reasons[0] != mqtt.Reason(qos) {
		p.t.Fatalf("%v: subscribing %s: %+v, %v", p.version, filter, ack, err)
	}
}

// heard reads the next PUBLISH and completes its handshake.
func (p *peer) heard() mqtt.Publish {
	p.t.Helper()
	m := p.unacknowledged()
	switch m.QoS {
	case 1:
		p.write((&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID}).Append(nil, p.version))
	case 2:
		p.write((&mqtt.Ack{Type: mqtt.PUBREC, PacketID: m.PacketID}).Append(nil, p.version))
		p.want(fmt.Sprintf("6202%04x", m.PacketID))
		p.write((&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: m.PacketID}).Append(nil, p.version))
	}
	return m
}

func (p *peer) unacknowledged() (m mqtt.Publish) {
	p.t.Helper()
	packet := p.next()
	h, size, err := mqtt.ReadHeader(packet)
	if err != nil || h.Type != mqtt.PUBLISH {
		p.t.Fatalf("%v: got %x, want a PUBLISH", p.version, packet)
	}
	if err := m.Decode(h.Flags, packet[size:], p.version); err != nil {
		p.t.Fatal(err)
	}
	return m
}

func (p *peer) wantHeard(payload string, qos byte) {
	p.t.Helper()
	if m := p.heard(); string(m.Payload) != payload || m.QoS != qos {
		p.t.Fatalf("%v: heard %q at QoS %d, want %q at %d", p.version, m.Payload, m.QoS, payload, qos)
	}
}

func eachVersion(t *testing.T, run func(t *testing.T, v mqtt.Version)) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) { run(t, v) })
	}
}

// form replaces P, which stands for an empty property list, and gives the packet its length.
func form(v mqtt.Version, first, body string) string {
	properties := ""
	if v == mqtt.V5 {
		properties = "00"
	}
	body = strings.ReplaceAll(strings.ReplaceAll(body, "P", properties), " ", "")
	return fmt.Sprintf("%s%02x%s", first, len(body)/2, body)
}

// What is no MQTT packet ends the connection of its sender and of nobody else.
func TestConformanceMalformed(t *testing.T) {
	t.Parallel()
	conformMalformed(t, openGateway(t, nil))
}

func conformMalformed(t *testing.T, g *gateway) {
	eachVersion(t, func(t *testing.T, v mqtt.Version) {
		bystander := g.peer(t, v, "bystander-"+v.String(), nil)
		for name, test := range map[string]struct {
			first, body string
			reason      mqtt.Reason
			only        mqtt.Version
		}{
			"type 0":                           {"00", "", mqtt.MalformedPacket, 0},
			"PUBREL flags":                     {"60", "0001", mqtt.MalformedPacket, 0},
			"SUBSCRIBE flags":                  {"80", "0001 P 0001 61 00", mqtt.MalformedPacket, 0},
			"UNSUBSCRIBE flags":                {"a0", "0001 P 0001 61", mqtt.MalformedPacket, 0},
			"PINGREQ flags":                    {"c1", "", mqtt.MalformedPacket, 0},
			"DISCONNECT flags":                 {"e1", "", mqtt.MalformedPacket, 0},
			"PUBACK flags":                     {"42", "0001", mqtt.MalformedPacket, 0},
			"AUTH flags":                       {"f1", "", mqtt.MalformedPacket, mqtt.V5},
			"AUTH in 3.1.1":                    {"f0", "", mqtt.MalformedPacket, mqtt.V311},
			"AUTH without method":              {"f0", "18 00", mqtt.ProtocolViolation, mqtt.V5},
			"QoS 3":                            {"36", "0001 61 0001 P", mqtt.MalformedPacket, 0},
			"DUP at QoS 0":                     {"38", "0001 61 P", mqtt.MalformedPacket, 0},
			"identifier 0 in PUBLISH":          {"32", "0001 61 0000 P", mqtt.ProtocolViolation, 0},
			"identifier 0 in SUBSCRIBE":        {"82", "0000 P 0001 61 00", mqtt.ProtocolViolation, 0},
			"identifier 0 in UNSUBSCRIBE":      {"a2", "0000 P 0001 61", mqtt.ProtocolViolation, 0},
			"UTF-8 surrogate in topic":         {"30", "0003 eda080 P", mqtt.MalformedPacket, 0},
			"UTF-8 cut in topic":               {"30", "0001 c3 P", mqtt.MalformedPacket, 0},
			"UTF-8 overlong in filter":         {"82", "0001 P 0002 c0af 00", mqtt.MalformedPacket, 0},
			"UTF-8 in UNSUBSCRIBE":             {"a2", "0001 P 0001 ff", mqtt.MalformedPacket, 0},
			"U+0000 in topic":                  {"30", "0003 610062 P", mqtt.MalformedPacket, 0},
			"U+0000 in filter":                 {"82", "0001 P 0003 610062 00", mqtt.MalformedPacket, 0},
			"UTF-8 in user property name":      {"30", "0001 61 07 26 0001 ff 0001 61", mqtt.MalformedPacket, mqtt.V5},
			"UTF-8 in user property value":     {"30", "0001 61 07 26 0001 61 0001 ff", mqtt.MalformedPacket, mqtt.V5},
			"UTF-8 in content type":            {"30", "0001 61 04 03 0001 ff", mqtt.MalformedPacket, mqtt.V5},
			"UTF-8 in response topic":          {"30", "0001 61 04 08 0001 ff", mqtt.MalformedPacket, mqtt.V5},
			"+ in topic":                       {"30", "0003 612f2b P", mqtt.TopicNameInvalid, 0},
			"# in topic":                       {"30", "0001 23 P", mqtt.TopicNameInvalid, 0},
			"empty topic":                      {"30", "0000 P", mqtt.ProtocolViolation, 0},
			"wildcard in response topic":       {"30", "0001 61 06 08 0003 612f23", mqtt.ProtocolViolation, mqtt.V5},
			"alias 0":                          {"30", "0001 61 03 23 0000", mqtt.TopicAliasInvalid, mqtt.V5},
			"alias above the maximum":          {"30", "0001 61 03 23 0011", mqtt.TopicAliasInvalid, mqtt.V5},
			"alias that stands for nothing":    {"30", "0000 03 23 0001", mqtt.ProtocolViolation, mqtt.V5},
			"subscription identifier":          {"30", "0001 61 02 0b 01", mqtt.ProtocolViolation, mqtt.V5},
			"payload format 2":                 {"30", "0001 61 02 01 02", mqtt.ProtocolViolation, mqtt.V5},
			"property twice":                   {"30", "0001 61 04 01 00 01 00", mqtt.ProtocolViolation, mqtt.V5},
			"property of another packet":       {"30", "0001 61 05 11 00000001", mqtt.MalformedPacket, mqtt.V5},
			"unknown property":                 {"30", "0001 61 02 7e 00", mqtt.MalformedPacket, mqtt.V5},
			"property length missing":          {"30", "0001 61", mqtt.MalformedPacket, mqtt.V5},
			"property length too long":         {"30", "0001 61 8000", mqtt.MalformedPacket, mqtt.V5},
			"SUBSCRIBE without filter":         {"82", "0001 P", mqtt.ProtocolViolation, 0},
			"SUBSCRIBE QoS 3":                  {"82", "0001 P 0001 61 03", mqtt.MalformedPacket, 0},
			"SUBSCRIBE reserved bits":          {"82", "0001 P 0001 61 c0", mqtt.MalformedPacket, 0},
			"SUBSCRIBE retain handling 3":      {"82", "0001 P 0001 61 30", mqtt.MalformedPacket, mqtt.V5},
			"SUBSCRIBE identifier 0":           {"82", "0001 02 0b00 0001 61 00", mqtt.ProtocolViolation, mqtt.V5},
			"no local on $share":               {"82", "0001 P 000a 2473686172652f672f61 04", mqtt.ProtocolViolation, mqtt.V5},
			"UNSUBSCRIBE without filter":       {"a2", "0001 P", mqtt.ProtocolViolation, 0},
			"PUBACK reason of another packet":  {"40", "0001 8e", mqtt.MalformedPacket, mqtt.V5},
			"PUBREC reason of another packet":  {"50", "0001 8e", mqtt.MalformedPacket, mqtt.V5},
			"PUBREL reason of another packet":  {"62", "0001 80", mqtt.MalformedPacket, mqtt.V5},
			"PUBCOMP reason of another packet": {"70", "0001 80", mqtt.MalformedPacket, mqtt.V5},
			"DISCONNECT reason unknown":        {"e0", "01", mqtt.MalformedPacket, mqtt.V5},
			"DISCONNECT raises the expiry":     {"e0", "00 05 11 00000005", mqtt.ProtocolViolation, mqtt.V5},
			"CONNACK from a client":            {"20", "0000 P", mqtt.ProtocolViolation, 0},
			"SUBACK from a client":             {"90", "0001 P 00", mqtt.ProtocolViolation, 0},
			"PINGRESP from a client":           {"d0", "", mqtt.ProtocolViolation, 0},
			"PINGREQ with a body":              {"c0", "00", mqtt.MalformedPacket, 0},
			"second CONNECT":                   {"10", "0004 4d515454 04 02 0000 0001 61", mqtt.ProtocolViolation, 0},
		} {
			if test.only != 0 && test.only != v {
				continue
			}
			t.Run(name, func(t *testing.T) {
				p := g.peer(t, v, "malformed", nil)
				p.send(form(v, test.first, test.body))
				p.wantEnd(test.reason)
			})
		}
		for name, packet := range map[string]string{"remaining length of 5 bytes": "30ffffffff01", "remaining length longer than necessary": "c08000"} {
			t.Run(name, func(t *testing.T) {
				p := g.peer(t, v, "malformed", nil)
				p.send(packet)
				p.wantEnd(mqtt.MalformedPacket)
			})
		}
		t.Run("remaining length of 256 MiB", func(t *testing.T) {
			p := g.peer(t, v, "malformed", nil)
			p.send("30ffffff7f")
			p.wantEnd(mqtt.PacketTooLarge)
		})
		bystander.wantQuiet()
	})
}

// A filter that is none costs its place in the SUBACK, not the connection (MQTT 5 §3.9.3).
func TestConformanceFilters(t *testing.T) {
	t.Parallel()
	conformFilters(t, openGateway(t, nil))
}

func conformFilters(t *testing.T, g *gateway) {
	p := g.peer(t, mqtt.V5, "filters", nil)
	s := mqtt.Subscribe{PacketID: 3}
	for _, filter := range []string{"a/b#", "a/#/b", "a+/b", "a", "+/b", "#", "$share//a", "$share/g", "$share/g+/a", "$share/g/", "$share/g/a", ""} {
		s.Filters = append(s.Filters, mqtt.Filter{Filter: []byte(filter), QoS: 1})
	}
	p.write(s.Append(nil, mqtt.V5))
	p.want("900f 0003 00 8f 8f 8f 01 01 01 8f 8f 8f 8f 01 8f") // [MQTT-3.9.3-1]
	p = g.peer(t, mqtt.V311, "filters", nil)
	p.write(s.Append(nil, mqtt.V311))
	p.want("900e 0003 80 80 80 01 01 01 80 80 80 80 01 80")
}

// A CONNECT that is none is answered in its own version, or not at all, and the connection ends.
func TestConformanceConnectMalformed(t *testing.T) {
	t.Parallel()
	conformConnectMalformed(t, openGateway(t, nil))
}

func conformConnectMalformed(t *testing.T, g *gateway) {
	for name, test := range map[string]struct {
		version   mqtt.Version
		body, out string
	}{
		"another protocol":                  {mqtt.V311, "0004 48545450 04 02 0000 0001 61", ""},
		"protocol of 3.1":                   {mqtt.V311, "0006 4d5149736470 03 02 0000 0001 61", ""},
		"level 3":                           {mqtt.V311, "0004 4d515454 03 02 0000 0001 61", "20020001"},
		"level 6":                           {mqtt.V5, "0004 4d515454 06 02 0000 00 0001 61", "2003008400"},
		"reserved flag, 3.1.1":              {mqtt.V311, "0004 4d515454 04 03 0000 0001 61", ""},
		"reserved flag":                     {mqtt.V5, "0004 4d515454 05 03 0000 00 0001 61", "2003008100"},
		"will QoS without will":             {mqtt.V5, "0004 4d515454 05 0a 0000 00 0001 61", "2003008100"},
		"will retain without will":          {mqtt.V5, "0004 4d515454 05 22 0000 00 0001 61", "2003008100"},
		"will QoS 3":                        {mqtt.V5, "0004 4d515454 05 1e 0000 00 0001 61 00 0001 62 0000", "2003008100"},
		"will flag without will":            {mqtt.V5, "0004 4d515454 05 06 0000 00 0001 61", "2003008100"},
		"will without will flag":            {mqtt.V5, "0004 4d515454 05 02 0000 00 0001 61 00 0001 62 0000", "2003008100"},
		"user name flag without user name":  {mqtt.V5, "0004 4d515454 05 82 0000 00 0001 61", "2003008100"},
		"user name without flag":            {mqtt.V5, "0004 4d515454 05 02 0000 00 0001 61 0001 75", "2003008100"},
		"password flag without password":    {mqtt.V5, "0004 4d515454 05 42 0000 00 0001 61", "2003008100"},
		"password without flag":             {mqtt.V5, "0004 4d515454 05 82 0000 00 0001 61 0001 75 0001 70", "2003008100"},
		"password without user name, 3.1.1": {mqtt.V311, "0004 4d515454 04 42 0000 0001 61 0001 70", ""},
		"no client identifier":              {mqtt.V5, "0004 4d515454 05 02 0000 00", "2003008100"},
		"UTF-8 in client identifier":        {mqtt.V5, "0004 4d515454 05 02 0000 00 0001 ff", "2003008100"},
		"UTF-8 in user name":                {mqtt.V5, "0004 4d515454 05 82 0000 00 0001 61 0001 ff", "2003008100"},
		"UTF-8 in will topic":               {mqtt.V5, "0004 4d515454 05 06 0000 00 0001 61 00 0001 ff 0000", "2003008100"},
		"U+0000 in client identifier":       {mqtt.V311, "0004 4d515454 04 02 0000 0003 610061", ""},
		"wildcard in will topic":            {mqtt.V5, "0004 4d515454 05 06 0000 00 0001 61 00 0001 23 0000", "2003009000"},
		"empty client id, clean session 0":  {mqtt.V311, "0004 4d515454 04 00 0000 0000", "20020002"},
		"receive maximum 0":                 {mqtt.V5, "0004 4d515454 05 02 0000 03 21 0000 0001 61", "2003008200"},
		"maximum packet size 0":             {mqtt.V5, "0004 4d515454 05 02 0000 05 27 00000000 0001 61", "2003008200"},
		"authentication data alone":         {mqtt.V5, "0004 4d515454 05 02 0000 04 16 0001 61 0001 61", "2003008200"},
		"unknown authentication method":     {mqtt.V5, "0004 4d515454 05 02 0000 04 15 0001 61 0001 61", "2003008c00"},
	} {
		t.Run(name, func(t *testing.T) {
			p := g.open(t, test.version)
			p.send(form(test.version, "10", test.body) + "c000") // [MQTT-3.1.4-6] the PINGREQ behind it is not answered
			if test.out != "" {
				p.want(test.out)
			}
			p.wantEnd(0)
		})
	}
	eachVersion(t, func(t *testing.T, v mqtt.Version) {
		for _, first := range []string{"c000", "3003000161", "e000", "300300", "f000"} { // before CONNECT
			p := g.open(t, v)
			p.send(first)
			p.wantEnd(0)
		}
	})
}

// Client identifiers: 1 to 23 letters and digits, others, none, and ours that is longer than any client's (MQTT 5 §3.1.3.1).
func TestConformanceClientIdentifiers(t *testing.T) {
	t.Parallel()
	conformClientIdentifiers(t, openGateway(t, nil))
}

func conformClientIdentifiers(t *testing.T, g *gateway) {
	eachVersion(t, func(t *testing.T, v mqtt.Version) {
		for _, id := range []string{"0", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ", "ä/#+ €", "\ufeffbom"} {
			if p := g.peer(t, v, id, nil); p.connack.Reason != mqtt.Success {
				t.Errorf("%q: %v", id, p.connack.Reason)
			}
		}
		long := g.open(t, v)
		connect := mqtt.Connect{Version: v, CleanStart: true, ClientID: bytes.Repeat([]byte("x"), maxClientID+1)}
		long.write(connect.Append(nil))
		if v == mqtt.V5 {
			long.want("2003008500")
		} else {
			long.want("20020002")
		}
		long.wantEnd(0)
	})
	first, second := g.peer(t, mqtt.V5, "", nil), g.peer(t, mqtt.V5, "", nil)
	a, b := first.connack.Properties.Text(mqtt.AssignedClientIdentifier), second.connack.Properties.Text(mqtt.AssignedClientIdentifier)
	if len(a) == 0 || len(b) == 0 || bytes.Equal(a, b) {
		t.Fatalf("assigned %q and %q", a, b)
	}
	first.wantQuiet() // nobody took it over
	again := g.peer(t, mqtt.V5, string(a), nil)
	first.wantEnd(mqtt.SessionTakenOver)
	again.wantQuiet()
	g.peer(t, mqtt.V311, "", nil).wantQuiet()
}

// Sessions are resumed and begun as clean start says (MQTT 5 §3.1.2.4), and one of 3.1.1 with clean session ends with its connection.
func TestConformanceSessions(t *testing.T) {
	t.Parallel()
	conformSessions(t, openGateway(t, nil))
}

func conformSessions(t *testing.T, g *gateway) {
	eachVersion(t, func(t *testing.T, v mqtt.Version) {
		name, topic := "session-"+v.String(), "sessions/"+v.String()
		publisher := g.peer(t, v, "publisher-"+v.String(), nil)
		p := g.peer(t, v, name, kept)
		if p.connack.SessionPresent {
			t.Fatal("present before it began") // [MQTT-3.2.2-3]
		}
		p.subscribe(topic, 2, nil)
		p.send("e000")
		p.wantEnd(0)
		publisher.publish(topic, "kept 1", 1, nil)
		publisher.publish(topic, "lost or kept", 0, nil)
		publisher.publish(topic, "kept 2", 2, nil)
		p = g.peer(t, v, name, kept)
		if !p.connack.SessionPresent {
			t.Fatal("not present")
		}
		p.wantHeard("kept 1", 1)
		if m := p.heard(); m.QoS == 2 {
			if string(m.Payload) != "kept 2" {
				t.Fatalf("heard %q", m.Payload)
			}
		} else {
			p.wantHeard("kept 2", 2)
		}
		// A clean one replaces it and leaves nothing behind.
		clean := g.peer(t, v, name, nil)
		p.wantEnd(map[mqtt.Version]mqtt.Reason{mqtt.V5: mqtt.SessionTakenOver}[v]) // [MQTT-3.1.4-3]
		if clean.connack.SessionPresent {
			t.Fatal("[MQTT-3.2.2-2] present after a clean start")
		}
		publisher.publish(topic, "to nobody", 1, nil)
		clean.subscribe(topic+"/own", 0, nil)
		publisher.publish(topic+"/own", "own", 1, nil)
		clean.wantHeard("own", 0)
		clean.send("e000")
		clean.wantEnd(0)
		if p := g.peer(t, v, name, kept); p.connack.SessionPresent {
			t.Fatal("[MQTT-3.1.2-6] a session that was to end with its connection was resumed")
		}
		// Retained messages are nobody's session's.
		publisher.publish(topic+"/retained", "stays", 1, retained)
		publisher.send("e000")
		publisher.wantEnd(0)
		p = g.peer(t, v, name, nil)
		p.subscribe(topic+"/retained", 1, nil)
		p.wantHeard("stays", 1)
	})
}

// A will is published when its connection ends without DISCONNECT 0x00, with the QoS, RETAIN and properties that CONNECT said.
func TestConformanceWills(t *testing.T) {
	t.Parallel()
	conformWills(t, openGateway(t, nil))
}

func conformWills(t *testing.T, g *gateway) {
	eachVersion(t, func(t *testing.T, v mqtt.Version) {
		topic := "wills/" + v.String()
		ear := g.peer(t, v, "ear-"+v.String(), nil)
		ear.subscribe(topic+"/#", 2, nil)
		for qos := range byte(3) {
			for _, retain := range []bool{false, true} {
				at := fmt.Sprintf("%s/%d/%v", topic, qos, retain)
				will := func(c *mqtt.Connect) {
					c.HasWill, c.WillQoS, c.WillRetain, c.WillTopic, c.WillPayload = true, qos, retain, []byte(at), []byte("gone")
					c.WillProperties.AddUser("b", "1")
					c.WillProperties.AddUser("a", "2")
				}
				p := g.peer(t, v, "dying", will)
				p.send("e000") // polite: no will
				p.wantEnd(0)
				p = g.peer(t, v, "dying", will)
				p.send("00") // not polite
				p.wantEnd(mqtt.MalformedPacket)
				m := ear.heard()
				if string(m.Topic) != at || string(m.Payload) != "gone" || m.QoS != qos || m.Retain {
					t.Fatalf("heard %q %q at QoS %d, retain %v", m.Topic, m.Payload, m.QoS, m.Retain)
				}
				if v == mqtt.V5 && (len(m.Properties.User) != 2 || string(m.Properties.User[0].Key) != "b") { // [MQTT-3.1.3-10]
					t.Fatalf("user properties %v", m.Properties.User)
				}
				late := g.peer(t, v, "late", nil)
				late.subscribe(at, 2, nil)
				if retain {
					if m := late.heard(); !m.Retain || string(m.Payload) != "gone" {
						t.Fatalf("retained will: %+v", m)
					}
				}
				late.wantQuiet()
			}
		}
		// It was published once; without will nothing is.
		p := g.peer(t, v, "dying", nil)
		p.conn.Close()
		g.peer(t, v, "speaker", nil).publish(topic+"/sentinel", "end", 1, nil)
		ear.wantHeard("end", 1)
	})
	ear := g.peer(t, mqtt.V5, "ear", nil)
	ear.subscribe("will", 1, nil)
	p := g.peer(t, mqtt.V5, "dying", func(c *mqtt.Connect) {
		c.HasWill, c.WillTopic, c.WillPayload = true, []byte("will"), []byte("wanted")
		c.WillProperties.SetNumber(mqtt.WillDelayInterval, 3600) // the session ends with the connection: at once
	})
	p.send("e00104")
	p.wantEnd(0)
	ear.wantHeard("wanted", 0)
}
