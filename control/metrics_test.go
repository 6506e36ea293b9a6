package control

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// docs/operations.md names each metric that there is, and no other.
func TestDocumentedMetrics(t *testing.T) {
	n := start(t, socketDirectory(t))
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		n.control.metrics.Describe(descriptions)
	}()
	named := regexp.MustCompile(`fqName: "(fieldgate_[a-z_]+)"`)
	var there []string
	for d := range descriptions {
		if name := named.FindStringSubmatch(d.String()); name != nil {
			there = append(there, name[1])
		}
	}
	document, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(document), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var documented []string
	for _, name := range regexp.MustCompile("`(fieldgate_[a-z_]+)`").FindAllStringSubmatch(section, -1) {
		documented = append(documented, name[1])
	}
	slices.Sort(there)
	slices.Sort(documented)
	if len(there) < 20 || !slices.Equal(there, documented) {
		t.Errorf("there are\n%s\nthe document names\n%s", strings.Join(there, "\n"), strings.Join(documented, "\n"))
	}
}
