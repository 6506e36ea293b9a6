package tunnel

import (
	"bytes"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"fieldgate/contract/schema"
	"fieldgate/protocol/h1"
)

// maxFraming is how much longer than its payload a message may be: heads of its frames. It bounds fragments of no length.
const maxFraming = 64 << 10

// A message that is longer is checked beside the loop, one that a slow schema checks sooner.
const (
	longMessage     = 32 << 10
	longMessageSlow = 1 << 10
)

// breach is what was wrong with a message or its frames.
type breach struct {
	code   int    // of the close frame (RFC 6455 §7.4.1)
	reason string // in it
	detail string // for the Record: "/temp /properties/temp/maximum"
}

// inspector passes on what one side says, in whole messages that are what the schema says. While no message is incomplete it has no
// buffer.
type inspector struct {
	follower
	schema     *schema.Schema // nil: only the protocol counts
	max        int64          // payload bytes of a message
	fromClient bool
	shadow     bool // an invalid message passes, and is noted

	final   bool      // the frame under way ends its message
	frame   h1.Opcode // of the frame under way
	message h1.Opcode // of the message under way; 0: none is
	size    int64     // its payload so far
	since   time.Time // when it was seen to be incomplete; zero: it is not
	held    []byte    // its frames so far, as they came
	control []byte    // control frame under way, as it came
	invalid *breach   // the first message that was let through
}

// work is memory that inspectors use while they are at work, and nobody else does.
type work struct {
	out     []byte // what may go on
	held    []byte
	payload []byte
}

// keepWork is how large memory for work may stay.
const keepWork = 256 << 10

func (w *work) shrink() {
	for _, buf := range []*[]byte{&w.out, &w.held, &w.payload} {
		if cap(*buf) > keepWork {
			*buf = nil
		}
	}
}

// pass takes what came next and appends to w.out what may go on. due says that a long message is whole: judge and release have
// to follow, and then rest. After a breach nothing may be passed any more.
func (i *inspector) pass(w *work, data []byte) (rest []byte, due bool, broken *breach) {
	borrowed := i.held == nil
	if borrowed {
		i.held = w.held[:0]
	}
	for len(data) > 0 && !due && broken == nil {
		if i.closed && i.between() {
			data = nil // RFC 6455 §5.5.1: nothing counts after a close frame
			break
		}
		data, due, broken = i.step(w, data)
	}
	if borrowed {
		w.held = i.held[:0]
		i.held = bytes.Clone(i.held)
	}
	if len(i.held) == 0 {
		i.held = nil
	}
	if !i.between() || i.message != 0 {
		if i.since.IsZero() {
			i.since = time.Now()
		}
	} else {
		i.since = time.Time{}
	}
	return data, due, broken
}

// step takes one frame's head, or some of its payload.
func (i *inspector) step(w *work, data []byte) (rest []byte, due bool, broken *breach) {
	if i.left == 0 {
		start, before := data, int(i.have)
		rest, head, whole := i.next(data)
		if !whole {
			return nil, false, nil
		}
		if broken = i.begin(&head); broken != nil {
			return nil, false, broken
		}
		i.keep(i.head[:before]) // what came earlier
		i.keep(start[:head.Size-before])
		data = rest
	}
	n := min(i.left, int64(len(data)))
	i.keep(data[:n])
	i.left -= n
	data = data[n:]
	if i.left > 0 {
		return data, false, nil
	}
	due, broken = i.end(w)
	return data, due, broken
}

// begin judges the head of a frame.
func (i *inspector) begin(head *h1.FrameHead) *breach {
	if refusal := head.Check(i.fromClient, i.message != 0); refusal != nil {
		return &breach{code: refusal.Code, reason: refusal.Reason, detail: refusal.Reason}
	}
	i.final, i.frame = head.Final, head.Opcode
	if head.Opcode >= h1.OpClose {
		return nil
	}
	if head.Opcode != h1.OpContinuation {
		i.message = head.Opcode
	}
	if head.Length > i.max-i.size || int64(len(i.held)+head.Size)-i.size > maxFraming {
		return &breach{code: h1.CloseTooBig, reason: "message too big", detail: "message too big"}
	}
	i.size += head.Length
	return nil
}

func (i *inspector) keep(p []byte) {
	if i.frame >= h1.OpClose {
		i.control = append(i.control, p...)
	} else {
		i.held = append(i.held, p...)
	}
}

// end is the end of a frame. A control frame passes at once, also between the fragments of a message (RFC 6455 §5.4).
func (i *inspector) end(w *work) (due bool, broken *breach) {
	if i.frame >= h1.OpClose {
		if i.frame == h1.OpClose {
			head, _ := h1.ParseFrameHead(i.control)
			payload := bytes.Clone(i.control[head.Size:])
			h1.Mask(payload, head.Mask) // the mask of a frame that is not masked is zero
			if said := h1.ParseClose(payload); !said.Peer {
				return false, &breach{code: said.Code, reason: said.Reason, detail: said.Reason}
			}
		}
		w.out = append(w.out, i.control...)
		i.control = nil
		return false, nil
	}
	if !i.final {
		return false, nil
	}
	if i.schema != nil && (i.size > longMessage || i.size > longMessageSlow && !i.schema.Compiled()) {
		return true, nil
	}
	if broken = i.judge(w); broken == nil {
		i.release(w)
	}
	return false, broken
}

// judge checks the message, which is whole.
func (i *inspector) judge(w *work) *breach {
	w.payload = w.payload[:0]
	for frames := i.held; len(frames) > 0; {
		head, _ := h1.ParseFrameHead(frames)
		end := head.Size + int(head.Length)
		begin := len(w.payload)
		w.payload = append(w.payload, frames[head.Size:end]...)
		h1.Mask(w.payload[begin:], head.Mask)
		frames = frames[end:]
	}
	if i.message == h1.OpText && !utf8.Valid(w.payload) { // RFC 6455 §8.1
		return &breach{code: h1.CloseInvalidData, reason: "text is not UTF-8", detail: "text is not UTF-8"}
	}
	var err error
	switch {
	case i.schema == nil:
	case i.message == h1.OpText:
		err = i.schema.ValidateJSON(w.payload)
	default:
		err = i.schema.ValidateCBOR(w.payload)
	}
	if err == nil {
		return nil
	}
	broken := describe(err)
	if !i.shadow {
		return broken
	}
	if i.invalid == nil {
		i.invalid = broken
	}
	return nil
}

// release passes the message on.
func (i *inspector) release(w *work) {
	w.out = append(w.out, i.held...)
	i.held = i.held[:0]
	i.message, i.size, i.since = 0, 0, time.Time{}
}

// describe says where a message breaks the contract: "/temp maximum".
func describe(err error) *breach {
	broken := &breach{code: h1.ClosePolicy, reason: "not what the contract says"}
	var violation *schema.Violation
	if errors.As(err, &violation) {
		rule := violation.Kind.String()
		if violation.Kind == schema.Mismatch {
			rule = violation.Clause[strings.LastIndexByte(violation.Clause, '/')+1:]
		}
		broken.reason = strings.TrimSpace(violation.Instance + " " + rule)
		broken.detail = strings.TrimSpace(violation.Instance + " " + violation.Clause)
		if violation.Clause == "" {
			broken.detail = broken.reason
		}
	}
	return broken
}
