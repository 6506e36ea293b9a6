package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"syscall"
	"time"
)

const (
	restInterval = 4 * time.Second
	restShare    = 10      // a node that works less than a tenth of a processor's time is at rest
	spareShare   = 4       // memory beyond a quarter of what lives is spare
	spareLeast   = 8 << 20 // and so much of it is worth looking for what lives
)

// giveMemoryBack returns to the system what a burst of work or connections has left, when the node has come to rest. By itself the runtime keeps
// as much garbage as there is memory in use, and looks for it every two minutes when nothing happens.
func giveMemoryBack(ctx context.Context) {
	memory := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	ticker := time.NewTicker(restInterval)
	defer ticker.Stop()
	for worked := processorTime(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		before := worked
		if worked = processorTime(); worked-before > restInterval/restShare {
			continue
		}
		metrics.Read(memory)
		held := uint64(0)
		for _, class := range memory[1:] {
			held += class.Value.Uint64()
		}
		if live := memory[0].Value.Uint64(); held > live+max(live/spareShare, spareLeast) {
			debug.FreeOSMemory()
		}
	}
}

func processorTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0 // which is never, by getrusage(2)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
