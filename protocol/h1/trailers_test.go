package h1

import (
	"io"
	"strings"
	"testing"
)

func TestTrailers(t *testing.T) {
	for _, test := range []struct{ clause, section, want string }{
		{"RFC 9112 §7.1.2 none", "", ""},
		{"RFC 9112 §7.1.2 in their order", "Grpc-Status: 0\r\nX-Checksum: \tabc \r\nX-Checksum: def\r\nEmpty:\r\n",
			"Grpc-Status: 0\r\nX-Checksum: abc\r\nX-Checksum: def\r\nEmpty: \r\n"},
		{"RFC 9110 §6.5.1 framing", "Content-Length: 5\r\nTransfer-Encoding: gzip\r\nA: b\r\n", "A: b\r\n"},
		{"RFC 9110 §6.5.1 routing", "Host: b\r\nForwarded: for=x\r\nX-Forwarded-For: ::1\r\nVia: 1.1 x\r\n", ""},
		{"RFC 9110 §6.5.1 authentication", "Authorization: Bearer x\r\nCookie: a=b\r\nSet-Cookie: a=b\r\nWWW-Authenticate: Basic\r\n", ""},
		{"RFC 9110 §6.5.1 request modifiers", "Expect: 100-continue\r\nIf-Match: *\r\nRange: bytes=0-1\r\nCache-Control: no-store\r\n", ""},
		{"RFC 9110 §6.5.1 how content is read", "Content-Type: a/b\r\nContent-Encoding: gzip\r\nContent-Range: x\r\nTrailer: A\r\n", ""},
		{"RFC 9110 §6.5.1 response control", "Date: x\r\nLocation: /\r\nVary: *\r\nRetry-After: 1\r\nAccess-Control-Allow-Origin: *\r\n", ""},
		{"RFC 9530 §6.5 digests are made for trailers", "Content-Digest: sha-256=:x:\r\nRepr-Digest: y\r\n", "Content-Digest: sha-256=:x:\r\nRepr-Digest: y\r\n"},
		{"RFC 9110 §7.6.1 of the connection", "Connection: A\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Authorization: x\r\n", ""},
		{"RFC 9110 §7.6.1 named by Connection", "Named: x\r\nA: b\r\n", "A: b\r\n"},
		{"underscores", "Content_Length: 5\r\nX_Forwarded_For: ::1\r\nset_cookie: a\r\n", ""},
	} {
		t.Run(test.clause, func(t *testing.T) {
			head := Fields{{Name: []byte("Connection"), Value: []byte("close, named"), Kind: KindConnection}}
			body := chunked(strings.NewReader("3\r\nabc\r\n0\r\n" + test.section + "\r\n"))
			if early := body.Trailers(nil); early != nil {
				t.Errorf("before the end: %v", early)
			}
			if _, err := io.ReadAll(body); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				got := string(AppendLastChunk(nil, body.Trailers(head)))
				if got != "0\r\n"+test.want+"\r\n" {
					t.Errorf("got %q", got)
				}
			}
		})
	}
}

func TestTrailersAreBounded(t *testing.T) { // the same for those that were not framed in chunks; malformed sections: TestChunks
	for name, test := range map[string]struct {
		field, value string
		times        int
		want         error
	}{
		"few":        {"a", "b", maxTrailerFields, nil},
		"many":       {"a", "b", maxTrailerFields + 1, ErrTrailer},
		"dropped":    {"host", "b", maxTrailerFields + 1, ErrTrailer},
		"large":      {"a", strings.Repeat("b", maxTrailers), 1, ErrTrailer},
		"control":    {"a", "b\x00", 1, ErrFieldValue},
		"line end":   {"a", "b\r\nc: d", 1, ErrFieldValue},
		"upper case": {"A", "b", 1, ErrFieldName},
		"pseudo":     {":status", "200", 1, ErrFieldName},
	} {
		var body Body
		body.Reset(NewReader(strings.NewReader(""), 256), UntilClose, 0)
		var err error
		for range test.times {
			if err == nil {
				err = body.AddTrailer([]byte(test.field), []byte(test.value))
			}
		}
		if _, ended := io.ReadAll(&body); ended != nil {
			t.Fatal(ended)
		}
		if err != test.want || err == nil && len(body.Trailers(nil)) != test.times {
			t.Errorf("%s: %v, %d trailers", name, err, len(body.Trailers(nil)))
		}
	}
}

func TestNoTrailersNoAllocation(t *testing.T) {
	source := strings.NewReader("")
	reader := NewReader(source, DefaultBuffer)
	var body Body
	into, out := make([]byte, 100), make([]byte, 0, 100)
	if allocations := testing.AllocsPerRun(100, func() {
		source.Reset("3\r\nabc\r\n0\r\n\r\n")
		body.Reset(reader, Chunked, 0)
		for !body.Ended() {
			if _, err := body.Read(into); err != nil && err != io.EOF {
				t.Fatal(err)
			}
		}
		out = AppendLastChunk(out[:0], body.Trailers(nil))
		reader.Head(DefaultHead)
	}); allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
	if string(out) != LastChunk {
		t.Errorf("%q", out)
	}
}
