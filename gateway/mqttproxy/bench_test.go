package mqttproxy

import (
	"net"
	"syscall"
	"testing"

	"fieldgate/protocol/mqtt"
)

// nowhere is a connection that forgets what it is told.
type nowhere struct{ memory }

func (*nowhere) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkForward is what one message costs besides reading and writing, 64 bytes of payload, 100 in a read.
func BenchmarkForward(b *testing.B) {
	const messages = 100
	for _, test := range []struct {
		name   string
		prefix string
		down   bool
	}{{"unchanged", "", false}, {"prefix", "plant1/", false}, {"delivered", "", true}, {"delivered prefix", "plant1/", true}} {
		b.Run(test.name, func(b *testing.B) {
			g := newGateway(b, Settings{Addresses: []string{"mqtt://127.0.0.1:1"}, Prefix: test.prefix})
			g.records.discard = true
			caller, problem := g.pipeline.Identify(nil, []byte(g.tokens["d1"]))
			if problem != nil {
				b.Fatal(problem)
			}
			s, _, _ := newLoops(b, g.Proxy, caller, mqtt.V5, mqtt.V5)
			s.device.conn, s.broker.conn = new(nowhere), new(nowhere)
			p := publish("d/d1/raw", "0123456789012345678901234567890123456789012345678901234567890123", 0)
			in, handle := &s.fromDevice, s.devicePacket
			if test.down {
				p.Topic = []byte(test.prefix + "d/d1/command")
				in, handle = &s.fromBroker, s.brokerPacket
			}
			var read []byte
			for range messages {
				read = p.Append(read, mqtt.V5)
			}
			b.ReportAllocs()
			for b.Loop() {
				s.feed(in, read, handle)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/message")
		})
	}
}

// BenchmarkOneMessageAWrite is what a message of QoS 1 costs that comes alone and is acknowledged before the next, over sockets and Mosquitto. The
// processor time is this process's, the client's included.
func BenchmarkOneMessageAWrite(b *testing.B) {
	m := newMosquitto(b)
	for _, way := range []string{"mosquitto", "own connection", "uplink"} {
		b.Run(way, func(b *testing.B) {
			address, token := m.address, ""
			switch way {
			case "own connection":
				g := newGateway(b, Settings{Addresses: []string{"mqtt://" + m.address}})
				g.records.discard, address, token = true, g.address, g.tokens["d1"]
			case "uplink":
				g := newPooled(b, Settings{Addresses: []string{"mqtt://" + m.address}, Uplinks: 1})
				g.records.discard, address, token = true, g.address, g.tokens["d1"]
			}
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			device := newScripted(b, conn)
			connect := mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("c")}
			if token != "" {
				connect.Password = []byte(token)
			}
			device.write(connect.Append(nil))
			device.packet(mqtt.CONNACK)
			p := publish("d/d1/raw", "0123456789012345678901234567890123456789012345678901234567890123", 1)
			p.PacketID = 1
			packet := p.Append(nil, mqtt.V5)
			var before, after syscall.Rusage
			syscall.Getrusage(syscall.RUSAGE_SELF, &before)
			for b.Loop() {
				device.write(packet)
				device.packet(mqtt.PUBACK)
			}
			syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			b.ReportMetric(float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())/float64(b.N), "cpu-ns/message")
		})
	}
}
