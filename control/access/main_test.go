package access

import (
	"testing"

	"fieldgate/control/controltest"
)

func TestMain(m *testing.M) { controltest.Main(m) }
