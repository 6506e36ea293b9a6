package directory

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"fieldgate"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

// Principal is a device or an app as the control plane knows it.
type Principal struct {
	Kind         fieldgate.PrincipalKind
	ID           string
	State        fieldgate.PrincipalState
	Name         string // apps: for people
	Model        string // devices
	Firmware     string // devices
	Scopes       []string
	Credentials  []fieldgate.CredentialHash // oldest first, at most fieldgate.MaxCredentials
	Verifiers    []fieldgate.ScramVerifier  // one for each of Credentials, or none at all
	PSK          *fieldgate.SealedPSK       // devices; nil: none
	OSCORE       *fieldgate.SealedOSCORE    // devices; nil: none
	Certificates []Certificate              // devices; oldest first, at most fieldgate.MaxCertificates
	Sequence     uint64                     // of the newest change
	Created      time.Time
	Updated      time.Time

	registered []fieldgate.CredentialHash // fingerprints of the certificates that are in the database
}

// Facts is what the audit keeps of a principal before and after a decision.
type Facts struct {
	State       string   `json:"state"`
	Name        string   `json:"name,omitempty"`
	Model       string   `json:"model,omitempty"`
	Firmware    string   `json:"firmware,omitempty"`
	Scopes      []string `json:"scopes,omitempty"`
	Credentials []string `json:"credentials"` // the first digits of each one's hash, which tell them apart

	PSKIdentity  string   `json:"pskIdentity,omitempty"`
	PSK          string   `json:"psk,omitempty"`          // the first digits of its hash, which tell one from the next
	OSCOREName   string   `json:"oscoreName,omitempty"`   // sender id and id context, in hexadecimal
	OSCORE       string   `json:"oscore,omitempty"`       // the first digits of its hash
	Certificates []string `json:"certificates,omitempty"` // fingerprints
}

// Facts is the present value of a principal for the audit.
func (p *Principal) Facts() Facts {
	facts := Facts{State: p.State.String(), Name: p.Name, Model: p.Model, Firmware: p.Firmware, Scopes: p.Scopes, Credentials: []string{}}
	for _, hash := range p.Credentials {
		facts.Credentials = append(facts.Credentials, hex.EncodeToString(hash[:4]))
	}
	if p.PSK != nil {
		hash := p.PSK.Hash()
		facts.PSKIdentity, facts.PSK = p.PSK.Identity, hex.EncodeToString(hash[:4])
	}
	if p.OSCORE != nil {
		hash := p.OSCORE.Hash()
		facts.OSCOREName, facts.OSCORE = oscoreName(p.OSCORE), hex.EncodeToString(hash[:4])
	}
	for _, fingerprint := range p.fingerprints() {
		facts.Certificates = append(facts.Certificates, hex.EncodeToString(fingerprint[:]))
	}
	return facts
}

const columns = "kind, id, sequence, state, name, model, firmware, scopes, credentials, verifiers, psk_identity, psk, certificates, oscore, created, updated"

func scan(row interface{ Scan(...any) error }) (*Principal, error) {
	var p Principal
	var scopes string
	var credentials, verifiers, psk []byte
	var identity, certificates, oscore sql.NullString
	var created, updated int64
	err := row.Scan(&p.Kind, &p.ID, &p.Sequence, &p.State, &p.Name, &p.Model, &p.Firmware, &scopes, &credentials, &verifiers,
		&identity, &psk, &certificates, &oscore, &created, &updated)
	if err != nil {
		return nil, err
	}
	if identity.Valid {
		p.PSK = &fieldgate.SealedPSK{Identity: identity.String, Sealed: psk}
	}
	if err := p.readCertificates(certificates); err != nil {
		return nil, err
	}
	if err := p.readOSCORE(oscore); err != nil {
		return nil, err
	}
	p.Scopes = strings.Fields(scopes)
	p.Created, p.Updated = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	for len(credentials) > 0 {
		var hash fieldgate.CredentialHash
		if len(credentials) < len(hash) {
			return nil, fmt.Errorf("%s %s: credentials are cut", p.Kind, p.ID)
		}
		credentials = credentials[copy(hash[:], credentials):]
		p.Credentials = append(p.Credentials, hash)
	}
	if len(verifiers) == 0 {
		return &p, nil
	}
	p.Verifiers = make([]fieldgate.ScramVerifier, len(p.Credentials))
	if len(verifiers) != len(p.Verifiers)*len(fieldgate.ScramVerifier{}) {
		return nil, fmt.Errorf("%s %s: there are not as many verifiers as credentials", p.Kind, p.ID)
	}
	for i := range p.Verifiers {
		verifiers = verifiers[copy(p.Verifiers[i][:], verifiers):]
	}
	return &p, nil
}

// Find reads one principal; it is a refusal when there is none.
func Find(ctx context.Context, tx *store.Tx, kind fieldgate.PrincipalKind, id string) (*Principal, error) {
	p, err := scan(tx.QueryRowContext(ctx, "SELECT "+columns+" FROM principal WHERE kind = ? AND id = ?", kind, id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, refusal.NotFound("There is no %s %q.", kind, id)
	}
	return p, err
}

// Basis is what a decision about a principal is made on.
type Basis struct {
	Version uint64 // the state that it is made for: a principal's Sequence; 0: whichever there is
	Reason  string // for the audit
}

// Check refuses a decision that was made for another state, or with a reason that cannot be kept.
func (b Basis) Check(p *Principal) error {
	if b.Version != 0 && b.Version != p.Sequence {
		return refusal.Changed("Somebody else has changed the %s %q meanwhile: look at it again, then decide.", p.Kind, p.ID)
	}
	if len(b.Reason) > maxReasonBytes || !isText(b.Reason) {
		return refusal.Invalid("The reason has at most %d bytes of text without control characters.", maxReasonBytes)
	}
	return nil
}

const maxReasonBytes = 256

// Insert adds a principal without certificates as the newest change; it is a refusal when there is one of that kind and id.
func Insert(ctx context.Context, tx *store.Tx, p *Principal) error {
	// Asked first, because an import goes on after a refusal: the sequence must not be taken then.
	var taken bool
	if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM principal WHERE kind = ? AND id = ?)", p.Kind, p.ID).Scan(&taken); err != nil {
		return err
	}
	if taken {
		return refusal.Conflict("There is a %s %q already.", p.Kind, p.ID)
	}
	if err := checkIdentity(ctx, tx, p); err != nil {
		return err
	}
	if err := checkOSCORE(ctx, tx, p); err != nil {
		return err
	}
	if err := stamp(ctx, tx, p); err != nil {
		return err
	}
	p.Created = p.Updated
	identity, psk := p.pskColumns()
	name, oscore, err := p.oscoreColumns()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO principal ("+columns+", oscore_name) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		p.Kind, p.ID, int64(p.Sequence), p.State, p.Name, p.Model, p.Firmware, strings.Join(p.Scopes, " "), hashes(p), verifiers(p),
		identity, psk, nil, oscore, p.Created.UnixMilli(), p.Updated.UnixMilli(), name)
	return err
}

// Save stores the new value of a principal that was found in this transaction, as the newest change.
func Save(ctx context.Context, tx *store.Tx, p *Principal) error {
	if err := checkIdentity(ctx, tx, p); err != nil {
		return err
	}
	if err := checkOSCORE(ctx, tx, p); err != nil {
		return err
	}
	certificates, err := p.saveCertificates(ctx, tx)
	if err != nil {
		return err
	}
	if err := stamp(ctx, tx, p); err != nil {
		return err
	}
	identity, psk := p.pskColumns()
	name, oscore, err := p.oscoreColumns()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE principal SET sequence = ?, state = ?, name = ?, model = ?, firmware = ?, scopes = ?, credentials = ?, verifiers = ?,
		psk_identity = ?, psk = ?, certificates = ?, oscore_name = ?, oscore = ?, updated = ? WHERE kind = ? AND id = ?`,
		int64(p.Sequence), p.State, p.Name, p.Model, p.Firmware, strings.Join(p.Scopes, " "), hashes(p), verifiers(p),
		identity, psk, certificates, name, oscore, p.Updated.UnixMilli(), p.Kind, p.ID)
	return err
}

func stamp(ctx context.Context, tx *store.Tx, p *Principal) (err error) {
	p.Updated = tx.Now.Truncate(time.Millisecond)
	p.Sequence, err = tx.Next(ctx, "directory")
	return err
}

func hashes(p *Principal) []byte {
	joined := make([]byte, 0, len(p.Credentials)*len(fieldgate.CredentialHash{}))
	for _, hash := range p.Credentials {
		joined = append(joined, hash[:]...)
	}
	return joined
}

// verifiers is nil where no token has one, so that the row says NULL.
func verifiers(p *Principal) []byte {
	var joined []byte
	for i := range p.Verifiers {
		joined = append(joined, p.Verifiers[i][:]...)
	}
	return joined
}

// DropCredentials takes everything from a principal that it could prove itself by.
func (p *Principal) DropCredentials() {
	p.Credentials, p.Verifiers, p.PSK, p.Certificates, p.OSCORE = nil, nil, nil, nil, nil
}

// Count is how many principals of a kind there are.
func Count(ctx context.Context, tx *store.Tx, kind fieldgate.PrincipalKind) (n int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM principal WHERE kind = ?", kind).Scan(&n)
	return n, err
}

// Issued is a principal with a token that is shown only once.
type Issued struct {
	Principal *Principal
	Token     string
}

// Issue makes a token for a principal and adds its hash and its SCRAM verifier; the older ones are dropped unless they are kept.
func Issue(p *Principal, prefix string, keep bool) (token string, err error) {
	if keep && len(p.Credentials) >= fieldgate.MaxCredentials {
		return "", refusal.Conflict("The %s %q has %d valid tokens, which is the most: issue one without keeping the older ones.",
			p.Kind, p.ID, len(p.Credentials))
	}
	if !keep {
		p.Credentials, p.Verifiers = nil, nil
	}
	older := len(p.Credentials)
	if token, err = IssueMany(p, prefix); err != nil {
		return "", err
	}
	verifiers := make([]fieldgate.ScramVerifier, older+1)
	copy(verifiers, p.Verifiers)
	verifiers[older], err = fieldgate.NewScramVerifier(p.ID, token)
	p.Verifiers = verifiers
	return token, err
}

// IssueMany adds a token without a verifier to a principal that has none: for imports, since making a verifier takes a millisecond.
func IssueMany(p *Principal, prefix string) (token string, err error) {
	if token, err = fieldgate.NewToken(prefix); err == nil {
		p.Credentials = append(p.Credentials, fieldgate.HashToken([]byte(token)))
	}
	return token, err
}

// CheckID refuses an id that cannot stand in paths and topics.
func CheckID(kind fieldgate.PrincipalKind, id string) error {
	if !fieldgate.ValidIdentifier(id) {
		return refusal.Invalid("%.140q cannot be the id of a %s: use 1 to %d letters, digits and . _ - :", id, kind, fieldgate.MaxIdentifierBytes)
	}
	return nil
}

// MaxTextBytes bounds names, models and versions.
const MaxTextBytes = 128

// CheckText refuses a text that is too long or holds control characters.
func CheckText(name, text string) error {
	if len(text) > MaxTextBytes || !isText(text) {
		return refusal.Invalid("The %s must be at most %d bytes of text without control characters.", name, MaxTextBytes)
	}
	return nil
}

func isText(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}
