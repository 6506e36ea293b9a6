package coap

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
)

// ErrNoGreeting says that the other side of a connection closed it, or sent no CSM in time (RFC 8323 §3.3): it hardly speaks CoAP.
var ErrNoGreeting = errors.New("coap: the peer did not greet: it does not speak CoAP on this connection")

// Client is one connection that we have opened (RFC 8323).
type Client struct {
	stream *Stream
	peer   netip.AddrPort
	ended  chan struct{}
}

// NewClient greets on a connection and waits for the greeting of the peer. It closes conn if it fails. Requests of the peer go to the
// handler; without one they are answered 5.01.
func NewClient(ctx context.Context, conn net.Conn, config StreamConfig, handler Handler, logger *slog.Logger) (*Client, error) {
	stream, err := NewStream(config, 4, handler, logger)
	if err != nil {
		conn.Close()
		return nil, err
	}
	running, stop := context.WithCancel(context.Background())
	c := &Client{stream: stream, ended: make(chan struct{})}
	go func() {
		_ = stream.Run(running) // which ends when it is told to
		close(c.ended)
	}()
	<-stream.started
	connection := stream.open(conn, nil)
	c.peer = connection.name
	greeted := make(chan bool, 1)
	connection.greeting = func(ok bool) { greeted <- ok }
	go func() {
		connection.serve()
		stop()
	}()
	select {
	case ok := <-greeted:
		if !ok {
			err = ErrNoGreeting
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Do sends a request and waits for its response, whose Err is nil. When the connection has ended, the error is ErrClosed.
func (c *Client) Do(ctx context.Context, call *Call) (*Reply, error) {
	return c.stream.Do(ctx, c.peer, call)
}

// Start sends a request and waits for nothing: the outcome, and of a call with ObserveResource each notification, goes to call.Deliver,
// possibly before Start returns. Deliver must not call the Client.
func (c *Client) Start(call *Call) { c.stream.do(c.peer, call) }

// Cancel ends a call that was started. From when it returns Deliver is not called.
func (c *Client) Cancel(call *Call) { c.stream.cancel(c.peer, call) }

// Observe is Server.Observe.
func (c *Client) Observe(ctx context.Context, call *Call, each func(*Reply) bool) error {
	return c.stream.Observe(ctx, c.peer, call, each)
}

// Ended is closed when the connection has ended, for whatever reason.
func (c *Client) Ended() <-chan struct{} { return c.ended }

// Close ends the connection in good order (RFC 8323 §5.5) and returns when it has ended.
func (c *Client) Close() {
	if connection := c.stream.find(c.peer); connection != nil {
		connection.locked((*Endpoint).Release)
		connection.hangUp(lastWords)
	}
	<-c.ended
}
