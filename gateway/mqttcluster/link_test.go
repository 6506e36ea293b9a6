package mqttcluster

import (
	"errors"
	"testing"
)

// What waits for a node is bounded, and what it does not acknowledge is given up.
func TestLinkIsBounded(t *testing.T) {
	var l link
	message := make([]byte, 1<<20)
	for range maxLoose / len(message) {
		if l.putLoose(nil, message[:len(message)-16]) == false {
			t.Fatal("no room for a loose message")
		}
	}
	if l.putLoose(nil, message) {
		t.Error("there is room for any number of loose messages")
	}
	told := make(chan error, 1000)
	put := 0
	for {
		s := &settlement{done: func(err error) { told <- err }}
		s.left.Store(1)
		if err := l.putSure(nil, message, s); err != nil {
			if !errors.Is(err, errBehind) {
				t.Fatal(err)
			}
			break
		}
		put++
	}
	if put < maxSure/len(message)-1 || put > maxSure/len(message) {
		t.Errorf("%d MiB wait", put)
	}
	loose, sure := l.take()
	if len(sure) != maxUnderway || len(loose) != maxLoose/len(message) {
		t.Errorf("%d packets are under way, and %d", len(sure), len(loose))
	}
	if _, sure = l.take(); len(sure) != 0 {
		t.Errorf("%d more are sent before the first are acknowledged", len(sure))
	}
	taken := l.acknowledge(3)
	if settle(taken, nil); len(taken) != 3 {
		t.Errorf("%d packets were acknowledged", len(taken))
	}
	if _, sure = l.take(); len(sure) != 3 {
		t.Errorf("%d packets follow", len(sure))
	}
	settle(l.acknowledge(1<<60), nil) // a lie gives it less
	if _, sure = l.take(); len(sure) != maxUnderway {
		t.Errorf("%d packets follow", len(sure))
	}
	for range repeatAfter - 1 {
		l.beat()
	}
	if again, _ := l.beat(); !again {
		t.Error("nothing is repeated")
	}
	if _, sure = l.take(); len(sure) != maxUnderway {
		t.Errorf("%d packets are repeated", len(sure))
	}
	before := l.number
	for beats := 0; len(l.chunks) > 0; beats++ {
		_, lost := l.beat()
		settle(lost, errSilent)
		l.take()
		if beats > giveUpAfter {
			t.Fatal("it is never given up")
		}
	}
	for range put {
		select {
		case <-told:
		default:
			t.Fatal("somebody waits for ever")
		}
	}
	l.putSure(nil, message[:1], nil)
	if _, sure = l.take(); len(sure) != 1 || l.number != before+1 {
		t.Error("it does not go on behind what was given up")
	}
}
