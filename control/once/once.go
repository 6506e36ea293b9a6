// Package once lets a request that makes something be sent again without making it twice: the answer to the first is kept,
// in the transaction that decides, under the Idempotency-Key that its sender chose
// (draft-ietf-httpapi-idempotency-key-header).
//
// A crash before that transaction has committed leaves nothing, so that the request can be sent again; a crash after it leaves
// the answer. An answer may hold a token that is shown only once: it is encrypted by a key derived from the Idempotency-Key,
// of which only a hash is kept, so that the database alone gives no token away.
package once

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"fieldgate/control/audit"
	"fieldgate/control/refusal"
	"fieldgate/engine/store"
)

const (
	// Lifetime is how long an answer is kept.
	Lifetime = 24 * time.Hour

	minKeyBytes = 16
	maxKeyBytes = 128
)

// Requests knows which requests are under way on this node.
type Requests struct {
	mu       sync.Mutex
	underWay map[[sha256.Size]byte]bool
}

// NewRequests knows of none.
func NewRequests() *Requests { return &Requests{underWay: make(map[[sha256.Size]byte]bool)} }

// request is what the context of a request with a key carries.
type request struct {
	id     [sha256.Size]byte // of the row
	digest [sha256.Size]byte // of what is asked
	secret []byte            // by which the answer is encrypted
}

type requestKey struct{}

// Begin is the context of a request that carries a key, and end what has to be called when it is answered. operation and body
// are what is asked. A key that is in use is a refusal; without a key there is nothing to do.
func (r *Requests) Begin(ctx context.Context, key, operation string, body any) (_ context.Context, end func(), err error) {
	if key == "" {
		return ctx, func() {}, nil
	}
	if len(key) < minKeyBytes || len(key) > maxKeyBytes || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return nil, nil, refusal.Invalid("An Idempotency-Key has %d to %d visible ASCII characters that only its sender knows.", minKeyBytes, maxKeyBytes)
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, nil, err
	}
	actor, _ := audit.ActorOf(ctx)
	asked := &request{}
	if asked.secret, err = hkdf.Key(sha256.New, []byte(key), []byte(actor.Name), "fieldgate answer", 32); err != nil {
		return nil, nil, err
	}
	id, err := hkdf.Key(sha256.New, []byte(key), []byte(actor.Name), "fieldgate request", sha256.Size)
	if err != nil {
		return nil, nil, err
	}
	copy(asked.id[:], id)
	digest := hmac.New(sha256.New, asked.secret) // not a plain hash: a key or password in the body could be guessed by it
	fmt.Fprintf(digest, "%s\n%s", operation, encoded)
	digest.Sum(asked.digest[:0])
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.underWay[asked.id] {
		return nil, nil, refusal.InProgress("The first request with this Idempotency-Key is under way: wait a moment and send it again.")
	}
	r.underWay[asked.id] = true
	return context.WithValue(ctx, requestKey{}, asked), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.underWay, asked.id)
	}, nil
}

// Do calls decide, which fills answer, a pointer to a value that encodes to JSON and back. If the request has a key and was
// carried out before, it fills answer with that of the first time instead. It belongs into the transaction of the decision.
func Do(ctx context.Context, tx *store.Tx, answer any, decide func() error) error {
	asked, keyed := ctx.Value(requestKey{}).(*request)
	if !keyed {
		return decide()
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM request WHERE made < ?", tx.Now.Add(-Lifetime).UnixMilli()); err != nil {
		return err
	}
	var digest, sealed []byte
	err := tx.QueryRowContext(ctx, "SELECT digest, answer FROM request WHERE id = ?", asked.id[:]).Scan(&digest, &sealed)
	switch {
	case err == nil && !bytes.Equal(digest, asked.digest[:]):
		return refusal.ReusedKey("The Idempotency-Key was used for another request: choose a new one for each request.")
	case err == nil:
		return asked.open(sealed, answer)
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	if err := decide(); err != nil {
		return err
	}
	if sealed, err = asked.seal(answer); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO request (id, digest, answer, made) VALUES (?, ?, ?, ?)", asked.id[:], asked.digest[:], sealed, tx.Now.UnixMilli())
	return err
}

func (r *request) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(r.secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (r *request) seal(answer any) ([]byte, error) {
	encoded, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	aead, err := r.aead()
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, encoded, r.id[:]), nil
}

func (r *request) open(sealed []byte, answer any) error {
	aead, err := r.aead()
	if err != nil {
		return err
	}
	encoded, err := aead.Open(nil, nil, sealed, r.id[:])
	if err != nil {
		return fmt.Errorf("the answer that was kept for an Idempotency-Key: %w", err)
	}
	return json.Unmarshal(encoded, answer)
}
