package coapfront

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/engine/devices"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/pipeline"
)

const (
	storePatience = 2 * time.Second // for the bus to take a registration or command
	// defaultTimeout is how long a device may take to answer where nobody says: MAX_TRANSMIT_WAIT is 93 s (RFC 7252 section 4.8.2), longer
	// than people wait.
	defaultTimeout = 30 * time.Second
	awakeFor       = 20 * time.Second // a device that sleeps is reached after it was heard
	sweepEach      = time.Minute

	registerBurst = 10 // requests to the directory that a device may make at once; then one each registerEach
	registerEach  = 2 * time.Second
	moveEach      = 2 * time.Second // that a device which comes now by one session and now by another is noted to have moved

	maxWork = 512 // requests to devices on behalf of nobody who waits: commands, simple registrations
	maxAsks = 1024
)

var errBusy = fieldgate.NewProblem(fieldgate.ProblemOverloaded, "The gateway sends to as many devices as it may; try again later.")

// DevicesConfig is what Devices need.
type DevicesConfig struct {
	Node      string
	Epoch     uint64 // of this start of the gateway
	Bus       *bus.Bus
	Directory *directory.Directory
	Logger    *slog.Logger
}

// Devices is the resource directory (RFC 9176) that gateways of one bus share, and the way to the devices that have registered: requests
// that are carried out now, and commands that wait. It owns what this gateway knows of them. It promises that what it says is stored
// survives any one node, and that a command that is not idempotent is sent once at the most.
type Devices struct {
	node      string
	epoch     uint64
	bus       *bus.Bus
	shared    *devices.Devices
	directory *directory.Directory
	logger    *slog.Logger

	mu        sync.RWMutex
	all       map[string]*device
	listeners map[string]*listener // of this gateway, by name; not changed after Run

	commands commandCounts

	running sync.WaitGroup
	work    chan struct{} // one token for each
	ctx     context.Context
}

// whereabouts are where a device was heard at this gateway.
type whereabouts struct {
	listener *listener
	peer     netip.AddrPort // as the listener names it
	source   netip.AddrPort
}

// session says whether a peer of the listener is a session or connection, which ends, rather than an address.
func (l *listener) session() bool { return l.who != nil }

// device is what this gateway knows of a device.
type device struct {
	id string

	mu           sync.Mutex
	registration *registration // nil: none, as far as is known
	waiting      bool          // commands wait
	queued       []time.Time   // until when each does that has not been sent
	heard        time.Time     // at this gateway; zero: not since it started, or it did not answer since
	moving       bool          // where it is now is being stored
	moved        time.Time     // when that was begun
	sending      bool          // commands are being sent
	again        bool          // and are to be looked for again then
	tokens       float64       // of requests to the directory
	filled       time.Time
}

// registration is one that stands until a time on this gateway's clock. It is immutable.
type registration struct {
	*fieldgate.DeviceRegistration
	links []rdLink
	until time.Time
}

// NewDevices makes Devices. It starts nothing.
func NewDevices(config DevicesConfig) *Devices {
	return &Devices{node: config.Node, epoch: config.Epoch, bus: config.Bus, shared: devices.New(config.Bus), directory: config.Directory, logger: config.Logger,
		all: make(map[string]*device), listeners: make(map[string]*listener), work: make(chan struct{}, maxWork)}
}

// Run follows what is known of devices and carries requests out until the context ends. It returns when all its goroutines have.
func (d *Devices) Run(ctx context.Context) error {
	d.mu.Lock()
	d.ctx = ctx
	d.mu.Unlock()
	defer d.running.Wait()
	defer func() { // none begins when running is waited for
		d.mu.Lock()
		d.ctx = nil
		d.mu.Unlock()
	}()
	stop, err := d.bus.ServeEach(fieldgate.SubjectDeviceAsk+d.node, maxAsks, d.answer)
	if err != nil {
		return err
	}
	defer stop()
	d.directory.Watch(d.principalChanged)
	d.running.Go(func() { d.sweep(ctx) })
	if err := d.shared.Follow(ctx, d.learn); ctx.Err() == nil {
		return err
	}
	return nil
}

// reachBy names the listeners by which devices are reached, before Run.
func (d *Devices) reachBy(listeners []*listener) {
	for _, l := range listeners {
		d.listeners[l.name] = l
	}
}

// begin runs work in the background. It is false when there is too much already, or the gateway ends.
func (d *Devices) begin(work func(ctx context.Context)) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.ctx == nil {
		return false
	}
	select {
	case d.work <- struct{}{}:
	default:
		return false
	}
	ctx := d.ctx
	d.running.Go(func() {
		defer func() { <-d.work }()
		work(ctx)
	})
	return true
}

// known is a device of which something is known; nil if nothing is.
func (d *Devices) known(id string) *device {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.all[id]
}

// device is a device of the directory, of which something will be known.
func (d *Devices) device(id string) *device {
	if known := d.known(id); known != nil {
		return known
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.all[id]
	if known == nil {
		known = &device{id: id}
		d.all[id] = known
	}
	return known
}

// learn takes what the gateways tell each other.
func (d *Devices) learn(news devices.News) {
	if news.Commands == nil {
		d.learnRegistration(news.Device, news.Registration)
		return
	}
	device := d.device(news.Device)
	waits, now := news.Commands.First() != nil, time.Now()
	device.mu.Lock()
	d.commands.expired.Add(device.expire(now))
	device.waiting, device.queued = waits, queuedUntil(news.Commands, now)
	awake := waits && device.awake(now)
	device.mu.Unlock()
	if awake {
		d.deliver(device)
	}
}

// learnRegistration takes a registration that is stored, nil when there is none any more.
func (d *Devices) learnRegistration(id string, r *fieldgate.DeviceRegistration) {
	device := d.device(id)
	var learnt *registration
	if r != nil {
		links, err := parseLinks(r.Links)
		if err != nil { // of a node of another version
			links = nil
		}
		learnt = &registration{r, links, time.Now().Add(r.Left)}
	}
	device.mu.Lock()
	device.registration = learnt
	device.mu.Unlock()
}

// principalChanged forgets the registration of a device that was revoked.
func (d *Devices) principalChanged(change *fieldgate.DirectoryChange) {
	if change.Kind != fieldgate.PrincipalDevice || change.State != fieldgate.StateRevoked {
		return
	}
	if device := d.known(change.ID); device != nil && device.present(time.Now()) != nil {
		d.begin(func(ctx context.Context) {
			if problem := d.removeRegistration(ctx, device); problem != nil && problem != errNotRegistered {
				d.logger.Warn("the registration of a device that was revoked stands until its lifetime ends", "device", device.id, "error", problem)
			}
		})
	}
}

// sweep forgets devices of which nothing is known any more.
func (d *Devices) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEach)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			d.mu.Lock()
			for id, device := range d.all {
				if device.idle(now) {
					delete(d.all, id)
				}
			}
			d.mu.Unlock()
		}
	}
}

func (d *device) idle(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.waiting && !d.sending && (d.registration == nil || now.After(d.registration.until)) && now.Sub(d.filled) > sweepEach
}

// present is the device's registration; nil when it has none.
func (d *device) present(now time.Time) *registration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.registration == nil || now.After(d.registration.until) {
		return nil
	}
	return d.registration
}

// awake says, with the lock held, whether a request is likely to reach the device from here.
func (d *device) awake(now time.Time) bool {
	r := d.registration
	return r != nil && now.Before(r.until) && !d.heard.IsZero() && (!r.Sleeps || now.Sub(d.heard) < awakeFor)
}

// allowed takes one of the device's requests to the directory.
func (d *device) allowed(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tokens = min(registerBurst, d.tokens+now.Sub(d.filled).Seconds()/registerEach.Seconds())
	if d.filled.IsZero() {
		d.tokens = registerBurst
	}
	d.filled = now
	if d.tokens < 1 {
		return false
	}
	d.tokens--
	return true
}

// unheard notes that the device could not be reached where a registration says, unless it was heard since: what waits goes when it is heard
// again. One that was heard elsewhere meanwhile, which is being noted or was, is reached there, though it was heard before it was looked for.
func (d *device) unheard(r *registration, since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.heard.Before(since) && !d.moving && !d.registration.isElsewhere(r) {
		d.heard = time.Time{}
	}
}

// isElsewhere says whether the device has moved from where another registration says that it is.
func (r *registration) isElsewhere(from *registration) bool {
	return r != nil && (r.Node != from.Node || r.Epoch != from.Epoch || r.Transport != from.Transport || r.Peer != from.Peer)
}

// settle notes in a registration where the device is.
func (d *Devices) settle(r *fieldgate.DeviceRegistration, at whereabouts) {
	r.Node, r.Epoch, r.Transport, r.Address, r.Peer = d.node, d.epoch, at.listener.name, at.source, at.peer
	if at.listener.session() {
		r.Base = netip.AddrPort{}
	}
}

// heard notes that a device has sent something: commands that wait for it go now.
func (d *Devices) heard(l *listener, peer netip.AddrPort, x *pipeline.Exchange) {
	if x.Principal.Kind != fieldgate.PrincipalDevice || x.Principal.State != fieldgate.StateActive {
		return
	}
	device := d.known(x.Principal.ID)
	if device == nil {
		return
	}
	now := time.Now()
	at := whereabouts{l, peer, x.Source}
	device.mu.Lock()
	device.heard = now
	r, waiting := device.registration, device.waiting
	present := r != nil && now.Before(r.until)
	moves := present && !device.moving && now.Sub(device.moved) >= moveEach && d.elsewhere(r, at)
	if moves {
		device.moving, device.moved = true, now
	}
	device.mu.Unlock()
	switch {
	case moves && !d.begin(func(ctx context.Context) { d.move(ctx, device, at) }):
		device.mu.Lock()
		device.moving = false
		device.mu.Unlock()
	case waiting && present && !moves:
		d.deliver(device)
	}
}

// elsewhere says whether a device that was heard is to be reached there from now on: over the newest of its sessions, at whichever gateway, if
// it has registered by one; by the gateway that it speaks to, if it has registered by a datagram from the same port. From other ports a
// device may well send while it serves at that one.
func (d *Devices) elsewhere(r *registration, at whereabouts) bool {
	if r.Transport == nameUDP {
		return at.listener.name == nameUDP && r.Node != d.node && r.Address == at.source
	}
	return at.listener.session() && (r.Node != d.node || r.Epoch != d.epoch || r.Transport != at.listener.name || r.Peer != at.peer)
}

// move notes where a device is reached now, and sends what waits for it.
func (d *Devices) move(ctx context.Context, device *device, at whereabouts) {
	defer func() {
		device.mu.Lock()
		device.moving = false
		device.mu.Unlock()
	}()
	var moved *fieldgate.DeviceRegistration
	problem := d.change(ctx, device.id, func(r *fieldgate.DeviceRegistration) (*fieldgate.DeviceRegistration, error) {
		if r == nil {
			return nil, errNotRegistered
		}
		d.settle(r, at)
		moved = r
		return r, nil
	})
	if problem != nil {
		d.logger.Debug("where a device is could not be stored", "device", device.id, "error", problem)
		return
	}
	d.learnRegistration(device.id, moved)
	d.deliver(device)
}
