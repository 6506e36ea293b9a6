package mqttstore

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// maxChores bounds the entries that are deleted at a time: commits wait meanwhile.
const maxChores = 1000

// keepHouse looks for room, measures the store, and deletes what has expired and what sessions left behind. more: there is more of it.
func (s *Store) keepHouse(batches chan<- batch) (more bool) {
	if s.disk.isReadOnly() {
		if err := s.disk.reopen(); err != nil {
			s.logger.Error("the MQTT store cannot be opened for writing", "error", err)
		}
	}
	s.mayWrite(0)
	if !s.disk.hasRoomToDelete() {
		return false
	}
	err := s.read(func(db *pebble.DB) error {
		s.used.Store(int64(db.Metrics().DiskSpaceUsage()))
		b := batch{db.NewBatch(), db, pebble.NoSync}
		e := encoder{batch: b.Batch, db: db}
		left, err := s.expire(&e, time.Now(), maxChores)
		for err == nil && left > 0 && len(s.ended) > 0 {
			left, err = s.deleteRemains(&e, left)
		}
		err = errors.Join(err, e.countWaiting())
		more = left <= 0
		if err != nil || b.Empty() {
			return errors.Join(err, b.Close())
		}
		return s.hand(batches, b)
	})
	if err != nil && !errors.Is(err, ErrFailed) {
		s.logger.Error("the MQTT store could not be tidied", "error", err)
	}
	return more && err == nil
}

// expire deletes what has expired, retained or queued. A queued message that its session has in memory is that session's.
func (s *Store) expire(e *encoder, now time.Time, chores int) (left int, err error) {
	err = scan(e.db, []byte{prefixExpiry}, appendKey(nil, prefixExpiry, uint64(now.Unix())+1), func(key, _ []byte) (bool, error) {
		if len(key) < 10 {
			return false, corrupt(key)
		}
		what := key[9:]
		chores--
		if err := e.batch.Delete(key, nil); err != nil {
			return false, err
		}
		value, closer, err := e.db.Get(what)
		if errors.Is(err, pebble.ErrNotFound) {
			return chores > 0, nil
		}
		if err != nil {
			return false, err
		}
		defer closer.Close()
		switch what[0] {
		case prefixRetain:
			if len(value) < retainedHead {
				return false, corrupt(what)
			}
			expires, err := messageExpiry(value[retainedHead:])
			if err != nil {
				return false, corrupt(what)
			}
			if !expires.IsZero() && !now.Before(expires) { // otherwise it is another message
				s.retained.Add(-1)
				err = e.batch.Delete(what, nil)
			}
			return chores > 0, err
		case prefixQueue:
			q, err := readQueued(e.db, what, value)
			if err == nil && s.owner.Expired(q.Session, q.Number, q.Message) {
				err = e.dequeue(q.Session, q.Number, time.Time{})
			}
			if errors.Is(err, pebble.ErrNotFound) {
				err = nil
			}
			return chores > 0, err
		}
		return false, corrupt(key)
	})
	return chores, err
}

// deleteRemains deletes entries of a session that ended, and at last the note that it did.
func (s *Store) deleteRemains(e *encoder, chores int) (left int, err error) {
	session := s.ended[len(s.ended)-1]
	for _, prefix := range []byte{prefixFilter, prefixID, prefixDelivered, prefixQueue} {
		err := scan(e.db, appendKey(nil, prefix, session), appendKey(nil, prefix, session+1), func(key, _ []byte) (bool, error) {
			chores--
			if prefix != prefixQueue {
				return chores > 0, e.batch.Delete(key, nil)
			}
			if len(key) != 17 {
				return false, corrupt(key)
			}
			return chores > 0, e.dequeue(session, binary.BigEndian.Uint64(key[9:]), time.Time{})
		})
		if err != nil || chores <= 0 {
			return chores, err
		}
	}
	s.ended = s.ended[:len(s.ended)-1]
	return chores - 1, e.batch.Delete(appendKey(nil, prefixDeleted, session), nil)
}

// reopen opens the database for writing if there is room now.
func (d *disk) reopen() error {
	free, reserve, _, err := room(d.folder)
	if err != nil || free < reserve {
		return err
	}
	d.mu.Lock()
	db := d.db
	d.db = nil
	d.mu.Unlock()
	if db != nil {
		err = db.Close()
	}
	return errors.Join(err, d.open())
}

func (d *disk) isReadOnly() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.readOnly
}

// hasRoomToDelete: deleting takes room too before it gives any. Half of what is kept free is there for it.
func (d *disk) hasRoomToDelete() bool {
	free, reserve, _, err := room(d.folder)
	return err == nil && free > reserve/2 && !d.isReadOnly()
}
