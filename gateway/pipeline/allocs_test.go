//go:build !race

package pipeline

import (
	"testing"

	"fieldgate"
)

// A QoS 0 PUBLISH that passes takes no memory from the heap.
func TestPublishAllocates(t *testing.T) {
	f, caller := messaging(t)
	for _, topic := range []string{"raw", "telemetry"} {
		x, grants, name, body := &Exchange{}, &Grants{}, []byte("f/d7/"+topic), telemetry(256)
		publish := func() {
			x.Reset()
			x.Protocol, x.Method, x.Caller, x.Grants, x.Path = fieldgate.ProtocolMQTT, fieldgate.MethodPublish, caller, grants, name
			problem := f.Begin(x)
			if x.Body = body; problem == nil {
				problem = f.Check(x)
			}
			if problem != nil {
				t.Fatal(problem)
			}
			f.Finish(x)
		}
		if n := testing.AllocsPerRun(1000, publish); n != 0 {
			t.Errorf("%s: %v allocations", topic, n)
		}
	}
}
