package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/quic-go/quic-go/http3"

	"fieldgate"
	"fieldgate/gateway/certificates"
	"fieldgate/test/certtest"
)

// certified is a gateway whose devices have certificates.
type certified struct {
	*Gateway
	t         *testing.T
	control   *plane
	settings  Settings
	roots     *x509.CertPool
	authority *certtest.Authority
}

func openCertified(t *testing.T) *certified {
	t.Helper()
	b := openBus(t)
	c := &certified{t: t, control: &plane{}, authority: certtest.NewAuthority(t)}
	c.control.open(t, b)
	t.Cleanup(c.control.close)
	c.control.publish(t, mocked("thermo", "/state"))
	folder := t.TempDir()
	c.settings = Settings{TLS: certificates.Settings{InternalCA: []string{"127.0.0.1"}}, Devices: DeviceAuthorities{Files: []string{c.authority.File}}}
	var err error
	c.Gateway, err = New(Config{Node: "n1", Folder: folder, HTTPS: "127.0.0.1:0", HTTP3: "127.0.0.1:0", MQTTS: "127.0.0.1:0", MQTTPath: "/mqtt", Settings: c.settings,
		Bus: b, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(serving(t, c.Gateway))
	text, err := os.ReadFile(filepath.Join(TLSFolder(folder), certificates.AuthorityFile))
	if err != nil {
		t.Fatal(err)
	}
	c.roots = x509.NewCertPool()
	c.roots.AppendCertsFromPEM(text)
	return c
}

// device registers a device, or changes it, and waits until the gateway knows.
func (c *certified) device(change fieldgate.DirectoryChange) {
	c.t.Helper()
	change.Kind = fieldgate.PrincipalDevice
	c.control.change(c.t, change)
	c.control.mu.Lock()
	wanted := uint64(len(c.control.changes))
	c.control.mu.Unlock()
	for deadline := time.Now().Add(patience); c.directory.Sequence() < wanted; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatal("the gateway does not hear of the device")
		}
	}
}

func (c *certified) config(own *tls.Certificate, protocols ...string) *tls.Config {
	config := &tls.Config{RootCAs: c.roots, NextProtos: protocols}
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	return config
}

// client speaks one version of HTTP and keeps its connection.
func (c *certified) client(version string, own *tls.Certificate) *http.Client {
	c.t.Helper()
	if version == "3" {
		transport := &http3.Transport{TLSClientConfig: c.config(own)}
		c.t.Cleanup(func() { transport.Close() })
		return &http.Client{Transport: transport}
	}
	transport := &http.Transport{TLSClientConfig: c.config(own), ForceAttemptHTTP2: version == "2"}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get asks for the state of the device's thermometer; status 0: no connection.
func (c *certified) get(client *http.Client, token string) (status int, body string) {
	c.t.Helper()
	address := c.Addresses()["https"]
	if _, quic := client.Transport.(*http3.Transport); quic {
		address = c.Addresses()["http3"]
	}
	request, err := http.NewRequestWithContext(c.t.Context(), "GET", "https://"+address+"/state", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

// Who shows the certificate of an authority or one that is registered is that device, over every version of HTTP; a token besides has to be
// the same device's. A certificate that is neither ends the handshake.
func TestHTTPSWithCertificates(t *testing.T) {
	c := openCertified(t)
	first, hashes := newToken(t)
	second, others := newToken(t)
	issued, named := c.authority.Issue(t, -time.Hour, time.Hour, "d1"), c.authority.Issue(t, -time.Hour, time.Hour, "d9")
	pinned, unknown := certtest.NewAuthority(t).Issue(t, -time.Hour, time.Hour, "x"), certtest.NewAuthority(t).Issue(t, -time.Hour, time.Hour, "d1")
	expired := c.authority.Issue(t, -2*time.Hour, -time.Hour, "d1")
	c.device(fieldgate.DirectoryChange{ID: "d1", Credentials: hashes})
	c.device(fieldgate.DirectoryChange{ID: "d2", Credentials: others, Certificates: []fieldgate.CredentialHash{fieldgate.HashCertificate(pinned.Certificate[0])}})
	for _, version := range []string{"1.1", "2", "3"} {
		for name, test := range map[string]struct {
			own    *tls.Certificate
			token  string
			status int
		}{
			"none":                            {nil, "", 401},
			"a token alone":                   {nil, first, 200},
			"of the authority":                {&issued, "", 200},
			"of the authority, and a token":   {&issued, first, 200},
			"of the authority, and another's": {&issued, second, 401},
			"of the authority, and nonsense":  {&issued, "nonsense", 401},
			"registered":                      {&pinned, "", 200},
			"registered, and another's":       {&pinned, first, 401},
			"of no device":                    {&named, "", 0},
			"of another authority":            {&unknown, "", 0},
			"expired":                         {&expired, "", 0},
		} {
			if status, body := c.get(c.client(version, test.own), test.token); status != test.status {
				t.Errorf("HTTP/%s, %s: %d %s", version, name, status, body)
			}
		}
	}
}

// What a connection was let in by is asked about at each request: a revocation, a removed certificate and a removed authority count at once.
func TestCertificateIsWithdrawn(t *testing.T) {
	c := openCertified(t)
	issued, pinned := c.authority.Issue(t, -time.Hour, time.Hour, "d1"), certtest.NewAuthority(t).Issue(t, -time.Hour, time.Hour, "x")
	hash := fieldgate.HashCertificate(pinned.Certificate[0])
	c.device(fieldgate.DirectoryChange{ID: "d1"})
	c.device(fieldgate.DirectoryChange{ID: "d2", Certificates: []fieldgate.CredentialHash{hash}})
	byAuthority, byOwn := c.client("2", &issued), c.client("1.1", &pinned)
	check := func(when string, client *http.Client, want int, code string) {
		t.Helper()
		if status, body := c.get(client, ""); status != want || !strings.Contains(body, code) {
			t.Errorf("%s: %d %s", when, status, body)
		}
	}
	check("before", byAuthority, 200, "")
	check("before", byOwn, 200, "")
	c.device(fieldgate.DirectoryChange{ID: "d1", State: fieldgate.StateQuarantined})
	check("in quarantine", byAuthority, 403, "quarantined")
	check("in quarantine, on a new connection", c.client("1.1", &issued), 403, "quarantined")
	c.device(fieldgate.DirectoryChange{ID: "d1"})
	check("released", byAuthority, 200, "")
	c.device(fieldgate.DirectoryChange{ID: "d2"})
	check("without its certificate", byOwn, 401, "unauthenticated")
	check("the other", byAuthority, 200, "")
	c.settings.Devices.Files = nil
	if err := c.Reload(c.settings); err != nil {
		t.Fatal(err)
	}
	check("without the authority", byAuthority, 401, "unauthenticated")
	c.settings.Devices.Files = []string{c.authority.File}
	if err := c.Reload(c.settings); err != nil {
		t.Fatal(err)
	}
	check("with it again", byAuthority, 200, "")
	c.device(fieldgate.DirectoryChange{ID: "d1", State: fieldgate.StateRevoked})
	check("revoked", byAuthority, 401, "unauthenticated")
	check("revoked, on a new connection", c.client("1.1", &issued), 0, "")
}

// connectMQTT opens a session and gives the error that ends it, or refuses it.
func (c *certified) connectMQTT(own *tls.Certificate, username, password string) (ended chan error, err error) {
	c.t.Helper()
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: c.config(own, "mqtt")}
	conn, err := dialer.DialContext(c.t.Context(), "tcp", c.Addresses()["mqtts"])
	if err != nil {
		return nil, err
	}
	return c.begin(conn, username, password)
}

func (c *certified) begin(conn net.Conn, username, password string) (ended chan error, err error) {
	c.t.Helper()
	c.t.Cleanup(func() { conn.Close() })
	ended = make(chan error, 10)
	client := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), OnClientError: func(err error) { ended <- err },
		OnServerDisconnect: func(p *paho.Disconnect) { ended <- errors.New(p.Packet().String()) }})
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	_, err = client.Connect(ctx, &paho.Connect{ClientID: "c", KeepAlive: 30, CleanStart: true,
		Username: username, UsernameFlag: username != "", Password: []byte(password), PasswordFlag: password != ""})
	return ended, err
}

// MQTT needs neither user name nor password of who has shown a certificate; what is said besides has to be of the same device. A
// withdrawal ends the connection.
func TestMQTTWithCertificates(t *testing.T) {
	c := openCertified(t)
	first, hashes := newToken(t)
	second, others := newToken(t)
	issued, unknown := c.authority.Issue(t, -time.Hour, time.Hour, "d1"), certtest.NewAuthority(t).Issue(t, -time.Hour, time.Hour, "d1")
	pinned := certtest.NewAuthority(t).Issue(t, -time.Hour, time.Hour, "x")
	c.device(fieldgate.DirectoryChange{ID: "d1", Credentials: hashes})
	own := fieldgate.DirectoryChange{ID: "d2", Credentials: others, Certificates: []fieldgate.CredentialHash{fieldgate.HashCertificate(pinned.Certificate[0])}}
	c.device(own)
	for name, test := range map[string]struct {
		own                *tls.Certificate
		username, password string
		passes             bool
	}{
		"none":                    {nil, "", "", false},
		"a token alone":           {nil, "d1", first, true},
		"a certificate alone":     {&issued, "", "", true},
		"and the device's name":   {&issued, "d1", "", true},
		"and another name":        {&issued, "d2", "", false},
		"and its token":           {&issued, "d1", first, true},
		"and another's token":     {&issued, "", second, false},
		"and a password":          {&issued, "d1", "secret", false},
		"of an unknown authority": {&unknown, "", "", false},
		"registered":              {&pinned, "", "", true},
		"registered for another":  {&pinned, "d1", first, false},
	} {
		if _, err := c.connectMQTT(test.own, test.username, test.password); (err == nil) != test.passes {
			t.Errorf("%s: %v", name, err)
		}
	}
	socket, _, err := websocket.Dial(t.Context(), "wss://"+c.Addresses()["https"]+"/mqtt",
		&websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPClient: c.client("1.1", &issued)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.begin(websocket.NetConn(context.Background(), socket, websocket.MessageBinary), "", ""); err != nil {
		t.Errorf("over a WebSocket: %v", err)
	}
	ends := func(own *tls.Certificate, withdraw func()) {
		t.Helper()
		ended, err := c.connectMQTT(own, "", "")
		if err != nil {
			t.Fatal(err)
		}
		withdraw()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("the connection stays open")
		}
		if _, err := c.connectMQTT(own, "", ""); err == nil {
			t.Error("it is let in again")
		}
	}
	ends(&pinned, func() {
		own.Certificates = nil
		c.device(own)
	})
	ends(&issued, func() {
		c.settings.Devices.Files = nil
		if err := c.Reload(c.settings); err != nil {
			t.Fatal(err)
		}
	})
}

// A file that is no authority's is refused with what to do, and changes nothing.
func TestDeviceAuthorityFiles(t *testing.T) {
	folder := t.TempDir()
	authority := certtest.NewAuthority(t)
	leaf, key := filepath.Join(folder, "leaf.pem"), filepath.Join(folder, "key.pem")
	certtest.Write(t, authority.Issue(t, -time.Hour, time.Hour, "d1"), leaf, key)
	log := slog.New(slog.DiscardHandler)
	for file, want := range map[string]string{filepath.Join(folder, "none.pem"): "no such file", key: "no certificate in PEM form", leaf: "fieldgate device certificate"} {
		if _, err := (DeviceAuthorities{Files: []string{authority.File, file}}).read(log); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if found, err := (DeviceAuthorities{Files: []string{authority.File}}).read(log); err != nil || found == nil {
		t.Error(found, err)
	}
	if none, err := (DeviceAuthorities{}).read(log); err != nil || none != nil {
		t.Error(none, err)
	}
}
