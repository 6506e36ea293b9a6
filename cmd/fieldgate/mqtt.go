package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func newMQTT(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:   "mqtt",
		Short: "See and handle MQTT sessions, topics and retained messages; publish and subscribe for trying",
		Example: `  fieldgate mqtt session list --filter state:connected
  fieldgate mqtt topic list plant/
  fieldgate mqtt retained list 'plant/#'
  fieldgate mqtt sub 'plant/#' --token-file app.token
  fieldgate mqtt pub plant/hall-1/temperature '{"temp": 21.5}' --token-file device.token`,
	}, mqttSession(c), mqttTopic(c), mqttRetained(c), mqttPub(c), mqttSub(c))
}

// noteMissing says which gateways an answer lacks.
func noteMissing(w io.Writer, missing []string) {
	if len(missing) > 0 {
		fmt.Fprintf(w, "Not all is shown, because these gateways do not answer: %s. See \"fieldgate status\".\n", strings.Join(missing, ", "))
	}
}

// printOutcome says on which gateways a decision was carried out.
func printOutcome(c *cli, command *cobra.Command, answer any, done string, nodes, missing []string) error {
	noteMissing(command.ErrOrStderr(), missing)
	if c.output == formatJSON {
		return printJSON(command.OutOrStdout(), answer)
	}
	if len(nodes) == 0 {
		_, err := fmt.Fprintln(command.OutOrStdout(), "It had changed meanwhile: nothing was done. Look again.")
		return err
	}
	_, err := fmt.Fprintf(command.OutOrStdout(), "%s (%s)\n", done, strings.Join(nodes, ", "))
	return err
}
