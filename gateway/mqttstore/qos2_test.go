package mqttstore

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fieldgate/gateway/broker"
	"fieldgate/test/smalldisk"
)

func (o *opened) delivered(session, number uint64) {
	o.t.Helper()
	o.must(func(done func(error)) { o.Delivered(session, number, time.Time{}, done) })
}

// Each step of a QoS 2 message that was called back is there after the next start (MQTT 5 section 4.1), and takes no more room than it
// has to.
func TestStepsOfQoS2AreReadBack(t *testing.T) {
	folder := t.TempDir()
	o := open(t, folder, nil)
	first, second := o.session("1"), o.session("2")
	o.must(func(done func(error)) {
		o.Publish(message("a", "is received with its message"), []Recipient{{Session: second, QoS: 2}}, Received{first, 1}, done)
	})
	o.must(func(done func(error)) { o.Publish(message("a", "nobody hears"), nil, Received{first, 2}, done) })
	o.must(func(done func(error)) { o.Receive(Received{first, 3}, done) })
	o.must(func(done func(error)) { o.Receive(Received{second, 3}, done) })
	o.must(func(done func(error)) { o.Release(Received{first, 2}, done) })
	o.must(func(done func(error)) { o.Release(Received{first, 9}, done) }) // that nobody knows
	alone, apart := o.publish(message("a", "alone"), first), o.publish(message("a", "apart"), first, second)
	complete, discarded := o.publish(message("a", "complete"), first), o.publish(message("a", "discarded"), first)
	last := o.publish(message("a", "last"), first)
	for _, number := range []uint64{alone, apart, complete} {
		o.delivered(first, number)
	}
	o.must(func(done func(error)) { o.Complete(first, complete, done) })
	o.must(func(done func(error)) { o.Discard(first, discarded, time.Time{}, done) })
	o.stop()

	o = open(t, folder, nil)
	kept := o.Sessions()
	same(t, "received", kept[0].Received, []uint16{1, 3})
	same(t, "received of the other", kept[1].Received, []uint16{3})
	same(t, "delivered", kept[0].Delivered, []uint64{alone, apart})
	same(t, "delivered to the other", kept[1].Delivered, []uint64{})
	same(t, "queued", o.payloads(first), []string{"last"})
	same(t, "queued for the other", o.payloads(second), []string{"is received with its message", "apart"})
	o.delivered(second, apart)
	o.delivered(first, last)
	if n := len(o.keysOf(prefixMessage, prefixCount)); n != 0 {
		t.Errorf("%d entries of a message that everybody has", n)
	}
	o.EndSession(first)
	for deadline := time.Now().Add(time.Minute); len(o.keysOf(prefixDelivered)) > 1 || len(o.keysOf(prefixID)) > 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what a session had is left behind it")
		}
	}
}

func (o *opened) keysOf(prefixes ...byte) (found []string) {
	o.t.Helper()
	for _, prefix := range prefixes {
		if err := scan(o.disk.db, []byte{prefix}, []byte{prefix + 1}, func(key, _ []byte) (bool, error) {
			found = append(found, string(key))
			return true, nil
		}); err != nil {
			o.t.Fatal(err)
		}
	}
	return found
}

// On a full disk no step is lost: each is called back when it is on disk, at the latest when there is room again.
func TestStepsOfQoS2OnAFullDisk(t *testing.T) {
	folder := t.TempDir()
	smalldisk.Mount(t, folder, 64)
	o := open(t, folder, nil)
	session := o.session("c")
	number := o.publish(message("t", "delivered"), session)
	o.must(func(done func(error)) { o.Receive(Received{session, 1}, done) })
	give := smalldisk.Fill(t, folder)
	if err := o.wait(func(done func(error)) { o.Receive(Received{session, 2}, done) }); err != ErrDiskFull {
		t.Fatalf("on a full disk: %v", err)
	}
	if err := o.wait(func(done func(error)) { o.Publish(message("t", "x"), nil, Received{session, 3}, done) }); err != ErrDiskFull {
		t.Fatalf("on a full disk: %v", err)
	}
	steps := make(chan error, 3)
	done := func(err error) { steps <- err }
	o.Release(Received{session, 1}, done)
	o.Delivered(session, number, time.Time{}, done)
	o.Complete(session, number, done)
	time.Sleep(10 * time.Millisecond) // some come before there is room, or none
	give()
	for range 3 {
		if err := <-steps; err != nil {
			t.Fatal(err)
		}
	}
	o.stop()
	o = open(t, folder, nil)
	kept := o.Sessions()
	same(t, "received", kept[0].Received, []uint16{})
	same(t, "delivered", kept[0].Delivered, []uint64{})
	same(t, "queued", o.payloads(session), []string{})
}

func TestStepsAreRefusedByAClosedStore(t *testing.T) {
	o := open(t, t.TempDir(), nil)
	session := o.session("c")
	o.stop()
	for _, step := range []func(func(error)){
		func(done func(error)) { o.Receive(Received{session, 1}, done) },
		func(done func(error)) { o.Release(Received{session, 1}, done) },
		func(done func(error)) { o.Delivered(session, 1, time.Time{}, done) },
		func(done func(error)) { o.Complete(session, 1, done) },
		func(done func(error)) { o.Discard(session, 1, time.Time{}, done) },
	} {
		if err := o.wait(step); err != ErrClosed {
			t.Errorf("got %v", err)
		}
	}
}

// TestStepForKill is the child of the next test: each of its publishers takes messages through all steps, and it says which were
// called back. What a step is about follows from its number.
func TestStepForKill(t *testing.T) {
	folder := os.Getenv(childFolder)
	if folder == "" {
		return // only a child has something to do here
	}
	o := open(t, folder, nil)
	kept := o.Sessions()
	if len(kept) == 0 {
		kept = []Kept{{Number: o.session("c")}}
	}
	session := kept[0].Number
	var saying sync.Mutex
	say := func(words ...any) {
		saying.Lock()
		fmt.Println(words...)
		saying.Unlock()
	}
	from, _ := strconv.Atoi(os.Getenv(childFolder + "_FROM"))
	var publishing sync.WaitGroup
	var identifier atomic.Uint32
	identifier.Store(uint32(from))
	for range 20 {
		publishing.Go(func() {
			for {
				id := uint16(identifier.Add(1))
				var number uint64
				m := &broker.Message{Topic: "t", Payload: []byte(fmt.Sprint(id)), QoS: 2}
				o.must(func(done func(error)) {
					number = o.Publish(m, []Recipient{{Session: session, QoS: 2}}, Received{session, id}, done)
				})
				say("step", "published", id, number)
				o.delivered(session, number)
				say("step", "delivered", id, number)
				o.must(func(done func(error)) { o.Release(Received{session, id}, done) })
				say("step", "released", id, number)
				if id%2 == 0 { // the others stay
					o.must(func(done func(error)) { o.Complete(session, number, done) })
					say("step", "complete", id, number)
				}
			}
		})
	}
	publishing.Wait()
}

// Kill -9 under load undoes no step that was called back.
func TestKillUndoesNoStep(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	folder := t.TempDir()
	reached := map[uint16]string{} // by identifier
	numbers := map[uint16]uint64{}
	for kill := range 4 {
		child := exec.Command(os.Args[0], "-test.run=^TestStepForKill$")
		child.Env = append(os.Environ(), childFolder+"="+folder, fmt.Sprint(childFolder, "_FROM=", kill*16_000))
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); {
			var step string
			var id uint16
			var number uint64
			if _, err := fmt.Sscanf(lines.Text(), "step %s %d %d", &step, &id, &number); err != nil {
				continue
			}
			reached[id], numbers[id] = step, number
			if n++; n == 500 {
				child.Process.Kill() // the others go on while it dies, and what they say still counts
			}
		}
		child.Wait()
	}
	o := open(t, folder, nil)
	kept := o.Sessions()
	if len(kept) != 1 {
		t.Fatalf("%d sessions", len(kept))
	}
	queued := o.payloads(kept[0].Number)
	for id, step := range reached {
		received := slices.Contains(kept[0].Received, id)
		delivered := slices.Contains(kept[0].Delivered, numbers[id])
		waits := slices.Contains(queued, fmt.Sprint(id))
		var wrong bool // of what may have gone one step further, unless it was the last
		switch step {
		case "published":
			wrong = !received || waits == delivered
		case "delivered":
			wrong = waits || !delivered
		case "released":
			wrong = waits || received || !delivered && id%2 != 0
		case "complete":
			wrong = waits || received || delivered
		}
		if wrong {
			t.Errorf("%d was %s: received %v, delivered %v, waits %v", id, step, received, delivered, waits)
		}
	}
	count := map[string]int{}
	for step := range maps.Values(reached) {
		count[step]++
	}
	t.Logf("after %d kills: %v", 4, count)
}
