// Package dtls is a server of DTLS 1.2 over UDP (RFC 6347) for very many peers that mostly say nothing.
//
// [Server] has no socket: Open takes a datagram from the network and gives out the messages in it, Seal makes the
// datagram for a message, and handshakes leave through Config.Send. It names each session by an address
// that cannot come from the network and stays the same when the peer's changes.
//
// Nothing is remembered of a sender before it has returned a cookie (RFC 6347 §4.2.1), which we make and check without
// state. Then pion/dtls does the handshake. Once that is done the keys are taken over: the records of a session are
// protected here, so that a session costs a few hundred bytes and no goroutine.
//
// A client that names an earlier session resumes it (RFC 5246 §7.3), which is done here whole, without pion.
//
// Implemented: pre-shared keys (RFC 4279) and X.509 certificates on both sides (RFC 7925), AES-128 in CCM-8, CCM and GCM
// (RFC 6655, RFC 7251, RFC 5288), the extended master secret (RFC 7627), Connection IDs (RFC 9146).
// Refused: clients that show neither key nor certificate, raw public keys, session tickets (RFC 5077), renegotiation, other
// ciphers, DTLS 1.0; of clients that offer DTLS 1.3 too, 1.2 is chosen.
package dtls
