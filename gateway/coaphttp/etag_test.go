package coaphttp

import (
	"encoding/hex"
	"testing"
)

func TestEntityTags(t *testing.T) {
	for _, test := range []struct{ tag, want string }{
		{"", ""},
		{"5f1c", "5f1c"},
		{"0123456789abcdef", "0123456789abcdef"},
		{"v12", hex.EncodeToString([]byte("v12"))},
		{"5F1C", hex.EncodeToString([]byte("5F1C"))}, // so that two tags stay two
		{"abc", hex.EncodeToString([]byte("abc"))},   // no whole bytes
		{"12345678", "12345678"},
		{"65f1c2a3-1f4a", "a1a2b3c4"},
	} {
		got := hex.EncodeToString(AppendEntityTag(nil, test.tag))
		if test.tag == "65f1c2a3-1f4a" { // a hash of 8 bytes, whatever it is
			if len(got) != 16 || got == hex.EncodeToString(AppendEntityTag(nil, "65f1c2a3-1f4b")) {
				t.Errorf("%q became %s", test.tag, got)
			}
			continue
		}
		if got != test.want {
			t.Errorf("%q became %s, want %s", test.tag, got, test.want)
		}
	}
	for _, test := range []struct {
		tags []string
		want string
	}{
		{[]string{"\x5f\x1c"}, `"5f1c"`},
		{[]string{"v12"}, `"763132", "v12"`},
		{[]string{"v12", "\x00"}, `"763132", "v12", "00"`},
		{[]string{"a\"b"}, `"612262"`},
		{[]string{"a\r\nb"}, `"610d0a62"`},
		{[]string{"12345678"}, `"3132333435363738"`}, // as text it would have become four bytes
	} {
		var tags [][]byte
		for _, tag := range test.tags {
			tags = append(tags, []byte(tag))
		}
		if got := string(AppendEntityTags(nil, tags)); got != test.want {
			t.Errorf("%q may have been %s, want %s", test.tags, got, test.want)
		}
	}
}
