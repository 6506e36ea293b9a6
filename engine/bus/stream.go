package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Stream says what a stream keeps. What exceeds a bound is discarded, oldest first.
type Stream struct {
	Name     string
	Subjects []string
	MaxBytes int64
	MaxAge   time.Duration
}

// StreamState is what a stream holds at a moment. Created tells one stream from another of the same name.
type StreamState struct {
	Created     time.Time
	First, Last uint64 // sequences; First is Last + 1 when it is empty
	Messages    uint64
	Bytes       uint64
}

// Entry is a message of a stream.
type Entry struct {
	Sequence uint64
	Subject  string
	Data     []byte
}

const (
	appendTimeout = 5 * time.Second        // for one attempt
	appendPause   = 100 * time.Millisecond // before the next
	readPause     = time.Second
	readIdle      = 5 * time.Second // one request for messages waits so long

	consumerExpiry = time.Minute // of the server's side of a reader that is gone
)

// Keep creates the stream, or adapts the bounds of the one that is there.
func (b *Bus) Keep(ctx context.Context, stream Stream) (StreamState, error) {
	_, err := b.streams.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:       stream.Name,
		Subjects:   stream.Subjects,
		Storage:    jetstream.FileStorage,
		Discard:    jetstream.DiscardOld,
		MaxBytes:   stream.MaxBytes,
		MaxAge:     stream.MaxAge,
		Duplicates: time.Minute, // Append repeats within it
	})
	if err != nil {
		return StreamState{}, fmt.Errorf("stream %s: %w", stream.Name, err)
	}
	return b.State(ctx, stream.Name)
}

// State is what the stream holds.
func (b *Bus) State(ctx context.Context, name string) (StreamState, error) {
	stream, err := b.streams.Stream(ctx, name)
	if err != nil {
		return StreamState{}, fmt.Errorf("stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	return StreamState{Created: info.Created, First: info.State.FirstSeq, Last: info.State.LastSeq, Messages: info.State.Msgs,
		Bytes: info.State.Bytes}, nil
}

// Append stores a message in the stream that keeps its subject and returns when it is stored. It tries again until the
// context ends, so that messages appended by one goroutine stand in their order. id names the message: the same id within
// a minute is stored once.
func (b *Bus) Append(ctx context.Context, subject, id string, data []byte) error {
	for {
		err := b.appendOnce(ctx, subject, id, data)
		if err == nil {
			return nil
		}
		var refused *jetstream.APIError
		if errors.As(err, &refused) && refused.Code < 500 || errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrConnectionClosed) {
			return fmt.Errorf("append to %s: %w", subject, err)
		}
		// A stall, a time-out or a store that is full for the moment is back-pressure: wait and try again.
		b.log.Warn("a message could not be stored yet", "subject", subject, "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("append to %s: %w", subject, errors.Join(ctx.Err(), err))
		case <-time.After(appendPause):
		}
	}
}

func (b *Bus) appendOnce(ctx context.Context, subject, id string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	_, err := b.streams.Publish(ctx, subject, data, jetstream.WithMsgID(id))
	return err
}

// Read hands all messages of a stream from a sequence on, in their order and without gaps but for what the stream has
// discarded, to handle: as many at once as are there, at the most batch. It returns when the context ends or with the
// error of handle; whatever else happens it tries again. Where it stands is for the caller to keep, best in the
// transaction that uses the messages.
func (b *Bus) Read(ctx context.Context, stream string, from uint64, batch int, handle func([]Entry) error) error {
	r := reader{bus: b, stream: stream, next: max(from, 1), batch: batch, handle: handle}
	for {
		err := r.run(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if r.refused != nil {
			return r.refused
		}
		b.log.Warn("reading a stream is delayed", "stream", stream, "next", r.next, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readPause):
		}
	}
}

// reader is one call of Read.
type reader struct {
	bus     *Bus
	stream  string
	next    uint64 // sequence
	batch   int
	handle  func([]Entry) error
	refused error // by handle
}

var errGap = errors.New("a message was not delivered")

// run reads with one consumer of the server until something fails. The consumer needs no acknowledgements: the reader
// itself sees to it that nothing is missing.
func (r *reader) run(ctx context.Context) error {
	consumer, err := r.bus.streams.CreateConsumer(ctx, r.stream, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.next,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		InactiveThreshold: consumerExpiry,
	})
	if err != nil {
		return err
	}
	for {
		fetched, err := consumer.Fetch(r.batch, jetstream.FetchMaxWait(readIdle))
		if err != nil {
			return err
		}
		if err := r.take(ctx, fetched.Messages()); err != nil {
			return err
		}
		if err := fetched.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
			return err
		}
	}
}

// take handles what one fetch brings, in as many pieces as it arrives in.
func (r *reader) take(ctx context.Context, messages <-chan jetstream.Msg) error {
	var entries []Entry
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case message, open := <-messages:
			if !open {
				return nil
			}
			entries = entries[:0]
			for more := true; more; {
				metadata, err := message.Metadata()
				if err != nil {
					return err
				}
				entries = append(entries, Entry{Sequence: metadata.Sequence.Stream, Subject: message.Subject(), Data: message.Data()})
				select {
				case message, more = <-messages:
				default:
					more = false
				}
			}
		}
		if err := r.check(ctx, entries); err != nil {
			return err
		}
		if err := r.handle(entries); err != nil {
			r.refused = err
			return err
		}
		r.next = entries[len(entries)-1].Sequence + 1
	}
}

// check makes sure that nothing is missing but what the stream has discarded, which is only ever its beginning.
func (r *reader) check(ctx context.Context, entries []Entry) error {
	for i, entry := range entries {
		if entry.Sequence == r.next+uint64(i) {
			continue
		}
		state, err := r.bus.State(ctx, r.stream)
		if err != nil {
			return err
		}
		if i > 0 || state.First < entry.Sequence {
			return fmt.Errorf("%w: %d came instead of %d", errGap, entry.Sequence, r.next+uint64(i))
		}
		r.next = entry.Sequence
	}
	return nil
}
