package pipeline

import (
	"fmt"
	"reflect"
	"runtime"
	"testing"
	"time"
	"weak"

	"fieldgate"
)

// publishing is a PUBLISH with the connection's grants.
func publishing(caller *Caller, grants *Grants, topic, body string) *Exchange {
	return &Exchange{Protocol: fieldgate.ProtocolMQTT, Method: fieldgate.MethodPublish, Caller: caller, Grants: grants, Path: []byte(topic), Body: []byte(body)}
}

// What is granted by topic makes no difference to anybody: the same messages get the same verdicts and Records as without, first and again.
func TestGrantsChangeNoVerdict(t *testing.T) {
	f, caller := messaging(t)
	f.records.discard = false
	for _, c := range []struct {
		name string
		make func(*Exchange)
		want fieldgate.ProblemCode
	}{
		{"passes", func(x *Exchange) {}, ""},
		{"schema", func(x *Exchange) { x.Path, x.Body = []byte("f/d7/telemetry"), []byte(`{"seq":1,"temp":900}`) }, "invalid-payload"},
		{"another's topic", func(x *Exchange) { x.Path = []byte("f/d8/raw") }, "not-owner"},
		{"unknown topic", func(x *Exchange) { x.Path = []byte("f/d7/raw/x") }, "not-found"},
		{"QoS", func(x *Exchange) { x.QoS = 2 }, "qos-not-allowed"},
		{"retain", func(x *Exchange) { x.Retain = true }, "retain-not-allowed"},
		{"a parameter that the message brings", func(x *Exchange) { x.Path, x.Query = []byte("f/d7/numbered"), []byte("n=7") }, ""},
		{"an invalid one", func(x *Exchange) { x.Path, x.Query = []byte("f/d7/numbered"), []byte("n=101") }, "invalid-parameter"},
		{"a deprecated version", func(x *Exchange) { x.Path, x.Body = []byte("tracker/d7/status"), []byte(`{"seq":1,"temp":1}`) }, ""},
		{"pass-through", func(x *Exchange) { x.Path = []byte("legacy/anything") }, ""},
	} {
		var grants Grants
		var first fieldgate.Record
		for round, kept := range []*Grants{nil, &grants, &grants, &grants} {
			x := publishing(caller, kept, "f/d7/raw", "x")
			c.make(x)
			f.do(x)
			r := f.records.last()
			for stage := range r.Stages {
				if r.Stages[stage].Ran() { // how long it took does not count
					r.Stages[stage] = fieldgate.StageUntimed
				}
			}
			r.Time, r.Duration, r.Exchange = time.Time{}, 0, 0
			if round == 0 {
				first = r
			}
			if !reflect.DeepEqual(r, first) || r.Problem != c.want {
				t.Errorf("%s, round %d: %+v\nwithout grants %+v", c.name, round, r, first)
			}
		}
	}
}

// A grant is void as soon as contracts or caller have changed, for the next message.
func TestGrantsEnd(t *testing.T) {
	f, caller := messaging(t)
	device := func(state fieldgate.PrincipalState, firmware string) func() {
		return func() {
			if err := f.Directory.Apply([]fieldgate.DirectoryChange{{Sequence: f.Directory.Sequence() + 1, Kind: fieldgate.PrincipalDevice, ID: "d7", State: state,
				Model: "T2", Firmware: firmware, Credentials: []fieldgate.CredentialHash{caller.Hash}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.records.discard = false
	var grants Grants
	for _, step := range []struct {
		name     string
		change   func()
		want     fieldgate.ProblemCode
		firmware string
	}{
		{"at first", func() {}, "", "1.8.3"},
		{"new firmware", device(fieldgate.StateActive, "1.9.0"), "", "1.9.0"},
		{"in quarantine", device(fieldgate.StateQuarantined, "1.9.0"), "quarantined", "1.9.0"},
		{"released", device(fieldgate.StateActive, "1.9.0"), "", "1.9.0"},
		{"another program, without the contract", func() { f.link(t) }, "not-found", "1.9.0"},
		{"its credential was replaced", func() {
			f.link(t, messages())
			if err := f.Directory.Apply([]fieldgate.DirectoryChange{{Sequence: f.Directory.Sequence() + 1, Kind: fieldgate.PrincipalDevice, ID: "d7"}}); err != nil {
				t.Fatal(err)
			}
		}, "unauthenticated", ""},
	} {
		f.do(publishing(caller, &grants, "f/d7/raw", "x"))
		step.change()
		f.do(publishing(caller, &grants, "f/d7/raw", "x"))
		if r := f.records.last(); r.Problem != step.want || r.Firmware != step.firmware {
			t.Errorf("%s: %+v", step.name, r)
		}
	}
	other, problem := f.Identify(nil, []byte(f.app))
	if problem != nil {
		t.Fatal(problem)
	}
	if f.do(publishing(other, &grants, "f/d7/raw", "x")); f.records.last().Problem != "forbidden" {
		t.Error("a grant of another caller counted")
	}
}

// Whatever a client publishes to, its grants take a bounded place.
func TestGrantsAreBounded(t *testing.T) {
	f, caller := messaging(t)
	var grants Grants
	for i := range 10 * maxGrants {
		if problem := f.do(publishing(caller, &grants, fmt.Sprint("legacy/", i), "x")); problem != nil {
			t.Fatal(problem)
		}
	}
	if len(grants.byTopic) > maxGrants {
		t.Errorf("%d grants", len(grants.byTopic))
	}
}

// Who has published once and idles keeps no contracts that were replaced since.
func TestGrantsKeepNoProgram(t *testing.T) {
	f, caller := messaging(t)
	var grants Grants
	f.do(publishing(caller, &grants, "f/d7/raw", "x"))
	if grants.last == nil {
		t.Fatal("nothing was granted")
	}
	old := weak.Make(f.Program())
	operation := grants.last.operation
	program, err := Link(&fieldgate.Snapshot{Version: 2, Contracts: contracts()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Install(program)
	f.do(publishing(caller, nil, "f/d7/raw", "x"))
	for range 5 {
		runtime.GC()
	}
	if old.Value() != nil || operation.Value() != nil {
		t.Error("the program that was replaced is kept")
	}
	runtime.KeepAlive(&grants)
}
