package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"fieldgate"
)

// Each change of an address or a circuit is told once, however many calls see it; who does not listen holds up nobody.
func TestTransitions(t *testing.T) {
	s, err := NewSet([]fieldgate.Upstream{{Name: "therapy", Addresses: []string{"http://10.0.0.1", "http://10.0.0.2"},
		Health: fieldgate.HealthCheck{Kind: fieldgate.HealthTCP}, Circuit: fieldgate.Circuit{FailurePercent: 50, MinimumCalls: 4, Open: time.Minute}}})
	if err != nil {
		t.Fatal(err)
	}
	u := s.Upstream("therapy")
	a := u.addresses()[0]
	next := func(what string, want Transition) {
		t.Helper()
		want.Upstream = "therapy"
		select {
		case got := <-s.Transitions():
			if got != want {
				t.Errorf("%s: %+v", what, got)
			}
		default:
			if want != (Transition{Upstream: "therapy"}) {
				t.Errorf("%s: nothing is told", what)
			}
		}
	}
	now := time.Now()
	call := func(o outcome) {
		a.begin()
		a.end(now, time.Millisecond, o, cause{})
	}
	call(unreachable)
	call(unreachable)
	next("refused", Transition{Address: "http://10.0.0.1", Why: "no connection came about"})
	next("refused again", Transition{})
	u.checked(a, now, nil)
	next("reached by a check", Transition{Address: "http://10.0.0.1", Healthy: true})
	for range 3 {
		u.checked(a, now, errors.New("the answer's status is 503"))
	}
	next("three checks failed", Transition{Address: "http://10.0.0.1", Why: "check: the answer's status is 503"})
	for range 2 {
		u.checked(a, now, nil)
	}
	next("two checks passed", Transition{Address: "http://10.0.0.1", Healthy: true})
	for range 3 {
		call(broken)
	}
	next("most calls failed", Transition{Circuit: fieldgate.CircuitOpen})
	next("nothing else", Transition{})

	call(unreachable)
	<-s.Transitions()
	s.Settle(now.Add(2 * time.Minute)) // nobody calls, and its time is over
	next("settled", Transition{Address: "http://10.0.0.1", Healthy: true})
	now = now.Add(2 * time.Minute)
	for range probesPassed {
		call(answered)
	}
	next("probes passed", Transition{Circuit: fieldgate.CircuitClosed})

	for range 2 * maxTransitions {
		u.turned(a)
	}
}

// The states of an upstream of which all addresses fail with long texts fit into a message on the bus several times.
func TestStatesAreSmall(t *testing.T) {
	var configs []fieldgate.Upstream
	for n := range 1000 {
		config := fieldgate.Upstream{Name: fmt.Sprintf("%0128d", n)}
		for i := range 3 {
			config.Targets = append(config.Targets, fieldgate.Target{Address: fmt.Sprintf("http://%s%03d.%d", strings.Repeat("a", 250), n, i), Zone: strings.Repeat("z", fieldgate.MaxZone)})
		}
		configs = append(configs, config)
	}
	s, err := NewSet(configs)
	if err != nil {
		t.Fatal(err)
	}
	for _, config := range configs {
		u := s.Upstream(config.Name)
		u.found(nil, errors.New(strings.Repeat("ö", 500)))
		for _, a := range u.addresses()[1:] {
			for range 3 {
				u.checked(a, time.Now(), errors.New(strings.Repeat("ü", 500)))
			}
		}
	}
	states := s.States()
	shown, unhealthy := 0, 0
	for i := range states {
		for _, a := range states[i].Addresses {
			shown++
			if !a.Healthy {
				unhealthy++
			}
		}
		if states[i].Healthy != 1 || states[i].Unhealthy != 2 {
			t.Fatalf("%+v", states[i])
		}
	}
	if shown != fieldgate.MaxAddressStates || unhealthy != shown {
		t.Errorf("%d addresses are shown, %d of them unhealthy", shown, unhealthy)
	}
	encoded, err := json.Marshal(states)
	if err != nil || len(encoded) > 768<<10 {
		t.Errorf("%d bytes, %v", len(encoded), err)
	}
}

// state is an upstream with all its addresses.
func (u *Upstream) state(now time.Time) fieldgate.UpstreamState {
	state := u.summary(now)
	state.Addresses = u.addressStates(now, state.Healthy, state.Unhealthy)
	return state
}
