package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"fieldgate/api"
	"fieldgate/control/access"
	"fieldgate/control/audit"
	"fieldgate/control/filter"
	"fieldgate/control/refusal"
)

// entityTag names a state by its number (RFC 9110 section 8.8.3).
func entityTag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

// versionOf is the state that If-Match names (RFC 9110 section 13.1.1): 0 for any, and a number that no state has where it names
// none of ours.
func versionOf(match string) uint64 {
	match = strings.TrimSpace(match)
	if match == "" || match == "*" {
		return 0
	}
	if digits, quoted := strings.CutPrefix(match, `"`); quoted {
		version, err := strconv.ParseUint(strings.TrimSuffix(digits, `"`), 10, 63)
		if err == nil && version > 0 && entityTag(version) == match {
			return version
		}
	}
	return math.MaxInt64
}

// changedError is a decision for a state that is no longer the present one, with how it is now.
type changedError struct {
	cause   error
	current map[string]any
	changes []api.AuditEntry
}

func (e *changedError) Error() string { return e.cause.Error() }
func (e *changedError) Unwrap() error { return e.cause }

const changesShown = 5

// explainChange adds to a refusal because of If-Match how things are now, and who made them so. decisions is the filter of the
// audit that selects them; current is what its own GET answers.
func (o *operations) explainChange(ctx context.Context, refused error, decisions string, current func() (any, error)) error {
	var refusing *refusal.Error
	if !errors.As(refused, &refusing) || refusing.Code != refusal.CodeChanged {
		return refused
	}
	now, err := current()
	if err != nil {
		return errors.Join(refused, err)
	}
	explained := &changedError{cause: refused}
	encoded, err := json.Marshal(now)
	if err == nil {
		err = json.Unmarshal(encoded, &explained.current)
	}
	if err != nil {
		return fmt.Errorf("present state: %w", err)
	}
	terms, err := filter.Parse(decisions, time.Now(), audit.Keys...)
	if err != nil {
		return err
	}
	entries, err := audit.List(ctx, o.config.Store, audit.Filter{Terms: terms, Limit: changesShown})
	if err != nil {
		return err
	}
	// Whoever may not see the audit learns who and what, not by which token and from which address.
	mayAudit := askedOf(ctx).caller.May(access.ScopeAuditRead)
	for i := range entries {
		entry := auditEntry(&entries[i])
		if !mayAudit {
			entry.Via, entry.Source = "", ""
		}
		explained.changes = append(explained.changes, entry)
	}
	return explained
}
