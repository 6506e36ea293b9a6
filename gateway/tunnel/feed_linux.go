//go:build linux && (amd64 || arm64)

package tunnel

import (
	"bytes"
	"time"

	"fieldgate/protocol/h1"
)

// TakeFeed serves a feed's messages to a client as Take passes bytes: its connection is duplicated, and stays the caller's to close.
func (r *Relay) TakeFeed(toClient Link, readFromClient []byte, feed Feed) (*Tunnel, error) {
	t := &Tunnel{owner: feed, feed: feed, ping: time.Now().Add(pingEvery)}
	says := speech{inspector: &inspector{max: maxFeedMessage, fromClient: true}}
	if err := t.join(client, toClient, says); err != nil {
		return nil, err
	}
	t.sides[client].rest = bytes.Clone(readFromClient)
	t.sides[service] = side{fd: none}
	if err := r.enter(t); err != nil {
		return nil, err
	}
	return t, nil
}

// none is the socket of a side that is not there.
const none = -1

// Wake says that the feed has something to send again. It does not wait.
func (t *Tunnel) Wake() {
	t.loop.do(t, func() {
		t.loop.feed(t)
		t.loop.settle(t)
	})
}

// feed sends what waits, unless the client has not taken what came before.
func (l *loop) feed(t *Tunnel) {
	if !t.over && !t.closing && len(t.sides[client].pending) == 0 {
		l.work.out = t.feed.Next(l.work.out[:0])
		l.write(t, client, l.work.out)
	}
}

// hear answers what the client of a feed says: pings and a close, whole frames each.
func (l *loop) hear(t *Tunnel, frames []byte) {
	for len(frames) > 0 && !t.closing {
		head, _ := h1.ParseFrameHead(frames)
		payload := frames[head.Size : head.Size+int(head.Length)]
		frames = frames[head.Size+int(head.Length):]
		switch head.Opcode {
		case h1.OpPing: // RFC 6455 §5.5.3
			if len(t.sides[client].pending) == 0 { // who sends pings and takes no answers gets none
				h1.Mask(payload, head.Mask)
				var pong [h1.MaxFrameHead + 125]byte
				l.write(t, client, h1.AppendFrame(pong[:0], h1.OpPong, payload))
			}
		case h1.OpClose: // RFC 6455 §5.5.1: a close is answered by one
			h1.Mask(payload, head.Mask)
			l.write(t, client, h1.AppendFrame(nil, h1.OpClose, payload))
			t.finish()
		}
	}
}

// knock sends a ping when it is time.
func (l *loop) knock(t *Tunnel, now time.Time) {
	if t.feed == nil || t.closing || now.Before(t.ping) {
		return
	}
	t.ping = now.Add(pingEvery)
	if len(t.sides[client].pending) == 0 {
		l.write(t, client, h1.AppendFrame(nil, h1.OpPing, nil))
		l.settle(t)
	}
}
