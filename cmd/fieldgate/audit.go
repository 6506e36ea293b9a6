package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fieldgate/api"
)

func newAudit(c *cli) *cobra.Command {
	var params api.ListAuditParams
	var limit int
	command := &cobra.Command{
		Use:   "audit",
		Short: "Show who decided what, newest first, with what was before and after",
		Example: `  fieldgate audit --filter "actor:ana since:24h"
  fieldgate audit --filter "action:device.* target:d7" --output json
  fieldgate audit --filter action:session.refuse`,
		Args: arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			if limit < 1 {
				return usagef("--limit must be at least 1")
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			left := limit
			return printPages(c, command.OutOrStdout(), []string{"TIME", "ACTOR", "ACTION", "TARGET", "CHANGE", "DETAIL", "VIA", "SOURCE"}, func(cursor string) ([]api.AuditEntry, string, error) {
				params.Cursor, params.Limit = cursor, min(left, pageSize)
				answer, err := admin.ListAuditWithResponse(command.Context(), &params)
				if err != nil {
					return nil, "", err
				}
				left -= len(answer.JSON200.Items)
				if left <= 0 {
					return answer.JSON200.Items, "", nil
				}
				return answer.JSON200.Items, answer.JSON200.Next, nil
			}, func(e api.AuditEntry) []cell {
				return cells(shortTime(e.Time), e.Actor, e.Action, dash(e.Target), fieldChanges(e.Before, e.After), dash(e.Detail), dash(e.Via), dash(e.Source))
			})
		},
	}
	command.Flags().StringVar(&params.Filter, "filter", "", "keys actor, action, target, since; a word is looked for in actor and target")
	command.Flags().IntVarP(&limit, "limit", "n", 100, "how many decisions to show")
	return command
}

// fieldChanges is what changed as "field: before → after".
func fieldChanges(before, after map[string]any) string {
	names := make(map[string]bool)
	for _, fields := range []map[string]any{before, after} {
		for name := range fields {
			names[name] = true
		}
	}
	var changes []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, was := before[name]
		current, is := after[name]
		switch {
		case !was:
			changes = append(changes, fmt.Sprintf("%s: %s", name, valueText(current)))
		case !is:
			changes = append(changes, fmt.Sprintf("%s: %s → -", name, valueText(old)))
		default:
			changes = append(changes, fmt.Sprintf("%s: %s → %s", name, valueText(old), valueText(current)))
		}
	}
	return dash(strings.Join(changes, ", "))
}

func valueText(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(encoded)
}
