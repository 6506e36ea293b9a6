package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"fieldgate"
	"fieldgate/gateway/certificates"
	"fieldgate/gateway/mqttfront"
	"fieldgate/gateway/pipeline"
)

// doors is a gateway with every way in that MQTT clients have.
type doors struct {
	*Gateway
	t        *testing.T
	folder   string
	settings Settings
	roots    *x509.CertPool
	caFile   string
}

func openDoors(t *testing.T, set func(*Config)) *doors {
	t.Helper()
	b := openBus(t)
	control := &plane{}
	control.open(t, b)
	control.publish(t, &fieldgate.Contract{API: "legacy", Version: "1", Kind: fieldgate.KindPassThrough, State: fieldgate.LifecycleActive,
		Operations: []fieldgate.Operation{{ID: "mqtt-1", PassThrough: true, MaxBody: 1 << 20, Access: fieldgate.Access{Anonymous: true},
			MQTT: &fieldgate.MQTTBinding{Topic: "legacy/#", Action: fieldgate.ActionBoth, QoS: 2, Retain: true}}}})
	d := &doors{t: t, folder: t.TempDir(), settings: Settings{TLS: certificates.Settings{InternalCA: []string{"localhost", "127.0.0.1"}}, MQTT: MQTT{OnRamp: OnRamp{Anonymous: true}}}}
	config := Config{Node: "n1", Folder: d.folder, HTTP: "127.0.0.1:0", HTTPS: "127.0.0.1:0", MQTT: "127.0.0.1:0", MQTTS: "127.0.0.1:0", MQTTPath: "/mqtt",
		OnRamp: &OnRampListeners{MQTT: "127.0.0.1:0", MQTTS: "127.0.0.1:0"}, Bus: b, Logger: slog.New(slog.DiscardHandler)}
	if set != nil {
		config.Settings = d.settings
		set(&config)
		d.settings = config.Settings
	}
	config.Settings = d.settings
	var err error
	if d.Gateway, err = New(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(serving(t, d.Gateway))
	d.caFile = filepath.Join(TLSFolder(d.folder), certificates.AuthorityFile)
	authority, err := os.ReadFile(d.caFile)
	if err != nil {
		t.Fatal(err)
	}
	d.roots = x509.NewCertPool()
	d.roots.AppendCertsFromPEM(authority)
	return d
}

func (d *doors) reload() {
	d.t.Helper()
	if err := d.Reload(d.settings); err != nil {
		d.t.Fatal(err)
	}
}

// dial connects by the name of a listener, or of a WebSocket at one.
func (d *doors) dial(name string) (net.Conn, error) {
	secure := &tls.Config{RootCAs: d.roots, NextProtos: []string{"mqtt"}}
	switch name {
	case "mqtt", "on-ramp":
		return net.Dial("tcp", d.Addresses()[name])
	case "mqtts", "on-ramp-tls":
		return tls.Dial("tcp", d.Addresses()[name], secure)
	}
	url := map[string]string{"ws": "ws://" + d.Addresses()["http"], "wss": "wss://" + d.Addresses()["https"]}[name] + "/mqtt"
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: d.roots}}}
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	conn, answer, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"mqttv3.1", "mqtt"}, HTTPClient: client})
	if err != nil {
		return nil, err
	}
	if chosen := answer.Header.Get("Sec-WebSocket-Protocol"); chosen != "mqtt" {
		d.t.Errorf("%s: the subprotocol is %q", name, chosen)
	}
	return websocket.NetConn(context.Background(), conn, websocket.MessageBinary), nil
}

type pahoClient struct {
	*paho.Client
	conn     net.Conn
	received chan string
	ended    chan error
}

func (d *doors) connect(name, id string) (*pahoClient, error) {
	conn, err := d.dial(name)
	if err != nil {
		return nil, err
	}
	c := &pahoClient{conn: conn, received: make(chan string, 100), ended: make(chan error, 10)}
	// Over anything but TCP it writes a packet in pieces, which others must not come between.
	c.Client = paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), OnClientError: func(err error) { c.ended <- err },
		OnServerDisconnect: func(p *paho.Disconnect) { c.ended <- fmt.Errorf("disconnect %#x", p.ReasonCode) },
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(p paho.PublishReceived) (bool, error) {
				c.received <- p.Packet.Topic + " " + string(p.Packet.Payload)
				return true, nil
			}}})
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: id, KeepAlive: 30, CleanStart: true}); err != nil {
		conn.Close()
		return nil, err
	}
	d.t.Cleanup(func() { conn.Close() })
	return c, nil
}

func (d *doors) mustConnect(name, id string) *pahoClient {
	d.t.Helper()
	c, err := d.connect(name, id)
	if err != nil {
		d.t.Fatalf("%s: %v", name, err)
	}
	return c
}

func (d *doors) exchange(from, to *pahoClient, payload string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	if _, err := to.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "legacy/x", QoS: 2, RetainHandling: 2}}}); err != nil {
		d.t.Fatal(err)
	}
	if _, err := from.Publish(ctx, &paho.Publish{Topic: "legacy/x", QoS: 2, Payload: []byte(payload)}); err != nil {
		d.t.Fatal(err)
	}
	select {
	case got := <-to.received:
		if got != "legacy/x "+payload {
			d.t.Fatalf("heard %.80q", got)
		}
	case err := <-to.ended:
		d.t.Fatal(err)
	case <-ctx.Done():
		d.t.Fatal("nothing heard")
	}
}

// Whoever comes in, and however, talks to all others, in packets that are longer than frames, records and buffers.
func TestMQTTByEveryDoor(t *testing.T) {
	d := openDoors(t, nil)
	names := []string{"mqtt", "mqtts", "ws", "wss", "on-ramp", "on-ramp-tls"}
	var clients []*pahoClient
	for _, name := range names {
		clients = append(clients, d.mustConnect(name, "c-"+name))
	}
	for i, from := range clients {
		to := clients[(i+1)%len(clients)]
		for _, payload := range []string{"short", strings.Repeat("0123456789", 30_000)} {
			d.exchange(from, to, payload)
		}
		if _, err := to.Unsubscribe(t.Context(), &paho.Unsubscribe{Topics: []string{"legacy/x"}}); err != nil {
			t.Fatal(names[i], err)
		}
	}
	if got := d.state().Connections; got["mqtt"] != len(names) || got["http"] != 0 {
		t.Errorf("connections: %v", got)
	}
	// Certificates, proxies and users are replaced; nobody loses a connection for it.
	d.settings.TLS.InternalCA = []string{"localhost", "127.0.0.1", "other.lan"}
	d.settings.TLS.MinVersion = tls.VersionTLS13
	d.settings.MQTT.Proxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
	d.settings.MQTT.OnRamp.Deny = []pipeline.Denial{{Filter: "legacy/none", Publish: true}}
	d.reload()
	for i := range clients {
		d.exchange(clients[i], clients[(i+1)%len(clients)], "still here")
		if _, err := clients[(i+1)%len(clients)].Unsubscribe(t.Context(), &paho.Unsubscribe{Topics: []string{"legacy/x"}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tls.Dial("tcp", d.Addresses()["mqtts"], &tls.Config{RootCAs: d.roots, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 after the reload")
	}
	conn, err := tls.Dial("tcp", d.Addresses()["mqtts"], &tls.Config{RootCAs: d.roots, ServerName: "other.lan", NextProtos: []string{"mqtt"}})
	if err != nil || conn.ConnectionState().NegotiatedProtocol != "mqtt" {
		t.Errorf("the new name: %v", err)
	}
}

func TestMosquittoOverTLS(t *testing.T) {
	d := openDoors(t, nil)
	for _, name := range []string{"mqtts", "on-ramp-tls"} {
		_, port, _ := net.SplitHostPort(d.Addresses()[name])
		run := func(tool string, arguments ...string) (string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			out, err := exec.CommandContext(ctx, "mosquitto_"+tool, append([]string{"-h", "localhost", "-p", port, "-V", "mqttv5", "--tls-alpn", "mqtt"}, arguments...)...).CombinedOutput()
			return strings.TrimSpace(string(out)), err
		}
		if out, err := run("pub", "--cafile", d.caFile, "-q", "1", "-r", "-t", "legacy/tls", "-m", "by "+name); err != nil {
			t.Fatal(err, out)
		}
		if out, err := run("sub", "--cafile", d.caFile, "-q", "1", "-t", "legacy/tls", "-C", "1"); err != nil || out != "by "+name {
			t.Fatalf("%s: %q, %v", name, out, err)
		}
		if out, err := run("pub", "--capath", t.TempDir(), "-t", "legacy/tls", "-m", "x"); err == nil {
			t.Errorf("a client that does not know the authority: %s", out)
		}
	}
}

// A WebSocket is for MQTT only if the client says so, at the path that is set, and in frames that hold MQTT.
func TestMQTTWebSocketHandshake(t *testing.T) {
	d := openDoors(t, nil)
	ask := func(path, fields string) (status int, body string) {
		t.Helper()
		conn, err := net.Dial("tcp", d.Addresses()["http"])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", path, fields)
		buf := make([]byte, 4096)
		conn.SetReadDeadline(time.Now().Add(patience))
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Sscanf(string(buf[:n]), "HTTP/1.1 %d", &status)
		return status, string(buf[:n])
	}
	const version = "Sec-WebSocket-Version: 13\r\n"
	for _, c := range []struct {
		path, fields string
		status       int
		says         string
	}{
		{"/mqtt", version + "Sec-WebSocket-Protocol: mqtt\r\n", 101, "Sec-WebSocket-Protocol: mqtt\r\n"},
		{"/mqtt", version + "Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n", 101, "Sec-WebSocket-Protocol: mqtt\r\n"},
		{"/mqtt?token=x", version + "Sec-WebSocket-Protocol: mqtt\r\n", 101, ""},
		{"/mqtt", version + "Sec-WebSocket-Protocol: mqttv3.1\r\n", 400, `subprotocol \"mqtt\"`},
		{"/mqtt", version, 400, `subprotocol \"mqtt\"`},
		{"/mqtt", "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Protocol: mqtt\r\n", 426, "Sec-WebSocket-Version: 13"},
		{"/other", version + "Sec-WebSocket-Protocol: mqtt\r\n", 404, ""},
		{"/mqtt/", version + "Sec-WebSocket-Protocol: mqtt\r\n", 404, ""},
	} {
		if status, text := ask(c.path, c.fields); status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s %q: %s", c.path, c.fields, text)
		}
	}
	// Text, silence and rubbish end the connection; a ping is answered.
	for name, frame := range map[string]websocket.MessageType{"text": websocket.MessageText, "rubbish": websocket.MessageBinary} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		conn, _, err := websocket.Dial(ctx, "ws://"+d.Addresses()["http"]+"/mqtt", &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
		if err != nil {
			t.Fatal(err)
		}
		pinged := make(chan error, 1)
		if name == "rubbish" {
			read := conn.CloseRead(ctx)
			go func() { pinged <- conn.Ping(ctx) }()
			if err := <-pinged; err != nil {
				t.Error("ping:", err)
			}
			conn.Write(ctx, frame, []byte("rubbish"))
			<-read.Done()
		} else {
			conn.Write(ctx, frame, []byte("text"))
			_, _, err := conn.Read(ctx)
			if websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
				t.Errorf("%s: %v", name, err)
			}
		}
		cancel()
	}
}

// A proxy says by its header where a client comes from; who is no proxy, or sends no header, is not let in.
func TestMQTTBehindProxies(t *testing.T) {
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	d := openDoors(t, func(c *Config) {
		c.Settings.MQTT = MQTT{Proxies: loopback, ProxiesTLS: loopback, OnRampProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.9/32")}, OnRamp: OnRamp{Anonymous: true}}
	})
	v2 := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), 203, 0, 113, 7, 10, 0, 0, 1)
	v2 = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(v2, 40000), 1883)
	connect := []byte("\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd")
	for _, c := range []struct {
		name, header string
		in           bool
	}{
		{"mqtt", "PROXY TCP4 203.0.113.7 10.0.0.1 40000 1883\r\n", true}, {"mqtt", string(v2), true}, {"mqtt", "PROXY UNKNOWN\r\n", true},
		{"mqtt", "", false}, {"mqtt", "PROXY TCP4 nonsense\r\n", false}, {"mqtts", string(v2), true}, {"mqtts", "", false}, {"on-ramp", string(v2), false}, {"on-ramp", "", false},
	} {
		conn, err := net.Dial("tcp", d.Addresses()[c.name])
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, c.header)
		var client io.ReadWriter = conn
		if c.name == "mqtts" {
			client = tls.Client(conn, &tls.Config{RootCAs: d.roots, ServerName: "localhost"})
		}
		_, err = client.Write(connect)
		answer := make([]byte, 4)
		if err == nil {
			_, err = io.ReadFull(client, answer)
		}
		if in := err == nil && bytes.Equal(answer, []byte("\x20\x02\x00\x00")); in != c.in {
			t.Errorf("%s after %q: %x, %v", c.name, c.header, answer, err)
		}
		if c.in && strings.Contains(c.header, "203.0.113.7") {
			if s := d.mqtt.front.Session(&fieldgate.MQTTSessionKey{Kind: fieldgate.PrincipalAnonymous, Client: "abcd"}); s == nil || s.Source != "203.0.113.7:40000" {
				t.Errorf("%s: the session is %+v", c.name, s)
			}
		}
		conn.Close()
	}
	d.settings.MQTT.Proxies = nil // from now on clients come directly
	d.reload()
	d.mustConnect("mqtt", "direct")
}

// The password file counts from its next look on; a broken one, or rules that cannot be read, change nothing.
func TestOnRampPasswordFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwords")
	set := func(user string) {
		t.Helper()
		os.Remove(path)
		if out, err := exec.Command("mosquitto_passwd", "-b", "-c", path, user, "secret").CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
	}
	set("alice")
	d := openDoors(t, func(c *Config) { c.Settings.MQTT.OnRamp = OnRamp{PasswordFile: path} })
	_, port, _ := net.SplitHostPort(d.Addresses()["on-ramp"])
	in := func(user string) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, "mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-u", user, "-P", "secret", "-q", "1", "-t", "any/topic", "-m", "x").CombinedOutput()
		if err != nil && !bytes.Contains(bytes.ToLower(out), []byte("bad user name or password")) && !bytes.Contains(out, []byte("not authorised")) {
			t.Fatal(err, string(out))
		}
		return err
	}
	if in("alice") != nil || in("bob") == nil {
		t.Fatal("the file does not count")
	}
	set("bob")
	for deadline := time.Now().Add(patience); in("bob") != nil; {
		if time.Now().After(deadline) {
			t.Fatal("the change does not count")
		}
	}
	if in("alice") == nil {
		t.Error("who is not in the file any more is in")
	}
	bad := d.settings
	bad.MQTT.OnRamp.PasswordFile = filepath.Join(t.TempDir(), "none")
	if err := d.Reload(bad); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if in("bob") != nil {
		t.Error("after a reload that failed")
	}
	d.settings.MQTT.OnRamp = OnRamp{Anonymous: true}
	d.reload()
	if in("carol") != nil {
		t.Error("anonymous does not count")
	}
	if _, err := New(Config{Node: "n2", Folder: t.TempDir(), OnRamp: &OnRampListeners{MQTT: "127.0.0.1:0", Terms: mqttfront.Terms{}}, Settings: bad, Logger: slog.New(slog.DiscardHandler), Bus: d.config.Bus}); err == nil {
		t.Error("a gateway without its password file was started")
	}
}
