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
