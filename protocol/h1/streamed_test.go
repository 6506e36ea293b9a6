package h1

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// fieldsOf makes fields of "name: value" lines.
func fieldsOf(lines ...string) Fields {
	var fields Fields
	for _, line := range lines {
		colon := 1 + strings.IndexByte(line[1:], ':')
		fields = append(fields, Field{Name: []byte(line[:colon]), Value: []byte(strings.TrimPrefix(line[colon+1:], " "))})
	}
	return fields
}

func TestSet(t *testing.T) {
	for _, test := range []struct {
		clause                          string
		method, scheme, authority, path string
		fields                          []string
		want                            error
		host, resolved                  string // where it is accepted
		form                            Form
	}{
		{clause: "RFC 9113 §8.3.1", method: "GET", scheme: "https", authority: "a:443", path: "/a?b", host: "a:443", resolved: "/a"},
		{clause: "RFC 3986 §6.2.2 path is normalised", method: "GET", scheme: "http", authority: "a", path: "/x/../%41//b", host: "a", resolved: "/A/b"},
		{clause: "RFC 3986 encoded slash", method: "GET", scheme: "http", authority: "a", path: "/a%2fb", want: ErrAmbiguousPath},
		{clause: "RFC 9113 §8.3.1 empty path", method: "GET", scheme: "https", authority: "a", want: ErrTarget},
		{clause: "RFC 9113 §8.3.1 relative path", method: "GET", scheme: "https", authority: "a", path: "a", want: ErrTarget},
		{clause: "RFC 9113 §8.3.1 absolute-form", method: "GET", scheme: "https", authority: "a", path: "http://b/", want: ErrTarget},
		{clause: "RFC 9113 §8.3.1 asterisk-form", method: "OPTIONS", scheme: "https", authority: "a", path: "*", host: "a", form: AsteriskForm},
		{clause: "RFC 9113 §8.3.1 asterisk for GET", method: "GET", scheme: "https", authority: "a", path: "*", want: ErrTarget},
		{clause: "RFC 9113 §8.3.1 no scheme", method: "GET", authority: "a", path: "/", want: ErrTarget},
		{clause: "RFC 9113 §8.3.1 other scheme", method: "GET", scheme: "file", authority: "a", path: "/", want: ErrTarget},
		{clause: "RFC 9113 §8.3.1 Host for authority", method: "GET", scheme: "https", path: "/", fields: []string{"host: b"}, host: "b", resolved: "/"},
		{clause: "RFC 9113 §8.3.1 Host is the authority", method: "GET", scheme: "https", authority: "B", path: "/", fields: []string{"host: b"}, host: "B", resolved: "/"},
		{clause: "RFC 9113 §8.3.1 Host is another", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"host: b"}, want: ErrHost},
		{clause: "RFC 9112 §3.2 two Host", method: "GET", scheme: "https", path: "/", fields: []string{"host: b", "host: b"}, want: ErrHost},
		{clause: "RFC 9113 §8.3.1 neither", method: "GET", scheme: "https", path: "/", want: ErrHost},
		{clause: "RFC 9113 §8.3.1 userinfo", method: "GET", scheme: "https", authority: "u@a", path: "/", want: ErrHost},
		{clause: "RFC 9113 §8.5 CONNECT", method: "CONNECT", authority: "a:443", host: "a:443", form: AuthorityForm},
		{clause: "RFC 9113 §8.5 CONNECT with path", method: "CONNECT", scheme: "https", authority: "a:443", path: "/", want: ErrTarget},
		{clause: "RFC 9110 §9.1 method is no token", method: "G T", scheme: "https", authority: "a", path: "/", want: ErrRequestLine},
		{clause: "RFC 9112 §3 long path", method: "GET", scheme: "https", authority: "a", path: "/" + strings.Repeat("a", DefaultRequestLine), want: ErrRequestLineLength},
		{clause: "RFC 9113 §8.2.1 upper case", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"X: a"}, want: ErrFieldName},
		{clause: "RFC 9113 §8.2.1 colon in name", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{":path: /b"}, want: ErrFieldName},
		{clause: "RFC 9113 §8.2.1 line end in value", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"x: a\r\nb: c"}, want: ErrFieldValue},
		{clause: "RFC 9113 §8.2.1 NUL in value", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"x: a\x00"}, want: ErrFieldValue},
		{clause: "RFC 9113 §8.2.1 space around value", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"x:  a"}, want: ErrFieldValue},
		{clause: "RFC 9113 §8.2.2 connection", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"connection: close"}, want: ErrConnectionField},
		{clause: "RFC 9113 §8.2.2 keep-alive", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"keep-alive: 5"}, want: ErrConnectionField},
		{clause: "RFC 9113 §8.2.2 proxy-connection", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"proxy-connection: x"}, want: ErrConnectionField},
		{clause: "RFC 9113 §8.2.2 upgrade", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"upgrade: websocket"}, want: ErrConnectionField},
		{clause: "RFC 9113 §8.2.2 transfer-encoding", method: "POST", scheme: "https", authority: "a", path: "/", fields: []string{"transfer-encoding: chunked"}, want: ErrConnectionField},
		{clause: "RFC 9113 §8.2.2 te gzip", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"te: trailers, gzip"}, want: ErrConnectionField},
		{clause: "RFC 9113 §8.2.2 te trailers", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"te: trailers"}, host: "a", resolved: "/"},
		{clause: "RFC 9110 §8.6 two lengths", method: "POST", scheme: "https", authority: "a", path: "/", fields: []string{"content-length: 1", "content-length: 1"}, want: ErrContentLength},
		{clause: "RFC 9110 §5.4 head too large", method: "GET", scheme: "https", authority: "a", path: "/", fields: []string{"x: " + strings.Repeat("a", DefaultHead)}, want: ErrHeadTooLarge},
		{clause: "RFC 9110 §5.4 too many fields", method: "GET", scheme: "https", authority: "a", path: "/",
			fields: strings.Split(strings.Repeat("x: a\n", DefaultFields)+"x: a", "\n"), want: ErrTooManyFields},
	} {
		t.Run(test.clause, func(t *testing.T) {
			var r Request
			err := r.Set([]byte(test.method), []byte(test.scheme), []byte(test.authority), []byte(test.path), fieldsOf(test.fields...), &defaults)
			if !errors.Is(err, test.want) || test.want == nil && err != nil {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if err == nil && (string(r.Host) != test.host || string(r.Path) != test.resolved || r.Form != test.form) {
				t.Errorf("host %q path %q form %d", r.Host, r.Path, r.Form)
			}
		})
	}
}

func TestSetFraming(t *testing.T) {
	set := func(lines ...string) *Request {
		t.Helper()
		var r Request
		if err := r.Set([]byte("POST"), []byte("https"), []byte("a"), []byte("/?q"), fieldsOf(lines...), &defaults); err != nil {
			t.Fatal(err)
		}
		return &r
	}
	if r := set("content-length: 3", "expect: 100-continue"); r.Framing != Length || r.Length != 3 || !r.ExpectContinue || r.Close || r.Minor != 1 {
		t.Errorf("with a length: %+v", r)
	}
	r := set("te: trailers", "cookie: a=b", "x: y", "cookie: c=d", "cookie: e=f", "expect: 100-continue")
	if r.Framing != UntilClose || !r.ExpectContinue || string(r.Query) != "q" {
		t.Errorf("without a length: %+v", r)
	}
	if got := string(AppendEndToEnd(nil, r.Fields)); got != "cookie: a=b; c=d; e=f\r\nx: y\r\n" { // RFC 9113 §8.2.3
		t.Errorf("forwarded: %q", got)
	}

	// Content that ends with the stream, and trailers behind it.
	var body Body
	body.Reset(NewReader(strings.NewReader("content"), DefaultBuffer), r.Framing, r.Length)
	if content, err := io.ReadAll(&body); string(content) != "content" || err != nil || !body.Ended() {
		t.Errorf("content %q, %v", content, err)
	}
	body.Reset(NewReader(io.MultiReader(strings.NewReader("cut"), broken{}), DefaultBuffer), UntilClose, 0)
	if content, err := body.ReadAll(nil, 100); string(content) != "cut" || err != errBroken || body.Ended() {
		t.Errorf("a stream that broke: %q, %v", content, err)
	}
}

var errBroken = errors.New("stream reset")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }
