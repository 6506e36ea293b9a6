package targets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"fieldgate"
	"fieldgate/control/directory"
	"fieldgate/engine/bus"
	"fieldgate/engine/store"
)

// maxPageBytes keeps a page below the 1 MiB that a message on the bus may have: an upstream more is at most 720 KiB, with each character
// of its zones escaped.
const maxPageBytes = 128 << 10

// Serve answers gateways until stop is called.
func (t *Targets) Serve() (stop func(), err error) {
	return t.bus.Serve(fieldgate.SubjectTargets, func(request []byte) (bus.Answer, error) {
		var asked fieldgate.TargetsRequest
		if err := json.Unmarshal(request, &asked); err != nil {
			return bus.Answer{}, errors.New("malformed request")
		}
		page, err := t.page(context.Background(), asked)
		if err != nil {
			return bus.Answer{}, fmt.Errorf("registered addresses: %w", err)
		}
		encoded, err := json.Marshal(page)
		return bus.Answer{Data: encoded}, err
	})
}

// page is whole upstreams in the order of their names, and none where the gateway has what is newest.
func (t *Targets) page(ctx context.Context, asked fieldgate.TargetsRequest) (page fieldgate.TargetsPage, err error) {
	err = t.store.View(ctx, func(tx *store.Tx) error {
		page = fieldgate.TargetsPage{Upstreams: make(map[string][]fieldgate.Target)}
		if page.Installation, err = directory.Installation(ctx, tx); err != nil {
			return err
		}
		if page.Version, err = Version(ctx, tx); err != nil || page.Installation == asked.Installation && page.Version == asked.Version {
			return err
		}
		rows, err := tx.QueryContext(ctx, "SELECT "+columns+" FROM upstream_target WHERE upstream > ? ORDER BY upstream, address", asked.After)
		if err != nil {
			return err
		}
		defer rows.Close()
		for bytes, last := 0, ""; rows.Next(); {
			r, err := scan(rows)
			if err != nil {
				return err
			}
			if r.Upstream != last && bytes > maxPageBytes {
				page.More = true
				break
			}
			last = r.Upstream
			encoded, err := json.Marshal(r.Target)
			if err != nil {
				return err
			}
			bytes += len(encoded) + len(last)
			page.Upstreams[last] = append(page.Upstreams[last], r.Target)
		}
		return rows.Err()
	})
	return page, err
}
