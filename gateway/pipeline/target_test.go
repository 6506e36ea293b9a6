package pipeline

import (
	"net/netip"
	"testing"

	"fieldgate"
)

// RFC 3986 section 3.3: over MQTT and CoAP no value leads out of the path that the operation has.
func TestValuesStayInTheirLevel(t *testing.T) {
	f := newFixture(t)
	o := anonymous("dose", fieldgate.MethodPost, "/pumps/{pump}/doses")
	o.Upstream, o.Parameters = "ingest", []fieldgate.Parameter{{Name: "pump", In: fieldgate.InPath, Required: true}}
	o.MQTT, o.CoAP = &fieldgate.MQTTBinding{Topic: "pumps/{pump}/doses", Action: fieldgate.ActionPublish}, &fieldgate.CoAPBinding{Method: fieldgate.MethodPost, Path: "/doses"}
	dotted := o
	dotted.ID, dotted.HTTP, dotted.MQTT = "dotted", &fieldgate.HTTPBinding{Method: fieldgate.MethodPost, Path: "/.{pump}/doses"}, &fieldgate.MQTTBinding{Topic: "dotted/{pump}/doses", Action: fieldgate.ActionPublish}
	dotted.CoAP = nil
	f.serve(t, served("a", "1", o, dotted))
	for _, c := range []struct {
		protocol    fieldgate.Protocol
		path, query string
		want        string // path at the service; empty: refused
	}{
		{fieldgate.ProtocolMQTT, "pumps/p1/doses", "", "/pumps/p1/doses"},
		{fieldgate.ProtocolMQTT, "pumps/.p/doses", "", "/pumps/.p/doses"},
		{fieldgate.ProtocolMQTT, "pumps/p?x=1#y/doses", "", "/pumps/p%3Fx%3D1%23y/doses"},
		{fieldgate.ProtocolMQTT, "pumps/../doses", "", ""},
		{fieldgate.ProtocolMQTT, "pumps/./doses", "", ""},
		{fieldgate.ProtocolMQTT, "dotted/./doses", "", ""},
		{fieldgate.ProtocolMQTT, "pumps/..;a/doses", "", ""},
		{fieldgate.ProtocolMQTT, `pumps/..\x/doses`, "", ""},
		{fieldgate.ProtocolMQTT, "pumps/a\r\nHost: evil/doses", "", ""},
		{fieldgate.ProtocolMQTT, "pumps/\xc0\xae/doses", "", ""},
		{fieldgate.ProtocolCoAP, "/doses", "pump=p1", "/pumps/p1/doses"},
		{fieldgate.ProtocolCoAP, "/doses", "pump=..%2F..%2Fadmin", ""},
		{fieldgate.ProtocolCoAP, "/doses", "pump=%2e%2e", ""},
		{fieldgate.ProtocolCoAP, "/doses", "pump=", ""},
	} {
		x := &Exchange{Protocol: c.protocol, Method: fieldgate.MethodPost, Path: []byte(c.path), Query: []byte(c.query), Source: netip.MustParseAddrPort("127.0.0.1:9")}
		if c.protocol == fieldgate.ProtocolMQTT {
			x.Method, x.Caller = fieldgate.MethodPublish, &Caller{Kind: fieldgate.PrincipalAnonymous}
		}
		problem := f.do(x)
		if c.want == "" {
			if problem == nil || problem.Code != fieldgate.ProblemInvalidParameter {
				t.Errorf("%s?%s: %v", c.path, c.query, problem)
			}
			continue
		}
		if problem != nil {
			t.Errorf("%s?%s: %v", c.path, c.query, problem)
			continue
		}
		if call := <-f.calls; call.URL.EscapedPath() != c.want {
			t.Errorf("%s?%s: the service saw %s", c.path, c.query, call.RequestURI)
		}
		<-f.bodies
	}
	if len(f.calls) != 0 {
		t.Error("a refused value reached the service")
	}
}
