package schema

import (
	"net/netip"
	"strings"
	"testing"
)

// The official suite covers the formats at length; these are the ones it has not, and
// the edges that devices hit.
func TestFormats(t *testing.T) {
	tests := []struct{ format, yes, no string }{
		{"byte", " AQID AQI= AQ==", "A AQ= =AQI AQ==AQID A=ID AQ-_"}, // RFC 4648 §4
		{"date-time", "2024-02-29T00:00:00Z 2026-11-22t18:11:05.123456789+14:00 1990-12-31T15:59:60-08:00", "2023-02-29T00:00:00Z 2026-11-22T18:11:05 2026-11-22 2026-11-22T24:00:00Z 2026-11-22T18:11:05.Z 2026-11-22T18:11:60Z"},
		{"duration", "P1W PT1H30S P1Y2M3DT4H5M6S", "P PT P1 1D P1DT PW P1S P1W2D PT1M1H"},
		{"uri", "coap://[2001:db8::1]:5683/x urn:uuid:1 mqtt://broker?x=%20#f file:///etc y://", "//host/x x http://[::1 http://a:b http://a/%2 http://a/ü"},
		{"uri-reference", " ?q #f ../x //h:1/ a%2Fb", "a:b:c%zz 1:x \\x"},
		{"ipv4", "0.0.0.0 255.255.255.255", "256.0.0.1 1.2.3 1.2.3.4.5 01.2.3.4 1..2.3 1.2.3.4."},
		{"hostname", "a a.b. xn--bcher-kva.example", "-a a- a..b .a a_b " + strings.Repeat("a", 64)},
		{"email", "a.b+c@d.example a@[192.0.2.1] a@[IPv6:::1]", "@a a@ .a@b a.@b a..b@c a@b@c a@[1.2.3] a@-b"},
		{"json-pointer", " /a~0~1 /", "a /~ /~2"},
		{"regex", "^a+$ x{1000}x{1000} a{5000} \\p{L}", "( [a \\Z (?=a)"},
		{"uuid", "123E4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000 123e4567-e89b-12d3-a456-42661417400g"},
	}
	for _, test := range tests {
		s := compile(t, `{"format":"`+test.format+`"}`)
		for _, text := range strings.Split(test.yes, " ") {
			if err := s.ValidateText(text); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
		for _, text := range strings.Fields(test.no) {
			if err := s.ValidateText(text); err == nil {
				t.Errorf("%q passes as %s", text, test.format)
			}
		}
	}
}

func FuzzIPv6(f *testing.F) {
	for _, seed := range []string{"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::ffff:192.0.2.1", "1:2:3:4:5:6:1.2.3.4", "1::2::3", "12345::", ":1", "1:"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		address, err := netip.ParseAddr(s)
		want := err == nil && address.Is6() && address.Zone() == ""
		if got := isIPv6([]byte(s)); got != want {
			t.Fatalf("%q: %v, netip says %v", s, got, want)
		}
	})
}

func TestIntegerFormats(t *testing.T) {
	tests := []struct {
		format, doc string
		valid       bool
	}{
		{"int32", `-2147483648`, true}, {"int32", `2147483648`, false}, {"int32", `1.5`, false}, {"int32", `"x"`, true},
		{"int64", `9223372036854775807`, true}, {"int64", `9223372036854775808`, false}, {"int64", `-9223372036854775808`, true}, {"int64", `1e18`, true}, {"int64", `1e19`, false},
		{"double", `1.5`, true}, {"unknown", `"x"`, true},
	}
	for _, test := range tests {
		if err := compile(t, `{"format":"`+test.format+`"}`).ValidateJSON([]byte(test.doc)); (err == nil) != test.valid {
			t.Errorf("%s %s: %v", test.format, test.doc, err)
		}
	}
	s, err := Compile([]byte(`{"format":"date"}`), "#", Options{IgnoreFormats: true})
	if err != nil || s.ValidateText("x") != nil {
		t.Errorf("IgnoreFormats: %v", err)
	}
}
