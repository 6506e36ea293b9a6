package fieldgate

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
)

// Prefixes of the tokens that Fieldgate issues. A token is its prefix, 30 random base62 digits (178 bits) and the CRC-32
// (IEEE) of all that in 6 base62 digits, so that scanners and front ends recognise a token, and a typing error, without
// a look-up.
const (
	PrefixDevice   = "fgd_"
	PrefixApp      = "fga_"
	PrefixOperator = "fgp_" // API tokens
	PrefixSignIn   = "fgs_" // one-time: first sign-ins and invitations

	TokenBytes = 4 + tokenRandom + tokenCheck

	tokenRandom = 30
	tokenCheck  = 6
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// CredentialHash is the SHA-256 of a token; only hashes are stored. Tokens are random, so that no salt or slow hash is
// needed.
type CredentialHash [sha256.Size]byte

// MarshalText is the hash in hexadecimal.
func (h CredentialHash) MarshalText() ([]byte, error) {
	return hex.AppendEncode(nil, h[:]), nil
}

// UnmarshalText reads the hash in hexadecimal.
func (h *CredentialHash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return errors.New("a credential hash has 64 hexadecimal digits")
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// HashToken is the hash that a token is known by.
func HashToken(token []byte) CredentialHash { return sha256.Sum256(token) }

// NewToken makes a token with a prefix of this file.
func NewToken(prefix string) (string, error) { return newToken(prefix, rand.Reader) }

func newToken(prefix string, random io.Reader) (string, error) {
	token := make([]byte, 0, TokenBytes)
	token = append(token, prefix...)
	var pool [64]byte
	for len(token) < len(prefix)+tokenRandom {
		if _, err := io.ReadFull(random, pool[:]); err != nil {
			return "", err
		}
		for _, b := range pool {
			// Values from 248 up are dropped, so that every digit is equally likely.
			if b < 248 && len(token) < len(prefix)+tokenRandom {
				token = append(token, base62[b%62])
			}
		}
	}
	check := checkDigits(token)
	return string(append(token, check[:]...)), nil
}

// WellFormedToken says whether a token has a known prefix and the right check digits. It proves nothing about its validity.
func WellFormedToken(token []byte) bool {
	if len(token) != TokenBytes {
		return false
	}
	switch string(token[:4]) {
	case PrefixDevice, PrefixApp, PrefixOperator, PrefixSignIn:
	default:
		return false
	}
	body, check := token[:TokenBytes-tokenCheck], checkDigits(token[:TokenBytes-tokenCheck])
	return string(token[len(body):]) == string(check[:])
}

// checkDigits is the CRC-32 (IEEE) of a token's beginning in base62.
func checkDigits(token []byte) (digits [tokenCheck]byte) {
	sum := crc32.ChecksumIEEE(token)
	for i := tokenCheck - 1; i >= 0; i-- {
		digits[i] = base62[sum%62]
		sum /= 62
	}
	return digits
}
