package h1

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func readResponse(src io.Reader, method string) (*Response, string, error) {
	reader := NewReader(src, DefaultBuffer)
	head, err := reader.ReadAnswerHead(DefaultHead)
	if err != nil {
		return nil, "", err
	}
	var response Response
	if err := response.Parse(head, []byte(method), &defaults); err != nil {
		return nil, "", err
	}
	var body Body
	body.Reset(reader, response.Framing, response.Length)
	content, err := io.ReadAll(&body)
	return &response, string(content), err
}

func TestResponse(t *testing.T) {
	for _, test := range []struct {
		clause, method, message string
		status                  int
		framing                 Framing
		content                 string
		declared                int64
		close                   bool
		err                     error
	}{
		{clause: "RFC 9112 §4 status line", message: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore", status: 200, framing: Length, content: "ok", declared: 2},
		{clause: "RFC 9112 §4 no reason", message: "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", status: 200, framing: Length},
		{clause: "RFC 9112 §4 no reason, no space", message: "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", status: 404, framing: Length},
		{clause: "RFC 9112 §4 two digits", message: "HTTP/1.1 20 OK\r\n\r\n", err: ErrStatusLine},
		{clause: "RFC 9112 §4 four digits", message: "HTTP/1.1 2000 OK\r\n\r\n", err: ErrStatusLine},
		{clause: "RFC 9110 §15 status 600", message: "HTTP/1.1 600 Odd\r\n\r\n", err: ErrStatusLine},
		{clause: "RFC 9110 §15 status 099", message: "HTTP/1.1 099 Odd\r\n\r\n", err: ErrStatusLine},
		{clause: "RFC 9112 §4 control in reason", message: "HTTP/1.1 200 O\x00K\r\n\r\n", err: ErrStatusLine},
		{clause: "RFC 9112 §2.3 version", message: "HTTP/2.0 200 OK\r\n\r\n", err: ErrVersion},
		{clause: "RFC 9112 §4 garbage", message: "SSH-2.0-OpenSSH_9.2\r\n\r\n", err: ErrStatusLine},
		{clause: "RFC 9112 §2.2 empty line before", message: "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", err: ErrStatusLine},
		{clause: "RFC 9112 §5.2 obs-fold", message: "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", err: ErrFold},
		{clause: "RFC 9112 §6.3 HEAD has no content", method: "HEAD", message: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", status: 200, framing: NoBody, declared: 2},
		{clause: "RFC 9112 §6.3 204 has no content", message: "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1", status: 204, framing: NoBody, declared: -1},
		{clause: "RFC 9110 §8.6 204 that announces content", message: "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", status: 204, framing: NoBody, declared: 2, close: true},
		{clause: "RFC 9112 §6.1 204 in chunks", message: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", status: 204, framing: NoBody, declared: -1, close: true},
		{clause: "RFC 9110 §8.6 1xx with content", message: "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\n", err: ErrContentLength},
		{clause: "RFC 9112 §6.1 1xx in chunks", message: "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n", err: ErrContentLength},
		{clause: "RFC 9112 §6.1 TE gzip", message: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", err: ErrTransferCoding},
		{clause: "RFC 9112 §6.1 TE twice", message: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", err: ErrTransferCoding},
		{clause: "RFC 9112 §6.1 TE in HTTP/1.0", message: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", err: ErrTransferEncoding},
		{clause: "RFC 9110 §5.5 NUL in value", message: "HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n", err: ErrFieldValue},
		{clause: "RFC 9112 §2.2 bare LF", message: "HTTP/1.1 200 OK\nContent-Length: 0\n\n", err: ErrLineEnd},
		{clause: "RFC 9112 §6.3 304 has no content", message: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", status: 304, framing: NoBody, declared: 9},
		{clause: "RFC 9112 §6.3 103 has no content", message: "HTTP/1.1 103 Early Hints\r\n\r\n", status: 103, framing: NoBody, declared: -1},
		{clause: "RFC 9112 §6.3 CL beside TE", message: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", err: ErrTwoLengths},
		{clause: "RFC 9112 §6.3 CL beside TE in answer to HEAD", method: "HEAD", message: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", err: ErrTwoLengths},
		{clause: "RFC 9112 §6.3 two lengths", message: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", err: ErrContentLength},
		{clause: "RFC 9112 §6.3 chunks", message: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", status: 200, framing: Chunked, content: "ok", declared: -1},
		{clause: "RFC 9112 §6.3 until close", message: "HTTP/1.1 200 OK\r\n\r\nok", status: 200, framing: UntilClose, content: "ok", declared: -1, close: true},
		{clause: "RFC 9112 §6.3 HTTP/1.0", message: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", status: 200, framing: Length, content: "ok", declared: 2, close: true},
		{clause: "RFC 9112 §9.3 close", message: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", status: 200, framing: Length, close: true},
		{clause: "RFC 9112 §8 length not reached", message: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", err: io.ErrUnexpectedEOF},
		{clause: "RFC 9112 §8 chunks end early", message: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", err: io.ErrUnexpectedEOF},
		{clause: "RFC 9112 §8 no final empty line", message: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", err: io.ErrUnexpectedEOF},
		{clause: "RFC 9112 §8 last chunk missing its CRLF", message: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay", err: ErrChunk},
		{clause: "RFC 9110 §15.2.2 101 without Upgrade", message: "HTTP/1.1 101 Switching Protocols\r\n\r\n", err: ErrStatusLine},
		{clause: "RFC 9110 §15.2.2 101", message: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", status: 101, framing: NoBody, declared: -1},
	} {
		t.Run(test.clause, func(t *testing.T) {
			for name, src := range map[string]io.Reader{
				"whole":        strings.NewReader(test.message),
				"byte by byte": iotest.OneByteReader(strings.NewReader(test.message)),
			} {
				r, content, err := readResponse(src, test.method)
				if !errors.Is(err, test.err) {
					t.Fatalf("%s: got %v, want %v", name, err, test.err)
				}
				if err != nil {
					continue
				}
				if r.Status != test.status || r.Framing != test.framing || content != test.content || r.ContentLength != test.declared || r.Close != test.close {
					t.Errorf("%s: status %d framing %d content %q declared %d close %v", name, r.Status, r.Framing, content, r.ContentLength, r.Close)
				}
			}
		})
	}
}
