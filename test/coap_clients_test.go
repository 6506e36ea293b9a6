package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocoap "github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	"github.com/plgd-dev/go-coap/v3/mux"
	coapnet "github.com/plgd-dev/go-coap/v3/net"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/udp"
	"github.com/plgd-dev/go-coap/v3/udp/client"
)

// storeContract has bytes that are written and read, by anybody and by devices, and news that are observed.
const storeContract = `openapi: 3.1.0
info: {title: Store, version: 1.0.0}
x-fieldgate: {api: store, upstreams: {store: {ref: env/store}}}
security: [{token: []}]
paths:
  /open/{name}:
    parameters: [&name {name: name, in: path, required: true, schema: {type: string}}]
    get:
      operationId: openGet
      x-fieldgate: {upstream: store, access: [anonymous]}
      x-fieldgate-bindings: {coap: {}}
      responses: &content {'200': {description: ok, content: {application/octet-stream: {}, application/json: {}}}, '404': {description: none}}
    put:
      operationId: openPut
      x-fieldgate: {upstream: store, access: [anonymous]}
      x-fieldgate-bindings: {coap: {}}
      requestBody: &bytes {required: true, content: {application/octet-stream: {}}}
      responses: &done {'204': {description: done}}
    post:
      operationId: openPost
      x-fieldgate: {upstream: store, access: [anonymous]}
      x-fieldgate-bindings: {coap: {}}
      requestBody: *bytes
      responses: {'201': {description: created}}
    delete:
      operationId: openDelete
      x-fieldgate: {upstream: store, access: [anonymous]}
      x-fieldgate-bindings: {coap: {}}
      responses: *done
    patch:
      operationId: openPatch
      x-fieldgate: {upstream: store, access: [anonymous]}
      x-fieldgate-bindings: {coap: {}}
      requestBody: *bytes
      responses: *done
  /query/{name}:
    parameters: [*name]
    post:
      operationId: query
      x-fieldgate: {upstream: store, access: [anonymous]}
      x-fieldgate-bindings: {coap: {method: FETCH}}
      requestBody: *bytes
      responses: *content
  /merge/{name}:
    parameters: [*name]
    patch:
      operationId: merge
      x-fieldgate: {upstream: store, access: [anonymous]}
      x-fieldgate-bindings: {coap: {method: IPATCH}}
      requestBody: *bytes
      responses: *done
  /known/{name}:
    parameters: [*name]
    get: {operationId: knownGet, x-fieldgate: {upstream: store}, x-fieldgate-bindings: {coap: {}}, responses: *content}
    put: {operationId: knownPut, x-fieldgate: {upstream: store}, x-fieldgate-bindings: {coap: {}}, requestBody: *bytes, responses: *done}
  /news/{name}:
    parameters: [*name]
    get:
      operationId: follow
      x-fieldgate: {access: [anonymous]}
      x-fieldgate-bindings: {coap: {observe: true}, mqtt: {topic: 'news/{name}', action: subscribe, qos: 1}}
      responses: {'200': {description: ok, content: {application/json: {}}}}
    post:
      operationId: tell
      x-fieldgate-bindings: {coap: {}, mqtt: {topic: 'news/{name}', action: publish, qos: 1}}
      requestBody: {required: true, content: {application/json: {schema: {type: object}}}}
      responses: *done
components: {securitySchemes: {token: {type: http, scheme: bearer}}}
`

// store is the service behind storeContract. What begins with slow takes so long that the answer comes separately (RFC 7252 section 5.2.2).
type store struct {
	mu     sync.Mutex
	bodies map[string][]byte
}

func (s *store) get(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies[name]
}

func (s *store) set(name string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies[name] = body
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := filepath.Base(r.URL.Path)
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if strings.HasPrefix(name, "slow") {
		time.Sleep(600 * time.Millisecond)
	}
	switch r.Method {
	case "GET":
		body := s.get(name)
		if body == nil {
			w.WriteHeader(404)
			return
		}
		kind := "application/octet-stream"
		if name == "json" {
			kind = "application/json"
		}
		sum := sha256.Sum256(body)
		w.Header().Set("Content-Type", kind)
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
		w.Write(body)
	case "POST":
		if strings.HasPrefix(r.URL.Path, "/query/") { // a FETCH
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Write(append([]byte("found "), sent...))
			return
		}
		s.set(name, sent)
		w.Header().Set("Location", "/open/"+name+"/1?made=yes")
		w.WriteHeader(201)
	case "DELETE":
		s.mu.Lock()
		delete(s.bodies, name)
		s.mu.Unlock()
		w.WriteHeader(204)
	default:
		s.set(name, sent)
		w.WriteHeader(204)
	}
}

// bytesOf is a body whose bytes tell where they stand; clients/coap.mjs makes the same.
func bytesOf(length int) []byte {
	body := make([]byte, length)
	for i := range body {
		body[i] = byte(i*7 + i>>8*13)
	}
	return body
}

func same(a, b []byte) bool { return sha256.Sum256(a) == sha256.Sum256(b) }

// coapRig is what all clients of CoAP are tried with.
type coapRig struct {
	n     *node
	store *store
	token string
	way   coapWay // that libcoap's client takes

	coaps, coapTCP, coapsTCP string // host:port
	ownCertificate           tls.Certificate
	files                    map[string]string // ca, certificate, key and psk: what a client shows of itself, and what it trusts
}

// coapWay is how a client of libcoap comes to the gateway.
type coapWay struct {
	name      string
	tool      string
	base      string // scheme and address
	arguments []string
	bert      bool // it sends several blocks at once (RFC 8323 section 6)
}

// by is the rig for clients that come in that way.
func (c *coapRig) by(way coapWay) *coapRig {
	other := *c
	other.way = way
	return &other
}

func (c *coapRig) url(path string) string { return c.way.base + path }

// toolArguments are those of coap-client for a request.
func (c *coapRig) toolArguments(path string, arguments ...string) []string {
	return append(slices.Concat(c.way.arguments, arguments), c.url(path))
}

// libcoap runs coap-client, and wants words in what it says, or not where they begin with an exclamation mark.
func (c *coapRig) libcoap(t *testing.T, path string, arguments []string, words ...string) string {
	t.Helper()
	output := mustTool(t, c.way.tool, c.toolArguments(path, append([]string{"-v", "7", "-B", "50"}, arguments...)...)...)
	for _, word := range words {
		absent, not := strings.CutPrefix(word, "!")
		if strings.Contains(output, absent) == not {
			t.Errorf("%q: want %v\n%.3000s", absent, !not, output)
		}
	}
	return output
}

// upload has coap-client send a body from a file, and looks at what the service got.
func (c *coapRig) upload(t *testing.T, path string, body []byte, arguments ...string) (output string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "up")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	output = mustTool(t, c.way.tool, c.toolArguments(path, append([]string{"-v", "6", "-B", "55", "-m", "put", "-t", "42", "-f", file}, arguments...)...)...)
	if got := c.store.get(filepath.Base(path)); !same(got, body) {
		t.Errorf("%d bytes arrived of %d, or they differ\n%.2000s", len(got), len(body), output)
	}
	return output
}

// download has coap-client fetch a body into a file.
func (c *coapRig) download(t *testing.T, path string, want []byte, arguments ...string) {
	t.Helper()
	c.store.set(filepath.Base(path), want)
	file := filepath.Join(t.TempDir(), "down")
	output := mustTool(t, c.way.tool, c.toolArguments(path, append([]string{"-v", "6", "-B", "55", "-m", "get", "-o", file}, arguments...)...)...)
	if got, err := os.ReadFile(file); err != nil || !same(got, want) {
		t.Errorf("%v; %d bytes came of %d, or they differ\n%.2000s", err, len(got), len(want), output)
	}
}

// coapCase is one scenario of one client.
type coapCase struct {
	name string
	run  func(t *testing.T, c *coapRig)
}

// Real clients of CoAP do all that they can with the built product: coap-client of libcoap, which sends a new token with each block and
// knows Echo, go-coap, which sends one token with all blocks, and the npm package coap, which knows no Echo.
func TestCoAPClients(t *testing.T) {
	t.Parallel() // it mostly waits
	if _, err := os.Stat("clients/node_modules/coap"); err != nil {
		t.Fatal(`the npm package is missing: run "make test-clients"`)
	}
	c := &coapRig{store: &store{bodies: map[string][]byte{"small": []byte("hello"), "slow-a": []byte("late"), "slow-npm": []byte("late"), "json": []byte(`{"a":1}`),
		"npm-small": bytesOf(20), "big8": bytesOf(8 << 10), "big64": bytesOf(64 << 10)}}}
	service := httptest.NewServer(c.store)
	t.Cleanup(service.Close)
	c.n = newNode(t, map[string]string{"store": service.URL})
	c.listenSecurely(t)
	c.way = coapWay{tool: "coap-client-notls", base: "coap://" + c.n.coap}
	c.n.start()
	c.n.run("api", "publish", writeDocument(t, "store.yaml", storeContract))
	c.token = c.n.run("device", "add", "d1", "--quiet")
	c.identify(t)
	wait(t, "the contract to be served", func() bool {
		output, err := tool(t, "coap-client-notls", "-B", "2", "-m", "get", c.url("/open/small"))
		return err == nil && strings.Contains(output, "hello")
	})
	cases := append(libcoapCases(), libcoapBlockCases()...)
	cases = append(cases, goCoAPCases()...)
	cases = append(cases, commandCases()...)
	cases = append(cases, secureCases(c)...)
	for _, scenario := range cases {
		t.Run(scenario.name, func(t *testing.T) {
			t.Parallel()
			scenario.run(t, c)
		})
	}
	t.Run("npm", func(t *testing.T) {
		t.Parallel()
		c.npm(t)
	})
}

// libcoapCases are ETSI's TD_COAP_CORE scenarios and others that are one exchange.
func libcoapCases() []coapCase {
	one := func(name, path string, arguments []string, words ...string) coapCase {
		return coapCase{"libcoap " + name, func(t *testing.T, c *coapRig) { c.libcoap(t, path, arguments, words...) }}
	}
	octets := func(method, body string, more ...string) []string {
		return append([]string{"-m", method, "-t", "42", "-e", body}, more...)
	}
	return []coapCase{
		one("CON GET", "/open/small", []string{"-m", "get"}, "t:CON c:GET", "t:ACK c:2.05", "hello"),
		one("NON GET", "/open/small", []string{"-N", "-m", "get"}, "t:NON c:GET", "t:NON c:2.05", "hello", "!t:CON"),
		one("CON PUT", "/open/put", octets("put", "x"), "t:ACK c:2.04"),
		one("NON PUT", "/open/put", octets("put", "x", "-N"), "t:NON c:2.04", "!t:CON"),
		one("CON POST, with a location", "/open/post", octets("post", "x"), "t:ACK c:2.01", "Location-Path:open, Location-Path:post", "Location-Query:made=yes"),
		one("NON POST", "/open/post", octets("post", "x", "-N"), "t:NON c:2.01", "!t:CON"),
		one("CON DELETE", "/open/gone", []string{"-m", "delete"}, "t:ACK c:2.02"),
		one("NON DELETE", "/open/gone", []string{"-N", "-m", "delete"}, "t:NON c:2.02", "!t:CON"),
		one("FETCH", "/query/a", octets("fetch", "q"), "c:2.05", "found q"),
		one("PATCH", "/open/patched", octets("patch", "p"), "c:2.04"),
		one("iPATCH", "/merge/patched", octets("ipatch", "p"), "c:2.04"),
		one("separate response to CON", "/open/slow-a", []string{"-m", "get"}, "t:ACK c:0.00", "t:CON c:2.05", "late"),
		one("separate response to NON", "/open/slow-a", []string{"-N", "-m", "get"}, "t:NON c:2.05", "late", "!t:CON"),
		one("no token", "/open/small", []string{"-T", ""}, "c:2.05"),
		one("not found", "/nowhere", nil, "c:4.04"),
		one("method not allowed", "/query/a", []string{"-m", "delete"}, "c:4.05"),
		one("unknown elective option", "/open/small", []string{"-O", "65000,0x01"}, "c:2.05"),
		one("unknown critical option", "/open/small", []string{"-O", "65001,0x01"}, "c:4.02"),
		one("unknown critical option in NON", "/open/small", []string{"-N", "-O", "65001,0x01", "-B", "5"}, "t:RST", "!c:2.05"),
		one("Proxy-Uri", "/open/small", []string{"-O", "35,coap://elsewhere/"}, "c:5.05"),
		one("Accept CBOR of JSON", "/open/json", []string{"-A", "60"}, "c:2.05", "Content-Format:application/cbor"),
		one("Accept that cannot be had", "/open/json", []string{"-A", "0"}, "c:4.06"),
		one("wrong content format", "/open/small", []string{"-m", "put", "-t", "41", "-e", "<a/>"}, "c:4.15"),
		one("wrong credential", "/known/small", []string{"-O", "65002,fgd_wrong"}, "c:4.01"),
		{"libcoap ETag", func(t *testing.T, c *coapRig) {
			sum := sha256.Sum256([]byte("hello"))
			c.libcoap(t, "/open/small", []string{"-O", "4,0x" + hex.EncodeToString(sum[:8])}, "c:2.03", "!hello")
			c.libcoap(t, "/open/small", []string{"-O", "4,0x0102"}, "c:2.05", "hello")
		}},
		{"libcoap credential", func(t *testing.T, c *coapRig) {
			c.libcoap(t, "/known/small", []string{"-O", "65002," + c.token}, "c:2.05", "hello")
		}},
		{"libcoap observe", func(t *testing.T, c *coapRig) {
			observer := listen(t, "coap-client-notls", "-v", "7", "-s", "20", "-B", "55", "-m", "get", c.url("/news/libcoap"))
			observer.hears("c:2.05")
			for i := range 25 {
				c.tell(t, "libcoap", fmt.Sprintf(`{"n":%d}`, 100+i))
				observer.hears(fmt.Sprint(100 + i))
			}
			observer.hears("Observe:1") // it goes
		}},
	}
}

// tell publishes news as a device.
func (c *coapRig) tell(t *testing.T, name, body string) {
	t.Helper()
	request, err := http.NewRequest("POST", "http://"+c.n.http+"/news/"+name, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 204 {
		t.Fatalf("news: %s", response.Status)
	}
}

// libcoapBlockCases move bodies in blocks: of all sizes, large ones, at the same time, and with loss.
func libcoapBlockCases() (cases []coapCase) {
	for _, size := range []int{16, 32, 64, 128, 256, 512, 1024} {
		block := fmt.Sprint(size)
		cases = append(cases,
			coapCase{"libcoap PUT 64 KiB in blocks of " + block, func(t *testing.T, c *coapRig) {
				c.upload(t, "/open/up"+block, bytesOf(64<<10), "-b", block)
			}},
			coapCase{"libcoap GET 64 KiB in blocks of " + block, func(t *testing.T, c *coapRig) {
				c.download(t, "/open/down"+block, bytesOf(64<<10), "-b", block)
			}})
	}
	for _, block := range []string{"256", "1024"} {
		cases = append(cases,
			coapCase{"libcoap PUT 1 MiB in blocks of " + block, func(t *testing.T, c *coapRig) { c.upload(t, "/open/mega-up"+block, bytesOf(1<<20), "-b", block) }},
			coapCase{"libcoap GET 1 MiB in blocks of " + block, func(t *testing.T, c *coapRig) { c.download(t, "/open/mega-down"+block, bytesOf(1<<20), "-b", block) }})
	}
	return append(cases,
		coapCase{"libcoap PUT with a tenth lost", func(t *testing.T, c *coapRig) {
			c.upload(t, "/known/lossy-up", bytesOf(6000), "-b", "1024", "-l", "10%", "-O", "65002,"+c.token)
		}},
		coapCase{"libcoap GET with a tenth lost", func(t *testing.T, c *coapRig) {
			c.download(t, "/known/lossy-down", bytesOf(6000), "-b", "1024", "-l", "10%", "-O", "65002,"+c.token)
		}},
		coapCase{"libcoap PUT, first datagrams lost", func(t *testing.T, c *coapRig) { c.upload(t, "/open/lost-up", bytesOf(3000), "-l", "1,3") }},
		coapCase{"libcoap GET in NON blocks", func(t *testing.T, c *coapRig) { c.download(t, "/open/non-down", bytesOf(10_000), "-N", "-b", "256") }},
		coapCase{"libcoap GET with -L 7, which 4.3.1 takes for Block", func(t *testing.T, c *coapRig) { c.download(t, "/open/q-down", bytesOf(10_000), "-L", "7") }},
		coapCase{"libcoap PUT that is too large", func(t *testing.T, c *coapRig) {
			file := filepath.Join(t.TempDir(), "large")
			if err := os.WriteFile(file, bytesOf(1<<20+1), 0o600); err != nil {
				t.Fatal(err)
			}
			c.libcoap(t, "/open/too-large", []string{"-m", "put", "-t", "42", "-f", file}, "c:4.13")
		}},
		coapCase{"libcoap uploads of one resource at the same time", func(t *testing.T, c *coapRig) {
			bodies := [][]byte{bytesOf(20_000), bytes.Repeat([]byte("b"), 20_000)}
			var group sync.WaitGroup
			for i, body := range bodies {
				file := filepath.Join(t.TempDir(), fmt.Sprint(i))
				if err := os.WriteFile(file, body, 0o600); err != nil {
					t.Fatal(err)
				}
				group.Go(func() {
					tool(t, "coap-client-notls", "-B", "50", "-m", "put", "-t", "42", "-f", file, c.url("/open/both"))
				})
			}
			group.Wait()
			if got := c.store.get("both"); !same(got, bodies[0]) && !same(got, bodies[1]) {
				t.Errorf("%d bytes of neither", len(got))
			}
		}})
}

func goCoAPCases() []coapCase {
	dial := func(t *testing.T, c *coapRig) (*client.Conn, context.Context) {
		conn, err := udp.Dial(c.n.coap, options.WithErrors(func(error) {}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		t.Cleanup(cancel)
		return conn, ctx
	}
	read := func(t *testing.T, m *pool.Message, err error) []byte {
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
	credential := func(c *coapRig) gocoap.Option { return gocoap.Option{ID: 65002, Value: []byte(c.token)} }
	return []coapCase{
		{"go-coap GET", func(t *testing.T, c *coapRig) {
			conn, ctx := dial(t, c)
			m, err := conn.Get(ctx, "/open/small")
			if got := read(t, m, err); string(got) != "hello" {
				t.Errorf("%q", got)
			}
		}},
		{"go-coap a separate response", func(t *testing.T, c *coapRig) {
			conn, ctx := dial(t, c)
			m, err := conn.Get(ctx, "/open/slow-a")
			if got := read(t, m, err); string(got) != "late" {
				t.Errorf("%q", got)
			}
		}},
		{"go-coap PUT 64 KiB", func(t *testing.T, c *coapRig) {
			conn, ctx := dial(t, c)
			body := bytesOf(64 << 10)
			m, err := conn.Put(ctx, "/open/gocoap", gocoap.AppOctets, bytes.NewReader(body))
			if err != nil || m.Code() != codes.Changed || !same(c.store.get("gocoap"), body) {
				t.Errorf("%v %v; %d bytes arrived, or they differ", m, err, len(c.store.get("gocoap")))
			}
		}},
		{"go-coap GET 64 KiB by a known device", func(t *testing.T, c *coapRig) {
			conn, ctx := dial(t, c)
			m, err := conn.Get(ctx, "/known/big64", credential(c))
			if got := read(t, m, err); !same(got, bytesOf(64<<10)) {
				t.Errorf("%d bytes came, or they differ", len(got))
			}
		}},
		{"go-coap observe without Echo", func(t *testing.T, c *coapRig) {
			conn, ctx := dial(t, c)
			seen := make(chan string, 100)
			observation, err := conn.Observe(ctx, "/news/gocoap", func(m *pool.Message) {
				body, _ := m.ReadBody()
				seen <- string(body)
			})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 25 {
				body := fmt.Sprintf(`{"n":%d}`, i)
				c.tell(t, "gocoap", body)
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
		}},
	}
}

// commandCases have the command fieldgate coap ask a server of go-coap's.
func commandCases() []coapCase {
	serve := func(t *testing.T) (address string) {
		router := mux.NewRouter()
		handle := func(path string, answer func(w mux.ResponseWriter, r *mux.Message)) {
			if err := router.Handle(path, mux.HandlerFunc(answer)); err != nil {
				t.Fatal(err)
			}
		}
		handle("/big", func(w mux.ResponseWriter, r *mux.Message) {
			w.SetResponse(codes.Content, gocoap.AppOctets, bytes.NewReader(bytesOf(20_000)))
		})
		handle("/put", func(w mux.ResponseWriter, r *mux.Message) {
			body, _ := r.ReadBody()
			w.SetResponse(codes.Changed, gocoap.AppJSON, bytes.NewReader(body))
		})
		handle("/no", func(w mux.ResponseWriter, r *mux.Message) {
			w.SetResponse(codes.Forbidden, gocoap.TextPlain, strings.NewReader("not you"))
		})
		listener, err := coapnet.NewListenUDP("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := udp.NewServer(options.WithMux(router), options.WithErrors(func(error) {}))
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			server.Serve(listener)
		}()
		t.Cleanup(func() {
			server.Stop()
			listener.Close()
			<-ended
		})
		return "coap://" + listener.LocalAddr().String()
	}
	return []coapCase{
		{"fieldgate coap get from go-coap", func(t *testing.T, c *coapRig) {
			out, err := exec.Command(build(t), "coap", "get", serve(t)+"/big", "--block-size", "256").Output()
			if err != nil || !same(out, bytesOf(20_000)) {
				t.Errorf("%v; %d bytes came, or they differ", err, len(out))
			}
		}},
		{"fieldgate coap put to go-coap", func(t *testing.T, c *coapRig) {
			if out := c.n.run("coap", "put", serve(t)+"/put", `{"a": 1}`, "--output", "json"); !strings.Contains(out, `"code": "2.04"`) || !strings.Contains(out, `"a": 1`) {
				t.Error(out)
			}
		}},
		{"fieldgate coap refused by go-coap", func(t *testing.T, c *coapRig) {
			if _, err := c.n.try("coap", "get", serve(t)+"/no"); err == nil || !strings.Contains(err.Error(), "4.03 Forbidden: not you") {
				t.Error(err)
			}
		}},
		{"fieldgate coap put and get 1 MiB", func(t *testing.T, c *coapRig) {
			file := filepath.Join(t.TempDir(), "up")
			if err := os.WriteFile(file, bytesOf(1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			c.n.run("coap", "put", c.url("/open/command"), "--file", file, "--content-format", "octet-stream")
			out, err := exec.Command(build(t), "coap", "get", c.url("/open/command")).Output()
			if err != nil || !same(out, bytesOf(1<<20)) || !same(c.store.get("command"), bytesOf(1<<20)) {
				t.Errorf("%v; %d bytes came, or they differ", err, len(out))
			}
		}},
	}
}

// npm runs clients/coap.mjs; each of its steps is a test.
func (c *coapRig) npm(t *testing.T) {
	_, port, _ := net.SplitHostPort(c.n.coap)
	settings, err := json.Marshal(map[string]string{"url": "coap://127.0.0.1:" + port, "token": c.token})
	if err != nil {
		t.Fatal(err)
	}
	output := mustTool(t, "node", "clients/coap.mjs", string(settings))
	steps := 0
	for line := range strings.Lines(output) {
		var step struct{ Name, Error string }
		if json.Unmarshal([]byte(line), &step) != nil {
			t.Errorf("it says %q", line)
			continue
		}
		steps++
		t.Run(step.Name, func(t *testing.T) {
			if step.Error != "" {
				t.Error(step.Error)
			}
		})
	}
	if steps != 10 {
		t.Errorf("%d steps were done", steps)
	}
	for name, length := range map[string]int{"npm64": 64 << 10, "npm8": 8 << 10} {
		if got := c.store.get(name); !same(got, bytesOf(length)) {
			t.Errorf("%s: %d bytes arrived, or they differ", name, len(got))
		}
	}
}
