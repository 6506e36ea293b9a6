package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"fieldgate"
)

const (
	// answerPatience is how long a request waits for the one node that it went to, before it asks all; then twice as long each time.
	answerPatience = 500 * time.Millisecond
	flushTimeout   = 2 * time.Second

	maxWaiting = 4096 // requests of a subject; more are dropped, and asked again

	servers  = "fieldgate" // queue group of those that serve a subject
	everyone = ".all"      // suffix of the subject on which all of them are asked
)

// ErrNoResponder says that nobody serves the subject of a request at present.
var ErrNoResponder = errors.New("nobody answers")

// Publish sends a message to whoever subscribes to its subject at this moment.
func (b *Bus) Publish(subject string, data []byte) error {
	if err := b.usable(); err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	return b.connection.Publish(subject, data)
}

// Subscribe calls handle with each message on a subject, one after the other, until stop is called. While the bus is away
// messages are missed.
func (b *Bus) Subscribe(subject string, handle func(subject string, data []byte)) (stop func(), err error) {
	subscription, err := b.connection.Subscribe(subject, func(message *nats.Msg) { handle(message.Subject, message.Data) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	b.settle()
	return func() { subscription.Unsubscribe() }, nil
}

// settle waits for a round trip, after which the server is sure to know of a subscription. One made while the bus is away is
// sent when it is back.
func (b *Bus) settle() {
	if b.connection.IsConnected() {
		b.connection.FlushTimeout(flushTimeout)
	}
}

// Answer is what a request is answered with.
type Answer struct {
	Header map[string]string
	Data   []byte
}

// Refusal is the answer of a server that could not carry out a request.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return r.Reason }

// Serve answers requests on a subject, one after the other, until stop is called. Of several nodes that serve a subject one
// answers; a request that it leaves unanswered goes to all, so answer must bear being called more than once. An error is
// sent as a Refusal, and logged here; it must hold nothing that the requester may not know.
func (b *Bus) Serve(subject string, answer func(request []byte) (Answer, error)) (stop func(), err error) {
	requests := make(chan *nats.Msg, maxWaiting)
	one, err := b.connection.ChanQueueSubscribe(subject, servers, requests)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	all, err := b.connection.ChanSubscribe(subject+everyone, requests)
	if err != nil {
		one.Unsubscribe()
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	stopped, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case request := <-requests:
				b.answer(subject, request, answer)
			case <-stopped:
				return
			}
		}
	}()
	b.settle()
	return func() {
		one.Unsubscribe()
		all.Unsubscribe()
		close(stopped)
		<-ended
	}, nil
}

func (b *Bus) answer(subject string, request *nats.Msg, answer func(request []byte) (Answer, error)) {
	reply := nats.NewMsg(request.Reply)
	given, err := answer(request.Data)
	if err != nil {
		b.log.Warn("a request on the bus was refused", "subject", subject, "error", err)
		reply.Header.Set(fieldgate.HeaderError, err.Error())
	} else {
		reply.Data = given.Data
		for name, value := range given.Header {
			reply.Header.Set(name, value)
		}
	}
	if err := b.connection.PublishMsg(reply); err != nil {
		b.log.Error("an answer on the bus was not sent", "subject", subject, "error", err)
	}
}

// Request waits for the answer to a request until the context ends. A refused request is a *Refusal. A node that was stopped or
// killed holds a request up for half a second: then all that serve the subject are asked, and the first answer counts.
func (b *Bus) Request(ctx context.Context, subject string, data []byte) (Answer, error) {
	answer, err := b.request(ctx, subject, data)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", subject, err)
	}
	return answer, nil
}

func (b *Bus) request(ctx context.Context, subject string, data []byte) (Answer, error) {
	inbox := b.connection.NewInbox()
	replies, err := b.connection.SubscribeSync(inbox)
	if err != nil {
		return Answer{}, err
	}
	defer replies.Unsubscribe()
	// A node may be slow rather than gone: asking more often would make it slower.
	for to, patience := subject, answerPatience; ; to, patience = subject+everyone, 2*patience {
		if err := b.usable(); err != nil {
			return Answer{}, err
		}
		if err := b.connection.PublishRequest(to, inbox, data); err != nil {
			return Answer{}, err
		}
		attempt, cancel := context.WithTimeout(ctx, patience)
		reply, err := replies.NextMsgWithContext(attempt)
		cancel()
		switch {
		case err == nil:
			return readAnswer(reply)
		case errors.Is(err, nats.ErrNoResponders):
			return Answer{}, ErrNoResponder
		case ctx.Err() != nil:
			return Answer{}, ctx.Err()
		case !errors.Is(err, context.DeadlineExceeded):
			return Answer{}, err
		}
	}
}

func readAnswer(reply *nats.Msg) (Answer, error) {
	if reason := reply.Header.Get(fieldgate.HeaderError); reason != "" {
		return Answer{}, &Refusal{reason}
	}
	answer := Answer{Data: reply.Data, Header: make(map[string]string, len(reply.Header))}
	for name := range reply.Header {
		answer.Header[name] = reply.Header.Get(name)
	}
	return answer, nil
}
