package mqtt

import (
	"encoding/binary"
	"math/bits"
)

// PropertyID identifies a version 5 property (MQTT 5 §2.2.2.2).
type PropertyID byte

// The properties of MQTT 5, table 2-4. UserProperty and SubscriptionIdentifier may repeat and are kept in slices.
const (
	PayloadFormatIndicator          PropertyID = 0x01
	MessageExpiryInterval           PropertyID = 0x02
	ContentType                     PropertyID = 0x03
	ResponseTopic                   PropertyID = 0x08
	CorrelationData                 PropertyID = 0x09
	SubscriptionIdentifier          PropertyID = 0x0B
	SessionExpiryInterval           PropertyID = 0x11
	AssignedClientIdentifier        PropertyID = 0x12
	ServerKeepAlive                 PropertyID = 0x13
	AuthenticationMethod            PropertyID = 0x15
	AuthenticationData              PropertyID = 0x16
	RequestProblemInformation       PropertyID = 0x17
	WillDelayInterval               PropertyID = 0x18
	RequestResponseInformation      PropertyID = 0x19
	ResponseInformation             PropertyID = 0x1A
	ServerReference                 PropertyID = 0x1C
	ReasonString                    PropertyID = 0x1F
	ReceiveMaximum                  PropertyID = 0x21
	TopicAliasMaximum               PropertyID = 0x22
	TopicAlias                      PropertyID = 0x23
	MaximumQoS                      PropertyID = 0x24
	RetainAvailable                 PropertyID = 0x25
	UserProperty                    PropertyID = 0x26
	MaximumPacketSize               PropertyID = 0x27
	WildcardSubscriptionAvailable   PropertyID = 0x28
	SubscriptionIdentifierAvailable PropertyID = 0x29
	SharedSubscriptionAvailable     PropertyID = 0x2A

	propertyCount = 0x2B
)

type propertyKind byte

const (
	kindNone propertyKind = iota
	kindFlag              // one byte, 0 or 1
	kindUint16
	kindUint32
	kindVarint
	kindString
	kindBinary
	kindPair
)

// wills stands for the will properties of a CONNECT in the table below; packet type 0 is free.
const wills PacketType = 0

func in(types ...PacketType) (mask uint16) {
	for _, t := range types {
		mask |= 1 << t
	}
	return mask
}

// properties is table 2-4: each property's data type, the packets it may appear in, and where Properties keeps it.
var properties = func() (table [propertyCount]struct {
	kind  propertyKind
	scope uint16
	slot  byte
}) {
	anyPacket := in(wills, CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE,
		UNSUBACK, DISCONNECT, AUTH)
	set := func(id PropertyID, kind propertyKind, scope uint16) { table[id].kind, table[id].scope = kind, scope }
	set(PayloadFormatIndicator, kindFlag, in(PUBLISH, wills))
	set(MessageExpiryInterval, kindUint32, in(PUBLISH, wills))
	set(ContentType, kindString, in(PUBLISH, wills))
	set(ResponseTopic, kindString, in(PUBLISH, wills))
	set(CorrelationData, kindBinary, in(PUBLISH, wills))
	set(SubscriptionIdentifier, kindVarint, in(PUBLISH, SUBSCRIBE))
	set(SessionExpiryInterval, kindUint32, in(CONNECT, CONNACK, DISCONNECT))
	set(AssignedClientIdentifier, kindString, in(CONNACK))
	set(ServerKeepAlive, kindUint16, in(CONNACK))
	set(AuthenticationMethod, kindString, in(CONNECT, CONNACK, AUTH))
	set(AuthenticationData, kindBinary, in(CONNECT, CONNACK, AUTH))
	set(RequestProblemInformation, kindFlag, in(CONNECT))
	set(WillDelayInterval, kindUint32, in(wills))
	set(RequestResponseInformation, kindFlag, in(CONNECT))
	set(ResponseInformation, kindString, in(CONNACK))
	set(ServerReference, kindString, in(CONNACK, DISCONNECT))
	set(ReasonString, kindString, anyPacket&^in(wills, CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE))
	set(ReceiveMaximum, kindUint16, in(CONNECT, CONNACK))
	set(TopicAliasMaximum, kindUint16, in(CONNECT, CONNACK))
	set(TopicAlias, kindUint16, in(PUBLISH))
	set(MaximumQoS, kindFlag, in(CONNACK))
	set(RetainAvailable, kindFlag, in(CONNACK))
	set(UserProperty, kindPair, anyPacket)
	set(MaximumPacketSize, kindUint32, in(CONNECT, CONNACK))
	set(WildcardSubscriptionAvailable, kindFlag, in(CONNACK))
	set(SubscriptionIdentifierAvailable, kindFlag, in(CONNACK))
	set(SharedSubscriptionAvailable, kindFlag, in(CONNACK))
	var numbers, texts byte
	for id := range table {
		switch table[id].kind {
		case kindFlag, kindUint16, kindUint32:
			table[id].slot, numbers = numbers, numbers+1
		case kindString, kindBinary:
			table[id].slot, texts = texts, texts+1
		}
	}
	if numbers != numberSlots || texts != textSlots {
		panic("mqtt: property slots")
	}
	return table
}()

const (
	numberSlots = 16
	textSlots   = 9
)

// maxRepeated bounds user properties and subscription identifiers of one packet, so that a packet of 5-byte properties
// cannot make us hold ten times its size.
const maxRepeated = 256

// A Pair is one user property.
type Pair struct{ Key, Value []byte }

// Properties holds the properties of one packet. The zero value is empty; Reset empties it and keeps its memory.
type Properties struct {
	present uint64 // bit id: the property is there
	number  [numberSlots]uint32
	text    [textSlots][]byte

	User            []Pair
	SubscriptionIDs []uint32
}

// Reset empties p.
func (p *Properties) Reset() {
	p.present = 0
	p.User = p.User[:0]
	p.SubscriptionIDs = p.SubscriptionIDs[:0]
}

// Empty reports whether there is no property.
func (p *Properties) Empty() bool {
	return p.present == 0 && len(p.User) == 0 && len(p.SubscriptionIDs) == 0
}

// Has reports whether the property is there.
func (p *Properties) Has(id PropertyID) bool { return p.present&(1<<id) != 0 }

// Number gives a numeric property, 0 if absent.
func (p *Properties) Number(id PropertyID) uint32 {
	if !p.Has(id) {
		return 0
	}
	return p.number[properties[id].slot]
}

// Text gives a string or binary property, nil if absent.
func (p *Properties) Text(id PropertyID) []byte {
	if !p.Has(id) {
		return nil
	}
	return p.text[properties[id].slot]
}

// SetNumber sets a numeric property.
func (p *Properties) SetNumber(id PropertyID, value uint32) {
	p.present |= 1 << id
	p.number[properties[id].slot] = value
}

// SetText sets a string or binary property; value is kept, not copied.
func (p *Properties) SetText(id PropertyID, value []byte) {
	p.present |= 1 << id
	p.text[properties[id].slot] = value
}

// Delete removes a property that cannot repeat.
func (p *Properties) Delete(id PropertyID) { p.present &^= 1 << id }

// AddUser appends a user property; the order is kept [MQTT-3.3.2-18].
func (p *Properties) AddUser(key, value string) {
	p.User = append(p.User, Pair{[]byte(key), []byte(value)})
}

// UserValue gives the first user property named key.
func (p *Properties) UserValue(key string) ([]byte, bool) {
	for i := range p.User {
		if string(p.User[i].Key) == key {
			return p.User[i].Value, true
		}
	}
	return nil, false
}

// decode reads a property length and that many bytes of properties of the packet type where.
func (p *Properties) decode(r *reader, where PacketType) error {
	p.Reset()
	length, err := r.varint()
	if err != nil {
		return err
	}
	if int(length) > len(r.b) {
		return ErrPropertyLength
	}
	end := len(r.b) - int(length) // bytes that remain after the properties
	for len(r.b) > end {
		id, err := r.varint()
		if err != nil {
			return err
		}
		if id >= propertyCount || properties[id].kind == kindNone || properties[id].scope&(1<<where) == 0 {
			return ErrPropertyID
		}
		if err := p.decodeOne(r, PropertyID(id), where); err != nil {
			return err
		}
	}
	if len(r.b) != end {
		return ErrPropertyLength
	}
	if where != wills && p.Has(AuthenticationData) && !p.Has(AuthenticationMethod) {
		return ErrAuthMethod
	}
	return nil
}

func (p *Properties) decodeOne(r *reader, id PropertyID, where PacketType) error {
	entry := properties[id]
	var number uint32
	var err error
	switch entry.kind {
	case kindPair:
		if len(p.User) == maxRepeated {
			return ErrTooMany
		}
		var pair Pair
		if pair.Key, err = r.text(); err != nil {
			return err
		}
		if pair.Value, err = r.text(); err != nil {
			return err
		}
		p.User = append(p.User, pair)
		return nil
	case kindVarint:
		if number, err = r.varint(); err != nil {
			return err
		}
		if number == 0 {
			return ErrPropertyValue
		}
		// Several only in a PUBLISH from the server, one for each matching subscription (§3.3.2.3.8).
		if where == SUBSCRIBE && len(p.SubscriptionIDs) > 0 {
			return ErrPropertyTwice
		}
		if len(p.SubscriptionIDs) == maxRepeated {
			return ErrTooMany
		}
		p.SubscriptionIDs = append(p.SubscriptionIDs, number)
		return nil
	}
	if p.Has(id) {
		return ErrPropertyTwice
	}
	switch entry.kind {
	case kindString:
		value, err := r.text()
		if err != nil {
			return err
		}
		if id == ResponseTopic && !ValidTopic(value) {
			return ErrResponseTopic
		}
		p.SetText(id, value)
		return nil
	case kindBinary:
		value, err := r.binary()
		if err != nil {
			return err
		}
		p.SetText(id, value)
		return nil
	case kindFlag:
		var b byte
		b, err = r.byte()
		number = uint32(b)
		if b > 1 {
			return ErrPropertyValue
		}
	case kindUint16:
		var v uint16
		v, err = r.uint16()
		number = uint32(v)
	case kindUint32:
		number, err = r.uint32()
	}
	if err != nil {
		return err
	}
	if number == 0 {
		switch id {
		case ReceiveMaximum, MaximumPacketSize:
			return ErrPropertyValue
		case TopicAlias:
			return ErrTopicAlias
		}
	}
	p.SetNumber(id, number)
	return nil
}

// size gives the bytes the properties take, without their length field.
func (p *Properties) size() (n int) {
	for set := p.present; set != 0; set &= set - 1 {
		id := bits.TrailingZeros64(set)
		switch properties[id].kind {
		case kindFlag:
			n += 2
		case kindUint16:
			n += 3
		case kindUint32:
			n += 5
		case kindString, kindBinary:
			n += 1 + stringSize(p.text[properties[id].slot])
		}
	}
	for _, id := range p.SubscriptionIDs {
		n += 1 + varintSize(id)
	}
	for i := range p.User {
		n += 1 + stringSize(p.User[i].Key) + stringSize(p.User[i].Value)
	}
	return n
}

// append writes the property length and the properties.
func (p *Properties) append(dst []byte) []byte {
	dst = appendVarint(dst, uint32(p.size()))
	return p.appendValues(dst)
}

func (p *Properties) appendValues(dst []byte) []byte {
	for set := p.present; set != 0; set &= set - 1 {
		id := bits.TrailingZeros64(set)
		slot := properties[id].slot
		switch properties[id].kind {
		case kindFlag:
			dst = append(dst, byte(id), byte(p.number[slot]))
		case kindUint16:
			dst = binary.BigEndian.AppendUint16(append(dst, byte(id)), uint16(p.number[slot]))
		case kindUint32:
			dst = binary.BigEndian.AppendUint32(append(dst, byte(id)), p.number[slot])
		case kindString, kindBinary:
			dst = appendString(append(dst, byte(id)), p.text[slot])
		}
	}
	for _, id := range p.SubscriptionIDs {
		dst = appendVarint(append(dst, byte(SubscriptionIdentifier)), id)
	}
	for i := range p.User {
		dst = appendString(append(dst, byte(UserProperty)), p.User[i].Key)
		dst = appendString(dst, p.User[i].Value)
	}
	return dst
}
