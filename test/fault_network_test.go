package test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fieldgate/test/port"
)

// place is a network namespace of the test, as a machine of its own. It has nothing but the links that the test makes.
type place struct {
	t    testing.TB
	name string
}

// link is a cable between a place and the test.
type link struct {
	place     *place
	device    string // of the test's end; that of the place has the same name with "p" behind it
	here, far string // addresses of the two ends
}

// links is how many the test has made.
var links int

// newPlace makes a network namespace. It needs root.
func newPlace(t testing.TB) *place {
	t.Helper()
	p := &place{t: t, name: fmt.Sprintf("fgt%d-%04x", os.Getpid()%100_000, rand.IntN(1<<16))}
	mustTool(t, "ip", "netns", "add", p.name)
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", p.name).Run() }) // and the links with it
	mustTool(t, "ip", "-netns", p.name, "link", "set", "lo", "up")
	return p
}

// link lays a cable, in a network of its own.
func (p *place) link() *link {
	p.t.Helper()
	links++
	network := fmt.Sprintf("10.200.%d", links)
	l := &link{place: p, device: fmt.Sprint("link", links), here: network + ".1", far: network + ".2"}
	mustTool(p.t, "ip", "link", "add", l.device, "type", "veth", "peer", "name", l.device+"p", "netns", p.name)
	mustTool(p.t, "ip", "address", "add", l.here+"/30", "dev", l.device)
	mustTool(p.t, "ip", "link", "set", l.device, "up")
	mustTool(p.t, "ip", "-netns", p.name, "address", "add", l.far+"/30", "dev", l.device+"p")
	mustTool(p.t, "ip", "-netns", p.name, "link", "set", l.device+"p", "up")
	return l
}

// cut lets nothing through any more, without a word to either end: a queue that is smaller than any packet.
func (l *link) cut() {
	for _, end := range [][]string{{"qdisc", "add", "dev", l.device}, {"-netns", l.place.name, "qdisc", "add", "dev", l.device + "p"}} {
		mustTool(l.place.t, "tc", append(end, "root", "tbf", "rate", "8bit", "burst", "1", "latency", "1ms")...)
	}
}

func (l *link) mend() {
	mustTool(l.place.t, "tc", "qdisc", "delete", "dev", l.device, "root")
	mustTool(l.place.t, "tc", "-netns", l.place.name, "qdisc", "delete", "dev", l.device+"p", "root")
}

// offer makes a server of the test's loopback interface reachable over the link, and gives its address there.
func (l *link) offer(target string) (address string) {
	l.place.t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(l.here, "0"))
	if err != nil {
		l.place.t.Fatal(err)
	}
	l.place.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				far, err := net.Dial("tcp", target)
				if err != nil {
					return
				}
				defer far.Close()
				go func() {
					io.Copy(far, near)
					far.Close()
				}()
				io.Copy(near, far)
			}()
		}
	}()
	return listener.Addr().String()
}

// natsOver are the addresses of the NATS servers over a link.
func (e *engines) natsOver(l *link) string {
	var urls []string
	for i := range e.nats.Size() {
		urls = append(urls, "nats://"+l.offer(strings.TrimPrefix(e.nats.URL(i), "nats://")))
	}
	return strings.Join(urls, ",")
}

// aloneVariable makes this program run a test in the network that it is in. It is the path of the built command.
const aloneVariable = "FIELDGATE_TEST_ALONE"

// alone runs the test in a process and a network namespace of its own, and is true there. Links that come and go are not seen outside: a
// browser, whose tests run beside this one, gives up all that it is asking for when the machine's network changes.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneVariable) != "" {
		mustTool(t, "ip", "link", "set", "lo", "up")
		return true
	}
	t.Parallel() // it mostly waits
	command := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", fmt.Sprint("-test.v=", testing.Verbose()), fmt.Sprint("-test.short=", testing.Short()))
	if deadline, bounded := t.Deadline(); bounded {
		command.Args = append(command.Args, fmt.Sprint("-test.timeout=", time.Until(deadline)-10*time.Second)) // so that it says where it was
	}
	command.Env = append(os.Environ(), aloneVariable+"="+build(t))
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := command.Start(); err != nil {
		t.Fatalf("this test cuts real networks and needs root and network namespaces; where there are none run TestFaultStopped alone: %v", err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("%v; it has said why", err)
	}
	return false
}

// Networks that are cut without a word to either end: between a gateway and the bus, between a control node and the bus, between a
// control node and the database. The promises are those of TestFaultStopped.
func TestFaultNetwork(t *testing.T) {
	if !alone(t) {
		return
	}
	e := newEngines(t)

	gatewayPlace := newPlace(t)
	devices, gatewayBus := gatewayPlace.link(), gatewayPlace.link()
	g1 := &node{t: t, name: "g1", role: "gateway", folder: t.TempDir(), namespace: gatewayPlace.name}
	at := func() string {
		_, number, _ := net.SplitHostPort(port.Free(t))
		return net.JoinHostPort(devices.far, number)
	}
	g1.http, g1.mqtt, g1.coap, g1.health = at(), at(), at(), at()
	g1.configure("node: g1\nrole: gateway\ndata: data\nbus: {url: '%s'}\nlisten: {http: '%s', mqtt: '%s', coap: '%s', health: '%s'}\n",
		e.natsOver(gatewayBus), g1.http, g1.mqtt, g1.coap, g1.health)

	controlPlace := newPlace(t)
	controlBus, controlStore := controlPlace.link(), controlPlace.link()
	c1 := &node{t: t, name: "c1", role: "control", folder: t.TempDir(), namespace: controlPlace.name}
	c1.admin = port.Free(t) // of its own loopback interface
	database, err := url.Parse(e.database)
	if err != nil {
		t.Fatal(err)
	}
	database.Host = controlStore.offer(database.Host)
	c1.configure("node: c1\nrole: control\ndata: data\nbus: {url: '%s'}\nstore: {url: '%s'}\nlisten: {admin: '%s'}\n", e.natsOver(controlBus), database, c1.admin)

	c := newCluster(t, e, []*node{c1, e.member(t, "control", "c2")}, []*node{g1, e.member(t, "gateway", "g2")})
	faults := []fault{
		{name: "gateway | bus", cut: gatewayBus.cut, mend: gatewayBus.mend, part: "gateway", node: "g1"},
		{name: "control node | database", cut: controlStore.cut, mend: controlStore.mend, part: "store", by: c1},
		{name: "control node | bus", cut: controlBus.cut, mend: controlBus.mend, part: "bus", by: c1},
	}
	for i := range soakRounds(t, 1, 1) {
		c.endure(faults[i%len(faults)])
	}
}

// configure writes the node's environment file.
func (n *node) configure(format string, values ...any) {
	n.t.Helper()
	n.config = filepath.Join(n.folder, "fieldgate.yaml")
	if err := os.WriteFile(n.config, fmt.Appendf(nil, format, values...), 0o600); err != nil {
		n.t.Fatal(err)
	}
}
