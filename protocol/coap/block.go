package coap

import "bytes"

// Block is the value of a Block1 or Block2 option (RFC 7959 §2.2).
type Block struct {
	Num  uint32 // which block, 0 to 1,048,575
	More bool   // others follow
	SZX  uint8  // size exponent, 0 to 6: blocks of 16 << SZX bytes
}

const maxSZX = 6

// Size is the length of a full block in bytes.
func (b Block) Size() int { return 16 << b.SZX }

// Offset is where the block begins in the body.
func (b Block) Offset() int { return int(b.Num) << (b.SZX + 4) }

// Uint encodes the option value: NUM, then M, then SZX.
func (b Block) Uint() uint32 {
	v := b.Num<<4 | uint32(b.SZX)
	if b.More {
		v |= 8
	}
	return v
}

// Block returns the given block option. valid is false for the reserved size exponent 7 (RFC 7959 §2.2).
func (m *Message) Block(number OptionNumber) (block Block, present, valid bool) {
	v, ok := m.Uint(number)
	if !ok {
		return Block{}, false, true
	}
	block = Block{Num: v >> 4, More: v&8 != 0, SZX: uint8(v & 7)}
	return block, true, block.SZX <= maxSZX
}

// szxFor is the largest size exponent whose block fits into size bytes; sizes below 16 give 0.
func szxFor(size int) uint8 {
	szx := uint8(0)
	for szx < maxSZX && 32<<szx <= size {
		szx++
	}
	return szx
}

// appendOperation writes what makes two requests of one peer blocks of the same body: method and options
// that are part of the cache key, Request-Tag among them, without those that differ from block to block.
// The token is none of it (RFC 7959 §2.4, RFC 9175 §3.3). Observe is left out as well: the blocks after the
// first of an observed resource are fetched without it (RFC 7959 §2.6).
func appendOperation(dst []byte, m *Message) []byte {
	dst = append(dst, byte(m.Code))
	for it := m.Iterate(); it.Next(); {
		if it.Number == Block1 || it.Number == Block2 || it.Number == Observe || !it.Number.partOfCacheKey() {
			continue
		}
		dst = append(dst, byte(it.Number>>8), byte(it.Number), byte(len(it.Value)>>8), byte(len(it.Value)))
		dst = append(dst, it.Value...)
	}
	return dst
}

// assembly is a request body arriving in Block1 blocks.
type assembly struct {
	links[assembly]
	peer      *peer
	operation []byte
	body      []byte
	used      instant
}

// snapshot is a response whose blocks are being fetched. Each block comes from here, so that a body that
// changes at the origin is never mixed (RFC 7959 §2.4).
type snapshot struct {
	links[snapshot]
	peer         *peer
	operation    []byte
	code         Code
	options      Options
	body         []byte
	trusted      bool
	stillAllowed func() bool
	bytes        int // as counted in Endpoint.transferBytes
	used         instant
}

func (p *peer) findAssembly(operation []byte) *assembly {
	if p.more == nil {
		return nil
	}
	for _, a := range p.more.assemblies {
		if bytes.Equal(a.operation, operation) {
			return a
		}
	}
	return nil
}

func (p *peer) findSnapshot(operation []byte) *snapshot {
	if p.more == nil {
		return nil
	}
	for _, s := range p.more.snapshots {
		if bytes.Equal(s.operation, operation) {
			return s
		}
	}
	return nil
}
