//go:build linux && (amd64 || arm64)

package coap

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

// startAt starts a server on an address of its own choice.
func startAt(t testing.TB, address string, handler Handler) *UDP {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	u, err := NewUDP(conn.(*net.UDPConn), Config{}, testWorkers, handler, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return u
}

// TestAnswersLeaveFromTheAddressAsked holds RFC 7252 §5.3.2 for a socket that is bound to no address: for answers at once and by a worker, for
// refusals, pings and notifications.
func TestAnswersLeaveFromTheAddressAsked(t *testing.T) {
	for _, bound := range []string{"0.0.0.0:0", "[::]:0", "127.0.0.1:0"} {
		t.Run(bound, func(t *testing.T) {
			observers := make(chan *Observation, 10)
			u := startAt(t, bound, func(r *Request, response *Response) func(context.Context) {
				if r.Registers() {
					response.Observation, response.Trusted = new(Observation), true
					observers <- response.Observation
				}
				return echo(r, response)
			})
			asked := []string{"127.0.0.2", "127.0.0.1", "127.0.0.3", "::1"}
			switch bound {
			case "0.0.0.0:0":
				asked = asked[:3]
			case "127.0.0.1:0":
				asked = asked[1:2]
			}
			type peer struct {
				conn *net.UDPConn
				at   netip.AddrPort
			}
			var peers []peer
			receive := func(p peer, what string) (m Message) {
				t.Helper()
				buffer := make([]byte, 2048)
				p.conn.SetReadDeadline(time.Now().Add(time.Minute))
				n, from, err := p.conn.ReadFromUDPAddrPort(buffer)
				if err != nil {
					t.Fatal(err)
				}
				if from = canonical(from); from != p.at {
					t.Errorf("%s came from %v, asked was %v", what, from, p.at)
				}
				if m, err = Decode(buffer[:n]); err != nil {
					t.Error(err)
				}
				return m
			}
			for i, address := range asked {
				network, own := "udp4", "127.0.0.1"
				if address == "::1" {
					network, own = "udp6", address
				}
				conn, err := net.ListenUDP(network, &net.UDPAddr{IP: net.ParseIP(own)})
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				p := peer{conn, netip.AddrPortFrom(netip.MustParseAddr(address), u.LocalAddr().Port())}
				peers = append(peers, p)
				for what, datagram := range map[string][]byte{
					"an answer":             request(Confirmable, GET, 1, "/a"),
					"an answer of a worker": request(Confirmable, GET, 2, "/wait"),
					"a refusal":             request(Confirmable, GET, 3, "/a", withUint(65001, 1)),
					"the answer to a ping":  appendEmpty(nil, Confirmable, 4),
					"a registration":        request(Confirmable, GET, uint16(5+i), "/o", withUint(Observe, 0)),
				} {
					if _, err := conn.WriteToUDPAddrPort(datagram, p.at); err != nil {
						t.Fatal(err)
					}
					receive(p, what)
				}
			}
			for _, p := range peers {
				u.Notify(<-observers, &Response{Body: []byte("news")})
				receive(p, "a notification")
			}
		})
	}
}

// TestAddressThatIsGone has a host lose the address that everybody asked.
func TestAddressThatIsGone(t *testing.T) {
	server := startUDP(t, Config{}, echo)
	for _, bound := range []string{"0.0.0.0:0", "[::]:0"} {
		client := startAt(t, bound, nil)
		client.socket.local.heard(server.LocalAddr(), netip.MustParseAddr("192.0.2.1"))
		if r, err := client.Do(t.Context(), server.LocalAddr(), get("/a")); err != nil || r.Code != Content {
			t.Errorf("%s: %v %v", bound, r, err)
		}
		if at := client.socket.local.of(server.LocalAddr()); at != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("%s: it is sent to from %v", bound, at)
		}
	}
}

func TestLocalAddresses(t *testing.T) {
	first, second := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	peer := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5683)
	}
	var l localAddresses
	if l.of(peer(1)).IsValid() {
		t.Error("known before anybody has asked")
	}
	l.heard(peer(1), first)
	l.heard(peer(2), second)
	if l.of(peer(1)) != first || l.of(peer(2)) != second || l.of(peer(3)) != first {
		t.Error("not each from where it has asked")
	}
	if l.heard(peer(2), first); l.of(peer(2)) != first || len(l.newer) != 0 {
		t.Error("or lastly asked")
	}
	l.heard(peer(2), second)
	for i := range 3 * maxLocal {
		l.heard(peer(1<<18+i), second)
		if i%1000 == 0 && l.of(peer(2)) != second {
			t.Fatalf("one that is sent to is forgotten after %d others", i)
		}
	}
	if n := len(l.newer) + len(l.older); n > 2*maxLocal {
		t.Errorf("%d are remembered", n)
	}
	l.heard(peer(4), netip.MustParseAddr("224.0.1.187"))
	if l.of(peer(4)) != first {
		t.Error("a group is no address to send from")
	}
	if l.gone(peer(2)); l.of(peer(2)) != first {
		t.Error("an address that is gone is used on")
	}
	if l.gone(peer(1)); l.of(peer(1)).IsValid() {
		t.Error("the common address that is gone is used on")
	}
}
