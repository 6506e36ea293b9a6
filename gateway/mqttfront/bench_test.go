package mqttfront

import (
	"bytes"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"fieldgate/protocol/mqtt"
)

// cpu is the processor time that this process has used, both sides of the connections included.
func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// One device publishes 64 bytes, an app hears it, over TCP and through the whole pipeline; 10 messages to a write. The
// processor time includes both clients.
func BenchmarkPublishToSubscriber(b *testing.B) {
	for _, qos := range []byte{0, 1} {
		b.Run(fmt.Sprint("QoS", qos), func(b *testing.B) {
			g := newGateway(b, nil)
			g.records.discard = true
			ear := rawDial(b, g, "dash", "ear")
			ear.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/+/raw"), QoS: 0}}}).Append(nil, mqtt.V5))
			ear.packet(mqtt.SUBACK)
			device := rawDial(b, g, "d1", "device")
			p := publish("d/d1/raw", string(bytes.Repeat([]byte("x"), 64)), qos)
			const batch = 10
			var packets []byte
			for i := range batch {
				p.PacketID = uint16(i + 1)
				packets = p.Append(packets, mqtt.V5)
			}
			p.QoS, p.PacketID = 0, 0
			delivered := make([]byte, batch*len(p.Append(nil, mqtt.V5)))
			acks := make([]byte, batch*4)
			b.ReportAllocs()
			began := cpu(b)
			messages := 0
			for b.Loop() {
				device.write(packets)
				if qos > 0 {
					if _, err := io.ReadFull(device.r, acks); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := io.ReadFull(ear.r, delivered); err != nil {
					b.Fatal(err)
				}
				messages += batch
			}
			b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(messages), "cpu-ns/message")
		})
	}
}
