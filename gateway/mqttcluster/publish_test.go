package mqttcluster

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"fieldgate"
	"fieldgate/gateway/broker"
	"fieldgate/protocol/mqtt"
)

// A message reaches the nodes that want it, once each, with all that belongs to it.
func TestMessages(t *testing.T) {
	url := server(t).URLs()
	a, b, c := start(t, url, "a", 1), start(t, url, "b", 1), start(t, url, "c", 1)
	b.hear([]*node{a, c}, "d/+/t", "d/#")
	c.hear([]*node{a, b}, "d/1/t")
	var properties mqtt.Properties
	properties.AddUser("k", "v")
	full := broker.Message{Topic: "d/1/t", Payload: []byte("21.5"), ContentType: "text/plain", QoS: 1, Retain: true, Client: "c1",
		Publisher: fieldgate.Principal{Kind: fieldgate.PrincipalDevice, ID: "1"}, Properties: properties.AppendForward(nil),
		Answers: broker.Caller{Kind: fieldgate.PrincipalApp, ID: "x"}, Time: time.UnixMicro(1_700_000_000_000_000), Expires: time.Now().Add(time.Hour)}
	for qos := range byte(3) {
		m := full
		m.QoS = qos
		if err := <-a.publish(&m); err != nil {
			t.Fatal(err)
		}
		for _, n := range []*node{b, c} {
			got := n.take(1)[0]
			if left := time.Until(got.Expires); left > time.Hour || left < time.Hour-time.Minute {
				t.Errorf("it has %v to live", left)
			}
			got.Expires = m.Expires
			m.Relayed = true
			if !reflect.DeepEqual(got, m) {
				t.Errorf("QoS %d: %s heard\n%+v, not\n%+v", qos, n.config.Node, got, m)
			}
		}
	}
	// One that is larger than a packet, between others; nobody wants the last one.
	for qos := range byte(2) {
		var sent []chan error
		for i, size := range []int{1, 5 << 20, 2, bodySize, bodySize + 1, 3 * bodySize, 3} {
			sent = append(sent, a.publish(&broker.Message{Topic: "d/x/t", Payload: bytes.Repeat([]byte{byte(i)}, size), QoS: qos}))
		}
		a.publish(&broker.Message{Topic: "e", QoS: qos})
		for i, answer := range sent {
			if err := <-answer; err != nil {
				t.Errorf("message %d: %v", i, err)
			}
		}
		for _, m := range b.take(7) {
			if len(m.Payload) == 0 || !bytes.Equal(m.Payload, bytes.Repeat(m.Payload[:1], len(m.Payload))) {
				t.Errorf("a message of %d bytes came broken", len(m.Payload))
			}
		}
	}
	if err := <-a.publish(&broker.Message{Topic: "d/x/t", Payload: make([]byte, maxMessage), QoS: 1}); !errors.Is(err, errLarge) {
		t.Error(err)
	}
	if n := c.ear.count(); n != 0 {
		t.Errorf("%d messages came to a node that does not want them", n)
	}
	if n := b.Counters.Malformed.Load() + c.Counters.Malformed.Load(); n != 0 {
		t.Errorf("%d packets were malformed", n)
	}
}

// What is published at QoS 0 goes where only that is wanted; the rest goes another way.
func TestQoS0Only(t *testing.T) {
	url := server(t).URLs()
	a, b := start(t, url, "a", 1), start(t, url, "b", 1)
	b.Change("t", Nothing, QoS0)
	b.hear([]*node{a})
	for qos := range byte(2) {
		a.publish(&broker.Message{Topic: "t", QoS: qos})
	}
	if m := b.take(1)[0]; m.QoS != 0 {
		t.Errorf("%+v", m)
	}
	b.Change("t", Nothing, Everything) // another one wants everything
	b.hear([]*node{a})
	<-a.publish(&broker.Message{Topic: "t", QoS: 1})
	b.take(1)
	b.Change("t", Everything, Nothing)
	b.hear([]*node{a})
	a.publish(&broker.Message{Topic: "t", QoS: 1})
	a.publish(&broker.Message{Topic: "t", QoS: 0})
	if m := b.take(1)[0]; m.QoS != 0 {
		t.Errorf("%+v", m)
	}
}

// Of the members of a shared subscription one hears a message (MQTT 5 section 4.8.2): one at this node, or else one at each other node
// in turn.
func TestSharedSubscriptions(t *testing.T) {
	url := server(t).URLs()
	a, b, c := start(t, url, "a", 1), start(t, url, "b", 1), start(t, url, "c", 1)
	b.hear([]*node{a}, "$share/g/t/+")
	c.hear([]*node{a}, "$share/g/t/+", "$share/h/t/#", "t/1")
	for range 10 {
		m := broker.Message{Topic: "t/1", QoS: 1}
		<-a.publish(&m)
		if len(m.Shares) != 2 {
			t.Fatalf("it was the turn of another node for %v", m.Shares)
		}
	}
	turns := map[string]int{}
	for n, heard := range map[string][]broker.Message{"b": b.take(5), "c": c.take(10)} {
		for _, m := range heard {
			for _, share := range m.Shares {
				turns[n+" "+share]++
			}
		}
	}
	if got, want := fmt.Sprint(turns), "map[b $share/g/t/+:5 c $share/g/t/+:5 c $share/h/t/#:10]"; got != want {
		t.Errorf("turns %v, not %v", got, want)
	}
	a.Change("$share/g/t/+", Nothing, Everything)
	m := broker.Message{Topic: "t/2", QoS: 1}
	<-a.publish(&m)
	if got := fmt.Sprint(m.Shares); got != "[$share/h/t/#]" {
		t.Errorf("others have the turn for %v, though a member is here", got)
	}
}

// A message above QoS 0 is not acknowledged before the other node has it: while the server hangs it waits, and then it comes once, in
// order. A node that dies is not waited for.
func TestAcknowledged(t *testing.T) {
	s := server(t)
	a, b := start(t, s.URLs(), "a", 1), start(t, s.URLs(), "b", 1)
	b.hear([]*node{a}, "t")
	const count = 2000
	var sent []chan error
	for i := range count {
		if i == count/2 {
			s.Pause(0)
		}
		sent = append(sent, a.publish(&broker.Message{Topic: "t", QoS: 2, Payload: fmt.Append(nil, i)}))
	}
	select {
	case err := <-sent[count-1]:
		t.Fatalf("it is acknowledged with %v before anybody can have it", err)
	case <-time.After(beatInterval): // long before b is taken for dead, on a slow machine too
	}
	s.Continue(0)
	for _, answer := range sent {
		if err := <-answer; err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range b.take(count) {
		if string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d comes as number %d", i, i)
		}
	}
	b.stop()
	a.waitForMembers("[{a 1}]")
	if err := <-a.publish(&broker.Message{Topic: "t", QoS: 1}); err != nil {
		t.Error(err)
	}
}

// A node that is killed holds its publishers up until it is known to be dead.
func TestPeerDies(t *testing.T) {
	s := server(t)
	a, b := start(t, s.URLs(), "a", 1), start(t, s.URLs(), "b", 1)
	b.hear([]*node{a}, "t")
	b.kill()
	if err := <-a.publish(&broker.Message{Topic: "t", QoS: 1}); err != nil {
		t.Error(err)
	}
	a.waitForMembers("[{a 1}]")
	wait(t, "the loss to be counted", func() bool { return a.Counters.Lost.Load() == 1 })
}

// The bus away: what is published meanwhile is lost to others, and afterwards all goes on.
func TestBusAway(t *testing.T) {
	s := server(t)
	a, b := start(t, s.URLs(), "a", 1), start(t, s.URLs(), "b", 1)
	b.hear([]*node{a}, "t")
	a.ear.held = []TakeOver{{Kind: "device", Principal: "d1", Client: "c1", At: a.Now(), Node: "a"}}
	s.Kill(0)
	first := a.publish(&broker.Message{Topic: "t", QoS: 1})
	a.waitForMembers("[{a 1}]")
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-a.publish(&broker.Message{Topic: "t", QoS: 1}); err != nil {
		t.Error(err)
	}
	b.Change("u", Nothing, Everything)
	s.Start(0)
	wait(t, "the nodes to meet again", func() bool { return a.knows(b) && b.knows(a) })
	wait(t, "the clients that came meanwhile", func() bool {
		b.ear.mu.Lock()
		defer b.ear.mu.Unlock()
		return slices.Equal(b.ear.taken, a.ear.held)
	})
	for _, topic := range []string{"t", "u"} {
		if err := <-a.publish(&broker.Message{Topic: topic, QoS: 1}); err != nil {
			t.Error(err)
		}
		wait(t, "the message", func() bool {
			b.ear.mu.Lock()
			defer b.ear.mu.Unlock()
			return len(b.ear.heard) > 0 && b.ear.heard[len(b.ear.heard)-1].Topic == topic
		})
	}
}

// At QoS 2 nobody elsewhere hears what its publisher may have to publish again: it goes when this node has taken it.
func TestQoS2GoesWhenItIsTaken(t *testing.T) {
	url := server(t).URLs()
	a, b := start(t, url, "a", 1), start(t, url, "b", 1)
	b.hear([]*node{a}, "t")
	answer := make(chan error, 1)
	refused, taken := errors.New("the disk is full"), func(err error) { answer <- err }
	a.Publish(&broker.Message{Topic: "t", QoS: 2, Payload: []byte("refused")}, taken)(refused)
	if err := <-answer; err != refused {
		t.Error(err)
	}
	here := a.Publish(&broker.Message{Topic: "t", QoS: 2, Payload: []byte("taken")}, taken)
	if err := <-a.publish(&broker.Message{Topic: "t", QoS: 1, Payload: []byte("before")}); err != nil {
		t.Error(err)
	}
	here(nil)
	if err := <-answer; err != nil {
		t.Error(err)
	}
	if heard := b.take(2); string(heard[0].Payload) != "before" || string(heard[1].Payload) != "taken" {
		t.Errorf("%+v", heard)
	}
}

// Nodes tell each other of the clients that they accept, whatever their clocks say.
func TestTakeOver(t *testing.T) {
	url := server(t).URLs()
	a, b := start(t, url, "a", 1), start(t, url, "b", 1)
	a.hear([]*node{b})
	b.hear([]*node{a})
	at := a.Now().Add(10 * time.Minute) // its clock is ahead
	a.TakeOver("device", "d1", "c1", at)
	want := TakeOver{Kind: "device", Principal: "d1", Client: "c1", At: at, Node: "a"}
	wait(t, "the take-over", func() bool {
		b.ear.mu.Lock()
		defer b.ear.mu.Unlock()
		return slices.Equal(b.ear.taken, []TakeOver{want})
	})
	if later := b.Now(); !later.After(at) || !a.Counts(&TakeOver{At: later, Node: "b"}, at) || b.Counts(&want, later) {
		t.Errorf("%v does not come after %v", later, at)
	}
	if same := (&TakeOver{At: at, Node: "b"}); !a.Counts(same, at) {
		t.Error("of two at the same time, none counts")
	}
}

// Without anybody elsewhere who wants a message, publishing it costs a look-up at most.
func TestNoInterestAllocatesNothing(t *testing.T) {
	a := New(Config{Node: "a", Incarnation: 1})
	m := &broker.Message{Topic: "d/1/t", QoS: 1}
	done := func(error) {}
	publish := func() { a.Publish(m, done) }
	if n := testing.AllocsPerRun(1000, publish); n != 0 {
		t.Errorf("%v allocations without filters", n)
	}
	a.apply(a.newView(&peer{}), "d/2/t", Everything)
	if n := testing.AllocsPerRun(1000, publish); n != 0 {
		t.Errorf("%v allocations with other filters", n)
	}
}

func BenchmarkPublish(b *testing.B) {
	b.Run("no interest", func(b *testing.B) {
		a := New(Config{Node: "a", Incarnation: 1})
		v := a.newView(&peer{})
		for i := range 10_000 {
			a.apply(v, fmt.Sprintf("d/%d/t", i), Everything)
		}
		m := &broker.Message{Topic: "d/x/t"}
		b.ReportAllocs()
		for b.Loop() {
			a.Publish(m, nil)
		}
	})
	for qos := range byte(2) {
		b.Run(fmt.Sprintf("to a node at QoS %d", qos), func(b *testing.B) {
			url := server(b).URLs()
			from, to := start(b, url, "a", 1), start(b, url, "b", 1)
			to.hear([]*node{from}, "d/+/t")
			payload := bytes.Repeat([]byte("x"), 64)
			underway := make(chan struct{}, 10_000)
			b.ReportAllocs()
			used := processorTime(b)
			messages := 0
			for b.Loop() {
				messages++
				m := &broker.Message{Topic: "d/1/t", Payload: payload, QoS: qos}
				if qos == 0 {
					from.Publish(m, nil)
					continue
				}
				underway <- struct{}{}
				from.Publish(m, func(error) { <-underway })(nil)
			}
			wait(b, "all messages", func() bool { return to.Counters.Received.Load()+from.Counters.Lost.Load() >= uint64(messages) })
			b.ReportMetric(float64((processorTime(b)-used).Nanoseconds())/float64(messages), "cpu-ns/message")
			b.ReportMetric(float64(from.Counters.Lost.Load())/float64(messages), "lost/message")
		})
	}
}
