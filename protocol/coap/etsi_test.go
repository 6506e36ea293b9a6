package coap

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// The scenarios of the ETSI plugtests for CoAP that need no service behind the server, by their identifiers. The test plays the client
// with datagrams of its own, except where both sides are ours and the network between them loses datagrams.
func TestETSI(t *testing.T) {
	for _, scenario := range []struct {
		name, objective string
		run             func(b *bench)
	}{
		{"TD_COAP_CORE_01", "GET, CON", etsiTransaction(Confirmable, GET, Content)},
		{"TD_COAP_CORE_02", "DELETE, CON", etsiTransaction(Confirmable, DELETE, Deleted)},
		{"TD_COAP_CORE_03", "PUT, CON", etsiTransaction(Confirmable, PUT, Changed)},
		{"TD_COAP_CORE_04", "POST, CON", etsiTransaction(Confirmable, POST, Created)},
		{"TD_COAP_CORE_05", "GET, NON", etsiTransaction(NonConfirmable, GET, Content)},
		{"TD_COAP_CORE_06", "DELETE, NON", etsiTransaction(NonConfirmable, DELETE, Deleted)},
		{"TD_COAP_CORE_07", "PUT, NON", etsiTransaction(NonConfirmable, PUT, Changed)},
		{"TD_COAP_CORE_08", "POST, NON", etsiTransaction(NonConfirmable, POST, Created)},
		{"TD_COAP_CORE_09", "GET with separate response", etsiSeparate},
		{"TD_COAP_CORE_10", "GET with a token of 1 to 8 bytes", etsiTokens},
		{"TD_COAP_CORE_11", "GET with a token and a separate response", etsiSeparate},
		{"TD_COAP_CORE_12", "GET with an empty token", etsiEmptyToken},
		{"TD_COAP_CORE_13", "GET with several Uri-Path options", etsiPath},
		{"TD_COAP_CORE_14", "GET with several Uri-Query options", etsiQuery},
		{"TD_COAP_CORE_15", "GET in a lossy context, piggybacked response", etsiLossy(false)},
		{"TD_COAP_CORE_16", "GET in a lossy context, separate response", etsiLossy(true)},
		{"TD_COAP_CORE_17", "GET with separate response, NON", etsiSeparateNON},
		{"TD_COAP_CORE_31", "ping", etsiPing},
		{"TD_COAP_BLOCK_01", "GET in blocks, early negotiation", etsiFetch(2, true)},
		{"TD_COAP_BLOCK_02", "GET in blocks, late negotiation", etsiFetch(4, false)},
		{"TD_COAP_BLOCK_03", "PUT in blocks", etsiUpload(PUT, Changed)},
		{"TD_COAP_BLOCK_04", "POST in blocks that creates", etsiUpload(POST, Created)},
		{"TD_COAP_BLOCK_05", "POST in blocks both ways", etsiBothWays},
		{"TD_COAP_BLOCK_06", "GET in blocks of 16 bytes, early negotiation", etsiFetch(0, true)},
		{"TD_COAP_OBS_01", "observation with CON notifications", etsiObserve(Confirmable)},
		{"TD_COAP_OBS_02", "observation with NON notifications", etsiObserve(NonConfirmable)},
		{"TD_COAP_OBS_04", "the client registers again when what it has is stale", etsiStale},
		{"TD_COAP_OBS_05", "the server gives up a client that is off", etsiClientOff},
		{"TD_COAP_OBS_06", "the server gives up a client that rejects", etsiReset},
		{"TD_COAP_OBS_07", "the observers of a resource that is deleted are told", etsiEnd(&Response{Code: NotFound}, NotFound)},
		{"TD_COAP_OBS_08", "the observers of a resource whose content format changes are told", etsiEnd(withFormat(XML, "<a/>"), NotAcceptable)},
		{"TD_COAP_OBS_09", "observers hear the new content", etsiObserve(NonConfirmable)},
		{"TD_COAP_OBS_10", "a plain GET does not end an observation", etsiPlainGET},
		{"TD_COAP_OBS_11", "observation in a lossy context", etsiLossyObservation},
		{"TD_COAP_OBS_12", "a GET with Observe 1 ends the observation", etsiDeregister},
	} {
		t.Run(scenario.name, func(t *testing.T) { scenario.run(newBench(t, nil)) })
	}
}

func etsiTransaction(kind Type, method, answer Code) func(*bench) {
	return func(b *bench) {
		b.feed(alice, withPayload(request(kind, method, 7, "/test", withUint(ContentFormat, TextPlain)), []byte("x")))
		r := b.next("the request")
		if r.Code != method || string(r.Body) != "x" || r.Path() != "/test" {
			b.Errorf("the server sees %v %s %q", r.Code, r.Path(), r.Body)
		}
		b.respond(r, answer, "done")
		if kind == Confirmable {
			out := b.want("piggybacked", "ACK "+answer.String())[0]
			if out.MessageID != 7 || !bytes.Equal(out.Token, []byte{0, 7}) || string(out.Payload) != "done" {
				b.Errorf("message ID %d, token %x, %q", out.MessageID, out.Token, out.Payload)
			}
			return
		}
		if out := b.want("NON", "NON "+answer.String())[0]; !bytes.Equal(out.Token, []byte{0, 7}) || string(out.Payload) != "done" {
			b.Errorf("token %x, %q", out.Token, out.Payload)
		}
	}
}

func etsiSeparate(b *bench) {
	b.feed(alice, request(Confirmable, GET, 7, "/separate"))
	r := b.next("the request")
	b.pass(2 * time.Second)
	if out := b.want("an empty acknowledgement", "ACK 0.00")[0]; out.MessageID != 7 {
		b.Errorf("message ID %d", out.MessageID)
	}
	b.respond(r, Content, "late")
	out := b.want("a separate response", "CON 2.05")[0]
	if !bytes.Equal(out.Token, []byte{0, 7}) || string(out.Payload) != "late" {
		b.Errorf("token %x, %q", out.Token, out.Payload)
	}
	b.feed(alice, appendEmpty(nil, Acknowledgement, out.MessageID))
	b.pass(time.Minute)
	b.want("nothing after the acknowledgement")
}

func etsiTokens(b *bench) {
	for n := 1; n <= 8; n++ {
		b.feed(alice, withToken(Confirmable, uint16(n), pattern(n)))
		b.respond(b.next("the request"), Content, "x")
		if out := b.want("answered", "ACK 2.05")[0]; !bytes.Equal(out.Token, pattern(n)) {
			b.Errorf("token %x", out.Token)
		}
	}
}

func etsiEmptyToken(b *bench) {
	b.feed(alice, withToken(Confirmable, 1, nil))
	b.respond(b.next("the request"), Content, "x")
	if out := b.want("answered", "ACK 2.05")[0]; len(out.Token) != 0 {
		b.Errorf("token %x", out.Token)
	}
}

func etsiPath(b *bench) {
	b.feed(alice, request(Confirmable, GET, 1, "/seg1/seg2/seg3"))
	if r := b.next("the request"); r.Path() != "/seg1/seg2/seg3" {
		b.Errorf("the server sees %s", r.Path())
	}
}

func etsiQuery(b *bench) {
	query := func(text string) func(*Options) { return func(o *Options) { o.AddString(URIQuery, text) } }
	b.feed(alice, request(Confirmable, GET, 1, "/query", query("first=1"), query("second=2"), query("third=3")))
	if r := b.next("the request"); r.Query() != "first=1&second=2&third=3" {
		b.Errorf("the server sees %s", r.Query())
	}
}

// etsiLossy drops each of the first datagrams in turn: request, acknowledgement, response and its acknowledgement.
func etsiLossy(separate bool) func(*bench) {
	return func(b *bench) {
		for drop := range 4 {
			n := newNetwork(b.T, uint64(drop))
			number := 0
			n.dropNext = func() bool { number++; return number == drop+1 }
			serverAddr := netip.MustParseAddrPort("198.51.100.1:5683")
			server, client := n.add(serverAddr, Config{}), n.add(alice, Config{})
			executed := 0
			var held *Request
			n.afterFeed = func(netip.AddrPort) {
				for r := server.Next(); r != nil; r = server.Next() {
					executed++
					if held = r; !separate {
						server.Respond(r, &Response{Body: []byte("x")}, n.now)
					}
				}
			}
			var reply *Reply
			client.Do(serverAddr, &Call{Code: GET, Deliver: func(r *Reply) { reply = r }}, n.now)
			n.run(6*time.Second, func() bool { return reply != nil })
			if separate {
				server.Respond(held, &Response{Body: []byte("x")}, n.now)
			}
			if !n.run(time.Minute, func() bool { return reply != nil }) || reply.Err != nil || string(reply.Body) != "x" || executed != 1 {
				b.Errorf("without datagram %d: %+v, executed %d times", drop+1, reply, executed)
			}
			n.run(time.Hour, func() bool { return len(server.outstanding) == 0 && len(client.outstanding) == 0 })
			if sent := server.Stats().Retransmitted + client.Stats().Retransmitted + server.Stats().Duplicates + client.Stats().Duplicates; sent == 0 && drop < 2 {
				b.Errorf("without datagram %d nothing was sent again", drop+1)
			}
		}
	}
}

func etsiSeparateNON(b *bench) {
	b.feed(alice, request(NonConfirmable, GET, 1, "/separate"))
	r := b.next("the request")
	b.pass(3 * time.Second)
	b.want("no acknowledgement")
	b.respond(r, Content, "late")
	b.want("the response", "NON 2.05")
}

func etsiPing(b *bench) {
	b.feed(alice, unhex(b, "40001234"))
	if out := b.want("pong", "RST 0.00")[0]; !bytes.Equal(out.raw, unhex(b, "70001234")) {
		b.Errorf("%x", out.raw)
	}
}

// etsiFetch gets a body of 5,000 bytes in blocks of 16 << szx bytes. With late negotiation the first block is larger than the others.
func etsiFetch(szx uint8, early bool) func(*bench) {
	return func(b *bench) {
		body, got := pattern(5000), []byte(nil)
		first := []func(*Options){}
		if early {
			first = append(first, withUint(Block2, Block{SZX: szx}.Uint()))
		}
		b.feed(alice, request(Confirmable, GET, 1, "/large", first...))
		b.endpoint.Respond(b.next("the first block"), &Response{Body: body, Trusted: true}, b.now)
		for id := uint16(2); ; id++ {
			out := b.want("a block", "ACK 2.05")[0]
			block, ok, valid := out.Block(Block2)
			if !ok || !valid || block.Offset() != len(got) || block.More && len(out.Payload) != block.Size() || (early || id > 2) && block.SZX != szx {
				b.Fatalf("block %+v with %d bytes after %d", block, len(out.Payload), len(got))
			}
			if got = append(got, out.Payload...); !block.More {
				break
			}
			b.feed(alice, request(Confirmable, GET, id, "/large", withUint(Block2, Block{Num: uint32(len(got) >> (szx + 4)), SZX: szx}.Uint())))
		}
		if !bytes.Equal(got, body) {
			b.Errorf("%d bytes, or they differ", len(got))
		}
	}
}

// etsiUpload sends a body whose block size the server lowers.
func etsiUpload(method, answer Code) func(*bench) {
	return func(b *bench) {
		b.endpoint.maxSZX = 4
		body := pattern(2000)
		szx := uint8(6)
		for sent, id := 0, uint16(1); ; id++ {
			end := min(sent+16<<szx, len(body))
			block := Block{Num: uint32(sent >> (szx + 4)), More: end < len(body), SZX: szx}
			b.feed(alice, withPayload(request(Confirmable, method, id, "/large", withUint(Block1, block.Uint())), body[sent:end]))
			sent = end
			if !block.More {
				r := b.next("the whole")
				if !bytes.Equal(r.Body, body) {
					b.Fatalf("%d bytes, or they differ", len(r.Body))
				}
				response := &Response{Code: answer}
				response.Options.AddString(LocationPath, "large")
				response.Options.AddString(LocationPath, "1")
				b.endpoint.Respond(r, response, b.now)
				out := b.want("the outcome", "ACK "+answer.String())[0]
				if said, ok, _ := out.Block(Block1); !ok || said.Num != block.Num || said.More || out.Location() != "/large/1" {
					b.Errorf("Block1 %+v, Location %s", said, out.Location())
				}
				return
			}
			out := b.want("to be continued", "ACK 2.31")[0]
			said, _, _ := out.Block(Block1)
			if said.Num != block.Num || !said.More || said.SZX != 4 {
				b.Fatalf("Block1 %+v", said)
			}
			szx = said.SZX
		}
	}
}

func etsiBothWays(b *bench) {
	up, down := pattern(100), pattern(150)
	for i := range uint32(7) {
		block := Block{Num: i, More: i < 6, SZX: 0}
		b.feed(alice, withPayload(request(Confirmable, POST, uint16(i), "/large-post", withUint(Block1, block.Uint())), up[i*16:min(i*16+16, 100)]))
		if block.More {
			b.want("to be continued", "ACK 2.31")
		}
	}
	r := b.next("the whole")
	if !bytes.Equal(r.Body, up) {
		b.Fatalf("%d bytes arrived", len(r.Body))
	}
	b.endpoint.maxSZX = 1
	b.endpoint.Respond(r, &Response{Code: Changed, Body: down, Trusted: true}, b.now)
	out := b.want("the first block of the response", "ACK 2.04")[0]
	one, _, _ := out.Block(Block1)
	two, _, _ := out.Block(Block2)
	if one != (Block{6, false, 0}) || two != (Block{0, true, 1}) {
		b.Errorf("Block1 %+v, Block2 %+v", one, two)
	}
	got := bytes.Clone(out.Payload)
	for num := uint32(1); two.More; num++ {
		b.feed(alice, request(Confirmable, POST, uint16(10+num), "/large-post", withUint(Block2, Block{Num: num, SZX: 1}.Uint())))
		out = b.want("a further block", "ACK 2.04")[0]
		if two, _, _ = out.Block(Block2); two.Num != num {
			b.Fatalf("Block2 %+v", two)
		}
		got = append(got, out.Payload...)
	}
	if !bytes.Equal(got, down) {
		b.Errorf("%d bytes, or they differ", len(got))
	}
}

func withFormat(format uint32, body string) *Response {
	response := &Response{Body: []byte(body)}
	response.Options.AddUint(ContentFormat, format)
	return response
}

// etsiRegister observes /obs, which is text, and hears one notification.
func (b *bench) etsiRegister() (*Observation, uint32) {
	b.Helper()
	b.feed(alice, withToken(Confirmable, 1, []byte("t"), withUint(Observe, 0)))
	o := &Observation{}
	response := withFormat(TextPlain, "0")
	response.Observation, response.Trusted = o, true
	b.endpoint.Respond(b.next("registration"), response, b.now)
	first, ok := b.want("registered", "ACK 2.05")[0].Uint(Observe)
	if !ok {
		b.Fatal("the response has no Observe option")
	}
	b.pass(time.Second)
	return o, first
}

// heard takes one notification and acknowledges it if it is Confirmable.
func (b *bench) heard(before uint32) (sent, uint32) {
	b.Helper()
	out := b.take()
	if len(out) != 1 || out[0].Code != Content || string(out[0].Token) != "t" {
		b.Fatalf("not one notification: %+v", out)
	}
	sequence, ok := out[0].Uint(Observe)
	format, _ := out[0].Uint(ContentFormat)
	if !ok || !fresher(sequence, before) || format != TextPlain {
		b.Errorf("Observe %d after %d, format %d", sequence, before, format)
	}
	if out[0].Type == Confirmable {
		b.feed(alice, appendEmpty(nil, Acknowledgement, out[0].MessageID))
	}
	return out[0], sequence
}

func etsiObserve(kind Type) func(*bench) {
	return func(b *bench) {
		o, sequence := b.etsiRegister()
		kinds := 0
		for i := range 45 {
			content := fmt.Sprint(i)
			b.endpoint.Notify(o, withFormat(TextPlain, content), b.now)
			var out sent
			if out, sequence = b.heard(sequence); string(out.Payload) != content {
				b.Errorf("the notification of %s says %s", content, out.Payload)
			}
			if out.Type == kind {
				kinds++
			}
			b.pass(time.Second)
		}
		if kinds == 0 {
			b.Errorf("no notification was %v", kind)
		}
	}
}

func etsiStale(b *bench) {
	heard := 0
	b.endpoint.Do(bob, &Call{Code: GET, ObserveResource: true, Deliver: func(*Reply) { heard++ }}, b.now)
	first := b.take()[0]
	var options Options
	options.AddUint(Observe, 1)
	options.AddUint(MaxAge, 5)
	b.feed(bob, AppendMessage(nil, Acknowledgement, Content, first.MessageID, first.Token, &options, []byte("x")))
	b.pass(25 * time.Second)
	again := b.take()
	if len(again) == 0 || !bytes.Equal(again[0].Token, first.Token) {
		b.Fatalf("it does not register again: %+v", again)
	}
	if value, ok := again[0].Uint(Observe); !ok || value != 0 {
		b.Error("the second request does not register")
	}
	options.Reset()
	options.AddUint(Observe, 0)
	b.feed(bob, AppendMessage(nil, Acknowledgement, Content, again[0].MessageID, first.Token, &options, []byte("y")))
	if heard != 2 {
		b.Errorf("the client heard %d times", heard)
	}
}

// confirmable has the server send a notification that wants an acknowledgement.
func (b *bench) confirmable(o *Observation) sent {
	b.Helper()
	b.pass(2 * time.Minute)
	b.endpoint.Notify(o, withFormat(TextPlain, "n"), b.now)
	return b.want("a notification after a minute", "CON 2.05")[0]
}

func etsiClientOff(b *bench) {
	o, _ := b.etsiRegister()
	b.confirmable(o)
	b.pass(5 * time.Minute)
	if n := len(b.take()); n != 4 {
		b.Errorf("RFC 7252 §4.2: sent again %d times", n)
	}
	b.endpoint.Notify(o, withFormat(TextPlain, "n"), b.now)
	b.want("nothing for a client that is gone")
	if ended := b.endpoint.TakeEnded(); !slices.Contains(ended, o) {
		b.Error("the application is not told")
	}
}

func etsiReset(b *bench) {
	o, _ := b.etsiRegister()
	b.feed(alice, appendEmpty(nil, Reset, b.confirmable(o).MessageID))
	b.endpoint.Notify(o, withFormat(TextPlain, "n"), b.now)
	b.want("nothing after a Reset")
	b.pass(5 * time.Minute) // until the message ID may come again
	o, sequence := b.etsiRegister()
	b.endpoint.Notify(o, withFormat(TextPlain, "n"), b.now)
	b.heard(sequence)
	b.endpoint.Notify(o, withFormat(TextPlain, "n"), b.now)
	b.feed(alice, appendEmpty(nil, Reset, b.want("not Confirmable", "NON 2.05")[0].MessageID))
	b.endpoint.Notify(o, withFormat(TextPlain, "n"), b.now)
	b.want("nothing after a Reset")
}

func etsiEnd(last *Response, code Code) func(*bench) {
	return func(b *bench) {
		o, _ := b.etsiRegister()
		b.endpoint.Notify(o, last, b.now)
		out := b.want("the last notification", "CON "+code.String())[0]
		if _, observe := out.Option(Observe); observe || string(out.Token) != "t" {
			b.Errorf("token %q, Observe %v", out.Token, observe)
		}
		b.feed(alice, appendEmpty(nil, Acknowledgement, out.MessageID))
		b.endpoint.Notify(o, withFormat(TextPlain, "n"), b.now)
		b.want("nothing afterwards")
	}
}

func etsiPlainGET(b *bench) {
	o, sequence := b.etsiRegister()
	b.feed(alice, withToken(Confirmable, 2, []byte("t2")))
	b.endpoint.Respond(b.next("a plain GET"), withFormat(TextPlain, "1"), b.now)
	if out := b.want("its response", "ACK 2.05")[0]; string(out.Token) != "t2" {
		b.Errorf("token %q", out.Token)
	} else if _, observe := out.Option(Observe); observe {
		b.Error("it is a notification")
	}
	b.pass(time.Second)
	b.endpoint.Notify(o, withFormat(TextPlain, "n"), b.now)
	b.heard(sequence)
}

// etsiLossyObservation: RFC 7641 §4.5.2, never two notifications at a time.
func etsiLossyObservation(b *bench) {
	o, sequence := b.etsiRegister()
	first := b.confirmable(o)
	b.endpoint.Notify(o, withFormat(TextPlain, "old"), b.now)
	b.endpoint.Notify(o, withFormat(TextPlain, "new"), b.now)
	b.want("nothing while one is not acknowledged")
	b.pass(4 * time.Second)
	out := b.take()
	if len(out) != 1 || string(out[0].Payload) != "new" || out[0].MessageID == first.MessageID {
		b.Fatalf("sent again: %+v", out)
	}
	if now, _ := out[0].Uint(Observe); !fresher(now, sequence) {
		b.Errorf("Observe %d after %d", now, sequence)
	}
	b.feed(alice, appendEmpty(nil, Acknowledgement, out[0].MessageID))
	b.pass(time.Minute)
	b.want("nothing more")
}

func etsiDeregister(b *bench) {
	o, _ := b.etsiRegister()
	b.feed(alice, withToken(Confirmable, 2, []byte("t"), withUint(Observe, 1)))
	b.endpoint.Respond(b.next("the GET that ends it"), withFormat(TextPlain, "1"), b.now)
	if _, observe := b.want("its response", "ACK 2.05")[0].Option(Observe); observe {
		b.Error("it is a notification")
	}
	b.endpoint.Notify(o, withFormat(TextPlain, "n"), b.now)
	b.want("nothing afterwards")
}
