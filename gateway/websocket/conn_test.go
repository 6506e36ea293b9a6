package websocket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"fieldgate/gateway/websocket/websockettest"
	"fieldgate/protocol/h1"
)

const limit = 100_000

// receive reads messages until the end, each behind its length.
func receive(c *Conn, bufferSize int) (messages []string, err error) {
	var message []byte
	for p := make([]byte, bufferSize); ; {
		err = c.Receive(p, func(piece []byte, last bool) *h1.CloseError {
			if message = append(message, piece...); last {
				messages = append(messages, string(message))
				message = nil
			}
			return nil
		})
		if err != nil {
			return messages, err
		}
	}
}

func TestReceive(t *testing.T) {
	masked, long := websockettest.Masked, strings.Repeat("0123456789", 7000)
	for _, test := range []struct {
		clause  string
		frames  [][]byte
		want    []string
		answers []byte
		fails   string // what the error says; empty: the end is a clean one
		code    int
	}{
		{clause: "RFC 6455 §5.6: messages of one frame", frames: [][]byte{masked(h1.OpBinary, true, "one"), masked(h1.OpBinary, true, ""), masked(h1.OpBinary, true, "two")}, want: []string{"one", "", "two"}, code: h1.CloseNormal},
		{clause: "RFC 6455 §5.4: fragments, with a ping between", frames: [][]byte{masked(h1.OpBinary, false, "on"), masked(h1.OpPing, true, "p"), masked(h1.OpContinuation, false, ""), masked(h1.OpContinuation, true, "e")},
			want: []string{"one"}, answers: h1.AppendFrame(nil, h1.OpPong, []byte("p")), code: h1.CloseNormal},
		{clause: "RFC 6455 §5.5.2, §5.5.3: empty ping and pong", frames: [][]byte{masked(h1.OpPing, true, ""), masked(h1.OpPong, true, ""), masked(h1.OpBinary, true, "x")},
			want: []string{"x"}, answers: h1.AppendFrame(nil, h1.OpPong, nil), code: h1.CloseNormal},
		{clause: "long", frames: [][]byte{masked(h1.OpBinary, true, long), masked(h1.OpBinary, true, long[:300])}, want: []string{long, long[:300]}, code: h1.CloseNormal},
		{clause: "RFC 6455 §5.5.1: close", frames: [][]byte{masked(h1.OpBinary, true, "x"), masked(h1.OpClose, true, "\x03\xe9"), masked(h1.OpBinary, true, "after")}, want: []string{"x"}, code: h1.CloseGoingAway},
		{clause: "RFC 6455 §7.1.5: close without a code", frames: [][]byte{masked(h1.OpClose, true, "")}, code: 1005},
		{clause: "RFC 6455 §5.5.1: malformed close", frames: [][]byte{masked(h1.OpClose, true, "\x00")}, fails: "close", code: h1.CloseProtocol},
		{clause: "RFC 6455 §7.4.1: text", frames: [][]byte{masked(h1.OpBinary, true, "x"), masked(h1.OpText, true, "y")}, want: []string{"x"}, fails: "not binary", code: h1.CloseUnsupported},
		{clause: "RFC 6455 §5.1: not masked", frames: [][]byte{h1.AppendFrame(nil, h1.OpBinary, []byte("x"))}, fails: "not masked", code: h1.CloseProtocol},
		{clause: "RFC 6455 §5.4: continuation of nothing", frames: [][]byte{masked(h1.OpContinuation, true, "x")}, fails: "continuation", code: h1.CloseProtocol},
		{clause: "RFC 6455 §5.4: message within a message", frames: [][]byte{masked(h1.OpBinary, false, "x"), masked(h1.OpBinary, true, "y")}, fails: "within", code: h1.CloseProtocol},
		{clause: "RFC 6455 §5.5: long ping", frames: [][]byte{masked(h1.OpPing, true, long[:126])}, fails: "control", code: h1.CloseProtocol},
		{clause: "RFC 6455 §5.2: reserved bit", frames: [][]byte{{0xC2, 0x80, 0, 0, 0, 0}}, fails: "reserved", code: h1.CloseProtocol},
		{clause: "RFC 6455 §5.2: negative length", frames: [][]byte{{0x82, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}}, fails: "length", code: h1.CloseProtocol},
		{clause: "longer than the limit", frames: [][]byte{masked(h1.OpBinary, true, strings.Repeat("x", limit+1))}, fails: "too long", code: h1.CloseTooBig},
		{clause: "longer than the limit, in fragments", frames: [][]byte{masked(h1.OpBinary, false, strings.Repeat("x", limit)), masked(h1.OpContinuation, true, "x")}, fails: "too long", code: h1.CloseTooBig},
		{clause: "8 EiB", frames: [][]byte{{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}}, fails: "too long", code: h1.CloseTooBig},
	} {
		for how, cut := range websockettest.Cuts {
			t.Run(test.clause+", "+how, func(t *testing.T) {
				stream := bytes.Join(test.frames, nil)
				early := rand.IntN(len(stream) + 1)
				wire := &websockettest.Wire{In: stream[early:], Cut: cut}
				c := Make(wire, false, limit, stream[:early])
				got, err := receive(&c, 1+rand.IntN(4096))
				if strings.Join(got, "|") != strings.Join(test.want, "|") {
					t.Errorf("read %.40q, want %.40q", got, test.want)
				}
				if test.fails == "" && err != io.EOF || test.fails != "" && !strings.Contains(err.Error(), test.fails) {
					t.Errorf("ended with %v, want %q", err, test.fails)
				}
				c.CloseWrite()
				c.CloseWrite()
				if want := h1.AppendClose(test.answers, test.code, ""); !bytes.Equal(wire.Out.Bytes(), want) || !wire.Ended {
					t.Errorf("wrote %x, want %x", wire.Out.Bytes(), want)
				}
				if err := c.Send(func(dst []byte) ([]byte, error) { return c.AppendMessage(dst, []byte("x")), nil }); !errors.Is(err, net.ErrClosed) {
					t.Errorf("RFC 6455 §5.5.1: written after the close frame: %v", err)
				}
			})
		}
	}
}

// What one side sends the other reads; only the client's frames are masked (RFC 6455 §5.1).
func TestSend(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	for _, client := range []bool{false, true} {
		out := &websockettest.Wire{}
		c := Make(out, client, limit, nil)
		for _, message := range []string{"a", long} {
			if err := c.Send(func(dst []byte) ([]byte, error) { return c.AppendMessage(dst, []byte(message)), nil }); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Send(func(dst []byte) ([]byte, error) { return append(dst, "half"...), io.ErrShortWrite }); err != io.ErrShortWrite {
			t.Errorf("an error of what is to be sent: %v", err)
		}
		c.CloseWrite()
		if out.Ended == client {
			t.Error("RFC 6455 §7.1.1: the server closes first")
		}
		other := Make(&websockettest.Wire{In: out.Out.Bytes(), Cut: func(n int) int { return n }}, !client, limit, nil)
		if got, err := receive(&other, 1000); strings.Join(got, "|") != "a|"+long || err != io.EOF {
			t.Errorf("client %v: read %.40q, %v", client, got, err)
		}
	}
}

// Whatever comes, in whatever pieces: the same is read, and nothing else happens.
func FuzzReceive(f *testing.F) {
	masked := websockettest.Masked
	f.Add(bytes.Join([][]byte{masked(h1.OpBinary, false, "on"), masked(h1.OpPing, true, "p"), masked(h1.OpContinuation, true, "e"), masked(h1.OpClose, true, "\x03\xe8")}, nil), uint64(1))
	f.Add(masked(h1.OpText, true, "x"), uint64(2))
	f.Add([]byte{0x82, 0xFE, 0, 1, 1, 2, 3, 4}, uint64(3))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 1))
		read := func(cut func(int) int) string {
			wire := &websockettest.Wire{In: bytes.Clone(stream), Cut: cut}
			c := Make(wire, false, 300, nil)
			got, err := receive(&c, 4096)
			if len(c.control) > 125 {
				t.Fatalf("%d bytes of a control frame are kept", len(c.control))
			}
			c.CloseWrite()
			return strings.Join(got, "|") + "|" + wire.Out.String() + "|" + err.Error()
		}
		if whole, cut := read(func(n int) int { return n }), read(func(n int) int { return 1 + random.IntN(n) }); whole != cut {
			t.Fatalf("whole %q, cut %q", whole, cut)
		}
	})
}
