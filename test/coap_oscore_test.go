package test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/oscore"
)

// oscoreDevice is a device that protects what it sends by a context of package oscore, over a socket of its own.
type oscoreDevice struct {
	t       *testing.T
	conn    *net.UDPConn
	context *oscore.Context
	id      uint16
	sent    []byte          // the newest datagram
	numbers map[string]bool // that responses have had
}

// newOSCOREDevice has the context that a command has written.
func newOSCOREDevice(t *testing.T, n *node, written string) *oscoreDevice {
	t.Helper()
	var c api.OscoreContext
	if err := json.Unmarshal([]byte(written), &c); err != nil {
		t.Fatal(err)
	}
	config := oscore.Config{}
	for text, to := range map[*string]*[]byte{&c.MasterSecret: &config.MasterSecret, &c.MasterSalt: &config.MasterSalt, &c.SenderId: &config.SenderID, &c.RecipientId: &config.RecipientID} {
		var err error
		if *to, err = hex.DecodeString(*text); err != nil {
			t.Fatal(err)
		}
	}
	if c.IdContext != "" {
		config.IDContext, _ = hex.DecodeString(c.IdContext)
	}
	context, err := oscore.New(config)
	if err != nil {
		t.Fatal(err)
	}
	address, err := net.ResolveUDPAddr("udp", n.coap)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUDP("udp", nil, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &oscoreDevice{t: t, conn: conn, context: context, numbers: make(map[string]bool)}
}

// body is what stands behind the token of a message.
func messageBody(options *coap.Options, payload []byte) []byte {
	return coap.AppendMessage(nil, coap.Confirmable, coap.GET, 0, nil, options, payload)[4:]
}

func (d *oscoreDevice) send(code coap.Code, token string, options *coap.Options, payload []byte) oscore.Exchange {
	d.t.Helper()
	outer, body, exchange, err := d.context.ProtectRequest(nil, byte(code), messageBody(options, payload))
	if err != nil {
		d.t.Fatal(err)
	}
	d.id++
	d.sent = append(coap.AppendMessage(nil, coap.Confirmable, coap.Code(outer), d.id, []byte(token), nil, nil), body...)
	if _, err := d.conn.Write(d.sent); err != nil {
		d.t.Fatal(err)
	}
	return exchange
}

// receive reads the next datagram that has a code, and acknowledges it if it is Confirmable.
func (d *oscoreDevice) receive() (coap.Message, []byte) {
	d.t.Helper()
	for {
		buffer := make([]byte, 8192)
		d.conn.SetReadDeadline(time.Now().Add(patience))
		n, err := d.conn.Read(buffer)
		if err != nil {
			d.t.Fatal(err)
		}
		m, err := coap.Decode(buffer[:n])
		if err != nil {
			d.t.Fatalf("%x: %v", buffer[:n], err)
		}
		if m.Type == coap.Confirmable {
			d.conn.Write(coap.AppendMessage(nil, coap.Acknowledgement, coap.Empty, m.MessageID, nil, nil, nil))
		}
		if m.Code != coap.Empty {
			return m, buffer[4+len(m.Token) : n]
		}
	}
}

// open reads the next response and gives what is within. It must be protected.
func (d *oscoreDevice) open(exchange *oscore.Exchange) coap.Message {
	d.t.Helper()
	m, body := d.receive()
	if value, protected := m.Option(coap.OSCORE); !protected || len(value) < 2 {
		d.t.Fatalf("%v %q with OSCORE option %x (%v): want one with a sequence number of its own", m.Code, m.Payload, value, protected)
	}
	value, _ := m.Option(coap.OSCORE)
	if d.numbers[string(value)] {
		d.t.Fatalf("the sequence number %x was used twice", value)
	}
	d.numbers[string(value)] = true
	datagram := coap.AppendMessage(nil, m.Type, m.Code, m.MessageID, m.Token, nil, nil)
	code, datagram, err := d.context.OpenResponse(datagram, body, exchange)
	if err != nil {
		d.t.Fatal(err)
	}
	datagram[1] = code
	within, err := coap.Decode(datagram)
	if err != nil {
		d.t.Fatal(err)
	}
	return within
}

// ask sends a request and once more with the Echo value that it is asked for, as RFC 9175 §2.3 has clients do; echoed says whether it was.
func (d *oscoreDevice) ask(code coap.Code, path string, payload []byte, add ...func(*coap.Options)) (answer coap.Message, exchange oscore.Exchange, echoed bool) {
	d.t.Helper()
	options := new(coap.Options)
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		options.AddString(coap.URIPath, segment)
	}
	if len(payload) > 0 {
		options.AddUint(coap.ContentFormat, coap.JSON)
	}
	for _, f := range add {
		f(options)
	}
	exchange = d.send(code, "tk", options, payload)
	answer = d.open(&exchange)
	if value, asked := answer.Option(coap.Echo); asked && answer.Code == coap.Unauthorized {
		options.Set(coap.Echo, value)
		exchange = d.send(code, "tk", options, payload)
		return d.open(&exchange), exchange, true
	}
	return answer, exchange, false
}

// refused sends a datagram as it is and wants an answer that is not protected, with Max-Age 0 (RFC 8613 §8.2).
func (d *oscoreDevice) refused(datagram []byte, code coap.Code, diagnostic string) {
	d.t.Helper()
	d.id++
	changed := bytes.Clone(datagram)
	changed[2], changed[3] = byte(d.id>>8), byte(d.id)
	if _, err := d.conn.Write(changed); err != nil {
		d.t.Fatal(err)
	}
	m, _ := d.receive()
	age, aged := m.Uint(coap.MaxAge)
	if _, protected := m.Option(coap.OSCORE); protected || m.Code != code || string(m.Payload) != diagnostic || !aged || age != 0 {
		d.t.Errorf("answered %v %q, want %v %q unprotected with Max-Age 0", m.Code, m.Payload, code, diagnostic)
	}
}

// RFC 8613 through the built program: a device with a context is known by it, its requests, blocks and notifications are protected,
// repetitions and forgeries are refused, also after a kill, and its rights end with the context.
func TestOSCORE(t *testing.T) {
	n := newNode(t, nil)
	n.start()
	document, err := os.ReadFile("../examples/tracker.asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(document), "x-fieldgate: {access: [device]}", "x-fieldgate: {access: [device]}\n    x-fieldgate-bindings:\n      coap: {path: /commands, observe: true}", 1)
	if changed == string(document) {
		t.Fatal("the example has changed")
	}
	file := filepath.Join(t.TempDir(), "tracker.asyncapi.yaml")
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	n.run("api", "publish", file)
	n.run("device", "add", "t1", "--quiet")
	n.run("device", "add", "t2", "--quiet")
	app := strings.TrimSpace(n.run("app", "add", "ops", "--scope", "commands.send", "--quiet"))
	written := n.run("device", "oscore", "t1", "--quiet")
	d := newOSCOREDevice(t, n, written)
	const position = `{"ts":"2026-11-23T09:00:00Z","lat":52.5,"lon":13.4}`
	wait(t, "sequence numbers, which the gateway reserves when it hears of the first context", func() bool {
		d.send(coap.GET, "tk", new(coap.Options), nil)
		m, _ := d.receive()
		_, protected := m.Option(coap.OSCORE)
		return protected
	})
	posted := func(payload string, want coap.Code, challenged bool) oscore.Exchange {
		t.Helper()
		answer, exchange, echoed := d.ask(coap.POST, "/position", []byte(payload))
		if answer.Code != want || echoed != challenged {
			t.Fatalf("answered %v %q, echo %v; want %v, %v", answer.Code, answer.Payload, echoed, want, challenged)
		}
		return exchange
	}
	asked := posted(position, coap.Changed, true) // appendix B.1.2: the gateway cannot know what it has received before
	recorded := bytes.Clone(d.sent)
	posted(position, coap.Changed, false)
	posted(`{"lat":520}`, coap.UnprocessableEntity, false)
	wait(t, "records of the device", func() bool { return len(n.records("&filter=device:t1")) >= 3 })

	// §7.4, §8.2: what is repeated, forged, of nobody or malformed.
	d.refused(recorded, coap.Unauthorized, "Replay detected")
	d.send(coap.GET, "tk", new(coap.Options), nil)
	d.receive()
	_, body, _, err := d.context.ProtectRequest(nil, byte(coap.GET), nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := append(coap.AppendMessage(nil, coap.Confirmable, coap.POST, 0, []byte("tk"), nil, nil), body...)
	forged[len(forged)-1] ^= 1
	d.refused(forged, coap.BadRequest, "Decryption failed")
	sentMessage, _ := coap.Decode(d.sent)
	value, _ := sentMessage.Option(coap.OSCORE)
	value = bytes.Clone(value)
	value[len(value)-1] ^= 1 // of the kid
	stranger := coap.AppendMessage(nil, coap.Confirmable, coap.POST, 0, []byte("tk"), optionsOf(coap.OSCORE, value), []byte("nothing that opens"))
	d.refused(stranger, coap.Unauthorized, "Security context not found")
	d.refused(coap.AppendMessage(nil, coap.Confirmable, coap.POST, 0, []byte("tk"), optionsOf(coap.OSCORE, []byte{0x20}), []byte("nothing that opens")), coap.BadOption, "")

	wait(t, "the figures of what was opened and refused", func() bool {
		_, text, err := n.ask("GET", "/metrics", nil)
		counted := err == nil
		for _, result := range fieldgate.OSCOREResults {
			if result != "not-ready" {
				counted = counted && regexp.MustCompile(`oscore_requests_total{[^}]*result="`+result+`"} [1-9]`).Match(text)
			}
		}
		return counted
	})

	// Inner blocks (§4.1.3.4.1), and a resource of the gateway's own.
	links, _, _ := d.ask(coap.GET, "/.well-known/core", nil, func(o *coap.Options) { o.AddUint(coap.Block2, 2) })
	block, cut, _ := links.Block(coap.Block2)
	if links.Code != coap.Content || !cut || !block.More || len(links.Payload) != 64 {
		t.Errorf("the first block: %v, %+v, %d bytes", links.Code, block, len(links.Payload))
	}
	next, _, _ := d.ask(coap.GET, "/.well-known/core", nil, func(o *coap.Options) { o.AddUint(coap.Block2, 1<<4|2) })
	if block, _, _ := next.Block(coap.Block2); next.Code != coap.Content || block.Num != 1 || bytes.Equal(next.Payload, links.Payload) {
		t.Errorf("the second block: %v, %+v, %d bytes", next.Code, block, len(next.Payload))
	}
	if answer, _, _ := d.ask(coap.POST, "/position", []byte(position)[:32], func(o *coap.Options) { o.AddUint(coap.Block1, 8|1) }); answer.Code != coap.Continue {
		t.Errorf("the first block of a body: %v", answer.Code)
	}
	if answer, _, _ := d.ask(coap.POST, "/position", []byte(position)[32:], func(o *coap.Options) { o.AddUint(coap.Block1, 1<<4|1) }); answer.Code != coap.Changed {
		t.Errorf("the last block of a body: %v %q", answer.Code, answer.Payload)
	}

	// §4.1.3.5: notifications are protected, each by a number of its own.
	_, observation, _ := d.ask(coap.GET, "/commands", nil, func(o *coap.Options) { o.AddUint(coap.Observe, 0) })
	for _, command := range []string{`{"command":"locate"}`, `{"command":"geofence","radius":500}`} {
		sendCommand(t, n, app, command)
		if notified := d.open(&observation); notified.Code != coap.Content || string(notified.Payload) != command {
			t.Errorf("notified %v %q, want %q", notified.Code, notified.Payload, command)
		}
	}

	// A gateway that was killed knows nothing of what it received: what was recorded is not carried out again.
	n.kill()
	n.start()
	again := newOSCOREDevice(t, n, written)
	again.context, again.numbers, again.sent = d.context, d.numbers, d.sent
	d = again
	wait(t, "sequence numbers", func() bool {
		d.send(coap.GET, "tk", new(coap.Options), nil)
		m, _ := d.receive()
		_, protected := m.Option(coap.OSCORE)
		return protected
	})
	d.conn.Write(recorded)
	answer := d.open(&asked)
	if _, echo := answer.Option(coap.Echo); !echo || answer.Code != coap.Unauthorized {
		t.Errorf("what was recorded before the kill is answered %v, with Echo: %v", answer.Code, echo)
	}
	posted(position, coap.Changed, true)
	posted(position, coap.Changed, false)
	d.refused(recorded, coap.Unauthorized, "Replay detected")

	// A context that is removed ends what goes on by it.
	_, observation, _ = d.ask(coap.GET, "/commands", nil, func(o *coap.Options) { o.AddUint(coap.Observe, 0) })
	n.run("device", "oscore", "t1", "--remove")
	if last := d.open(&observation); last.Code != coap.Unauthorized {
		t.Errorf("the last notification is %v", last.Code)
	}
	d.send(coap.GET, "tk", new(coap.Options), nil)
	d.receive()
	d.refused(d.sent, coap.Unauthorized, "Security context not found")
	if out := n.run("device", "show", "t1"); strings.Contains(out, "oscore") {
		t.Errorf("shown: %s", out)
	}
}

func optionsOf(number coap.OptionNumber, value []byte) *coap.Options {
	options := new(coap.Options)
	options.Add(number, value)
	return options
}

func sendCommand(t *testing.T, n *node, app, command string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+n.http+"/trackers/t1/commands", strings.NewReader(command))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+app)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode >= 300 {
		t.Fatalf("a command is answered %s", response.Status)
	}
}
