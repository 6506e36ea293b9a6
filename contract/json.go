package contract

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// joinSurrogates replaces the escapes of surrogate pairs in a JSON document by the characters they stand for (RFC 8259 section
// 7). All else of JSON is YAML too, but YAML has no such pairs.
func joinSurrogates(document []byte) []byte {
	start := bytes.TrimLeft(document, "\ufeff \t\r\n")
	if len(start) == 0 || start[0] != '{' || !bytes.Contains(document, []byte(`\u`)) {
		return document
	}
	joined := make([]byte, 0, len(document))
	for i := 0; i < len(document); i++ {
		if document[i] != '\\' || i+1 == len(document) {
			joined = append(joined, document[i])
			continue
		}
		if pair := utf16.DecodeRune(escape(document[i:]), escape(document[min(i+6, len(document)):])); pair != utf8.RuneError {
			joined = utf8.AppendRune(joined, pair)
			i += 11
			continue
		}
		joined = append(joined, document[i], document[i+1]) // an escaped backslash starts no escape
		i++
	}
	return joined
}

// escape is the code unit that a \uXXXX at the start of text stands for; -1 when there is none.
func escape(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(unit)
}
