package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/api/client"
)

func devicePSK(c *cli) *cobra.Command {
	var wanted api.NewPsk
	var keyFile string
	var remove, quiet bool
	command := &cobra.Command{
		Use:   "psk DEVICE",
		Short: "Set the pre-shared key by which a device makes DTLS sessions, or remove it",
		Long: `Set the pre-shared key by which a device makes DTLS sessions, for CoAP. Sessions that were made by the one before end. Without a file
Fieldgate makes a key of 32 bytes, which is shown only now: it is kept sealed by the secrets key of the installation.

The device names its key by an identity: its id, unless another one is given, such as that which it has from its maker. No two
devices have the same.`,
		Example: `  fieldgate device psk d7
  fieldgate device psk d7 --identity meter-0007 --key-file meter-0007.key
  KEY=$(fieldgate device psk d7 --quiet)
  fieldgate device psk d7 --remove`,
		Args: arguments("DEVICE"),
		RunE: func(command *cobra.Command, args []string) error {
			if remove && (wanted.Identity != "" || keyFile != "" || quiet) {
				return usagef("--remove stands alone")
			}
			if keyFile != "" {
				key, err := readPSK(command.InOrStdin(), keyFile)
				if err != nil {
					return err
				}
				wanted.Key = key
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			if remove {
				return c.removePSK(command, admin, args[0])
			}
			answer, err := admin.SetDevicePskWithResponse(command.Context(), args[0], nil, wanted)
			if err != nil {
				return hinted(err, deviceListing)
			}
			return c.printPSK(command, answer.JSON200, quiet)
		},
	}
	command.Flags().StringVar(&wanted.Identity, "identity", "", "by which the device names the key; its id if left out")
	command.Flags().StringVar(&keyFile, "key-file", "", "file with the key of 16 to 64 bytes in hexadecimal, for its owner only; \"-\" for standard input")
	command.Flags().BoolVar(&remove, "remove", false, "remove the key")
	quietFlag(command, &quiet)
	return command
}

// readPSK reads the key of a file; whether it is one the server says.
func readPSK(standard io.Reader, path string) (string, error) {
	if path != "-" {
		return secretFile(path)
	}
	text, err := io.ReadAll(io.LimitReader(standard, 4<<10))
	return strings.TrimSpace(string(text)), err
}

func (c *cli) removePSK(command *cobra.Command, admin *client.ClientWithResponses, device string) error {
	answer, err := admin.RemoveDevicePskWithResponse(command.Context(), device, nil)
	if err != nil {
		return hinted(err, deviceListing)
	}
	return c.printDevice(command.OutOrStdout(), answer.JSON200, "")
}

func (c *cli) printPSK(command *cobra.Command, d *api.DeviceWithPsk, quiet bool) error {
	out := command.OutOrStdout()
	switch {
	case quiet:
		_, err := fmt.Fprintln(out, d.Key)
		return err
	case c.output == formatJSON:
		return printJSON(out, d)
	}
	fmt.Fprintln(command.ErrOrStderr(), "The key is shown only now. The device needs identity and key; both ends hold the bytes, not these digits.")
	t := newTable(out)
	t.add(cells("device", d.Device.Id)...)
	t.add(cells("identity", d.Identity)...)
	t.add(cell{text: "key"}, cell{text: d.Key, colour: bold})
	return t.flush()
}
