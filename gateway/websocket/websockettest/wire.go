// Package websockettest gives the tests of what WebSockets carry a connection that was recorded.
package websockettest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"fieldgate/protocol/h1"
)

// Wire is a connection that gives what was recorded, cut into pieces, and keeps what is written.
type Wire struct {
	net.Conn
	In    []byte
	Cut   func(n int) int // how many of n bytes one Read gives
	Out   bytes.Buffer
	Ended bool // for writing
}

func (w *Wire) Read(p []byte) (int, error) {
	if len(w.In) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), w.Cut(len(w.In)))], w.In)
	w.In = w.In[n:]
	return n, nil
}

func (w *Wire) Write(p []byte) (int, error)      { return w.Out.Write(p) }
func (w *Wire) SetWriteDeadline(time.Time) error { return nil }
func (w *Wire) CloseWrite() error                { w.Ended = true; return nil }

// Cuts are ways to cut what is read.
var Cuts = map[string]func(int) int{
	"whole":        func(n int) int { return n },
	"byte by byte": func(int) int { return 1 },
	"random":       func(n int) int { return 1 + rand.IntN(n) },
}

// Masked is a frame of a client.
func Masked(opcode h1.Opcode, final bool, payload string) []byte {
	frame := h1.AppendMaskedFrame(nil, opcode, []byte(payload), [4]byte{0xa1, 0xb2, 0xc3, 0xd4})
	if !final {
		frame[0] &^= 0x80
	}
	return frame
}
