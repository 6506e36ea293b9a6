package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"fieldgate/control/refusal"
)

const (
	minPasswordRunes = 12
	maxPasswordBytes = 1024

	saltBytes = 16
	keyBytes  = 32

	// Each computation takes its memory for about a tenth of a second: few at once, and few that wait.
	hashesAtOnce  = 2
	hashesWaiting = 16
)

// cost is what one computation of Argon2id takes (RFC 9106 section 3.1). Hashes carry theirs, so that it can be raised.
type cost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

var presentCost = cost{memory: 64 << 10, passes: 2, threads: 1}

// passwords computes and verifies hashes of passwords, a bounded number at once.
type passwords struct {
	cost     cost
	slots    chan struct{}
	waiting  chan struct{}
	computed atomic.Int64 // for tests: the same work for whoever asks
	nobody   string       // a hash of no password, verified in place of one that is not there
}

func newPasswords(c cost) *passwords {
	p := &passwords{cost: c, slots: make(chan struct{}, hashesAtOnce), waiting: make(chan struct{}, hashesAtOnce+hashesWaiting)}
	p.nobody = encodeHash(c, make([]byte, saltBytes), make([]byte, keyBytes))
	return p
}

// compute is the Argon2id key of a password.
func (p *passwords) compute(ctx context.Context, password string, salt []byte, c cost) ([]byte, error) {
	select {
	case p.waiting <- struct{}{}:
		defer func() { <-p.waiting }()
	default:
		return nil, &refusal.Error{Code: refusal.CodeOverloaded, Detail: "Too many people sign in at this moment: try again in a few seconds.", RetryAfter: 2 * time.Second}
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.computed.Add(1)
	return argon2.IDKey(norm.NFC.Bytes([]byte(password)), salt, c.passes, c.memory, c.threads, keyBytes), nil
}

// hash is a new hash of a password.
func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails
	key, err := p.compute(ctx, password, salt, p.cost)
	if err != nil {
		return "", err
	}
	return encodeHash(p.cost, salt, key), nil
}

// verify says whether a password has a hash, and whether that hash was made at a lower cost than is usual now. An empty hash
// has no password, and takes as long.
func (p *passwords) verify(ctx context.Context, hash, password string) (right, outdated bool, err error) {
	known := hash != ""
	if !known {
		hash = p.nobody
	}
	c, salt, want, err := decodeHash(hash)
	if err != nil {
		return false, false, err
	}
	key, err := p.compute(ctx, password, salt, c)
	if err != nil {
		return false, false, err
	}
	right = subtle.ConstantTimeCompare(key, want) == 1 && known
	return right, c.memory < p.cost.memory || c.passes < p.cost.passes, nil
}

// encodeHash writes the PHC string format (github.com/P-H-C/phc-string-format).
func encodeHash(c cost, salt, key []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

var errHash = errors.New("the stored hash of a password is damaged")

func decodeHash(hash string) (c cost, salt, key []byte, err error) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.threads); err != nil {
		return c, nil, nil, errHash
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	key, keyErr := base64.RawStdEncoding.DecodeString(parts[5])
	if errors.Join(saltErr, keyErr) != nil || len(salt) != saltBytes || len(key) != keyBytes ||
		c.memory < 8 || c.memory > 1<<20 || c.passes < 1 || c.passes > 64 || c.threads < 1 {
		return c, nil, nil, errHash
	}
	return c, salt, key, nil
}

// checkPassword refuses a password that is too easy to guess (NIST SP 800-63B section 3.1.1.2: length, not composition).
func checkPassword(name, password string) error {
	switch {
	case !utf8.ValidString(password):
		return refusal.Invalid("The password must be UTF-8 text.")
	case utf8.RuneCountInString(password) < minPasswordRunes:
		return refusal.Invalid("The password must have at least %d characters.", minPasswordRunes)
	case len(password) > maxPasswordBytes:
		return refusal.Invalid("The password must have at most %d bytes.", maxPasswordBytes)
	case strings.EqualFold(strings.TrimSpace(password), name):
		return refusal.Invalid("The password must not be the name.")
	}
	return nil
}
