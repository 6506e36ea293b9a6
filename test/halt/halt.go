// Package halt has processes stand still, as on a machine that hangs: their connections stay open.
package halt

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// patience bounds the wait. It is no measurement.
const patience = time.Minute

// Stop returns when every thread of the process stands still: the signal only asks for it. SIGCONT undoes it.
func Stop(t testing.TB, process int) {
	t.Helper()
	if err := syscall.Kill(process, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); !stands(process); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for process %d to stand still", patience, process)
		}
	}
}

func stands(process int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", process))
	for _, thread := range threads {
		// "number (name) state …": the name may hold anything. A thread that has ended meanwhile stands still, too.
		if stat, err := os.ReadFile(thread); err == nil && !bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" T")) {
			return false
		}
	}
	return true
}
