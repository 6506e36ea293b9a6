package test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// slowDisk lets a process write to the disk of a folder at so many bytes a second, until the test ends. It needs root and the blkio
// controller of cgroups (version 1).
func slowDisk(t testing.TB, pid int, folder string, perSecond int) {
	t.Helper()
	var status syscall.Stat_t
	if err := syscall.Stat(folder, &status); err != nil {
		t.Fatal(err)
	}
	group := fmt.Sprintf("/sys/fs/cgroup/blkio/fieldgate-test-%d", pid)
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatalf("this test slows a disk by a cgroup: %v", err)
	}
	t.Cleanup(func() {
		os.WriteFile("/sys/fs/cgroup/blkio/cgroup.procs", []byte(fmt.Sprint(pid)), 0o644) // so that it can end
		os.Remove(group)
	})
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(group, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("blkio.throttle.write_bps_device", fmt.Sprintf("%d:%d %d", status.Dev>>8&0xfff, status.Dev&0xff, perSecond))
	write("cgroup.procs", fmt.Sprint(pid))
}

// A disk that takes 64 KiB a second makes decisions slow, and nothing else: exchanges do not wait for it, and each is counted once.
func TestFaultSlowDisk(t *testing.T) {
	t.Parallel() // it mostly waits
	n := newNode(t, nil)
	n.start()
	n.publishGreeting(1)
	token := n.run("device", "add", "caller", "--quiet")
	slowDisk(t, n.process.Process.Pid, n.folder, 64<<10)
	caller := n.caller(token)
	d := n.decide("slow")
	if d.status != http.StatusCreated {
		t.Errorf("a decision: %+v", d)
	}
	slowest := time.Duration(0)
	calls := caller.sent.Load()
	for range 200 {
		began := time.Now()
		if status, _, err := n.greet(token); err != nil || status != http.StatusOK {
			t.Fatalf("%d %v", status, err)
		}
		slowest = max(slowest, time.Since(began))
	}
	caller.stop()
	if wrong := caller.wrong.Load(); wrong != nil {
		t.Error(*wrong)
	}
	n.waitForExchanges(int(caller.sent.Load()) + 200)
	t.Logf("a decision took %v, in which %d calls were answered; the slowest of 200 calls %v", d.took.Round(time.Millisecond), calls, slowest.Round(time.Millisecond))
}
