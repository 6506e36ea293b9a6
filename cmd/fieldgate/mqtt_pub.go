package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/protocol/mqtt"
)

// maxPublished bounds a payload that is read from a file or from standard input.
const maxPublished = 16 << 20

func mqttPub(c *cli) *cobra.Command {
	var connect mqttFlags
	var properties messageFlags
	var file string
	var lines bool
	message := mqtt.Publish{QoS: 1}
	qos := qosFlag{&message.QoS}
	command := &cobra.Command{
		Use:   "pub TOPIC [PAYLOAD]",
		Short: "Publish a message as a device or app would",
		Long: `Publish a message as a device or app would. The payload is an argument, a file (--file), or standard input (-). At QoS 1, which is the
default, the gateway says whether it took the message; at QoS 0 nobody does. The token comes from --token-file, from $` + tokenVariable + `, or is asked
for; never from an argument, which others on the machine can read.`,
		Example: `  fieldgate mqtt pub plant/hall-1/temperature '{"temp": 21.5}' --token-file device.token
  fieldgate mqtt pub plant/hall-1/picture --file picture.jpg --content-type image/jpeg --retain
  tail -f readings.jsonl | fieldgate mqtt pub plant/hall-1/temperature - --lines`,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("TOPIC is missing")
			}
			if len(args) > 2 {
				return usagef("%q is one argument too many: put the payload into quotes", args[2])
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			message.Topic = []byte(args[0])
			if !mqtt.ValidTopic(message.Topic) {
				return usagef("%q is no topic to publish on: it has neither + nor #, and at least one character", args[0])
			}
			if (len(args) == 2) == (file != "") {
				return usagef("give one payload: as an argument, with --file FILE, or - for standard input")
			}
			if lines && (len(args) != 2 || args[1] != "-") {
				return usagef("--lines publishes each line of standard input: write - for the payload")
			}
			if err := properties.apply(&message.Properties); err != nil {
				return err
			}
			ctx := command.Context()
			client, err := connect.dial(ctx, command.ErrOrStderr(), nil)
			if err != nil {
				return err
			}
			defer client.Disconnect(mqtt.Success)
			published := 0
			publish := func(payload []byte) error {
				message.Payload = payload
				if err := client.Publish(ctx, &message); err != nil {
					return connect.explain(err)
				}
				published++
				return nil
			}
			if lines {
				err = eachLine(ctx, command.InOrStdin(), publish)
			} else {
				var payload []byte
				if payload, err = readPayload(command.InOrStdin(), args[1:], file); err == nil {
					err = publish(payload)
				}
			}
			if err != nil || ctx.Err() != nil {
				return err
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), map[string]any{"topic": args[0], "qos": message.QoS, "retain": message.Retain, "published": published})
			}
			word := "published on " + args[0]
			if message.QoS == 0 {
				word = "sent to " + args[0] + "; at QoS 0 nobody says whether it was taken"
			}
			if lines {
				word = plural(published, "message") + " " + word
			}
			_, err = fmt.Fprintln(command.OutOrStdout(), word)
			return err
		},
	}
	connect.add(c, command)
	properties.add(command)
	flags := command.Flags()
	flags.VarP(qos, "qos", "q", "0, 1 or 2")
	flags.BoolVarP(&message.Retain, "retain", "r", false, "keep it for those who subscribe later; an empty payload deletes what is kept")
	flags.StringVarP(&file, "file", "f", "", "file with the payload")
	flags.BoolVarP(&lines, "lines", "l", false, "publish each line of standard input")
	return command
}

func readPayload(in io.Reader, args []string, file string) ([]byte, error) {
	if file == "" && args[0] != "-" {
		return []byte(args[0]), nil
	}
	if file != "" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
		defer opened.Close()
		in = opened
	}
	payload, err := io.ReadAll(io.LimitReader(in, maxPublished+1))
	if err == nil && len(payload) > maxPublished {
		err = fmt.Errorf("a payload has at most %s", bytesText(maxPublished))
	}
	return payload, err
}

// eachLine publishes lines until they end or the context does. Reading cannot be interrupted: the goroutine that waits for a line ends
// with the program.
func eachLine(ctx context.Context, in io.Reader, publish func([]byte) error) error {
	lines, failed := make(chan []byte), make(chan error, 1)
	go func() {
		scanner := bufio.NewScanner(in)
		scanner.Buffer(make([]byte, 0, 64<<10), maxPublished)
		for scanner.Scan() {
			lines <- bytes.Clone(scanner.Bytes())
		}
		failed <- scanner.Err()
	}()
	for {
		select {
		case line := <-lines:
			if err := publish(line); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// qosFlag is a flag with a quality of service.
type qosFlag struct{ qos *byte }

func (f qosFlag) String() string {
	if f.qos == nil {
		return "1"
	}
	return fmt.Sprint(*f.qos)
}
func (f qosFlag) Type() string { return "QOS" }
func (f qosFlag) Set(text string) error {
	if len(text) != 1 || text[0] < '0' || text[0] > '2' {
		return errors.New("it is 0, 1 or 2")
	}
	*f.qos = text[0] - '0'
	return nil
}

// messageFlags are the version 5 properties of a message.
type messageFlags struct {
	contentType, responseTopic, correlation string
	expiry                                  time.Duration
	user                                    []string
}

func (f *messageFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.contentType, "content-type", "", "such as application/json")
	flags.StringVar(&f.responseTopic, "response-topic", "", "topic for the answer")
	flags.StringVar(&f.correlation, "correlation-data", "", "what the answer brings back")
	flags.DurationVar(&f.expiry, "expiry", 0, "how long it is of use to subscribers, in whole seconds")
	flags.StringArrayVar(&f.user, "property", nil, "user property NAME=VALUE; may be given several times")
}

func (f *messageFlags) apply(p *mqtt.Properties) error {
	for id, text := range map[mqtt.PropertyID]string{mqtt.ContentType: f.contentType, mqtt.ResponseTopic: f.responseTopic, mqtt.CorrelationData: f.correlation} {
		if text != "" {
			p.SetText(id, []byte(text))
		}
	}
	if f.expiry%time.Second != 0 || f.expiry < 0 || f.expiry/time.Second > neverExpires {
		return usagef("--expiry is in whole seconds, such as 30s or 10m")
	}
	if f.expiry > 0 {
		p.SetNumber(mqtt.MessageExpiryInterval, uint32(f.expiry/time.Second))
	}
	for _, property := range f.user {
		name, value, ok := strings.Cut(property, "=")
		if !ok {
			return usagef("--property is NAME=VALUE, not %q", property)
		}
		p.AddUser(name, value)
	}
	return nil
}
