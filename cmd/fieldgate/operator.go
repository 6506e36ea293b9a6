package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/api/client"
)

const operatorListing = "fieldgate operator list"

func newOperator(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:   "operator",
		Short: "Say who may decide: people and their roles",
		Long: `Say who may decide: people and their roles.

  auditor    sees everything, and the audit
  developer  publishes contracts and admits apps
  operator   does that, admits devices and cuts them off, and sees the audit
  owner      does everything, and decides about operators`,
		Example: "  fieldgate operator add ben --role developer\n  fieldgate operator list",
	}, operatorAdd(c), operatorList(c), operatorShow(c), operatorSetRole(c),
		operatorSwitch(c, "disable", "Keep an operator from signing in; it ends their sessions, and their tokens do not work", true),
		operatorSwitch(c, "enable", "Let a disabled operator sign in again", false),
		operatorInvite(c), operatorRemove(c))
}

func operatorAdd(c *cli) *cobra.Command {
	var role, console string
	var quiet bool
	command := &cobra.Command{
		Use:     "add OPERATOR",
		Short:   "Add an operator and make a one-time link by which they set their password",
		Example: "  fieldgate operator add ben --role developer\n  LINK=$(fieldgate operator add ida --role auditor --quiet)",
		Args:    arguments("OPERATOR"),
		RunE: func(command *cobra.Command, args []string) error {
			if role == "" {
				return usagef("--role is missing: auditor, developer, operator or owner")
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.AddOperatorWithResponse(command.Context(), nil, api.NewOperator{Name: args[0], Role: api.Role(role)})
			if err != nil {
				return err
			}
			return c.printInvitation(command, admin, console, answer.JSON201, quiet)
		},
	}
	command.Flags().StringVar(&role, "role", "", "auditor, developer, operator or owner")
	linkFlags(command, &console, &quiet)
	return command
}

func operatorInvite(c *cli) *cobra.Command {
	var console string
	var quiet bool
	command := &cobra.Command{
		Use:     "invite OPERATOR",
		Short:   "Make another one-time link by which an operator sets a new password",
		Example: "  fieldgate operator invite ben",
		Args:    arguments("OPERATOR"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.InviteOperatorWithResponse(command.Context(), args[0])
			if err != nil {
				return hinted(err, operatorListing)
			}
			return c.printInvitation(command, admin, console, answer.JSON200, quiet)
		},
	}
	linkFlags(command, &console, &quiet)
	return command
}

func operatorList(c *cli) *cobra.Command {
	var params api.ListOperatorsParams
	command := &cobra.Command{
		Use:     "list",
		Short:   "List operators in the order of their names",
		Example: "  fieldgate operator list --filter role:owner",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			return printPages(c, command.OutOrStdout(), []string{"OPERATOR", "ROLE", "STATE", "SESSIONS", "TOKENS", "SEEN"}, func(cursor string) ([]api.Operator, string, error) {
				params.Cursor, params.Limit = cursor, pageSize
				answer, err := admin.ListOperatorsWithResponse(command.Context(), &params)
				if err != nil {
					return nil, "", err
				}
				return answer.JSON200.Items, answer.JSON200.Next, nil
			}, func(o api.Operator) []cell {
				return []cell{{text: o.Name}, {text: string(o.Role)}, operatorState(o.State), {text: fmt.Sprint(o.Sessions)}, {text: fmt.Sprint(o.Tokens)}, {text: timeOrNever(o.SeenAt)}}
			})
		},
	}
	command.Flags().StringVar(&params.Filter, "filter", "", "such as role:owner state:active, or a part of a name")
	return command
}

func operatorShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "show OPERATOR",
		Short:   "Show one operator",
		Example: "  fieldgate operator show ben",
		Args:    arguments("OPERATOR"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.GetOperatorWithResponse(command.Context(), args[0])
			if err != nil {
				return hinted(err, operatorListing)
			}
			return c.printOperator(command.OutOrStdout(), answer.JSON200)
		},
	}
}

func operatorSetRole(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "set-role OPERATOR ROLE",
		Short:   "Change what an operator may do, from their very next request on",
		Example: "  fieldgate operator set-role ben operator",
		Args:    arguments("OPERATOR", "ROLE"),
		RunE: func(command *cobra.Command, args []string) error {
			return c.updateOperator(command, args[0], api.OperatorUpdate{Role: api.Role(args[1])})
		},
	}
}

func operatorSwitch(c *cli, verb, short string, disabled bool) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " OPERATOR",
		Short:   short,
		Example: "  fieldgate operator " + verb + " ben",
		Args:    arguments("OPERATOR"),
		RunE: func(command *cobra.Command, args []string) error {
			return c.updateOperator(command, args[0], api.OperatorUpdate{Disabled: &disabled})
		},
	}
}

func operatorRemove(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "remove OPERATOR",
		Short:   "Remove an operator with their sessions and tokens",
		Example: "  fieldgate operator remove ben",
		Args:    arguments("OPERATOR"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			if _, err := admin.RemoveOperatorWithResponse(command.Context(), args[0], nil); err != nil {
				return hinted(err, operatorListing)
			}
			fmt.Fprintf(command.ErrOrStderr(), "%s is removed; their sessions and tokens no longer work.\n", args[0])
			return nil
		},
	}
}

func (c *cli) updateOperator(command *cobra.Command, name string, update api.OperatorUpdate) error {
	admin, err := c.connect()
	if err != nil {
		return err
	}
	updated, err := patchOperator(command.Context(), admin, name, update)
	if err != nil {
		return hinted(err, operatorListing)
	}
	return c.printOperator(command.OutOrStdout(), updated)
}

func patchOperator(ctx context.Context, admin *client.ClientWithResponses, name string, update api.OperatorUpdate) (*api.Operator, error) {
	answer, err := admin.UpdateOperatorWithResponse(ctx, name, nil, update)
	if err != nil {
		return nil, err
	}
	return answer.JSON200, nil
}

func (c *cli) printOperator(w io.Writer, o *api.Operator) error {
	if c.output == formatJSON {
		return printJSON(w, o)
	}
	t := newTable(w)
	t.add(cells("operator", o.Name)...)
	t.add(cells("role", string(o.Role))...)
	t.add(cell{text: "state"}, operatorState(o.State))
	t.add(cells("sessions", fmt.Sprint(o.Sessions))...)
	t.add(cells("tokens", fmt.Sprint(o.Tokens))...)
	t.add(cells("added", shortTime(o.CreatedAt))...)
	t.add(cells("seen", timeOrNever(o.SeenAt))...)
	return t.flush()
}

func operatorState(state api.OperatorState) cell {
	colours := map[api.OperatorState]colour{api.OperatorActive: green, api.OperatorInvited: yellow, api.OperatorDisabled: red}
	return cell{text: string(state), colour: colours[state]}
}
