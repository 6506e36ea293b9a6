package directory

import (
	"context"
	"database/sql"
	"errors"

	"fieldgate"
	"fieldgate/control/refusal"
	"fieldgate/engine/seal"
	"fieldgate/engine/store"
)

// pskColumns are NULL where there is no pre-shared key.
func (p *Principal) pskColumns() (identity sql.NullString, psk []byte) {
	if p.PSK == nil {
		return identity, nil
	}
	return sql.NullString{String: p.PSK.Identity, Valid: true}, p.PSK.Sealed
}

// checkIdentity refuses an identity that another principal has.
func checkIdentity(ctx context.Context, tx *store.Tx, p *Principal) error {
	if p.PSK == nil {
		return nil
	}
	var kind fieldgate.PrincipalKind
	var id string
	err := tx.QueryRowContext(ctx, "SELECT kind, id FROM principal WHERE psk_identity = ?", p.PSK.Identity).Scan(&kind, &id)
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && kind == p.Kind && id == p.ID:
		return nil
	case err != nil:
		return err
	}
	return refusal.Conflict("The %s %q has a pre-shared key of the identity %q already: choose another identity.", kind, id, p.PSK.Identity)
}

// SealedBy is the name of the secrets key that the pre-shared keys and OSCORE contexts of the installation are sealed by; empty: there are
// none.
func SealedBy(ctx context.Context, tx *store.Tx) (key string, err error) {
	var sealed []byte
	err = tx.QueryRowContext(ctx, "SELECT psk FROM principal WHERE psk_identity IS NOT NULL LIMIT 1").Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		var oscore sql.NullString
		err = tx.QueryRowContext(ctx, "SELECT oscore FROM principal WHERE oscore_name IS NOT NULL LIMIT 1").Scan(&oscore)
		var p Principal
		if err == nil {
			if err = p.readOSCORE(oscore); err == nil {
				sealed = p.OSCORE.Sealed
			}
		}
	}
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return seal.KeyName(sealed), err
}
