// Package h2 is the server side of HTTP/2 (RFC 9113) for a gateway: it turns a connection into request streams and sends their
// answers, and knows nothing of what is asked.
//
// A [Conn] owns the connection. [Conn.Serve] reads its frames in one goroutine and runs the handler of each request in one of
// its own; a [Stream] is read and written by its handler like a connection, with deadlines, and has a head before its content:
//
//	conn := h2.NewConn(link, nil, &config, func(s *h2.Stream) {
//		// s.Method, s.Path, s.Fields, s.ContentLength …; s.Read until io.EOF
//		s.Send(200, fields, content, true)
//	})
//	err := conn.Serve() // until the connection and all handlers have ended
//
// Frames of all streams leave through one buffer: who finds nobody writing writes for all, so that many answers are one system
// call. A stream whose client opens no window waits by itself.
//
// What a client can make us hold or do is bounded before it happens: streams whose handler runs (those that the client has
// reset included, CVE-2023-44487), bytes and frames of a header block (CVE-2024-27316), bytes that wait to be read or written,
// and frames that carry nothing. Beyond that the connection ends with GOAWAY and ENHANCE_YOUR_CALM.
//
// Not there, on purpose: server push, priorities (RFC 9113 §5.3.1 takes them away), CONNECT in any form, and "Upgrade: h2c".
package h2
