package coap

import (
	"bytes"
	"testing"
)

// withToken is a GET of /a with a token of its own.
func withToken(t Type, id uint16, token []byte, add ...func(*Options)) []byte {
	var options Options
	options.AddString(URIPath, "a")
	for _, f := range add {
		f(&options)
	}
	return AppendMessage(nil, t, GET, id, token, &options, nil)
}

func TestExtendedTokens(t *testing.T) {
	for _, length := range []int{0, 8, 9, 12, 13, 64} {
		b := newBench(t, nil)
		token := pattern(length)
		b.feed(alice, withToken(Confirmable, 1, token))
		b.respond(b.next("RFC 8974 §2.1: a token of any length up to ours"), Content, "x")
		if out := b.want("answered", "ACK 2.05"); !bytes.Equal(out[0].Token, token) {
			t.Errorf("RFC 8974 §2.1: a token of %d bytes came back as %x", length, out[0].Token)
		}
		b.feed(alice, withToken(Confirmable, 2, token, withUint(Observe, 0)))
		o := &Observation{}
		b.endpoint.Respond(b.next("registration"), &Response{Observation: o, Trusted: true}, b.now)
		b.want("registered", "ACK 2.05")
		b.endpoint.Notify(o, &Response{Body: []byte("n")}, b.now)
		if out := b.take(); len(out) != 1 || !bytes.Equal(out[0].Token, token) {
			t.Errorf("RFC 8974 §2.1: a notification for a token of %d bytes: %+v", length, out)
		}
	}
	for _, length := range []int{65, 268, 269, 1000} {
		b := newBench(t, nil)
		token := pattern(length)
		b.feed(alice, withToken(Confirmable, 1, token))
		if out := b.want("RFC 8974 §2.2: longer than our bound", "ACK 4.00"); !bytes.Equal(out[0].Token, token) {
			t.Errorf("RFC 8974 §2.2: the refusal has another token than that of %d bytes", length)
		}
		if n := b.endpoint.Stats().Peers; n != 0 {
			t.Errorf("%d peers are remembered for a refusal", n)
		}
	}
}

func TestTokensThatAreNoMessage(t *testing.T) {
	for _, test := range []struct{ clause, datagram string }{
		{"RFC 8974 §2.1: a token of 12 ends early", "4c010001 000102030405060708090a"},
		{"RFC 8974 §2.1: 15 is reserved", "4f010001 00"},
		{"RFC 8974 §2.1: the extended length is missing", "4d010001"},
		{"RFC 8974 §2.1: half of the extended length is missing", "4e010001 00"},
		{"RFC 8974 §2.1: the token ends early", "4d010001 00 010203"},
		{"RFC 8974 §2.1: the longest token of all", "4e010001 ffff 010203"},
	} {
		t.Run(test.clause, func(t *testing.T) {
			b := newBench(t, nil)
			b.feed(alice, unhex(t, test.datagram))
			b.want("RFC 7252 §4.2: a CON with a format error is rejected", "RST 0.00")
		})
	}
}

// No-Response is a sum of 2, 8 and 16 for 2.xx, 4.xx and 5.xx.
func TestNoResponseByClass(t *testing.T) {
	codes := []Code{Content, Changed, BadRequest, NotFound, InternalServerError, ServiceUnavailable}
	for _, value := range []uint32{0, 2, 8, 16, 10, 18, 24, 26} {
		for _, code := range codes {
			unwanted := code.IsSuccess() && value&2 != 0 || code.Class() == 4 && value&8 != 0 || code.Class() == 5 && value&16 != 0
			for _, kind := range []Type{Confirmable, NonConfirmable} {
				b := newBench(t, nil)
				b.feed(alice, request(kind, POST, 1, "/a", withUint(NoResponse, value)))
				b.respond(b.next("a request"), code, "")
				switch {
				case !unwanted && kind == Confirmable:
					b.want("RFC 7967 §2.1: the class is wanted", "ACK "+code.String())
				case !unwanted:
					b.want("RFC 7967 §2.1: the class is wanted", "NON "+code.String())
				case kind == Confirmable:
					b.want("RFC 7967 §2.1: a CON is acknowledged and no more", "ACK 0.00")
					b.feed(alice, request(kind, POST, 1, "/a", withUint(NoResponse, value)))
					b.want("RFC 7252 §4.5: a repeated one likewise", "ACK 0.00")
				default:
					b.want("RFC 7967 §2.1: a NON is not answered")
				}
			}
		}
	}
}

// What the Endpoint refuses itself keeps to No-Response as well.
func TestNoResponseToRefusals(t *testing.T) {
	for _, test := range []struct {
		why  string
		kind Type
		want []string
	}{
		{"RFC 7967 §2.1: CON", Confirmable, []string{"ACK 0.00"}},
		{"RFC 7967 §2.1: NON", NonConfirmable, nil},
	} {
		b := newBench(t, nil)
		b.feed(alice, request(test.kind, 30, 1, "/a", withUint(NoResponse, 26)))
		b.want(test.why+", an unknown method", test.want...)
	}
	b := newBench(t, nil)
	b.feed(alice, request(Confirmable, PUT, 1, "/a", withUint(NoResponse, 26), withUint(Block1, Block{0, true, 0}.Uint())))
	b.want("RFC 7959 §2.2: a block that is not of its size is refused all the same", "ACK 4.00")
	b.feed(alice, withPayload(request(Confirmable, PUT, 2, "/a", withUint(NoResponse, 26), withUint(Block1, Block{0, true, 0}.Uint())), pattern(16)))
	b.want("RFC 7959 §2.9.1: the client has to be told to go on", "ACK 2.31")
}

func TestOptionLengths(t *testing.T) {
	for _, test := range []struct {
		clause string
		number OptionNumber
		value  []byte
		want   string // of a NON; a CON gets 4.02 for a Reset
	}{
		{"RFC 7252 §5.10.8.1: If-Match of 9 bytes", IfMatch, pattern(9), "RST 0.00"},
		{"RFC 7252 §5.10.8.1: If-Match of 8 bytes", IfMatch, pattern(8), ""},
		{"RFC 7252 §5.10.8.1: an empty If-Match", IfMatch, nil, ""},
		{"RFC 7252 §5.10.8.2: If-None-Match has no value", IfNoneMatch, pattern(1), "RST 0.00"},
		{"RFC 7252 §5.10.1: an empty Uri-Host", URIHost, nil, "RST 0.00"},
		{"RFC 7252 §5.10.4: Accept of 3 bytes", Accept, pattern(3), "RST 0.00"},
		{"RFC 7252 §5.10: an ETag of 9 bytes is elective", ETag, pattern(9), ""},
		{"RFC 8768 §3: a Hop-Limit of 2 bytes is elective", HopLimit, pattern(2), ""},
		{"RFC 9175 §2.2.1: an Echo of 41 bytes is elective", Echo, pattern(41), ""},
		{"RFC 7252 §5.4.1: an unknown critical option", 65001, nil, "RST 0.00"},
		{"RFC 7252 §5.4.1: an unknown elective option", 65000, nil, ""},
	} {
		t.Run(test.clause, func(t *testing.T) {
			b := newBench(t, nil)
			b.feed(alice, request(NonConfirmable, GET, 1, "/a", withBytes(test.number, test.value)))
			if test.want == "" {
				b.next("goes to the application")
				return
			}
			b.want("RFC 7252 §5.4.3", test.want)
			b.feed(alice, request(Confirmable, GET, 2, "/a", withBytes(test.number, test.value)))
			b.want("RFC 7252 §5.4.3", "ACK 4.02")
		})
	}
}

// A datagram that consists of options costs no more than one walk over the first of them.
func TestOptionBombs(t *testing.T) {
	elective, paths := []byte{0x40, 1, 0, 1, 0xd1, 0xff, 0}, []byte{0x40, 1, 0, 1, 0xb0}
	for len(elective) < 60_000 {
		elective, paths = append(elective, 0), append(paths, 0) // delta 0, no value
	}
	for name, datagram := range map[string][]byte{"unknown options": elective, "Uri-Path": paths} {
		b := newBench(t, nil)
		m, err := Decode(datagram)
		if err != nil {
			t.Fatal(err)
		}
		in := incoming{Message: m}
		if n := testing.AllocsPerRun(10, func() { in.examine() }); n != 0 {
			t.Errorf("%s: looking at them allocates %v times", name, n)
		}
		b.feed(alice, datagram)
		b.want(name, "ACK 4.00")
		if b.endpoint.Next() != nil || b.endpoint.Stats().Peers != 0 {
			t.Errorf("%s: the request was taken", name)
		}
	}
	b := newBench(t, nil)
	b.feed(alice, append([]byte{0x40, 1, 0, 1, 0xb0}, make([]byte, maxOptions-1)...))
	b.next("as many options as are allowed")
}
