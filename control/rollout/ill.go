package rollout

import (
	"fmt"
	"time"

	"fieldgate"
)

// endsWithin is when a certificate's end is told: most are replaced by hand, and some by people of another house.
const endsWithin = 30 * 24 * time.Hour

// IllKind says what of a gateway needs a look.
type IllKind string

// The kinds, each with its words.
const (
	IllUpstream    IllKind = "upstream"    // addresses that are left out, or discovery that fails
	IllCircuit     IllKind = "circuit"     // calls are refused
	IllOverload    IllKind = "overload"    // calls or retries were refused within the last minute
	IllCertificate IllKind = "certificate" // it ends, or was not replaced
	IllAccessLog   IllKind = "access-log"  // lines are lost
	IllMQTTStore   IllKind = "mqtt-store"  // messages are refused
)

// Ill is one thing of a gateway that needs a look.
type Ill struct {
	Kind     IllKind
	Bad      bool   // callers fail or something is lost now; else somebody should look before it comes to that
	Upstream string // of IllUpstream, IllCircuit and IllOverload
	Message  string // a phrase that names the gateway
	Remedy   string
}

// Ills are what a gateway says that needs a look, as it was last heard.
func (g *Gateway) Ills(now time.Time) (ills []Ill) {
	for i := range g.Upstreams {
		u := &g.Upstreams[i]
		add := func(kind IllKind, bad bool, remedy, format string, v ...any) {
			ills = append(ills, Ill{Kind: kind, Bad: bad, Upstream: u.Name, Message: fmt.Sprintf(format, v...), Remedy: remedy})
		}
		if u.Circuit == fieldgate.CircuitOpen || u.Circuit == fieldgate.CircuitHalfOpen {
			add(IllCircuit, true, "look at the service: callers are answered 503 at once, and the circuit closes by itself when calls succeed",
				"the circuit of %s is open on %s", u.Name, g.Node)
		}
		if u.Unhealthy > 0 {
			are := "are"
			if u.Unhealthy == 1 {
				are = "is"
			}
			add(IllUpstream, u.Healthy == 0, "see why with \"fieldgate upstream show "+u.Name+"\"; an address that answers again is used again by itself",
				"%d of %d addresses of %s %s unhealthy on %s", u.Unhealthy, u.Healthy+u.Unhealthy, u.Name, are, g.Node)
		}
		shed, refused := g.overload(u.Name, now)
		if shed {
			add(IllOverload, false, "see what it carries and whose calls were refused with \"fieldgate upstream show "+u.Name+"\"; callers are answered 503 with Retry-After, those of background operations first",
				"%s had more calls on %s than it can carry, and some were refused within the last minute", u.Name, g.Node)
		}
		if refused {
			add(IllOverload, false, "look at the service: it fails more often than retries are good for; retry-budget in the environment file bounds them",
				"the retry budget of %s on %s was used up within the last minute", u.Name, g.Node)
		}
		if u.Problem != "" {
			add(IllUpstream, u.Healthy == 0, "its addresses stay as they are until this is put right", "upstream %s on %s: %s", u.Name, g.Node, u.Problem)
		}
	}
	for i := range g.Certificates {
		c := &g.Certificates[i]
		if message, remedy := certificateIll(g.Node, c, now); message != "" {
			ills = append(ills, Ill{Kind: IllCertificate, Bad: !c.NotAfter.After(now), Message: message, Remedy: remedy})
		}
	}
	if a := g.AccessLog; a != nil && a.Problem != "" {
		ills = append(ills, Ill{Kind: IllAccessLog, Bad: true, Message: fmt.Sprintf("the access log of %s is not written: %s", g.Node, a.Problem),
			Remedy: fmt.Sprintf("give its disk room, or correct access-log in the environment file; lines lost so far: %d, traffic is not touched", a.Dropped)})
	}
	if problem := g.MQTT.StoreProblem; problem != "" {
		ills = append(ills, Ill{Kind: IllMQTTStore, Bad: true, Message: fmt.Sprintf("the MQTT broker of %s takes no messages of QoS 1 and 2, and none to be retained: %s", g.Node, problem),
			Remedy: "give its disk room, or raise mqtt.max-stored-size or mqtt.max-retained in the environment file; it goes on by itself, unless it says that it has to be restarted"})
	}
	return ills
}

// certificateIll is empty for a certificate that is in order. One that renews itself needs nobody before it says that it could not.
func certificateIll(node string, c *fieldgate.CertificateState, now time.Time) (message, remedy string) {
	name := c.File
	if len(c.Names) > 0 {
		name = c.Names[0]
	}
	remedy = "replace the file; the gateway reads it within seconds, without a restart"
	if c.Source != fieldgate.CertificateFile {
		remedy = "see the gateway's log: it should have renewed it by itself"
	}
	left := c.NotAfter.Sub(now)
	switch {
	case c.NotAfter.IsZero() && c.Problem == "":
		return "", ""
	case c.NotAfter.IsZero():
		return fmt.Sprintf("there is no certificate of %s on %s: %s", name, node, c.Problem), remedy
	case left < endsWithin && c.Problem != "":
		return fmt.Sprintf("the certificate of %s on %s %s, and cannot be replaced: %s", name, node, Expiry(c.NotAfter, now), c.Problem), remedy
	case left <= 0, left < endsWithin && c.Source == fieldgate.CertificateFile:
		return fmt.Sprintf("the certificate of %s on %s %s", name, node, Expiry(c.NotAfter, now)), remedy
	case c.Problem != "":
		return fmt.Sprintf("the certificate of %s on %s: %s", name, node, c.Problem), remedy
	}
	return "", ""
}

// Expiry says when something ends or has ended, such as "expires in 40 minutes" and "expired 2 days ago".
func Expiry(end, now time.Time) string {
	if left := end.Sub(now); left > 0 {
		return "expires in " + span(left)
	}
	return "expired " + span(now.Sub(end)) + " ago"
}

// span is a time to its largest unit, days from two on.
func span(d time.Duration) string {
	count, unit := int64(d/time.Minute), "minute"
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d >= 48*time.Hour:
		count, unit = int64(d/(24*time.Hour)), "day"
	case d >= time.Hour:
		count, unit = int64(d/time.Hour), "hour"
	}
	if count != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", count, unit)
}

// conditions are what pages show of the HTTP side at a glance; two that differ mean that something has turned.
func (g *Gateway) conditions() (conditions []string) {
	for i := range g.Upstreams {
		u := &g.Upstreams[i]
		shed, refused := g.overload(u.Name, g.Seen)
		conditions = append(conditions, fmt.Sprint(u.Name, " ", u.Circuit, " ", u.Healthy, " ", u.Unhealthy, " ", u.Problem, " ", shed, " ", refused))
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
	return append(conditions, g.MQTT.StoreProblem)
}
