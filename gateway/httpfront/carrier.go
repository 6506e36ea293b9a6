package httpfront

import (
	"net"
	"sync"

	"fieldgate/protocol/h1"
)

// carrier is what carries one exchange of HTTP/2 or HTTP/3 in place of a socket. A connection then lives for that exchange only, in a
// goroutine of its own, and runs the code that serves HTTP/1.1: what it writes has the form of HTTP/1.1, which the carrier turns
// into that of its version, but content is never in chunks, nor is anything said about the connection.
//
// Read gives the request's content; its io.EOF is the clean end, and a client that gave up is an error. Write takes an interim
// response, or the answer's head with what follows it, or content. The answer is whole only when finish or finishWith says so: an
// exchange that ends without it is reset.
type carrier interface {
	net.Conn
	finish(p []byte) error                                 // writes the last of the answer; p may be empty
	finishWith(trailers h1.Fields) error                   // ends it with trailers
	reset()                                                // the client must not take what it got for a whole answer
	gone() <-chan struct{}                                 // closed when the client gives up
	left() bool                                            // the client has given up
	eachTrailer(take func(name, value []byte) error) error // of the request, after Read gave io.EOF
}

// newCarried makes a connection for exchanges that the carrier carries, one after the other.
func newCarried(stream carrier) *connection {
	c := &connection{link: stream, socket: stream, stream: stream}
	c.reader = h1.NewReader(stream, 0) // content is read past its buffer
	return c
}

// carry runs one exchange of a connection of parent's.
func (c *connection) carry(parent *connection, set func(*h1.Request) error) {
	c.front = parent.front
	c.origin.take(&parent.origin)
	c.certified = parent.certified
	c.readBy, c.writeBy = 0, 0
	err := set(&c.request)
	if err == nil {
		err = c.findOrigin()
	}
	if err != nil {
		c.refuse(err)
	} else if !c.answerOurselves() {
		c.exchangeOne()
	}
	c.shrink()
	clear(c.request.Fields)
}

// finishWrite writes the last of an answer.
func (c *connection) finishWrite(p []byte) error {
	if c.stream == nil {
		return c.write(p)
	}
	if most := len(p) - 1; most >= writePiece {
		most -= most % writePiece
		if err := c.write(p[:most]); err != nil {
			return err
		}
		p = p[most:]
	}
	c.setWriteBy(c.front.config.WriteTimeout)
	return c.stream.finish(p)
}

// endless is the framing of an answer whose length is not known.
func (c *connection) endless() h1.Framing {
	switch {
	case c.stream != nil: // the end of the stream is that of the content
		return h1.UntilClose
	case c.request.Minor == 0: // RFC 9112 §6.1: HTTP/1.0 has no chunks
		c.keep = false
		return h1.UntilClose
	}
	return h1.Chunked
}

// takeTrailers adds trailers that came with the stream to the request's content.
func (c *connection) takeTrailers() error {
	if c.stream == nil {
		return nil
	}
	return c.stream.eachTrailer(c.body.AddTrailer)
}

// splitHead takes a head of ours apart: status line and field lines. What follows it is rest.
func splitHead(p []byte, fields h1.Fields) (status int, _ h1.Fields, rest []byte) {
	const code = len("HTTP/1.1 ")
	status = int(p[code]-'0')*100 + int(p[code+1]-'0')*10 + int(p[code+2]-'0')
	for at := lineEnd(p, 0); ; {
		end := lineEnd(p, at)
		line := p[at : end-2]
		at = end
		if len(line) == 0 {
			return status, fields, p[at:]
		}
		colon := 1
		for line[colon] != ':' {
			colon++
		}
		fields = append(fields, h1.Field{Name: line[:colon], Value: line[colon+2:]})
	}
}

// lineEnd is where the line that begins at from ends, its CRLF included.
func lineEnd(p []byte, from int) int {
	for p[from] != '\n' {
		from++
	}
	return from + 1
}

// watch tells who waits for it that the client has given up. It is used again for one exchange after the other.
type watch struct {
	mu     sync.Mutex
	broken bool
	told   chan struct{} // nil: nobody waits
}

func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken, w.told = false, nil
}

func (w *watch) breaks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken = true; w.told != nil {
		close(w.told)
		w.told = nil
	}
}

func (w *watch) left() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken
}

func (w *watch) gone() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := make(chan struct{})
	if w.broken {
		close(told)
	} else {
		w.told = told
	}
	return told
}
