package fieldgate

import "testing"

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
