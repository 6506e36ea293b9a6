// Package mqttfront serves MQTT 3.1.1 and 5: it turns packets into Exchanges for the pipeline, keeps sessions, and
// delivers messages to them.
//
// It owns connections, sessions with their subscriptions and queues, and the journal in which messages for persistent
// sessions and retained messages lie. It promises that a publisher is told "acknowledged" only once a kill of the process
// cannot lose the message for any of them; that every refusal is explicit in MQTT 5 (in 3.1.1, which has no word for it,
// the message is acknowledged and dropped); that a slow subscriber never slows others; and that a revoked or quarantined
// caller's connections close at once. It decides nothing itself: whether somebody may connect, publish or subscribe is
// the pipeline's answer.
package mqttfront

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// Config is all that a Front works with. Zero numbers get the default.
type Config struct {
	Pipeline  *pipeline.Pipeline
	Listeners []net.Listener // plain TCP or TLS; Run closes them
	Folder    string         // of the journal
	Logger    *slog.Logger

	Limits              mqtt.Limits   // of one connection; zero: mqtt.DefaultLimits
	ConnectTimeout      time.Duration // from accept to CONNECT, TLS handshake included; 0: 5 s
	WriteTimeout        time.Duration // for a peer that takes no bytes; 0: 30 s
	MaxConnections      int           // 0: 100,000
	MaxSessions         int           // connected or not; 0: 1,000,000
	MaxSessionsOfCaller int           // of one device or app, connected or not; 0: 1,000
	MaxSubscriptions    int           // of one session; 0: 256
	MaxQueued           int           // QoS 1 and 2 messages waiting for one session; 0: 1,000
	MaxQueuedBytes      int           // of those messages; 0: 1 MiB
	MaxSessionExpiry    uint32        // seconds that a session may outlive its connection; 0: 7 days
	Workers             int           // calls to upstreams at once; 0: 256
}

func (c *Config) setDefaults() {
	if c.Limits == (mqtt.Limits{}) {
		c.Limits = mqtt.DefaultLimits()
	}
	setDefault(&c.ConnectTimeout, 5*time.Second)
	setDefault(&c.WriteTimeout, 30*time.Second)
	setDefault(&c.MaxConnections, 100_000)
	setDefault(&c.MaxSessions, 1_000_000)
	setDefault(&c.MaxSessionsOfCaller, 1000)
	setDefault(&c.MaxSubscriptions, 256)
	setDefault(&c.MaxQueued, 1000)
	setDefault(&c.MaxQueuedBytes, 1<<20)
	setDefault(&c.MaxSessionExpiry, 7*24*3600)
	setDefault(&c.Workers, 256)
}

func setDefault[T comparable](value *T, standard T) {
	var zero T
	if *value == zero {
		*value = standard
	}
}

// Counters are what a Front counts.
type Counters struct {
	Connections     atomic.Int64 // open now
	Refused         atomic.Uint64
	Published       atomic.Uint64 // messages received from clients
	Denied          atomic.Uint64 // of these refused by the pipeline or the service
	Delivered       atomic.Uint64 // messages handed to sessions
	DroppedQoS0     atomic.Uint64 // QoS 0 messages that a slow, absent or small-packet client did not get
	DroppedOverflow atomic.Uint64 // QoS 1 and 2 messages for a session whose queue was full
	DroppedExpired  atomic.Uint64
	DroppedTooLarge atomic.Uint64
	Malformed       atomic.Uint64 // connections ended for breaking the protocol
}

// Front is safe for concurrent use.
type Front struct {
	Counters Counters

	config   Config
	pipeline *pipeline.Pipeline
	logger   *slog.Logger
	journal  *journal
	tree     *mqtt.Tree[*session]
	workers  chan struct{}
	matches  sync.Pool
	owned    atomic.Pointer[ownedTopics]
	number   atomic.Uint64 // newest of the numbers that sessions and stored messages have

	running sync.WaitGroup  // connections, calls and timers
	ctx     context.Context // for calls to upstreams
	cancel  context.CancelFunc

	mu          sync.Mutex
	connections map[*connection]struct{}
	sessions    map[sessionKey]*session
	callers     map[callerKey]map[*session]struct{}
	stopping    bool
}

// New reads the journal and attaches the front to the pipeline's broker and directory. Nothing is served before Run.
func New(config Config) (*Front, error) {
	config.setDefaults()
	j, err := openJournal(config.Folder, config.Logger)
	if err != nil {
		return nil, err
	}
	f := &Front{
		config: config, pipeline: config.Pipeline, logger: config.Logger, journal: j,
		tree: mqtt.NewTree[*session](), workers: make(chan struct{}, config.Workers),
		connections: make(map[*connection]struct{}), sessions: make(map[sessionKey]*session),
		callers: make(map[callerKey]map[*session]struct{}),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.matches.New = func() any { return new(matching) }
	f.number.Store(j.stored.newest)
	f.restore()
	config.Pipeline.Broker.Attach(f)
	config.Pipeline.Directory.Watch(f.callerChanged)
	return f, nil
}

// Run serves until the context ends, then tells version 5 clients that the server shuts down, and returns when all
// goroutines have ended and everything acknowledged is on disk.
func (f *Front) Run(ctx context.Context) error {
	journalContext, stopJournal := context.WithCancel(context.Background())
	var committing sync.WaitGroup
	committing.Go(func() { f.journal.run(journalContext) })
	f.startExpiry()

	failed := make(chan error, len(f.config.Listeners))
	var accepting sync.WaitGroup
	for _, l := range f.config.Listeners {
		accepting.Go(func() {
			if err := f.accept(l); err != nil {
				failed <- err
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	f.shutDown()
	accepting.Wait()
	f.running.Wait()
	stopJournal()
	committing.Wait()
	return err
}

func (f *Front) accept(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			if f.isStopping() {
				return nil
			}
			var temporary net.Error
			if errors.As(err, &temporary) && !errors.Is(err, net.ErrClosed) {
				// Out of file descriptors, most likely: others must be able to end meanwhile.
				f.logger.Warn("an MQTT connection could not be accepted", "error", err)
				time.Sleep(50 * time.Millisecond)
				continue
			}
			return fmt.Errorf("mqtt: listen on %s: %w", l.Addr(), err)
		}
		f.open(conn)
	}
}

func (f *Front) isStopping() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopping
}

func (f *Front) open(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping || len(f.connections) >= f.config.MaxConnections {
		f.Counters.Refused.Add(1)
		conn.Close()
		return
	}
	c := newConnection(f, conn)
	f.connections[c] = struct{}{}
	f.Counters.Connections.Add(1)
	f.running.Go(c.serve)
}

func (f *Front) shutDown() {
	f.mu.Lock()
	f.stopping = true
	for _, l := range f.config.Listeners {
		l.Close()
	}
	var connected []*session
	for _, s := range f.sessions {
		s.stopTimers()
		connected = append(connected, s)
	}
	f.mu.Unlock()
	for _, s := range connected {
		s.mu.Lock()
		if s.conn != nil {
			s.conn.end(mqtt.ServerShuttingDown)
		}
		s.mu.Unlock()
	}
	// Those that have not identified themselves are told nothing; calls that run may end.
	f.mu.Lock()
	for c := range f.connections {
		c.net.SetReadDeadline(time.Now().Add(time.Second))
	}
	f.mu.Unlock()
	time.AfterFunc(5*time.Second, f.cancel)
}

// callerChanged closes the connections of a caller that may no longer be there. With a revoked caller its sessions end too:
// whoever gets the id next must not hear what was meant for it.
func (f *Front) callerChanged(change *fieldgate.DirectoryChange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.callers[callerKey{change.Kind, change.ID}] {
		s.mu.Lock()
		s.admitted = nil // its scopes may have changed
		if c := s.conn; c != nil {
			if problem := f.pipeline.Valid(c.caller); problem != nil {
				f.logger.Info("an MQTT connection is closed: its caller may no longer connect", "principal", change.ID, "problem", string(problem.Code))
				c.end(mqtt.NotAuthorized)
			}
		}
		if change.State == fieldgate.StateRevoked {
			f.endSession(s) // its will is not published: the pipeline would refuse it
		}
		s.mu.Unlock()
	}
}

// newClientID makes an identifier for a client that sent none [MQTT-3.1.3-7].
func newClientID() string { return "fg-" + rand.Text() }

var _ broker.Sessions = (*Front)(nil)
