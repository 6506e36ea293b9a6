// Package coap carries the Constrained Application Protocol over UDP: it turns datagrams into requests and
// responses, in both roles.
//
// [Endpoint] is the protocol without input and output. Feed takes a datagram, Next hands out the requests
// that are to be answered, Respond answers one, Do sends one of our own, Tick does what time demands, and
// datagrams leave through Config.Send. It owns no goroutine and reads no clock, so the same code runs under
// a socket, a fuzzer and a simulated network. [Server] has several, over which peers are spread, with locks, clock and a pool
// of workers for what has to wait; [UDP] is one on a socket.
//
// Implemented: RFC 7252 (messages, options, CON and NON, piggybacked and separate responses, deduplication,
// retransmission), RFC 7959 (block-wise transfer in both directions, matched as RFC 9175 section 3 says and
// never by token), RFC 7641 (observe, both roles), RFC 8132 (FETCH, PATCH, iPATCH), RFC 8516 (4.29),
// RFC 9175 (Echo against amplification, Request-Tag), RFC 9177 (Q-Block, as a server on datagrams), RFC 7967 (No-Response), RFC 8974 (tokens of up to 64 bytes are
// returned, others refused with 4.00; our own have 8).
// Refused: proxying (5.05), multicast.
//
// What a hostile network can cost is bounded. State is made only after a datagram was parsed as a request;
// a malformed datagram changes nothing. Peers, requests in hand, remembered replies, bodies in transfer and
// observations all have limits in [Config], each per peer and in total. An unverified source is
// sent at most Config.AmplificationFactor times the bytes that it has sent.
package coap
