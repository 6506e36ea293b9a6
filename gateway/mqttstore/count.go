package mqttstore

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// count counts what was there at the start, in the background: the retained messages, and what waits for each session, of which it
// tells the owner. What has come and gone meanwhile is counted as it does. Messages that are stored apart count without their bytes.
func (s *Store) count(ctx context.Context, snapshot *pebble.Snapshot) error {
	retained := int64(0)
	err := scan(snapshot, []byte{prefixRetain}, []byte{prefixRetain + 1}, func([]byte, []byte) (bool, error) {
		retained++
		return ctx.Err() == nil, nil
	})
	s.retained.Add(retained)
	var session uint64
	messages, bytes := 0, 0
	tell := func() {
		if messages > 0 && ctx.Err() == nil {
			s.owner.Waiting(session, messages, bytes)
		}
		messages, bytes = 0, 0
	}
	err = errors.Join(err, scan(snapshot, []byte{prefixQueue}, []byte{prefixQueue + 1}, func(key, value []byte) (bool, error) {
		if len(key) != 17 {
			return false, corrupt(key)
		}
		if number := binary.BigEndian.Uint64(key[1:]); number != session {
			tell()
			session = number
		}
		messages++
		bytes += len(value)
		return ctx.Err() == nil, nil
	}))
	tell()
	return err
}
