package coap

// Block is the value of a Block1 or Block2 option (RFC 7959 §2.2), or of Q-Block1 or Q-Block2 (RFC 9177 §4.2).
type Block struct {
	Num  uint32 // which block, 0 to 1,048,575
	More bool   // others follow
	SZX  uint8  // size exponent, 0 to 6: blocks of 16 << SZX bytes; on connections also 7: several of 1,024 bytes (RFC 8323 §6)
}

const (
	maxSZX   = 6
	bertSZX  = 7
	bertUnit = 1024
)

// Size is the length of a full block in bytes.
func (b Block) Size() int { return 16 << min(b.SZX, maxSZX) }

// Offset is where the block begins in the body.
func (b Block) Offset() int { return int(b.Num) * b.Size() }

// blockAt is the block of that size exponent which begins at that offset.
func blockAt(offset int, more bool, szx uint8) Block {
	b := Block{More: more, SZX: szx}
	b.Num = uint32(offset / b.Size())
	return b
}

// fits tells whether the block may have so many bytes: only the last may be shorter (RFC 7959 §2.2), and there may be several at once
// on a connection (RFC 8323 §6).
func (b Block) fits(payload int) bool {
	switch {
	case b.SZX != bertSZX:
		return payload == b.Size() || payload < b.Size() && !b.More
	case b.More:
		return payload > 0 && payload%bertUnit == 0
	}
	return true
}

// Uint encodes the option value: NUM, then M, then SZX.
func (b Block) Uint() uint32 {
	v := b.Num<<4 | uint32(b.SZX)
	if b.More {
		v |= 8
	}
	return v
}

func decodeBlock(v uint32) Block { return Block{Num: v >> 4, More: v&8 != 0, SZX: uint8(v & 7)} }

// Block returns the given block option. valid is false for the size exponent 7 where it is reserved (RFC 7959 §2.2).
func (m *Message) Block(number OptionNumber) (block Block, present, valid bool) {
	v, ok := m.Uint(number)
	if !ok {
		return Block{}, false, true
	}
	block = decodeBlock(v)
	return block, true, block.SZX <= maxSZX || m.reliable
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
		switch it.Number {
		case Block1, Block2, QBlock1, QBlock2, Observe:
			continue
		}
		if !it.Number.partOfCacheKey() {
			continue
		}
		dst = append(dst, byte(it.Number>>8), byte(it.Number), byte(len(it.Value)>>8), byte(len(it.Value)))
		dst = append(dst, it.Value...)
	}
	if m.protection != nil { // nobody else gets or adds to what came by a security context
		context := m.protection.Context()
		dst = append(dst, 0, byte(OSCORE), 0, byte(len(context)))
		dst = append(dst, context[:]...)
	}
	return dst
}

// option1 and option2 are the options that the request has, or could have, for its body and for the answer's.
func (in *incoming) option1() OptionNumber {
	if in.quick {
		return QBlock1
	}
	return Block1
}

func (in *incoming) option2() OptionNumber {
	if in.quick {
		return QBlock2
	}
	return Block2
}

// examineBlocks reads the block options of a request, and refuses those that make no sense.
func (in *incoming) examineBlocks() Code {
	var valid1, valid2 bool
	in.block1, in.hasBlock1, valid1 = in.Block(in.option1())
	in.block2, in.hasBlock2, valid2 = in.Block(in.option2())
	if !valid1 || !valid2 {
		return BadRequest // RFC 7959 §2.2: the reserved size exponent
	}
	if !in.quick {
		return 0
	}
	if in.hasBlock1 {
		_, tagged := in.Option(RequestTag)
		if _, sized := in.Option(Size1); !tagged || !sized {
			return BadRequest // RFC 9177 §4.3
		}
	}
	least := int64(-1)
	for it := in.Iterate(); it.Next(); {
		if it.Number != QBlock2 {
			continue
		}
		v, _ := decodeUint(it.Value)
		block := decodeBlock(v)
		if block.SZX != in.block2.SZX || int64(block.Num) <= least {
			return BadRequest // RFC 9177 §4.4: ascending, none twice
		}
		least = int64(block.Num)
	}
	return 0
}

// missesFirst tells whether a request asks for the first block of an answer once more (RFC 9177 §4.4). A GET does that by asking anew; what may
// have effects, or has a body of its own, comes without payload.
func (in *incoming) missesFirst() bool {
	return in.quick && in.Code != GET && !in.hasBlock1 && !in.block2.More && len(in.Payload) == 0
}
