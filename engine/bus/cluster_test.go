package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fieldgate/test/halt"
	"fieldgate/test/nats"
)

func connectTest(t *testing.T, urls string) *Bus {
	t.Helper()
	b, err := Connect(Cluster{URLs: urls, Name: t.Name(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// leader is the number of the server that leads a stream.
func leader(t *testing.T, b *Bus, stream Stream) int {
	t.Helper()
	there, err := b.streams.Stream(t.Context(), stream.Name)
	if err != nil {
		t.Fatal(err)
	}
	var i int
	if _, err := fmt.Sscanf(there.CachedInfo().Cluster.Leader, "n%d", &i); err != nil {
		t.Fatal(err)
	}
	return i
}

// traffic appends numbers and reads them until end, which checks that what was acknowledged was read, in order and once.
type traffic struct {
	t      *testing.T
	acked  atomic.Int64
	got    atomic.Int64
	cancel context.CancelFunc
	ended  chan struct{}
}

func startTraffic(t *testing.T, writer, reader *Bus, stream Stream) *traffic {
	t.Helper()
	keep(t, writer, stream)
	ctx, cancel := context.WithCancel(t.Context())
	l := &traffic{t: t, cancel: cancel, ended: make(chan struct{}, 2)}
	go func() {
		defer func() { l.ended <- struct{}{} }()
		for i := 1; ctx.Err() == nil; i++ {
			text := strconv.Itoa(i)
			if err := writer.Append(ctx, stream.subject(), text, []byte(text)); err == nil {
				l.acked.Store(int64(i))
			} else if ctx.Err() == nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	go func() {
		defer func() { l.ended <- struct{}{} }()
		err := reader.Read(ctx, stream.Name, 1, 100, func(entries []Entry) error {
			for _, entry := range entries {
				if want := l.got.Load() + 1; string(entry.Data) != strconv.FormatInt(want, 10) || entry.Sequence != uint64(want) {
					return fmt.Errorf("message %d is %s, want %d", entry.Sequence, entry.Data, want)
				}
				l.got.Add(1)
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	l.goesOn()
	return l
}

// goesOn waits until what is appended from now on was stored and read.
func (l *traffic) goesOn() {
	l.t.Helper()
	target := l.acked.Load() + 50
	wait(l.t, "traffic goes on", func() bool { return l.t.Failed() || l.got.Load() >= target && l.acked.Load() >= target })
}

func (l *traffic) end() {
	l.t.Helper()
	last := l.acked.Load()
	wait(l.t, "what was acknowledged is read", func() bool { return l.t.Failed() || l.got.Load() >= last })
	l.cancel()
	<-l.ended
	<-l.ended
	l.t.Logf("%d acknowledged, %d read", l.acked.Load(), l.got.Load())
}

// A cluster of three does all that the bus in process does.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := nats.New(t, 3, "")
	suite(t, func(t *testing.T) *Bus { return connectTest(t, c.URLs()) })

	t.Run("streams have three replicas", func(t *testing.T) {
		b, stream := connectTest(t, c.URLs()), ownStream(t)
		keep(t, b, stream)
		if n := replicasOf(t, b, stream); n != 3 {
			t.Fatalf("%d replicas", n)
		}
	})
	t.Run("a stream grows", func(t *testing.T) {
		b, stream := connectTest(t, c.URLs()), ownStream(t)
		if err := b.createOrUpdate(t.Context(), jetstream.StreamConfig{Name: stream.Name, Subjects: stream.Subjects, Replicas: 1}); err != nil {
			t.Fatal(err)
		}
		write(t, b, stream, 1, 50)
		b.mu.Lock()
		b.growing[stream.Name] = stream // as Keep leaves it where there are too few servers
		b.mu.Unlock()
		wait(t, "three replicas", func() bool { return replicasOf(t, b, stream) == 3 })
		write(t, b, stream, 51, 60)
		read(t, b, stream, 1, 60)
	})
}

// What was acknowledged is read once and in order, also when the server that leads the stream is killed.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	c := nats.New(t, 3, "")
	writer, reader, stream := connectTest(t, c.URLs()), connectTest(t, c.URLs()), ownStream(t)
	l := startTraffic(t, writer, reader, stream)
	i := leader(t, writer, stream)
	c.Kill(i)
	l.goesOn()
	c.Start(i)
	l.goesOn()
	l.end()
}

// The same when all servers are killed. While they are away operations say so at once.
func TestAllKilled(t *testing.T) {
	t.Parallel()
	c := nats.New(t, 3, "")
	b, stream := connectTest(t, c.URLs()), ownStream(t)
	l := startTraffic(t, b, b, stream)
	c.Stop()
	wait(t, "the bus says that it is away", func() bool { return errors.Is(b.Publish("x", nil), ErrUnavailable) })
	if err := b.Publish("x", nil); !errors.Is(err, ErrUnavailable) || !errors.Is(b.Health(), ErrUnavailable) || time.Since(b.Since()) > patience {
		t.Errorf("away: %v, %v", err, b.Health())
	}
	if _, err := b.Request(t.Context(), "x", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a request: %v", err)
	}
	if _, err := b.State(t.Context(), stream.Name); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the state: %v", err)
	}
	for i := range c.Size() {
		c.Start(i)
	}
	l.goesOn()
	l.end()
	wait(t, "the bus is well", func() bool { return b.Health() == nil })
}

// The same when a server hangs, whose connections stay open.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	c := nats.New(t, 3, "")
	b, stream := connectTest(t, c.URLs()), ownStream(t)
	l := startTraffic(t, b, b, stream)
	var i int
	if _, err := fmt.Sscanf(b.connection.ConnectedServerName(), "n%d", &i); err != nil {
		t.Fatal(err)
	}
	c.Pause(i)
	l.goesOn()
	c.Continue(i)
	l.end()
}

// replicasOf is on how many servers a stream is.
func replicasOf(t *testing.T, b *Bus, stream Stream) int {
	t.Helper()
	there, err := b.streams.Stream(t.Context(), stream.Name)
	if err != nil {
		t.Fatal(err)
	}
	return there.CachedInfo().Config.Replicas
}

// Two servers are too few for three replicas; a stream has one there.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	b, stream := connectTest(t, nats.New(t, 2, "").URLs()), ownStream(t)
	keep(t, b, stream)
	if n := replicasOf(t, b, stream); n != 1 {
		t.Fatalf("%d replicas", n)
	}
	if b.growing[stream.Name].Name != stream.Name {
		t.Error("it is not tried again")
	}
}

// A node that was stopped while it serves a subject holds a request up for no longer than it takes to ask the others.
func TestStoppedResponder(t *testing.T) {
	if urls := os.Getenv("BUS_RESPONDER_TEST"); urls != "" {
		b := connectTest(t, urls)
		if _, err := b.Serve("who", func([]byte) (Answer, error) { return Answer{Data: []byte("child")}, nil }); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	t.Parallel()
	urls := nats.New(t, 1, "").URLs()
	child := exec.Command(os.Args[0], "-test.run=^TestStoppedResponder$")
	child.Env = append(os.Environ(), "BUS_RESPONDER_TEST="+urls)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { child.Process.Kill(); child.Wait() }()
	b := connectTest(t, urls)
	if _, err := b.Serve("who", func([]byte) (Answer, error) { return Answer{Data: []byte("parent")}, nil }); err != nil {
		t.Fatal(err)
	}
	ask := func() string {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		answer, err := b.Request(ctx, "who", nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer.Data)
	}
	wait(t, "both answer in turn", func() bool { return ask() == "child" })
	halt.Stop(t, child.Process.Pid)
	begun := time.Now()
	for range 10 {
		if who := ask(); who != "parent" {
			t.Fatal(who)
		}
	}
	t.Logf("10 requests while one of two is stopped: %s", time.Since(begun))
	child.Process.Signal(syscall.SIGCONT)
	wait(t, "the other answers again", func() bool { return ask() == "child" })
}

// A bus that is away at the start is no obstacle, and is there as soon as the cluster is.
func TestAwayAtTheStart(t *testing.T) {
	t.Parallel()
	c := nats.New(t, 1, "")
	c.Stop()
	b := connectTest(t, c.URLs())
	if err := b.Health(); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	heard := make(chan struct{}, 100)
	if _, err := b.Subscribe("news", func(string, []byte) { heard <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Serve("question", func([]byte) (Answer, error) { return Answer{}, nil }); err != nil {
		t.Fatal(err)
	}
	stream := ownStream(t)
	if _, err := b.Keep(t.Context(), stream); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	c.Start(0)
	wait(t, "the bus is there", func() bool { return b.Health() == nil })
	keep(t, b, stream)
	write(t, b, stream, 1, 3)
	read(t, b, stream, 1, 3)
	if _, err := b.Request(t.Context(), "question", nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish("news", nil); err != nil {
		t.Fatal(err)
	}
	<-heard
}
