package coapfront

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/coapsocket"
	"fieldgate/protocol/coap"
)

// connectedDevice is device d7 by a TCP connection.
type connectedDevice struct {
	*coap.Client
	*peer
}

func (p *peer) connect(n *node) *connectedDevice {
	p.t.Helper()
	c, err := coapsocket.Dial(p.t.Context(), "coap+tcp", n.tcp, coapsocket.Config{
		Handler: func(request *coap.Request, response *coap.Response) func(context.Context) {
			return func(context.Context) { p.serve(request, response) }
		}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return &connectedDevice{c, p}
}

// says sends a request by the connection.
func (c *connectedDevice) says(want coap.Code, code coap.Code, path string, query ...string) {
	c.t.Helper()
	request := call(code, path, nil, text(OptionCredential, sharedTokens[c.id]))
	for _, q := range query {
		request.Options.AddString(coap.URIQuery, q)
	}
	reply, err := c.Client.Do(c.t.Context(), request)
	if err != nil || reply.Code != want {
		c.t.Fatalf("%s %s: %v %v, want %s", code, path, reply, err, want)
	}
}

// at is where the gateways agree that d7 is.
func (n *node) at() (r fieldgate.DeviceRegistration) {
	n.Helper()
	stored, err := n.devices.shared.Registration(n.Context(), "d7")
	if err != nil || stored == nil {
		n.Fatal(stored, err)
	}
	return *stored
}

// knows waits until a node knows what is stored.
func (n *node) knows() {
	n.Helper()
	eventually(n, n.name+" knows where the device is", func() bool {
		r, stored := n.devices.device("d7").present(time.Now()), n.at()
		return r != nil && r.Node == stored.Node && r.Epoch == stored.Epoch && r.Peer == stored.Peer
	})
}

func (n *node) asks(want string) {
	n.Helper()
	answer, problem := n.devices.Ask(n.Context(), deviceCall("POST", "/"+want, 0))
	if problem != nil || string(answer.Body) != "d7 /"+want {
		n.Fatalf("%s asks %s: %+v %v", n.name, want, answer, problem)
	}
}

// A device is asked over the newest of its sessions, whichever gateway has it.
func TestDeviceMovesBetweenGateways(t *testing.T) {
	b := openBus(t)
	one, two := newNode(t, b, "n1", 1), newNode(t, b, "n2", 1)
	d7 := newPeer(t, "d7")
	first := d7.connect(one)
	first.says(coap.Created, coap.POST, "/rd")
	two.knows()
	two.asks("first")
	moved := func(at *node) {
		t.Helper()
		eventually(t, "the device is at "+at.name, func() bool { return at.at().Node == at.name })
		for _, n := range []*node{one, two} {
			n.knows()
			device := n.devices.device("d7")
			device.mu.Lock()
			device.moved = time.Time{} // as if that was long ago
			device.mu.Unlock()
		}
	}
	second := d7.connect(two)
	second.says(coap.NotFound, coap.GET, "/anything")
	moved(two)
	one.asks("second")
	first.says(coap.NotFound, coap.GET, "/anything") // by the session that it has had all the time
	moved(one)
	two.asks("third")

	// Its gateway ends, and it is gone until it is heard elsewhere.
	one.stop()
	if _, problem := two.devices.Ask(t.Context(), deviceCall("POST", "/lost", 0)); problem != errAway {
		t.Error(problem)
	}
	if answer, problem := two.devices.Ask(t.Context(), deviceCall("POST", "/kept", time.Hour)); problem != nil || answer.Status != 202 {
		t.Fatal(answer, problem)
	}
	second.says(coap.NotFound, coap.GET, "/anything")
	eventually(t, "the command is answered", func() bool { return two.commands("d7")[0].State == fieldgate.CommandAnswered })
	if got := d7.seen(); got != "POST /first, POST /second, POST /third, POST /kept" {
		t.Error(got)
	}
}

// A device that registered by a datagram is asked by the gateway that it speaks to, if it sends from the same port as then.
func TestDeviceMovesByDatagrams(t *testing.T) {
	b := openBus(t)
	one, two := newNode(t, b, "n1", 1), newNode(t, b, "n2", 1)
	d7, other := newPeer(t, "d7"), newPeer(t, "d7")
	d7.expect(one, coap.Created, coap.POST, "/rd", "</t>")
	two.knows()
	other.expect(two, coap.NotFound, coap.GET, "/anything", "")
	d7.connect(two).says(coap.NotFound, coap.GET, "/anything")
	two.asks("first")
	if r := two.at(); r.Node != "n1" || r.Transport != "coap" {
		t.Errorf("%+v", r)
	}
	one.stop()
	d7.expect(two, coap.NotFound, coap.GET, "/anything", "")
	eventually(t, "the device is at the other gateway", func() bool { return two.at().Node == "n2" })
	two.knows()
	two.asks("second")
	if got := d7.seen(); got != "POST /first, POST /second" {
		t.Error(got)
	}
}

// What cannot be sent as the session has ended waits as it is, and is sent by the next one; nothing is tried meanwhile.
func TestSessionHasEnded(t *testing.T) {
	n := newNode(t, openBus(t), "n1", 1)
	d7 := newPeer(t, "d7")
	c := d7.connect(n)
	c.says(coap.Created, coap.POST, "/rd")
	c.Close()
	eventually(t, "it is gone", func() bool {
		_, problem := n.devices.Ask(t.Context(), deviceCall("POST", "/now", 0))
		return problem == errGone
	})
	for _, path := range []string{"/a", "/b"} {
		if answer, problem := n.devices.Ask(t.Context(), deviceCall("POST", path, time.Hour)); problem != nil || answer.Status != 202 {
			t.Fatal(answer, problem)
		}
	}
	eventually(t, "the gateway knows that something waits", func() bool {
		device := n.devices.device("d7")
		device.mu.Lock()
		defer device.mu.Unlock()
		return device.waiting && !device.sending
	})
	for _, c := range n.commands("d7") {
		if c.State != fieldgate.CommandQueued || c.Attempts != 0 {
			t.Errorf("%+v", c)
		}
	}
	d7.connect(n).says(coap.NotFound, coap.GET, "/anything")
	eventually(t, "both are answered", func() bool { return n.commands("d7")[1].State == fieldgate.CommandAnswered })
	if got := d7.seen(); got != "POST /a, POST /b" {
		t.Error(got)
	}
}

// A command that comes while it is being noted that the device has a new session finds the old one ended. That is no reason to wait until the
// device is heard once more: it has just been heard.
func TestCommandComesWhileTheDeviceMoves(t *testing.T) {
	n := newNode(t, openBus(t), "n1", 1)
	d7 := newPeer(t, "d7")
	c := d7.connect(n)
	c.says(coap.Created, coap.POST, "/rd")
	c.Close()
	eventually(t, "it is gone", func() bool {
		_, problem := n.devices.Ask(t.Context(), deviceCall("POST", "/now", 0))
		return problem == errGone
	})
	if answer, problem := n.devices.Ask(t.Context(), deviceCall("POST", "/a", time.Hour)); problem != nil || answer.Status != 202 {
		t.Fatal(answer, problem)
	}
	device := n.devices.device("d7")
	in := func(what func() bool) bool {
		device.mu.Lock()
		defer device.mu.Unlock()
		return what()
	}
	in(func() bool {
		device.heard, device.moving = time.Now(), true
		return true
	})
	n.devices.deliver(device)
	eventually(t, "the queue was looked at", func() bool { return in(func() bool { return !device.sending }) })
	if in(func() bool { device.moving = false; return device.heard.IsZero() }) {
		t.Error("it is taken for one that has not been heard")
	}
	d7.connect(n).says(coap.NotFound, coap.GET, "/anything")
	eventually(t, "the command is answered", func() bool { return n.commands("d7")[0].State == fieldgate.CommandAnswered })
}

// A session that ends while the device carries something out: nobody knows whether it has, so what is not idempotent is not sent again.
func TestSessionEndsMeanwhile(t *testing.T) {
	n := newNode(t, openBus(t), "n1", 1)
	d7 := newPeer(t, "d7")
	c := d7.connect(n)
	c.says(coap.Created, coap.POST, "/rd")
	hold := make(chan struct{})
	d7.mu.Lock()
	d7.answer = func(*coap.Request, *coap.Response) {
		go c.Close()
		<-hold
	}
	d7.mu.Unlock()
	defer close(hold)
	if _, problem := n.devices.Ask(t.Context(), deviceCall("POST", "/cut", time.Hour)); problem != errCutOff {
		t.Fatal(problem)
	}
	if all := n.commands("d7"); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	if answer, problem := n.devices.Ask(t.Context(), deviceCall("PUT", "/again", time.Hour)); problem != nil || answer.Status != 202 {
		t.Fatal(answer, problem)
	}
}

// A device that does not answer is tried once each time that it was heard, though it never sleeps.
func TestDeviceThatDoesNotAnswer(t *testing.T) {
	n := newNode(t, openBus(t), "n1", 1)
	d7 := newPeer(t, "d7")
	c := d7.connect(n)
	c.says(coap.Created, coap.POST, "/rd")
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	d7.mu.Lock()
	d7.answer = func(*coap.Request, *coap.Response) { <-hold }
	d7.mu.Unlock()
	put := deviceCall("PUT", "/slow", time.Hour)
	put.Request.Timeout = 50 * time.Millisecond
	if answer, problem := n.devices.Ask(t.Context(), put); problem != nil || answer.Status != 202 {
		t.Fatal(answer, problem)
	}
	for attempts := range 3 {
		eventually(t, "it was tried", func() bool {
			first := n.commands("d7")[0]
			device := n.devices.device("d7")
			device.mu.Lock()
			defer device.mu.Unlock()
			return first.State == fieldgate.CommandQueued && first.Attempts == attempts && device.waiting && !device.sending && device.heard.IsZero()
		})
		if attempts < 2 {
			c.says(coap.NotFound, coap.GET, "/anything")
		}
	}
	release()
	d7.mu.Lock()
	d7.answer = nil
	d7.mu.Unlock()
	c.says(coap.NotFound, coap.GET, "/anything")
	eventually(t, "it is answered", func() bool {
		c := n.commands("d7")[0]
		return c.State == fieldgate.CommandAnswered && c.Attempts == 3
	})
}

// What CoAP cannot carry keeps nothing else from a device.
func TestCommandThatCannotBeSent(t *testing.T) {
	n := newNode(t, openBus(t), "n1", 1)
	err := n.devices.shared.Change(t.Context(), "d7", func(all *fieldgate.DeviceCommands) error { // as an operator's comes
		for _, request := range []fieldgate.DeviceRequest{{Method: "PUT", Path: "/a", Body: []byte("x"), ContentType: "application/pdf"}, {Method: "GET", Path: "/" + strings.Repeat("x", 256)}, {Method: "GET", Path: "/b"}} {
			if err := all.Add(fieldgate.NewDeviceCommand("operator ann", "", request, time.Hour)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d7 := newPeer(t, "d7")
	d7.expect(n, coap.Created, coap.POST, "/rd", "</t>")
	eventually(t, "the last is answered", func() bool { return n.commands("d7")[2].State == fieldgate.CommandAnswered })
	for _, c := range n.commands("d7")[:2] {
		if c.State != fieldgate.CommandRejected {
			t.Errorf("%+v", c)
		}
	}
}

// A command that a gateway was sending when it was killed holds up nothing: it is settled as soon as another gateway finds that it is gone.
func TestGatewayIsKilledWhileItSends(t *testing.T) {
	b := openBus(t)
	two := newNode(t, b, "n2", 1)
	for _, method := range []string{"POST", "POST"} {
		if _, problem := two.devices.Ask(t.Context(), deviceCall(method, "/c", time.Hour)); problem != nil {
			t.Fatal(problem)
		}
	}
	sent := func(node string) {
		t.Helper()
		if err := two.devices.shared.Change(t.Context(), "d7", func(all *fieldgate.DeviceCommands) error {
			first := all.First()
			first.State, first.Node, first.Epoch, first.SentAt, first.Attempts = fieldgate.CommandSent, node, 1, first.Left, 1
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	one := newNode(t, b, "n1", 1) // it is there, and at it as far as anybody knows
	sent("n1")
	d7 := newPeer(t, "d7")
	d7.expect(two, coap.Created, coap.POST, "/rd", "</t>")
	eventually(t, "the queue was looked at", func() bool {
		device := two.devices.device("d7")
		device.mu.Lock()
		defer device.mu.Unlock()
		return !device.sending && !device.heard.IsZero()
	})
	if got := two.commands("d7"); got[0].State != fieldgate.CommandSent || got[1].State != fieldgate.CommandQueued {
		t.Fatalf("%+v", got)
	}
	one.stop()
	d7.expect(two, coap.NotFound, coap.GET, "/anything", "")
	eventually(t, "the second is answered", func() bool { return two.commands("d7")[1].State == fieldgate.CommandAnswered })
	if c := two.commands("d7")[0]; c.State != fieldgate.CommandUnanswered || d7.seen() != "POST /c" {
		t.Errorf("%+v; the device was asked %s", c, d7.seen())
	}
}
