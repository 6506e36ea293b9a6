package coap

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestFrame(t *testing.T) {
	var options Options
	options.AddString(URIPath, "a")
	for _, test := range []struct {
		clause  string
		token   string
		payload int
		header  []byte
	}{
		{"RFC 8323 §3.2: a length below 13 stands in the first byte", "\x7f", 0, []byte{0x21, 0x45}},
		{"RFC 8323 §3.2: the longest of these", "", 9, []byte{0xc0, 0x45}},
		{"RFC 8323 §3.2: 13 has one byte more", "", 10, []byte{0xd0, 0, 0x45}},
		{"RFC 8323 §3.2: which goes up to 268", "12345678", 265, []byte{0xd8, 255, 0x45}},
		{"RFC 8323 §3.2: 269 has two", "", 266, []byte{0xe0, 0, 0, 0x45}},
		{"RFC 8323 §3.2: which go up to 65,804", "1", 65_801, []byte{0xe1, 0xff, 0xff, 0x45}},
		{"RFC 8323 §3.2: 65,805 has four", "", 65_802, []byte{0xf0, 0, 0, 0, 0, 0x45}},
		{"RFC 8323 §3.2: a megabyte", "", 1 << 20, []byte{0xf0, 0, 0x0e, 0xfe, 0xf6, 0x45}},
		{"RFC 8974 §2.1: a token of 12", "0123456789ab", 0, []byte{0x2c, 0x45}},
		{"RFC 8974 §2.1, §A.2: the length of one of 13 stands behind the code", "0123456789abc", 0, []byte{0x2d, 0x45}},
		{"RFC 8974 §2.1: one of 64", strings.Repeat("t", 64), 300, []byte{0xed, 0, 34, 0x45}},
	} {
		t.Run(test.clause, func(t *testing.T) {
			datagram := AppendMessage(nil, NonConfirmable, Content, 0, []byte(test.token), &options, pattern(test.payload))
			frame := appendFrame([]byte("before"), datagram)[len("before"):]
			if !bytes.HasPrefix(frame, test.header) {
				t.Errorf("header %x, want %x", frame[:min(len(frame), maxFrameHeader)], test.header)
			}
			if header, size := MeasureFrame(frame); header != len(test.header) || size != uint64(len(frame)) {
				t.Errorf("measured %d and %d bytes, want %d and %d", header, size, len(test.header), len(frame))
			}
			f := frames{limit: 2 << 20}
			got, rest, err := f.next(append(frame, "after"...))
			if err != nil || !bytes.Equal(got, datagram) || string(rest) != "after" || f.cut() {
				t.Errorf("%d bytes, %d follow, %v; want %d", len(got), len(rest), err, len(datagram))
			}
		})
	}
}

func TestFramesThatEndTheConnection(t *testing.T) {
	for _, test := range []struct {
		clause string
		bytes  []byte
		want   error
	}{
		{"RFC 8974 §2.1: token length 15 is reserved", []byte{0x0f, 1}, errFrameToken},
		{"RFC 8974 §2.2.1: a token of 65 bytes, which we did not offer", []byte{0x0d, 1, 65 - 13}, errFrameToken},
		{"RFC 8974 §2.2.1: one of 65,804", []byte{0x0e, 1, 0xff, 0xff}, errFrameToken},
		{"RFC 8323 §5.3.1: longer than we said, by one", []byte{0xe0, 3, 0xe8 - 17, 1}, errFrameLong},
		{"RFC 8323 §3.2: 4 GiB are refused before anything is kept", []byte{0xf8, 0xff, 0xff, 0xff, 0xff, 1}, errFrameLong},
	} {
		f := frames{limit: 1255}
		if _, _, err := f.next(test.bytes); !errors.Is(err, test.want) || cap(f.datagram) > 0 {
			t.Errorf("%s: %v, %d bytes kept", test.clause, err, cap(f.datagram))
		}
	}
	f := frames{limit: 2 << 20}
	if _, _, err := f.next([]byte{0xf0, 0, 0x0e, 0xfe, 0xf6, 0x45}); err != nil || cap(f.datagram) > 100 {
		t.Errorf("RFC 8323 §3.2: %d bytes are kept of a message whose header has come, %v", cap(f.datagram), err)
	}
}

// FuzzFrames holds that messages are the same however their bytes come cut, that what they are encoded to again is what came, and that
// nothing is kept beyond the limit.
func FuzzFrames(f *testing.F) {
	for _, seed := range [][]byte{
		{0x00, 0x00}, {0x00, 0xe1}, {0x01, 0xe2, 0x42}, {0x30, 0xe1, 0x22, 0x04, 0x80, 0x20, 0x41, 0x45, 0xff, 0x7f},
		{0xd1, 0x00, 0x01, 0x07, 0xb1, 'a', 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {0xe0, 0, 0, 1}, {0xf0, 0, 0, 0, 0, 1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x09, 1}, {0x1d, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xff}, {0x0e, 1, 0, 0},
	} {
		f.Add(seed, uint64(1))
	}
	f.Fuzz(func(t *testing.T, input []byte, seed uint64) {
		const limit = 300
		random := rand.New(rand.NewPCG(seed, 1))
		read := func(cut func(int) int) (messages, encoded []byte, failed error) {
			f := frames{limit: limit}
			for rest := input; len(rest) > 0 && failed == nil; {
				n := cut(len(rest))
				piece := rest[:n]
				rest = rest[n:]
				for len(piece) > 0 && failed == nil {
					var datagram []byte
					if datagram, piece, failed = f.next(piece); datagram != nil {
						messages = append(append(messages, datagram...), 0xfe)
						encoded = appendFrame(encoded, datagram)
					}
					if cap(f.datagram) > 2*limit {
						t.Fatalf("%d bytes are kept", cap(f.datagram))
					}
				}
			}
			return messages, encoded, failed
		}
		whole, encoded, err := read(func(n int) int { return n })
		pieces, _, errOfPieces := read(func(n int) int { return 1 + random.IntN(n) })
		if !bytes.Equal(whole, pieces) || !errors.Is(err, errOfPieces) {
			t.Fatalf("whole %x, %v; cut %x, %v", whole, err, pieces, errOfPieces)
		}
		if !bytes.HasPrefix(input, encoded) { // each length has one encoding
			t.Fatalf("%x was read of %x", encoded, input)
		}
	})
}
