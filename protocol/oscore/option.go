package oscore

import "slices"

// Number is that of the OSCORE option (RFC 8613 §2).
const Number = 9

// Numbers of options that are treated in a way of their own (RFC 8613 §4.1, figure 5; RFC 8768; RFC 9175 §2.2.1, §3.2.1; RFC 9177 §4.1).
const (
	optionURIHost     = 3
	optionObserve     = 6
	optionURIPort     = 7
	optionHopLimit    = 16
	optionProxyURI    = 35
	optionProxyScheme = 39
	optionNoResponse  = 258
)

// isOuter tells whether an option is for proxies, and so not protected (class U). All others are encrypted (class E), also those that
// may stand outside for proxies as well.
func isOuter(number int) bool {
	switch number {
	case optionURIHost, optionURIPort, optionHopLimit, optionProxyURI, optionProxyScheme, Number:
		return true
	}
	return false
}

const (
	payloadMarker = 0xff
	maxOptions    = 256 // of a message
)

// option is one option of an encoded list.
type option struct {
	number int
	value  []byte
}

// parse takes what follows a token apart (RFC 7252 §3.1).
func parse(body []byte) (options []option, payload []byte, err error) {
	number := 0
	for len(body) > 0 {
		if body[0] == payloadMarker {
			if len(body) == 1 {
				return nil, nil, ErrMalformed
			}
			return options, body[1:], nil
		}
		delta, length := int(body[0]>>4), int(body[0]&15)
		body = body[1:]
		var ok1, ok2 bool
		delta, body, ok1 = extend(delta, body)
		length, body, ok2 = extend(length, body)
		if number += delta; !ok1 || !ok2 || number > 0xffff || length > len(body) || len(options) == maxOptions {
			return nil, nil, ErrMalformed
		}
		options = append(options, option{number, body[:length]})
		body = body[length:]
	}
	return options, nil, nil
}

func extend(nibble int, b []byte) (value int, rest []byte, ok bool) {
	switch {
	case nibble < 13:
		return nibble, b, true
	case nibble == 13 && len(b) >= 1:
		return 13 + int(b[0]), b[1:], true
	case nibble == 14 && len(b) >= 2:
		return 269 + int(b[0])<<8 + int(b[1]), b[2:], true
	}
	return 0, nil, false
}

// appendMessage encodes options, in their order, and payload.
func appendMessage(dst []byte, options []option, payload []byte) []byte {
	previous := 0
	for _, o := range options {
		at := len(dst)
		dst = append(dst, 0)
		var delta, length byte
		delta, dst = appendExtended(dst, o.number-previous)
		length, dst = appendExtended(dst, len(o.value))
		dst[at] = delta<<4 | length
		dst = append(dst, o.value...)
		previous = o.number
	}
	if len(payload) > 0 {
		dst = append(append(dst, payloadMarker), payload...)
	}
	return dst
}

func appendExtended(dst []byte, value int) (nibble byte, _ []byte) {
	switch {
	case value < 13:
		return byte(value), dst
	case value < 269:
		return 13, append(dst, byte(value-13))
	}
	value -= 269
	return 14, append(dst, byte(value>>8), byte(value))
}

// insert puts an option into its place.
func insert(options []option, o option) []option {
	i := len(options)
	for i > 0 && options[i-1].number > o.number {
		i--
	}
	return slices.Insert(options, i, o)
}

func find(options []option, number int) (value []byte, count int) {
	for _, o := range options {
		if o.number == number {
			value, count = o.value, count+1
		}
	}
	return value, count
}

// Header is the value of the OSCORE option (RFC 8613 §6.1).
type Header struct {
	KID        []byte // nil: none
	KIDContext []byte // nil: none
	partialIV  partialIV
}

const (
	flagKID        = 1 << 3
	flagKIDContext = 1 << 4
)

func (h *Header) append(dst []byte) []byte {
	flags := h.partialIV.length
	if h.KID != nil {
		flags |= flagKID
	}
	if h.KIDContext != nil {
		flags |= flagKIDContext
	}
	if flags == 0 {
		return dst
	}
	dst = append(append(dst, flags), h.partialIV.value()...)
	if h.KIDContext != nil {
		dst = append(append(dst, byte(len(h.KIDContext))), h.KIDContext...)
	}
	return append(dst, h.KID...)
}

// ParseHeader reads the value of an OSCORE option, of which the Header is a view. It refuses reserved flags and lengths: ErrMalformed.
func ParseHeader(value []byte) (h Header, err error) {
	if len(value) == 0 {
		return h, nil
	}
	flags, rest := value[0], value[1:]
	n := int(flags & 7)
	if flags == 0 || flags>>5 != 0 || n > len(h.partialIV.bytes) || n > len(rest) {
		return h, ErrMalformed
	}
	h.partialIV.length = uint8(n)
	copy(h.partialIV.bytes[:], rest[:n])
	if n > 1 && rest[0] == 0 {
		return h, ErrMalformed // not as few bytes as hold it
	}
	rest = rest[n:]
	if flags&flagKIDContext != 0 {
		if len(rest) == 0 || int(rest[0]) > len(rest)-1 {
			return h, ErrMalformed
		}
		h.KIDContext, rest = rest[1:1+rest[0]], rest[1+rest[0]:]
	}
	switch {
	case flags&flagKID != 0:
		h.KID = rest[:len(rest):len(rest)]
	case len(rest) > 0:
		return h, ErrMalformed
	}
	return h, nil
}

// Numbered says whether there is a partial IV, as every request has.
func (h *Header) Numbered() bool { return h.partialIV.length > 0 }

// Identify returns the header of a protected message, by which a server finds its context; protected is false when there is no OSCORE option.
// What is ErrMalformed is answered with 4.02 (RFC 8613 §8.2).
func Identify(body []byte) (header Header, protected bool, err error) {
	options, payload, err := parse(body)
	if err != nil {
		return header, false, err
	}
	value, count := find(options, Number)
	if count == 0 {
		return header, false, nil
	}
	if count > 1 || len(payload) <= tagLength {
		return header, true, ErrMalformed
	}
	header, err = ParseHeader(value)
	return header, true, err
}
