package httpfront

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/h1"
)

// refuseHead answers a head of HTTP/1.1 that is no request, or the part of one that came.
func (c *connection) refuseHead(head []byte, err error) {
	c.request.Method, c.request.Target = requestLine(head)
	c.refuse(err)
}

// requestLine takes method and target from a head whose request line came whole; nil otherwise.
func requestLine(head []byte) (method, target []byte) {
	line, _, whole := bytes.Cut(head, []byte("\r\n"))
	method, line, _ = bytes.Cut(line, []byte{' '})
	target, version, _ := bytes.Cut(line, []byte{' '})
	if !whole || !bytes.HasPrefix(version, []byte("HTTP/")) {
		return nil, nil
	}
	return method, target
}

// refuse answers a head that is no request, and records it with the method and target that c.request has, which nobody has checked. A
// connection that only ended leaves no trace.
func (c *connection) refuse(err error) {
	x := &c.exchange
	x.Reset()
	x.Protocol, x.Method, x.Source = fieldgate.ProtocolHTTP, fieldgate.MethodOther, c.origin.source
	if method := c.request.Method; h1.ValidName(method) {
		if x.Method = fieldgate.ParseMethod(method); x.Method == fieldgate.MethodOther {
			x.MethodToken = string(method[:min(len(method), fieldgate.MaxRecordRoute)])
		}
		x.Path = recordedPath(c.request.Target)
	}
	c.keep = false
	c.request.Method = nil
	status, reason := 0, "" // 0: nobody is there to be answered
	var refusal *h1.Error
	switch {
	case errors.As(err, &refusal):
		status, reason = refusal.Status, refusal.Reason
	case errors.Is(err, os.ErrDeadlineExceeded):
		status, reason = 408, "The request head did not arrive in time." // RFC 9110 §15.5.9
	case errors.Is(err, io.ErrUnexpectedEOF):
		reason = "head cut short"
	default:
		return
	}
	x.ProblemStatus = status
	c.front.pipeline.Malformed(x, fieldgate.NewProblem(fieldgate.ProblemBadRequest, reason))
	if status != 0 {
		c.answerRefusal(status, reason)
	}
}

// recordedPath is the path of a target, as it came; nil where it has none, or one that a Record should not hold.
func recordedPath(target []byte) []byte {
	path, _, _ := bytes.Cut(target, []byte{'?'})
	if len(path) == 0 || path[0] != '/' { // other forms may hold a password (RFC 3986 §3.2.1)
		return nil
	}
	path = path[:min(len(path), fieldgate.MaxRecordRoute)]
	for _, b := range path {
		if b <= ' ' || b > '~' {
			return nil
		}
	}
	return path
}

// plainAnswer is for a client that knows neither TLS nor yet that it should.
const plainAnswer = "HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nThis port speaks TLS: use https://.\n"

// refuseHandshake tells a client that speaks plain HTTP where TLS is spoken; all others learn of their failure from TLS. The answer is
// small, goes out once, and waits for the client no longer than any other refusal does.
func (c *connection) refuseHandshake(err error) {
	if refused := directory.CertificateError(""); errors.As(err, &refused) {
		c.front.unidentified(c.origin.client(), refused)
		return
	}
	var first tls.RecordHeaderError
	if !errors.As(err, &first) || first.Conn == nil || !beginsHTTP(string(first.RecordHeader[:])) {
		return
	}
	c.front.malformed(c.origin.client(), "plain HTTP on a port that speaks TLS")
	c.socket.SetWriteDeadline(time.Now().Add(c.front.config.WriteTimeout))
	if _, err := io.WriteString(c.socket, plainAnswer); err == nil {
		lingerOn(c.socket)
	}
}

// unidentified records that a client's certificate was refused.
func (f *Front) unidentified(source netip.AddrPort, err directory.CertificateError) {
	f.pipeline.Malformed(&pipeline.Exchange{Protocol: fieldgate.ProtocolHTTP, Method: fieldgate.MethodOther, Source: source, Started: time.Now()},
		fieldgate.NewProblem(fieldgate.ProblemUnauthenticated, err.Error()))
}

// beginsHTTP reports whether the first bytes of a connection are those of a request.
func beginsHTTP(first string) bool {
	for _, method := range [...]string{"GET ", "HEAD ", "POST ", "PUT ", "PATCH", "DELET", "OPTIO"} {
		if strings.HasPrefix(first, method) {
			return true
		}
	}
	return false
}
