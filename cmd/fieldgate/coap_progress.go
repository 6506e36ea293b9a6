package main

import (
	"fmt"
	"io"
	"time"

	"fieldgate/protocol/coap"
)

// progress tells a person how far a large transfer is.
type progress struct {
	notes io.Writer
	shown bool
	last  time.Time
}

const (
	progressFrom  = 16 << 10 // bytes of a body, from which on progress is told
	progressEvery = 100 * time.Millisecond
)

func (p *progress) show(call *coap.Call, sent, received, size int) {
	if !isTerminal(p.notes) || max(len(call.Body), received, size) < progressFrom || time.Since(p.last) < progressEvery {
		return
	}
	p.last, p.shown = time.Now(), true
	text := fmt.Sprintf("received %s", bytesText(int64(received)))
	switch {
	case received == 0:
		text = fmt.Sprintf("sent %s of %s", bytesText(int64(sent)), bytesText(int64(len(call.Body))))
	case size > 0:
		text += " of " + bytesText(int64(size))
	}
	fmt.Fprintf(p.notes, "\r%s\x1b[K", text)
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.notes, "\r\x1b[K")
	}
}
