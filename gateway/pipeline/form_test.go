package pipeline

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"fieldgate"
)

const formSchemas = `{"$defs":{
	"form":{"type":"object","required":["name"],"additionalProperties":false,"properties":{
		"name":{"type":"string","minLength":2},"age":{"type":"integer","minimum":0},
		"tags":{"type":"array","items":{"type":"string"},"maxItems":3},
		"sizes":{"type":"array","items":{"type":"integer"}},
		"where":{"type":"object","required":["lat"],"properties":{"lat":{"type":"number"}}},
		"deep":{"type":"object","properties":{"n":{"type":"integer"}}},
		"photo":{"type":"string","format":"binary"},"photos":{"type":"array","items":{"type":"string","format":"binary"},"maxItems":2},
		"rows":{"type":"array","items":{"type":"object","required":["id"]}}}},
	"text":{"type":"string","minLength":3,"pattern":"^[a-zé]+$"},
	"size":{"type":"integer","maximum":10}}}`

const boundary = "----x'()+_,-./:=?"

// part writes a part of a form: fields beside Content-Disposition, then content.
func part(name, fields, content string) string {
	return "--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n" + fields + "\r\n" + content + "\r\n"
}

const lastPart = "--" + boundary + "--\r\n"

func formContract() *fieldgate.Contract {
	o := anonymous("form", fieldgate.MethodPost, "/form")
	o.Request = &fieldgate.Payload{Required: true, Media: []fieldgate.MediaType{
		{Type: "application/x-www-form-urlencoded", Schema: "#/$defs/form", Encoding: []fieldgate.PartEncoding{
			{Property: "sizes", Joined: true}, {Property: "deep", Style: fieldgate.StyleDeepObject}}},
		{Type: "multipart/form-data", Schema: "#/$defs/form", Encoding: []fieldgate.PartEncoding{
			{Property: "photo", Types: []string{"image/png", "image/jpeg"}, Headers: []fieldgate.Parameter{
				{Name: "X-Size", In: fieldgate.InHeader, Required: true, Schema: "#/$defs/size"}}}}},
		{Type: "text/plain", Schema: "#/$defs/text"},
		{Type: "application/json", Schema: "#/$defs/form"},
	}}
	k := served("forms", "1", o)
	k.Schemas = json.RawMessage(formSchemas)
	return k
}

func TestBodies(t *testing.T) {
	f := newFixture(t)
	f.serve(t, formContract())
	const form, text, jsonType = "application/x-www-form-urlencoded", "text/plain", "application/json"
	multi := "multipart/form-data; boundary=\"" + boundary + "\""
	name := part("name", "", "Ann")
	for _, c := range []struct{ contentType, body, want string }{ // want: pointer and a part of the detail; empty: it passes
		{form, "name=Ann", ""},
		{form, "name=Ann+B&age=7&tags=a&tags=b%2Cc", ""},
		{form, "name=Ann&tags=a", ""},
		{form, "name=A", "/name a string of 1 characters is shorter than 2"},
		{form, "age=7", `the property "name" is missing`},
		{form, "name=Ann&age=x", "/age a string is not of type integer"},
		{form, "name=Ann&name=Bob", `the key "name" occurs twice`},
		{form, "name=Ann&other=1", `/other the property "other" is not allowed`},
		{form, "name=Ann&tags=a&tags=b&tags=c&tags=d", "/tags an array of 4 items has more than 3"},
		{form, "name=Ann&sizes=1,2,3", ""},
		{form, "name=Ann&sizes=1,x", "/sizes/1 a string is not of type integer"},
		{form, `name=Ann&where={"lat":1.5}`, ""}, // OpenAPI 3.1 §4.8.14.4: objects are stringified
		{form, `name=Ann&where=%7B%22lat%22:true%7D`, "/where/lat a boolean is not of type number"},
		{form, `name=Ann&where=lat`, "not a JSON value"},
		{form, "name=Ann&deep[n]=7", ""},
		{form, "name=Ann&deep%5Bn%5D=x", "/deep/n a string is not of type integer"},
		{form, "name=Ann&deep[n][m]=7", "one level deep"},
		{form, "name=%4", "percent-encoding is malformed"},
		{form, "name=%ff%fe", "not UTF-8"},
		{form + "; charset=UTF-8", "name=Ann", ""},
		{form + ";charset=iso-8859-1", "name=Ann", "another charset"},
		{form + ";charset=utf-8;charset=utf-7", "name=Ann", "malformed"},
		{form + ";charset", "name=Ann", "malformed"},
		{form, strings.Repeat("a=b&", maxFields+1), "too many fields"},

		{multi, name + lastPart, ""},
		{strings.ReplaceAll(multi, "boundary=", "charset=utf-8; Boundary="), name + lastPart, ""},
		{multi, name + part("age", "Content-Type: text/plain; charset=utf-8\r\n", "7") + part("tags", "", "a") + part("tags", "", "b") + lastPart, ""},
		{multi, part("name", "", "A") + lastPart, "/name a string of 1 characters is shorter than 2"},
		{multi, name + name + lastPart, `the key "name" occurs twice`},
		{multi, name + part("other", "", "1") + lastPart, `/other the property "other" is not allowed`},
		{multi, part("age", "", "1") + lastPart, `the property "name" is missing`},
		{multi, name + part("where", "Content-Type: application/json\r\n", `{"lat":1}`) + lastPart, ""},
		{multi, name + part("where", "", `{"lat":"x"}`) + lastPart, "/where/lat a string is not of type number"},
		{multi, name + part("rows", "Content-Type: application/json\r\n", `[{"id":1}]`) + lastPart, ""},
		{multi, name + part("rows", "", `{"id":1}`) + part("rows", "", `{}`) + lastPart, `/rows/1 the property "id" is missing`},
		{multi, name + part("photo", "Content-Type: image/png\r\nX-Size: 7\r\n", "\x89PNG\r\n\x00\xff") + lastPart, ""},
		{multi, name + part("photo", "Content-Type: image/gif\r\nX-Size: 7\r\n", "GIF") + lastPart, "/photo the part is of another type than image/png, image/jpeg"},
		{multi, name + part("photo", "Content-Type: image/png\r\n", "x") + lastPart, "/photo the part lacks the field X-Size"},
		{multi, name + part("photo", "X-Size: 11\r\n", "x") + lastPart, "/photo the field X-Size of the part: 11 is greater than the maximum 10"},
		{multi, name + part("photos", "", "\xff") + part("photos", "", "\xff") + lastPart, ""},
		{multi, name + part("photos", "", "a") + part("photos", "", "b") + part("photos", "", "c") + lastPart, "/photos an array of 3 items has more than 2"},
		{multi, part("name", "Content-Type: text/plain; charset=utf-16\r\n", "Ann") + lastPart, "/name the part is not written in utf-8"},
		{multi, strings.Replace(name, `; name="name"`, `; name=name; filename="a\"b;c"`, 1) + lastPart, ""},

		// RFC 2046 §5.1.1 and RFC 7578, and what programs disagree on.
		{"multipart/form-data", name + lastPart, "malformed"},
		{"multipart/form-data; boundary=", name + lastPart, "malformed"},
		{"multipart/form-data; boundary=a; boundary=b", "--a--", "malformed"},
		{"multipart/form-data; boundary=\"a \"", "--a --", "malformed"},
		{"multipart/form-data; boundary=" + strings.Repeat("a", 71), "x", "malformed"},
		{multi, "preamble\r\n" + name + lastPart, "does not begin with its boundary"},
		{multi, name + lastPart + "epilogue", "something follows"},
		{multi, name, "a part has no end"},
		{multi, name + "--" + boundary, "goes on"},
		{multi, part("name", "", "Ann\r\n--"+boundary+"x") + lastPart, "goes on"},
		{multi, strings.ReplaceAll(name, "\r\n", "\n") + lastPart, "goes on"},
		{multi, "--" + boundary + "\r\n--" + boundary + "--", "head of a part has no end"},
		{multi, part("name", "X: a\r\n folded: b\r\n", "Ann") + lastPart, "field of a part is malformed"},
		{multi, part("name", "No colon\r\n", "Ann") + lastPart, "field of a part is malformed"},
		{multi, part("name", "Content-Disposition: form-data; name=\"age\"\r\n", "Ann") + lastPart, "field twice"},
		{multi, strings.Replace(name, `name="name"`, `name="name"; name="age"`, 1) + lastPart, "Content-Disposition is malformed"},
		{multi, strings.Replace(name, `name="name"`, `filename="name"`, 1) + lastPart, "lacks a name"},
		{multi, strings.Replace(name, `name="name"`, `name="name"; filename*=utf-8''x`, 1) + lastPart, "malformed"},
		{multi, strings.Replace(name, `name="name"`, `name="na\me"`, 1) + lastPart, "backslash"},
		{multi, strings.Replace(name, "form-data", "attachment", 1) + lastPart, "malformed"},
		{multi, part("name", "Content-Transfer-Encoding: base64\r\n", "QW5u") + lastPart, "RFC 7578 section 4.7"},
		{multi, part("name", "X: "+strings.Repeat("x", maxPartHead)+"\r\n", "Ann") + lastPart, "8192 bytes"},
		{multi, strings.Repeat(part("x", "", ""), maxParts+1) + lastPart, "more than 1024 parts"},

		{text, "blé", ""},
		{text + "; charset=\"UTF-8\"", "blue", ""},
		{text + "; charset=us-ascii", "blue", ""},
		{text + "; charset=latin1", "blue", "another charset"},
		{text, "bl", "a string of 2 characters is shorter than 3"},
		{text, "BLUE", "does not match the pattern"},
		{text, "bl\xe9", "not UTF-8"},
		{jsonType + "; charset=utf-8", `{"name":"Ann"}`, ""},
		{jsonType + "; charset=utf-16", `{"name":"Ann"}`, "another charset"},
		{jsonType + " ; ; profile=\"a;b\"", `{"name":"Ann"}`, ""}, // RFC 9110 §5.6.6
		{"text/csv", "a,b", "The contract has"},
	} {
		x := f.http(fieldgate.MethodPost, "/form", "", c.body)
		x.ContentType = []byte(c.contentType)
		got := ""
		if problem := f.do(x); problem != nil {
			got = strings.TrimSpace(problem.Pointer + " " + problem.Detail)
		}
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) || strings.HasPrefix(c.want, "/") != strings.HasPrefix(got, "/") {
			t.Errorf("%.60s %.120q: %q, want %q", c.contentType, c.body, got, c.want)
		}
	}
}

// A form that is taken for valid says the same to everybody: its parts, written out again, are the content.
func FuzzMultipart(f *testing.F) {
	f.Add([]byte(part("name", "", "Ann") + lastPart))
	f.Add([]byte(part("a", "Content-Type: application/json\r\n", "{}") + part("a", "", "--"+boundary[:4]) + lastPart))
	f.Add([]byte("--" + boundary + "--"))
	f.Fuzz(func(t *testing.T, content []byte) {
		parts, err := readParts(content, []byte(boundary))
		if err != nil {
			return
		}
		written := ""
		for i := range parts {
			written += "--" + boundary + "\r\n"
			for _, field := range parts[i].fields[:parts[i].count] {
				written += fmt.Sprintf("%s:%s\r\n", field.name, field.value)
			}
			written += "\r\n" + string(parts[i].content) + "\r\n"
		}
		again, err := readParts([]byte(written+lastPart), []byte(boundary))
		if err != nil || len(again) != len(parts) {
			t.Fatalf("%q: %d parts, again %d: %v", content, len(parts), len(again), err)
		}
		for i := range parts {
			if string(parts[i].name) != string(again[i].name) || string(parts[i].content) != string(again[i].content) {
				t.Fatalf("%q: %+v, again %+v", content, parts[i], again[i])
			}
		}
	})
}

func FuzzForm(f *testing.F) {
	for _, seed := range []string{"name=Ann&tags=a&tags=b", "deep[n]=1&sizes=1,2", `where={"lat":1}`, "%41=%zz&&="} {
		f.Add([]byte(seed), "application/x-www-form-urlencoded")
	}
	f.Add([]byte(part("name", "", "Ann")+lastPart), "multipart/form-data; boundary="+boundary)
	k := formContract()
	schemas, err := newSchemas(k)
	if err != nil {
		f.Fatal(err)
	}
	media, err := linkMedia(k.Operations[0].Request.Media, schemas)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, content []byte, contentType string) {
		for i := range media {
			if err := media[i].check(encodingOf(media[i].mediaType), []byte(contentType), content); err != nil && messageOf(err) == "" {
				t.Fatalf("%v", err)
			}
		}
	})
}
