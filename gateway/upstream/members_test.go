package upstream

import (
	"net"
	"strings"
	"testing"

	"fieldgate"
	"fieldgate/protocol/h1"
)

// What is taken for an address can be dialled and be part of a request, whatever was written; it means the same when it is read again.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"http://a", "https://a:1/", "http://[::1]:80", "http://[fe80::1%25eth0]", "http://a\r\nb", "http://a b", "http://u@a", "ftp://a",
		"http://a:99999", "http://a?b", "http://%61", "http://a\"", "http://:80", strings.Repeat("http://a", 99)} {
		f.Add(seed, 1, 0, "zone")
	}
	f.Fuzz(func(t *testing.T, text string, weight, priority int, zone string) {
		c, err := newCandidate(fieldgate.Target{Address: text, Weight: weight, Priority: priority, Zone: zone})
		if err != nil {
			return
		}
		host, port, err := net.SplitHostPort(c.dial)
		if err != nil || host == "" || port == "" || c.name == "" || !h1.ValidValue(c.authority) || strings.ContainsAny(c.authority, " \t/?#@\"") {
			t.Errorf("%q is taken for %+v", text, c)
		}
		if c.target.Weight < 1 || c.target.Weight > fieldgate.MaxWeight || c.target.Priority < 0 || c.target.Priority > fieldgate.MaxPriority || len(c.target.Zone) > fieldgate.MaxZone {
			t.Errorf("%+v is out of bounds", c.target)
		}
		if again, err := newCandidate(c.target); err != nil || again != c {
			t.Errorf("%+v is read again as %+v, %v", c, again, err)
		}
	})
}
