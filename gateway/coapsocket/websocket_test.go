package coapsocket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"fieldgate/gateway/websocket"
	"fieldgate/gateway/websocket/websockettest"
	"fieldgate/protocol/h1"
)

// Messages come through with the length that they have on TCP, however frames and reads are cut.
func TestMessages(t *testing.T) {
	masked, long := websockettest.Masked, strings.Repeat("x", 900)
	for _, test := range []struct {
		clause string
		frames [][]byte
		want   string
		fails  string // what the error says; empty: the end is a clean one
		code   int
	}{
		{clause: "RFC 8323 §4.2: a message without options", frames: [][]byte{masked(h1.OpBinary, true, "\x01\xe2\x42")}, want: "\x01\xe2\x42", code: h1.CloseNormal},
		{clause: "RFC 8323 §4.2: with some", frames: [][]byte{masked(h1.OpBinary, true, "\x00\x01\xb1a")}, want: "\x20\x01\xb1a", code: h1.CloseNormal},
		{clause: "RFC 8323 §4.2: long", frames: [][]byte{masked(h1.OpBinary, true, "\x00\x02\xff"+long)}, want: "\xe0\x02\x78\x02\xff" + long, code: h1.CloseNormal},
		{clause: "RFC 6455 §5.4: fragments, with a ping between", frames: [][]byte{masked(h1.OpBinary, false, "\x00"), masked(h1.OpPing, true, "p"), masked(h1.OpContinuation, false, "\x01\xb1"), masked(h1.OpContinuation, true, "a")},
			want: "\x20\x01\xb1a", code: h1.CloseNormal},
		{clause: "two messages", frames: [][]byte{masked(h1.OpBinary, true, "\x00\x01"), masked(h1.OpBinary, true, "\x00\x02")}, want: "\x00\x01\x00\x02", code: h1.CloseNormal},
		{clause: "RFC 6455 §5.5.1: close", frames: [][]byte{masked(h1.OpBinary, true, "\x00\x01"), masked(h1.OpClose, true, "\x03\xe9"), masked(h1.OpBinary, true, "\x00\x02")}, want: "\x00\x01", code: h1.CloseGoingAway},
		{clause: "RFC 8323 §4.2: text", frames: [][]byte{masked(h1.OpText, true, "\x00\x01")}, fails: "binary", code: h1.CloseUnsupported},
		{clause: "RFC 8323 §4.2: a length", frames: [][]byte{masked(h1.OpBinary, true, "\x10\x01a")}, fails: "no CoAP", code: h1.CloseInvalidData},
		{clause: "RFC 8323 §4.2: shorter than a header", frames: [][]byte{masked(h1.OpBinary, true, "\x00")}, fails: "no CoAP", code: h1.CloseInvalidData},
		{clause: "RFC 8323 §4.2: shorter than its token", frames: [][]byte{masked(h1.OpBinary, true, "\x04\x01abc")}, fails: "no CoAP", code: h1.CloseInvalidData},
		{clause: "RFC 8974 §A.3: an extended token", frames: [][]byte{masked(h1.OpBinary, true, "\x0d\x01\x00token of 13..\xb1a")}, want: "\x2d\x01\x00token of 13..\xb1a", code: h1.CloseNormal},
		{clause: "RFC 8974 §A.3: shorter than it", frames: [][]byte{masked(h1.OpBinary, true, "\x0d\x01\x00token of 1")}, fails: "no CoAP", code: h1.CloseInvalidData},
		{clause: "RFC 8974 §A.3: shorter than its length", frames: [][]byte{masked(h1.OpBinary, true, "\x0e\x01\x00")}, fails: "no CoAP", code: h1.CloseInvalidData},
		{clause: "RFC 8323 §4.2: empty", frames: [][]byte{masked(h1.OpBinary, true, "")}, fails: "no CoAP", code: h1.CloseInvalidData},
	} {
		for cutting, cut := range websockettest.Cuts {
			t.Run(test.clause+", "+cutting, func(t *testing.T) {
				all := bytes.Join(test.frames, nil)
				early := rand.IntN(len(all) + 1)
				w := &websockettest.Wire{In: all[early:], Cut: cut}
				conn := New(w, all[:early], 2000)
				var got []byte
				var err error
				for p := make([]byte, 64); err == nil; {
					var n int
					n, err = conn.Read(p[:1+rand.IntN(len(p))])
					got = append(got, p[:n]...)
				}
				if string(got) != test.want {
					t.Errorf("%x, want %x", got, test.want)
				}
				if test.fails == "" && !errors.Is(err, io.EOF) || test.fails != "" && !strings.Contains(err.Error(), test.fails) {
					t.Errorf("ended with %v, want %q", err, test.fails)
				}
				if cap(conn.message) > 4096 {
					t.Errorf("%d bytes are kept", cap(conn.message))
				}
				conn.CloseWrite()
				if want := h1.AppendClose(nil, test.code, ""); !bytes.HasSuffix(w.Out.Bytes(), want) {
					t.Errorf("closed by %x, want %x", w.Out.Bytes(), want)
				}
				if _, err := conn.Write([]byte{0, 1}); !errors.Is(err, net.ErrClosed) {
					t.Errorf("RFC 6455 §5.5.1: written after the close frame: %v", err)
				}
			})
		}
	}
}

// What is written is read at the other end, each message in a frame of its own, masked by the client only.
func TestWrite(t *testing.T) {
	messages := "\x01\xe2\x42" + "\x20\x01\xb1a" + "\xe0\x02\x78\x02\xff" + strings.Repeat("x", 900)
	for _, client := range []bool{false, true} {
		out := &websockettest.Wire{}
		w := &Conn{Conn: websocket.Make(out, client, 2000, nil)}
		if n, err := w.Write([]byte(messages)); n != len(messages) || err != nil {
			t.Fatal(n, err)
		}
		frames := 0
		for b := out.Out.Bytes(); len(b) > 0; frames++ {
			head, _ := h1.ParseFrameHead(b)
			if broken := head.Check(client, false); broken != nil || b[head.Size]>>4 != 0 && !client {
				t.Errorf("RFC 8323 §4.2: frame %x: %v", b, broken)
			}
			b = b[head.Size+int(head.Length):]
		}
		if frames != 3 {
			t.Errorf("RFC 8323 §4.2: %d frames for 3 messages", frames)
		}
		other := &Conn{Conn: websocket.Make(&websockettest.Wire{In: out.Out.Bytes(), Cut: websockettest.Cuts["whole"]}, !client, 2000, nil)}
		got, err := io.ReadAll(other)
		if string(got) != messages || err != nil {
			t.Errorf("%x, %v", got, err)
		}
		if _, err := w.Write([]byte("\xe0\x02\x78\x02\xff")); err == nil {
			t.Error("a message that is cut was written")
		}
	}
}

// FuzzConn holds that whatever comes is cut alike, and that no more is kept than a message and what was read.
func FuzzConn(f *testing.F) {
	masked := websockettest.Masked
	f.Add(append(masked(h1.OpBinary, false, "\x00\x01"), masked(h1.OpContinuation, true, "\xb1a")...), uint64(1))
	f.Add(append(masked(h1.OpPing, true, "p"), masked(h1.OpClose, true, "\x03\xe8")...), uint64(2))
	f.Add([]byte{0x82, 0xfe, 0x00, 0x7e}, uint64(3))
	f.Fuzz(func(t *testing.T, input []byte, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 1))
		read := func(cut func(int) int) string {
			conn := New(&websockettest.Wire{In: bytes.Clone(input), Cut: cut}, nil, 300)
			got, err := io.ReadAll(conn)
			if cap(conn.message) > 1024 {
				t.Fatalf("%d bytes are kept", cap(conn.message))
			}
			if err != nil {
				return string(got) + err.Error()
			}
			return string(got)
		}
		if whole, cut := read(func(n int) int { return n }), read(func(n int) int { return 1 + random.IntN(n) }); whole != cut {
			t.Fatalf("whole %q, cut %q", whole, cut)
		}
	})
}
