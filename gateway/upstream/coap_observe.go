package upstream

import (
	"context"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/protocol/coap"
	"fieldgate/protocol/h1"
)

var errNotObservable = fieldgate.NewProblem(fieldgate.ProblemUpstreamInvalid, "Only services that speak CoAP can be observed.")

// Observe registers for a resource of a service that speaks CoAP (RFC 7641), and calls each with what it is now and whenever it has changed, of
// changes that come faster than each returns with the newest. It returns when ctx ends, with nil; when the service ends it, with nil too, for it may be
// registered for again: after fresh, how long what it said last holds; or with a *fieldgate.Problem when there was no answer. An answer that is no
// success goes to each as well, and is the last.
func (u *Upstream) Observe(ctx context.Context, request *Request, each func(*Response)) (fresh time.Duration, err error) {
	call, refusal := newCall(request)
	if refusal != nil {
		return 0, refusal
	}
	now := time.Now()
	a := u.choose(now, &call.Choice, &tried{})
	if a == nil {
		return 0, problem(u.refusal(now))
	}
	if !a.scheme.CoAP() {
		return 0, errNotObservable
	}
	o := &observation{wake: make(chan struct{}, 1)}
	if refusal := call.coapRequest(a, &o.call); refusal != nil {
		return 0, refusal
	}
	a.begin()
	settled := false
	settle := func(how outcome, why cause) { // the call, which has ended with the first answer
		if !settled {
			a.end(time.Now(), time.Since(now), how, why)
		}
		settled = true
	}
	defer settle(cancelled, cause{})
	link, err := a.coapLink(ctx, now.Add(u.Config.ConnectTimeout))
	if err != nil {
		settle(unreachable, cause{err: err, after: time.Since(now)})
		return 0, problem(err)
	}
	defer link.leave()
	o.call.Body, o.call.ObserveResource, o.call.Deliver = request.Body, true, o.deliver
	link.observe(&o.call)
	defer link.cancelObservation(&o.call)
	for {
		select {
		case <-ctx.Done():
			return 0, nil
		case <-o.wake:
		}
		reply := o.take()
		err := coapFailure(reply.Err)
		var response *Response
		if err == nil {
			response, err = observed(reply)
		}
		if err != nil {
			settle(broken, cause{err: err})
			return 0, problem(err)
		}
		settle(answered, cause{})
		each(response)
		if reply.Last {
			age, given := reply.Uint(coap.MaxAge)
			if !given {
				age = defaultMaxAge
			}
			return time.Duration(age) * time.Second, nil
		}
	}
}

// observation is what the endpoint has heard of a resource.
type observation struct {
	call coap.Call
	wake chan struct{} // holds a token while newest is to be taken

	mu     sync.Mutex
	newest *coap.Reply
}

// deliver is called inside the endpoint.
func (o *observation) deliver(reply *coap.Reply) {
	o.mu.Lock()
	o.newest = reply
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *observation) take() *coap.Reply {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.newest
}

// observed is a notification as the answer to a GET.
func observed(reply *coap.Reply) (*Response, error) {
	var head h1.Response
	var body h1.Body
	if err := coapAnswer("GET", false, reply, &head, &body); err != nil {
		return nil, err
	}
	response := &Response{Status: head.Status}
	for i := range head.Fields {
		response.Fields = append(response.Fields, Field{Name: string(head.Fields[i].Name), Value: string(head.Fields[i].Value)})
	}
	var err error
	response.Body, err = body.ReadAll(nil, MaxBufferedAnswer)
	return response, err
}

func (l *coapLink) observe(call *coap.Call) {
	l.mu.Lock()
	defer l.unlock()
	if l.closed {
		call.Deliver(&coap.Reply{Err: errNoAnswer, Last: true})
		return
	}
	if l.stream != nil {
		l.stream.Start(call)
		return
	}
	l.observed[call] = struct{}{}
	l.endpoint.Do(l.peer, call, time.Now())
}

func (l *coapLink) cancelObservation(call *coap.Call) {
	l.mu.Lock()
	defer l.unlock()
	if l.stream != nil {
		l.stream.Cancel(call)
		return
	}
	if _, there := l.observed[call]; there {
		delete(l.observed, call)
		l.endpoint.Cancel(call, time.Now())
	}
}
