package coap

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Handler answers a request by filling the response. It runs on the goroutine that received the request and must not wait for
// anything. What may take longer it gives back as a function, which fills the same response on a worker; only further
// requests of the same peer wait for that.
type Handler func(request *Request, response *Response) (wait func(ctx context.Context))

// Waiting is a Handler that has all requests answered by workers.
func Waiting(handle func(ctx context.Context, request *Request, response *Response)) Handler {
	return func(request *Request, response *Response) func(context.Context) {
		return func(ctx context.Context) { handle(ctx, request, response) }
	}
}

// Outgoing takes datagrams on their way to the network. One goroutine uses it at a time.
type Outgoing interface {
	// Add takes a copy of a datagram. It must not call the Server.
	Add(to netip.AddrPort, datagram []byte)
	// Flush puts what was added on the network.
	Flush()
}

// Server is what Endpoints need to serve: clock, locks and workers. A transport brings it datagrams and takes those that are sent.
// Peers are spread over several Endpoints by their addresses, so that many goroutines receive and answer side by side. It is safe for
// concurrent use.
type Server struct {
	handler   Handler
	logger    *slog.Logger
	seed      maphash.Seed
	shards    []*shard  // a power of two
	receivers sync.Pool // of *Receiver, for goroutines that are not the transport's
	responses sync.Pool // of *Response

	registering sync.Mutex // guards what is notified before anybody observes

	running  sync.WaitGroup // workers
	handling context.Context

	mu             sync.Mutex
	work           sync.Cond // a request waits for a worker, or closed
	known, unknown queue     // that wait for a worker: of strangers those of unknown
	strangers      int       // requests of strangers that workers are at
	workers        int       // at the most
	alive          int
	idle           int // workers that wait and have not been called
	closed         bool
}

// queue is requests in the order in which they came.
type queue struct{ first, last *Request }

func (q *queue) push(r *Request) {
	if q.last == nil {
		q.first = r
	} else {
		q.last.next = r
	}
	q.last = r
}

func (q *queue) pop() *Request {
	r := q.first
	q.first, r.next = r.next, nil
	if q.first == nil {
		q.last = nil
	}
	return r
}

// shard is one Endpoint with its lock.
type shard struct {
	mu       sync.Mutex
	endpoint *Endpoint
	out      Outgoing // of the goroutine that holds mu
	timer    *time.Timer
	armed    time.Time // when timer fires; zero when it is not running
	closed   bool
}

const (
	maxShards   = 16
	keptWorkers = 8       // that wait for work; above it they end. A burst costs goroutines only while it lasts
	quickBody   = 4 << 10 // bytes of a request above which a worker answers it: checking it takes long
)

// shutdownGrace is how long handlers may go on when no more requests are taken.
const shutdownGrace = 5 * time.Second

// NewServer makes a Server. Config.Send and Config.Seed are set here; limits of all peers together are divided among the Endpoints.
// Without a handler every request is answered 5.01; workers is how many requests may wait for something at a time. Datagrams
// leave by what outgoing makes.
func NewServer(config Config, workers int, handler Handler, logger *slog.Logger, outgoing func() Outgoing) (*Server, error) {
	s := &Server{handler: handler, workers: workers, logger: logger, seed: maphash.MakeSeed()}
	s.work.L = &s.mu
	s.receivers.New = func() any { return s.Receiver(outgoing()) }
	s.responses.New = func() any { return new(Response) }
	number := 1
	if handler == nil {
		s.handler = func(_ *Request, response *Response) func(context.Context) {
			response.Code = NotImplemented
			return nil
		}
	} else {
		for number < min(runtime.GOMAXPROCS(0), maxShards) {
			number *= 2
		}
	}
	config = config.withDefaults().divided(number)
	now := time.Now()
	for range number {
		if _, err := rand.Read(config.Seed[:]); err != nil {
			return nil, fmt.Errorf("seed: %w", err)
		}
		sh := new(shard)
		config.Send = func(to netip.AddrPort, datagram []byte) { sh.out.Add(to, datagram) }
		sh.endpoint = NewEndpoint(config, now)
		sh.timer = time.AfterFunc(time.Hour, func() { s.tick(sh) })
		sh.timer.Stop()
		s.shards = append(s.shards, sh)
	}
	return s, nil
}

// divided is each of several Endpoints' part of what all peers share.
func (c Config) divided(by int) Config {
	for _, limit := range []*int{&c.MaxPeers, &c.MaxRequests, &c.MaxTransmissions, &c.ReceptionBytes, &c.TransferBytes, &c.MaxObservations} {
		*limit = (*limit + by - 1) / by
	}
	return c
}

func (s *Server) shard(peer netip.AddrPort) *shard {
	return s.shards[hashOf(s.seed, peer)&uint64(len(s.shards)-1)]
}

// Run has receive bring datagrams, which is to return when ctx ends, or when it cannot go on. Then requests that were received
// are still answered: who has carried something out says so. Handlers that take longer than a few seconds see their context
// end. It returns when all workers have.
func (s *Server) Run(ctx context.Context, receive func() error) error {
	handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.handling = handling
	err := receive()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.work.Broadcast()
	for _, sh := range s.shards {
		sh.mu.Lock()
		sh.closed = true
		sh.timer.Stop()
		sh.mu.Unlock()
	}
	defer time.AfterFunc(shutdownGrace, cancel).Stop()
	s.running.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Receiver feeds datagrams for one goroutine.
type Receiver struct {
	server   *Server
	out      Outgoing
	response *Response
}

// Receiver makes one whose answers go to out. It is for its owner to flush out.
func (s *Server) Receiver(out Outgoing) *Receiver {
	return &Receiver{server: s, out: out, response: s.responses.Get().(*Response)}
}

// Feed takes one datagram, which is not kept, and answers it, unless the handler leaves that to a worker.
func (r *Receiver) Feed(from netip.AddrPort, datagram []byte, now time.Time) {
	sh := r.server.shard(from)
	r.lock(sh)
	sh.endpoint.Feed(from, datagram, now)
	r.serve(sh)
}

// Feed takes a datagram from a goroutine that has no Receiver.
func (s *Server) Feed(from netip.AddrPort, datagram []byte) {
	r := s.receivers.Get().(*Receiver)
	r.Feed(from, datagram, time.Now())
	r.out.Flush()
	s.receivers.Put(r)
}

func (r *Receiver) lock(sh *shard) {
	sh.mu.Lock()
	sh.out = r.out
}

// unlock ends every use of an Endpoint: the timer is set for what is due next, and observations that ended are told so without the lock.
func (r *Receiver) unlock(sh *shard) {
	if !sh.closed {
		if due, ok := sh.endpoint.Deadline(); ok && (sh.armed.IsZero() || due.Before(sh.armed)) {
			sh.armed = due
			sh.timer.Reset(time.Until(due))
		}
	}
	ended := sh.endpoint.TakeEnded()
	sh.out = nil
	sh.mu.Unlock()
	for _, o := range ended {
		if o.Ended != nil {
			o.Ended()
		}
	}
}

// serve answers the requests that may be answered now, and unlocks.
func (r *Receiver) serve(sh *shard) {
	for request := sh.endpoint.Next(); request != nil; request = sh.endpoint.Next() {
		sh.mu.Unlock()
		request.shard, request.response = sh, r.response
		r.response.Reset()
		if len(request.Body) <= quickBody {
			r.server.answer(request)
		} else {
			request.wait = r.server.answerLong(request)
		}
		if request.wait != nil {
			r.response = r.server.responses.Get().(*Response)
			r.server.leave(request)
			r.lock(sh)
			continue
		}
		r.lock(sh)
		r.server.respond(request)
	}
	r.unlock(sh)
}

// answer asks the handler.
func (s *Server) answer(request *Request) {
	defer s.recover(request)
	request.wait = s.handler(request, request.response)
}

// answerLong asks the handler on a worker.
func (s *Server) answerLong(request *Request) func(context.Context) {
	return func(ctx context.Context) {
		if wait := s.handler(request, request.response); wait != nil {
			wait(ctx)
		}
	}
}

// wait does what the handler has given back.
func (s *Server) wait(request *Request) {
	defer s.recover(request)
	request.wait(s.handling)
}

// recover keeps a panic of the handler from ending more than its own request.
func (s *Server) recover(request *Request) {
	if cause := recover(); cause != nil {
		s.logger.Error("coap: handler panicked", "cause", cause, "stack", string(debug.Stack()))
		observation := request.response.Observation
		request.response.Reset()
		request.response.Code, request.response.Observation = InternalServerError, observation
	}
}

// respond sends the response of a request whose shard is locked.
func (s *Server) respond(request *Request) {
	if o := request.response.Observation; o != nil {
		s.registering.Lock()
		o.home.Store(request.shard)
		s.registering.Unlock()
	}
	request.shard.endpoint.Respond(request, request.response, time.Now())
}

// leave gives a request to a worker. When all are taken, the first that ends its work takes it.
func (s *Server) leave(request *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if request.stranger {
		s.unknown.push(request)
	} else {
		s.known.push(request)
	}
	s.call()
}

// call has one more worker come if it has something to do.
func (s *Server) call() {
	switch {
	case !s.waits():
	case s.idle > 0:
		s.idle--
		s.work.Signal()
	case s.alive < s.workers:
		s.alive++
		s.running.Go(s.worker)
	}
}

// waits tells whether a worker has something to do. Strangers have half of the workers, so that nobody waits for what they have asked.
func (s *Server) waits() bool {
	return s.known.first != nil || s.unknown.first != nil && s.strangers < (s.workers+1)/2
}

func (s *Server) worker() {
	for {
		request := s.await()
		if request == nil {
			return
		}
		s.wait(request)
		response, stranger := request.response, request.stranger
		sh := request.shard
		r := s.lock(sh)
		s.respond(request)
		r.serve(sh)
		response.Reset() // of its body
		s.responses.Put(response)
		r.out.Flush()
		s.receivers.Put(r)
		if stranger {
			s.strangerServed()
		}
	}
}

// strangerServed lets another stranger have the place of one.
func (s *Server) strangerServed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strangers--
	if s.unknown.first != nil {
		s.call()
	}
}

// await gives a worker its next request; nil: it is to end.
func (s *Server) await() *Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.known.first != nil:
			return s.known.pop()
		case s.waits():
			s.strangers++
			return s.unknown.pop()
		}
		if s.closed || s.idle >= keptWorkers {
			s.alive--
			return nil
		}
		s.idle++
		s.work.Wait()
	}
}

// lock gives a Receiver that has locked a shard. To be given back by unlock. It is taken when it is its turn: a thousand that wait would
// take 70 MB.
func (s *Server) lock(sh *shard) *Receiver {
	sh.mu.Lock()
	r := s.receivers.Get().(*Receiver)
	sh.out = r.out
	return r
}

func (s *Server) unlock(sh *shard, r *Receiver) {
	r.unlock(sh)
	r.out.Flush()
	s.receivers.Put(r)
}

func (s *Server) tick(sh *shard) {
	r := s.lock(sh)
	sh.armed = time.Time{}
	if !sh.closed {
		sh.endpoint.Tick(time.Now())
	}
	s.unlock(sh, r)
}

// Notify is Endpoint.Notify.
func (s *Server) Notify(o *Observation, response *Response) {
	r := s.receivers.Get().(*Receiver)
	r.Notify(o, response)
	r.Flush()
	s.receivers.Put(r)
}

// Notifier gives a Receiver to a goroutine that notifies many observers: what it sends leaves together, when it is a batch or at Flush.
func (s *Server) Notifier() *Receiver { return s.receivers.Get().(*Receiver) }

// Notify is Endpoint.Notify. What is sent leaves at Flush, if not before.
func (r *Receiver) Notify(o *Observation, response *Response) {
	sh := o.home.Load()
	if sh == nil {
		r.server.registering.Lock()
		if sh = o.home.Load(); sh == nil { // the request that registers has not been answered
			o.keep(response)
		}
		r.server.registering.Unlock()
		if sh == nil {
			return
		}
	}
	r.lock(sh)
	sh.endpoint.Notify(o, response, time.Now())
	r.unlock(sh)
}

// Flush puts on the network what has not left yet.
func (r *Receiver) Flush() { r.out.Flush() }

// Inspect lets look see each Endpoint, one after the other; its traffic waits meanwhile.
func (s *Server) Inspect(look func(*Endpoint)) {
	for _, sh := range s.shards {
		r := s.lock(sh)
		look(sh.endpoint)
		s.unlock(sh, r)
	}
}

// Gone is Endpoint.Gone.
func (s *Server) Gone(peer netip.AddrPort) {
	sh := s.shard(peer)
	r := s.lock(sh)
	sh.endpoint.Gone(peer, time.Now())
	s.unlock(sh, r)
}

// Stats are those of all Endpoints together.
func (s *Server) Stats() Stats {
	var all Stats
	for _, sh := range s.shards {
		sh.mu.Lock()
		all.Add(sh.endpoint.Stats())
		sh.mu.Unlock()
	}
	return all
}

// Do sends a request and waits for its response, whose Err is nil. Run must be running.
func (s *Server) Do(ctx context.Context, to netip.AddrPort, call *Call) (*Reply, error) {
	answered := make(chan *Reply, 1)
	call.Deliver = func(r *Reply) { answered <- r }
	call.ObserveResource = false
	s.do(to, call)
	select {
	case r := <-answered:
		return r, r.Err
	case <-ctx.Done():
		s.cancel(to, call)
		return nil, ctx.Err()
	}
}

// Observe registers for a resource and calls each with the response and every notification, until ctx ends,
// each returns false or the peer ends it; the last reply of the peer then has Last set. A slow receiver gets
// the newest content only. Run must be running.
func (s *Server) Observe(ctx context.Context, to netip.AddrPort, call *Call, each func(*Reply) bool) error {
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
	s.do(to, call)
	defer s.cancel(to, call)
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

func (s *Server) do(to netip.AddrPort, call *Call) {
	to = canonical(to)
	sh := s.shard(to)
	r := s.lock(sh)
	sh.endpoint.Do(to, call, time.Now())
	s.unlock(sh, r)
}

func (s *Server) cancel(to netip.AddrPort, call *Call) {
	sh := s.shard(canonical(to))
	r := s.lock(sh)
	sh.endpoint.Cancel(call, time.Now())
	s.unlock(sh, r)
}
