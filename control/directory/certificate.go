package directory

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"fieldgate"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// Certificate is one that is registered for a device. Only what is shown of it is kept.
type Certificate struct {
	Fingerprint fieldgate.CredentialHash `json:"fingerprint"`
	Subject     string                   `json:"subject"`
	NotBefore   time.Time                `json:"notBefore"`
	NotAfter    time.Time                `json:"notAfter"`
	Added       time.Time                `json:"added"`
}

func (p *Principal) fingerprints() []fieldgate.CredentialHash {
	var all []fieldgate.CredentialHash
	for i := range p.Certificates {
		all = append(all, p.Certificates[i].Fingerprint)
	}
	return all
}

func (p *Principal) readCertificates(encoded sql.NullString) error {
	if !encoded.Valid {
		return nil
	}
	if err := json.Unmarshal([]byte(encoded.String), &p.Certificates); err != nil {
		return fmt.Errorf("certificates of the %s %s: %w", p.Kind, p.ID, err)
	}
	p.registered = p.fingerprints()
	return nil
}

// saveCertificates notes whose those are that were added or removed since the principal was read, and gives the column.
func (p *Principal) saveCertificates(ctx context.Context, tx *store.Tx) (column sql.NullString, err error) {
	present := p.fingerprints()
	for _, old := range p.registered {
		if slices.Contains(present, old) {
			continue
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM principal_certificate WHERE fingerprint = ?", old[:]); err != nil {
			return column, err
		}
	}
	for _, fingerprint := range present {
		if slices.Contains(p.registered, fingerprint) {
			continue
		}
		if err := p.claim(ctx, tx, fingerprint); err != nil {
			return column, err
		}
	}
	p.registered = present
	if len(present) == 0 {
		return column, nil
	}
	encoded, err := json.Marshal(p.Certificates)
	return sql.NullString{String: string(encoded), Valid: true}, err
}

// claim is a refusal when the certificate is registered for another principal.
func (p *Principal) claim(ctx context.Context, tx *store.Tx, fingerprint fieldgate.CredentialHash) error {
	result, err := tx.ExecContext(ctx, "INSERT INTO principal_certificate (fingerprint, kind, id) VALUES (?, ?, ?) ON CONFLICT (fingerprint) DO NOTHING",
		fingerprint[:], p.Kind, p.ID)
	if err != nil {
		return err
	}
	if added, err := result.RowsAffected(); err != nil || added == 1 {
		return err
	}
	var kind fieldgate.PrincipalKind
	var id string
	err = tx.QueryRowContext(ctx, "SELECT kind, id FROM principal_certificate WHERE fingerprint = ?", fingerprint[:]).Scan(&kind, &id)
	if err != nil {
		return err
	}
	return refusal.Conflict("The certificate is registered for the %s %q already.", kind, id)
}
