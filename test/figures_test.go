package test

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// figures are what must not grow. Memory is in MiB.
type figures struct {
	goroutines, sockets, files int
	heap                       int // that lives: what the garbage collector found the last time
	resident                   int
}

func (n *node) figures() (f figures) {
	n.t.Helper()
	status, text, err := n.ask("GET", "/metrics", nil)
	if err != nil || status != http.StatusOK {
		n.t.Fatal(status, err)
	}
	metric := func(name string) int {
		_, rest, _ := strings.Cut(string(text), "\n"+name+" ")
		value, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			n.t.Fatal(err)
		}
		return int(value)
	}
	f.goroutines, f.heap, f.resident = metric("go_goroutines"), metric("go_memstats_next_gc_bytes")/2>>20, n.memory()>>20 // it runs when the heap has doubled
	folder := fmt.Sprintf("/proc/%d/fd/", n.process.Process.Pid)
	descriptors, err := os.ReadDir(folder)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, descriptor := range descriptors {
		if target, err := os.Readlink(folder + descriptor.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			f.sockets++
		} else if err == nil { // of the database and the bus, too, which open and close them as they need them
			f.files++
		}
	}
	return f
}

// descriptors is how many files and sockets the node has open, memory what it holds of the machine's, in bytes.
func (n *node) descriptors() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.process.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	return len(entries)
}

func (n *node) memory() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		n.t.Fatal(err)
	}
	return kilobytes << 10
}
