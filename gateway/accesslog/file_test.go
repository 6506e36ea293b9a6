package accesslog

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func run(t *testing.T, f *File) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func line(text string) func([]byte) []byte {
	return func(dst []byte) []byte { return append(append(dst, text...), '\n') }
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

func TestLinesFromManyAreWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	f, err := Open(Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, f)
	var adding sync.WaitGroup
	for i := range 8 {
		adding.Go(func() {
			for j := range 1000 {
				f.Add(line(fmt.Sprintf("%d-%d", i, j)))
			}
		})
	}
	adding.Wait()
	stop()
	if got := strings.Count(read(t, path), "\n"); got != 8000 || f.Stats().Written != 8000 || f.Stats().Dropped != 0 {
		t.Errorf("%d lines, %+v", got, f.Stats())
	}
}

func TestNextFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	f, err := Open(Settings{Path: path, MaxSize: 100, Keep: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		f.Add(line(strings.Repeat(fmt.Sprint(i), 59)))
		f.flush(nil)
	}
	for name, want := range map[string]string{path: "4", path + ".1": "3", path + ".2": "2"} {
		if got := read(t, name); !strings.HasPrefix(got, want) || len(got) != 60 {
			t.Errorf("%s: %.10q", filepath.Base(name), got)
		}
	}
	if _, err := os.Stat(path + ".3"); !os.IsNotExist(err) {
		t.Error("an old file was kept")
	}
}

// A program such as logrotate moves the file away and sends SIGHUP.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	f, err := Open(Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, f)
	f.Add(line("before"))
	eventually(t, "written", func() bool { return f.Stats().Written == 1 })
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	f.Reopen()
	eventually(t, "opened", func() bool { f.Add(line("after")); f.wake <- struct{}{}; _, err := os.Stat(path); return err == nil })
	stop()
	if read(t, path+".moved") != "before\n" && !strings.HasPrefix(read(t, path+".moved"), "before\nafter") || !strings.HasPrefix(read(t, path), "after") {
		t.Errorf("%q, %q", read(t, path+".moved"), read(t, path))
	}
}

// /dev/full is a disk that takes nothing.
func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	f, err := Open(Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, f)
	f.Add(line("lost"))
	eventually(t, "problem", func() bool { return f.Stats().Problem != "" })
	if s := f.Stats(); s.Dropped != 1 || !strings.Contains(s.Problem, "no space left") {
		t.Errorf("%+v", s)
	}
	if err := os.Remove(path); err != nil { // there is room again
		t.Fatal(err)
	}
	f.Reopen()
	eventually(t, "written", func() bool { f.Add(line("kept")); return f.Stats().Written > 0 && f.Stats().Problem == "" })
	stop()
}

// The gateway's own log has a line when writing begins to fail and one when it works again, however many lines are lost.
func TestFailureIsLoggedOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "access.log")
	var log bytes.Buffer
	f, err := Open(Settings{Path: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	write := func(times int) {
		for range times {
			f.Add(line("x"))
			f.flush(nil)
		}
	}
	expect := func(failed, again int) {
		t.Helper()
		if text := log.String(); strings.Count(text, "cannot be written") != failed || strings.Count(text, "is written again") != again {
			t.Errorf("want %d and %d lines, got %q", failed, again, text)
		}
	}
	write(3)
	expect(0, 0)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	f.close() // as Reopen has it
	write(3)
	expect(1, 0)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	write(3)
	expect(1, 1)
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "no such file") || !strings.Contains(text, "dropped=3") {
		t.Error(text)
	}
	f.close()
}

func TestMemoryIsBounded(t *testing.T) {
	f, err := Open(Settings{Path: filepath.Join(t.TempDir(), "access.log")})
	if err != nil {
		t.Fatal(err)
	}
	long := line(strings.Repeat("x", 1<<20))
	for range 20 {
		f.Add(long)
	}
	if len(f.waiting) > maxWaiting+1<<20+1 || f.Stats().Dropped < 15 {
		t.Errorf("%d bytes wait, %+v", len(f.waiting), f.Stats())
	}
}

func TestFolderMissing(t *testing.T) {
	if _, err := Open(Settings{Path: filepath.Join(t.TempDir(), "none", "access.log")}); err == nil {
		t.Error("no error")
	}
}
