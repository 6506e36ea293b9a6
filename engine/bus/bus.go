// Package bus carries messages within a node and between nodes: over a NATS server with JetStream in this process (Open),
// or over a NATS cluster (Connect). It offers messages without a trace (Publish, Subscribe), requests (Request, Serve) and
// streams on disk (Append, Read).
//
// Messages of Publish may be lost. What Append has acknowledged survives, in process, a crash of the process, and a power
// cut but for its last second; on a cluster of three servers or more it is held by a majority of the stream's three
// replicas, and survives the loss of any one server for good, a crash of all, and a power cut of all but for the servers'
// sync_interval.
//
// A cluster that is away makes operations fail with ErrUnavailable, and is connected to again for as long as the Bus is open.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says where a bus in this process keeps its streams. Nobody else reaches it.
type Config struct {
	Directory string       // of the streams; created if missing; one process at a time
	MaxStore  int64        // bytes of all streams on disk; 0: 1 GiB
	Log       *slog.Logger // of the server
}

const (
	maxPayload      = 1 << 20 // of one message; the default of NATS
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

// Bus is a connection to a server, which may run in this process. It is safe for concurrent use.
type Bus struct {
	log        *slog.Logger
	connection *nats.Conn
	streams    jetstream.JetStream
	health     health

	// Cares for the server, or for the connection to a cluster.
	stopWatch context.CancelFunc
	watching  sync.WaitGroup

	// In this process.
	lock   *os.File
	server *server.Server

	// Of a cluster.
	look    chan struct{} // the connection changed: examine the cluster
	mu      sync.Mutex
	growing map[string]Stream // kept on fewer servers than wanted
}

// Open starts a server in this process and connects to it.
func Open(config Config) (_ *Bus, err error) {
	b := &Bus{log: config.Log, health: health{since: time.Now()}}
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
		MaxPayload: maxPayload,

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
	logger := &serverLog{log: config.Log, broken: make(chan struct{}, 1)}
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
	if b.streams, err = jetstream.New(b.connection); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stopWatch = stop
	b.watching.Go(func() { b.reopen(ctx, logger.broken, options) })
	return b, nil
}

// Shared says whether other nodes are, or may be, on the bus: it is a cluster.
func (b *Bus) Shared() bool { return b.server == nil }

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

// Close delivers what is under way, ends the connection and the server in this process, and returns when they have ended.
func (b *Bus) Close() {
	if b.stopWatch != nil {
		b.stopWatch()
		b.watching.Wait()
	}
	if b.connection != nil {
		closed := make(chan struct{})
		b.connection.SetDisconnectErrHandler(nil)
		b.connection.SetClosedHandler(func(*nats.Conn) { close(closed) })
		if b.connection.Drain() == nil {
			select {
			case <-closed:
			case <-time.After(drainTimeout):
			}
		}
		b.connection.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	if b.lock != nil {
		b.lock.Close()
	}
}
