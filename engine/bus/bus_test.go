package bus

import (
	"bufio"
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

// The bus in this process does all that a bus does.
func TestInProcess(t *testing.T) {
	suite(t, func(t *testing.T) *Bus { return openTest(t, t.TempDir()) })
}

func TestRestart(t *testing.T) {
	directory := t.TempDir()
	b := openTest(t, directory)
	created := keep(t, b, letters).Created
	write(t, b, letters, 1, 100)
	b.Close()

	b = openTest(t, directory)
	if state := keep(t, b, letters); state.Messages != 100 || !state.Created.Equal(created) {
		t.Fatalf("after a restart: %+v", state)
	}
	write(t, b, letters, 101, 120)
	if texts := read(t, b, letters, 91, 30); texts[0] != "91" || texts[29] != "120" {
		t.Fatal(texts)
	}
	if err := b.Health(); err != nil || time.Since(b.Since()) > time.Minute {
		t.Fatalf("%v since %s", err, b.Since())
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
		keep(t, b, letters)
		write(t, b, letters, 1, 10)
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
		for i := keep(t, b, letters).Last + 1; ; i++ {
			text := strconv.FormatUint(i, 10)
			if err := b.Append(t.Context(), letters.subject(), text, []byte(text)); err != nil {
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
		state := keep(t, b, letters)
		if last == 0 || state.Last < uint64(last) {
			t.Fatalf("round %d: %d were acknowledged, the stream ends at %d", round, last, state.Last)
		}
		for i, text := range read(t, b, letters, 1, int(state.Last)) {
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
