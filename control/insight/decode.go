package insight

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
)

const maxRecordNumber = 1 << 60 // a column is a signed BIGINT

// batches decodes messages of the stream. What shows Records and what counts them read the same messages one shortly after the
// other: the second one gets what the first one decoded. Nobody changes a batch.
type batches struct {
	mu     sync.Mutex
	recent [4]decoded // a ring
	oldest int
}

type decoded struct {
	data  []byte
	batch *fieldgate.RecordBatch
}

func (b *batches) decode(entry bus.Entry, now time.Time) (*fieldgate.RecordBatch, error) {
	if batch := b.take(entry.Data); batch != nil {
		return batch, nil
	}
	batch, err := fieldgate.DecodeRecords(entry.Data)
	if err != nil {
		return nil, err
	}
	if batch.First-1 > maxRecordNumber { // also 0
		return nil, fmt.Errorf("record number %d", batch.First)
	}
	clean(batch, now)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recent[b.oldest] = decoded{entry.Data, batch}
	b.oldest = (b.oldest + 1) % len(b.recent)
	return batch, nil
}

// take is the batch that was decoded from the same message, and forgets it.
func (b *batches) take(data []byte) *fieldgate.RecordBatch {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.recent {
		if d := b.recent[i]; d.batch != nil && bytes.Equal(d.data, data) {
			b.recent[i] = decoded{}
			return d.batch
		}
	}
	return nil
}

// clean makes sure of what the database, metrics and JSON demand of texts and numbers, whatever a node sends.
func clean(batch *fieldgate.RecordBatch, now time.Time) {
	batch.Node = cleanText(batch.Node)
	before := &fieldgate.Record{}
	for i := range batch.Records {
		r := &batch.Records[i]
		cleanUnlike(&r.API, before.API)
		cleanUnlike(&r.Version, before.Version)
		cleanUnlike(&r.Operation, before.Operation)
		cleanUnlike(&r.Route, before.Route)
		cleanUnlike(&r.Detail, before.Detail)
		cleanUnlike(&r.Rule, before.Rule)
		cleanUnlike(&r.Principal, before.Principal)
		cleanUnlike(&r.Model, before.Model)
		cleanUnlike(&r.Firmware, before.Firmware)
		cleanUnlike(&r.Problem, before.Problem)
		cleanUnlike(&r.Kind, before.Kind)
		before = r
		if r.Time.After(now) { // a clock that is wrong would make rollups that are kept until then
			r.Time = now
		}
		r.Status = min(max(r.Status, 0), 999)
		r.Duration = min(max(r.Duration, 0), maxLatency)
		const most = 1 << 40 // bytes of one exchange; sums must fit a BIGINT
		r.BytesIn, r.BytesOut = min(r.BytesIn, most), min(r.BytesOut, most)
	}
}

// cleanUnlike cleans a text unless it is one that was cleaned before.
func cleanUnlike[Text ~string](text *Text, cleaned Text) {
	if *text != cleaned {
		*text = Text(cleanText(string(*text)))
	}
}

// cleanText is valid UTF-8 without NUL, which PostgreSQL's TEXT does not take.
func cleanText(text string) string {
	if strings.IndexByte(text, 0) >= 0 {
		text = strings.ReplaceAll(text, "\x00", "\ufffd")
	}
	return strings.ToValidUTF8(text, "\ufffd")
}
