package nats

import (
	"strings"
	"testing"
)

// A cluster answers, also after its servers were killed one after the other and all at once.
func TestCluster(t *testing.T) {
	c := New(t, 3, "")
	if n := len(strings.Split(c.URLs(), ",")); n != c.Size() || n != 3 {
		t.Fatalf("%d addresses of %d servers", n, c.Size())
	}
	c.Kill(0)
	c.Ready()
	c.Start(0)
	c.Stop()
	for i := range c.Size() {
		c.Start(i)
	}
	c.Ready()
}
