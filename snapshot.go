package fieldgate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Snapshot is all that decides about traffic except who exists: the compiled contracts that are served or have to be
// answered for (retired ones). It is immutable; a change is a new Snapshot with a higher version.
type Snapshot struct {
	Version   uint64
	Contracts []*Contract
}

// SnapshotManifest names the parts of a Snapshot by content, so that a gateway fetches only what it lacks.
type SnapshotManifest struct {
	Version   uint64   `json:"version"`
	Contracts []string `json:"contracts"` // keys of encoded contracts, as ContractKey makes them
}

// MaxEncodedContract bounds one encoded contract on the wire and on disk, in bytes.
const MaxEncodedContract = 4 * MaxDocumentBytes

// EncodeContract is the wire and disk form of a contract, and its key: the SHA-256 of that form in hexadecimal.
func EncodeContract(c *Contract) (key string, encoded []byte, err error) {
	encoded, err = json.Marshal(c)
	if err != nil {
		return "", nil, fmt.Errorf("encode contract %s %s: %w", c.API, c.Version, err)
	}
	if len(encoded) > MaxEncodedContract {
		return "", nil, fmt.Errorf("contract %s %s is %d bytes when compiled, more than the %d that a gateway accepts", c.API, c.Version, len(encoded), MaxEncodedContract)
	}
	return ContractKey(encoded), encoded, nil
}

// ContractKey is the key of an encoded contract.
func ContractKey(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:])
}

// DecodeContract reads what EncodeContract wrote and checks it against its key.
func DecodeContract(key string, encoded []byte) (*Contract, error) {
	if ContractKey(encoded) != key {
		return nil, fmt.Errorf("contract %.12s is corrupt: its content does not match its key", key)
	}
	var c Contract
	if err := json.Unmarshal(encoded, &c); err != nil {
		return nil, fmt.Errorf("contract %.12s: %w", key, err)
	}
	return &c, nil
}

// snapshotMagic starts the disk form of a Snapshot; the digit is the version of the form.
const snapshotMagic = "fieldgate-snapshot-1\n"

// ErrCorrupt marks a file that is not what was written: truncated, altered or of another program.
var ErrCorrupt = errors.New("the file is corrupt")

// EncodeSnapshot is the disk form: magic, SHA-256 of the rest, the rest as JSON.
func EncodeSnapshot(s *Snapshot) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot %d: %w", s.Version, err)
	}
	sum := sha256.Sum256(body)
	out := make([]byte, 0, len(snapshotMagic)+len(sum)+len(body))
	out = append(out, snapshotMagic...)
	out = append(out, sum[:]...)
	return append(out, body...), nil
}

// DecodeSnapshot reads what EncodeSnapshot wrote; anything else is ErrCorrupt.
func DecodeSnapshot(encoded []byte) (*Snapshot, error) {
	body, ok := bytes.CutPrefix(encoded, []byte(snapshotMagic))
	if !ok || len(body) < sha256.Size {
		return nil, ErrCorrupt
	}
	sum, body := body[:sha256.Size], body[sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, ErrCorrupt
	}
	var s Snapshot
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCorrupt, err)
	}
	return &s, nil
}
