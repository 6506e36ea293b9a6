package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	coapdtls "github.com/plgd-dev/go-coap/v3/dtls"
	gocoap "github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	"github.com/plgd-dev/go-coap/v3/mux"
	"github.com/plgd-dev/go-coap/v3/options"
	coaptcp "github.com/plgd-dev/go-coap/v3/tcp"

	"fieldgate/test/certtest"
	"fieldgate/test/port"
)

// devicePSK is the key of device d1; libcoap wants one that is text.
const devicePSK = "a key of twenty-four ..."

// listenSecurely has the node listen for DTLS, TCP and TLS, and makes the files of device d1.
func (c *coapRig) listenSecurely(t *testing.T) {
	t.Helper()
	c.coaps, c.coapTCP, c.coapsTCP = port.Free(t), port.Free(t), port.Free(t)
	settings, err := os.ReadFile(c.n.config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(settings), "listen: {", fmt.Sprintf("listen: {coaps: '%s', coap-tcp: '%s', coaps-tcp: '%s', ", c.coaps, c.coapTCP, c.coapsTCP), 1)
	fleet := certtest.NewAuthority(t)
	c.n.configure("%sdevice-authorities: ['%s']\ntls: {internal-ca: {names: [localhost, 127.0.0.1]}}\n", text, fleet.File)
	folder := t.TempDir()
	c.files = make(map[string]string)
	for _, name := range []string{"ca", "certificate", "key", "foreign", "foreign-key", "psk", "token"} {
		c.files[name] = filepath.Join(folder, name)
	}
	c.ownCertificate = fleet.Issue(t, -time.Hour, time.Hour, "d1")
	certtest.Write(t, c.ownCertificate, c.files["certificate"], c.files["key"])
	stranger := certtest.NewAuthority(t)
	certtest.Write(t, stranger.Issue(t, -time.Hour, time.Hour, "d1"), c.files["foreign"], c.files["foreign-key"])
	c.files["foreign-ca"] = stranger.File
	c.write(t, "psk", hex.EncodeToString([]byte(devicePSK)))
}

func (c *coapRig) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(c.files[name], []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// identify gives device d1 its key, and the clients the authority of the gateway's certificate.
func (c *coapRig) identify(t *testing.T) {
	t.Helper()
	c.n.run("device", "psk", "d1", "--key-file", c.files["psk"])
	c.write(t, "token", c.token)
	c.write(t, "ca", c.n.run("tls", "ca")+"\n")
}

// ways are how libcoap's clients come in, besides UDP.
func (c *coapRig) ways() []coapWay {
	key := []string{"-u", "d1", "-k", devicePSK}
	certificate := []string{"-c", c.files["certificate"], "-j", c.files["key"], "-C", c.files["ca"]}
	coaps, coapsTCP := "coaps://"+c.coaps, "coaps+tcp://"+c.coapsTCP
	return []coapWay{
		{"DTLS with a key, OpenSSL", "coap-client-openssl", coaps, key, false},
		{"DTLS with a key, GnuTLS", "coap-client-gnutls", coaps, key, false},
		{"DTLS with a certificate, OpenSSL", "coap-client-openssl", coaps, certificate, false},
		{"DTLS with a certificate, GnuTLS", "coap-client-gnutls", coaps, certificate, false},
		{"TCP", "coap-client-notls", "coap+tcp://" + c.coapTCP, []string{"-O", "65002," + c.token}, true},
		{"TLS with a certificate, OpenSSL", "coap-client-openssl", coapsTCP, certificate, true},
		{"TLS with a certificate, GnuTLS", "coap-client-gnutls", coapsTCP, append([]string{"-b", "1024"}, certificate...), false}, // its messages have to fit into one TLS record, also with libcoap's server
	}
}

// secureCases are those over DTLS, TCP and TLS. The service lets nobody in who has not shown who he is.
func secureCases(c *coapRig) (cases []coapCase) {
	for i, way := range c.ways() {
		add := func(name string, run func(t *testing.T, c *coapRig)) {
			cases = append(cases, coapCase{"libcoap over " + way.name + ", " + name, func(t *testing.T, c *coapRig) { run(t, c.by(way)) }})
		}
		add("GET", func(t *testing.T, c *coapRig) { c.libcoap(t, "/known/small", []string{"-m", "get"}, "c:2.05", "hello") })
		for _, size := range []int{64 << 10, 1 << 20} {
			add(fmt.Sprintf("PUT %d bytes", size), func(t *testing.T, c *coapRig) {
				output := c.upload(t, fmt.Sprintf("/known/up-%d-%d", i, size), bytesOf(size))
				if way.bert && size == 1<<20 && !strings.Contains(output, "/BERT(") {
					t.Errorf("RFC 8323 §6: blocks were not sent several at once\n%.1000s", output)
				}
			})
			add(fmt.Sprintf("GET %d bytes", size), func(t *testing.T, c *coapRig) {
				c.download(t, fmt.Sprintf("/known/down-%d-%d", i, size), bytesOf(size))
			})
		}
		add("observe", func(t *testing.T, c *coapRig) {
			news := fmt.Sprintf("way-%d", i)
			observer := listen(t, c.way.tool, c.toolArguments("/news/"+news, "-v", "7", "-s", "50", "-B", "55", "-m", "get")...)
			observer.hears("c:2.05")
			for n := range 5 {
				c.tell(t, news, fmt.Sprintf(`{"n":%d}`, 100+n))
				observer.hears(fmt.Sprint(100 + n))
			}
		})
	}
	for _, tool := range []string{"coap-client-openssl", "coap-client-gnutls"} {
		refused := func(name string, base func(c *coapRig) string, arguments func(c *coapRig) []string) {
			cases = append(cases, coapCase{tool + " " + name, func(t *testing.T, c *coapRig) {
				c = c.by(coapWay{tool: tool, base: base(c), arguments: append([]string{"-v", "7", "-B", "3", "-m", "get"}, arguments(c)...)})
				if output, _ := exec.Command(tool, c.toolArguments("/open/small")...).CombinedOutput(); bytes.Contains(output, []byte("c:2.05")) {
					t.Errorf("got an answer:\n%.3000s", output)
				}
			}})
		}
		overDTLS := func(c *coapRig) string { return "coaps://" + c.coaps }
		overTLS := func(c *coapRig) string { return "coaps+tcp://" + c.coapsTCP }
		refused("with another key", overDTLS, func(*coapRig) []string { return []string{"-u", "d1", "-k", devicePSK + "!"} })
		refused("with an identity of nobody", overDTLS, func(*coapRig) []string { return []string{"-u", "nobody", "-k", devicePSK} })
		refused("with a certificate of another authority", overDTLS, func(c *coapRig) []string {
			return []string{"-c", c.files["foreign"], "-j", c.files["foreign-key"], "-C", c.files["ca"]}
		})
		for name, base := range map[string]func(*coapRig) string{"DTLS": overDTLS, "TLS": overTLS} {
			refused("that trusts another authority, over "+name, base, func(c *coapRig) []string {
				return []string{"-c", c.files["certificate"], "-j", c.files["key"], "-R", c.files["foreign-ca"]}
			})
		}
	}
	return append(append(cases, commandWays()...), goCoAPWays()...)
}

// commandWays have the command fieldgate coap move bodies, and observe, in all ways.
func commandWays() (cases []coapCase) {
	token := func(c *coapRig) []string { return []string{"--token-file", c.files["token"]} }
	certificate := func(c *coapRig) []string {
		return []string{"--certificate", c.files["certificate"], "--key", c.files["key"], "--ca", c.files["ca"]}
	}
	for _, way := range []struct {
		name, scheme string
		flags        func(c *coapRig) []string
	}{
		{"DTLS with a key", "coaps", func(c *coapRig) []string { return []string{"--psk-identity", "d1", "--psk-file", c.files["psk"]} }},
		{"DTLS with a certificate", "coaps", certificate},
		{"TCP", "coap+tcp", token},
		{"TLS", "coaps+tcp", certificate},
		{"WebSocket", "coap+ws", token},
	} {
		cases = append(cases, coapCase{"fieldgate coap over " + way.name, func(t *testing.T, c *coapRig) {
			file, body := filepath.Join(t.TempDir(), "up"), bytesOf(1<<20)
			if err := os.WriteFile(file, body, 0o600); err != nil {
				t.Fatal(err)
			}
			name := "command-" + strings.ReplaceAll(way.name, " ", "-")
			url := way.scheme + ":///known/" + name
			arguments := append(way.flags(c), "--config", c.n.config)
			mustTool(t, build(t), append([]string{"coap", "put", url, "--file", file, "--content-format", "octet-stream"}, arguments...)...)
			out, err := exec.Command(build(t), append([]string{"coap", "get", url}, arguments...)...).Output()
			if err != nil || !same(out, body) || !same(c.store.get(name), body) {
				t.Errorf("%v; %d bytes came, or they differ", err, len(out))
			}
			observer := listen(t, build(t), append([]string{"coap", "observe", way.scheme + ":///news/" + name, "--output", "json"}, arguments...)...)
			observer.hears("2.05")
			c.tell(t, name, `{"n":100}`)
			observer.hears("100")
		}})
	}
	return cases
}

// dialPSK opens a DTLS session of go-coap as device d1.
func (c *coapRig) dialPSK(t *testing.T, address string) (mux.Conn, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	session, err := dtls.DialWithOptions("udp", to, dtls.WithPSKIdentityHint([]byte("d1")), dtls.WithCipherSuites(dtls.TLS_PSK_WITH_AES_128_CCM_8),
		dtls.WithPSK(func([]byte) ([]byte, error) { return []byte(devicePSK), nil }), dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()))
	if err != nil {
		t.Fatal(err)
	}
	if err := session.HandshakeContext(ctx); err != nil { // go-coap's own has no end
		session.Close()
		t.Fatal(err)
	}
	return c.opened(t, coapdtls.Client(session, options.WithErrors(func(error) {}), options.WithCloseSocket()))
}

// opened closes a connection of go-coap in the end, and bounds what is done with it.
func (c *coapRig) opened(t *testing.T, conn mux.Conn) (mux.Conn, context.Context) {
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return conn, ctx
}

// goCoAPWays are go-coap's over DTLS, TCP and TLS, and of a session that moves.
func goCoAPWays() (cases []coapCase) {
	for _, way := range []struct {
		name string
		dial func(t *testing.T, c *coapRig) (mux.Conn, context.Context)
	}{
		{"DTLS", func(t *testing.T, c *coapRig) (mux.Conn, context.Context) { return c.dialPSK(t, c.coaps) }},
		{"TCP", func(t *testing.T, c *coapRig) (mux.Conn, context.Context) {
			conn, err := coaptcp.Dial(c.coapTCP, options.WithErrors(func(error) {}))
			if err != nil {
				t.Fatal(err)
			}
			return c.opened(t, conn)
		}},
		{"TLS", func(t *testing.T, c *coapRig) (mux.Conn, context.Context) {
			authorities := x509.NewCertPool()
			text, err := os.ReadFile(c.files["ca"])
			if err != nil || !authorities.AppendCertsFromPEM(text) {
				t.Fatal(err)
			}
			conn, err := coaptcp.Dial(c.coapsTCP, options.WithErrors(func(error) {}),
				options.WithTLS(&tls.Config{RootCAs: authorities, ServerName: "localhost", NextProtos: []string{"coap"}, Certificates: []tls.Certificate{c.ownCertificate}}))
			if err != nil {
				t.Fatal(err)
			}
			return c.opened(t, conn)
		}},
	} {
		cases = append(cases, coapCase{"go-coap over " + way.name, func(t *testing.T, c *coapRig) {
			conn, ctx := way.dial(t, c)
			credential := gocoap.Option{ID: 65002, Value: []byte(c.token)}
			for _, size := range []int{20, 64 << 10, 1 << 20} {
				name := fmt.Sprintf("gocoap-%s-%d", way.name, size)
				body := bytesOf(size)
				m, err := conn.Put(ctx, "/known/"+name, gocoap.AppOctets, bytes.NewReader(body), credential)
				if err != nil || m.Code() != codes.Changed || !same(c.store.get(name), body) {
					t.Errorf("PUT of %d bytes: %v %v; %d bytes arrived, or they differ", size, m, err, len(c.store.get(name)))
				}
				m, err = conn.Get(ctx, "/known/"+name, credential)
				if got := bodyOf(t, m, err); !same(got, body) {
					t.Errorf("GET of %d bytes: %d bytes came, or they differ", size, len(got))
				}
			}
			c.observe(t, ctx, conn, "gocoap-"+way.name, func() {})
		}})
	}
	return append(cases, coapCase{"go-coap over DTLS from addresses that change", func(t *testing.T, c *coapRig) {
		nat := newNAT(t, c.coaps)
		conn, ctx := c.dialPSK(t, nat.inside.LocalAddr().String())
		get := func() {
			m, err := conn.Get(ctx, "/known/small")
			if got := bodyOf(t, m, err); string(got) != "hello" {
				t.Errorf("%q", got)
			}
		}
		// From a new address each of the first four records allows for two datagrams to it, so that observations that speak by themselves need some.
		for range 3 {
			nat.rebind(t)
			for range 4 {
				get()
			}
		}
		c.observe(t, ctx, conn, "nat", func() {
			nat.rebind(t)
			for range 4 {
				get()
			}
		})
	}})
}

func bodyOf(t *testing.T, m *pool.Message, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	body, err := m.ReadBody()
	if err != nil || m.Code() != codes.Content {
		t.Fatalf("%v %v", m.Code(), err)
	}
	return body
}

// observe observes news, of which some come before meanwhile and some after it.
func (c *coapRig) observe(t *testing.T, ctx context.Context, conn mux.Conn, name string, meanwhile func()) {
	t.Helper()
	seen := make(chan string, 100)
	observation, err := conn.Observe(ctx, "/news/"+name, func(m *pool.Message) {
		body, _ := m.ReadBody()
		seen <- string(body)
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if i == 3 {
			meanwhile()
		}
		body := fmt.Sprintf(`{"n":%d}`, i)
		c.tell(t, name, body)
		for got := ""; got != body; {
			select {
			case got = <-seen:
			case <-ctx.Done():
				t.Fatalf("was not notified of %s", body)
			}
		}
	}
	if err := observation.Cancel(ctx); err != nil {
		t.Error(err)
	}
}
