package recorder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"fieldgate"
)

// The outbox is a folder of segments: files that are only appended to, and removed when all that they hold was sent. A
// segment's name is the epoch of the run that wrote it and its number in that run, so that the order of the names is that of the
// Records. No run writes to the segments of another, so that what a crash left half written is an end, and nothing behind it
// is missed.
//
// A segment is a sequence of frames: length and CRC-32C of the body, four bytes each; the body is the number of Records (4), the
// time of the first in nanoseconds (8), the length of the batch's id (2), the id, and the batch in the form of
// fieldgate.EncodeRecords. Numbers are little endian.
const (
	segmentBytes  = 1 << 20 // a segment that has so many is finished
	segmentSuffix = ".records"
	epochName     = "epoch" // file with the epoch of the newest run
	frameHead     = 8
	bodyHead      = 14
	maxBody       = 1<<20 + 4096 // the longest batch, and what stands before it
	maxEpoch      = 1 << 60

	complainInterval = time.Minute
)

// ErrInUse says that another process uses the outbox, which would mix their Records.
var ErrInUse = errors.New("another gateway uses the folder: stop it, or choose another data directory")

var errDamaged = errors.New("not as it was written")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// outbox has one goroutine that appends, one that takes out (next, done), and any that ask how it stands.
type outbox struct {
	folder string
	most   int64 // bytes of all segments
	epoch  uint64
	logger *slog.Logger
	lock   *os.File // the folder

	mu       sync.Mutex
	segments []*segment // oldest first
	used     int64      // bytes of all segments
	number   uint64     // of the newest segment of this run
	active   *os.File   // the last segment, while it is appended to
	held     *held      // a batch that the disk did not take; it comes after all segments
	failed   error      // why the disk did not take the last batch
	dropped  uint64     // Records
	said     time.Time  // that Records were dropped

	// Where taking out stands.
	at     *segment
	file   *os.File
	offset int64 // in at
	oldest time.Time
	body   []byte
	more   []byte
	merged []byte
}

type segment struct {
	name   string
	size   int64 // bytes of whole frames
	synced int64 // bytes that a power cut cannot take
}

type held struct{ frame []byte }

// shipment is a batch that is taken out. It is valid until the next is.
type shipment struct {
	id      string
	batch   []byte
	records uint32
	length  int64 // of its frame
	from    *segment
	held    *held // instead of from
}

func openOutbox(folder string, most int64, logger *slog.Logger) (_ *outbox, err error) {
	o := &outbox{folder: folder, most: most, logger: logger}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	if o.lock, err = os.Open(folder); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			o.lock.Close()
		}
	}()
	if err := syscall.Flock(int(o.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, err
	}
	newest, err := o.list()
	if err != nil {
		return nil, err
	}
	o.epoch = o.begin(newest)
	if o.used > 0 {
		logger.Info("records of an earlier run are in the outbox; they are sent first", "bytes", o.used)
	}
	return o, nil
}

// list finds the segments of earlier runs, and the newest epoch among them.
func (o *outbox) list() (newest uint64, err error) {
	entries, err := os.ReadDir(o.folder) // in the order of names
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		name, isSegment := strings.CutSuffix(entry.Name(), segmentSuffix)
		if !isSegment || !entry.Type().IsRegular() {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return 0, err
		}
		epoch, _, _ := strings.Cut(name, "-")
		if e, err := strconv.ParseUint(epoch, 16, 64); err == nil && e < maxEpoch {
			newest = max(newest, e)
		}
		o.segments = append(o.segments, &segment{name: entry.Name(), size: info.Size(), synced: info.Size()})
		o.used += info.Size()
	}
	return newest, nil
}

// begin chooses the epoch of this run: larger than all before it, also when the clock went back. A disk that cannot keep it is no
// reason not to serve.
func (o *outbox) begin(newest uint64) uint64 {
	path := filepath.Join(o.folder, epochName)
	if text, err := os.ReadFile(path); err == nil {
		if last, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil && last < maxEpoch {
			newest = max(newest, last)
		}
	}
	epoch := max(uint64(time.Now().UnixMilli()), newest+1)
	err := os.WriteFile(path+".new", strconv.AppendUint(nil, epoch, 10), 0o600)
	if err == nil {
		err = syncFile(path + ".new")
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		o.logger.Error("the gateway's epoch cannot be kept; should the clock go back, records of the next run may be taken for those of this one", "error", err)
	}
	return epoch
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.finish()
	o.leave()
	o.lock.Close()
}

func (o *outbox) stats() Stats {
	o.mu.Lock()
	defer o.mu.Unlock()
	stats := Stats{Dropped: o.dropped, OutboxBytes: uint64(o.used - o.offset), OutboxOldest: o.oldest}
	if o.held != nil {
		stats.OutboxBytes += uint64(len(o.held.frame))
	}
	return stats
}

// failure is why the disk did not take the newest batch; nil when it did.
func (o *outbox) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// appendBatchFrame appends the frame of a batch that is not empty.
func appendBatchFrame(dst []byte, batch *fieldgate.RecordBatch) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, frameHead)...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(batch.Records)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(batch.Records[0].Time.UnixNano()))
	dst = append(dst, 0, 0)
	id := len(dst)
	dst = appendID(dst, batch)
	binary.LittleEndian.PutUint16(dst[id-2:], uint16(len(dst)-id))
	dst = fieldgate.EncodeRecords(dst, batch)
	body := dst[start+frameHead:]
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(dst[start+4:], crc32.Checksum(body, castagnoli))
	return dst
}

// appendID appends what names a batch: its first Record, and how many it holds, because batches may be sent again merged.
func appendID(dst []byte, batch *fieldgate.RecordBatch) []byte {
	dst = fieldgate.AppendInstance(dst, batch.Node, batch.Epoch, batch.First)
	dst = append(dst, '+')
	return strconv.AppendUint(dst, uint64(len(batch.Records)), 10)
}

// append takes a frame in. One that the disk does not take is held in memory, so that the bus may take it; while one is held, no
// other is taken.
func (o *outbox) append(frame []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held != nil {
		// It may be under way to the bus. Then it is sent twice, which is counted once.
		if o.failed = o.write(o.held.frame); o.failed != nil {
			return o.failed
		}
		o.held = nil
	}
	if o.failed = o.write(frame); o.failed != nil {
		o.held = &held{slices.Clone(frame)}
	}
	return nil
}

// write appends to the last segment of this run, or to a new one.
func (o *outbox) write(frame []byte) error {
	length := int64(len(frame))
	for o.used+length > o.most && len(o.segments) > 0 {
		o.dropOldest()
	}
	if o.active != nil && o.segments[len(o.segments)-1].size >= o.segmentBytes() {
		o.finish()
	}
	if o.active == nil {
		name := fmt.Sprintf("%016x-%08x%s", o.epoch, o.number+1, segmentSuffix)
		file, err := os.OpenFile(filepath.Join(o.folder, name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		o.number++
		o.active = file
		o.segments = append(o.segments, &segment{name: name})
	}
	s := o.segments[len(o.segments)-1]
	if _, err := o.active.WriteAt(frame, s.size); err != nil {
		o.abandon(s)
		return err
	}
	s.size += length
	o.used += length
	return nil
}

// segmentBytes is smaller in a small outbox, so that not all of it is dropped at once.
func (o *outbox) segmentBytes() int64 { return min(segmentBytes, o.most/8) }

// abandon ends a segment that could not be written, without what the last attempt may have left in it.
func (o *outbox) abandon(s *segment) {
	o.active.Truncate(s.size) // a reader stops at a batch that is not whole anyway
	o.finish()
	if s.size == 0 {
		o.segments = o.segments[:len(o.segments)-1]
		if o.at == s {
			o.leave()
		}
		os.Remove(filepath.Join(o.folder, s.name))
	}
}

// finish ends appending to the last segment.
func (o *outbox) finish() {
	if o.active != nil {
		o.active.Close()
		o.active = nil
	}
}

// leave ends taking out of a segment.
func (o *outbox) leave() {
	if o.file != nil {
		o.file.Close()
	}
	o.at, o.file, o.offset, o.oldest = nil, nil, 0, time.Time{}
}

// remove removes the oldest segment.
func (o *outbox) remove() {
	s := o.segments[0]
	if len(o.segments) == 1 {
		o.finish()
	}
	if o.at == s {
		o.leave()
	}
	o.segments = o.segments[1:]
	o.used -= s.size
	if err := os.Remove(filepath.Join(o.folder, s.name)); err != nil {
		o.logger.Error("a segment of the outbox cannot be removed; its records will be sent again, and counted once", "error", err)
	}
}

// dropOldest makes room for newer Records, and says so.
func (o *outbox) dropOldest() {
	o.dropped += o.waiting(o.segments[0])
	o.remove()
	if time.Since(o.said) > complainInterval {
		o.said = time.Now()
		o.logger.Error("the outbox is full, because the bus does not take records; the oldest are dropped", "dropped", o.dropped, "bytes", o.most)
	}
}

// waiting counts the Records of a segment that were not sent.
func (o *outbox) waiting(s *segment) (records uint64) {
	file, err := os.Open(filepath.Join(o.folder, s.name))
	if err != nil {
		return 0
	}
	defer file.Close()
	offset := int64(0)
	if o.at == s {
		offset = o.offset
	}
	var head [frameHead + 4]byte
	for offset+int64(len(head)) <= s.size {
		if _, err := file.ReadAt(head[:], offset); err != nil {
			break
		}
		count := binary.LittleEndian.Uint32(head[frameHead:])
		if count > fieldgate.MaxBatchRecords { // damaged
			break
		}
		records += uint64(count)
		offset += frameHead + int64(binary.LittleEndian.Uint32(head[:]))
	}
	return records
}

// next is the oldest batch that was not sent; none when the outbox is empty. It is the same until done, unless it is dropped. An
// error may pass.
func (o *outbox) next() (taken shipment, some bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.segments) > 0 {
		s := o.segments[0]
		err = o.enter(s)
		if err == nil && o.offset == s.size {
			if len(o.segments) == 1 && o.active != nil {
				break // more will come
			}
			o.remove()
			continue
		}
		if err == nil {
			o.body, err = readFrame(o.file, o.offset, s.size, o.body)
		}
		if err == nil {
			if taken, o.oldest, err = openBody(o.body); err == nil {
				taken.from = s
				return o.merge(taken), true, nil
			}
		}
		if !lasting(err) {
			return taken, false, err
		}
		o.logger.Error("the rest of a segment of the outbox cannot be read, as after a crash or on a damaged disk; it is given up",
			"segment", s.name, "bytes", s.size-o.offset, "error", err)
		o.remove()
	}
	if o.held == nil {
		o.oldest = time.Time{}
		return taken, false, nil
	}
	if taken, o.oldest, err = openBody(o.held.frame[frameHead:]); err != nil {
		panic(err) // it never left memory
	}
	taken.held = o.held
	return taken, true, nil
}

// merge adds the batches that wait behind one to it, as many as one may hold: a bus that is far away takes only so many a second.
func (o *outbox) merge(taken shipment) shipment {
	var all *fieldgate.RecordBatch
	first := taken.records
	for {
		var err error
		if o.more, err = readFrame(o.file, o.offset+taken.length, taken.from.size, o.more); err != nil {
			break // none, or damage, which is found when it is first
		}
		behind, _, err := openBody(o.more)
		if err != nil || taken.records+behind.records > fieldgate.MaxBatchRecords {
			break
		}
		batch, err := fieldgate.DecodeRecords(behind.batch)
		if err != nil {
			break
		}
		if all == nil {
			if all, err = fieldgate.DecodeRecords(taken.batch); err != nil {
				return taken
			}
		}
		if batch.Node != all.Node || batch.Epoch != all.Epoch || batch.First != all.First+uint64(len(all.Records)) {
			break // Records in between were dropped
		}
		all.Records = append(all.Records, batch.Records...)
		taken.records += behind.records
		taken.length += behind.length
	}
	if all != nil && taken.records > first {
		taken.id = string(appendID(nil, all))
		o.merged = fieldgate.EncodeRecords(o.merged[:0], all)
		taken.batch = o.merged
	}
	return taken
}

// lasting says whether what cannot be read now never will be.
func lasting(err error) bool {
	for _, cause := range []error{errDamaged, io.EOF, os.ErrNotExist, syscall.EIO} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// enter opens a segment to take out of, unless it is open.
func (o *outbox) enter(s *segment) (err error) {
	if o.at == s {
		return nil
	}
	o.leave()
	if o.file, err = os.Open(filepath.Join(o.folder, s.name)); err != nil {
		o.file = nil
		return err
	}
	o.at = s
	return nil
}

// readFrame reads the body of the frame at an offset into a buffer. The segment ends at end.
func readFrame(segment io.ReaderAt, offset, end int64, buffer []byte) ([]byte, error) {
	var head [frameHead]byte
	if end-offset < frameHead {
		return buffer, fmt.Errorf("%w: it ends within a batch", errDamaged)
	}
	if _, err := segment.ReadAt(head[:], offset); err != nil {
		return buffer, err
	}
	length := int64(binary.LittleEndian.Uint32(head[:]))
	if length < bodyHead || length > maxBody {
		return buffer, fmt.Errorf("%w: a batch of %d bytes", errDamaged, length)
	}
	if length > end-offset-frameHead {
		return buffer, fmt.Errorf("%w: it ends within a batch", errDamaged)
	}
	buffer = slices.Grow(buffer[:0], int(length))[:length]
	if _, err := segment.ReadAt(buffer, offset+frameHead); err != nil {
		return buffer, err
	}
	if crc32.Checksum(buffer, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return buffer, fmt.Errorf("%w: the checksum of a batch is wrong", errDamaged)
	}
	return buffer, nil
}

// openBody takes the body of a frame apart.
func openBody(body []byte) (s shipment, oldest time.Time, err error) {
	if len(body) < bodyHead {
		return s, oldest, errDamaged
	}
	s.records = binary.LittleEndian.Uint32(body)
	oldest = time.Unix(0, int64(binary.LittleEndian.Uint64(body[4:]))).UTC()
	id := int(binary.LittleEndian.Uint16(body[12:]))
	if id > len(body)-bodyHead || s.records > fieldgate.MaxBatchRecords {
		return s, oldest, errDamaged
	}
	s.id = string(body[bodyHead : bodyHead+id])
	s.batch = body[bodyHead+id:]
	s.length = frameHead + int64(len(body))
	return s, oldest, nil
}

// done says that a batch needs no longer be kept.
func (o *outbox) done(s shipment) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case s.held != nil:
		if o.held == s.held {
			o.held = nil
		}
	case s.from == o.at:
		o.offset += s.length
	default: // dropped on its way, yet it arrived
		o.dropped -= uint64(s.records)
	}
}

// tidy removes the last segment if all of it was sent, so that a start after a crash finds only what was not.
func (o *outbox) tidy() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.segments) == 1 && o.at == o.segments[0] && o.offset == o.at.size {
		o.remove()
	}
}

// sync brings what was written and not sent to the disk proper.
func (o *outbox) sync() {
	type extent struct {
		segment *segment
		size    int64
	}
	o.mu.Lock()
	var unsynced []extent
	for _, s := range o.segments {
		if s.synced < s.size {
			unsynced = append(unsynced, extent{s, s.size})
		}
	}
	o.mu.Unlock()
	if len(unsynced) == 0 {
		return
	}
	for _, e := range unsynced {
		err := syncFile(filepath.Join(o.folder, e.segment.name))
		if errors.Is(err, os.ErrNotExist) {
			continue // sent meanwhile
		}
		if err != nil {
			o.logger.Warn("the outbox could not be brought to the disk; a power cut may lose records", "error", err)
			return
		}
		o.mu.Lock()
		e.segment.synced = e.size
		o.mu.Unlock()
	}
	if err := o.lock.Sync(); err != nil {
		o.logger.Warn("the outbox could not be brought to the disk; a power cut may lose records", "error", err)
	}
}

// syncFile brings a file to the disk.
func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
