package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of Put and Latest.
var (
	// ErrChanged says that the newest message of a subject is another one than the one that was to be followed.
	ErrChanged = errors.New("the newest message of the subject is another one")
	// ErrFull says that the stream takes no more for now.
	ErrFull = errors.New("the stream is full")
	// ErrNone says that the subject has no message.
	ErrNone = errors.New("the subject has no message")
)

// Codes of a stream that is full.
const (
	codeStoreFailed       jetstream.ErrorCode = 10077
	codeResourcesExceeded jetstream.ErrorCode = 10047
)

// Value is the newest message of a subject.
type Value struct {
	Sequence uint64
	Data     []byte
	Age      time.Duration // by the clocks of the servers; nobody else's counts
}

// Put stores a message of a stream with Latest, if the newest of its subject is the one with the sequence after; 0: if there is none.
// It is gone after ttl, which is rounded up to seconds. Whatever comes of it is known when it returns, or the context ends: an error
// other than ErrChanged, ErrFull, ErrRefused and ErrUnavailable leaves open whether the message was stored.
func (b *Bus) Put(ctx context.Context, subject string, data []byte, after uint64, ttl time.Duration) (sequence uint64, err error) {
	if err := b.usable(); err != nil {
		return 0, fmt.Errorf("put %s: %w", subject, err)
	}
	stored, err := b.streams.Publish(ctx, subject, data, jetstream.WithExpectLastSequencePerSubject(after), jetstream.WithMsgTTL(wholeSeconds(ttl)),
		jetstream.WithRetryAttempts(0))
	switch {
	case err == nil:
		return stored.Sequence, nil
	case refusedWith(err, jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant):
		err = ErrChanged
	case refusedWith(err, codeStoreFailed, codeResourcesExceeded, codeInsufficientResources):
		err = fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errors.As(err, new(*jetstream.APIError)):
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return 0, fmt.Errorf("put %s: %w", subject, err)
}

// Latest is the newest message of a subject, or ErrNone.
func (b *Bus) Latest(ctx context.Context, stream, subject string) (Value, error) {
	if err := b.usable(); err != nil {
		return Value{}, fmt.Errorf("latest of %s: %w", subject, err)
	}
	from, err := b.streams.Stream(ctx, stream)
	if err != nil {
		return Value{}, fmt.Errorf("latest of %s: %w", subject, err)
	}
	message, err := from.GetLastMsgForSubject(ctx, subject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return Value{}, fmt.Errorf("latest of %s: %w", subject, ErrNone)
	case err != nil:
		return Value{}, fmt.Errorf("latest of %s: %w", subject, err)
	}
	return Value{Sequence: message.Sequence, Data: message.Data, Age: from.CachedInfo().TimeStamp.Sub(message.Time)}, nil
}

// PutSoon is Put for what is no loss when it does not come about: it waits for nothing.
func (b *Bus) PutSoon(subject string, data []byte, after uint64, ttl time.Duration) error {
	if err := b.usable(); err != nil {
		return fmt.Errorf("put %s: %w", subject, err)
	}
	message := nats.NewMsg(subject)
	message.Data = data
	message.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(after, 10))
	message.Header.Set(jetstream.MsgTTLHeader, wholeSeconds(ttl).String())
	return b.connection.PublishMsg(message)
}

// wholeSeconds is a time as servers count it.
func wholeSeconds(ttl time.Duration) time.Duration {
	return max((ttl + time.Second - 1).Truncate(time.Second), time.Second)
}
