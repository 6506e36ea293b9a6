package adminapi

import (
	"errors"
	"math"
	"strings"
	"testing"

	"fieldgate/control/refusal"
)

func TestCursors(t *testing.T) {
	of := func(cursor string, selection ...string) (page, error) { return newPage(cursor, 10, selection...) }
	first, err := of("", "devices", "state:active", "id")
	if err != nil {
		t.Fatal(err)
	}
	cursor := first.nextAt("d7", "17")
	next, err := of(cursor, "devices", "state:active", "id")
	if err != nil {
		t.Fatal(err)
	}
	if parts, err := next.parts(2); err != nil || parts[0] != "d7" || parts[1] != "17" {
		t.Fatalf("%q %v", parts, err)
	}
	if _, err := next.parts(3); err == nil {
		t.Error("a place with too few parts")
	}
	for name, test := range map[string]struct {
		cursor    string
		selection []string
	}{
		"another list":   {cursor, []string{"apps", "state:active", "id"}},
		"another filter": {cursor, []string{"devices", "state:revoked", "id"}},
		"another order":  {cursor, []string{"devices", "state:active", "seen"}},
		"cut":            {cursor[:len(cursor)-2], []string{"devices", "state:active", "id"}},
		"altered":        {strings.ToUpper(cursor[:1]) + "x" + cursor[2:], []string{"devices", "state:active", "id"}},
		"no base64":      {"!", []string{"devices", "state:active", "id"}},
		"no text":        {first.next("d\xff"), []string{"devices", "state:active", "id"}},
		"U+0000":         {first.next("d\x00"), []string{"devices", "state:active", "id"}},
		"short":          {"eHg", []string{"devices", "state:active", "id"}},
	} {
		_, err := of(test.cursor, test.selection...)
		var refused *refusal.Error
		if !errors.As(err, &refused) || refused.Code != refusal.CodeInvalid || !strings.Contains(refused.Detail, "begin anew") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCursor(f *testing.F) {
	p, _ := newPage("", 10, "devices", "", "id")
	f.Add(p.nextAt("d7", "17"))
	f.Add("AAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, cursor string) {
		read, err := newPage(cursor, 10, "devices", "", "id")
		if err != nil || cursor == "" {
			return
		}
		if read.next(read.after) != cursor {
			t.Fatalf("%q is accepted, but is not what it says", cursor)
		}
	})
}

func TestVersionOf(t *testing.T) {
	for match, want := range map[string]uint64{"": 0, "*": 0, `"7"`: 7, ` "7" `: 7, `W/"7"`: math.MaxInt64, `"07"`: math.MaxInt64, "7": math.MaxInt64,
		`"7", "8"`: math.MaxInt64, `"-1"`: math.MaxInt64, `"0"`: math.MaxInt64, `"`: math.MaxInt64} {
		if got := versionOf(match); got != want {
			t.Errorf("%s: %d, want %d", match, got, want)
		}
	}
}

func TestReference(t *testing.T) {
	rendered, err := renderReference([]byte(`
openapi: 3.1.0
info: {title: T, version: 1.10}
paths: {/a: {get: {responses: {200: {$ref: '#/components/responses/A'}}}}}
components:
  responses: {A: {content: {x: {schema: {$ref: '#/components/schemas/Tree'}}}}}
  schemas: {Tree: {type: object, properties: {child: {$ref: '#/components/schemas/Tree'}, lost: {$ref: '#/nowhere'}, n: {const: 1.50}, b: {const: true}, z: {const: null}}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	const tree = `{"x-ref":"#/components/schemas/Tree","type":"object","properties":{"child":{"$ref":"#/components/schemas/Tree"},"lost":{"$ref":"#/nowhere"},` +
		`"n":{"const":1.50},"b":{"const":true},"z":{"const":null}}}`
	const want = `"paths":{"/a":{"get":{"responses":{"200":{"x-ref":"#/components/responses/A","content":{"x":{"schema":` + tree + `}}}}}}}`
	if !strings.Contains(string(rendered), want) {
		t.Fatalf("%s", rendered)
	}
}
