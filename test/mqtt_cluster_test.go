package test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// Three gateways are one broker: each of them is killed while messages of QoS 1 and 2 are under way between persistent sessions that are connected to
// any of them. Their clients go on at another gateway, where their sessions are there with all that was acknowledged, which comes; at QoS 2
// nothing comes twice (MQTT 5 §4.1, §4.3.3).
func TestKillMQTTCluster(t *testing.T) {
	t.Parallel() // it mostly waits
	rounds := soakRounds(t, 6, 3)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	e := newEngines(t)
	control := e.member(t, "control", "c1")
	control.start()
	var gateways []*node
	for i := range 3 {
		gateways = append(gateways, e.member(t, "gateway", fmt.Sprint("g", i+1)))
		gateways[i].start()
	}
	waitForGateways(t, control, 3)
	control.run("api", "publish", writeDocument(t, "clients.yaml", clientsContract))
	app := control.run("app", "add", "ear", "--quiet")
	var flows []*numberedFlow
	for qos := byte(1); qos <= 2; qos++ {
		device := fmt.Sprint("k", qos)
		flows = append(flows, &numberedFlow{qos: qos, unacknowledged: map[uint16]*numbered{}, held: map[uint16]bool{}, heard: map[int]int{}, topic: "c/" + device + "/up",
			publisher:  sessionClient{n: gateways[0], id: device, user: device, secret: control.run("device", "add", device, "--quiet")},
			subscriber: sessionClient{n: gateways[1], id: "ear-" + device, user: "ear", secret: app}})
	}
	var running sync.WaitGroup
	open := func(first bool) {
		for _, f := range flows {
			f.open(t, first)
			running.Go(f.hear)
			running.Go(f.acknowledged)
			running.Go(f.send)
		}
	}
	open(true)
	for _, f := range flows {
		f.reach(t)
	}
	var longest time.Duration
	for round := range rounds {
		for _, f := range flows {
			f.sending.Store(true)
		}
		time.Sleep(time.Duration(200+random.IntN(600)) * time.Millisecond)
		killed := round % 3
		gateways[killed].kill()
		for _, f := range flows {
			f.sending.Store(false)
		}
		// All clients come to other gateways than before, also those whose gateway lives: that one ends their old connections.
		for _, f := range flows {
			for i, c := range []*sessionClient{&f.publisher, &f.subscriber} {
				c.link.Close()
				c.n = gateways[(killed+1+(round+i)%2)%3]
			}
		}
		running.Wait()
		began := time.Now()
		open(false)
		longest = max(longest, time.Since(began)/time.Duration(2*len(flows)))
		for _, f := range flows {
			f.check(t, round)
		}
		if t.Failed() {
			break
		}
		gateways[killed].start()
		waitForGateways(t, control, 3)
	}
	for _, f := range flows {
		t.Logf("QoS %d, %d kills: %d messages acknowledged, %d came again", f.qos, rounds, len(f.done), f.again)
		if len(f.done) < 10*rounds {
			t.Error("there was hardly any load")
		}
		f.publisher.close()
		f.subscriber.close()
	}
	running.Wait()
	t.Logf("a session was taken over within %v", longest.Round(time.Millisecond))
}
