package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"fieldgate/api"
)

const apiListing = "fieldgate api list"

func newAPI(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:     "api",
		Short:   "Publish contracts and follow their lifecycle",
		Example: "  fieldgate api publish thermo.openapi.yaml\n  fieldgate api list",
	}, apiPublish(c), apiList(c), apiShow(c), apiDocument(c), apiDeprecate(c), apiRetire(c), apiRestore(c))
}

func apiList(c *cli) *cobra.Command {
	var wanted *filterFlags
	command := &cobra.Command{
		Use:     "list",
		Short:   "List APIs, each with its newest version",
		Example: "  fieldgate api list\n  fieldgate api list --kind pass-through --output json",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			return printPages(c, command.OutOrStdout(), []string{"API", "VERSION", "STATE", "KIND", "OPERATIONS", "VERSIONS", "CHANGED", "TITLE"}, func(cursor string) ([]api.Api, string, error) {
				answer, err := admin.ListApisWithResponse(command.Context(), &api.ListApisParams{Filter: wanted.String(), Cursor: cursor, Limit: pageSize})
				if err != nil {
					return nil, "", err
				}
				return answer.JSON200.Items, answer.JSON200.Next, nil
			}, func(a api.Api) []cell {
				return []cell{{text: a.Name}, {text: a.Version}, stateCell(string(a.State)), kindCell(a.Kind), {text: fmt.Sprint(a.Operations)},
					{text: fmt.Sprint(a.Versions)}, {text: shortTime(a.UpdatedAt)}, {text: a.Title}}
			})
		},
	}
	wanted = addFilter(command, "state, kind, protocol and owner").
		key("state", "state", "", "only APIs in this state: active, deprecated, retired or superseded").
		key("kind", "kind", "", "only this kind: openapi, asyncapi or pass-through")
	return command
}

// kindCell never lets one forget that nothing checks a pass-through API.
func kindCell(kind api.ContractKind) cell {
	if kind == api.PassThrough {
		return cell{string(kind), yellow}
	}
	return cell{text: string(kind)}
}

func apiShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "show API",
		Short:   "Show an API with its versions, operations, their rules and traffic",
		Example: "  fieldgate api show thermo",
		Args:    arguments("API"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.GetApiWithResponse(command.Context(), args[0])
			if err != nil {
				return hinted(err, apiListing)
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), answer.JSON200)
			}
			return printAPI(command.OutOrStdout(), answer.JSON200)
		},
	}
}

func printAPI(w io.Writer, a *api.ApiDetail) error {
	fmt.Fprintf(w, "%s: %s (%s)\n\n", a.Name, printable(a.Title), a.Kind)
	versions := newTable(w, "VERSION", "STATE", "OPERATIONS", "PUBLISHED", "SUNSET", "SUCCESSOR")
	for _, v := range a.Versions {
		sunset := "-"
		if !v.Sunset.IsZero() {
			sunset = shortTime(v.Sunset)
		}
		versions.add(cell{text: v.Version}, stateCell(string(v.State)), cell{text: fmt.Sprint(v.Operations)}, cell{text: shortTime(v.PublishedAt)},
			cell{text: sunset}, cell{text: dash(v.Successor)})
	}
	if err := versions.flush(); err != nil {
		return err
	}
	if len(a.Operations) > 0 {
		fmt.Fprintln(w)
		operations := newTable(w, "OPERATION", "VERSION", "HTTP", "COAP", "MQTT", "UPSTREAM", "ACCESS")
		for _, o := range a.Operations {
			operations.add(cells(o.Id, o.Version, dash(o.Http), dash(o.Coap), dash(o.Mqtt), dash(o.Upstream), accessText(&o))...)
		}
		if err := operations.flush(); err != nil {
			return err
		}
		if err := printRules(w, a); err != nil {
			return err
		}
	}
	if len(a.Traffic) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nTraffic of the last 24 hours")
	return printOperations(w, a.Traffic)
}

func accessText(o *api.Operation) string {
	parts := append([]string{}, o.Kinds...)
	if o.Anonymous {
		parts = append(parts, "anonymous")
	}
	text := strings.Join(parts, ", ")
	if len(o.Scopes) > 0 {
		text += " with " + strings.Join(o.Scopes, ", ")
	}
	return dash(text)
}

func apiDocument(c *cli) *cobra.Command {
	var version string
	command := &cobra.Command{
		Use:     "document API",
		Short:   "Print the document of a version, byte for byte as it was published",
		Example: "  fieldgate api document thermo --version 2.4.0 > thermo.openapi.yaml",
		Args:    arguments("API"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			version, err := chosenVersion(command.Context(), admin, args[0], version, nil)
			if err != nil {
				return err
			}
			// Not through the generated reader, which would take the document apart.
			answer, err := admin.GetDocument(command.Context(), args[0], version)
			if err != nil {
				return hinted(err, "fieldgate api show "+args[0])
			}
			defer answer.Body.Close()
			_, err = io.Copy(command.OutOrStdout(), answer.Body)
			return err
		},
	}
	versionFlag(command, &version, "the newest")
	return command
}

func versionFlag(command *cobra.Command, version *string, otherwise string) {
	command.Flags().StringVar(version, "version", "", "version of the API (default "+otherwise+")")
}
