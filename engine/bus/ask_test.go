package bus

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func testAsk(t *testing.T, b *Bus) {
	subject := strings.NewReplacer("/", ".", "#", ".").Replace(t.Name())
	if _, err := b.Ask(t.Context(), subject, nil); !errors.Is(err, ErrNoResponder) {
		t.Fatal(err)
	}
	var asked atomic.Int32
	release := make(chan struct{})
	stop, err := b.ServeEach(subject, 2, func(ctx context.Context, request []byte) (Answer, error) {
		asked.Add(1)
		switch string(request) {
		case "wait":
			select {
			case <-release:
			case <-ctx.Done():
			}
		case "refuse":
			return Answer{}, errors.New("no")
		}
		return Answer{Data: request}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the subject is served", func() bool {
		answer, err := b.Ask(t.Context(), subject, []byte("a"))
		return err == nil && string(answer.Data) == "a"
	})
	var refused *Refusal
	if _, err := b.Ask(t.Context(), subject, []byte("refuse")); !errors.As(err, &refused) || refused.Reason != "no" {
		t.Error(err)
	}
	before := asked.Load()
	answers := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := b.Ask(context.Background(), subject, []byte("wait"))
			answers <- err
		}()
	}
	wait(t, "both are under way", func() bool { return asked.Load() == before+2 })
	if _, err := b.Ask(t.Context(), subject, []byte("a")); !errors.As(err, &refused) {
		t.Error("more than two at once:", err)
	}
	// Longer than Request would wait before it asks again.
	time.Sleep(answerPatience + 100*time.Millisecond)
	close(release)
	for range 2 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if n := asked.Load(); n != before+2 {
		t.Errorf("asked %d times", n-before)
	}
	stop()
	wait(t, "nobody serves", func() bool { _, err := b.Ask(t.Context(), subject, nil); return errors.Is(err, ErrNoResponder) })
}
