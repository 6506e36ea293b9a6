package store

import (
	"strings"
	"testing"
)

func TestNumbered(t *testing.T) {
	for text, want := range map[string]string{
		"SELECT 1":                         "SELECT 1",
		"SELECT ?, ? WHERE a = ?":          "SELECT $1, $2 WHERE a = $3",
		"SELECT '?', ?, 'it''s ?', ?":      "SELECT '?', $1, 'it''s ?', $2",
		`SELECT "a?", ? -- why?` + "\n, ?": `SELECT "a?", $1 -- why?` + "\n, $2",
		"SELECT /* ? ' */ ?, 1/?-?":        "SELECT /* ? ' */ $1, 1/$2-$3",
		"SELECT ? '":                       "SELECT $1 '",
		"?,?,?,?,?,?,?,?,?,?":              "$1,$2,$3,$4,$5,$6,$7,$8,$9,$10",
	} {
		for range 2 { // the second time from the cache
			if got := numbered(text); got != want {
				t.Errorf("%s: %s", text, got)
			}
		}
	}
}

func TestPostgresSchema(t *testing.T) {
	for script, want := range map[string]string{
		"CREATE TABLE a (text TEXT NOT NULL, b BLOB);": `CREATE TABLE a (text TEXT COLLATE "C" NOT NULL, b BYTEA);`,
		"-- a BLOB of TEXT\nSELECT 'BLOB', \"TEXT\"":   "-- a BLOB of TEXT\nSELECT 'BLOB', \"TEXT\"",
		"SELECT CAST(x AS TEXT), CAST(y AS  BLOB)":     "SELECT CAST(x AS TEXT), CAST(y AS  BYTEA)",
		"CREATE TABLE CONTEXT (TEXTS INTEGER)":         "CREATE TABLE CONTEXT (TEXTS INTEGER)",
	} {
		if got := postgresSchema(script); got != want {
			t.Errorf("%s: %s", script, got)
		}
	}
}

// FuzzNumbered: nothing but placeholders changes, they count up from 1, and those in literals and comments are left.
func FuzzNumbered(f *testing.F) {
	f.Add("SELECT '?', ? -- ?\n/* ? */ \"?\" ?")
	f.Add("'''?''?'?")
	f.Add("--")
	f.Add("/*/?*/?")
	f.Add("-/?-*/'")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "$") {
			return
		}
		var joined strings.Builder
		placeholders := 0
		for piece, code := range pieces(text) {
			joined.WriteString(piece)
			if code {
				placeholders += strings.Count(piece, "?")
				if strings.ContainsAny(piece, `'"`) || strings.Contains(piece, "--") || strings.Contains(piece, "/*") {
					t.Fatalf("taken for code: %q", piece)
				}
			}
		}
		if joined.String() != text {
			t.Fatalf("%q", joined.String())
		}
		got := numbered(text)
		if n := strings.Count(got, "$"); n != placeholders {
			t.Fatalf("%d placeholders instead of %d: %q", n, placeholders, got)
		}
		if strings.Count(got, "?") != strings.Count(text, "?")-placeholders {
			t.Fatalf("%q", got)
		}
	})
}
