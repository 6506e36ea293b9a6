package insight

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"fieldgate"
	"fieldgate/engine/store"
)

// Who was seen is collected in memory for presenceInterval, then written in small steps while the next are collected; as long as
// they are few, more often. What a crash loses of it is read again from the stream, but
// for the counts of exchanges and refusals.
const (
	presenceInterval  = time.Minute
	presenceSoon      = 12 // times in presenceInterval they are written while there are at the most presenceFew
	presenceFew       = 2_000
	presencePerStep   = 500
	maxPresences      = 200_000 // collected at once, about 40 MB; whoever is beyond waits for a later interval
	presenceLastStore = 2 * time.Second
)

type presenceKey struct {
	kind fieldgate.PrincipalKind
	id   string
}

// seen is what is collected about one principal.
type seen struct {
	last, refusedAt     int64 // milliseconds
	source              netip.Addr
	node, refusal       string
	exchanges, refusals uint32
	protocol            fieldgate.Protocol
}

type presences struct {
	mu         sync.Mutex
	collecting map[presenceKey]*seen
	skipped    uint64
}

func newPresences() *presences { return &presences{collecting: make(map[presenceKey]*seen)} }

// touch notes who was there; counting says that the exchanges were not counted before.
func (p *presences) touch(node string, records []fieldgate.Record, counting bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var before presenceKey
	var s *seen // of before
	for i := range records {
		r := &records[i]
		if r.Principal == "" || r.Kind != fieldgate.PrincipalDevice && r.Kind != fieldgate.PrincipalApp {
			continue // a foreign id is anybody's claim
		}
		if key := (presenceKey{r.Kind, r.Principal}); s == nil || key != before {
			before, s = key, p.of(key)
		}
		if s != nil {
			s.touch(node, r, counting)
		}
	}
}

// of is what is collected about a principal; nil when there is no place for one more.
func (p *presences) of(key presenceKey) *seen {
	s := p.collecting[key]
	switch {
	case s != nil:
	case len(p.collecting) >= maxPresences:
		p.skipped++
	default:
		s = &seen{}
		p.collecting[key] = s
	}
	return s
}

func (s *seen) touch(node string, r *fieldgate.Record, counting bool) {
	at := r.Time.UnixMilli()
	if at >= s.last {
		s.last, s.source, s.node, s.protocol = at, r.Source, node, r.Protocol
	}
	refused := r.Status >= 400 && r.Status < 500
	if refused && at >= s.refusedAt {
		s.refusedAt, s.refusal = at, string(r.Problem)
	}
	if counting {
		s.exchanges += uint32(r.Exchanges())
		if refused {
			s.refusals += uint32(r.Exchanges())
		}
	}
}

// storeRegularly writes what was collected until the context ends.
func (p *presences) storeRegularly(ctx context.Context, c *counting) {
	ticker := time.NewTicker(c.pace.presence / presenceSoon)
	defer ticker.Stop()
	stored := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if time.Since(stored) >= c.pace.presence || p.few() {
				p.storeAll(ctx, c)
				stored = time.Now()
			}
		}
	}
}

func (p *presences) few() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.collecting) <= presenceFew
}

// storeAll writes what was collected so far, leaving the store to others for as long as it uses it.
func (p *presences) storeAll(ctx context.Context, c *counting) {
	p.mu.Lock()
	drained, skipped := p.collecting, p.skipped
	p.collecting, p.skipped = make(map[presenceKey]*seen), 0
	p.mu.Unlock()
	if skipped > 0 {
		c.log.Warn("not everybody who was there could be noted", "skipped", skipped)
	}
	var rows [][]any
	for key, s := range drained {
		source := ""
		if s.source.IsValid() {
			source = s.source.String()
		}
		rows = append(rows, []any{string(key.kind), key.id, s.last, int(s.protocol), source, s.node, s.last / (day * 1000),
			int64(s.exchanges), int64(s.refusals), s.refusal, s.refusedAt})
		delete(drained, key)
		if len(rows) < presencePerStep && len(drained) > 0 {
			continue
		}
		for stored := false; !stored; {
			began := time.Now()
			err := c.storePresences(ctx, rows)
			rest := max(time.Since(began), time.Millisecond)
			switch {
			case errors.Is(err, errTurnOver):
				c.lag.notes(nil, began) // another node stores them
				return
			case err != nil && ctx.Err() == nil:
				c.log.Error("who was there cannot be stored; it is tried again", "error", err)
				c.lag.notes(err, began)
				rest = retryPause
			case err == nil:
				rows, stored = rows[:0], true
				c.lag.notes(nil, began)
			}
			select {
			case <-ctx.Done():
				if left := len(drained) + len(rows); left > 0 {
					c.log.Warn("not everybody who was there could be noted", "skipped", left)
				}
				return
			case <-time.After(rest):
			}
		}
	}
}

func (c *counting) storePresences(ctx context.Context, rows [][]any) error {
	const newer = "excluded.last_seen >= presence.last_seen"
	columns := ""
	for _, column := range []string{"protocol", "source", "node"} {
		columns += fmt.Sprintf("%s = CASE WHEN %s THEN excluded.%s ELSE presence.%s END, ", column, newer, column, column)
	}
	for _, column := range []string{"exchanges", "refusals"} {
		columns += fmt.Sprintf(`%s = CASE WHEN excluded.day = presence.day THEN presence.%s + excluded.%s
			WHEN excluded.day > presence.day THEN excluded.%s ELSE presence.%s END, `, column, column, column, column, column)
	}
	return c.update(ctx, func(tx *store.Tx) error {
		var holder string
		if err := tx.QueryRowContext(ctx, "SELECT holder FROM ingest_stream WHERE name = ?", fieldgate.StreamRecords).Scan(&holder); err != nil {
			return err
		}
		if holder != c.holder {
			return errTurnOver
		}
		return insertRows(ctx, tx, `INSERT INTO presence (kind, id, last_seen, protocol, source, node, day, exchanges, refusals, refusal, refused_at)`,
			`ON CONFLICT (kind, id) DO UPDATE SET `+columns+`
				day = CASE WHEN excluded.day > presence.day THEN excluded.day ELSE presence.day END,
				refusal = CASE WHEN excluded.refused_at > presence.refused_at THEN excluded.refusal ELSE presence.refusal END,
				refused_at = CASE WHEN excluded.refused_at > presence.refused_at THEN excluded.refused_at ELSE presence.refused_at END,
				last_seen = CASE WHEN `+newer+` THEN excluded.last_seen ELSE presence.last_seen END`, rows)
	})
}

// Presence is when and where a principal was last seen. It lags behind by up to two minutes; of the exchanges and refusals, those
// of the last two minutes are lost when the control node that counts is killed.
type Presence struct {
	Kind      fieldgate.PrincipalKind
	ID        string
	LastSeen  time.Time
	Protocol  fieldgate.Protocol
	Source    string // address; empty when unknown
	Node      string // gateway
	Exchanges uint64 // today, in UTC
	Refusals  uint64 // today, with a status 4xx
	Refusal   string // problem code of the newest one
	RefusedAt time.Time
}

const presenceColumns = "kind, id, last_seen, protocol, source, node, day, exchanges, refusals, refusal, refused_at"

func scanPresence(rows *sql.Rows, now time.Time) (p Presence, err error) {
	var last, days, refused int64
	err = rows.Scan(&p.Kind, &p.ID, &last, &p.Protocol, &p.Source, &p.Node, &days, &p.Exchanges, &p.Refusals, &p.Refusal, &refused)
	p.LastSeen = time.UnixMilli(last).UTC()
	if refused > 0 {
		p.RefusedAt = time.UnixMilli(refused).UTC()
	}
	if days != now.Unix()/day {
		p.Exchanges, p.Refusals = 0, 0
	}
	return p, err
}

// Presence finds when principals of a kind were last seen. Those that never were are not in the answer.
func (i *Insight) Presence(ctx context.Context, kind fieldgate.PrincipalKind, ids []string) (map[string]Presence, error) {
	found := make(map[string]Presence, len(ids))
	err := i.store.View(ctx, func(tx *store.Tx) error {
		for len(ids) > 0 {
			part := ids[:min(len(ids), keysPerStatement)]
			ids = ids[len(part):]
			list, values := in(part)
			err := each(ctx, tx, "SELECT "+presenceColumns+" FROM presence WHERE kind = ? AND id IN "+list, append([]any{string(kind)}, values...),
				func(rows *sql.Rows) error {
					p, err := scanPresence(rows, tx.Now)
					found[p.ID] = p
					return err
				})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// LastSeenCursor is where a page of LastSeen ended. The zero value is the beginning.
type LastSeenCursor struct {
	Time time.Time
	ID   string
}

// LastSeen lists principals of a kind, most recently seen first, over one protocol or, where it is nil, any.
func (i *Insight) LastSeen(ctx context.Context, kind fieldgate.PrincipalKind, protocol *fieldgate.Protocol, after LastSeenCursor, limit int) (list []Presence, err error) {
	at, id := after.Time.UnixMilli(), after.ID
	if after.Time.IsZero() {
		at = 1 << 62
	}
	// One index serves both: each protocol's newest, merged.
	query, values := "", []any(nil)
	for p := range fieldgate.Protocols {
		if protocol != nil && p != *protocol {
			continue
		}
		if query != "" {
			query += " UNION ALL "
		}
		query += "SELECT * FROM (SELECT " + presenceColumns + ` FROM presence WHERE kind = ? AND protocol = ? AND (last_seen, id) < (?, ?)
			ORDER BY last_seen DESC, id DESC LIMIT ?) AS newest` + p.String()
		values = append(values, string(kind), int(p), at, id, limit)
	}
	if query == "" {
		return nil, nil
	}
	err = i.store.View(ctx, func(tx *store.Tx) error {
		list = nil
		return each(ctx, tx, query+" ORDER BY 3 DESC, 2 DESC LIMIT ?", append(values, limit), func(rows *sql.Rows) error {
			p, err := scanPresence(rows, tx.Now)
			list = append(list, p)
			return err
		})
	})
	return list, err
}
