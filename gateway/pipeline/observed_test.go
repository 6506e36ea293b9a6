package pipeline

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/contract/schema"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/coap"
	"fieldgate/test/port"
)

// thing is a constrained service: it has one resource, a temperature in CBOR, which can be observed.
type thing struct {
	testing.TB
	address string
	udp     *coap.UDP
	stop    func()

	mu           sync.Mutex
	value        []byte
	code         coap.Code // of answers; 0: 2.05
	requests     int
	observations map[*coap.Observation]bool
}

func newThing(t testing.TB, address string, value []byte) *thing {
	t.Helper()
	s := &thing{TB: t, value: value, observations: make(map[*coap.Observation]bool)}
	at, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	s.address = conn.LocalAddr().String()
	if s.udp, err = coap.NewUDP(conn, coap.Config{}, 4, s.serve, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.udp.Run(ctx)
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(s.stop)
	return s
}

func (s *thing) serve(request *coap.Request, response *coap.Response) func(context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if response.Code = s.code; s.code != 0 {
		return nil
	}
	response.Code = coap.Content
	s.fill(response)
	if request.Registers() {
		o := new(coap.Observation)
		o.Ended = func() {
			s.mu.Lock()
			delete(s.observations, o)
			s.mu.Unlock()
		}
		s.observations[o], response.Observation = true, o
	}
	return nil
}

func (s *thing) fill(response *coap.Response) {
	response.Options.AddUint(coap.ContentFormat, coap.CBOR)
	response.Options.AddUint(coap.MaxAge, 3600)
	response.Body = s.value
}

// change gives the resource another value, and notifies.
func (s *thing) change(value []byte, code coap.Code) {
	s.mu.Lock()
	s.value, s.code = value, code
	var all []*coap.Observation
	for o := range s.observations {
		all = append(all, o)
	}
	s.mu.Unlock()
	for _, o := range all {
		response := &coap.Response{Code: code}
		if code == 0 {
			s.fill(response)
		}
		s.udp.Notify(o, response)
	}
}

func (s *thing) observed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.observations)
}

func (s *thing) awaitObserved(n int) {
	s.Helper()
	deadline := time.Now().Add(time.Minute)
	for s.observed() != n {
		if time.Now().After(deadline) {
			s.Fatalf("%d observations, want %d", s.observed(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

const thingSchemas = `{"$defs": {"Reading": {"type": "object", "required": ["t"], "additionalProperties": false,
	"properties": {"t": {"type": "number", "maximum": 85, "x-cbor-key": 1}}}}}`

// reading is {"t": value} as the thing writes it.
func reading(value byte) []byte { return []byte{0xa1, 0x01, 0x18, value} }

// filters are those of sessions.
type filters struct {
	mu  sync.Mutex
	all []string
}

func (f *filters) Subscribed(filter string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.all, filter)
}

func (f *filters) Filters(wanted func(string) bool, visit func(string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, filter := range f.all {
		if wanted(filter) {
			visit(filter)
		}
	}
}

func (f *filters) subscribe(p *Pipeline, filter string) {
	f.mu.Lock()
	f.all = append(f.all, filter)
	f.mu.Unlock()
	p.AttendFilter(filter)
}

func (f *filters) unsubscribe(p *Pipeline, filter string) {
	f.mu.Lock()
	i := slices.Index(f.all, filter)
	f.all = slices.Delete(f.all, i, i+1)
	f.mu.Unlock()
	p.LeaveFilter(filter)
}

func observingPipeline(t testing.TB, address string) (*Pipeline, *records) {
	t.Helper()
	d, err := directory.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	set, err := upstream.NewSet([]fieldgate.Upstream{{Name: "thing", Addresses: []string{"coap://" + address}}})
	if err != nil {
		t.Fatal(err)
	}
	recorder := new(records)
	p := New(Config{Node: "n1", Directory: d, Upstreams: set, Broker: broker.New(), Recorder: recorder})
	p.Sessions = new(filters)
	p.Install(thingProgram(t, true))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { set.Run(ctx) })
	running.Go(func() { p.Observe(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return p, recorder
}

// thingProgram has the contract of the thing, which says that it is observed, or does not.
func thingProgram(t testing.TB, observed bool) *Program {
	t.Helper()
	media := []fieldgate.MediaType{{Type: "application/json", Schema: "#/$defs/Reading"}}
	program, err := Link(&fieldgate.Snapshot{Version: 1, Contracts: []*fieldgate.Contract{{API: "things", Version: "1.0.0", Kind: fieldgate.KindOpenAPI,
		State: fieldgate.LifecycleActive, Schemas: []byte(thingSchemas), Operations: []fieldgate.Operation{
			{ID: "read", Access: fieldgate.Access{Anonymous: true}, MaxBody: 1024, OnInvalid: fieldgate.InvalidReject, Upstream: "thing", Idempotent: true,
				ServiceFormat: fieldgate.FormatCBOR, ObservesService: observed, Policies: &fieldgate.Policies{Answers: fieldgate.AnswersEnforced},
				Parameters: []fieldgate.Parameter{{Name: "id", In: fieldgate.InPath, Required: true}},
				Responses:  []fieldgate.Response{{Status: "200", Media: media}}, Message: &fieldgate.Payload{Media: media},
				HTTP: &fieldgate.HTTPBinding{Method: fieldgate.MethodGet, Path: "/things/{id}"},
				CoAP: &fieldgate.CoAPBinding{Method: fieldgate.MethodGet, Path: "/things/{id}", Observe: true},
				MQTT: &fieldgate.MQTTBinding{Topic: "t/{id}", Action: fieldgate.ActionSubscribe}},
			{ID: "set", Access: fieldgate.Access{Anonymous: true}, MaxBody: 1024, OnInvalid: fieldgate.InvalidReject, Upstream: "thing",
				ServiceFormat: fieldgate.FormatCBOR, Request: &fieldgate.Payload{Required: true, Media: media},
				Parameters: []fieldgate.Parameter{{Name: "id", In: fieldgate.InPath, Required: true}},
				HTTP:       &fieldgate.HTTPBinding{Method: fieldgate.MethodPut, Path: "/things/{id}"}},
		}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// listener hears a topic, and is told when that ends.
type listener struct {
	heard chan *broker.Message
	ended chan *fieldgate.Problem
}

func newListener() *listener {
	return &listener{make(chan *broker.Message, 100), make(chan *fieldgate.Problem, 10)}
}

func (l *listener) Deliver(m *broker.Message, _ byte) { l.heard <- m }

func (l *listener) End(problem *fieldgate.Problem) { l.ended <- problem }

func (l *listener) hears(t *testing.T, want string) {
	t.Helper()
	select {
	case m := <-l.heard:
		if string(m.Payload) != want || m.ContentType != "application/json" || m.Topic != "t/7" {
			t.Fatalf("heard %s %q on %s, want %s", m.ContentType, m.Payload, m.Topic, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s was not heard", want)
	}
}

func attend(t *testing.T, p *Pipeline, l *listener) (leave func()) {
	t.Helper()
	return attendFrom(t, p, l, true)
}

func attendFrom(t *testing.T, p *Pipeline, l *listener, present bool) (leave func()) {
	t.Helper()
	x := &Exchange{Protocol: fieldgate.ProtocolSSE, Method: fieldgate.MethodGet, Path: []byte("/things/7")}
	if problem := p.Begin(x); problem != nil {
		t.Fatal(problem)
	}
	filter, problem := x.Filter()
	if problem != nil {
		t.Fatal(problem)
	}
	return p.Attend(x, filter, 0, l, present)
}

func TestOneObservationForAll(t *testing.T) {
	s := newThing(t, "127.0.0.1:0", reading(30))
	p, recorder := observingPipeline(t, s.address)
	first, second, answered := newListener(), newListener(), newListener()
	leaveFirst := attend(t, p, first)
	first.hears(t, `{"t":30}`)
	leaveSecond := attend(t, p, second)
	second.hears(t, `{"t":30}`) // what was said last
	leaveAnswered := attendFrom(t, p, answered, false)
	sessions := p.Sessions.(*filters)
	sessions.subscribe(p, "t/7")
	s.change(reading(31), 0)
	first.hears(t, `{"t":31}`)
	second.hears(t, `{"t":31}`)
	answered.hears(t, `{"t":31}`) // RFC 7641 section 4.2: an observer has the present state from the response to its request
	leaveAnswered()
	s.awaitObserved(1)
	if s.mu.Lock(); s.requests != 1 {
		t.Errorf("the service was asked %d times, want once", s.requests)
	}
	s.mu.Unlock()

	s.change(reading(99), 0) // breaks the contract: nobody hears it
	s.change(reading(32), 0)
	first.hears(t, `{"t":32}`)
	recorder.mu.Lock()
	for _, record := range recorder.list {
		if record.Findings&fieldgate.FindingInvalidResponse == 0 || record.Operation != "read" {
			t.Errorf("record %+v", record)
		}
	}
	recorder.mu.Unlock()

	x := &Exchange{Protocol: fieldgate.ProtocolHTTP, Method: fieldgate.MethodGet, Path: []byte("/things/7")}
	if problem := p.Begin(x); problem != nil {
		t.Fatal(problem)
	}
	if !x.Buffered() {
		t.Error("it goes to the service, past what is known")
	}
	if problem := p.Forward(context.Background(), x); problem != nil || string(x.Answer.Body) != `{"t":32}` || x.Answer.MaxAge != time.Hour {
		t.Errorf("GET of what is observed: %v %+v", problem, x.Answer)
	}
	if s.mu.Lock(); s.requests != 1 {
		t.Errorf("the service was asked %d times, want once", s.requests)
	}
	s.mu.Unlock()
	leaveFirst()
	leaveSecond()
	leaveSecond()
	s.change(reading(33), 0)
	s.awaitObserved(1) // the session hears it still
	sessions.unsubscribe(p, "t/7")
	s.awaitObserved(0)
}

// Sessions that subscribed before the contract says that the service is observed have it observed from then on, until the last of them leaves,
// or the contract says so no more.
func TestSessionsFromBeforeTheContract(t *testing.T) {
	s := newThing(t, "127.0.0.1:0", reading(30))
	p, _ := observingPipeline(t, s.address)
	sessions := p.Sessions.(*filters)
	p.Install(thingProgram(t, false))
	for _, filter := range []string{"t/7", "t/7", "$share/g/t/7", "t/+", "u/7"} {
		sessions.subscribe(p, filter)
	}
	heard := newListener()
	defer p.Broker.Subscribe("t/7", 0, heard)()
	p.Install(thingProgram(t, true))
	heard.hears(t, `{"t":30}`)
	s.change(reading(31), 0)
	heard.hears(t, `{"t":31}`)
	sessions.subscribe(p, "t/7")
	for range 3 {
		s.awaitObserved(1)
		sessions.unsubscribe(p, "t/7")
	}
	s.change(reading(32), 0)
	heard.hears(t, `{"t":32}`) // by the shared one
	s.mu.Lock()
	if s.requests != 1 {
		t.Errorf("the service was asked %d times, want once", s.requests)
	}
	s.mu.Unlock()
	p.Install(thingProgram(t, true)) // published anew, with the same resource
	sessions.unsubscribe(p, "$share/g/t/7")
	s.change(reading(33), 0)
	s.awaitObserved(0)
	sessions.subscribe(p, "t/7")
	s.awaitObserved(1)
	p.Install(thingProgram(t, false))
	s.change(reading(34), 0)
	s.awaitObserved(0)
}

func TestObservationOutlivesTheService(t *testing.T) {
	s := newThing(t, port.Free(t), reading(30)) // an address that nobody else takes while it is away
	p, _ := observingPipeline(t, s.address)
	l := newListener()
	defer attend(t, p, l)()
	l.hears(t, `{"t":30}`)
	s.stop()
	// The service is back with no memory of who observes it. Its next life is noticed by whatever else it is asked: a call is refused in between.
	x := &Exchange{Protocol: fieldgate.ProtocolHTTP, Method: fieldgate.MethodPut, Path: []byte("/things/7"), ContentType: []byte("application/json"), Body: []byte(`{"t":1}`)}
	if problem := p.Begin(x); problem != nil {
		t.Fatal(problem)
	}
	if problem := p.Check(x); problem != nil {
		t.Fatal(problem)
	}
	if problem := p.Forward(context.Background(), x); problem == nil || problem.Code != fieldgate.ProblemUpstreamUnreachable {
		t.Fatalf("a call of a service that is gone: %v", problem)
	}
	s = newThing(t, s.address, reading(40))
	l.hears(t, `{"t":40}`)
	s.awaitObserved(1)
}

func TestResourceThatIsGoneEndsItsHearers(t *testing.T) {
	s := newThing(t, "127.0.0.1:0", reading(30))
	p, _ := observingPipeline(t, s.address)
	l := newListener()
	defer attend(t, p, l)()
	l.hears(t, `{"t":30}`)
	s.change(reading(31), 0) // from then on the thing knows that there is somebody
	l.hears(t, `{"t":31}`)
	s.change(nil, coap.NotFound)
	select {
	case problem := <-l.ended:
		if problem.Code != fieldgate.ProblemNotFound {
			t.Errorf("ended by %v", problem)
		}
	case <-time.After(time.Minute):
		t.Fatal("it was not ended")
	}
	s.change(reading(50), 0) // there again, for whoever comes
	next := newListener()
	defer attend(t, p, next)()
	next.hears(t, `{"t":50}`)
}

func TestServiceThatTakesCBOR(t *testing.T) {
	asked := make(chan []byte, 10)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := coap.NewUDP(conn.(*net.UDPConn), coap.Config{}, 4, func(request *coap.Request, response *coap.Response) func(context.Context) {
		format, _ := request.Uint(coap.ContentFormat)
		asked <- append([]byte{byte(request.Code), byte(format)}, request.Body...)
		response.Code = coap.Changed
		return nil
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	p, _ := observingPipeline(t, conn.LocalAddr().String())
	compact, err := schema.CBORFromJSON(nil, []byte(`{"t":21}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, contentType string
		body              []byte
		want              string
	}{
		{"JSON", "application/json", []byte(`{"t":21}`), "\x03\x3c\xa1\x01\x15"},
		{"CBOR with numbers", "application/cbor", []byte{0xa1, 1, 21}, "\x03\x3c\xa1\x01\x15"},
		{"CBOR with names", "application/cbor", compact, "\x03\x3c" + string(compact)},
	} {
		x := &Exchange{Protocol: fieldgate.ProtocolHTTP, Method: fieldgate.MethodPut, Path: []byte("/things/7"), ContentType: []byte(test.contentType), Body: test.body}
		problem := p.Begin(x)
		if problem == nil && !x.Buffered() {
			t.Errorf("%s: it is not read whole", test.name)
		}
		if problem == nil {
			problem = p.Check(x)
		}
		if problem == nil {
			problem = p.Forward(context.Background(), x)
		}
		if got := <-asked; problem != nil || x.Answer.Status != 204 || string(got) != test.want {
			t.Errorf("%s: %v, %d; the service got %x", test.name, problem, x.Answer.Status, got)
		}
	}
}
