package oscore

import (
	"errors"
	"slices"
)

// Why a message cannot be protected or opened. A server answers a request with the code that each names, unprotected and with Max-Age 0
// (RFC 8613 §8.2); a client drops the response.
var (
	ErrMalformed = errors.New("oscore: the message or its OSCORE option is malformed")                   // 4.02 Bad Option
	ErrContext   = errors.New("oscore: the message is for another security context")                     // 4.01 Unauthorized
	ErrReplay    = errors.New("oscore: the message was received before, or is too old to tell")          // 4.01 Unauthorized
	ErrOpen      = errors.New("oscore: the message does not authenticate")                               // 4.00 Bad Request
	ErrExhausted = errors.New("oscore: all sequence numbers have been used; a new context is needed")    // the context is at its end
	ErrProxyURI  = errors.New("oscore: Proxy-Uri is to be split into Proxy-Scheme, Uri-Host and others") // RFC 8613 §4.1.3.3
)

// Codes of CoAP that stand outside (RFC 8613 §4.2).
const (
	codePOST    = 0<<5 | 2
	codeFETCH   = 0<<5 | 5
	codeChanged = 2<<5 | 4
	codeContent = 2<<5 | 5
)

// Exchange binds responses to their request (RFC 8613 §5.4): no response can be taken for that to another.
type Exchange struct {
	kid       []byte // of the request's sender
	partialIV partialIV
	nonce     [nonceLength]byte
	// Unproven says that the request may be a repetition, because the Context does not know what it received before. It is answered
	// with 4.01 and an Echo option, and nothing is carried out; once a request returns the value, Synchronize.
	Unproven bool

	observed uint64 // above the newest notification that was opened
}

// ProtectRequest appends the options and payload of the protected request to dst. body are those of the request, encoded.
func (c *Context) ProtectRequest(dst []byte, code byte, body []byte) (outerCode byte, _ []byte, exchange Exchange, err error) {
	p, err := c.next()
	if err != nil {
		return 0, nil, Exchange{}, err
	}
	kid := c.senderID
	if kid == nil {
		kid = []byte{}
	}
	exchange = Exchange{kid: kid, partialIV: p, nonce: c.nonce(c.senderID, p.value())}
	header := Header{KID: kid, KIDContext: c.idContext, partialIV: p}
	outer, observe, err := c.protect(dst, code, body, &header, &exchange, exchange.nonce)
	if outerCode = codePOST; observe {
		outerCode = codeFETCH
	}
	return outerCode, outer, exchange, err
}

// ProtectResponse appends the options and payload of the protected response to dst. Of several responses to one request each but the
// first, and each notification, needs a nonce of its own, which own asks for (RFC 8613 §8.3).
func (c *Context) ProtectResponse(dst []byte, exchange *Exchange, code byte, body []byte, own bool) (outerCode byte, _ []byte, err error) {
	var header Header
	nonce := exchange.nonce
	if own || exchange.Unproven {
		if header.partialIV, err = c.next(); err != nil {
			return 0, nil, err
		}
		nonce = c.nonce(c.senderID, header.partialIV.value())
	}
	outer, observe, err := c.protect(dst, code, body, &header, exchange, nonce)
	if outerCode = codeChanged; observe {
		outerCode = codeContent
	}
	return outerCode, outer, err
}

// protect encrypts code, inner options and payload (RFC 8613 §5.3).
func (c *Context) protect(dst []byte, code byte, body []byte, header *Header, exchange *Exchange, nonce [nonceLength]byte) (_ []byte, observe bool, err error) {
	options, payload, err := parse(body)
	if err != nil {
		return nil, false, err
	}
	var inner, outer []option
	for _, o := range options {
		switch {
		case o.number == optionProxyURI:
			return nil, false, ErrProxyURI
		case o.number == Number:
			return nil, false, ErrMalformed
		case isOuter(o.number):
			outer = append(outer, o)
		case o.number == optionObserve:
			observe = true
			outer = append(outer, o)
			if code>>5 != 0 {
				o.value = nil // the partial IV tells the order (RFC 8613 §4.1.3.5.2)
			}
			inner = append(inner, o)
		case o.number == optionNoResponse:
			outer = append(outer, o) // RFC 8613 §4.1.3.6
			inner = append(inner, o)
		default:
			inner = append(inner, o)
		}
	}
	outer = insert(outer, option{Number, header.append(nil)})
	dst = append(appendMessage(dst, outer, nil), payloadMarker)
	c.scratch = appendMessage(append(c.scratch[:0], code), inner, payload)
	return c.sender.Seal(dst, nonce[:], c.scratch, exchange.additionalData()), observe, nil
}

// additionalData is the Enc_structure of COSE (RFC 8613 §5.4, RFC 9052 §5.3).
func (x *Exchange) additionalData() []byte {
	aad := append(make([]byte, 0, 32), cborArray|5, 1, cborArray|1, algorithm)
	aad = appendBytes(appendBytes(aad, x.kid), x.partialIV.value())
	aad = append(aad, cborBytes) // no class I options
	structure := append(make([]byte, 0, 64), cborArray|3, cborText|8)
	structure = append(append(structure, "Encrypt0"...), cborBytes)
	return appendBytes(structure, aad)
}

// OpenRequest appends the options and payload of the request within to dst.
func (c *Context) OpenRequest(dst, body []byte) (code byte, _ []byte, exchange Exchange, err error) {
	options, ciphertext, header, err := open(body)
	switch {
	case err != nil:
		return 0, nil, exchange, err
	case header.KID == nil || header.partialIV.length == 0:
		return 0, nil, exchange, ErrMalformed // RFC 8613 §8.2: a request names its context and is numbered
	case string(header.KID) != string(c.recipientID) || header.KIDContext != nil && string(header.KIDContext) != string(c.idContext):
		return 0, nil, exchange, ErrContext
	}
	sequence := header.partialIV.sequence()
	if c.synchronized && !c.received.mayAccept(sequence) {
		return 0, nil, exchange, ErrReplay
	}
	exchange = Exchange{kid: slices.Clone(header.KID), partialIV: header.partialIV, Unproven: !c.synchronized}
	exchange.nonce = c.nonce(c.recipientID, header.partialIV.value())
	if c.scratch, err = c.recipient.Open(c.scratch[:0], exchange.nonce[:], ciphertext, exchange.additionalData()); err != nil {
		return 0, nil, Exchange{}, ErrOpen
	}
	if code, dst, err = c.merge(dst, options, nil); err != nil {
		return 0, nil, Exchange{}, err
	}
	if code>>5 != 0 || code == 0 {
		return 0, nil, Exchange{}, ErrOpen // no request is within
	}
	if c.synchronized {
		c.received.accept(sequence)
	}
	return code, dst, exchange, nil
}

// Synchronize takes an Unproven request, which has returned an Echo value of after the restart, for new, and refuses all that were
// numbered before it (RFC 8613 appendix B.1.2).
func (c *Context) Synchronize(exchange *Exchange) {
	sequence := exchange.partialIV.sequence()
	if c.synchronized {
		if c.received.mayAccept(sequence) {
			c.received.accept(sequence)
		}
	} else {
		c.received.startAfter(sequence)
		c.synchronized = true
	}
	exchange.Unproven = false
}

// OpenResponse appends the options and payload of the response within to dst. A notification must be newer than those before it
// (RFC 8613 §7.4.1).
func (c *Context) OpenResponse(dst, body []byte, exchange *Exchange) (code byte, _ []byte, err error) {
	options, ciphertext, header, err := open(body)
	if err != nil {
		return 0, nil, err
	}
	nonce, sequence := exchange.nonce, uint64(0)
	var observed []byte
	if header.partialIV.length > 0 {
		nonce = c.nonce(c.recipientID, header.partialIV.value())
		sequence = header.partialIV.sequence()
		observed = []byte{byte(sequence >> 16), byte(sequence >> 8), byte(sequence)}
	}
	_, notification := find(options, optionObserve)
	if notification > 0 && header.partialIV.length > 0 && sequence < exchange.observed {
		return 0, nil, ErrReplay
	}
	if c.scratch, err = c.recipient.Open(c.scratch[:0], nonce[:], ciphertext, exchange.additionalData()); err != nil {
		return 0, nil, ErrOpen
	}
	if code, dst, err = c.merge(dst, options, observed); err != nil {
		return 0, nil, err
	}
	if code>>5 < 2 {
		return 0, nil, ErrOpen // no response is within
	}
	if notification > 0 && header.partialIV.length > 0 {
		exchange.observed = sequence + 1
	}
	return code, dst, nil
}

// open takes a protected message apart.
func open(body []byte) (options []option, ciphertext []byte, header Header, err error) {
	if options, ciphertext, err = parse(body); err != nil {
		return nil, nil, header, err
	}
	value, count := find(options, Number)
	if count != 1 || len(ciphertext) <= tagLength {
		return nil, nil, header, ErrMalformed
	}
	header, err = ParseHeader(value)
	return options, ciphertext, header, err
}

// merge appends what was within, which stands in scratch, with the outer options that are not protected. All other outer options are
// dropped, inner ones that belong outside likewise (RFC 8613 §8.2, §8.4). Observe counts when it stands in both; observed is its value
// then, unless it is nil.
func (c *Context) merge(dst []byte, outer []option, observed []byte) (code byte, _ []byte, err error) {
	plaintext := c.scratch
	if len(plaintext) == 0 {
		return 0, nil, ErrOpen
	}
	inner, payload, err := parse(plaintext[1:])
	if err != nil {
		return 0, nil, ErrOpen
	}
	_, observe := find(outer, optionObserve)
	inner = slices.DeleteFunc(inner, func(o option) bool {
		return isOuter(o.number) || o.number == optionObserve && observe == 0
	})
	for i := range inner {
		if inner[i].number == optionObserve && observed != nil {
			inner[i].value = trimZeros(observed)
		}
	}
	for _, o := range outer {
		if isOuter(o.number) && o.number != Number {
			inner = insert(inner, o)
		}
	}
	return plaintext[0], appendMessage(dst, inner, payload), nil
}

func trimZeros(value []byte) []byte {
	for len(value) > 0 && value[0] == 0 {
		value = value[1:]
	}
	return value
}
