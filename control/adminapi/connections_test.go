package adminapi

import (
	"errors"
	"io"
	"net"
	"testing"
)

// Who opens connections without end has some closed at once, and gets others when they close theirs.
func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := newBoundedListener(inner, 3, 2)
	defer listener.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- connection
		}
	}()
	dial := func(from string) net.Conn {
		t.Helper()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		connection, err := dialer.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { connection.Close() })
		return connection
	}
	refused := func(from string) {
		t.Helper()
		if _, err := dial(from).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("one more connection of %s: %v", from, err)
		}
	}
	dial("127.0.0.1")
	dial("127.0.0.1")
	first := <-accepted
	<-accepted
	refused("127.0.0.1") // of the source
	dial("127.0.0.2")
	<-accepted
	refused("127.0.0.3") // in all
	first.Close()
	first.Close() // counts once
	dial("127.0.0.3")
	<-accepted
	refused("127.0.0.4")
}

func TestSourceOfAConnection(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8::1:2:3": "2001:db8::/64", "fe80::1": "fe80::/64",
	} {
		if got := prefixOf(&net.TCPAddr{IP: net.ParseIP(address), Port: 1, Zone: ""}); got.String() != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
