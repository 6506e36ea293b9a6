package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
)

// Ask sends a request once and waits for its answer until the context ends. Unlike Request it never sends it again: for what must not be
// carried out twice. ErrNoResponder says that nobody has got it.
func (b *Bus) Ask(ctx context.Context, subject string, data []byte) (Answer, error) {
	answer, err := b.ask(ctx, subject, data)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", subject, err)
	}
	return answer, nil
}

func (b *Bus) ask(ctx context.Context, subject string, data []byte) (Answer, error) {
	if err := b.usable(); err != nil {
		return Answer{}, err
	}
	inbox := b.connection.NewInbox()
	replies, err := b.connection.SubscribeSync(inbox)
	if err != nil {
		return Answer{}, err
	}
	defer replies.Unsubscribe()
	if err := b.connection.PublishRequest(subject, inbox, data); err != nil {
		return Answer{}, err
	}
	reply, err := replies.NextMsgWithContext(ctx)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return Answer{}, ErrNoResponder
	case err != nil:
		return Answer{}, err
	}
	return readAnswer(reply)
}

// ServeEach answers what others Ask on a subject until stop is called, up to most at the same time: for answers that take long. What
// comes while all are busy is refused. stop ends the context of those under way, and returns when they have ended.
func (b *Bus) ServeEach(subject string, most int, answer func(ctx context.Context, request []byte) (Answer, error)) (stop func(), err error) {
	requests := make(chan *nats.Msg, maxWaiting)
	subscription, err := b.connection.ChanSubscribe(subject, requests)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		busy := make(chan struct{}, most)
		for {
			select {
			case <-ctx.Done():
				return
			case request := <-requests:
				select {
				case busy <- struct{}{}:
					running.Go(func() {
						defer func() { <-busy }()
						b.answer(subject, request, func(data []byte) (Answer, error) { return answer(ctx, data) })
					})
				default:
					b.answer(subject, request, func([]byte) (Answer, error) { return Answer{}, errBusy })
				}
			}
		}
	})
	b.settle()
	return func() {
		subscription.Unsubscribe()
		cancel()
		running.Wait()
	}, nil
}

var errBusy = errors.New("as many requests as may be are under way")
