package mqtt

import "encoding/binary"

// Append functions write a whole packet and return the extended slice. They trust their input to be valid, as decoded
// or self-made packets are; a string longer than its 16-bit length can say is cut there, so that framing always holds.

func varintSize(v uint32) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	}
	return 4
}

func appendVarint(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

const maxString = 65535

func stringSize(b []byte) int { return 2 + min(len(b), maxString) }

func appendString(dst, b []byte) []byte {
	b = b[:min(len(b), maxString)]
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(b))), b...)
}

func appendHeader(dst []byte, t PacketType, flags byte, length int) []byte {
	return appendVarint(append(dst, byte(t)<<4|flags), uint32(length))
}

func propertySize(p *Properties, v Version) int {
	if v == V311 {
		return 0
	}
	n := p.size()
	return varintSize(uint32(n)) + n
}

// Append writes the CONNECT.
func (p *Connect) Append(dst []byte) []byte {
	length := 10 + propertySize(&p.Properties, p.Version) + stringSize(p.ClientID)
	var flags byte
	if p.CleanStart {
		flags |= 0x02
	}
	if p.HasWill {
		flags |= 0x04 | p.WillQoS<<3
		if p.WillRetain {
			flags |= 0x20
		}
		length += propertySize(&p.WillProperties, p.Version) + stringSize(p.WillTopic) + stringSize(p.WillPayload)
	}
	if p.Username != nil {
		flags |= 0x80
		length += stringSize(p.Username)
	}
	if p.Password != nil {
		flags |= 0x40
		length += stringSize(p.Password)
	}
	dst = appendHeader(dst, CONNECT, 0, length)
	dst = append(dst, 0, 4, 'M', 'Q', 'T', 'T', byte(p.Version), flags)
	dst = binary.BigEndian.AppendUint16(dst, p.KeepAlive)
	if p.Version == V5 {
		dst = p.Properties.append(dst)
	}
	dst = appendString(dst, p.ClientID)
	if p.HasWill {
		if p.Version == V5 {
			dst = p.WillProperties.append(dst)
		}
		dst = appendString(dst, p.WillTopic)
		dst = appendString(dst, p.WillPayload)
	}
	if p.Username != nil {
		dst = appendString(dst, p.Username)
	}
	if p.Password != nil {
		dst = appendString(dst, p.Password)
	}
	return dst
}

// Append writes the CONNACK.
func (p *Connack) Append(dst []byte, v Version) []byte {
	dst = appendHeader(dst, CONNACK, 0, 2+propertySize(&p.Properties, v))
	var present byte
	if p.SessionPresent {
		present = 1
	}
	if v == V311 {
		return append(dst, present, returnCode311(p.Reason))
	}
	return p.Properties.append(append(dst, present, byte(p.Reason)))
}

// Append writes the PUBLISH.
func (p *Publish) Append(dst []byte, v Version) []byte {
	length := stringSize(p.Topic) + propertySize(&p.Properties, v) + len(p.Payload)
	if p.QoS > 0 {
		length += 2
	}
	dst = appendHeader(dst, PUBLISH, publishFlags(p.Dup, p.QoS, p.Retain), length)
	dst = appendString(dst, p.Topic)
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	}
	if v == V5 {
		dst = p.Properties.append(dst)
	}
	return append(dst, p.Payload...)
}

func publishFlags(dup bool, qos byte, retain bool) byte {
	flags := qos << 1
	if dup {
		flags |= 8
	}
	if retain {
		flags |= 1
	}
	return flags
}

// Append writes the PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form (§3.4.2.1).
func (p *Ack) Append(dst []byte, v Version) []byte {
	var flags byte
	if p.Type == PUBREL {
		flags = 2
	}
	properties := p.Properties.size()
	switch {
	case v == V311 || p.Reason == Success && properties == 0:
		dst = appendHeader(dst, p.Type, flags, 2)
		return binary.BigEndian.AppendUint16(dst, p.PacketID)
	case properties == 0:
		dst = appendHeader(dst, p.Type, flags, 3)
		return append(binary.BigEndian.AppendUint16(dst, p.PacketID), byte(p.Reason))
	}
	dst = appendHeader(dst, p.Type, flags, 3+varintSize(uint32(properties))+properties)
	return p.Properties.append(append(binary.BigEndian.AppendUint16(dst, p.PacketID), byte(p.Reason)))
}

// Append writes the SUBSCRIBE.
func (p *Subscribe) Append(dst []byte, v Version) []byte {
	length := 2 + propertySize(&p.Properties, v)
	for i := range p.Filters {
		length += stringSize(p.Filters[i].Filter) + 1
	}
	dst = appendHeader(dst, SUBSCRIBE, 2, length)
	dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	if v == V5 {
		dst = p.Properties.append(dst)
	}
	for i := range p.Filters {
		f := &p.Filters[i]
		options := f.QoS
		if v == V5 {
			options |= f.RetainHandling << 4
			if f.NoLocal {
				options |= 4
			}
			if f.RetainAsPublished {
				options |= 8
			}
		}
		dst = append(appendString(dst, f.Filter), options)
	}
	return dst
}

// Append writes the UNSUBSCRIBE.
func (p *Unsubscribe) Append(dst []byte, v Version) []byte {
	length := 2 + propertySize(&p.Properties, v)
	for _, filter := range p.Filters {
		length += stringSize(filter)
	}
	dst = appendHeader(dst, UNSUBSCRIBE, 2, length)
	dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	if v == V5 {
		dst = p.Properties.append(dst)
	}
	for _, filter := range p.Filters {
		dst = appendString(dst, filter)
	}
	return dst
}

// Append writes the SUBACK or UNSUBACK. In 3.1.1 every failure is 0x80 [MQTT-3.9.3-2 of 3.1.1].
func (p *SubAck) Append(dst []byte, v Version) []byte {
	length := 2 + propertySize(&p.Properties, v)
	if v == V5 || p.Type == SUBACK {
		length += len(p.Reasons)
	}
	dst = appendHeader(dst, p.Type, 0, length)
	dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	if v == V5 {
		dst = p.Properties.append(dst)
	} else if p.Type == UNSUBACK {
		return dst
	}
	for _, reason := range p.Reasons {
		if v == V311 && reason.Failed() {
			reason = UnspecifiedError
		}
		dst = append(dst, byte(reason))
	}
	return dst
}

// Append writes the DISCONNECT or AUTH in its shortest form.
func (p *Disconnect) Append(dst []byte, v Version) []byte {
	properties := p.Properties.size()
	switch {
	case v == V311 || p.Reason == Success && properties == 0:
		return appendHeader(dst, p.Type, 0, 0)
	case properties == 0:
		return append(appendHeader(dst, p.Type, 0, 1), byte(p.Reason))
	}
	dst = appendHeader(dst, p.Type, 0, 1+varintSize(uint32(properties))+properties)
	return p.Properties.append(append(dst, byte(p.Reason)))
}
