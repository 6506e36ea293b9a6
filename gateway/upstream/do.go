package upstream

import (
	"context"
	"errors"
	"time"

	"fieldgate"
	"fieldgate/gateway/cache"
	"fieldgate/protocol/h1"
)

// MaxBufferedAnswer bounds the body of an answer that is buffered whole (for MQTT and CoAP callers), in bytes.
const MaxBufferedAnswer = 4 << 20

// Field is one header field.
type Field = cache.Field

// Request is a call with a buffered body.
type Request struct {
	Method     string
	Target     string // origin form: path and query
	Host       string // Host field; empty: the upstream's own authority
	Fields     []Field
	Lines      []byte // further field lines of the gateway's own, each ending in CRLF
	Body       []byte
	Timeout    time.Duration // of the whole call; 0: the upstream's
	Idempotent bool          // may be tried again on another connection after it was sent
	HopLimit   uint8

	// As those of Call.
	Retry    *fieldgate.Retry
	Hedge    time.Duration
	Priority fieldgate.Priority
	Choice   Choice
}

// Response is a buffered answer.
type Response struct {
	Status int
	Fields []Field // end-to-end fields only
	Body   []byte
	Cookie string // value of a Set-Cookie field that keeps the caller on the address; empty: none is needed
}

// Field is the value of the first field of that name, compared without case.
func (r *Response) Field(name string) string {
	for i := range r.Fields {
		if h1.EqualFold(r.Fields[i].Name, name) {
			return r.Fields[i].Value
		}
	}
	return ""
}

var errNotHTTP = fieldgate.NewProblem(fieldgate.ProblemBadRequest, "The method, target or a header field cannot be carried over HTTP.")

// Do calls the upstream and buffers the answer. A failure is a *fieldgate.Problem. When ctx ends the call ends with
// upstream-timeout.
func (u *Upstream) Do(ctx context.Context, request *Request) (*Response, error) {
	call, problem := newCall(request)
	if problem != nil {
		return nil, problem
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		if call.Timeout == 0 {
			call.Timeout = u.Config.Timeout
		}
		call.Timeout = max(min(call.Timeout, left), time.Nanosecond)
	}
	if ctx.Done() != nil {
		call.Context, call.Handle = ctx, new(Handle)
	}
	if problem := call.Send(u); problem != nil {
		return nil, problem
	}
	defer call.End()
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, call.Handle.Cut)
		defer func() {
			if !stop() {
				call.Abort() // the deadline may be set on the connection after it was given back
			}
		}()
	}
	if problem := call.Answer(); problem != nil {
		return nil, problem
	}
	answer := &Response{Status: call.Response.Status, Cookie: call.StickyCookie()}
	for i := range call.Response.Fields {
		if f := &call.Response.Fields[i]; !f.Hop && f.Kind == h1.KindOther {
			answer.Fields = append(answer.Fields, Field{Name: string(f.Name), Value: string(f.Value)})
		}
	}
	var err error
	if answer.Body, err = call.Body().ReadAll(nil, MaxBufferedAnswer); errors.Is(err, h1.ErrBodyTooLarge) { // which is our bound
		return nil, Failure(err)
	} else if err != nil {
		return nil, call.Broke(err)
	}
	return answer, nil
}

// newCall checks what other protocols may have brought in: nothing of it may change the framing of the HTTP request.
func newCall(request *Request) (*Call, *fieldgate.Problem) {
	if !h1.ValidName(request.Method) || !h1.ValidTarget(request.Target) || !h1.ValidValue(request.Host) {
		return nil, errNotHTTP
	}
	call := &Call{Method: []byte(request.Method), Path: []byte(request.Target), Fields: request.Lines, Content: request.Body,
		Timeout: request.Timeout, Idempotent: request.Idempotent, Retry: request.Retry, Hedge: request.Hedge, Priority: request.Priority,
		Choice: request.Choice, HopLimit: request.HopLimit}
	if request.Host != "" {
		call.Host = []byte(request.Host)
	}
	for _, f := range request.Fields {
		if !h1.ValidName(f.Name) || !h1.ValidValue(f.Value) {
			return nil, errNotHTTP
		}
		if h1.KindOf(f.Name) == h1.KindOther {
			call.Fields = h1.AppendField(call.Fields, f.Name, f.Value)
		}
	}
	// RFC 9110 §8.6: methods that usually have content say so when it is empty.
	if len(request.Body) > 0 || request.Method == "POST" || request.Method == "PUT" || request.Method == "PATCH" {
		call.Framing, call.Length = h1.Length, int64(len(request.Body))
	}
	return call, nil
}
