package h1

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func chunked(src io.Reader) *Body {
	var body Body
	body.Reset(NewReader(src, 256), Chunked, 0)
	return &body
}

func TestChunks(t *testing.T) {
	for _, test := range []struct {
		clause, stream, want string
		err                  error
	}{
		{"RFC 9112 §7.1 chunks", "3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n", "abc0123456789", nil},
		{"RFC 9112 §7.1 several zeros", "000\r\n\r\n", "", nil},
		{"RFC 9112 §7.1 bare LF after size", "3\nabc\r\n0\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1 bare LF after data", "3\r\nabc\n0\r\n\r\n", "abc", ErrChunk},
		{"RFC 9112 §7.1 bare CR after size", "3\rabc\r\n0\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1 no size", "\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1 signed size", "+3\r\nabc\r\n0\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1 0x", "0x3\r\nabc\r\n0\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1 space before size", " 3\r\nabc\r\n0\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1 space after size", "3 \r\nabc\r\n0\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1 size overflows", "ffffffffffffffff1\r\nabc\r\n0\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1 data longer than size", "2\r\nabc\r\n0\r\n\r\n", "ab", ErrChunk},
		{"RFC 9112 §7.1.1 extensions", "3;a=b;c=\"d\"\r\nabc\r\n0;x\r\n\r\n", "abc", nil},
		{"RFC 9112 §7.1.1 whitespace before extension", "3 \t;a\r\nabc\r\n0\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1.1 empty extension", "3;\r\nabc\r\n0\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1.1 bare LF in extension", "3;a\nb\r\nabc\r\n0\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1.1 CR in extension", "3;a\rb\r\nabc\r\n0\r\n\r\n", "", ErrChunk},
		{"RFC 9112 §7.1.1 long extension", "3;" + strings.Repeat("a", maxChunkLine) + "\r\nabc\r\n0\r\n\r\n", "", ErrChunkExtension},
		{"RFC 9112 §7.1.1 endless extension", "3;" + strings.Repeat("a", 1<<20), "", ErrChunkExtension},
		{"RFC 9112 §7.1.1 many extensions", strings.Repeat("1;"+strings.Repeat("e", 400)+"\r\na\r\n", 11), strings.Repeat("a", 10), ErrChunkExtension},
		{"RFC 9112 §7.1.2 trailers are no content", "0\r\nA: b\r\nContent-Length: 5\r\n\r\n", "", nil},
		{"RFC 9112 §7.1.2 malformed trailer", "0\r\nA b\r\n\r\n", "", ErrSpaceBeforeColon},
		{"RFC 9112 §7.1.2 bare LF ends trailers", "0\r\nA: b\r\n\n", "", ErrChunk},
		{"RFC 9112 §7.1.2 long trailer", "0\r\nA: " + strings.Repeat("b", bodyRoom) + "\r\n\r\n", "", ErrTrailer},
		{"RFC 9112 §7.1.2 many trailers", "0\r\n" + strings.Repeat("A: b\r\n", maxTrailerFields+1) + "\r\n", "", ErrTrailer},
		{"RFC 9112 §7.1.2 trailers too large", "0\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 9) + "\r\n", "", ErrTrailer},
		{"RFC 9112 §8 cut in size", "3", "", io.ErrUnexpectedEOF},
		{"RFC 9112 §8 cut in data", "3\r\nab", "ab", io.ErrUnexpectedEOF},
		{"RFC 9112 §8 cut after data", "3\r\nabc", "abc", io.ErrUnexpectedEOF},
		{"RFC 9112 §8 cut in trailers", "0\r\nA: b\r\n", "", io.ErrUnexpectedEOF},
	} {
		t.Run(test.clause, func(t *testing.T) {
			for name, src := range map[string]io.Reader{
				"whole":        strings.NewReader(test.stream),
				"byte by byte": iotest.OneByteReader(strings.NewReader(test.stream)),
			} {
				body := chunked(src)
				got, err := io.ReadAll(body)
				if string(got) != test.want || !errors.Is(err, test.err) {
					t.Errorf("%s: got %.40q, %v", name, got, err)
				}
				if body.Ended() != (test.err == nil) {
					t.Errorf("%s: ended: %v", name, body.Ended())
				}
				if test.err != nil { // a broken body stays broken
					if n, again := body.Read(make([]byte, 10)); n != 0 || again != err {
						t.Errorf("%s: afterwards %d, %v", name, n, again)
					}
				}
			}
		})
	}
}

// failing fails the test when it is read.
type failing struct{ t *testing.T }

func (f failing) Read([]byte) (int, error) {
	f.t.Error("content was read although the head says that it is too large")
	return 0, io.EOF
}

func TestReadAllIsBounded(t *testing.T) {
	var body Body
	body.Reset(NewReader(failing{t}, 256), Length, 1<<30)
	if _, err := body.ReadAll(nil, 1<<20); err != ErrBodyTooLarge {
		t.Errorf("length: %v", err)
	}
	endless := io.MultiReader(strings.NewReader("fffffff\r\n"), endlessReader{})
	got, err := chunked(endless).ReadAll(nil, 1<<20)
	if err != ErrBodyTooLarge || cap(got) > 3<<20 {
		t.Errorf("chunks: %v, %d bytes held", err, cap(got))
	}
	for _, n := range []int{0, 1, 511, 512, 513, 5000, 100_000} {
		content := strings.Repeat("x", n)
		body.Reset(NewReader(strings.NewReader(content), 256), Length, int64(n))
		got, err := body.ReadAll([]byte("head"), n)
		if err != nil || string(got) != "head"+content || !body.Ended() {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
		body.Reset(NewReader(strings.NewReader(content), 256), UntilClose, 0)
		if got, err := body.ReadAll(nil, n); err != nil || string(got) != content {
			t.Errorf("%d bytes until close: got %d, %v", n, len(got), err)
		}
	}
}

type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) { return len(p), nil }

func TestChunkWriter(t *testing.T) {
	for _, n := range []int{1, 15, 16, 255, 4096, 65535, 1 << 20} {
		buf := make([]byte, ChunkRoom+n+ChunkTail)
		data := bytes.Repeat([]byte("d"), n)
		copy(buf[ChunkRoom:], data)
		stream := string(Chunk(buf, n)) + LastChunk
		got, err := io.ReadAll(chunked(strings.NewReader(stream)))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestWriters(t *testing.T) {
	got := AppendRequestLine(nil, []byte("GET"), []byte("/a"), nil)
	got = AppendRequestLine(got, []byte("GET"), []byte("/a"), []byte{})
	got = AppendRequestLine(got, []byte("GET"), []byte("/a"), []byte("b"))
	got = AppendStatusLine(got, 200, nil)
	got = AppendStatusLine(got, 504, nil)
	got = AppendStatusLine(got, 299, []byte("Fine"))
	got = AppendField(got, "A", "b")
	got = AppendFraming(got, Length, 0)
	got = AppendFraming(got, Chunked, 0)
	got = AppendFraming(got, UntilClose, 0)
	const want = "GET /a HTTP/1.1\r\nGET /a? HTTP/1.1\r\nGET /a?b HTTP/1.1\r\nHTTP/1.1 200 OK\r\nHTTP/1.1 504 Gateway Timeout\r\nHTTP/1.1 299 Fine\r\n" +
		"A: b\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n"
	if string(got) != want {
		t.Errorf("got\n%s", got)
	}
}

func TestReady(t *testing.T) {
	for _, test := range []struct {
		stream string
		reads  int
		want   bool
	}{
		{"3\r\nabc\r\n", 1, false}, // the chunk is there, the next is not
		{"3\r\nabc\r\n4\r\n", 1, false},
		{"3\r\nabc\r\n4\r\nd", 1, true},
		{"3\r\nabc\r\n0\r\n\r\n", 1, true},
		{"3\r\nabc", 1, false},
		{"9\r\nabcdefghi", 3, true},
		{"9\r\nabc", 3, false},
	} {
		body := chunked(strings.NewReader(test.stream))
		if body.Ready() {
			t.Errorf("%q: ready before anything was read", test.stream)
		}
		body.r.Fill()
		for range test.reads {
			size := 3
			if test.reads > 1 {
				size = 1
			}
			if !body.Ready() {
				t.Errorf("%q: not ready for content that is there", test.stream)
			}
			if _, err := body.Read(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		if body.Ready() != test.want {
			t.Errorf("%q after %d reads: %v", test.stream, test.reads, !test.want)
		}
	}
}

func TestBodyRest(t *testing.T) {
	for name, test := range map[string]struct {
		buffered string
		framing  Framing
		length   int64
		want     string // "": not whole, or not of known length
	}{
		"whole":           {"content", Length, 7, "content"},
		"more behind it":  {"contentGET", Length, 7, "content"},
		"not whole yet":   {"conte", Length, 7, ""},
		"chunked":         {"7\r\ncontent\r\n0\r\n\r\n", Chunked, 0, ""},
		"until close":     {"content", UntilClose, 0, ""},
		"without content": {"GET", NoBody, 0, ""},
		"of length 0":     {"GET", Length, 0, ""},
		"huge":            {"content", Length, 1 << 40, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(strings.NewReader(test.buffered), DefaultBuffer)
			if err := r.Fill(); err != nil {
				t.Fatal(err)
			}
			var body Body
			body.Reset(r, test.framing, test.length)
			ended := body.Ended()
			if got := body.Rest(); string(got) != test.want {
				t.Fatalf("%q", got)
			}
			if test.want == "" {
				if string(r.Buffered()) != test.buffered || body.Ended() != ended {
					t.Error("something was taken")
				}
				return
			}
			if left := string(r.Buffered()); left != test.buffered[len(test.want):] || !body.Ended() || body.Rest() != nil {
				t.Errorf("%q is left", left)
			}
		})
	}
}
