package coaphttp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
)

// HTTP's entity tags are texts of any length, CoAP's 1 to 8 bytes (RFC 7252 section 5.10.6). Lower-case hexadecimal digits
// become the bytes that they write, other tags of at most 8 bytes stay as they are, and what is longer is hashed.
//
// The first two have a way back, which the conditions of requests need. What a hash is of only the service knows: it is asked for the tag
// that there is now, whose hash it either is or is not.
const hashLength = 8

// AppendEntityTag appends an ETag option for one of HTTP, without quotes. Nothing stands for none.
func AppendEntityTag(dst []byte, tag string) []byte {
	if len(tag) <= 2*hashLength && isLowerHex(tag) {
		if decoded, err := hex.AppendDecode(dst, []byte(tag)); err == nil {
			return decoded
		}
	}
	if len(tag) <= 8 {
		return append(dst, tag...)
	}
	sum := sha256.Sum256([]byte(tag))
	return append(dst, sum[:hashLength]...)
}

// MayBeHash says whether an ETag option may stand for a tag that it is a hash of.
func MayBeHash(tag []byte) bool { return len(tag) == hashLength }

func isLowerHex(text string) bool {
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// AppendEntityTags appends what HTTP's entity tags may be that became those options, as a list (RFC 9110 section 13.1.1).
func AppendEntityTags(dst []byte, tags [][]byte) []byte {
	for i, tag := range tags {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(hex.AppendEncode(append(dst, '"'), tag), '"')
		if text := string(tag); isEntityTag(text) && bytes.Equal(AppendEntityTag(nil, text), tag) {
			dst = append(append(append(dst, `, "`...), text...), '"')
		}
	}
	return dst
}

// isEntityTag says whether a text may stand between the quotes (RFC 9110 section 8.8.3).
func isEntityTag(text string) bool {
	for _, c := range []byte(text) {
		if c <= ' ' || c == '"' || c > '~' {
			return false
		}
	}
	return true
}
