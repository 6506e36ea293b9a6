package coap

import (
	"errors"
	"strings"
)

// What makes a datagram no CoAP message (RFC 7252 §3). The text names the clause, never the sender's bytes.
var (
	ErrShort       = errors.New("coap: shorter than the four-byte header")
	ErrVersion     = errors.New("coap: version is not 1")
	ErrTokenLength = errors.New("coap: token length is reserved, or longer than the datagram")
	ErrOption      = errors.New("coap: option header is reserved, overflows or runs past the end")
	ErrMarker      = errors.New("coap: payload marker without payload")
	ErrEmpty       = errors.New("coap: empty message carries more than a header")
)

const (
	headerLength  = 4
	version       = 1
	payloadMarker = 0xff
)

// Message is a decoded datagram. Token, options and Payload are views of it and live as long as it does.
type Message struct {
	Type      Type
	Code      Code
	MessageID uint16
	Token     []byte
	Payload   []byte

	options  []byte // encoded; walked once by Decode, so that iterating cannot fail
	reliable bool   // it came over a connection (RFC 8323)

	protection Protection // of what was within an OSCORE message; nil: it was not
}

// Decode reads one datagram without copying it. With an error other than ErrShort and ErrVersion the type
// and the message ID are valid, so that a Confirmable message can be rejected.
func Decode(datagram []byte) (Message, error) {
	var m Message
	if len(datagram) < headerLength {
		return m, ErrShort
	}
	//  0                   1                   2                   3
	//  |Ver| T |  TKL  |      Code     |          Message ID           |   RFC 7252 §3
	if datagram[0]>>6 != version {
		return m, ErrVersion
	}
	m.Type = Type(datagram[0] >> 4 & 3)
	m.Code = Code(datagram[1])
	m.MessageID = uint16(datagram[2])<<8 | uint16(datagram[3])
	nibble := int(datagram[0] & 15)
	if m.Code == Empty {
		// RFC 7252 §4.1: the token length is zero and nothing follows the message ID.
		if nibble != 0 || len(datagram) > headerLength {
			return m, ErrEmpty
		}
		return m, nil
	}
	// RFC 8974 §2.1: up to 12 bytes are counted here; 13 and 14 stand for an extended length between message ID and token, as in options.
	length, at, ok := extend(datagram, nibble, headerLength)
	if !ok || length > len(datagram)-at {
		return m, ErrTokenLength
	}
	m.Token = datagram[at : at+length : at+length]
	rest := datagram[at+length:]

	number := 0
	at = 0
	for at < len(rest) {
		if rest[at] == payloadMarker {
			if at+1 == len(rest) {
				return m, ErrMarker
			}
			m.Payload = rest[at+1:]
			break
		}
		delta, length, start, ok := optionHeader(rest, at)
		if !ok {
			return m, ErrOption
		}
		number += delta
		if number > 0xffff || length > len(rest)-start {
			return m, ErrOption
		}
		at = start + length
	}
	m.options = rest[:at:at]
	return m, nil
}

// optionHeader reads delta and length with their extensions (RFC 7252 §3.1); start is where the value begins.
func optionHeader(b []byte, at int) (delta, length, start int, ok bool) {
	delta, length = int(b[at]>>4), int(b[at]&15)
	at++
	if delta, at, ok = extend(b, delta, at); !ok {
		return
	}
	length, at, ok = extend(b, length, at)
	return delta, length, at, ok
}

// extend resolves the nibbles 13 (one byte follows), 14 (two bytes) and 15 (reserved).
func extend(b []byte, nibble, at int) (int, int, bool) {
	switch nibble {
	case 13:
		if at >= len(b) {
			return 0, 0, false
		}
		return 13 + int(b[at]), at + 1, true
	case 14:
		if at+1 >= len(b) {
			return 0, 0, false
		}
		return 269 + int(b[at])<<8 + int(b[at+1]), at + 2, true
	case 15:
		return 0, 0, false
	}
	return nibble, at, true
}

// OptionIterator walks the options of a message in order:
//
//	for it := m.Iterate(); it.Next(); { use(it.Number, it.Value) }
type OptionIterator struct {
	Number OptionNumber
	Value  []byte
	rest   []byte
}

// Iterate starts before the first option.
func (m *Message) Iterate() OptionIterator { return OptionIterator{rest: m.options} }

// Next moves to the next option and tells whether there was one.
func (it *OptionIterator) Next() bool {
	if len(it.rest) == 0 {
		return false
	}
	delta, length, start, _ := optionHeader(it.rest, 0)
	it.Number += OptionNumber(delta)
	it.Value = it.rest[start : start+length : start+length]
	it.rest = it.rest[start+length:]
	return true
}

// Option returns the first value of that number if its length is allowed; RFC 7252 §5.4.3 has one of any
// other length treated as an option that was not recognized.
func (m *Message) Option(number OptionNumber) ([]byte, bool) {
	rule := ruleOf(number)
	for it := m.Iterate(); it.Next() && it.Number <= number; {
		if it.Number == number && (!rule.known || len(it.Value) >= int(rule.min) && len(it.Value) <= int(rule.max)) {
			return it.Value, true
		}
	}
	return nil, false
}

// Uint returns the first value of that number as an unsigned integer.
func (m *Message) Uint(number OptionNumber) (uint32, bool) {
	value, ok := m.Option(number)
	if !ok {
		return 0, false
	}
	return decodeUint(value)
}

// Path joins the Uri-Path options into a path as RFC 7252 §6.5 says: each segment percent-encoded after a
// slash, and "/" when there are none.
func (m *Message) Path() string { return string(m.AppendPath(nil)) }

// AppendPath appends what Path is.
func (m *Message) AppendPath(dst []byte) []byte { return m.appendPath(dst, URIPath) }

// Location joins the Location-Path options in the same way, and is empty when there are none.
func (m *Message) Location() string {
	if _, ok := m.Option(LocationPath); !ok {
		return ""
	}
	return string(m.appendPath(nil, LocationPath))
}

func (m *Message) appendPath(dst []byte, number OptionNumber) []byte {
	start := len(dst)
	for it := m.Iterate(); it.Next() && it.Number <= number; {
		if it.Number == number {
			dst = appendEscaped(append(dst, '/'), it.Value, "/?#")
		}
	}
	if len(dst) == start {
		dst = append(dst, '/')
	}
	return dst
}

// Query joins the Uri-Query options with "&" as RFC 7252 §6.5 says.
func (m *Message) Query() string { return string(m.AppendQuery(nil)) }

// AppendQuery appends what Query is.
func (m *Message) AppendQuery(dst []byte) []byte {
	first := true
	for it := m.Iterate(); it.Next() && it.Number <= URIQuery; {
		if it.Number == URIQuery {
			if !first {
				dst = append(dst, '&')
			}
			first = false
			dst = appendEscaped(dst, it.Value, "&#")
		}
	}
	return dst
}

// appendEscaped percent-encodes what is not allowed in a path or query (RFC 3986 §3.3) and the given delimiters.
func appendEscaped(dst, value []byte, delimiters string) []byte {
	const hex = "0123456789ABCDEF"
	for _, c := range value {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			strings.IndexByte("-._~!$&'()*+,;=:@/?", c) >= 0 && strings.IndexByte(delimiters, c) < 0:
			dst = append(dst, c)
		default:
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

// AppendMessage encodes a message behind dst. Options may be nil. A token of more than 8 bytes is only for whoever sent
// it, since others may not know RFC 8974.
func AppendMessage(dst []byte, t Type, code Code, messageID uint16, token []byte, options *Options, payload []byte) []byte {
	at := len(dst)
	dst = append(dst, 0, byte(code), byte(messageID>>8), byte(messageID))
	nibble, dst := appendExtended(dst, len(token))
	dst[at] = version<<6 | byte(t)<<4 | nibble
	dst = append(dst, token...)
	if options != nil {
		previous := OptionNumber(0)
		for _, s := range options.list {
			dst = appendOption(dst, s.number-previous, options.values[s.start:s.end])
			previous = s.number
		}
	}
	if len(payload) > 0 {
		dst = append(dst, payloadMarker)
		dst = append(dst, payload...)
	}
	return dst
}

func appendOption(dst []byte, delta OptionNumber, value []byte) []byte {
	at := len(dst)
	dst = append(dst, 0)
	high, dst := appendExtended(dst, int(delta))
	low, dst := appendExtended(dst, len(value))
	dst[at] = high<<4 | low
	return append(dst, value...)
}

func appendExtended(dst []byte, value int) (nibble byte, _ []byte) {
	switch {
	case value < 13:
		return byte(value), dst
	case value < 269:
		return 13, append(dst, byte(value-13))
	default:
		value -= 269
		return 14, append(dst, byte(value>>8), byte(value))
	}
}

// appendEmpty encodes an empty ACK or Reset (RFC 7252 §4.1).
func appendEmpty(dst []byte, t Type, messageID uint16) []byte {
	return AppendMessage(dst, t, Empty, messageID, nil, nil, nil)
}
