package catalog

import (
	"context"
	"sync"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/engine/store"
)

// live keeps the routes of the contracts that are served from one decision to the next, so that a decision decodes what is new to
// this node and not everything. What counts is the rows of the transaction: each contract goes by its content, so that
// decisions of other nodes, transactions that were rolled back and a database that was restored are noticed.
type live struct {
	mu       sync.Mutex
	known    contract.Routes
	contents map[versionKey]string // of the contracts in known
}

type versionKey struct{ api, version string }

// routes are those that a transaction sees, until release.
func (l *live) routes(ctx context.Context, tx *store.Tx) (routes *contract.Routes, release func(), err error) {
	l.mu.Lock()
	if err := l.follow(ctx, tx); err != nil {
		l.mu.Unlock()
		return nil, nil, err
	}
	return &l.known, l.mu.Unlock, nil
}

func (l *live) follow(ctx context.Context, tx *store.Tx) error {
	served, err := servedContents(ctx, tx)
	if err != nil {
		return err
	}
	if l.contents == nil {
		l.contents = make(map[versionKey]string, len(served))
	}
	for key := range l.contents {
		if _, still := served[key]; !still {
			l.remove(key)
		}
	}
	for key, content := range served {
		if l.contents[key] == content {
			continue
		}
		k, err := readContract(ctx, tx, key.api, key.version)
		if err != nil {
			return err
		}
		l.add(k, content)
	}
	return nil
}

func (l *live) add(k *fieldgate.Contract, content string) {
	l.known.Add(k)
	l.contents[versionKey{k.API, k.Version}] = content
}

func (l *live) remove(key versionKey) {
	l.known.Remove(key.api, key.version)
	delete(l.contents, key)
}

// servedContents are the contents of the contracts that are served.
func servedContents(ctx context.Context, tx *store.Tx) (map[versionKey]string, error) {
	rows, err := tx.QueryContext(ctx, "SELECT api, version, content FROM contract WHERE state IN ('active', 'deprecated')")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	served := make(map[versionKey]string)
	for rows.Next() {
		var key versionKey
		var content string
		if err := rows.Scan(&key.api, &key.version, &content); err != nil {
			return nil, err
		}
		served[key] = content
	}
	return served, rows.Err()
}
