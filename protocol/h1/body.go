package h1

import (
	"bytes"
	"io"
)

// Bounds of what may surround chunks (RFC 9112 §7.1.1). Extensions are read, checked and dropped.
const (
	maxChunkLine       = 512     // size and extensions of one chunk
	maxChunkExtensions = 4 << 10 // extensions of all chunks of a message
)

type chunkState uint8

const (
	atChunkSize chunkState = iota
	inChunkData
	afterChunkData
	inTrailers
)

// Body reads the content of one message. It is reused by Reset.
type Body struct {
	r       *Reader
	framing Framing
	left    int64 // bytes of content, or of the chunk
	state   chunkState
	ended   bool
	err     error

	extensions int // bytes
	trailers   trailers
}

// Reset makes the Body read content framed that way behind the head last read from r.
func (b *Body) Reset(r *Reader, framing Framing, length int64) {
	*b = Body{r: r, framing: framing, left: length, ended: framing == NoBody || framing == Length && length == 0}
}

// Ended reports whether the content was read to its clean end, so that the next head may follow.
func (b *Body) Ended() bool { return b.ended }

// Ready reports whether the next Read finds content, or the end, in the buffer. Where it is false a Read may have to wait, and
// a relay first writes what it holds.
func (b *Body) Ready() bool {
	buffered := b.r.Buffered()
	switch {
	case b.ended:
		return true
	case b.framing != Chunked || b.state == inChunkData:
		return len(buffered) > 0
	case b.state == inTrailers:
		return false
	case b.state == afterChunkData:
		buffered = buffered[min(2, len(buffered)):]
	}
	// A whole size line, and at least the first byte of what it announces.
	feed := bytes.IndexByte(buffered, '\n')
	return feed >= 0 && feed+1 < len(buffered)
}

// Read reads content. It returns io.EOF at the content's clean end only: a connection that ends too early is
// io.ErrUnexpectedEOF, broken chunks are an *Error, and both stay.
func (b *Body) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func (b *Body) read(p []byte) (int, error) {
	switch b.framing {
	case Length:
		n, err := b.readLeft(p)
		if b.left == 0 {
			b.ended = true
		}
		return n, err
	case UntilClose:
		n, err := b.readRaw(p)
		if err == io.EOF {
			b.ended = true
		}
		return n, err
	}
	for {
		switch b.state {
		case atChunkSize:
			if err := b.readChunkSize(); err != nil {
				return 0, err
			}
		case inChunkData:
			n, err := b.readLeft(p)
			if b.left == 0 {
				b.state = afterChunkData
			}
			return n, err
		case afterChunkData:
			if err := b.need(2); err != nil {
				return 0, err
			}
			if rest := b.r.Buffered(); rest[0] != '\r' || rest[1] != '\n' {
				return 0, ErrChunk
			}
			b.r.start += 2
			b.state = atChunkSize
		case inTrailers:
			if err := b.readTrailers(); err != nil {
				return 0, err
			}
			b.ended = true
			return 0, io.EOF
		}
	}
}

// readLeft reads at most what is left of the content or chunk.
func (b *Body) readLeft(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.readRaw(p)
	b.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // RFC 9112 §8: an incomplete message
	}
	return n, err
}

func (b *Body) readRaw(p []byte) (int, error) {
	if r := b.r; r.start < r.end {
		n := copy(p, r.buf[r.start:r.end])
		r.start += n
		return n, nil
	}
	n, err := b.r.src.Read(p)
	if n > 0 {
		return n, nil // an error comes again with the next read
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, err
}

// need fills the buffer until n bytes are in it.
func (b *Body) need(n int) error {
	for b.r.end-b.r.start < n {
		if err := b.r.Fill(); err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
	return nil
}

// line returns the next line with its CRLF, or tooLong when it is longer than limit.
func (b *Body) line(limit int, tooLong error) ([]byte, error) {
	for searched := 0; ; {
		buffered := b.r.Buffered()
		if feed := bytes.IndexByte(buffered[searched:], '\n'); feed >= 0 {
			end := searched + feed
			if end >= limit {
				return nil, tooLong
			}
			if end == 0 || buffered[end-1] != '\r' {
				return nil, ErrChunk
			}
			b.r.start += end + 1
			return buffered[:end+1], nil
		}
		searched = len(buffered)
		if searched >= limit {
			return nil, tooLong
		}
		if err := b.need(searched + 1); err != nil {
			return nil, err
		}
	}
}

// readChunkSize reads chunk-size [ chunk-ext ] CRLF (RFC 9112 §7.1).
func (b *Body) readChunkSize() error {
	line, err := b.line(maxChunkLine, ErrChunkExtension)
	if err != nil {
		return err
	}
	line = line[:len(line)-2]
	digits := 0
	var size int64
	for digits < len(line) && hexValue(line[digits]) >= 0 {
		if digits == 15 { // 60 bits cannot overflow
			return ErrChunk
		}
		size = size<<4 | int64(hexValue(line[digits]))
		digits++
	}
	if digits == 0 {
		return ErrChunk
	}
	if extension := line[digits:]; len(extension) > 0 {
		if b.extensions += len(extension); b.extensions > maxChunkExtensions {
			return ErrChunkExtension
		}
		// The whitespace that the grammar allows before ";" is refused: nobody writes it, and not all take it for the same.
		if extension = trimSpace(extension); len(extension) < 2 || line[digits] != ';' || !validValue(extension) {
			return ErrChunk
		}
	}
	b.left, b.state = size, inChunkData
	if size == 0 {
		b.state = inTrailers
	}
	return nil
}

// readTrailers reads the trailer section and the empty line that ends the message (RFC 9112 §7.1.2).
func (b *Body) readTrailers() error {
	for {
		line, err := b.line(bodyRoom, ErrTrailer)
		if err != nil {
			return err
		}
		if len(line) == 2 {
			return nil
		}
		name, value, _, err := parseFieldLine(line)
		if err != nil {
			return err
		}
		if err := b.trailers.add(name, value); err != nil {
			return err
		}
	}
}

// ReadAll appends the whole content to dst if it has at most limit bytes, else it returns ErrBodyTooLarge, without
// reading any of it where the head already tells. It grows dst as content comes, not as the head promises.
func (b *Body) ReadAll(dst []byte, limit int) ([]byte, error) {
	if b.framing == Length && b.left > int64(limit) {
		return dst, ErrBodyTooLarge
	}
	have := len(dst)
	for {
		if len(dst)-have > limit {
			return dst, ErrBodyTooLarge
		}
		if b.ended {
			return dst, nil
		}
		if len(dst) == cap(dst) {
			want := max(512, cap(dst)) // doubling
			if b.framing == Length {
				want = int(min(b.left, int64(max(DefaultBuffer, cap(dst)))))
			}
			larger := make([]byte, len(dst), len(dst)+want)
			copy(larger, dst)
			dst = larger
		}
		n, err := b.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// Rest takes what is left of content of known length if all of it is buffered, without copying: the slice stays valid until the next
// head is read. It returns nil otherwise.
func (b *Body) Rest() []byte {
	if b.framing != Length || b.ended || b.err != nil || int64(b.r.end-b.r.start) < b.left {
		return nil
	}
	rest := b.r.buf[b.r.start:][:b.left]
	b.r.start += len(rest)
	b.left, b.ended = 0, true
	return rest
}

// Splice returns what is left of content of known length if none of it is buffered, so that the caller may move the
// bytes from the source to another connection in the kernel; Spliced then accounts for them. It returns 0 otherwise.
func (b *Body) Splice() int64 {
	if b.framing != Length || b.ended || b.err != nil || b.r.start < b.r.end {
		return 0
	}
	return b.left
}

// Spliced notes that n bytes of content were taken from the source directly.
func (b *Body) Spliced(n int64) {
	b.left -= n
	b.ended = b.left == 0
}
