package upstream

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"fieldgate/protocol/coap"
)

const (
	// maxLinkMessages is after how many messages a link takes no more calls. Message IDs have 16 bits, and none may come again within
	// EXCHANGE_LIFETIME (RFC 7252 §4.4); a new link has a port, and so numbers, of its own.
	maxLinkMessages = 50_000

	maxCoAPDatagram = 8 << 10 // of what is read; longer ones are cut, and dropped as malformed
)

// coapLink is a client endpoint towards an address: a socket, a DTLS session or a connection, with the exchanges on it.
type coapLink struct {
	address *address
	stream  *coap.Client // a connection, which has an endpoint of its own and ends what is under way itself; nil: conn and what follows
	conn    net.Conn
	peer    netip.AddrPort

	mu        sync.Mutex
	endpoint  *coap.Endpoint
	timer     *time.Timer
	armed     time.Time                  // when timer fires; zero: it is not running
	exchanges map[*coapExchange]struct{} // that were sent and have no answer
	observed  map[*coap.Call]struct{}
	users     int    // calls and observations that have taken the link
	sent      uint64 // messages
	closed    bool
	idleSince time.Time
}

// coapDial is a link that is being opened, for all who wait for it.
type coapDial struct {
	done chan struct{}
	err  error
}

// coapLink takes the link for the next call, and opens one where there is none, or none that may be used. Who takes it leaves it.
func (a *address) coapLink(ctx context.Context, deadline time.Time) (*coapLink, error) {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		a.mu.Lock()
		if n := len(a.links); n > 0 && a.links[n-1].take() {
			link := a.links[n-1]
			a.mu.Unlock()
			return link, nil
		}
		d := a.dialing
		if d == nil {
			d = &coapDial{done: make(chan struct{})}
			a.dialing = d
			go a.openLink(d)
		}
		a.mu.Unlock()
		select {
		case <-d.done:
			if d.err != nil {
				return nil, d.err
			}
		case <-ctx.Done():
			return nil, &connectError{context.Cause(ctx)}
		case <-timer.C:
			return nil, &connectError{context.DeadlineExceeded}
		}
	}
}

// openLink opens a link, whoever of those that wait for it leaves.
func (a *address) openLink(d *coapDial) {
	ctx, cancel := context.WithTimeout(context.Background(), a.connectTimeout)
	defer cancel()
	link, err := a.dialLink(ctx)
	if err != nil {
		d.err = &connectError{err}
	}
	a.mu.Lock()
	a.dialing = nil
	if link != nil {
		a.links = append(a.links, link)
		a.open = len(a.links)
	}
	ended := a.ended
	a.mu.Unlock()
	close(d.done)
	if ended && link != nil { // should nobody take it any more
		time.AfterFunc(a.connectTimeout, func() { a.closeIdleLinks(time.Now()) })
	}
}

func (a *address) dialLink(ctx context.Context) (*coapLink, error) {
	if a.scheme.CoAPStream() {
		client, err := a.dialCoAPStream(ctx)
		if err != nil {
			return nil, err
		}
		l := &coapLink{address: a, stream: client, idleSince: time.Now()}
		go func() {
			<-client.Ended()
			l.breakOff(errNoAnswer)
		}()
		return l, nil
	}
	conn, err := a.dialCoAP(ctx)
	if err != nil {
		return nil, err
	}
	return newCoAPLink(a, conn)
}

// hangUp ends the socket, session or connection. Whoever waits for its end drops the link.
func (l *coapLink) hangUp() {
	if l.stream != nil {
		go l.stream.Close() // which says goodbye
		return
	}
	l.conn.Close()
}

func newCoAPLink(a *address, conn net.Conn) (*coapLink, error) {
	l := &coapLink{address: a, conn: conn, exchanges: make(map[*coapExchange]struct{}), observed: make(map[*coap.Call]struct{}), idleSince: time.Now()}
	l.peer, _ = netip.ParseAddrPort(conn.RemoteAddr().String())
	config := coap.Config{NStart: a.maxOpen, MaxBody: MaxBufferedAnswer, Send: func(_ netip.AddrPort, datagram []byte) {
		l.sent++
		l.conn.Write(datagram) // what is lost is sent again
	}}
	if _, err := rand.Read(config.Seed[:]); err != nil {
		conn.Close()
		return nil, err
	}
	l.endpoint = coap.NewEndpoint(config, time.Now())
	l.timer = time.AfterFunc(time.Hour, l.tick)
	l.timer.Stop()
	go l.read()
	return l, nil
}

// take counts another user of the link, unless it has none any more.
func (l *coapLink) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.sent >= maxLinkMessages {
		return false
	}
	l.users++
	return true
}

// leave ends what take began.
func (l *coapLink) leave() {
	l.mu.Lock()
	l.users--
	l.idleSince = time.Now()
	spent := l.users == 0 && l.sent >= maxLinkMessages
	l.mu.Unlock()
	l.address.mu.Lock()
	ended := l.address.ended
	l.address.mu.Unlock()
	if spent || ended {
		l.address.closeIdleLinks(time.Now())
	}
}

func (l *coapLink) read() {
	buffer := make([]byte, maxCoAPDatagram)
	for {
		n, err := l.conn.Read(buffer)
		if errors.Is(err, syscall.ECONNREFUSED) {
			l.refused(err)
			continue
		}
		if err != nil {
			l.breakOff(err)
			return
		}
		l.mu.Lock()
		l.endpoint.Feed(l.peer, buffer[:n], time.Now())
		for request := l.endpoint.Next(); request != nil; request = l.endpoint.Next() { // the link is a client only
			l.endpoint.Respond(request, &coap.Response{Code: coap.NotImplemented}, time.Now())
		}
		l.unlock()
	}
}

// unlock ends each use of the endpoint: the timer is set for what is due next.
func (l *coapLink) unlock() {
	if l.stream != nil {
		l.mu.Unlock()
		return
	}
	if due, some := l.endpoint.Deadline(); some && !l.closed && (l.armed.IsZero() || due.Before(l.armed)) {
		l.armed = due
		l.timer.Reset(time.Until(due))
	}
	l.mu.Unlock()
}

func (l *coapLink) tick() {
	l.mu.Lock()
	l.armed = time.Time{}
	if !l.closed {
		l.endpoint.Tick(time.Now())
	}
	l.unlock()
}

// do sends the request of an exchange, whose content is there.
func (l *coapLink) do(x *coapExchange) {
	x.call.Deliver = func(reply *coap.Reply) {
		if l.stream == nil {
			delete(l.exchanges, x) // the endpoint is being used: l.mu is held
		}
		if reply.Err != nil {
			x.finish(nil, coapFailure(reply.Err))
		} else {
			x.finish(reply, nil)
		}
	}
	l.mu.Lock()
	defer l.unlock()
	select {
	case <-x.ended: // it was cut meanwhile
		return
	default:
	}
	if l.closed {
		x.finish(nil, errNoAnswer)
		return
	}
	if l.stream != nil {
		l.stream.Start(&x.call)
		return
	}
	l.exchanges[x] = struct{}{}
	l.endpoint.Do(l.peer, &x.call, time.Now())
	x.sentAs = l.sent
}

// cancel forgets an exchange. From then on nobody reads its content.
func (l *coapLink) cancel(x *coapExchange) {
	l.mu.Lock()
	defer l.unlock()
	if l.stream != nil {
		l.stream.Cancel(&x.call)
		return
	}
	if _, there := l.exchanges[x]; there {
		delete(l.exchanges, x)
		l.endpoint.Cancel(&x.call, time.Now())
	}
}

// refused acts on an ICMP message: nobody listens at the address. The message that was sent last is what was refused; if it
// was the only one of its exchange, nobody has seen that. Of all else under way some may have arrived before.
func (l *coapLink) refused(err error) {
	l.mu.Lock()
	sent, lost := l.sent, l.forget()
	l.unlock()
	for _, x := range lost {
		if x.sentAs == sent {
			x.finish(nil, &connectError{err})
		} else {
			x.finish(nil, errors.Join(errNoAnswer, err))
		}
	}
}

// forget takes all exchanges and observations from the endpoint, and ends the latter; the caller holds the lock.
func (l *coapLink) forget() (forgotten []*coapExchange) {
	for call := range l.observed {
		l.endpoint.Cancel(call, time.Now())
		call.Deliver(&coap.Reply{Err: errNoAnswer, Last: true})
	}
	clear(l.observed)
	for x := range l.exchanges {
		l.endpoint.Cancel(&x.call, time.Now())
		forgotten = append(forgotten, x)
	}
	clear(l.exchanges)
	return forgotten
}

// breakOff ends the link: the socket or session is gone.
func (l *coapLink) breakOff(err error) {
	l.mu.Lock()
	lost := l.forget()
	l.closed = true
	if l.stream == nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.hangUp()
	l.address.dropLink(l)
	for _, x := range lost {
		x.finish(nil, errors.Join(errNoAnswer, err))
	}
}

func (a *address) dropLink(l *coapLink) {
	a.mu.Lock()
	a.links = slices.DeleteFunc(a.links, func(other *coapLink) bool { return other == l })
	a.open = len(a.links)
	a.mu.Unlock()
}

// closeIdleLinks closes links that nobody has used since.
func (a *address) closeIdleLinks(before time.Time) {
	a.mu.Lock()
	links := slices.Clone(a.links)
	a.mu.Unlock()
	for _, l := range links {
		l.mu.Lock()
		idle := l.users == 0 && !l.idleSince.After(before)
		l.closed = l.closed || idle
		l.mu.Unlock()
		if idle {
			l.hangUp()
		}
	}
}
