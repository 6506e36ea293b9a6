package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"fieldgate"
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

func apiPublish(c *cli) *cobra.Command {
	var dryRun bool
	command := &cobra.Command{
		Use:   "publish FILE",
		Short: "Make the API of a contract live, within a second and without a restart",
		Long: `Make the API of a contract live: an OpenAPI 3.1 or 3.0, AsyncAPI 3 or pass-through document.
FILE may be "-" for standard input. Publishing what is published already changes nothing.`,
		Example: "  fieldgate api publish thermo.openapi.yaml --dry-run\n  fieldgate api publish thermo.openapi.yaml",
		Args:    arguments("FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			document, err := readDocument(command.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			plan, err := publish(command.Context(), admin, args[0], document, dryRun)
			if err != nil {
				return err
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), plan)
			}
			printFindings(command.ErrOrStderr(), plan.Findings)
			return printPlan(command.OutOrStdout(), plan, dryRun)
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change")
	return command
}

// readDocument reads a contract, from standard input where the name is "-".
func readDocument(stdin io.Reader, name string) ([]byte, error) {
	source := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		source = file
	}
	document, err := io.ReadAll(io.LimitReader(source, fieldgate.MaxDocumentBytes+1))
	if err != nil {
		return nil, err
	}
	if len(document) > fieldgate.MaxDocumentBytes {
		return nil, fmt.Errorf("%s is longer than the %d MiB that a contract may have", name, fieldgate.MaxDocumentBytes>>20)
	}
	return document, nil
}

// printPlan says what publishing did, or would do, and what that means for each operation.
func printPlan(w io.Writer, plan *api.Plan, dryRun bool) error {
	subject := fmt.Sprintf("%s %s (%s)", plan.Api, plan.Version, printable(plan.Title))
	switch {
	case plan.Change == api.ChangeNone:
		fmt.Fprintf(w, "%s is published already; nothing changes\n", subject)
		return nil
	case dryRun:
		fmt.Fprintf(w, "%s would be published: %s\n", subject, changeText(plan))
	default:
		fmt.Fprintf(w, "%s is live: %s\n", subject, changeText(plan))
	}
	t := newTable(w)
	for _, o := range plan.Operations {
		t.add(append([]cell{{text: "  "}}, operationCells(o)...)...)
	}
	return t.flush()
}

func operationCells(o api.OperationChange) []cell {
	switch o.Change {
	case api.OperationAdded:
		return []cell{{"+", green}, {o.Id, green}}
	case api.OperationChanged:
		return []cell{{"~", yellow}, {o.Id, yellow}}
	case api.OperationRemoved:
		return []cell{{"-", red}, {o.Id, red}}
	}
	return []cell{{text: "="}, {text: o.Id}}
}

func changeText(plan *api.Plan) string {
	text := map[api.PlanChange]string{
		api.ChangeNewApi:      "a new API",
		api.ChangeNewVersion:  "a new version",
		api.ChangeReplacement: "new content of this version",
		api.ChangeRestoration: "this version is active again",
	}[plan.Change]
	if len(plan.Supersedes) > 0 {
		text += " in the place of " + strings.Join(plan.Supersedes, ", ")
	}
	return text
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
		Short:   "Show an API with its versions, operations and traffic",
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
