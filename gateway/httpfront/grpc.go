package httpfront

import (
	"bytes"
	"io"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/protocol/h1"
)

// lasting is an exchange whose time-out does not count any more, once on.
type lasting struct {
	sync.Mutex
	on bool
}

// speaksGRPC reports whether the request is a gRPC call, which takes HTTP/2 at least.
func (c *connection) speaksGRPC() bool {
	return c.stream != nil && isGRPC(c.exchange.ContentType)
}

func isGRPC(contentType []byte) bool {
	const grpc = "application/grpc"
	return len(contentType) >= len(grpc) && h1.EqualFold(contentType[:len(grpc)], grpc) &&
		(len(contentType) == len(grpc) || bytes.IndexByte([]byte("+;-"), contentType[len(grpc)]) >= 0)
}

// beginGRPC is to be called between the answer's head and its content. done is to be called when the exchange is over.
func (c *connection) beginGRPC(framing h1.Framing) (done func(), err error) {
	if err := c.endedByHead(); err != nil || c.call.Body().Ended() || framing != h1.UntilClose {
		return func() {}, err
	}
	return c.last()
}

// last makes a gRPC call that was answered go on for as long as both sides like: messages may come in either direction at any
// time. It ends with its caller's credential.
func (c *connection) last() (done func(), err error) {
	c.lasting.Lock()
	defer c.lasting.Unlock()
	c.lasting.on = true
	if err := c.call.Stream(); err != nil {
		return nil, err
	}
	s := &stream{caller: c.caller(), handle: &c.handle}
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	c.front.enter(s)
	return func() { c.closeStream(s) }, nil
}

// progress gives the upstream the whole time-out again while content is on its way.
func (c *connection) progress() error {
	if !c.grpc {
		return c.call.Progress()
	}
	c.lasting.Lock()
	defer c.lasting.Unlock()
	if c.lasting.on {
		return nil
	}
	return c.call.Progress()
}

// endedByHead reads the end of an answer that is only a head, as gRPC writes errors. Its stream must end with that head, or the client
// would wait for trailers.
func (c *connection) endedByHead() error {
	if c.call.Response.Fields.Get("Grpc-Status") == nil || c.call.Body().Ended() {
		return nil
	}
	var content [1]byte
	_, err := c.call.Body().Read(content[:])
	switch err {
	case io.EOF:
		return nil
	case nil:
		return io.ErrUnexpectedEOF
	}
	return err
}

// grpcDeadline is the deadline that a call of now has by its grpc-timeout, the zero time if it has none that can be read
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, "Timeout").
func grpcDeadline(timeout []byte, now time.Time) time.Time {
	last := len(timeout) - 1
	if last < 1 || last > 8 {
		return time.Time{}
	}
	count, err := strconv.ParseUint(string(timeout[:last]), 10, 32)
	unit, known := grpcUnits[timeout[last]]
	if err != nil || !known {
		return time.Time{}
	}
	return now.Add(min(time.Duration(count), math.MaxInt64/unit) * unit)
}

var grpcUnits = map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}

// answerGRPC tells a gRPC client of a problem in its own words: a head that is also the end, with the status in it.
func (c *connection) answerGRPC(problem *fieldgate.Problem) {
	out := appendDate(h1.AppendStatusLine(c.out[:0], http.StatusOK, nil))
	out = append(out, "Content-Type: application/grpc\r\nGrpc-Status: "...)
	out = strconv.AppendInt(out, int64(grpcStatus(problem.Status())), 10)
	message := problem.Detail
	if message == "" {
		message = problem.Title()
	}
	out = appendGRPCMessage(append(out, "\r\nGrpc-Message: "...), message)
	out = append(out, "\r\n"...)
	out = c.appendVerdict(out)
	c.finish(append(out, "\r\n"...))
}

// grpcStatus is the status that gRPC has for one of HTTP (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
func grpcStatus(status int) int {
	switch status {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return 3 // INVALID_ARGUMENT
	case http.StatusGatewayTimeout:
		return 4 // DEADLINE_EXCEEDED
	case http.StatusForbidden:
		return 7 // PERMISSION_DENIED
	case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
		return 8 // RESOURCE_EXHAUSTED
	case http.StatusPreconditionFailed:
		return 9 // FAILED_PRECONDITION
	case http.StatusConflict:
		return 10 // ABORTED
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, http.StatusNotImplemented:
		return 12 // UNIMPLEMENTED
	case http.StatusInternalServerError:
		return 13 // INTERNAL
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return 14 // UNAVAILABLE
	case http.StatusUnauthorized:
		return 16 // UNAUTHENTICATED
	}
	return 2 // UNKNOWN
}

// appendGRPCMessage percent-encodes what is no visible ASCII (gRPC over HTTP/2, "Status-Message").
func appendGRPCMessage(out []byte, message string) []byte {
	const capitals = "0123456789ABCDEF"
	for i := range len(message) {
		if b := message[i]; b >= ' ' && b <= '~' && b != '%' {
			out = append(out, b)
		} else {
			out = append(out, '%', capitals[b>>4], capitals[b&15])
		}
	}
	return out
}
