package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/api/client"
)

const coapPeerListing = "fieldgate coap peer list"

func coapPeer(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:     "peer",
		Short:   "See who speaks CoAP with the gateways, what they observe, and what is on its way in blocks",
		Example: "  fieldgate coap peer list --device pump-17\n  fieldgate coap peer show 10.0.0.7:40112\n  fieldgate coap peer end 10.0.0.7:40112",
	}, coapPeerList(c), coapPeerShow(c), coapPeerEnd(c))
}

func coapPeerList(c *cli) *cobra.Command {
	var wanted *filterFlags
	command := &cobra.Command{
		Use:     "list",
		Short:   "List peers in the order of their addresses, over all gateways",
		Example: "  fieldgate coap peer list\n  fieldgate coap peer list --device pump-17\n  fieldgate coap peer list --filter 'session:yes credential:psk'\n  fieldgate coap peer list --filter 'observes:yes since:5m' --output json",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			var missing []string
			err = printPages(c, command.OutOrStdout(), []string{"SOURCE", "CALLER", "LISTENER", "CREDENTIAL", "OPENED", "HEARD", "OBSERVES", "TRANSFERS", "REQUESTS", "VERIFIED", "GATEWAY"}, func(cursor string) ([]api.CoapPeer, string, error) {
				answer, err := admin.ListCoapPeersWithResponse(command.Context(), &api.ListCoapPeersParams{Filter: wanted.String(), Cursor: cursor, Limit: pageSize})
				if err != nil {
					return nil, "", err
				}
				missing = answer.JSON200.Missing
				return answer.JSON200.Items, answer.JSON200.Next, nil
			}, func(p api.CoapPeer) []cell {
				return cells(p.Source, dash(callerText(p.Kind, p.Principal)), p.Listener, dash(p.Credential), timeText(p.OpenedAt), timeText(p.HeardAt), fmt.Sprint(p.Observations), fmt.Sprint(p.Transfers), fmt.Sprint(p.Requests), yesOrNo(p.Verified), p.Node)
			})
			noteMissing(command.ErrOrStderr(), missing)
			return err
		},
	}
	wanted = addFilter(command, "source, principal, kind, device, listener, node, observes, transfers, verified, session, credential and since").
		key("device", "device", "", "only peers of this device").
		key("listener", "listener", "", "only peers of this listener, such as coap").
		key("node", "node", "", "only peers of this gateway")
	return command
}

func yesOrNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func coapPeerShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "show SOURCE",
		Short:   "Show one peer: what it observes, and what is on its way in blocks",
		Example: "  fieldgate coap peer show 10.0.0.7:40112",
		Args:    arguments("SOURCE"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			found, err := findPeer(command, admin, &filterTerm{key: "source", value: args[0]})
			if err != nil {
				return err
			}
			if len(found) == 0 {
				return fmt.Errorf("no gateway knows a peer at %s: it has forgotten it, or never heard it. See %q", args[0], coapPeerListing)
			}
			answer, err := admin.GetCoapPeerWithResponse(command.Context(), found[0].Id)
			if err != nil {
				return hinted(err, coapPeerListing)
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), answer.JSON200)
			}
			return printCoAPPeer(command.OutOrStdout(), answer.JSON200)
		},
	}
}

// findPeer lists at most two peers that all terms are true of.
func findPeer(command *cobra.Command, admin *client.ClientWithResponses, terms ...*filterTerm) ([]api.CoapPeer, error) {
	list, err := admin.ListCoapPeersWithResponse(command.Context(), &api.ListCoapPeersParams{Filter: (&filterFlags{terms: terms}).String(), Limit: 2})
	if err != nil {
		return nil, err
	}
	noteMissing(command.ErrOrStderr(), list.JSON200.Missing)
	return list.JSON200.Items, nil
}

func coapPeerEnd(c *cli) *cobra.Command {
	var reason, listener string
	var yes bool
	command := &cobra.Command{
		Use:   "end SOURCE",
		Short: "End the DTLS session or the connection of a peer",
		Long: "End the DTLS session, or the connection of TCP, TLS or WebSocket, of a peer. Its client is told so, its observations end, and it may come again: " +
			"quarantine or revoke the device to keep it out. UDP has no sessions.",
		Example: "  fieldgate coap peer end 10.0.0.7:40112 --reason 'it holds an old key'\n  fieldgate coap peer end 10.0.0.7:40112 --yes",
		Args:    arguments("SOURCE"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			found, err := findPeer(command, admin, &filterTerm{key: "source", value: args[0]}, &filterTerm{key: "listener", value: listener}, &filterTerm{key: "session", value: "yes"})
			if err != nil {
				return err
			}
			if len(found) == 0 {
				return fmt.Errorf("no peer at %s has a session or connection: it has ended, or it speaks CoAP over UDP. See %q", args[0], coapPeerListing+" --filter session:yes")
			}
			if len(found) > 1 {
				return fmt.Errorf("peers of several listeners come from %s: add --listener with %s or %s", args[0], found[0].Listener, found[1].Listener)
			}
			p, in := &found[0], command.InOrStdin()
			if !yes {
				if !isTerminalInput(in) {
					return usagef("nobody is there to be asked: add --yes to end the session")
				}
				what := fmt.Sprintf("End what %s has at %s since %s, with %s?", cmp.Or(callerText(p.Kind, p.Principal), p.Source), p.Listener, timeText(p.OpenedAt), plural(p.Observations, "observation"))
				if err := askYes(in, command.ErrOrStderr(), what); err != nil {
					return err
				}
			}
			answer, err := admin.EndCoapSessionWithResponse(command.Context(), p.Id, &api.EndCoapSessionParams{Reason: reason})
			if err != nil {
				return hinted(err, coapPeerListing)
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), answer.JSON200)
			}
			noteMissing(command.ErrOrStderr(), answer.JSON200.Missing)
			if len(answer.JSON200.Nodes) == 0 {
				fmt.Fprintln(command.OutOrStdout(), "It had ended meanwhile: nothing was done.")
				return nil
			}
			fmt.Fprintf(command.OutOrStdout(), "Ended what %s had at %s.\n", cmp.Or(callerText(p.Kind, p.Principal), p.Source), p.Listener)
			return nil
		},
	}
	command.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	command.Flags().StringVar(&listener, "listener", "", "the listener, where peers of several come from one source")
	command.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return command
}

func printCoAPPeer(w io.Writer, d *api.CoapPeerDetail) error {
	p := &d.Peer
	t := newTable(w)
	t.add(cells("source", p.Source)...)
	t.add(cells("caller", dash(callerText(p.Kind, p.Principal)))...)
	t.add(cells("listener", p.Listener)...)
	t.add(cells("credential", dash(p.Credential))...)
	if !p.OpenedAt.IsZero() {
		t.add(cells("opened", timeText(p.OpenedAt))...)
		t.add(cells("cipher", dash(p.Cipher))...)
	}
	if p.Listener == "coaps" {
		t.add(cells("connection ID", yesOrNo(p.ConnectionId))...)
	}
	t.add(cells("heard", timeText(p.HeardAt))...)
	t.add(cells("verified", yesOrNo(p.Verified))...)
	t.add(cells("requests", fmt.Sprintf("%d not answered yet", p.Requests))...)
	t.add(cells("calls", fmt.Sprintf("%d of the gateway not answered yet", p.Calls))...)
	t.add(cells("gateway", p.Node)...)
	if err := t.flush(); err != nil {
		return err
	}
	if len(d.Observations) > 0 {
		fmt.Fprintln(w)
		t = newTable(w, "OBSERVES", "SINCE", "NOTIFICATIONS", "STATE")
		for _, o := range d.Observations {
			state := "acknowledged"
			if o.Waiting {
				state = "waits for an acknowledgement"
			}
			t.add(cells(o.Path, timeText(o.Since), fmt.Sprint(o.Sent), state)...)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if len(d.Transfers) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t = newTable(w, "IN BLOCKS", "PATH", "DIRECTION", "SIZE", "NEWEST BLOCK")
	for _, x := range d.Transfers {
		direction, size := "to it", bytesText(x.Bytes)
		if x.Upload {
			direction = "from it"
		}
		if x.Size > 0 {
			size += " of " + bytesText(x.Size)
		}
		t.add(cells(x.Method, x.Path, direction, size, timeText(x.UsedAt))...)
	}
	return t.flush()
}
