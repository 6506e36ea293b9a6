package certificates

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/test/certtest"
	"fieldgate/test/output"
	"fieldgate/test/port"
)

// pebbleVersion is that of Let's Encrypt's ACME server for tests. Its programs are built by the Go tool, apart from this module.
const pebbleVersion = "v2.10.1"

// pebblePrograms builds an ACME server, and a DNS server that finds every name on this machine.
func pebblePrograms(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	for _, program := range []string{"pebble", "pebble-challtestsrv"} {
		command := exec.Command("go", "install", "github.com/letsencrypt/pebble/v2/cmd/"+program+"@"+pebbleVersion)
		command.Dir, command.Env = folder, append(os.Environ(), "GOBIN="+folder, "GOFLAGS=", "GOWORK=off")
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
	}
	return folder
}

// startPebble starts a server whose challenges are asked for at those ports. Its own certificate is from an authority that the system
// does not know, as that of a private ACME server is.
func startPebble(t *testing.T, folder string, tlsPort, httpPort int) ACME {
	t.Helper()
	own := t.TempDir()
	inOwn := func(name string) string { return filepath.Join(own, name) }
	authority := certtest.NewAuthority(t)
	certtest.Write(t, authority.Issue(t, -time.Hour, day, "127.0.0.1"), inOwn("server.pem"), inOwn("server-key.pem"))
	address, names := port.Free(t), port.Free(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": address, "managementListenAddress": port.Free(t), "certificate": inOwn("server.pem"), "privateKey": inOwn("server-key.pem"),
		"httpPort": httpPort, "tlsPort": tlsPort, "domainBlocklist": []string{"blocked.test"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(inOwn("config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(output.Buffer)
	for _, command := range []*exec.Cmd{
		exec.Command(filepath.Join(folder, "pebble-challtestsrv"), "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", names, "-http01", "",
			"-https01", "", "-tlsalpn01", "", "-doh", "", "-management", port.Free(t)),
		exec.Command(filepath.Join(folder, "pebble"), "-config", inOwn("config.json"), "-dnsserver", names, "-strict"),
	} {
		command.Stdout, command.Stderr = log, log
		command.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=20", "PEBBLE_AUTHZREUSE=0")
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			command.Process.Kill()
			command.Wait()
		})
	}
	settings := ACME{Directory: "https://" + address + "/dir", CAFile: authority.File, Email: "ops@example.com"}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool()}}}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		answer, err := client.Get(settings.Directory)
		if err == nil {
			answer.Body.Close()
			var resolver net.Conn
			if resolver, err = net.Dial("tcp", names); err == nil {
				resolver.Close()
				return settings
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v\n%s", err, log)
		}
	}
}

// listeners are a gateway's two, of which the plain one answers challenges, and that for TLS makes handshakes.
func listeners(t *testing.T) (secure, plain net.Listener) {
	t.Helper()
	for _, l := range []*net.Listener{&secure, &plain} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		*l = listener
	}
	return secure, plain
}

func serveBoth(c *Certificates, secure, plain net.Listener) {
	go http.Serve(plain, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := c.Challenge(r.URL.Path); answer != nil {
			w.Write(answer)
			return
		}
		http.NotFound(w, r)
	}))
	go func() {
		config := c.Config("http/1.1")
		for {
			link, err := secure.Accept()
			if err != nil {
				return
			}
			go func() {
				defer link.Close()
				tls.Server(link, config).Handshake()
			}()
		}
	}()
}

// issueAll asks for what is due and waits until it is done.
func issueAll(t *testing.T, c *Certificates, now time.Time, again bool) {
	t.Helper()
	var issuing sync.WaitGroup
	c.issue(t.Context(), &issuing, now, again)
	issuing.Wait()
}

// RFC 8555, with Let's Encrypt's own test server.
func TestACME(t *testing.T) {
	if testing.Short() {
		t.Skip("builds an ACME server")
	}
	programs := pebblePrograms(t)
	portOf := func(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
	for name, kinds := range map[string]struct{ tls, http, reachable bool }{
		"TLS-ALPN-01":               {true, false, true},
		"HTTP-01":                   {false, true, true},
		"HTTP-01 after TLS-ALPN-01": {true, true, false}, // what listens at the TLS port the server asks is not the gateway
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secure, plain := listeners(t)
			tlsPort := portOf(secure)
			if !kinds.reachable {
				tlsPort = portOf(plain)
			}
			settings := startPebble(t, programs, tlsPort, portOf(plain))
			settings.Names = []string{"gateway.test", "blocked.test"}
			c, log := open(t, Settings{ACME: &settings})
			c.config.TLSALPN01, c.config.HTTP01 = kinds.tls, kinds.http
			c.acme.config = c.config
			serveBoth(c, secure, plain)

			if states := c.States(); states[0].Names[0] != "gateway.test" || !states[0].NotAfter.IsZero() || states[0].Source != fieldgate.CertificateACME {
				t.Errorf("before: %+v", states)
			}
			began := time.Now()
			issueAll(t, c, began, false)
			states := c.States()
			if states[0].Problem != "" || states[0].NotAfter.Before(began) || states[0].Names[0] != "gateway.test" {
				t.Fatalf("%+v\n%s", states, log)
			}
			if got := named(t, c, "gateway.test"); got != "gateway.test" {
				t.Errorf("%s is shown", got)
			}
			// A name that the server refuses is said, and tried again later, each time after a longer while; or when somebody asks.
			refused := c.sources[1].(*acmeSource)
			if !strings.Contains(states[1].Problem, "rejectedIdentifier") && !strings.Contains(states[1].Problem, "blocked.test") {
				t.Errorf("%+v", states[1])
			}
			first := refused.waits
			if refused.due(began, false) || !refused.due(began, true) || !refused.due(time.Now().Add(first), false) {
				t.Error("it is not tried again when it should be")
			}
			issueAll(t, c, time.Now(), true)
			if refused.waits != 2*first {
				t.Errorf("it is tried again after %v, then %v", first, refused.waits)
			}

			// It is renewed in time, and what was issued is there after a restart.
			before := c.table.Load().first[0]
			issueAll(t, c, renewal(before.Leaf).Add(-time.Hour), false)
			if c.table.Load().first[0] != before {
				t.Error("it is renewed too early")
			}
			issueAll(t, c, renewal(before.Leaf).Add(time.Hour), false)
			renewed := c.table.Load().first[0]
			if renewed == before {
				t.Fatalf("it is not renewed\n%s", log)
			}
			again, err := New(c.config, c.settings)
			if err != nil {
				t.Fatal(err)
			}
			if got := again.table.Load().first[0].Leaf; !got.Equal(renewed.Leaf) || again.sources[0].(*acmeSource).due(time.Now(), true) {
				t.Error("after a restart it is issued again")
			}
			if len(c.challenges.answers)+len(c.challenges.certificates) != 0 {
				t.Error("answers to challenges stay")
			}
		})
	}
}

// While the ACME server is away all goes on with what there is.
func TestACMEServerIsAway(t *testing.T) {
	c, log := open(t, Settings{Files: []File{file(t, "file.test")}, ACME: &ACME{Directory: "https://" + port.Free(t) + "/dir", Names: []string{"gateway.test"}}})
	issueAll(t, c, time.Now(), false)
	if got := named(t, c, "gateway.test"); got != "file.test" {
		t.Errorf("%s is shown", got)
	}
	if state := c.States()[1]; !strings.Contains(state.Problem, "connection refused") || !strings.Contains(log.String(), "did not issue") {
		t.Errorf("%+v\n%s", state, log)
	}
}
