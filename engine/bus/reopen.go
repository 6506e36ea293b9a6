package bus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	roomInterval = time.Second
	roomBytes    = 1 << 20 // that a disk must take before streams are opened again
)

var errDiskTakesNothing = errors.New("the disk of the streams takes nothing: give it room")

// reopen opens the streams in this process again, once there is room, whenever the disk did not take a message: the server writes
// nothing to a stream that could not be written once, until it is opened anew. What was acknowledged is in its files.
func (b *Bus) reopen(ctx context.Context, broken <-chan struct{}, options *server.Options) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-broken:
		}
		b.turn(errDiskTakesNothing)
		for !b.reopened(options) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(roomInterval):
			}
		}
		b.turn(nil)
	}
}

func (b *Bus) reopened(options *server.Options) bool {
	if !hasRoom(options.StoreDir) {
		return false
	}
	err := b.server.ShutdownJetStream()
	if err == nil {
		err = b.server.EnableJetStream(&server.JetStreamConfig{StoreDir: options.StoreDir, SyncInterval: options.SyncInterval,
			MaxMemory: options.JetStreamMaxMemory, MaxStore: options.JetStreamMaxStore, Strict: true})
	}
	if err != nil {
		b.log.Error("the streams cannot be opened again; it is tried again", "error", err)
	}
	return err == nil
}

// hasRoom writes to the disk to learn whether it takes something.
func hasRoom(folder string) bool {
	path := filepath.Join(folder, "room")
	err := os.WriteFile(path, make([]byte, roomBytes), 0o600)
	return errors.Join(err, os.Remove(path)) == nil
}
