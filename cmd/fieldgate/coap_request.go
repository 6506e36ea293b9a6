package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/contract/schema"
	"fieldgate/protocol/coap"
)

func newCoAP(c *cli) *cobra.Command {
	return noun(&cobra.Command{
		Use:   "coap",
		Short: "Send CoAP requests and observe resources, for trying; see who speaks CoAP",
		Example: `  fieldgate coap get coap://127.0.0.1/.well-known/core
  fieldgate coap post /t '{"temp": 21.5}' --content-format cbor --token-file device.token
  fieldgate coap observe /trackers/t1/position --token-file app.token
  fieldgate coap peer list`,
	},
		coapRequest(c, coap.GET, "get URL", "Read a resource",
			"  fieldgate coap get coap://127.0.0.1/.well-known/core\n  fieldgate coap get /devices/d7/state --accept cbor --token-file device.token\n  fieldgate coap get /firmware --block-size 512 > image.bin\n  fieldgate coap get coaps:///state --psk-identity d7 --psk-file d7.key\n  fieldgate coap get coaps+tcp://gateway.lan/state --certificate d7.pem --key d7-key.pem --ca gateway-ca.pem"),
		coapRequest(c, coap.PUT, "put URL [PAYLOAD]", "Write a resource",
			"  fieldgate coap put /devices/d7/config '{\"interval\": 60}' --token-file device.token\n  fieldgate coap put /firmware --file image.bin --content-format octet-stream"),
		coapRequest(c, coap.POST, "post URL [PAYLOAD]", "Send something to a resource",
			"  fieldgate coap post /t '{\"temp\": 21.5}' --content-format cbor --token-file device.token\n  cat readings.cbor | fieldgate coap post /readings - --content-format cbor"),
		coapRequest(c, coap.DELETE, "delete URL", "Delete a resource", "  fieldgate coap delete /devices/d7/alarm --token-file device.token"),
		coapRequest(c, coap.FETCH, "fetch URL [PAYLOAD]", "Read a part of a resource that the payload names (RFC 8132)", "  fieldgate coap fetch /readings '{\"since\": \"2026-11-01\"}' --token-file device.token"),
		coapRequest(c, coap.PATCH, "patch URL [PAYLOAD]", "Change a part of a resource (RFC 8132)", "  fieldgate coap patch /devices/d7/config '[{\"op\": \"remove\", \"path\": \"/alarm\"}]' --content-format 51"),
		coapRequest(c, coap.IPATCH, "ipatch URL [PAYLOAD]", "Change a part of a resource in a way that may be repeated (RFC 8132)", "  fieldgate coap ipatch /devices/d7/config '{\"interval\": 60}' --content-format 52"),
		coapObserve(c), coapPeer(c))
}

const coapLong = `%s as a device or app would. URL is that of a resource, such as coap://127.0.0.1/a?b=c, or only its path: then it is asked for at the gateway of the
environment file. Schemes are coap, coaps (DTLS), coap+tcp, coaps+tcp (TLS), coap+ws and coaps+ws (WebSocket); SCHEME:///PATH asks the gateway of the environment file in
that way, and a path alone with a key, a certificate or --ca by coaps. What the resource holds goes to standard output as it came, CBOR on a terminal as JSON; all else goes to standard error. An answer of class 4 or 5 is a
failure. Token and keys come from files, the token also from $` + tokenVariable + `; never from an argument, which others on the machine can read.`

// mayCarryPayload tells whether a method has a payload (RFC 7252 section 5.8, RFC 8132 section 2).
func mayCarryPayload(method coap.Code) bool { return method != coap.GET && method != coap.DELETE }

func coapRequest(c *cli, method coap.Code, use, short, example string) *cobra.Command {
	var connect coapFlags
	var body coapBodyFlags
	command := &cobra.Command{
		Use:     use,
		Short:   short,
		Long:    fmt.Sprintf(coapLong, short),
		Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("URL is missing, such as coap://127.0.0.1/.well-known/core, or a path such as /.well-known/core")
			case len(args) > 1 && !mayCarryPayload(method):
				return usagef("%s has no payload: %q is one argument too many", method, args[1])
			case len(args) > 2:
				return usagef("%q is one argument too many: put the payload into quotes", args[2])
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			call := &coap.Call{Code: method}
			target, err := connect.target(args[0], &call.Options)
			if err != nil {
				return err
			}
			if err := connect.prepare(call); err != nil {
				return err
			}
			if mayCarryPayload(method) {
				if err := body.fill(call, command.InOrStdin(), args[1:]); err != nil {
					return err
				}
			}
			link, err := connect.open(command.Context(), target)
			if err != nil {
				return err
			}
			defer link.Close()
			began := time.Now()
			reply, err := link.request(command.Context(), call, command.ErrOrStderr())
			if err != nil {
				return err
			}
			return printReply(c, command.OutOrStdout(), command.ErrOrStderr(), reply, time.Since(began))
		},
	}
	connect.add(c, command)
	if mayCarryPayload(method) {
		body.add(command)
	}
	return command
}

// coapBodyFlags say what a request carries.
type coapBodyFlags struct {
	file   string
	format contentFormat
}

func (f *coapBodyFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "file with the payload")
	flags.VarP(&f.format, "content-format", "t", "what the payload is: "+contentFormatUsage+" (default json where it is that). JSON in an argument is sent as CBOR where that is asked for")
}

func (f *coapBodyFlags) fill(call *coap.Call, in io.Reader, args []string) error {
	if len(args) == 0 && f.file == "" {
		if f.format.set {
			call.Options.AddUint(coap.ContentFormat, f.format.number)
		}
		return nil
	}
	if len(args) > 0 && f.file != "" {
		return usagef("give one payload: as an argument, with --file FILE, or - for standard input")
	}
	payload, err := readPayload(in, args, f.file)
	if err != nil {
		return err
	}
	_, notJSON := schema.CBORFromJSON(nil, payload, nil)
	switch {
	case f.format.set && f.format.isCBOR() && len(args) > 0 && args[0] != "-":
		if notJSON != nil {
			return usagef("the payload is not JSON, which would be sent as CBOR: %v. CBOR itself comes from --file FILE or from standard input (-)", notJSON)
		}
		if payload, err = schema.CBORFromJSON(nil, payload, nil); err != nil {
			return err
		}
	case !f.format.set && notJSON == nil:
		f.format.number, f.format.set = coap.JSON, true
	}
	if f.format.set {
		call.Options.AddUint(coap.ContentFormat, f.format.number)
	}
	call.Body = payload
	return nil
}
