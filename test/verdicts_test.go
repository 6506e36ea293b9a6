package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/contract/schema"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/mqtt"
	"fieldgate/test/port"
)

var update = flag.Bool("update", false, "write the table of docs/protocols.md anew")

// question is one request, asked in each way.
type question struct {
	name       string
	path       string // {way} is the id of the way's own device
	body       string
	media      string // JSON, if it is empty
	caller     string // id; "{way}" if it is empty
	credential string // that of the caller, if it is empty
	accepted   bool
}

// verdict is how a question was answered.
type verdict struct {
	shown    string // in the protocol's words
	status   int    // in HTTP's words; 0: the protocol has said only yes or no
	passed   bool
	instance string // of a refusal: leads to its Record
}

// The operations of one contract are asked over HTTP, CoAP and MQTT with the same inputs, the examples of the contract and what else can be wrong:
// the verdict is the same, by the same rule. docs/protocols.md shows what comes of it.
func TestVerdicts(t *testing.T) {
	t.Parallel() // it mostly waits
	rig := newVerdictRig(t)
	questions := rig.questions()
	answers := make([]map[string]verdict, len(questions))
	for i, q := range questions {
		answers[i] = make(map[string]verdict)
		for _, way := range verdictWays {
			answers[i][way.name] = rig.ask(q, way)
		}
	}
	table := "| asked | rule | HTTP | CoAP | MQTT 5, answer | MQTT 5, acknowledgement |\n|---|---|---|---|---|---|\n"
	for i, q := range questions {
		want := answers[i]["http"]
		rule := rig.rule(want)
		if want.passed != q.accepted {
			t.Errorf("%s: HTTP answers %+v", q.name, want)
		}
		for _, way := range verdictWays {
			got := answers[i][way.name]
			if got.passed != want.passed || got.status != 0 && (got.status != want.status || rig.rule(got) != rule) {
				t.Errorf("%s: over HTTP it is %+v by %s, over %s %+v by %s", q.name, want, rule, way.name, got, rig.rule(got))
			}
		}
		table += fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", q.name, rule, want.shown, answers[i]["coap"].shown, answers[i]["mqtt"].shown, answers[i]["publish"].shown)
	}
	documented(t, table)
}

// documented holds that the page has the table, or gives it to it.
func documented(t *testing.T, table string) {
	const page = "../docs/protocols.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(table, "\n")
	begin := strings.Index(string(text), head)
	if begin < 0 {
		t.Fatalf("%s has no table that begins with %s", page, head)
	}
	end := begin + strings.Index(string(text[begin:]), "\n\n") + 1
	if shown := string(text[begin:end]); shown == table {
		return
	} else if !*update {
		t.Errorf("%s does not show what is so (-update writes it):\n%s", page, table)
		return
	}
	if err := os.WriteFile(page, slices.Concat(text[:begin], []byte(table), text[end:]), 0o644); err != nil {
		t.Fatal(err)
	}
}

// verdictWay is a way to ask. Each has a device of its own, so that each has limits of its own.
type verdictWay struct {
	name string
	ask  func(*verdictRig, *question) verdict
}

var verdictWays = []verdictWay{
	{"http", (*verdictRig).askHTTP},
	{"coap", func(r *verdictRig, q *question) verdict { return r.askCoAP(q, r.udp, coap.JSON) }},
	{"coap-cbor", func(r *verdictRig, q *question) verdict { return r.askCoAP(q, r.udp, coap.CBOR) }},
	{"coap-tcp", func(r *verdictRig, q *question) verdict { return r.askCoAP(q, r.tcp, coap.JSON) }},
	{"mqtt", func(r *verdictRig, q *question) verdict { return r.askMQTT(q, true) }},
	{"publish", func(r *verdictRig, q *question) verdict { return r.askMQTT(q, false) }},
}

type verdictRig struct {
	t        *testing.T
	n        *node
	contract *fieldgate.Contract
	tokens   map[string]string
	sessions map[string]*verdictSession
	udp, tcp func(*coap.Call) (*coap.Reply, error)
}

func newVerdictRig(t *testing.T) *verdictRig {
	t.Helper()
	const file = "testdata/verdicts.openapi.yaml"
	r := &verdictRig{t: t, n: newNode(t, nil), tokens: make(map[string]string), sessions: make(map[string]*verdictSession)}
	stream := port.Free(t)
	settings, err := os.ReadFile(r.n.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.n.config, bytes.Replace(settings, []byte("listen: {"), []byte("listen: {coap-tcp: '"+stream+"', "), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if r.contract, _, err = contract.Compile(file, document); err != nil {
		t.Fatal(err)
	}
	r.n.start()
	r.n.run("api", "publish", file)
	for _, way := range verdictWays {
		r.tokens[way.name] = r.n.run("device", "add", way.name, "--quiet")
	}
	r.tokens["isolated"] = r.n.run("device", "add", "isolated", "--quiet")
	r.n.run("device", "quarantine", "isolated")
	r.tokens["guest"] = r.n.run("app", "add", "guest", "--scope", "other", "--quiet")
	r.tokens["teller"] = r.n.run("app", "add", "teller", "--scope", "fleet.tell", "--quiet")
	r.connect(stream)
	wait(t, "the gateway to know the newest app", func() bool {
		return r.askHTTP(&question{path: "/fleet/notice", body: `""`, caller: "teller"}).passed
	})
	return r
}

// connect opens what CoAP is asked by.
func (r *verdictRig) connect(stream string) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		r.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	udp, err := coap.NewUDP(conn, coap.Config{}, 0, nil, log)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- udp.Run(ctx) }()
	connected, err := net.Dial("tcp", stream)
	if err != nil {
		r.t.Fatal(err)
	}
	tcp, err := coap.NewClient(r.t.Context(), connected, coap.StreamConfig{}, nil, log)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		tcp.Close()
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	})
	gateway := netip.MustParseAddrPort(r.n.coap)
	r.udp = func(call *coap.Call) (*coap.Reply, error) { return udp.Do(r.t.Context(), gateway, call) }
	r.tcp = func(call *coap.Call) (*coap.Reply, error) { return tcp.Do(r.t.Context(), call) }
}

// questions are all examples of the contract, and what else can be wrong.
func (r *verdictRig) questions() (list []*question) {
	const reading, good, text = "/sensors/{way}/readings/1", `{"celsius":21.5}`, `"now"`
	for i := range r.contract.Operations {
		o := &r.contract.Operations[i]
		for _, example := range o.Request.Media[0].Examples {
			list = append(list, &question{name: example.Name, path: strings.NewReplacer("{sensorId}", "{way}", "{slot}", "1").Replace(o.HTTP.Path), body: string(example.Value), accepted: example.Expect == 0})
		}
	}
	if len(list) < 10 {
		r.t.Fatalf("the contract has %d examples", len(list))
	}
	nobody, err := fieldgate.NewToken(fieldgate.PrefixDevice)
	if err != nil {
		r.t.Fatal(err)
	}
	return append(list,
		&question{name: "no content", path: reading},
		&question{name: "text that is no JSON", path: reading, body: `{"celsius":`},
		&question{name: "another media type", path: reading, body: good, media: "text/plain"},
		&question{name: "more than `max-body`", path: reading, body: `{"celsius":20,"at":"` + strings.Repeat("0", 128) + `"}`},
		&question{name: "a parameter out of its range", path: "/sensors/{way}/readings/10", body: good},
		&question{name: "a path or topic of no contract", path: "/sensors/{way}/colour", body: good},
		&question{name: "another device's path or topic", path: "/sensors/isolated/readings/1", body: good},
		&question{name: "a token that is nobody's", path: reading, body: good, credential: nobody},
		&question{name: "a device in quarantine", path: "/sensors/isolated/readings/1", body: good, caller: "isolated"},
		&question{name: "a device asks for what apps may", path: "/fleet/notice", body: text},
		&question{name: "an app without the scope", path: "/fleet/notice", body: text, caller: "guest"},
		&question{name: "an app with the scope", path: "/fleet/notice", body: text, caller: "teller", accepted: true},
		&question{name: "an alarm, of one an hour", path: "/sensors/{way}/alarm", body: text, accepted: true},
		&question{name: "and another one", path: "/sensors/{way}/alarm", body: text},
	)
}

func (r *verdictRig) ask(q *question, way verdictWay) verdict {
	own := *q
	own.path = strings.ReplaceAll(q.path, "{way}", way.name)
	if own.caller == "" {
		own.caller = way.name
	}
	return way.ask(r, &own)
}

func (r *verdictRig) tokenOf(q *question) string {
	if q.credential != "" {
		return q.credential
	}
	return r.tokens[q.caller]
}

func (r *verdictRig) askHTTP(q *question) verdict {
	request, err := http.NewRequest("POST", "http://"+r.n.http+q.path, strings.NewReader(q.body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+r.tokenOf(q))
	if q.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if q.media != "" {
		request.Header.Set("Content-Type", q.media)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.verdict(strconv.Itoa(answer.StatusCode), answer.StatusCode, body)
}

// httpOf are the successes of CoAP that HTTP has another number for (RFC 8075 section 7).
var httpOf = map[coap.Code]int{coap.Created: 201, coap.Changed: 204, coap.Content: 200}

func (r *verdictRig) askCoAP(q *question, do func(*coap.Call) (*coap.Reply, error), format uint32) verdict {
	call := &coap.Call{Code: coap.POST, Body: []byte(q.body)}
	for segment := range strings.SplitSeq(q.path[1:], "/") {
		call.Options.AddString(coap.URIPath, segment)
	}
	call.Options.AddString(65002, r.tokenOf(q))
	switch {
	case q.media != "":
		call.Options.AddUint(coap.ContentFormat, coap.TextPlain)
	case q.body != "" && format == coap.CBOR:
		call.Options.AddUint(coap.ContentFormat, coap.CBOR)
		if encoded, err := schema.CBORFromJSON(nil, call.Body, nil); err == nil {
			call.Body = encoded
		}
	case q.body != "":
		call.Options.AddUint(coap.ContentFormat, format)
	}
	reply, err := do(call)
	if err != nil {
		r.t.Fatalf("%s: %v", q.name, err)
	}
	if status, passed := httpOf[reply.Code]; passed {
		return verdict{shown: reply.Code.String(), status: status, passed: true}
	}
	problem, err := schema.JSONFromCBOR(nil, reply.Body, nil)
	if err != nil {
		r.t.Fatalf("%s: %v %q: %v", q.name, reply.Code, reply.Body, err)
	}
	return r.verdict(reply.Code.String(), int(reply.Code>>5)*100+int(reply.Code&31), problem)
}

func (r *verdictRig) askMQTT(q *question, answered bool) verdict {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	session, err := r.session(ctx, q)
	var reason *mqtt.ReasonError
	if errors.As(err, &reason) {
		return verdict{shown: fmt.Sprintf("CONNACK 0x%02X", byte(reason.Reason))}
	}
	if err != nil {
		r.t.Fatal(err)
	}
	p := &mqtt.Publish{QoS: 1, Topic: []byte(q.path[1:]), Payload: []byte(q.body)}
	if q.media != "" {
		p.Properties.SetText(mqtt.ContentType, []byte(q.media))
	}
	if answered {
		p.Properties.SetText(mqtt.ResponseTopic, session.answers)
	}
	acknowledged := mqtt.Success
	if err := session.Publish(ctx, p); errors.As(err, &reason) {
		acknowledged = reason.Reason
	} else if err != nil {
		r.t.Fatal(err)
	}
	if !answered {
		return verdict{shown: fmt.Sprintf("0x%02X", byte(acknowledged)), passed: acknowledged == mqtt.Success}
	}
	select {
	case answer := <-session.received:
		return r.verdict(fmt.Sprintf("`status` %d", answer.status), answer.status, answer.body)
	case <-ctx.Done():
		r.t.Fatalf("%s: no answer, but %v", q.name, acknowledged)
	}
	return verdict{}
}

// verdictSession is the connection of a caller.
type verdictSession struct {
	*mqtt.Client
	answers  []byte // topic
	received chan mqttAnswer
}

type mqttAnswer struct {
	status int
	body   []byte
}

func (r *verdictRig) session(ctx context.Context, q *question) (*verdictSession, error) {
	if s := r.sessions[q.caller]; s != nil && q.credential == "" {
		return s, nil
	}
	conn, err := net.Dial("tcp", r.n.mqtt)
	if err != nil {
		return nil, err
	}
	s := &verdictSession{answers: []byte("fg/" + q.caller + "/answers"), received: make(chan mqttAnswer, 1)}
	s.Client, err = mqtt.Dial(ctx, conn, mqtt.ClientOptions{ClientID: q.caller, Username: q.caller, Password: r.tokenOf(q), Receive: func(p *mqtt.Publish) {
		text, _ := p.Properties.UserValue("status")
		status, err := strconv.Atoi(string(text))
		if err != nil {
			r.t.Error(err)
		}
		s.received <- mqttAnswer{status, bytes.Clone(p.Payload)}
	}})
	if err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { s.Close() })
	r.sessions[q.caller] = s
	_, err = s.Subscribe(ctx, mqtt.Filter{Filter: s.answers, QoS: 1})
	return s, err
}

// verdict takes an answer apart, whose body is problem details in JSON if it was refused.
func (r *verdictRig) verdict(shown string, status int, body []byte) verdict {
	v := verdict{shown: shown, status: status, passed: status < 400}
	if !v.passed {
		var problem struct {
			Instance string `json:"instance"` // RFC 9457
			Concise  string `json:"-3"`       // RFC 9290
		}
		if err := json.Unmarshal(body, &problem); err != nil {
			r.t.Fatalf("%s %s: %v", shown, body, err)
		}
		v.instance = problem.Instance + problem.Concise
	}
	return v
}

// rule is what refused a request, as its Record says.
func (r *verdictRig) rule(v verdict) string {
	if v.instance == "" {
		return ""
	}
	var found struct{ Exchange record }
	wait(r.t, "the record of "+v.instance, func() bool {
		status, answer, err := r.n.ask("GET", "/api/v1/traffic/exchanges/"+v.instance, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		return status == http.StatusOK && json.Unmarshal(answer, &found) == nil
	})
	return "`" + found.Exchange.Problem + "` " + found.Exchange.Rule
}
