package coap

import (
	"bytes"
	"testing"
	"time"
)

// What RFC 7959 and RFC 9175 §3 say of transfers beyond their ordinary course.
func TestBlockwiseClauses(t *testing.T) {
	body := pattern(3000)
	get := func(id uint16, num uint32, szx uint8, add ...func(*Options)) []byte {
		return request(Confirmable, GET, id, "/big", append(add, withUint(Block2, Block{Num: num, SZX: szx}.Uint()))...)
	}
	answer := func(b *bench, body []byte) {
		b.Helper()
		b.endpoint.Respond(b.next("the request"), &Response{Body: body, Trusted: true}, b.now)
	}
	for _, test := range []struct {
		clause string
		run    func(b *bench)
	}{
		{"RFC 7959 §4: Size2 of 0 asks for the size, with any block", func(b *bench) {
			b.feed(alice, get(1, 0, 6))
			answer(b, body)
			b.take()
			b.feed(alice, get(2, 1, 6, withUint(Size2, 0)))
			if size, ok := b.want("a later block", "ACK 2.05")[0].Uint(Size2); !ok || size != 3000 {
				b.Errorf("Size2 %d, %v", size, ok)
			}
		}},
		{"RFC 7959 §4: Size1 that is too large is refused with the first block, and nothing is kept", func(b *bench) {
			b.feed(alice, block1(1, 0, true, 6, body[:1024], withUint(Size1, 0xffffffff)))
			b.want("refused", "ACK 4.13")
			if n := b.endpoint.Stats().TransferBytes; n != 0 {
				b.Errorf("%d bytes are kept", n)
			}
		}},
		{"RFC 7959 §2.9.3: blocks without end are refused at the bound, and what came is forgotten", func(b *bench) {
			b.endpoint.config.MaxBody = 10_000
			id, refused := uint16(0), false
			for num := uint32(0); num < 100; num++ {
				id++
				b.feed(alice, block1(id, num, true, 6, body[:1024]))
				if b.take()[0].Code == RequestEntityTooLarge {
					refused = true
					break
				}
			}
			if n := b.endpoint.Stats().TransferBytes; !refused || n != 0 {
				b.Errorf("refused: %v, %d bytes are kept", refused, n)
			}
		}},
		{"RFC 7959 §2.4: any block may be asked for first", func(b *bench) {
			b.feed(alice, get(1, 2, 6))
			answer(b, body)
			if out := b.want("the last", "ACK 2.05")[0]; !bytes.Equal(out.Payload, body[2048:]) {
				b.Error("another block")
			}
			b.feed(alice, get(2, 1, 6))
			answer(b, body)
			if out := b.want("one in the middle", "ACK 2.05")[0]; !bytes.Equal(out.Payload, body[1024:2048]) {
				b.Error("another block")
			}
			b.feed(alice, get(3, 0, 6))
			answer(b, body)
			if out := b.want("the first, which is the application's to give", "ACK 2.05")[0]; !bytes.Equal(out.Payload, body[:1024]) {
				b.Error("another block")
			}
		}},
		{"RFC 7959 §2.4: the client may ask for smaller blocks in the middle", func(b *bench) {
			b.feed(alice, get(1, 0, 6))
			answer(b, body)
			got := bytes.Clone(b.want("the first", "ACK 2.05")[0].Payload)
			for id := uint16(2); len(got) < len(body); id++ {
				szx := uint8(6 - id%4)
				if len(got)%(16<<szx) != 0 {
					continue
				}
				b.feed(alice, get(id, uint32(len(got)>>(szx+4)), szx))
				got = append(got, b.want("a smaller one", "ACK 2.05")[0].Payload...)
			}
			if !bytes.Equal(got, body) {
				b.Errorf("%d bytes, or they differ", len(got))
			}
		}},
		{"RFC 7959 §2.3: the client may send smaller blocks in the middle", func(b *bench) {
			b.feed(alice, block1(1, 0, true, 6, body[:1024]))
			b.feed(alice, block1(2, 4, true, 4, body[1024:1280]))
			b.feed(alice, block1(3, 10, true, 3, body[1280:1408]))
			b.feed(alice, block1(4, 44, false, 1, body[1408:1420]))
			b.take()
			if r := b.next("the whole"); !bytes.Equal(r.Body, body[:1420]) {
				b.Errorf("%d bytes, or they differ", len(r.Body))
			}
		}},
		{"RFC 7959 §2.5: a new upload takes the place of an unfinished one", func(b *bench) {
			b.feed(alice, block1(1, 0, true, 6, body[:1024]))
			b.feed(alice, block1(2, 0, true, 6, body[1024:2048]))
			b.feed(alice, block1(3, 1, false, 6, body[:10]))
			b.take()
			if r := b.next("the second"); !bytes.Equal(r.Body, append(bytes.Clone(body[1024:2048]), body[:10]...)) {
				b.Error("the uploads were mixed")
			}
			b.feed(alice, block1(4, 1, false, 6, body[:10]))
			b.want("the first is no more", "ACK 4.08")
		}},
		{"RFC 7959 §2.5: blocks that overlap are refused", func(b *bench) {
			b.feed(alice, block1(1, 0, true, 6, body[:1024]))
			b.feed(alice, block1(2, 1, true, 5, body[512:1024]))
			b.feed(alice, block1(3, 1, true, 5, body[:512]))
			b.want("the same bytes again pass, others do not", "ACK 2.31", "ACK 2.31", "ACK 4.08")
		}},
		{"RFC 7959 §2.9.2: an upload that stands still is forgotten", func(b *bench) {
			b.feed(alice, block1(1, 0, true, 6, body[:1024]))
			b.take()
			b.pass(5 * time.Minute)
			b.feed(alice, block1(2, 1, false, 6, body[1024:1030]))
			b.want("too late", "ACK 4.08")
		}},
		{"RFC 9175 §3.4: Request-Tag tells downloads apart, too", func(b *bench) {
			for i := range uint32(2) {
				b.feed(alice, get(uint16(i), 0, 6, withUint(RequestTag, i+1)))
				answer(b, bytes.Repeat([]byte{byte(i)}, 2000))
				b.take()
			}
			for i := range uint32(2) {
				b.feed(alice, get(uint16(10+i), 1, 6, withUint(RequestTag, i+1)))
				if out := b.want("a later block", "ACK 2.05")[0]; out.Payload[0] != byte(i) {
					b.Errorf("download %d got a block of another", i)
				}
			}
		}},
		{"RFC 7959 §2.6: a large notification has its first block, and the others are of the same state", func(b *bench) {
			b.feed(alice, request(Confirmable, GET, 1, "/big", withUint(Observe, 0)))
			o := &Observation{}
			b.endpoint.Respond(b.next("registration"), &Response{Observation: o, Body: body, Trusted: true}, b.now)
			first, _ := b.want("registered", "ACK 2.05")[0].Option(ETag)
			b.pass(time.Second)
			changed := bytes.Repeat([]byte{7}, 1500)
			b.endpoint.Notify(o, &Response{Body: changed, Trusted: true}, b.now)
			out := b.take()[0]
			tag, _ := out.Option(ETag)
			block, _, _ := out.Block(Block2)
			if _, observe := out.Option(Observe); !observe || block != (Block{0, true, 6}) || bytes.Equal(tag, first) {
				b.Errorf("Observe %v, Block2 %+v, ETag %x after %x", observe, block, tag, first)
			}
			b.feed(alice, get(2, 1, 6))
			out = b.want("fetched without Observe, with another token", "ACK 2.05")[0]
			if again, _ := out.Option(ETag); !bytes.Equal(again, tag) || !bytes.Equal(out.Payload, changed[1024:]) {
				b.Errorf("%d bytes with ETag %x", len(out.Payload), again)
			}
			if _, observe := out.Option(Observe); observe {
				b.Error("a later block is a notification")
			}
		}},
	} {
		t.Run(test.clause, func(t *testing.T) { test.run(newBench(t, nil)) })
	}
}
