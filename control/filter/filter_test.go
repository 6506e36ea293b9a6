package filter

import (
	"database/sql"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"fieldgate/control/refusal"
)

var now = time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)

var keys = []Key{
	{Name: "state", Values: []string{"active", "quarantined", "revoked"}},
	{Name: "status", Values: []string{"2xx", "4xx", "denied"}, Numbers: true},
	{Name: "model"},
	{Name: "since", Since: true},
}

func TestParse(t *testing.T) {
	text := func(texts ...string) (values []Value) {
		for _, text := range texts {
			values = append(values, Value{Text: text})
		}
		return values
	}
	for input, want := range map[string]Filter{
		"":                                 nil,
		" \t ":                             nil,
		"pump":                             {{Values: text("pump")}},
		"-pump":                            {{Not: true, Values: text("pump")}},
		"model:T2":                         {{Key: "model", Values: text("T2")}},
		"model:T2,T3":                      {{Key: "model", Values: text("T2", "T3")}},
		"-model:T2":                        {{Key: "model", Not: true, Values: text("T2")}},
		"model:pump-*":                     {{Key: "model", Values: []Value{{Text: "pump-", Prefix: true}}}},
		"model:*":                          {{Key: "model", Values: []Value{{Prefix: true}}}},
		`model:"a b,c*:d"`:                 {{Key: "model", Values: text("a b,c*:d")}},
		`model:"a b"*,"c"`:                 {{Key: "model", Values: []Value{{Text: "a b", Prefix: true}, {Text: "c"}}}},
		`"a \"b\" \\c"`:                    {{Values: text(`a "b" \c`)}},
		`"aa:bb"`:                          {{Values: text("aa:bb")}},
		"model:aa:bb":                      {{Key: "model", Values: text("aa:bb")}},
		"model:--1":                        {{Key: "model", Values: text("--1")}},
		"a*b":                              {{Values: text("a*b")}},
		"state:active  model:T2\tx":        {{Key: "state", Values: text("active")}, {Key: "model", Values: text("T2")}, {Values: text("x")}},
		"state:*":                          {{Key: "state", Values: text("active", "quarantined", "revoked")}},
		"status:404,4*":                    {{Key: "status", Values: text("404", "4xx")}},
		"since:15m":                        {{Key: "since", Values: []Value{{Text: "15m", Time: now.Add(-15 * time.Minute)}}}},
		"since:7d":                         {{Key: "since", Values: []Value{{Text: "7d", Time: now.AddDate(0, 0, -7)}}}},
		"since:2026-11-22T17:00:00Z":       {{Key: "since", Values: []Value{{Text: "2026-11-22T17:00:00Z", Time: now.Add(-time.Hour)}}}},
		`model:"'; DROP TABLE device; --"`: {{Key: "model", Values: text("'; DROP TABLE device; --")}},
		"model:übergröße,日本":               {{Key: "model", Values: text("übergröße", "日本")}},
	} {
		got, err := Parse(input, now, keys...)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v %v", input, got, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for input, want := range map[string]string{
		"colour:red":                    "knows state, status, model, since",
		"aa:bb":                         "put it into quotes",
		"state:asleep":                  "one of active, quarantined, revoked",
		"state:ACTIVE":                  "one of active",
		"status:40*":                    "one of 2xx",
		"status:1234567890":             "one of 2xx",
		"model:":                        `"model" has no value`,
		"model:a,":                      "has no value",
		"model:,a":                      "has no value",
		`model:""`:                      "has no value",
		"-":                             "A value is missing",
		":x":                            "A value is missing",
		`"open`:                         "not closed",
		`"open\`:                        "not closed",
		`"a"b`:                          "must follow",
		`model:a"b"`:                    "must follow",
		"-since:15m":                    "cannot be excluded",
		"since:1m,2m":                   "one time",
		"since:*":                       "one time",
		"since:soon":                    "is no time",
		"since:m":                       "is no time",
		"since:1969-01-01T00:00:00Z":    "is no time",
		"since:999999999d":              "longer ago",
		"model:a\x00b":                  "control characters",
		"model:\xff":                    "UTF-8",
		"a\nb":                          "control characters",
		strings.Repeat("a", MaxBytes+1): "at most 1024 bytes",
		strings.Repeat("a ", 33):        "at most 32 terms",
	} {
		got, err := Parse(input, now, keys...)
		var refused *refusal.Error
		if !errors.As(err, &refused) || refused.Code != refusal.CodeInvalid || !strings.Contains(refused.Detail, want) {
			t.Errorf("%.80q: %+v %v", input, got, err)
		}
	}
}

func TestTextsThatFollow(t *testing.T) {
	for text, want := range map[string]string{
		"a":                 "b",
		"pump-":             "pump.",
		"\uD7FF":            "\uE000",
		"\U0010FFFF":        "",
		"a\U0010FFFF":       "b",
		"a\U0010FFFE":       "a\U0010FFFF",
		"\x7f":              "\u0080",
		"x\U0010FFFF\uD7FF": "x\U0010FFFF\uE000",
	} {
		if got := after(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// rows are what filters are tried on: id, model and state.
var rows = [][3]string{
	{"pump-1", "T2", "active"}, {"pump-2", "T3", "revoked"}, {"Pump_3", "T2", "quarantined"}, {"meter", "", "active"},
	{"100%", `back\slash`, "active"}, {"日本-7", "übergröße", "revoked"}, {"\U0010FFFF", "\U0010FFFFx", "active"}, {"'", "''--", "active"},
}

// database holds rows, so that what SQL selects can be compared with what is selected in memory.
func database(t testing.TB) *sql.DB {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	if _, err := db.Exec("CREATE TABLE thing (id TEXT, model TEXT, state TEXT)"); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if _, err := db.Exec("INSERT INTO thing VALUES (?, ?, ?)", row[0], row[1], row[2]); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

var thingKeys = []Key{{Name: "id"}, {Name: "model"}, keys[0]}

func compare(t *testing.T, db *sql.DB, f Filter) {
	conditions, values := f.Where(map[string]Column{"id": {Name: "id"}, "model": {Name: "model"}, "state": {Name: "state"}}, "id", "model")
	if strings.Count(conditions, "?") != len(values) {
		t.Fatalf("%s has other placeholders than %q", conditions, values)
	}
	if conditions == "" {
		conditions = "1 = 1"
	}
	selected, err := db.Query("SELECT id FROM thing WHERE "+conditions+" ORDER BY id", values...)
	if err != nil {
		t.Fatalf("%s %q: %v", conditions, values, err)
	}
	defer selected.Close()
	got := map[string]bool{}
	for selected.Next() {
		var id string
		if err := selected.Scan(&id); err != nil {
			t.Fatal(err)
		}
		got[id] = true
	}
	for _, row := range rows {
		want := true
		for _, term := range f {
			switch term.Key {
			case "":
				want = want && term.Finds(row[0], row[1])
			case "id":
				want = want && term.Matches(row[0])
			case "model":
				want = want && term.Matches(row[1])
			case "state":
				want = want && term.Matches(row[2])
			}
		}
		if got[row[0]] != want {
			t.Errorf("%+v: row %q selected by SQL: %v, in memory: %v", f, row, got[row[0]], want)
		}
	}
}

func TestWhere(t *testing.T) {
	db := database(t)
	for input, want := range map[string]int{
		"":                          8,
		"pump":                      3,
		"-pump":                     5,
		"-PUMP -T":                  4,
		"id:pump-*":                 2,
		"-id:pump-*":                6,
		"id:pump-1,meter":           2,
		"-model:*":                  1,
		"model:*":                   7,
		"%":                         1,
		"_":                         1,
		`"\\"`:                      1,
		"'":                         1,
		"model:\U0010FFFF*":         1,
		"id:日本*":                    1,
		"state:active -model:T2":    4,
		`"' OR '1'='1"`:             0,
		`id:"pump-1' OR '1'='1"`:    0,
		`-id:"x') OR 1=1 --"`:       8,
		`state:act*,rev* -id:pump*`: 5,
	} {
		f, err := Parse(input, now, thingKeys...)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, db, f)
		count := 0
		conditions, values := f.Where(map[string]Column{"id": {Name: "id"}, "model": {Name: "model"}, "state": {Name: "state"}}, "id", "model")
		if conditions == "" {
			conditions = "1 = 1"
		}
		if err := db.QueryRow("SELECT COUNT(*) FROM thing WHERE "+conditions, values...).Scan(&count); err != nil || count != want {
			t.Errorf("%q: %d rows, want %d; %v", input, count, want, err)
		}
	}
}

func TestLists(t *testing.T) {
	db := database(t)
	if _, err := db.Exec("UPDATE thing SET model = 'state.read positions.read' WHERE id = 'meter'"); err != nil {
		t.Fatal(err)
	}
	for input, want := range map[string]int{"model:state.read": 1, "model:positions.*": 1, "model:read": 0, "model:State.read": 0, "-model:state.read": 7, "model:*": 8} {
		f, err := Parse(input, now, thingKeys...)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		conditions, values := f.Where(map[string]Column{"model": {Name: "model", List: true}})
		if err := db.QueryRow("SELECT COUNT(*) FROM thing WHERE "+conditions, values...).Scan(&count); err != nil || count != want {
			t.Errorf("%q: %d rows, want %d; %v", input, count, want, err)
		}
	}
}

func TestSince(t *testing.T) {
	f, err := Parse("since:1h x since:5m", now, keys...)
	if err != nil || !f.Since("since").Equal(now.Add(-5*time.Minute)) || !f.Has("since") || f.Has("model") || len(f.Words()) != 1 {
		t.Fatalf("%+v %v", f, err)
	}
	conditions, values := f.Where(map[string]Column{"since": {Name: "last_seen"}}, "id")
	if conditions != `last_seen >= ? AND LOWER(id) LIKE ? ESCAPE '\' AND last_seen >= ?` || values[0] != now.Add(-time.Hour).UnixMilli() {
		t.Fatalf("%s %v", conditions, values)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "pump -model:T2,T3* state:act*", `model:"a \"b" id:x*`, "since:15m", "a:b:c", "-", `"`, "id:\U0010FFFF*", "id:%_\\", "x,y,", "İ"} {
		f.Add(seed)
	}
	db := database(f)
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := Parse(text, now, append(thingKeys, keys...)...)
		if err != nil {
			var refused *refusal.Error
			if !errors.As(err, &refused) || len(refused.Detail) > 1000 {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(filter) > MaxTerms {
			t.Fatalf("%d terms", len(filter))
		}
		if filter.Has("since") || filter.Has("status") {
			return // of no column here
		}
		for _, word := range filter.Words() {
			for _, v := range word.Values {
				if lowerASCII(v.Text) != strings.ToLower(v.Text) {
					return // the database knows the case of ASCII letters only
				}
			}
		}
		compare(t, db, filter)
	})
}
