package targets

import (
	"testing"

	"fieldgate/control/controltest"
)

// Everything is tested on both engines of the store.
func TestMain(m *testing.M) { controltest.Main(m) }
