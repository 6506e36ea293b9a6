// Package targets keeps the addresses that services register for upstreams, for as long as they renew them, and tells the gateways.
// Which addresses are given up is decided here and nowhere else: a gateway that is cut off keeps what it has.
package targets

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/control/audit"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// Bounds of a registration.
const (
	MinTTL     = 10 * time.Second
	MaxTTL     = 24 * time.Hour
	DefaultTTL = time.Minute

	maxRegistered = 20_000 // over all upstreams
)

// counter is the version of all that is registered.
const counter = "targets"

// Registration is an address that a service has registered.
type Registration struct {
	Upstream string
	fieldgate.Target
	TTL        time.Duration
	Registrar  string
	Registered time.Time
	Renewed    time.Time
	Version    uint64 // of its last change; renewing it is none
}

// Expires is when it goes, if nobody renews it.
func (r *Registration) Expires() time.Time { return r.Renewed.Add(r.TTL) }

// facts is what the audit keeps of a registration before and after a decision.
type facts struct {
	Address    string  `json:"address"`
	Zone       string  `json:"zone,omitempty"`
	Priority   int     `json:"priority"`
	Weight     int     `json:"weight"`
	TTLSeconds float64 `json:"ttlSeconds"`
}

func (r *Registration) facts() facts {
	return facts{r.Address, r.Zone, r.Priority, r.Weight, r.TTL.Seconds()}
}

// check brings the address into its one form, fills in what is left out and refuses what cannot be registered.
func (r *Registration) check() error {
	if !fieldgate.ValidIdentifier(r.Upstream) {
		return refusal.Invalid("%.140q is no name of an upstream: use letters, digits and . _ : -", r.Upstream)
	}
	address, err := fieldgate.ParseTargetAddress(r.Address)
	if err != nil {
		return refusal.Invalid("%s", err)
	}
	if !mayServe(address.Host) {
		return refusal.Invalid("%s is an address that no service has for others, such as a link-local one: register the one that gateways reach it at.", r.Address)
	}
	r.Address = address.String()
	if r.Weight == 0 {
		r.Weight = 1
	}
	if err := r.Check(); err != nil {
		return refusal.Invalid("%s", err)
	}
	if r.Zone != "" && (!isText(r.Zone)) {
		return refusal.Invalid("The zone's name is text without control characters.")
	}
	if r.TTL == 0 {
		r.TTL = DefaultTTL
	}
	if r.TTL < MinTTL || r.TTL > MaxTTL {
		return refusal.Invalid("The time to live must be %.0f to %.0f seconds.", MinTTL.Seconds(), MaxTTL.Seconds())
	}
	return nil
}

// mayServe says whether a service can have a host as its address. Link-local addresses are those of the gateway's own link, where clouds
// give their metadata and credentials away.
func mayServe(host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return true // a name
	}
	ip = ip.Unmap()
	return !ip.IsUnspecified() && !ip.IsLinkLocalUnicast() && !ip.IsMulticast() && ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func isText(text string) bool {
	return strings.ToValidUTF8(text, "") == text && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// normal is the one form of an address in a request.
func normal(address string) (string, error) {
	parsed, err := fieldgate.ParseTargetAddress(address)
	if err != nil {
		return "", refusal.Invalid("%s", err)
	}
	return parsed.String(), nil
}

// Targets is what is registered with one installation.
type Targets struct {
	store *store.Store
	bus   *bus.Bus
	log   *slog.Logger
}

// New makes Targets on their store and bus. It starts nothing.
func New(db *store.Store, b *bus.Bus, log *slog.Logger) *Targets {
	return &Targets{store: db, bus: b, log: log}
}

const columns = "upstream, address, zone, priority, weight, ttl, registrar, registered, renewed, version"

func scan(row interface{ Scan(...any) error }) (*Registration, error) {
	var r Registration
	var ttl, registered, renewed int64
	if err := row.Scan(&r.Upstream, &r.Address, &r.Zone, &r.Priority, &r.Weight, &ttl, &r.Registrar, &registered, &renewed, &r.Version); err != nil {
		return nil, err
	}
	r.TTL = time.Duration(ttl) * time.Millisecond
	r.Registered, r.Renewed = time.UnixMilli(registered).UTC(), time.UnixMilli(renewed).UTC()
	return &r, nil
}

func find(ctx context.Context, tx *store.Tx, upstream, address string) (*Registration, error) {
	r, err := scan(tx.QueryRowContext(ctx, "SELECT "+columns+" FROM upstream_target WHERE upstream = ? AND address = ?", upstream, address))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, refusal.NotFound("No address %s is registered for the upstream %q: it was never, was taken out, or was not renewed in time.", address, upstream)
	}
	return r, err
}

// Register puts an address in for its time to live, or renews it. Only what is new or changed is a decision of which gateways and audit
// are told. match is the Version that a change is made for; 0: whichever there is.
func (t *Targets) Register(ctx context.Context, wanted Registration, match uint64) (registered *Registration, err error) {
	if err := wanted.check(); err != nil {
		return nil, err
	}
	made := false
	err = t.store.Update(ctx, func(tx *store.Tx) error {
		registered, made, err = register(ctx, tx, wanted, match)
		return err
	})
	if err != nil {
		return nil, err
	}
	if made {
		t.nudge()
	}
	return registered, nil
}

func register(ctx context.Context, tx *store.Tx, wanted Registration, match uint64) (_ *Registration, made bool, err error) {
	before, err := find(ctx, tx, wanted.Upstream, wanted.Address)
	var refused *refusal.Error
	switch {
	case errors.As(err, &refused):
		before = nil
	case err != nil:
		return nil, false, err
	}
	if match != 0 && (before == nil || before.Version != match) {
		return nil, false, changed(&wanted)
	}
	now := tx.Now.Truncate(time.Millisecond)
	if before != nil && before.facts() == wanted.facts() {
		before.Renewed = now
		_, err := tx.ExecContext(ctx, "UPDATE upstream_target SET renewed = ? WHERE upstream = ? AND address = ?", now.UnixMilli(), before.Upstream, before.Address)
		return before, false, err
	}
	after := wanted
	after.Registered, after.Renewed = now, now
	if actor, known := audit.ActorOf(ctx); known {
		after.Registrar = strings.TrimSpace(actor.Name + " " + actor.Via)
	}
	change := audit.Change{Action: "target.register", Target: after.Upstream, Detail: after.Address, After: after.facts()}
	if before != nil {
		after.Registered = before.Registered
		change.Action, change.Before = "target.update", before.facts()
	} else if err := room(ctx, tx, after.Upstream); err != nil {
		return nil, false, err
	}
	if after.Version, err = tx.Next(ctx, counter); err != nil {
		return nil, false, err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO upstream_target ("+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (upstream, address) DO UPDATE SET zone = excluded.zone, priority = excluded.priority, weight = excluded.weight, ttl = excluded.ttl,
			registrar = excluded.registrar, renewed = excluded.renewed, version = excluded.version`,
		after.Upstream, after.Address, after.Zone, after.Priority, after.Weight, after.TTL.Milliseconds(), after.Registrar,
		after.Registered.UnixMilli(), after.Renewed.UnixMilli(), int64(after.Version))
	if err != nil {
		return nil, false, err
	}
	return &after, true, audit.Write(ctx, tx, change)
}

// room refuses what would be too much.
func room(ctx context.Context, tx *store.Tx, upstream string) error {
	var own, all int
	err := tx.QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(SUM(CASE WHEN upstream = ? THEN 1 ELSE 0 END), 0) FROM upstream_target", upstream).Scan(&all, &own)
	switch {
	case err != nil:
		return err
	case own >= fieldgate.MaxTargets:
		return refusal.Conflict("The upstream %q has %d registered addresses, which is the most that it can have: take one out first.", upstream, own)
	case all >= maxRegistered:
		return refusal.Conflict("There are %d registered addresses, which is the most that there can be: take some out first.", all)
	}
	return nil
}

func changed(r *Registration) error {
	return refusal.Changed("Somebody else has changed the registration of %s for the upstream %q meanwhile: look at it again, then decide.", r.Address, r.Upstream)
}

// Get is one registration.
func (t *Targets) Get(ctx context.Context, upstream, address string) (r *Registration, err error) {
	if address, err = normal(address); err != nil {
		return nil, err
	}
	err = t.store.View(ctx, func(tx *store.Tx) error {
		r, err = find(ctx, tx, upstream, address)
		return err
	})
	return r, err
}

// List is what is registered for an upstream, or for all where that is empty, by upstream and address.
func (t *Targets) List(ctx context.Context, upstream string) (list []Registration, err error) {
	err = t.store.View(ctx, func(tx *store.Tx) error {
		list = nil
		query, values := "SELECT "+columns+" FROM upstream_target ORDER BY upstream, address", []any(nil)
		if upstream != "" {
			query, values = "SELECT "+columns+" FROM upstream_target WHERE upstream = ? ORDER BY address", []any{upstream}
		}
		list, err = read(ctx, tx, query, values...)
		return err
	})
	return list, err
}

func read(ctx context.Context, tx *store.Tx, query string, values ...any) (list []Registration, err error) {
	rows, err := tx.QueryContext(ctx, query, values...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, *r)
	}
	return list, rows.Err()
}

// Remove takes an address out at once. match is the Version that is meant; 0: whichever there is.
func (t *Targets) Remove(ctx context.Context, upstream, address string, match uint64) error {
	address, err := normal(address)
	if err != nil {
		return err
	}
	err = t.store.Update(ctx, func(tx *store.Tx) error {
		r, err := find(ctx, tx, upstream, address)
		if err != nil {
			return err
		}
		if match != 0 && r.Version != match {
			return changed(r)
		}
		return remove(ctx, tx, "target.remove", r)
	})
	if err == nil {
		t.nudge()
	}
	return err
}

func remove(ctx context.Context, tx *store.Tx, action string, r *Registration) error {
	if _, err := tx.Next(ctx, counter); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM upstream_target WHERE upstream = ? AND address = ?", r.Upstream, r.Address); err != nil {
		return err
	}
	return audit.Write(ctx, tx, audit.Change{Action: action, Target: r.Upstream, Detail: r.Address, Before: r.facts()})
}

// nudge tells the gateways and those who watch decisions, after a commit. One that is lost only costs time.
func (t *Targets) nudge() {
	if err := t.bus.Publish(fieldgate.SubjectTargetsChanged, nil); err != nil {
		t.log.Warn("gateways were not told of a registered address", "error", err)
	}
	audit.Nudge(t.bus, t.log)
}

// Version is that of all that is registered now.
func Version(ctx context.Context, tx *store.Tx) (uint64, error) {
	version, err := tx.Counter(ctx, counter)
	if err != nil {
		return 0, fmt.Errorf("version of the registered addresses: %w", err)
	}
	return version, nil
}
