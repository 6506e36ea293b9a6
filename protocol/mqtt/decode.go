package mqtt

import "encoding/binary"

// reader consumes a packet's bytes; what it returns are views of them.
type reader struct{ b []byte }

func (r *reader) byte() (byte, error) {
	if len(r.b) < 1 {
		return 0, ErrShort
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v, nil
}

func (r *reader) uint16() (uint16, error) {
	if len(r.b) < 2 {
		return 0, ErrShort
	}
	v := binary.BigEndian.Uint16(r.b)
	r.b = r.b[2:]
	return v, nil
}

func (r *reader) uint32() (uint32, error) {
	if len(r.b) < 4 {
		return 0, ErrShort
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v, nil
}

// varint reads a variable byte integer, which must use the fewest bytes [MQTT-1.5.5-1].
func (r *reader) varint() (uint32, error) {
	v, n := varint(r.b)
	if n < 0 {
		return 0, ErrVariableInt
	}
	if n == 0 {
		return 0, ErrShort
	}
	r.b = r.b[n:]
	return v, nil
}

// varint decodes the variable byte integer at the start of b: n is its size, 0 if b ends inside it, -1 if it is invalid.
func varint(b []byte) (v uint32, n int) {
	for n < len(b) && n < 4 {
		digit := b[n]
		v |= uint32(digit&0x7F) << (7 * n)
		n++
		if digit < 0x80 {
			if digit == 0 && n > 1 {
				return 0, -1
			}
			return v, n
		}
	}
	if n == 4 {
		return 0, -1
	}
	return 0, 0
}

func (r *reader) binary() ([]byte, error) {
	n, err := r.uint16()
	if err != nil {
		return nil, err
	}
	if int(n) > len(r.b) {
		return nil, ErrShort
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v, nil
}

func (r *reader) text() ([]byte, error) {
	v, err := r.binary()
	if err != nil {
		return nil, err
	}
	return v, checkUTF8(v)
}

func (r *reader) packetID() (uint16, error) {
	v, err := r.uint16()
	if err == nil && v == 0 {
		return 0, ErrPacketID
	}
	return v, err
}

func (r *reader) end() error {
	if len(r.b) > 0 {
		return ErrTrailing
	}
	return nil
}

// Header is a fixed header: the packet's type, its flags and the bytes that follow the header (MQTT 5 §2.1).
type Header struct {
	Type   PacketType
	Flags  byte
	Length int
}

// ReadHeader decodes the fixed header at the start of b; size is 0 if b ends inside it. The flags are checked here,
// so that a wrong one is found before a body is waited for.
func ReadHeader(b []byte) (h Header, size int, err error) {
	if len(b) == 0 {
		return h, 0, nil
	}
	h.Type, h.Flags = PacketType(b[0]>>4), b[0]&15
	switch h.Type {
	case 0:
		return h, 0, ErrPacketType
	case PUBLISH:
		switch {
		case h.Flags&6 == 6:
			return h, 0, ErrQoS
		case h.Flags&8 != 0 && h.Flags&6 == 0:
			return h, 0, ErrDup
		}
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		if h.Flags != 2 {
			return h, 0, ErrFlags
		}
	default:
		if h.Flags != 0 {
			return h, 0, ErrFlags
		}
	}
	length, n := varint(b[1:])
	if n < 0 {
		return h, 0, ErrVariableInt
	}
	if n == 0 {
		return h, 0, nil
	}
	h.Length = int(length)
	return h, 1 + n, nil
}

// Decode reads the body of a CONNECT.
func (p *Connect) Decode(body []byte) error {
	r := reader{body}
	properties, will := p.Properties, p.WillProperties
	*p = Connect{Properties: properties, WillProperties: will}
	p.Properties.Reset()
	p.WillProperties.Reset()

	// Variable header (§3.1.2): protocol name, version, flags, keep alive, properties.
	name, err := r.binary()
	if err != nil {
		return err
	}
	if string(name) != "MQTT" {
		return ErrProtocolName
	}
	version, err := r.byte()
	if err != nil {
		return err
	}
	p.Version = Version(version)
	if p.Version != V311 && p.Version != V5 {
		return ErrProtocolVersion
	}
	flags, err := r.byte()
	if err != nil {
		return err
	}
	p.CleanStart = flags&0x02 != 0
	p.HasWill = flags&0x04 != 0
	p.WillQoS = flags >> 3 & 3
	p.WillRetain = flags&0x20 != 0
	hasPassword, hasUsername := flags&0x40 != 0, flags&0x80 != 0
	switch {
	case flags&0x01 != 0:
		return ErrConnectFlags
	case !p.HasWill && (p.WillQoS != 0 || p.WillRetain):
		return ErrWillFlags
	case p.WillQoS == 3:
		return ErrWillQoS
	case p.Version == V311 && hasPassword && !hasUsername: // allowed in 5 (§3.1.2.9)
		return ErrPasswordFlag
	}
	if p.KeepAlive, err = r.uint16(); err != nil {
		return err
	}
	if p.Version == V5 {
		if err = p.Properties.decode(&r, CONNECT); err != nil {
			return err
		}
	}

	// Payload, in this order [MQTT-3.1.3-1]: client identifier, will, user name, password.
	if p.ClientID, err = r.text(); err != nil {
		return err
	}
	if p.Version == V311 && len(p.ClientID) == 0 && !p.CleanStart {
		return ErrClientID
	}
	if p.HasWill {
		if p.Version == V5 {
			if err = p.WillProperties.decode(&r, wills); err != nil {
				return err
			}
		}
		if p.WillTopic, err = r.text(); err != nil {
			return err
		}
		if !ValidTopic(p.WillTopic) {
			return ErrTopic
		}
		if p.WillPayload, err = r.binary(); err != nil {
			return err
		}
	}
	if hasUsername {
		if p.Username, err = r.text(); err != nil {
			return err
		}
	}
	if hasPassword {
		if p.Password, err = r.binary(); err != nil {
			return err
		}
	}
	return r.end()
}

// Decode reads the body of a CONNACK.
func (p *Connack) Decode(body []byte, v Version) error {
	r := reader{body}
	p.Properties.Reset()
	flags, err := r.byte()
	if err != nil {
		return err
	}
	if flags > 1 {
		return malformed("MQTT-3.2.2-1", "reserved CONNACK flag is set")
	}
	p.SessionPresent = flags == 1
	code, err := r.byte()
	if err != nil {
		return err
	}
	if v == V311 {
		if code > returnNotAuthorized {
			return ErrReason
		}
		p.Reason = reasonFrom311(code)
		return r.end()
	}
	if p.Reason = Reason(code); !p.Reason.BelongsTo(CONNACK) {
		return ErrReason
	}
	if err := p.Properties.decode(&r, CONNACK); err != nil {
		return err
	}
	return r.end()
}

// Decode reads the body of a PUBLISH with the flags of its header, which ReadHeader has checked. An empty topic is
// accepted only beside a topic alias, which the receiver must resolve.
func (p *Publish) Decode(flags byte, body []byte, v Version) (err error) {
	r := reader{body}
	p.Dup, p.QoS, p.Retain = flags&8 != 0, flags>>1&3, flags&1 != 0
	p.PacketID = 0
	p.Properties.Reset()
	if p.Topic, err = r.text(); err != nil {
		return err
	}
	if p.QoS > 0 {
		if p.PacketID, err = r.packetID(); err != nil {
			return err
		}
	}
	if v == V5 {
		if err = p.Properties.decode(&r, PUBLISH); err != nil {
			return err
		}
	}
	switch {
	case len(p.Topic) > 0 && !ValidTopic(p.Topic):
		return ErrTopic
	case len(p.Topic) == 0 && !p.Properties.Has(TopicAlias):
		return ErrTopicEmpty
	}
	p.Payload = r.b
	return nil
}

// Decode reads the body of a PUBACK, PUBREC, PUBREL or PUBCOMP.
func (p *Ack) Decode(t PacketType, body []byte, v Version) (err error) {
	r := reader{body}
	p.Type, p.Reason = t, Success
	p.Properties.Reset()
	if p.PacketID, err = r.packetID(); err != nil {
		return err
	}
	// In 5 the reason may be left out when it is 0, and the properties when there are none (§3.4.2.1).
	if v == V5 && len(r.b) > 0 {
		p.Reason = Reason(r.b[0])
		r.b = r.b[1:]
		if !p.Reason.BelongsTo(t) {
			return ErrReason
		}
		if len(r.b) > 0 {
			if err = p.Properties.decode(&r, t); err != nil {
				return err
			}
		}
	}
	return r.end()
}

// Decode reads the body of a SUBSCRIBE with at most maxFilters filters.
func (p *Subscribe) Decode(body []byte, v Version, maxFilters int) (err error) {
	r := reader{body}
	p.Properties.Reset()
	p.Filters = p.Filters[:0]
	if p.PacketID, err = r.packetID(); err != nil {
		return err
	}
	if v == V5 {
		if err = p.Properties.decode(&r, SUBSCRIBE); err != nil {
			return err
		}
	}
	for len(r.b) > 0 {
		if len(p.Filters) == maxFilters {
			return ErrTooMany
		}
		var f Filter
		if f.Filter, err = r.text(); err != nil {
			return err
		}
		options, err := r.byte()
		if err != nil {
			return err
		}
		f.QoS = options & 3
		if v == V5 {
			f.NoLocal, f.RetainAsPublished, f.RetainHandling = options&4 != 0, options&8 != 0, options>>4&3
			options &= 0xC0
		} else {
			options &= 0xFC
		}
		if f.QoS == 3 || f.RetainHandling == 3 || options != 0 {
			return ErrSubscribeOptions
		}
		if group, _ := SplitShare(f.Filter); group != nil && f.NoLocal {
			return ErrNoLocalShared
		}
		p.Filters = append(p.Filters, f)
	}
	if len(p.Filters) == 0 {
		return ErrNoFilters
	}
	return nil
}

// Decode reads the body of an UNSUBSCRIBE with at most maxFilters filters.
func (p *Unsubscribe) Decode(body []byte, v Version, maxFilters int) (err error) {
	r := reader{body}
	p.Properties.Reset()
	p.Filters = p.Filters[:0]
	if p.PacketID, err = r.packetID(); err != nil {
		return err
	}
	if v == V5 {
		if err = p.Properties.decode(&r, UNSUBSCRIBE); err != nil {
			return err
		}
	}
	for len(r.b) > 0 {
		if len(p.Filters) == maxFilters {
			return ErrTooMany
		}
		filter, err := r.text()
		if err != nil {
			return err
		}
		p.Filters = append(p.Filters, filter)
	}
	if len(p.Filters) == 0 {
		return ErrUnsubscribeEmpty
	}
	return nil
}

// Decode reads the body of a SUBACK or UNSUBACK.
func (p *SubAck) Decode(t PacketType, body []byte, v Version) (err error) {
	r := reader{body}
	p.Type = t
	p.Properties.Reset()
	p.Reasons = p.Reasons[:0]
	if p.PacketID, err = r.packetID(); err != nil {
		return err
	}
	if v == V5 {
		if err = p.Properties.decode(&r, t); err != nil {
			return err
		}
	} else if t == UNSUBACK {
		return r.end()
	}
	for _, code := range r.b {
		reason := Reason(code)
		if !reason.BelongsTo(t) || v == V311 && reason > GrantedQoS2 && reason != UnspecifiedError { // [MQTT-3.9.3-2]
			return ErrReason
		}
		p.Reasons = append(p.Reasons, reason)
	}
	if len(p.Reasons) == 0 {
		return ErrShort
	}
	return nil
}

// Decode reads the body of a DISCONNECT or AUTH. Both may be empty in 5, and DISCONNECT is in 3.1.1.
func (p *Disconnect) Decode(t PacketType, body []byte, v Version) error {
	r := reader{body}
	p.Type, p.Reason = t, Success
	p.Properties.Reset()
	if v == V311 {
		if t == AUTH {
			return ErrPacketType
		}
		return r.end()
	}
	if len(r.b) > 0 {
		p.Reason = Reason(r.b[0])
		r.b = r.b[1:]
		if !p.Reason.BelongsTo(t) {
			return ErrReason
		}
		if len(r.b) > 0 {
			if err := p.Properties.decode(&r, t); err != nil {
				return err
			}
		}
	}
	return r.end()
}
