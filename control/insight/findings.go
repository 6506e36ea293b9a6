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

// findingOngoing is how long a finding goes on after it was last seen.
const findingOngoing = 5 * time.Minute

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
	Severity                Severity // Notice of what does not go on
	Ongoing                 bool
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

// openFindings are the findings that are open as they are now. Its values: twice since when one must have been seen to go on, then
// since when to be open.
const openFindings = `(SELECT CASE WHEN last_seen >= ? THEN 1 ELSE 0 END AS ongoing, CASE WHEN last_seen >= ? THEN severity ELSE 1 END AS severity,
	api, version, operation, finding, first_seen, last_seen, protocol, route, detail, kind, principal, instance
	FROM finding WHERE last_seen >= ?) AS seen`

func openFindingsAt(now time.Time) []any {
	since := now.Add(-findingOngoing).UnixMilli()
	return []any{since, since, now.Add(-findingOpen).UnixMilli()}
}

var findingColumns = map[string]filter.Column{"severity": {Name: "severity", Value: func(text string) any {
	for _, s := range []Severity{Bad, Warning} {
		if s.String() == text {
			return int(s)
		}
	}
	return int(Notice)
}}, "finding": {Name: "finding"}, "api": {Name: "api"}, "version": {Name: "version"}, "operation": {Name: "operation"}}

// Findings lists findings that are open, what goes on first, then most severe and newest, after the one where the last page ended; nil begins.
func (i *Insight) Findings(ctx context.Context, f filter.Filter, after *Finding, limit int) (list []*Finding, err error) {
	err = i.store.View(ctx, func(tx *store.Tx) error {
		list = nil
		where, values := "1 = 1", openFindingsAt(tx.Now)
		if conditions, more := f.Where(findingColumns, "api", "operation"); conditions != "" {
			where, values = conditions, append(values, more...)
		}
		if after != nil {
			where += " AND (ongoing, severity, first_seen, api, version, operation, finding) < (?, ?, ?, ?, ?, ?, ?)"
			values = append(values, number(after.Ongoing), int(after.Severity), after.FirstSeen.UnixMilli(), after.API, after.Version, after.Operation, after.Finding)
		}
		err := each(ctx, tx, `SELECT api, version, operation, finding, ongoing, severity, first_seen, last_seen, protocol, route, detail, kind, principal, instance
			FROM `+openFindings+` WHERE `+where+` ORDER BY ongoing DESC, severity DESC, first_seen DESC, api DESC, version DESC, operation DESC, finding DESC LIMIT ?`,
			append(values, limit), func(rows *sql.Rows) error {
				var f Finding
				var ongoing int
				var first, last int64
				err := rows.Scan(&f.API, &f.Version, &f.Operation, &f.Finding, &ongoing, &f.Severity, &first, &last, &f.Protocol, &f.Route, &f.Detail, &f.Kind,
					&f.Principal, &f.Instance)
				f.Ongoing, f.FirstSeen, f.LastSeen = ongoing == 1, time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
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

// number is a truth as a column has it.
func number(truth bool) int {
	if truth {
		return 1
	}
	return 0
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
		return each(ctx, tx, "SELECT severity, COUNT(*) FROM "+openFindings+" GROUP BY severity", openFindingsAt(tx.Now),
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
