package h1

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

var defaults = Limits{}.WithDefaults()

// readRequest reads one head and, if it is accepted, its content.
func readRequest(t *testing.T, src io.Reader, limits *Limits) (*Request, string, error) {
	t.Helper()
	reader := NewReader(src, DefaultBuffer)
	head, err := reader.ReadHead(limits.Head)
	if err != nil {
		return nil, "", err
	}
	var request Request
	if err := request.Parse(head, limits); err != nil {
		return nil, "", err
	}
	var body Body
	body.Reset(reader, request.Framing, request.Length)
	content, err := io.ReadAll(&body)
	return &request, string(content), err
}

func TestRequestRefused(t *testing.T) {
	const host = "Host: a\r\n"
	for _, test := range []struct {
		clause, message string
		want            error
	}{
		{"RFC 9112 §2.2 bare LF ends request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", ErrLineEnd},
		{"RFC 9112 §2.2 bare LF ends field", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", ErrLineEnd},
		{"RFC 9112 §2.2 bare LF ends head", "GET / HTTP/1.1\r\nHost: a\r\n\n", ErrLineEnd},
		{"RFC 9112 §2.2 bare CR in request line", "GET /\ra HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"RFC 9112 §2.2 bare CR in value", "GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", ErrFieldValue},
		{"RFC 9112 §2.2 whitespace before first field", "GET / HTTP/1.1\r\n " + host + "\r\n", ErrFold},
		{"RFC 9112 §2.3 lower-case version", "GET / http/1.1\r\n" + host + "\r\n", ErrRequestLine},
		{"RFC 9112 §2.3 HTTP/2.0", "GET / HTTP/2.0\r\n" + host + "\r\n", ErrVersion},
		{"RFC 9112 §2.3 HTTP/1.2", "GET / HTTP/1.2\r\n" + host + "\r\n", ErrVersion},
		{"RFC 9112 §2.3 HTTP/0.9", "GET /\r\n\r\n", ErrRequestLine},
		{"RFC 9112 §3 two spaces", "GET  / HTTP/1.1\r\n" + host + "\r\n", ErrRequestLine},
		{"RFC 9112 §3 space in target", "GET /a b HTTP/1.1\r\n" + host + "\r\n", ErrRequestLine},
		{"RFC 9112 §3 trailing space", "GET / HTTP/1.1 \r\n" + host + "\r\n", ErrRequestLine},
		{"RFC 9112 §3 tab as separator", "GET\t/ HTTP/1.1\r\n" + host + "\r\n", ErrRequestLine},
		{"RFC 9112 §3.1 method is no token", "G{T / HTTP/1.1\r\n" + host + "\r\n", ErrRequestLine},
		{"RFC 9113 §11.6 PRI is no method", "PRI / HTTP/1.1\r\n" + host + "\r\n", ErrRequestLine},
		{"RFC 9112 §3.1 empty method", " / HTTP/1.1\r\n" + host + "\r\n", ErrRequestLine},
		{"RFC 9112 §3 TLS handshake", "\x16\x03\x01\x02\x00\x01\x00", ErrRequestLine},
		{"RFC 9112 §3 long request line", "GET /" + strings.Repeat("a", DefaultRequestLine) + " HTTP/1.1\r\n" + host + "\r\n", ErrRequestLineLength},
		{"RFC 9112 §3.2 no Host", "GET / HTTP/1.1\r\n\r\n", ErrHost},
		{"RFC 9112 §3.2 two Host", "GET / HTTP/1.1\r\n" + host + host + "\r\n", ErrHost},
		{"RFC 9112 §3.2 Host list", "GET / HTTP/1.1\r\nHost: a, b:1:2\r\n\r\n", ErrHost},
		{"RFC 9112 §3.2 empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", ErrHost},
		{"RFC 9110 §4.2.4 userinfo in Host", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", ErrHost},
		{"RFC 9110 §7.2 path in Host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", ErrHost},
		{"RFC 9110 §7.2 port is no number", "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", ErrHost},
		{"RFC 9110 §7.2 open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", ErrHost},
		{"RFC 9112 §3.2.1 relative target", "GET a HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"RFC 9112 §3.2.2 other scheme", "GET file:///a HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"RFC 9112 §3.2.2 no authority", "GET http:///a HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"RFC 9112 §3.2.2 bad Host beside absolute-form", "GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n", ErrHost},
		{"RFC 9112 §3.2 absolute-form of another host", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", ErrHost},
		{"RFC 9110 §7.6.1 Connection names Authorization", "GET / HTTP/1.1\r\n" + host + "Connection: authorization\r\nAuthorization: Bearer a\r\n\r\n", ErrConnectionOption},
		{"RFC 9110 §7.6.1 Connection names Cookie", "GET / HTTP/1.1\r\n" + host + "Cookie: a=b\r\nConnection: close, cookie\r\n\r\n", ErrConnectionOption},
		{"RFC 9110 §7.6.1 Connection names X-Forwarded-For", "GET / HTTP/1.1\r\n" + host + "Connection: X-Forwarded-For\r\nX-Forwarded-For: ::1\r\n\r\n", ErrConnectionOption},
		{"RFC 9110 §7.6.1 Connection names Host", "GET / HTTP/1.1\r\n" + host + "Connection: Host\r\n\r\n", ErrConnectionOption},
		{"RFC 9110 §7.6.1 Connection names Content-Length", "POST / HTTP/1.1\r\n" + host + "Connection: Content-Length\r\nContent-Length: 3\r\n\r\nabc", ErrConnectionOption},
		{"RFC 9110 §7.6.1 Connection names Content-Type", "POST / HTTP/1.1\r\n" + host + "Connection: content-type\r\nContent-Type: a/b\r\n\r\n", ErrConnectionOption},
		{"RFC 9112 §3.2.3 CONNECT to a path", "CONNECT / HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"RFC 9112 §3.2.3 CONNECT without port", "CONNECT a HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"RFC 9112 §3.2.3 authority for GET", "GET a:80 HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"RFC 9112 §3.2.4 asterisk for GET", "GET * HTTP/1.1\r\n" + host + "\r\n", ErrTarget},
		{"RFC 9112 §5 no colon", "GET / HTTP/1.1\r\n" + host + "X\r\n\r\n", ErrFieldName},
		{"RFC 9112 §5 empty name", "GET / HTTP/1.1\r\n" + host + ": a\r\n\r\n", ErrFieldName},
		{"RFC 9112 §5 name is no token", "GET / HTTP/1.1\r\n" + host + "X(): a\r\n\r\n", ErrFieldName},
		{"RFC 9112 §5.1 space before colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", ErrSpaceBeforeColon},
		{"RFC 9112 §5.1 tab before colon", "GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", ErrSpaceBeforeColon},
		{"RFC 9112 §5.2 obs-fold", "GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", ErrFold},
		{"RFC 9110 §5.5 NUL in value", "GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", ErrFieldValue},
		{"RFC 9110 §5.5 control far into a value", "GET / HTTP/1.1\r\n" + host + "X: 0123456\t9abcdef\x1f\r\n\r\n", ErrFieldValue},
		{"RFC 9110 §5.5 DEL in value", "GET / HTTP/1.1\r\n" + host + "X: 01234567\x7f9abcdef\r\n\r\n", ErrFieldValue},
		{"RFC 9110 §5.4 too many fields", "GET / HTTP/1.1\r\n" + host + strings.Repeat("X: a\r\n", DefaultFields) + "\r\n", ErrTooManyFields},
		{"RFC 9110 §5.4 head too large", "GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", DefaultHead) + "\r\n\r\n", ErrHeadTooLarge},
		{"RFC 9112 §6.1 CL beside TE", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", ErrTwoLengths},
		{"RFC 9112 §6.1 TE beside CL 0", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", ErrTwoLengths},
		{"RFC 9112 §6.1 TE in HTTP/1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", ErrTransferEncoding},
		{"RFC 9112 §6.1 TE identity", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\n\r\n", ErrTransferCoding},
		{"RFC 9112 §6.1 TE gzip, chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", ErrTransferCoding},
		{"RFC 9112 §6.1 TE chunked twice", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ErrTransferCoding},
		{"RFC 9112 §6.1 TE with parameter", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked;a\r\n\r\n", ErrTransferCoding},
		{"RFC 9112 §6.1 TE with vertical tab", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \x0bchunked\r\n\r\n", ErrFieldValue},
		{"RFC 9112 §6.1 TE in quotes", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: \"chunked\"\r\n\r\n", ErrTransferCoding},
		{"RFC 9112 §6.3 CL twice", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", ErrContentLength},
		{"RFC 9112 §6.3 CL list", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\n", ErrContentLength},
		{"RFC 9110 §8.6 CL signed", "POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\n", ErrContentLength},
		{"RFC 9110 §8.6 CL negative", "POST / HTTP/1.1\r\n" + host + "Content-Length: -3\r\n\r\n", ErrContentLength},
		{"RFC 9110 §8.6 CL hexadecimal", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0x3\r\n\r\n", ErrContentLength},
		{"RFC 9110 §8.6 CL empty", "POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", ErrContentLength},
		{"RFC 9110 §8.6 CL overflows", "POST / HTTP/1.1\r\n" + host + "Content-Length: 18446744073709551619\r\n\r\n", ErrContentLength},
		{"RFC 9110 §10.1.1 other expectation", "POST / HTTP/1.1\r\n" + host + "Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", ErrExpectation},
		{"RFC 9112 §8 content cut short", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nab", io.ErrUnexpectedEOF},
		{"RFC 9112 §8 head cut short", "GET / HTTP/1.1\r\nHost", io.ErrUnexpectedEOF},
		{"nothing at all", "", io.EOF},
	} {
		t.Run(test.clause, func(t *testing.T) {
			for name, src := range map[string]io.Reader{
				"whole":        strings.NewReader(test.message),
				"byte by byte": iotest.OneByteReader(strings.NewReader(test.message)),
			} {
				if _, _, err := readRequest(t, src, &defaults); !errors.Is(err, test.want) {
					t.Errorf("%s: got %v, want %v", name, err, test.want)
				}
			}
		})
	}
}

func TestRequestAccepted(t *testing.T) {
	for _, test := range []struct {
		clause, message        string
		form                   Form
		host, path, query      string
		content                string
		close, expect, upgrade bool
	}{
		{clause: "RFC 9112 §3.2.1 origin-form", message: "GET /where?q=now HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
			host: "a.example:80", path: "/where", query: "q=now"},
		{clause: "RFC 9112 §3.2.2 absolute-form", message: "GET HTTP://b.example/where HTTP/1.1\r\nHost: B.example\r\n\r\n",
			form: AbsoluteForm, host: "b.example", path: "/where"},
		{clause: "RFC 9112 §3.2.2 absolute-form without path", message: "GET http://b?x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
			form: AbsoluteForm, host: "b", path: "/", query: "x"},
		{clause: "RFC 9112 §3.2.3 authority-form", message: "CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n", form: AuthorityForm, host: "b:443"},
		{clause: "RFC 9112 §3.2.4 asterisk-form", message: "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", form: AsteriskForm, host: "a"},
		{clause: "RFC 9112 §3.2.4 absolute-form for asterisk", message: "OPTIONS http://b HTTP/1.1\r\nHost: b\r\n\r\n", form: AsteriskForm, host: "b"},
		{clause: "RFC 9112 §2.2 one empty line before", message: "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", host: "a", path: "/"},
		{clause: "RFC 9110 §7.2 IPv6 Host", message: "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", host: "[::1]:8080", path: "/"},
		{clause: "RFC 9110 §5.5 obs-text and tab in value", message: "GET / HTTP/1.1\r\nHost: a\r\nX: \t\xff012345\t89abcdef \r\n\r\n", host: "a", path: "/"},
		{clause: "RFC 9112 §6.2 content by length", message: "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc", host: "a", path: "/", content: "abc"},
		{clause: "RFC 9112 §7.1 content in chunks", message: "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
			host: "a", path: "/", content: "abc"},
		{clause: "RFC 9112 §9.3 close", message: "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", host: "a", path: "/", close: true},
		{clause: "RFC 9112 §9.3 HTTP/1.0 closes", message: "GET / HTTP/1.0\r\n\r\n", path: "/", close: true},
		{clause: "RFC 9112 §9.3 HTTP/1.0 keep-alive", message: "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", path: "/"},
		{clause: "RFC 9110 §10.1.1 expects 100", message: "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\na",
			host: "a", path: "/", content: "a", expect: true},
		{clause: "RFC 9110 §10.1.1 without content", message: "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", host: "a", path: "/"},
		{clause: "RFC 9110 §10.1.1 ignored in HTTP/1.0", message: "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
			path: "/", content: "a", close: true},
		{clause: "RFC 9110 §7.8 upgrade", message: "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", host: "a", path: "/", upgrade: true},
		{clause: "RFC 9110 §7.8 upgrade not named by Connection", message: "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", host: "a", path: "/"},
		{clause: "RFC 9110 §7.8 upgrade in HTTP/1.0", message: "GET / HTTP/1.0\r\nConnection: Upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n", path: "/"},
	} {
		t.Run(test.clause, func(t *testing.T) {
			for name, src := range map[string]io.Reader{
				"whole":        strings.NewReader(test.message),
				"byte by byte": iotest.OneByteReader(strings.NewReader(test.message)),
			} {
				r, content, err := readRequest(t, src, &defaults)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if r.Form != test.form || string(r.Host) != test.host || string(r.Path) != test.path || string(r.Query) != test.query {
					t.Errorf("%s: form %d host %q path %q query %q", name, r.Form, r.Host, r.Path, r.Query)
				}
				if content != test.content || r.Close != test.close || r.ExpectContinue != test.expect || (r.Upgrade != nil) != test.upgrade {
					t.Errorf("%s: content %q close %v expect %v upgrade %q", name, content, r.Close, r.ExpectContinue, r.Upgrade)
				}
			}
		})
	}
}

func TestPath(t *testing.T) {
	for _, test := range []struct {
		clause, path, want string
		err                error
	}{
		{"plain", "/a/b;v=1/c@d:e", "/a/b;v=1/c@d:e", nil},
		{"root", "/", "/", nil},
		{"RFC 3986 §6.2.2.2 unreserved is decoded", "/%41%7e%2D", "/A~-", nil},
		{"RFC 3986 §6.2.2.1 capitals", "/%c3%a9%3b", "/%C3%A9%3B", nil},
		{"RFC 3986 §2.4 % is decoded once", "/%252e%252E", "/%252e%252E", nil},
		{"RFC 3986 §5.2.4 dot segments", "/a/./b/../c", "/a/c", nil},
		{"RFC 3986 §5.2.4 dot at the end", "/a/.", "/a/", nil},
		{"RFC 3986 §5.2.4 two dots at the end", "/a/b/..", "/a/", nil},
		{"RFC 3986 §5.2.4 back to the root", "/a/..", "/", nil},
		{"dots within a name", "/..a/.b/c..", "/..a/.b/c..", nil},
		{"empty segments", "//a///b//", "/a/b/", nil},
		{"empty segment before two dots", "/a//../b", "/b", nil},
		{"parameters are no dots", "/a;..;/.b;c/", "/a;..;/.b;c/", nil},
		{"dot segment with parameters", "/a/..;/b", "", ErrAmbiguousPath},
		{"dot segment with a parameter", "/a/.;x=y", "", ErrAmbiguousPath},
		{"dot segment with an encoded semicolon", "/a/..%3bx/b", "", ErrAmbiguousPath},
		{"encoded dot segment with parameters", "/a/%2e.;/b", "", ErrAmbiguousPath},
		{"above the root", "/../a", "", ErrAmbiguousPath},
		{"above the root later", "/a/../../b", "", ErrAmbiguousPath},
		{"encoded dot segment", "/a/%2e%2e/b", "", ErrAmbiguousPath},
		{"half encoded dot segment", "/a/.%2E/b", "", ErrAmbiguousPath},
		{"encoded slash", "/a%2fb", "", ErrAmbiguousPath},
		{"encoded backslash", "/a%5cb", "", ErrAmbiguousPath},
		{"encoded NUL", "/a%00", "", ErrAmbiguousPath},
		{"encoded line end", "/a%0d%0a", "", ErrAmbiguousPath},
		{"overlong slash", "/a%c0%afb", "", ErrAmbiguousPath},
		{"Latin-1", "/%e9", "", ErrAmbiguousPath},
		{"sequence cut by ASCII", "/%e2%82/%ac", "", ErrAmbiguousPath},
		{"surrogate", "/%ed%a0%80", "", ErrAmbiguousPath},
		{"replacement character itself", "/%ef%bf%bd", "/%EF%BF%BD", nil},
		{"four-byte character", "/%f0%9f%8c%a1", "/%F0%9F%8C%A1", nil},
		{"backslash", `/a\b`, "", ErrTarget},
		{"fragment", "/a#b", "", ErrTarget},
		{"raw UTF-8", "/é", "", ErrTarget},
		{"broken triplet", "/%4", "", ErrTarget},
		{"no hexadecimal", "/%zz", "", ErrTarget},
	} {
		t.Run(test.clause, func(t *testing.T) {
			got, _, err := normalizePath([]byte(test.path), nil)
			if string(got) != test.want || err != test.err {
				t.Fatalf("%q became %q, %v", test.path, got, err)
			}
			if err == nil {
				if again, _, err := normalizePath(got, nil); err != nil || string(again) != test.want {
					t.Errorf("not stable: %q became %q, %v", got, again, err)
				}
			}
		})
	}
	for query, ok := range map[string]bool{
		"a=[1]|{2}&b=%20^": true, "": true, "a#b": false, "100%": false, "%2": false, "%zz": false, "é": false, "a b": false, "a\x00": false,
	} {
		if validQuery([]byte(query)) != ok {
			t.Errorf("query %q: want %v", query, ok)
		}
	}
}

func TestPipelinedRequests(t *testing.T) { // RFC 9112 §9.3.2
	const stream = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" +
		"\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\nTrailer-Field: x\r\n\r\n" +
		"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, src := range map[string]io.Reader{
		"whole":        strings.NewReader(stream),
		"byte by byte": iotest.OneByteReader(strings.NewReader(stream)),
		"with EOF":     iotest.DataErrReader(strings.NewReader(stream)),
	} {
		reader := NewReader(src, 256)
		var request Request
		var body Body
		for i, want := range []string{"abc", "def", ""} {
			head, err := reader.ReadHead(DefaultHead)
			if err != nil {
				t.Fatalf("%s: request %d: %v", name, i+1, err)
			}
			if err := request.Parse(head, &defaults); err != nil {
				t.Fatalf("%s: request %d: %v", name, i+1, err)
			}
			body.Reset(reader, request.Framing, request.Length)
			content, err := io.ReadAll(&body)
			if string(content) != want || err != nil || string(request.Path) != "/"+string('1'+rune(i)) || !body.Ended() {
				t.Errorf("%s: request %d: path %q content %q, %v", name, i+1, request.Path, content, err)
			}
		}
		if _, err := reader.ReadHead(DefaultHead); err != io.EOF {
			t.Errorf("%s: after the last: %v", name, err)
		}
	}
}

func TestFields(t *testing.T) {
	const message = "GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-one: 2\r\nAccept: text/html , text/event-stream\r\n" +
		"Connection: X-Hop, close\r\nX-Hop: gone\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nEmpty:\r\n" +
		"Transfer_Encoding: chunked\r\nCONTENT_LENGTH: 5\r\nProxy_Authorization: a\r\nhttp2-settings: b\r\nTrailer: c\r\n\r\n"
	r, _, err := readRequest(t, strings.NewReader(message), &defaults)
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Fields.Get("X-ONE")) != "1" || r.Fields.Get("missing") != nil || r.Fields.Get("Empty") == nil {
		t.Error("Get")
	}
	var values string
	for value := range r.Fields.All("x-One") {
		values += string(value)
	}
	if values != "12" {
		t.Errorf("All: %q", values)
	}
	if !r.Fields.Has("accept", "text/event-stream") || r.Fields.Has("accept", "text") || r.Fields.Has("Empty", "x") {
		t.Error("Has")
	}
	if r.Fields.Get("x-hop") != nil || r.Fields.Get("Keep-Alive") == nil || !r.Fields.Has("connection", "x-hop") {
		t.Error("fields that Connection names are to be seen by nobody, those of the connection by name only")
	}
	if string(r.Fields.Joined("X-One")) != "1, 2" || string(r.Fields.Joined("Empty")) != "" || r.Fields.Joined("x-hop") != nil {
		t.Error("Joined")
	}
	// RFC 9110 §7.6.1: neither the fields of the connection nor those it names are forwarded.
	const want = "X-One: 1\r\nx-one: 2\r\nAccept: text/html , text/event-stream\r\nEmpty: \r\n"
	if got := string(AppendEndToEnd(nil, r.Fields)); got != want {
		t.Errorf("forwarded:\n%s", got)
	}
}

// A head stays readable while content that needs the buffer is read behind it.
func TestHeadStaysWhileBodyIsRead(t *testing.T) {
	var stream strings.Builder
	stream.WriteString("POST /stays HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: " + strings.Repeat("x", 3000) + "\r\n\r\n")
	for range 3000 {
		stream.WriteString("5;ext\r\nabcde\r\n")
		if stream.Len() > 40<<10 {
			break
		}
	}
	message := strings.ReplaceAll(stream.String(), ";ext", "") + "0\r\n\r\n"
	for name, src := range map[string]io.Reader{
		"whole":        strings.NewReader(message),
		"byte by byte": iotest.OneByteReader(strings.NewReader(message)),
	} {
		r, content, err := readRequest(t, src, &defaults)
		if err != nil || len(content)%5 != 0 || len(content) < 10000 {
			t.Fatalf("%s: %d bytes, %v", name, len(content), err)
		}
		if string(r.Path) != "/stays" || string(r.Fields.Get("x")) != strings.Repeat("x", 3000) {
			t.Errorf("%s: head overwritten", name)
		}
	}
}

func TestLargeHeadGivesItsMemoryBack(t *testing.T) {
	reader := NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 20_000)+"\r\n\r\n"), DefaultBuffer)
	if _, err := reader.ReadHead(DefaultHead); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.ReadHead(DefaultHead); err != io.EOF {
		t.Fatal(err)
	}
	if len(reader.buf) > 2*DefaultBuffer {
		t.Errorf("%d bytes are kept", len(reader.buf))
	}
}
