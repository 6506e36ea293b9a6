package schema_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"fieldgate/contract/schema"
)

func reduction(t testing.TB) *schema.Reduction {
	var r schema.Reduction
	path := func(text string) []string { return strings.Split(text, "/") }
	r.Remove(path("driver/name"))
	r.Remove(path("secret"))
	r.Mask(path("vin"))
	r.Mask(path("stops/note"))
	if err := r.CoarsenNumber(path("lat"), "0.1"); err != nil {
		t.Fatal(err)
	}
	if err := r.CoarsenNumber(path("stops/odometer"), "5"); err != nil {
		t.Fatal(err)
	}
	r.CoarsenTime(path("ts"), time.Hour)
	return &r
}

// What each change makes of each sort of value, wherever it is written, and that the rest stays.
func TestReductionOfJSON(t *testing.T) {
	r := reduction(t)
	for name, test := range map[string]struct{ in, want string }{
		"nothing named":                  {`{"a": [1, 2.50, "x"], "b": null}`, `{"a":[1,2.5,"x"],"b":null}`},
		"removed":                        {`{"secret": {"a": 1}, "x": 1}`, `{"x":1}`},
		"removed last":                   {`{"x": 1, "secret": 1}`, `{"x":1}`},
		"removed alone":                  {`{"secret": 1}`, `{}`},
		"a name that is written escaped": {`{"\u0073ecret": 1}`, `{}`},
		"below":                          {`{"driver": {"name": "Ann", "shift": 2}}`, `{"driver":{"shift":2}}`},
		"below a list":                   {`{"stops": [{"note": "a", "n": 1}, {"note": {"b": 1}}, 3]}`, `{"stops":[{"note":"***","n":1},{"note":"***"},3]}`},
		"below lists of lists":           {`{"stops": [[{"note": 1}]]}`, `{"stops":[[{"note":"***"}]]}`},
		"a list of documents":            {`[{"secret": 1}, {"vin": 2}]`, `[{},{"vin":"***"}]`},
		"masked whatever it is":          {`{"vin": [1, {"a": 2}]}`, `{"vin":"***"}`},
		"another type on the way":        {`{"driver": "Ann"}`, `{"driver":"Ann"}`},
		"the same name elsewhere":        {`{"x": {"secret": 1}}`, `{"x":{"secret":1}}`},
		"coarser":                        {`{"lat": 52.5163}`, `{"lat":52.5}`},
		"coarser, to the nearest":        {`{"lat": -0.27}`, `{"lat":-0.3}`},
		"coarser, no negative zero":      {`{"lat": -0.04}`, `{"lat":0.0}`},
		"coarser, a multiple stays":      {`{"lat": 0.3}`, `{"lat":0.3}`},
		"coarser, large":                 {`{"lat": 123456789012345678901}`, `{"lat":123456789012345680000}`},
		"coarser, below a list":          {`{"stops": [{"odometer": 13}, {"odometer": 12}]}`, `{"stops":[{"odometer":15},{"odometer":10}]}`},
		"coarser, each of a list":        {`{"lat": [1.23, 4.56, null]}`, `{"lat":[1.2,4.6,null]}`},
		"coarser, null":                  {`{"lat": null}`, `{"lat":null}`},
		"coarser, no number":             {`{"lat": "52.5163"}`, `{}`},
		"coarser, no number in a list":   {`{"lat": [1, "52.5163"]}`, `{}`},
		"coarser, beyond floats":         {`{"lat": 1e400}`, `{}`},
		"time":                           {`{"ts": "2026-11-22T18:41:05.123+01:00"}`, `{"ts":"2026-11-22T17:00:00Z"}`},
		"no time":                        {`{"ts": "yesterday"}`, `{}`},
		"time as a number":               {`{"ts": 1763837465}`, `{}`},
		"a scalar":                       {`7`, `7`},
	} {
		got, err := r.JSON([]byte("before "), []byte(test.in))
		if err != nil || string(got) != "before "+test.want && !sameJSON(strings.TrimPrefix(string(got), "before "), test.want) {
			t.Errorf("%s: %s, %v; want %s", name, got, err, test.want)
		}
	}
	for _, broken := range []string{``, `{`, `{"a":1}x`, `{"secret":1,"secret":2}`, "\xef\xbb\xbf{}", "\"\xff\"", `{"a":01}`, strings.Repeat("[", 100) + strings.Repeat("]", 100)} {
		if got, err := r.JSON([]byte("before"), []byte(broken)); err == nil || string(got) != "before" {
			t.Errorf("%q is reduced to %q", broken, got)
		}
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// CBOR is reduced by the names that its schema gives to numbers, and stays CBOR.
func TestReductionOfCBOR(t *testing.T) {
	s, err := schema.Compile([]byte(`{"$defs":{"T":{"type":"object","properties":{"secret":{"x-cbor-key":1},"lat":{"x-cbor-key":2},"temp":{"x-cbor-key":3}}}}}`), "#/$defs/T", schema.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := schema.CBORFromJSON(nil, []byte(`{"secret":"x","lat":52.5163,"temp":21.5}`), s)
	if err != nil {
		t.Fatal(err)
	}
	r := reduction(t)
	out, err := r.CBOR(nil, in, s)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := schema.CBORFromJSON(nil, []byte(`{"lat":52.5,"temp":21.5}`), s)
	if string(out) != string(want) {
		t.Errorf("% x, want % x", out, want)
	}
	if _, err := r.CBOR(nil, in[:len(in)-1], s); err == nil {
		t.Error("half a document is reduced")
	}
}

// A path that a schema does not describe is told from one that it leaves open.
func TestSchemaDescribesPaths(t *testing.T) {
	s, err := schema.Compile([]byte(`{"$defs":{"T":{"properties":{"driver":{"$ref":"#/$defs/D"},"open":{},"stops":{"items":{"properties":{"note":{}}}}}},
		"D":{"anyOf":[{"properties":{"name":{"type":"string"}}},{"properties":{"shift":{}}}]}}}`), "#/$defs/T", schema.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"driver": true, "drivr": false, "driver/name": true, "driver/shift": true, "driver/nam": false,
		"open/anything": true, "stops/note": true, "stops/nte": false} {
		if got := s.Describes(strings.Split(path, "/")); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// FuzzReduction holds the reduction against the same done on the document as Go reads it.
func FuzzReduction(f *testing.F) {
	for _, seed := range []string{`{"secret":1,"driver":{"name":"x","a":1},"vin":[1],"lat":52.51,"ts":"2026-11-22T18:41:05Z","stops":[{"note":1,"odometer":7},[{"note":2}]]}`,
		`{"\u0073ecret":{"a":"\ud83d\ude00"},"lat":[1,"x"],"ts":null}`, `[{"secret":[]},2]`, `{"lat":-0.0,"b":1e5}`, "{\"a\":\"\xff\"}", `{"lat":1e999}`} {
		f.Add([]byte(seed))
	}
	r := reduction(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := r.JSON(nil, in)
		if err != nil {
			if out != nil {
				t.Fatalf("%q leaves %q besides %v", in, out, err)
			}
			return
		}
		var whole, reduced any
		if json.Unmarshal(in, &whole) != nil { // numbers that Go's float64 does not hold
			if !json.Valid(in) {
				t.Fatalf("%q is no JSON and was reduced to %q", in, out)
			}
			return
		}
		if err := json.Unmarshal(out, &reduced); err != nil {
			t.Fatalf("%q was reduced to %q: %v", in, out, err)
		}
		if !almost(without(whole), reduced) {
			t.Fatalf("%q was reduced to %q", in, out)
		}
	})
}

// without does what reduction does.
func without(value any) any {
	return change(value, map[string]any{"secret": "remove", "driver": map[string]any{"name": "remove"}, "vin": "mask",
		"stops": map[string]any{"note": "mask", "odometer": 5.0}, "lat": 0.1, "ts": time.Hour})
}

func change(value any, by map[string]any) any {
	switch v := value.(type) {
	case []any:
		for i := range v {
			v[i] = change(v[i], by)
		}
	case map[string]any:
		for name, how := range by {
			member, there := v[name]
			if !there {
				continue
			}
			switch how := how.(type) {
			case map[string]any:
				v[name] = change(member, how)
			case string:
				if v[name] = "***"; how == "remove" {
					delete(v, name)
				}
			default:
				if coarse, ok := coarser(member, how); ok {
					v[name] = coarse
				} else {
					delete(v, name)
				}
			}
		}
	}
	return value
}

func coarser(value, step any) (any, bool) {
	switch v := value.(type) {
	case nil:
		return nil, true
	case []any:
		for i := range v {
			var ok bool
			if v[i], ok = coarser(v[i], step); !ok {
				return nil, false
			}
		}
		return v, true
	case float64:
		s, ok := step.(float64)
		return math.Round(v/s) * s, ok
	case string:
		s, ok := step.(time.Duration)
		at, err := time.Parse(time.RFC3339, v)
		return at.UTC().Truncate(s).Format(time.RFC3339), ok && err == nil
	}
	return nil, false
}

// almost compares documents; of numbers it does not want the last digits.
func almost(a, b any) bool {
	x, isNumber := a.(float64)
	if y, both := b.(float64); isNumber && both {
		return x == y || math.Abs(x-y) <= 1e-9*max(math.Abs(x), math.Abs(y), 1)
	}
	switch x := a.(type) {
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !almost(x[i], y[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for name := range x {
			member, there := y[name]
			if !there || !almost(x[name], member) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

func BenchmarkReduction(b *testing.B) {
	r := reduction(b)
	in := []byte(`{"ts":"2026-11-22T18:41:05Z","lat":52.51634,"lon":13.37772,"speed":43.1,"driver":{"name":"Ann","shift":2},"vin":"WDB1234567"}`)
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if out, err = r.JSON(out[:0], in); err != nil {
			b.Fatal(err)
		}
	}
}
