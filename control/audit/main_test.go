package audit_test

import (
	"testing"

	"fieldgate/control/controltest"
)

func TestMain(m *testing.M) { controltest.Main(m) }
