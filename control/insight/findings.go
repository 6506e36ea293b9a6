package insight

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"fieldgate"
	"fieldgate/control/filter"
	"fieldgate/engine/store"
)

// findingOpen is how long a finding stays open after it was last seen.
const findingOpen = 24 * time.Hour

// Severity says how much a finding needs a person. Higher is worse.
type Severity int

const (
	Notice  Severity = 1 // works as it was told to
	Warning Severity = 2 // somebody does what no contract foresees
	Bad     Severity = 3 // what a contract promises is broken
)

func (s Severity) String() string {
	switch s {
	case Bad:
		return "bad"
	case Warning:
		return "warning"
	}
	return "notice"
}

var severities = map[string]Severity{
	"invalid-response": Bad, "upstream": Bad, "dropped": Bad,
	"undocumented": Warning, "unmatched": Warning, "invalid-request": Warning, "unauthenticated": Warning, "forbidden": Warning,
	"not-owner": Warning, "quarantined": Warning, "revoked": Warning, "retired": Warning, "malformed": Warning,
	"shadowed": Notice, "rate-limited": Notice, "deprecated": Notice,
}

func severityOf(finding string) Severity { return severities[finding] }

// Finding is something that was seen on an operation in the last 24 hours; its names are empty where no contract explains the
// exchanges.
type Finding struct {
	API, Version, Operation string
	Finding                 string
	Severity                Severity
	FirstSeen, LastSeen     time.Time // FirstSeen: since it is open without a pause of a day
	Exchanges               uint64    // in the last 24 whole hours and the current one
	Protocol                fieldgate.Protocol
	Route, Detail           string // this and what follows: of the newest example
	Kind                    fieldgate.PrincipalKind
	Principal               string
	Instance                string
}

// FindingKeys are the keys by which findings are filtered; a word searches in API and operation.
var FindingKeys = []filter.Key{{Name: "severity", Values: []string{"bad", "warning", "notice"}},
	{Name: "finding", Values: fieldgate.Findings(^uint32(0)).Names()}, {Name: "api"}, {Name: "version"}, {Name: "operation"}}

var findingColumns = map[string]filter.Column{"severity": {Name: "severity", Value: func(text string) any {
	for _, s := range []Severity{Bad, Warning} {
		if s.String() == text {
			return int(s)
		}
	}
	return int(Notice)
}}, "finding": {Name: "finding"}, "api": {Name: "api"}, "version": {Name: "version"}, "operation": {Name: "operation"}}

// Findings lists findings that are open, most severe and newest first, after the one where the last page ended; nil begins.
func (i *Insight) Findings(ctx context.Context, f filter.Filter, after *Finding, limit int) (list []*Finding, err error) {
	err = i.store.View(ctx, func(tx *store.Tx) error {
		list = nil
		where, values := "last_seen >= ?", []any{tx.Now.Add(-findingOpen).UnixMilli()}
		if conditions, more := f.Where(findingColumns, "api", "operation"); conditions != "" {
			where, values = where+" AND "+conditions, append(values, more...)
		}
		if after != nil {
			where += " AND (severity, first_seen, api, version, operation, finding) < (?, ?, ?, ?, ?, ?)"
			values = append(values, int(after.Severity), after.FirstSeen.UnixMilli(), after.API, after.Version, after.Operation, after.Finding)
		}
		err := each(ctx, tx, `SELECT api, version, operation, finding, severity, first_seen, last_seen, protocol, route, detail, kind, principal, instance
			FROM finding WHERE `+where+` ORDER BY severity DESC, first_seen DESC, api DESC, version DESC, operation DESC, finding DESC LIMIT ?`,
			append(values, limit), func(rows *sql.Rows) error {
				var f Finding
				var first, last int64
				err := rows.Scan(&f.API, &f.Version, &f.Operation, &f.Finding, &f.Severity, &first, &last, &f.Protocol, &f.Route, &f.Detail, &f.Kind,
					&f.Principal, &f.Instance)
				f.FirstSeen, f.LastSeen = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
				list = append(list, &f)
				return err
			})
		if err != nil {
			return err
		}
		return i.countFindings(ctx, tx, list)
	})
	if err != nil {
		return nil, fmt.Errorf("findings: %w", err)
	}
	return list, nil
}

// countFindings fills in how many exchanges had each finding in the last day.
func (i *Insight) countFindings(ctx context.Context, tx *store.Tx, list []*Finding) error {
	found := make(map[versionKey]map[string][]*Finding)
	for _, f := range list {
		key := versionKey{f.API, f.Version}
		if found[key] == nil {
			found[key] = make(map[string][]*Finding)
		}
		found[key][f.Operation] = append(found[key][f.Operation], f)
	}
	from := tx.Now.Add(-findingOpen).Unix()
	return i.eachRow(ctx, tx, operationsColumn, period{hour, from - from%hour, forever}, func(row *trafficRow) error {
		operations := found[versionKey{row.api, row.version}]
		if operations == nil {
			return nil
		}
		return unpackOperations(row.packed, func(name []byte, o *packedOperation) error {
			for _, f := range operations[string(name)] {
				if bit := slices.Index(findingNames, f.Finding); bit >= 0 {
					f.Exchanges += o.findings[bit]
				}
			}
			return nil
		})
	})
}

// findingNames are the names of findings, by the number of their bit.
var findingNames = fieldgate.Findings(^uint32(0)).Names()

// OpenFindings counts findings that are open by severity.
func (i *Insight) OpenFindings(ctx context.Context) (bySeverity map[Severity]int, err error) {
	err = i.store.View(ctx, func(tx *store.Tx) error {
		bySeverity = make(map[Severity]int)
		return each(ctx, tx, "SELECT severity, COUNT(*) FROM finding WHERE last_seen >= ? GROUP BY severity", []any{tx.Now.Add(-findingOpen).UnixMilli()},
			func(rows *sql.Rows) error {
				var s Severity
				var n int
				err := rows.Scan(&s, &n)
				bySeverity[s] = n
				return err
			})
	})
	return bySeverity, err
}
