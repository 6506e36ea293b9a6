package contract

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
)

var update = flag.Bool("update", false, "write what the tests expect anew")

const separator = "---- diagnostics ----\n"

// Each file of testdata/invalid is a document, a line, and all that Compile says of it.
func TestDiagnostics(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			document, want, found := strings.Cut(read(t, file), separator)
			if !found {
				t.Fatal("no line that separates document and diagnostics")
			}
			contract, diagnostics, err := Compile("api.yaml", []byte(document))
			var got strings.Builder
			failed := false
			for _, d := range diagnostics {
				got.WriteString(d.String() + "\n")
				failed = failed || d.Severity == SeverityError
				if d.Remedy == "" {
					t.Errorf("no remedy: %v", d)
				}
			}
			if failed != (err != nil) || failed == (contract != nil) {
				t.Errorf("errors: %v, contract: %v, err: %v", failed, contract != nil, err)
			}
			var invalid *InvalidError
			if failed && (!errors.As(err, &invalid) || len(invalid.Errors) == 0) {
				t.Errorf("the error is %T without errors", err)
			}
			if *update {
				write(t, file, document+separator+got.String())
			} else if got.String() != want {
				t.Errorf("got\n%swant\n%s", got.String(), want)
			}
		})
	}
}

// The examples are the contracts that the documentation and the demonstration use.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) != 7 {
		t.Fatal("examples are missing", files, err)
	}
	var live []*fieldgate.Contract
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			contract, diagnostics, err := Compile(name, []byte(read(t, file)))
			if err != nil || len(diagnostics) != 0 {
				t.Fatalf("%v %v", err, diagnostics)
			}
			compiled, err := json.MarshalIndent(contract, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata/golden", name+".json")
			if *update {
				write(t, golden, string(compiled)+"\n")
			} else if read(t, golden) != string(compiled)+"\n" {
				t.Errorf("%s compiles to something else than %s; see the difference with -update", name, golden)
			}
			if conflicts := conflicts(contract, live); len(conflicts) != 0 {
				t.Errorf("examples conflict: %v", conflicts)
			}
			live = append(live, contract)
			if _, encoded, err := fieldgate.EncodeContract(contract); err != nil || len(encoded) == 0 {
				t.Errorf("cannot be encoded: %v", err)
			}
		})
	}
}

// A contract written in JSON is the same contract.
func TestJSON(t *testing.T) {
	c := &compiler{}
	root := c.tree([]byte(read(t, "../examples/thermo.openapi.yaml")))
	document, err := root.appendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, diagnostics, err := Compile("thermo.json", document)
	if err != nil || len(diagnostics) != 0 {
		t.Fatal(err, diagnostics)
	}
	fromYAML, _, _ := Compile("thermo.yaml", []byte(read(t, "../examples/thermo.openapi.yaml")))
	fromJSON.Digest, fromYAML.Digest = "", ""
	a, _ := json.Marshal(fromJSON)
	b, _ := json.Marshal(fromYAML)
	if string(a) != string(b) {
		t.Errorf("JSON gives\n%s\nYAML gives\n%s", a, b)
	}
}

// Limits that no file of testdata should have to show.
func TestBounds(t *testing.T) {
	many := func(n int, each func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(each(i))
		}
		return b.String()
	}
	number := func(i int) string {
		return string(rune('a'+i/26%26)) + string(rune('a'+i%26)) + strings.Repeat("x", i/676)
	}
	const head = "openapi: 3.1.0\ninfo: {title: T, version: 1.0.0}\nsecurity: []\n"
	shared := func(response string) string {
		return head + "components: {responses: {r: {" + response + "}}}\npaths:\n" + many(100, func(i int) string {
			return fmt.Sprintf("  /%d: {get: {responses: {'200': {$ref: '#/components/responses/r'}}}}\n", i)
		})
	}
	tests := map[string]struct{ document, want string }{
		"document":     {strings.Repeat("#", fieldgate.MaxDocumentBytes+1), "the document is 8388609 bytes"},
		"values":       {"a: [" + strings.Repeat("1,", maxNodes) + "1]", "more than 500000 values"},
		"empty values": {"a:\n" + strings.Repeat(" -\n", maxNodes), "more than 500000 values"},
		"aliases":      {"a: &a [" + strings.Repeat("1,", 2000) + "1]\nb: [" + strings.Repeat("*a,", 600) + "]", "aliases counted"},
		"operations": {head + "paths:\n" + many(fieldgate.MaxOperations+1, func(i int) string {
			return fmt.Sprintf("  /%d: {get: {responses: {'204': {description: d}}}}\n", i)
		}), "at most 10000 operations"},
		"parameters": {head + "paths:\n  /a:\n    get:\n      responses: {'204': {description: d}}\n      parameters:\n" +
			many(fieldgate.MaxParameters+1, func(i int) string { return "      - {name: " + number(i) + ", in: query}\n" }), "has 33 parameters, more than 32"},
		"path":       {head + "paths:\n  " + strings.Repeat("/a", fieldgate.MaxPathSegments+1) + ": {}\n", "at most 32 segments"},
		"path bytes": {head + "paths:\n  '/" + strings.Repeat("a", fieldgate.MaxPathBytes+1) + "': {}\n", "at most 4096 bytes"},
		"rates": {head + "x-fieldgate:\n  policies:\n" + strings.Repeat("  - {rate: 1/s}\n", 5) +
			"paths: {/a: {get: {responses: {'204': {description: d}}}}}\n", "at most 4 rates"},
		"successor": {head + "x-fieldgate: {lifecycle: {successor: 'move to 2.0'}}\n", "successor must be a version"},
		// Each operation reads these anew, so that time would grow with the square of the document.
		"security": {"openapi: 3.1.0\ninfo: {title: T, version: 1.0.0}\nsecurity: [" + strings.Repeat("{}, ", 65) + "]\n", "security has 65 entries, more than 64"},
		"scopes":   {head + "x-fieldgate: {scopes: [" + strings.Repeat("s, ", 65) + "]}\n", "scopes has 65 entries, more than 64"},
		"policies": {head + "x-fieldgate: {policies: [" + strings.Repeat("{timeout: 1s}, ", 65) + "]}\n", "policies has 65 entries, more than 64"},
		"messages": {"asyncapi: 3.0.0\ninfo: {title: T, version: 1.0.0}\nchannels: {c: {address: a, messages: {" +
			many(maxMessages+1, func(i int) string { return number(i) + ": {}, " }) + "}}}\n", "messages has 257 entries, more than 256"},
		"address": {head + "servers: [{url: '/" + strings.Repeat("{a}", 1000) + "', variables: {a: {default: " + strings.Repeat("a", 4000) + "}}}]\n",
			"is not the address of a server"},
		// What operations share is written out for each of them.
		"shared example":     {shared("description: d, content: {application/json: {example: '" + strings.Repeat("x", 1<<20) + "'}}"), "more than 32 MiB"},
		"shared description": {shared("description: '" + strings.Repeat("x", 1<<20) + "'"), "more than 32 MiB"},
		"nested schemas": {head + "x-s: " + strings.Repeat("{items: ", 60) + "{enum: ['" + strings.Repeat("x", 1<<20) + "']}" + strings.Repeat("}", 60) + "\npaths:\n" +
			many(60, func(i int) string {
				return fmt.Sprintf("  /%d: {get: {responses: {'200': {description: d, content: {application/json: {schema: {$ref: '#/x-s%s'}}}}}}}\n", i, strings.Repeat("/items", i))
			}), "more than 32 MiB"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, diagnostics, err := Compile("api.yaml", []byte(test.document))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %.300v, want %q", err, test.want)
			}
			if len(diagnostics) > maxDiagnostics {
				t.Errorf("%d diagnostics", len(diagnostics))
			}
		})
	}
}

// A large document is no larger for being written with a line for each value.
func TestLinesOfJSON(t *testing.T) {
	var b strings.Builder
	b.WriteString("{\"openapi\": \"3.1.0\", \"info\": {\"title\": \"T\", \"version\": \"1.0.0\"}, \"paths\": {}, \"x-a\": {\n")
	for i := range 120_000 { // nine indicators a line, of which two count
		fmt.Fprintf(&b, "\"%d\": \"\\\",:[{,:\",\n", i)
	}
	b.WriteString("\"last\": 1}}\n")
	if _, _, err := Compile("api.json", []byte(b.String())); err != nil {
		t.Errorf("%.300v", err)
	}
}

// However many warnings there are, the errors are said.
func TestErrorsAreNotHidden(t *testing.T) {
	var b strings.Builder
	b.WriteString("openapi: 3.1.0\ninfo: {title: T, version: 1.0.0}\npaths:\n")
	for i := range 2 * maxDiagnostics {
		fmt.Fprintf(&b, "  /%d: {get: {responses: {'204': {description: d}}}}\n", i) // says nothing of security
	}
	b.WriteString("  /a: {get: {parameters: [{name: id, in: path}], responses: {'204': {description: d}}}}\n")
	_, diagnostics, err := Compile("api.yaml", []byte(b.String()))
	if err == nil || !strings.Contains(err.Error(), "must be required") || len(diagnostics) != maxDiagnostics {
		t.Errorf("%d diagnostics, %.300v", len(diagnostics), err)
	}
}

func TestReplacement(t *testing.T) {
	document := "openapi: 3.1.0\ninfo: {title: T, version: 2.0.0}\npaths: {}\n"
	reading, err := Read("api.yaml", []byte(document+"x-fieldgate: {lifecycle: {replaces: 1.9.0, sunset-of-replaced: 2027-06-30}}\n"))
	if err != nil || reading.Replaces != "1.9.0" || reading.Sunset != "2027-06-30" {
		t.Errorf("%+v %v", reading, err)
	}
	reading, err = Read("api.yaml", []byte(document))
	if err != nil || reading.Replaces != "" || reading.Sunset != "" {
		t.Errorf("%+v %v", reading, err)
	}
}

// Any number of documents may be compiled at once.
func TestConcurrently(t *testing.T) {
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for _, file := range files {
		document := []byte(read(t, file))
		for range 3 {
			running.Go(func() {
				for range 5 {
					if _, _, err := Compile(file, document); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	running.Wait()
}

// What reads the document leaves no goroutine behind.
func TestNothingIsLeftRunning(t *testing.T) {
	document := []byte(read(t, "../examples/thermo.openapi.yaml"))
	before := runtime.NumGoroutine()
	for range 20 {
		if _, _, err := Compile("thermo.yaml", document); err != nil {
			t.Fatal(err)
		}
	}
	for range 500 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}

func read(t testing.TB, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
