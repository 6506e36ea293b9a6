package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"

	"fieldgate/protocol/h1"
)

// cause is what made a try fail. The zero value says nothing.
type cause struct {
	err    error // nil: there was an answer
	status int   // of the answer, where that is the failure
	after  time.Duration
}

// behind appends the cause to what it led to, if it is known.
func (c cause) behind(text, between string) string {
	switch {
	case c.err != nil:
		return text + between + inWords(c.err, c.after)
	case c.status != 0:
		return text + between + answeredWith(c.status)
	}
	return text
}

func answeredWith(status int) string { return "answered " + strconv.Itoa(status) }

// checkError is why a check failed, in plain words already.
type checkError string

func (e checkError) Error() string { return string(e) }

// inWords says in plain words what failed, after that time. They are the gateway's own or the operating system's, 70 bytes at the
// most: nothing of what an upstream sent is repeated.
func inWords(err error, after time.Duration) string {
	if said, is := errors.AsType[checkError](err); is {
		return string(said)
	}
	if words := certificateWords(err); words != "" {
		return words
	}
	if unknown, is := errors.AsType[*net.DNSError](err); is {
		switch {
		case unknown.IsNotFound:
			return "no such host"
		case unknown.IsTimeout:
			return "DNS timed out"
		}
		return "DNS failed"
	}
	if number, is := errors.AsType[syscall.Errno](err); is && !number.Timeout() {
		return number.Error()
	}
	if alert, is := errors.AsType[*net.OpError](err); is && alert.Op == "remote error" { // RFC 8446 §6; crypto/tls has a text for each
		return "TLS refused: " + strings.TrimPrefix(alert.Err.Error(), "tls: ")
	}
	if _, is := errors.AsType[tls.RecordHeaderError](err); is || errors.Is(err, http.ErrSchemeMismatch) {
		return "no TLS is spoken there"
	}
	if timeout, is := errors.AsType[net.Error](err); is && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return "timed out after " + roughly(after)
	}
	if malformed, is := errors.AsType[*h1.Error](err); is {
		return "no clean answer: " + malformed.Reason
	}
	switch {
	case errors.Is(err, errNoConnectionFree):
		return "all connections were in use"
	case errors.Is(err, errNotHTTP2):
		return "no HTTP/2 is spoken there"
	case errors.Is(err, errNoAnswer), errors.Is(err, io.EOF):
		return "the connection ended without an answer"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the answer broke off"
	}
	return "no clean answer"
}

// certificateWords is empty when the error is not about the upstream's certificate.
func certificateWords(err error) string {
	if invalid, is := errors.AsType[x509.CertificateInvalidError](err); is {
		switch {
		case invalid.Reason != x509.Expired:
			return "certificate not valid for a server"
		case invalid.Cert != nil && time.Now().Before(invalid.Cert.NotBefore):
			return "certificate not valid yet"
		}
		return "certificate expired"
	}
	if _, is := errors.AsType[x509.HostnameError](err); is {
		return "certificate is for another name"
	}
	if _, is := errors.AsType[x509.UnknownAuthorityError](err); is {
		return "certificate of an unknown authority"
	}
	if _, is := errors.AsType[*tls.CertificateVerificationError](err); is {
		return "certificate not accepted"
	}
	return ""
}

// statusWords is what a gRPC status says; its message is the upstream's, and left out.
func statusWords(code codes.Code) string {
	if code > codes.Unauthenticated {
		return fmt.Sprintf("gRPC status %d", uint32(code))
	}
	return "gRPC status " + code.String()
}

// roughly is a duration with two digits or so.
func roughly(d time.Duration) string {
	if d < time.Second {
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	}
	return strconv.FormatFloat(math.Round(d.Seconds()*10)/10, 'f', -1, 64) + " s"
}
