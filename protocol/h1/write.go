package h1

import (
	"net/http"
	"strconv"
)

// AppendRequestLine appends a request line in origin-form. A nil query writes no "?".
func AppendRequestLine(dst, method, path, query []byte) []byte {
	dst = append(dst, method...)
	dst = append(dst, ' ')
	dst = append(dst, path...)
	if query != nil {
		dst = append(dst, '?')
		dst = append(dst, query...)
	}
	return append(dst, " HTTP/1.1\r\n"...)
}

// AppendStatusLine appends the status line of an HTTP/1.1 response, with the registered reason phrase if reason is nil.
func AppendStatusLine(dst []byte, status int, reason []byte) []byte {
	if status == http.StatusOK && reason == nil {
		return append(dst, "HTTP/1.1 200 OK\r\n"...)
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	if reason != nil {
		dst = append(dst, reason...)
	} else {
		dst = append(dst, http.StatusText(status)...)
	}
	return append(dst, "\r\n"...)
}

// AppendField appends one field line. Name and value must come from a parsed head or from the program itself.
func AppendField[N, V []byte | string](dst []byte, name N, value V) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// AppendEndToEnd appends the fields a proxy forwards as they are: all but those of the connection (RFC 9110 §7.6.1) and
// those of the framing and the authority (Content-Length, Host, Expect), which the caller writes itself.
func AppendEndToEnd(dst []byte, fields Fields) []byte {
	for i := range fields {
		if field := &fields[i]; field.Kind == KindOther && !field.Hop {
			dst = AppendField(dst, field.Name, field.Value)
		}
	}
	return dst
}

// AppendFraming appends the field that announces content of that framing, if one is needed. Length writes
// Content-Length also for 0; NoBody and UntilClose write nothing.
func AppendFraming(dst []byte, framing Framing, length int64) []byte {
	switch framing {
	case Length:
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, length, 10)
		return append(dst, "\r\n"...)
	case Chunked:
		return append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	return dst
}

// ChunkRoom is the space that Chunk needs before the data, ChunkTail that behind it.
const (
	ChunkRoom = 10 // eight digits and CRLF
	ChunkTail = 2
)

// LastChunk ends chunked content without trailers; [AppendLastChunk] ends it with them.
const LastChunk = "0\r\n\r\n"

// Chunk makes a chunk around the n bytes of data at buf[ChunkRoom:], in place, so that reading into a buffer and writing
// it on costs no copy. buf must have ChunkTail bytes behind the data; 0 < n < 4 GiB.
func Chunk(buf []byte, n int) []byte {
	const digits = "0123456789abcdef"
	start := ChunkRoom - 2
	buf[start], buf[start+1] = '\r', '\n'
	for size := n; size > 0; size >>= 4 {
		start--
		buf[start] = digits[size&15]
	}
	end := ChunkRoom + n
	buf[end], buf[end+1] = '\r', '\n'
	return buf[start : end+2]
}
