package coap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// quickClient is a client of RFC 9177 that knows nothing of Endpoints: one upload or download at a time, of Non-confirmable messages.
type quickClient struct {
	server netip.AddrPort
	send   func(to netip.AddrPort, datagram []byte)
	now    time.Time
	due    time.Time // zero: nothing is waited for

	id       uint16
	token    uint64
	first    uint64 // token of the exchange
	tag      uint32
	szx      uint8
	echo     []byte
	path     string
	sent     int
	received int

	upload   []byte
	next     int // block
	tries    int
	download []byte
	have     []bool
	etag     []byte
	asked    int // sets that were confirmed
	begun    int // the newest set of which something came

	code Code // of the answer, when there is one
	err  error
}

const (
	quickSet     = 10
	quickTimeout = 2 * time.Second
	quickReceive = 4 * time.Second
	quickTries   = 12
)

func (c *quickClient) done() bool { return c.code != 0 || c.err != nil }

func (c *quickClient) Deadline() (time.Time, bool) { return c.due, !c.due.IsZero() && !c.done() }

func (c *quickClient) begin(path string, now time.Time) {
	c.path, c.now, c.code, c.err, c.tries, c.next, c.first = path, now, 0, nil, 0, 0, c.token+1
}

func (c *quickClient) put(path string, body []byte, now time.Time) {
	c.begin(path, now)
	c.tag++
	c.upload, c.download = body, nil
	c.sendSet()
}

func (c *quickClient) get(path string, now time.Time) {
	c.begin(path, now)
	c.upload, c.download, c.have, c.etag, c.asked, c.begun = nil, nil, nil, nil, 0, 0
	c.ask(Block{More: true, SZX: c.szx})
}

func (c *quickClient) request(code Code, payload []byte, add ...func(*Options)) {
	var options Options
	options.AddString(URIPath, c.path)
	for _, f := range add {
		f(&options)
	}
	if c.echo != nil {
		options.Add(Echo, c.echo)
	}
	c.id++
	c.token++
	c.sent++
	c.send(c.server, AppendMessage(nil, NonConfirmable, code, c.id, binary.BigEndian.AppendUint64(nil, c.token), &options, payload))
}

func (c *quickClient) blocks() int { return (len(c.upload) + 16<<c.szx - 1) / (16 << c.szx) }

func (c *quickClient) sendBlock(number int) {
	offset := number * 16 << c.szx
	end := min(offset+16<<c.szx, len(c.upload))
	c.request(PUT, c.upload[offset:end], withUint(QBlock1, Block{Num: uint32(number), More: end < len(c.upload), SZX: c.szx}.Uint()),
		withUint(Size1, uint32(len(c.upload))), withUint(RequestTag, c.tag))
}

// sendSet sends the next blocks, or the last once more.
func (c *quickClient) sendSet() {
	if c.next == c.blocks() {
		if c.tries++; c.tries > quickTries {
			c.err = fmt.Errorf("no answer to %d bytes", len(c.upload))
			return
		}
		c.sendBlock(c.next - 1)
	}
	for end := min(c.next+quickSet, c.blocks()); c.next < end; c.next++ {
		c.sendBlock(c.next)
	}
	c.due = c.now.Add(quickTimeout)
	if c.next == c.blocks() {
		c.due = c.now.Add(2 * quickReceive) // longer than the server waits
	}
}

func (c *quickClient) ask(blocks ...Block) {
	c.request(GET, nil, func(o *Options) {
		for _, b := range blocks {
			o.AddUint(QBlock2, b.Uint())
		}
	})
	c.due = c.now.Add(quickReceive)
}

func (c *quickClient) askForMissing() {
	if c.tries++; c.tries > quickTries {
		c.err = fmt.Errorf("blocks of %s stay away", c.path)
		return
	}
	if c.have == nil {
		c.ask(Block{More: true, SZX: c.szx})
		return
	}
	var missing []Block
	for i, have := range c.have {
		if !have && len(missing) < quickSet {
			missing = append(missing, Block{Num: uint32(i), SZX: c.szx})
		}
	}
	c.ask(missing...)
}

func (c *quickClient) Tick(now time.Time) {
	c.now = now
	if c.due.IsZero() || c.due.After(now) || c.done() {
		return
	}
	if c.upload != nil {
		c.sendSet()
	} else {
		c.askForMissing()
	}
}

func (c *quickClient) Feed(_ netip.AddrPort, datagram []byte, now time.Time) {
	m, err := Decode(bytes.Clone(datagram))
	c.now = now
	c.received++
	if err != nil || m.Code == Empty || c.done() || len(m.Token) != 8 || binary.BigEndian.Uint64(m.Token) < c.first {
		return
	}
	switch format, _ := m.Uint(ContentFormat); {
	case m.Code == Unauthorized:
		if c.echo, _ = m.Option(Echo); c.upload == nil {
			c.get(c.path, now)
		} else {
			c.put(c.path, c.upload, now)
		}
	case c.upload == nil:
		c.take(&m)
	case m.Code == Continue:
		if block, ok, _ := m.Block(QBlock1); ok && int(block.Num)+1 == c.next {
			c.sendSet()
		}
	case m.Code == RequestEntityIncomplete && format == missingBlocks:
		numbers, err := decodeMissing(m.Payload)
		if err != nil || len(numbers) > quickSet {
			c.err = fmt.Errorf("missing blocks %x: %w", m.Payload, err)
			return
		}
		for _, n := range numbers {
			c.sendBlock(int(n))
			c.next = max(c.next, int(n)+1)
		}
		c.due = now.Add(quickTimeout)
		if c.next == c.blocks() {
			c.due = now.Add(2 * quickReceive)
		}
	default:
		c.code = m.Code
	}
}

// take is what comes of a download.
func (c *quickClient) take(m *Message) {
	block, ok, _ := m.Block(QBlock2)
	size, sized := m.Uint(Size2)
	tag, _ := m.Option(ETag)
	switch {
	case m.Code != Content || !ok:
		c.code, c.download = m.Code, m.Payload
		return
	case !sized || block.Offset()+len(m.Payload) > int(size) || block.SZX != c.szx:
		c.err = fmt.Errorf("block %+v of %d bytes, of %d", block, len(m.Payload), size)
		return
	}
	if c.have == nil || !bytes.Equal(tag, c.etag) {
		c.etag, c.download, c.have, c.asked = tag, make([]byte, size), make([]bool, (int(size)+16<<c.szx-1)/(16<<c.szx)), 0
		c.begun = 0
	}
	if c.have[block.Num] {
		return
	}
	copy(c.download[block.Offset():], m.Payload)
	c.have[block.Num], c.tries = true, 0
	c.due = c.now.Add(quickReceive)
	whole := 0
	for whole < len(c.have) && c.have[whole] {
		whole++
	}
	switch sets := whole / quickSet; {
	case whole == len(c.have):
		c.code = m.Code
	case sets > c.asked:
		c.asked = sets
		c.begun = max(c.begun, sets)
		c.ask(Block{Num: uint32(sets * quickSet), More: true, SZX: c.szx}) // RFC 9177 §4.4: continue
	case int(block.Num)/quickSet > c.begun:
		c.begun = int(block.Num) / quickSet
		if whole < c.begun*quickSet {
			c.askForMissing() // RFC 9177 §7.2: of the sets before
		}
	}
}

// decodeMissing reads application/missing-blocks+cbor-seq: numbers in ascending order (RFC 9177 §5).
func decodeMissing(b []byte) (numbers []uint32, err error) {
	for len(b) > 0 {
		length := map[byte]int{0x18: 1, 0x19: 2, 0x1a: 4}[b[0]]
		if b[0] >= 24 && length == 0 || len(b) < 1+length {
			return nil, fmt.Errorf("no unsigned integer: %x", b)
		}
		n := uint32(b[0])
		if length > 0 {
			n, _ = decodeUint(b[1 : 1+length])
		}
		if len(numbers) > 0 && n <= numbers[len(numbers)-1] {
			return nil, fmt.Errorf("%d comes after %v", n, numbers)
		}
		numbers = append(numbers, n)
		b = b[1+length:]
	}
	return numbers, nil
}
