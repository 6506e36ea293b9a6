package test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fieldgate/protocol/mqtt"
	"fieldgate/test/port"
	"fieldgate/test/smalldisk"
)

// neighbour is a well-behaved device that works on over HTTP and MQTT while others do not behave.
type neighbour struct {
	n               *node
	token           string
	calls, failures atomic.Int64
	stopping, ended chan struct{}
	firstFailure    atomic.Pointer[string]
}

func (n *node) neighbour() *neighbour {
	b := &neighbour{n: n, token: n.run("device", "add", "good", "--quiet"), stopping: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		for {
			select {
			case <-b.stopping:
				return
			case <-time.After(20 * time.Millisecond):
			}
			b.calls.Add(2)
			if err := b.overHTTP(); err != nil {
				b.fail(err)
			}
			if err := b.overMQTT(); err != nil {
				b.fail(err)
			}
		}
	}()
	return b
}

func (b *neighbour) fail(err error) {
	text := err.Error()
	b.firstFailure.CompareAndSwap(nil, &text)
	b.failures.Add(1)
}

func (b *neighbour) overHTTP() error {
	request, err := http.NewRequest("POST", "http://"+b.n.http+"/any", strings.NewReader(`{"n":1}`))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+b.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != 204 {
		return fmt.Errorf("HTTP %s", response.Status)
	}
	return nil
}

func (b *neighbour) overMQTT() error {
	connection, err := net.Dial("tcp", b.n.mqtt)
	if err != nil {
		return err
	}
	client, err := mqtt.Dial(b.n.t.Context(), connection, mqtt.ClientOptions{ClientID: "good", Username: "good", Password: b.token})
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Publish(b.n.t.Context(), &mqtt.Publish{Topic: []byte("any/good"), QoS: 1, Payload: []byte(`{"n":1}`)})
}

// stop ends the neighbour; nothing that others did may have cost it a call.
func (b *neighbour) stop() {
	b.n.t.Helper()
	close(b.stopping)
	<-b.ended
	if b.failures.Load() != 0 || b.calls.Load() == 0 {
		b.n.t.Errorf("%d of %d calls of a well-behaved device failed, the first with %s", b.failures.Load(), b.calls.Load(), *b.firstFailure.Load())
	}
}

// Each bad input has a clear answer, and costs nobody else anything.
func TestBadInput(t *testing.T) {
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(hanging.Close)
	t.Cleanup(func() { close(release) })
	n := newNode(t, map[string]string{"hangs": hanging.URL, "away": "http://" + port.Free(t)})
	n.start()
	n.run("api", "publish", "testdata/any.openapi.yaml")
	good := n.neighbour()
	token := n.run("device", "add", "bad", "--quiet")
	revoked := n.run("device", "add", "gone", "--quiet")
	n.run("device", "revoke", "gone")

	file := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	curl := func(token, path string, more ...string) string {
		return mustTool(t, "curl", append([]string{"-sS", "-i", "-H", "Authorization: Bearer " + token, "-H", "Content-Type: application/json", "http://" + n.http + path}, more...)...)
	}
	refused := func(args ...string) string {
		output, err := n.try(args...)
		if err == nil {
			t.Errorf("fieldgate %v is accepted: %s", args, output)
			return output
		}
		return err.Error()
	}
	other, err := os.ReadFile("testdata/any.openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	send := func(network, address string, bytes string) {
		connection, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		connection.Write([]byte(bytes))
		connection.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		connection.Read(make([]byte, 100))
	}
	for _, c := range []struct {
		name  string
		wants []string
		do    func() string
	}{
		{"broken YAML", []string{"broken.yaml:3:1: error"}, func() string {
			return refused("api", "publish", file("broken.yaml", "openapi: 3.1.0\ninfo: {title: [\n"))
		}},
		{"a contract that contradicts itself", []string{"twice.yaml:29:7: error", "the first is in line 9", "give each operation an id of its own"}, func() string {
			return refused("api", "publish", file("twice.yaml", strings.Replace(string(other), "operationId: hang", "operationId: any", 1)))
		}},
		{"two contracts on one route", []string{"any-thing 1.0.0"}, func() string {
			return refused("api", "publish", file("other.yaml", strings.Replace(string(other), "api: any-thing", "api: other-thing", 1)))
		}},
		{"a payload of 1 GiB", []string{"413", "too-large"}, func() string {
			return curl(token, "/any", "-H", "Content-Length: 1073741824", "-H", "Expect:", "-d", "x", "--max-time", "60")
		}},
		{"10,000 nested arrays", []string{"422", "invalid-payload"}, func() string {
			return curl(token, "/any", "-d", "@"+file("deep.json", strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000)))
		}},
		{"a wrong token", []string{"401", "unauthenticated"}, func() string {
			other := map[bool]string{true: "y", false: "x"}[strings.HasSuffix(token, "x")]
			return curl(token[:39]+other, "/any", "-d", `{"n":1}`)
		}},
		{"a revoked token", []string{"401", "unauthenticated"}, func() string { return curl(revoked, "/any", "-d", `{"n":1}`) }},
		{"an upstream that hangs", []string{"504", "upstream-timeout"}, func() string { return curl(token, "/hang", "-d", `{"n":1}`) }},
		{"an upstream that is away", []string{"502", "upstream-unreachable"}, func() string { return curl(token, "/away", "-d", `{"n":1}`) }},
		{"an upstream that hangs, over CoAP", []string{"5.04"}, func() string {
			return mustTool(t, "coap-client-notls", "-v", "6", "-B", "60", "-m", "post", "-t", "50", "-e", "{%22n%22:1}", "-O", "65002,"+token, "coap://"+n.coap+"/hang")
		}},
		{"an upstream that is away, over CoAP", []string{"5.02"}, func() string {
			return mustTool(t, "coap-client-notls", "-v", "6", "-B", "60", "-m", "post", "-t", "50", "-e", "{%22n%22:1}", "-O", "65002,"+token, "coap://"+n.coap+"/away")
		}},
		{"an upstream that is away, over MQTT", []string{"status:502"}, func() string {
			host, port, _ := net.SplitHostPort(n.mqtt)
			output, _ := tool(t, "mosquitto_rr", "-V", "mqttv5", "-h", host, "-p", port, "-u", "bad", "-P", token, "-q", "1", "-t", "away/bad", "-e", "fg/bad/reply", "-m", `{"n":1}`, "-W", "60", "-F", "%P")
			return output
		}},
		{"an unknown MQTT packet type", nil, func() string { send("tcp", n.mqtt, "\x00\x00"); return "" }},
		{"MQTT that is no MQTT", nil, func() string { send("tcp", n.mqtt, "GET / HTTP/1.1\r\n\r\n"); return "" }},
		{"an MQTT packet of 256 MiB", nil, func() string { send("tcp", n.mqtt, "\x10\xff\xff\xff\x7f"); return "" }},
		{"a CoAP datagram of one byte", nil, func() string { send("udp", n.coap, "\x40"); return "" }},
		{"an empty CoAP datagram", nil, func() string { send("udp", n.coap, ""); return "" }},
		{"HTTP with two lengths", nil, func() string {
			send("tcp", n.http, "POST /any HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx")
			return ""
		}},
		{"an unknown device", []string{"device list"}, func() string { return refused("device", "show", "nobody") }},
		{"a mistyped command", []string{"publish"}, func() string { return refused("api", "publsh", "x.yaml") }},
	} {
		output := c.do()
		for _, want := range c.wants {
			if !strings.Contains(output, want) {
				t.Errorf("%s: the answer lacks %q:\n%.2000s", c.name, want, output)
			}
		}
	}
	good.stop()
}

// A full disk: decisions and messages are refused with a clear answer, none is lost, and with room it goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel() // it mostly waits
	n := newNode(t, nil)
	data := filepath.Join(n.folder, "data")
	token, err := os.ReadFile(filepath.Join(data, "operator.token"))
	if err != nil {
		t.Fatal(err)
	}
	smalldisk.Mount(t, data, 48)
	if err := os.WriteFile(filepath.Join(data, "operator.token"), token, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.run("api", "publish", "testdata/any.openapi.yaml")
	device := n.run("device", "add", "d1", "--quiet")
	publish := func(number int) error {
		connection, err := net.Dial("tcp", n.mqtt)
		if err != nil {
			return err
		}
		client, err := mqtt.Dial(t.Context(), connection, mqtt.ClientOptions{ClientID: "d1", Username: "d1", Password: device})
		if err != nil {
			return err
		}
		defer client.Close()
		return client.Publish(t.Context(), &mqtt.Publish{Topic: []byte("kept/d1"), QoS: 1, Retain: true, Payload: fmt.Appendf(nil, `{"n":%d,"padding":%q}`, number, strings.Repeat("x", 16<<10))})
	}
	if err := publish(1); err != nil {
		t.Fatal(err)
	}

	filler := filepath.Join(data, "filler")
	if output, err := tool(t, "dd", "if=/dev/zero", "of="+filler, "bs=64k"); err == nil {
		t.Fatalf("the disk is not full: %s", output)
	}
	mustTool(t, "sh", "-c", "cat /dev/zero > "+filler+"2 2>/dev/null || true")
	if output, err := n.try("device", "add", "d2"); err == nil || !strings.Contains(err.Error(), "disk space") {
		t.Errorf("a device is added on a full disk: %s %v", output, err)
	}
	if err := publish(2); err == nil {
		t.Error("a retained message is acknowledged on a full disk")
	}
	// What needs no disk goes on.
	call := func(times int) {
		t.Helper()
		for range times {
			if err := (&neighbour{n: n, token: device}).overHTTP(); err != nil {
				t.Fatalf("on a full disk, or after it: %v", err)
			}
			http.DefaultClient.CloseIdleConnections() // calls of one connection would share Records
		}
	}
	call(500)

	watcher := n.watch()
	wait(t, "the console to be told that the bus takes nothing", func() bool { _, is := watcher.find("bus", ""); return is })
	for _, file := range []string{filler, filler + "2"} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "decisions to be taken again", func() bool { _, err := n.try("device", "add", "d3"); return err == nil })
	wait(t, "messages to be kept again", func() bool { return publish(3) == nil })
	// The stream of Records goes on, too, without a restart: those of the meantime had to wait, and none was lost.
	call(100)
	wait(t, "the exchanges to be counted", func() bool { return n.exchanges() >= 600 })
	if text := n.run("status"); strings.Contains(text, "never arrived") || strings.Contains(text, "dropped") {
		t.Error(text)
	}
	n.kill()
	n.start()
	host, port, _ := net.SplitHostPort(n.mqtt)
	app := n.run("app", "add", "reader", "--quiet")
	wait(t, "the retained message", func() bool {
		output, _ := tool(t, "mosquitto_sub", "-h", host, "-p", port, "-u", "reader", "-P", app, "-t", "kept/d1", "-C", "1", "-W", "2")
		return strings.Contains(output, `{"n":3,`)
	})
	for _, id := range []string{"d1", "d3"} {
		n.run("device", "show", id)
	}
}

// Files that are damaged are set aside with a message, and the gateway gets what it needs again.
func TestCorruptFiles(t *testing.T) {
	t.Parallel() // it mostly waits
	n := newNode(t, nil)
	n.start()
	n.run("api", "publish", "testdata/any.openapi.yaml")
	token := n.run("device", "add", "d1", "--quiet")
	works := func() bool {
		output, _ := tool(t, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Authorization: Bearer "+token, "-H", "Content-Type: application/json", "-d", `{"n":1}`, "http://"+n.http+"/any")
		return output == "204"
	}
	wait(t, "the first call", works)
	n.stop()
	gateway := filepath.Join(n.folder, "data", "gateway")
	for _, name := range []string{"snapshot", "directory/directory.log"} {
		path := filepath.Join(gateway, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/3] ^= 0x55
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.start()
	wait(t, "the call after the damage", works)
	if log := n.log.String(); strings.Count(log, "set aside") < 2 {
		t.Errorf("the log does not say what was set aside:\n%s", log)
	}
	for _, pattern := range []string{"snapshot.corrupt-*", "directory/directory.log.corrupt-*"} {
		if found, _ := filepath.Glob(filepath.Join(gateway, pattern)); len(found) != 1 {
			t.Errorf("%s: %v", pattern, found)
		}
	}
}

// flood opens connections to the node's HTTP listener, so many from each of several addresses, sends the same on all and leaves them.
func (n *node) flood(counts map[string]int, send string) (links []net.Conn) {
	n.t.Helper()
	var opening sync.WaitGroup
	var mu sync.Mutex
	for source, count := range counts {
		opening.Go(func() {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: patience}
			for range count {
				link, err := dialer.Dial("tcp", n.http)
				if err != nil {
					n.t.Error(err)
					return
				}
				if send != "" {
					link.Write([]byte(send)) // who sends too much is thrown out meanwhile
				}
				mu.Lock()
				links = append(links, link)
				mu.Unlock()
			}
		})
	}
	opening.Wait()
	return links
}

func closeAll(links []net.Conn) {
	for _, link := range links {
		link.Close()
	}
}

// Thousands of connections (20,000 in the soak) that are opened and left, or that send without end, cost bounded memory, cost others nothing, and leave
// nothing behind.
func TestHTTPFloods(t *testing.T) {
	if testing.Short() {
		t.Skip("floods take a minute")
	}
	const each = 5_000 // connections that one address may have
	connections, rounds := 8_000, 2
	if os.Getenv("FIELDGATE_SOAK_ROUNDS") != "" {
		connections, rounds = 20_000, 4
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < uint64(connections)+2000 { // the node and the test may open so many files each
		connections = int(limit.Max) - 2000
	}
	others := (connections - each) / 3
	connections = each + 3*others
	counts := map[string]int{"127.0.0.2": each, "127.0.0.3": others, "127.0.0.4": others, "127.0.0.5": others}
	n := newNode(t, nil)
	n.start()
	n.run("api", "publish", "testdata/any.openapi.yaml")
	good := n.neighbour()
	descriptors, memory := n.descriptors(), n.memory()
	back := func() { // the neighbour has some of its own
		t.Helper()
		wait(t, "the connections to be given up", func() bool { return n.descriptors() < descriptors+50 })
	}

	held := make([]int, rounds)
	for round := range held {
		links := n.flood(counts, "")
		wait(t, "the connections to be accepted", func() bool { return n.descriptors() >= descriptors+connections-50 })
		held[round] = n.memory()
		// Whoever opens one more than an address may have sees it closed without a byte.
		link, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", n.http)
		if err != nil {
			t.Fatal(err)
		}
		link.SetDeadline(time.Now().Add(patience))
		link.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
		if got, err := link.Read(make([]byte, 1)); got != 0 || err == nil {
			t.Errorf("connection %d of one address is served", each+1)
		}
		link.Close()
		closeAll(links)
		back()
	}
	if most := memory + connections*16<<10; held[0] > most {
		t.Errorf("%d connections cost %d bytes each", connections, (held[0]-memory)/connections)
	}
	// Twice as much is the garbage collector's, which waits for that; a leak would grow with each.
	if last := held[len(held)-1]; rounds > 2 && last-memory > 5*(held[0]-memory)/2 {
		t.Errorf("each flood costs more than the one before: %v bytes, %d before", held, memory)
	}
	t.Logf("%d idle connections: %d bytes each", connections, (held[0]-memory)/connections)

	// Heads that do not end, in time or in size; and requests whose answers nobody reads.
	for name, send := range map[string]string{
		"slow heads":           "POST /any HTTP/1.1\r\nHost: a\r\nX: ",
		"fields without end":   "POST /any HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 10_000),
		"a field without end":  "POST /any HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 100_000),
		"a target without end": "GET /" + strings.Repeat("y", 100_000),
		"pipelined requests":   strings.Repeat("GET /any HTTP/1.1\r\nHost: a\r\n\r\n", 100) + "GET",
	} {
		links := n.flood(map[string]int{"127.0.0.2": 500, "127.0.0.3": 500}, send)
		if most := held[0] + 200<<20; n.memory() > most {
			t.Errorf("%s: %d bytes are held", name, n.memory())
		}
		var answered atomic.Int64
		var reading sync.WaitGroup
		for _, link := range links { // until the node has had enough of each
			reading.Go(func() {
				link.SetReadDeadline(time.Now().Add(patience))
				buf := make([]byte, 32<<10)
				if got, _ := link.Read(buf); got > 12 && string(buf[:10]) == "HTTP/1.1 4" {
					answered.Add(1)
				}
				for {
					if _, err := link.Read(buf); err != nil {
						if err, slow := err.(net.Error); slow && err.Timeout() {
							t.Errorf("%s: a connection is kept", name)
						}
						return
					}
				}
			})
		}
		reading.Wait()
		closeAll(links)
		back()
		if answered.Load() < int64(len(links))/2 { // the others' answers were lost with what they still sent
			t.Errorf("%s: %d of %d connections were told what is wrong", name, answered.Load(), len(links))
		}
	}
	good.stop()
}
