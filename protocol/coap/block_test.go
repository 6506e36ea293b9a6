package coap

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// block1 is one block of an upload; each has its own token, as RFC 7959 §2.4 allows and libcoap does.
func block1(id uint16, num uint32, more bool, szx uint8, payload []byte, add ...func(*Options)) []byte {
	add = append(add, withUint(Block1, Block{num, more, szx}.Uint()))
	return withPayload(request(Confirmable, PUT, id, "/big", add...), payload)
}

func TestBlock1(t *testing.T) {
	body := pattern(2500)
	b := newBench(t, nil)
	b.feed(alice, block1(1, 0, true, 6, body[:1024], withUint(Size1, 2500)))
	out := b.want("RFC 7959 §2.9.1", "ACK 2.31")
	if block, ok, _ := out[0].Block(Block1); !ok || block != (Block{0, true, 6}) {
		t.Errorf("RFC 7959 §2.3: the answer repeats the block, M=1; got %+v", block)
	}
	b.feed(alice, block1(1, 0, true, 6, body[:1024], withUint(Size1, 2500)))
	b.want("a repeated datagram does not begin anew", "ACK 2.31")
	b.feed(alice, block1(2, 1, true, 6, body[1024:2048]))
	b.want("next block", "ACK 2.31")
	b.feed(alice, block1(3, 1, true, 6, body[1024:2048]))
	b.want("the same block in a new message", "ACK 2.31")
	b.feed(alice, block1(4, 2, false, 6, body[2048:]))
	r := b.next("RFC 7959 §2.5: the last block completes the body, whatever its token")
	if !bytes.Equal(r.Body, body) {
		t.Errorf("the body has %d bytes and differs", len(r.Body))
	}
	b.respond(r, Changed, "")
	out = b.want("the final response", "ACK 2.04")
	if block, ok, _ := out[0].Block(Block1); !ok || block != (Block{2, false, 6}) {
		t.Errorf("RFC 7959 §2.3: the final response repeats the block; got %+v", block)
	}
	b.pass(0)
	if n := b.endpoint.Stats().TransferBytes; n != 0 {
		t.Errorf("%d bytes of transfers remain", n)
	}
}

func TestBlock1Refusals(t *testing.T) {
	body := pattern(4096)
	for _, test := range []struct {
		clause string
		send   [][]byte
		want   string
	}{
		{"RFC 7959 §2.9.2: a block is missing", [][]byte{block1(1, 0, true, 4, body[:256]), block1(2, 2, true, 4, body[512:768])}, "ACK 4.08"},
		{"RFC 7959 §2.9.2: the first block is missing", [][]byte{block1(1, 1, true, 6, body[:1024])}, "ACK 4.08"},
		{"RFC 7959 §2.2: a block shorter than its size before the last", [][]byte{block1(1, 0, true, 6, body[:1000])}, "ACK 4.00"},
		{"RFC 7959 §2.2: a block longer than its size", [][]byte{block1(1, 0, false, 0, body[:17])}, "ACK 4.00"},
		{"RFC 7959 §2.9.3: the announced size is too large", [][]byte{block1(1, 0, true, 6, body[:1024], withUint(Size1, 3001))}, "ACK 4.13"},
		{"RFC 7959 §2.9.3: the body grows too large", [][]byte{block1(1, 0, true, 6, body[:1024]), block1(2, 1, true, 6, body[1024:2048]), block1(3, 2, true, 6, body[2048:3072])}, "ACK 4.13"},
		{"RFC 9175 §3.3: another Request-Tag is another body", [][]byte{block1(1, 0, true, 6, body[:1024], withUint(RequestTag, 1)), block1(2, 1, true, 6, body[1024:2048], withUint(RequestTag, 2))}, "ACK 4.08"},
		{"RFC 7959 §2.4: another query is another operation", [][]byte{block1(1, 0, true, 6, body[:1024]), block1(2, 1, true, 6, body[1024:2048], func(o *Options) { o.AddString(URIQuery, "q") })}, "ACK 4.08"},
		{"RFC 7252 §5.4.2: an option that is no part of the cache key makes no difference", [][]byte{block1(1, 0, true, 6, body[:1024]), block1(2, 1, true, 6, body[1024:2048], withUint(65052, 1))}, "ACK 2.31"},
	} {
		t.Run(test.clause, func(t *testing.T) {
			b := newBench(t, func(c *Config) { c.MaxBody = 3000 })
			var out []sent
			for _, datagram := range test.send {
				b.feed(alice, datagram)
				out = b.take()
			}
			if got := out[0].Type.String() + " " + out[0].Code.String(); len(out) != 1 || got != test.want {
				t.Errorf("answered %s, want %s", got, test.want)
			}
			if size, ok := out[0].Uint(Size1); out[0].Code == RequestEntityTooLarge && (!ok || size != 3000) {
				t.Errorf("RFC 7959 §4: 4.13 says what is acceptable; got %d", size)
			}
		})
	}
}

func TestConcurrentUploads(t *testing.T) {
	b := newBench(t, nil)
	one, two := pattern(64), bytes.Repeat([]byte{9}, 64)
	tag := func(n uint32) func(*Options) { return withUint(RequestTag, n) }
	for i := range uint16(4) {
		part := func(body []byte) []byte { return body[i*16 : i*16+16] }
		b.feed(alice, block1(10+i, uint32(i), i < 3, 0, part(one), tag(1)))
		b.feed(alice, block1(20+i, uint32(i), i < 3, 0, part(two), tag(2)))
		b.feed(bob, block1(10+i, uint32(i), i < 3, 0, part(two)))
	}
	got := map[string]int{}
	for r := b.endpoint.Next(); r != nil; r = b.endpoint.Next() {
		got[string(r.Body)]++
	}
	if got[string(one)] != 1 || got[string(two)] != 2 {
		t.Errorf("RFC 9175 §3.3: bodies were mixed: %d and %d", got[string(one)], got[string(two)])
	}
}

func TestTransfersAreBounded(t *testing.T) {
	b := newBench(t, func(c *Config) { c.TransferBytes = 40 << 10 })
	for i := range uint16(100) {
		from := alice
		from = netipPort(from, i)
		b.feed(from, block1(1, 0, true, 6, pattern(1024)))
	}
	refused := 0
	for _, s := range b.take() {
		if s.Code == ServiceUnavailable {
			refused++
		}
	}
	if refused == 0 || b.endpoint.Stats().TransferBytes > 41<<10 {
		t.Errorf("%d refused, %d bytes in transfer", refused, b.endpoint.Stats().TransferBytes)
	}
	b.pass(11 * time.Second)
	b.feed(bob, block1(1, 0, true, 6, pattern(1024)))
	b.want("abandoned bodies give way", "ACK 2.31")
	b.pass(250 * time.Second)
	if n := b.endpoint.Stats().TransferBytes; n != 0 {
		t.Errorf("%d bytes are in use after EXCHANGE_LIFETIME", n)
	}
	for i := range uint16(10) {
		b.feed(alice, block1(1+i, 0, true, 6, pattern(1024), withUint(RequestTag, uint32(i))))
	}
	if n := len(b.endpoint.known(alice).more.uploads); n != 4 {
		t.Errorf("one peer has %d bodies in transfer, want 4", n)
	}
}

func TestBlock2(t *testing.T) {
	body := pattern(2500)
	b := newBench(t, nil)
	b.feed(alice, request(Confirmable, GET, 1, "/big"))
	r := b.next("first")
	b.endpoint.Respond(r, &Response{Body: body, Trusted: true}, b.now)
	out := b.want("the first block", "ACK 2.05")
	tag, _ := out[0].Option(ETag)
	size, _ := out[0].Uint(Size2)
	if block, _, _ := out[0].Block(Block2); block != (Block{0, true, 6}) || len(tag) == 0 || size != 2500 {
		t.Errorf("RFC 7959 §2.4, §4: block %+v, ETag %x, Size2 %d", block, tag, size)
	}
	got := bytes.Clone(out[0].Payload)
	for i, num := range []uint32{1, 2} {
		b.feed(alice, request(Confirmable, GET, uint16(2+i), "/big", withUint(Block2, Block{Num: num, SZX: 6}.Uint())))
		if b.endpoint.Next() != nil {
			t.Error("the application was asked again for a body that is in transfer")
		}
		out = b.want("a later block", "ACK 2.05")
		if again, _ := out[0].Option(ETag); !bytes.Equal(again, tag) {
			t.Error("RFC 7959 §2.4: the ETag of a block differs")
		}
		got = append(got, out[0].Payload...)
	}
	if block, _, _ := out[0].Block(Block2); block.More || !bytes.Equal(got, body) {
		t.Errorf("RFC 7959 §2.4: %d bytes, or they differ", len(got))
	}
	b.feed(alice, request(Confirmable, GET, 9, "/big", withUint(Block2, Block{Num: 3, SZX: 6}.Uint())))
	b.want("RFC 7959 §2.4: there is no such block", "ACK 4.00")

	b.feed(bob, request(Confirmable, POST, 9, "/big", withUint(Block2, Block{Num: 3, SZX: 6}.Uint())))
	b.want("RFC 7959 §2.9.2: a block of an answer that nobody asked for", "ACK 4.08")
	b.feed(bob, request(Confirmable, GET, 10, "/big", withUint(Block2, Block{Num: 1, SZX: 6}.Uint())))
	b.endpoint.Respond(b.next("a GET without a snapshot goes to the application"), &Response{Body: body, Trusted: true}, b.now)
	if out = b.want("and is cut", "ACK 2.05"); !bytes.Equal(out[0].Payload, body[1024:2048]) {
		t.Error("the block differs")
	}
}

// Whoever asks for a later block and may not have it learns why.
func TestErrorForALaterBlock(t *testing.T) {
	b := newBench(t, nil)
	b.feed(alice, request(Confirmable, GET, 1, "/a", withUint(Block2, Block{Num: 3, SZX: 6}.Uint())))
	r := b.next("the request")
	b.respond(r, Unauthorized, "who are you?")
	m := b.take()[0]
	if m.Code != Unauthorized || string(m.Payload) != "who are you?" {
		t.Fatalf("%v %q", m.Code, m.Payload)
	}
	if _, ok := m.Uint(Block2); ok {
		t.Error("the error calls itself a block")
	}
}

func TestEarlyNegotiation(t *testing.T) {
	b := newBench(t, nil)
	b.feed(alice, request(Confirmable, GET, 1, "/a", withUint(Block2, Block{SZX: 2}.Uint())))
	b.endpoint.Respond(b.next("with Block2"), &Response{Body: pattern(100), Trusted: true}, b.now)
	out := b.want("RFC 7959 §2.4: the block size asked for is kept to", "ACK 2.05")
	if block, _, _ := out[0].Block(Block2); len(out[0].Payload) != 64 || block != (Block{0, true, 2}) {
		t.Errorf("%d bytes, %+v", len(out[0].Payload), block)
	}
}

func TestUnverifiedPeer(t *testing.T) {
	body := pattern(5000)
	ask := func(id uint16, add ...func(*Options)) []byte {
		return request(Confirmable, GET, id, "/a/path/that/is/as/long/as/those/of/interfaces", add...)
	}
	t.Run("RFC 9175 §2.4: smaller blocks that carry Echo", func(t *testing.T) {
		b := newBench(t, nil)
		b.feed(alice, ask(1))
		b.endpoint.Respond(b.next("first"), &Response{Body: body}, b.now)
		out := b.want("first", "ACK 2.05")
		if len(out[0].raw) > 3*len(ask(1)) || len(out[0].Payload) < 32 {
			t.Errorf("%d bytes were sent, %d of them payload", len(out[0].raw), len(out[0].Payload))
		}
		value, ok := out[0].Option(Echo)
		if !ok {
			t.Fatal("no Echo")
		}
		b.feed(bob, ask(2, withBytes(Echo, value)))
		b.endpoint.Respond(b.next("bob's"), &Response{Body: body}, b.now)
		if out = b.want("another's Echo proves nothing", "ACK 2.05"); len(out[0].raw) > 3*len(ask(2, withBytes(Echo, value))) {
			t.Errorf("%d bytes were sent", len(out[0].raw))
		}
		b.feed(alice, ask(3, withBytes(Echo, value)))
		b.endpoint.Respond(b.next("alice's"), &Response{Body: body}, b.now)
		if out = b.want("whoever returns Echo is verified", "ACK 2.05"); len(out[0].Payload) != 1024 {
			t.Errorf("%d bytes of payload", len(out[0].Payload))
		}
	})
	t.Run("RFC 9175 §2.4: challenge", func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.Challenge = true })
		b.feed(alice, ask(1))
		b.endpoint.Respond(b.next("first"), &Response{Body: body}, b.now)
		out := b.want("large", "ACK 4.01")
		value, ok := out[0].Option(Echo)
		if !ok || len(out[0].raw) > 3*len(ask(1)) {
			t.Fatalf("%d bytes, Echo %x", len(out[0].raw), value)
		}
		b.pass(6 * time.Minute)
		b.feed(alice, ask(2, withBytes(Echo, value)))
		b.endpoint.Respond(b.next("stale"), &Response{Body: body}, b.now)
		b.want("RFC 9175 §2.3: an old value is not fresh", "ACK 4.01")
		b.feed(alice, request(Confirmable, POST, 4, "/a"))
		b.endpoint.Respond(b.next("POST"), &Response{Code: Changed, Body: body}, b.now)
		b.want("a method with effects is not challenged after it was carried out", "ACK 2.04")
	})
	t.Run("RFC 7252 §5.5.2: a diagnostic payload is left out", func(t *testing.T) {
		b := newBench(t, nil)
		b.feed(alice, ask(1))
		b.respond(b.next("first"), BadRequest, strings.Repeat("x", 500))
		if out := b.want("error", "ACK 4.00"); len(out[0].Payload) != 0 {
			t.Errorf("%d bytes of payload", len(out[0].Payload))
		}
	})
	t.Run("every size, option and length of request stays below the limit", func(t *testing.T) {
		for size := range 3000 {
			b := newBench(t, nil)
			var options []func(*Options)
			if size%2 == 1 {
				options = append(options, withUint(Block2, Block{SZX: 6}.Uint()))
			}
			datagram := request(Type(size%4/2), [...]Code{GET, POST, FETCH}[size%3], 1, "/"+strings.Repeat("p", size%70), options...)
			b.feed(alice, datagram)
			response := &Response{Body: pattern(size)}
			if size%5 == 0 {
				response.Code = NotFound
			}
			response.Options.AddUint(ContentFormat, 50)
			response.Options.AddString(LocationPath, strings.Repeat("l", size%50))
			b.endpoint.Respond(b.next("first"), response, b.now)
			out := b.take()
			if len(out[0].raw) > 3*len(datagram) {
				t.Fatalf("%d bytes were sent for %d in answer to %d", len(out[0].raw), size, len(datagram))
			}
		}
	})
}
