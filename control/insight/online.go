package insight

import (
	"sync"
	"time"

	"github.com/axiomhq/hyperloglog"

	"fieldgate"
)

const (
	onlineWindow = 5 * time.Minute
	onlineSlice  = 15 // seconds
	onlineSlices = int64(onlineWindow/time.Second)/onlineSlice + 1
)

// online counts devices that were seen within onlineWindow: a sketch for each slice of time and protocol, 16 KiB at the most, in
// which some thousand devices are exact.
type online struct {
	mu     sync.Mutex
	slices [onlineSlices]onlineAt
}

type onlineAt struct {
	number    int64 // of the slice since 1970
	protocols [fieldgate.Protocols]*hyperloglog.Sketch
}

func newOnline() *online { return &online{} }

// see notes which devices were there. One that comes several times in a row is noted once for each slice and protocol.
func (o *online) see(records []fieldgate.Record, now time.Time) {
	newest := now.Unix()
	o.mu.Lock()
	defer o.mu.Unlock()
	var before *fieldgate.Record
	var noted int64 // slice of before
	for i := range records {
		r := &records[i]
		if r.Kind != fieldgate.PrincipalDevice || r.Protocol >= fieldgate.Protocols {
			continue
		}
		number := min(r.Time.Add(r.Duration).Unix(), newest) / onlineSlice
		if number <= newest/onlineSlice-onlineSlices ||
			before != nil && number == noted && r.Principal == before.Principal && r.Protocol == before.Protocol {
			continue
		}
		before, noted = r, number
		slice := &o.slices[number%onlineSlices]
		if slice.number != number {
			*slice = onlineAt{number: number}
		}
		if slice.protocols[r.Protocol] == nil {
			slice.protocols[r.Protocol] = hyperloglog.New14()
		}
		slice.protocols[r.Protocol].InsertHash(callerHash(r))
	}
}

// Online is how many distinct devices were seen within the last five minutes: exact for some thousand, within about 1 % above.
type Online struct {
	Devices   uint64
	Protocols [fieldgate.Protocols]uint64
}

// Online counts the devices that were seen within the last five minutes.
func (i *Insight) Online() Online { return i.online.estimate(time.Now()) }

func (o *online) estimate(now time.Time) (answer Online) {
	newest := now.Unix() / onlineSlice
	var protocols [fieldgate.Protocols]*hyperloglog.Sketch
	o.mu.Lock()
	for i := range o.slices {
		slice := &o.slices[i]
		if slice.number <= newest-onlineSlices || slice.number > newest {
			continue
		}
		for p, sketch := range slice.protocols {
			if sketch == nil {
				continue
			}
			if protocols[p] == nil {
				protocols[p] = hyperloglog.New14()
			}
			if err := protocols[p].Merge(sketch); err != nil {
				panic(err) // all have one precision
			}
		}
	}
	o.mu.Unlock()
	all := hyperloglog.New14()
	for p, sketch := range protocols {
		if sketch == nil {
			continue
		}
		answer.Protocols[p] = sketch.Estimate()
		if err := all.Merge(sketch); err != nil {
			panic(err)
		}
	}
	answer.Devices = all.Estimate()
	return answer
}
