package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/api/client"
)

const sessionListing = "fieldgate mqtt session list"

func mqttSession(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:   "session",
		Short: "See what clients have at the gateways, close their connections, and end sessions",
		Example: `  fieldgate mqtt session list --filter 'state:away queue:waiting'
  fieldgate mqtt session show pump-17`,
	}, mqttSessionList(c), mqttSessionShow(c), mqttSessionDisconnect(c), mqttSessionEnd(c))
}

func mqttSessionList(c *cli) *cobra.Command {
	var wanted *filterFlags
	command := &cobra.Command{
		Use:     "list",
		Short:   "List sessions in the order of their client ids, over all gateways",
		Example: "  fieldgate mqtt session list\n  fieldgate mqtt session list --device pump-17\n  fieldgate mqtt session list --filter 'state:away queue:waiting' --output json",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			var missing []string
			err = printPages(c, command.OutOrStdout(), []string{"CLIENT", "CALLER", "STATE", "SINCE", "MQTT", "SUBSCRIPTIONS", "QUEUED", "IN FLIGHT", "SOURCE", "GATEWAY"}, func(cursor string) ([]api.MqttSession, string, error) {
				answer, err := admin.ListMqttSessionsWithResponse(command.Context(), &api.ListMqttSessionsParams{Filter: wanted.String(), Cursor: cursor, Limit: pageSize})
				if err != nil {
					return nil, "", err
				}
				missing = answer.JSON200.Missing
				return answer.JSON200.Items, answer.JSON200.Next, nil
			}, func(s api.MqttSession) []cell {
				return []cell{{text: dash(s.Client)}, {text: callerText(s.Kind, s.Principal)}, sessionState(&s), {text: timeText(s.Since)}, {text: dash(s.Version)}, {text: fmt.Sprint(s.Subscriptions)},
					{text: queueText(s.Queued, s.QueuedBytes)}, {text: fmt.Sprint(s.InFlight)}, {text: dash(s.Source)}, {text: s.Node}}
			})
			noteMissing(command.ErrOrStderr(), missing)
			return err
		},
	}
	wanted = addFilter(command, "client, principal, kind, device, node, state, version, keepalive, source, queue, subscription and since").
		key("device", "device", "", "only sessions of this device").
		key("state", "state", "", "only sessions in this state: connected or away").
		key("node", "node", "", "only sessions of this gateway")
	return command
}

func sessionState(s *api.MqttSession) cell {
	if s.Connected {
		return cell{text: "connected", colour: green}
	}
	return cell{text: "away", colour: faint}
}

func callerText(kind, principal string) string {
	if kind == "device" {
		return principal
	}
	return strings.TrimSpace(kind + " " + principal)
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return shortTime(t)
}

func queueText(messages int, bytes int64) string {
	if messages == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", messages, bytesText(bytes))
}

// findSession finds the session of a client id. Two principals may have clients of one id: then the device is to be named.
func findSession(command *cobra.Command, admin *client.ClientWithResponses, clientID, principal string) (*api.MqttSession, error) {
	filter := filterFlags{terms: []*filterTerm{{key: "client", value: clientID}, {key: "principal", value: principal}}}
	answer, err := admin.ListMqttSessionsWithResponse(command.Context(), &api.ListMqttSessionsParams{Filter: filter.String(), Limit: 2})
	if err != nil {
		return nil, err
	}
	found := answer.JSON200.Items
	switch len(found) {
	case 1:
		return &found[0], nil
	case 0:
		noteMissing(command.ErrOrStderr(), answer.JSON200.Missing)
		return nil, fmt.Errorf("no client %q has a session: it has ended, or never was. See %q", clientID, sessionListing)
	}
	return nil, fmt.Errorf("clients of several callers call themselves %q: add --principal with %s or %s", clientID, found[0].Principal, found[1].Principal)
}

// ofSession completes a command about one session, which run gets.
func ofSession(c *cli, command *cobra.Command, run func(command *cobra.Command, admin *client.ClientWithResponses, session *api.MqttSession) error) *cobra.Command {
	var principal string
	command.Args = arguments("CLIENT")
	command.Flags().StringVar(&principal, "principal", "", "the device or app whose client it is, where several have a client of that id")
	command.RunE = func(command *cobra.Command, args []string) error {
		admin, err := c.connect()
		if err != nil {
			return err
		}
		session, err := findSession(command, admin, args[0], principal)
		if err != nil {
			return err
		}
		return hinted(run(command, admin, session), sessionListing)
	}
	return command
}

func mqttSessionShow(c *cli) *cobra.Command {
	return ofSession(c, &cobra.Command{
		Use:     "show CLIENT",
		Short:   "Show one session: its subscriptions, its queue, what is in flight, and its will",
		Example: "  fieldgate mqtt session show pump-17",
	}, func(command *cobra.Command, admin *client.ClientWithResponses, session *api.MqttSession) error {
		answer, err := admin.GetMqttSessionWithResponse(command.Context(), session.Id)
		if err != nil {
			return err
		}
		noteMissing(command.ErrOrStderr(), answer.JSON200.Missing)
		if c.output == formatJSON {
			return printJSON(command.OutOrStdout(), answer.JSON200)
		}
		return printSession(command.OutOrStdout(), answer.JSON200)
	})
}

func printSession(w io.Writer, d *api.MqttSessionDetail) error {
	s := &d.Session
	t := newTable(w)
	t.add(cells("client", dash(s.Client))...)
	t.add(cells("caller", callerText(s.Kind, s.Principal))...)
	t.add(cell{text: "state"}, sessionState(s))
	t.add(cells("since", timeText(s.Since))...)
	if s.Connected {
		keepAlive := "none"
		if s.KeepAlive > 0 {
			keepAlive = fmt.Sprintf("%d s", s.KeepAlive)
		}
		t.add(cells("MQTT", s.Version+", keep-alive "+keepAlive)...)
		t.add(cells("source", s.Source)...)
	}
	t.add(cells("gateway", s.Node)...)
	t.add(cells("lasts", expiryText(s))...)
	t.add(cells("queue", fmt.Sprintf("%s of %d messages, %s of %s", fmt.Sprint(s.Queued), d.MaxQueued, bytesText(s.QueuedBytes), bytesText(d.MaxQueuedBytes)))...)
	t.add(cells("in flight", fmt.Sprint(s.InFlight))...)
	if d.Receiving > 0 {
		t.add(cells("receiving", fmt.Sprintf("%s at QoS 2, not released", plural(d.Receiving, "message")))...)
	}
	if will := d.Will; will != nil {
		text := fmt.Sprintf("%s, QoS %d, %s", will.Topic, will.Qos, bytesText(will.Bytes))
		if will.Retain {
			text += ", retained"
		}
		if will.DelaySeconds > 0 {
			text += fmt.Sprintf(", after %d s", will.DelaySeconds)
		}
		t.add(cells("will", text)...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(d.Subscriptions) > 0 {
		fmt.Fprintln(w)
		t = newTable(w, "SUBSCRIPTION", "QOS", "OPTIONS")
		for _, sub := range d.Subscriptions {
			options := cell{text: subscriptionOptions(&sub)}
			if sub.Mute {
				options.colour = yellow
			}
			t.add(cell{text: sub.Filter}, cell{text: fmt.Sprint(sub.Qos)}, options)
		}
		if err := t.flush(); err != nil {
			return err
		}
		if d.SubscriptionsNotShown > 0 {
			fmt.Fprintf(w, "%d more are not shown.\n", d.SubscriptionsNotShown)
		}
	}
	if len(d.Messages) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t = newTable(w, "IN FLIGHT", "TOPIC", "QOS", "SIZE", "STEP")
	for _, m := range d.Messages {
		step := "not acknowledged"
		if m.Released {
			step = "received, not completed"
		}
		t.add(cells(fmt.Sprint(m.Id), m.Topic, fmt.Sprint(m.Qos), bytesText(m.Bytes), step)...)
	}
	return t.flush()
}

const neverExpires = 0xFFFFFFFF // MQTT 5 section 3.1.2.11.2

func expiryText(s *api.MqttSession) string {
	switch {
	case s.ExpirySeconds == 0:
		return "as long as its connection"
	case s.ExpirySeconds == neverExpires:
		return "for ever"
	}
	return (time.Duration(s.ExpirySeconds) * time.Second).String() + " after its connection"
}

func subscriptionOptions(s *api.MqttSubscription) string {
	var options []string
	if s.NoLocal {
		options = append(options, "no local")
	}
	if s.RetainAsPublished {
		options = append(options, "retain as published")
	}
	if s.Id > 0 {
		options = append(options, fmt.Sprintf("id %d", s.Id))
	}
	if s.Mute {
		options = append(options, "mute: no contract lets it in any more")
	}
	return dash(strings.Join(options, ", "))
}

func mqttSessionDisconnect(c *cli) *cobra.Command {
	var reason string
	command := ofSession(c, &cobra.Command{
		Use:   "disconnect CLIENT",
		Short: "Close a client's connection; its session stays",
		Long: `Close a client's connection; its session stays. A version 5 client is told that it is an administrative action (0x98). Nothing keeps it from
connecting again: quarantine the device for that. It needs the scope devices.write, and stands in the audit log.`,
		Example: `  fieldgate mqtt session disconnect pump-17 --reason "it hangs"`,
	}, func(command *cobra.Command, admin *client.ClientWithResponses, session *api.MqttSession) error {
		answer, err := admin.DisconnectMqttSessionWithResponse(command.Context(), session.Id, api.Reason{Reason: reason})
		if err != nil {
			return err
		}
		return printOutcome(c, command, answer.JSON200, session.Client+" is disconnected", answer.JSON200.Nodes, answer.JSON200.Missing)
	})
	command.Flags().StringVar(&reason, "reason", "", "for the audit log")
	return command
}

func mqttSessionEnd(c *cli) *cobra.Command {
	var reason string
	var yes bool
	command := ofSession(c, &cobra.Command{
		Use:   "end CLIENT",
		Short: "Close a client's connection and forget its subscriptions and the messages that wait for it",
		Long: `Close a client's connection and forget its subscriptions and the messages that wait for it. Its will is published. This cannot be undone: say
--yes, where nobody can be asked. It needs the scope devices.write, and stands in the audit log.`,
		Example: `  fieldgate mqtt session end pump-17 --reason "replaced" --yes`,
	}, func(command *cobra.Command, admin *client.ClientWithResponses, session *api.MqttSession) error {
		if !yes {
			return usagef("ending the session of %s forgets %s and %s: repeat it with --yes", session.Client, plural(session.Subscriptions, "subscription"), plural(session.Queued+session.InFlight, "message"))
		}
		answer, err := admin.EndMqttSessionWithResponse(command.Context(), session.Id, &api.EndMqttSessionParams{Reason: reason})
		if err != nil {
			return err
		}
		return printOutcome(c, command, answer.JSON200, "the session of "+session.Client+" has ended", answer.JSON200.Nodes, answer.JSON200.Missing)
	})
	command.Flags().StringVar(&reason, "reason", "", "for the audit log")
	command.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return command
}
