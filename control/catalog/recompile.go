package catalog

import (
	"context"
	"encoding/json"
	"fmt"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/control/audit"
	"fieldgate/engine/store"
)

// Recompile compiles what another form of the compiler made, from the documents as they were published, so that a newer
// program serves by its own rules. Their states stay as they were decided. A document that is no contract any more is served on as
// it was compiled, and the log says so.
func (c *Catalog) Recompile(ctx context.Context) error {
	ctx = audit.As(ctx, audit.Actor{Name: audit.Self})
	old, err := c.foreignForms(ctx)
	if err != nil {
		return err
	}
	for _, v := range old {
		if err := c.recompile(ctx, v); err != nil {
			return fmt.Errorf("recompile %s %s: %w", v.API, v.Version, err)
		}
	}
	if len(old) > 0 {
		c.nudge()
	}
	return c.describe(ctx)
}

// foreignForms lists the versions that another form of the compiler made.
func (c *Catalog) foreignForms(ctx context.Context) (versions []*Version, err error) {
	err = c.store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT "+versionColumns+" FROM contract WHERE form <> ? ORDER BY api, published", contract.Form)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			v, err := scanVersion(rows)
			if err != nil {
				return err
			}
			versions = append(versions, v)
		}
		return rows.Err()
	})
	return versions, err
}

func (c *Catalog) recompile(ctx context.Context, v *Version) error {
	document, err := c.Document(ctx, v.API, v.Version)
	if err != nil {
		return err
	}
	k, _, err := contract.Compile("document", document)
	if err == nil && (k.API != v.API || k.Version != v.Version) {
		err = fmt.Errorf("it would be %s", name(k))
	}
	if err != nil {
		c.log.Error("a contract cannot be compiled by this version of the program and is served as before: publish a corrected document",
			"api", v.API, "version", v.Version, "error", err)
		return nil
	}
	return c.store.Update(ctx, func(tx *store.Tx) error {
		before, compiled, err := readEncoded(ctx, tx, v.API, v.Version)
		if err != nil {
			return err
		}
		var decided fieldgate.Contract
		if err := json.Unmarshal(compiled, &decided); err != nil {
			return err
		}
		k.State, k.Sunset, k.Successor = decided.State, decided.Sunset, decided.Successor
		content, compiled, err := fieldgate.EncodeContract(k)
		if err != nil {
			return err
		}
		if content == before {
			_, err := tx.ExecContext(ctx, "UPDATE contract SET form = ? WHERE api = ? AND version = ?", contract.Form, k.API, k.Version)
			return err
		}
		snapshot, err := tx.Next(ctx, "snapshot")
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE contract SET change = ?, title = ?, operations = ?, protocols = ?, compiled = ?, content = ?, form = ? WHERE api = ? AND version = ?",
			int64(snapshot), k.Title, len(k.Operations), protocolsOf(k), compiled, content, contract.Form, k.API, k.Version)
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, audit.Change{Action: "api.recompile", Target: name(k), Detail: fmt.Sprintf("form %d of the compiler", contract.Form),
			Before: contractFacts(&decided), After: contractFacts(k)})
	})
}
