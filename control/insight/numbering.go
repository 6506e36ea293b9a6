package insight

import (
	"fmt"
	"strconv"
	"strings"

	"fieldgate"
)

// maxGaps bounds the ranges of numbers that a run of a node is waited for. Beyond it the oldest range is given up as lost.
const maxGaps = 64

// numbering knows which numbered Records of each run of a node have been taken, so that one that comes again, whenever it
// comes and whatever came in between, is taken once.
type numbering map[nodeKey]*progress

type nodeKey struct {
	node  string
	epoch uint64
}

// progress is which Records of one run of a node were taken: all below next but those in gaps, and those that were lost.
type progress struct {
	next  uint64
	gaps  []gap // in order
	lost  uint64
	dirty bool // differs from what is stored
}

type gap struct{ first, end uint64 } // without end

// take is the part of a batch that was not taken before.
func (n numbering) take(batch *fieldgate.RecordBatch) []fieldgate.Record {
	key := nodeKey{batch.Node, batch.Epoch}
	p := n[key]
	if p == nil {
		p = &progress{next: 1}
		n[key] = p
	}
	end := batch.First + uint64(len(batch.Records))
	if batch.First >= p.next {
		if batch.First > p.next {
			p.setGaps(append(p.gaps, gap{p.next, batch.First}))
		}
		p.next, p.dirty = end, true
		return batch.Records
	}
	var fresh []fieldgate.Record
	for i := range batch.Records {
		if number := batch.First + uint64(i); number >= p.next || p.missing(number) {
			fresh = append(fresh, batch.Records[i])
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	p.fill(batch.First, end)
	p.next, p.dirty = max(p.next, end), true
	return fresh
}

func (p *progress) missing(number uint64) bool {
	for _, g := range p.gaps {
		if g.first <= number && number < g.end {
			return true
		}
	}
	return false
}

// fill takes the numbers from first to before end out of the gaps.
func (p *progress) fill(first, end uint64) {
	var left []gap
	for _, g := range p.gaps {
		if before := (gap{g.first, min(g.end, first)}); before.first < before.end {
			left = append(left, before)
		}
		if after := (gap{max(g.first, end), g.end}); after.first < after.end {
			left = append(left, after)
		}
	}
	p.setGaps(left)
}

func (p *progress) setGaps(gaps []gap) {
	for len(gaps) > maxGaps {
		p.lost += gaps[0].end - gaps[0].first
		gaps = gaps[1:]
	}
	p.gaps = gaps
}

// absent is how many Records below next have not arrived.
func (p *progress) absent() uint64 {
	sum := p.lost
	for _, g := range p.gaps {
		sum += g.end - g.first
	}
	return sum
}

func (p *progress) gapsText() string {
	var text []byte
	for i, g := range p.gaps {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendUint(text, g.first, 10)
		text = append(text, '-')
		text = strconv.AppendUint(text, g.end, 10)
	}
	return string(text)
}

func parseGaps(text string) (gaps []gap, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		first, end, _ := strings.Cut(part, "-")
		var g gap
		if g.first, err = strconv.ParseUint(first, 10, 64); err != nil {
			return nil, fmt.Errorf("gap %q: %w", part, err)
		}
		if g.end, err = strconv.ParseUint(end, 10, 64); err != nil {
			return nil, fmt.Errorf("gap %q: %w", part, err)
		}
		gaps = append(gaps, g)
	}
	return gaps, nil
}

// copyDirty is what has to be stored, as it stands now.
func (n numbering) copyDirty() numbering {
	dirty := make(numbering)
	for key, p := range n {
		if p.dirty {
			copied := *p
			dirty[key] = &copied // setGaps and fill make new gaps, but take appends
			dirty[key].gaps = append([]gap(nil), p.gaps...)
			p.dirty = false
		}
	}
	return dirty
}
