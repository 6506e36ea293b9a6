package mqttcluster

import (
	"bytes"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/gateway/broker"
)

// What another node sends is read or refused, whatever it is.
func FuzzHead(f *testing.F) {
	f.Add(appendHead(nil, alive, 7, 0))
	f.Add([]byte{packetVersion})
	f.Fuzz(func(t *testing.T, packet []byte) {
		h, body, err := readHead(packet)
		if err == nil && !bytes.Equal(append(appendHead(nil, h.kind, h.from, h.to), body...), packet) {
			t.Errorf("%x became %+v and %x", packet, h, body)
		}
	})
}

// Whatever a node says, it costs a bounded amount of memory, and what is handed on is sound.
func FuzzHear(f *testing.F) {
	connection, err := bus.Open(bus.Config{Directory: f.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(connection.Close)
	message := appendMessage(nil, []string{"$share/g/t"}, encode(nil, &broker.Message{Topic: "t", QoS: 1, Payload: []byte("x"), Expires: time.Now().Add(time.Hour)}, time.Now()))
	interest := append(appendText([]byte{1}, "d/+/t"), byte(Everything))
	for k, body := range map[kind][]byte{interestChanged: interest, interestIs: {5}, askInterest: {0}, interestPart: append([]byte{1, 0, 1}, interest[1:]...),
		takeOvers: appendText(appendText(appendText([]byte{9}, "device"), "d1"), "c1"), messages: message, numbered: append([]byte{1, 1, 0}, message...), acknowledgement: {3}} {
		f.Add(byte(k), body, []byte{0})
	}
	f.Fuzz(func(t *testing.T, k byte, body, then []byte) {
		ear := new(ear)
		c := New(Config{Node: "a", Incarnation: 1, Bus: connection, Logger: slog.New(slog.DiscardHandler)})
		c.Attach(ear)
		for _, body := range [][]byte{body, then} {
			c.hearOne(fieldgate.SubjectMQTTNode+"a.b", append(appendHead(nil, kind(k), 7, 1), body...))
		}
		c.turn()
		for _, m := range ear.heard {
			if !m.Relayed || m.QoS > 2 || m.Topic == "" {
				t.Errorf("handed on: %+v", m)
			}
		}
		c.mu.Lock()
		if p := c.peers["b"]; p != nil {
			c.lose(p)
		}
		c.mu.Unlock()
		c.dropping.Wait()
		if n := c.tree.Len(); n != 0 {
			t.Errorf("%d filters are left behind", n)
		}
	})
}

// A message that is read and written again is the same.
func FuzzMessage(f *testing.F) {
	now := time.UnixMicro(1_700_000_000_000_000)
	f.Add(encode(nil, &broker.Message{Topic: "d/1/t", QoS: 2, Retain: true, Payload: []byte("x"), Client: "c", Time: now, Answers: broker.Caller{Kind: "app", ID: "1"}}, now))
	f.Fuzz(func(t *testing.T, encoded []byte) {
		var m, again broker.Message
		if decode(&m, encoded, now) != nil || len(m.Shares) > 0 {
			return
		}
		if err := decode(&again, encode(nil, &m, now), now); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(m.Lasting(), again.Lasting()) {
			t.Errorf("%+v became %+v", m, again)
		}
	})
}
