package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/api/client"
)

func mqttTopic(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:     "topic",
		Short:   "See the tree of topics",
		Example: "  fieldgate mqtt topic list\n  fieldgate mqtt topic list plant/hall-1/",
	}, mqttTopicList(c))
}

func mqttTopicList(c *cli) *cobra.Command {
	count := 3 * time.Second
	command := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List one level of the tree of topics, with messages a second and retained messages",
		Long: `List one level of the tree of topics, with messages a second and retained messages. Gateways count messages by topic only while somebody
looks: the command waits a moment while they do.`,
		Example: "  fieldgate mqtt topic list\n  fieldgate mqtt topic list plant/hall-1/ --count 10s",
		Args: func(command *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%q is one argument too many", args[1])
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			prefix := ""
			if len(args) > 0 {
				prefix = args[0]
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			// The first question makes them count.
			page, err := admin.ListTopicsWithResponse(command.Context(), &api.ListTopicsParams{Prefix: prefix, Limit: 1})
			if err != nil {
				return err
			}
			if left := count - time.Duration(page.JSON200.CountedSeconds*float64(time.Second)); left > 0 {
				if err := wait(command.Context(), left); err != nil {
					return err
				}
			}
			return listTopics(c, command, admin, prefix)
		},
	}
	command.Flags().DurationVar(&count, "count", count, "how long messages are counted at least, before rates are shown; 0s: not at all")
	return command
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func listTopics(c *cli, command *cobra.Command, admin *client.ClientWithResponses, prefix string) error {
	var last *api.TopicPage
	err := printPages(c, command.OutOrStdout(), []string{"TOPIC", "MESSAGES/S", "RETAINED", "BELOW"}, func(cursor string) ([]api.Topic, string, error) {
		answer, err := admin.ListTopicsWithResponse(command.Context(), &api.ListTopicsParams{Prefix: prefix, Cursor: cursor, Limit: pageSize})
		if err != nil {
			return nil, "", err
		}
		last = answer.JSON200
		return last.Items, last.Next, nil
	}, func(t api.Topic) []cell {
		topic := t.Topic
		if t.Below > 0 {
			topic += "/"
		}
		more := ""
		if t.AtLeast {
			more = "+"
		}
		return cells(topic, fmt.Sprintf("%.1f", t.PerSecond), fmt.Sprint(t.Retained)+more, fmt.Sprint(t.Below)+more)
	})
	if err != nil {
		return err
	}
	notes := command.ErrOrStderr()
	noteMissing(notes, last.Missing)
	if last.OthersPerSecond > 0 {
		fmt.Fprintf(notes, "%.1f messages a second come on topics beyond those that a gateway counts.\n", last.OthersPerSecond)
	}
	return nil
}

func mqttRetained(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:     "retained",
		Short:   "See and delete retained messages",
		Example: "  fieldgate mqtt retained list 'plant/#'\n  fieldgate mqtt retained show plant/hall-1/state",
	}, mqttRetainedList(c), mqttRetainedShow(c), mqttRetainedDelete(c))
}

func mqttRetainedList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "list [FILTER]",
		Short:   "List retained messages that a topic filter selects, without what they carry",
		Example: "  fieldgate mqtt retained list\n  fieldgate mqtt retained list 'plant/+/state' --output json",
		Args: func(command *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%q is one argument too many: put the filter into quotes", args[1])
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			var params api.ListRetainedParams
			if len(args) > 0 {
				params.Topic = args[0]
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			var missing []string
			err = printPages(c, command.OutOrStdout(), []string{"TOPIC", "SIZE", "QOS", "PUBLISHED", "BY", "EXPIRES"}, func(cursor string) ([]api.Retained, string, error) {
				params.Cursor, params.Limit = cursor, pageSize
				answer, err := admin.ListRetainedWithResponse(command.Context(), &params)
				if err != nil {
					return nil, "", err
				}
				missing = answer.JSON200.Missing
				return answer.JSON200.Items, answer.JSON200.Next, nil
			}, func(r api.Retained) []cell {
				return cells(r.Topic, bytesText(r.Bytes), fmt.Sprint(r.Qos), timeText(r.PublishedAt), dash(r.Principal), timeText(r.ExpiresAt))
			})
			noteMissing(command.ErrOrStderr(), missing)
			return err
		},
	}
}

func mqttRetainedShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "show TOPIC",
		Short: "Show a retained message with what it carries",
		Long: `Show a retained message with what it carries. What the contract says is secret has been taken out. It needs the scope devices.write, and
stands in the audit log.`,
		Example: "  fieldgate mqtt retained show plant/hall-1/state",
		Args:    arguments("TOPIC"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.GetRetainedWithResponse(command.Context(), &api.GetRetainedParams{Topic: args[0]})
			if err != nil {
				return hinted(err, "fieldgate mqtt retained list")
			}
			noteMissing(command.ErrOrStderr(), answer.JSON200.Missing)
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), answer.JSON200)
			}
			return printRetained(command.OutOrStdout(), answer.JSON200)
		},
	}
}

func printRetained(w io.Writer, d *api.RetainedDetail) error {
	r := &d.Message
	t := newTable(w)
	t.add(cells("topic", r.Topic)...)
	t.add(cells("size", bytesText(r.Bytes))...)
	t.add(cells("type", dash(r.ContentType))...)
	t.add(cells("QoS", fmt.Sprint(r.Qos))...)
	t.add(cells("published", timeText(r.PublishedAt))...)
	t.add(cells("by", dash(r.Principal))...)
	t.add(cells("expires", timeText(r.ExpiresAt))...)
	if d.Content.Note != "" {
		t.add(cells("note", d.Content.Note)...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(d.Content.Body) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n%s\n", printable(string(d.Content.Body)))
	return err
}

func mqttRetainedDelete(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "delete TOPIC",
		Short: "Delete a retained message on all gateways",
		Long: `Delete a retained message on all gateways. Subscribers hear an empty message, as if a publisher had deleted it. It needs the scope devices.write, and
stands in the audit log.`,
		Example: "  fieldgate mqtt retained delete plant/hall-1/state",
		Args:    arguments("TOPIC"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.DeleteRetainedWithResponse(command.Context(), &api.DeleteRetainedParams{Topic: args[0]})
			if err != nil {
				return hinted(err, "fieldgate mqtt retained list")
			}
			return printOutcome(c, command, answer.JSON200, args[0]+" has no retained message any more", answer.JSON200.Nodes, answer.JSON200.Missing)
		},
	}
}
