package tunnel

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"fieldgate/contract/schema"
	"fieldgate/protocol/h1"
)

// readings is the schema of the messages of the tests.
func readings(t testing.TB) *schema.Schema {
	t.Helper()
	compiler, err := schema.NewCompiler([]byte(`{"$defs":{"Reading":{"type":"object","required":["temp"],"properties":{"temp":{"type":"number","maximum":125},"note":{"type":"string"}}}}}`), schema.Options{})
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("#/$defs/Reading")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// frame is one frame of the client, with that first byte.
func frame(first byte, payload string) string {
	out := string(h1.AppendMaskedFrame(nil, h1.OpText, []byte(payload), [4]byte{9, 8, 7, 200}))
	return string([]byte{first}) + out[1:]
}

// served is one frame of the service.
func served(first byte, payload string) string {
	out := string(h1.AppendFrame(nil, h1.OpText, []byte(payload)))
	return string([]byte{first}) + out[1:]
}

// feed passes a stream through an inspector in pieces of that size.
func feed(i *inspector, stream string, size int) (out string, broken *breach) {
	var passed []byte
	var w work
	for len(stream) > 0 && broken == nil {
		n := min(size, len(stream))
		data := []byte(stream[:n])
		stream = stream[n:]
		for len(data) > 0 && broken == nil {
			w.out = w.out[:0]
			var due bool
			data, due, broken = i.pass(&w, data)
			if due {
				if broken = i.judge(&w); broken == nil {
					i.release(&w)
				}
			}
			passed = append(passed, w.out...)
		}
	}
	return string(passed), broken
}

func TestInspector(t *testing.T) {
	const good, bad = `{"temp":1}`, `{"temp":126}`
	long := `{"temp":1,"note":"` + strings.Repeat("x", 40_000) + `"}`
	all := "*" // as it came
	for _, test := range []struct {
		clause, stream, want string
		code                 int
		reason               string
	}{
		{"a valid message passes as it came", frame(0x81, good), all, 0, ""},
		{"binary is CBOR", frame(0x82, "\xa1\x64temp\x01"), all, 0, ""},
		{"messages one after the other", frame(0x81, good) + frame(0x81, good), all, 0, ""},
		{"a long message", frame(0x81, long) + frame(0x81, good), all, 0, ""},
		{"nothing of an incomplete message passes", frame(0x01, good), "", 0, ""},
		{"an invalid message says where it breaks", frame(0x81, good) + frame(0x81, bad), frame(0x81, good), 1008, "/temp maximum"},
		{"something left out", frame(0x81, `{}`), "", 1008, "required"},
		{"text that is no JSON", frame(0x81, "temp"), "", 1008, "syntax"},
		{"text as binary", frame(0x82, good), "", 1008, "syntax"},
		{"an empty message", frame(0x81, ""), "", 1008, "syntax"},
		{"RFC 6455 §5.4 fragments pass together", frame(0x01, `{"te`) + frame(0x00, `mp"`) + frame(0x80, `:1}`), all, 0, ""},
		{"RFC 6455 §5.4 empty fragments", frame(0x01, "") + frame(0x00, "") + frame(0x80, good), all, 0, ""},
		{"RFC 6455 §5.4 control between fragments passes at once", frame(0x01, `{"temp"`) + frame(0x89, "ping"), frame(0x89, "ping"), 0, ""},
		{"RFC 6455 §5.4 and the message follows", frame(0x01, `{"temp"`) + frame(0x89, "p") + frame(0x80, `:1}`), frame(0x89, "p") + frame(0x01, `{"temp"`) + frame(0x80, `:1}`), 0, ""},
		{"RFC 6455 §5.4 continuation of nothing", frame(0x80, good), "", 1002, "continuation of nothing"},
		{"RFC 6455 §5.4 message within a message", frame(0x01, "{") + frame(0x81, good), "", 1002, "message within a message"},
		{"RFC 6455 §5.5 long control frame", frame(0x89, strings.Repeat("x", 126)), "", 1002, "fragmented or long control frame"},
		{"RFC 6455 §5.5 fragmented control frame", frame(0x09, ""), "", 1002, "fragmented or long control frame"},
		{"RFC 6455 §5.5.1 close passes, and nothing after it", frame(0x88, "\x03\xe8bye") + frame(0x81, good), frame(0x88, "\x03\xe8bye"), 0, ""},
		{"RFC 6455 §5.5.1 malformed close", frame(0x88, "\x03"), "", 1002, "malformed close frame"},
		{"RFC 6455 §7.4.1 close code that must not be sent", frame(0x88, "\x03\xee"), "", 1002, "close code not allowed"},
		{"RFC 6455 §5.2 reserved bit", frame(0xc1, good), "", 1002, "reserved bit set without an extension"},
		{"RFC 6455 §5.2 unknown opcode", frame(0x83, good), "", 1002, "unknown opcode"},
		{"RFC 6455 §5.2 length not minimal", "\x81\xfe\x00\x01\x00\x00\x00\x00x", "", 1002, "length not minimal"},
		{"RFC 6455 §5.2 negative length", "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", "", 1002, "length not minimal"},
		{"RFC 6455 §5.1 client frame not masked", served(0x81, good), "", 1002, "client frame not masked"},
		{"RFC 6455 §8.1 text is not UTF-8", frame(0x81, "{\"temp\":1,\"note\":\"\xff\"}"), "", 1007, "text is not UTF-8"},
		{"RFC 6455 §10.4 too big by its length alone", "\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff\x01\x02\x03\x04", "", 1009, "message too big"},
		{"RFC 6455 §10.4 fragments too big", frame(0x01, long) + frame(0x80, long), "", 1009, "message too big"},
		{"RFC 6455 §10.4 too many fragments", frame(0x01, "") + strings.Repeat(frame(0x00, ""), 11_000), "", 1009, "message too big"},
	} {
		t.Run(test.clause, func(t *testing.T) {
			want := test.want
			if want == all {
				want = test.stream
			}
			for _, size := range []int{1, 2, 3, 7, 1000, len(test.stream)} {
				i := &inspector{schema: readings(t), max: 64 << 10, fromClient: true}
				out, broken := feed(i, test.stream, size)
				if broken == nil {
					broken = &breach{}
				}
				if out != want || broken.code != test.code || broken.reason != test.reason {
					t.Errorf("in pieces of %d: passed %.60q of %.60q, want %.60q; %+v", size, out, test.stream, want, broken)
				}
				if test.code == 0 && i.message == 0 && (i.held != nil || i.control != nil) {
					t.Error("it keeps a buffer between messages")
				}
			}
		})
	}
}

func TestInspectorOfTheService(t *testing.T) {
	i := &inspector{schema: readings(t), max: 100}
	if out, broken := feed(i, served(0x81, `{"temp":1}`)+served(0x88, ""), 5); broken != nil || out != served(0x81, `{"temp":1}`)+served(0x88, "") {
		t.Errorf("%q, %+v", out, broken)
	}
	i = &inspector{schema: readings(t), max: 100}
	if _, broken := feed(i, frame(0x81, `{"temp":1}`), 5); broken == nil || broken.code != 1002 { // RFC 6455 §5.1
		t.Errorf("a masked frame of the service: %+v", broken)
	}
}

func TestShadow(t *testing.T) {
	i := &inspector{schema: readings(t), max: 100, fromClient: true, shadow: true}
	stream := frame(0x81, `{"temp":126}`) + frame(0x81, `{}`)
	if out, broken := feed(i, stream, 6); broken != nil || out != stream {
		t.Errorf("%q, %+v", out, broken)
	}
	if i.invalid == nil || i.invalid.detail != "/temp /properties/temp/maximum" {
		t.Errorf("noted %+v", i.invalid)
	}
	if _, broken := feed(i, frame(0x81, "\xff"), 6); broken == nil || broken.code != 1007 { // what breaks the protocol never passes
		t.Errorf("%+v", broken)
	}
}

// FuzzInspector: however a stream is cut, the same passes; what passes is whole frames of it, and each whole message is valid.
func FuzzInspector(f *testing.F) {
	for _, stream := range []string{frame(0x81, `{"temp":1}`), frame(0x01, `{"te`) + frame(0x89, "p") + frame(0x80, `mp":1}`), frame(0x81, `{"temp":126}`),
		frame(0x88, "\x03\xe8"), frame(0x82, "\xa1\x64temp\x01"), frame(0x01, "") + frame(0x00, "") + frame(0x80, `{"temp":1}`) + frame(0x81, "\xff")} {
		f.Add([]byte(stream), uint8(3))
	}
	compiled := readings(f)
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		whole := &inspector{schema: compiled, max: 300, fromClient: true}
		out, broken := feed(whole, string(stream), len(stream)+1)
		cut := &inspector{schema: compiled, max: 300, fromClient: true}
		outCut, brokenCut := feed(cut, string(stream), int(size)+1)
		if out != outCut || (broken == nil) != (brokenCut == nil) || broken != nil && *broken != *brokenCut {
			t.Fatalf("cut into %d: %q %+v, whole: %q %+v", size, outCut, brokenCut, out, broken)
		}
		var message []byte
		var kind h1.Opcode
		for frames := []byte(out); len(frames) > 0; {
			head, complete := h1.ParseFrameHead(frames)
			if !complete || int64(len(frames)-head.Size) < head.Length {
				t.Fatalf("half a frame passed: %q", frames)
			}
			end := head.Size + int(head.Length)
			if !bytes.Contains(stream, frames[:end]) {
				t.Fatalf("%q never came", frames[:end])
			}
			if head.Opcode < h1.OpClose {
				if head.Opcode != h1.OpContinuation {
					kind = head.Opcode
				}
				payload := bytes.Clone(frames[head.Size:end])
				h1.Mask(payload, head.Mask)
				message = append(message, payload...)
				if head.Final {
					check := compiled.ValidateJSON
					if kind == h1.OpBinary {
						check = compiled.ValidateCBOR
					}
					if err := check(message); err != nil {
						t.Fatalf("%q passed: %v", message, err)
					}
					message = nil
				}
			}
			frames = frames[end:]
		}
		if message != nil {
			t.Fatalf("a part of a message passed: %q", message)
		}
	})
}

// FuzzFollower: the follower finds the same boundaries however the stream is cut.
func FuzzFollower(f *testing.F) {
	f.Add([]byte(frame(0x81, "x")+frame(0x88, "")), uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		var whole, cut follower
		whole.skip(stream)
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), int(size)+1)
			cut.skip(rest[:n])
			rest = rest[n:]
		}
		if whole.between() != cut.between() || whole.closed != cut.closed || whole.left != cut.left {
			t.Fatalf("%+v, cut %+v", whole, cut)
		}
	})
}

func BenchmarkInspector(b *testing.B) {
	message := frame(0x81, `{"temp":21.5,"note":"fine"}`)
	for name, stream := range map[string]string{"small": message, "16 KB of small": strings.Repeat(message, 16<<10/len(message))} {
		b.Run(name, func(b *testing.B) {
			i := &inspector{schema: readings(b), max: 64 << 10, fromClient: true}
			var w work
			data := []byte(stream)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				w.out = w.out[:0]
				if _, _, broken := i.pass(&w, data); broken != nil {
					b.Fatal(broken)
				}
			}
		})
	}
}

func TestFollowerLosesItselfOnlyWithTheStream(t *testing.T) {
	var f follower
	f.skip(binary.BigEndian.AppendUint64([]byte{0x82, 127}, 1<<63))
	if f.skip([]byte(served(0x88, ""))); f.between() || f.closed {
		t.Error("after a length that no frame has, nothing is known") // so that no close frame is put in
	}
}
