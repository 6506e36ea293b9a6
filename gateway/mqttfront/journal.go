package mqttfront

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"fieldgate"
)

// journal keeps what must survive a crash in one file, entry after entry:
//
//	magic, then for each entry: length (4 bytes), CRC-32C of the entry (4 bytes), entry
//
// Appending waits for nothing; a goroutine writes everything that has come meanwhile with one write and one fsync (group
// commit) and only then calls back. A file that ends inside an entry was torn by a crash: the entry was never
// acknowledged and is cut off. A file that is damaged before its end is set aside, with an error in the log.
type journal struct {
	path       string
	logger     *slog.Logger
	syncFolder func(path string) error // syncFolder but in tests of its failure

	mu      sync.Mutex
	buffer  []byte // framed entries that wait for the next commit
	entries []entry
	waiting []func(error)
	bad     error // the last commit failed
	closed  bool
	wake    chan struct{}

	// The committing goroutine's own.
	file    *os.File
	size    int64
	stored  *stored
	rewrite bool // the file's end cannot be trusted: write a new one before anything else
	rewrote int64
}

const (
	journalName    = "mqtt.journal"
	journalMagic   = "fieldgate-mqtt-journal-1\n"
	entryHeader    = 8
	maxEntry       = 64 << 20 // a message with its recipients
	maxUncommitted = 32 << 20 // bytes waiting for the disk, above which appending is refused
	compactAbove   = 16 << 20 // the file is rewritten when it is larger than this and mostly dead
)

var (
	castagnoli       = crc32.MakeTable(crc32.Castagnoli)
	errJournalFull   = errors.New("too much is waiting for the disk")
	errClosed        = errors.New("the journal is closed")
	errEntryTooLarge = errors.New("an entry is larger than can be read back")
)

// openJournal reads the journal in a folder, which it creates if needed.
func openJournal(folder string, logger *slog.Logger) (*journal, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("mqtt journal: %w", err)
	}
	j := &journal{path: filepath.Join(folder, journalName), logger: logger, syncFolder: syncFolder, wake: make(chan struct{}, 1), stored: newStored()}
	err := j.load()
	if errors.Is(err, fieldgate.ErrCorrupt) {
		aside := j.path + ".corrupt-" + time.Now().UTC().Format("20060102T150405")
		logger.Error("the MQTT journal is damaged: it is set aside, sessions and retained messages in it are not served", "error", err, "kept", aside)
		if err := os.Rename(j.path, aside); err != nil {
			return nil, fmt.Errorf("mqtt journal: set the damaged file aside: %w", err)
		}
		j.stored = newStored()
		err = j.load()
	}
	if err != nil {
		return nil, fmt.Errorf("mqtt journal: %w", err)
	}
	return j, nil
}

func (j *journal) load() error {
	file, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	good, err := j.replay(file)
	if err != nil {
		file.Close()
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Size() > good {
		j.logger.Warn("the MQTT journal ended inside an entry that was never acknowledged; it is cut off", "bytes", info.Size()-good)
		err = file.Truncate(good)
	}
	if err == nil && good == 0 {
		good = int64(len(journalMagic))
		if _, err = file.WriteAt([]byte(journalMagic), 0); err == nil {
			err = errors.Join(file.Sync(), j.syncFolder(filepath.Dir(j.path)))
		}
	}
	if err != nil {
		file.Close()
		return err
	}
	j.file, j.size, j.rewrote = file, good, good
	return nil
}

// replay applies the file's entries and says where the last whole one ends.
func (j *journal) replay(file *os.File) (good int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	left := info.Size()
	r := bufio.NewReaderSize(file, 1<<20)
	magic := make([]byte, min(left, int64(len(journalMagic))))
	if _, err := io.ReadFull(r, magic); err != nil {
		return 0, err
	}
	if string(magic) != journalMagic[:len(magic)] {
		return 0, fmt.Errorf("%w: it does not begin as a journal", fieldgate.ErrCorrupt)
	}
	if len(magic) < len(journalMagic) {
		return 0, nil // torn at its very beginning
	}
	good, left = int64(len(magic)), left-int64(len(magic))
	var e entry
	for left > 0 {
		var header [entryHeader]byte
		if left < entryHeader {
			return good, nil
		}
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return 0, err
		}
		length := int64(binary.LittleEndian.Uint32(header[:]))
		if length == 0 || length > maxEntry {
			return j.damaged(file, good, "an entry's length is impossible")
		}
		if length > left-entryHeader {
			return j.damaged(file, good, "")
		}
		b := make([]byte, length)
		if _, err := io.ReadFull(r, b); err != nil {
			return 0, err
		}
		if crc32.Checksum(b, castagnoli) != binary.LittleEndian.Uint32(header[4:]) {
			if left == entryHeader+length {
				return good, nil // the last entry: written in part
			}
			return j.damaged(file, good, "an entry's checksum is wrong")
		}
		if err := e.decode(b); err != nil {
			return 0, fmt.Errorf("%w: at %d: %v", fieldgate.ErrCorrupt, good, err)
		}
		j.stored.apply(&e)
		good += entryHeader + length
		left -= entryHeader + length
	}
	return good, nil
}

// damaged decides whether what lies behind good was torn by a crash, or damaged later. A crash during a commit leaves a
// part of that commit, or zeros where blocks were not written; behind damage, valid entries follow.
func (j *journal) damaged(file *os.File, good int64, what string) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	tail := make([]byte, min(info.Size()-good, maxEntry))
	if _, err := file.ReadAt(tail, good); err != nil {
		return 0, err
	}
	work := 4 << 30 // bytes to sum at the most, less than a second or two; what is still unclear then is not cut off
	for at := 1; at+entryHeader < len(tail); at++ {
		length := int(binary.LittleEndian.Uint32(tail[at:]))
		if length < 2 || length > len(tail)-at-entryHeader || entryKind(tail[at+entryHeader]) > entryDone {
			continue
		}
		b := tail[at+entryHeader:][:length]
		if work -= length; work < 0 {
			return 0, fmt.Errorf("%w: at byte %d: it is unclear what follows", fieldgate.ErrCorrupt, good)
		}
		if crc32.Checksum(b, castagnoli) == binary.LittleEndian.Uint32(tail[at+4:]) {
			if what == "" {
				what = "an entry's length is wrong"
			}
			return 0, fmt.Errorf("%w: at byte %d: %s", fieldgate.ErrCorrupt, good, what)
		}
	}
	return good, nil
}

// append adds entries that belong together. committed, unless nil, is called from the committing goroutine once they are
// on disk, or with the reason why they are not; it must not block.
func (j *journal) append(committed func(error), entries ...entry) {
	j.mu.Lock()
	err := error(nil)
	room := maxUncommitted
	if committed == nil {
		room *= 2 // who is not told should not lose: that a session has ended, or needs a message no more
	}
	before := len(j.buffer)
	switch {
	case j.closed:
		err = errClosed
	case before > room:
		err = errJournalFull
	default:
		for i := range entries {
			start := len(j.buffer)
			j.buffer = appendFrame(j.buffer, &entries[i])
			if len(j.buffer)-start > maxEntry {
				err = errEntryTooLarge // it could not be read back
			}
		}
	}
	switch {
	case err == errEntryTooLarge:
		j.buffer = j.buffer[:before]
	case err == nil:
		j.entries = append(j.entries, entries...)
		if committed != nil {
			j.waiting = append(j.waiting, committed)
		}
	}
	j.mu.Unlock()
	if err != nil {
		if committed != nil {
			committed(err)
		}
		return
	}
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// wait appends and waits for the disk.
func (j *journal) wait(entries ...entry) error {
	done := make(chan error, 1)
	j.append(func(err error) { done <- err }, entries...)
	return <-done
}

func appendFrame(b []byte, e *entry) []byte {
	start := len(b)
	b = append(b, make([]byte, entryHeader)...)
	b = e.append(b)
	body := b[start+entryHeader:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// run commits until the context ends, then once more.
func (j *journal) run(ctx context.Context) {
	for {
		select {
		case <-j.wake:
			j.commit()
		case <-ctx.Done():
			j.mu.Lock()
			j.closed = true
			j.mu.Unlock()
			j.commit()
			j.file.Close()
			return
		}
	}
}

func (j *journal) commit() {
	j.mu.Lock()
	buffer, entries, waiting := j.buffer, j.entries, j.waiting
	j.buffer, j.entries, j.waiting = nil, nil, nil
	j.mu.Unlock()
	if len(entries) == 0 {
		return
	}
	err := j.write(buffer)
	if err != nil {
		// Entries that nobody waits for must not get lost: what a session no longer needs, that it has ended. They are
		// tried again with the next commit; the others have been refused, and whoever sent them will try again.
		j.keep(entries)
	} else {
		for i := range entries {
			j.stored.apply(&entries[i])
		}
	}
	j.report(err)
	for _, committed := range waiting {
		committed(err)
	}
	if err == nil && j.size > compactAbove && j.size > 4*int64(j.stored.live)+j.rewrote {
		if err := j.compact(); err != nil {
			j.logger.Error("the MQTT journal could not be rewritten; it goes on growing", "error", err)
			j.rewrote = j.size
		}
	}
}

func (j *journal) keep(entries []entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var kept []entry
	for _, e := range entries {
		if e.kind == entryDone || e.kind == entryEnd {
			kept = append(kept, e)
		}
	}
	var buffer []byte
	for i := range kept {
		buffer = appendFrame(buffer, &kept[i])
	}
	if len(buffer)+len(j.buffer) <= maxUncommitted {
		j.buffer, j.entries = append(buffer, j.buffer...), append(kept, j.entries...)
	}
}

func (j *journal) report(err error) {
	switch {
	case err != nil && j.bad == nil:
		j.logger.Error("MQTT messages cannot be stored: publishes at QoS 1 and 2 and retained messages are refused until the disk takes them", "path", j.path, "error", err)
	case err == nil && j.bad != nil:
		j.logger.Info("MQTT messages can be stored again")
	}
	j.bad = err
}

func (j *journal) write(b []byte) error {
	if j.rewrite {
		if err := j.compact(); err != nil {
			return err
		}
	}
	if _, err := j.file.WriteAt(b, j.size); err != nil {
		// A part may stand in the file; it will be overwritten, and a crash before that leaves a torn tail.
		if j.file.Truncate(j.size) != nil {
			j.rewrite = true
		}
		return err
	}
	if err := j.file.Sync(); err != nil {
		// What the kernel did with the pages is unknown: this file is not to be trusted any more.
		j.rewrite = true
		return err
	}
	j.size += int64(len(b))
	return nil
}

// compact writes a new journal from what is stored and puts it in the old one's place.
func (j *journal) compact() error {
	path := j.path + ".new"
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	size := int64(len(journalMagic))
	w := bufio.NewWriterSize(file, 1<<20)
	_, err = w.WriteString(journalMagic)
	if err == nil {
		var frame []byte
		err = j.stored.entries(func(e *entry) error {
			frame = appendFrame(frame[:0], e)
			size += int64(len(frame))
			_, err := w.Write(frame)
			return err
		})
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(path, j.path)
	}
	if err != nil {
		file.Close()
		os.Remove(path)
		return err
	}
	// The old file has lost its name: from here on there is only the new one, though its name may not be durable yet.
	j.file.Close()
	j.file, j.size, j.rewrote = file, size, size
	err = j.syncFolder(filepath.Dir(j.path))
	j.rewrite = err != nil
	return err
}

// syncFolder makes a new or renamed file's name durable.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
