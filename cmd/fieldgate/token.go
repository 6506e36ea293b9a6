package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/api"
)

const tokenListing = "fieldgate token list"

func newToken(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:   "token",
		Short: "Let programs use the admin API",
		Long: `Let programs use the admin API. A token can do no more than who made it, and what its scopes say:
read, audit.read, apis.write, apps.write, devices.write, targets.write, access.write.`,
		Example: "  fieldgate token add nightly-export --scope read\n  fieldgate token list",
	}, tokenAdd(c), tokenList(c), tokenRevoke(c))
}

func tokenAdd(c *cli) *cobra.Command {
	var scopes []string
	var days int
	var quiet bool
	command := &cobra.Command{
		Use:   "add NAME",
		Short: "Make an API token",
		Long:  "Make an API token, which is shown only now: Fieldgate keeps its hash. Its name says what it is for.",
		Example: `  fieldgate token add nightly-export --scope read
  TOKEN=$(fieldgate token add ci --scope read,apis.write --days 30 --quiet)`,
		Args: arguments("NAME"),
		RunE: func(command *cobra.Command, args []string) error {
			if len(scopes) == 0 {
				return usagef("--scope is missing, such as read")
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			asked := api.NewToken{Name: args[0], Days: days}
			for _, scope := range scopes {
				asked.Scopes = append(asked.Scopes, api.Scope(scope))
			}
			answer, err := admin.AddTokenWithResponse(command.Context(), nil, asked)
			if err != nil {
				return err
			}
			return c.printToken(command, answer.JSON201, quiet)
		},
	}
	command.Flags().StringSliceVar(&scopes, "scope", nil, "what it may do; may be given several times")
	command.Flags().IntVar(&days, "days", 90, "until it expires, at most 400")
	quietFlag(command, &quiet)
	return command
}

func tokenList(c *cli) *cobra.Command {
	var params api.ListTokensParams
	command := &cobra.Command{
		Use:     "list",
		Short:   "List API tokens: those of everybody, as owner, or else one's own",
		Example: "  fieldgate token list --filter state:active",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			return printPages(c, command.OutOrStdout(), []string{"TOKEN", "NAME", "OPERATOR", "SCOPES", "STATE", "USED", "EXPIRES"}, func(cursor string) ([]api.Token, string, error) {
				params.Cursor, params.Limit = cursor, pageSize
				answer, err := admin.ListTokensWithResponse(command.Context(), &params)
				if err != nil {
					return nil, "", err
				}
				return answer.JSON200.Items, answer.JSON200.Next, nil
			}, func(t api.Token) []cell {
				return []cell{{text: t.Id}, {text: t.Name}, {text: t.Operator}, {text: scopeText(t.Scopes)}, tokenState(t.State), {text: timeOrNever(t.UsedAt)}, {text: shortTime(t.ExpiresAt)}}
			})
		},
	}
	command.Flags().StringVar(&params.Filter, "filter", "", "such as operator:ben state:active, or a part of a name")
	return command
}

func tokenRevoke(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke TOKEN",
		Short:   "End an API token, by its id in the list",
		Example: "  fieldgate token revoke k3yq7m2xw5ra6t4b",
		Args:    arguments("TOKEN"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			if _, err := admin.RevokeTokenWithResponse(command.Context(), args[0]); err != nil {
				return hinted(err, tokenListing)
			}
			fmt.Fprintln(command.ErrOrStderr(), "The token no longer works.")
			return nil
		},
	}
}

func (c *cli) printToken(command *cobra.Command, made *api.TokenWithSecret, quiet bool) error {
	out := command.OutOrStdout()
	switch {
	case quiet:
		_, err := fmt.Fprintln(out, made.Secret)
		return err
	case c.output == formatJSON:
		return printJSON(out, made)
	}
	fmt.Fprintln(command.ErrOrStderr(), "The token is shown only now. Programs send it as Authorization: Bearer.")
	t := newTable(out)
	t.add(cells("id", made.Token.Id)...)
	t.add(cells("name", made.Token.Name)...)
	t.add(cells("operator", made.Token.Operator)...)
	t.add(cells("scopes", scopeText(made.Token.Scopes))...)
	t.add(cells("expires", shortTime(made.Token.ExpiresAt))...)
	t.add(cell{text: "token"}, cell{text: made.Secret, colour: bold})
	return t.flush()
}

func scopeText(scopes []api.Scope) string {
	texts := make([]string, len(scopes))
	for i, scope := range scopes {
		texts[i] = string(scope)
	}
	return strings.Join(texts, ",")
}

func tokenState(state api.TokenState) cell {
	colours := map[api.TokenState]colour{api.TokenActive: green, api.TokenExpired: yellow, api.TokenRevoked: red}
	return cell{text: string(state), colour: colours[state]}
}

func timeOrNever(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return shortTime(at)
}
