package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"fieldgate/api"
)

const appListing = "fieldgate app list"

func newApp(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:     "app",
		Short:   "Admit the apps that talk to devices, and shut them out",
		Example: "  fieldgate app add dashboard --scope telemetry:read\n  fieldgate app list",
	}, appAdd(c), appList(c), appShow(c), appKey(c), appRevoke(c))
}

func appAdd(c *cli) *cobra.Command {
	var app api.NewApp
	var quiet bool
	command := &cobra.Command{
		Use:     "add APP",
		Short:   "Register an app and issue its key",
		Long:    "Register an app and issue its key, which is shown only now: Fieldgate keeps its hash.",
		Example: "  fieldgate app add dashboard --name \"Plant dashboard\" --scope telemetry:read\n  KEY=$(fieldgate app add report --quiet)",
		Args:    arguments("APP"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			app.Id = args[0]
			answer, err := admin.AddAppWithResponse(command.Context(), nil, app)
			if err != nil {
				return err
			}
			return c.printAppKey(command, answer.JSON201, quiet)
		},
	}
	command.Flags().StringVar(&app.Name, "name", "", "name for people")
	command.Flags().StringSliceVar(&app.Scopes, "scope", nil, "scope that the app has; may be given several times")
	quietFlag(command, &quiet)
	return command
}

func appKey(c *cli) *cobra.Command {
	var quiet, keep bool
	command := &cobra.Command{
		Use:     "key APP",
		Short:   "Issue a new key; the old ones stop working at once unless they are kept",
		Example: "  fieldgate app key dashboard\n  KEY=$(fieldgate app key dashboard --keep --quiet)",
		Args:    arguments("APP"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.IssueAppKeyWithResponse(command.Context(), args[0], &api.IssueAppKeyParams{Keep: keep})
			if err != nil {
				return hinted(err, appListing)
			}
			return c.printAppKey(command, answer.JSON200, quiet)
		},
	}
	command.Flags().BoolVar(&keep, "keep", false, "keep the older keys valid, at most four in all")
	quietFlag(command, &quiet)
	return command
}

func appList(c *cli) *cobra.Command {
	var wanted *filterFlags
	command := &cobra.Command{
		Use:     "list",
		Short:   "List apps in the order of their ids",
		Example: "  fieldgate app list --output json",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			return printPages(c, command.OutOrStdout(), []string{"APP", "STATE", "NAME", "SCOPES", "KEYS", "CHANGED"}, func(cursor string) ([]api.App, string, error) {
				answer, err := admin.ListAppsWithResponse(command.Context(), &api.ListAppsParams{Filter: wanted.String(), Cursor: cursor, Limit: pageSize})
				if err != nil {
					return nil, "", err
				}
				return answer.JSON200.Items, answer.JSON200.Next, nil
			}, func(a api.App) []cell {
				return []cell{{text: a.Id}, stateCell(string(a.State)), {text: dash(a.Name)}, {text: dash(strings.Join(a.Scopes, ","))}, {text: fmt.Sprint(a.Keys)}, {text: shortTime(a.UpdatedAt)}}
			})
		},
	}
	wanted = addFilter(command, "state, scope and id").
		key("state", "state", "", "only apps in this state: active or revoked")
	return command
}

func appShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "show APP",
		Short:   "Show one app",
		Example: "  fieldgate app show dashboard",
		Args:    arguments("APP"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.GetAppWithResponse(command.Context(), args[0])
			if err != nil {
				return hinted(err, appListing)
			}
			return c.printApp(command.OutOrStdout(), answer.JSON200, "")
		},
	}
}

func appRevoke(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke APP",
		Short:   "Shut an app out for good; its keys are deleted",
		Example: "  fieldgate app revoke dashboard",
		Args:    arguments("APP"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.RevokeAppWithResponse(command.Context(), args[0], nil, api.Reason{})
			if err != nil {
				return hinted(err, appListing)
			}
			return c.printApp(command.OutOrStdout(), answer.JSON200, "")
		},
	}
}

func (c *cli) printAppKey(command *cobra.Command, a *api.AppWithKey, quiet bool) error {
	out := command.OutOrStdout()
	switch {
	case quiet:
		_, err := fmt.Fprintln(out, a.Key)
		return err
	case c.output == formatJSON:
		return printJSON(out, a)
	}
	fmt.Fprintln(command.ErrOrStderr(), "The key is shown only now. The app sends it as bearer token.")
	return c.printApp(out, &a.App, a.Key)
}

func (c *cli) printApp(w io.Writer, a *api.App, key string) error {
	if c.output == formatJSON {
		return printJSON(w, a)
	}
	t := newTable(w)
	t.add(cells("app", a.Id)...)
	t.add(cell{text: "state"}, stateCell(string(a.State)))
	t.add(cells("name", dash(a.Name))...)
	t.add(cells("scopes", dash(strings.Join(a.Scopes, ",")))...)
	t.add(cells("keys", fmt.Sprint(a.Keys))...)
	t.add(cells("added", shortTime(a.CreatedAt))...)
	t.add(cells("changed", shortTime(a.UpdatedAt))...)
	if key != "" {
		t.add(cell{text: "key"}, cell{text: key, colour: bold})
	}
	return t.flush()
}
