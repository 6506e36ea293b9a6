package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/control/filter"
	"fieldgate/control/refusal"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// Version is one version of an API as lists show it.
type Version struct {
	API        string
	Version    string
	Title      string
	Kind       fieldgate.ContractKind
	State      fieldgate.Lifecycle
	Digest     string
	Operations int
	Sunset     string
	Successor  string
	Owner      string   // the contact that the document names
	Protocols  []string // by which it can be called
	Change     uint64   // version of the snapshot with its newest change
	Published  time.Time
}

// A list takes the compiled form, which may be megabytes, only of the versions whose end it tells.
const versionColumns = "api, version, title, kind, state, digest, operations, CASE state WHEN 'deprecated' THEN compiled END, owner, protocols, change, created"

func scanVersion(row interface{ Scan(...any) error }) (*Version, error) {
	var v Version
	var compiled []byte
	var protocols string
	var created int64
	if err := row.Scan(&v.API, &v.Version, &v.Title, &v.Kind, &v.State, &v.Digest, &v.Operations, &compiled, &v.Owner, &protocols, &v.Change, &created); err != nil {
		return nil, err
	}
	v.Published, v.Protocols = time.UnixMilli(created).UTC(), strings.Fields(strings.Trim(protocols, "-"))
	var ending struct{ Sunset, Successor string }
	if v.State == fieldgate.LifecycleDeprecated {
		if err := json.Unmarshal(compiled, &ending); err != nil {
			return nil, fmt.Errorf("contract %s %s: %w", v.API, v.Version, err)
		}
	}
	v.Sunset, v.Successor = ending.Sunset, ending.Successor
	return &v, nil
}

func errNoVersion(api, version string) error {
	return refusal.NotFound("There is no version %q of an API %q.", version, api)
}

func readVersion(ctx context.Context, tx *store.Tx, api, version string) (*Version, error) {
	v, err := scanVersion(tx.QueryRowContext(ctx, "SELECT "+versionColumns+" FROM contract WHERE api = ? AND version = ?", api, version))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNoVersion(api, version)
	}
	return v, err
}

// checkChange refuses a decision that was made for another state of an API than its present one; 0 stands for any.
func checkChange(ctx context.Context, tx *store.Tx, api string, match uint64) error {
	if match == 0 {
		return nil
	}
	var newest int64
	if err := tx.QueryRowContext(ctx, "SELECT CAST(COALESCE(MAX(change), 0) AS BIGINT) FROM contract WHERE api = ?", api).Scan(&newest); err != nil {
		return err
	}
	if uint64(newest) != match {
		return refusal.Changed("Somebody else has changed the API %q meanwhile: look at it again, then decide.", api)
	}
	return nil
}

// versionsOf lists the versions of an API, newest publication first.
func versionsOf(ctx context.Context, tx *store.Tx, api string) (versions []*Version, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT "+versionColumns+" FROM contract WHERE api = ? ORDER BY published DESC", api)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		v, err := scanVersion(rows)
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, rows.Err()
}

func readContract(ctx context.Context, tx *store.Tx, api, version string) (*fieldgate.Contract, error) {
	content, compiled, err := readEncoded(ctx, tx, api, version)
	if err != nil {
		return nil, err
	}
	return fieldgate.DecodeContract(content, compiled)
}

func readEncoded(ctx context.Context, tx *store.Tx, api, version string) (content string, compiled []byte, err error) {
	err = tx.QueryRowContext(ctx, "SELECT content, compiled FROM contract WHERE api = ? AND version = ?", api, version).Scan(&content, &compiled)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoVersion(api, version)
	}
	return content, compiled, err
}

// insertContract stores a version, or replaces its content, and gives the key of that. published orders the versions of an API.
func insertContract(ctx context.Context, tx *store.Tx, k *fieldgate.Contract, document []byte, said Description, published, snapshot uint64) (content string, err error) {
	content, compiled, err := fieldgate.EncodeContract(k)
	if err != nil {
		return "", err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO contract (api, version, change, title, kind, state, digest, operations, owner, description, protocols, document, compiled, content, form, published, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (api, version) DO UPDATE SET change = excluded.change, title = excluded.title, kind = excluded.kind,
			state = excluded.state, digest = excluded.digest, operations = excluded.operations, owner = excluded.owner,
			description = excluded.description, protocols = excluded.protocols, document = excluded.document,
			compiled = excluded.compiled, content = excluded.content, form = excluded.form, published = excluded.published, created = excluded.created`,
		k.API, k.Version, int64(snapshot), k.Title, k.Kind, k.State, k.Digest, len(k.Operations), said.Owner, said.Text, protocolsOf(k), document, compiled, content, contract.Form, int64(published), tx.Now.UnixMilli())
	return content, err
}

// updateContract stores a new state of a version, and gives the key of its content.
func updateContract(ctx context.Context, tx *store.Tx, k *fieldgate.Contract, snapshot uint64) (content string, err error) {
	content, compiled, err := fieldgate.EncodeContract(k)
	if err != nil {
		return "", err
	}
	_, err = tx.ExecContext(ctx, "UPDATE contract SET change = ?, state = ?, compiled = ?, content = ? WHERE api = ? AND version = ?",
		int64(snapshot), k.State, compiled, content, k.API, k.Version)
	return content, err
}

// manifest names the parts of the snapshot: what is served, and what has to be answered for because it is retired.
func (c *Catalog) manifest(ctx context.Context) (*fieldgate.SnapshotManifest, error) {
	manifest := &fieldgate.SnapshotManifest{Contracts: []string{}}
	err := c.store.View(ctx, func(tx *store.Tx) (err error) {
		if manifest.Version, err = tx.Counter(ctx, "snapshot"); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, "SELECT content FROM contract WHERE state <> 'superseded' ORDER BY api, published")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var content string
			if err := rows.Scan(&content); err != nil {
				return err
			}
			manifest.Contracts = append(manifest.Contracts, content)
		}
		return rows.Err()
	})
	return manifest, err
}

// contracts is the answer to a gateway that asks for a part of a contract, and for others.
func (c *Catalog) contracts(ctx context.Context, asked *fieldgate.ContractRequest) (answer bus.Answer, err error) {
	err = c.store.View(ctx, func(tx *store.Tx) error {
		part, total, err := readPart(ctx, tx, asked.Key, asked.Offset, fieldgate.ContractPart)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("there is no contract %.12q any more: ask for the manifest again", asked.Key)
		}
		if err != nil {
			return err
		}
		answer = bus.Answer{Data: part, Header: map[string]string{fieldgate.HeaderTotal: strconv.Itoa(total)}}
		if asked.Offset+len(part) != total {
			return nil
		}
		var sizes []string
		for _, key := range asked.More {
			room := fieldgate.ContractPart - len(answer.Data)
			whole, total, err := readPart(ctx, tx, key, 0, room)
			if errors.Is(err, sql.ErrNoRows) || err == nil && len(whole) != total {
				break // it is asked for by itself, and told why not
			}
			if err != nil {
				return err
			}
			answer.Data = append(answer.Data, whole...)
			sizes = append(sizes, strconv.Itoa(total))
		}
		if sizes != nil {
			answer.Header[fieldgate.HeaderMore] = strings.Join(sizes, " ")
		}
		return nil
	})
	return answer, err
}

// readPart is a part of an encoded contract, from an offset on, and the size of the whole.
func readPart(ctx context.Context, tx *store.Tx, content string, offset, length int) (part []byte, total int, err error) {
	err = tx.QueryRowContext(ctx, "SELECT SUBSTR(compiled, ?, ?), LENGTH(compiled) FROM contract WHERE content = ?", offset+1, length, content).Scan(&part, &total)
	return part, total, err
}

// Keys are what the list of APIs is filtered by.
var Keys = []filter.Key{
	{Name: "state", Values: []string{string(fieldgate.LifecycleActive), string(fieldgate.LifecycleDeprecated), string(fieldgate.LifecycleRetired), string(fieldgate.LifecycleSuperseded)}},
	{Name: "kind", Values: []string{string(fieldgate.KindOpenAPI), string(fieldgate.KindAsyncAPI), string(fieldgate.KindPassThrough)}},
	{Name: "protocol", Values: protocolNames()}, {Name: "owner"},
}

var keyColumns = map[string]filter.Column{"state": {Name: "state"}, "kind": {Name: "kind"}, "protocol": {Name: "protocols", List: true}, "owner": {Name: "owner"}}

// Filter selects APIs; empty members select all.
type Filter struct {
	Terms filter.Filter // with Keys; words search in name and title
	After string        // the name that the page follows
	Limit int
}

// API is an API as lists show it, with its newest version.
type API struct {
	Version
	Versions int
}

// List is one page of APIs in the order of their names.
func (c *Catalog) List(ctx context.Context, wanted Filter) (page []*API, err error) {
	query := "SELECT " + versionColumns + `, (SELECT COUNT(*) FROM contract AS all_versions WHERE all_versions.api = newest.api)
		FROM contract AS newest
		WHERE api > ? AND published = (SELECT MAX(published) FROM contract AS other WHERE other.api = newest.api)`
	values := []any{wanted.After}
	if conditions, more := wanted.Terms.Where(keyColumns, "api", "title"); conditions != "" {
		query += " AND " + conditions
		values = append(values, more...)
	}
	query += " ORDER BY api LIMIT ?"
	values = append(values, wanted.Limit)
	err = c.store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.QueryContext(ctx, query, values...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var versions int
			v, err := scanVersion(scanner(func(columns ...any) error { return rows.Scan(append(columns, &versions)...) }))
			if err != nil {
				return err
			}
			page = append(page, &API{Version: *v, Versions: versions})
		}
		return rows.Err()
	})
	return page, err
}

type scanner func(...any) error

func (s scanner) Scan(columns ...any) error { return s(columns...) }

// Get lists the versions of an API, newest first, and its contracts that are served; description is that of the newest one.
func (c *Catalog) Get(ctx context.Context, api string) (versions []*Version, served []*fieldgate.Contract, description string, err error) {
	err = c.store.View(ctx, func(tx *store.Tx) error {
		if versions, err = versionsOf(ctx, tx, api); err != nil {
			return err
		}
		if len(versions) == 0 {
			return refusal.NotFound("There is no API %q.", api)
		}
		row := tx.QueryRowContext(ctx, "SELECT description FROM contract WHERE api = ? AND version = ?", api, versions[0].Version)
		if err := row.Scan(&description); err != nil {
			return err
		}
		for _, v := range versions {
			if isServed(v.State) {
				k, err := readContract(ctx, tx, api, v.Version)
				if err != nil {
					return err
				}
				served = append(served, k)
			}
		}
		return nil
	})
	return versions, served, description, err
}

// Contract is a version in compiled form.
func (c *Catalog) Contract(ctx context.Context, api, version string) (k *fieldgate.Contract, err error) {
	err = c.store.View(ctx, func(tx *store.Tx) error {
		k, err = readContract(ctx, tx, api, version)
		return err
	})
	return k, err
}

// Document is the document of a version, byte for byte as it was published.
func (c *Catalog) Document(ctx context.Context, api, version string) (document []byte, err error) {
	err = c.store.View(ctx, func(tx *store.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT document FROM contract WHERE api = ? AND version = ?", api, version).Scan(&document)
		if errors.Is(err, sql.ErrNoRows) {
			return errNoVersion(api, version)
		}
		return err
	})
	return document, err
}

// Count is how many APIs there are.
func Count(ctx context.Context, tx *store.Tx) (n int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT COUNT(DISTINCT api) FROM contract").Scan(&n)
	return n, err
}
