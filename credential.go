package fieldgate

import (
	"crypto/hmac"
	"crypto/pbkdf2"
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

// ScramIterations is the iteration count of SCRAM-SHA-256 exchanges, the least that RFC 7677 section 4 allows: what is to be
// guessed are random tokens, not passwords.
const ScramIterations = 4096

// ScramVerifier is what proves in a SCRAM-SHA-256 exchange (RFC 5802 section 3) that the other side knows a token: its StoredKey,
// then its ServerKey. Nobody can find the token or pass for its owner with it. The zero value: the token has none.
type ScramVerifier [2 * sha256.Size]byte

// NewScramVerifier makes the verifier of a token that the principal of that id owns. It takes a millisecond.
func NewScramVerifier(id, token string) (v ScramVerifier, err error) {
	salted, err := pbkdf2.Key(sha256.New, token, ScramSalt(id), ScramIterations, sha256.Size)
	if err != nil {
		return v, err
	}
	sign := func(text string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	copy(v[copy(v[:], stored[:]):], sign("Server Key"))
	return v, nil
}

// ScramSalt is the salt of all tokens of an id, so that a server can name it before it knows which token the client has, and
// for an id that nobody has.
func ScramSalt(id string) []byte {
	sum := sha256.Sum256([]byte("fieldgate SCRAM-SHA-256 " + id))
	return sum[:16]
}

// StoredKey and ServerKey are the two halves.
func (v *ScramVerifier) StoredKey() []byte { return v[:sha256.Size] }

// ServerKey proves to the client that the server knows the token's verifier.
func (v *ScramVerifier) ServerKey() []byte { return v[sha256.Size:] }

// MarshalText is the verifier in hexadecimal, empty if there is none.
func (v ScramVerifier) MarshalText() ([]byte, error) {
	if v == (ScramVerifier{}) {
		return []byte{}, nil
	}
	return hex.AppendEncode(nil, v[:]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (v *ScramVerifier) UnmarshalText(text []byte) error {
	if *v = (ScramVerifier{}); len(text) == 0 {
		return nil
	}
	if len(text) != 2*len(v) {
		return errors.New("a SCRAM verifier has 128 hexadecimal digits")
	}
	_, err := hex.Decode(v[:], text)
	return err
}
