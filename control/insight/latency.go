package insight

import (
	"encoding/binary"
	"math"
	"time"
)

// Latencies are kept as a DDSketch (Masson, Rim, Lee: "DDSketch", VLDB 2019, §2): counts by bins whose bounds grow by latencyGrowth,
// so that a quantile is within latencyError of the true value. Sums of sketches are exact. A library's is not used because most of
// the time of a query went into decoding it: here stored bins are added without being decoded into anything first.
const (
	latencyError  = 0.01
	latencyGrowth = (1 + latencyError) / (1 - latencyError)

	maxLatency  = time.Hour
	latencyBins = 1_102 // from a microsecond to maxLatency
	binBlock    = 64    // bins are allocated in blocks
)

var logGrowth = math.Log(latencyGrowth)

type latency struct {
	total uint64
	first int      // number of the first of bins
	bins  []uint64 // empty while there are none
}

func binOf(d time.Duration) int {
	micros := float64(max(d, time.Microsecond)) / float64(time.Microsecond)
	return min(int(math.Ceil(math.Log(micros)/logGrowth)), latencyBins-1)
}

// middleOf is the value that is within latencyError of all in a bin.
func middleOf(bin int) time.Duration {
	return time.Duration(2 * math.Pow(latencyGrowth, float64(bin)) / (latencyGrowth + 1) * float64(time.Microsecond))
}

func (l *latency) add(bin int, n uint64) {
	at := bin - l.first
	if at < 0 || at >= len(l.bins) {
		l.widen(bin)
		at = bin - l.first
	}
	l.bins[at] += n
	l.total += n
}

// widen makes room for a bin.
func (l *latency) widen(bin int) {
	first, end := bin-bin%binBlock, bin-bin%binBlock+binBlock
	if len(l.bins) > 0 {
		first, end = min(first, l.first), max(end, l.first+len(l.bins))
	}
	bins := make([]uint64, end-first)
	if len(l.bins) > 0 {
		copy(bins[l.first-first:], l.bins)
	}
	l.first, l.bins = first, bins
}

func (l *latency) merge(more *latency) {
	for i, n := range more.bins {
		if n > 0 {
			l.add(more.first+i, n)
		}
	}
}

// appendMerged encodes the bins that hold something, in the sum with what was encoded before (nil: nothing): how far each is from the one
// before, and its count.
func (l *latency) appendMerged(dst, stored []byte) ([]byte, error) {
	before, next := 0, 0 // in bins
	emit := func(bin int, n uint64) {
		if n > 0 {
			dst = binary.AppendUvarint(dst, uint64(bin-before))
			dst = binary.AppendUvarint(dst, n)
			before = bin
		}
	}
	d := unpacker{rest: stored}
	bin := uint64(0)
	for len(d.rest) > 0 {
		bin += min(d.uint(), latencyBins)
		n := d.uint()
		if d.bad || bin >= latencyBins {
			return nil, errPacked
		}
		for ; next < len(l.bins) && l.first+next < int(bin); next++ {
			emit(l.first+next, l.bins[next])
		}
		if next < len(l.bins) && l.first+next == int(bin) {
			n += l.bins[next]
			next++
		}
		emit(int(bin), n)
	}
	for ; next < len(l.bins); next++ {
		emit(l.first+next, l.bins[next])
	}
	return dst, nil
}

// mergeEncoded adds what appendTo encoded.
func (l *latency) mergeEncoded(encoded []byte) error {
	d := unpacker{rest: encoded}
	bin := uint64(0)
	for len(d.rest) > 0 {
		bin += min(d.uint(), latencyBins)
		n := d.uint()
		if d.bad || bin >= latencyBins {
			return errPacked
		}
		l.add(int(bin), n)
	}
	return nil
}

// quantiles sets the values below which the shares of half, 90 % and 99 % are; of nothing they are zero.
func (l *latency) quantiles(p50, p90, p99 *time.Duration) {
	if l.total == 0 {
		return
	}
	wanted := [...]struct {
		share float64
		value *time.Duration
	}{{0.5, p50}, {0.9, p90}, {0.99, p99}}
	next, below := 0, uint64(0)
	for i, n := range l.bins {
		below += n
		for next < len(wanted) && float64(below) > wanted[next].share*float64(l.total-1) {
			*wanted[next].value = middleOf(l.first + i)
			next++
		}
	}
}
