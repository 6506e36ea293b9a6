package rollout

import (
	"fmt"
	"time"

	"fieldgate"
)

// endsWithin is when a certificate's end is told: most are replaced by hand, and some by people of another house.
const endsWithin = 30 * 24 * time.Hour

// IllKind says what of a gateway's HTTP side needs a look.
type IllKind string

// The kinds, each with its words.
const (
	IllUpstream    IllKind = "upstream"    // addresses that are left out, or discovery that fails
	IllCircuit     IllKind = "circuit"     // calls are refused
	IllCertificate IllKind = "certificate" // it ends, or was not replaced
	IllAccessLog   IllKind = "access-log"  // lines are lost
)

// Ill is one thing of a gateway's HTTP side that needs a look.
type Ill struct {
	Kind     IllKind
	Upstream string // of IllUpstream and IllCircuit
	Message  string // a phrase that names the gateway
	Remedy   string
}

// Ills are what a gateway's HTTP side says that needs a look, as it was last heard.
func (g *Gateway) Ills(now time.Time) (ills []Ill) {
	for i := range g.Upstreams {
		u := &g.Upstreams[i]
		add := func(kind IllKind, remedy, format string, v ...any) {
			ills = append(ills, Ill{Kind: kind, Upstream: u.Name, Message: fmt.Sprintf(format, v...), Remedy: remedy})
		}
		if u.Circuit == fieldgate.CircuitOpen || u.Circuit == fieldgate.CircuitHalfOpen {
			add(IllCircuit, "look at the service: callers are answered 503 at once, and the circuit closes by itself when calls succeed",
				"the circuit of %s is open on %s", u.Name, g.Node)
		}
		if u.Unhealthy > 0 {
			are := "are"
			if u.Unhealthy == 1 {
				are = "is"
			}
			add(IllUpstream, "see why with \"fieldgate upstream show "+u.Name+"\"; an address that answers again is used again by itself",
				"%d of %d addresses of %s %s unhealthy on %s", u.Unhealthy, u.Healthy+u.Unhealthy, u.Name, are, g.Node)
		}
		if u.Problem != "" {
			add(IllUpstream, "its addresses stay as they are until this is put right", "upstream %s on %s: %s", u.Name, g.Node, u.Problem)
		}
	}
	for i := range g.Certificates {
		if message, remedy := certificateIll(g.Node, &g.Certificates[i], now); message != "" {
			ills = append(ills, Ill{Kind: IllCertificate, Message: message, Remedy: remedy})
		}
	}
	if a := g.AccessLog; a != nil && a.Problem != "" {
		ills = append(ills, Ill{Kind: IllAccessLog, Message: fmt.Sprintf("the access log of %s is not written: %s", g.Node, a.Problem),
			Remedy: fmt.Sprintf("give its disk room, or correct access-log in the environment file; %d lines are lost so far, traffic is not touched", a.Dropped)})
	}
	return ills
}

// certificateIll is empty for a certificate that is in order. One that renews itself needs nobody before it says that it could not.
func certificateIll(node string, c *fieldgate.CertificateState, now time.Time) (message, remedy string) {
	name := c.File
	if len(c.Names) > 0 {
		name = c.Names[0]
	}
	remedy = "replace the file; the gateway reads it within a minute, without a restart"
	if c.Source != fieldgate.CertificateFile {
		remedy = "see the gateway's log: it should have renewed it by itself"
	}
	left := c.NotAfter.Sub(now)
	switch {
	case c.NotAfter.IsZero() && c.Problem == "":
		return "", ""
	case c.NotAfter.IsZero():
		return fmt.Sprintf("there is no certificate of %s on %s: %s", name, node, c.Problem), remedy
	case left <= 0:
		return fmt.Sprintf("the certificate of %s on %s expired on %s", name, node, c.NotAfter.UTC().Format(time.DateOnly)), remedy
	case left < endsWithin && (c.Source == fieldgate.CertificateFile || c.Problem != ""):
		return fmt.Sprintf("the certificate of %s on %s ends in %s", name, node, days(left)), remedy
	case c.Problem != "":
		return fmt.Sprintf("the certificate of %s on %s: %s", name, node, c.Problem), remedy
	}
	return "", ""
}

func days(left time.Duration) string {
	switch n := int(left / (24 * time.Hour)); n {
	case 0:
		return fmt.Sprintf("%d hours", int(left/time.Hour))
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}

// conditions are what pages show of the HTTP side at a glance; two that differ mean that something has turned.
func (g *Gateway) conditions() (conditions []string) {
	for i := range g.Upstreams {
		u := &g.Upstreams[i]
		conditions = append(conditions, fmt.Sprint(u.Name, " ", u.Circuit, " ", u.Healthy, " ", u.Unhealthy, " ", u.Problem))
		for j := range u.Addresses {
			if a := &u.Addresses[j]; !a.Healthy {
				conditions = append(conditions, a.Address+" "+a.Why)
			}
		}
	}
	for i := range g.Certificates {
		conditions = append(conditions, fmt.Sprint(g.Certificates[i].NotAfter.Unix(), " ", g.Certificates[i].Problem))
	}
	if g.AccessLog != nil {
		conditions = append(conditions, g.AccessLog.Problem)
	}
	return conditions
}
