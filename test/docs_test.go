package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"fieldgate/test/port"
)

// Every command of the quickstart is run, in its order, in one shell.
func TestQuickstart(t *testing.T) {
	t.Parallel() // it mostly waits
	runDocument(t, "quickstart", []string{
		`"number":4711`, // from the contract's example
		"429",           // the fifth reading
		"not-owner",     // the refused topic
		"broken.yaml:",  // where the contract is broken
	})
}

// The commands of other pages are run likewise.
func TestPages(t *testing.T) {
	for _, name := range []string{"coap", "coap-devices", "coap-upstreams", "coaps", "device-credentials", "http-policies", "http-versions", "load-balancing", "mqtt", "mqtt-messages", "mqtt-operations", "mqtt-policies", "mqtt-proxy", "mqtt-troubleshooting", "tls"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			runDocument(t, name, nil)
		})
	}
}

// runDocument runs the commands of a page of the documentation. Blocks are marked "sh" (has to work), "sh fails" (has to fail) or
// "sh background" (goes on while the next ones run). Only ports and the place of the folder differ from what a reader does. shown is what
// the commands have to show.
func runDocument(t *testing.T, name string, shown []string) {
	t.Helper()
	document, err := os.ReadFile("../docs/" + name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{"5683": port.Free(t), "5684": port.Free(t), "5685": port.Free(t)}
	for _, standard := range []string{"8080", "8443", "1883", "1884", "1885", "8883", "8090", "9000", "9001"} {
		ports[standard] = port.Free(t)
	}
	text := string(document)
	for standard, free := range ports {
		number := free[strings.LastIndexByte(free, ':')+1:]
		text = strings.ReplaceAll(text, "127.0.0.1:"+standard, free)
		text = strings.ReplaceAll(text, "127.0.0.1%3A"+standard, "127.0.0.1%3A"+number)
		text = strings.ReplaceAll(text, "gateway.lan:"+standard, "gateway.lan:"+number)
		text = strings.ReplaceAll(text, "-p "+standard+" ", "-p "+number+" ")
		text = strings.ReplaceAll(text, ".mjs "+standard+" ", ".mjs "+number+" ")
	}
	// The reader's folder is one of the test's.
	text = regexp.MustCompile(`mkdir (\S+) && cp (.*) (\S+) && cd \S+`).ReplaceAllString(text, fmt.Sprintf("cp $2 '%s' && cd '%[1]s'", t.TempDir()))

	var script strings.Builder
	script.WriteString("set -eu -o pipefail\n")
	if !strings.Contains(text, "\nmake build\n") { // which the reader has done
		text = strings.ReplaceAll(text, `export PATH="$PWD/bin:$PATH"`, "")
		fmt.Fprintf(&script, "export PATH='%s':\"$PATH\"\n", filepath.Dir(build(t)))
	}
	if !strings.Contains(text, " && cd ") {
		fmt.Fprintf(&script, "cd '%s'\n", t.TempDir())
	}
	script.WriteString("trap 'test $? = 0 || tail -n 3 background-*.log || true; kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n")
	blocks := regexp.MustCompile("(?s)```sh([^\n]*)\n(.*?)```").FindAllStringSubmatch(text, -1)
	if len(blocks) < 3 {
		t.Fatalf("the page has only %d blocks of commands", len(blocks))
	}
	for i, block := range blocks {
		kind, commands := strings.TrimSpace(block[1]), strings.TrimSpace(block[2])
		fmt.Fprintf(&script, "echo '== block %d'\n", i+1)
		switch kind {
		case "":
			// A reader takes longer than the newest record needs.
			script.WriteString(strings.ReplaceAll(commands, "fieldgate traffic", "sleep 1; fieldgate traffic") + "\n")
		case "fails":
			fmt.Fprintf(&script, "if (set -e\n%s\n); then echo 'this had to fail'; exit 1; fi\n", commands)
		case "background":
			fmt.Fprintf(&script, "(%s) >background-%d.log 2>&1 &\n", commands, i+1)
			if strings.Contains(commands, "fieldgate serve") {
				script.WriteString("for i in $(seq 300); do fieldgate status >/dev/null 2>&1 && break; sleep 0.1; done\n")
			}
		default:
			t.Fatalf("block %d is marked %q", i+1, kind)
		}
		if strings.Contains(commands, "fieldgate init") {
			for standard, free := range ports {
				fmt.Fprintf(&script, "sed -i 's/127.0.0.1:%s/%s/' fieldgate.yaml\n", standard, free)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience) // a page may wait for something that never comes
	defer cancel()
	command := exec.CommandContext(ctx, "bash", "-c", script.String())
	command.Dir = root
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) } // with what it started
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err = command.Run()
	if err != nil {
		t.Fatalf("%v\n%s", err, &output)
	}
	for _, want := range shown {
		if !strings.Contains(strings.ReplaceAll(output.String(), `": `, `":`), want) {
			t.Errorf("the page does not show %q:\n%s", want, &output)
		}
	}
}

// Every link within the documentation leads somewhere.
func TestDocumentationLinks(t *testing.T) {
	documents, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	documents = append(documents, "../README.md", "../CONTRIBUTING.md", "../SECURITY.md", "../CHANGELOG.md")
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(document), link[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", document, link[1])
			}
		}
	}
}
