package mqtt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// decodePacket decodes one whole packet of any type and encodes it again.
func decodePacket(b []byte, v Version) (packet any, encoded []byte, err error) {
	h, size, err := ReadHeader(b)
	if err != nil {
		return nil, nil, err
	}
	if size == 0 || len(b) != size+h.Length {
		return nil, nil, ErrShort
	}
	body := b[size:]
	switch h.Type {
	case CONNECT:
		p := new(Connect)
		if err = p.Decode(body); err == nil {
			encoded = p.Append(nil)
		}
		return p, encoded, err
	case CONNACK:
		p := new(Connack)
		if err = p.Decode(body, v); err == nil {
			encoded = p.Append(nil, v)
		}
		return p, encoded, err
	case PUBLISH:
		p := new(Publish)
		if err = p.Decode(h.Flags, body, v); err == nil {
			encoded = p.Append(nil, v)
		}
		return p, encoded, err
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p := new(Ack)
		if err = p.Decode(h.Type, body, v); err == nil {
			encoded = p.Append(nil, v)
		}
		return p, encoded, err
	case SUBSCRIBE:
		p := new(Subscribe)
		if err = p.Decode(body, v, 64); err == nil {
			encoded = p.Append(nil, v)
		}
		return p, encoded, err
	case UNSUBSCRIBE:
		p := new(Unsubscribe)
		if err = p.Decode(body, v, 64); err == nil {
			encoded = p.Append(nil, v)
		}
		return p, encoded, err
	case SUBACK, UNSUBACK:
		p := new(SubAck)
		if err = p.Decode(h.Type, body, v); err == nil {
			encoded = p.Append(nil, v)
		}
		return p, encoded, err
	case DISCONNECT, AUTH:
		p := new(Disconnect)
		if err = p.Decode(h.Type, body, v); err == nil {
			encoded = p.Append(nil, v)
		}
		return p, encoded, err
	}
	return nil, b, nil
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The packets are written by hand from the standard's tables, so that decoder and encoder cannot agree on a mistake.
var goodPackets = []struct {
	name string
	v    Version
	hex  string
}{
	{"CONNECT 3.1.1", V311, "10 0d 0004 4d515454 04 02 003c 0001 61"},
	{"CONNECT 3.1.1 will, user name, password", V311, "10 1b 0004 4d515454 04 ee 003c 0001 61 0001 77 0002 6869 0001 75 0002 7077"},
	{"CONNECT 5 session expiry, receive maximum, user property", V5,
		"10 1d 0004 4d515454 05 02 003c 0f 11 00000e10 21 000a 26 0001 61 0001 62 0001 63"},
	{"CONNECT 5 password without user name (§3.1.2.9)", V5, "10 10 0004 4d515454 05 42 0000 00 0000 0001 70"},
	{"CONNACK 3.1.1", V311, "20 02 01 00"},
	{"CONNACK 3.1.1 not authorized", V311, "20 02 00 05"},
	{"CONNACK 5", V5, "20 06 00 00 03 22 0010"},
	{"PUBLISH 3.1.1 QoS 0", V311, "30 05 0001 61 6869"},
	{"PUBLISH 3.1.1 QoS 1 DUP RETAIN", V311, "3b 07 0001 61 000a 6869"},
	{"PUBLISH 5 QoS 2 all properties", V5,
		"34 32 0001 61 0001 2a 01 01 02 0000003c 03 0001 74 08 0001 72 09 0002 0102 23 0005 0b 07 0b 8001 26 0001 6b 0001 76 26 0001 6b 0001 77 6869"},
	{"PUBACK 3.1.1", V311, "40 02 0001"},
	{"PUBACK 5 success short form (§3.4.2.1)", V5, "40 02 0001"},
	{"PUBACK 5 reason only", V5, "40 03 0001 87"},
	{"PUBREC 5 reason string", V5, "50 08 0001 97 04 1f 0001 61"},
	{"PUBREL", V5, "62 02 0001"},
	{"PUBCOMP 5 not found", V5, "70 03 0001 92"},
	{"SUBSCRIBE 3.1.1", V311, "82 06 0001 0001 61 01"},
	{"SUBSCRIBE 5 options and identifier", V5, "82 0f 0001 02 0b 09 0003 612f23 2e 0001 2b 10"},
	{"SUBACK 3.1.1", V311, "90 04 0001 01 80"},
	{"SUBACK 5", V5, "90 05 0001 00 01 87"},
	{"UNSUBSCRIBE 3.1.1", V311, "a2 05 0001 0001 61"},
	{"UNSUBSCRIBE 5", V5, "a2 06 0001 00 0001 61"},
	{"UNSUBACK 3.1.1", V311, "b0 02 0001"},
	{"UNSUBACK 5", V5, "b0 04 0001 00 11"},
	{"PINGREQ", V5, "c0 00"},
	{"PINGRESP", V5, "d0 00"},
	{"DISCONNECT 3.1.1", V311, "e0 00"},
	{"DISCONNECT 5 with will", V5, "e0 01 04"},
	{"DISCONNECT 5 server reference", V5, "e0 06 9c 04 1c 0001 61"},
	{"AUTH 5 continue", V5, "f0 0a 18 08 15 0001 6d 16 0001 64"},
}

func TestPacketsSurviveDecodeAndEncode(t *testing.T) {
	for _, test := range goodPackets {
		t.Run(test.name, func(t *testing.T) {
			b := unhex(t, test.hex)
			packet, encoded, err := decodePacket(b, test.v)
			if err != nil {
				t.Fatalf("decode: %v", err)
			}
			if !bytes.Equal(encoded, b) {
				// Subscription identifiers may move behind the properties that cannot repeat: compare meanings.
				again, _, err := decodePacket(encoded, test.v)
				if err != nil || !reflect.DeepEqual(packet, again) {
					t.Fatalf("got  %x\nwant %x (%v)", encoded, b, err)
				}
			}
			for n := 1; n < len(b); n++ {
				if _, _, err := decodePacket(b[:n], test.v); err == nil {
					t.Fatalf("accepted when cut to %d bytes", n)
				}
			}
		})
	}
}

func TestPublishPropertiesAreRead(t *testing.T) {
	b := unhex(t, goodPackets[9].hex)
	p := new(Publish)
	if err := p.Decode(4, b[2:], V5); err != nil {
		t.Fatal(err)
	}
	q := &p.Properties
	if p.QoS != 2 || p.PacketID != 1 || string(p.Topic) != "a" || string(p.Payload) != "hi" ||
		q.Number(PayloadFormatIndicator) != 1 || q.Number(MessageExpiryInterval) != 60 || string(q.Text(ContentType)) != "t" ||
		string(q.Text(ResponseTopic)) != "r" || !bytes.Equal(q.Text(CorrelationData), []byte{1, 2}) || q.Number(TopicAlias) != 5 ||
		!reflect.DeepEqual(q.SubscriptionIDs, []uint32{7, 128}) || len(q.User) != 2 || string(q.User[1].Value) != "w" {
		t.Fatalf("got %+v", p)
	}
}

func TestMalformedPacketsAreRefused(t *testing.T) {
	tests := []struct {
		clause string // as the error must carry it
		name   string
		v      Version
		hex    string
		want   error
	}{
		{"MQTT-4.13.1-1", "packet type 0", V5, "00 00", ErrPacketType},
		{"MQTT-2.1.3-1", "PINGREQ flags", V5, "c1 00", ErrFlags},
		{"MQTT-2.1.3-1", "PUBREL flags 0", V5, "60 02 0001", ErrFlags},
		{"MQTT-2.1.3-1", "SUBSCRIBE flags 0", V311, "80 06 0001 0001 61 01", ErrFlags},
		{"MQTT-2.1.3-1", "UNSUBSCRIBE flags 3", V311, "a3 05 0001 0001 61", ErrFlags},
		{"MQTT-2.1.3-1", "DISCONNECT flags", V5, "e1 00", ErrFlags},
		{"MQTT-1.5.5-1", "remaining length of 5 bytes", V5, "c0 8080808000", ErrVariableInt},
		{"MQTT-1.5.5-1", "remaining length longer than necessary", V5, "c0 8000", ErrVariableInt},
		{"MQTT-1.5.5-1", "property length longer than necessary", V5, "30 05 0001 61 8000", ErrVariableInt},
		{"MQTT-1.5.4-1", "surrogate in topic", V5, "30 06 0003 eda080 00", ErrUTF8},
		{"MQTT-1.5.4-1", "overlong encoding", V5, "30 05 0002 c080 00", ErrUTF8},
		{"MQTT-1.5.4-2", "U+0000 in topic", V311, "30 05 0003 610062", ErrNull},
		{"MQTT-1.5.4-2", "U+0000 in user property", V5, "30 0b 0001 61 07 26 0001 00 0001 62", ErrNull},
		{"MQTT-3.1.2-1", "protocol name", V5, "10 0d 0004 4d515458 04 02 003c 0001 61", ErrProtocolName},
		{"MQTT-3.1.2-1", "protocol name of 3.1", V311, "10 0f 0006 4d5149736470 03 02 003c 0001 61", ErrProtocolName},
		{"MQTT-3.1.2-2", "protocol level 6", V5, "10 0d 0004 4d515454 06 02 003c 0001 61", ErrProtocolVersion},
		{"MQTT-3.1.2-3", "reserved connect flag", V311, "10 0d 0004 4d515454 04 03 003c 0001 61", ErrConnectFlags},
		{"MQTT-3.1.2-11", "will QoS without will", V311, "10 0d 0004 4d515454 04 0a 003c 0001 61", ErrWillFlags},
		{"MQTT-3.1.2-11", "will retain without will", V311, "10 0d 0004 4d515454 04 22 003c 0001 61", ErrWillFlags},
		{"MQTT-3.1.2-12", "will QoS 3", V311, "10 12 0004 4d515454 04 1e 003c 0001 61 0001 77 0000", ErrWillQoS},
		{"MQTT-3.1.2-22", "password without user name in 3.1.1", V311, "10 10 0004 4d515454 04 42 003c 0001 61 0001 70", ErrPasswordFlag},
		{"MQTT-3.1.3-8", "empty client id, clean session 0, 3.1.1", V311, "10 0c 0004 4d515454 04 00 003c 0000", ErrClientID},
		{"MQTT-3.3.2-2", "wildcard in will topic", V311, "10 12 0004 4d515454 04 06 003c 0001 61 0001 23 0000", ErrTopic},
		{"MQTT-4.13.1-1", "bytes after CONNECT", V311, "10 0e 0004 4d515454 04 02 003c 0001 61 00", ErrTrailing},
		{"MQTT-4.13.1-1", "session expiry twice", V5, "10 18 0004 4d515454 05 02 003c 0a 11 00000001 11 00000001 0001 61", ErrPropertyTwice},
		{"MQTT-4.13.1-1", "topic alias in CONNECT", V5, "10 11 0004 4d515454 05 02 003c 03 23 0001 0001 61", ErrPropertyID},
		{"MQTT-4.13.1-1", "unknown property", V5, "30 06 0001 61 02 04 00", ErrPropertyID},
		{"MQTT-4.13.1-1", "receive maximum 0", V5, "10 11 0004 4d515454 05 02 003c 03 21 0000 0001 61", ErrPropertyValue},
		{"MQTT-4.13.1-1", "maximum packet size 0", V5, "10 13 0004 4d515454 05 02 003c 05 27 00000000 0001 61", ErrPropertyValue},
		{"MQTT-4.13.1-1", "request problem information 2", V5, "10 10 0004 4d515454 05 02 003c 02 17 02 0001 61", ErrPropertyValue},
		{"MQTT-4.13.1-1", "payload format 2", V5, "30 06 0001 61 02 01 02", ErrPropertyValue},
		{"MQTT-4.12.0-1", "authentication data without method", V5, "10 12 0004 4d515454 05 02 003c 04 16 0001 61 0001 61", ErrAuthMethod},
		{"MQTT-2.2.2-1", "property length beyond the packet", V5, "30 05 0001 61 09 01", ErrPropertyLength},
		{"MQTT-2.2.2-1", "property runs over the property length", V5, "30 09 0001 61 03 02 00000001", ErrPropertyLength},
		{"MQTT-3.3.1-4", "QoS 3", V311, "36 07 0001 61 0001 6869", ErrQoS},
		{"MQTT-3.3.1-2", "DUP at QoS 0", V311, "38 05 0001 61 6869", ErrDup},
		{"MQTT-2.2.1-3", "packet id 0 in PUBLISH", V311, "32 05 0001 61 0000", ErrPacketID},
		{"MQTT-2.2.1-3", "packet id 0 in SUBSCRIBE", V311, "82 06 0000 0001 61 01", ErrPacketID},
		{"MQTT-2.2.1-3", "packet id 0 in PUBACK", V311, "40 02 0000", ErrPacketID},
		{"MQTT-3.3.2-2", "# in topic", V311, "30 03 0001 23", ErrTopic},
		{"MQTT-3.3.2-2", "+ in topic", V311, "30 05 0003 612f2b", ErrTopic},
		{"MQTT-4.7.3-1", "empty topic without alias", V5, "30 03 0000 00", ErrTopicEmpty},
		{"MQTT-3.3.2-9", "topic alias 0", V5, "30 07 0001 61 03 23 0000", ErrTopicAlias},
		{"MQTT-3.3.2-14", "wildcard in response topic", V5, "30 0a 0001 61 06 08 0003 612f23", ErrResponseTopic},
		{"", "PUBACK reason of another packet", V5, "40 03 0001 8e", ErrReason},
		{"", "PUBREL reason 0x80", V5, "62 03 0001 80", ErrReason},
		{"MQTT-3.8.3-2", "SUBSCRIBE without filter", V311, "82 02 0001", ErrNoFilters},
		{"MQTT-3.8.3-5", "subscribe QoS 3", V311, "82 06 0001 0001 61 03", ErrSubscribeOptions},
		{"MQTT-3.8.3-5", "options of 5 in 3.1.1", V311, "82 06 0001 0001 61 04", ErrSubscribeOptions},
		{"MQTT-3.8.3-5", "reserved option bits", V5, "82 07 0001 00 0001 61 41", ErrSubscribeOptions},
		{"MQTT-3.8.3-5", "retain handling 3", V5, "82 07 0001 00 0001 61 30", ErrSubscribeOptions},
		{"MQTT-3.8.3-4", "no local on a shared subscription", V5, "82 10 0001 00 000a 2473686172652f672f61 05", ErrNoLocalShared},
		{"MQTT-4.13.1-1", "subscription identifier 0", V5, "82 09 0001 02 0b 00 0001 61 01", ErrPropertyValue},
		{"MQTT-4.13.1-1", "subscription identifier twice", V5, "82 0b 0001 04 0b 01 0b 02 0001 61 01", ErrPropertyTwice},
		{"MQTT-3.10.3-2", "UNSUBSCRIBE without filter", V311, "a2 02 0001", ErrUnsubscribeEmpty},
		{"", "DISCONNECT reason 0x01", V5, "e0 01 01", ErrReason},
		{"MQTT-4.13.1-1", "DISCONNECT with a body in 3.1.1", V311, "e0 01 00", ErrTrailing},
		{"MQTT-4.13.1-1", "AUTH in 3.1.1", V311, "f0 00", ErrPacketType},
		{"", "AUTH reason", V5, "f0 01 80", ErrReason},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := decodePacket(unhex(t, test.hex), test.v)
			if err != test.want {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			var e *Error
			if !errors.As(err, &e) || e.Clause != test.clause || !e.Reason.Failed() {
				t.Fatalf("error %+v carries the wrong clause or no reason, want %s", e, test.clause)
			}
		})
	}
}

func TestRepeatedPropertiesAreBounded(t *testing.T) {
	p := Publish{Topic: []byte("a")}
	for range maxRepeated + 1 {
		p.Properties.AddUser("k", "v")
	}
	if _, _, err := decodePacket(p.Append(nil, V5), V5); err != ErrTooMany {
		t.Fatalf("got %v", err)
	}
}

func TestTopicsAndFilters(t *testing.T) {
	for _, test := range []struct {
		filter string
		valid  bool
	}{
		{"", false}, {"a", true}, {"#", true}, {"+", true}, {"/", true}, {"a//b", true}, {"+/+", true}, {"a/#", true},
		{"a#", false}, {"a/b#", false}, {"#/a", false}, {"a+", false}, {"a+/b", false}, {"+a", false}, {"a/+/#", true},
		{"$share/g/a", true}, {"$share/g/#", true}, {"$share/g/", false}, {"$share/g", false}, {"$share//a", false},
		{"$share/g+/a", false}, {"$share/#/a", false}, {"$share/", false}, {"$shared/x", true}, {"a\x00b", false},
		{strings.Repeat("/", maxLevels-1), true}, {strings.Repeat("/", maxLevels), false}, {strings.Repeat("a", 65536), false},
	} {
		if got := ValidFilter([]byte(test.filter)); got != test.valid {
			t.Errorf("[MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.8.2-1]: filter %.40q: valid %v", test.filter, got)
		}
	}
	for _, test := range []struct {
		filter, topic string
		match         bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "a/", false}, {"a/", "a/", true}, {"+", "a", true}, {"+", "a/b", false},
		{"+", "", true}, {"/+", "/a", true}, {"+/+", "/a", true}, {"#", "a/b/c", true}, {"a/#", "a", true}, {"a/#", "a/b/c", true},
		{"a/#", "b", false}, {"a/+/c", "a/b/c", true}, {"a/+/c", "a//c", true}, {"a/+", "a", false}, {"a/+/#", "a", false},
		{"a/+/#", "a/b", true}, {"#", "$SYS/x", false}, {"+/x", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true}, {"$SYS/+", "$SYS/x", true},
		{"A", "a", false}, {"a/+", "a/$b", true},
	} {
		if got := FilterMatches([]byte(test.filter), []byte(test.topic)); got != test.match {
			t.Errorf("[MQTT-4.7.2-1] §4.7: %q on %q: %v", test.filter, test.topic, got)
		}
	}
}
