package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"fieldgate/api"
	"fieldgate/protocol/coap"
)

// newDirectoryNode is a node with a resource directory, which serves.
func newDirectoryNode(t *testing.T) *node {
	t.Helper()
	n := newNode(t, nil)
	settings, err := os.ReadFile(n.config)
	if err == nil {
		err = os.WriteFile(n.config, append(settings, "coap: {resource-directory: on}\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	n.start()
	return n
}

// lampDevice is a lamp: it registers, and counts what it is asked, at one port.
type lampDevice struct {
	*coap.UDP
	mu   sync.Mutex
	got  []string
	hold chan struct{} // until it is closed, the lamp does not answer; nil: it does
}

func newLampDevice(t *testing.T) *lampDevice {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l := &lampDevice{}
	l.UDP, err = coap.NewUDP(conn, coap.Config{}, 1, func(request *coap.Request, response *coap.Response) func(context.Context) {
		l.mu.Lock()
		l.got = append(l.got, request.Code.String()+" "+request.Path()+" "+string(request.Body))
		hold := l.hold
		l.mu.Unlock()
		response.Code = coap.Changed
		if hold == nil {
			return nil
		}
		return func(context.Context) { <-hold }
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *lampDevice) seen() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.got, ", ")
}

// register registers the lamp, which sleeps unless it says otherwise.
func (l *lampDevice) register(t *testing.T, n *node, token string, queueMode ...string) {
	t.Helper()
	if code := l.registers(t, n, token, queueMode...); code != coap.Created {
		t.Fatal(code)
	}
}

// registers is register with the code of the answer.
func (l *lampDevice) registers(t *testing.T, n *node, token string, queueMode ...string) coap.Code {
	t.Helper()
	call := &coap.Call{Code: coap.POST, Body: []byte(`</example_data>;rt="note"`)}
	call.Options.AddString(coap.URIPath, "rd")
	call.Options.AddUint(coap.ContentFormat, coap.LinkFormat)
	call.Options.AddString(coap.URIQuery, append(queueMode, "Q")[0])
	call.Options.AddString(65002, token)
	reply, err := l.Do(t.Context(), netip.MustParseAddrPort(n.coap), call)
	if err != nil {
		t.Fatal(err)
	}
	return reply.Code
}

// leaveNote has a gateway leave a note at a lamp.
func (n *node) leaveNote(t *testing.T, app, lamp, note string, want int) {
	t.Helper()
	if status, body := n.lamp(t, "PUT", app, lamp, "note", note); status != want {
		t.Fatalf("%s: %d %s, want %d", note, status, body, want)
	}
}

// lamp asks a gateway for something of a lamp.
func (n *node) lamp(t *testing.T, method, app, lamp, what, body string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+n.http+"/lamps/"+lamp+"/"+what, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+app)
	request.Header.Set("Content-Type", "text/plain")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(got)
}

func (n *node) deviceCommands(t *testing.T, device string) []api.DeviceCommand {
	t.Helper()
	var list struct{ Items []api.DeviceCommand }
	if err := json.Unmarshal([]byte(n.run("device", "commands", device, "--output", "json")), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// A command that was acknowledged is carried out once, though the gateway is killed before it could be sent.
func TestCommandsOverAKill(t *testing.T) {
	t.Parallel() // it mostly waits
	n := newDirectoryNode(t)
	n.run("api", "publish", "../examples/lamp.openapi.yaml")
	token := strings.TrimSpace(n.run("device", "add", "lamp-7", "--quiet"))
	app := strings.TrimSpace(n.run("app", "add", "wall", "--scope", "lamps.write", "--quiet"))
	for _, note := range []string{"none", "one", "two"} {
		n.leaveNote(t, app, "lamp-7", note, 202)
	}
	n.run("device", "cancel", "lamp-7", n.deviceCommands(t, "lamp-7")[2].Id) // the newest is the first
	n.kill()
	n.start()
	lamp := newLampDevice(t)
	lamp.register(t, n, token)
	answered := func() bool {
		all := n.deviceCommands(t, "lamp-7")
		for _, c := range all[:2] {
			if c.State != api.CommandAnswered || c.Attempts != 1 {
				return false
			}
		}
		return len(all) == 3 && all[2].State == api.CommandCancelled
	}
	wait(t, "both commands to be answered", answered)
	n.kill()
	n.start()
	if shown := n.run("device", "show", "lamp-7"); !strings.Contains(shown, "</example_data>") {
		t.Error("the registration is gone after a kill:", shown)
	}
	lamp.register(t, n, token)
	if !answered() {
		t.Error("what became of the commands is not known after a kill")
	}
	if got := lamp.seen(); got != "PUT /example_data one, PUT /example_data two" {
		t.Errorf("not in their order, or not once: %s", got)
	}
}

// Three gateways share one directory: what is asked at any of them reaches the device, and a gateway that is killed while it sends takes nothing
// with it, nor has it carried out a second time.
func TestDeviceOfThreeGateways(t *testing.T) {
	t.Parallel() // it mostly waits
	e := newEngines(t)
	control := e.member(t, "control", "c1")
	g := []*node{e.member(t, "gateway", "g1"), e.member(t, "gateway", "g2"), e.member(t, "gateway", "g3")}
	control.start()
	for _, n := range g {
		n.extend("coap: {resource-directory: on}")
		n.start()
	}
	waitForGateways(t, control, 3)
	contract, err := os.ReadFile("../examples/lamp.openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	control.run("api", "publish", writeDocument(t, "lamp.yaml", strings.Replace(string(contract), "    put:", "    post:", 1))) // what is not to be sent twice
	app := control.run("app", "add", "wall", "--scope", "lamps.write", "--quiet")
	post := func(n *node, lamp, note string, want int) {
		t.Helper()
		wait(t, n.name+" knows contract, device and app", func() bool {
			status, answer := n.lamp(t, "POST", app, lamp, "note", note)
			if status != want && status != 404 && status != 401 && status != 409 && status != 502 {
				t.Fatalf("%s at %s: %d %s, want %d", note, n.name, status, answer, want)
			}
			return status == want
		})
	}
	token, lamp := control.run("device", "add", "lamp-7", "--quiet"), newLampDevice(t)
	wait(t, "g1 to know the lamp", func() bool { return lamp.registers(t, g[0], token, "Q=0") == coap.Created })
	post(g[1], "lamp-7", "now", 204)
	control.run("device", "send", "lamp-7", "/example_data", "operator", "--method", "PUT")

	// One that sleeps is at it when its gateway is killed.
	sleeperToken, sleeper := control.run("device", "add", "lamp-8", "--quiet"), newLampDevice(t)
	wait(t, "g1 to know the other lamp", func() bool { return sleeper.registers(t, g[0], sleeperToken) == coap.Created })
	hold := make(chan struct{})
	sleeper.mu.Lock()
	sleeper.hold = hold
	sleeper.mu.Unlock()
	post(g[1], "lamp-8", "one", 202)
	wait(t, "the lamp to be at it", func() bool { return strings.HasSuffix(sleeper.seen(), "one") })
	post(g[2], "lamp-8", "two", 202)
	g[0].kill()
	sleeper.mu.Lock()
	sleeper.hold = nil
	sleeper.mu.Unlock()
	close(hold)
	sleeper.register(t, g[2], sleeperToken)
	wait(t, "the commands to be settled", func() bool {
		all := control.deviceCommands(t, "lamp-8") // the newest first
		return len(all) == 2 && all[0].State == api.CommandAnswered && all[0].Attempts == 1 && all[1].State == api.CommandUnanswered && all[1].Attempts == 1
	})
	lamp.register(t, g[1], token, "Q=0")
	if status, answer := g[2].lamp(t, "POST", app, "lamp-7", "note", "last"); status != 204 && status != 202 { // or it waits, as g3 knows no better yet than to ask g1
		t.Error(status, answer)
	}
	wait(t, "the lamp to have the last note", func() bool { return strings.HasSuffix(lamp.seen(), "last") })
	if got := lamp.seen(); got != "POST /example_data now, PUT /example_data operator, POST /example_data last" {
		t.Error(got)
	}
	if got := sleeper.seen(); got != "POST /example_data one, POST /example_data two" {
		t.Error(got)
	}
}

// libcoap's client registers libcoap's server.
func TestLibcoapRegisters(t *testing.T) {
	if _, err := exec.LookPath("coap-client-notls"); err != nil {
		t.Fatal("libcoap3-bin is needed")
	}
	t.Parallel() // it mostly waits
	n := newDirectoryNode(t)
	token := strings.TrimSpace(n.run("device", "add", "d1", "--quiet"))
	ask := func(arguments ...string) string {
		t.Helper()
		var out bytes.Buffer
		command := exec.Command("coap-client-notls", append([]string{"-B", "60", "-v", "6", "-O", "65002," + token}, arguments...)...)
		command.Stdout, command.Stderr = &out, &out
		if err := command.Run(); err != nil {
			t.Fatalf("%v: %s", err, &out)
		}
		return out.String()
	}
	base := "coap://" + n.coap
	large := "</t>;rt=\"" + strings.Repeat("temperature ", 250) + "\"" // in several blocks
	for _, test := range []struct {
		want      string
		arguments []string
	}{
		{"2.01", []string{"-m", "post", "-t", "40", "-e", `</t>;rt="t"`, base + "/rd?ep=d1&lt=300"}},
		{"Location-Path:d1", []string{"-m", "post", "-t", "40", "-b", "64", "-e", large, base + "/rd?ep=d1&lt=300"}},
		{"2.04", []string{"-m", "post", base + "/rd/d1?lt=600"}},
		{"4.03", []string{"-m", "post", "-t", "40", "-e", "</t>", base + "/rd?ep=d2"}},
		{"4.00", []string{"-m", "post", "-t", "40", "-e", "</t", base + "/rd?ep=d1"}},
		{"4.15", []string{"-m", "post", "-t", "50", "-e", "{}", base + "/rd?ep=d1"}},
		{"core.rd-lookup-ep", []string{base + "/.well-known/core?rt=core.rd*"}},
		{"2.02", []string{"-m", "delete", base + "/rd/d1"}},
		{"4.04", []string{"-m", "post", base + "/rd/d1"}},
	} {
		if got := ask(test.arguments...); !strings.Contains(got, test.want) {
			t.Errorf("%v: %s is not in %s", test.arguments, test.want, got)
		}
	}
}

// A device of the npm package coap registers, and is read and written to; a long answer comes in blocks.
func TestNpmDevice(t *testing.T) {
	t.Parallel() // it mostly waits
	n := newDirectoryNode(t)
	host, port, err := net.SplitHostPort(n.coap)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := json.Marshal(map[string]string{"host": host, "port": port, "token": strings.TrimSpace(n.run("device", "add", "n1", "--quiet"))})
	if err != nil {
		t.Fatal(err)
	}
	device := exec.Command("node", "clients/coap_device.mjs", string(settings))
	stdin, err := device.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := device.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	device.Stderr = os.Stderr
	if err := device.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := device.Wait(); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "registered 2.01\n" {
		t.Fatal(line, err)
	}
	if got := n.run("device", "read", "n1", "/temperature", "--query", "unit=C"); got != "GET /temperature?unit=C" {
		t.Errorf("%q", got)
	}
	if got := n.run("device", "send", "n1", "/reset"); got != "POST /reset" {
		t.Errorf("%q", got)
	}
	if got := n.run("device", "send", "n1", "/name", "lamp", "--method", "PUT"); got != "PUT /name lamp" {
		t.Errorf("%q", got)
	}
	if got := n.run("device", "read", "n1", "/large"); !same([]byte(got), bytes.Repeat([]byte("0123456789"), 800)) { // in blocks
		t.Errorf("%d bytes came, or they differ", len(got))
	}
}
