package mqttfront

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/mqttstore"
	"fieldgate/protocol/mqtt"
	"fieldgate/test/smalldisk"
)

// persistent asks for a session that outlives its connection, in either version.
func persistent(v mqtt.Version, clientID string) mqtt.ClientOptions {
	o := mqtt.ClientOptions{Version: v, ClientID: clientID, Resume: true}
	if v == mqtt.V5 {
		o.Properties.SetNumber(mqtt.SessionExpiryInterval, 3600)
	}
	return o
}

func TestSessionsOutliveConnectionsAndRestarts(t *testing.T) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			g := newGateway(t, nil)
			device := g.connect("d1", persistent(v, "sleepy"))
			if device.Connack.SessionPresent {
				t.Fatal("[MQTT-3.2.2-3] a session before the first")
			}
			device.hear("d/d1/command", 1)
			device.Disconnect(0)
			app := g.connect("dash", mqtt.ClientOptions{})
			for i := range 3 {
				app.send(publish("d/d1/command", strconv.Itoa(i), 1))
			}
			g.restart()
			app = g.connect("dash", mqtt.ClientOptions{})
			app.send(publish("d/d1/command", "3", 1))
			retained := publish("d/d1/command", "retained", 1)
			retained.Retain = true
			app.send(retained)

			device = g.connect("d1", persistent(v, "sleepy"))
			if !device.Connack.SessionPresent {
				t.Fatal("[MQTT-3.1.2-5] the session is lost")
			}
			for _, want := range []string{"0", "1", "2", "3", "retained"} {
				if r := device.next(); r.payload != want {
					t.Fatalf("got %q, want %q", r.payload, want)
				}
			}
			// The answer comes after the last acknowledgement was sent.
			if _, err := device.Unsubscribe(t.Context(), "none"); err != nil {
				t.Fatal(err)
			}
			device.Disconnect(0)
			g.restart()
			device = g.connect("d1", persistent(v, "sleepy"))
			if len(device.received) != 0 {
				t.Fatal("acknowledged messages came again")
			}
			fresh := persistent(v, "sleepy")
			fresh.Resume = false
			device.Close()
			device = g.connect("d1", fresh)
			if device.Connack.SessionPresent {
				t.Fatal("[MQTT-3.2.2-2] clean start keeps the session")
			}
			device.hear("d/d1/command", 1)
			if r := device.next(); r.payload != "retained" || !r.retain {
				t.Fatalf("retained message after restart: %+v", r)
			}
		})
	}
}

// What a client has received and not acknowledged survives a restart besides a full queue.
func TestMessagesInFlightSurviveRestarts(t *testing.T) {
	g := newGateway(t, nil)
	c := rawDialWith(t, g, "d1", "busy", func(p *mqtt.Connect) { p.Properties.SetNumber(mqtt.SessionExpiryInterval, 3600) })
	c.write((&mqtt.Subscribe{PacketID: 1, Filters: []mqtt.Filter{{Filter: []byte("d/d1/command"), QoS: 1}}}).Append(nil, mqtt.V5))
	c.packet(mqtt.SUBACK)
	app := g.connect("dash", mqtt.ClientOptions{})
	const count = 20
	payload := strings.Repeat("x", g.config.MaxQueuedBytes/10)
	for i := range count {
		if got := app.send(publish("d/d1/command", strconv.Itoa(i)+" "+payload, 1)); got != mqtt.Success {
			t.Fatal(got)
		}
		c.packet(mqtt.PUBLISH) // never acknowledged
	}
	g.restart()
	device := g.connect("d1", persistent(mqtt.V5, "busy"))
	for i := range count {
		if got, _, _ := strings.Cut(device.next().payload, " "); got != strconv.Itoa(i) {
			t.Fatalf("got message %s, want %d", got, i)
		}
	}
}

// The time that a client was away counts on over a restart; the time that it was connected does not count.
func TestExpiryGoesOnOverRestarts(t *testing.T) {
	g := newGateway(t, nil)
	o := persistent(mqtt.V5, "long gone")
	g.connect("d1", o).Disconnect(0)
	g.connect("d1", persistent(mqtt.V5, "was here"))
	for g.Counters.Connections.Load() != 1 {
		time.Sleep(time.Millisecond)
	}
	g.stopRun()
	store, err := mqttstore.Open(mqttstore.Config{Folder: g.folder, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range store.Sessions() {
		switch {
		case kept.Client == "long gone" && kept.Away.IsZero():
			t.Error("the store does not say since when the client is away")
		case kept.Client == "long gone":
			kept.Away = kept.Away.Add(-2 * time.Hour)
		default:
			kept.Away = time.Time{} // as a kill would have left it
		}
		store.SaveSession(kept.Number, &kept.Session, nil, nil)
	}
	ended, end := context.WithCancel(context.Background())
	end()
	store.Run(ended, g.Front)
	g.start(nil)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		g.mu.Lock()
		n := g.sessions.count
		g.mu.Unlock()
		if n == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions are left, want 1", n)
		}
	}
	if c := g.connect("d1", persistent(mqtt.V5, "was here")); !c.Connack.SessionPresent {
		t.Error("the session of a client that was connected has ended")
	}
}

func TestSessionEndsWithItsExpiry(t *testing.T) {
	g := newGateway(t, nil)
	o := persistent(mqtt.V5, "brief")
	o.Properties.SetNumber(mqtt.SessionExpiryInterval, 1)
	c := g.connect("d1", o)
	c.hear("d/d1/command", 1)
	c.Disconnect(0)
	for deadline := time.Now().Add(patience); g.tree.Len() > 0; time.Sleep(20 * time.Millisecond) { // [MQTT-4.1.0-2]
		if time.Now().After(deadline) {
			t.Fatal("the session lives on")
		}
	}
	if c = g.connect("d1", o); c.Connack.SessionPresent {
		t.Fatal("the session came back")
	}
}

// While the disk takes nothing, nothing is acknowledged that would need it; afterwards everything works again.
func TestPublishIsNotAcknowledgedOnAFullDisk(t *testing.T) {
	folder := t.TempDir()
	smalldisk.Mount(t, folder, 64)
	g := newGatewayIn(t, folder, nil)
	device := g.connect("d1", persistent(mqtt.V5, "sleepy"))
	device.hear("d/d1/command", 1)
	device.Disconnect(0)
	app := g.connect("dash", mqtt.ClientOptions{})
	if got := app.send(publish("d/d1/command", "before", 1)); got != mqtt.Success {
		t.Fatal(got)
	}
	give := smalldisk.Fill(t, g.folder)
	if got := app.send(publish("d/d1/command", "during", 1)); got != mqtt.QuotaExceeded {
		t.Fatalf("acknowledged with %v", got)
	}
	old := g.connect("dash", mqtt.ClientOptions{Version: mqtt.V311, ClientID: "old"})
	p := publish("d/d1/command", "during", 1)
	if err := old.Publish(context.Background(), &p); err == nil {
		t.Fatal("3.1.1: acknowledged")
	}
	if got := g.connect("d2", mqtt.ClientOptions{}).send(publish("d/d2/raw", "needs no disk", 1)); got != mqtt.Success {
		t.Fatal(got)
	}
	give()
	if got := app.send(publish("d/d1/command", "after", 1)); got != mqtt.Success {
		t.Fatalf("after recovery: %v", got)
	}
	g.restart()
	device = g.connect("d1", persistent(mqtt.V5, "sleepy"))
	if first, second := device.next(), device.next(); first.payload != "before" || second.payload != "after" {
		t.Fatalf("kept %q and %q", first.payload, second.payload)
	}
}

const childFolder = "FIELDGATE_TEST_JOURNAL"

// TestServeForKill is the child of the next test: it serves from the given folder until it is killed.
func TestServeForKill(t *testing.T) {
	folder := os.Getenv(childFolder)
	if folder == "" {
		return // only a child has something to do here
	}
	g := &gateway{t: t, records: &records{}, tokens: map[string]string{}, bodies: make(chan string, 1), folder: folder}
	g.directory = newGateway(t, nil).directory
	g.start(nil)
	g.add(fieldgate.PrincipalDevice, "d1")
	g.add(fieldgate.PrincipalApp, "dash")
	fmt.Println("\nserving", g.address, g.tokens["d1"], g.tokens["dash"])
	select {}
}

// Kill -9 under load loses nothing that was acknowledged.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	folder := t.TempDir()
	serve := func() (g *gateway, kill func()) {
		child := exec.Command(os.Args[0], "-test.run=^TestServeForKill$")
		child.Env = append(os.Environ(), childFolder+"="+folder, "TMPDIR="+t.TempDir()) // which a killed child does not clear
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		kill = sync.OnceFunc(func() { child.Process.Kill(); child.Wait() })
		t.Cleanup(kill)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if fields := strings.Fields(lines.Text()); len(fields) == 4 && fields[0] == "serving" {
				return &gateway{t: t, address: fields[1], tokens: map[string]string{"d1": fields[2], "dash": fields[3]}}, kill
			}
		}
		t.Fatal("the child does not serve")
		return nil, nil
	}
	g, kill := serve()
	sleepy := g.connect("d1", persistent(mqtt.V5, "sleepy"))
	sleepy.hear("d/d1/command", 1)
	sleepy.Disconnect(0)
	acknowledged, underLoad := 0, 0
	for range 10 {
		app := g.connect("dash", mqtt.ClientOptions{ClientID: "sender"})
		killer := time.AfterFunc(10*time.Millisecond, kill)
		for i := 0; acknowledged < 900; i++ {
			p := publish("d/d1/command", strconv.Itoa(acknowledged), 1)
			p.Retain = true
			if app.Publish(context.Background(), &p) != nil {
				underLoad++
				break
			}
			acknowledged++
		}
		if killer.Stop() {
			kill()
		}
		kill()
		g, kill = serve()
	}
	if acknowledged == 0 {
		t.Fatal("nothing was acknowledged before the first kill")
	}
	sleepy = g.connect("d1", persistent(mqtt.V5, "sleepy"))
	if !sleepy.Connack.SessionPresent {
		t.Fatal("the session is lost")
	}
	for want := 0; want < acknowledged; {
		got, err := strconv.Atoi(sleepy.next().payload)
		if err != nil || got > want {
			t.Fatalf("got message %d, want %d of %d: acknowledged messages are lost", got, want, acknowledged)
		}
		if got == want { // one that was stored but not acknowledged in time comes twice
			want++
		}
	}
	late := g.connect("d1", mqtt.ClientOptions{ClientID: "late"})
	late.hear("d/d1/command", 1)
	if got, _ := strconv.Atoi(late.next().payload); got < acknowledged-1 {
		t.Fatalf("retained message is number %d of %d", got, acknowledged)
	}
	t.Logf("%d acknowledged messages survived 10 kills, %d of them while publishing", acknowledged, underLoad)
}

// A will survives a kill, since its session does: it is published after the restart, when its delay has passed [MQTT-3.1.2-8].
func TestWillSurvivesRestart(t *testing.T) {
	for _, delay := range []uint32{0, 1} {
		g := newGateway(t, nil)
		rawDialWith(t, g, "d1", "mortal", func(p *mqtt.Connect) {
			p.Properties.SetNumber(mqtt.SessionExpiryInterval, 3600)
			p.HasWill, p.WillTopic, p.WillPayload, p.WillQoS, p.WillRetain = true, []byte("d/d1/status"), []byte("gone"), 1, true
			p.WillProperties.SetNumber(mqtt.WillDelayInterval, delay)
		})
		killed := t.TempDir() // what a kill would have left
		if err := os.CopyFS(killed, os.DirFS(g.folder)); err != nil {
			t.Fatal(err)
		}
		g.stopRun()
		g.folder = killed
		g.start(nil)
		app := g.connect("dash", mqtt.ClientOptions{})
		app.hear("d/+/status", 1)
		if r := app.next(); r.payload != "gone" || r.topic != "d/d1/status" {
			t.Errorf("delay %d: heard %+v", delay, r)
		}
		app.Close()
		g.stopRun()
	}
}

// A client that was away for thousands of messages gets all of them, in order, though few of them are ever in memory.
func TestLongQueueIsReadInOrder(t *testing.T) {
	const count = 3000
	g := newGateway(t, func(c *Config) { c.MaxQueued = count })
	device := g.connect("d1", persistent(mqtt.V5, "sleepy"))
	device.hear("d/d1/command", 1)
	device.Disconnect(0)
	app := rawDial(t, g, "dash", "sender")
	send := func(from, to int) {
		var packets []byte
		for i := from; i < to; i++ {
			p := publish("d/d1/command", strconv.Itoa(i), 1)
			p.PacketID = uint16(i%50 + 1)
			packets = p.Append(packets, mqtt.V5)
			if (i+1)%50 == 0 || i+1 == to {
				app.write(packets)
				packets = packets[:0]
				for range i%50 + 1 {
					app.packet(mqtt.PUBACK)
				}
			}
		}
	}
	send(0, count/2)
	device = g.connect("d1", persistent(mqtt.V5, "sleepy"))
	send(count/2, count) // while it takes what waited
	for want := range count {
		if r := device.next(); r.payload != strconv.Itoa(want) {
			t.Fatalf("got message %s, want %d", r.payload, want)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sessions.all() {
		s.mu.Lock()
		if n := s.state.Waiting(); n > readAhead {
			t.Errorf("%d messages wait in memory", n)
		}
		s.mu.Unlock()
	}
}
