package store

import (
	"iter"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Bounds of the cache, for callers that write values or many rows into their texts.
const (
	maxTexts     = 2000
	maxTextBytes = 4 << 10
)

var (
	texts     sync.Map // SQL with ? → with $1, $2 …
	textCount atomic.Int64
)

// numbered is a text with the placeholders of PostgreSQL.
func numbered(query string) string {
	if !strings.Contains(query, "?") {
		return query
	}
	if known, ok := texts.Load(query); ok {
		return known.(string)
	}
	var b strings.Builder
	n := 0
	for piece, code := range pieces(query) {
		for code {
			before, after, found := strings.Cut(piece, "?")
			if !found {
				break
			}
			n++
			b.WriteString(before)
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
			piece = after
		}
		b.WriteString(piece)
	}
	if len(query) <= maxTextBytes && textCount.Load() < maxTexts {
		textCount.Add(1)
		texts.Store(query, b.String())
	}
	return b.String()
}

// Names of types are written in capitals. In a cast, AS comes before them, and no collation may follow.
var typeName = regexp.MustCompile(`\b(AS\s+)?\b(BLOB|TEXT)\b`)

// postgresSchema is a migration of the common subset in PostgreSQL's words. Texts compare by their bytes, as in SQLite:
// pages and ranges must not depend on the locale of a server.
func postgresSchema(script string) string {
	var b strings.Builder
	for piece, code := range pieces(script) {
		if code {
			piece = typeName.ReplaceAllStringFunc(piece, func(match string) string {
				if strings.HasSuffix(match, "BLOB") {
					return strings.TrimSuffix(match, "BLOB") + "BYTEA"
				}
				if match == "TEXT" {
					return `TEXT COLLATE "C"`
				}
				return match
			})
		}
		b.WriteString(piece)
	}
	return b.String()
}

// pieces cuts SQL into code and what is none: literals, quoted names and comments. Together they are the text.
func pieces(sql string) iter.Seq2[string, bool] {
	return func(yield func(piece string, code bool) bool) {
		for sql != "" {
			start, end := nextQuoted(sql)
			if start > 0 && !yield(sql[:start], true) || end > start && !yield(sql[start:end], false) {
				return
			}
			sql = sql[end:]
		}
	}
}

// nextQuoted is where the first literal, quoted name or comment lies; the length twice if there is none. One that does not end
// goes to the end of the text. A doubled quote ends one literal and begins the next.
func nextQuoted(sql string) (start, end int) {
	for start := range len(sql) {
		closing, opening := "", 1
		switch rest := sql[start:]; {
		case rest[0] == '\'' || rest[0] == '"':
			closing = rest[:1]
		case strings.HasPrefix(rest, "--"):
			closing, opening = "\n", 2
		case strings.HasPrefix(rest, "/*"):
			closing, opening = "*/", 2
		default:
			continue
		}
		length := strings.Index(sql[start+opening:], closing)
		if length < 0 {
			return start, len(sql)
		}
		return start, start + opening + length + len(closing)
	}
	return len(sql), len(sql)
}
