package h1

import (
	"bytes"
	"io"
)

const (
	// DefaultBuffer is the size of a Reader's first buffer: nearly every head, and small content with it, fits.
	DefaultBuffer = 4 << 10
	// bodyRoom is what must be free behind a head for reading chunk lines and trailer lines of its content.
	bodyRoom = 2 << 10
)

// Reader reads the messages of one connection through one buffer. The last head handed out stays in place, and its
// slices valid, while the content behind it is read.
type Reader struct {
	src        io.Reader
	buf        []byte
	start, end int  // buf[start:end] is read but not used yet
	pinned     int  // buf[:pinned] is the head in use
	scanned    int  // a head's end was searched up to here
	blank      bool // the one empty line before a head was skipped
}

// NewReader returns a Reader of src with a first buffer of that size.
func NewReader(src io.Reader, size int) *Reader {
	return &Reader{src: src, buf: make([]byte, max(size, 256))}
}

// Buffered returns the bytes read but not used yet. They stay in the Reader.
func (r *Reader) Buffered() []byte { return r.buf[r.start:r.end] }

// Discard drops n buffered bytes.
func (r *Reader) Discard(n int) { r.start += n }

// Fill reads once from the source into the buffer.
func (r *Reader) Fill() error {
	if r.end == len(r.buf) {
		r.makeRoom()
	}
	n, err := r.src.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// makeRoom moves unused bytes down to the head in use, or takes a larger buffer. A head in use stays where it is: its
// slices keep the old buffer alive.
func (r *Reader) makeRoom() {
	unread := r.buf[r.start:r.end]
	if room := len(r.buf) - r.pinned; len(unread) < room && (r.pinned == 0 || room >= bodyRoom) {
		copy(r.buf[r.pinned:], unread)
		r.scanned = max(r.scanned-r.start+r.pinned, r.pinned)
		r.start, r.end = r.pinned, r.pinned+len(unread)
		return
	}
	larger := make([]byte, max(2*len(unread), DefaultBuffer))
	copy(larger, unread)
	r.scanned = max(r.scanned-r.start, 0)
	r.buf, r.pinned, r.start, r.end = larger, 0, 0, len(unread)
}

// Head returns the next message head if all of it is buffered, else nil. It gives up the head before. Errors are
// ErrHeadTooLarge, and ErrRequestLine at once for a first byte that begins no message, such as that of a TLS handshake.
func (r *Reader) Head(limit int) ([]byte, error) {
	r.pinned = 0
	if r.start == r.end {
		r.start, r.end, r.scanned = 0, 0, 0
		if len(r.buf) > 2*DefaultBuffer { // one large head does not cost the memory for as long as the connection lives
			r.buf = make([]byte, DefaultBuffer)
		}
	}
	if !r.blank && r.end-r.start >= 2 && r.buf[r.start] == '\r' && r.buf[r.start+1] == '\n' {
		r.start += 2 // RFC 9112 §2.2: one empty line before a message is ignored
		r.blank = true
	}
	if r.start == r.end {
		return nil, nil
	}
	if c := r.buf[r.start]; class[c]&tokenByte == 0 && c != '\r' {
		return nil, ErrRequestLine
	}
	r.scanned = max(r.scanned, r.start)
	for {
		feed := bytes.IndexByte(r.buf[r.scanned:r.end], '\n')
		if feed < 0 {
			r.scanned = r.end
			break
		}
		feed += r.scanned
		end := 0
		// Bare line feeds end a head too, so that the parser can refuse it at once.
		switch rest := r.buf[feed+1 : r.end]; {
		case len(rest) > 0 && rest[0] == '\n':
			end = feed + 2
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			end = feed + 3
		case len(rest) == 0 || len(rest) == 1 && rest[0] == '\r':
			r.scanned = feed // decided by bytes still to come
			return nil, r.headTooLarge(limit)
		}
		if end == 0 {
			r.scanned = feed + 1
			continue
		}
		head := r.buf[r.start:end]
		r.start, r.pinned, r.scanned, r.blank = end, end, end, false
		if len(head) > limit {
			return nil, ErrHeadTooLarge
		}
		return head, nil
	}
	return nil, r.headTooLarge(limit)
}

func (r *Reader) headTooLarge(limit int) error {
	if r.end-r.start >= limit {
		return ErrHeadTooLarge
	}
	return nil
}

// ReadHead reads until a whole head is buffered and returns it. Errors: io.EOF if the connection ended cleanly before
// the first byte, io.ErrUnexpectedEOF if it ended within the head, ErrHeadTooLarge, or that of the source.
func (r *Reader) ReadHead(limit int) ([]byte, error) {
	for {
		head, err := r.Head(limit)
		if head != nil || err != nil {
			return head, err
		}
		if err := r.Fill(); err != nil {
			if err == io.EOF && r.start != r.end {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// ReadAnswerHead is ReadHead for answers: only servers ignore an empty line before a message (RFC 9112 §2.2).
func (r *Reader) ReadAnswerHead(limit int) ([]byte, error) {
	r.blank = true
	return r.ReadHead(limit)
}
