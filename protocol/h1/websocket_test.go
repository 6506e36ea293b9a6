package h1

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestWebSocketHandshake(t *testing.T) {
	const good = "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: foo, WebSocket\r\nConnection: keep-alive, Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
	for _, test := range []struct {
		clause, old, new string
		want             error
	}{
		{"RFC 6455 §1.3 its example", "", "", nil},
		{"RFC 6455 §4.2.1 method", "GET", "POST", ErrWebSocketHandshake},
		{"RFC 6455 §4.2.1 other upgrade", "WebSocket", "h2c", ErrWebSocketHandshake},
		{"RFC 6455 §4.2.1 Connection", "Upgrade\r\nSec", "close\r\nSec", ErrWebSocketHandshake},
		{"RFC 6455 §4.2.1 short key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhl", ErrWebSocketHandshake},
		{"RFC 6455 §4.2.1 key is no base64", "dGhlIHNhbXBsZSBub25jZQ==", "!GhlIHNhbXBsZSBub25jZQ==", ErrWebSocketHandshake},
		{"RFC 6455 §4.2.1 key of 18 bytes", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQAA", ErrWebSocketHandshake},
		{"RFC 6455 §4.2.1 two keys", "Sec-WebSocket-Protocol", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX", ErrWebSocketHandshake},
		{"RFC 6455 §4.2.1 no key", "Sec-WebSocket-Key", "X", ErrWebSocketHandshake},
		{"RFC 6455 §4.4 version", "13", "8", ErrWebSocketVersion},
		{"content before the handshake ends", "Sec-WebSocket-Protocol: mqtt", "Content-Length: 4", ErrWebSocketHandshake},
	} {
		t.Run(test.clause, func(t *testing.T) {
			var r Request
			message := strings.Replace(good, test.old, test.new, 1)
			if err := r.Parse([]byte(message), &defaults); err != nil {
				t.Fatal(err)
			}
			if err := r.CheckWebSocket(); err != test.want {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if test.want == nil {
				const want = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
					"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
				if got := string(AppendWebSocketAccept(nil, &r, "mqtt")); got != want {
					t.Errorf("answer\n%s", got)
				}
			}
		})
	}
}

// clientFrame is what a client would send: first is FIN, RSV and opcode.
func clientFrame(first byte, payload string) string {
	frame := []byte{first}
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, 0x80|byte(n))
	case n <= 0xffff:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 254}
	frame = append(frame, mask[:]...)
	for i := range len(payload) {
		frame = append(frame, payload[i]^mask[i&3])
	}
	return string(frame)
}

func TestWebSocketMessages(t *testing.T) {
	long := strings.Repeat("0123456789", 7000)
	for _, test := range []struct {
		clause, stream, want string
		code                 int
		err                  error
	}{
		{"RFC 6455 §5.6 text", clientFrame(0x81, "hé"), "1:hé ", 0, io.ErrUnexpectedEOF},
		{"RFC 6455 §5.2 16 bit length", clientFrame(0x82, long[:300]), "2:" + long[:300] + " ", 0, io.ErrUnexpectedEOF},
		{"RFC 6455 §5.2 64 bit length", clientFrame(0x82, long), "2:" + long + " ", 0, io.ErrUnexpectedEOF},
		{"RFC 6455 §5.4 fragments with a ping between", clientFrame(0x01, "a") + clientFrame(0x89, "p") + clientFrame(0x00, "b") + clientFrame(0x80, "c"), "9:p 1:abc ", 0, io.ErrUnexpectedEOF},
		{"RFC 6455 §5.4 a character across fragments", clientFrame(0x01, "\xc3") + clientFrame(0x80, "\xa9"), "1:é ", 0, io.ErrUnexpectedEOF},
		{"RFC 6455 §5.5.1 close", clientFrame(0x88, "\x03\xe8bye"), "", 1000, nil},
		{"RFC 6455 §5.5.1 close without code", clientFrame(0x88, ""), "", closeNoStatus, nil},
		{"RFC 6455 §5.5.1 one byte", clientFrame(0x88, "\x03"), "", CloseProtocol, nil},
		{"RFC 6455 §7.4.1 reserved code", clientFrame(0x88, "\x03\xed"), "", CloseProtocol, nil},
		{"RFC 6455 §5.1 not masked", "\x81\x01a", "", CloseProtocol, nil},
		{"RFC 6455 §5.2 reserved bit", clientFrame(0xc1, "a"), "", CloseProtocol, nil},
		{"RFC 6455 §5.2 unknown data opcode", clientFrame(0x83, "a"), "", CloseProtocol, nil},
		{"RFC 6455 §5.2 unknown control opcode", clientFrame(0x8b, "a"), "", CloseProtocol, nil},
		{"RFC 6455 §5.5 fragmented control", clientFrame(0x09, "a"), "", CloseProtocol, nil},
		{"RFC 6455 §5.5 long control", clientFrame(0x89, long[:126]), "", CloseProtocol, nil},
		{"RFC 6455 §5.2 16 bit length not minimal", "\x82\xfe\x00\x7d", "", CloseProtocol, nil},
		{"RFC 6455 §5.2 64 bit length not minimal", "\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff", "", CloseProtocol, nil},
		{"RFC 6455 §5.2 top bit of length", "\x82\xff\xff\x00\x00\x00\x00\x00\xff\xff", "", CloseProtocol, nil},
		{"RFC 6455 §5.4 continuation of nothing", clientFrame(0x80, "a"), "", CloseProtocol, nil},
		{"RFC 6455 §5.4 message within a message", clientFrame(0x01, "a") + clientFrame(0x81, "b"), "", CloseProtocol, nil},
		{"RFC 6455 §8.1 text is no UTF-8", clientFrame(0x81, "\xff"), "", CloseInvalidData, nil},
		{"RFC 6455 §10.4 frame too big", "\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff\x01\x02\x03\x04", "", CloseTooBig, nil},
		{"RFC 6455 §10.4 fragments too big", clientFrame(0x02, long) + clientFrame(0x80, long), "", CloseTooBig, nil},
	} {
		t.Run(test.clause, func(t *testing.T) {
			for name, src := range map[string]io.Reader{
				"whole":        strings.NewReader(test.stream),
				"byte by byte": iotest.OneByteReader(strings.NewReader(test.stream)),
			} {
				messages := NewMessageReader(NewReader(src, 256), 100_000)
				var got bytes.Buffer
				var err error
				for {
					var opcode Opcode
					var payload []byte
					if opcode, payload, err = messages.Next(); err != nil {
						break
					}
					got.WriteString(string("0123456789"[opcode]) + ":" + string(payload) + " ")
				}
				if got.String() != test.want {
					t.Errorf("%s: got %.80q", name, got.String())
				}
				var closed *CloseError
				if test.err != nil && !errors.Is(err, test.err) || test.err == nil && (!errors.As(err, &closed) || closed.Code != test.code) {
					t.Errorf("%s: ended with %v", name, err)
				}
			}
		})
	}
}

func TestAppendFrame(t *testing.T) {
	for _, test := range []struct {
		n    int
		head string
	}{{0, "\x82\x00"}, {125, "\x82\x7d"}, {126, "\x82\x7e\x00\x7e"}, {65535, "\x82\x7e\xff\xff"}, {65536, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"}} {
		payload := strings.Repeat("x", test.n)
		if got := string(AppendFrame(nil, OpBinary, []byte(payload))); got != test.head+payload {
			t.Errorf("%d bytes: %.20q", test.n, got)
		}
	}
	if got := string(AppendClose(nil, CloseNormal, "bye")); got != "\x88\x05\x03\xe8bye" {
		t.Errorf("close: %q", got)
	}
	if got := string(AppendClose(nil, closeNoStatus, "")); got != "\x88\x00" { // RFC 6455 §7.4.1: 1005 is never sent
		t.Errorf("close without code: %q", got)
	}
	if got := AppendClose(nil, CloseNormal, strings.Repeat("x", 500)); len(got) != 2+maxControlPayload {
		t.Errorf("long reason: %d bytes", len(got))
	}
}

func TestMaskedFrames(t *testing.T) {
	key := [4]byte{1, 2, 3, 254}
	for _, n := range []int{0, 1, 7, 8, 125, 126, 65535, 65536} { // RFC 6455 §5.2, §5.3
		payload := strings.Repeat("xyz", n/3+1)[:n]
		frame := AppendMaskedFrame(nil, OpBinary, []byte(payload), key)
		if string(frame) != clientFrame(0x82, payload) {
			t.Errorf("%d bytes: %.20q", n, frame)
		}
		head, whole := ParseFrameHead(frame)
		if !whole || !head.Final || head.Opcode != OpBinary || head.Length != int64(n) || head.Mask != key || head.Check(true, false) != nil {
			t.Errorf("%d bytes: %+v", n, head)
		}
		if head.Check(false, false) == nil { // RFC 6455 §5.1
			t.Error("a server must not mask")
		}
		if _, whole := ParseFrameHead(frame[:head.Size-1]); whole {
			t.Error("half a head is whole")
		}
		Mask(frame[head.Size:], head.Mask)
		if string(frame[head.Size:]) != payload {
			t.Errorf("%d bytes: another payload", n)
		}
	}
	closing := AppendMaskedClose(nil, ClosePolicy, strings.Repeat("é", 100), key) // RFC 6455 §5.5.1: UTF-8, also when cut
	Mask(closing[6:], key)
	if said := ParseClose(closing[6:]); !said.Peer || said.Code != ClosePolicy || said.Reason != strings.Repeat("é", 61) {
		t.Errorf("close: %v", said)
	}
}
