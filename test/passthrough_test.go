package test

import (
	"net"
	"slices"
	"strings"
	"testing"
)

// A fleet that exists already moves in unchanged: everything passes, with the credentials in use, and is recorded and shown as
// undocumented. Without a pass-through document nothing does.
func TestPassThrough(t *testing.T) {
	upstream := newService(t)
	n := newNode(t, map[string]string{"legacy": upstream.URL, "legacy-coap": upstream.URL})
	n.start()
	host, port, _ := net.SplitHostPort(n.mqtt)
	get := func() string {
		return mustTool(t, "curl", "-s", "-i", "-u", "bob:secret", "-H", "X-Custom: 1", "http://"+n.http+"/legacy/any/thing?q=1")
	}
	if output := get(); !strings.Contains(output, "404") || len(upstream.take()) != 0 {
		t.Fatalf("something passes without a contract:\n%s", output)
	}
	if output, err := tool(t, "mosquitto_pub", "-h", host, "-p", port, "-u", "bob", "-P", "secret", "-q", "1", "-t", "legacy/x", "-m", "1"); err == nil {
		t.Fatalf("a foreign credential connects:\n%s", output)
	}
	if output, err := n.try("doctor"); err != nil {
		t.Fatalf("doctor finds something on an empty node: %v %s", err, output)
	}

	n.run("api", "publish", "../examples/legacy.pass-through.yaml")
	if output := get(); !strings.Contains(output, `"model":"T2"`) {
		t.Errorf("over HTTP:\n%s", output)
	}
	if calls := upstream.take(); len(calls) != 1 || calls[0].path != "/legacy/any/thing?q=1" || calls[0].authorization != "Basic Ym9iOnNlY3JldA==" {
		t.Errorf("the upstream saw %+v", calls)
	}
	sub := listen(t, "mosquitto_sub", "-d", "-v", "-h", host, "-p", port, "-u", "alice", "-P", "x", "-t", "legacy/#")
	sub.hears("Subscribed")
	mustTool(t, "mosquitto_pub", "-h", host, "-p", port, "-u", "bob", "-P", "secret", "-q", "1", "-t", "legacy/a/b", "-m", "not json at all")
	sub.hears("legacy/a/b not json at all")
	if output := mustTool(t, "coap-client-notls", "-B", "60", "-m", "get", "coap://"+n.coap+"/legacy/x"); !strings.Contains(output, `"model":"T2"`) {
		t.Errorf("over CoAP:\n%s", output)
	}
	for _, protocol := range []string{"http", "mqtt", "coap"} {
		wait(t, "the record over "+protocol, func() bool {
			return slices.ContainsFunc(n.records(""), func(r record) bool {
				return r.Protocol == protocol && r.API == "legacy-fleet" && strings.Contains(r.Route, "legacy/") && slices.Contains(r.Findings, "undocumented")
			})
		})
	}
	if !slices.ContainsFunc(n.records(""), func(r record) bool { return r.Principal == "bob" }) {
		t.Error("who a foreign caller claims to be is not recorded")
	}
	for _, command := range []string{"doctor", "status"} {
		output, _ := n.try(command)
		if !strings.Contains(output, "legacy") {
			t.Errorf("%s lets one forget the pass-through API:\n%s", command, output)
		}
	}
	if output := n.run("api", "list"); !strings.Contains(output, "pass-through") {
		t.Errorf("api list:\n%s", output)
	}

	n.run("api", "retire", "legacy-fleet")
	wait(t, "the retirement", func() bool { return !strings.Contains(get(), `"model":"T2"`) })
}
