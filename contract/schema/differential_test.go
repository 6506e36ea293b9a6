package schema

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// generator makes random schemas and documents that are likely to be near each other:
// few names, few values, so that both verdicts are common.
type generator struct{ *rand.Rand }

func (g generator) pick(choices ...string) string { return choices[g.IntN(len(choices))] }

func (g generator) name() string { return g.pick("a", "b", "ab", "é", "a/b", "temp", "temperature") }

func (g generator) number() string {
	return g.pick("0", "1", "-1", "2", "3", "1.0", "1.5", "-0.0", "10", "1e1", "0.1", "0.3", "100", "2.50", "1e-2",
		"9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "123456789012345678901234567890",
		"12345678901234567890.5", "1e25", "1E+2", "0.30000000000000004", "1e400", "-1e-400", strconv.Itoa(g.IntN(8)))
}

func (g generator) text() string {
	return g.pick(`""`, `"a"`, `"b"`, `"ab"`, `"abc"`, `"1"`, `"é"`, `"日本"`, `"\u00e9"`, `"a\nb"`, `"\ud83d\ude00"`, `"0a1f"`, `"A-12"`,
		`"2026-11-22"`, `"2026-11-22T18:11:05Z"`, `"2026-02-30"`, `"18:11:05Z"`, `"23:59:60Z"`, `"192.0.2.1"`, `"192.0.2.01"`, `"::1"`, `"1::2::3"`,
		`"P1D"`, `"PT"`, `"PT36H"`, `"a@b.c"`, `"@"`, `"host.example"`, `"-x"`, `"https://example.org/a?b#c"`, `"/a/b"`, `"/a~2"`, `"123e4567-e89b-12d3-a456-426614174000"`)
}

func (g generator) document(depth int) string {
	n := 9
	if depth <= 0 {
		n = 6
	}
	switch g.IntN(n) {
	case 0:
		return g.pick("null", "true", "false")
	case 1, 2, 3:
		return g.number()
	case 4, 5:
		return g.text()
	case 6:
		var items []string
		for range g.IntN(5) {
			items = append(items, g.document(depth-1))
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	var members []string
	used := map[string]bool{} // duplicate keys are the documented difference
	for range g.IntN(5) {
		if name := g.name(); !used[name] {
			used[name] = true
			members = append(members, strconv.Quote(name)+": "+g.document(depth-1))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (g generator) list(n int, one func() string) string {
	var items []string
	for range n {
		items = append(items, one())
	}
	return "[" + strings.Join(items, ",") + "]"
}

func (g generator) schema(depth int) string {
	if depth <= 0 || g.IntN(12) == 0 {
		return g.pick("true", "false", `{"type":"string"}`, `{"type":"number"}`, `{"type":"integer"}`, `{"type":"object"}`, `{"type":["null","array"]}`,
			`{"$ref":"#/$defs/x"}`, `{"const":`+g.document(1)+`}`, `{"maximum":`+g.number()+`}`, `{"maxLength":2}`)
	}
	keywords := map[string]string{}
	for range 1 + g.IntN(4) {
		keyword, value := g.keyword(depth - 1)
		keywords[keyword] = value
	}
	var members []string
	for _, keyword := range slices.Sorted(maps.Keys(keywords)) { // a seed gives one schema
		members = append(members, strconv.Quote(keyword)+":"+keywords[keyword])
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (g generator) schemaMap(depth int, name func() string) string {
	used := map[string]bool{}
	var members []string
	for range 1 + g.IntN(3) {
		if name := name(); !used[name] {
			used[name] = true
			members = append(members, strconv.Quote(name)+":"+g.schema(depth))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (g generator) names() string {
	set := map[string]bool{}
	for range g.IntN(3) {
		set[g.name()] = true
	}
	if len(set) == 0 {
		return "[]"
	}
	return `["` + strings.Join(slices.Sorted(maps.Keys(set)), `","`) + `"]`
}

func (g generator) keyword(depth int) (keyword, value string) {
	sub := func() string { return g.schema(depth) }
	pattern := func() string {
		return g.pick("^a", "b$", "^[0-9a-f]+$", "^[a-z]{1,3}$", ".", `^\\d{4}-`, `\\s`, "é", "^(a|b)+$", "^[A-Z]-?[0-9]{1,2}$", "^a?b?$", "^$")
	}
	count := func() string { return strconv.Itoa(g.IntN(4)) }
	switch g.IntN(40) {
	case 0, 1, 2:
		return "type", strconv.Quote(g.pick("null", "boolean", "integer", "number", "string", "array", "object"))
	case 3:
		return "type", `["` + g.pick("null", "integer", "object") + `","` + g.pick("number", "string", "array") + `"]`
	case 4, 5, 6, 7:
		return "properties", g.schemaMap(depth, g.name)
	case 8:
		return "required", g.names()
	case 9:
		return "additionalProperties", sub()
	case 10:
		return "patternProperties", g.schemaMap(depth, func() string { return g.pick("^a", "b$", "^[a-z]{1,3}$", "é") })
	case 11:
		return "propertyNames", sub()
	case 12:
		return g.pick("minProperties", "maxProperties"), count()
	case 13:
		return "dependentRequired", "{" + strconv.Quote(g.name()) + ":" + g.names() + "}"
	case 14:
		return "dependentSchemas", g.schemaMap(depth, g.name)
	case 15, 16:
		return "enum", g.list(1+g.IntN(12), func() string { return g.document(1) })
	case 17:
		return "const", g.document(2)
	case 18, 19, 20:
		return g.pick("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), g.number()
	case 21:
		return "multipleOf", g.pick("1", "2", "0.1", "0.01", "3", "1.5", "1e1", "7", "0.3", "1e-8")
	case 22, 23:
		return g.pick("minLength", "maxLength"), count()
	case 24:
		return "pattern", `"` + pattern() + `"`
	case 25:
		return "format", strconv.Quote(g.pick("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid", "json-pointer"))
	case 26, 27:
		return "items", sub()
	case 28:
		return "prefixItems", g.list(1+g.IntN(2), sub)
	case 29:
		return "contains", sub()
	case 30:
		return g.pick("minContains", "maxContains", "minItems", "maxItems"), count()
	case 31:
		return "uniqueItems", g.pick("true", "true", "false")
	case 32, 33, 34:
		return g.pick("allOf", "anyOf", "oneOf"), g.list(1+g.IntN(3), sub)
	case 35:
		return "not", sub()
	case 36, 37:
		return g.pick("if", "then", "else"), sub()
	case 38:
		return "$ref", `"#/$defs/` + g.pick("x", "y") + `"`
	}
	return g.pick("unevaluatedProperties", "unevaluatedItems"), g.pick("false", `{"type":"integer"}`, "true")
}

// TestDifferential compares verdicts with the independent implementation on random
// pairs of schema and document. SCHEMA_PAIRS sets how many, SCHEMA_SEED which.
func TestDifferential(t *testing.T) {
	pairs, seed := 20_000, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("SCHEMA_PAIRS")); err == nil {
		pairs = n
	}
	if n, err := strconv.ParseUint(os.Getenv("SCHEMA_SEED"), 10, 64); err == nil {
		seed = n
	}
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	const perSchema = 20
	valid, fallback, loops, schemas, cbor := 0, 0, 0, 0, 0
	for done := 0; done < pairs; {
		bundle := `{"$defs":{"x":` + g.schema(2) + `,"y":` + g.schema(2) + `,"t":` + g.schema(3) + `}}`
		s, err := Compile([]byte(bundle), "#/$defs/t", Options{})
		if err != nil {
			if strings.Contains(err.Error(), "never ends") {
				loops++ // refused when compiled; the other finds out at run time
				continue
			}
			t.Fatalf("seed %d: %v\n%s", seed, err, bundle)
		}
		schemas++
		if !s.Compiled() {
			fallback++
		}
		oracle := reference(t, bundle, "/$defs/t", true)
		for range perSchema {
			done++
			doc := g.document(3)
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(doc))
			if err != nil {
				t.Fatal(err)
			}
			want, got := oracle.Validate(v), s.ValidateJSON([]byte(doc))
			if (want == nil) != (got == nil) {
				t.Fatalf("seed %d: compiled says %v, santhosh says %v\nschema   %s\ndocument %s\nfallback %q", seed, got, want, bundle, doc, s.Fallback())
			}
			if want == nil {
				valid++
			}
			// The same value in CBOR: the same verdict, where a float holds it.
			if binary, err := CBORFromJSON(nil, []byte(doc), nil); err == nil && !strings.ContainsAny(doc, "89") && !strings.Contains(doc, "400") {
				cbor++
				if again := s.ValidateCBOR(binary); (again == nil) != (got == nil) {
					t.Fatalf("seed %d: JSON %v, CBOR %v\nschema   %s\ndocument %s", seed, got, again, bundle, doc)
				}
			}
		}
	}
	t.Logf("%d pairs, %d schemas (%d fallback), %d documents valid, %d also as CBOR, %d looping schemas refused", pairs, schemas, fallback, valid, cbor, loops)
	if valid < pairs/20 || valid > pairs*19/20 {
		t.Errorf("only one verdict is common: %d of %d valid", valid, pairs)
	}
}
