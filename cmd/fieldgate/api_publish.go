package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"fieldgate"
	"fieldgate/api"
	"fieldgate/api/client"
)

func apiPublish(c *cli) *cobra.Command {
	var dryRun bool
	command := &cobra.Command{
		Use:   "publish FILE...",
		Short: "Make the APIs of contracts live, within a second and without a restart",
		Long: `Make the APIs of contracts live: OpenAPI 3.1 or 3.0, AsyncAPI 3 or pass-through documents.
FILE may be "-" for standard input. Publishing what is published already changes nothing.

Several files are one decision: all of them become live at once, or none does.
More than ` + portionText + ` become several decisions, one after the other.`,
		Example: "  fieldgate api publish thermo.openapi.yaml --dry-run\n  fieldgate api publish thermo.openapi.yaml\n  fieldgate api publish contracts/*.yaml",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("FILE is missing")
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			var files []contractFile
			for _, name := range args {
				document, err := readDocument(command.InOrStdin(), name)
				if err != nil {
					return err
				}
				files = append(files, contractFile{name, document})
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			out, notes := command.OutOrStdout(), command.ErrOrStderr()
			if len(files) > 1 {
				return c.publishFiles(command.Context(), admin, out, notes, files, dryRun)
			}
			plan, err := publish(command.Context(), admin, files[0], dryRun)
			if err != nil {
				return err
			}
			if c.output == formatJSON {
				return printJSON(out, plan)
			}
			printFindings(notes, plan.Findings)
			return printPlan(out, plan, dryRun)
		},
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change")
	return command
}

// publishFiles publishes many documents and says what becomes of each.
func (c *cli) publishFiles(ctx context.Context, admin *client.ClientWithResponses, out, notes io.Writer, files []contractFile, dryRun bool) error {
	plans, err := publishAll(ctx, admin, notes, files, dryRun)
	if len(plans) == 0 {
		return err
	}
	changed := 0
	steps := make([]*step, len(plans))
	for i := range plans {
		steps[i] = contractStep(&plans[i])
		if plans[i].Change != api.ChangeNone {
			changed++
		}
	}
	if c.output == formatJSON {
		return errors.Join(printJSON(out, plans), err)
	}
	for i := range plans {
		printFindings(notes, plans[i].Findings)
	}
	if err := printSteps(out, steps); err != nil {
		return err
	}
	switch {
	case err != nil:
		return err
	case changed == 0:
		fmt.Fprintln(notes, "All of them are published already; nothing changes.")
	case dryRun:
		fmt.Fprintf(notes, "%s would be published.\n", plural(changed, "contract"))
	default:
		fmt.Fprintf(notes, "%s published.\n", plural(changed, "contract"))
	}
	return nil
}

// publish sends a document to the admin API. A refused one is an *api.Problem with the document's findings.
func publish(ctx context.Context, admin *client.ClientWithResponses, file contractFile, dryRun bool) (*api.Plan, error) {
	answer, err := admin.PublishApiWithBodyWithResponse(ctx, &api.PublishApiParams{Name: file.name, DryRun: dryRun}, "application/yaml", bytes.NewReader(file.document))
	if err != nil {
		return nil, err
	}
	if answer.JSON201 != nil {
		return answer.JSON201, nil
	}
	return answer.JSON200, nil
}

// Bounds of one decision about many documents, as the admin API has them.
const (
	portionDocuments = 2000
	portionBytes     = 64 << 20 // of the request
	portionText      = "2,000 documents or 64 MiB"
)

// publishAll publishes documents in one decision, or in portions where they are too many for one. With an error it gives the
// plans of the portions before, which stay published. A refusal is an *api.Problem with the findings of all documents of its portion.
func publishAll(ctx context.Context, admin *client.ClientWithResponses, notes io.Writer, files []contractFile, dryRun bool) (plans []api.Plan, err error) {
	progress := func(text string) {
		if isTerminal(notes) {
			fmt.Fprintf(notes, "\r\x1b[K%s", text) // erase the line (ECMA-48 EL)
		}
	}
	defer progress("")
	for all := len(files); len(files) > 0; {
		body, n, err := portion(files)
		if err != nil {
			return plans, err
		}
		if n < len(files) && len(plans) == 0 {
			fmt.Fprintf(notes, "More than %s are not published in one decision, but in several, one after the other.\n", portionText)
		}
		progress(fmt.Sprintf("%d of %s done …", len(plans), plural(all, "contract")))
		answer, err := admin.PublishApisWithBodyWithResponse(ctx, &api.PublishApisParams{DryRun: dryRun}, "application/x-ndjson", bytes.NewReader(body))
		if err != nil {
			return plans, err
		}
		plans, files = append(plans, answer.JSON200.Plans...), files[n:]
	}
	return plans, nil
}

// portion is the request for as many of the files as one may have, and how many these are.
func portion(files []contractFile) (body []byte, n int, err error) {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	encoder.SetEscapeHTML(false) // which would only make it longer
	for n < min(len(files), portionDocuments) {
		file := files[n]
		if !utf8.Valid(file.document) {
			return nil, 0, fmt.Errorf("%s is not in UTF-8: save it so, or publish it by itself", file.name)
		}
		before := lines.Len()
		if err := encoder.Encode(api.NamedDocument{Name: file.name, Document: string(file.document)}); err != nil {
			return nil, 0, err
		}
		if n > 0 && lines.Len() > portionBytes {
			lines.Truncate(before)
			break
		}
		n++
	}
	return lines.Bytes(), n, nil
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
		if info, err := file.Stat(); err == nil && info.IsDir() {
			return nil, usagef("%s is a folder: name its files, or publish all of them with \"fieldgate apply -f %s\"", name, name)
		}
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
		addChangedRules(t, o, cell{text: "  "}, cell{})
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
