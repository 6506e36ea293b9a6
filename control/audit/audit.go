// Package audit keeps who decided what: one row in the same transaction as each decision, so that neither is there without
// the other, with what was before and after it; and it feeds new rows to those who watch, on every control node.
package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// Self is the name of the program, where nobody else decided.
const Self = "fieldgate"

// Actor is who decides. The context of a decision carries it.
type Actor struct {
	Name    string // of an operator's account, or one of a few reserved ones
	Via     string // how the operator is known, such as "session 3KXF…" or "token deploy"
	Source  string // address of the client; "socket" for the socket file
	Request string // id of the request, which its answer carries too
}

type actorKey struct{}

// As is a context in which actor decides.
func As(ctx context.Context, actor Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// ActorOf is who decides in a context.
func ActorOf(ctx context.Context) (actor Actor, known bool) {
	actor, known = ctx.Value(actorKey{}).(Actor)
	return actor, known
}

var errNobody = errors.New("a decision without an actor in its context")

// Change is what a decision does. Before and After are values that encode to JSON objects without secrets, nil where there
// is nothing: only their fields that differ are kept.
type Change struct {
	Action        string // noun.verb, such as device.revoke
	Target        string
	Detail        string
	Before, After any
}

// Entry is one decision as it is kept. Before and After are JSON objects, or nil.
type Entry struct {
	ID            uint64
	Time          time.Time
	Actor         Actor
	Action        string
	Target        string
	Detail        string
	Before, After json.RawMessage
}

const columns = "id, time, actor, via, source, request, action, target, detail, was, became"

// Write adds a decision to the transaction that carries it out.
func Write(ctx context.Context, tx *store.Tx, change Change) error {
	actor, known := ActorOf(ctx)
	if !known {
		return fmt.Errorf("%s: %w", change.Action, errNobody)
	}
	was, became, err := difference(change.Before, change.After)
	if err != nil {
		return fmt.Errorf("audit %s: %w", change.Action, err)
	}
	id, err := tx.Next(ctx, "audit")
	if err != nil {
		return err
	}
	noun, _, _ := strings.Cut(change.Action, ".")
	_, err = tx.ExecContext(ctx, "INSERT INTO audit (noun, "+columns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		noun, int64(id), tx.Now.UnixMilli(), actor.Name, actor.Via, actor.Source, actor.Request,
		change.Action, change.Target, change.Detail, was, became)
	return err
}

// maxFields bounds what is kept of before and of after, in bytes.
const maxFields = 16 << 10

// difference encodes the fields of two values that are not the same in both.
func difference(before, after any) (was, became string, err error) {
	old, err := fields(before)
	if err != nil {
		return "", "", err
	}
	current, err := fields(after)
	if err != nil {
		return "", "", err
	}
	for name, value := range old {
		if bytes.Equal(value, current[name]) {
			delete(old, name)
			delete(current, name)
		}
	}
	return encode(old), encode(current), nil
}

func fields(value any) (map[string]json.RawMessage, error) {
	if value == nil {
		return nil, nil
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var decoded map[string]json.RawMessage
	return decoded, json.Unmarshal(encoded, &decoded)
}

// encode leaves out fields that would make the object too large, and names how large they were.
func encode(values map[string]json.RawMessage) string {
	if len(values) == 0 {
		return ""
	}
	encoded, err := json.Marshal(values)
	if err != nil {
		panic(err) // it was encoded and decoded before
	}
	if len(encoded) > maxFields {
		return fmt.Sprintf(`{"omittedBytes":%d}`, len(encoded))
	}
	return string(encoded)
}

// Nudge tells the feeds of all control nodes, after a commit, that there are new rows. One that is lost only costs time:
// they look on their own, too.
func Nudge(b *bus.Bus, log *slog.Logger) {
	if err := b.Publish(fieldgate.SubjectAuditChanged, nil); err != nil {
		log.Warn("control nodes were not told of a decision", "error", err)
	}
}
