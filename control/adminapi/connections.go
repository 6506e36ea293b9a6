package adminapi

import (
	"net"
	"net/netip"
	"sync"
)

// The connections of TCP that are open at once, in all and from one source: an IPv4 address, or a /64 of IPv6. Each takes a file
// descriptor of the process, in which a gateway may serve, too.
const (
	maxConnections       = 1000
	maxConnectionsSource = 300
)

// boundedListener closes connections beyond its bounds as soon as they come.
type boundedListener struct {
	net.Listener
	most, mostSource int

	mu      sync.Mutex
	open    int
	sources map[netip.Prefix]int
}

func newBoundedListener(listener net.Listener, most, mostSource int) *boundedListener {
	return &boundedListener{Listener: listener, most: most, mostSource: mostSource, sources: make(map[netip.Prefix]int)}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := prefixOf(connection.RemoteAddr())
		if l.take(source) {
			return &boundedConnection{Conn: connection, release: sync.OnceFunc(func() { l.release(source) })}, nil
		}
		connection.Close()
	}
}

func (l *boundedListener) take(source netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.most || l.sources[source] >= l.mostSource {
		return false
	}
	l.open++
	l.sources[source]++
	return true
}

func (l *boundedListener) release(source netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.sources[source]--; l.sources[source] == 0 {
		delete(l.sources, source)
	}
}

// prefixOf is what one party holds of the Internet.
func prefixOf(remote net.Addr) netip.Prefix {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	address, bits := tcp.AddrPort().Addr().Unmap().WithZone(""), 32
	if address.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(address, bits).Masked()
}

type boundedConnection struct {
	net.Conn
	release func()
}

func (c *boundedConnection) Close() error {
	defer c.release()
	return c.Conn.Close()
}
