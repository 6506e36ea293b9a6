package dtls

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
)

// Whatever comes, it costs nobody but its sender: no state, no answer longer than it, no message that nobody has sealed.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{})
	f.Add(helloRecord(0, 0, nil, 120, 120))
	f.Add(helloRecord(1, 1, bytes.Repeat([]byte{7}, cookieLength), 300, 200))
	f.Add(helloRecord(1<<47, 9, nil, 1<<20, 60))
	f.Add([]byte{typeAlert, 0xfe, version12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 0})
	f.Add(append([]byte{typeApplicationData, 0xfe, version12, 0, 1, 0, 0, 0, 0, 0, 1, 0, 20}, make([]byte, 20)...))
	s := newStill(nil)
	s.add(2)
	first := s.all[0]
	delete(s.byNumber, first.number)
	first.number = 0x0102030405060708 // that fuzzing can find
	s.byNumber[first.number] = first
	plain := s.all[1]
	plain.hasCID = false
	s.byAddress[plain.address] = plain
	id := []byte{typeCID, 0xfe, version12, 0, 1, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 30}
	f.Add(append(slices.Clone(id), make([]byte, 30)...))
	f.Add(append(append([]byte{typeChangeCipherSpec, 0xfe, version12, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 1}, id...), make([]byte, 30)...))
	stranger := netip.MustParseAddrPort("192.0.2.1:1000")
	f.Fuzz(func(t *testing.T, datagram []byte) {
		for _, from := range []netip.AddrPort{stranger, first.address, plain.address} {
			before := s.sent
			s.Open(from, slices.Clone(datagram), func(netip.AddrPort, []byte) { t.Error("a message came of it") })
			if s.sent-before > len(datagram) {
				t.Errorf("%d bytes are answered with %d", len(datagram), s.sent-before)
			}
		}
		if n := s.Stats(); n.Sessions != 2 || n.Handshakes != 0 || n.Moved != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// A hello that is read is what was written, and its cookie can be taken out of it.
func FuzzHello(f *testing.F) {
	for _, cookie := range []string{"", "01234567890123456789"} {
		r, _, _ := nextRecord(helloRecord(0, 0, []byte(cookie), 120, 120))
		f.Add(r.body[handshakeHeader:])
	}
	f.Add([]byte{0xfe, version12, 34: 32})
	f.Fuzz(func(t *testing.T, body []byte) {
		h, ok := parseHello(body)
		if !ok {
			return
		}
		if !bytes.HasPrefix(body, h.bound) || len(h.bound) > 35+maxSessionID || len(h.cookie) > 255 {
			t.Fatalf("%d bytes bound, a cookie of %d", len(h.bound), len(h.cookie))
		}
		begin, end := withoutCookie(body, &h)
		again, ok := parseHello(slices.Concat(begin, end))
		if !ok || !bytes.Equal(again.bound, h.bound) || len(again.cookie) != 0 {
			t.Fatalf("without its cookie: %v %d", ok, len(again.cookie))
		}
		if len(begin)+len(end) != len(body)-len(h.cookie) {
			t.Fatal("something else was lost")
		}
	})
}

// Records and fragments lie within their datagram.
func FuzzRecords(f *testing.F) {
	f.Add(append(helloRecord(0, 0, nil, 120, 60), helloRecord(1, 1, nil, 60, 60)...))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		for left := datagram; ; {
			r, rest, ok := nextRecord(left)
			if !ok {
				return
			}
			if len(r.header)+len(r.body)+len(rest) != len(left) {
				t.Fatalf("%d+%d+%d bytes of %d", len(r.header), len(r.body), len(rest), len(left))
			}
			if part, ok := parseFragment(&r); ok && (part.offset+len(part.body) > part.length || len(part.body) > len(r.body)) {
				t.Fatalf("%+v", part)
			}
			left = rest
		}
	})
}
