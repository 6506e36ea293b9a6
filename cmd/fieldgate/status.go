package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/control/adminapi"
	"fieldgate/engine/store"
)

func newStatus(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show what runs here, and warnings",
		Example: "  fieldgate status\n  fieldgate status --output json",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.GetStatusWithResponse(command.Context())
			if err != nil {
				return err
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), answer.JSON200)
			}
			return printStatus(command.OutOrStdout(), answer.JSON200)
		},
	}
}

func printStatus(w io.Writer, s *api.Status) error {
	t := newTable(w)
	t.add(cells("node", s.Node)...)
	t.add(cells("version", s.Version)...)
	t.add(cells("role", fmt.Sprintf("%s, on %s and %s", s.Role, s.Store, s.Bus))...)
	t.add(cells("since", shortTime(s.StartedAt))...)
	for _, l := range s.Listeners {
		t.add(cells(l.Name, l.Address)...)
	}
	t.add(cells("APIs", fmt.Sprintf("%d (snapshot %d)", s.Apis, s.Snapshot))...)
	t.add(cells("devices", fmt.Sprint(s.Devices))...)
	t.add(cells("apps", fmt.Sprint(s.Apps))...)
	t.add(cells("exchanges", fmt.Sprint(s.Exchanges))...)
	for i := range s.Gateways {
		g := &s.Gateways[i]
		t.add(cells("gateway "+g.Node, gatewayText(g))...)
		for j := range g.Coap {
			t.add(cells(g.Coap[j].Name+" "+g.Node, coapListenerText(&g.Coap[j], g.Dtls))...)
		}
		for j := range g.Certificates {
			t.add(cells("certificate", certificateText(&g.Certificates[j]))...)
		}
	}
	for _, h := range s.Health {
		t.add(cell{text: string(h.Part) + " " + h.Node, colour: red}, cell{text: "since " + shortTime(h.Since) + ": " + h.Message})
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(s.Warnings) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return printDiagnoses(w, diagnosesOf(s.Warnings))
}

// gatewayText is what a gateway has in force and what it keeps.
func gatewayText(g *api.Gateway) string {
	text := fmt.Sprintf("snapshot %d, change %d of the directory, %s", g.Snapshot, g.Directory, plural(g.Connections, "connection"))
	if g.RecordsWaiting > 0 {
		text += fmt.Sprintf(", keeps %s of records", bytesText(g.RecordsWaiting))
		if !g.RecordsSince.IsZero() {
			text += " since " + shortTime(g.RecordsSince)
		}
	}
	if g.RecordsDropped > 0 {
		text += fmt.Sprintf(", has dropped %s", plural(g.RecordsDropped, "record"))
	}
	return text
}

// coapListenerText is who comes to a CoAP listener, and what it had to refuse.
func coapListenerText(l *api.CoapListener, secured *api.DtlsState) string {
	texts := []string{plural(l.Peers, "peer"), plural(l.Observations, "observation")}
	if l.Name == "coaps" && secured != nil {
		texts[0] = plural(secured.Sessions, "session")
		texts = append(texts, plural(secured.Handshakes, "handshake"))
		for _, r := range secured.Refused {
			texts = append(texts, fmt.Sprintf("%d refused: %s", r.Count, r.Reason))
		}
	}
	if l.Refused > 0 {
		texts = append(texts, fmt.Sprintf("%d refused at a limit", l.Refused))
	}
	if l.Limited > 0 {
		texts = append(texts, fmt.Sprintf("%d cut down for unverified addresses", l.Limited))
	}
	return strings.Join(texts, ", ")
}

// subject is the API and version, the upstream or the gateway that a warning is about.
func subject(w *api.Warning) string {
	return cmp.Or(strings.TrimSpace(w.Api+" "+w.Version), w.Upstream, w.Node)
}

// engines names what this node stands on.
func (e *environment) engines() adminapi.Engines {
	named := adminapi.Engines{Store: "SQLite", Bus: "embedded"}
	if store.IsPostgres(e.Store.URL) {
		named.Store = "PostgreSQL"
	}
	if e.Bus.URL != "" {
		named.Bus = "NATS"
	}
	return named
}
