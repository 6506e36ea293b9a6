package catalog

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/engine/store"
)

// live keeps the routes of the contracts that are served from one decision to the next, so that a decision decodes what is new to
// this node and not everything. What counts is the rows of the transaction: each contract goes by its content, so that
// decisions of other nodes, transactions that were rolled back and a database that was restored are noticed.
type live struct {
	mu     sync.Mutex
	known  contract.Routes
	served map[versionKey]*served // the contracts in known

	list     []Served // what Served has said last
	snapshot uint64   // that it was said of; 0: of none
}

type versionKey struct{ api, version string }

type served struct {
	content string // or unstored
	Served
}

// unstored is the content of a contract that is planned, and so of none that a database has.
const unstored = ""

// Served is what is known of a contract that is served without decoding it.
type Served struct {
	API, Version string
	Kind         fieldgate.ContractKind
	State        fieldgate.Lifecycle
	Sunset       string   // date, RFC 3339; may be empty
	Open         []string // operations that need no credential; a pass-through API has none
	Upstreams    []string // that its operations name
}

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
	contents, err := servedContents(ctx, tx)
	if err != nil {
		return err
	}
	if l.served == nil {
		l.served = make(map[versionKey]*served, len(contents))
	}
	for key := range l.served {
		if _, still := contents[key]; !still {
			l.remove(key)
		}
	}
	for key, content := range contents {
		if known := l.served[key]; known != nil && known.content == content {
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
	s := &served{content, Served{API: k.API, Version: k.Version, Kind: k.Kind, State: k.State, Sunset: k.Sunset}}
	for i := range k.Operations {
		o := &k.Operations[i]
		if o.Access.Anonymous && !o.PassThrough {
			s.Open = append(s.Open, o.ID)
		}
	}
	s.Upstreams = Upstreams(k)
	l.served[versionKey{k.API, k.Version}] = s
}

// Upstreams are those that the operations of a contract name, each once.
func Upstreams(k *fieldgate.Contract) (names []string) {
	seen := make(map[string]bool)
	for i := range k.Operations {
		if name := k.Operations[i].Upstream; name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// stored notes what a planned contract is in the database, if it is served.
func (l *live) stored(k *fieldgate.Contract, content string) {
	if planned := l.served[versionKey{k.API, k.Version}]; planned != nil {
		planned.content = content
	}
}

func (l *live) remove(key versionKey) {
	l.known.Remove(key.api, key.version)
	delete(l.served, key)
}

// Served lists the contracts that are served, by name and version. It looks at the rows once for each snapshot, because where
// contracts are large that takes the database a while.
func (c *Catalog) Served(ctx context.Context) (list []Served, err error) {
	l := &c.live
	err = c.store.View(ctx, func(tx *store.Tx) error {
		snapshot, err := tx.Counter(ctx, "snapshot")
		if err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if snapshot != l.snapshot {
			if err := l.follow(ctx, tx); err != nil {
				return err
			}
			l.list, l.snapshot = nil, snapshot
			for _, s := range l.served {
				l.list = append(l.list, s.Served)
			}
			slices.SortFunc(l.list, func(a, b Served) int {
				return cmp.Or(cmp.Compare(a.API, b.API), cmp.Compare(a.Version, b.Version))
			})
		}
		list = slices.Clone(l.list)
		return nil
	})
	return list, err
}

// servedContents are the contents of the contracts that are served.
func servedContents(ctx context.Context, tx *store.Tx) (map[versionKey]string, error) {
	rows, err := tx.QueryContext(ctx, "SELECT api, version, content FROM contract WHERE state IN ('active', 'deprecated')")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	contents := make(map[versionKey]string)
	for rows.Next() {
		var key versionKey
		var content string
		if err := rows.Scan(&key.api, &key.version, &content); err != nil {
			return nil, err
		}
		contents[key] = content
	}
	return contents, rows.Err()
}
