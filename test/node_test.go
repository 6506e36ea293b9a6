package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fieldgate/test/output"
	"fieldgate/test/port"
)

// patience bounds every wait for something that has to happen. It is no measurement: on a slow machine it happens later.
const patience = time.Minute

var binary struct {
	once   sync.Once
	path   string
	output []byte
	err    error
}

// build compiles the command once for all tests.
func build(t testing.TB) string {
	t.Helper()
	binary.once.Do(func() {
		binary.path = filepath.Join(binaryFolder, "fieldgate")
		binary.output, binary.err = exec.Command("go", "build", "-o", binary.path, "fieldgate/cmd/fieldgate").CombinedOutput()
	})
	if binary.err != nil {
		t.Fatalf("%v\n%s", binary.err, binary.output)
	}
	return binary.path
}

var binaryFolder string

func TestMain(m *testing.M) {
	if address := os.Getenv(serviceVariable); address != "" {
		panic(serveProgram(address)) // it ends by being killed
	}
	folder, err := os.MkdirTemp("", "fieldgate-test-")
	if err != nil {
		panic(err)
	}
	binaryFolder = folder
	if path := os.Getenv(aloneVariable); path != "" {
		binary.once.Do(func() { binary.path = path })
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// node is a Fieldgate process of the built binary with a folder of its own.
type node struct {
	t                               testing.TB
	name, role                      string
	folder, config                  string
	http, mqtt, coap, admin, health string // host:port
	namespace                       string // of the network that it runs in; empty: that of the test
	process                         *exec.Cmd
	log                             *output.Buffer
	ended                           chan error
}

// newNode prepares an installation on free ports, with upstreams by name.
func newNode(t testing.TB, upstreams map[string]string) *node {
	t.Helper()
	folder := t.TempDir()
	n := &node{t: t, name: "n1", role: "all", folder: folder, config: filepath.Join(folder, "fieldgate.yaml"), http: port.Free(t), mqtt: port.Free(t), coap: port.Free(t), admin: port.Free(t)}
	n.run("init", "--data", filepath.Join(folder, "data"))
	var text strings.Builder
	fmt.Fprintf(&text, "node: n1\ndata: data\nlisten: {http: '%s', mqtt: '%s', coap: '%s', admin: '%s'}\nupstreams:\n", n.http, n.mqtt, n.coap, n.admin)
	for name, address := range upstreams {
		fmt.Fprintf(&text, "  %s: {addresses: ['%s'], timeout: 10s, connect-timeout: 10s}\n", name, address)
	}
	if len(upstreams) == 0 {
		text.WriteString("  {}\n")
	}
	if err := os.WriteFile(n.config, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

// extend adds a line to the environment file.
func (n *node) extend(format string, values ...any) {
	n.t.Helper()
	file, err := os.OpenFile(n.config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	defer file.Close()
	if _, err := fmt.Fprintf(file, format+"\n", values...); err != nil {
		n.t.Fatal(err)
	}
}

// start runs "fieldgate serve" and waits until it serves.
func (n *node) start() {
	n.t.Helper()
	n.log = new(output.Buffer)
	n.process = exec.Command(build(n.t), "serve", "--config", n.config)
	if n.namespace != "" {
		n.process = exec.Command("ip", "netns", "exec", n.namespace, build(n.t), "serve", "--config", n.config)
	}
	n.process.Stderr, n.process.Stdout = n.log, n.log
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.ended = make(chan error, 1)
	go func(process *exec.Cmd, ended chan<- error) { ended <- process.Wait() }(n.process, n.ended)
	n.t.Cleanup(n.stop)
	wait(n.t, "the node to serve", func() bool {
		select {
		case err := <-n.ended:
			n.t.Fatalf("serve ended: %v\n%s", err, n.log)
		default:
		}
		return n.answers()
	})
}

// answers says whether the node serves.
func (n *node) answers() bool {
	if n.role != "gateway" {
		return exec.Command(build(n.t), "status", "--config", n.config).Run() == nil
	}
	response, err := http.Get("http://" + n.health + "/healthz")
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusNoContent
}

// stop ends the node as Ctrl-C does, and fails the test if it does not end cleanly.
func (n *node) stop() {
	if n.process == nil {
		return
	}
	n.process.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-n.ended:
		if err != nil {
			n.t.Errorf("serve ended with %v\n%s", err, n.log)
		}
	case <-time.After(patience):
		n.process.Process.Kill()
		n.t.Errorf("serve does not end\n%s", n.log)
	}
	n.process = nil
	if n.t.Failed() {
		n.t.Logf("log of the node:\n%s", n.log)
	}
}

// kill ends the node as a power cut of the process does.
func (n *node) kill() {
	n.process.Process.Kill()
	<-n.ended
	n.process = nil
}

// try runs a fieldgate command.
func (n *node) try(args ...string) (stdout string, err error) {
	command := exec.Command(build(n.t), append(args, "--config", n.config)...)
	var errors bytes.Buffer
	command.Stderr = &errors
	output, err := command.Output()
	if err != nil {
		err = fmt.Errorf("fieldgate %s: %w\n%s%s", strings.Join(args, " "), err, output, errors.Bytes())
	}
	return strings.TrimSpace(string(output)), err
}

// run is try for what has to work.
func (n *node) run(args ...string) string {
	n.t.Helper()
	output, err := n.try(args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return output
}

// record is a Record as "fieldgate traffic --output json" shows it.
type record struct {
	Protocol  string   `json:"protocol"`
	API       string   `json:"api"`
	Operation string   `json:"operation"`
	Principal string   `json:"principal"`
	Status    int      `json:"status"`
	Problem   string   `json:"problem"`
	Findings  []string `json:"findings"`
	Route     string   `json:"route"`
	Detail    string   `json:"detail"`
	Decided   string   `json:"decided"`
	Rule      string   `json:"rule"`
}

// records are the newest Records, as the admin API gives them.
func (n *node) records(query string) []record {
	n.t.Helper()
	var page struct {
		Items []record `json:"items"`
	}
	n.adminGet("/api/v1/traffic?limit=200"+query, &page)
	return page.Items
}

func (n *node) adminGet(path string, answer any) {
	n.t.Helper()
	n.adminCall(http.MethodGet, path, "", answer)
}

func (n *node) adminPost(path, body string, answer any) {
	n.t.Helper()
	n.adminCall(http.MethodPost, path, body, answer)
}

// adminCall calls the admin API with the operator's token; anything but success fails the test.
func (n *node) adminCall(method, path, body string, answer any) {
	n.t.Helper()
	token, err := os.ReadFile(filepath.Join(n.folder, "data", "operator.token"))
	if err != nil {
		n.t.Fatal(err)
	}
	request, err := http.NewRequest(method, "http://"+n.admin+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode > 299 {
		n.t.Fatalf("%s: %s", path, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		n.t.Fatal(err)
	}
}

// wait repeats a question until the answer is yes.
func wait(t testing.TB, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if yes() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// tool runs a real client with a time limit and gives what it printed, on both streams.
func tool(t testing.TB, name string, args ...string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(got), err
}

// mustTool is tool for what has to work.
func mustTool(t testing.TB, name string, args ...string) string {
	t.Helper()
	output, err := tool(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
	return output
}
