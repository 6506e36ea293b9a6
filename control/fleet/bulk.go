package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/directory"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// Bulk registers many devices, all or none, and lets other decisions through meanwhile: one transaction with a million devices would
// hold them up for minutes. Lines are checked and kept aside in portions; when all are good, one small transaction decides;
// then they are registered in portions. What is decided is carried out to its end, by another node if need be, and until then
// nobody else can register a device of the same id. What is not decided leaves nothing.
type Bulk struct {
	fleet *Fleet
	id    string
	count int
}

// Line is one line of an import.
type Line struct {
	Number int // from 1
	Device NewDevice
}

// Registered is what became of one line: the token of its device, or why it was refused.
type Registered struct {
	Line int
	Imported
}

// bulkStale is how long nobody must have worked on a Bulk before another node finishes it. A node says several times in that time
// that it works on its own.
const bulkStale = 10 * time.Second

// BeginBulk begins. The Bulk must be ended with End.
func (f *Fleet) BeginBulk(ctx context.Context) (*Bulk, error) {
	b := &Bulk{fleet: f, id: rand.Text()}
	err := f.store.Update(ctx, func(tx *store.Tx) error {
		after, err := tx.Counter(ctx, "directory")
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO import_job (id, decided, after, updated) VALUES (?, 0, ?, ?)", b.id, int64(after), tx.Now.UnixMilli())
		return err
	})
	if err != nil {
		return nil, err
	}
	f.bulks.Store(b.id, true)
	return b, nil
}

// Check keeps lines aside and returns those that are refused.
func (b *Bulk) Check(ctx context.Context, lines []Line) (refused []Registered, err error) {
	err = b.fleet.store.Update(ctx, func(tx *store.Tx) error {
		refused = nil
		for _, line := range lines {
			err := b.check(ctx, tx, &line)
			var why *refusal.Error
			if errors.As(err, &why) {
				refused = append(refused, Registered{line.Number, Imported{ID: line.Device.ID, Refused: why}})
			} else if err != nil {
				return err
			}
		}
		return b.touch(ctx, tx)
	})
	b.count += len(lines) - len(refused)
	return refused, err
}

func (b *Bulk) check(ctx context.Context, tx *store.Tx, line *Line) error {
	if err := line.Device.validate(); err != nil {
		return err
	}
	if line.Device.PSK != nil {
		return refusal.Invalid("Pre-shared keys are taken where each line counts by itself (mode good): import them so, or set them afterwards.")
	}
	var taken bool
	err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM principal WHERE kind = ? AND id = ?)", fieldgate.PrincipalDevice, line.Device.ID).Scan(&taken)
	if err != nil {
		return err
	}
	if taken {
		return refusal.Conflict("There is a device %q already.", line.Device.ID)
	}
	added, err := tx.ExecContext(ctx, "INSERT INTO import_line (job, line, id, model, firmware) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id, job) DO NOTHING",
		b.id, line.Number, line.Device.ID, line.Device.Model, line.Device.Firmware)
	if err != nil {
		return err
	}
	if n, err := added.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, refusal.Conflict("The device %q is on a line before, too.", line.Device.ID))
	}
	return nil
}

// errGivenUp is for an import whose node stood still for so long that another one took it for dead and cleared it away.
var errGivenUp = refusal.Conflict("The import was taken for dead, because its node stood still, and was given up: none of it is registered. Send it again.")

// touch says that somebody works on it.
func (b *Bulk) touch(ctx context.Context, tx *store.Tx) error {
	return b.update(ctx, tx, "updated = updated + 1")
}

// update changes the row of the Bulk, which must be there.
func (b *Bulk) update(ctx context.Context, tx *store.Tx, set string) error {
	result, err := tx.ExecContext(ctx, "UPDATE import_job SET "+set+" WHERE id = ?", b.id)
	if err != nil {
		return err
	}
	if changed, err := result.RowsAffected(); err != nil || changed == 0 {
		return errors.Join(err, errGivenUp)
	}
	return nil
}

// Decide makes it certain that all lines are registered. It is a refusal when a device was registered since its line was checked.
func (b *Bulk) Decide(ctx context.Context) error {
	return b.fleet.store.Update(ctx, func(tx *store.Tx) error {
		var taken string
		err := tx.QueryRowContext(ctx, `SELECT COALESCE((SELECT import_line.id
			FROM import_job JOIN principal ON principal.sequence > import_job.after AND principal.kind = ?
			JOIN import_line ON import_line.job = import_job.id AND import_line.id = principal.id
			WHERE import_job.id = ? LIMIT 1), '')`, fieldgate.PrincipalDevice, b.id).Scan(&taken)
		if err == nil && taken == "" {
			err = tx.QueryRowContext(ctx, `SELECT COALESCE((SELECT mine.id
				FROM import_job JOIN import_line AS other ON other.job = import_job.id
				JOIN import_line AS mine ON mine.id = other.id AND mine.job = ?
				WHERE import_job.decided = 1 AND import_job.id <> ? LIMIT 1), '')`, b.id, b.id).Scan(&taken)
		}
		if err != nil {
			return err
		}
		if taken != "" {
			return refusal.Conflict("Somebody else has registered the device %q meanwhile: none of this import is registered.", taken)
		}
		var first string
		if err := tx.QueryRowContext(ctx, "SELECT COALESCE((SELECT id FROM import_line WHERE job = ? ORDER BY line LIMIT 1), '')", b.id).Scan(&first); err != nil {
			return err
		}
		// All that was checked must still be there: another node may have begun to clear it away.
		var kept int
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM import_line WHERE job = ?", b.id).Scan(&kept); err != nil {
			return err
		}
		if kept != b.count {
			return errGivenUp
		}
		if err := b.update(ctx, tx, "decided = 1, updated = updated + 1"); err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Change{Action: "device.import", Target: first, Detail: count(b.count), After: importFacts{b.count}})
	})
}

// Register registers the next lines, at the most limit, after Decide; none are left when it returns none.
func (b *Bulk) Register(ctx context.Context, limit int) (registered []Registered, err error) {
	return b.register(ctx, limit, true)
}

// register gives devices tokens if somebody is there to hear them.
func (b *Bulk) register(ctx context.Context, limit int, tokens bool) (registered []Registered, err error) {
	err = b.fleet.store.Update(ctx, func(tx *store.Tx) error {
		registered = nil
		lines, err := b.next(ctx, tx, limit)
		if err != nil {
			return err
		}
		if len(lines) == 0 {
			_, err := tx.ExecContext(ctx, "DELETE FROM import_job WHERE id = ?", b.id)
			return err
		}
		for _, line := range lines {
			device := &Device{Kind: fieldgate.PrincipalDevice, ID: line.Device.ID, Model: line.Device.Model, Firmware: line.Device.Firmware}
			token := ""
			if tokens {
				if token, err = directory.IssueMany(device, fieldgate.PrefixDevice); err != nil {
					return err
				}
			}
			if err := directory.Insert(ctx, tx, device); err != nil {
				return fmt.Errorf("line %d of an import that is decided: %w", line.Number, err)
			}
			registered = append(registered, Registered{line.Number, Imported{ID: device.ID, Token: token}})
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM import_line WHERE job = ? AND line <= ?", b.id, lines[len(lines)-1].Number)
		if err != nil {
			return err
		}
		return b.touch(ctx, tx)
	})
	if err != nil {
		return nil, err
	}
	b.fleet.directory.Nudge()
	return registered, nil
}

func (b *Bulk) next(ctx context.Context, tx *store.Tx, limit int) (lines []Line, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT line, id, model, firmware FROM import_line WHERE job = ? ORDER BY line LIMIT ?", b.id, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var line Line
		if err := rows.Scan(&line.Number, &line.Device.ID, &line.Device.Model, &line.Device.Firmware); err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, rows.Err()
}

// End says that nobody works on it here any more. What is not finished is left to FinishBulks.
func (b *Bulk) End() { b.fleet.bulks.Delete(b.id) }

const bulkPortion = 1000

// watched is the Bulks of all nodes, as FinishBulks saw them. Whether somebody works on one is told by its number, which goes up with
// every step, and by this node's own monotonic clock: clocks of machines are never compared.
type watched struct {
	mu   sync.Mutex
	seen map[string]sighting
}

type sighting struct {
	updated int64
	since   time.Time
}

// stale says of which Bulks nobody has touched for bulkStale.
func (w *watched) stale(updated map[string]int64, now time.Time) (stale []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.seen, func(id string, _ sighting) bool { _, there := updated[id]; return !there })
	for id, number := range updated {
		switch seen, known := w.seen[id]; {
		case !known || seen.updated != number:
			w.seen[id] = sighting{number, now}
		case now.Sub(seen.since) >= bulkStale:
			stale = append(stale, id)
		}
	}
	return stale
}

// FinishBulks registers what is decided and forgets what is not, of imports on which nobody works any more, on whatever node they
// began: it must be called now and then. It keeps those alive on which somebody works here.
func (f *Fleet) FinishBulks(ctx context.Context) error { return f.finishBulks(ctx, time.Now()) }

func (f *Fleet) finishBulks(ctx context.Context, now time.Time) error {
	decided, others := make(map[string]bool), make(map[string]int64)
	err := f.store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT id, decided, updated FROM import_job")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			var yes int
			var updated int64
			if err := rows.Scan(&id, &yes, &updated); err != nil {
				return err
			}
			decided[id], others[id] = yes == 1, updated
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	for id := range others {
		if _, here := f.bulks.Load(id); !here {
			continue
		}
		delete(others, id)
		b := &Bulk{fleet: f, id: id}
		if err := f.store.Update(ctx, func(tx *store.Tx) error { return b.touch(ctx, tx) }); err != nil && !errors.Is(err, errGivenUp) {
			return fmt.Errorf("import %s: %w", id, err)
		}
	}
	for _, id := range f.others.stale(others, now) {
		if err := f.finish(ctx, &Bulk{fleet: f, id: id}, decided[id]); err != nil {
			return fmt.Errorf("import %s: %w", id, err)
		}
	}
	return nil
}

func (f *Fleet) finish(ctx context.Context, b *Bulk, decided bool) error {
	for {
		if decided {
			registered, err := b.register(ctx, bulkPortion, false)
			if err != nil || len(registered) == 0 {
				return err
			}
			continue
		}
		left, err := b.forget(ctx)
		if err != nil || !left {
			return err
		}
	}
}

// Forget removes what is kept aside of a Bulk that is not decided.
func (b *Bulk) Forget(ctx context.Context) error {
	for {
		if left, err := b.forget(ctx); err != nil || !left {
			return err
		}
	}
}

func (b *Bulk) forget(ctx context.Context) (left bool, err error) {
	err = b.fleet.store.Update(ctx, func(tx *store.Tx) error {
		lines, err := b.next(ctx, tx, bulkPortion)
		if err != nil {
			return err
		}
		if left = len(lines) > 0; left {
			_, err = tx.ExecContext(ctx, "DELETE FROM import_line WHERE job = ? AND line <= ?", b.id, lines[len(lines)-1].Number)
		} else {
			_, err = tx.ExecContext(ctx, "DELETE FROM import_job WHERE id = ?", b.id)
		}
		return err
	})
	return left, err
}

// checkReserved refuses an id that an import will register which is decided and not finished.
func checkReserved(ctx context.Context, tx *store.Tx, id string) error {
	var reserved bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM import_line JOIN import_job ON import_job.id = import_line.job
		WHERE import_line.id = ? AND import_job.decided = 1)`, id).Scan(&reserved)
	if err == nil && reserved {
		err = refusal.Conflict("There is a device %q already: an import is registering it.", id)
	}
	return err
}
