package coapfront

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/engine/devices"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/coap"
)

// node is a gateway with a resource directory on a real bus. Devices d7 and d8, an app that may look up and one that may not are known.
type node struct {
	testing.TB
	name     string
	devices  *Devices
	pipeline *pipeline.Pipeline
	records  *records
	address  netip.AddrPort
	tcp      string
	tokens   map[string]string
	stop     func()
}

func openBus(t testing.TB) *bus.Bus {
	b, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if _, err := b.Keep(t.Context(), devices.Stream); err != nil {
		t.Fatal(err)
	}
	return b
}

var sharedTokens = func() map[string]string {
	all := make(map[string]string)
	for id, prefix := range map[string]string{"d7": fieldgate.PrefixDevice, "d8": fieldgate.PrefixDevice, "finder": fieldgate.PrefixApp, "other": fieldgate.PrefixApp} {
		token, err := fieldgate.NewToken(prefix)
		if err != nil {
			panic(err)
		}
		all[id] = token
	}
	return all
}()

func newNode(t testing.TB, b *bus.Bus, name string, epoch uint64) *node {
	t.Helper()
	n := &node{TB: t, name: name, records: &records{discard: true}, tokens: sharedTokens}
	logger := slog.New(slog.DiscardHandler)
	principals, err := directory.Open(t.TempDir(), logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { principals.Close() })
	n.pipeline = pipeline.New(pipeline.Config{Node: name, Directory: principals, Broker: broker.New(), Recorder: n.records})
	for i, id := range []string{"d7", "d8", "finder", "other"} {
		n.change(uint64(i+1), id, fieldgate.StateActive)
	}
	n.devices = NewDevices(DevicesConfig{Node: name, Epoch: epoch, Bus: b, Directory: principals, Logger: logger})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.tcp = tcp.Addr().String()
	front, err := Listen(Config{UDP: "127.0.0.1:0", Streams: []*StreamListener{{Listener: tcp, Name: "coap-tcp"}}, Pipeline: n.pipeline, Devices: n.devices, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	n.address = front.Addresses()["coap"]
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, part := range []func(context.Context) error{front.Run, n.devices.Run} {
		running.Go(func() {
			if err := part(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	n.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(n.stop)
	return n
}

func (n *node) change(sequence uint64, id string, state fieldgate.PrincipalState) {
	n.Helper()
	change := fieldgate.DirectoryChange{Sequence: sequence, Kind: fieldgate.PrincipalDevice, ID: id, State: state, Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(n.tokens[id]))}}
	if id == "finder" || id == "other" {
		change.Kind = fieldgate.PrincipalApp
	}
	if id == "finder" {
		change.Scopes = []string{ScopeLookup}
	}
	if err := n.pipeline.Directory.Apply([]fieldgate.DirectoryChange{change}); err != nil {
		n.Fatal(err)
	}
}

// peer is a device or app: it asks the gateway and serves it at the same port.
type peer struct {
	*coap.UDP
	t  testing.TB
	id string

	mu     sync.Mutex
	got    []string // method and path of what it was asked
	answer func(*coap.Request, *coap.Response)
}

func newPeer(t testing.TB, id string) *peer {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, id: id}
	p.UDP, err = coap.NewUDP(conn, coap.Config{NStart: 64}, 8, func(request *coap.Request, response *coap.Response) func(context.Context) {
		return func(context.Context) { p.serve(request, response) }
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	run(t, p.Run)
	return p
}

func (p *peer) serve(request *coap.Request, response *coap.Response) {
	p.mu.Lock()
	p.got = append(p.got, request.Code.String()+" "+request.Path())
	answer := p.answer
	p.mu.Unlock()
	if answer != nil {
		answer(request, response)
		return
	}
	response.Code = coap.Content
	response.Options.AddUint(coap.ContentFormat, coap.TextPlain)
	response.Body = []byte(p.id + " " + request.Path())
}

func (p *peer) seen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.got, ", ")
}

// ask sends a request with the peer's credential to a node; the query's arguments follow.
func (p *peer) ask(n *node, code coap.Code, path, body string, query ...string) *coap.Reply {
	p.t.Helper()
	c := call(code, path, []byte(body))
	if body != "" {
		c.Options.AddUint(coap.ContentFormat, coap.LinkFormat)
	}
	for _, q := range query {
		c.Options.AddString(coap.URIQuery, q)
	}
	if p.id != "" {
		c.Options.AddString(OptionCredential, n.tokens[p.id])
	}
	reply, err := p.Do(p.t.Context(), n.address, c)
	if err != nil {
		p.t.Fatal(err)
	}
	return reply
}

func (p *peer) expect(n *node, want coap.Code, code coap.Code, path, body string, query ...string) *coap.Reply {
	p.t.Helper()
	reply := p.ask(n, code, path, body, query...)
	if reply.Code != want {
		p.t.Fatalf("%s: %s %s %v: %s %q, want %s", p.id, code, path, query, reply.Code, reply.Body, want)
	}
	return reply
}

// eventually waits for something to come about.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so", what)
		}
	}
}

func TestResourceDirectory(t *testing.T) {
	n := newNode(t, openBus(t), "n1", 1)
	d7, d8, finder, other, nobody := newPeer(t, "d7"), newPeer(t, "d8"), newPeer(t, "finder"), newPeer(t, "other"), newPeer(t, "")

	// RFC 9176 section 4.1: the directory is found by its resource types.
	found := string(nobody.expect(n, coap.Content, coap.GET, "/.well-known/core", "", "rt=core.rd*").Body)
	for _, want := range []string{`</rd>;rt="core.rd"`, `</rd-lookup/ep>;rt="core.rd-lookup-ep"`, `</rd-lookup/res>;rt="core.rd-lookup-res"`} {
		if !strings.Contains(found, want) {
			t.Errorf("%s is not in %s", want, found)
		}
	}

	// Who may.
	nobody.expect(n, coap.Unauthorized, coap.POST, "/rd", "</t>", "ep=d7")
	nobody.expect(n, coap.Unauthorized, coap.GET, "/rd-lookup/res", "")
	finder.expect(n, coap.Forbidden, coap.POST, "/rd", "</t>", "ep=d7")
	d7.expect(n, coap.Forbidden, coap.POST, "/rd", "</t>", "ep=d8")
	d7.expect(n, coap.Forbidden, coap.DELETE, "/rd/d8", "")
	d7.expect(n, coap.Forbidden, coap.GET, "/rd-lookup/ep", "")
	other.expect(n, coap.Forbidden, coap.GET, "/rd-lookup/ep", "")

	// RFC 9176 section 5: registration.
	created := d8.expect(n, coap.Created, coap.POST, "/rd", `</t>;rt="temperature c";ct="0 60",</l>;rt=light`, "ep=d8", "lt=300", "d=hall", "lwm2m=1.1")
	if got := created.Location(); got != "/rd/d8" {
		t.Errorf("location %q", got)
	}
	d7.expect(n, coap.Created, coap.POST, "/rd", `</t>;rt="temperature c"`) // ep is known by the credential
	base := func(p *peer) string { return "coap://" + p.LocalAddr().String() }
	lookUp := func(path string, query ...string) string {
		t.Helper()
		return string(finder.expect(n, coap.Content, coap.GET, path, "", query...).Body)
	}
	// RFC 9176 section 6: look-up.
	for _, test := range []struct {
		query []string
		want  string
	}{
		{nil, fmt.Sprintf(`<%s/t>;rt="temperature c",<%s/t>;rt="temperature c";ct="0 60",<%s/l>;rt="light"`, base(d7), base(d8), base(d8))},
		{[]string{"rt=light"}, fmt.Sprintf(`<%s/l>;rt="light"`, base(d8))},
		{[]string{"rt=temp*", "d=hall"}, fmt.Sprintf(`<%s/t>;rt="temperature c";ct="0 60"`, base(d8))},
		{[]string{"ep=d7"}, fmt.Sprintf(`<%s/t>;rt="temperature c"`, base(d7))},
		{[]string{"href=/l"}, fmt.Sprintf(`<%s/l>;rt="light"`, base(d8))},
		{[]string{"ep=d9"}, ""},
		{[]string{"count=1", "page=1"}, fmt.Sprintf(`<%s/t>;rt="temperature c";ct="0 60"`, base(d8))},
		{[]string{"count=2", "page=1"}, fmt.Sprintf(`<%s/l>;rt="light"`, base(d8))},
		{[]string{"count=2", "page=9"}, ""},
	} {
		if got := lookUp("/rd-lookup/res", test.query...); got != test.want {
			t.Errorf("%v: %s\nwant %s", test.query, got, test.want)
		}
	}
	endpoint := fmt.Sprintf(`</rd/d8>;base="%s";ep="d8";d="hall";lt="300";rt="core.rd-ep";lwm2m="1.1"`, base(d8))
	for _, query := range [][]string{{"ep=d8"}, {"d=hall"}, {"lwm2m=1.*"}, {"rt=light"}, {"count=1", "page=1"}} {
		if got := lookUp("/rd-lookup/ep", query...); got != endpoint {
			t.Errorf("%v: %s\nwant %s", query, got, endpoint)
		}
	}
	finder.expect(n, coap.BadRequest, coap.GET, "/rd-lookup/ep", "", "count=0")
	finder.expect(n, coap.MethodNotAllowed, coap.POST, "/rd-lookup/ep", "x")

	// RFC 9176 section 5.3: update, removal.
	d8.expect(n, coap.Changed, coap.POST, "/rd/d8", "", "lt=600")
	if got := lookUp("/rd-lookup/ep", "ep=d8"); !strings.Contains(got, `lt="600"`) || !strings.Contains(got, `d="hall"`) {
		t.Error(got)
	}
	d8.expect(n, coap.BadRequest, coap.POST, "/rd/d8", "", "ep=d8")
	d8.expect(n, coap.Deleted, coap.DELETE, "/rd/d8", "")
	d8.expect(n, coap.NotFound, coap.POST, "/rd/d8", "")
	if got := lookUp("/rd-lookup/ep", "ep=d8"); got != "" {
		t.Error(got)
	}
}

func TestBadRegistrations(t *testing.T) {
	n := newNode(t, openBus(t), "n1", 1)
	d7, d8 := newPeer(t, "d7"), newPeer(t, "d8")
	for _, test := range []struct {
		body  string
		query string
	}{
		{"</t>;", ""}, {"<coap://192.0.2.1/t>", ""}, {"</t>", "lt=0"}, {"</t>", "lt=x"}, {"</t>", "lt=4294967295"},
		{"</t>", "base=coap://192.0.2.1"}, // the gateway sends requests to nobody but the device
		{"</t>", "base=http://127.0.0.1"}, {"</t>", "=x"}, {"</t>", "a=\x1b"},
	} {
		query := []string{"ep=d7"}
		if test.query != "" {
			query = append(query, test.query)
		}
		d7.expect(n, coap.BadRequest, coap.POST, "/rd", test.body, query...)
		device := n.devices.device("d7")
		device.mu.Lock()
		device.tokens = registerBurst
		device.mu.Unlock()
	}
	// Who asks too often is told so; nobody else is held up.
	codes := make(map[coap.Code]int)
	for range registerBurst + 5 {
		codes[d7.ask(n, coap.POST, "/rd", "</t>;").Code]++
	}
	if codes[coap.TooManyRequests] < 1 || codes[coap.BadRequest] < 1 {
		t.Error(codes)
	}
	d8.expect(n, coap.Created, coap.POST, "/rd", "</t>")
}

// A registration is stored where every gateway sees it, and ends with its lifetime, its device, or a removal.
func TestRegistrationIsShared(t *testing.T) {
	b := openBus(t)
	one, two := newNode(t, b, "n1", 1), newNode(t, b, "n2", 1)
	d7, finder := newPeer(t, "d7"), newPeer(t, "finder")
	d7.expect(one, coap.Created, coap.POST, "/rd", "</t>", "lt=3600")
	found := func(n *node) bool {
		return len(finder.expect(n, coap.Content, coap.GET, "/rd-lookup/ep", "").Body) > 0
	}
	eventually(t, "another gateway knows", func() bool { return found(two) })
	one.stop()
	again := newNode(t, b, "n1", 2)
	eventually(t, "it is known after a restart", func() bool { return found(again) })
	d7.expect(two, coap.Changed, coap.POST, "/rd/d7", "")
	eventually(t, "the other gateway reaches it now", func() bool {
		r, err := again.devices.shared.Registration(t.Context(), "d7")
		return err == nil && r.Node == "n2" && r.Lifetime == time.Hour
	})
	two.change(9, "d7", fieldgate.StateRevoked)
	eventually(t, "a revoked device is forgotten", func() bool { return !found(two) && !found(again) })
}

func deviceCall(method, path string, queue time.Duration) *pipeline.DeviceCall {
	return &pipeline.DeviceCall{Device: "d7", Queue: queue, By: "app a1", Operation: "plant 1 reboot",
		Request: fieldgate.DeviceRequest{Method: method, Path: path, Idempotent: method != "POST", Timeout: 20 * time.Second}}
}

func TestAskDevice(t *testing.T) {
	b := openBus(t)
	one, two := newNode(t, b, "n1", 1), newNode(t, b, "n2", 1)
	d7 := newPeer(t, "d7")
	if _, problem := one.devices.Ask(t.Context(), deviceCall("GET", "/t", 0)); problem != errAbsent {
		t.Fatal(problem)
	}
	d7.expect(one, coap.Created, coap.POST, "/rd", "</t>")
	// From the gateway that heard it, and from another one.
	for _, n := range []*node{one, two} {
		answer, problem := n.devices.Ask(t.Context(), deviceCall("GET", "/t?a=b", 0))
		if problem != nil || answer.Status != 200 || answer.ContentType != "text/plain; charset=utf-8" || !strings.HasPrefix(string(answer.Body), "d7 /t") {
			t.Fatalf("%s: %+v %v", n.name, answer, problem)
		}
	}
	d7.mu.Lock()
	d7.answer = func(request *coap.Request, response *coap.Response) {
		switch request.Path() {
		case "/missing":
			response.Code = coap.NotFound
		case "/etag":
			response.Code = coap.Content
			response.Options.Add(coap.ETag, []byte{0x5f, 0x1c})
			response.Options.AddUint(coap.MaxAge, 30)
			response.Body = []byte("x")
		case "/who":
			response.Code = coap.Unauthorized
		case "/busy":
			response.Code = coap.ServiceUnavailable
			response.Options.AddUint(coap.MaxAge, 7)
		case "/valid":
			response.Code = coap.Valid
		case "/slow":
			time.Sleep(300 * time.Millisecond)
			response.Code = coap.Changed
		}
	}
	d7.mu.Unlock()
	if answer, problem := one.devices.Ask(t.Context(), deviceCall("GET", "/missing", 0)); problem != nil || answer.Status != 404 {
		t.Error(answer, problem)
	}
	answer, problem := one.devices.Ask(t.Context(), deviceCall("GET", "/etag", 0))
	if problem != nil || answer.ETag != "5f1c" || answer.MaxAge != 30*time.Second || fmt.Sprint(answer.Fields) != `[{ETag "5f1c"} {Cache-Control max-age=30}]` {
		t.Errorf("%+v %v", answer, problem)
	}
	for path, want := range map[string]string{"/who": "401 [{WWW-Authenticate CoAP}]", "/busy": "503 [{Retry-After 7}]"} { // as those of services
		answer, problem := one.devices.Ask(t.Context(), deviceCall("GET", path, 0))
		if got := fmt.Sprint(answer.Status, answer.Fields); problem != nil || got != want {
			t.Errorf("%s: %s %v, want %s", path, got, problem, want)
		}
	}
	if _, problem := one.devices.Ask(t.Context(), deviceCall("GET", "/valid", 0)); problem != errUnreadable {
		t.Errorf("RFC 7252 section 5.9.1.3: %v", problem)
	}
	slow := deviceCall("POST", "/slow", 0)
	slow.Request.Timeout = 50 * time.Millisecond
	if _, problem := one.devices.Ask(t.Context(), slow); problem == nil || problem.Code != fieldgate.ProblemUpstreamTimeout {
		t.Error(problem)
	}
	for path, want := range map[string]*fieldgate.Problem{"/" + strings.Repeat("x", 256): errTarget, "/a/%2e%2e": errTarget} {
		if _, problem := one.devices.Ask(t.Context(), deviceCall("GET", path, 0)); problem != want {
			t.Errorf("%.20s: %v", path, problem)
		}
	}
	one.change(9, "d7", fieldgate.StateQuarantined)
	if _, problem := one.devices.Ask(t.Context(), deviceCall("GET", "/t", 0)); problem != errStops {
		t.Error(problem)
	}
}

// A device that answers with a Reset has rejected the message (RFC 7252 section 4.2).
func TestAskRejected(t *testing.T) {
	n := newNode(t, openBus(t), "n1", 1)
	d7 := newPeer(t, "d7")
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		buffer := make([]byte, 1500)
		for {
			k, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			if m, err := coap.Decode(buffer[:k]); err == nil && m.Type == coap.Confirmable {
				conn.WriteToUDPAddrPort([]byte{0x70, 0, byte(m.MessageID >> 8), byte(m.MessageID)}, from)
			}
		}
	}()
	d7.expect(n, coap.Created, coap.POST, "/rd", "</t>", "base=coap://"+conn.LocalAddr().String())
	if _, problem := n.devices.Ask(t.Context(), deviceCall("POST", "/t", 0)); problem != errReset {
		t.Error(problem)
	}
}

// asleep makes a node believe that it has not heard a device for long.
func (n *node) asleep(id string) {
	device := n.devices.device(id)
	device.mu.Lock()
	device.heard = time.Now().Add(-2 * awakeFor)
	device.mu.Unlock()
}

func (n *node) commands(id string) []fieldgate.DeviceCommand {
	n.Helper()
	all, err := n.devices.shared.Commands(n.Context(), id)
	if err != nil {
		n.Fatal(err)
	}
	return all.Commands
}

func TestCommandsOfASleepingDevice(t *testing.T) {
	b := openBus(t)
	n, elsewhere := newNode(t, b, "n1", 1), newNode(t, b, "n2", 1)
	d7 := newPeer(t, "d7")
	d7.expect(n, coap.Created, coap.POST, "/rd", "</t>", "lwm2m=1.1", "Q")
	n.asleep("d7")
	for i, at := range []*node{n, elsewhere, n} {
		answer, problem := at.devices.Ask(t.Context(), deviceCall("POST", fmt.Sprintf("/c/%d", i), time.Hour))
		if problem != nil || answer.Status != 202 || !strings.Contains(string(answer.Body), `"state":"queued"`) {
			t.Fatalf("%+v %v", answer, problem)
		}
	}
	eventually(t, "the gateway knows that something waits", func() bool {
		device := n.devices.device("d7")
		device.mu.Lock()
		defer device.mu.Unlock()
		return device.waiting
	})
	if got := d7.seen(); got != "" {
		t.Fatal("sent to a device that sleeps:", got)
	}
	// Whatever it sends wakes the queue; here at another gateway than the one that it registered with.
	d7.expect(elsewhere, coap.NotFound, coap.GET, "/anything", "")
	eventually(t, "all are answered", func() bool {
		for _, c := range n.commands("d7") {
			if c.State != fieldgate.CommandAnswered {
				return false
			}
		}
		return true
	})
	d7.expect(n, coap.Changed, coap.POST, "/rd/d7", "")
	if got := d7.seen(); got != "POST /c/0, POST /c/1, POST /c/2" {
		t.Errorf("not in their order, or not once: %s", got)
	}
	c := n.commands("d7")[1]
	if c.Answer == nil || c.Answer.Code != "2.05" || string(c.Answer.Body) != "d7 /c/1" || c.By != "app a1" || c.Attempts != 1 {
		t.Errorf("%+v", c)
	}
	// Nothing waits, and it has just been heard: it is asked at once.
	eventually(t, "it is asked now", func() bool {
		answer, problem := n.devices.Ask(t.Context(), deviceCall("GET", "/now", time.Hour))
		return problem == nil && answer.Status == 200
	})
}

// The queue is bounded, and a full one takes nothing.
func TestCommandsAreBounded(t *testing.T) {
	n := newNode(t, openBus(t), "n1", 1)
	for range fieldgate.MaxDeviceCommands {
		if answer, problem := n.devices.Ask(t.Context(), deviceCall("POST", "/c", time.Hour)); problem != nil || answer.Status != 202 {
			t.Fatal(answer, problem)
		}
	}
	if _, problem := n.devices.Ask(t.Context(), deviceCall("POST", "/c", time.Hour)); problem != errQueueFull {
		t.Error(problem)
	}
	// A device that has never registered has its commands once it does; of those that are cancelled and expired none.
	err := n.devices.shared.Change(t.Context(), "d7", func(all *fieldgate.DeviceCommands) error {
		for i := range all.Commands {
			switch {
			case i < 5:
				all.Commands[i].End(fieldgate.CommandCancelled, time.Now())
			case i < 14:
				all.Commands[i].Left = time.Nanosecond
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d7 := newPeer(t, "d7")
	d7.expect(n, coap.Created, coap.POST, "/rd", "</t>", "Q")
	eventually(t, "the two are delivered", func() bool {
		return n.commands("d7")[15].State == fieldgate.CommandAnswered
	})
	if got := d7.seen(); got != "POST /c, POST /c" {
		t.Error(got)
	}
}

// Of a gateway that ended while it sent, nobody knows whether the command was carried out: it is sent again only if that does no harm.
func TestCommandsAfterAKill(t *testing.T) {
	b := openBus(t)
	first := newNode(t, b, "n1", 1)
	for _, method := range []string{"POST", "PUT", "POST"} {
		if _, problem := first.devices.Ask(t.Context(), deviceCall(method, "/"+strings.ToLower(method), time.Hour)); problem != nil {
			t.Fatal(problem)
		}
	}
	err := first.devices.shared.Change(t.Context(), "d7", func(all *fieldgate.DeviceCommands) error {
		for i := range all.Commands[:2] {
			c := &all.Commands[i]
			c.State, c.Node, c.Epoch, c.SentAt, c.Attempts = fieldgate.CommandSent, "n1", 1, c.Left, 1
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	first.stop()
	second := newNode(t, b, "n1", 2)
	d7 := newPeer(t, "d7")
	d7.expect(second, coap.Created, coap.POST, "/rd", "</t>")
	eventually(t, "the last is answered", func() bool { return second.commands("d7")[2].State == fieldgate.CommandAnswered })
	if got := d7.seen(); got != "PUT /put, POST /post" {
		t.Error(got)
	}
	if c := second.commands("d7")[0]; c.State != fieldgate.CommandUnanswered {
		t.Errorf("%+v", c)
	}
}

// What a node cannot store it does not acknowledge.
func TestNothingIsAcknowledgedWithoutTheBus(t *testing.T) {
	b, err := bus.Open(bus.Config{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close) // without the stream
	n := newNode(t, b, "n1", 1)
	newPeer(t, "d7").expect(n, coap.ServiceUnavailable, coap.POST, "/rd", "</t>")
	if _, problem := n.devices.Ask(t.Context(), deviceCall("POST", "/c", time.Hour)); problem == nil || problem.Status() != 503 {
		t.Error(problem)
	}
}
