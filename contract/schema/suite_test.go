package schema

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The official JSON-Schema-Test-Suite is not vendored: it is taken from the test data
// of a published Go module, whose content the module proxy's checksum pins.
const (
	suiteModule = "github.com/kaptinlin/jsonschema@v0.7.7"
	suiteSum    = "h1:41BlQJ9dskH0oE5DSzBUrl/w4JQYIr6N6L0B5GNyDoM="
	suiteCases  = 1238 // required cases of draft2020-12 in that version
)

func suiteDir(t *testing.T) string {
	t.Helper()
	command := exec.Command("go", "mod", "download", "-json", suiteModule)
	command.Dir = t.TempDir() // outside this module: its go.mod stays as it is
	out, err := command.Output()
	if err != nil {
		t.Fatalf("the test suite comes with %s, which needs the module cache or a module proxy: %v\n%s", suiteModule, err, out)
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	if module.Sum != suiteSum {
		t.Fatalf("%s has the checksum %s, not %s", suiteModule, module.Sum, suiteSum)
	}
	return filepath.Join(module.Dir, "testdata", "JSON-Schema-Test-Suite")
}

type suiteGroup struct {
	Description string
	Schema      json.RawMessage
	Tests       []struct {
		Description string
		Data        json.RawMessage
		Valid       bool
	}
}

func readSuite(t *testing.T, path string) []suiteGroup {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var groups []suiteGroup
	if err := json.Unmarshal(content, &groups); err != nil {
		t.Fatal(err)
	}
	return groups
}

// bundleSuite puts the documents that a schema may refer to under its $defs, as JSON
// Schema core §9.3 describes bundling.
func bundleSuite(t *testing.T, schema json.RawMessage, remotes map[string]any) []byte {
	t.Helper()
	if !strings.Contains(string(schema), "localhost:1234") {
		return schema
	}
	var root map[string]any
	if err := json.Unmarshal(schema, &root); err != nil {
		t.Fatal(err)
	}
	defs := maps.Clone(remotes)
	if own, ok := root["$defs"].(map[string]any); ok {
		maps.Copy(defs, own)
	}
	root["$defs"] = defs
	own, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return own
}

func suiteRemotes(t *testing.T, dir string) map[string]any {
	t.Helper()
	remotes := map[string]any{}
	root := filepath.Join(dir, "remotes")
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); name != "draft2020-12" && strings.HasPrefix(name, "draft") {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasPrefix(entry.Name(), "locationIndependentIdentifier") && filepath.Dir(path) == root {
			return nil // the identifiers of older drafts
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var doc map[string]any
		if err := json.Unmarshal(content, &doc); err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		uri := "http://localhost:1234/" + name
		if doc["$id"] == nil {
			doc["$id"] = uri
		} else if doc["$id"] != uri { // found under another name than its own
			remotes[uri] = map[string]any{"$id": uri, "$ref": doc["$id"]}
		}
		remotes[name] = doc
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return remotes
}

// Every required case of the suite, the compiled form and the fallback together.
func TestSuite(t *testing.T) {
	dir := suiteDir(t)
	remotes := suiteRemotes(t, dir)
	files, err := filepath.Glob(filepath.Join(dir, "tests", "draft2020-12", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	cases, compiled := 0, 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			for _, group := range readSuite(t, file) {
				s, err := Compile(bundleSuite(t, group.Schema, remotes), "#", Options{IgnoreFormats: true})
				if err != nil {
					t.Errorf("%s: %v\n%s", group.Description, err, group.Schema)
					continue
				}
				for _, test := range group.Tests {
					cases++
					if s.Compiled() {
						compiled++
					}
					if err := s.ValidateJSON(test.Data); (err == nil) != test.Valid {
						t.Errorf("%s: %s: valid is %v, but: %v (fallback %q)\n%s\n%s", group.Description, test.Description, test.Valid, err, s.Fallback(), group.Schema, test.Data)
					}
				}
			}
		})
	}
	t.Logf("%d cases, %d of them in the compiled form", cases, compiled)
	if cases != suiteCases {
		t.Errorf("ran %d cases, the suite has %d", cases, suiteCases)
	}
}

// The optional format cases for the formats that are asserted.
func TestSuiteFormats(t *testing.T) {
	dir := filepath.Join(suiteDir(t), "tests", "draft2020-12", "optional", "format")
	for _, format := range []string{"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "uuid", "regex", "json-pointer"} {
		t.Run(format, func(t *testing.T) {
			for _, group := range readSuite(t, filepath.Join(dir, format+".json")) {
				s, err := Compile(group.Schema, "#", Options{})
				if err != nil {
					t.Fatal(err)
				}
				for _, test := range group.Tests {
					if err := s.ValidateJSON(test.Data); (err == nil) != test.Valid {
						t.Errorf("%s: valid is %v, but: %v %s", test.Description, test.Valid, err, test.Data)
					}
				}
			}
		})
	}
}

// The optional cases on ECMA-262 patterns and big numbers.
func TestSuiteOptional(t *testing.T) {
	dir := filepath.Join(suiteDir(t), "tests", "draft2020-12", "optional")
	for _, name := range []string{"ecmascript-regex", "non-bmp-regex", "bignum", "float-overflow", "anchor", "id", "no-schema", "refOfUnknownKeyword", "unknownKeyword"} {
		t.Run(name, func(t *testing.T) {
			for _, group := range readSuite(t, filepath.Join(dir, name+".json")) {
				s, err := Compile(group.Schema, "#", Options{})
				if err != nil {
					t.Errorf("%s: %v", group.Description, err)
					continue
				}
				for _, test := range group.Tests {
					if err := s.ValidateJSON(test.Data); (err == nil) != test.Valid {
						t.Errorf("%s: %s: valid is %v, but: %v %s", group.Description, test.Description, test.Valid, err, test.Data)
					}
				}
			}
		})
	}
}
