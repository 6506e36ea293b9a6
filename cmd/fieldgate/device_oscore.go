package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"fieldgate/api"
)

func deviceOSCORE(c *cli) *cobra.Command {
	var keyFile string
	var remove, quiet bool
	command := &cobra.Command{
		Use:   "oscore DEVICE",
		Short: "Set the OSCORE context by which a device protects CoAP messages, or remove it",
		Long: `Set the OSCORE security context (RFC 8613) by which a device protects CoAP messages from end to end, over whatever carries them. Observations
by the one before end. Without a file Fieldgate makes a context, which is shown only now: its secrets are kept sealed by the secrets key of the
installation.

The file has the context as the device has it, in hexadecimal, as --quiet writes it:

  {"masterSecret": "0102030405060708090a0b0c0d0e0f10", "masterSalt": "9e7ca92223786340", "senderId": "01", "recipientId": "00"}

senderId is the device's and recipientId the gateway's; idContext may stand there, too. The algorithms are AES-CCM-16-64-128 and HKDF SHA-256.`,
		Example: `  fieldgate device oscore d7
  fieldgate device oscore d7 --key-file d7.oscore
  fieldgate device oscore d7 --quiet > d7.oscore
  fieldgate device oscore d7 --remove`,
		Args: arguments("DEVICE"),
		RunE: func(command *cobra.Command, args []string) error {
			if remove && (keyFile != "" || quiet) {
				return usagef("--remove stands alone")
			}
			var wanted api.NewOscore
			if keyFile != "" {
				text, err := readPSK(command.InOrStdin(), keyFile)
				if err != nil {
					return err
				}
				decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
				decoder.DisallowUnknownFields()
				if decoder.Decode(&wanted.Context) != nil || wanted.Context == nil { // and not what is there
					return fmt.Errorf(`%s holds no OSCORE context: write {"masterSecret": "…", "senderId": "…", "recipientId": "…"} with hexadecimal digits`, keyFile)
				}
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			if remove {
				answer, err := admin.RemoveDeviceOscoreWithResponse(command.Context(), args[0], nil)
				if err != nil {
					return hinted(err, deviceListing)
				}
				return c.printDevice(command.OutOrStdout(), answer.JSON200, "")
			}
			answer, err := admin.SetDeviceOscoreWithResponse(command.Context(), args[0], nil, wanted)
			if err != nil {
				return hinted(err, deviceListing)
			}
			return c.printOSCORE(command, answer.JSON200, quiet)
		},
	}
	command.Flags().StringVar(&keyFile, "key-file", "", "file with the context, for its owner only; \"-\" for standard input")
	command.Flags().BoolVar(&remove, "remove", false, "remove the context")
	quietFlag(command, &quiet)
	return command
}

func (c *cli) printOSCORE(command *cobra.Command, d *api.DeviceWithOscore, quiet bool) error {
	out := command.OutOrStdout()
	switch {
	case quiet:
		return printJSON(out, d.Context)
	case c.output == formatJSON:
		return printJSON(out, d)
	}
	fmt.Fprintln(command.ErrOrStderr(), "The secrets are shown only now. The device needs all of this.")
	t := newTable(out)
	t.add(cells("device", d.Device.Id)...)
	t.add(cell{text: "master secret"}, cell{text: d.Context.MasterSecret, colour: bold})
	t.add(cell{text: "master salt"}, cell{text: dash(d.Context.MasterSalt), colour: bold})
	t.add(cells("id context", dash(d.Context.IdContext))...)
	t.add(cells("sender id", d.Context.SenderId)...)
	t.add(cells("recipient id", d.Context.RecipientId)...)
	return t.flush()
}
