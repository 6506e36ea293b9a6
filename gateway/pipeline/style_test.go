package pipeline

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"fieldgate"
)

// parameterSchemas are what the tables of OpenAPI's styles are about, typed so that a value taken apart wrongly is seen.
const parameterSchemas = `{"$defs":{
	"string":{"type":"string","enum":["","blue"]},
	"array":{"type":"array","items":{"enum":["blue","black","brown"]},"minItems":3,"maxItems":3,"uniqueItems":true},
	"object":{"type":"object","required":["R","G","B"],"additionalProperties":false,
		"properties":{"R":{"const":100},"G":{"type":"integer","const":200},"B":{"const":150}}},
	"ids":{"type":"array","items":{"type":"integer","maximum":9},"uniqueItems":true},
	"words":{"type":"array","items":{"type":"string"}},
	"either":{"oneOf":[{"type":"integer"},{"type":"array","items":{"type":"integer"},"minItems":2}]},
	"maybe":{"type":["integer","null"]},
	"flag":{"type":"boolean"},
	"open":{"type":"object","additionalProperties":{"type":"integer"}},
	"filter":{"type":"object","properties":{"tags":{"type":"array","items":{"type":"string"}},"n":{"type":"integer"}}},
	"deep":{"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"integer"}}}}}}}`

// parameterOf takes a request with one parameter through the pipeline and says what became of it.
func parameterOf(t *testing.T, f *fixture, p fieldgate.Parameter, path, query string, given fields) *fieldgate.Problem {
	t.Helper()
	o := anonymous("o", fieldgate.MethodGet, path)
	o.Parameters = []fieldgate.Parameter{p}
	k := served("p", "1", o)
	k.Schemas = json.RawMessage(parameterSchemas)
	f.serve(t, k)
	x := f.http(fieldgate.MethodGet, strings.Replace(path, "{color}", query, 1), "", "")
	if p.In != fieldgate.InPath {
		x.Path, x.Query = []byte(path), []byte(query)
	}
	if given != nil {
		x.Fields = given
	}
	return f.do(x)
}

// OpenAPI 3.1.1 section 4.8.12.4, Style Examples: what each style makes of an empty string, a string, a list and an object.
func TestStyleTable(t *testing.T) {
	f := newFixture(t)
	path, query, header, cookie := fieldgate.InPath, fieldgate.InQuery, fieldgate.InHeader, fieldgate.InCookie
	none := "-" // the style has no such thing
	for _, row := range []struct {
		in      fieldgate.ParameterPlace
		style   fieldgate.ParameterStyle
		explode bool
		values  [4]string // empty, string, array, object
	}{
		{path, fieldgate.StyleMatrix, false, [4]string{";color", ";color=blue", ";color=blue,black,brown", ";color=R,100,G,200,B,150"}},
		{path, fieldgate.StyleMatrix, true, [4]string{";color", ";color=blue", ";color=blue;color=black;color=brown", ";R=100;G=200;B=150"}},
		{path, fieldgate.StyleLabel, false, [4]string{".", ".blue", ".blue,black,brown", ".R,100,G,200,B,150"}},
		{path, fieldgate.StyleLabel, true, [4]string{".", ".blue", ".blue.black.brown", ".R=100.G=200.B=150"}},
		{path, fieldgate.StyleDefault, false, [4]string{none, "blue", "blue,black,brown", "R,100,G,200,B,150"}},
		{path, fieldgate.StyleDefault, true, [4]string{none, "blue", "blue,black,brown", "R=100,G=200,B=150"}},
		{query, fieldgate.StyleDefault, false, [4]string{"color=", "color=blue", "color=blue,black,brown", "color=R,100,G,200,B,150"}},
		{query, fieldgate.StyleDefault, true, [4]string{"color=", "color=blue", "color=blue&color=black&color=brown", "R=100&G=200&B=150"}},
		{query, fieldgate.StyleSpaceDelimited, false, [4]string{none, none, "color=blue%20black%20brown", "color=R%20100%20G%20200%20B%20150"}},
		{query, fieldgate.StylePipeDelimited, false, [4]string{none, none, "color=blue%7Cblack%7Cbrown", "color=R%7C100%7CG%7C200%7CB%7C150"}},
		{query, fieldgate.StyleDeepObject, true, [4]string{none, none, none, "color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150"}},
		{query, fieldgate.StyleDeepObject, true, [4]string{none, none, none, "color[R]=100&color[G]=200&color[B]=150"}},
		{header, fieldgate.StyleDefault, false, [4]string{"", "blue", "blue, black,brown", "R,100,G,200,B,150"}},
		{header, fieldgate.StyleDefault, true, [4]string{"", "blue", "blue,black, brown", "R=100,G=200, B=150"}},
		{cookie, fieldgate.StyleDefault, false, [4]string{"a=b; color=", "color=blue; a=b", "color=blue,black,brown", "color=R,100,G,200,B,150"}},
	} {
		for i, sort := range []string{"string", "string", "array", "object"} {
			value := row.values[i]
			if value == none {
				continue
			}
			p := fieldgate.Parameter{Name: "color", In: row.in, Required: true, Style: row.style, Explode: row.explode, Schema: fieldgate.SchemaRef("#/$defs/" + sort)}
			name := fmt.Sprintf("%s %s explode=%v %s %q", p.In, p.Style, p.Explode, sort, value)
			try := func(value string) *fieldgate.Problem {
				switch row.in {
				case path:
					return parameterOf(t, f, p, "/x/{color}", value, nil)
				case query:
					return parameterOf(t, f, p, "/x", value, nil)
				case header:
					return parameterOf(t, f, p, "/x", "", fields{"color": value})
				}
				return parameterOf(t, f, p, "/x", "", fields{"cookie": value})
			}
			if problem := try(value); problem != nil {
				t.Errorf("%s: %v", name, problem)
			}
			broken := strings.NewReplacer("blue", "bleu", "100", "1000").Replace(value)
			if problem := try(broken); broken != value && (problem == nil || problem.Code != fieldgate.ProblemInvalidParameter) {
				t.Errorf("%s: %q passes: %v", name, broken, problem)
			}
		}
	}
}

func TestStyledParameters(t *testing.T) {
	f := newFixture(t)
	q := func(schema string, more ...func(*fieldgate.Parameter)) fieldgate.Parameter {
		p := fieldgate.Parameter{Name: "color", In: fieldgate.InQuery, Explode: true, Schema: fieldgate.SchemaRef("#/$defs/" + schema)}
		for _, change := range more {
			change(&p)
		}
		return p
	}
	joined := func(p *fieldgate.Parameter) { p.Explode = false }
	style := func(s fieldgate.ParameterStyle) func(*fieldgate.Parameter) {
		return func(p *fieldgate.Parameter) { p.Style = s }
	}
	required := func(p *fieldgate.Parameter) { p.Required = true }
	empty := func(p *fieldgate.Parameter) { p.AllowEmpty = true }
	document := func(p *fieldgate.Parameter) { p.JSON = true }
	for _, c := range []struct {
		name      string
		parameter fieldgate.Parameter
		query     string
		want      string // pointer and a part of the detail; empty: it passes
	}{
		{"typed items", q("ids"), "color=1&color=2", ""},
		{"one item", q("ids"), "color=1", ""},
		{"wrong type", q("ids"), "color=1&color=x", "color/1 query parameter color: a string is not of type integer"},
		{"out of bounds", q("ids"), "color=1&color=2&color=10", "color/2 10 is greater than the maximum 9"},
		{"not unique", q("ids"), "color=1&color=1", "color/1 the item equals an earlier one"},
		{"joined in an exploded list", q("ids"), "color=1,2", "color/0 a string is not of type integer"},
		{"a delimiter that is data", q("words", joined), "color=a%2Cb,c", ""},
		{"empty joined list", q("ids", joined), "color=", ""},
		{"two joined lists", q("ids", joined), "color=1&color=2", "color given more than once"},
		{"scalar twice", q("flag"), "color=true&color=false", "color given more than once"}, // parameter pollution
		{"scalar twice, once encoded", q("flag"), "color=true&c%6Flor=false", "color given more than once"},
		{"others pass", q("flag"), "color=true&other=1&other=2&%zz=1", "percent-encoding is malformed"},
		{"unknown names pass", q("flag"), "color=true&other=1&other=2", ""},
		{"integer or list", q("either"), "color=7", ""},
		{"integer or list, two", q("either"), "color=7&color=8", ""},
		{"null", q("maybe"), "color=null", ""},
		{"no null", q("flag"), "color=null", "color null is not of type boolean"},
		{"empty", q("maybe"), "color=", "color a string is not of type null or integer"},
		{"empty allowed", q("maybe", empty), "color", ""},
		{"missing", q("ids", required), "colour=1", "color The query parameter color is missing."},
		{"missing object", q("object", required), "X=1", "color is missing"},
		{"member missing", q("object"), "R=100&B=150", `color the property "G" is missing`},
		{"member twice", q("object"), "R=100&G=200&B=150&R=1", `color the key "R" occurs twice`},
		{"open object takes what is left", q("open"), "n=1&m=2", ""},
		{"open object, wrong member", q("open"), "n=1&m=x", "color/m a string is not of type integer"},
		{"deep lists", q("filter", style(fieldgate.StyleDeepObject)), "color[tags]=a&color[n]=1&color[tags]=b", ""},
		{"too deep", q("deep", style(fieldgate.StyleDeepObject)), "color[a][b]=1", "one level deep"},
		{"odd number of texts", q("object", joined), "color=R,100,G", "not written in the style"},
		{"bars as they are", q("words", style(fieldgate.StylePipeDelimited), joined), "color=a|b%7cc", ""},
		{"plus is a space", q("ids", style(fieldgate.StyleSpaceDelimited), joined), "color=1+2%203", ""},
		{"too many", q("ids"), strings.Repeat("color=1&", 1025), "more than 1024 items"},
		{"malformed escape", q("words"), "color=%4", "percent-encoding is malformed"},
		{"not UTF-8", q("words"), "color=%ff", "color not UTF-8"},
		{"JSON", q("object", document), "color=" + `{"R":100,"G":200,"B":150}`, ""},
		{"JSON, escaped", q("object", document), "color=%7B%22R%22%3A100,%22G%22:200,%22B%22:150%7D", ""},
		{"JSON, wrong", q("object", document), `color={"R":1,"G":200,"B":150}`, "color/R the value is not 100"},
		{"no JSON", q("object", document), `color={`, "color expected a key in quotes"},
	} {
		got := ""
		if problem := parameterOf(t, f, c.parameter, "/x", c.query, nil); problem != nil {
			got = problem.Pointer + " " + problem.Detail
		}
		words := strings.SplitN(c.want, " ", 2)
		if (c.want == "") != (got == "") || !strings.Contains(got, words[len(words)-1]) || strings.HasPrefix(c.want, "color") && !strings.HasPrefix(got, words[0]+" ") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A parameter that is bound to the caller is compared with the caller wherever it stands, and means one thing.
func TestBoundOutsideOfThePath(t *testing.T) {
	f := newFixture(t)
	for _, in := range []fieldgate.ParameterPlace{fieldgate.InQuery, fieldgate.InHeader} {
		o := anonymous("o", fieldgate.MethodGet, "/x")
		o.Access = fieldgate.Access{Kinds: []fieldgate.PrincipalKind{fieldgate.PrincipalDevice}}
		o.Parameters = []fieldgate.Parameter{{Name: "device", In: in, Bound: true}}
		for _, shadow := range []fieldgate.OnInvalid{fieldgate.InvalidReject, fieldgate.InvalidShadow} {
			o.OnInvalid = shadow
			f.serve(t, served("b", "1", o))
			for value, want := range map[string]fieldgate.ProblemCode{"d7": "", "d8": "not-owner", "": "", "d7&device=d8": "invalid-parameter"} {
				x := f.http(fieldgate.MethodGet, "/x", f.device, "")
				switch {
				case in == fieldgate.InHeader && strings.Contains(value, "&"):
					continue
				case in == fieldgate.InHeader && value != "":
					x.Fields = fields{"device": value}
				case value != "":
					x.Query = []byte("device=" + value)
				}
				f.do(x)
				if got := f.records.last().Problem; got != want {
					t.Errorf("%s %s %q: %q, want %q", in, shadow, value, got, want)
				}
			}
		}
	}
}

// Over CoAP the service gets a list as it was written.
func TestStylesGoUpstream(t *testing.T) {
	f := newFixture(t)
	o := anonymous("o", fieldgate.MethodGet, "/x/{list}.json")
	o.CoAP = &fieldgate.CoAPBinding{Method: fieldgate.MethodGet, Path: "/c/{list}"}
	o.Upstream = "ingest"
	o.Parameters = []fieldgate.Parameter{
		{Name: "list", In: fieldgate.InPath, Required: true, Schema: "#/$defs/words"},
		{Name: "ids", In: fieldgate.InQuery, Explode: true, Schema: "#/$defs/ids"},
		{Name: "deep", In: fieldgate.InQuery, Explode: true, Style: fieldgate.StyleDeepObject, Schema: "#/$defs/filter"},
		{Name: "one", In: fieldgate.InQuery, Schema: "#/$defs/maybe"},
	}
	k := served("c", "1", o)
	k.Schemas = json.RawMessage(parameterSchemas)
	f.serve(t, k)
	x := f.http(fieldgate.MethodGet, "/c/a,b%2Cc?ids=1&deep[tags]=x&one=5&ids=2&deep[n]=1", "", "")
	x.Protocol = fieldgate.ProtocolCoAP
	if problem := f.do(x); problem != nil {
		t.Fatal(problem)
	}
	if got := (<-f.calls).RequestURI; got != "/x/a,b%2Cc.json?ids=1&ids=2&deep[tags]=x&deep[n]=1&one=5" {
		t.Errorf("the service saw %s", got)
	}
}
