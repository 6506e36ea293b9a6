package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Stream says what a stream keeps. What exceeds a bound is discarded, oldest first, unless it keeps the Latest.
type Stream struct {
	Name     string
	Subjects []string
	MaxBytes int64
	MaxAge   time.Duration
	Latest   bool // only the newest message of each subject, for a time of its own (Put); nothing is discarded to make room
}

// StreamState is what a stream holds at a moment. Created tells one stream from another of the same name.
type StreamState struct {
	Created     time.Time
	First, Last uint64 // sequences; First is Last + 1 when it is empty
	Messages    uint64
	Bytes       uint64
	Asked       time.Time // by the clocks of the servers
}

// Entry is a message of a stream.
type Entry struct {
	Sequence uint64
	Subject  string
	Data     []byte
	Age      time.Duration // with Follow: by the clocks of the servers, when it came
}

const (
	appendTimeout  = 2 * time.Second        // for one attempt
	appendPause    = 100 * time.Millisecond // before the second attempt; then more
	maxAppendPause = time.Second

	readTimeout   = 2 * time.Second // to begin
	readPause     = time.Second
	readIdle      = 5 * time.Second // one request for messages waits so long
	readHeartbeat = time.Second     // a reader whose server is silent for two of them looks for another

	consumerExpiry = time.Minute // of the server's side of a reader that is gone

	wantedReplicas = 3 // of a stream, where the cluster has as many servers with JetStream
	keepAttempts   = 3
)

// Codes of the server, of those that package jetstream does not name.
const (
	codeNoPeers               jetstream.ErrorCode = 10005
	codeInsufficientResources jetstream.ErrorCode = 10023
	codeReplicasNotSupported  jetstream.ErrorCode = 10074
	codeMessageTooLarge       jetstream.ErrorCode = 10054
)

// Errors of streams.
var (
	// ErrRefused says that a message will never be taken by the stream.
	ErrRefused = errors.New("the stream takes no such message")
	// ErrReplaced says that the stream is no longer the one that was read: it was deleted and made anew, or lost its end.
	ErrReplaced = errors.New("the stream was replaced, or lost its end, while it was read")
)

func refusedWith(err error, codes ...jetstream.ErrorCode) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) && slices.Contains(codes, refused.ErrorCode)
}

// Keep creates the stream, or adapts the bounds of the one that is there. On a cluster it has three replicas as soon as three
// servers can hold them, and one until then.
func (b *Bus) Keep(ctx context.Context, stream Stream) (StreamState, error) {
	if err := b.usable(); err != nil {
		return StreamState{}, fmt.Errorf("stream %s: %w", stream.Name, err)
	}
	if err := b.keep(ctx, stream); err != nil {
		return StreamState{}, fmt.Errorf("stream %s: %w", stream.Name, err)
	}
	return b.State(ctx, stream.Name)
}

func (b *Bus) keep(ctx context.Context, stream Stream) error {
	config := jetstream.StreamConfig{
		Name:       stream.Name,
		Subjects:   stream.Subjects,
		Storage:    jetstream.FileStorage,
		Discard:    jetstream.DiscardOld,
		MaxBytes:   stream.MaxBytes,
		MaxAge:     stream.MaxAge,
		Duplicates: time.Minute, // Append repeats within it
		Replicas:   1,
	}
	if stream.Latest {
		config.Discard, config.MaxMsgsPerSubject, config.AllowMsgTTL = jetstream.DiscardNew, 1, true
	}
	if there, err := b.streams.Stream(ctx, stream.Name); err == nil {
		config.Replicas = max(there.CachedInfo().Config.Replicas, 1)
	} else if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if b.connection.ConnectedClusterName() == "" || config.Replicas >= wantedReplicas {
		return b.createOrUpdate(ctx, config)
	}
	wider := config
	wider.Replicas = wantedReplicas
	err := b.createOrUpdate(ctx, wider)
	few := refusedWith(err, codeNoPeers, codeInsufficientResources, codeReplicasNotSupported)
	b.mu.Lock()
	_, said := b.growing[stream.Name]
	delete(b.growing, stream.Name)
	if few {
		b.growing[stream.Name] = stream
	}
	b.mu.Unlock()
	if few && !said {
		b.log.Warn("a stream is on one server only, because the cluster has too few servers with JetStream that are up; what it holds is away with that server",
			"stream", stream.Name, "wanted", wantedReplicas, "error", err)
	}
	if few {
		return b.createOrUpdate(ctx, config)
	}
	if said && err == nil {
		b.log.Info("a stream is on more servers now", "stream", stream.Name, "replicas", wantedReplicas)
	}
	return err
}

// createOrUpdate tries again where another node creates the same stream at the same time.
func (b *Bus) createOrUpdate(ctx context.Context, config jetstream.StreamConfig) error {
	for attempt := 1; ; attempt++ {
		_, err := b.streams.CreateOrUpdateStream(ctx, config)
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) || attempt == keepAttempts {
			return err
		}
	}
}

// grow tries to keep streams on as many servers as wanted, now that there may be more.
func (b *Bus) grow(ctx context.Context) {
	b.mu.Lock()
	streams := slices.Collect(maps.Values(b.growing))
	b.mu.Unlock()
	for _, stream := range streams {
		if err := b.keep(ctx, stream); err != nil {
			b.log.Warn("a stream could not be kept on more servers yet", "stream", stream.Name, "error", err)
		}
	}
}

// State is what the stream holds.
func (b *Bus) State(ctx context.Context, name string) (StreamState, error) {
	if err := b.usable(); err != nil {
		return StreamState{}, fmt.Errorf("stream %s: %w", name, err)
	}
	stream, err := b.streams.Stream(ctx, name)
	if err != nil {
		return StreamState{}, fmt.Errorf("stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	state := StreamState{Created: info.Created, First: info.State.FirstSeq, Last: info.State.LastSeq, Messages: info.State.Msgs,
		Bytes: info.State.Bytes, Asked: info.TimeStamp}
	if state.Messages == 0 {
		state.First = state.Last + 1 // a cluster says 0
	}
	return state, nil
}

// Append stores a message in the stream that keeps its subject and returns when it is stored; see the package for what that
// survives. It tries again until the context ends, also while the bus is away, so that messages appended by one goroutine stand
// in their order. Only a message that the stream will never take is given up: ErrRefused. id names the message: the same id
// within a minute is stored once.
func (b *Bus) Append(ctx context.Context, subject, id string, data []byte) error {
	pause := appendPause
	for {
		err := b.appendOnce(ctx, subject, id, data)
		if err == nil {
			if pause > appendPause {
				b.log.Info("messages are stored again", "subject", subject)
			}
			return nil
		}
		switch {
		case refusedWith(err, codeMessageTooLarge), errors.Is(err, nats.ErrMaxPayload):
			return fmt.Errorf("append to %s: %w: %w", subject, ErrRefused, err)
		case errors.Is(err, nats.ErrConnectionClosed):
			return fmt.Errorf("append to %s: %w", subject, err)
		}
		// A stall, a time-out, a stream without a leader or a store that is full for the moment is back-pressure: wait and try again.
		if pause == appendPause {
			b.log.Warn("a message cannot be stored yet; it is tried again", "subject", subject, "error", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("append to %s: %w", subject, errors.Join(ctx.Err(), err))
		case <-time.After(pause):
		}
		pause = min(2*pause, maxAppendPause)
	}
}

func (b *Bus) appendOnce(ctx context.Context, subject, id string, data []byte) error {
	if err := b.usable(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	_, err := b.streams.Publish(ctx, subject, data, jetstream.WithMsgID(id))
	return err
}

// Read hands all messages of a stream from a sequence on, in their order and without gaps but for what the stream has
// discarded, to handle: as many at once as are there, at the most batch. It returns when the context ends, with the error of
// handle, or with ErrReplaced; whatever else happens it tries again. Where it stands is for the caller to keep, best in the
// transaction that uses the messages.
func (b *Bus) Read(ctx context.Context, stream string, from uint64, batch int, handle func([]Entry) error) error {
	r := reader{bus: b, stream: stream, next: max(from, 1), batch: batch, handle: handle}
	return r.read(ctx)
}

// Follow hands the messages of a stream with Latest to handle, of each subject at least the newest, and then each as it is stored, in their
// order: as many at once as are there, at the most batch. It begins anew with a stream that was replaced, and returns when the context
// ends, or with the error of handle. That a message's time is over is for the receiver to notice.
func (b *Bus) Follow(ctx context.Context, stream string, batch int, handle func([]Entry) error) error {
	for {
		r := reader{bus: b, stream: stream, next: 1, batch: batch, handle: handle, sparse: true}
		if err := r.read(ctx); !errors.Is(err, ErrReplaced) {
			return err
		}
	}
}

func (r *reader) read(ctx context.Context) error {
	b, stream := r.bus, r.stream
	for {
		err := r.run(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if r.refused != nil {
			return r.refused
		}
		if !r.delayed {
			b.log.Warn("reading a stream is delayed; it is tried again", "stream", stream, "next", r.next, "error", err)
		}
		r.delayed = true
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readPause):
		}
	}
}

// reader is one call of Read or Follow.
type reader struct {
	bus     *Bus
	stream  string
	next    uint64 // sequence
	batch   int
	handle  func([]Entry) error
	refused error // by handle, or ErrReplaced
	delayed bool  // and said to be

	sparse bool          // messages that newer ones took the place of are missing between the others
	given  uint64        // messages that the server's consumer has given
	ahead  time.Duration // clock of the servers, of ours

	created time.Time // of the stream
	short   int       // times in a row that the stream ended before what was read of it
}

// maxShort is how often a stream may seem to have lost its end, as it does while a new leader catches up.
const maxShort = 15

var errGap = errors.New("a message was not delivered")

// run reads with one consumer of the server until something fails. The consumer needs no acknowledgements, nor replicas: the
// reader itself sees to it that nothing is missing.
func (r *reader) run(ctx context.Context) error {
	beginning, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := r.recognise(beginning); err != nil {
		return err
	}
	consumer, err := r.bus.streams.CreateConsumer(beginning, r.stream, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.next,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: consumerExpiry,
	})
	if err != nil {
		return err
	}
	r.given = 0
	if r.delayed {
		r.bus.log.Info("reading a stream goes on", "stream", r.stream, "next", r.next)
		r.delayed = false
	}
	for {
		fetched, err := consumer.Fetch(r.batch, jetstream.FetchMaxWait(readIdle), jetstream.FetchHeartbeat(readHeartbeat))
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

// recognise makes sure that the stream is the one that was read so far.
func (r *reader) recognise(ctx context.Context) error {
	state, err := r.bus.State(ctx, r.stream)
	if err != nil {
		return err
	}
	r.ahead = time.Until(state.Asked)
	if r.created.IsZero() {
		r.created = state.Created
		return nil
	}
	if !state.Created.Equal(r.created) {
		r.refused = fmt.Errorf("stream %s: %w", r.stream, ErrReplaced)
		return r.refused
	}
	if state.Last+1 >= r.next {
		r.short = 0
		return nil
	}
	err = fmt.Errorf("stream %s ends at %d: %w", r.stream, state.Last, ErrReplaced)
	if r.short++; r.short >= maxShort {
		r.refused = err
	}
	return err
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
				if r.given++; r.sparse && metadata.Sequence.Consumer != r.given {
					return fmt.Errorf("%w before %d", errGap, metadata.Sequence.Stream)
				}
				entries = append(entries, Entry{Sequence: metadata.Sequence.Stream, Subject: message.Subject(), Data: message.Data(),
					Age: max(time.Since(metadata.Timestamp)+r.ahead, 0)})
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
	if r.sparse {
		return nil // take has counted them
	}
	for i, entry := range entries {
		if entry.Sequence == r.next+uint64(i) {
			continue
		}
		state, err := r.bus.State(ctx, r.stream)
		if err != nil {
			return err
		}
		if i > 0 || state.First < entry.Sequence || entry.Sequence < r.next {
			return fmt.Errorf("%w: %d came instead of %d", errGap, entry.Sequence, r.next+uint64(i))
		}
		r.next = entry.Sequence
	}
	return nil
}
