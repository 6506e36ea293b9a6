package mqttstore

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time that this process has used.
func cpu(t testing.TB) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// resident is the memory of this process, in bytes.
func resident(t testing.TB) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}

// 1,000 publishers of 64 bytes, each to a session of its own that takes messages at once, a little later than they are committed, or
// not at all.
func BenchmarkQoS1(b *testing.B) {
	for _, how := range []string{"taken at once", "taken when stored", "left"} {
		b.Run(how, func(b *testing.B) {
			o := open(b, b.TempDir(), nil)
			const publishers = 1000
			var sessions [publishers]uint64
			for i := range sessions {
				sessions[i] = o.session(fmt.Sprint(i))
			}
			m := message("d/1/telemetry", strings.Repeat("x", 64))
			b.ReportAllocs()
			b.ResetTimer()
			began := cpu(b)
			var publishing sync.WaitGroup
			for p := range publishers {
				publishing.Go(func() {
					done := make(chan error, 1)
					for range b.N/publishers + 1 {
						number := o.Publish(m, []Recipient{{Session: sessions[p], QoS: 1}}, Received{}, func(err error) { done <- err })
						if how == "taken at once" {
							o.Done(sessions[p], number, time.Time{})
						}
						if err := <-done; err != nil {
							b.Error(err)
						}
						if how == "taken when stored" {
							o.Done(sessions[p], number, time.Time{})
						}
					}
				})
			}
			publishing.Wait()
			b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/message")
		})
	}
}

// retain publishes retained messages on so many topics.
func retain(t testing.TB, o *opened, count int) {
	var publishing sync.WaitGroup
	slots := make(chan struct{}, 4096)
	for i := range count {
		slots <- struct{}{}
		publishing.Add(1)
		m := retainedMessage(fmt.Sprintf("site/%d/device/%d/status", i%1000, i), fmt.Sprintf(`{"value":%d,"padding":"%032d"}`, i, i))
		o.Publish(m, nil, Received{}, func(err error) {
			if err != nil {
				t.Error(err)
			}
			<-slots
			publishing.Done()
		})
	}
	publishing.Wait()
}

// RETAINED sets the number of topics; that of docs/measurements.md is 10,000,000.
func BenchmarkRetained(b *testing.B) {
	count := 100_000
	if text := os.Getenv("RETAINED"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	folder := b.TempDir()
	for range b.N {
		o := open(b, folder, nil)
		began, used := time.Now(), cpu(b)
		retain(b, o, count)
		b.ReportMetric(float64((cpu(b)-used).Nanoseconds())/float64(count), "cpu-ns/set")
		b.ReportMetric(float64(time.Since(began).Nanoseconds())/float64(count), "ns/set")
		b.ReportMetric(float64(resident(b))/(1<<20), "MiB-resident")
		o.stop()
		began = time.Now()
		o = open(b, folder, nil)
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "ms-to-start")
		used = cpu(b)
		found := 0
		for r := o.Retained("#"); !r.Ended(); {
			messages, err := r.Next(context.Background(), 64, 256<<10)
			if err != nil {
				b.Fatal(err)
			}
			found += len(messages)
		}
		if found != count {
			b.Fatalf("%d found", found)
		}
		b.ReportMetric(float64((cpu(b)-used).Nanoseconds())/float64(count), "cpu-ns/read")
		began = time.Now()
		found = len(o.retained("site/+/device/77077/status"))
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "ms-plus")
		if found != 1 {
			b.Fatalf("%d found by +", found)
		}
		b.ReportMetric(float64(o.used.Load())/(1<<20), "MiB-on-disk")
		o.stop()
	}
}

// However much is stored, memory holds caches of a fixed size.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 300,000 messages")
	}
	o := open(t, t.TempDir(), nil)
	retain(t, o, 300_000)
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if bound := uint64(96 << 20); memory.HeapAlloc > bound {
		t.Errorf("%d bytes of memory, at most %d are allowed", memory.HeapAlloc, bound)
	}
	same(t, "retained", o.Store.retained.Load(), 300_000)
}
