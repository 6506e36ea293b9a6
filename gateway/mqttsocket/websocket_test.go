package mqttsocket

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"fieldgate/gateway/websocket/websockettest"
	"fieldgate/protocol/h1"
	"fieldgate/protocol/mqtt"
)

// What binary frames hold comes through, wherever frames and packets begin and end and reads are cut [MQTT-6.0.0-2].
func TestRead(t *testing.T) {
	masked, long := websockettest.Masked, strings.Repeat("0123456789", 7000)
	for _, test := range []struct {
		name   string
		frames [][]byte
		want   string
		clause string // that the client breaks; with fails
		fails  string
	}{
		{name: "many packets a frame", frames: [][]byte{masked(h1.OpBinary, true, "one two three")}, want: "one two three"},
		{name: "a packet in many frames", frames: [][]byte{masked(h1.OpBinary, true, "on"), masked(h1.OpBinary, true, ""), masked(h1.OpBinary, true, "e two")}, want: "one two"},
		{name: "fragments", frames: [][]byte{masked(h1.OpBinary, false, "on"), masked(h1.OpPing, true, "p"), masked(h1.OpContinuation, true, "e")}, want: "one"},
		{name: "long", frames: [][]byte{masked(h1.OpBinary, true, long), masked(h1.OpBinary, true, long[:300])}, want: long + long[:300]},
		{name: "close", frames: [][]byte{masked(h1.OpBinary, true, "x"), masked(h1.OpClose, true, "\x03\xe9")}, want: "x"},
		{name: "text", frames: [][]byte{masked(h1.OpBinary, true, "x"), masked(h1.OpText, true, "y")}, want: "x", clause: "MQTT-6.0.0-1", fails: "not binary"},
		{name: "not masked", frames: [][]byte{masked(h1.OpBinary, true, "x"), h1.AppendFrame(nil, h1.OpBinary, []byte("y"))}, want: "x", fails: "not masked"},
	} {
		for how, cut := range websockettest.Cuts {
			got, err := io.ReadAll(New(&websockettest.Wire{In: bytes.Join(test.frames, nil), Cut: cut}, nil))
			if string(got) != test.want {
				t.Errorf("%s, %s: read %.40q, want %.40q", test.name, how, got, test.want)
			}
			if broken, is := errors.AsType[*mqtt.Error](err); test.fails == "" && err != nil ||
				test.fails != "" && (!is || broken.Clause != test.clause || !strings.Contains(broken.Text, test.fails) || broken.Reason != mqtt.ProtocolViolation) {
				t.Errorf("%s, %s: ended with %v, want %q", test.name, how, err, test.fails)
			}
		}
	}
}

func TestWrite(t *testing.T) {
	wire := &websockettest.Wire{}
	c := New(wire, nil)
	long := bytes.Repeat([]byte("x"), 70_000)
	for _, p := range [][]byte{[]byte("a"), long} {
		if n, err := c.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := h1.AppendFrame(h1.AppendFrame(nil, h1.OpBinary, []byte("a")), h1.OpBinary, long); !bytes.Equal(wire.Out.Bytes(), want) {
		t.Error("what was written differs")
	}
	c.CloseWrite()
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("something follows the close frame")
	}
}
