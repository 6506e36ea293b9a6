package httpfront

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/test/port"
)

var loopback = prefixes("127.0.0.1/32")

// over sends bytes to an address and returns all that comes back. An end by reset counts as one.
func over(t *testing.T, address, message string) string {
	t.Helper()
	link, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	link.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(link, message) // the front may have closed already
	answer, err := io.ReadAll(link)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("after %q: %v", answer, err)
	}
	return string(answer)
}

const askItem = "GET /items/1 HTTP/1.1\r\nHost: api.example\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n"

// A listener behind proxies lets nobody else in, and takes no request without a header (proxy-protocol.txt §2).
func TestProxyProtocol(t *testing.T) {
	t.Run("source", func(t *testing.T) {
		g := newGateway(t, newService(t), func(c *Config) { c.Settings.ProxyProtocol = loopback })
		for i, test := range []struct{ header, source string }{
			{"PROXY TCP4 192.0.2.9 198.51.100.1 4660 443\r\n", "192.0.2.9"},
			{"PROXY TCP6 2001:db8::9 2001:db8::1 4660 443\r\n", "2001:db8::9"},
			{"PROXY UNKNOWN\r\n", "127.0.0.1"},
			{"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", "127.0.0.1"}, // LOCAL
			{"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x09\xc6\x33\x64\x01\x12\x34\x01\xbb", "192.0.2.9"},
		} {
			answer := over(t, g.address, test.header+askItem)
			if !strings.HasPrefix(answer, "HTTP/1.1 200 ") || !strings.Contains(answer, `"X-Forwarded-For":"`+test.source+`"`) {
				t.Errorf("%q: %s", test.header, answer)
			}
			if r := g.records.next(t, i); r.Source.String() != test.source {
				t.Errorf("%q: recorded %s", test.header, r.Source)
			}
		}
	})
	t.Run("no header", func(t *testing.T) {
		g := newGateway(t, newService(t), func(c *Config) { c.Settings.ProxyProtocol = loopback })
		for i, message := range []string{askItem, "PROXY TCP4 192.0.2.9\r\n" + askItem, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 500)} {
			if answer := over(t, g.address, message); answer != "" {
				t.Errorf("%.20q is answered %q", message, answer)
			}
			if r := g.records.next(t, i); r.Problem != fieldgate.ProblemBadRequest || r.Source.String() != "127.0.0.1" || r.Findings&fieldgate.FindingMalformed == 0 {
				t.Errorf("%.20q: %+v", message, r)
			}
		}
		if refused := g.Stats().RefusedProxy; refused != 3 {
			t.Errorf("%d are counted", refused)
		}
	})
	t.Run("header too late", func(t *testing.T) {
		g := newGateway(t, newService(t), func(c *Config) {
			c.Settings.ProxyProtocol, c.HeadTimeout = loopback, 50*time.Millisecond
		})
		if answer := over(t, g.address, "PROXY TCP4 192.0.2.9 "); answer != "" {
			t.Errorf("%q", answer)
		}
	})
	t.Run("another peer", func(t *testing.T) {
		g := newGateway(t, newService(t), func(c *Config) { c.Settings.ProxyProtocol = prefixes("192.0.2.1/32") })
		if answer := over(t, g.address, "PROXY TCP4 192.0.2.9 198.51.100.1 4660 443\r\n"+askItem); answer != "" {
			t.Errorf("%q", answer)
		}
		if r := g.records.next(t, 0); r.Problem != fieldgate.ProblemBadRequest || r.Source.String() != "127.0.0.1" {
			t.Errorf("%+v", r)
		}
		// As soon as it is one of the proxies, it is let in.
		g.Replace(Settings{ProxyProtocol: loopback})
		if answer := over(t, g.address, "PROXY TCP4 192.0.2.9 198.51.100.1 4660 443\r\n"+askItem); !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
			t.Errorf("%q", answer)
		}
	})
	t.Run("the limit of a source counts for whom the proxy names", func(t *testing.T) {
		g := newGateway(t, newService(t), func(c *Config) {
			c.Settings.ProxyProtocol, c.MaxConnectionsSource = loopback, 1
		})
		held, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		io.WriteString(held, "PROXY TCP4 192.0.2.9 198.51.100.1 1 443\r\n"+strings.Replace(askItem, "Connection: close\r\n", "", 1))
		if _, err := held.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if answer := over(t, g.address, "PROXY TCP4 192.0.2.9 198.51.100.1 2 443\r\n"+askItem); answer != "" {
			t.Errorf("a second connection of one source: %q", answer)
		}
		if answer := over(t, g.address, "PROXY TCP4 192.0.2.10 198.51.100.1 2 443\r\n"+askItem); !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
			t.Errorf("one of another source: %q", answer)
		}
	})
}

// curl and HAProxy as proxies: what they send is understood, over TLS too.
func TestProxyProtocolOfOthers(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) {
		c.Settings.ProxyProtocol, c.Settings.ProxyProtocolTLS = loopback, loopback
	})
	secure := g.serveTLS(t)
	ask := func(t *testing.T, arguments ...string) seen {
		t.Helper()
		output, err := exec.Command("curl", append([]string{"-sSk", "--max-time", "10"}, arguments...)...).Output()
		var got seen
		if err != nil || json.Unmarshal(output, &got) != nil {
			t.Fatalf("curl %v: %v\n%s", arguments, err, output)
		}
		return got
	}
	for _, url := range []string{"http://" + g.address, "https://" + secure} {
		if got := ask(t, "--haproxy-protocol", url+"/items/1"); got.Fields["X-Forwarded-For"] != "127.0.0.1" {
			t.Errorf("curl, %s: %+v", url, got)
		}
		if output, err := exec.Command("curl", "-sSk", "--max-time", "10", url+"/items/1").CombinedOutput(); err == nil {
			t.Errorf("curl without a header, %s: %s", url, output)
		}
	}
	for name, test := range map[string]struct{ send, to, listen, source string }{
		"version 1":              {"send-proxy", g.address, "", "127.0.0.5"},
		"version 2":              {"send-proxy-v2", g.address, "", "127.0.0.5"},
		"version 2, extensions":  {"send-proxy-v2 proxy-v2-options unique-id,crc32c", g.address, "", "127.0.0.5"},
		"version 1 and TLS":      {"send-proxy", secure, "", "127.0.0.5"},
		"version 2 and TLS":      {"send-proxy-v2", secure, "", "127.0.0.5"},
		"version 1, IPv6":        {"send-proxy", g.address, "::1", "::1"},
		"version 2, IPv6":        {"send-proxy-v2", g.address, "::1", "::1"},
		"version 1, Unix socket": {"send-proxy", g.address, "unix", "127.0.0.1"},
		"version 2, Unix socket": {"send-proxy-v2", g.address, "unix", "127.0.0.1"},
	} {
		t.Run("HAProxy, "+name, func(t *testing.T) {
			folder, err := os.MkdirTemp("", "haproxy") // whose paths must have no comma
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(folder)
			network, front := "tcp", port.Free(t)
			bind, arguments, scheme := front, []string{"--interface", "127.0.0.5"}, "http"
			if test.to == secure {
				scheme = "https"
			}
			switch test.listen {
			case "::1":
				front = strings.Replace(front, "127.0.0.1", "[::1]", 1)
				bind, arguments = front, []string{"-g"}
			case "unix":
				network, bind = "unix", "unix@"+filepath.Join(folder, "s")
				arguments = []string{"--unix-socket", filepath.Join(folder, "s")}
			}
			config := filepath.Join(folder, "haproxy.cfg")
			text := fmt.Sprintf("defaults\n mode tcp\n timeout connect 5s\n timeout client 10s\n timeout server 10s\nlisten l\n bind %s\n unique-id-format %%{+X}o%%Ts\n server s %s %s\n", bind, test.to, test.send)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			proxy := exec.Command("haproxy", "-db", "-f", config)
			said := new(strings.Builder)
			proxy.Stdout, proxy.Stderr = said, said
			if err := proxy.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				proxy.Process.Kill()
				proxy.Wait()
			}()
			at := front
			if network == "unix" {
				at = arguments[1]
			}
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
				link, err := net.Dial(network, at)
				if err == nil {
					link.Close()
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%v\n%s", err, said)
				}
			}
			got := ask(t, append(arguments, scheme+"://"+front+"/items/1")...)
			if got.Fields["X-Forwarded-For"] != test.source || got.Fields["X-Forwarded-Proto"] != scheme {
				t.Errorf("%+v\n%s", got, said)
			}
		})
	}
}

// Trust counts from the next request on, on connections that are open too.
func TestTrustedProxies(t *testing.T) {
	g := newGateway(t, newService(t), nil)
	ask := func() (seen, *http.Response) {
		answer, content := g.do(t, "GET", "/items/1", "", "X-Forwarded-For", "6.6.6.6, 192.0.2.9", "X-Forwarded-Proto", "https", "Forwarded", "for=7.7.7.7")
		var got seen
		if err := json.Unmarshal([]byte(content), &got); err != nil {
			t.Fatal(err)
		}
		return got, answer
	}
	link := g.Stats().Accepted
	for i, test := range []struct {
		trusted      Settings
		source, for_ string
	}{
		{Settings{}, "127.0.0.1", "127.0.0.1"},
		{Settings{TrustedProxies: loopback}, "192.0.2.9", "192.0.2.9, 127.0.0.1"},
		{Settings{TrustedProxies: loopback, ForwardedIn: Forwarded}, "7.7.7.7", "7.7.7.7, 127.0.0.1"},
		{Settings{}, "127.0.0.1", "127.0.0.1"},
	} {
		g.Replace(test.trusted)
		got, _ := ask()
		if got.Fields["X-Forwarded-For"] != test.for_ || got.Fields["Forwarded"] != "" {
			t.Errorf("%d: upstreams are told %v", i, got.Fields)
		}
		if r := g.records.next(t, i); r.Source.String() != test.source {
			t.Errorf("%d: recorded %s", i, r.Source)
		}
	}
	if opened := g.Stats().Accepted - link; opened != 1 {
		t.Errorf("%d connections were needed", opened)
	}
}

// A malformed field of a trusted proxy is refused: its source would be unknown. The connection ends, and the front goes on.
func TestMalformedForwarded(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) { c.Settings.TrustedProxies, c.Settings.ForwardedIn = loopback, Forwarded })
	answer := g.raw(t, "GET /items/1 HTTP/1.1\r\nHost: a\r\nForwarded: for=\"\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, "malformed Forwarded field") {
		t.Errorf("%q", answer)
	}
	if r := g.records.next(t, 0); r.Status != 400 {
		t.Errorf("%+v", r)
	}
}

// The connections of a trusted proxy are those of many clients.
func TestTrustedProxiesAreNotLimited(t *testing.T) {
	g := newGateway(t, newService(t), func(c *Config) { c.Settings.TrustedProxies, c.MaxConnectionsSource = loopback, 1 })
	for range 3 {
		link, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		defer link.Close()
		io.WriteString(link, strings.Replace(askItem, "Connection: close\r\n", "", 1))
		if _, err := link.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

// RFC 9110 §15.4.9: plain requests are sent to HTTPS as they are, besides those of an ACME server (RFC 8555 §8.3).
func TestRedirectToHTTPS(t *testing.T) {
	const challenge = challengePath + "token"
	settings := Settings{RedirectPort: 8443, TrustedProxies: nil, Challenge: func(path string) []byte {
		if path == challenge {
			return []byte("token.thumbprint")
		}
		return nil
	}}
	g := newGateway(t, newService(t), func(c *Config) { c.Settings = settings })
	for request, want := range map[string]string{
		"GET /items/1?a=b%20c HTTP/1.1\r\nHost: API.example:8080\r\n":                                "308 https://api.example:8443/items/1?a=b%20c",
		"GET http://api.example/items/1 HTTP/1.1\r\nHost: api.example\r\n":                           "308 https://api.example:8443/items/1",
		"POST /items/1 HTTP/1.1\r\nHost: api.example\r\nContent-Length: 2\r\n":                       "308 https://api.example:8443/items/1",
		"GET / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n":                                             "308 https://[2001:db8::1]:8443/",
		"OPTIONS * HTTP/1.1\r\nHost: api.example\r\n":                                                "308 https://api.example:8443/",
		"HEAD /items/1 HTTP/1.1\r\nHost: api.example\r\n":                                            "308 https://api.example:8443/items/1",
		"GET /items/1 HTTP/1.0\r\n":                                                                  "400 ",
		"GET " + challenge + " HTTP/1.1\r\nHost: api.example\r\n":                                    "200 token.thumbprint",
		"GET " + challenge + "2 HTTP/1.1\r\nHost: api.example\r\n":                                   "308 https://api.example:8443" + challenge + "2",
		"GET /items/1 HTTP/1.1\r\nHost: api.example\r\nX-Forwarded-Proto: https\r\n":                 "308 https://api.example:8443/items/1",
		"GET /items/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n":          "308 https://a:8443/items/1",
		"PUT /items/1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n": "308 https://a:8443/items/1",
	} {
		body := ""
		if strings.HasPrefix(request, "POST") {
			body = "{}"
		}
		answer := g.raw(t, request+"Connection: close\r\n\r\n"+body)
		head, content, _ := strings.Cut(answer, "\r\n\r\n")
		got := head[len("HTTP/1.1 "):][:4]
		for line := range strings.SplitSeq(head, "\r\n") {
			if location, ok := strings.CutPrefix(line, "Location: "); ok {
				got += location
			}
		}
		if got == "200 " {
			got += content
		}
		if got != want {
			t.Errorf("%q: %q, want %q", request, answer, want)
		}
	}

	// Over TLS, and over the TLS of a trusted proxy, it is served.
	secure := g.serveTLS(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	answer, err := client.Get("https://" + secure + "/items/1")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 200 {
		t.Errorf("over TLS: %d", answer.StatusCode)
	}
	settings.TrustedProxies = loopback
	g.Replace(settings)
	for proto, want := range map[string]int{"https": 200, "http": 308} {
		answer, _ := g.do(t, "GET", "/items/1", "", "X-Forwarded-For", "192.0.2.9", "X-Forwarded-Proto", proto)
		if answer.StatusCode != want {
			t.Errorf("%s of a trusted proxy: %d", proto, answer.StatusCode)
		}
	}

	// Answers of the front itself keep connections alive.
	before := g.Stats().Accepted
	for range 3 {
		g.do(t, "GET", "/items/1", "")
		g.do(t, "POST", "/items/1", "some content")
	}
	if opened := g.Stats().Accepted - before; opened > 1 {
		t.Errorf("%d connections were needed", opened)
	}
}
