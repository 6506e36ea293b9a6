package pipeline

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/gateway/upstream"
	"fieldgate/test/port"
)

// ran lists the stages that a Record says ran, in order.
func ran(r *fieldgate.Record) string {
	var names []string
	for stage, t := range r.Stages {
		if t.Ran() {
			names = append(names, fieldgate.Stage(stage).String())
		}
	}
	return strings.Join(names, " ")
}

// Each refusal says which stage decided by which rule, and which stages it had passed until then.
func TestRecordsSayWhatDecided(t *testing.T) {
	f := newFixture(t)
	const good, hot = `{"seq":7,"temp":21.5}`, `{"seq":7,"temp":900}`
	get, post, put := fieldgate.MethodGet, fieldgate.MethodPost, fieldgate.MethodPut
	wrongType := f.http(post, "/devices/d7/telemetry", f.device, good)
	wrongType.ContentType = []byte("text/plain")
	for range 3 {
		f.do(f.http(get, "/limited", "", ""))
	}
	caller, problem := f.Identify(nil, []byte(f.device))
	if problem != nil {
		t.Fatal(problem)
	}
	publish := func(topic string, qos byte, retain bool) *Exchange {
		return &Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodPublish, Path: []byte(topic), Caller: caller, QoS: qos, Retain: retain, Body: []byte(good)}
	}
	for _, c := range []struct {
		name    string
		x       *Exchange
		ran     string
		decided fieldgate.Stage
		rule    string
	}{
		{"passes", f.http(post, "/devices/d7/telemetry", f.device, good), "match identify admit check forward record", fieldgate.StageNone, ""},
		{"passes without checks", f.http(get, "/legacy/x", "", ""), "match identify admit forward record", fieldgate.StageNone, ""},
		{"passes although invalid", f.http(put, "/shadow", "", hot), "match identify admit check forward record", fieldgate.StageNone, ""},
		{"nothing there", f.http(get, "/nothing", "", ""), "match record", fieldgate.StageMatch, "no route"},
		{"another method", f.http(put, "/devices/d7/telemetry", f.device, good), "match record", fieldgate.StageMatch, "no such method"},
		{"percent-encoding", f.http(post, "/devices/d%7/telemetry", f.device, good), "match record", fieldgate.StageMatch, "percent-encoding"},
		{"path too long", f.http(get, "/"+strings.Repeat("x", fieldgate.MaxPathBytes), "", ""), "match record", fieldgate.StageMatch, "path length"},
		{"no credential", f.http(post, "/devices/d7/telemetry", "", good), "match identify record", fieldgate.StageIdentify, "credential required"},
		{"wrong credential", f.http(post, "/devices/d7/telemetry", token(t, fieldgate.PrefixDevice), good), "match identify record", fieldgate.StageIdentify, "credential"},
		{"wrong kind", f.http(post, "/devices/d7/telemetry", f.app, good), "match identify admit record", fieldgate.StageAdmit, "access device"},
		{"no scope", f.http(get, "/devices/d7/telemetry", f.poor, ""), "match identify admit record", fieldgate.StageAdmit, "scope live"},
		{"not the owner", f.http(post, "/devices/d8/telemetry", f.device, good), "match identify admit record", fieldgate.StageAdmit, "owner of {deviceId}"},
		{"retired", f.http(get, "/old", f.device, ""), "match admit record", fieldgate.StageAdmit, "lifecycle retired"},
		{"rate", f.http(get, "/limited", "", ""), "match identify admit limit record", fieldgate.StageLimit, "rate 3/min per source"},
		{"payload", f.http(post, "/devices/d7/telemetry", f.device, hot), "match identify admit check record", fieldgate.StageCheck, "/properties/temp/maximum"},
		{"no JSON", f.http(post, "/devices/d7/telemetry", f.device, "{"), "match identify admit check record", fieldgate.StageCheck, "syntax"},
		{"content type", wrongType, "match identify admit check record", fieldgate.StageCheck, "content type application/json"},
		{"no body", f.http(post, "/devices/d7/telemetry", f.device, ""), "match identify admit check record", fieldgate.StageCheck, "body required"},
		{"body too large", f.http(post, "/devices/d7/telemetry", f.device, strings.Repeat(" ", 2000)), "match identify admit check record", fieldgate.StageCheck, "max-body 1024 bytes"},
		{"quality of service", publish("tracker/d7/status", 1, false), "match identify admit record", fieldgate.StageAdmit, "qos 0"},
		{"retain", publish("d/d7/telemetry", 0, true), "match identify admit record", fieldgate.StageAdmit, "retain"},
	} {
		f.do(c.x)
		r := f.records.last()
		if got := ran(&r); got != c.ran || r.Decided != c.decided || r.Rule != c.rule {
			t.Errorf("%s: %q, decided by %v %q", c.name, got, r.Decided, r.Rule)
		}
	}
}

func TestRecordsSayWhatDecidedAboutParameters(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ path, rule string }{{"/limited?n=101", "n /maximum"}, {"/limited?n=%", "percent-encoding"}} {
		f.do(f.http(fieldgate.MethodGet, c.path, "", ""))
		if r := f.records.last(); r.Decided != fieldgate.StageCheck || r.Rule != c.rule {
			t.Errorf("%s: decided by %v %q", c.path, r.Decided, r.Rule)
		}
	}
}

func TestRecordsSayWhatDecidedAboutStanding(t *testing.T) {
	f := newFixture(t)
	for i, c := range []struct {
		state       fieldgate.PrincipalState
		credentials []fieldgate.CredentialHash
		decided     fieldgate.Stage
		rule        string
	}{
		{fieldgate.StateQuarantined, []fieldgate.CredentialHash{fieldgate.HashToken([]byte(f.device))}, fieldgate.StageAdmit, "state quarantined"},
		{fieldgate.StateActive, nil, fieldgate.StageIdentify, "credential"},
	} {
		caller, _ := f.Identify(nil, []byte(f.device))
		if err := f.Directory.Apply([]fieldgate.DirectoryChange{{Sequence: uint64(10 + i), Kind: fieldgate.PrincipalDevice, ID: "d7", State: c.state, Credentials: c.credentials}}); err != nil {
			t.Fatal(err)
		}
		f.do(f.http(fieldgate.MethodPost, "/devices/d7/telemetry", f.device, `{"seq":7,"temp":21.5}`))
		called := f.records.last()
		x := &Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodSubscribe, Path: []byte("tracker/d7/status"), Caller: caller}
		f.Subscribe(x)
		f.Finish(x)
		for _, r := range []fieldgate.Record{called, f.records.last()} {
			if r.Decided != c.decided || r.Rule != c.rule {
				t.Errorf("%v, %v: decided by %v %q", c.state, r.Method, r.Decided, r.Rule)
			}
		}
	}
}

// A subscription is asked of every operation on the topic; the first refusal counts.
func TestRecordsSayWhatDecidedAboutSubscriptions(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		secret, filter, ran string
		decided             fieldgate.Stage
		rule                string
	}{
		{f.device, "tracker/d7/status", "match identify admit check record", fieldgate.StageNone, ""},
		{f.device, "tracker/+/status", "match identify admit record", fieldgate.StageAdmit, "owner of {deviceId}"},
		{f.poor, "d/d7/telemetry", "match identify admit record", fieldgate.StageAdmit, "scope live"},
		{f.device, "nothing/#", "match identify record", fieldgate.StageMatch, "no route"},
	} {
		caller, problem := f.Identify(nil, []byte(c.secret))
		if problem != nil {
			t.Fatal(problem)
		}
		x := &Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodSubscribe, Path: []byte(c.filter), Caller: caller}
		f.Subscribe(x)
		f.Finish(x)
		if r := f.records.last(); ran(&r) != c.ran || r.Decided != c.decided || r.Rule != c.rule {
			t.Errorf("%s: %q, decided by %v %q", c.filter, ran(&r), r.Decided, r.Rule)
		}
	}
}

// What is wrong with an upstream is told by its name in the environment.
func TestRecordsSayWhatIsWrongWithTheUpstream(t *testing.T) {
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		connection.Write([]byte("no HTTP\r\n\r\n"))
		connection.Close()
	}))
	t.Cleanup(broken.Close)
	for _, c := range []struct {
		upstreams []fieldgate.Upstream
		rule      string
	}{
		{nil, "upstream ingest not in the environment"},
		{[]fieldgate.Upstream{{Name: "ingest", Addresses: []string{"http://" + port.Free(t)}}}, "upstream ingest unreachable"},
		{[]fieldgate.Upstream{{Name: "ingest", Addresses: []string{broken.URL}}}, "upstream ingest invalid answer"},
	} {
		f := newFixture(t)
		set, err := upstream.NewSet(c.upstreams)
		if err != nil {
			t.Fatal(err)
		}
		f.Upstreams = set
		f.do(f.http(fieldgate.MethodPost, "/devices/d7/telemetry", f.device, `{"seq":7,"temp":21.5}`))
		r := f.records.last()
		if ran(&r) != "match identify admit check forward record" || r.Decided != fieldgate.StageForward || r.Rule != c.rule {
			t.Errorf("%q, decided by %v %q", ran(&r), r.Decided, r.Rule)
		}
	}
}

// What is refused before its first stage was decided by none, unless it is a question that a stage would have asked.
func TestRecordsOfWhatNeverBegan(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		code    fieldgate.ProblemCode
		decided fieldgate.Stage
		rule    string
	}{
		{fieldgate.ProblemBadRequest, fieldgate.StageNone, "malformed"},
		{fieldgate.ProblemUnauthenticated, fieldgate.StageIdentify, "credential"},
		{fieldgate.ProblemOverloaded, fieldgate.StageNone, "overload"},
	} {
		f.Malformed(&Exchange{Protocol: fieldgate.ProtocolMQTT}, fieldgate.NewProblem(c.code, ""))
		if r := f.records.last(); ran(&r) != "record" || r.Decided != c.decided || r.Rule != c.rule {
			t.Errorf("%s: %q, decided by %v %q", c.code, ran(&r), r.Decided, r.Rule)
		}
	}
}

// The stages of a timed exchange together take no longer than the whole. Waiting for an upstream is timed always.
func TestTimes(t *testing.T) {
	f := newFixture(t)
	timed := 0
	for range 64 {
		f.do(f.http(fieldgate.MethodPost, "/devices/d7/telemetry", f.device, `{"seq":7,"temp":21.5}`))
		r := f.records.last()
		if forward := r.Stages[fieldgate.StageForward]; !forward.Timed() || forward.Duration() < r.Upstream {
			t.Errorf("forward took %v, of which %v upstream", forward.Duration(), r.Upstream)
		}
		if !r.Stages[fieldgate.StageMatch].Timed() {
			continue
		}
		timed++
		var sum time.Duration
		for stage, s := range r.Stages {
			if s.Ran() != s.Timed() {
				t.Errorf("%v ran, but was not timed", fieldgate.Stage(stage))
			}
			sum += s.Duration()
		}
		if rounding := 200 * time.Duration(fieldgate.Stages); sum > r.Duration+rounding+r.Stages[fieldgate.StageRecord].Duration() {
			t.Errorf("the stages took %v, the exchange %v", sum, r.Duration)
		}
	}
	if timed == 0 {
		t.Error("no exchange was timed")
	}
}

// Up to a thousand exchanges a second are timed, whatever the clock does.
func TestTimedApart(t *testing.T) {
	f := newFixture(t)
	now := time.Now()
	for i, c := range []struct {
		after time.Duration
		timed bool
	}{{0, true}, {time.Microsecond, false}, {timedApart - 1, false}, {timedApart, true}, {timedApart + 1, false}, {-time.Hour, true}, {-time.Hour + timedApart, true}} {
		if got := f.isTimed(now.Add(c.after)); got != c.timed {
			t.Errorf("%d: %v later: %v", i, c.after, got)
		}
	}
}

func TestRuleTexts(t *testing.T) {
	for _, c := range []struct {
		limit         fieldgate.Limit
		want, refusal string
	}{
		{fieldgate.Limit{Count: 20, Burst: 20, Period: time.Minute, Key: fieldgate.LimitPrincipal}, "rate 20/min per principal", "At most 20 a minute for each principal."},
		{fieldgate.Limit{Count: 6, Burst: 2, Period: 24 * time.Hour, Key: fieldgate.LimitOperation}, "rate 6/day per operation, burst 2", "At most 6 a day for each operation."},
		{fieldgate.Limit{Count: 10, Burst: 10, Period: time.Second, Key: fieldgate.LimitSource}, "rate 10/s per source", "At most 10 a second for each source."},
		{fieldgate.Limit{Count: 100, Burst: 100, Period: time.Hour, Key: fieldgate.LimitSource}, "rate 100/h per source", "At most 100 an hour for each source."},
		{fieldgate.Limit{Count: 1, Burst: 1, Period: 90 * time.Second, Key: fieldgate.LimitSource}, "rate 1/1m30s per source", "At most 1 in 90 s for each source."},
	} {
		if got := limitRule(&c.limit); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		if got := linkLimit(c.limit, 0).refusal; got != c.refusal {
			t.Errorf("got %q, want %q", got, c.refusal)
		}
	}
	for _, text := range []string{strings.Repeat("ä", 100), strings.Repeat("x", 127) + "€", "\x80" + strings.Repeat("\x80", 200)} {
		if got := ruleText(text); len(got) > fieldgate.MaxRecordRule || !strings.HasPrefix(text, got) || utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	long := &fieldgate.Operation{ID: "o", Access: fieldgate.Access{Scopes: []string{strings.Repeat("s", 500)}}, Upstream: strings.Repeat("u", 500)}
	rules := linkRules(long)
	for _, text := range slices.Concat(rules.scopes, []string{rules.unknown, rules.kind, rules.maxBody}) {
		if len(text) > fieldgate.MaxRecordRule {
			t.Errorf("%d bytes", len(text))
		}
	}
}
