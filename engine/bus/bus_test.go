package bus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func openTest(t *testing.T, directory string) *Bus {
	t.Helper()
	b, err := Open(Config{Directory: directory, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

var letters = Stream{Name: "LETTERS", Subjects: []string{"letters.>"}, MaxBytes: 1 << 20, MaxAge: time.Hour}

func keep(t *testing.T, b *Bus) StreamState {
	t.Helper()
	state, err := b.Keep(t.Context(), letters)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func write(t *testing.T, b *Bus, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		if err := b.Append(t.Context(), "letters.a", strconv.Itoa(i), []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
}

var errEnough = errors.New("enough")

// read collects the texts from a sequence on until there are n, and checks that sequences have no gap.
func read(t *testing.T, b *Bus, from uint64, n int) (texts []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	next := max(from, 1)
	err := b.Read(ctx, letters.Name, from, 7, func(entries []Entry) error {
		if len(entries) == 0 || len(entries) > 7 {
			t.Errorf("%d entries at once", len(entries))
		}
		for _, entry := range entries {
			if entry.Sequence != next || entry.Subject != "letters.a" {
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

func TestPublishSubscribe(t *testing.T) {
	b := openTest(t, t.TempDir())
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

func TestRequest(t *testing.T) {
	b := openTest(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
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

func TestAppendAndRead(t *testing.T) {
	directory := t.TempDir()
	b := openTest(t, directory)
	created := keep(t, b).Created
	write(t, b, 1, 100)
	write(t, b, 1, 100) // the same ids again are stored once
	if state := keep(t, b); state.Messages != 100 || state.First != 1 || state.Last != 100 {
		t.Fatalf("%+v", state)
	}
	if texts := read(t, b, 0, 100); texts[0] != "1" || texts[99] != "100" {
		t.Fatal(texts)
	}
	b.Close()

	b = openTest(t, directory)
	if state := keep(t, b); state.Messages != 100 || !state.Created.Equal(created) {
		t.Fatalf("after a restart: %+v", state)
	}
	write(t, b, 101, 120)
	if texts := read(t, b, 91, 30); texts[0] != "91" || texts[29] != "120" {
		t.Fatal(texts)
	}
}

func TestReadWaitsForMore(t *testing.T) {
	b := openTest(t, t.TempDir())
	keep(t, b)
	go func() {
		for i := range 20 {
			b.Append(t.Context(), "letters.a", strconv.Itoa(i), []byte("x"))
		}
	}()
	read(t, b, 1, 20)
}

func TestReadEndsWithItsContext(t *testing.T) {
	b := openTest(t, t.TempDir())
	keep(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Read(ctx, letters.Name, 1, 10, func([]Entry) error { return nil }) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestStreamIsBounded(t *testing.T) {
	b := openTest(t, t.TempDir())
	keep(t, b)
	for i := range 200 {
		if err := b.Append(t.Context(), "letters.a", strconv.Itoa(i), make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	state := keep(t, b)
	if state.Last != 200 || state.First == 1 || state.Bytes > uint64(letters.MaxBytes) {
		t.Fatalf("%+v", state)
	}
	// What is discarded is skipped.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b.Read(ctx, letters.Name, 1, 1, func(entries []Entry) error {
		if entries[0].Sequence != state.First {
			t.Errorf("first is %d, want %d", entries[0].Sequence, state.First)
		}
		return errEnough
	})
}

func TestAppendRefused(t *testing.T) {
	b := openTest(t, t.TempDir())
	keep(t, b)
	if err := b.Append(t.Context(), "letters.a", "1", make([]byte, 2<<20)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Fatalf("a message of 2 MiB: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := b.Append(ctx, "nowhere.a", "1", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("no stream keeps it: %v", err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	directory := t.TempDir()
	openTest(t, directory)
	if _, err := Open(Config{Directory: directory, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
}

func TestCorruptStore(t *testing.T) {
	for _, name := range []string{"meta.inf", "meta.sum"} {
		directory := t.TempDir()
		b := openTest(t, directory)
		keep(t, b)
		write(t, b, 1, 10)
		b.Close()
		damaged := 0
		err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Name() == name {
				damaged++
				return os.WriteFile(path, []byte("{{{"), 0o600)
			}
			return err
		})
		if err != nil || damaged == 0 {
			t.Fatalf("%d damaged, %v", damaged, err)
		}
		if _, err := Open(Config{Directory: directory, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s damaged: %v", name, err)
		}
	}
}

// TestKilledProcess kills a process that prints each number after it was appended; every number that was printed must be
// there, once and in its order.
func TestKilledProcess(t *testing.T) {
	if directory := os.Getenv("BUS_KILL_TEST"); directory != "" {
		b := openTest(t, directory)
		for i := keep(t, b).Last + 1; ; i++ {
			text := strconv.FormatUint(i, 10)
			if err := b.Append(t.Context(), "letters.a", text, []byte(text)); err != nil {
				t.Fatal(err)
			}
			fmt.Printf("appended %s\n", text)
		}
	}
	directory := t.TempDir()
	for round := range 3 {
		command := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		command.Env = append(os.Environ(), "BUS_KILL_TEST="+directory)
		out, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		last, seen := 0, 0
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			text, found := strings.CutPrefix(lines.Text(), "appended ")
			if !found {
				continue
			}
			if last, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
			if seen++; seen == 500+97*round {
				command.Process.Kill()
			}
		}
		command.Wait()
		b := openTest(t, directory)
		state := keep(t, b)
		if last == 0 || state.Last < uint64(last) {
			t.Fatalf("round %d: %d were acknowledged, the stream ends at %d", round, last, state.Last)
		}
		for i, text := range read(t, b, 1, int(state.Last)) {
			if text != strconv.Itoa(i+1) {
				t.Fatalf("round %d: %q is number %d", round, text, i+1)
			}
		}
		b.Close()
	}
}

func BenchmarkAppend(b *testing.B) {
	bus, err := Open(Config{Directory: b.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer bus.Close()
	if _, err := bus.Keep(b.Context(), Stream{Name: "B", Subjects: []string{"b"}, MaxBytes: 64 << 20}); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 4000) // a batch of about 100 records
	i := 0
	for b.Loop() {
		i++
		if err := bus.Append(b.Context(), "b", strconv.Itoa(i), data); err != nil {
			b.Fatal(err)
		}
	}
}
