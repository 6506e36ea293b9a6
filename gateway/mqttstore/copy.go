package mqttstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"fieldgate"
	"fieldgate/engine/bus"
)

// A store that is too far behind the stream, or new, is made a copy of another node's: all its entries as of one moment, in the order of
// their keys, with the note of how far the log was applied at that moment. They are asked for piece by piece:
//
//	question: the copy (8 bytes, chosen by who asks), the last key that it has (empty: none)
//	answer:   1 if there is more, else 0; then entries: length of the key, key, length of the value, value
const (
	copyPiece   = 384 << 10 // bytes of entries in an answer, unless one entry alone is larger
	copyMost    = 2         // copies that are given away at once
	copyForget  = time.Minute
	copyTimeout = 5 * time.Second // for one piece
)

var (
	errCopyBusy = errors.New("this node gives as many copies of its store away as it may, or has none to give")
	errCopy     = errors.New("a piece of the copy of a store cannot be read")
	errNoCopy   = fmt.Errorf("the store is too far behind the log, or new, and no other node gives it a copy")
)

// copies are those that a node gives away.
type copies struct {
	mu sync.Mutex
	of map[uint64]*copySource
}

type copySource struct {
	snapshot *pebble.Snapshot
	timer    *time.Timer
}

// offerCopies answers other nodes that ask for a copy.
func (s *Store) offerCopies(ctx context.Context) (stop func()) {
	h := s.shared
	h.copies.of = make(map[uint64]*copySource)
	stopServing, err := h.Bus.Serve(fieldgate.SubjectMQTTCopy+h.Node, s.copyPiece)
	if err != nil {
		s.logger.Error("other nodes cannot copy the MQTT store of this one", "error", err)
		return nil
	}
	return func() {
		stopServing()
		h.copies.end()
	}
}

// end forgets all copies: the database is about to be closed.
func (c *copies) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.of {
		c.forget(id)
	}
}

func (c *copies) forget(id uint64) {
	if source := c.of[id]; source != nil {
		source.timer.Stop()
		source.snapshot.Close()
		delete(c.of, id)
	}
}

func (s *Store) copyPiece(question []byte) (bus.Answer, error) {
	if len(question) < 8 || len(question) > 1<<16 {
		return bus.Answer{}, errCopy
	}
	id, after := binary.BigEndian.Uint64(question), question[8:]
	c := &s.shared.copies
	c.mu.Lock()
	defer c.mu.Unlock()
	source := c.of[id]
	if source == nil {
		s.mu.Lock()
		joined := s.shared.joined
		s.mu.Unlock()
		if !joined || len(after) > 0 || len(c.of) >= copyMost {
			return bus.Answer{}, errCopyBusy
		}
		source = new(copySource)
		if err := s.read(func(db *pebble.DB) error {
			source.snapshot = db.NewSnapshot()
			return nil
		}); err != nil {
			return bus.Answer{}, err
		}
		source.timer = time.AfterFunc(copyForget, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.forget(id)
		})
		c.of[id] = source
	}
	source.timer.Reset(copyForget)
	lower := []byte{0}
	if len(after) > 0 {
		lower = append(append(lower[:0], after...), 0) // the first key behind it
	}
	piece := []byte{0}
	err := scan(source.snapshot, lower, []byte{0xFF}, func(key, value []byte) (bool, error) {
		if len(piece) > 1 && len(piece)+len(key)+len(value) > copyPiece {
			piece[0] = 1
			return false, nil
		}
		piece = appendText(appendText(piece, key), value)
		return true, nil
	})
	if err == nil && piece[0] == 0 {
		c.forget(id)
	}
	return bus.Answer{Data: piece}, err
}

// copyStore puts a copy of another node's store in this one's place, one to which the rest of the stream may be applied.
func (s *Store) copyStore(ctx context.Context, stream bus.StreamState) error {
	h := s.shared
	err := errNoCopy
	for _, peer := range h.Peers() {
		if peer == h.Node {
			continue
		}
		s.logger.Info("the MQTT store is copied from another node", "from", peer)
		began := time.Now()
		size := 0
		failed := s.replace(ctx, func(db *pebble.DB) (err error) {
			size, err = s.copyFrom(ctx, peer, db)
			if err == nil {
				err = s.fits(db, stream)
			}
			return err
		})
		if failed == nil {
			s.logger.Info("the MQTT store was copied from another node", "from", peer, "bytes", size, "duration", time.Since(began).Round(time.Millisecond))
			return nil
		}
		err = fmt.Errorf("%w: %w", errNoCopy, failed)
	}
	return err
}

// fits says whether the rest of the stream may be applied to a copy.
func (s *Store) fits(db *pebble.DB, stream bus.StreamState) error {
	value, closer, err := db.Get([]byte{prefixLog})
	if err != nil {
		return err
	}
	defer closer.Close()
	state, err := decodeLogState(value)
	if err != nil {
		return errCopy
	}
	if moved := s.shared.moved; !state.created.Equal(stream.Created) || state.applied+1 < stream.First || moved != nil && state.applied <= moved.After {
		return errors.New("it is behind itself")
	}
	return nil
}

// copyFrom reads another node's store into a database.
func (s *Store) copyFrom(ctx context.Context, peer string, db *pebble.DB) (size int, err error) {
	question := binary.BigEndian.AppendUint64(nil, rand.Uint64())
	for more := true; more; {
		if free, reserve, _, err := room(s.disk.folder); err != nil || free < reserve+4*copyPiece {
			return size, errors.Join(ErrDiskFull, err)
		}
		asking, cancel := context.WithTimeout(ctx, copyTimeout)
		answer, err := s.shared.Bus.Request(asking, fieldgate.SubjectMQTTCopy+peer, question)
		cancel()
		if err != nil {
			return size, err
		}
		r := reader{rest: answer.Data}
		more = r.byte() == 1
		b := db.NewBatch()
		var last []byte
		for len(r.rest) > 0 {
			key, value := r.bytes(), r.bytes()
			if r.bad || len(key) == 0 {
				break
			}
			last = key
			if err := b.Set(key, value, nil); err != nil {
				return size, errors.Join(err, b.Close())
			}
		}
		if r.bad || more && last == nil {
			return size, errors.Join(errCopy, b.Close())
		}
		size += len(answer.Data)
		question = append(question[:8], last...)
		if err := errors.Join(b.Commit(pebble.NoSync), b.Close()); err != nil {
			return size, err
		}
	}
	return size, db.Flush()
}

// replace makes a new database, has it filled, and puts it in the place of the present one. What was there is thrown away if it came
// of a log, for other nodes have it; what this node had by itself is set aside.
func (s *Store) replace(ctx context.Context, fill func(*pebble.DB) error) error {
	h := s.shared
	unfinished := filepath.Join(filepath.Dir(s.disk.folder), "copy")
	if err := errors.Join(os.RemoveAll(unfinished), os.Mkdir(unfinished, 0o700)); err != nil {
		return err
	}
	db, err := pebble.Open(unfinished, &pebble.Options{FormatMajorVersion: pebble.FormatWALSyncChunks, Logger: &s.disk})
	if err == nil {
		err = errors.Join(fill(db), db.Close())
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(unfinished))
	}
	empty, err := s.isEmpty()
	if err != nil {
		return err
	}
	h.writing.Lock()
	defer h.writing.Unlock()
	s.stopCounting()
	h.copies.end()
	s.refuseProposals(ErrTakenOver) // their numbers are those of the present store
	old := s.disk.folder + ".replaced-" + time.Now().UTC().Format("20060102T150405.000")
	if err := s.disk.swap(unfinished, old); err != nil {
		return err
	}
	if empty || !h.state.created.IsZero() {
		if err := os.RemoveAll(old); err != nil {
			s.logger.Warn("the MQTT store that was replaced cannot be removed", "folder", old, "error", err)
		}
	} else {
		s.logger.Warn("this node's own MQTT store is set aside: what all nodes hold is served", "kept", old)
	}
	s.retained.Store(0)
	s.ended = nil
	s.mu.Lock()
	s.newest, s.committed = 0, 0
	s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	h.follower.Replaced(s.Sessions())
	s.recount(context.WithoutCancel(ctx))
	return nil
}

// swap puts the database in a folder in the place of the present one, which is kept in another. Who reads waits meanwhile.
func (d *disk) swap(folder, old string) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.db != nil {
		err = d.db.Close()
		d.db = nil
	}
	if err = errors.Join(err, os.Rename(d.folder, old)); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(folder, d.folder), syncFolder(filepath.Dir(d.folder))); err != nil {
		return err
	}
	d.db, d.readOnly, err = d.openDatabase()
	return err
}
