package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath, Doc, Name              string
	Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	command := exec.Command("go", "list", "-json=ImportPath,Doc,Name,Imports,TestImports,XTestImports", "fieldgate/...")
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []listed
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 15 {
		t.Fatalf("only %d packages", len(all))
	}
	return all
}

// house is the part of the tree that a package belongs to.
func house(path string) string {
	path, inside := strings.CutPrefix(path, "fieldgate")
	if !inside {
		return ""
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if first == "" {
		return "root"
	}
	return first
}

// allowed says which parts of the tree the packages of a part may import, besides packages of the same part. Those of protocol stand
// alone, except that several need the cipher protocol/ccm.
var allowed = map[string][]string{
	"root":     {},
	"protocol": {},
	"engine":   {"root"},
	"contract": {"root"},
	"api":      {},
	"examples": {},
	"console":  {},
	"gateway":  {"root", "contract", "engine", "protocol"},
	"control":  {"root", "contract", "engine", "api"},
	"sim":      {"root", "protocol"},
	"cmd":      {"root", "contract", "engine", "api", "examples", "gateway", "control", "console", "sim", "protocol"},
	"test":     {"root", "contract", "engine", "api", "examples", "protocol", "sim"},
}

// Imports run downwards only, and the two houses do not import each other.
func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		from := house(p.ImportPath)
		may, known := allowed[from]
		if !known {
			t.Errorf("%s: the architecture has no part %q", p.ImportPath, from)
		}
		for _, imported := range p.Imports {
			to := house(imported)
			if to == "" || to == from && from != "protocol" || imported == p.ImportPath || from == "protocol" && imported == "fieldgate/protocol/ccm" {
				continue
			}
			if to == "test" && strings.HasSuffix(p.ImportPath, "test") {
				continue // it opens real engines for tests only
			}
			if !slices.Contains(may, to) {
				t.Errorf("%s imports %s: %s may import %v only", p.ImportPath, imported, from, may)
			}
		}
	}
}

// Tests of one house do not reach into the other either.
func TestTestImports(t *testing.T) {
	other := map[string]string{"gateway": "control", "control": "gateway"}
	for _, p := range packages(t) {
		for _, imported := range append(p.TestImports, p.XTestImports...) {
			if to := house(imported); to != "" && to == other[house(p.ImportPath)] {
				t.Errorf("the tests of %s import %s", p.ImportPath, imported)
			}
		}
	}
}

// Every package says what it is for.
func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		if p.Name != "main" && !strings.HasPrefix(p.Doc, "Package "+p.Name+" ") {
			t.Errorf("%s has no comment that starts with %q", p.ImportPath, "Package "+p.Name)
		}
	}
}
