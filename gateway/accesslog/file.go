// Package accesslog writes a line for each exchange to a file that other programs read.
//
// It owns the file: it begins a new one when it has reached its size, keeps so many old ones, and opens it anew when it is told to, because
// somebody has moved it away. It promises that no exchange waits for the disk: lines gather in memory, up to a bound, and what does not
// fit is counted and dropped. A disk that takes nothing is said in the gateway's state and, once, in its log, and writing goes on when it does again.
package accesslog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	flushEvery = time.Second
	flushAt    = 64 << 10 // bytes
	maxWaiting = 4 << 20  // bytes

	// Standard is the path of standard output.
	Standard = "-"
	// DefaultMaxSize is how large a file grows before the next begins.
	DefaultMaxSize = 100 << 20
	// DefaultKeep is how many old files stay.
	DefaultKeep = 5
)

// Settings say where lines go.
type Settings struct {
	Path    string // Standard: standard output
	MaxSize int64  // bytes; 0: DefaultMaxSize
	Keep    int    // old files; 0: DefaultKeep

	Log *slog.Logger // is told when writing begins to fail, and when it works again; nil: nobody is
}

// File takes lines. It is safe for concurrent use.
type File struct {
	settings Settings

	mu      sync.Mutex
	waiting []byte
	lines   uint64 // in waiting

	wake    chan struct{}
	reopen  chan struct{}
	written atomic.Uint64
	dropped atomic.Uint64
	problem atomic.Pointer[string]

	// Of Run.
	out  io.Writer
	file *os.File
	size int64
}

// Open opens the file, so that what keeps it from being written is known at once. Lines are written by Run.
func Open(settings Settings) (*File, error) {
	if settings.MaxSize == 0 {
		settings.MaxSize = DefaultMaxSize
	}
	if settings.Keep == 0 {
		settings.Keep = DefaultKeep
	}
	if settings.Log == nil {
		settings.Log = slog.New(slog.DiscardHandler)
	}
	f := &File{settings: settings, wake: make(chan struct{}, 1), reopen: make(chan struct{}, 1)}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	return f, nil
}

func (f *File) open() error {
	if f.settings.Path == Standard {
		f.out = os.Stdout
		return nil
	}
	file, err := os.OpenFile(f.settings.Path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	f.file, f.out, f.size = file, file, info.Size()
	return nil
}

// Add takes a line: append puts it behind what it is given, with its end. It is called at once, and must not call File.
func (f *File) Add(append func(dst []byte) []byte) {
	f.mu.Lock()
	if len(f.waiting) > maxWaiting {
		f.mu.Unlock()
		f.dropped.Add(1)
		return
	}
	f.waiting = append(f.waiting)
	f.lines++
	full := len(f.waiting) >= flushAt
	f.mu.Unlock()
	if full {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// Reopen opens the file by its path again, since it was moved away.
func (f *File) Reopen() {
	select {
	case f.reopen <- struct{}{}:
	default:
	}
}

// Run writes lines until ctx ends, and those that wait then.
func (f *File) Run(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	var lines []byte
	for {
		ended := false
		select {
		case <-ctx.Done():
			ended = true
		case <-ticker.C:
		case <-f.wake:
		case <-f.reopen:
			lines = f.flush(lines)
			f.close()
		}
		lines = f.flush(lines)
		if ended {
			f.close()
			return
		}
	}
}

func (f *File) close() {
	if f.file != nil {
		f.file.Close() // each write was checked
		f.file, f.out = nil, nil
	}
}

// flush writes all lines that wait. buffer is what the call before returned.
func (f *File) flush(buffer []byte) []byte {
	f.mu.Lock()
	lines, count := f.waiting, f.lines
	f.waiting, f.lines = buffer[:0], 0
	f.mu.Unlock()
	if len(lines) > 0 {
		if err := f.write(lines); err != nil {
			f.dropped.Add(count)
			text := err.Error()
			if f.problem.Swap(&text) == nil {
				f.settings.Log.Error("the access log cannot be written: its lines are dropped", "file", f.settings.Path, "error", err)
			}
		} else {
			f.written.Add(count)
			if f.problem.Swap(nil) != nil {
				f.settings.Log.Info("the access log is written again", "file", f.settings.Path, "dropped", f.dropped.Load())
			}
		}
	}
	if cap(lines) > maxWaiting/4 {
		return nil
	}
	return lines
}

func (f *File) write(lines []byte) error {
	if f.out == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	if f.file != nil && f.size > 0 && f.size+int64(len(lines)) > f.settings.MaxSize {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	n, err := f.out.Write(lines)
	f.size += int64(n)
	if err != nil && n > 0 && f.file != nil {
		// A torn line would break the next one too.
		if f.file.Truncate(f.size-int64(n)) == nil {
			f.size -= int64(n)
		}
	}
	return err
}

// rotate renames the file to .1, .1 to .2 and so on, and begins a new one.
func (f *File) rotate() error {
	f.close()
	old := func(n int) string { return f.settings.Path + "." + strconv.Itoa(n) }
	for n := f.settings.Keep - 1; n >= 1; n-- {
		if err := os.Rename(old(n), old(n+1)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if err := os.Rename(f.settings.Path, old(1)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return f.open()
}

// Stats are counts since Open, and what is wrong now.
type Stats struct {
	Written, Dropped uint64
	Problem          string
}

// Stats is safe for concurrent use.
func (f *File) Stats() Stats {
	s := Stats{Written: f.written.Load(), Dropped: f.dropped.Load()}
	if problem := f.problem.Load(); problem != nil {
		s.Problem = *problem
	}
	return s
}
