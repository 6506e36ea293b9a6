package fieldgate

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestParseHashBy(t *testing.T) {
	for text, want := range map[string]HashBy{
		"principal":       {Kind: HashPrincipal},
		"source":          {Kind: HashSource},
		"host":            {Kind: HashHost},
		"path":            {Kind: HashPath},
		"header:X-Device": {Kind: HashHeader, Name: "x-device"}, // RFC 9110 §5.1: names of fields are compared without case
		"cookie:Session":  {Kind: HashCookie, Name: "Session"},
		"query:id":        {Kind: HashQuery, Name: "id"},
		"parameter:a:b":   {Kind: HashParameter, Name: "a:b"},
	} {
		got, err := ParseHashBy(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if again, err := ParseHashBy(got.String()); err != nil || again != got {
			t.Errorf("%s is written as %s, which is read as %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "device", "header", "header:", "path:x", "principal:", "Header:x"} {
		if by, err := ParseHashBy(text); err == nil {
			t.Errorf("%q is read as %+v", text, by)
		}
	}
}

// One address has one form, however it is written; what could be part of a request is refused.
func TestParseTargetAddress(t *testing.T) {
	for text, want := range map[string]string{
		"http://10.0.0.1:9000":  "http://10.0.0.1:9000",
		"HTTP://Service":        "http://service:80",
		"https://service/":      "https://service:443",
		"http://[2001:db8::1]":  "http://[2001:db8::1]:80",
		"https://[::1]:9000":    "https://[::1]:9000",
		"http://a_b.internal:1": "http://a_b.internal:1",
	} {
		got, err := ParseTargetAddress(text)
		if err != nil || got.String() != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
		if again, err := ParseTargetAddress(want); err != nil || again.String() != want {
			t.Errorf("%s is not the form of itself: %s, %v", want, again, err)
		}
	}
	for _, text := range []string{"", "service", "http://", "http://:80", "tcp://a", "http://a:0", "http://a:65536", "http://a:b", "http://a/x", "http://a?x", "http://a#x", "http://u:p@a", "http://a b", "http://a\r\n"} {
		if a, err := ParseTargetAddress(text); err == nil {
			t.Errorf("%q is read as %s", text, a)
		}
	}
}

func TestShareOut(t *testing.T) {
	for _, test := range []struct {
		counts, want string
		limit, left  int
	}{
		{"[3 0 2]", "[3 0 2]", 10, 5},
		{"[600 600 600]", "[67 67 66]", 200, 0},
		{"[1 500 2]", "[1 197 2]", 200, 0},
		{"[1 1 1]", "[1 1 0]", 2, 0},
		{"[5]", "[0]", 0, 0},
		{"[]", "[]", 200, 200},
	} {
		var counts []int
		if err := json.Unmarshal([]byte(strings.ReplaceAll(test.counts, " ", ",")), &counts); err != nil {
			t.Fatal(err)
		}
		if left := ShareOut(counts, test.limit); fmt.Sprint(counts) != test.want || left != test.left {
			t.Errorf("%s to %d: %v, %d left", test.counts, test.limit, counts, left)
		}
	}
}
