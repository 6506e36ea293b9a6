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

const deviceListing = "fieldgate device list"

func newDevice(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:     "device",
		Short:   "Admit devices, and cut them off",
		Example: "  fieldgate device add d7 --model T2\n  fieldgate device list --state quarantined",
	}, deviceAdd(c), deviceImport(c), deviceList(c), deviceShow(c), deviceToken(c), devicePSK(c), deviceOSCORE(c), deviceCertificate(c), deviceUpdate(c),
		deviceRead(c), deviceSend(c), deviceCommands(c), deviceCancel(c),
		deviceDecision(c, "revoke", "Shut a device out for good; its tokens, pre-shared key and certificates are deleted", func(ctx context.Context, admin *client.ClientWithResponses, id string) (*api.Device, error) {
			answer, err := admin.RevokeDeviceWithResponse(ctx, id, nil, api.Reason{})
			if err != nil {
				return nil, err
			}
			return answer.JSON200, nil
		}),
		deviceDecision(c, "quarantine", "Cut a device off until it is released", func(ctx context.Context, admin *client.ClientWithResponses, id string) (*api.Device, error) {
			answer, err := admin.QuarantineDeviceWithResponse(ctx, id, nil, api.Reason{})
			if err != nil {
				return nil, err
			}
			return answer.JSON200, nil
		}),
		deviceDecision(c, "release", "End a device's quarantine", func(ctx context.Context, admin *client.ClientWithResponses, id string) (*api.Device, error) {
			answer, err := admin.ReleaseDeviceWithResponse(ctx, id, nil, api.Reason{})
			if err != nil {
				return nil, err
			}
			return answer.JSON200, nil
		}))
}

func deviceAdd(c *cli) *cobra.Command {
	var device api.NewDevice
	var quiet bool
	command := &cobra.Command{
		Use:   "add DEVICE",
		Short: "Register a device and issue its token",
		Long:  "Register a device and issue its token, which is shown only now: Fieldgate keeps its hash.",
		Example: `  fieldgate device add d7 --model T2 --firmware 1.8.3
  TOKEN=$(fieldgate device add d8 --quiet)`,
		Args: arguments("DEVICE"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			device.Id = args[0]
			answer, err := admin.AddDeviceWithResponse(command.Context(), nil, device)
			if err != nil {
				return err
			}
			return c.printDeviceToken(command, answer.JSON201, quiet)
		},
	}
	command.Flags().StringVar(&device.Model, "model", "", "hardware model")
	command.Flags().StringVar(&device.Firmware, "firmware", "", "version of the firmware")
	quietFlag(command, &quiet)
	return command
}

func quietFlag(command *cobra.Command, quiet *bool) {
	command.Flags().BoolVarP(quiet, "quiet", "q", false, "print nothing but the secret, for scripts")
}

func deviceToken(c *cli) *cobra.Command {
	var quiet, keep bool
	command := &cobra.Command{
		Use:     "token DEVICE",
		Short:   "Issue a new token; the old ones stop working at once unless they are kept",
		Example: "  fieldgate device token d7\n  TOKEN=$(fieldgate device token d7 --keep --quiet)",
		Args:    arguments("DEVICE"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.IssueDeviceTokenWithResponse(command.Context(), args[0], &api.IssueDeviceTokenParams{Keep: keep})
			if err != nil {
				return hinted(err, deviceListing)
			}
			return c.printDeviceToken(command, answer.JSON200, quiet)
		},
	}
	command.Flags().BoolVar(&keep, "keep", false, "keep the older tokens valid, at most four in all")
	quietFlag(command, &quiet)
	return command
}

func deviceUpdate(c *cli) *cobra.Command {
	var model, firmware string
	command := &cobra.Command{
		Use:     "update DEVICE",
		Short:   "Change a device's model or firmware",
		Example: "  fieldgate device update d7 --firmware 1.9.0",
		Args:    arguments("DEVICE"),
		RunE: func(command *cobra.Command, args []string) error {
			var update api.DeviceUpdate
			if command.Flags().Changed("model") {
				update.Model = &model
			}
			if command.Flags().Changed("firmware") {
				update.Firmware = &firmware
			}
			if update == (api.DeviceUpdate{}) {
				return usagef("say what to change with --model or --firmware")
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.UpdateDeviceWithResponse(command.Context(), args[0], nil, update)
			if err != nil {
				return hinted(err, deviceListing)
			}
			return c.printDevice(command.OutOrStdout(), answer.JSON200, "")
		},
	}
	command.Flags().StringVar(&model, "model", "", "hardware model")
	command.Flags().StringVar(&firmware, "firmware", "", "version of the firmware")
	return command
}

// deviceDecision is a command that changes a device's state.
func deviceDecision(c *cli, verb, short string, decide func(context.Context, *client.ClientWithResponses, string) (*api.Device, error)) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " DEVICE",
		Short:   short,
		Example: "  fieldgate device " + verb + " d7",
		Args:    arguments("DEVICE"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			device, err := decide(command.Context(), admin, args[0])
			if err != nil {
				return hinted(err, deviceListing)
			}
			return c.printDevice(command.OutOrStdout(), device, "")
		},
	}
}

func deviceList(c *cli) *cobra.Command {
	var wanted *filterFlags
	command := &cobra.Command{
		Use:     "list",
		Short:   "List devices in the order of their ids",
		Example: "  fieldgate device list\n  fieldgate device list --state quarantined --output json",
		Args:    arguments(),
		RunE: func(command *cobra.Command, _ []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			return printPages(c, command.OutOrStdout(), []string{"DEVICE", "STATE", "MODEL", "FIRMWARE", "TOKENS", "CHANGED"}, func(cursor string) ([]api.Device, string, error) {
				answer, err := admin.ListDevicesWithResponse(command.Context(), &api.ListDevicesParams{Filter: wanted.String(), Cursor: cursor, Limit: pageSize})
				if err != nil {
					return nil, "", err
				}
				return answer.JSON200.Items, answer.JSON200.Next, nil
			}, deviceRow)
		},
	}
	wanted = addFilter(command, "state, model, firmware, protocol, since and id").
		key("state", "state", "", "only devices in this state: active, quarantined or revoked").
		key("model", "model", "", "only devices of this model").
		key("prefix", "id", "*", "only devices whose id begins so")
	return command
}

func deviceRow(d api.Device) []cell {
	return []cell{{text: d.Id}, stateCell(string(d.State)), {text: dash(d.Model)}, {text: dash(d.Firmware)}, {text: fmt.Sprint(d.Tokens)}, {text: shortTime(d.UpdatedAt)}}
}

func deviceShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "show DEVICE",
		Short:   "Show one device",
		Example: "  fieldgate device show d7",
		Args:    arguments("DEVICE"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.GetDeviceWithResponse(command.Context(), args[0])
			if err != nil {
				return hinted(err, deviceListing)
			}
			return c.showDevice(command.OutOrStdout(), answer.JSON200)
		},
	}
}

func (c *cli) printDeviceToken(command *cobra.Command, d *api.DeviceWithToken, quiet bool) error {
	out := command.OutOrStdout()
	switch {
	case quiet:
		_, err := fmt.Fprintln(out, d.Token)
		return err
	case c.output == formatJSON:
		return printJSON(out, d)
	}
	fmt.Fprintln(command.ErrOrStderr(), "The token is shown only now. The device sends it as bearer token, MQTT password or CoAP option.")
	return c.printDevice(out, &d.Device, d.Token)
}

// showDevice is printDevice with when it was seen and what it has registered.
func (c *cli) showDevice(w io.Writer, d *api.Device) error {
	if c.output == formatJSON {
		return printJSON(w, d)
	}
	t := newTable(w)
	deviceRows(t, d)
	seen := "never"
	if p := d.Presence; p != nil {
		seen = fmt.Sprintf("%s over %s from %s, at gateway %s", shortTime(p.SeenAt), p.Protocol, dash(p.Source), dash(p.Node))
	}
	t.add(cells("last seen", seen)...)
	registrationRows(t, d.Registration)
	return t.flush()
}

func (c *cli) printDevice(w io.Writer, d *api.Device, token string) error {
	if c.output == formatJSON {
		return printJSON(w, d)
	}
	t := newTable(w)
	deviceRows(t, d)
	if token != "" {
		t.add(cell{text: "token"}, cell{text: token, colour: bold})
	}
	return t.flush()
}

func deviceRows(t *table, d *api.Device) {
	t.add(cells("device", d.Id)...)
	t.add(cell{text: "state"}, stateCell(string(d.State)))
	t.add(cells("model", dash(d.Model))...)
	t.add(cells("firmware", dash(d.Firmware))...)
	t.add(cells("tokens", fmt.Sprint(d.Tokens))...)
	t.add(cells("psk identity", dash(d.PskIdentity))...)
	if d.Oscore != nil {
		t.add(cells("oscore sender id", dash(d.Oscore.SenderId))...)
	}
	for i := range d.Certificates {
		t.add(deviceCertificateRow(&d.Certificates[i], time.Now())...)
	}
	t.add(cells("added", shortTime(d.CreatedAt))...)
	t.add(cells("changed", shortTime(d.UpdatedAt))...)
}

// stateCell colours the states of devices, apps and APIs.
func stateCell(state string) cell {
	switch state {
	case string(api.PrincipalStateActive):
		return cell{state, green}
	case string(api.PrincipalStateQuarantined), string(api.LifecycleDeprecated):
		return cell{state, yellow}
	case string(api.PrincipalStateRevoked), string(api.LifecycleRetired):
		return cell{state, red}
	}
	return cell{text: state}
}
