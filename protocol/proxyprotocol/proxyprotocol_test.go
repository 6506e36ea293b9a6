package proxyprotocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 makes a header of version 2 whose length is that of rest.
func v2(versionCommand, family byte, rest string) string {
	head := append(append([]byte(nil), signature...), versionCommand, family)
	return string(binary.BigEndian.AppendUint16(head, uint16(len(rest)))) + rest
}

const (
	ip4 = "\xc0\x00\x02\x01\xc6\x33\x64\x01\x12\x34\x01\xbb" // 192.0.2.1:4660 to 198.51.100.1:443
	ip6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x12\x34\x01\xbb"
)

var accepted = []struct {
	clause, header      string
	version             int
	source, destination string // empty: invalid
}{
	{"2.1: TCP4", "PROXY TCP4 192.0.2.1 198.51.100.1 4660 443\r\n", 1, "192.0.2.1:4660", "198.51.100.1:443"},
	{"2.1: TCP6", "PROXY TCP6 2001:db8::1 2001:db8::2 4660 443\r\n", 1, "[2001:db8::1]:4660", "[2001:db8::2]:443"},
	{"2.1: TCP6, longest", "PROXY TCP6 ffff:f:f:f:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", 1,
		"[ffff:f:f:f:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	{"2.1: TCP6 of an IPv4 client", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.1 1 2\r\n", 1, "192.0.2.1:1", "198.51.100.1:2"},
	{"2.1: port 0", "PROXY TCP4 192.0.2.1 198.51.100.1 0 0\r\n", 1, "192.0.2.1:0", "198.51.100.1:0"},
	{"2.1: UNKNOWN, short", "PROXY UNKNOWN\r\n", 1, "", ""},
	{"2.1: UNKNOWN, longest; what follows is ignored", "PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n", 1, "", ""},

	{"2.2: TCP over IPv4", v2(0x21, 0x11, ip4), 2, "192.0.2.1:4660", "198.51.100.1:443"},
	{"2.2: UDP over IPv4", v2(0x21, 0x12, ip4), 2, "192.0.2.1:4660", "198.51.100.1:443"},
	{"2.2: TCP over IPv6", v2(0x21, 0x21, ip6), 2, "[2001:db8::1]:4660", "[2001:db8::2]:443"},
	{"2.2: UDP over IPv6", v2(0x21, 0x22, ip6), 2, "[2001:db8::1]:4660", "[2001:db8::2]:443"},
	{"2.2: extensions are skipped", v2(0x21, 0x11, ip4+"\x04\x00\x04abcd\x02\x00\x01h"), 2, "192.0.2.1:4660", "198.51.100.1:443"},
	{"2.2: longest that we take", v2(0x21, 0x11, ip4+strings.Repeat("\x04", MaxV2-len(ip4))), 2, "192.0.2.1:4660", "198.51.100.1:443"},
	{"2.2: AF_UNIX", v2(0x21, 0x31, strings.Repeat("\x00", 216)), 2, "", ""},
	{"2.2: AF_UNIX datagram", v2(0x21, 0x32, strings.Repeat("\x00", 216)), 2, "", ""},
	{"2.2: UNSPEC", v2(0x21, 0x00, ""), 2, "", ""},
	{"2.2: UNSPEC with what is to be ignored", v2(0x21, 0x00, "anything"), 2, "", ""},
	{"2.2: LOCAL", v2(0x20, 0x00, ""), 2, "", ""},
	{"2.2: LOCAL ignores the family", v2(0x20, 0x11, ip4), 2, "", ""},
	{"2.2: LOCAL ignores a family that is none", v2(0x20, 0xff, "x"), 2, "", ""},
}

// A header is read, and what follows it is left to be read.
func TestRead(t *testing.T) {
	const next = "GET / HTTP/1.1\r\n"
	for _, test := range accepted {
		for name, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytewise": iotest.OneByteReader} {
			t.Run(test.clause+"/"+name, func(t *testing.T) {
				in := wrap(strings.NewReader(test.header + next))
				h, err := Read(in)
				if err != nil {
					t.Fatal(err)
				}
				want := Header{Version: test.version}
				if test.source != "" {
					want.Source, want.Destination = netip.MustParseAddrPort(test.source), netip.MustParseAddrPort(test.destination)
				}
				if h != want {
					t.Errorf("got %+v, want %+v", h, want)
				}
				if rest, _ := io.ReadAll(in); string(rest) != next {
					t.Errorf("left: %q", rest)
				}
			})
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for _, test := range []struct{ clause, header string }{
		{"2: no header", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"2: a TLS handshake", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abc"},
		{"2.1: lower case", "proxy TCP4 192.0.2.1 198.51.100.1 4660 443\r\n"},
		{"2.1: two spaces", "PROXY  TCP4 192.0.2.1 198.51.100.1 4660 443\r\n"},
		{"2.1: space at the end", "PROXY TCP4 192.0.2.1 198.51.100.1 4660 443 \r\n"},
		{"2.1: a tab", "PROXY TCP4\t192.0.2.1 198.51.100.1 4660 443\r\n"},
		{"2.1: bare LF", "PROXY TCP4 192.0.2.1 198.51.100.1 4660 443\n" + strings.Repeat("x", 100)},
		{"2.1: one byte too long", "PROXY UNKNOWN " + strings.Repeat("f", 92) + "\r\n"},
		{"2.1: never ends", "PROXY TCP4 " + strings.Repeat("1", 1000)},
		{"2.1: family", "PROXY UDP4 192.0.2.1 198.51.100.1 4660 443\r\n"},
		{"2.1: no family", "PROXY \r\n" + strings.Repeat(" ", 20) + "\r\n"},
		{"2.1: IPv6 as TCP4", "PROXY TCP4 2001:db8::1 2001:db8::2 4660 443\r\n"},
		{"2.1: IPv4 as TCP6", "PROXY TCP6 192.0.2.1 198.51.100.1 4660 443\r\n"},
		{"2.1: leading zeros in an address", "PROXY TCP4 192.000.2.1 198.51.100.1 4660 443\r\n"},
		{"2.1: zone", "PROXY TCP6 fe80::1%eth0 2001:db8::2 4660 443\r\n"},
		{"2.1: brackets", "PROXY TCP6 [2001:db8::1] [2001:db8::2] 4660 443\r\n"},
		{"2.1: name for an address", "PROXY TCP4 localhost 198.51.100.1 4660 443\r\n"},
		{"2.1: port too high", "PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n"},
		{"2.1: leading zero in a port", "PROXY TCP4 192.0.2.1 198.51.100.1 04660 443\r\n"},
		{"2.1: signed port", "PROXY TCP4 192.0.2.1 198.51.100.1 +4660 443\r\n"},
		{"2.1: port missing", "PROXY TCP4 192.0.2.1 198.51.100.1 4660\r\n"},
		{"2.1: NUL", "PROXY TCP4 192.0.2.1\x00 198.51.100.1 4660 443\r\n"},
		{"2.2: version 1 in a header of version 2", v2(0x11, 0x11, ip4)},
		{"2.2: version 3", v2(0x31, 0x11, ip4)},
		{"2.2: command", v2(0x22, 0x11, ip4)},
		{"2.2: family", v2(0x21, 0x41, ip4)},
		{"2.2: transport", v2(0x21, 0x13, ip4)},
		{"2.2: family without transport", v2(0x21, 0x10, ip4)},
		{"2.2: IPv4 cut short", v2(0x21, 0x11, ip4[:11])},
		{"2.2: IPv6 cut short", v2(0x21, 0x21, ip6[:35])},
		{"2.2: AF_UNIX cut short", v2(0x21, 0x31, strings.Repeat("/", 215))},
		{"2.2: longer than we take", v2(0x21, 0x11, ip4+strings.Repeat("\x04", MaxV2-len(ip4)+1))},
	} {
		t.Run(test.clause, func(t *testing.T) {
			h, err := Read(strings.NewReader(test.header))
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%+v, %v", h, err)
			}
			if h.Source.IsValid() && h.Destination.IsValid() {
				t.Errorf("it says something all the same: %+v", h)
			}
		})
	}
}

// A header that is cut anywhere is no header, and not the sender's fault but the network's.
func TestReadCutShort(t *testing.T) {
	for _, test := range accepted {
		for n := range len(test.header) {
			if h, err := Read(strings.NewReader(test.header[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s, %d bytes: %+v, %v", test.clause, n, h, err)
			}
		}
	}
}

// FuzzRead: whatever comes, no more is read than a header has, and what is read is all that decides.
func FuzzRead(f *testing.F) {
	for _, test := range accepted {
		f.Add([]byte(test.header))
	}
	f.Add([]byte(v2(0x21, 0x11, "short")))
	f.Add([]byte("PROXY TCP4 192.0.2.1 198.51.100.1 4660 99999\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.NewReader(data)
		h, err := Read(in)
		used := len(data) - in.Len()
		if used > headV2+MaxV2 || used > MaxV1 && !bytes.HasPrefix(data, signature) {
			t.Fatalf("%d bytes were read", used)
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			return
		}
		again, err := Read(bytes.NewReader(data[:used]))
		if err != nil || again != h {
			t.Fatalf("%+v, %v; before %+v", again, err, h)
		}
		if h.Source.IsValid() != h.Destination.IsValid() || h.Source.Addr().Zone() != "" || h.Source.Addr().Is4In6() {
			t.Fatalf("%+v", h)
		}
	})
}
