// Package h1 reads and writes HTTP/1.1 messages (RFC 9112, RFC 9110) for a proxy that must never pass on a message
// which another program could frame differently.
//
// A [Reader] owns the read buffer of one connection. [Reader.Head] hands out a message head as one slice of it;
// [Request.Parse] and [Response.Parse] split it into fields that are slices of the same bytes, so reading a head
// allocates nothing and needs no map. A [Body] then reads the content behind it.
//
//	for {
//		head, err := reader.ReadHead(limits.Head)
//		if err != nil { ... }
//		if err = request.Parse(head, &limits); err != nil { ... } // *Error: carries the status to answer with
//		body.Reset(reader, request.Framing, request.Length)
//		...
//	}
//
// What RFC 9112 leaves to the recipient is decided for safety. Refused are: Content-Length beside Transfer-Encoding, any
// second or listed Content-Length, a transfer coding other than exactly "chunked", bare CR or LF, obs-fold, whitespace
// before the colon, control characters in values, a missing, second or malformed Host, and request targets with two
// readings (see [Request.Path]). Chunk extensions are bounded, checked and dropped, trailers bounded, checked and kept if they
// may stand there ([Body.Trailers]), and content is always framed anew by the writer. [Request.Set] applies the same rules to
// requests of HTTP/2 and HTTP/3, so that one Request serves all versions.
//
// Deadlines are the caller's: the package never looks at a clock, starts no goroutine and knows no socket option.
package h1
