package capture

import (
	"net/url"
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

// withoutCredentials takes out of a text the tokens that Fieldgate issues, what follows the name of an authentication scheme, a JSON
// Web Token, and of a URL the user and what its query says under a secret's name.
func withoutCredentials(text string) string {
	if strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") >= 2 { // RFC 7519: the header is a JSON object in base64url
		return replacement
	}
	text = urlWithoutCredentials(text)
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

func urlWithoutCredentials(text string) string {
	scheme, rest, absolute := strings.Cut(text, "://")
	if absolute {
		authority, path := rest, ""
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			authority, path = rest[:i], rest[i:]
		}
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			text = scheme + "://" + replacement + authority[at:] + path
		}
	}
	if before, query, found := strings.Cut(text, "?"); found && (absolute || strings.HasPrefix(text, "/")) {
		text = before + "?" + queryWithout(query, secretName)
	}
	return text
}

// queryWithout takes out of a query or a form the values of the names that are secret, and those that are credentials.
func queryWithout(query string, isSecret func(name string) bool) string {
	if query == "" {
		return ""
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		escaped, value, found := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(escaped)
		if err != nil {
			name = escaped
		}
		plain, err := url.QueryUnescape(value)
		switch {
		case !found:
			pairs[i] = withoutCredentials(pair)
		case err != nil, isSecret(name), withoutCredentials(plain) != plain:
			pairs[i] = escaped + "=" + replacement
		}
	}
	return strings.Join(pairs, "&")
}

// minTokenBytes: half a token is still nobody's business.
const minTokenBytes = fieldgate.TokenBytes / 4

func isTokenByte(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z'
}
