// Package oscore is Object Security for Constrained RESTful Environments (RFC 8613): it protects CoAP messages from end to end, whatever
// carries them.
//
// A [Context] protects and opens what a CoAP message has behind its token: the encoded options and, behind the marker, the payload. Header,
// token, retransmission and block-wise transfer of the outer messages stay with whoever sends them, so that the same code serves
// datagrams and connections. A server finds the context of a request by [Identify].
//
// Implemented: AES-CCM-16-64-128 with HKDF SHA-256, ID Context, requests, responses with the request's nonce and with one of their own,
// Observe, inner Block-wise (which is the application's: an inner message is an ordinary one), outer Block-wise of proxies, and the
// replay window with its recovery after a restart (appendix B.1.2). Refused: other algorithms.
//
// A Context owns sequence number and window; it is not safe for concurrent use. Errors tell the peer by a code that the documentation of
// each names, and nothing else.
package oscore
