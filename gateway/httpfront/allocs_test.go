//go:build !race

package httpfront

import "testing"

func TestExchangesAllocateNothing(t *testing.T) {
	for name, request := range map[string]func(*gateway) string{"plain": plain, "pass-through": passedThrough, "checked": checked, "mock": mocked} {
		t.Run(name, func(t *testing.T) {
			exchange := exchanges(t, request)
			exchange() // connects to the upstream, makes the buffers
			if n := testing.AllocsPerRun(1000, exchange); n != 0 {
				t.Errorf("%v allocations per exchange", n)
			}
		})
	}
}

// Nor does finding out where a request comes from that trusted proxies have forwarded.
func TestForwardedOriginAllocatesNothing(t *testing.T) {
	for name, in := range map[string]ForwardedFields{"X-Forwarded-For": XForwarded, "Forwarded": Forwarded} {
		o, request := forwardedOrigin(in)
		var told []byte
		if n := testing.AllocsPerRun(1000, func() {
			if err := o.resolve(request); err != nil {
				t.Fatal(err)
			}
			told = o.appendFields(told[:0], []byte("api.example"))
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
