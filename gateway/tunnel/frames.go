package tunnel

import (
	"math"

	"fieldgate/protocol/h1"
)

// follower knows where in a frame a stream of frames is that comes in pieces cut anywhere (RFC 6455 §5.2).
type follower struct {
	head   [h1.MaxFrameHead]byte // of the frame under way, as far as it has come
	have   uint8                 // bytes of head; 0 once it is whole
	closed bool                  // a close frame has begun: only the end follows (RFC 6455 §5.5.1)
	left   int64                 // bytes of the payload still to come
}

// between says that all frames that began have ended, so that one of ours may be put in.
func (f *follower) between() bool { return f.have == 0 && f.left == 0 }

// next takes what data begins with of a frame's head. whole says that the head has ended, the rest of data begins its payload.
func (f *follower) next(data []byte) (rest []byte, head h1.FrameHead, whole bool) {
	n := copy(f.head[f.have:], data)
	head, whole = h1.ParseFrameHead(f.head[:int(f.have)+n])
	if !whole {
		f.have += uint8(n)
		return nil, head, false
	}
	rest = data[head.Size-int(f.have):]
	f.have = 0
	f.left = head.Length
	if head.Length < 0 { // no frame: nothing is known of what follows
		f.left = math.MaxInt64
	}
	f.closed = f.closed || head.Opcode == h1.OpClose
	return rest, head, true
}

// skip follows frames that pass whatever they are.
func (f *follower) skip(data []byte) {
	for len(data) > 0 {
		if f.left == 0 {
			data, _, _ = f.next(data)
		}
		n := min(f.left, int64(len(data)))
		f.left -= n
		data = data[n:]
	}
}
