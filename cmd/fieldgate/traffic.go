package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/api/client"
)

func newTraffic(c *cli) *cobra.Command {
	var wanted *filterFlags
	var follow bool
	var limit int
	command := &cobra.Command{
		Use:   "traffic",
		Short: "Show exchanges: who called what, what was decided, and why",
		Example: `  fieldgate traffic --follow
  fieldgate traffic --principal d7 --status 4xx
  fieldgate traffic --finding invalid-request --output json`,
		Args: arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			if follow && command.Flags().Changed("limit") {
				return usagef("--follow has no --limit: it goes on until Ctrl-C")
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			if follow {
				return followTraffic(command.Context(), c, command.OutOrStdout(), command.ErrOrStderr(), admin, wanted.String())
			}
			answer, err := admin.ListTrafficWithResponse(command.Context(), &api.ListTrafficParams{Filter: wanted.String(), Limit: limit})
			if err != nil {
				return err
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), answer.JSON200.Items)
			}
			t := newTable(command.OutOrStdout(), trafficHeader...)
			for i := len(answer.JSON200.Items) - 1; i >= 0; i-- { // the newest last, next to the prompt
				t.add(trafficRow(&answer.JSON200.Items[i])...)
			}
			return t.flush()
		},
	}
	command.AddCommand(trafficSummary(c), trafficUndocumented(c))
	flags := command.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "show exchanges as they happen, until Ctrl-C")
	flags.IntVarP(&limit, "limit", "n", 100, "how many of the newest, up to 1000")
	wanted = addFilter(command, "protocol, api, version, operation, principal, kind, model, firmware, status, problem, finding, node, device, app and since").
		key("protocol", "protocol", "", "only http, websocket, sse, mqtt or coap").
		key("api", "api", "", "only this API").
		key("principal", "principal", "", "only this device or app").
		key("status", "status", "", "only a status such as 404, 2xx, ok, denied or failed").
		key("finding", "finding", "", "only with this finding, such as undocumented or invalid-request")
	return command
}

var trafficHeader = []string{"TIME", "PROTOCOL", "CALLER", "OPERATION", "STATUS", "VERDICT", "LATENCY", "IN", "OUT", "DETAIL"}

// trafficWidths hold the columns of live lines in place; longer values push the line out rather than being cut.
var trafficWidths = []int{12, 9, 22, 34, 6, 22, 7, 8, 8, 0}

func trafficRow(r *api.TrafficRecord) []cell {
	return []cell{
		{r.Time.Local().Format("15:04:05.000"), faint},
		{text: string(r.Protocol)},
		{text: dash(r.Principal)},
		{text: operationText(r)},
		statusCell(r.Status),
		verdictCell(r),
		{text: micros(r.DurationMicros)},
		{text: bytesText(r.BytesIn)},
		{text: bytesText(r.BytesOut)},
		{reason(r), faint},
	}
}

// reason is the place that is wrong, or else the rule that decided: "upstream-unreachable" alone does not say which upstream. What was
// not refused may stand for several.
func reason(r *api.TrafficRecord) string {
	if r.Detail == "" && r.Problem != "" {
		return r.Rule
	}
	if r.Exchanges > 1 {
		return fmt.Sprintf("%d alike", r.Exchanges)
	}
	return r.Detail
}

// operationText is the operation, or the method and route where no contract explains the exchange.
func operationText(r *api.TrafficRecord) string {
	if r.Route != "" || r.Operation == "" {
		return strings.TrimSpace(r.Method + " " + r.Route)
	}
	return r.Api + "/" + r.Operation
}

func statusCell(status int) cell {
	c := cell{text: fmt.Sprint(status), colour: green}
	switch {
	case status >= 500:
		c.colour = red
	case status >= 400:
		c.colour = yellow
	}
	return c
}

// verdictCell is the reason of a refusal, or the findings of an exchange that passed.
func verdictCell(r *api.TrafficRecord) cell {
	if r.Problem != "" {
		if r.Status >= 500 {
			return cell{r.Problem, red}
		}
		return cell{r.Problem, yellow}
	}
	if len(r.Findings) == 0 {
		return cell{"pass", green}
	}
	names := make([]string, len(r.Findings))
	for i, f := range r.Findings {
		names[i] = string(f)
	}
	return cell{"pass: " + strings.Join(names, ", "), yellow}
}

// followTraffic prints exchanges as they happen: a table's line for people, a JSON object on each line for programs.
func followTraffic(ctx context.Context, c *cli, out, notes io.Writer, admin *client.ClientWithResponses, wanted string) error {
	stream, err := admin.StreamTraffic(ctx, &api.StreamTrafficParams{Filter: wanted})
	if err != nil {
		return err
	}
	defer stream.Body.Close()
	t := newTable(out)
	t.widths = append(t.widths, trafficWidths...)
	if c.output == formatTable {
		t.add(boldCells(trafficHeader...)...)
		if err := t.flush(); err != nil {
			return err
		}
	}
	err = client.ReadEvents(stream.Body, func(event string, data []byte) error {
		switch event {
		case "exchange":
			if c.output == formatJSON {
				_, err := fmt.Fprintf(out, "%s\n", data)
				return err
			}
			var record api.TrafficRecord
			if err := json.Unmarshal(data, &record); err != nil {
				return fmt.Errorf("an event of the stream cannot be read: %w", err)
			}
			t.widths = append(t.widths[:0], trafficWidths...)
			t.add(trafficRow(&record)...)
			return t.flush()
		case "dropped":
			var dropped struct{ Count int64 }
			if err := json.Unmarshal(data, &dropped); err != nil {
				return fmt.Errorf("an event of the stream cannot be read: %w", err)
			}
			fmt.Fprintf(notes, "%s left out: this terminal is slower than the traffic; filter it\n", plural(dropped.Count, "exchange"))
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("the server ended the stream: it was stopped, or started anew")
	}
	return err
}

func trafficSummary(c *cli) *cobra.Command {
	var params api.GetTrafficSummaryParams
	command := &cobra.Command{
		Use:     "summary",
		Short:   "Show rates of the last seconds, and each operation over the last minutes",
		Example: "  fieldgate traffic summary --seconds 60 --minutes 1440",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.GetTrafficSummaryWithResponse(command.Context(), &params)
			if err != nil {
				return err
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), answer.JSON200)
			}
			return printSummary(command.OutOrStdout(), answer.JSON200)
		},
	}
	command.Flags().IntVar(&params.Seconds, "seconds", 10, "how far rates look back, up to 300")
	command.Flags().IntVar(&params.Minutes, "minutes", 60, "how far operations look back, up to 10080")
	command.Flags().StringVar(&params.Api, "api", "", "only this API")
	return command
}

func printSummary(w io.Writer, s *api.TrafficSummary) error {
	fmt.Fprintf(w, "%s in the last %s: %.1f/s\n\n", plural(s.Exchanges, "exchange"), time.Duration(s.Seconds)*time.Second, s.PerSecond)
	if err := printProtocols(w, s.Protocols); err != nil {
		return err
	}
	if len(s.Problems)+len(s.Findings) > 0 {
		fmt.Fprintln(w)
		if err := printCounts(w, s); err != nil {
			return err
		}
	}
	if len(s.Operations) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\nOperations of the last %d minutes\n", s.Minutes)
	return printOperations(w, s.Operations)
}

func printProtocols(w io.Writer, protocols []api.ProtocolTraffic) error {
	t := newTable(w, "PROTOCOL", "PER SECOND", "PASSED", "REFUSED", "FAILED", "IN", "OUT")
	for i := range protocols {
		t.add(protocolRow(&protocols[i])...)
	}
	return t.flush()
}

func protocolRow(p *api.ProtocolTraffic) []cell {
	return []cell{{text: string(p.Protocol)}, {text: fmt.Sprintf("%.1f", p.PerSecond)}, countCell(p.Passed, green), countCell(p.Refused, yellow), countCell(p.Failed, red),
		{text: bytesText(p.BytesIn)}, {text: bytesText(p.BytesOut)}}
}

func printCounts(w io.Writer, s *api.TrafficSummary) error {
	t := newTable(w, "VERDICT OR FINDING", "COUNT", "NEWEST")
	countRows(t, s)
	return t.flush()
}

// countRows lists refusals and findings. Both tell of the same exchanges: a refusal is what the caller heard, a finding
// what was noticed.
func countRows(t *table, s *api.TrafficSummary) {
	for _, p := range s.Problems {
		t.add(cell{text: p.Name, colour: yellow}, cell{text: fmt.Sprint(p.Count)}, cell{p.Example, faint})
	}
	for _, f := range s.Findings {
		t.add(cell{text: "finding: " + f.Name}, cell{text: fmt.Sprint(f.Count)}, cell{f.Example, faint})
	}
}

func countCell(n int64, c colour) cell {
	if n == 0 {
		c = faint
	}
	return cell{fmt.Sprint(n), c}
}

func printOperations(w io.Writer, operations []api.OperationTraffic) error {
	t := newTable(w, "API", "VERSION", "OPERATION", "EXCHANGES", "PASSED", "REFUSED", "FAILED", "CALLERS", "P50", "P90", "P99", "IN", "OUT")
	for _, o := range operations {
		t.add(cell{text: dash(o.Api)}, cell{text: dash(o.Version)}, cell{text: dash(o.Operation)}, cell{text: fmt.Sprint(o.Exchanges)}, countCell(o.Passed, green), countCell(o.Refused, yellow),
			countCell(o.Failed, red), cell{text: fmt.Sprint(o.Devices)}, cell{text: micros(o.P50Micros)}, cell{text: micros(o.P90Micros)},
			cell{text: micros(o.P99Micros)}, cell{text: bytesText(o.BytesIn)}, cell{text: bytesText(o.BytesOut)})
	}
	return t.flush()
}

func trafficUndocumented(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "undocumented",
		Short:   "Show the routes and topics that were seen and that no contract explains",
		Example: "  fieldgate traffic undocumented",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.ListUndocumentedWithResponse(command.Context(), &api.ListUndocumentedParams{Limit: pageSize})
			if err != nil {
				return err
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), answer.JSON200)
			}
			t := newTable(command.OutOrStdout(), "PROTOCOL", "METHOD", "ROUTE", "EXCHANGES", "PASSED BY", "LAST CALLER", "FIRST SEEN", "LAST SEEN")
			for _, r := range answer.JSON200.Items {
				t.add(cells(string(r.Protocol), r.Method, r.Route, fmt.Sprint(r.Exchanges), dash(r.Api), dash(r.LastPrincipal), shortTime(r.FirstSeen), shortTime(r.LastSeen))...)
			}
			if err := t.flush(); err != nil {
				return err
			}
			if n := answer.JSON200.Overflow; n > 0 {
				fmt.Fprintf(command.ErrOrStderr(), "%s on further routes are counted but not listed\n", plural(n, "exchange"))
			}
			return nil
		},
	}
}
