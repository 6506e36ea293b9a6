package mqttfront

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"fieldgate/protocol/mqtt"
)

// Who sends more than it may is not read for a while: all that it sent arrives, in order and not before its time, it is not cut off by its
// keep-alive meanwhile, and others do not wait. The same is so of bytes, and in a loop as over a stream.
func TestSendersAreHeldUp(t *testing.T) {
	for _, test := range []struct {
		name   string
		stream bool
		set    func(*Terms)
	}{
		{"messages", false, func(t *Terms) { t.MaxMessageRate = 20 }},
		{"messages over a stream", true, func(t *Terms) { t.MaxMessageRate = 20 }},
		{"bytes", false, func(t *Terms) { t.MaxByteRate = 2 << 10 }},
		{"bytes over a stream", true, func(t *Terms) { t.MaxByteRate = 2 << 10 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, func(c *Config) { test.set(&c.Terms) })
			hears := g.connect("dash", mqtt.ClientOptions{})
			hears.hear("d/+/low", 0)
			modest := g.connect("d2", mqtt.ClientOptions{ClientID: "modest"})
			began := time.Now()
			options := mqtt.ClientOptions{ClientID: "greedy", KeepAlive: 3, Password: g.tokens["d1"]}
			var greedy *mqtt.Client
			if test.stream {
				near, far := net.Pipe()
				g.Front.open(&g.webSockets, far, netip.AddrPort{}, nil) // which no loop can serve
				var err error
				if greedy, err = mqtt.Dial(t.Context(), near, options); err != nil {
					t.Fatal(err)
				}
				defer greedy.Close()
			} else {
				greedy = g.connect("d1", options).Client
			}
			// Of about 100 bytes: six times what may come at once. Their time is more than that of a keep-alive which is missed, and enough for
			// another client's message to come before the last of them.
			const messages = 120
			go func() {
				for i := range messages {
					p := publish("d/d1/low", fmt.Sprintf("%3d %080d", i, 0), 0)
					if err := greedy.Publish(t.Context(), &p); err != nil {
						t.Error(err)
					}
				}
			}()
			for g.Counters.Throttled.Load() == 0 {
				if time.Since(began) > patience {
					t.Fatal("nobody is held up")
				}
				time.Sleep(time.Millisecond)
			}
			modest.send(publish("d/d2/low", "modest", 0))
			next, before := 0, -1
			for next < messages || before < 0 {
				r := hears.next()
				if r.payload == "modest" {
					before = messages - next
					continue
				}
				if want := fmt.Sprintf("%3d", next); r.payload[:3] != want {
					t.Fatalf("message %q, want %s", r.payload[:3], want)
				}
				next++
			}
			if took := time.Since(began); took < time.Second {
				t.Errorf("all came within %v", took)
			}
			if before == 0 {
				t.Error("another client waited for the one that is held up")
			}
			if g.Counters.ThrottledMessages.Load()+g.Counters.ThrottledBytes.Load() == 0 {
				t.Error("it is not counted")
			}
			if err := greedy.Publish(t.Context(), &mqtt.Publish{Topic: []byte("d/d1/low")}); err != nil {
				t.Errorf("the client was cut off: %v", err)
			}
		})
	}
}
