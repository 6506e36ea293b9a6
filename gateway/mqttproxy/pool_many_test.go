package mqttproxy

import (
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/mqttfront"
	"fieldgate/protocol/mqtt"
)

// 10,000 devices, or as many as there are descriptors for both ends of, cost the broker four connections: each hears its own commands, and its
// messages are acknowledged.
func TestManyDevicesOverFourUplinks(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens 10,000 connections")
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const workers = 50
	devices := min(10_000, int(limit.Cur-1000)/2)
	m := newMosquitto(t, "max_queued_messages 100000")
	g := newPooled(t, Settings{Addresses: []string{"mqtt://" + m.address}, Uplinks: 4}, func(c *mqttfront.Config) {
		c.MaxConnectionsSource, c.MaxHandshakesSource, c.MaxHandshakes = 2*devices, 2*devices, 2*devices
	})
	g.records.mu.Lock()
	g.records.discard = true
	g.records.mu.Unlock()
	var changes []fieldgate.DirectoryChange
	for i := range devices {
		id := fmt.Sprint("many", i)
		token, err := fieldgate.NewToken(fieldgate.PrefixDevice)
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, fieldgate.DirectoryChange{Kind: fieldgate.PrincipalDevice, ID: id, Sequence: g.directory.Sequence() + 1 + uint64(i),
			Credentials: []fieldgate.CredentialHash{fieldgate.HashToken([]byte(token))}})
		g.tokens[id] = token
	}
	if err := g.directory.Apply(changes); err != nil {
		t.Fatal(err)
	}
	all := make([]*scripted, devices)
	each := func(do func(i int)) {
		var running sync.WaitGroup
		for w := range workers {
			running.Go(func() {
				for i := w; i < devices && !t.Failed(); i += workers {
					do(i)
				}
			})
		}
		running.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	expect := func(s *scripted, kind mqtt.PacketType) bool {
		for {
			h, _, whole, err := s.in.next()
			if err == nil && whole == nil {
				err = s.in.receive()
			}
			if err != nil || whole != nil && h.Type != kind {
				t.Errorf("%v %v, want %v", h.Type, err, kind)
				return false
			}
			if whole != nil {
				return true
			}
		}
	}
	each(func(i int) {
		id := fmt.Sprint("many", i)
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Error(err)
			return
		}
		all[i] = newScripted(t, conn)
		conn.SetDeadline(time.Now().Add(10 * time.Minute)) // it waits for all the others
		connect := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte(id), Password: []byte(g.tokens[id])}
		subscribe := mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/" + id + "/command"), QoS: 1}}}
		if _, err := conn.Write(subscribe.Append(connect.Append(nil), mqtt.V5)); err != nil {
			t.Error(err)
		}
		_ = expect(all[i], mqtt.CONNACK) && expect(all[i], mqtt.SUBACK)
	})
	if state := g.pool.State(); state.Addresses[0].Open != 4 || g.front.Counters.Connections.Load() != int64(devices) {
		t.Errorf("%d devices over %d connections", g.front.Counters.Connections.Load(), state.Addresses[0].Open)
	}
	each(func(i int) {
		p := publish(fmt.Sprint("d/many", i, "/raw"), "x", 1)
		p.PacketID = 2
		if _, err := all[i].in.conn.Write(p.Append(nil, mqtt.V5)); err != nil {
			t.Error(err)
		}
		expect(all[i], mqtt.PUBACK)
	})
	inside := m.dial(mqtt.ClientOptions{ClientID: "inside"})
	for i := 0; i < devices; i += 10 {
		inside.send(publish(fmt.Sprint("d/many", i, "/command"), "x", 1))
		expect(all[i], mqtt.PUBLISH)
	}
}
