package capture

import (
	"strings"
	"unicode"

	"fieldgate"
)

// Why a value was taken out.
const (
	whyName       = "name"       // of the field or parameter looks like that of a secret
	whyCredential = "credential" // the value looks like a credential
	whyWriteOnly  = "writeOnly"  // the contract's schema says so
	whyPassword   = "format: password"
	whySchema     = "schema" // the schema could not be followed, so that nobody knows
)

// secretParts make a name that of a secret wherever they stand in it; secretWords only as a word of their own.
var (
	secretParts = []string{"password", "passwd", "passphrase", "passcode", "token", "secret", "apikey", "privatekey", "authorization", "credential", "cookie"}
	secretWords = []string{"key", "keys", "pass", "pwd", "pin", "psk", "otp", "jwt", "auth", "bearer"}
)

// secretName says whether a field of a payload, a parameter or a property has a name like a secret's. Rather one too many.
func secretName(name string) bool {
	var joined strings.Builder
	for _, word := range words(name) {
		for _, secret := range secretWords {
			if word == secret {
				return true
			}
		}
		joined.WriteString(word)
	}
	for _, part := range secretParts {
		if strings.Contains(joined.String(), part) {
			return true
		}
	}
	return strings.HasSuffix(joined.String(), "key")
}

// words splits a name where its case changes and at all that is no letter or digit, and gives the words in lower case.
func words(name string) (split []string) {
	start, before := -1, ' '
	runes := []rune(name)
	end := func(i int) {
		if start >= 0 {
			split = append(split, strings.ToLower(string(runes[start:i])))
		}
		start = -1
	}
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			end(i)
		case start < 0:
			start = i
		case unicode.IsUpper(r) && !unicode.IsUpper(before):
			end(i)
			start = i
		}
		before = r
	}
	end(len(runes))
	return split
}

// secretFields are header fields that carry a credential, or part of one, without saying so in their names.
var secretFields = []string{"auth", "session", "signature", "sec-websocket-", "dpop", "x-forwarded-client-cert", "csrf", "xsrf"}

func secretField(name string) bool {
	if secretName(name) {
		return true
	}
	lower := strings.ToLower(name)
	for _, part := range secretFields {
		if strings.Contains(lower, part) {
			return true
		}
	}
	return false
}

const replacement = "[redacted]"

// withoutCredentials takes tokens that Fieldgate issues, and what follows the name of an authentication scheme, out of a text.
func withoutCredentials(text string) string {
	for _, scheme := range []string{"bearer ", "basic ", "digest "} {
		if len(text) > len(scheme) && strings.EqualFold(text[:len(scheme)], scheme) {
			return text[:len(scheme)] + replacement
		}
	}
	for _, prefix := range []string{fieldgate.PrefixDevice, fieldgate.PrefixApp, fieldgate.PrefixOperator} {
		for from := 0; ; {
			at := strings.Index(text[from:], prefix)
			if at < 0 {
				break
			}
			at += from + len(prefix)
			end := at
			for end < len(text) && isTokenByte(text[end]) {
				end++
			}
			if from = at; end-at >= minTokenBytes { // shorter, it is some other word
				text = text[:at] + replacement + text[end:]
				from = at + len(replacement)
			}
		}
	}
	return text
}

// minTokenBytes: half a token is still nobody's business.
const minTokenBytes = fieldgate.TokenBytes / 4

func isTokenByte(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z'
}
