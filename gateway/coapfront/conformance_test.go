package coapfront

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The tests that docs/coap-conformance.md names exist, in one of the packages that it is about.
func TestConformanceNamesTests(t *testing.T) {
	exist := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for _, directory := range []string{".", "../coaphttp", "../../protocol/coap", "../../protocol/oscore", "../../protocol/ccm", "../../test"} {
		files, err := filepath.Glob(filepath.Join(directory, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no tests in %s: %v", directory, err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range declared.FindAllSubmatch(source, -1) {
				exist[string(match[1])] = true
			}
		}
	}
	page, err := os.ReadFile("../../docs/coap-conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(page, -1)
	if len(named) < 50 {
		t.Fatalf("only %d tests are named", len(named))
	}
	for _, match := range named {
		if !exist[string(match[1])] {
			t.Errorf("there is no test %s", match[1])
		}
	}
}
