package coap

import (
	"net/netip"
	"testing"
	"time"
)

func BenchmarkDecode(b *testing.B) {
	datagram := request(Confirmable, POST, 1, "/v1/devices/d7/readings", withUint(ContentFormat, CBOR))
	datagram = withPayload(datagram, pattern(12))
	b.ReportAllocs()
	for b.Loop() {
		m, err := Decode(datagram)
		if err != nil {
			b.Fatal(err)
		}
		for it := m.Iterate(); it.Next(); {
		}
	}
}

// getter answers one piggybacked GET after another.
func getter(peers int) func(i int) {
	now := time.Unix(1_800_000_000, 0)
	e := NewEndpoint(Config{Send: func(netip.AddrPort, []byte) {}}, now)
	datagram := request(Confirmable, GET, 0, "/v1/devices/d7/readings")
	var response Response
	body := pattern(32)
	return func(i int) {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i % peers >> 8), byte(i % peers)}), 5683)
		id := i / peers
		datagram[2], datagram[3] = byte(id>>8), byte(id)
		if i%1000 == 0 {
			now = now.Add(100 * time.Millisecond)
			e.Tick(now)
		}
		e.Feed(from, datagram, now)
		r := e.Next()
		response.Reset()
		response.Body = body
		response.Options.AddUint(ContentFormat, CBOR)
		e.Respond(r, &response, now)
	}
}

func BenchmarkPiggybackedGet(b *testing.B) {
	for _, peers := range []int{1, 10_000} {
		b.Run(map[int]string{1: "1 peer", 10_000: "10000 peers"}[peers], func(b *testing.B) {
			get := getter(peers)
			for i := range 200_000 {
				get(i)
			}
			b.ReportAllocs()
			i := 200_000
			for b.Loop() {
				get(i)
				i++
			}
		})
	}
}

func TestPiggybackedGetDoesNotAllocate(t *testing.T) {
	get := getter(1)
	i := 0
	for ; i < 200_000; i++ { // until the limits are reached and memory is used again
		get(i)
	}
	if allocations := testing.AllocsPerRun(10_000, func() { get(i); i++ }); allocations >= 1 {
		t.Errorf("%v allocations for each request", allocations)
	}
}

func TestIdlePeerIsSmall(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	e := NewEndpoint(Config{Send: func(netip.AddrPort, []byte) {}}, now)
	const peers = 20_000
	datagram := request(Confirmable, GET, 0, "/a")
	before := heapInUse()
	for i := range peers {
		e.Feed(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 5683), datagram, now)
		e.Respond(e.Next(), &Response{}, now)
	}
	e.Tick(now.Add(248 * time.Second))
	perPeer := (heapInUse() - before) / peers
	t.Logf("%d bytes for each idle peer", perPeer)
	if perPeer > 400 {
		t.Errorf("an idle peer takes %d bytes", perPeer)
	}
	if e.Stats().Peers != peers {
		t.Errorf("%d peers", e.Stats().Peers)
	}
}

// BenchmarkNotify tells one news to 10,000 observers that acknowledge what has to be.
func BenchmarkNotify(b *testing.B) {
	now := time.Unix(1_800_000_000, 0)
	type confirmation struct {
		from netip.AddrPort
		id   uint16
	}
	var confirmable []confirmation
	e := NewEndpoint(Config{Send: func(to netip.AddrPort, datagram []byte) {
		if Type(datagram[0]>>4&3) == Confirmable {
			confirmable = append(confirmable, confirmation{to, uint16(datagram[2])<<8 | uint16(datagram[3])})
		}
	}}, now)
	datagram := request(Confirmable, GET, 1, "/t", withUint(Observe, 0))
	var all []*Observation
	for i := range 10_000 {
		e.Feed(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 5683), datagram, now)
		o := &Observation{}
		e.Respond(e.Next(), &Response{Observation: o}, now)
		all = append(all, o)
	}
	var response Response
	body := pattern(32)
	b.ReportAllocs()
	for b.Loop() {
		for _, o := range all {
			response.Reset()
			response.Body = body
			e.Notify(o, &response, now)
		}
		for _, c := range confirmable {
			e.Feed(c.from, appendEmpty(nil, Acknowledgement, c.id), now)
		}
		confirmable = confirmable[:0]
		now = now.Add(time.Second)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/notification")
}

// BenchmarkTransfer is what 64 KiB in 64 blocks cost, by Block and by Q-Block.
func BenchmarkTransfer(b *testing.B) {
	body := pattern(64 << 10)
	num := func(i int) uint32 { return uint32(i) }
	block := func(i int) Block { return Block{Num: num(i), More: i < 63, SZX: 6} }
	type question func(id uint16, i int) []byte
	upload := func(id uint16, i int) []byte { return block1(id, num(i), i < 63, 6, body[i<<10:(i+1)<<10]) }
	quickUpload := func(id uint16, i int) []byte {
		return withPayload(request(NonConfirmable, PUT, id, "/big", withUint(QBlock1, block(i).Uint()), withUint(Size1, 64<<10),
			withUint(RequestTag, uint32(id)>>6+1)), body[i<<10:(i+1)<<10])
	}
	download := func(id uint16, i int) []byte {
		return request(Confirmable, GET, id, "/big", withUint(Block2, Block{Num: num(i), SZX: 6}.Uint()))
	}
	quickDownload := func(id uint16, i int) []byte {
		if i%10 != 0 {
			return nil
		}
		return qget(NonConfirmable, id, Block{num(i), true, 6})
	}
	for _, test := range []struct {
		name string
		ask  question
	}{{"upload, Block1", upload}, {"upload, Q-Block1", quickUpload}, {"download, Block2", download}, {"download, Q-Block2", quickDownload}} {
		b.Run(test.name, func(b *testing.B) {
			now := time.Unix(1_800_000_000, 0)
			e := NewEndpoint(Config{Verified: true, Send: func(netip.AddrPort, []byte) {}}, now)
			var datagrams [64 << 10][]byte // of 1,024 bodies: IDs do not come again before they are forgotten
			for id := range datagrams {
				datagrams[id] = test.ask(uint16(id), id%64)
			}
			b.ReportAllocs()
			b.SetBytes(64 << 10)
			bodies := 0
			for b.Loop() {
				for i := range 64 {
					if datagram := datagrams[bodies%1024*64+i]; datagram != nil {
						e.Feed(alice, datagram, now)
					}
					if r := e.Next(); r != nil {
						response := &Response{}
						if r.Code == GET {
							response.Body = body
						}
						e.Respond(r, response, now)
					}
				}
				if bodies++; bodies%1000 == 0 {
					now = now.Add(300 * time.Second)
					e.Tick(now)
				}
			}
		})
	}
}
