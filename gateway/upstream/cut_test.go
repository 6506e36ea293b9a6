package upstream

import (
	"net"
	"testing"
	"time"

	"fieldgate"
)

// A Cut that comes before the request was sent ends the call too: setting the deadline of the call must not undo it.
func TestCutBeforeSend(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	set, err := NewSet([]fieldgate.Upstream{{Name: "silent", Addresses: []string{"http://" + listener.Addr().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Call){"sent": func(*Call) {}, "progress": func(c *Call) { c.Progress() }, "stream": func(c *Call) { c.Stream() }} {
		t.Run(name, func(t *testing.T) {
			var handle Handle
			handle.Cut()
			call := &Call{Method: []byte("GET"), Path: []byte("/"), Timeout: time.Hour, Handle: &handle}
			ended := make(chan *fieldgate.Problem, 1)
			go func() {
				problem := call.Send(set.Upstream("silent"))
				if problem == nil {
					change(call)
					problem = call.Answer()
					call.End()
				}
				ended <- problem
			}()
			select {
			case problem := <-ended:
				if problem == nil {
					t.Error("an answer from nowhere")
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the call goes on")
			}
		})
	}
}
