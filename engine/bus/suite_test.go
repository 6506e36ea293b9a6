package bus

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
)

const patience = 60 * time.Second // a cluster that lost servers may take its time

// subject is one that the stream keeps.
func (s Stream) subject() string { return strings.TrimSuffix(s.Subjects[0], ">") + "a" }

// ownStream is a stream of this test alone.
func ownStream(t *testing.T) Stream {
	name := strings.NewReplacer("/", "_", "#", "_", ".", "_").Replace(t.Name())
	return Stream{Name: name, Subjects: []string{name + ".>"}, MaxBytes: 1 << 20, MaxAge: time.Hour}
}

func keep(t *testing.T, b *Bus, stream Stream) StreamState {
	t.Helper()
	state, err := b.Keep(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func write(t *testing.T, b *Bus, stream Stream, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		if err := b.Append(t.Context(), stream.subject(), strconv.Itoa(i), []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
}

var errEnough = errors.New("enough")

// read collects the texts from a sequence on until there are n, and checks that sequences have no gap.
func read(t *testing.T, b *Bus, stream Stream, from uint64, n int) (texts []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	next := max(from, 1)
	err := b.Read(ctx, stream.Name, from, 7, func(entries []Entry) error {
		if len(entries) == 0 || len(entries) > 7 {
			t.Errorf("%d entries at once", len(entries))
		}
		for _, entry := range entries {
			if entry.Sequence != next || entry.Subject != stream.subject() {
				t.Errorf("got %d, want %d", entry.Sequence, next)
			}
			next++
			if texts = append(texts, string(entry.Data)); len(texts) == n {
				return errEnough
			}
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("after %d: %v", len(texts), err)
	}
	return texts
}

// suite is what a bus does, wherever its server runs.
func suite(t *testing.T, open func(*testing.T) *Bus) {
	for name, test := range map[string]func(*testing.T, *Bus){
		"publish and subscribe":        testPublishSubscribe,
		"request":                      testRequest,
		"append and read":              testAppendAndRead,
		"read waits for more":          testReadWaitsForMore,
		"read ends with its context":   testReadEndsWithItsContext,
		"a stream is bounded":          testStreamIsBounded,
		"append is refused":            testAppendRefused,
		"follow":                       testFollow,
		"ask":                          testAsk,
		"a stream that was replaced":   testReplaced,
		"several answer":               testSeveralAnswer,
		"the newest of a subject":      testLatest,
		"a stream of newest is full":   testLatestFull,
		"requests wait for their turn": testSlowAnswer,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func testPublishSubscribe(t *testing.T, b *Bus) {
	got := make(chan string, 1)
	stop, err := b.Subscribe("news.*", func(subject string, data []byte) { got <- subject + " " + string(data) })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := b.Publish("news.a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if text := <-got; text != "news.a x" {
		t.Fatal(text)
	}
}

func testRequest(t *testing.T, b *Bus) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := b.Request(ctx, "double", nil); !errors.Is(err, ErrNoResponder) {
		t.Fatalf("nobody answers: %v", err)
	}
	stop, err := b.Serve("double", func(request []byte) (Answer, error) {
		if len(request) == 0 {
			return Answer{}, errors.New("nothing to double")
		}
		return Answer{Data: bytes.Repeat(request, 2), Header: map[string]string{"Fieldgate-Total": "2"}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := b.Request(ctx, "double", []byte("ab"))
	if err != nil || string(answer.Data) != "abab" || answer.Header["Fieldgate-Total"] != "2" {
		t.Fatalf("%+v %v", answer, err)
	}
	var refusal *Refusal
	if _, err := b.Request(ctx, "double", nil); !errors.As(err, &refusal) || refusal.Reason != "nothing to double" {
		t.Fatalf("a refusal: %v", err)
	}
	stop()
	if _, err := b.Request(ctx, "double", []byte("ab")); !errors.Is(err, ErrNoResponder) {
		t.Fatalf("stopped: %v", err)
	}
}

// Of several that serve a subject one answers.
func testSeveralAnswer(t *testing.T, b *Bus) {
	asked := make(chan int, 100)
	for i := range 2 {
		stop, err := b.Serve("which", func([]byte) (Answer, error) {
			asked <- i
			return Answer{Data: []byte{byte(i)}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	slow := false // where one node takes its time, on a machine that does, others are asked too
	for range 10 {
		began := time.Now()
		if _, err := b.Request(t.Context(), "which", nil); err != nil {
			t.Fatal(err)
		}
		slow = slow || time.Since(began) >= answerPatience
	}
	if len(asked) != 10 && !slow {
		t.Fatalf("10 requests were carried out %d times", len(asked))
	}
}

// An answer that takes longer than a request waits for one node is still the answer.
func testSlowAnswer(t *testing.T, b *Bus) {
	stop, err := b.Serve("slow", func([]byte) (Answer, error) {
		time.Sleep(answerPatience * 3 / 2)
		return Answer{Data: []byte("at last")}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if answer, err := b.Request(t.Context(), "slow", nil); err != nil || string(answer.Data) != "at last" {
		t.Fatalf("%s %v", answer.Data, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := b.Request(ctx, "slow", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func testAppendAndRead(t *testing.T, b *Bus) {
	stream := ownStream(t)
	empty := keep(t, b, stream)
	if empty.First != 1 || empty.Last != 0 {
		t.Fatalf("an empty stream: %+v", empty)
	}
	created := empty.Created
	write(t, b, stream, 1, 100)
	write(t, b, stream, 1, 100) // the same ids again are stored once
	if state := keep(t, b, stream); state.Messages != 100 || state.First != 1 || state.Last != 100 || !state.Created.Equal(created) {
		t.Fatalf("%+v", state)
	}
	if texts := read(t, b, stream, 0, 100); texts[0] != "1" || texts[99] != "100" {
		t.Fatal(texts)
	}
	if texts := read(t, b, stream, 91, 10); texts[0] != "91" || texts[9] != "100" {
		t.Fatal(texts)
	}
}

func testReadWaitsForMore(t *testing.T, b *Bus) {
	stream := ownStream(t)
	keep(t, b, stream)
	go func() {
		for i := range 20 {
			b.Append(t.Context(), stream.subject(), strconv.Itoa(i), []byte("x"))
		}
	}()
	read(t, b, stream, 1, 20)
}

func testReadEndsWithItsContext(t *testing.T, b *Bus) {
	stream := ownStream(t)
	keep(t, b, stream)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Read(ctx, stream.Name, 1, 10, func([]Entry) error { return nil }) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func testStreamIsBounded(t *testing.T, b *Bus) {
	stream := ownStream(t)
	keep(t, b, stream)
	for i := range 200 {
		if err := b.Append(t.Context(), stream.subject(), strconv.Itoa(i), make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	state := keep(t, b, stream)
	if state.Last != 200 || state.First == 1 || state.Bytes > uint64(stream.MaxBytes) {
		t.Fatalf("%+v", state)
	}
	// What is discarded is skipped.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b.Read(ctx, stream.Name, 1, 1, func(entries []Entry) error {
		if entries[0].Sequence != state.First {
			t.Errorf("first is %d, want %d", entries[0].Sequence, state.First)
		}
		return errEnough
	})
}

func testAppendRefused(t *testing.T, b *Bus) {
	stream := ownStream(t)
	keep(t, b, stream)
	if err := b.Append(t.Context(), stream.subject(), "1", make([]byte, 2<<20)); !errors.Is(err, ErrRefused) {
		t.Fatalf("a message of 2 MiB: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := b.Append(ctx, "nowhere.a", "1", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("no stream keeps it: %v", err)
	}
}

// Where a stream was deleted and made anew while it was read, sequences mean something else: the reader has to begin anew.
func testReplaced(t *testing.T, b *Bus) {
	stream := ownStream(t)
	keep(t, b, stream)
	write(t, b, stream, 1, 10)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := 0
	err := b.Read(ctx, stream.Name, 1, 10, func(entries []Entry) error {
		if seen += len(entries); seen == 10 {
			if err := b.streams.DeleteStream(ctx, stream.Name); err != nil {
				t.Error(err)
			}
			keep(t, b, stream)
			write(t, b, stream, 11, 30)
		}
		return nil
	})
	if !errors.Is(err, ErrReplaced) || seen != 10 {
		t.Fatalf("%d read: %v", seen, err)
	}
}
