package upstream

import (
	"context"
	"io"
	"sync"

	"fieldgate"
)

// maxMirrors bounds the copies that are under way to one upstream.
const maxMirrors = 64

// mirrors are the copies of requests under way to all upstreams.
type mirrors struct {
	context context.Context
	stop    context.CancelFunc

	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup
}

// Mirror sends a copy of a request, and reads and drops its answer. It returns at once; the request, with all that it refers to, must
// not be changed any more. A copy is dropped, and counted, when maxMirrors are under way to the upstream. It is sent once, as
// background traffic, and its failure is told to nobody.
func (s *Set) Mirror(u *Upstream, request *Request) {
	if u.mirroring.Add(1) > maxMirrors || !s.mirrors.begin() {
		u.mirroring.Add(-1)
		u.mirrorDropped.Add(1)
		return
	}
	go func() {
		defer s.mirrors.running.Done()
		defer u.mirroring.Add(-1)
		s.mirrors.send(u, request) // whatever comes of it: the exchange that counts is the original
	}()
}

func (m *mirrors) send(u *Upstream, request *Request) {
	call, problem := newCall(request)
	if problem != nil {
		return
	}
	call.Context, call.Handle = m.context, new(Handle)
	call.Retry, call.Hedge, call.Priority = nil, 0, fieldgate.PriorityBackground
	stop := context.AfterFunc(m.context, call.Handle.Cut)
	defer stop()
	if call.Send(u) != nil {
		return
	}
	defer call.End()
	if call.Answer() == nil {
		io.CopyN(io.Discard, call.Body(), MaxBufferedAnswer)
	}
}

// begin counts a copy; false: the set has ended.
func (m *mirrors) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ended {
		m.running.Add(1)
	}
	return !m.ended
}

// end cuts the copies under way and waits for them. None is sent afterwards.
func (m *mirrors) end() {
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.stop()
	m.running.Wait()
}
