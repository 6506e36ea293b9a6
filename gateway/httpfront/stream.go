package httpfront

import (
	"cmp"
	"context"
	"time"

	"fieldgate"
	"fieldgate/gateway/pipeline"
	"fieldgate/gateway/tunnel"
	"fieldgate/gateway/upstream"
	"fieldgate/protocol/h1"
)

// stream is an open WebSocket or event stream: it outlives the moment in which its caller was admitted.
type stream struct {
	caller *pipeline.Caller // nil: anonymous or foreign
	closed chan struct{}    // closed once when the stream has to end
	tunnel *tunnel.Tunnel   // instead of closed: of a WebSocket that the relay has
	handle *upstream.Handle // instead of closed: of a gRPC call, which is cut
	why    string           // it was ended, for WebSockets; empty: revoked
}

// revoked is what a WebSocket is told whose caller may not go on.
const revoked = "the credential is no longer valid"

// revoke ends the stream because its caller may not go on.
func (s *stream) revoke() {
	switch {
	case s.tunnel != nil:
		s.tunnel.End(h1.ClosePolicy, cmp.Or(s.why, revoked))
	case s.handle != nil:
		s.handle.Cut()
	default:
		close(s.closed)
	}
}

// openStream registers the exchange as a stream. The front ends it when its caller's credential is revoked or its device quarantined,
// by closing stream.closed.
func (c *connection) openStream() *stream {
	s := &stream{caller: c.caller(), closed: make(chan struct{})}
	c.front.mu.Lock()
	defer c.front.mu.Unlock()
	c.front.enter(s)
	return s
}

// enter puts a stream among those that are ended when their caller may not go on, which may be so already. To be called with mu held.
func (f *Front) enter(s *stream) {
	f.streams[s] = struct{}{}
	f.endIfRevoked(s)
}

// caller is who called, if the directory knows it.
func (c *connection) caller() *pipeline.Caller {
	if c.certified != nil {
		return c.certified
	}
	if secret := c.secret(); len(secret) > 0 {
		if caller, problem := c.front.pipeline.Identify(nil, secret); problem == nil && caller.Ref != 0 {
			return caller
		}
	}
	return nil
}

func (c *connection) closeStream(s *stream) {
	c.front.mu.Lock()
	delete(c.front.streams, s)
	c.front.mu.Unlock()
}

// secret is the caller's credential, wherever the operation's contract lets it stand.
func (c *connection) secret() []byte {
	if len(c.exchange.Secret) > 0 {
		return c.exchange.Secret
	}
	for _, name := range c.exchange.Operation.Access.Headers {
		if value := c.request.Fields.Get(name); len(value) > 0 {
			return value
		}
	}
	return nil
}

// callerChanged has the streams looked at of a caller who may not go on, at once. Those who apply changes do not wait for it.
func (f *Front) callerChanged(*fieldgate.DirectoryChange) {
	select {
	case f.changed <- struct{}{}:
	default: // they are to be looked at anyway
	}
}

// checkStreams ends streams whose caller may not go on, until ctx ends.
func (f *Front) checkStreams(ctx context.Context) {
	for {
		select {
		case <-f.changed:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		f.endRevoked()
		select { // changes that come one after the other cost a tenth of a processor at the most, however many streams there are
		case <-time.After(max(checkStep, 9*time.Since(began))):
		case <-ctx.Done():
			return
		}
	}
}

// checkStep is the least time between two looks at the streams.
const checkStep = 20 * time.Millisecond

func (f *Front) endRevoked() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.streams {
		f.endIfRevoked(s)
	}
}

// endStream ends a stream that has nothing more to say.
func (f *Front) endStream(s *stream, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, goesOn := f.streams[s]; goesOn {
		s.why = why
		s.revoke()
		delete(f.streams, s)
	}
}

func (f *Front) endIfRevoked(s *stream) {
	if s.caller != nil && f.pipeline.Valid(s.caller) != nil {
		s.revoke()
		delete(f.streams, s)
	}
}
