package coap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// Handler answers a request by filling the response. It may take its time: only further requests of the same
// peer wait. It runs on a worker of the UDP that received the request.
type Handler func(ctx context.Context, request *Request, response *Response)

// UDP is an Endpoint on a UDP socket. It is safe for concurrent use.
type UDP struct {
	conn    *net.UDPConn
	handler Handler
	workers int
	logger  *slog.Logger

	running sync.WaitGroup // workers; added to by read only

	mu       sync.Mutex
	endpoint *Endpoint
	work     sync.Cond // a request became ready, or closed
	alive    int       // workers
	idle     int       // workers that wait and have not been called
	closed   bool
	timer    *time.Timer
	armed    time.Time // when timer fires; zero when it is not running
}

// keptWorkers is how many workers wait for work; above it they end. A burst costs goroutines only while it lasts.
const keptWorkers = 8

// maxDatagram bounds what is read: blocks of 1,024 bytes with options fit several times over. What is longer
// was cut by the socket and is dropped.
const maxDatagram = 8192

// NewUDP puts an Endpoint on conn, which Run closes. Config.Send and Config.Seed are set here. Without a
// handler every request is answered 5.01; workers is how many requests are handled at a time at the most.
func NewUDP(conn *net.UDPConn, config Config, workers int, handler Handler, logger *slog.Logger) (*UDP, error) {
	u := &UDP{conn: conn, handler: handler, workers: workers, logger: logger}
	u.work.L = &u.mu
	if _, err := rand.Read(config.Seed[:]); err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	config.Send = u.send
	u.endpoint = NewEndpoint(config, time.Now())
	if handler == nil {
		u.handler = func(_ context.Context, _ *Request, response *Response) { response.Code = NotImplemented }
		u.workers = 1
	}
	u.timer = time.AfterFunc(time.Hour, u.tick)
	u.timer.Stop()
	return u, nil
}

// LocalAddr is the address of the socket.
func (u *UDP) LocalAddr() netip.AddrPort { return u.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// shutdownGrace is how long handlers may go on when no more requests are taken.
const shutdownGrace = 5 * time.Second

// Run reads and answers until ctx ends, and returns when all its goroutines have. Then requests that were received are still
// answered: who has carried something out says so. Handlers that take longer than a few seconds see their context end.
func (u *UDP) Run(ctx context.Context) error {
	defer u.conn.Close()
	handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { u.conn.SetReadDeadline(time.Unix(1, 0)) })
	err := u.read(ctx, handling)
	stop()
	u.mu.Lock()
	u.closed = true
	u.timer.Stop()
	u.mu.Unlock()
	u.work.Broadcast()
	defer time.AfterFunc(shutdownGrace, cancel).Stop()
	u.running.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (u *UDP) read(ctx, handling context.Context) error {
	buffer := make([]byte, maxDatagram+1)
	for {
		n, from, err := u.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return err
			}
			// An ICMP message about something sent earlier; the socket lives on.
			u.logger.Debug("coap: read", "error", err)
			continue
		}
		if n > maxDatagram {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		now := time.Now()
		u.mu.Lock()
		u.endpoint.Feed(from, buffer[:n], now)
		if u.endpoint.ready.first != nil {
			u.callWorker(handling)
		}
		u.unlock()
	}
}

// callWorker finds somebody for the request that became ready, with the lock held. When all workers are taken,
// the first to end takes it.
func (u *UDP) callWorker(ctx context.Context) {
	switch {
	case u.idle > 0:
		u.idle--
		u.work.Signal()
	case u.alive < u.workers:
		u.alive++
		u.running.Go(func() { u.serve(ctx) })
	}
}

// serve is one worker.
func (u *UDP) serve(ctx context.Context) {
	var response Response
	for {
		request := u.awaitRequest()
		if request == nil {
			return
		}
		response.Reset()
		u.handle(ctx, request, &response)
		u.mu.Lock()
		u.endpoint.Respond(request, &response, time.Now())
		u.unlock()
	}
}

// awaitRequest is nil when the worker is to end.
func (u *UDP) awaitRequest() *Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	for {
		request := u.endpoint.Next()
		if request != nil {
			return request
		}
		if u.closed || u.idle >= keptWorkers {
			u.alive--
			return nil
		}
		u.idle++
		u.work.Wait()
	}
}

// handle keeps a panic of the handler from ending more than its own request.
func (u *UDP) handle(ctx context.Context, request *Request, response *Response) {
	defer func() {
		if cause := recover(); cause != nil {
			u.logger.Error("coap: handler panicked", "cause", cause, "stack", string(debug.Stack()))
			observation := response.Observation
			response.Reset()
			response.Code, response.Observation = InternalServerError, observation
		}
	}()
	u.handler(ctx, request, response)
}

// unlock ends every use of the endpoint: the timer is set for what is due next, and observations that ended
// are told so without the lock.
func (u *UDP) unlock() {
	if !u.closed {
		if due, ok := u.endpoint.Deadline(); ok && (u.armed.IsZero() || due.Before(u.armed)) {
			u.armed = due
			u.timer.Reset(time.Until(due))
		}
	}
	ended := u.endpoint.TakeEnded()
	u.mu.Unlock()
	for _, o := range ended {
		if o.Ended != nil {
			o.Ended()
		}
	}
}

func (u *UDP) tick() {
	u.mu.Lock()
	u.armed = time.Time{}
	if !u.closed {
		u.endpoint.Tick(time.Now())
	}
	u.unlock()
}

// send ignores errors: a datagram may be lost anyway, and retransmission is the remedy for that.
func (u *UDP) send(to netip.AddrPort, datagram []byte) {
	if _, err := u.conn.WriteToUDPAddrPort(datagram, to); err != nil && !errors.Is(err, net.ErrClosed) {
		u.logger.Debug("coap: write", "error", err)
	}
}

// Notify is Endpoint.Notify.
func (u *UDP) Notify(o *Observation, response *Response) {
	u.mu.Lock()
	u.endpoint.Notify(o, response, time.Now())
	u.unlock()
}

// Stats is Endpoint.Stats.
func (u *UDP) Stats() Stats {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.endpoint.Stats()
}

// Do sends a request and waits for its response, whose Err is nil. Run must be running.
func (u *UDP) Do(ctx context.Context, to netip.AddrPort, call *Call) (*Reply, error) {
	answered := make(chan *Reply, 1)
	call.Deliver = func(r *Reply) { answered <- r }
	call.ObserveResource = false
	u.do(to, call)
	select {
	case r := <-answered:
		return r, r.Err
	case <-ctx.Done():
		u.cancel(call)
		return nil, ctx.Err()
	}
}

// Observe registers for a resource and calls each with the response and every notification, until ctx ends,
// each returns false or the peer ends it; the last reply of the peer then has Last set. A slow receiver gets
// the newest content only. Run must be running.
func (u *UDP) Observe(ctx context.Context, to netip.AddrPort, call *Call, each func(*Reply) bool) error {
	var mu sync.Mutex
	var newest *Reply
	wake := make(chan struct{}, 1)
	call.ObserveResource = true
	call.Deliver = func(r *Reply) {
		mu.Lock()
		newest = r
		mu.Unlock()
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	u.do(to, call)
	defer u.cancel(call)
	for {
		select {
		case <-wake:
			mu.Lock()
			r := newest
			newest = nil
			mu.Unlock()
			if r == nil {
				continue
			}
			if r.Err != nil {
				return r.Err
			}
			if !each(r) || r.Last {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (u *UDP) do(to netip.AddrPort, call *Call) {
	u.mu.Lock()
	u.endpoint.Do(netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), call, time.Now())
	u.unlock()
}

func (u *UDP) cancel(call *Call) {
	u.mu.Lock()
	u.endpoint.Cancel(call, time.Now())
	u.unlock()
}
