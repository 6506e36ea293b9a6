package httpfront

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/gateway/cache"
	"fieldgate/gateway/clock"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/socket"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/h1"
)

// spliceFrom is how large content must be for the kernel to move it.
const spliceFrom = 64 << 10

// relay streams the request to the operation's upstream and the answer back.
func (c *connection) relay() {
	x := &c.exchange
	o := x.Operation
	service := c.front.pipeline.Service(x)
	if service == nil {
		c.answerProblem(x.NoUpstream())
		return
	}
	if !o.PassThrough && c.request.Length > x.MaxBody() {
		c.answerProblem(errTooLarge)
		return
	}
	if problem := c.readSmall(); problem != nil {
		c.answerProblem(problem)
		return
	}
	upgrade := c.request.WantsWebSocket() && (o.PassThrough || o.HTTP.WebSocket)
	c.prepare(service, upgrade)
	c.front.pipeline.Mirror(x)
	if x.Copy != nil && !x.Buffered() { // otherwise Check has seen it
		x.Copy.Request(c.call.Content)
	}

	x.Enter(fieldgate.StageForward)
	began := clock.Time(clock.Now())
	c.call.Began = began
	problem := c.send(service)
	if problem == nil {
		problem = c.call.Answer()
	}
	x.UpstreamTime = time.Since(began)
	x.Leave()
	defer c.call.End()
	if problem != nil {
		if fault := c.endUpload(); fault != nil {
			problem = fault
		}
		c.answerProblem(problem)
		return
	}
	x.Answer.Status = c.call.Response.Status
	c.front.pipeline.Forget(x, x.Answer.Status)
	if x.Answer.Status == http.StatusSwitchingProtocols {
		c.endUpload()
		c.tunnel()
		return
	}
	c.relayAnswer()
}

// readSmall reads small content before the upstream is called, so that slow clients hold none of its connections and a broken
// connection can be replaced. What is buffered already stays where it is.
func (c *connection) readSmall() *fieldgate.Problem {
	r := &c.request
	if c.body.Ended() || r.Framing != h1.Length || r.Length > keepContent || int64(len(c.reader.Buffered())) >= r.Length {
		return nil
	}
	if err := c.acceptContent(); err != nil {
		return c.contentProblem(err)
	}
	c.setReadBy(c.front.config.BodyTimeout)
	var err error
	c.content, err = c.body.ReadAll(c.content[:0], keepContent)
	c.exchange.Body, c.exchange.BytesIn = c.content, uint64(len(c.content))
	if err != nil {
		return c.contentProblem(err)
	}
	return nil
}

// prepare makes the request that the upstream sees.
func (c *connection) prepare(service *upstream.Upstream, upgrade bool) {
	r, x, call := &c.request, &c.exchange, &c.call
	o := x.Operation
	*call = upstream.Call{Method: r.Method, Path: r.Path, Query: r.Query, Framing: r.Framing, Length: r.Length,
		Timeout: o.Timeout, Idempotent: o.Idempotent || idempotent(x.Method), Handle: &c.handle,
		Context: c.front.context, Choice: x.Choice(service)}
	if p := o.Policies; p != nil {
		call.Retry, call.Hedge, call.Priority = p.Retry, p.Hedge, p.Priority
	}
	if r.Form == h1.AsteriskForm {
		call.Path = r.Target
	}
	if o.PassThrough && len(r.Host) > 0 {
		call.Host = r.Host
	}
	c.trailers = r.Fields.Has("TE", "trailers") // RFC 9110 §10.1.4
	if c.grpc, c.lasting.on = c.speaksGRPC(), false; c.grpc {
		call.Until = grpcDeadline(r.Fields.Get("grpc-timeout"), clock.Time(clock.Now()))
	}
	if upgrade {
		call.Upgrade = []byte("websocket")
	}
	var drop func(name []byte) bool
	if upgrade && o.Messages() != nil {
		drop = webSocketExtensions
	} else if !o.Encodes() {
		drop = acceptEncoding
	}
	fields := c.appendForwarded(c.front.pipeline.AppendUpstreamFields(c.fields[:0], x), drop)
	fields = x.AppendValidators(fields)
	if c.trailers && !upgrade {
		fields = append(fields, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	if len(x.ContentType) == 0 && len(x.Body) > 0 && x.Buffered() && o.Request != nil && !strings.Contains(o.Request.Media[0].Type, "*") {
		fields = h1.AppendField(fields, "Content-Type", o.Request.Media[0].Type) // which it was checked as
	}
	c.fields, call.Fields = fields, fields
	if c.body.Ended() && r.Framing != h1.NoBody { // it was read whole
		call.Framing, call.Length, call.Content = h1.Length, int64(len(x.Body)), x.Body
	} else if content := c.body.Rest(); content != nil { // it goes out with the head, and can be sent again
		call.Content, x.BytesIn = content, uint64(len(content))
	} else if r.Framing == h1.UntilClose { // of a stream: only its end tells how long it is
		call.Framing = h1.Chunked
	}
}

// withheld reports whether the upstream must not see the caller's field, or trailer, of that name.
func (c *connection) withheld(name []byte) bool {
	x := &c.exchange
	ours := x.Principal.Kind == fieldgate.PrincipalDevice || x.Principal.Kind == fieldgate.PrincipalApp
	return reserved(name) || c.ownContext(name) || ours && carriesCredential(x.Operation, &c.request, name) ||
		bytes.IndexByte(name, '_') >= 0 && passesForDeclared(x.Operation, name)
}

// passesForDeclared reports whether many programs would take the field for one that the contract declares, and that was checked.
func passesForDeclared(o *pipeline.Operation, name []byte) bool {
	for i := range o.Parameters {
		declared := &o.Parameters[i]
		if declared.In == fieldgate.InHeader && len(name) == len(declared.Name) && hasPrefix(name, declared.Name) && !h1.EqualFold(name, declared.Name) {
			return true
		}
	}
	return false
}

// webSocketExtensions may compress messages, and what is compressed cannot be checked.
func webSocketExtensions(name []byte) bool { return h1.EqualFold(name, "Sec-WebSocket-Extensions") }

// acceptEncoding asks for content that cannot be checked as it is.
func acceptEncoding(name []byte) bool { return h1.EqualFold(name, "Accept-Encoding") }

// idempotent: RFC 9110 §9.2.2.
func idempotent(m fieldgate.Method) bool {
	switch m {
	case fieldgate.MethodGet, fieldgate.MethodHead, fieldgate.MethodPut, fieldgate.MethodDelete, fieldgate.MethodOptions, fieldgate.MethodTrace:
		return true
	}
	return false
}

// reserved reports whether only the gateway may say this to an upstream. Many programs take "_" and "-" for the same, so a
// caller must not get past with the other.
func reserved(name []byte) bool {
	switch name[0] {
	case 'F', 'f':
		return hasPrefix(name, pipeline.FieldPrefix) || hasPrefix(name, "Forwarded") && len(name) == len("Forwarded")
	case 'X', 'x':
		return hasPrefix(name, "X-Forwarded-") || hasPrefix(name, "X-Real-Ip") && len(name) == len("X-Real-Ip")
	case 'V', 'v':
		return hasPrefix(name, "Via") && len(name) == len("Via")
	}
	return false
}

func hasPrefix(name []byte, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if b := name[i]; b|0x20 != prefix[i]|0x20 && !(b == '_' && prefix[i] == '-') {
			return false
		}
	}
	return true
}

// carriesCredential: tokens of ours stay here.
func carriesCredential(o *pipeline.Operation, r *h1.Request, name []byte) bool {
	if h1.EqualFold(name, "Authorization") {
		return true
	}
	if h1.EqualFold(name, "Sec-WebSocket-Protocol") && webSocketToken(r) != nil {
		return true
	}
	for _, key := range o.Access.Headers {
		if len(name) == len(key) && hasPrefix(name, key) {
			return true
		}
	}
	return false
}

// relayAnswer writes the upstream's answer to the client: head and first content together, then piece by piece as it comes.
func (c *connection) relayAnswer() {
	r := c.call.Response
	framing, length := r.Framing, r.Length
	if framing == h1.Chunked || framing == h1.UntilClose {
		framing = c.endless()
	}
	if x := &c.exchange; x.Copy != nil {
		for i := range r.Fields {
			x.Copy.ResponseField(r.Fields[i].Name, r.Fields[i].Value)
		}
	}
	if x := &c.exchange; x.Keeps() {
		answered, problem := c.front.pipeline.KeepHead(x, r.Status, keptFields(r.Fields))
		if problem != nil || answered {
			c.endUpload()
		}
		if problem != nil {
			c.answerProblem(problem)
			return
		} else if answered {
			c.keep = c.keep && c.mayDiscard()
			c.answerBuffered()
			return
		}
	}
	if c.grpc {
		done, err := c.beginGRPC(framing)
		if err != nil {
			c.endUpload()
			c.begun = false
			c.cutShort(err)
			return
		}
		defer done()
	}
	events := isEventStream(r)
	if events {
		c.endUpload()
	}
	c.keep = c.keep && c.contentTaken() && !events
	c.out, c.begun = c.appendAnswerHead(framing, length), false
	if events {
		c.relayEvents(framing)
		return
	}
	err := c.relayContent(framing)
	fault := c.endUpload()
	if err != nil {
		if fault != nil {
			c.exchange.Fail(fault)
		}
		return
	}
	switch {
	case c.stream != nil:
	case c.keep:
		c.discard()
	case c.unread():
		c.linger()
	}
}

func isEventStream(r *h1.Response) bool {
	mediaType, _, _ := bytes.Cut(r.Fields.Get("Content-Type"), []byte{';'})
	return r.Framing != h1.NoBody && h1.EqualFold(bytes.TrimSpace(mediaType), "text/event-stream")
}

func (c *connection) appendAnswerHead(framing h1.Framing, length int64) []byte {
	r := c.call.Response
	out := h1.AppendStatusLine(c.out[:0], r.Status, r.Reason)
	if c.hidesFields() {
		out = c.appendVisible(out, r.Fields)
	} else {
		out = h1.AppendEndToEnd(out, r.Fields)
	}
	if cookie := c.call.StickyCookie(); cookie != "" {
		out = h1.AppendField(out, "Set-Cookie", cookie)
	}
	if r.Fields.Get("Date") == nil { // RFC 9110 §6.6.1
		out = appendDate(out)
	}
	out = c.appendVerdict(out)
	out = c.appendConnection(out)
	if framing == h1.NoBody && r.ContentLength >= 0 && r.Status != http.StatusNoContent {
		framing, length = h1.Length, r.ContentLength // of content that HEAD and 304 leave out
	}
	out = h1.AppendFraming(out, framing, length)
	return append(out, "\r\n"...)
}

// relayContent writes c.out and then the content. Whatever is buffered goes out in one write. On an error the connection is
// lost: the client must see that its answer is cut short.
func (c *connection) relayContent(framing h1.Framing) error {
	x, body := &c.exchange, c.call.Body()
	if content := body.Rest(); content != nil && framing == h1.Length {
		c.out = append(c.out, content...)
		x.BytesOut = uint64(len(content))
		if x.Copy != nil {
			x.Copy.Response(content)
		}
		c.front.pipeline.KeepContent(x, content, true)
		return c.flushLast()
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for !body.Ended() {
		if !body.Ready() {
			if err := c.flush(); err != nil {
				return err
			}
			if left := body.Splice(); left >= spliceFrom && c.tcp != nil && !x.Keeps() && c.call.Splice() != nil {
				return c.spliceContent(left)
			}
			if x.Operation.PassThrough {
				if err := c.progress(); err != nil {
					return c.cutShort(err)
				}
			}
		}
		n, err := body.Read((*buf)[h1.ChunkRoom : h1.ChunkRoom+relayBuffer])
		if n > 0 {
			piece := (*buf)[h1.ChunkRoom : h1.ChunkRoom+n]
			if x.Copy != nil {
				x.Copy.Response(piece)
			}
			c.front.pipeline.KeepContent(x, piece, false)
			if framing == h1.Chunked {
				piece = h1.Chunk(*buf, n)
			}
			x.BytesOut += uint64(n)
			c.out = append(c.out, piece...)
			if len(c.out) > relayBuffer {
				if err := c.flush(); err != nil {
					return err
				}
			}
		}
		if err != nil && err != io.EOF {
			return c.cutShort(err)
		}
	}
	if r := c.call.Response; r.Framing != h1.UntilClose || !r.Close { // else nobody can tell whether it came whole (RFC 9112 §8)
		c.front.pipeline.KeepContent(x, nil, true)
	}
	return c.relayEnd(framing)
}

// relayEnd ends the answer, with the trailers of the upstream's.
func (c *connection) relayEnd(framing h1.Framing) error {
	switch trailers := c.call.Body().Trailers(c.call.Response.Fields); {
	case framing == h1.Chunked:
		if !c.trailers { // RFC 9110 §6.5.1: for those only that say they understand them
			trailers = nil
		}
		c.out = h1.AppendLastChunk(c.out, trailers)
	case c.stream != nil && len(trailers) > 0:
		if err := c.flush(); err != nil {
			return err
		}
		return c.stream.finishWith(trailers)
	}
	return c.flushLast()
}

// flushLast writes what is left of the answer.
func (c *connection) flushLast() error {
	if c.stream == nil {
		return c.flush()
	}
	err := c.finishWrite(c.out)
	c.out = c.out[:0]
	return err
}

// keptFields are the end-to-end fields of an answer that may be kept.
func keptFields(fields h1.Fields) []cache.Field {
	var kept []cache.Field
	for i := range fields {
		if f := &fields[i]; f.Kind == h1.KindOther && !f.Hop {
			kept = append(kept, cache.Field{Name: string(f.Name), Value: string(f.Value)})
		}
	}
	return kept
}

// hidesFields says whether hidesField may say so of any field of an answer.
func (c *connection) hidesFields() bool {
	return c.origin.settings.RequestID != "" || c.exchange.HidesFields()
}

// hidesField says whether a field of an answer stays here, because the gateway writes it itself.
func (c *connection) hidesField(name []byte) bool {
	own := c.origin.settings.RequestID
	return own != "" && h1.EqualFold(name, own) || c.exchange.HidesFields() && c.exchange.HidesField(name)
}

// appendVisible appends end-to-end fields but those that the gateway writes itself.
func (c *connection) appendVisible(out []byte, fields h1.Fields) []byte {
	for i := range fields {
		if f := &fields[i]; f.Kind == h1.KindOther && !f.Hop && !c.hidesField(f.Name) {
			out = h1.AppendField(out, f.Name, f.Value)
		}
	}
	return out
}

func (c *connection) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.write(c.out)
	c.out, c.begun = c.out[:0], true
	if err != nil {
		c.keep = false
	}
	return err
}

// spliceContent lets the kernel move content of known length from one socket to the other.
func (c *connection) spliceContent(left int64) error {
	for left > 0 {
		if c.exchange.Operation.PassThrough {
			if err := c.call.Progress(); err != nil {
				return c.cutShort(err)
			}
		}
		c.setWriteBy(c.front.config.WriteTimeout)
		n, err := io.CopyN(c.tcp, c.call.Splice(), min(left, writePiece)) // which the client has to take in time
		left -= n
		c.exchange.BytesOut += uint64(n)
		c.call.Body().Spliced(n)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != io.ErrUnexpectedEOF && socket.Alive(c.call.Splice()) { // it is the client's end that failed
			c.endUpload()
			c.reset()
			return err
		}
		if err != nil {
			return c.cutShort(err)
		}
	}
	return nil
}

// cutShort ends an answer that the upstream did not finish. If none of it was sent yet, the client gets a clean one instead. Of one that
// the client does not want any more the Record tells how far it came.
func (c *connection) cutShort(err error) error {
	c.endUpload()
	problem := upstream.Failure(err)
	if c.stream == nil || !c.stream.left() {
		problem = c.call.Broke(err)
	}
	if !c.begun {
		c.exchange.BytesOut = 0
		c.answerProblem(problem)
		return err
	}
	if c.stream == nil || !c.stream.left() {
		c.exchange.Fail(problem)
	}
	c.reset()
	return err
}
