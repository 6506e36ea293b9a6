package coapfront

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseLinks(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"</t>", "<coap://d/t>"},
		{` </t>;rt="temperature c";ct=0;obs , </s;a=1?b,c>;if="x\"y"`, `<coap://d/t>;rt="temperature c";ct="0";obs,<coap://d/s;a=1?b,c>;if="x\"y"`},
		{"</t>;title*=UTF-8'de'x", `<coap://d/t>;title*="UTF-8'de'x"`},
		{`</3/0>,</5/0>;ver="1.1"`, `<coap://d/3/0>,<coap://d/5/0>;ver="1.1"`}, // as LwM2M clients register
	} {
		links, err := parseLinks(test.text)
		var got strings.Builder
		for i := range links {
			if i > 0 {
				got.WriteByte(',')
			}
			links[i].append(&got, "coap://d")
		}
		if err != nil || got.String() != test.want {
			t.Errorf("%q: %q %v", test.text, got.String(), err)
		}
	}
	many := strings.Repeat("</t>,", 64) + "</t>"
	for text, want := range map[string]error{
		"t": errLinkForm, "<t": errLinkForm, "</t>x": errLinkForm, "</t>,": errLinkForm, "</t>;": errLinkForm, "</t>;=1": errLinkForm, "</t>;a=": errLinkForm,
		`</t>;a="x`: errLinkForm, `</t>;a="x\`: errLinkForm, "</t>;a=\"\x1b[2J\"": errLinkForm, "</t>;a=\"\xff\"": errLinkForm, "</ t>": errLinkForm, "</t>;a=<b>": errLinkForm,
		"<t>": errLinkTarget, "<//evil/t>": errLinkTarget, "<coap://evil/t>": errLinkTarget, "<>": errLinkTarget,
		many: errTooManyLink, "</" + strings.Repeat("t", 9000) + ">": errLinkBytes,
	} {
		if _, err := parseLinks(text); !errors.Is(err, want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func TestLinkCriteria(t *testing.T) {
	links, err := parseLinks(`</t>;rt="core.s temp";ct="0 60";title="a b";obs`)
	if err != nil {
		t.Fatal(err)
	}
	// RFC 9176 section 6.2, RFC 6690 section 4.1
	for criterion, want := range map[string]bool{"rt=temp": true, "rt=te*": true, "rt=core.s temp": true, "rt=s": false, "ct=60": true, "ct=6": false, "title=a b": true, "title=a": false,
		"title=a*": true, "obs=": true, "obs=*": true, "foo=*": false, "href=/t": true, "href=coap://d/t": true, "href=/x*": false} {
		name, pattern, _ := strings.Cut(criterion, "=")
		if got := matches(links[0].described("coap://d"), name, pattern); got != want {
			t.Errorf("%s: %v", criterion, got)
		}
	}
}

// What is read can be written, and is the same when it is read again.
func FuzzParseLinks(f *testing.F) {
	for _, seed := range []string{"", "</t>", `</t>;rt="a b";ct=0;obs,</s>`, `</t>;a="\"\\"`, "</t>;title*=UTF-8'de'x", "<", "</t>;", `</t>;a="`, "</\xff>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		links, err := parseLinks(text)
		if err != nil {
			return
		}
		var written strings.Builder
		for i := range links {
			if i > 0 {
				written.WriteByte(',')
			}
			links[i].append(&written, "")
		}
		again, err := parseLinks(written.String())
		if err != nil && !errors.Is(err, errLinkBytes) {
			t.Fatalf("%q from %q: %v", written.String(), text, err)
		}
		if err == nil {
			for i := range links {
				for j := range links[i].attributes {
					links[i].attributes[j].valued = again[i].attributes[j].valued // ct=0 is written with quotes
				}
			}
			if fmt.Sprint(again) != fmt.Sprint(links) {
				t.Fatalf("%q: %v, then %v", text, links, again)
			}
		}
	})
}
