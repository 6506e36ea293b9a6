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
	readIdle      = 5 * time.Second // between heartbeats of an idle stream
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
// error of handle. Where it stands is for the caller to keep, best in the transaction that uses the messages.
func (b *Bus) Read(ctx context.Context, stream string, from uint64, batch int, handle func([]Entry) error) error {
	consumer, err := b.streams.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   max(from, 1),
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(batch), jetstream.PullHeartbeat(readIdle))
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	defer messages.Stop()

	arrived := make(chan Entry, batch)
	failed := make(chan error, 1)
	go func() {
		defer close(arrived)
		for {
			message, err := messages.Next(jetstream.NextContext(ctx))
			if err == nil {
				var metadata *jetstream.MsgMetadata
				if metadata, err = message.Metadata(); err == nil {
					select {
					case arrived <- Entry{Sequence: metadata.Sequence.Stream, Subject: message.Subject(), Data: message.Data()}:
						continue
					case <-ctx.Done():
						return
					}
				}
			}
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, jetstream.ErrNoHeartbeat) || errors.Is(err, jetstream.ErrOrderedConsumerReset) {
				b.log.Warn("reading a stream is delayed", "stream", stream, "error", err)
				time.Sleep(readPause)
				continue
			}
			failed <- err
			return
		}
	}()
	// The goroutine above ends before Read does: it sees the end of ctx, or of messages.
	defer func() {
		messages.Stop()
		for range arrived {
		}
	}()

	entries := make([]Entry, 0, batch)
	for {
		entries = entries[:0]
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, open := <-arrived:
			if !open {
				select {
				case err := <-failed:
					return fmt.Errorf("read %s: %w", stream, err)
				default:
					return ctx.Err()
				}
			}
			entries = append(entries, entry)
		}
		for more := true; more && len(entries) < batch; {
			select {
			case entry, open := <-arrived:
				if more = open; open {
					entries = append(entries, entry)
				}
			default:
				more = false
			}
		}
		if err := handle(entries); err != nil {
			return err
		}
	}
}
