// Package directory keeps who exists, devices and apps alike, and feeds every change to the gateways. The table of
// principals is its own change feed: each row carries the sequence of its newest change, taken in the same transaction.
package directory

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// maxPageBytes keeps a page below the 1 MiB that a message on the bus may have.
const maxPageBytes = 768 << 10

// Directory serves the change feed.
type Directory struct {
	store *store.Store
	bus   *bus.Bus
	log   *slog.Logger
}

// New makes a Directory on its store and bus.
func New(db *store.Store, b *bus.Bus, log *slog.Logger) *Directory {
	return &Directory{store: db, bus: b, log: log}
}

const installationCounter = "installation"

// Serve answers gateways until stop is called.
func (d *Directory) Serve() (stop func(), err error) {
	if err := d.nameInstallation(context.Background()); err != nil {
		return nil, err
	}
	stopBlocks, err := d.serveBlocks()
	if err != nil {
		return nil, err
	}
	stopChanges, err := d.bus.Serve(fieldgate.SubjectDirectoryChanges, func(request []byte) (bus.Answer, error) {
		var asked fieldgate.DirectoryRequest
		if err := json.Unmarshal(request, &asked); err != nil {
			return bus.Answer{}, fmt.Errorf("malformed request")
		}
		page, err := d.page(context.Background(), asked.After)
		return bus.Answer{Data: page}, err
	})
	if err != nil {
		stopBlocks()
		return nil, err
	}
	return func() { stopBlocks(); stopChanges() }, nil
}

// nameInstallation gives a new database the number by which gateways tell it from another one.
func (d *Directory) nameInstallation(ctx context.Context) error {
	return d.store.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", installationCounter, rand.Int64N(1<<62)+1)
		return err
	})
}

// Installation is the number by which gateways tell this database from another one.
func Installation(ctx context.Context, tx *store.Tx) (uint64, error) {
	return tx.Counter(ctx, installationCounter)
}

// Nudge tells the gateways and those who watch decisions, after a commit, that there are changes. One that is lost only costs time: they ask on their
// own, too.
func (d *Directory) Nudge() {
	if err := d.bus.Publish(fieldgate.SubjectDirectoryChanged, nil); err != nil {
		d.log.Warn("gateways were not told of a change of the directory", "error", err)
	}
	audit.Nudge(d.bus, d.log)
}

// page is an encoded fieldgate.DirectoryPage of the changes after a sequence.
func (d *Directory) page(ctx context.Context, after uint64) ([]byte, error) {
	var encoded []byte
	more := false
	err := d.store.View(ctx, func(tx *store.Tx) error {
		installation, err := Installation(ctx, tx)
		if err != nil {
			return err
		}
		newest, err := tx.Counter(ctx, "directory")
		if err != nil {
			return err
		}
		encoded = fmt.Appendf(nil, `{"installation":%d,"newest":%d,"changes":[`, installation, newest)
		rows, err := tx.QueryContext(ctx, "SELECT "+columns+" FROM principal WHERE sequence > ? ORDER BY sequence LIMIT ?",
			int64(after), fieldgate.DirectoryPageChanges+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for count := 0; rows.Next(); count++ {
			if count == fieldgate.DirectoryPageChanges || len(encoded) > maxPageBytes {
				more = true
				break
			}
			p, err := scan(rows)
			if err != nil {
				return err
			}
			if count > 0 {
				encoded = append(encoded, ',')
			}
			change, err := json.Marshal(fieldgate.DirectoryChange{Sequence: p.Sequence, Kind: p.Kind, ID: p.ID, State: p.State,
				Model: p.Model, Firmware: p.Firmware, Scopes: p.Scopes, Credentials: p.Credentials, Verifiers: p.Verifiers,
				PSK: p.PSK, Certificates: p.fingerprints(), OSCORE: p.OSCORE})
			if err != nil {
				return err
			}
			encoded = append(encoded, change...)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("page of the directory after %d: %w", after, err)
	}
	encoded = append(encoded, ']')
	if more {
		encoded = append(encoded, `,"more":true`...)
	}
	return append(encoded, '}'), nil
}
