package coap

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var (
	alice = netip.MustParseAddrPort("192.0.2.1:40001")
	bob   = netip.MustParseAddrPort("192.0.2.2:40002")
)

// bench is a server Endpoint with a clock, whose other side the test plays by hand.
type bench struct {
	*testing.T
	endpoint *Endpoint
	now      time.Time
	out      []sent
}

type sent struct {
	to netip.AddrPort
	Message
	raw []byte
}

func newBench(t *testing.T, change func(*Config)) *bench {
	b := &bench{T: t, now: time.Unix(1_800_000_000, 0)}
	config := Config{Send: func(to netip.AddrPort, datagram []byte) {
		raw := bytes.Clone(datagram)
		m, err := Decode(raw)
		if err != nil {
			t.Errorf("sent a datagram that cannot be decoded: %x: %v", raw, err)
		}
		b.out = append(b.out, sent{to, m, raw})
	}}
	if change != nil {
		change(&config)
	}
	b.endpoint = NewEndpoint(config, b.now)
	return b
}

func (b *bench) feed(from netip.AddrPort, datagram []byte) { b.endpoint.Feed(from, datagram, b.now) }

// pass lets time go by, with a Tick whenever the Endpoint asks for one.
func (b *bench) pass(d time.Duration) {
	end := b.now.Add(d)
	for {
		due, ok := b.endpoint.Deadline()
		if !ok || due.After(end) {
			break
		}
		if due.After(b.now) {
			b.now = due
		}
		b.endpoint.Tick(b.now)
	}
	b.now = end
	b.endpoint.Tick(b.now)
}

// take returns what was sent since the last take.
func (b *bench) take() []sent {
	out := b.out
	b.out = nil
	return out
}

// want checks what was sent since the last time, one word a message such as "ACK 2.05".
func (b *bench) want(why string, messages ...string) []sent {
	b.Helper()
	out := b.take()
	var got []string
	for _, s := range out {
		got = append(got, s.Type.String()+" "+s.Code.String())
	}
	if strings.Join(got, ", ") != strings.Join(messages, ", ") {
		b.Fatalf("%s: sent %q, want %q", why, got, messages)
	}
	return out
}

// next takes the next request, which must exist.
func (b *bench) next(why string) *Request {
	b.Helper()
	r := b.endpoint.Next()
	if r == nil {
		b.Fatalf("%s: there is no request to answer", why)
	}
	return r
}

func (b *bench) respond(r *Request, code Code, body string) {
	b.endpoint.Respond(r, &Response{Code: code, Body: []byte(body)}, b.now)
}

func request(t Type, code Code, id uint16, path string, add ...func(*Options)) []byte {
	var options Options
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		options.AddString(URIPath, segment)
	}
	for _, f := range add {
		f(&options)
	}
	return AppendMessage(nil, t, code, id, []byte{byte(id >> 8), byte(id)}, &options, nil)
}

func withUint(number OptionNumber, value uint32) func(*Options) {
	return func(o *Options) { o.AddUint(number, value) }
}

func withBytes(number OptionNumber, value []byte) func(*Options) {
	return func(o *Options) { o.Add(number, value) }
}

func withPayload(datagram []byte, payload []byte) []byte {
	return append(append(datagram, payloadMarker), payload...)
}

func TestConfirmableRequest(t *testing.T) {
	b := newBench(t, nil)
	ask := request(Confirmable, GET, 7, "/a")
	b.feed(alice, ask)
	b.respond(b.next("a new request"), Content, "hello")
	out := b.want("RFC 7252 §5.2.1: the response is piggybacked", "ACK 2.05")
	if out[0].MessageID != 7 || !bytes.Equal(out[0].Token, []byte{0, 7}) || string(out[0].Payload) != "hello" {
		t.Errorf("message ID, token or payload do not match the request: %+v", out[0])
	}
	b.feed(alice, ask)
	if b.endpoint.Next() != nil {
		t.Error("RFC 7252 §4.5: a repeated request was executed again")
	}
	again := b.want("RFC 7252 §4.5: it is answered alike", "ACK 2.05")
	if !bytes.Equal(again[0].raw, out[0].raw) {
		t.Error("the answer to a repeated request differs")
	}
	b.feed(bob, ask)
	b.respond(b.next("RFC 7252 §4.4: the same message ID of another peer is another message"), Content, "")
	b.take()
	b.pass(247 * time.Second)
	b.feed(alice, ask)
	b.respond(b.next("RFC 7252 §4.8.2: after EXCHANGE_LIFETIME the message ID may be used again"), Content, "")
}

func TestSlowHandler(t *testing.T) {
	b := newBench(t, func(c *Config) { c.AmplificationFactor = 100 })
	ask := request(Confirmable, POST, 7, "/a")
	b.feed(alice, ask)
	r := b.next("a new request")
	b.pass(249 * time.Millisecond)
	b.want("before PROCESSING_DELAY")
	b.pass(time.Millisecond)
	out := b.want("RFC 7252 §5.2.2: it is acknowledged so that the client stops repeating", "ACK 0.00")
	if out[0].MessageID != 7 {
		t.Errorf("acknowledged message %d", out[0].MessageID)
	}
	b.feed(alice, ask)
	b.want("RFC 7252 §4.5: a repetition is acknowledged again", "ACK 0.00")

	b.respond(r, Changed, "done")
	separate := b.want("RFC 7252 §5.2.2: the separate response is Confirmable", "CON 2.04")[0]
	if !bytes.Equal(separate.Token, []byte{0, 7}) {
		t.Errorf("token %x", separate.Token)
	}
	b.pass(93 * time.Second)
	repeated := b.want("RFC 7252 §4.8: MAX_RETRANSMIT is 4", "CON 2.04", "CON 2.04", "CON 2.04", "CON 2.04")
	for _, s := range repeated {
		if !bytes.Equal(s.raw, separate.raw) {
			t.Error("RFC 7252 §4.2: a retransmission differs from the original")
		}
	}
	if b.endpoint.Stats().Retransmitted != 4 {
		t.Errorf("%d retransmissions counted", b.endpoint.Stats().Retransmitted)
	}
}

func TestRetransmissionTimes(t *testing.T) {
	b := newBench(t, func(c *Config) { c.AmplificationFactor = 100 })
	b.feed(alice, request(Confirmable, GET, 7, "/a"))
	r := b.next("a new request")
	b.pass(time.Second)
	b.respond(r, Content, "x")
	b.take()
	began := b.now
	var gaps []time.Duration
	for range 4 {
		due, ok := b.endpoint.Deadline()
		if !ok {
			t.Fatal("nothing is due")
		}
		gaps = append(gaps, due.Sub(began))
		began = due
		b.now = due
		b.endpoint.Tick(due)
		b.want("RFC 7252 §4.2", "CON 2.05")
	}
	if gaps[0] < 2*time.Second || gaps[0] > 3*time.Second {
		t.Errorf("RFC 7252 §4.2: the first timeout of %v is not between ACK_TIMEOUT and 1.5 times that", gaps[0])
	}
	for i := 1; i < len(gaps); i++ {
		if ratio := float64(gaps[i]) / float64(gaps[i-1]); ratio < 1.999 || ratio > 2.001 {
			t.Errorf("RFC 7252 §4.2: the timeout doubles; got %v", gaps)
		}
	}
}

func TestSeparateResponseEnds(t *testing.T) {
	for _, answer := range []Type{Acknowledgement, Reset} {
		b := newBench(t, nil)
		b.feed(alice, request(Confirmable, GET, 7, "/a"))
		r := b.next("a new request")
		b.pass(time.Second)
		b.respond(r, Content, "x")
		out := b.take()
		b.feed(bob, appendEmpty(nil, answer, out[1].MessageID))
		b.pass(3 * time.Second)
		b.want("RFC 7252 §4.2: another peer's "+answer.String()+" changes nothing", "CON 2.05")
		b.feed(alice, appendEmpty(nil, answer, out[1].MessageID))
		b.pass(100 * time.Second)
		b.want("RFC 7252 §4.2: after " + answer.String() + " nothing is repeated")
	}
}

func TestNonConfirmableRequest(t *testing.T) {
	b := newBench(t, nil)
	ask := request(NonConfirmable, POST, 7, "/a")
	b.feed(alice, ask)
	r := b.next("a new request")
	b.pass(time.Second)
	b.respond(r, Changed, "")
	b.want("RFC 7252 §5.2.3: the response is Non-confirmable, and nothing is acknowledged", "NON 2.04")
	b.feed(alice, ask)
	b.want("RFC 7252 §4.5: a repeated Non-confirmable message is ignored")
	if b.endpoint.Next() != nil {
		t.Error("RFC 7252 §4.5: a repeated message was executed again")
	}
	b.pass(100 * time.Second)
	b.want("RFC 7252 §4.3: nothing is retransmitted")
}

func TestDatagramsThatAreNoRequests(t *testing.T) {
	for _, test := range []struct {
		clause   string
		datagram []byte
		want     []string
	}{
		{"RFC 7252 §4.3: a ping is answered by a Reset", appendEmpty(nil, Confirmable, 9), []string{"RST 0.00"}},
		{"RFC 7252 §4.3: an empty NON is ignored", appendEmpty(nil, NonConfirmable, 9), nil},
		{"RFC 7252 §4.2: an ACK for nothing is ignored", appendEmpty(nil, Acknowledgement, 9), nil},
		{"RFC 7252 §4.2: a Reset for nothing is ignored", appendEmpty(nil, Reset, 9), nil},
		{"RFC 7252 §4.2: a request in an ACK is ignored", request(Acknowledgement, GET, 9, "/a"), nil},
		{"RFC 7252 §4.2: a request in a Reset is ignored", request(Reset, GET, 9, "/a"), nil},
		{"RFC 7252 §3: one byte is ignored", []byte{0x40}, nil},
		{"RFC 7252 §3: another version is ignored", []byte{0x80, 1, 0, 9}, nil},
		{"RFC 7252 §4.2: a malformed CON is rejected", []byte{0x40, 1, 0, 9, 0xff}, []string{"RST 0.00"}},
		{"RFC 7252 §4.3: a malformed NON is ignored", []byte{0x50, 1, 0, 9, 0xff}, nil},
		{"RFC 7252 §3: a code of a reserved class in a CON is rejected", []byte{0x40, 0xe1, 0, 9}, []string{"RST 0.00"}},
		{"RFC 7252 §3: a code of a reserved class in a NON is ignored", []byte{0x50, 0x21, 0, 9}, nil},
		{"RFC 7252 §4.2: a response to nothing in a CON is rejected", request(Confirmable, Content, 9, "/a"), []string{"RST 0.00"}},
		{"RFC 7252 §4.2: a response to nothing in an ACK is ignored", request(Acknowledgement, Content, 9, "/a"), nil},
		{"RFC 7641 §3.6: a notification to nobody is rejected", request(NonConfirmable, Content, 9, "/a", withUint(Observe, 3)), []string{"RST 0.00"}},
		{"RFC 7252 §5.4.1: an unknown critical option in a CON", request(Confirmable, GET, 9, "/a", withUint(65001, 1)), []string{"ACK 4.02"}},
		{"RFC 7252 §5.4.1: an unknown critical option in a NON", request(NonConfirmable, GET, 9, "/a", withUint(65001, 1)), []string{"RST 0.00"}},
		{"RFC 7252 §5.4.3: a critical option of a wrong length", request(Confirmable, GET, 9, "/a", withBytes(Accept, []byte{1, 2, 3})), []string{"ACK 4.02"}},
		{"RFC 7252 §5.4.5: a critical option repeated against its definition", request(Confirmable, GET, 9, "/a", withUint(Accept, 1), withUint(Accept, 1)), []string{"ACK 4.02"}},
		{"RFC 7252 §5.10.2: Proxy-Uri", request(Confirmable, GET, 9, "/a", withBytes(ProxyURI, []byte("coap://x/"))), []string{"ACK 5.05"}},
		{"RFC 7252 §5.10.2: Proxy-Scheme in a NON", request(NonConfirmable, GET, 9, "/a", withBytes(ProxyScheme, []byte("http"))), []string{"NON 5.05"}},
		{"RFC 7252 §5.8: an unknown method", request(Confirmable, 31, 9, "/a"), []string{"ACK 4.05"}},
		{"RFC 7959 §2.2: the reserved size exponent", request(Confirmable, GET, 9, "/a", withUint(Block2, 7)), []string{"ACK 4.00"}},
	} {
		t.Run(test.clause, func(t *testing.T) {
			b := newBench(t, nil)
			b.feed(alice, test.datagram)
			out := b.want(test.clause, test.want...)
			if len(out) > 0 && out[0].Type != NonConfirmable && out[0].MessageID != 9 {
				t.Errorf("message ID %d, want 9", out[0].MessageID)
			}
			if b.endpoint.Next() != nil {
				t.Error("it reached the application")
			}
			if stats := b.endpoint.Stats(); stats.Peers != 0 || stats.ReceptionBytes != 0 {
				t.Errorf("it left state behind: %+v", stats)
			}
		})
	}
}

func TestElectiveOptions(t *testing.T) {
	for _, test := range []struct {
		clause string
		option func(*Options)
	}{
		{"RFC 7252 §5.4.1: an unknown elective option is ignored", withUint(65000, 1)},
		{"RFC 7252 §5.4.3: an elective option of a wrong length is ignored", withBytes(ContentFormat, []byte{1, 2, 3})},
		{"RFC 7252 §5.4.5: an elective option repeated is ignored", func(o *Options) { o.AddUint(Observe, 0); o.AddUint(Observe, 0) }},
	} {
		b := newBench(t, nil)
		b.feed(alice, request(Confirmable, GET, 9, "/a", test.option))
		b.respond(b.next(test.clause), Content, "")
		b.want(test.clause, "ACK 2.05")
	}
}

func TestNoResponse(t *testing.T) {
	b := newBench(t, nil)
	b.feed(alice, request(NonConfirmable, POST, 1, "/a", withUint(NoResponse, 2)))
	b.respond(b.next("NON"), Changed, "")
	b.want("RFC 7967 §2.1: no 2.xx is wanted")
	b.feed(alice, request(NonConfirmable, POST, 2, "/a", withUint(NoResponse, 2)))
	b.respond(b.next("NON"), BadRequest, "")
	b.want("RFC 7967 §2.1: other classes are", "NON 4.00")
	b.feed(alice, request(Confirmable, POST, 3, "/a", withUint(NoResponse, 26)))
	b.respond(b.next("CON"), Changed, "")
	b.want("RFC 7967 §2.2: a CON is acknowledged", "ACK 0.00")
}

func TestOnePeerCannotStallAnother(t *testing.T) {
	b := newBench(t, nil)
	for id := range uint16(20) {
		b.feed(alice, request(Confirmable, GET, id, "/slow"))
	}
	busy := b.want("the seventeenth and later are refused", "ACK 5.03", "ACK 5.03", "ACK 5.03", "ACK 5.03")
	if age, ok := busy[0].Uint(MaxAge); !ok || age == 0 {
		t.Error("RFC 7252 §5.9.3.4: 5.03 says with Max-Age when to try again")
	}
	var slow []*Request
	for r := b.endpoint.Next(); r != nil; r = b.endpoint.Next() {
		slow = append(slow, r)
	}
	if len(slow) != 4 {
		t.Fatalf("%d requests of one peer are out, want 4", len(slow))
	}
	b.feed(bob, request(Confirmable, GET, 1, "/fast"))
	b.respond(b.next("another peer's request does not wait"), Content, "fast")
	if out := b.take(); len(out) != 1 || out[0].to != bob {
		t.Errorf("sent %v", out)
	}
	b.respond(slow[0], Content, "")
	if r := b.next("an answer lets the peer's next request out"); r.MessageID != 4 {
		t.Errorf("the next request is message %d, want 4", r.MessageID)
	}
	if b.endpoint.Next() != nil {
		t.Error("more than MaxRunningOfPeer requests are out")
	}
}

func TestPeersTakeTurns(t *testing.T) {
	b := newBench(t, nil)
	for id := range uint16(8) {
		b.feed(alice, request(Confirmable, GET, id, "/a"))
	}
	for id := range uint16(2) {
		b.feed(bob, request(Confirmable, GET, id, "/b"))
	}
	var order []string
	for range 4 {
		r := b.next("queued")
		order = append(order, r.Path())
	}
	if got := strings.Join(order, " "); got != "/a /b /a /b" {
		t.Errorf("given out in the order %s", got)
	}
}

func TestPeersAreBounded(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxPeers = 100 })
	b.feed(bob, request(Confirmable, GET, 1, "/a"))
	held := b.next("bob's request")
	for i := range 1000 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 5683)
		b.feed(from, request(Confirmable, GET, 1, "/a"))
		b.respond(b.next("each is answered"), Content, "")
	}
	if n := b.endpoint.Stats().Peers; n != 100 {
		t.Errorf("%d peers remembered, want 100", n)
	}
	b.take()
	b.respond(held, Content, "")
	if out := b.take(); len(out) != 1 || out[0].to != bob {
		t.Error("a flood of other addresses cost a busy peer its response")
	}
}

func TestDeduplicationIsBounded(t *testing.T) {
	b := newBench(t, func(c *Config) { c.ReceptionBytes = 64 << 10; c.MaxReceptionsOfPeer = 100 })
	for id := range uint16(1000) {
		b.feed(alice, request(Confirmable, POST, id, "/a"))
		b.respond(b.next("each is answered"), Changed, strings.Repeat("x", 40))
	}
	if p := b.endpoint.known(alice); p.receptions != 100 {
		t.Errorf("%d messages of one peer are remembered, want 100", p.receptions)
	}
	for i := range uint16(1000) {
		b.feed(netip.AddrPortFrom(alice.Addr(), i+1), request(Confirmable, POST, 1, "/a"))
		b.respond(b.next("each is answered"), Changed, strings.Repeat("x", 40))
	}
	if n := b.endpoint.Stats().ReceptionBytes; n > 64<<10+receptionSize+100 {
		t.Errorf("%d bytes are used, above the budget", n)
	}
	b.pass(248 * time.Second)
	if n := b.endpoint.Stats().ReceptionBytes; n != 0 || b.endpoint.receptions.count != 0 {
		t.Errorf("%d bytes are in use after EXCHANGE_LIFETIME", n)
	}
}

func TestRequestOutlivesItsReception(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxReceptionsOfPeer = 1 })
	b.feed(alice, request(Confirmable, POST, 1, "/slow"))
	slow := b.next("the slow one")
	b.pass(time.Second)
	for id := uint16(2); id < 10; id++ {
		b.feed(alice, request(Confirmable, POST, id, "/a"))
		b.respond(b.next("a quick one"), Changed, fmt.Sprint(id))
	}
	b.take()
	b.respond(slow, Changed, "slow")
	b.want("its response still goes", "CON 2.04")
	b.feed(alice, request(Confirmable, POST, 9, "/a"))
	if out := b.want("and has not become another's", "ACK 2.04"); string(out[0].Payload) != "9" {
		t.Errorf("payload %q", out[0].Payload)
	}
}

func TestTransmissionsAreBounded(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxTransmissions = 3 })
	var kinds []string
	for i := range uint16(5) {
		b.feed(netipPort(alice, i), request(Confirmable, GET, 1, "/slow"))
		r := b.next("slow")
		b.pass(300 * time.Millisecond)
		b.take()
		b.respond(r, Content, "x")
		kinds = append(kinds, b.take()[0].Type.String())
	}
	if got := strings.Join(kinds, " "); got != "CON CON CON NON NON" {
		t.Errorf("separate responses went %s", got)
	}
}
