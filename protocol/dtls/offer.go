package dtls

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Extensions (RFC 6066 §3, RFC 7627 §5.1, RFC 9146 §3, RFC 5746 §3.2), and the cipher suite that stands for the last one (§3.3).
const (
	extensionServerName           = 0
	extensionExtendedMasterSecret = 23
	extensionConnectionID         = 54
	extensionRenegotiation        = 0xff01

	renegotiationSuite = 0x00ff
)

// offer is what a whole ClientHello says that a resumed session depends on. Its slices are in place.
type offer struct {
	random         []byte
	sessionID      []byte
	suites         []byte // pairs
	uncompressed   bool
	serverName     [8]byte // a hash; zero: the client names none
	extendedMaster bool
	renegotiation  bool // RFC 5746
	hasCID         bool // the client sends the Connection ID that we give it
	connectionID   []byte
}

// parseOffer reads a ClientHello (RFC 5246 §7.4.1.2, RFC 6347 §4.2.1) up to its end.
func parseOffer(body []byte) (o offer, ok bool) {
	h, ok := parseHello(body)
	if !ok {
		return o, false
	}
	o.random, o.sessionID = h.bound[2:34], h.bound[35:]
	rest := body[len(h.bound)+1+len(h.cookie):]
	var compressions, extensions []byte
	if o.suites, rest, ok = vector(rest, 2); !ok || len(o.suites)%2 != 0 {
		return o, false
	}
	if compressions, rest, ok = vector(rest, 1); !ok {
		return o, false
	}
	o.uncompressed = slices.Contains(compressions, 0)
	o.renegotiation = o.offers(renegotiationSuite)
	if len(rest) == 0 {
		return o, true
	}
	if extensions, rest, ok = vector(rest, 2); !ok || len(rest) > 0 {
		return o, false
	}
	return o, o.parseExtensions(extensions)
}

func (o *offer) parseExtensions(extensions []byte) (ok bool) {
	for len(extensions) > 0 {
		if len(extensions) < 2 {
			return false
		}
		number := binary.BigEndian.Uint16(extensions)
		var data []byte
		if data, extensions, ok = vector(extensions[2:], 2); !ok {
			return false
		}
		switch number {
		case extensionServerName:
			sum := sha256.Sum256(data)
			copy(o.serverName[:], sum[:])
		case extensionExtendedMasterSecret:
			o.extendedMaster = true
		case extensionRenegotiation:
			o.renegotiation = true
		case extensionConnectionID:
			var rest []byte
			if o.connectionID, rest, ok = vector(data, 1); !ok || len(rest) > 0 {
				return false
			}
			o.hasCID = true
		}
	}
	return true
}

// offers tells whether a cipher suite is among those that the client knows.
func (o *offer) offers(suite uint16) bool {
	for suites := o.suites; len(suites) > 0; suites = suites[2:] {
		if binary.BigEndian.Uint16(suites) == suite {
			return true
		}
	}
	return false
}

// vector splits off bytes that begin with their count, which has one byte or two (RFC 5246 §4.3).
func vector(b []byte, prefix int) (content, rest []byte, ok bool) {
	if len(b) < prefix {
		return nil, nil, false
	}
	length := int(b[0])
	if prefix == 2 {
		length = int(binary.BigEndian.Uint16(b))
	}
	if len(b) < prefix+length {
		return nil, nil, false
	}
	return b[prefix : prefix+length], b[prefix+length:], true
}

// appendServerHello writes the body of the ServerHello (RFC 5246 §7.4.1.3) that resumes a session: its ID and cipher suite, and those extensions
// that are negotiated anew (RFC 7627 §5.3, RFC 9146 §3, RFC 5746 §3.6).
func (o *offer) appendServerHello(dst, random []byte, suite uint16, connectionID uint64) []byte {
	dst = append(append(dst, 0xfe, version12), random...)
	dst = append(append(dst, byte(len(o.sessionID))), o.sessionID...)
	dst = append(binary.BigEndian.AppendUint16(dst, suite), 0)
	var extensions []byte
	if o.renegotiation {
		extensions = append(extensions, extensionRenegotiation>>8, extensionRenegotiation&0xff, 0, 1, 0)
	}
	extensions = append(extensions, 0, extensionExtendedMasterSecret, 0, 0)
	if o.hasCID {
		extensions = append(extensions, 0, extensionConnectionID, 0, 1+cidLength, cidLength)
		extensions = binary.BigEndian.AppendUint64(extensions, connectionID)
	}
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(extensions))), extensions...)
}
