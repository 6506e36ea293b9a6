package coap

import "slices"

// OptionNumber names an option; its low bits say how a receiver that does not know it must act (RFC 7252 §5.4.6).
type OptionNumber uint16

const (
	IfMatch       OptionNumber = 1
	URIHost       OptionNumber = 3
	ETag          OptionNumber = 4
	IfNoneMatch   OptionNumber = 5
	Observe       OptionNumber = 6
	URIPort       OptionNumber = 7
	LocationPath  OptionNumber = 8
	URIPath       OptionNumber = 11
	ContentFormat OptionNumber = 12
	MaxAge        OptionNumber = 14
	URIQuery      OptionNumber = 15
	HopLimit      OptionNumber = 16
	Accept        OptionNumber = 17
	QBlock1       OptionNumber = 19
	LocationQuery OptionNumber = 20
	Block2        OptionNumber = 23
	Block1        OptionNumber = 27
	Size2         OptionNumber = 28
	QBlock2       OptionNumber = 31
	ProxyURI      OptionNumber = 35
	ProxyScheme   OptionNumber = 39
	Size1         OptionNumber = 60
	Echo          OptionNumber = 252
	NoResponse    OptionNumber = 258
	RequestTag    OptionNumber = 292
)

// Critical tells whether a receiver that does not understand the option must refuse the message.
func (n OptionNumber) Critical() bool { return n&1 == 1 }

// partOfCacheKey tells whether requests that differ in this option are different requests (RFC 7252 §5.4.2, §5.4.6).
func (n OptionNumber) partOfCacheKey() bool { return n&0x1e != 0x1c }

// optionRule is one row of the option tables.
type optionRule struct {
	known      bool
	repeatable bool
	min, max   uint16 // length of the value in bytes
}

// ruleOf repeats the tables of RFC 7252 §5.10, RFC 7641 §2, RFC 7959 §2.1 and §4, RFC 7967 §2, RFC 8768 §3,
// RFC 9175 §2.2.1 and §3.2.1, and RFC 9177 §4.1.
func ruleOf(number OptionNumber) optionRule {
	switch number {
	case IfMatch:
		return optionRule{true, true, 0, 8}
	case URIHost:
		return optionRule{true, false, 1, 255}
	case ETag:
		return optionRule{true, true, 1, 8}
	case IfNoneMatch:
		return optionRule{true, false, 0, 0}
	case Observe:
		return optionRule{true, false, 0, 3}
	case URIPort:
		return optionRule{true, false, 0, 2}
	case LocationPath, URIPath, URIQuery, LocationQuery:
		return optionRule{true, true, 0, 255}
	case ContentFormat, Accept:
		return optionRule{true, false, 0, 2}
	case MaxAge:
		return optionRule{true, false, 0, 4}
	case HopLimit:
		return optionRule{true, false, 1, 1}
	case Block1, Block2, QBlock1:
		return optionRule{true, false, 0, 3}
	case QBlock2:
		return optionRule{true, true, 0, 3}
	case Size1, Size2:
		return optionRule{true, false, 0, 4}
	case ProxyURI:
		return optionRule{true, false, 1, 1034}
	case ProxyScheme:
		return optionRule{true, false, 1, 255}
	case Echo:
		return optionRule{true, false, 1, 40}
	case NoResponse:
		return optionRule{true, false, 0, 1}
	case RequestTag:
		return optionRule{true, true, 0, 8}
	}
	return optionRule{}
}

// Options is the list of options of a message that we send, kept in the order in which they are encoded.
// The zero value is empty. Values are copied. Reset keeps the memory for the next message.
type Options struct {
	list   []optionSpan
	values []byte
}

type optionSpan struct {
	number     OptionNumber
	start, end uint32
}

// Reset empties the list.
func (o *Options) Reset() {
	o.list = o.list[:0]
	o.values = o.values[:0]
}

// Add puts an option behind those of the same number. Values longer than 65,535 bytes are not encodable
// and are cut by no one: callers bound them.
func (o *Options) Add(number OptionNumber, value []byte) {
	start := uint32(len(o.values))
	o.values = append(o.values, value...)
	o.insert(optionSpan{number, start, uint32(len(o.values))})
}

// AddString is Add for text.
func (o *Options) AddString(number OptionNumber, value string) {
	start := uint32(len(o.values))
	o.values = append(o.values, value...)
	o.insert(optionSpan{number, start, uint32(len(o.values))})
}

// AddUint is Add for a number, in as few bytes as hold it (RFC 7252 §3.2).
func (o *Options) AddUint(number OptionNumber, value uint32) {
	start := uint32(len(o.values))
	o.values = appendUint(o.values, value)
	o.insert(optionSpan{number, start, uint32(len(o.values))})
}

// Set replaces all options of that number by one.
func (o *Options) Set(number OptionNumber, value []byte) {
	o.Remove(number)
	o.Add(number, value)
}

// SetUint replaces all options of that number by one.
func (o *Options) SetUint(number OptionNumber, value uint32) {
	o.Remove(number)
	o.AddUint(number, value)
}

// Remove takes out all options of that number.
func (o *Options) Remove(number OptionNumber) {
	o.list = slices.DeleteFunc(o.list, func(s optionSpan) bool { return s.number == number })
}

// Get returns the first value of that number.
func (o *Options) Get(number OptionNumber) ([]byte, bool) {
	for _, s := range o.list {
		if s.number == number {
			return o.values[s.start:s.end], true
		}
	}
	return nil, false
}

// Len is the number of options.
func (o *Options) Len() int { return len(o.list) }

// At returns the option at index i in encoding order.
func (o *Options) At(i int) (OptionNumber, []byte) {
	s := o.list[i]
	return s.number, o.values[s.start:s.end]
}

// CopyFrom makes o equal to other.
func (o *Options) CopyFrom(other *Options) {
	o.list = append(o.list[:0], other.list...)
	o.values = append(o.values[:0], other.values...)
}

// encodedLength is how many bytes the options take in a message.
func (o *Options) encodedLength() int {
	length, previous := 0, OptionNumber(0)
	for _, s := range o.list {
		value := int(s.end - s.start)
		length += 1 + extendedLength(int(s.number-previous)) + extendedLength(value) + value
		previous = s.number
	}
	return length
}

func extendedLength(value int) int {
	switch {
	case value < 13:
		return 0
	case value < 269:
		return 1
	}
	return 2
}

func (o *Options) insert(s optionSpan) {
	i := len(o.list)
	for i > 0 && o.list[i-1].number > s.number {
		i--
	}
	o.list = slices.Insert(o.list, i, s)
}

// appendUint writes value in as few bytes as hold it; zero takes none (RFC 7252 §3.2).
func appendUint(dst []byte, value uint32) []byte {
	for shift := 24; shift >= 0; shift -= 8 {
		if value>>shift != 0 {
			dst = append(dst, byte(value>>shift))
		}
	}
	return dst
}

// decodeUint reads an option value as a number; leading zeros are allowed (RFC 7252 §3.2).
func decodeUint(value []byte) (uint32, bool) {
	if len(value) > 4 {
		return 0, false
	}
	var n uint32
	for _, b := range value {
		n = n<<8 | uint32(b)
	}
	return n, true
}
