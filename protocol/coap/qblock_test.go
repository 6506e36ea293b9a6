package coap

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestQuickTransfersOverLossyNetwork moves bodies both ways while datagrams are lost, repeated and overtake each other. They have to
// arrive as they were, and an upload is to be carried out once, however often its blocks or its answer come.
func TestQuickTransfersOverLossyNetwork(t *testing.T) {
	for _, size := range []int{64 << 10, 1 << 20} {
		for seed, lose := range []float64{0, 0.1, 0.2, 0.3} {
			t.Run(fmt.Sprintf("%d KiB, %.0f %% lost", size>>10, lose*100), func(t *testing.T) {
				n := newNetwork(t, uint64(seed))
				n.lose, n.repeat, n.delay = lose, lose/2, 300*time.Millisecond
				address := netip.MustParseAddrPort("198.51.100.1:5683")
				server := n.add(address, Config{})
				carriedOut := 0
				var stored []byte
				n.afterFeed = func(netip.AddrPort) {
					for r := server.Next(); r != nil; r = server.Next() {
						response := &Response{Body: stored}
						if r.Code == PUT {
							carriedOut++
							stored = bytes.Clone(r.Body)
							response = &Response{Code: Changed}
						}
						server.Respond(r, response, n.now)
					}
				}
				client := &quickClient{server: address, szx: 6, send: n.sender(alice), now: n.now}
				n.join(alice, client)
				body := make([]byte, size)
				random := rand.New(rand.NewPCG(uint64(seed), 2))
				for i := range body {
					body[i] = byte(random.Uint32())
				}
				began := n.now
				client.put("body", body, n.now)
				if !n.run(2*time.Hour, client.done) || client.err != nil || client.code != Changed {
					t.Fatalf("upload: %v %v, %d bytes of transfers", client.code, client.err, server.Stats().TransferBytes)
				}
				if sha256.Sum256(stored) != sha256.Sum256(body) || carriedOut != 1 {
					t.Fatalf("%d bytes came, or they differ; carried out %d times", len(stored), carriedOut)
				}
				t.Logf("upload: %v, %d datagrams there, %d back, for %d blocks", n.now.Sub(began), client.sent, client.received, client.blocks())
				client.sent, client.received, began = 0, 0, n.now
				client.get("body", n.now)
				if !n.run(2*time.Hour, client.done) || client.err != nil || client.code != Content {
					t.Fatalf("download: %v %v", client.code, client.err)
				}
				if sha256.Sum256(client.download) != sha256.Sum256(body) {
					t.Fatalf("%d bytes came, or they differ", len(client.download))
				}
				t.Logf("download: %v, %d datagrams there, %d back", n.now.Sub(began), client.sent, client.received)
				n.run(10*time.Minute, func() bool { return false })
				if stats := server.Stats(); stats.TransferBytes != 0 || len(server.paced) != 0 || len(server.outstanding) != 0 {
					t.Errorf("afterwards there is left: %+v, %d that go on", stats, len(server.paced))
				}
			})
		}
	}
}

// qblock1 is one block of an upload of that many bytes, in blocks of 64; each has its own token.
func qblock1(kind Type, id uint16, tag uint32, num uint32, size int, body []byte, add ...func(*Options)) []byte {
	end := min((int(num)+1)*64, size)
	add = append(add, withUint(QBlock1, Block{num, end < size, 2}.Uint()), withUint(Size1, uint32(size)), withUint(RequestTag, tag))
	return withPayload(request(kind, PUT, id, "/big", add...), body[int(num)*64:end])
}

func qget(kind Type, id uint16, blocks ...Block) []byte {
	return request(kind, GET, id, "/big", withQBlocks(blocks...))
}

func withQBlocks(blocks ...Block) func(*Options) {
	return func(o *Options) {
		for _, b := range blocks {
			o.AddUint(QBlock2, b.Uint())
		}
	}
}

// missing checks the numbers that a 4.08 lists.
func (b *bench) missing(m sent, want ...uint32) {
	b.Helper()
	format, _ := m.Uint(ContentFormat)
	numbers, err := decodeMissing(m.Payload)
	if m.Code != RequestEntityIncomplete || format != 272 || err != nil || !slices.Equal(numbers, want) {
		b.Fatalf("%v %v of format %d lists %v, %v; want %v", m.Type, m.Code, format, numbers, err, want)
	}
}

// blocks checks which blocks of the body were sent, with the token of which request.
func (b *bench) blocks(why string, token byte, body []byte, want ...uint32) []sent {
	b.Helper()
	out := b.take()
	var got []uint32
	for _, m := range out {
		block, ok, _ := m.Block(QBlock2)
		size, sized := m.Uint(Size2)
		tag, _ := m.Option(ETag)
		end := min(block.Offset()+block.Size(), len(body))
		if !ok || !sized || int(size) != len(body) || !bytes.Equal(tag, bodyTag(body)) || block.More != (end < len(body)) || !bytes.Equal(m.Payload, body[block.Offset():end]) {
			b.Fatalf("%s: %v %v is no block of the body: %+v, Size2 %d, ETag %x", why, m.Type, m.Code, block, size, tag)
		}
		if !bytes.Equal(m.Token, []byte{0, token}) {
			b.Errorf("%s: block %d has token %x, want that of %d", why, block.Num, m.Token, token)
		}
		got = append(got, block.Num)
	}
	if !slices.Equal(got, want) {
		b.Fatalf("%s: blocks %v, want %v", why, got, want)
	}
	return out
}

func upTo(from, to uint32) (all []uint32) {
	for ; from <= to; from++ {
		all = append(all, from)
	}
	return all
}

// What RFC 9177 says of a server.
func TestQuickBlockClauses(t *testing.T) {
	body := pattern(64*25 + 10) // 26 blocks
	long := pattern(64 * 300)
	size := len(body)
	answer := func(b *bench, body []byte) {
		b.Helper()
		b.endpoint.Respond(b.next("the request"), &Response{Body: body, Trusted: true}, b.now)
	}
	whole := func(b *bench, body []byte) *Request {
		b.Helper()
		r := b.next("the whole body")
		if !bytes.Equal(r.Body, body) {
			b.Errorf("%d bytes, or they differ", len(r.Body))
		}
		return r
	}
	// odd is a block that contradicts the others of 192 bytes.
	odd := func(id uint16, block Block, size uint32) []byte {
		return withPayload(request(NonConfirmable, PUT, id, "/big", withUint(QBlock1, block.Uint()), withUint(Size1, size), withUint(RequestTag, 1)), body[:block.Size()])
	}
	for _, test := range []struct {
		clause string
		run    func(b *bench)
	}{
		{"§4.1: Block and Q-Block in one message", func(b *bench) {
			b.feed(alice, request(Confirmable, GET, 1, "/big", withUint(Block2, 6), withUint(QBlock2, 6)))
			b.feed(alice, qblock1(Confirmable, 2, 1, 0, size, body, withUint(Block2, 6)))
			b.feed(alice, withPayload(request(Confirmable, PUT, 3, "/big", withUint(Block1, 14), withUint(QBlock2, 6)), body[:1024]))
			b.want("refused", "ACK 4.00", "ACK 4.00", "ACK 4.00")
		}},
		{"§4.1: Q-Block1 is not repeatable", func(b *bench) {
			b.feed(alice, qblock1(Confirmable, 1, 1, 0, size, body, withUint(QBlock1, 6)))
			b.feed(alice, qblock1(NonConfirmable, 2, 1, 0, size, body, withUint(QBlock1, 6)))
			b.want("as an option that is not known", "ACK 4.02", "RST 0.00")
		}},
		{"§4.3: Q-Block1 comes with Request-Tag and Size1", func(b *bench) {
			b.feed(alice, withPayload(request(Confirmable, PUT, 1, "/big", withUint(QBlock1, 10), withUint(Size1, 1000)), body[:64]))
			b.feed(alice, withPayload(request(Confirmable, PUT, 2, "/big", withUint(QBlock1, 10), withUint(RequestTag, 1)), body[:64]))
			b.want("refused", "ACK 4.00", "ACK 4.00")
		}},
		{"§4.2: the reserved size exponent", func(b *bench) {
			b.feed(alice, qget(Confirmable, 1, Block{SZX: 7}))
			b.want("refused", "ACK 4.00")
		}},
		{"§4.3, §10.1.1: nothing is said before the body is whole, then the answer with the newest token", func(b *bench) {
			for i, num := range []uint32{3, 0, 2, 1} {
				b.feed(alice, qblock1(NonConfirmable, uint16(10+i), 1, num, 200, body))
			}
			b.want("only silence")
			b.respond(whole(b, body[:200]), Changed, "")
			if out := b.want("answered", "NON 2.04")[0]; !bytes.Equal(out.Token, []byte{0, 13}) {
				b.Errorf("token %x", out.Token)
			}
			b.feed(alice, qblock1(NonConfirmable, 20, 1, 3, 200, body))
			if out := b.want("§4.3: a block that comes again is answered alike", "NON 2.04")[0]; !bytes.Equal(out.Token, []byte{0, 20}) {
				b.Errorf("token %x", out.Token)
			}
			if b.endpoint.Next() != nil {
				b.Error("it was carried out twice")
			}
		}},
		{"§4.3: a body may be one block", func(b *bench) {
			b.feed(alice, qblock1(NonConfirmable, 1, 1, 0, 10, body))
			whole(b, body[:10])
		}},
		{"§7.2, §10.1.2: a whole set is confirmed", func(b *bench) {
			for num := range uint32(20) {
				b.feed(alice, qblock1(NonConfirmable, uint16(num), 1, num, size, body))
			}
			for i, out := range b.want("two sets", "NON 2.31", "NON 2.31") {
				if block, _, _ := out.Block(QBlock1); block != (Block{uint32(i*10 + 9), true, 2}) || out.Token[1] != byte(i*10+9) {
					b.Errorf("2.31 for %+v with token %x", block, out.Token)
				}
			}
			b.feed(alice, qblock1(NonConfirmable, 30, 1, 19, size, body))
			b.want("§4.3: its last block again, and the 2.31 again", "NON 2.31")
		}},
		{"§7.2, §10.1.3: a set that begins tells what the one before it lacks", func(b *bench) {
			for _, num := range []uint32{0, 2, 3, 4, 5, 6, 7, 8, 11} {
				b.feed(alice, qblock1(NonConfirmable, uint16(num), 1, num, size, body))
			}
			out := b.want("at once", "NON 4.08")[0]
			if b.missing(out, 1, 9); !bytes.Equal(out.Token, []byte{0, 11}) {
				b.Errorf("token %x", out.Token)
			}
			b.feed(alice, qblock1(NonConfirmable, 21, 1, 1, size, body))
			b.feed(alice, qblock1(NonConfirmable, 22, 1, 9, size, body))
			if block, _, _ := b.want("the first set is whole", "NON 2.31")[0].Block(QBlock1); block.Num != 9 {
				b.Errorf("2.31 for %+v", block)
			}
			b.pass(4 * time.Second)
			b.missing(b.want("NON_RECEIVE_TIMEOUT", "NON 4.08")[0], 10, 12, 13, 14, 15, 16, 17, 18, 19, 20)
		}},
		{"§10.1.4: who does not send what is missing is asked four times, ever later, and then no more", func(b *bench) {
			b.feed(alice, qblock1(NonConfirmable, 1, 1, 0, 192, body))
			b.feed(alice, qblock1(NonConfirmable, 3, 1, 2, 192, body))
			for _, wait := range []time.Duration{4, 8, 16, 32} {
				b.pass(wait*time.Second - time.Millisecond)
				b.want("not before its time")
				b.pass(time.Millisecond)
				b.missing(b.want("again", "NON 4.08")[0], 1)
			}
			b.pass(64 * time.Second)
			b.want("nothing more")
			if n := b.endpoint.Stats().TransferBytes; n != 0 || len(b.endpoint.paced) != 0 {
				b.Errorf("%d bytes remain", n)
			}
		}},
		{"§4.3: a Reset to the question ends the upload", func(b *bench) {
			b.feed(alice, qblock1(NonConfirmable, 1, 1, 0, 192, body))
			b.pass(4 * time.Second)
			out := b.want("asked", "NON 4.08")[0]
			b.feed(bob, appendEmpty(nil, Reset, out.MessageID))
			b.feed(alice, appendEmpty(nil, Reset, out.MessageID+1))
			if b.endpoint.Stats().TransferBytes == 0 {
				b.Error("another's Reset counts, or one of another message")
			}
			b.feed(alice, appendEmpty(nil, Reset, out.MessageID))
			if n := b.endpoint.Stats().TransferBytes; n != 0 {
				b.Errorf("%d bytes remain", n)
			}
		}},
		{"§4.3, §5: Confirmable blocks are acknowledged, and nothing else is said", func(b *bench) {
			for num := range uint32(11) {
				b.feed(alice, qblock1(Confirmable, uint16(num), 1, num, 64*12, body))
				b.want("acknowledged", "ACK 0.00")
			}
			b.pass(10 * time.Second)
			b.want("no 4.08")
			b.feed(alice, qblock1(Confirmable, 3, 1, 3, 64*12, body))
			b.want("a repeated datagram", "ACK 0.00")
			b.feed(alice, qblock1(Confirmable, 11, 1, 11, 64*12, body))
			b.respond(whole(b, body[:64*12]), Changed, "")
			b.want("the answer with the last acknowledgement", "ACK 2.04")
			b.feed(alice, qblock1(Confirmable, 12, 1, 11, 64*12, body))
			b.want("the same again", "ACK 2.04")
		}},
		{"§4.3: a forged repetition changes nothing", func(b *bench) {
			b.feed(alice, qblock1(NonConfirmable, 1, 1, 0, 192, body))
			b.feed(alice, qblock1(NonConfirmable, 2, 1, 2, 192, body))
			b.feed(alice, qblock1(NonConfirmable, 3, 1, 0, 192, bytes.Repeat([]byte{9}, 192)))
			b.feed(alice, qblock1(NonConfirmable, 4, 1, 1, 192, body))
			whole(b, body[:192])
		}},
		{"§4.3: bodies with different Request-Tags go side by side", func(b *bench) {
			other := bytes.Repeat([]byte{7}, 192)
			for num := range uint32(3) {
				b.feed(alice, qblock1(NonConfirmable, uint16(num), 1, num, 192, body))
				b.feed(alice, qblock1(NonConfirmable, uint16(10+num), 2, num, 192, other))
			}
			whole(b, body[:192])
			whole(b, other)
		}},
		{"§4.6: Size1 is exact and stays the same", func(b *bench) {
			b.feed(alice, qblock1(NonConfirmable, 1, 1, 0, 192, body))
			b.feed(alice, qblock1(NonConfirmable, 2, 1, 1, 256, body))
			b.want("another size", "NON 4.00")
			b.feed(alice, odd(3, Block{2, true, 2}, 192))
			b.feed(alice, odd(4, Block{1, false, 2}, 192))
			b.feed(alice, odd(5, Block{3, true, 2}, 192))
			b.want("M that contradicts it, and a block behind it", "NON 4.00", "NON 4.00", "NON 4.00")
			b.feed(alice, odd(6, Block{4, true, 1}, 192))
			b.want("another block size", "NON 4.00")
		}},
		{"§4.3: a body that is too large is refused with whatever block comes first", func(b *bench) {
			b.feed(alice, odd(1, Block{2, true, 2}, 1<<20+1))
			if most, _ := b.want("refused", "NON 4.13")[0].Uint(Size1); most != 1<<20 {
				b.Errorf("Size1 %d", most)
			}
		}},
		{"§4.4, §10.2.2: the whole body is asked for, and goes set by set", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 2}))
			answer(b, body)
			for _, m := range b.blocks("the first set", 1, body, upTo(0, 9)...) {
				if m.Type != NonConfirmable {
					b.Errorf("%v", m.Type)
				}
			}
			b.feed(alice, qget(NonConfirmable, 2, Block{10, true, 2}))
			b.blocks("the client says continue; the token is that of the first request", 1, body, upTo(10, 19)...)
			b.pass(2*time.Second - time.Millisecond)
			b.want("NON_TIMEOUT has not passed")
			b.pass(time.Second + time.Millisecond)
			b.blocks("the client says nothing", 1, body, upTo(20, 25)...)
			b.pass(5 * time.Minute)
			b.want("it has ended")
		}},
		{"§4.4, §10.2.3: missing blocks are asked for in one request", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 2}))
			answer(b, body)
			b.take()
			b.feed(alice, qget(NonConfirmable, 2, Block{1, false, 2}, Block{9, false, 2}))
			b.blocks("they come with the token of that request", 2, body, 1, 9)
			b.pass(3 * time.Second)
			b.blocks("then the next set", 1, body, upTo(10, 19)...)
		}},
		{"§4.4, §10.2.4: M asks for the rest of the set, once each", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, false, 2}))
			answer(b, body)
			b.blocks("M unset: that block alone", 1, body, 0)
			b.feed(alice, qget(NonConfirmable, 2, Block{2, true, 2}))
			b.blocks("the rest of its set", 2, body, upTo(2, 9)...)
			b.feed(alice, qget(NonConfirmable, 3, Block{7, true, 2}, Block{8, false, 2}, Block{11, false, 2}))
			b.blocks("overlapping: no block twice", 3, body, 7, 8, 9, 11)
			b.pass(time.Minute)
			b.want("nothing goes on by itself")
		}},
		{"§4.4: without a body that is kept the resource is asked anew, for any block", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{10, true, 2}))
			answer(b, body)
			b.blocks("the second set", 1, body, upTo(10, 19)...)
			b.pass(3 * time.Second)
			b.blocks("and on", 1, body, upTo(20, 25)...)
			b.feed(alice, request(NonConfirmable, POST, 2, "/big", withQBlocks(Block{10, true, 2})))
			b.want("which a POST cannot be", "NON 4.08")
		}},
		{"§4.4: numbers ascend, none comes twice", func(b *bench) {
			b.feed(alice, qget(Confirmable, 1, Block{3, false, 2}, Block{2, false, 2}))
			b.feed(alice, qget(Confirmable, 2, Block{3, false, 2}, Block{3, false, 2}))
			b.feed(alice, qget(Confirmable, 3, Block{3, false, 2}, Block{4, false, 3}))
			b.want("refused", "ACK 4.00", "ACK 4.00", "ACK 4.00")
		}},
		{"§7.2: a set at the most for one request", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 2}))
			answer(b, long)
			b.take()
			var all []Block
			for num := range uint32(200) {
				all = append(all, Block{num + 1, false, 2})
			}
			b.feed(alice, qget(NonConfirmable, 2, all...))
			b.blocks("the first of them", 2, long, upTo(1, 10)...)
		}},
		{"§7.2: a peer that says nothing is sent some sets, not all", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 2}))
			answer(b, long)
			b.pass(10 * time.Minute)
			b.blocks("five", 1, long, upTo(0, 49)...)
		}},
		{"§4.4: a body that fits one block", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 2}))
			answer(b, body[:10])
			if block, ok, _ := b.want("one message", "NON 2.05")[0].Block(QBlock2); !ok || block != (Block{0, false, 2}) {
				b.Errorf("%+v", block)
			}
		}},
		{"§7.1: Confirmable blocks wait for each other", func(b *bench) {
			b.feed(alice, qget(Confirmable, 1, Block{0, true, 2}))
			answer(b, body[:200])
			out := b.blocks("the acknowledgement, and one", 1, body[:200], 0, 1)
			if out[0].Type != Acknowledgement || out[1].Type != Confirmable {
				b.Errorf("%v, %v", out[0].Type, out[1].Type)
			}
			b.pass(3 * time.Second)
			b.blocks("it is sent again", 1, body[:200], 1)
			b.feed(alice, appendEmpty(nil, Acknowledgement, out[1].MessageID))
			out = b.blocks("the next", 1, body[:200], 2)
			b.feed(alice, appendEmpty(nil, Acknowledgement, out[0].MessageID))
			out = b.blocks("the last", 1, body[:200], 3)
			b.feed(alice, appendEmpty(nil, Acknowledgement, out[0].MessageID))
			b.pass(5 * time.Minute)
			b.want("nothing more")
			if n := b.endpoint.Stats().TransferBytes; n != 0 {
				b.Errorf("%d bytes remain", n)
			}
		}},
		{"§7.1: a separate response, and the blocks behind it", func(b *bench) {
			b.feed(alice, qget(Confirmable, 1, Block{0, true, 2}))
			b.pass(time.Second)
			b.want("acknowledged", "ACK 0.00")
			answer(b, body[:200])
			out := b.blocks("Confirmable", 1, body[:200], 0)
			b.feed(alice, appendEmpty(nil, Acknowledgement, out[0].MessageID))
			b.blocks("then the next", 1, body[:200], 1)
		}},
		{"§7.1: who acknowledges nothing is sent nothing more", func(b *bench) {
			b.feed(alice, qget(Confirmable, 1, Block{0, true, 2}))
			answer(b, body)
			b.pass(3 * time.Minute)
			b.blocks("one block, again and again", 1, body, 0, 1, 1, 1, 1, 1)
			if len(b.endpoint.outstanding) != 0 || b.endpoint.known(alice).busy() {
				b.Error("it goes on")
			}
		}},
		{"§4.4: a Reset ends a download", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 2}))
			answer(b, body)
			out := b.take()
			b.feed(alice, appendEmpty(nil, Reset, out[len(out)-1].MessageID))
			b.pass(time.Minute)
			b.want("nothing more")
		}},
		{"§4.5, §10.2.2: blocks of a notification have its number; sets behind the first wait for the observer", func(b *bench) {
			b.feed(alice, request(NonConfirmable, GET, 1, "/big", withUint(Observe, 0), withQBlocks(Block{0, true, 2})))
			o := &Observation{}
			b.endpoint.Respond(b.next("registration"), &Response{Observation: o, Body: body[:200], Trusted: true}, b.now)
			b.blocks("registered", 1, body[:200], 0, 1, 2, 3)
			changed := bytes.Repeat([]byte("changed."), 160) // 20 blocks
			b.endpoint.Notify(o, &Response{Body: changed, Trusted: true}, b.now)
			out := b.blocks("the first notification is Confirmable: the address may be another's", 1, changed, 0)
			b.feed(alice, appendEmpty(nil, Acknowledgement, out[0].MessageID))
			b.blocks("then the rest of the set", 1, changed, upTo(1, 9)...)
			changed = bytes.Repeat([]byte("Changed."), 160)
			b.endpoint.Notify(o, &Response{Body: changed, Trusted: true}, b.now)
			out = b.blocks("the first set", 1, changed, upTo(0, 9)...)
			number, _ := out[0].Uint(Observe)
			for _, m := range out {
				if n, ok := m.Uint(Observe); !ok || n != number {
					b.Errorf("Observe %d, %v; want %d", n, ok, number)
				}
			}
			b.pass(10 * time.Second)
			b.want("nobody has asked for more")
			b.feed(alice, qget(NonConfirmable, 2, Block{3, false, 2}))
			if _, observe := b.blocks("a missing one", 2, changed, 3)[0].Option(Observe); observe {
				b.Error("it calls itself a notification")
			}
			b.feed(alice, qget(NonConfirmable, 3, Block{10, true, 2}))
			for _, m := range b.blocks("continue", 1, changed, upTo(10, 19)...) {
				if n, ok := m.Uint(Observe); !ok || n != number {
					b.Errorf("Observe %d, %v; want %d", n, ok, number)
				}
			}
			b.pass(2 * time.Minute)
			b.endpoint.Notify(o, &Response{Body: body, Trusted: true}, b.now)
			out = b.blocks("after a minute one is Confirmable", 1, body, 0)
			b.feed(alice, appendEmpty(nil, Acknowledgement, out[0].MessageID))
			b.blocks("and the others follow its acknowledgement", 1, body, upTo(1, 9)...)
		}},
		{"§4.7, §10.3: both ways in one exchange; blocks of the answer are asked for without the body", func(b *bench) {
			for num := range uint32(4) {
				b.feed(alice, qblock1(NonConfirmable, 10+uint16(num), 1, num, 200, body))
			}
			b.endpoint.Respond(whole(b, body[:200]), &Response{Code: Changed, Body: body[:200], Trusted: true}, b.now)
			b.want("in blocks of ours, one of which takes it", "NON 2.04")
			for num := range uint32(4) {
				b.feed(alice, qblock1(NonConfirmable, 20+uint16(num), 2, num, 200, body, withQBlocks(Block{0, true, 2})))
			}
			b.endpoint.Respond(whole(b, body[:200]), &Response{Code: Changed, Body: body[:200], Trusted: true}, b.now)
			b.blocks("in blocks", 23, body[:200], 0, 1, 2, 3)
			b.feed(alice, request(NonConfirmable, PUT, 30, "/big", withUint(RequestTag, 2), withQBlocks(Block{0, false, 2}, Block{2, false, 2})))
			b.blocks("the first and another again", 30, body[:200], 0, 2)
			if b.endpoint.Next() != nil {
				b.Error("it was carried out again")
			}
		}},
		{"RFC 9175 §2.4: who has not shown to be there is asked for that, and then is sent it all", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 2}))
			b.endpoint.Respond(b.next("the request"), &Response{Body: body}, b.now)
			echo, _ := b.want("a question", "NON 4.01")[0].Option(Echo)
			b.feed(alice, request(NonConfirmable, GET, 2, "/big", withQBlocks(Block{0, true, 2}), withBytes(Echo, echo)))
			b.endpoint.Respond(b.next("the request"), &Response{Body: body}, b.now)
			b.blocks("a set", 2, body, upTo(0, 9)...)
			b.feed(bob, request(NonConfirmable, GET, 3, "/big/"+strings.Repeat("x", 200), withQBlocks(Block{0, true, 2})))
			b.endpoint.Respond(b.next("a request"), &Response{Body: body}, b.now)
			b.want("also where one block might go", "NON 4.01")
		}},
		{"RFC 7959 §2.4: who may have the body no more is sent nothing more of it", func(b *bench) {
			allowed := true
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 2}))
			b.endpoint.Respond(b.next("the request"), &Response{Body: body, Trusted: true, StillAllowed: func() bool { return allowed }}, b.now)
			b.take()
			allowed = false
			b.pass(time.Minute)
			b.want("nothing more")
		}},
	} {
		t.Run(test.clause, func(t *testing.T) { test.run(newBench(t, nil)) })
	}
}

// Whoever means ill costs what the limits allow, and nobody else anything.
func TestQuickBlocksOfHostilePeers(t *testing.T) {
	body := pattern(1 << 20)
	block := func(id uint16, tag, num uint32, szx uint8, size int) []byte {
		offset := int(num) * 16 << szx
		return withPayload(request(NonConfirmable, PUT, id, "/big", withUint(QBlock1, Block{num, offset+16<<szx < size, szx}.Uint()),
			withUint(Size1, uint32(size)), withUint(RequestTag, tag)), body[offset:min(offset+16<<szx, size)])
	}
	for _, test := range []struct {
		name string
		run  func(b *bench)
	}{
		{"blocks far behind what came take nothing", func(b *bench) {
			for num := uint32(41); num < 1024; num++ {
				b.feed(alice, block(uint16(num), 1, num, 6, 1<<20))
			}
			if n := b.endpoint.Stats().TransferBytes; n != 0 {
				b.Errorf("%d bytes", n)
			}
			b.feed(alice, block(2000, 1, 40, 6, 1<<20))
			if n := b.endpoint.Stats().TransferBytes; n < 41<<10 || n > 60<<10 {
				b.Errorf("%d bytes for one block within four sets", n)
			}
		}},
		{"holes without end", func(b *bench) {
			for num := uint32(1); num < 4000; num += 2 {
				b.feed(alice, block(uint16(num), 1, num, 0, 1<<20))
			}
			upload := b.endpoint.known(alice).more.uploads[0]
			if len(upload.gaps) != maxGaps || cap(upload.body) > 8<<10 {
				b.Errorf("%d gaps, %d bytes", len(upload.gaps), cap(upload.body))
			}
			for _, m := range b.take() {
				if len(m.raw) > 64 {
					b.Errorf("a question of %d bytes", len(m.raw))
				}
			}
		}},
		{"uploads that are begun and never ended, of one peer and of many", func(b *bench) {
			b.endpoint.config.TransferBytes = 1 << 20
			for i := range uint16(2000) {
				b.feed(netipPort(alice, i%500), block(i, uint32(i), 0, 6, 1<<20))
			}
			stats := b.endpoint.Stats()
			if stats.TransferBytes > 300<<10 {
				b.Errorf("strangers have %d bytes", stats.TransferBytes)
			}
			b.endpoint.known(netipPort(alice, 1)).verified = true
			b.take()
			b.feed(netipPort(alice, 1), block(3000, 9, 0, 6, 1<<20))
			b.want("who is known has room")
			b.pass(5 * time.Minute)
			if n := b.endpoint.Stats().TransferBytes; n != 0 || len(b.endpoint.paced) != 0 {
				b.Errorf("%d bytes remain", n)
			}
			sent, received := 0, 2001*1040
			for _, m := range b.take() {
				sent += len(m.raw)
			}
			if sent > received/4 {
				b.Errorf("%d bytes were sent for %d", sent, received)
			}
		}},
		{"the same question for everything, again and again", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 6}))
			b.endpoint.Respond(b.next("the request"), &Response{Body: body, Trusted: true}, b.now)
			b.take()
			for id := range uint16(100) {
				b.feed(alice, qget(NonConfirmable, 100+id, Block{10, true, 6}, Block{20, true, 6}, Block{30, true, 6}))
				if n := len(b.take()); n > 10 {
					b.Fatalf("%d messages for one", n)
				}
			}
		}},
		{"the same block of a short body, again and again", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 6}))
			b.endpoint.Respond(b.next("the request"), &Response{Body: body[:2000], Trusted: true}, b.now)
			asked := uint16(0)
			for ; asked < 100 && b.endpoint.ready.first == nil; asked++ {
				b.feed(alice, qget(NonConfirmable, 100+asked, Block{1, false, 6}))
			}
			if b.next("the application, which may have limits"); asked < 10 || asked > 20 {
				b.Errorf("after %d questions", asked)
			}
		}},
		{"who is not proven any more is told so by the token of its question", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 2}))
			b.endpoint.Respond(b.next("the request"), &Response{Body: body[:5000], Trusted: true}, b.now)
			b.endpoint.known(alice).more.downloads[0].trusted = false
			b.take()
			b.feed(alice, qget(NonConfirmable, 2, Block{10, true, 2}))
			if m := b.want("asked for Echo", "NON 4.01")[0]; m.Token[1] != 2 {
				b.Errorf("token %x", m.Token)
			}
		}},
		{"who turns to Block gets no more sets", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 6}))
			b.endpoint.Respond(b.next("the request"), &Response{Body: body, Trusted: true}, b.now)
			b.take()
			b.feed(alice, request(Confirmable, GET, 2, "/big", withUint(Block2, Block{Num: 1, SZX: 6}.Uint())))
			b.want("a block", "ACK 2.05")
			b.pass(time.Minute)
			b.want("nothing more")
		}},
		{"the same of somebody who may be elsewhere", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 6}))
			b.endpoint.Respond(b.next("the request"), &Response{Body: body}, b.now)
			received, sent := len(qget(NonConfirmable, 1, Block{0, true, 6})), 0
			for id := range uint16(100) {
				question := qget(NonConfirmable, 100+id, Block{10, true, 0}, Block{11, true, 0}, Block{12, true, 0})
				received += len(question)
				b.feed(alice, question)
				if r := b.endpoint.Next(); r != nil {
					b.endpoint.Respond(r, &Response{Body: body}, b.now)
				}
			}
			b.pass(5 * time.Minute)
			for _, m := range b.take() {
				sent += len(m.raw)
			}
			if sent > 3*received {
				b.Errorf("%d bytes for %d", sent, received)
			}
		}},
		{"forged numbers of blocks", func(b *bench) {
			b.feed(alice, qget(NonConfirmable, 1, Block{0, true, 6}))
			b.endpoint.Respond(b.next("the request"), &Response{Body: body[:5000], Trusted: true}, b.now)
			b.take()
			b.feed(alice, qget(NonConfirmable, 2, Block{1<<20 - 1, true, 6}))
			b.feed(alice, qget(NonConfirmable, 3, Block{1<<20 - 10, false, 6}, Block{1<<20 - 1, true, 6}))
			b.want("there are no such blocks", "NON 4.00", "NON 4.00")
			b.feed(alice, qget(NonConfirmable, 4, Block{1, false, 6}, Block{1<<20 - 1, true, 6}))
			b.want("one there is", "NON 2.05")
		}},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(newBench(t, nil)) })
	}
}

// FuzzQuickUpload sends the blocks of a body in any order, some of them often and some that fit nothing, and then those that are missed.
func FuzzQuickUpload(f *testing.F) {
	f.Add([]byte{3, 1, 2, 0}, byte(2), uint16(200))
	f.Add([]byte{0, 0, 30, 30, 15, 255, 7}, byte(0), uint16(500))
	f.Fuzz(func(t *testing.T, order []byte, szx byte, size uint16) {
		b := newBench(t, func(c *Config) { c.MaxReceptionsOfPeer = 4 })
		szx %= 7
		body := pattern(int(size))
		blocks := (len(body) + 16<<szx - 1) / (16 << szx)
		if blocks == 0 || blocks > 512 {
			return
		}
		id := uint16(0)
		send := func(num int) {
			id++
			offset := min(num*16<<szx, len(body))
			end := min(offset+16<<szx, len(body))
			b.feed(alice, withPayload(request(NonConfirmable, PUT, id, "/big", withUint(QBlock1, Block{uint32(num), end < len(body), szx}.Uint()),
				withUint(Size1, uint32(size)), withUint(RequestTag, 1)), body[offset:end]))
		}
		for _, num := range order {
			send(int(num))
		}
		var r *Request
		for range 2 * blocks {
			if r = b.endpoint.Next(); r != nil {
				break
			}
			if known := b.endpoint.known(alice); known == nil || known.more == nil || len(known.more.uploads) == 0 {
				send(0)
				continue
			}
			b.take()
			b.pass(4 * time.Second)
			for _, m := range b.take() {
				numbers, err := decodeMissing(m.Payload)
				if err != nil || len(numbers) == 0 || len(numbers) > quickSet {
					t.Fatalf("%x: %v, %v", m.Payload, numbers, err)
				}
				for _, num := range numbers {
					send(int(num))
				}
			}
		}
		if r == nil || !bytes.Equal(r.Body, body) {
			t.Fatal("the body did not come, or differs")
		}
	})
}

func TestQuickBlocksOverConnections(t *testing.T) {
	w := newWire(t, noOptions, nil)
	w.feed(alice, qget(NonConfirmable, 1, Block{0, true, 6}))
	w.feed(alice, qblock1(NonConfirmable, 2, 1, 0, 200, pattern(200)))
	w.want("RFC 9177 §3: there it is of little use; RFC 7252 §5.4.1: a critical option that is not known", "NON 4.02", "NON 4.02")
}
