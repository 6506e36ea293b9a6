// Package mqttfront serves MQTT 3.1.1 and 5: it turns packets into Exchanges for the pipeline, keeps sessions, and
// delivers messages to them.
//
// It owns connections, sessions with their subscriptions and queues, and the store in which messages for persistent
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
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/gateway/mqttcluster"
	"fieldgate/gateway/mqttexchange"
	"fieldgate/gateway/mqttstore"
	"fieldgate/gateway/pipeline"
	"fieldgate/protocol/mqtt"
)

// Config is all that a Front works with.
type Config struct {
	Pipeline  *pipeline.Pipeline
	Listeners []*Listener
	Folder    string               // of the store
	Cluster   *mqttcluster.Cluster // nil: there are no other nodes
	Backbone  Backbone             // that carries the messages; nil: they stay here, and in the cluster
	Log       *mqttstore.Log       // that nodes share, so that each has all sessions that are kept, and all retained messages; nil: this one is alone
	Logger    *slog.Logger

	Bounds
}

// Bounds are those that the network meets. Zero numbers get the default.
type Bounds struct {
	Terms                              // of WebSockets, and of listeners that have none of their own
	ConnectTimeout       time.Duration // from accept to CONNECT, PROXY header and TLS handshake included; 0: 5 s
	WriteTimeout         time.Duration // for a peer that takes no bytes; 0: 30 s
	MaxSessions          int           // connected or not; 0: 1,000,000
	MaxSessionsOfCaller  int           // of one device or app, connected or not; 0: 1,000
	MaxConnectionsSource int           // from one address (IPv6: one /64); 0: 5,000
	MaxHandshakesSource  int           // a second from one address, beyond the first MaxConnectionsSource; 0: 1,000
	MaxHandshakes        int           // a second of all; 0: 20,000
	Workers              int           // calls to upstreams at once; 0: 256
	MaxStored            int64         // bytes on disk of sessions, queued and retained messages; 0: 16 GiB
	MaxRetained          int64         // retained messages; 0: 20,000,000
	SystemInterval       time.Duration // between two publications of the statistics below "$SYS/"; 0: 10 s
}

func (c *Config) setDefaults() {
	c.Terms.setDefaults()
	for _, l := range c.Listeners {
		if l.Terms == nil {
			l.Terms = &c.Terms
		} else {
			l.Terms.setDefaults()
		}
	}
	setDefault(&c.ConnectTimeout, 5*time.Second)
	setDefault(&c.WriteTimeout, 30*time.Second)
	setDefault(&c.MaxSessions, 1_000_000)
	setDefault(&c.MaxSessionsOfCaller, 1000)
	setDefault(&c.MaxConnectionsSource, 5000)
	setDefault(&c.MaxHandshakesSource, 1000)
	setDefault(&c.MaxHandshakes, 20_000)
	setDefault(&c.Workers, 256)
	setDefault(&c.SystemInterval, systemInterval)
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
	RefusedSource   atomic.Uint64        // connections of sources that have, or open, too many
	RefusedRate     atomic.Uint64        // connections, of which too many were opened at once
	Published       atomic.Uint64        // messages received from clients
	Denied          mqttexchange.Denials // of these, and of wills and topic filters, refused by the pipeline or the service
	Delivered       atomic.Uint64        // messages handed to sessions
	DroppedQoS0     atomic.Uint64        // QoS 0 messages that a slow, absent or small-packet client did not get
	DroppedOverflow atomic.Uint64        // QoS 1 and 2 messages for a session whose queue was full
	DroppedExpired  atomic.Uint64
	DroppedTooLarge atomic.Uint64
	Malformed       atomic.Uint64 // connections ended for breaking the protocol

	Throttled         atomic.Int64  // connections that are not read now, as they have sent more than they may
	ThrottledMessages atomic.Uint64 // times that this happened for too many messages
	ThrottledBytes    atomic.Uint64 // and for too many bytes
}

// Front is safe for concurrent use.
type Front struct {
	Counters Counters

	config   Config
	pipeline *pipeline.Pipeline
	logger   *slog.Logger
	store    *mqttstore.Store
	cluster  *mqttcluster.Cluster
	tree     *mqtt.Tree[*session]

	webSockets Listener // that the HTTP listeners stand for

	workers chan struct{}
	matches sync.Pool
	owned   mqttexchange.OwnedTopics

	order    sync.Mutex    // held while messages that are kept get their numbers
	orphaned chan struct{} // there may be sessions whose node has gone
	fetching fetches

	running sync.WaitGroup  // streams, calls and what else takes long
	ctx     context.Context // for calls to upstreams
	cancel  context.CancelFunc
	loops   []*loop // for plain TCP; none on systems without epoll

	mu         sync.Mutex
	streams    map[*connection]struct{}
	sources    sources
	handshakes pace
	turn       int // whose turn it is among the loops
	sessions   sessions
	kept       map[uint64]*session // those that are in the store, by their numbers
	stopping   bool
}

// New opens the store and attaches the front to the pipeline's broker and directory. Nothing is served before Run.
func New(config Config) (*Front, error) {
	store, err := mqttstore.Open(mqttstore.Config{Folder: config.Folder, Logger: config.Logger, MaxBytes: config.MaxStored, MaxRetained: config.MaxRetained, Log: config.Log})
	if err != nil {
		return nil, err
	}
	f := &Front{
		config: config, pipeline: config.Pipeline, logger: config.Logger, store: store, cluster: config.Cluster, tree: mqtt.NewTree[*session](),
		streams: make(map[*connection]struct{}), sources: sources{known: make(map[netip.Addr]origin)}, sessions: newSessions(),
		kept: make(map[uint64]*session), orphaned: make(chan struct{}, 1),
	}
	f.config.setDefaults()
	f.webSockets.Terms, f.webSockets.front = &f.config.Terms, f
	for _, l := range f.config.Listeners {
		l.front = f
	}
	f.workers = make(chan struct{}, f.config.Workers)
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.matches.New = func() any { return new(matching) }
	f.fetching.changed.L = &f.fetching.mu
	f.restore(f.store.Sessions())
	if config.Backbone == nil {
		config.Pipeline.Broker.Attach(f, f)
		config.Pipeline.Sessions = f
	}
	config.Cluster.Attach(f)
	config.Pipeline.Directory.Watch(f.callerChanged)
	return f, nil
}

// Run serves until the context ends, then tells version 5 clients that the server shuts down, and returns when all
// goroutines have ended and everything acknowledged is on disk.
func (f *Front) Run(ctx context.Context) error {
	storing, stopStoring := context.WithCancel(context.Background())
	var committing, reading sync.WaitGroup
	if f.shares() {
		committing.Go(func() { f.store.RunShared(storing, f) })
		f.awaitLog(ctx)
	} else {
		committing.Go(func() { f.store.Run(storing, f) })
	}
	for range readers {
		reading.Go(f.read)
	}
	f.carryRestored()
	ctx, stopStatistics := context.WithCancel(ctx)
	defer stopStatistics()
	if f.shares() {
		f.running.Go(func() { f.adoptOrphans(ctx) })
	} else {
		f.startExpiry()
	}
	if f.config.Backbone == nil {
		f.running.Go(func() { f.publishStatistics(ctx, time.Now()) })
	}

	failed := make(chan error, len(f.config.Listeners)+runtime.GOMAXPROCS(0)+1)
	var looping, accepting sync.WaitGroup
	if err := f.startLoops(&looping, failed); err != nil {
		failed <- err
	}
	for _, l := range f.config.Listeners {
		accepting.Go(func() {
			if err := f.accept(ctx, l); err != nil {
				failed <- err
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stopStatistics()
	f.shutDown()
	accepting.Wait()
	for _, l := range f.loops {
		l.drain()
	}
	looping.Wait()
	f.running.Wait()
	f.fetching.end()
	reading.Wait()
	stopStoring()
	committing.Wait()
	return err
}

// startLoops starts a loop for each processor, where the system has what they need.
func (f *Front) startLoops(looping *sync.WaitGroup, failed chan<- error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop(f)
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		} else if err != nil {
			return fmt.Errorf("mqtt: %w", err)
		}
		f.loops = append(f.loops, l)
		looping.Go(func() {
			if err := l.run(); err != nil {
				failed <- fmt.Errorf("mqtt: %w", err)
			}
		})
	}
	return nil
}

// StoreProblem says why the store refuses new messages now; nil: it does not.
func (f *Front) StoreProblem() error { return f.store.Problem() }

func (f *Front) isStopping() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopping
}

func (f *Front) shutDown() {
	f.mu.Lock()
	f.stopping = true
	for _, l := range f.config.Listeners {
		l.Close()
	}
	var connected []*session
	for s := range f.sessions.all() {
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
	for c := range f.streams {
		c.stream.conn.SetReadDeadline(time.Now().Add(lastWords))
	}
	f.mu.Unlock()
	time.AfterFunc(5*time.Second, f.cancel)
}

// callerChanged closes the connections of a caller that may no longer be there. With a revoked caller its sessions end too:
// whoever gets the id next must not hear what was meant for it.
func (f *Front) callerChanged(change *fieldgate.DirectoryChange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if change.Kind == fieldgate.PrincipalDevice {
		for s := range f.sessions.of(callerKey{onRampKind, change.ID}) { // a user of that name is that device from now on, or is stopped with it
			s.mu.Lock()
			f.recheck(s)
			s.mu.Unlock()
		}
	}
	for s := range f.sessions.of(callerKey{change.Kind, change.ID}) {
		s.mu.Lock()
		f.recheck(s)
		if change.State == fieldgate.StateRevoked {
			f.endSession(s) // its will is not published: the pipeline would refuse it
		}
		s.mu.Unlock()
	}
}

// recheck closes the session's connection if its caller may no longer be there. Otherwise what it may hear may have changed. s is locked.
func (f *Front) recheck(s *session) {
	s.admitted = 0
	c := s.conn
	if c == nil {
		return
	}
	if problem := f.pipeline.Valid(c.caller); problem != nil {
		f.logger.Info("an MQTT connection is closed: its caller may no longer connect", "principal", s.key.caller.id, "problem", string(problem.Code))
		c.end(mqtt.NotAuthorized)
	}
}

// newClientID makes an identifier for a client that sent none [MQTT-3.1.3-7].
func newClientID() string { return "fg-" + rand.Text() }

var _ broker.Sessions = (*Front)(nil)
