package coap

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeRefuses(t *testing.T) {
	for _, test := range []struct {
		clause, datagram string
		want             error
	}{
		{"RFC 7252 §3: nothing at all", "", ErrShort},
		{"RFC 7252 §3: one byte", "40", ErrShort},
		{"RFC 7252 §3: three bytes", "400100", ErrShort},
		{"RFC 7252 §3: version 0", "00010001", ErrVersion},
		{"RFC 7252 §3: version 2", "80010001", ErrVersion},
		{"RFC 8974 §2.1: token length 15 is reserved", "4f010001 010203040506070809", ErrTokenLength},
		{"RFC 7252 §3: token past the end", "44010001 0102", ErrTokenLength},
		{"RFC 7252 §3: marker without payload", "40010001 ff", ErrMarker},
		{"RFC 7252 §3.1: delta 15 is reserved", "40010001 f0", ErrOption},
		{"RFC 7252 §3.1: length 15 is reserved", "40010001 0f", ErrOption},
		{"RFC 7252 §3.1: extended delta missing", "40010001 d0", ErrOption},
		{"RFC 7252 §3.1: extended delta half", "40010001 e000", ErrOption},
		{"RFC 7252 §3.1: extended length missing", "40010001 0d", ErrOption},
		{"RFC 7252 §3.1: value past the end", "40010001 b3 61", ErrOption},
		{"RFC 7252 §3.1: number above 65535", "40010001 e0fef2 10", ErrOption},
		{"RFC 7252 §4.1: empty with token", "41000001 01", ErrEmpty},
		{"RFC 7252 §4.1: empty with payload", "60000001 ff01", ErrEmpty},
	} {
		t.Run(test.clause, func(t *testing.T) {
			if _, err := Decode(unhex(t, test.datagram)); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestMessageRoundTrip(t *testing.T) {
	var options Options
	// Added out of order: RFC 7252 §3.1 has them encoded by number, those of one number in the order added.
	options.AddUint(Block1, Block{Num: 3, More: true, SZX: 6}.Uint())
	options.AddString(URIPath, "v1")
	options.AddString(URIQuery, "a=b")
	options.AddString(URIPath, strings.Repeat("x", 255))
	options.Add(RequestTag, []byte{1, 2, 3, 4})
	options.AddUint(ContentFormat, CBOR)
	options.AddUint(MaxAge, 0)
	options.Add(65052, bytes.Repeat([]byte{7}, 300))
	datagram := AppendMessage(nil, Confirmable, PUT, 0xbeef, []byte("tok"), &options, []byte("payload"))

	m, err := Decode(datagram)
	if err != nil {
		t.Fatal(err)
	}
	if m.Type != Confirmable || m.Code != PUT || m.MessageID != 0xbeef || string(m.Token) != "tok" || string(m.Payload) != "payload" {
		t.Errorf("header, token or payload differ: %+v", m)
	}
	var numbers []OptionNumber
	for it := m.Iterate(); it.Next(); {
		numbers = append(numbers, it.Number)
	}
	want := []OptionNumber{URIPath, URIPath, ContentFormat, MaxAge, URIQuery, Block1, RequestTag, 65052}
	if len(numbers) != len(want) {
		t.Fatalf("options %v, want %v", numbers, want)
	}
	for i := range want {
		if numbers[i] != want[i] {
			t.Fatalf("options %v, want %v", numbers, want)
		}
	}
	if path := m.Path(); path != "/v1/"+strings.Repeat("x", 255) {
		t.Errorf("path %q", path)
	}
	if age, ok := m.Uint(MaxAge); !ok || age != 0 {
		t.Errorf("RFC 7252 §3.2: zero is an empty value; got %d, %v", age, ok)
	}
	if b, ok, valid := m.Block(Block1); !ok || !valid || b != (Block{3, true, 6}) {
		t.Errorf("block %+v", b)
	}
	if v, _ := m.Option(65052); len(v) != 300 {
		t.Errorf("an option unknown to us is %d bytes long, want 300", len(v))
	}
	if again := encodeAgain(&m); !bytes.Equal(again, datagram) {
		t.Errorf("encoded again:\n%x\nwant\n%x", again, datagram)
	}
}

// encodeAgain encodes what was decoded.
func encodeAgain(m *Message) []byte {
	var options Options
	for it := m.Iterate(); it.Next(); {
		options.Add(it.Number, it.Value)
	}
	return AppendMessage(nil, m.Type, m.Code, m.MessageID, m.Token, &options, m.Payload)
}

func TestPathAndQuery(t *testing.T) {
	for _, test := range []struct {
		clause      string
		path, query []string
		wantPath    string
		wantQuery   string
	}{
		{"RFC 7252 §6.5: no segments", nil, nil, "/", ""},
		{"RFC 7252 §6.5: plain", []string{"a", "b"}, []string{"x=1", "y"}, "/a/b", "x=1&y"},
		{"RFC 7252 §6.5: an empty segment is kept", []string{"a", ""}, nil, "/a/", ""},
		{"RFC 7252 §6.5: a slash in a segment is no separator", []string{"a/b"}, nil, "/a%2Fb", ""},
		{"RFC 7252 §6.5: an ampersand in an argument is no separator", nil, []string{"a=1&2", "/?"}, "/", "a=1%262&/?"},
		{"RFC 3986 §2.1: bytes outside the set", []string{"ü%\x00"}, []string{"#"}, "/%C3%BC%25%00", "%23"},
	} {
		t.Run(test.clause, func(t *testing.T) {
			var options Options
			for _, s := range test.path {
				options.AddString(URIPath, s)
			}
			for _, s := range test.query {
				options.AddString(URIQuery, s)
			}
			m, err := Decode(AppendMessage(nil, Confirmable, GET, 1, nil, &options, nil))
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Path(); got != test.wantPath {
				t.Errorf("path %q, want %q", got, test.wantPath)
			}
			if got := m.Query(); got != test.wantQuery {
				t.Errorf("query %q, want %q", got, test.wantQuery)
			}
		})
	}
}

func TestOptionLengthOutOfRangeIsNotRecognized(t *testing.T) {
	var options Options
	options.Add(MaxAge, []byte{1, 2, 3, 4, 5}) // RFC 7252 §5.4.3, table in §5.10: 0 to 4 bytes
	m, err := Decode(AppendMessage(nil, Acknowledgement, Content, 1, nil, &options, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Uint(MaxAge); ok {
		t.Error("a Max-Age of five bytes was accepted")
	}
}

func TestOptionClasses(t *testing.T) {
	for _, test := range []struct {
		number             OptionNumber
		critical, cacheKey bool
	}{ // RFC 7252 §5.10, RFC 7959 §2.1, RFC 9175 §2.2.1 and §3.2.1
		{URIPath, true, true}, {ContentFormat, false, true}, {Size1, false, false}, {Size2, false, false},
		{Block1, true, true}, {Echo, false, false}, {RequestTag, false, true}, {65052, false, false}, {Observe, false, true},
	} {
		if test.number.Critical() != test.critical || test.number.partOfCacheKey() != test.cacheKey {
			t.Errorf("option %d: critical %v, part of the cache key %v", test.number, test.number.Critical(), test.number.partOfCacheKey())
		}
	}
}

func TestCodeString(t *testing.T) {
	for code, want := range map[Code]string{GET: "GET", IPATCH: "iPATCH", Content: "2.05", TooManyRequests: "4.29", Empty: "0.00", 0x3f: "1.31"} {
		if code.String() != want {
			t.Errorf("%d is %q, want %q", uint8(code), code, want)
		}
	}
}

// FuzzDecode holds that decoding never fails on what it accepted, and that what it accepted has one encoding.
func FuzzDecode(f *testing.F) {
	for _, seed := range fuzzSeeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		m, err := Decode(datagram)
		if err != nil {
			return
		}
		m.Path()
		m.Query()
		if again := encodeAgain(&m); !bytes.Equal(again, datagram) {
			t.Fatalf("%x was encoded again as %x", datagram, again)
		}
	})
}

func fuzzSeeds(t testing.TB) [][]byte {
	var seeds [][]byte
	for _, s := range []string{
		"", "40", "40000001", "70000001", "60000001", "40010001", "44010001 01020304 b161 c132 ff70",
		"48033322 0102030405060708 b3626967 10 d10e0e d10f10 ff 30313233343536373839616263646566",
		"50010002 60 b36f6273", "50010002 6101 b36f6273", "40010003 d10a06 b161", "40010001 d0 e0fef2 1f", "4001 0001 91 61",
		"40020001 b161 d10a08 ff 00", "4d010001 00 0102030405060708090a0b0c0d b161", "40a50001 ff", "60450001 ff31", "40e10001",
	} {
		seeds = append(seeds, unhex(t, s))
	}
	return seeds
}
