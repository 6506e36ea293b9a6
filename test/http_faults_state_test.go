package test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// upstreamState is an upstream as the console shows it.
type upstreamState struct {
	Circuit            string
	Healthy, Unhealthy int
	Problem            string
	Addresses          []addressState
}

type addressState struct {
	Healthy, Failures int
	Why               string
}

// ill is how many addresses are not healthy for a reason with this text in it.
func (u *upstreamState) ill(why string) (count int) {
	for _, a := range u.Addresses {
		if a.Healthy == 0 && strings.Contains(a.Why, why) {
			count++
		}
	}
	return count
}

// shows waits until the console shows what is, while somebody calls the upstream.
func (n *faulty) shows(upstream, what string, is func(u *upstreamState) bool) {
	n.t.Helper()
	client := protocols["HTTP/1.1"]()
	wait(n.t, "the console to show "+what+" of "+upstream, func() bool {
		n.ask(client, "GET", "/"+upstream+"/plain", nil, nil)
		var u upstreamState
		status, body, err := n.node.ask("GET", "/api/v1/upstreams/"+upstream, nil)
		return err == nil && status == http.StatusOK && json.Unmarshal(body, &u) == nil && is(&u)
	})
}

// showsHealthy waits until the console shows that all is well.
func (n *faulty) showsHealthy(upstream string) {
	n.t.Helper()
	n.shows(upstream, "the health", func(u *upstreamState) bool {
		return u.Unhealthy == 0 && u.Healthy > 0 && u.Problem == "" && (u.Circuit == "" || u.Circuit == "closed")
	})
}

// gatewayState is the gateway as the console shows it.
type gatewayState struct {
	Certificates []struct{ NotAfter time.Time }
	AccessLog    struct {
		Written, Dropped int
		Problem          string
	}
}

// warns waits until the console shows what is of the gateway, with a warning of that code or, after a fault, without.
func (n *faulty) warns(code string, warned bool, is func(g *gatewayState) bool) {
	n.t.Helper()
	wait(n.t, "the console to show what is wrong: "+code, func() bool {
		var s struct {
			Gateways []gatewayState
			Warnings []struct{ Code, Message, Remedy string }
		}
		status, body, err := n.node.ask("GET", "/api/v1/status", nil)
		if err != nil || status != http.StatusOK || json.Unmarshal(body, &s) != nil || len(s.Gateways) != 1 {
			return false
		}
		found := slices.ContainsFunc(s.Warnings, func(w struct{ Code, Message, Remedy string }) bool {
			return w.Code == code && w.Message != "" && w.Remedy != ""
		})
		return found == warned && is(&s.Gateways[0])
	})
}
