package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"fieldgate/api"
	"fieldgate/api/client"
	"fieldgate/contract/schema"
)

// deviceRequestFlags are of the commands that ask a device something.
type deviceRequestFlags struct {
	query, accept string
	timeout       time.Duration
}

func (f *deviceRequestFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.query, "query", "", "query of the resource, such as interval=5")
	flags.StringVar(&f.accept, "accept", "", "media type that the answer is to have, such as application/cbor")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long the device may take to answer, 1s to 2m")
}

func (f *deviceRequestFlags) request(method, path string) (api.DeviceRequest, error) {
	if f.timeout < time.Second || f.timeout > 2*time.Minute {
		return api.DeviceRequest{}, usagef("--timeout must be 1s to 2m")
	}
	return api.DeviceRequest{Method: method, Path: path, Query: f.query, Accept: f.accept, TimeoutSeconds: int(f.timeout / time.Second)}, nil
}

func deviceRead(c *cli) *cobra.Command {
	var wanted deviceRequestFlags
	command := &cobra.Command{
		Use:   "read DEVICE PATH",
		Short: "Read a resource of a device that has registered, over CoAP",
		Long: `Read a resource of a device that has registered with the resource directory, over CoAP, by the gateway that heard it last. What the resource
holds goes to standard output as it came, CBOR on a terminal as JSON. An answer of class 4 or 5 is a failure.`,
		Example: "  fieldgate device read d7 /sensors/temperature\n  fieldgate device read d7 /3/0/13 --accept application/cbor",
		Args:    arguments("DEVICE", "PATH"),
		RunE: func(command *cobra.Command, args []string) error {
			request, err := wanted.request("GET", args[1])
			if err != nil {
				return err
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			return c.askDevice(command, admin, args[0], request)
		},
	}
	wanted.add(command)
	return command
}

func deviceSend(c *cli) *cobra.Command {
	var wanted deviceRequestFlags
	var method, contentType, file string
	var queue time.Duration
	var idempotent bool
	command := &cobra.Command{
		Use:   "send DEVICE PATH [PAYLOAD]",
		Short: "Send a request to a device that has registered, now or once it is heard",
		Long: `Send a request to a device that has registered with the resource directory, over CoAP. With --queue it is kept until the device is heard, for that long
at the most: see "fieldgate device commands". Without it the device has to answer now. The payload is an argument, a file (--file), or standard input (-).`,
		Example: `  fieldgate device send d7 /3/0/4
  fieldgate device send d7 /config '{"interval": 60}' --method PUT --content-type application/json
  fieldgate device send d7 /3/0/4 --queue 1h`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) < 2:
				return usagef("DEVICE and PATH are needed, such as d7 /3/0/4")
			case len(args) > 3:
				return usagef("%q is one argument too many: put the payload into quotes", args[3])
			case len(args) == 3 && file != "":
				return usagef("give one payload: as an argument, with --file FILE, or - for standard input")
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			request, err := wanted.request(strings.ToUpper(method), args[1])
			if err != nil {
				return err
			}
			if len(args) == 3 || file != "" {
				if request.Body, err = readPayload(command.InOrStdin(), args[2:], file); err != nil {
					return err
				}
				request.ContentType = contentType
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			if queue == 0 {
				return c.askDevice(command, admin, args[0], request)
			}
			wait := api.NewDeviceCommand{Request: request, WaitSeconds: int64(queue / time.Second)}
			if command.Flags().Changed("idempotent") {
				wait.Idempotent = &idempotent
			}
			answer, err := admin.QueueDeviceCommandWithResponse(command.Context(), args[0], wait)
			if err != nil {
				return hinted(err, deviceListing)
			}
			return c.printDeviceCommand(command.OutOrStdout(), answer.JSON202)
		},
	}
	wanted.add(command)
	flags := command.Flags()
	flags.StringVarP(&method, "method", "m", "POST", "GET, POST, PUT, DELETE, FETCH, PATCH or IPATCH")
	flags.StringVar(&contentType, "content-type", "text/plain", "media type of the payload")
	flags.StringVarP(&file, "file", "f", "", "file with the payload")
	flags.DurationVar(&queue, "queue", 0, "keep it until the device is heard, for so long: 1s to 168h")
	flags.BoolVar(&idempotent, "idempotent", false, "with --queue: it may be sent again when no answer came (default: as its method)")
	return command
}

// askDevice sends a request and prints what the device answers.
func (c *cli) askDevice(command *cobra.Command, admin *client.ClientWithResponses, device string, request api.DeviceRequest) error {
	answer, err := admin.AskDeviceWithResponse(command.Context(), device, request)
	if err != nil {
		return hinted(err, deviceListing)
	}
	return c.printDeviceReply(command, answer.JSON200)
}

func (c *cli) printDeviceReply(command *cobra.Command, reply *api.DeviceReply) error {
	out := command.OutOrStdout()
	if c.output == formatJSON {
		if err := printJSON(out, reply); err != nil {
			return err
		}
	} else if err := printDeviceBody(out, reply); err != nil {
		return err
	}
	if reply.Status >= 400 {
		return fmt.Errorf("the device answers %s", reply.Code)
	}
	if c.output != formatJSON && reply.Bytes == 0 {
		fmt.Fprintln(command.ErrOrStderr(), reply.Code)
	}
	return nil
}

// printDeviceBody writes what a device has answered as it came; on a terminal so that people can read it.
func printDeviceBody(out io.Writer, reply *api.DeviceReply) error {
	body := reply.Body
	if isTerminal(out) {
		if strings.HasSuffix(reply.ContentType, "cbor") {
			if text, err := schema.JSONFromCBOR(nil, body, nil); err == nil {
				body = text
			}
		}
		if !utf8.Valid(body) {
			body = fmt.Appendf(nil, "% x", body)
		}
		body = []byte(printable(string(body)))
	}
	if len(body) > 0 && body[len(body)-1] != '\n' && utf8.Valid(body) {
		body = append(body, '\n')
	}
	_, err := out.Write(body)
	return err
}

func deviceCommands(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "commands DEVICE [COMMAND]",
		Short:   "Show what waits for a device that sleeps, and what has become of it",
		Example: "  fieldgate device commands d7\n  fieldgate device commands d7 Q3T5K7XNBA2MZ4YP",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("DEVICE is needed, and maybe the id of a command")
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			if len(args) == 2 {
				answer, err := admin.GetDeviceCommandWithResponse(command.Context(), args[0], args[1])
				if err != nil {
					return hinted(err, "fieldgate device commands "+args[0])
				}
				return c.printDeviceCommand(command.OutOrStdout(), answer.JSON200)
			}
			answer, err := admin.ListDeviceCommandsWithResponse(command.Context(), args[0])
			if err != nil {
				return hinted(err, deviceListing)
			}
			if c.output == formatJSON {
				return printJSON(command.OutOrStdout(), answer.JSON200)
			}
			t := newTable(command.OutOrStdout(), "COMMAND", "REQUEST", "BY", "STATE", "ANSWER", "QUEUED", "CHANGED")
			for i := range answer.JSON200.Items {
				d := &answer.JSON200.Items[i]
				t.add(cell{text: d.Id}, cell{text: d.Method + " " + d.Path}, cell{text: d.By}, commandStateCell(d), cell{text: replyText(d)},
					cell{text: shortTime(d.QueuedAt)}, cell{text: shortTime(d.ChangedAt)})
			}
			return t.flush()
		},
	}
}

func deviceCancel(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "cancel DEVICE COMMAND",
		Short:   "Cancel a command that waits for a device",
		Example: "  fieldgate device cancel d7 Q3T5K7XNBA2MZ4YP",
		Args:    arguments("DEVICE", "COMMAND"),
		RunE: func(command *cobra.Command, args []string) error {
			admin, err := c.connect()
			if err != nil {
				return err
			}
			answer, err := admin.CancelDeviceCommandWithResponse(command.Context(), args[0], args[1])
			if err != nil {
				return hinted(err, "fieldgate device commands "+args[0])
			}
			return c.printDeviceCommand(command.OutOrStdout(), answer.JSON200)
		},
	}
}

func commandStateCell(d *api.DeviceCommand) cell {
	switch d.State {
	case api.CommandAnswered:
		if d.Reply != nil && d.Reply.Status >= 400 {
			return cell{string(d.State), red}
		}
		return cell{string(d.State), green}
	case api.CommandQueued, api.CommandSent:
		return cell{string(d.State), yellow}
	case api.CommandRejected, api.CommandUnanswered, api.CommandExpired:
		return cell{string(d.State), red}
	}
	return cell{text: string(d.State)}
}

func replyText(d *api.DeviceCommand) string {
	switch {
	case d.Reply == nil && d.State == api.CommandQueued:
		return "waits " + (time.Duration(d.LeftSeconds) * time.Second).String()
	case d.Reply == nil:
		return "-"
	case d.Reply.Bytes == 0:
		return d.Reply.Code
	}
	return d.Reply.Code + ", " + bytesText(int64(d.Reply.Bytes))
}

func (c *cli) printDeviceCommand(w io.Writer, d *api.DeviceCommand) error {
	if c.output == formatJSON {
		return printJSON(w, d)
	}
	t := newTable(w)
	t.add(cells("command", d.Id)...)
	t.add(cells("request", d.Method+" "+d.Path)...)
	if d.Query != "" {
		t.add(cells("query", d.Query)...)
	}
	t.add(cells("by", d.By)...)
	if d.Operation != "" {
		t.add(cells("operation", d.Operation)...)
	}
	t.add(cell{text: "state"}, commandStateCell(d))
	t.add(cells("answer", replyText(d))...)
	t.add(cells("queued", shortTime(d.QueuedAt))...)
	t.add(cells("changed", shortTime(d.ChangedAt))...)
	t.add(cells("attempts", fmt.Sprint(d.Attempts))...)
	if err := t.flush(); err != nil || d.Reply == nil || len(d.Reply.Body) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return printDeviceBody(w, d.Reply)
}

// registrationRows are what "device show" says of a device's registration.
func registrationRows(t *table, r *api.DeviceRegistration) {
	if r == nil {
		t.add(cells("registered", "no")...)
		return
	}
	at := r.Address
	if r.Base != "" {
		at = r.Base + ", heard from " + r.Address
	}
	t.add(cells("registered", fmt.Sprintf("since %s, for %s more", shortTime(r.Since), time.Duration(r.LeftSeconds)*time.Second))...)
	t.add(cells("reached", fmt.Sprintf("%s %s, by gateway %s", r.Transport, at, r.Node))...)
	if r.Sleeps {
		t.add(cells("sleeps", "yes: commands wait until it is heard")...)
	}
	for i, link := range linkTexts(r.Links) {
		name := ""
		if i == 0 {
			name = "offers"
		}
		t.add(cells(name, link)...)
	}
}

// linkTexts are the links of a document in link format, one by one; commas within quotes stay.
func linkTexts(links string) (list []string) {
	quoted, begin := false, 0
	for i := 0; i < len(links); i++ {
		switch {
		case links[i] == '\\' && quoted:
			i++
		case links[i] == '"':
			quoted = !quoted
		case links[i] == ',' && !quoted:
			list = append(list, strings.TrimSpace(links[begin:i]))
			begin = i + 1
		}
	}
	if last := strings.TrimSpace(links[begin:]); last != "" {
		list = append(list, last)
	}
	return list
}
