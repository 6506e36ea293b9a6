// Package bus carries messages within a node: an embedded NATS server with JetStream, reached in process. It
// offers messages without a trace (Publish, Subscribe), requests (Request, Serve) and streams on disk (Append, Read).
//
// Messages of Publish may be lost; what Append has acknowledged survives a crash of the process, and a power cut but for
// its last second.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fieldgate"
)

// Config says where a bus keeps its streams. Only this process reaches the bus.
type Config struct {
	Directory string       // of the streams; created if missing; one process at a time
	MaxStore  int64        // bytes of all streams on disk; 0: 1 GiB
	Log       *slog.Logger // of the server
}

const (
	defaultMaxStore = 1 << 30
	maxMemory       = 16 << 20 // of streams and consumers held in memory
	syncInterval    = time.Second
	startTimeout    = 30 * time.Second
	drainTimeout    = 5 * time.Second
)

// Errors that an operator can do something about.
var (
	ErrInUse   = errors.New("another process uses the directory: stop it, or choose another data directory")
	ErrCorrupt = errors.New("the stream store is corrupt: restore it from a backup, or move it away to start with an empty one (contracts and devices are not in it)")
)

// ErrNoResponder says that nobody serves the subject of a request at present.
var ErrNoResponder = errors.New("nobody answers")

// Bus is a running server and this process's connection to it.
type Bus struct {
	log        *slog.Logger
	lock       *os.File
	server     *server.Server
	connection *nats.Conn
	streams    jetstream.JetStream
}

// Open starts the server and connects to it.
func Open(config Config) (_ *Bus, err error) {
	b := &Bus{log: config.Log}
	defer func() {
		if err != nil {
			b.Close()
			err = fmt.Errorf("open bus in %s: %w", config.Directory, err)
		}
	}()
	if err := os.MkdirAll(config.Directory, 0o700); err != nil {
		return nil, err
	}
	if b.lock, err = lock(filepath.Join(config.Directory, "lock")); err != nil {
		return nil, err
	}
	options := &server.Options{
		ServerName: "fieldgate",
		DontListen: true,
		NoLog:      true,
		NoSigs:     true,
		MaxPayload: 1 << 20,

		JetStream:              true,
		StoreDir:               config.Directory,
		SyncInterval:           syncInterval, // the default of two minutes loses acknowledged messages in a power cut
		JetStreamMaxMemory:     maxMemory,
		JetStreamMaxStore:      config.MaxStore,
		DisableJetStreamBanner: true,
		NoSystemAccount:        true,
	}
	if options.JetStreamMaxStore == 0 {
		options.JetStreamMaxStore = defaultMaxStore
	}
	if b.server, err = server.NewServer(options); err != nil {
		return nil, err
	}
	logger := &serverLog{log: config.Log}
	b.server.SetLoggerV2(logger, false, false, false)
	b.server.Start()
	if !b.server.ReadyForConnections(startTimeout) || !b.server.JetStreamEnabled() {
		return nil, logger.failure("the server did not start")
	}
	// The server goes on without a stream that it cannot read; we do not, because its messages would be missed silently.
	if damage := logger.damage(); damage != "" {
		return nil, fmt.Errorf("%w (%s)", ErrCorrupt, damage)
	}
	b.connection, err = nats.Connect("", nats.InProcessServer(b.server), nats.MaxReconnects(-1))
	if err != nil {
		return nil, err
	}
	b.streams, err = jetstream.New(b.connection)
	return b, err
}

// lock holds a file for as long as the process lives, so that two processes never write the same streams.
func lock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, err
	}
	return file, nil
}

// Close delivers what is under way, ends the server and returns when it has ended.
func (b *Bus) Close() {
	if b.connection != nil {
		closed := make(chan struct{})
		b.connection.SetClosedHandler(func(*nats.Conn) { close(closed) })
		if b.connection.Drain() == nil {
			select {
			case <-closed:
			case <-time.After(drainTimeout):
				b.connection.Close()
			}
		}
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	if b.lock != nil {
		b.lock.Close()
	}
}

// Publish sends a message to whoever subscribes to its subject at this moment.
func (b *Bus) Publish(subject string, data []byte) error {
	return b.connection.Publish(subject, data)
}

// Subscribe calls handle with each message on a subject, one after the other, until stop is called.
func (b *Bus) Subscribe(subject string, handle func(subject string, data []byte)) (stop func(), err error) {
	subscription, err := b.connection.Subscribe(subject, func(message *nats.Msg) { handle(message.Subject, message.Data) })
	if err != nil {
		return nil, err
	}
	// Only after a round trip is the server sure to know of the subscription.
	if err := b.connection.Flush(); err != nil {
		return nil, err
	}
	return func() { subscription.Unsubscribe() }, nil
}

// Answer is what a request is answered with.
type Answer struct {
	Header map[string]string
	Data   []byte
}

// Refusal is the answer of a server that could not carry out a request.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return r.Reason }

// Serve answers requests on a subject, one after the other, until stop is called. An error is sent as a Refusal, and
// logged here; it must hold nothing that the requester may not know.
func (b *Bus) Serve(subject string, answer func(request []byte) (Answer, error)) (stop func(), err error) {
	subscription, err := b.connection.Subscribe(subject, func(request *nats.Msg) {
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
	})
	if err != nil {
		return nil, err
	}
	if err := b.connection.Flush(); err != nil {
		return nil, err
	}
	return func() { subscription.Unsubscribe() }, nil
}

// Request waits for the answer to a request until the context ends. A refused request is a *Refusal.
func (b *Bus) Request(ctx context.Context, subject string, data []byte) (Answer, error) {
	reply, err := b.connection.RequestWithContext(ctx, subject, data)
	if errors.Is(err, nats.ErrNoResponders) {
		return Answer{}, fmt.Errorf("%s: %w", subject, ErrNoResponder)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", subject, err)
	}
	if reason := reply.Header.Get(fieldgate.HeaderError); reason != "" {
		return Answer{}, fmt.Errorf("%s: %w", subject, &Refusal{reason})
	}
	answer := Answer{Data: reply.Data, Header: make(map[string]string, len(reply.Header))}
	for name := range reply.Header {
		answer.Header[name] = reply.Header.Get(name)
	}
	return answer, nil
}
