//go:build !race

package mqttfront

import (
	"io"
	"strings"
	"testing"

	"fieldgate/protocol/mqtt"
)

// A QoS 0 message goes from one client to others through the whole pipeline without an allocation, also where other nodes want other messages.
func TestDeliveriesAllocateNothing(t *testing.T) {
	t.Run("alone", func(t *testing.T) { deliverWithoutAllocation(t, newGateway(t, nil)) })
	t.Run("among others", func(t *testing.T) {
		g := newGateways(t, 2)
		g[1].connect("dash", mqtt.ClientOptions{}).hear("d/+/telemetry", 1)
		g[0].knows(1)
		deliverWithoutAllocation(t, g[0])
	})
}

func deliverWithoutAllocation(t *testing.T, g *gateway) {
	g.records.discard = true
	var ears []*raw
	for _, name := range []string{"one", "two", "three"} {
		ear := rawDial(t, g, "dash", name)
		ear.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/+/raw"), QoS: 1}}}).Append(nil, mqtt.V5))
		ear.packet(mqtt.SUBACK)
		ears = append(ears, ear)
	}
	device := rawDial(t, g, "d1", "device")
	p := publish("d/d1/raw", strings.Repeat("x", 64), 0)
	packet := p.Append(nil, mqtt.V5)
	delivered := make([]byte, len(packet))
	exchange := func() {
		device.write(packet)
		for _, ear := range ears {
			if _, err := io.ReadFull(ear.conn, delivered); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 100 { // finds the caller's grant, makes the buffers
		exchange()
	}
	if n := testing.AllocsPerRun(2000, exchange); n != 0 {
		t.Errorf("%v allocations per message", n)
	}
}
