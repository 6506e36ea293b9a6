package test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"fieldgate/protocol/mqtt"
)

// Bytes that break MQTT cost their sender alone, who is told why in the standard's words as far as its version has any. A neighbour works on.
func TestBadMQTT(t *testing.T) {
	t.Parallel() // it mostly waits
	n := newNode(t, nil)
	n.extend("mqtt: {connect-timeout: 10s}") // that of the neighbour, too, while the node is busy with what is bad
	n.start()
	n.run("api", "publish", "testdata/any.openapi.yaml", writeDocument(t, "clients.yaml", clientsContract))
	token := n.run("device", "add", "bad", "--quiet")
	good := n.neighbour()
	everyIdentifier := func(version mqtt.Version) (packets []byte) {
		for id := 1; id <= 65535; id++ {
			packets = (&mqtt.Publish{Topic: []byte("c/bad/up"), QoS: 2, PacketID: uint16(id), Payload: []byte("x")}).Append(packets, version)
		}
		return packets
	}
	const (
		goesOn = "PINGRESP"
		ends   = "end"
		topic  = "0008 632f6261642f7570" // c/bad/up
	)
	t.Run("inputs", func(t *testing.T) {
		for _, c := range []struct {
			name      string
			clause    string                    // of version 5
			send      string                    // packets, their first byte apart; P is an empty property list
			many      func(mqtt.Version) []byte // sent after it
			keepAlive uint16                    // seconds
			first     bool                      // there is no CONNECT before it
			five      string                    // the answers to a client of version 5; those that repeat each other are one
			three     string                    // of version 3.1.1, which has no reasons; empty: it has no such packet
		}{
			{name: "a topic that is no UTF-8", clause: "MQTT-1.5.4-1", send: "30|0002 c328 P", five: "DISCONNECT 0x81, end", three: ends},
			{name: "U+0000 in a topic", clause: "MQTT-1.5.4-2", send: "30|0003 610062 P", five: "DISCONNECT 0x81, end", three: ends},
			{name: "reserved bits of SUBSCRIBE", clause: "MQTT-3.8.1-1", send: "80|0001 P 0001 61 00", five: "DISCONNECT 0x81, end", three: ends},
			{name: "reserved bits of a filter", clause: "MQTT-3.8.3-5", send: "82|0001 P 0001 61 c0", five: "DISCONNECT 0x81, end", three: ends},
			{name: "identifier 0", clause: "MQTT-2.2.1-3", send: "32|" + topic + " 0000 P", five: "DISCONNECT 0x82, end", three: ends},
			{name: "an identifier that is in use", clause: "§2.2.1", send: "34|" + topic + " 0007 P 31; 32|" + topic + " 0007 P 32", five: "PUBREC 0x00, PUBACK 0x91, " + goesOn, three: "PUBREC 0x00, end"},
			{name: "the same message twice", clause: "MQTT-4.3.3-10", send: "34|" + topic + " 0007 P 31; 3c|" + topic + " 0007 P 31", five: "PUBREC 0x00, " + goesOn, three: "PUBREC 0x00, " + goesOn},
			{name: "65,535 identifiers in flight", clause: "MQTT-3.3.4-9", many: everyIdentifier, five: "PUBREC 0x00, DISCONNECT 0x93, end", three: "PUBREC 0x00, end"},
			{name: "a packet of 256 MiB", clause: "MQTT-3.1.2-24", send: "30ffffff7f", five: "DISCONNECT 0x95, end", three: ends},
			{name: "a length of five bytes", clause: "§1.5.5", send: "30ffffffff01", five: "DISCONNECT 0x81, end", three: ends},
			{name: "half a packet for ever", clause: "MQTT-3.1.2-22", send: "307f0008", keepAlive: 1, five: "DISCONNECT 0x8D, end", three: ends},
			{name: "half a CONNECT for ever", clause: "§3.1.4", send: "107f0004", first: true, five: ends, three: ends},
			{name: "a CONNECT of 256 MiB", clause: "§3.1.4", send: "10ffffff7f", first: true, five: ends, three: ends},
			{name: "PUBLISH before CONNECT", clause: "MQTT-3.1.0-1", send: "30|" + topic + " P", first: true, five: ends, three: ends},
			{name: "a second CONNECT", clause: "MQTT-3.1.0-2", send: "10|0004 4d515454 04 02 0000 0001 61", five: "DISCONNECT 0x82, end", three: ends},
			{name: "a wildcard in a topic", clause: "MQTT-3.3.2-2", send: "30|0007 632f6261642f2b P", five: "DISCONNECT 0x90, end", three: ends},
			{name: "the filter a/b#", clause: "MQTT-4.7.1-1", send: "82|0001 P 0004 612f6223 00", five: "SUBACK 0x8F, " + goesOn, three: "SUBACK 0x80, " + goesOn},
			{name: "alias 0", clause: "MQTT-3.3.2-8", send: "30|" + topic + " 03 23 0000", five: "DISCONNECT 0x94, end"},
			{name: "an alias above the maximum", clause: "MQTT-3.3.2-9", send: "30|" + topic + " 03 23 0011", five: "DISCONNECT 0x94, end"},
			{name: "wildcards in a response topic", clause: "MQTT-3.3.2-14", send: "30|" + topic + " 06 08 0003 612f23", five: "DISCONNECT 0x82, end"},
		} {
			for version, want := range map[mqtt.Version]string{mqtt.V5: c.five, mqtt.V311: c.three} {
				if want == "" {
					continue
				}
				t.Run(fmt.Sprint(c.name, " ", version), func(t *testing.T) {
					t.Parallel()
					var packets []byte
					if !c.first {
						packets = (&mqtt.Connect{Version: version, CleanStart: true, KeepAlive: c.keepAlive, ClientID: []byte(t.Name()), Username: []byte("bad"), Password: []byte(token)}).Append(nil)
						want = "CONNACK 0x00, " + want
					}
					packets = append(packets, packetsOf(t, c.send, version)...)
					if c.many != nil {
						packets = append(packets, c.many(version)...)
					}
					if strings.HasSuffix(want, goesOn) {
						packets = append(packets, byte(mqtt.PINGREQ)<<4, 0)
					}
					if got := answersTo(t, n.mqtt, packets); got != want {
						t.Errorf("[%s] answered with %s, want %s", c.clause, got, want)
					}
				})
			}
		}
	})
	good.stop()
	wait(t, "records of what was malformed", func() bool {
		return slices.ContainsFunc(n.records("&filter=finding:malformed"), func(r record) bool { return r.Protocol == "mqtt" })
	})
}

// packetsOf makes packets of their first bytes and bodies, or leaves what has no bar as it is.
func packetsOf(t *testing.T, text string, version mqtt.Version) (packets []byte) {
	properties := map[mqtt.Version]string{mqtt.V5: "00"}[version]
	for packet := range strings.SplitSeq(text, ";") {
		first, body, apart := strings.Cut(strings.ReplaceAll(strings.ReplaceAll(packet, "P", properties), " ", ""), "|")
		if apart {
			first += fmt.Sprintf("%02x", len(body)/2)
		}
		decoded, err := hex.DecodeString(first + body)
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, decoded...)
	}
	return packets
}

// answersTo sends bytes and tells what comes back until the connection ends or a PINGRESP comes, each with its reason.
func answersTo(t *testing.T, address string, packets []byte) string {
	link, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	link.SetDeadline(time.Now().Add(patience))
	go link.Write(packets) // which the node may cut off
	var answers []string
	for in := bufio.NewReader(link); len(answers) == 0 || answers[len(answers)-1] != "PINGRESP"; {
		var head [2]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			if timeout, is := err.(net.Error); is && timeout.Timeout() {
				t.Fatalf("nothing follows %q", answers)
			}
			return strings.Join(append(answers, "end"), ", ")
		}
		body := make([]byte, head[1]) // answers are shorter than 128 bytes
		if _, err := io.ReadFull(in, body); err != nil {
			t.Fatal(err)
		}
		kind, reason := mqtt.PacketType(head[0]>>4), byte(0)
		switch kind {
		case mqtt.DISCONNECT:
			reason = body[0]
		case mqtt.CONNACK:
			reason = body[1]
		case mqtt.SUBACK:
			reason = body[len(body)-1]
		case mqtt.PUBACK, mqtt.PUBREC:
			if len(body) > 2 {
				reason = body[2]
			}
		}
		answer := kind.String()
		if kind != mqtt.PINGRESP {
			answer = fmt.Sprintf("%s 0x%02X", answer, reason)
		}
		if len(answers) == 0 || answers[len(answers)-1] != answer {
			answers = append(answers, answer)
		}
	}
	return strings.Join(answers, ", ")
}
