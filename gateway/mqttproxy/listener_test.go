package mqttproxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/xdg-go/scram"

	"fieldgate"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/protocol/h1"
	"fieldgate/protocol/mqtt"
)

// Behind a proxy the source is what its header says; nobody else is let in, and nothing without a sound header.
func TestProxyProtocol(t *testing.T) {
	b := newScriptedBroker(t, nil)
	var proxies atomic.Pointer[[]netip.Prefix]
	proxies.Store(&[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}}, func(c *Config) {
		c.Listeners[0].Proxies = func() []netip.Prefix { return *proxies.Load() }
	})
	open := func(header string) *scripted {
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		s := newScripted(t, conn)
		connect := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("c"), Password: []byte(g.tokens["d1"])}
		s.write(append([]byte(header), connect.Append(nil)...))
		return s
	}
	device := open("PROXY TCP4 192.0.2.7 192.0.2.1 4711 1883\r\n")
	device.packet(mqtt.CONNACK)
	<-b.devices
	p := publish("d/d2/raw", "x", 1)
	p.PacketID = 1
	device.write(p.Append(nil, mqtt.V5))
	device.packet(mqtt.PUBACK)
	eventually(t, "there is a record whose source is the header's", func() bool {
		return g.records.count(func(r *fieldgate.Record) bool { return r.Source == netip.MustParseAddr("192.0.2.7") }) > 0
	})
	for _, header := range []string{"", "PROXY TCP4 nonsense\r\n"} {
		if _, err := io.ReadAll(open(header).in.conn); err != nil {
			t.Errorf("%q: %v", header, err)
		}
	}
	proxies.Store(&[]netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")})
	if _, err := io.ReadAll(open("PROXY TCP4 192.0.2.7 192.0.2.1 4711 1883\r\n").in.conn); err != nil {
		t.Error(err)
	}
	eventually(t, "three are refused", func() bool { return g.Counters.Refused.Load() == 3 })
}

// A device proves with SCRAM-SHA-256 that it knows its token, and again while the connection lasts; the broker sees nothing of it.
func TestScram(t *testing.T) {
	seen := make(chan bool, 10)
	b := newScriptedBroker(t, func(c *mqtt.Connect) *mqtt.Connack {
		seen <- c.Properties.Has(mqtt.AuthenticationMethod) || c.Password != nil
		return &mqtt.Connack{}
	})
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}})
	<-seen // the probe's
	token, err := fieldgate.NewToken(fieldgate.PrefixDevice)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := fieldgate.NewScramVerifier("s1", token)
	if err != nil {
		t.Fatal(err)
	}
	g.change(fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: "s1", Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(token))}, Verifiers: []fieldgate.ScramVerifier{verifier}})
	prover := func(token string) *scram.ClientConversation {
		client, err := scram.SHA256.NewClient("s1", token, "")
		if err != nil {
			t.Fatal(err)
		}
		return client.WithMinIterations(4096).NewConversation()
	}
	step := func(c *scram.ClientConversation, message []byte) []byte {
		t.Helper()
		answer, err := c.Step(string(message))
		if err != nil {
			t.Fatal(err)
		}
		return []byte(answer)
	}
	auth := func(reason mqtt.Reason, data []byte) []byte {
		p := mqtt.Disconnect{Type: mqtt.AUTH, Reason: reason}
		p.Properties.SetText(mqtt.AuthenticationMethod, []byte(mqttexchange.ScramMethod))
		p.Properties.SetText(mqtt.AuthenticationData, data)
		return p.Append(nil, mqtt.V5)
	}
	prove := func(token string) (device *scripted, ack mqtt.Connack) {
		t.Helper()
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		device = newScripted(t, conn)
		c := prover(token)
		connect := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("c")}
		connect.Properties.SetText(mqtt.AuthenticationMethod, []byte(mqttexchange.ScramMethod))
		connect.Properties.SetText(mqtt.AuthenticationData, step(c, nil))
		device.write(connect.Append(nil))
		var challenge mqtt.Disconnect
		if err := challenge.Decode(mqtt.AUTH, device.packet(mqtt.AUTH), mqtt.V5); err != nil {
			t.Fatal(err)
		}
		device.write(auth(mqtt.ContinueAuthentication, step(c, challenge.Properties.Text(mqtt.AuthenticationData))))
		if err := ack.Decode(device.packet(mqtt.CONNACK), mqtt.V5); err != nil {
			t.Fatal(err)
		}
		if ack.Reason == mqtt.Success {
			if step(c, ack.Properties.Text(mqtt.AuthenticationData)); !c.Valid() {
				t.Error("the gateway did not prove itself")
			}
		}
		return device, ack
	}
	if _, ack := prove(g.tokens["d1"]); ack.Reason != mqtt.BadUserNameOrPassword {
		t.Errorf("another's token: %v", ack.Reason)
	}
	device, ack := prove(token)
	if ack.Reason != mqtt.Success || <-seen {
		t.Fatalf("%v, or the broker was told", ack.Reason)
	}
	upstream := <-b.devices
	p := publish("d/s1/raw", "x", 0)
	device.write(p.Append(nil, mqtt.V5))
	upstream.packet(mqtt.PUBLISH)
	again := func(token string) *scram.ClientConversation {
		c := prover(token)
		device.write(auth(mqtt.Reauthenticate, step(c, nil)))
		var challenge mqtt.Disconnect
		if err := challenge.Decode(mqtt.AUTH, device.packet(mqtt.AUTH), mqtt.V5); err != nil {
			t.Fatal(err)
		}
		device.write(auth(mqtt.ContinueAuthentication, step(c, challenge.Properties.Text(mqtt.AuthenticationData))))
		return c
	}
	c := again(token)
	var proof mqtt.Disconnect
	if err := proof.Decode(mqtt.AUTH, device.packet(mqtt.AUTH), mqtt.V5); err != nil || proof.Reason != mqtt.Success {
		t.Fatalf("%+v, %v", proof, err)
	}
	if step(c, proof.Properties.Text(mqtt.AuthenticationData)); !c.Valid() {
		t.Error("the gateway did not prove itself")
	}
	again(g.tokens["d1"])
	if told := device.packet(mqtt.DISCONNECT); mqtt.Reason(told[0]) != mqtt.NotAuthorized {
		t.Errorf("told %x", told)
	}
	// Who came with a password sends no AUTH [MQTT-4.12.0-7], and no other method is known.
	plain := g.raw("d1", mqtt.Connect{CleanStart: true})
	plain.packet(mqtt.CONNACK)
	plain.write(auth(mqtt.Reauthenticate, nil))
	if told := plain.packet(mqtt.DISCONNECT); mqtt.Reason(told[0]) != mqtt.ProtocolViolation {
		t.Errorf("told %x", told)
	}
	connect := mqtt.Connect{CleanStart: true}
	connect.Properties.SetText(mqtt.AuthenticationMethod, []byte("SCRAM-SHA-1"))
	if err := ack.Decode(g.raw("d1", connect).packet(mqtt.CONNACK), mqtt.V5); err != nil || ack.Reason != mqtt.BadAuthenticationMethod {
		t.Errorf("%v, %v", ack.Reason, err)
	}
}

// MQTT travels in binary frames; one of text ends the connection (MQTT 5 §6).
func TestWebSocket(t *testing.T) {
	b := newScriptedBroker(t, nil)
	g := newGateway(t, Settings{Addresses: []string{"mqtt://" + b.address}})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	device := newScripted(t, conn)
	served, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	frame := func(opcode h1.Opcode, payload []byte) []byte {
		return h1.AppendMaskedFrame(nil, opcode, payload, [4]byte{1, 2, 3, 4})
	}
	connect := (&mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("c"), Password: []byte(g.tokens["d1"])}).Append(nil)
	first := frame(h1.OpBinary, connect[:10])
	g.OpenWebSocket(served, first[:3], netip.MustParseAddrPort("192.0.2.7:1"))
	device.write(first[3:])
	device.write(frame(h1.OpBinary, connect[10:]))
	upstream := <-b.devices
	p := publish("d/d1/raw", "x", 0)
	device.write(frame(h1.OpBinary, p.Append(nil, mqtt.V5)))
	upstream.packet(mqtt.PUBLISH)
	device.write(frame(h1.OpText, []byte{0xC0, 0}))
	rest, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if bytes.IndexByte(rest, byte(mqtt.DISCONNECT)<<4) < 0 || !bytes.HasSuffix(rest, h1.AppendClose(nil, h1.CloseUnsupported, "")) {
		t.Errorf("ended with %x", rest)
	}
}

// Other settings count for who comes; of those connected only whom they concern is told to come again.
func TestSettings(t *testing.T) {
	one, two := newScriptedBroker(t, nil), newScriptedBroker(t, nil)
	first, second := "mqtt://"+one.address, "mqtt://"+two.address
	g := newGateway(t, Settings{Addresses: []string{first}})
	stays := g.connect("d1", mqtt.ClientOptions{})
	replace := func(s Settings) {
		t.Helper()
		apply, err := g.Prepare(s)
		if err != nil {
			t.Fatal(err)
		}
		apply()
	}
	if _, err := g.Prepare(Settings{Addresses: []string{first}, PasswordFile: "/none"}); err == nil {
		t.Error("a file that is not there is taken")
	}
	replace(Settings{Addresses: []string{first, second}, User: "new", PasswordFile: writeFile(t, "secret")})
	if state := g.State(); len(state.Addresses) != 2 || state.Addresses[0].Open != 1 {
		t.Errorf("%+v", state)
	}
	if err := stays.Err(); err != nil {
		t.Errorf("whom nothing concerns is disconnected: %v", err)
	}
	replace(Settings{Addresses: []string{second}})
	if got := stays.ended(); got != mqtt.ServerShuttingDown {
		t.Errorf("whose broker is gone is told %v", got)
	}
	moved := g.connect("d1", mqtt.ClientOptions{})
	<-two.devices
	replace(Settings{Addresses: []string{second}, ClientID: "{principal}-{client-id}"})
	if got := moved.ended(); got != mqtt.ServerShuttingDown {
		t.Errorf("whose client identifier changes is told %v", got)
	}
	renamed := g.connect("d1", mqtt.ClientOptions{})
	replace(Settings{Addresses: []string{second}, ClientID: "{principal}-{client-id}", Prefix: "p/"})
	if got := renamed.ended(); got != mqtt.ServerShuttingDown {
		t.Errorf("whose prefix changes is told %v", got)
	}
	<-two.devices // that of renamed
	g.connect("d1", mqtt.ClientOptions{}).send(publish("d/d1/raw", "x", 0))
	upstream := <-two.devices
	var p mqtt.Publish
	if err := p.Decode(0, upstream.packet(mqtt.PUBLISH), mqtt.V5); err != nil || string(p.Topic) != "p/d/d1/raw" {
		t.Errorf("%+v, %v", p, err)
	}
}
