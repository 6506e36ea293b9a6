package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fieldgate/test/port"
)

const (
	// patience bounds every wait for something that has to happen. It is no measurement: on a slow machine it happens later.
	patience = time.Minute
	// journeyLimit bounds one journey, which waits for many things.
	journeyLimit = 10 * time.Minute

	screenshots = "screenshots" // kept for people to look at, not committed
	ownerName   = "ana"         // as in harness.mjs
	ownerSecret = "correct horse battery"
)

// A fleet that lives: every page with something on it, and what people do there. The journeys touch different things, so they run
// beside each other.
func TestLivingFleet(t *testing.T) {
	t.Parallel()
	demo := startDemo(t)
	demo.claim()
	for _, j := range []struct {
		name      string
		essential bool
	}{
		{"pages-of-contracts", true},
		{"pages-of-the-fleet", true},
		{"keyboard", true},
		{"first-page", true},
		{"getting-around", false},
		{"contracts", false},
		{"credentials", false},
		{"two-operators", false},
		{"live", false},
		{"themes", false},
	} {
		t.Run(j.name, func(t *testing.T) {
			if !j.essential && testing.Short() {
				t.Skip("not essential")
			}
			t.Parallel()
			demo.journey(t, j.name)
		})
	}
}

// An installation of one's own, from its first minute on: each journey goes on where the one before ended.
func TestOwnInstallation(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.start()
	for _, name := range []string{"sign-in", "first-exchange", "upstreams", "mqtt", "coap"} {
		t.Run(name, func(t *testing.T) { n.journey(t, name) })
	}
	if testing.Short() {
		return
	}
	t.Run("many-devices", func(t *testing.T) {
		var lines strings.Builder
		for i := range 10_000 {
			fmt.Fprintf(&lines, "{\"id\":\"sensor-%05d\",\"model\":\"T2\",\"firmware\":\"2.%d.0\"}\n", i, i%7)
		}
		path := filepath.Join(t.TempDir(), "devices.ndjson")
		if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		n.run("device", "import", path, "--tokens", path+".tokens")
		n.journey(t, "many-devices")
	})
	t.Run("restart", func(t *testing.T) { n.journey(t, "restart") })
}

// node is an installation that the journeys look at.
type node struct {
	t                 *testing.T
	config, data, log string
	console           string // http://host:port
	cookie            string // of the owner's session
	process           *exec.Cmd
	ended             chan error
}

// startDemo runs "fieldgate demo" until the test ends, and takes the console's address and link from what it prints.
func startDemo(t *testing.T) *node {
	folder := t.TempDir()
	n := &node{t: t, data: folder, config: filepath.Join(folder, "fieldgate.yaml"), log: filepath.Join(folder, "output")}
	n.spawn("demo", "--data", folder, "--free-ports")
	link := n.await(regexp.MustCompile(`(http://[^/\s]+)/#token=\S+`))
	n.console = link[1]
	n.cookie = n.signIn(link[0][strings.Index(link[0], "=")+1:])
	return n
}

// newNode prepares an installation on free ports; the service behind it stores whatever it is handed.
func newNode(t *testing.T) *node {
	folder := t.TempDir()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(service.Close)
	n := &node{t: t, data: filepath.Join(folder, "data"), config: filepath.Join(folder, "fieldgate.yaml"), log: filepath.Join(folder, "output")}
	n.run("init", "--data", n.data)
	admin := port.Free(t)
	n.console = "http://" + admin
	text := fmt.Sprintf("node: n1\ndata: data\nlisten: {http: '%s', mqtt: '%s', coap: '%s', coaps: '%s', admin: '%s'}\nupstreams:\n  ingest: {addresses: ['http://%s']}\n"+
		"  therapy: {discover: {registered: true}, health: {tcp: true, interval: 200ms, unhealthy: 1, healthy: 1}}\n",
		port.Free(t), port.Free(t), port.Free(t), port.Free(t), admin, service.Listener.Addr())
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) start() {
	n.spawn("serve", "--config", n.config)
	n.await(regexp.MustCompile(`"msg":"ready"`))
}

func (n *node) spawn(args ...string) {
	n.t.Helper()
	output, err := os.Create(n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	defer output.Close()
	n.process = exec.Command(build(n.t), args...)
	n.process.Stdout, n.process.Stderr = output, output
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.ended = make(chan error, 1)
	go func(process *exec.Cmd, ended chan<- error) { ended <- process.Wait() }(n.process, n.ended)
	n.t.Cleanup(n.stop)
}

// await waits until the process has printed what fits the pattern.
func (n *node) await(pattern *regexp.Regexp) []string {
	n.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		output, err := os.ReadFile(n.log)
		if err != nil {
			n.t.Fatal(err)
		}
		if found := pattern.FindStringSubmatch(string(output)); found != nil {
			return found
		}
		select {
		case err := <-n.ended:
			n.t.Fatalf("it ended: %v\n%s", err, output)
		default:
		}
		if time.Now().After(end) {
			n.t.Fatalf("waited %v for %v in\n%s", patience, pattern, output)
		}
	}
}

// stop ends the process as Ctrl-C does; it has to end cleanly.
func (n *node) stop() {
	if n.process == nil {
		return
	}
	n.process.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-n.ended:
		if err != nil {
			n.t.Errorf("it ended with %v", err)
		}
	case <-time.After(patience):
		n.process.Process.Kill()
		n.t.Error("it does not end")
	}
	n.process = nil
	if n.t.Failed() {
		output, _ := os.ReadFile(n.log)
		n.t.Logf("what the node printed:\n%s", output)
	}
}

// kill ends the process as a power cut does.
func (n *node) kill() {
	n.process.Process.Kill()
	<-n.ended
	n.process = nil
}

// run is a fieldgate command that has to work.
func (n *node) run(args ...string) string {
	n.t.Helper()
	command := exec.Command(build(n.t), append(args, "--config", n.config)...)
	var notes bytes.Buffer
	command.Stderr = &notes
	output, err := command.Output()
	if err != nil {
		n.t.Fatalf("fieldgate %s: %v\n%s", strings.Join(args, " "), err, &notes)
	}
	return strings.TrimSpace(string(output))
}

// signIn redeems a one-time token, and gives the session's cookie.
func (n *node) signIn(token string) string {
	n.t.Helper()
	return n.post("/api/v1/session", map[string]string{"token": token}, "")
}

// claim makes the owner that the journeys are.
func (n *node) claim() {
	n.t.Helper()
	n.cookie = n.post("/api/v1/claim", map[string]string{"name": ownerName, "password": ownerSecret}, n.cookie)
}

// post sends what the console would, and gives the session cookie that the answer sets.
func (n *node) post(path string, body any, cookie string) string {
	n.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		n.t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodPost, n.console+path, bytes.NewReader(encoded))
	if err != nil {
		n.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Origin", n.console)
	if cookie != "" {
		request.Header.Set("Cookie", cookie)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer answer.Body.Close()
	cookies := answer.Cookies()
	if answer.StatusCode/100 != 2 || len(cookies) == 0 {
		text, _ := io.ReadAll(answer.Body)
		n.t.Fatalf("%s: %s\n%s", path, answer.Status, text)
	}
	return cookies[0].Name + "=" + cookies[0].Value
}

// journey runs one module against this installation.
func (n *node) journey(t *testing.T, name string) {
	t.Helper()
	operatorToken, err := os.ReadFile(filepath.Join(n.data, "operator.token"))
	if err != nil {
		t.Fatal(err)
	}
	// By which the restart is asked for.
	control := http.NewServeMux()
	control.HandleFunc("POST /kill", func(http.ResponseWriter, *http.Request) { n.kill() })
	control.HandleFunc("POST /start", func(http.ResponseWriter, *http.Request) { n.start() })
	server := httptest.NewServer(control)
	defer server.Close()

	folder, err := filepath.Abs(screenshots)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), journeyLimit)
	defer cancel()
	command := exec.CommandContext(ctx, "node", name+".mjs")
	command.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "BROWSER="+chromium(t), "CONSOLE="+n.console, "CONFIG="+n.config, "CONTROL="+server.URL, "FIELDGATE="+build(t),
		"OPERATOR_TOKEN="+strings.TrimSpace(string(operatorToken)), "OWNER_COOKIE="+n.cookie,
		fmt.Sprintf("PATIENCE=%d", patience.Milliseconds()), "SCREENSHOTS="+folder)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if len(output) > 0 {
		t.Logf("%s", output)
	}
}

var installed struct {
	sync.Once
	folder, path string
	err          error
}

// build compiles the command once for all tests, with the console in it.
func build(t *testing.T) string {
	t.Helper()
	installed.Do(func() {
		for _, needed := range []string{"../../console/dist/app/index.html", "../../console/node_modules/playwright-core", "../../console/node_modules/axe-core"} {
			if _, err := os.Stat(needed); err != nil {
				installed.err = fmt.Errorf("run \"make console\" first: %w", err)
				return
			}
		}
		installed.path = filepath.Join(installed.folder, "fieldgate")
		if output, err := exec.Command("go", "build", "-o", installed.path, "fieldgate/cmd/fieldgate").CombinedOutput(); err != nil {
			installed.err = fmt.Errorf("%w\n%s", err, output)
		}
	})
	if installed.err != nil {
		t.Fatal(installed.err)
	}
	return installed.path
}

var running struct {
	sync.Once
	input   io.Closer
	process *exec.Cmd
	address string
	err     error
}

// chromium starts the one browser of all journeys; each has windows of its own in it.
func chromium(t *testing.T) string {
	t.Helper()
	running.Do(func() {
		path, err := exec.LookPath("chromium")
		if err != nil {
			running.err = fmt.Errorf("run \"make tools\" first: %w", err)
			return
		}
		running.process = exec.Command("node", "chromium.mjs")
		running.process.Env = append(os.Environ(), "CHROMIUM="+path)
		running.process.Stderr = os.Stderr
		input, err := running.process.StdinPipe()
		if err != nil {
			running.err = err
			return
		}
		output, err := running.process.StdoutPipe()
		if err != nil {
			running.err = err
			return
		}
		if running.err = running.process.Start(); running.err != nil {
			return
		}
		running.input = input
		running.address, running.err = bufio.NewReader(output).ReadString('\n')
		running.address = strings.TrimSpace(running.address)
	})
	if running.err != nil {
		t.Fatal(running.err)
	}
	return running.address
}

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "fieldgate-browser-")
	if err != nil {
		panic(err)
	}
	if err := os.MkdirAll(screenshots, 0o755); err != nil {
		panic(err)
	}
	installed.folder = folder
	code := m.Run()
	if running.input != nil {
		running.input.Close()
		running.process.Wait()
	}
	os.RemoveAll(folder)
	os.Exit(code)
}
