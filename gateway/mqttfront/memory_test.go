//go:build linux && !race

package mqttfront

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/socket"
	"fieldgate/protocol/mqtt"
)

// crowd is how many connections the tests of memory open.
const crowd = 2000

// heap is the live memory of the process; what fills connections on the other side is of the kernel.
func heap() int {
	runtime.GC()
	runtime.GC() // what pools held
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// dialBare connects without memory of this process.
func dialBare(t *testing.T, address string) int {
	t.Helper()
	to := netip.MustParseAddrPort(address)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil && err != syscall.EINTR {
		t.Fatal(err)
	}
	return fd
}

// exchangeBare writes a packet, when the connection is there, and reads an answer of that length.
func exchangeBare(t *testing.T, fd int, packet []byte, length int) {
	t.Helper()
	for len(packet) > 0 {
		n, err := syscall.Write(fd, packet)
		if err != nil && err != syscall.EINTR && err != syscall.ENOTCONN && err != syscall.EAGAIN {
			t.Fatal(err)
		}
		packet = packet[max(n, 0):]
	}
	var answer [64]byte
	for got := 0; got < length; {
		n, err := syscall.Read(fd, answer[got:length])
		if err != nil && err != syscall.EINTR || err == nil && n == 0 {
			t.Fatalf("after %d bytes of the answer: %v", got, err)
		}
		got += max(n, 0)
	}
}

func room(t *testing.T, files uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < files {
		before := limit
		limit.Cur = min(files, limit.Max)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) })
	}
}

// What a connection costs that says nothing: before its CONNECT, with a session, and with a subscription.
func TestIdleConnectionsAreSmall(t *testing.T) {
	room(t, 3*crowd)
	g := newGateway(t, func(c *Config) { c.ConnectTimeout = time.Hour }) // they wait for each other before they say who they are
	tokens := make([]string, crowd)
	changes := make([]fieldgate.DirectoryChange, crowd)
	for i := range crowd {
		var err error
		if tokens[i], err = fieldgate.NewToken(fieldgate.PrefixDevice); err != nil {
			t.Fatal(err)
		}
		g.sequence++
		changes[i] = fieldgate.DirectoryChange{Sequence: g.sequence, Kind: fieldgate.PrincipalDevice, ID: fmt.Sprintf("b%05d", i),
			Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(tokens[i]))}}
	}
	if err := g.directory.Apply(changes); err != nil {
		t.Fatal(err)
	}
	g.records.discard = true
	open := make([]int, crowd)
	defer func() {
		for _, fd := range open {
			syscall.Close(fd)
		}
	}()
	measure := func(what string, most int, each func(i int)) {
		before := heap()
		for i := range crowd {
			each(i)
		}
		if what == "open" {
			for g.Counters.Connections.Load() < crowd {
				runtime.Gosched()
			}
		}
		if size := (heap() - before) / crowd; size > most {
			t.Errorf("%s: %d bytes each, at most %d are allowed", what, size, most)
		} else {
			t.Logf("%s: %d bytes each", what, size)
		}
	}
	measure("open", 350, func(i int) { open[i] = dialBare(t, g.address) })
	var packet []byte
	measure("connected", 400, func(i int) {
		connect := mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: fmt.Appendf(nil, "b%05d", i), Username: fmt.Appendf(nil, "b%05d", i), Password: []byte(tokens[i])}
		packet = connect.Append(packet[:0])
		exchangeBare(t, open[i], packet, 4)
	})
	measure("subscribed", 150, func(i int) {
		filter := fmt.Appendf(nil, "d/b%05d/command", i)
		packet = (&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: filter, QoS: 1}}}).Append(packet[:0], mqtt.V311)
		exchangeBare(t, open[i], packet, 5)
	})
}

// What a connection with TLS costs that says nothing; the client's side of TLS is let go.
func TestIdleSecuredConnectionsAreSmall(t *testing.T) {
	const some, most = 300, 9000
	g := newSecuredGateway(t)
	g.records.discard = true
	connect := func(i int) {
		client := securedDial(t, g, "d1", fmt.Sprint("c", i))
		tcp := client.conn.(*tls.Conn).NetConn().(*net.TCPConn)
		fd, err := socket.Duplicate(tcp)
		if err != nil {
			t.Fatal(err)
		}
		tcp.Close()
		t.Cleanup(func() { syscall.Close(fd) })
	}
	connect(0) // what is needed once is there
	before := heap()
	for i := range some {
		connect(1 + i)
	}
	if size := (heap() - before) / some; size > most {
		t.Errorf("%d bytes each, at most %d are allowed", size, most)
	} else {
		t.Logf("%d bytes each", size)
	}
}
