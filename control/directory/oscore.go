package directory

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"fieldgate"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// oscoreName is by which requests name a context.
func oscoreName(c *fieldgate.SealedOSCORE) string {
	return hex.EncodeToString(c.SenderID) + "/" + hex.EncodeToString(c.IDContext)
}

// oscoreColumns are NULL where there is no context.
func (p *Principal) oscoreColumns() (name, oscore sql.NullString, err error) {
	if p.OSCORE == nil {
		return name, oscore, nil
	}
	encoded, err := json.Marshal(p.OSCORE)
	return sql.NullString{String: oscoreName(p.OSCORE), Valid: true}, sql.NullString{String: string(encoded), Valid: true}, err
}

func (p *Principal) readOSCORE(oscore sql.NullString) error {
	if !oscore.Valid {
		return nil
	}
	if err := json.Unmarshal([]byte(oscore.String), &p.OSCORE); err != nil {
		return fmt.Errorf("%s %s: OSCORE context: %w", p.Kind, p.ID, err)
	}
	return nil
}

// checkOSCORE refuses a context by whose name another principal's is found.
func checkOSCORE(ctx context.Context, tx *store.Tx, p *Principal) error {
	if p.OSCORE == nil {
		return nil
	}
	var kind fieldgate.PrincipalKind
	var id string
	err := tx.QueryRowContext(ctx, "SELECT kind, id FROM principal WHERE oscore_name = ?", oscoreName(p.OSCORE)).Scan(&kind, &id)
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && kind == p.Kind && id == p.ID:
		return nil
	case err != nil:
		return err
	}
	return refusal.Conflict("The %s %q has an OSCORE context with this sender id and id context already: choose another sender id.", kind, id)
}

const (
	blockCounter = "oscore-block"
	// blockPeriod is how long a block of sequence numbers is worth: as long as no more are taken than one in that time, none comes twice even where the
	// database is restored from a backup that does not know of the newest.
	blockPeriod = 64 * time.Second
)

var firstBlock = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// serveBlocks gives out blocks of sender sequence numbers for OSCORE, each once.
func (d *Directory) serveBlocks() (stop func(), err error) {
	return d.bus.Serve(fieldgate.SubjectOSCOREBlock, func(request []byte) (bus.Answer, error) {
		var asked fieldgate.OSCOREBlockRequest
		if err := json.Unmarshal(request, &asked); err != nil {
			return bus.Answer{}, fmt.Errorf("malformed request")
		}
		block, err := d.nextBlock(context.Background(), asked.After)
		if err != nil {
			return bus.Answer{}, err
		}
		answer, err := json.Marshal(fieldgate.OSCOREBlock{Block: block})
		return bus.Answer{Data: answer}, err
	})
}

func (d *Directory) nextBlock(ctx context.Context, after uint64) (block uint64, err error) {
	if after >= fieldgate.MaxOSCOREBlock {
		return 0, fmt.Errorf("there are no blocks after %d", after)
	}
	err = d.store.Update(ctx, func(tx *store.Tx) error {
		least := max(int64(after)+1, int64(tx.Now.Sub(firstBlock)/blockPeriod), 1)
		var value int64
		err := tx.QueryRowContext(ctx, `INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE
			SET value = CASE WHEN counter.value < excluded.value THEN excluded.value ELSE counter.value + 1 END RETURNING value`, blockCounter, least).Scan(&value)
		block = uint64(value)
		return err
	})
	if err == nil && block > fieldgate.MaxOSCOREBlock {
		err = errors.New("all blocks of sequence numbers have been given out")
	}
	return block, err
}
