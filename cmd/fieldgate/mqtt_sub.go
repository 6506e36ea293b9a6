package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"fieldgate/protocol/mqtt"
)

func mqttSub(c *cli) *cobra.Command {
	var connect mqttFlags
	var options mqtt.Filter
	options.QoS = 1
	var count int
	var timeout time.Duration
	var skipRetained, payloadOnly bool
	qos := qosFlag{&options.QoS}
	command := &cobra.Command{
		Use:   "sub FILTER...",
		Short: "Subscribe as a device or app would, and print what comes",
		Long: `Subscribe as a device or app would, and print what comes until Ctrl-C, --count or --timeout: the topic and the payload, with --output json one
object a line. It hears what the contract lets its token hear; operators see all messages on the console's page Live messages.`,
		Example: `  fieldgate mqtt sub 'plant/#' --token-file app.token
  fieldgate mqtt sub 'plant/+/temperature' --count 1 --timeout 10s --output json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("FILTER is missing, such as 'plant/#'")
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			var filters []mqtt.Filter
			for _, text := range args {
				if !mqtt.ValidFilter([]byte(text)) {
					return usagef("%q is no topic filter: + stands for one whole level and # for all that follow, such as plant/+/temperature or plant/#", text)
				}
				f := options
				f.Filter = []byte(text)
				if skipRetained {
					f.RetainHandling = 2
				}
				filters = append(filters, f)
			}
			ctx := command.Context()
			out := command.OutOrStdout()
			printed, failed := 0, make(chan error, 1)
			enough := make(chan struct{})
			client, err := connect.dial(ctx, command.ErrOrStderr(), func(p *mqtt.Publish) {
				if count > 0 && printed == count {
					return
				}
				if err := printMessage(out, c.output, payloadOnly, p); err != nil {
					select {
					case failed <- err:
					default:
					}
				}
				if printed++; printed == count {
					close(enough)
				}
			})
			if err != nil {
				return err
			}
			defer client.Disconnect(mqtt.Success)
			reasons, err := client.Subscribe(ctx, filters...)
			if err != nil {
				return connect.explain(err)
			}
			for i, reason := range reasons {
				if reason.Failed() {
					return fmt.Errorf("%s: %w", args[i], connect.explain(&mqtt.ReasonError{Packet: mqtt.SUBACK, Reason: reason}))
				}
			}
			if notes := command.ErrOrStderr(); isTerminal(notes) {
				fmt.Fprintf(notes, "Listening on %s; Ctrl-C ends it.\n", strings.Join(args, ", "))
			}
			var over <-chan time.Time
			if timeout > 0 {
				over = time.After(timeout)
			}
			select {
			case <-enough:
				return nil
			case <-ctx.Done():
				return nil
			case <-over:
				if count > 0 {
					return fmt.Errorf("no %s within %s", plural(count, "message"), timeout)
				}
				return nil
			case err := <-failed:
				return err
			case <-client.Done():
				err := client.Err()
				if errors.Is(err, io.EOF) {
					return errors.New("the gateway ended the connection: it was stopped, or started anew")
				}
				return connect.explain(err)
			}
		},
	}
	connect.add(c, command)
	flags := command.Flags()
	flags.VarP(qos, "qos", "q", "the highest that is wanted: 0, 1 or 2")
	flags.IntVarP(&count, "count", "n", 0, "end after so many messages")
	flags.DurationVar(&timeout, "timeout", 0, "end after so long; with --count it is a failure if they have not come")
	flags.BoolVar(&skipRetained, "skip-retained", false, "only what is published from now on")
	flags.BoolVar(&options.NoLocal, "no-local", false, "not what this client publishes itself")
	flags.BoolVar(&options.RetainAsPublished, "retain-as-published", false, "say of each message whether it was published to be retained")
	flags.BoolVar(&payloadOnly, "payload-only", false, "print payloads as they are, each with a line feed, without topics")
	return command
}

// heardMessage is a message in JSON. Of Payload and PayloadBase64 one is there.
type heardMessage struct {
	Topic         string      `json:"topic"`
	Payload       *string     `json:"payload,omitempty"`
	PayloadBase64 string      `json:"payloadBase64,omitempty"`
	QoS           byte        `json:"qos"`
	Retain        bool        `json:"retain"`
	ContentType   string      `json:"contentType,omitempty"`
	ResponseTopic string      `json:"responseTopic,omitempty"`
	Correlation   []byte      `json:"correlationData,omitempty"`
	User          [][2]string `json:"userProperties,omitempty"`
	Time          time.Time   `json:"time"`
}

func printMessage(w io.Writer, output format, payloadOnly bool, p *mqtt.Publish) error {
	switch {
	case output == formatJSON:
		m := heardMessage{Topic: string(p.Topic), QoS: p.QoS, Retain: p.Retain, ContentType: string(p.Properties.Text(mqtt.ContentType)),
			ResponseTopic: string(p.Properties.Text(mqtt.ResponseTopic)), Correlation: p.Properties.Text(mqtt.CorrelationData), Time: time.Now()}
		for _, pair := range p.Properties.User {
			m.User = append(m.User, [2]string{string(pair.Key), string(pair.Value)})
		}
		if text := string(p.Payload); utf8.ValidString(text) {
			m.Payload = &text
		} else {
			m.PayloadBase64 = base64.StdEncoding.EncodeToString(p.Payload)
		}
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(m)
	case payloadOnly:
		_, err := w.Write(append(p.Payload[:len(p.Payload):len(p.Payload)], '\n'))
		return err
	}
	payload := printable(string(p.Payload))
	if !utf8.Valid(p.Payload) {
		payload = fmt.Sprintf("(%s that are no text; see them with --output json)", bytesText(int64(len(p.Payload))))
	}
	_, err := fmt.Fprintf(w, "%s %s\n", printable(string(p.Topic)), payload)
	return err
}
