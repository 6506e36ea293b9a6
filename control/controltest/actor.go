package controltest

import (
	"context"
	"testing"

	"fieldgate/control/audit"
)

// Actor is who decides in tests.
const Actor = "me"

// Context is the context of a test, in which Actor decides.
func Context(t testing.TB) context.Context {
	return audit.As(t.Context(), audit.Actor{Name: Actor, Via: "test"})
}
