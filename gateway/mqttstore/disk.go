package mqttstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"fieldgate"
)

// disk is the database with what befalls the disk below it. Pebble ends the process when its log cannot be written. That must not
// happen for want of room: room is looked for before each commit, and a write that finds none all the same waits for it.
type disk struct {
	logger *slog.Logger
	folder string

	mu       sync.RWMutex // held for writing while db is replaced
	db       *pebble.DB   // nil: not even reading was possible for lack of room
	readOnly bool

	waiting atomic.Bool // writes are held up until there is room
	closing atomic.Bool
	once    sync.Once
	failed  chan struct{} // closed when the database has given up
}

const (
	folderName = "store"
	cacheSize  = 32 << 20
	// maxReserve is the room that is left for others, at the most; on small disks it is an eighth.
	maxReserve = 64 << 20
)

// openOrSetAside opens the database in the folder "store". A damaged one is kept under another name.
func (d *disk) openOrSetAside(parent string) error {
	d.folder = filepath.Join(parent, folderName)
	d.failed = make(chan struct{})
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		return err
	}
	err := d.checkManifest()
	if err == nil {
		err = d.open()
	}
	if isDamage(err) {
		err = d.setAside(err)
	}
	return err
}

// setAside puts a new database in the place of a damaged one.
func (d *disk) setAside(damage error) error {
	aside := d.folder + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000")
	d.logger.Error("the MQTT store is damaged: it is set aside, sessions and messages in it are not served", "error", damage, "kept", aside)
	if err := os.Rename(d.folder, aside); err != nil {
		return fmt.Errorf("set the damaged store aside: %w", err)
	}
	if err := os.Mkdir(d.folder, 0o700); err != nil {
		return err
	}
	return d.open()
}

// checkManifest looks for what Pebble does not: without the file that names its manifest it would take the folder for a new one's,
// and delete the tables in it.
func (d *disk) checkManifest() error {
	for _, pattern := range []string{"*.sst", "*.log"} {
		files, err := filepath.Glob(filepath.Join(d.folder, pattern))
		markers, err2 := filepath.Glob(filepath.Join(d.folder, "marker.manifest.*"))
		if err = errors.Join(err, err2); err != nil {
			return err
		}
		if len(files) > 0 && len(markers) == 0 {
			return fmt.Errorf("%w: nothing says which manifest counts", fieldgate.ErrCorrupt)
		}
	}
	return nil
}

// isDamage: a file is not what was written, or is missing. What the system refuses to do (permission, descriptors, a lock) is none.
func isDamage(err error) bool {
	var refused syscall.Errno
	return err != nil && (!errors.As(err, &refused) || refused == syscall.ENOENT)
}

// open opens the database, for reading only where there is no room to write. Where there is not even anything to read, db stays nil.
func (d *disk) open() error {
	db, readOnly, err := d.openDatabase()
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.db, d.readOnly = db, readOnly
	d.mu.Unlock()
	return nil
}

func (d *disk) openDatabase() (db *pebble.DB, readOnly bool, err error) {
	free, reserve, size, err := room(d.folder)
	if err != nil {
		return nil, false, err
	}
	readOnly = free < reserve
	cache := pebble.NewCache(cacheSize)
	defer cache.Unref()
	options := &pebble.Options{
		FS:                          vfs.OnDiskFull(vfs.Default, d.awaitRoom),
		Cache:                       cache,
		FormatMajorVersion:          pebble.FormatWALSyncChunks,                // damage in the middle of the log is told from its torn end
		MemTableSize:                uint64(min(max(size>>8, 256<<10), 4<<20)), // small: the log's files are reused while they are in memory
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		MaxOpenFiles:                500,
		Logger:                      d,
		ReadOnly:                    readOnly,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { d.logger.Error("the MQTT store cannot reorganise its files", "error", err) },
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				d.logger.Error("a file of the MQTT store is damaged; what is in it cannot be served", "file", info.Path, "error", info.Details)
			},
		},
	}
	options.Levels[0].FilterPolicy = bloom.FilterPolicy(10) // of all levels: a retained message is looked up before it is replaced
	db, err = pebble.Open(d.folder, options)
	if readOnly && errors.Is(err, pebble.ErrDBDoesNotExist) {
		err, db = nil, nil
	}
	return db, readOnly, err
}

// room gives the bytes that are free on the folder's disk, those that are to stay so, and the disk's size.
func room(folder string) (free, reserve, size uint64, err error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(folder, &stat); err != nil {
		return 0, 0, 0, err
	}
	size = stat.Blocks * uint64(stat.Bsize)
	return stat.Bavail * uint64(stat.Bsize), min(size/8, maxReserve), size, nil
}

// awaitRoom holds up the database's writes until there is room again.
func (d *disk) awaitRoom() {
	d.logger.Error("the disk of the MQTT store is full: writing goes on when there is room", "folder", d.folder)
	d.waiting.Store(true)
	defer d.waiting.Store(false)
	for !d.closing.Load() {
		if free, reserve, _, err := room(d.folder); err == nil && free > reserve/2 {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (d *disk) close() error {
	d.closing.Store(true)
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.failed:
		return nil // it cannot be closed any more, and has told why
	default:
	}
	if d.db == nil {
		return nil
	}
	err := d.db.Close()
	d.db = nil
	return err
}

// Infof, Errorf and Fatalf implement pebble.Logger. What Pebble tells of its daily work nobody needs.
func (d *disk) Infof(string, ...any) {}

func (d *disk) Errorf(format string, arguments ...any) {
	d.logger.Error("the MQTT store: " + fmt.Sprintf(format, arguments...))
}

// Fatalf must not return. The database takes nothing any more, and nothing in it is made worse by a goroutine that stands still.
func (d *disk) Fatalf(format string, arguments ...any) {
	d.once.Do(func() {
		d.logger.Error("the disk of the MQTT store failed: messages are refused until the gateway is restarted", "error", fmt.Sprintf(format, arguments...))
		close(d.failed)
	})
	select {}
}
