package mqttproxy

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/gateway/socket"
	"fieldgate/protocol/mqtt"
)

// brokers are those behind the proxy, with what the settings say of them. It does not change: other settings make another one, which has
// the brokers in common with it that both name.
type brokers struct {
	settings Settings
	password []byte
	tls      *tls.Config
	timeout  time.Duration
	interval time.Duration
	size     int // of packets that brokers may send
	logger   *slog.Logger
	changed  func()
	all      []*broker
}

// broker is one of them.
type broker struct {
	name    string // as the settings have it
	address string
	secure  bool
	look    chan struct{} // it is to be looked at now

	mu       sync.Mutex
	problem  string       // why it is not healthy; empty: it is
	since    time.Time    // it is, or is not
	version  mqtt.Version // that it speaks with us; 0: not known
	devices  int          // connected to it by us
	calls    uint64       // connections that were tried for devices
	failures uint64       // of these that did not come about, or were lost
}

// newBrokers reads the files that the settings name. old are those before, nil: there were none.
func newBrokers(config *Config, old *brokers) (*brokers, error) {
	if err := config.Settings.Check(); err != nil {
		return nil, fmt.Errorf("mqtt.proxy.%w", err)
	}
	b := &brokers{settings: config.Settings, timeout: config.ConnectTimeout, interval: config.ProbeInterval, size: config.Limits.PacketSize, logger: config.Logger, changed: config.Changed}
	var err error
	if b.tls, err = config.Settings.tls(); err != nil {
		return nil, err
	}
	if b.password, err = config.Settings.password(); err != nil {
		return nil, err
	}
	for _, name := range config.Settings.Addresses {
		address, secure, err := parseAddress(name)
		if err != nil {
			return nil, err
		}
		one := old.named(name)
		if one == nil || old.settings.Version != b.settings.Version {
			one = &broker{name: name, address: address, secure: secure, look: make(chan struct{}, 1), version: config.Settings.Version, since: time.Now()}
		}
		b.all = append(b.all, one)
	}
	return b, nil
}

func (b *brokers) named(name string) *broker {
	if b == nil {
		return nil
	}
	for _, one := range b.all {
		if one.name == name {
			return one
		}
	}
	return nil
}

// state is what is known about the brokers, in the order of the settings.
func (b *brokers) state() fieldgate.UpstreamState {
	state := fieldgate.UpstreamState{Name: fieldgate.MQTTProxyUpstream, Algorithm: fieldgate.AlgorithmHash}
	for _, b := range b.all {
		b.mu.Lock()
		a := fieldgate.AddressState{Address: b.name, Healthy: b.problem == "", Why: b.problem, Since: b.since, Weight: 1, Open: b.devices, Calls: b.calls, Failures: b.failures}
		b.mu.Unlock()
		if a.Why = a.Why[:min(len(a.Why), fieldgate.MaxStateText)]; a.Healthy {
			state.Healthy++
		} else {
			state.Unhealthy++
		}
		state.Calls += a.Calls
		state.Failures += a.Failures
		state.Addresses = append(state.Addresses, a)
	}
	return state
}

// order is in which order a client tries the brokers: rendezvous hashing, so that it comes to the same one from every gateway, and moves
// only when that one is not healthy, which is tried last.
func (b *brokers) order(client string) []*broker {
	type place struct {
		*broker
		sick  bool
		score uint64
	}
	places := make([]place, len(b.all))
	for i, one := range b.all {
		h := fnv.New64a()
		h.Write([]byte(one.name))
		h.Write([]byte{0})
		h.Write([]byte(client))
		one.mu.Lock()
		places[i] = place{one, one.problem != "", mix(h.Sum64())}
		one.mu.Unlock()
	}
	slices.SortFunc(places, func(a, b place) int {
		if a.sick != b.sick {
			if a.sick {
				return 1
			}
			return -1
		}
		return cmp.Compare(b.score, a.score)
	})
	ordered := make([]*broker, len(places))
	for i := range places {
		ordered[i] = places[i].broker
	}
	return ordered
}

// mix spreads a hash over all bits (the finalizer of MurmurHash3): FNV of texts that differ at the end differs in the lower ones.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xFF51AFD7ED558CCD
	h = (h ^ h>>33) * 0xC4CEB9FE1A85EC53
	return h ^ h>>33
}

// mark notes what came of a try to reach the broker.
func (b *brokers) mark(one *broker, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	one.mu.Lock()
	turned := (one.problem == "") != (why == "")
	if one.problem = why; turned {
		one.since = time.Now()
	}
	if err != nil {
		one.version = b.settings.Version // another one may come up there
	}
	one.mu.Unlock()
	if !turned {
		return
	}
	if err != nil {
		b.logger.Warn("an MQTT broker cannot be used", "address", one.name, "error", err)
	} else {
		b.logger.Info("an MQTT broker can be used again", "address", one.name)
	}
	b.changed()
}

// watched are the goroutines that look at brokers.
type watched struct {
	mu      sync.Mutex
	ctx     context.Context // nil: before run
	cancel  context.CancelFunc
	running sync.WaitGroup
	ended   bool
}

// run has brokers looked at until the context ends.
func (w *watched) run(ctx context.Context, b *brokers) {
	w.mu.Lock()
	w.ctx = ctx
	w.mu.Unlock()
	w.replace(b)
}

// replace has other brokers looked at.
func (w *watched) replace(b *brokers) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx == nil || w.ended {
		return
	}
	if w.cancel != nil {
		w.cancel()
	}
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(w.ctx)
	for _, one := range b.all {
		w.running.Go(func() { b.watch(ctx, one) })
	}
}

// wait waits for the end, after that of the context.
func (w *watched) wait() {
	w.mu.Lock()
	w.ended = true
	w.cancel()
	w.mu.Unlock()
	w.running.Wait()
}

// watch looks at a broker now and then until the context ends.
func (b *brokers) watch(ctx context.Context, one *broker) {
	ticker := time.NewTicker(b.interval)
	defer ticker.Stop()
	for {
		if err := b.probe(ctx, one); ctx.Err() == nil {
			b.mark(one, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-one.look:
		case <-ticker.C:
		}
	}
}

// suspect has the broker looked at now.
func (one *broker) suspect() {
	select {
	case one.look <- struct{}{}:
	default:
	}
}

// probe connects to the broker and asks for a sign of life.
func (b *brokers) probe(ctx context.Context, one *broker) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	connect := &mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 60, ClientID: []byte("fg-probe-" + rand.Text())}
	b.addCredentials(connect, nil, "")
	conn, in, ack, version, err := b.connect(ctx, one, connect)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(longAgo) })()
	switch ack.Reason {
	case mqtt.Success:
	case mqtt.BadUserNameOrPassword, mqtt.NotAuthorized:
		if b.settings.PassThrough || b.settings.User == "" { // nobody told us whom it lets in, but it answers
			return nil
		}
		return errCredentials
	default:
		return fmt.Errorf("it refuses connections: %s", ack.Reason)
	}
	if _, err := conn.Write([]byte{byte(mqtt.PINGREQ) << 4, 0}); err != nil {
		return err
	}
	for {
		h, _, whole, err := in.next()
		switch {
		case err != nil:
			return err
		case whole == nil:
			if err := in.receive(); err != nil {
				return fmt.Errorf("no answer to PINGREQ: %w", err)
			}
		case h.Type == mqtt.PINGRESP:
			conn.Write((&mqtt.Disconnect{Type: mqtt.DISCONNECT}).Append(nil, version)) // what it makes of that is its own affair
			return nil
		}
	}
}

var errCredentials = errors.New("it refuses the credentials of mqtt.proxy")

// addCredentials puts in what the broker gets; own is the device's CONNECT, nil for a probe.
func (b *brokers) addCredentials(connect, own *mqtt.Connect, principal string) {
	switch {
	case b.settings.PassThrough && own != nil:
		connect.Username, connect.Password = own.Username, own.Password
	case b.settings.PassThrough:
	default:
		if b.settings.User != "" {
			connect.Username = []byte(strings.ReplaceAll(b.settings.User, placePrincipal, principal))
		}
		connect.Password = b.password
	}
}

// open connects a device to the first broker, in the client's order, that answers. The answer may be a refusal. connect has the version of
// the device; version is the one that was agreed on. The device is counted among the broker's: closed is to be called when it has gone.
func (b *brokers) open(ctx context.Context, client string, connect *mqtt.Connect) (one *broker, conn net.Conn, in *packets, ack *mqtt.Connack, version mqtt.Version, err error) {
	for _, one := range b.order(client) {
		try, cancel := context.WithTimeout(ctx, b.timeout)
		conn, in, ack, version, err = b.connect(try, one, connect)
		cancel()
		if ctx.Err() != nil {
			break
		}
		one.called(err)
		if err != nil {
			b.mark(one, err)
			continue
		}
		switch ack.Reason {
		case mqtt.ServerUnavailable, mqtt.ServerBusy, mqtt.UseAnotherServer, mqtt.ServerMoved, mqtt.ServerShuttingDown:
			conn.Close()
			err = fmt.Errorf("%s refuses connections: %s", one.name, ack.Reason)
			one.suspect()
			continue
		}
		one.mu.Lock()
		one.devices++
		one.mu.Unlock()
		return one, conn, in, ack, version, nil
	}
	return nil, nil, nil, nil, 0, err
}

// speaks is the version that the broker speaks with us; 0: not known.
func (one *broker) speaks() mqtt.Version {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.version
}

// called counts a connection that was tried.
func (one *broker) called(err error) {
	one.mu.Lock()
	defer one.mu.Unlock()
	one.calls++
	if err != nil {
		one.failures++
	}
}

// lost counts a connection that ended though nobody wanted it to, and has the broker looked at.
func (one *broker) lost() {
	one.mu.Lock()
	one.failures++
	one.mu.Unlock()
	one.suspect()
}

func (one *broker) closed() {
	one.mu.Lock()
	one.devices--
	one.mu.Unlock()
}

// connect does a CONNECT, in version 3.1.1 if the broker does not speak the CONNECT's.
func (b *brokers) connect(ctx context.Context, one *broker, connect *mqtt.Connect) (net.Conn, *packets, *mqtt.Connack, mqtt.Version, error) {
	known := one.speaks()
	version := connect.Version
	if known == mqtt.V311 {
		version = mqtt.V311
	}
	conn, in, ack, err := b.speak(ctx, one, connect, version)
	unspoken := errors.Is(err, errUnspoken) || err == nil && ack.Reason == mqtt.UnsupportedProtocolVersion
	if version == mqtt.V5 && known == 0 && unspoken {
		if err == nil {
			conn.Close()
		}
		version = mqtt.V311
		conn, in, ack, err = b.speak(ctx, one, connect, version)
	}
	if err == nil && connect.Version == mqtt.V5 && ack.Reason == mqtt.Success && known != version {
		one.mu.Lock()
		one.version = version
		one.mu.Unlock()
	}
	return conn, in, ack, version, err
}

// errUnspoken: a broker that does not know the version answers so, or not at all (MQTT 3.1.1 §3.1.2.2).
var errUnspoken = errors.New("it does not answer CONNECT")

// speak does a CONNECT in a version. A session of version 5 that is to begin anew and to outlive its connection takes two of 3.1.1: one that
// ends what there was, and one that does not.
func (b *brokers) speak(ctx context.Context, one *broker, connect *mqtt.Connect, version mqtt.Version) (net.Conn, *packets, *mqtt.Connack, error) {
	packet := *connect
	packet.Version = version
	if version == mqtt.V5 || connect.Version == mqtt.V311 {
		return b.handshake(ctx, one, &packet)
	}
	if packet.Password != nil && packet.Username == nil {
		packet.Username = []byte{} // [MQTT-3.1.2-22 of 3.1.1]
	}
	if connect.Properties.Number(mqtt.SessionExpiryInterval) == 0 {
		packet.CleanStart = true
		return b.handshake(ctx, one, &packet)
	}
	if packet.CleanStart {
		packet.HasWill = false
		if conn, in, ack, err := b.handshake(ctx, one, &packet); err != nil || ack.Reason != mqtt.Success {
			return conn, in, ack, err
		} else if err := leave(conn, version); err != nil {
			return nil, nil, nil, err
		}
		packet.CleanStart, packet.HasWill = false, connect.HasWill
	}
	return b.handshake(ctx, one, &packet)
}

// leave ends a connection in good order.
func leave(conn net.Conn, version mqtt.Version) error {
	_, err := conn.Write((&mqtt.Disconnect{Type: mqtt.DISCONNECT}).Append(nil, version))
	return errors.Join(err, conn.Close())
}

func (b *brokers) handshake(ctx context.Context, one *broker, connect *mqtt.Connect) (net.Conn, *packets, *mqtt.Connack, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", one.address)
	if err != nil {
		return nil, nil, nil, err
	}
	conn = socket.New(conn.(*net.TCPConn))
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(longAgo) })
	defer stop()
	if one.secure {
		config := b.tls.Clone()
		config.ServerName, _, _ = net.SplitHostPort(one.address)
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, nil, nil, err
		}
		conn = secured
	}
	in := &packets{conn: conn, limit: b.size}
	ack, err := exchangeConnect(in, connect)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, nil, err
	}
	return conn, in, ack, nil
}

func exchangeConnect(in *packets, connect *mqtt.Connect) (*mqtt.Connack, error) {
	if _, err := in.conn.Write(connect.Append(nil)); err != nil {
		return nil, err
	}
	for {
		if err := in.receive(); err != nil {
			return nil, fmt.Errorf("%w: %w", errUnspoken, err)
		}
		h, body, whole, err := in.next()
		switch {
		case err != nil:
			return nil, err
		case whole == nil:
			continue
		case h.Type != mqtt.CONNACK:
			return nil, mqtt.ErrDirection
		}
		ack := new(mqtt.Connack)
		if connect.Version == mqtt.V5 && len(body) == 2 { // of 3.1.1: it has no properties
			if err := ack.Decode(body, mqtt.V311); err != nil || ack.Reason == mqtt.Success {
				return nil, errUnspoken
			}
			return ack, nil
		}
		if err := ack.Decode(body, connect.Version); err != nil {
			return nil, err
		}
		return ack, nil // its properties are views of in's buffer, until that receives again
	}
}
