package contract

import (
	"strings"
	"testing"
)

func TestSplitPath(t *testing.T) {
	tests := []struct{ path, want string }{ // segments joined by a space, or the error
		{"/", ""},
		{"/devices/{deviceId}/telemetry", "devices {deviceId} telemetry"},
		{"/devices/", "devices "},
		{"/a-b._~!$&'()*+,;=:@", "a-b._~!$&'()*+,;=:@"}, // RFC 3986 section 3.3: pchar
		{"", "! starts with a slash"},
		{"devices", "! starts with a slash"},
		{"//", "! no empty segment"},
		{"/a//b", "! no empty segment"},
		{"/a/../b", "! not segments of a path"},
		{"/.", "! not segments of a path"},
		{"/a b", "! has to be escaped"},
		{"/a%20b", "! has to be escaped"},
		{"/ä", "! has to be escaped"},
		{"/a?b", "! has to be escaped"},
		{"/{a}.json", "{a}.json"},
		{"/x{a}", "x{a}"},
		{"/reports/{name}:cancel", "reports {name}:cancel"},
		{"/v{version}.{minor}", "! more than one parameter"},
		{"/{a}{b}", "! more than one parameter"},
		{"/}a{", "! no parameter"},
		{"/{{a}}", "! no parameter"},
		{"/a}", "! no parameter"},
		{"/ä{a}", "! has to be escaped"},
		{"/x{a}/{a}.json", "! twice"},
		{"/{}", "! no parameter"},
		{"/{a", "! no parameter"},
		{"/{a}/{a}", "! twice"},
		{strings.Repeat("/a", 33), "! at most 32 segments"},
	}
	for _, test := range tests {
		segments, err := SplitPath(test.path)
		check(t, test.path, test.want, segments, err)
	}
}

func TestSplitTopic(t *testing.T) {
	tests := []struct{ topic, want string }{
		{"d/{deviceId}/telemetry", "d {deviceId} telemetry"},
		{"/a//b", " a  b"},           // MQTT 5.0 section 4.7.3: levels may be empty
		{"grün/münze", "grün münze"}, // and hold any character of UTF-8
		{"", "! at least one character"},
		{"a/+/b", "! no wildcards"}, // section 4.7.1
		{"a/#", "! no wildcards"},
		{"$SYS/broker/{name}", "$SYS broker {name}"}, // section 4.7.2
		{"$SYS", "! belong to the broker"},
		{"$share/g/x", "! belong to the broker"},
		{"fg/d7/x", "! answers to requests"},
		{"a\x00b", "! control characters"},
		{"a/{b", "! no parameter"},
		{"a/{b}.json", "! whole level"},
		{"a/x{b}", "! whole level"},
	}
	for _, test := range tests {
		segments, err := SplitTopic(test.topic)
		check(t, test.topic, test.want, segments, err)
	}
}

func check(t *testing.T, template, want string, segments []Segment, err error) {
	t.Helper()
	if message, wantError := strings.CutPrefix(want, "! "); wantError {
		if err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%q: got %v %v, want an error with %q", template, segments, err, message)
		}
		return
	}
	var parts []string
	for _, s := range segments {
		if s.Parameter != "" {
			parts = append(parts, s.Prefix+"{"+s.Parameter+"}"+s.Suffix)
		} else {
			parts = append(parts, s.Literal)
		}
	}
	if got := strings.Join(parts, " "); err != nil || got != want {
		t.Errorf("%q: got %q %v, want %q", template, got, err, want)
	}
}

func TestValidFilter(t *testing.T) { // MQTT 5.0 section 4.7.1
	tests := map[string]bool{"#": true, "+": true, "a/#": true, "+/a/+": true, "/": true,
		"": false, "a#": false, "a/#/b": false, "a+": false, "$SYS/#": true, "$share/g/#": false, "$#": false, "a\nb": false, strings.Repeat("a/", 32) + "a": false}
	for filter, valid := range tests {
		if err := ValidFilter(filter); (err == nil) != valid {
			t.Errorf("%q: %v", filter, err)
		}
	}
}
