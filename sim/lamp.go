package sim

import (
	"context"
	"sync"
	"time"

	"fieldgate/protocol/coap"
)

// lampLinks are what a lamp offers, in link format (RFC 6690).
const lampLinks = `</time>;rt="clock",</example_data>;rt="note"`

// lamp is what a lamp answers to who asks it.
type lamp struct {
	asked *tally

	mu   sync.Mutex
	note []byte
}

func newLamp(t *tally) *lamp { return &lamp{asked: t} }

func (l *lamp) answer(request *coap.Request, response *coap.Response) func(context.Context) {
	l.asked.received()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch path := request.Path(); {
	case path == "/time" && request.Code == coap.GET:
		response.Body = []byte(time.Now().Format(time.DateTime))
	case path == "/example_data" && request.Code == coap.GET:
		response.Body = append([]byte(nil), l.note...)
	case path == "/example_data" && request.Code == coap.PUT:
		l.note = append(l.note[:0], request.Body...)
		response.Code = coap.Changed
		return nil
	case path == "/time" || path == "/example_data":
		response.Code = coap.MethodNotAllowed
		return nil
	default:
		response.Code = coap.NotFound
		return nil
	}
	response.Options.AddUint(coap.ContentFormat, coap.TextPlain)
	return nil
}
